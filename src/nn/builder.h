/*
 * builder.h: the inside of builders, parameter stores and modules; for the floor `nn`, and for the
 * reader of model files, which bounds what a file may make it allocate.
 */
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
    bool for_losses;
    int64_t width;
    char scope[MMF_SCOPE_BYTES];
};

/**
 * Allocates the flat blocks and points every tensor into them.
 * @errors LIMIT (more than `max_elements` in all)
 */
mmf_status mmf_params__allocate(mmf_params *params, int64_t max_elements);
/** As mmf_module_create, for at most so many elements of parameters. @errors LIMIT */
mmf_status mmf_module__create_within(mmf_ctx *ctx, mmf_module **out, const mmf_def *def,
                                     const mmf_config *config, const mmf_schema *inputs,
                                     uint64_t seed, int64_t max_elements);

#endif
