/*
 * uniter.h: the single stream of UNITER, for its tasks and its pre-training.
 *
 * Chen, Li, Yu, El Kholy, Ahmed, Gan, Cheng, Liu, ECCV 2020, with the names of ChenRocks/UNITER.
 */
#ifndef MMFUSE_MODELS_UNITER_H
#define MMFUSE_MODELS_UNITER_H

#include "models/pretraining.h"

/** What stands before the last layer of a head: linear, GELU, layer norm. */
typedef struct mmf_uniter_heads {
    mmf_word_head words;
    mmf_transform feature, region;
    mmf_tensor *feature_bias;
    mmf_linear_layer region_classes; /* weight NULL: classes are not predicted */
    mmf_linear_layer matching;
    mmf_masking masking;
    int64_t n_targets;
    bool by_class; /* regions are given a class instead of a distribution */
    double wra_beta, wra_weight;
    int64_t wra_iterations;
} mmf_uniter_heads;

typedef struct mmf_uniter {
    const char *text;
    int64_t n_words;
    mmf_regions regions;
    mmf_bert bert; /* layers and text embeddings */
    mmf_linear_layer image, position;
    mmf_layer_norm_layer image_norm, position_norm, norm;
    mmf_tensor *mask_embedding; /* (2, d): row 1 is added to hidden regions */
    mmf_uniter_heads heads;
} mmf_uniter;

/** What comes out. */
typedef struct mmf_uniter_states {
    mmf_tensor *sequence, *mask; /* (B, L, D), text then regions without padding; (B, L) or NULL */
    mmf_tensor *text, *vision;   /* (B, T, D), (B, R, D) */
    mmf_tensor *pooled;          /* (B, D) */
} mmf_uniter_states;

/**
 * @param hidden  (B, R) 1 where a region is hidden; NULL: none
 * @param apart   also bring text and vision back into their places
 */
mmf_uniter_states mmf_uniter_run(mmf_tape *tape, const mmf_uniter *model, const mmf_pair *pair,
                                 mmf_tensor *hidden, bool apart);

/* ---- uniter_pretraining.c ---------------------------------------------------------------- */

void mmf_uniter_heads_build(mmf_builder *builder, const mmf_config *config, mmf_uniter *model);
/** One of the tasks in a training step, drawn as the paper mixes them; all of them otherwise. */
void mmf_uniter_pretrain(mmf_tape *tape, const mmf_uniter *model, const mmf_named *in,
                         const mmf_step *step, mmf_named *out);
/**
 * What the heads put out, and, where the inputs have the answers (`<text>.label`,
 * `<regions>.masked`, `<regions>.target`, `label`), the losses.
 */
void mmf_uniter_show_heads(mmf_tape *tape, const mmf_uniter *model, const mmf_named *in,
                           mmf_named *out);

#endif
