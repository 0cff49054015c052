/*
 * distillation.h: graph distillation between modalities: a learned edge to each from each says how
 * much the first should follow the second.
 */
#ifndef MMFUSE_MODELS_DISTILLATION_H
#define MMFUSE_MODELS_DISTILLATION_H

#include "mmfuse/nn.h"

typedef struct mmf_distillation_options {
    size_t count;           /**< modalities; edges (0 from 1), (0 from 2), ..., (1 from 0), ... */
    int64_t classes, width; /**< of logits and representations */
    int64_t size;           /**< width that an edge's network sees them in */
    double alpha;           /**< edges are the softmax of alpha times the network */
    double regulariser;     /**< weight of their distance from the prior */
    double logit_weight, repr_weight;
    bool by_square;      /**< squared distance of logits instead of absolute */
    const double *prior; /**< one an edge; NULL: all the same */
} mmf_distillation_options;

typedef struct mmf_distillation {
    mmf_distillation_options options;
    mmf_linear_layer logit, repr, edge; /* W_logit, W_repr, W_edge */
    size_t n_edges;
    mmf_real *prior;               /* (1, E) */
    mmf_tensor **nodes, **columns; /* of the last run */
} mmf_distillation;

typedef struct mmf_distillation_result {
    mmf_tensor *edges;       /**< (E, B) */
    mmf_tensor *raw;         /**< (E, 1): the network's values, summed over the batch */
    mmf_tensor *logit;       /**< sum_e mean_B (edge + prior) |z_k - z_j|, weighted */
    mmf_tensor *repr;        /**< the same of 1 - cos(h_k, h_j) */
    mmf_tensor *regulariser; /**< sum_e (mean_B edge - prior)^2, weighted */
} mmf_distillation_result;

mmf_distillation mmf_distillation_build(mmf_builder *builder, const char *name,
                                        const mmf_distillation_options *options);
/**
 * Whom a modality follows is a constant: no gradient enters z_j and h_j.
 * @param z (B, K), h (B, D), present (B, 1) or NULL: one a modality; edges of what is absent are 0
 * @paper Li, Wang, Cui, CVPR 2023, eq. (9) to (12); the sign of the representations' term is that
 * of a distillation (the released code pushes them apart)
 */
mmf_distillation_result mmf_distillation_run(mmf_tape *tape, const mmf_distillation *d,
                                             mmf_tensor *const *z, mmf_tensor *const *h,
                                             mmf_tensor *const *present);

#endif
