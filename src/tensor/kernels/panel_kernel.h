/*
 * panel_kernel.h: products with a weight in panels, as back ends offer them.
 *
 * A panel is MMF_PANEL outputs: [k][MMF_PANEL], inputs up to a multiple of MMF_PANEL_INPUTS and
 * outputs up to a whole panel filled with 0. A product reads it from one end to the other.
 */
#ifndef MMFUSE_TENSOR_KERNELS_PANEL_KERNEL_H
#define MMFUSE_TENSOR_KERNELS_PANEL_KERNEL_H

#include "mmfuse/tensor.h"

#define MMF_PANEL 64
#define MMF_PANEL_INPUTS 16

typedef struct mmf_panel_shape {
    int64_t m, n, k;
    bool has_bias, relu;
} mmf_panel_shape;

/** C (m, n) = A B' + bias, 0 where that is negative if `relu`, for A (m, k) and the panels of
 * B (n, k), on the calling thread; several threads may use one kernel. */
typedef struct mmf_panel_kernel mmf_panel_kernel;

/** NULL where the back end has none for this shape. */
mmf_panel_kernel *mmf_blas_panel_make(mmf_ctx *ctx, const mmf_panel_shape *shape);
void mmf_blas_panel_free(mmf_ctx *ctx, mmf_panel_kernel *kernel);
/** @param bias  (n); NULL without one */
bool mmf_blas_panel_run(const mmf_panel_kernel *kernel, const mmf_real *a, const mmf_real *panels,
                        const mmf_real *bias, mmf_real *c);

#endif
