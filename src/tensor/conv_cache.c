/* conv_cache.c: see conv_cache.h. */
#include "tensor/conv_cache.h"

#include <string.h>

#include "tensor/tape.h"

struct mmf_conv_cached {
    mmf_conv_cached *next;
    mmf_conv_shape shape;
    mmf_conv_kernel *kernel; /* NULL: the back end has none, and is not asked again */
};

const mmf_conv_kernel *mmf_conv_cache_get(mmf_tape *tape, const mmf_conv_shape *shape)
{
    for (const mmf_conv_cached *c = tape->conv_kernels; c; c = c->next) {
        if (memcmp(&c->shape, shape, sizeof *shape) == 0)
            return c->kernel;
    }
    mmf_conv_cached *const c = mmf_alloc(tape->ctx, sizeof *c);
    if (!c)
        return NULL;
    c->next = tape->conv_kernels;
    memcpy(&c->shape, shape, sizeof *shape);
    c->kernel = mmf_blas_conv_make(tape->ctx, shape);
    tape->conv_kernels = c;
    return c->kernel;
}

void mmf_conv_cache_free(mmf_ctx *ctx, mmf_conv_cached *first)
{
    while (first) {
        mmf_conv_cached *const next = first->next;
        mmf_blas_conv_free(ctx, first->kernel);
        mmf_free(ctx, first);
        first = next;
    }
}
