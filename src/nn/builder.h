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

/* Where the encoder of an input is. */
typedef struct mmf_place {
    struct mmf_place *next;
    const char *input, *scope;
} mmf_place;

struct mmf_params {
    mmf_ctx *ctx;
    mmf_arena arena; /* names, tensors and every module's own memory */
    mmf_param *items;
    size_t count, capacity;
    int64_t trained_size, state_size;
    mmf_real *values, *gradients, *state;
    mmf_place *places;
    bool for_inference, has_lent;
    void *lender; /* owns the pages of mapped values; NULL: there are none */
    void (*close_lender)(void *lender);
};

struct mmf_builder {
    mmf_ctx *ctx;
    mmf_params *params;
    mmf_status status;
    int group;
    bool for_losses, reordered;
    int64_t width, rows, columns;
    const char *frozen; /* rules of scopes.h for parameters that are fixed; NULL: none */
    char scope[MMF_SCOPE_BYTES];
};

/**
 * What to say after "no modality NAME": `; did you mean "PREFIXnearest"?`, or which there are.
 * @param prefix  of the names of what is chosen by a modality, as "only-"; "": none
 */
const char *mmf_schema_suggest(char *out, size_t size, const mmf_schema *schema, const char *name,
                               const char *prefix);

/** Whether operations over the parameters declared from here on make another layout of them where
 * they stay fixed: so a loaded model leaves them in its file, and has them in memory once. */
void mmf_builder_reordered(mmf_builder *builder, bool reordered);
/** Refuses a table of `rows` words, by an option's value, that has no row for a token of the text.
 */
void mmf_builder_check_words(mmf_builder *builder, const char *option, int64_t value, int64_t rows,
                             const mmf_input_schema *text);
/** Every step of an optimizer puts the elements of the parameter declared last back into
 * [low, high]. */
void mmf_builder_bound(mmf_builder *builder, double low, double high);
/** Its steps, rows x columns, of an encoder that was asked for steps and has a grid of them. */
void mmf_builder_set_grid(mmf_builder *builder, int64_t rows, int64_t columns);
void mmf_builder_grid(const mmf_builder *builder, int64_t *rows, int64_t *columns);

/**
 * Allocates the flat blocks and points every tensor into them.
 * @param for_training  gradients too; without them a backward pass would keep its own on the tape,
 *                      and parameters that are reordered wait for mmf_params__take
 * @errors LIMIT (more than `max_elements` in all)
 */
mmf_status mmf_params__allocate(mmf_params *params, int64_t max_elements, bool for_training);

/**
 * Sets the values of parameter `i` from floats in a mapped file. Of inference, those that are
 * reordered may stay there: the caller ends with mmf_params__keep_lender, or frees the parameters.
 * @errors NOMEM
 */
mmf_status mmf_params__take(mmf_params *params, size_t i, const mmf_array *array);
/** Hands over what has the file open; `close` is called with it when it is not needed any more. */
void mmf_params__keep_lender(mmf_params *params, void *lender, void (*close)(void *lender));
/** Parameter `i` as training would start with it, for inference without values of it. */
mmf_status mmf_params__start(mmf_params *params, size_t i, uint64_t seed);

/** What is special about a module; zero for nothing. */
typedef struct mmf_module_making {
    uint64_t seed;
    int64_t max_elements; /**< of all parameters; 0: no limit  @errors LIMIT */
    const char *frozen; /**< "text:6,image" (scopes.h): trained parameters that are fixed instead */
    bool for_inference; /**< all values come from elsewhere: none are drawn, no gradients kept */
} mmf_module_making;
mmf_status mmf_module__create_as(mmf_ctx *ctx, mmf_module **out, const mmf_def *def,
                                 const mmf_config *config, const mmf_schema *inputs,
                                 const mmf_module_making *making);

#endif
