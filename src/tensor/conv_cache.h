/* conv_cache.h: the convolution kernels that a tape has made; they live as long as the tape. */
#ifndef MMFUSE_TENSOR_CONV_CACHE_H
#define MMFUSE_TENSOR_CONV_CACHE_H

#include "tensor/kernels/conv_kernel.h"

typedef struct mmf_conv_cached mmf_conv_cached;

/** The kernel of a shape, made where it is asked for first; NULL if the back end has none. */
const mmf_conv_kernel *mmf_conv_cache_get(mmf_tape *tape, const mmf_conv_shape *shape);
void mmf_conv_cache_free(mmf_ctx *ctx, mmf_conv_cached *first);

#endif
