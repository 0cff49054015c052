/* broadcast.h: numpy's broadcasting of two shapes, and the reduction that undoes it for gradients.
 */
#ifndef MMFUSE_TENSOR_BROADCAST_H
#define MMFUSE_TENSOR_BROADCAST_H

#include "tensor/tape.h"

/** The common shape of two tensors, and each one's stride a dimension (0 where it repeats). */
typedef struct mmf_broadcast {
    int n_dims;
    int64_t shape[MMF_MAX_DIMS];
    int64_t stride_a[MMF_MAX_DIMS], stride_b[MMF_MAX_DIMS];
} mmf_broadcast;

/** False when the shapes do not broadcast. */
bool mmf_broadcast__make(mmf_broadcast *out, const mmf_tensor *a, const mmf_tensor *b);

/** Walks the outer dimensions: offsets of the two inputs for each row of the last dimension. */
typedef struct mmf_broadcast_rows {
    int64_t n_rows, n_cols;
    int64_t index[MMF_MAX_DIMS];
    int64_t offset_a, offset_b;
} mmf_broadcast_rows;

void mmf_broadcast__start(const mmf_broadcast *shape, mmf_broadcast_rows *rows);
void mmf_broadcast__next(const mmf_broadcast *shape, mmf_broadcast_rows *rows);

/**
 * Sums `full` (of `shape`) over the repeated dimensions into `out` (strides `stride`, beta 0 or 1,
 * `count` elements). Order is fixed: row by row.
 */
void mmf_broadcast__reduce(const mmf_tape *tape, const mmf_broadcast *shape, const int64_t *stride,
                           const mmf_real *full, mmf_real beta, mmf_real *out, int64_t count);

#endif
