/*
 * noise.h: rising damage to one modality, or to all at once, for robustness curves.
 *
 * The protocol is MultiBench's (Liang et al., NeurIPS 2021 Datasets and Benchmarks) with its faults
 * mended: noise counts in the training deviation of each feature, behind the model's normalisation,
 * so that a sensor of small range is not drowned; what is dropped becomes the training mean, which
 * is what the model takes for "nothing"; lengths and absent modalities are left as they are.
 */
#ifndef MMFUSE_TRAIN_NOISE_H
#define MMFUSE_TRAIN_NOISE_H

#include "train/model_parts.h"

typedef enum mmf_noise_kind {
    MMF_NOISE_GAUSSIAN,   /**< x + level * deviation * N(0, 1); not for tokens */
    MMF_NOISE_ENTRY_DROP, /**< each value with probability `level` becomes its mean; not for tokens
                           */
    MMF_NOISE_STEP_DROP,  /**< each step of a sequence becomes the mean, each token 0 */
    MMF_NOISE_MODALITY_DROP, /**< each sample with probability `level` lacks the modality */
    MMF_NOISE_COUNT
} mmf_noise_kind;

/** "gaussian", "entry-drop", "step-drop", "modality-drop". */
const char *mmf_noise_name(mmf_noise_kind kind);
/** True if a modality of this kind can be damaged so. */
bool mmf_noise_applies(mmf_noise_kind noise, mmf_modality_kind kind);

/** Mean and deviation of each feature as the model is given them, over training rows. */
typedef struct mmf_noise_scale {
    size_t n_modalities; /* inputs of the model */
    int64_t *n_features; /* 0: tokens */
    double **mean, **deviation;
    double *n_values; /* of a feature, counted */
} mmf_noise_scale;

/** @param out  ended by mmf_noise_scale_clear, also after failure */
mmf_status mmf_noise_scale_fit(mmf_ctx *ctx, mmf_noise_scale *out, mmf_model *model,
                               mmf_dataset *dataset, const int64_t *rows, int64_t n_rows);
void mmf_noise_scale_clear(mmf_ctx *ctx, mmf_noise_scale *scale);

/** One level of damage: what mmf_inference's `change` is given. */
typedef struct mmf_noise {
    const mmf_schema *inputs;
    const mmf_dataset *dataset;
    const mmf_noise_scale *scale;
    mmf_noise_kind kind;
    uint64_t on; /* bit m: input m is damaged where that is possible */
    double level;
    uint64_t
        seed; /* with kind, modality and row it decides the draws: models compare on the same */
} mmf_noise;

/** An mmf_inference `change`; `user` is an mmf_noise. Batches must track presence for
 * MODALITY_DROP. */
void mmf_noise_apply(void *user, mmf_batch *batch, const size_t *map, const int64_t *rows);

#endif
