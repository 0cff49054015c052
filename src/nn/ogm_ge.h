/*
 * ogm_ge.h: how far one modality is ahead of the others, and how much its gradients are damped.
 *
 * Peng, Wei, Deng, Wang, Hu, CVPR 2022, eq. (8) to (10).
 */
#ifndef MMFUSE_NN_OGM_GE_H
#define MMFUSE_NN_OGM_GE_H

#include "mmfuse/nn.h"

/** All (M). */
typedef struct mmf_ogm {
    mmf_tensor *score;       /**< s_m = sum_i softmax(z_m,i)[y_i] */
    mmf_tensor *ratio;       /**< rho_m = s_m over the mean score of the others */
    mmf_tensor *coefficient; /**< k_m = 1 - tanh(alpha rho_m) where rho_m > 1, else 1 */
} mmf_ogm;

/**
 * Constants for the backward pass. With two modalities rho_1 = 1 / rho_2, as in the paper; for more
 * the others count as one by their mean.
 * @param logits (B, K) each, `n_modalities` >= 2 of them  @param classes (B) integers
 */
mmf_ogm mmf_ogm_balance(mmf_tape *tape, mmf_tensor *const *logits, size_t n_modalities,
                        const mmf_tensor *classes, double alpha);

#endif
