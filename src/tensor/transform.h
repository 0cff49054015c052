/*
 * transform.h: circular convolution of rows by Fourier transforms, for rows so long and full that
 * direct sums would take longer.
 *
 * Two real rows are the parts of one complex row, whose transform has both of theirs: so any length
 * takes two transforms forward and three backward.
 */
#ifndef MMFUSE_TENSOR_TRANSFORM_H
#define MMFUSE_TENSOR_TRANSFORM_H

#include "tensor/tape.h"

/** y[j] = sum_i a[i] b[j - i] in every row. False, and nothing done, in a build without transforms
 * of these numbers. */
bool mmf_transform_convolve(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                            const mmf_real *b, mmf_real *y);
/** Adds the gradients; `da` or `db` may be NULL, and both the same. */
bool mmf_transform_convolve_back(mmf_tape *tape, int64_t rows, int64_t width, const mmf_real *a,
                                 const mmf_real *b, const mmf_real *dy, mmf_real *da, mmf_real *db);

#endif
