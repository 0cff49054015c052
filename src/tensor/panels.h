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

static inline int64_t mmf_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/** Elements of the panels of (outputs, inputs). */
int64_t mmf_panels_size(const mmf_tape *tape, int64_t outputs, int64_t inputs);
/**
 * Panels of a parameter (outputs, inputs), or `of_transpose` of (inputs, outputs), made by the
 * first pass that asks. NULL where the pass is not fixed, it is no parameter, or memory is short.
 */
const mmf_real *mmf_panels_of(mmf_tape *tape, const mmf_tensor *w, bool of_transpose);

#endif
