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

/** A pointer to each row of the mask, which repeats over leading dimensions of `x`, of which only
 * the shape is read. NULL after setting the error. */
const mmf_real **mmf_softmax__masks(mmf_tape *tape, const char *op, const mmf_tensor *x,
                                    const mmf_tensor *mask);
/** Softmax of a row; true if it does not depend on x. */
bool mmf_softmax__row(const mmf_tape *tape, int64_t width, const mmf_real *x, const mmf_real *mask,
                      mmf_empty_row empty, mmf_real *y);

#endif
