/*
 * infomax.h: bounds on the information that vectors hold about each other, for models that keep it
 * high while they fuse.
 *
 * Everywhere `present` is (B, 1) of 1/0, or NULL when every row counts; other rows are left out.
 */
#ifndef MMFUSE_NN_INFOMAX_H
#define MMFUSE_NN_INFOMAX_H

#include "mmfuse/nn.h"

/** Contrastive predictive coding: how well a fused vector tells a sample's own x from others. */
typedef struct mmf_cpc {
    mmf_linear_layer *layers;
    int n_layers;
    mmf_activation activation; /**< between layers */
} mmf_cpc;

/** `<name>.net`, or `<name>.net.0`, `.2`, ... for several layers. */
mmf_cpc mmf_cpc_build(mmf_builder *builder, const char *name, int64_t fused, int64_t width,
                      int n_layers, mmf_activation activation);
/**
 * -mean_i (s_ii - log sum_j exp s_ij) for the cosines s_ij of x_i and the prediction from z_j.
 * @paper Oord, Li, Vinyals, arXiv:1807.03748, without a temperature  @return (1)
 */
mmf_tensor *mmf_cpc_run(mmf_tape *tape, const mmf_cpc *cpc, mmf_tensor *x, mmf_tensor *z,
                        mmf_tensor *present);

/** Groups of samples with an entropy of their own: by the sign of the target, or all as one. */
#define MMF_MI_GROUPS 2

/** Lower bound of the information between x and y: Gaussian likelihood of y given x + entropy of y.
 */
typedef struct mmf_mi_bound {
    mmf_linear_layer mu_0, mu_2, logvar_0, logvar_2, entropy;
    mmf_activation activation;
    size_t n_groups;
    const char *groups[MMF_MI_GROUPS];
    mmf_tensor *memory[MMF_MI_GROUPS]; /**< (R, y / 4): projected samples of the batch before */
    mmf_tensor *held;                  /**< (n_groups): rows of them that are filled */
} mmf_mi_bound;

typedef struct mmf_mi_result {
    mmf_tensor *likelihood;         /**< mean_i sum_d -(mu - y)^2 / (2 exp l), as released */
    mmf_tensor *likelihood_in_full; /**< the same - l / 2 */
    mmf_tensor *entropy; /**< sum over groups of log |S| / (2 n_groups); NULL: unknown yet */
    mmf_tensor *samples[MMF_MI_GROUPS]; /**< projected rows of this batch, NULL: none */
} mmf_mi_result;

/** @param by_sign groups pos and neg, else one called all  @param memory  R */
mmf_mi_bound mmf_mi_build(mmf_builder *builder, const char *name, int64_t x, int64_t y,
                          mmf_activation activation, bool by_sign, int64_t memory);
/**
 * The two likelihoods.
 * @param most_logvar  log-variances stay within it on both sides; INFINITY: they are free, as in
 *                     the released code, and the likelihood of what does not vary has no bound
 */
mmf_mi_result mmf_mi_likelihood(mmf_tape *tape, const mmf_mi_bound *bound, mmf_tensor *x,
                                mmf_tensor *y, mmf_tensor *present, double most_logvar);
/**
 * The entropy of y from this batch and what is remembered, which no gradient enters; then remembers
 * this batch instead. There is none before a group holds more rows than the projection is wide.
 *
 * @param sign    (B) reals: the group of a row; NULL with one group
 * @param given   (n_groups) to use in place of the memory, entries NULL: the memory
 */
void mmf_mi_entropy(mmf_tape *tape, mmf_mi_bound *bound, mmf_tensor *y, mmf_tensor *sign,
                    mmf_tensor *present, mmf_tensor *const *given, mmf_mi_result *result);

#endif
