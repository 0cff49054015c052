/* module.c: a definition built for one configuration and set of inputs; named lists; schemas. */
#include "nn/builder.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "tensor/tape.h"

#define MAX_COMPARED 64
#define MAX_LISTED 12 /* names that a message holds */

struct mmf_module {
    mmf_ctx *ctx;
    const mmf_def *def;
    mmf_config *config;
    mmf_schema schema; /* memory of the parameter store's arena */
    mmf_params params;
    int64_t width;
    void *self;
};

static mmf_status copy_schema(mmf_module *module, mmf_builder *builder, const mmf_schema *schema)
{
    module->schema.count = schema->count;
    module->schema.inputs =
        mmf_builder_alloc(builder, (schema->count + 1) * sizeof *schema->inputs);
    if (!module->schema.inputs)
        return MMF_NOMEM;
    for (size_t i = 0; i < schema->count; i++) {
        module->schema.inputs[i] = schema->inputs[i];
        module->schema.inputs[i].name = mmf_builder_text(builder, "%s", schema->inputs[i].name);
        for (int c = 0; c < MMF_N_COMPANIONS; c++) {
            if (!(module->def->companions >> c & 1))
                module->schema.inputs[i].companions[c] = 0;
        }
    }
    return builder->status;
}

static mmf_status build(mmf_module *module, const mmf_config *config, const mmf_schema *inputs,
                        const mmf_module_making *making)
{
    if (config)
        MMF_TRY(mmf_config_copy(module->ctx, &module->config, config));
    else
        MMF_TRY(mmf_config_create(module->ctx, &module->config, module->def));
    mmf_builder builder = {.ctx = module->ctx, .params = &module->params, .frozen = making->frozen};
    MMF_TRY(copy_schema(module, &builder, inputs));
    MMF_TRY(module->def->build(&builder, module->config, &module->schema, &module->self));
    MMF_TRY(builder.status);
    module->width = builder.width;
    MMF_TRY(mmf_params__allocate(&module->params,
                                 making->max_elements > 0 ? making->max_elements : INT64_MAX,
                                 !making->for_inference));
    if (!making->for_inference)
        mmf_params_init(&module->params, making->seed);
    return MMF_OK;
}

mmf_status mmf_module__create_as(mmf_ctx *ctx, mmf_module **out, const mmf_def *def,
                                 const mmf_config *config, const mmf_schema *inputs,
                                 const mmf_module_making *making)
{
    *out = NULL;
    mmf_module *module = mmf_alloc_zero(ctx, 1, sizeof *module);
    if (!module)
        return MMF_NOMEM;
    module->ctx = ctx;
    module->def = def;
    module->params.ctx = ctx;
    mmf_arena_init(&module->params.arena, ctx);
    const mmf_status status = build(module, config, inputs, making);
    if (status != MMF_OK) {
        mmf_module_free(module);
        return status;
    }
    *out = module;
    return MMF_OK;
}

mmf_status mmf_module_create(mmf_ctx *ctx, mmf_module **out, const mmf_def *def,
                             const mmf_config *config, const mmf_schema *inputs, uint64_t seed)
{
    return mmf_module__create_as(ctx, out, def, config, inputs, &(mmf_module_making){.seed = seed});
}

void mmf_module_free(mmf_module *module)
{
    if (!module)
        return;
    mmf_config_free(module->config);
    mmf_free(module->ctx, module->params.values);
    mmf_free(module->ctx, module->params.gradients);
    mmf_free(module->ctx, module->params.state);
    mmf_free(module->ctx, module->params.items);
    if (module->params.lender)
        module->params.close_lender(module->params.lender);
    mmf_arena_clear(&module->params.arena);
    mmf_free(module->ctx, module);
}

const mmf_def *mmf_module_def(const mmf_module *module)
{
    return module->def;
}

const mmf_config *mmf_module_config(const mmf_module *module)
{
    return module->config;
}

const mmf_schema *mmf_module_schema(const mmf_module *module)
{
    return &module->schema;
}

mmf_params *mmf_module_params(const mmf_module *module)
{
    /* The store is part of the module; callers that may change parameters hold the module itself.
     */
    return (mmf_params *)(uintptr_t)&module->params;
}

