/*
 * heads.h: attention where nothing is recorded: a head of a sample at a time, so that no more
 * scores and weights are in memory than are under way. The same bits as operation by operation
 * where heads are wide; narrow ones, a query a lane, add in another order.
 */
#ifndef MMFUSE_TENSOR_HEADS_H
#define MMFUSE_TENSOR_HEADS_H

#include "mmfuse/tensor.h"

/**
 * softmax(scale Q K', mask) V for every head.
 * @param mask  as mmf_softmax takes it for (B, H, Tq, Tk)
 */
mmf_tensor *mmf_heads_attend(mmf_tape *tape, mmf_tensor *q, mmf_tensor *k, mmf_tensor *v,
                             int64_t n_heads, double scale, const mmf_tensor *mask,
                             mmf_empty_row empty);

/** What stands around attention: of queries before they are projected, and of what they find. */
typedef struct mmf_projected {
    mmf_tensor *x;                         /**< (B, Tq, I) */
    mmf_tensor *query_weight, *query_bias; /**< (D, I), (D) or NULL */
    mmf_tensor *out_weight, *out_bias;     /**< (O, E), (O) or NULL */
} mmf_projected;

/**
 * W_o mmf_heads_attend(W_q x + b_q, k, v) + b_o in another order of the products, which takes far
 * fewer operations where many queries ask few keys.
 * @param k (B, Tk, D)  @param v (B, Tk, E)
 * @return (B, Tq, O); NULL, and nothing done, where the pass's parameters are not fixed or
 * there is little to save; NULL after setting the error
 */
mmf_tensor *mmf_heads_attend_few(mmf_tape *tape, const mmf_projected *p, const mmf_tensor *k,
                                 const mmf_tensor *v, int64_t n_heads, double scale,
                                 const mmf_tensor *mask, mmf_empty_row empty);

/** A pointer to each row of the mask, which repeats over leading dimensions of `x`, of which only
 * the shape is read. NULL after setting the error. */
const mmf_real **mmf_softmax__masks(mmf_tape *tape, const char *op, const mmf_tensor *x,
                                    const mmf_tensor *mask);
/** Softmax of a row; true if it does not depend on x. */
bool mmf_softmax__row(const mmf_tape *tape, int64_t width, const mmf_real *x, const mmf_real *mask,
                      mmf_empty_row empty, mmf_real *y);

#endif
