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

/** A (m, k), rows a_step apart, in the order in which a product reads it: m k elements. */
void mmf_panels_pack(const mmf_tape *tape, int64_t m, int64_t k, const mmf_real *a, int64_t a_step,
                     mmf_real *packed);

/** C (m, n) = act(A (m, k) by panels + bias). */
typedef struct mmf_panels_product {
    int64_t m, n, k;
    const mmf_real *packed; /* A, by mmf_panels_pack */
    const mmf_real *panels; /* of (n, k); more than one where n is more than a panel's columns */
    const mmf_real *bias;   /* (n) or NULL */
    mmf_activation activation;
    mmf_real *c; /* rows c_step apart */
    int64_t c_step;
} mmf_panels_product;

/** On the thread that calls. */
void mmf_panels_multiply(const mmf_tape *tape, const mmf_panels_product *product);

#endif
