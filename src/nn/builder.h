/* builder.h: the inside of builders, parameter stores and modules; for the floor `nn` only. */
#ifndef MMFUSE_NN_BUILDER_H
#define MMFUSE_NN_BUILDER_H

#include "base/arena.h"
#include "mmfuse/nn.h"

#define MMF_SCOPE_BYTES 256
#define MMF_MAX_PARAMS 65536

struct mmf_params {
    mmf_ctx *ctx;
    mmf_arena arena; /* names, tensors and every module's own memory */
    mmf_param *items;
    size_t count, capacity;
    int64_t trained_size, state_size;
    mmf_real *values, *gradients, *state;
};

struct mmf_builder {
    mmf_ctx *ctx;
    mmf_params *params;
    mmf_status status;
    int group;
    int64_t width;
    char scope[MMF_SCOPE_BYTES];
};

/** Allocates the flat blocks and points every tensor into them. */
mmf_status mmf_params__allocate(mmf_params *params);

#endif
