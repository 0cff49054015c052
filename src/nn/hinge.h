/* hinge.h: hinge losses of a square matrix of similarities, whose diagonal holds the pairs. */
#ifndef MMFUSE_NN_HINGE_H
#define MMFUSE_NN_HINGE_H

#include "mmfuse/tensor.h"

/** Both are sums over the batch, shape (1). */
typedef struct mmf_hinge {
    mmf_tensor *sum; /**< over all negatives */
    mmf_tensor *max; /**< over the hardest negative of each row, and of each column */
} mmf_hinge;

/**
 * max(0, margin + S_ij - S_ii) + max(0, margin + S_ij - S_jj) off the diagonal.
 *
 * @param similarity (B, B)  @param both (B, 1), 0: neither asked nor a negative; NULL: all are
 * there
 * @paper Faghri et al., VSE++, BMVC 2018, eq. (5) and (6)
 */
mmf_hinge mmf_hinge_losses(mmf_tape *tape, mmf_tensor *similarity, mmf_tensor *both, double margin);

/**
 * -|max(0, b_j - a_i)| for all pairs of rows; its gradient is 0 where that is 0.
 * @param a, b (B, D)  @return (B, B)  @paper Vendrov et al., ICLR 2016
 */
mmf_tensor *mmf_order_similarity(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b);

#endif