int64_t mmf_module_width(const mmf_module *module)
{
    return module->width;
}

void mmf_module_run(mmf_module *module, mmf_tape *tape, const mmf_named *in, const mmf_step *step,
                    mmf_named *out)
{
    module->def->run(tape, module->self, in, step, out);
}

void mmf_module_fit(mmf_module *module, mmf_tape *tape, const mmf_named *in, int64_t first_row)
{
    module->def->fit(tape, module->self, in, first_row);
}

/* ---- Named lists ------------------------------------------------------------------------- */

mmf_tensor *mmf_named_get(const mmf_named *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0)
            return list->items[i].tensor;
    }
    return NULL;
}

mmf_tensor *mmf_named_part(const mmf_named *list, const char *name, const char *suffix)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < list->count; i++) {
        const char *const item = list->items[i].name;
        if (strncmp(item, name, n) == 0 && item[n] == '.' && strcmp(item + n + 1, suffix) == 0)
            return list->items[i].tensor;
    }
    return NULL;
}

void mmf_named_put(mmf_tape *tape, mmf_named *list, const char *name, mmf_tensor *tensor)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 16;
        mmf_named_tensor *const grown = mmf_tape__alloc(tape, capacity * sizeof *grown);
        if (!grown)
            return;
        if (list->count > 0)
            memcpy(grown, list->items, list->count * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = (mmf_named_tensor){.name = name, .tensor = tensor};
}

void mmf_named_putf(mmf_tape *tape, mmf_named *list, mmf_tensor *tensor, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *const name = mmf_tape__alloc(tape, n > 0 ? (size_t)n + 1 : 1);
    if (!name || n < 0)
        return;
    memcpy(name, text, (size_t)n < sizeof text ? (size_t)n + 1 : sizeof text);
    mmf_named_put(tape, list, name, tensor);
}

void mmf_named_axes(mmf_named *list, const char *axes)
{
    if (list->count == 0) /* there was no memory to put it */
        return;
    mmf_named_tensor *const last = &list->items[list->count - 1];
    assert(!last->tensor || strlen(axes) == (size_t)last->tensor->n_dims);
    last->axes = axes;
}

int64_t mmf_input_features(const mmf_input_schema *in)
{
    if (in->kind == MMF_TOKENS)
        return 0;
    return mmf_modality_has_channels(in->kind) ? in->shape[in->n_dims - 3]
                                               : in->shape[in->n_dims - 1];
}

int64_t mmf_input_pixels(const mmf_input_schema *in)
{
    return mmf_modality_has_channels(in->kind)
               ? in->shape[in->n_dims - 2] * in->shape[in->n_dims - 1]
               : 1;
}

unsigned mmf_takes_kind(mmf_modality_kind kind)
{
    static const unsigned flags[] = {[MMF_VECTOR] = MMF_TAKES_VECTORS,
                                     [MMF_SEQUENCE] = MMF_TAKES_SEQUENCES,
                                     [MMF_IMAGE] = MMF_TAKES_IMAGES,
                                     [MMF_TOKENS] = MMF_TAKES_TOKENS,
                                     [MMF_VIDEO] = MMF_TAKES_VIDEOS};
    return flags[kind];
}

const mmf_input_schema *mmf_schema_find(const mmf_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->count; i++) {
        if (strcmp(schema->inputs[i].name, name) == 0)
            return &schema->inputs[i];
    }
    return NULL;
}

const char *mmf_schema_suggest(char *out, size_t size, const mmf_schema *schema, const char *name,
                               const char *prefix)
{
    const char *names[MAX_COMPARED] = {0};
    size_t n = 0;
    for (; n < schema->count && n < MAX_COMPARED; n++)
        names[n] = schema->inputs[n].name;
    const char *const nearest = mmf_text_nearest(name, names, n);
    int used = nearest ? snprintf(out, size, "; did you mean \"%s%s\"?", prefix, nearest)
                       : snprintf(out, size, "; there are: ");
    for (size_t i = 0; !nearest && i < n && i <= MAX_LISTED && (size_t)used < size; i++)
        used += snprintf(out + used, size - (size_t)used, "%s%s", i ? ", " : "",
                         i < MAX_LISTED ? names[i] : "...");
    return out;
}
