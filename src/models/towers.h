/*
 * towers.h: models in which every modality has a tower of its own, an encoder and a projection to
 * one common space, and that meet in a loss: two-tower, vse-pp, cca, dcca.
 *
 * For retrieval the embeddings are the result. For other tasks a head reads them side by side, and
 * the loss that brings them together is added to the task's.
 */
#ifndef MMFUSE_MODELS_TOWERS_H
#define MMFUSE_MODELS_TOWERS_H

#include "models/parts.h"

/** Row of the option table of every model with towers. */
#define MMF_LOSS_WEIGHT_OPTION                                                                     \
    {                                                                                              \
        "loss_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "",                                    \
            "of the loss between modalities; default: 1 for retrieval, else 0.1 beside the task's" \
    }

/** The task's part: nothing for retrieval, else a head over all embeddings. */
typedef struct mmf_tower_top {
    bool has_head;
    mmf_head head;
    double weight; /* of the loss between modalities */
} mmf_tower_top;

/** Reads the options `loss_weight`, `hidden`, `dropout`. @param width of one embedding, which
 * becomes the builder's */
mmf_tower_top mmf_tower_top_build(mmf_builder *builder, const mmf_config *config, size_t count,
                                  int64_t width);
/**
 * Puts out `feature_<modality>`, zeros where the modality is absent, and what the head says.
 * @param embeddings  (B, width), one a modality; absent rows are made zeros here
 */
void mmf_tower_top_run(mmf_tape *tape, const mmf_tower_top *top, const mmf_schema *inputs,
                       mmf_tensor **embeddings, const mmf_named *in, mmf_named *out);

/** An encoder and a linear layer `<modality>_projection` a modality; embeddings of the last run. */
typedef struct mmf_towers {
    mmf_encoders encoders;
    mmf_linear_layer *projections;
    mmf_tensor **x; /* (B, width) each */
} mmf_towers;

/** Reads the options of mmf_encoders_build. */
mmf_towers mmf_towers_build(mmf_builder *builder, const mmf_config *config,
                            const mmf_schema *inputs, int64_t width);
void mmf_towers_run(mmf_tape *tape, const mmf_towers *towers, const mmf_named *in,
                    const mmf_step *step);
/** 1 where both modalities are there, as a column (B, 1); NULL: always. */
mmf_tensor *mmf_pair_present(mmf_tape *tape, const mmf_named *in, const char *a, const char *b);

#endif
