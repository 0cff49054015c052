/*
 * panels.h: linear layers whose weight stands in panels, for passes over fixed parameters.
 *
 * A product of plain rows copies the weight into the order its loops read; where the weight stays
 * as it is, that is done once. A weight that is a mapped page of a file goes back to it, so that it
 * is in memory once.
 */
#ifndef MMFUSE_TENSOR_PANELS_H
#define MMFUSE_TENSOR_PANELS_H

#include "tensor/tape.h"

/** Elements of a weight from which panels pay. */
#define MMF_PANELS_LEAST ((int64_t)1 << 17)

/**
 * act(x W' + b) for x (rows, inputs). False, and nothing done, where the pass's parameters are not
 * fixed, or the weight is no parameter or too small.
 */
bool mmf_panels_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w,
                       const mmf_tensor *b, mmf_activation activation, mmf_tensor *y);

#endif
