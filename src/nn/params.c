/* params.c: the named parameter store and the builder that fills it. */
#include "nn/builder.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "nn/scopes.h"

/* Elements read from a file at a time. */
#define PIECE ((int64_t)1 << 18)

/* ---- Initialisers ------------------------------------------------------------------------ */

mmf_init mmf_init_constant(double value)
{
    return (mmf_init){MMF_INIT_CONSTANT, value, -1};
}

mmf_init mmf_init_uniform(double bound)
{
    return (mmf_init){MMF_INIT_UNIFORM, bound, -1};
}

mmf_init mmf_init_normal(double deviation)
{
    return (mmf_init){MMF_INIT_NORMAL, deviation, -1};
}

mmf_init mmf_init_fan_in(int64_t fan_in)
{
    return mmf_init_uniform(fan_in > 0 ? 1 / sqrt((double)fan_in) : 0);
}

mmf_init mmf_init_below(int64_t limit)
{
    return (mmf_init){MMF_INIT_BELOW, (double)limit, -1};
}

mmf_init mmf_init_signs(double size)
{
    return (mmf_init){MMF_INIT_SIGNS, size, -1};
}

/* Fans as PyTorch counts them: the first two dimensions times the product of the others. */
static void fans(int n_dims, const int64_t *shape, double *fan_in, double *fan_out)
{
    double field = 1;
    for (int d = 2; d < n_dims; d++)
        field *= (double)shape[d];
    *fan_in = (double)(n_dims > 1 ? shape[1] : shape[0]) * field;
    *fan_out = (double)shape[0] * field;
}

mmf_init mmf_init_xavier_uniform(int n_dims, const int64_t *shape)
{
    double fan_in = 0, fan_out = 0;
    fans(n_dims, shape, &fan_in, &fan_out);
    return mmf_init_uniform(sqrt(6 / (fan_in + fan_out)));
}

mmf_init mmf_init_xavier_normal(int n_dims, const int64_t *shape)
{
    double fan_in = 0, fan_out = 0;
    fans(n_dims, shape, &fan_in, &fan_out);
    return mmf_init_normal(sqrt(2 / (fan_in + fan_out)));
}

mmf_init mmf_init_kaiming_normal(int n_dims, const int64_t *shape)
{
    double fan_in = 0, fan_out = 0;
    fans(n_dims, shape, &fan_in, &fan_out);
    return mmf_init_normal(sqrt(2 / fan_out));
}

static double draw(const mmf_init *init, mmf_rng *rng)
{
    switch (init->kind) {
    case MMF_INIT_UNIFORM:
        return init->a * (2 * mmf_rng_uniform(rng) - 1);
    case MMF_INIT_NORMAL:
        return init->a * mmf_rng_normal(rng);
    case MMF_INIT_BELOW:
        return (double)mmf_rng_below(rng, (uint64_t)init->a);
    case MMF_INIT_SIGNS:
        return mmf_rng_u32(rng) & 1 ? init->a : -init->a;
    case MMF_INIT_CONSTANT:
        break;
    }
    return init->a;
}

static void init_param(const mmf_param *param, uint64_t seed)
{
    mmf_tensor *const t = param->tensor;
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream(param->name));
    for (int64_t i = 0; i < t->count; i++)
        t->data[i] = (mmf_real)draw(&param->init, &rng);
    if (param->init.zero_row >= 0 && t->n_dims > 0) {
        const int64_t row = t->count / t->shape[0];
        memset(t->data + param->init.zero_row * row, 0, (size_t)row * sizeof *t->data);
    }
}

void mmf_params_init(mmf_params *params, uint64_t seed)
{
    for (size_t i = 0; i < params->count; i++)
        if (!params->items[i].is_alias)
            init_param(&params->items[i], seed);
}

/* ---- Store ------------------------------------------------------------------------------- */

size_t mmf_params_count(const mmf_params *params)
{
    return params->count;
}

const mmf_param *mmf_params_at(const mmf_params *params, size_t i)
{
    return &params->items[i];
}

const mmf_param *mmf_params_find(const mmf_params *params, const char *name)
{
    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0)
            return &params->items[i];
    }
    return NULL;
}

void mmf_params_set_lr_scale(mmf_params *params, size_t i, double scale)
{
    params->items[i].lr_scale = scale;
}

const char *mmf_params_place(const mmf_params *params, const char *input)
{
    for (const mmf_place *p = params->places; p; p = p->next) {
        if (strcmp(p->input, input) == 0)
            return p->scope;
    }
    return NULL;
}

int64_t mmf_params_size(const mmf_params *params)
{
    return params->trained_size;
}

mmf_real *mmf_params_values(const mmf_params *params)
{
    return params->values;
}

mmf_real *mmf_params_gradients(const mmf_params *params)
{
    return params->gradients;
}

int64_t mmf_params_state_size(const mmf_params *params)
{
    return params->state_size;
}

mmf_real *mmf_params_state(const mmf_params *params)
{
    return params->state;
}

void mmf_params_finish_gradients(mmf_params *params, const mmf_tape *tape)
{
    for (size_t i = 0; i < params->count; i++) {
        mmf_tensor *const t = params->items[i].tensor;
        if (t->grad && !mmf_tensor_has_grad(tape, t))
            memset(t->grad, 0, (size_t)t->count * sizeof *t->grad);
    }
}

/* Pieces of a flat block start on cache lines, so no two parameters share one. */
static int64_t padded(int64_t count)
{
    const int64_t line = 64 / (int64_t)sizeof(mmf_real);
    return (count + line - 1) / line * line;
}

/* Its values are found when a file is read. */
static bool waits(const mmf_param *param, bool for_training)
{
    return param->reordered && !for_training;
}

mmf_status mmf_params__allocate(mmf_params *params, int64_t max_elements, bool for_training)
{
    int64_t trained = 0, state = 0, left = max_elements;
    for (size_t i = 0; i < params->count; i++) {
        const mmf_param *const p = &params->items[i];
        if (p->is_alias)
            continue;
        if (p->tensor->count > left)
            return mmf_fail(params->ctx, MMF_LIMIT,
                            "the parameters up to %s have more than the %lld elements allowed here",
                            p->name, (long long)max_elements);
        left -= p->tensor->count;
        if (waits(p, for_training))
            continue;
        *(p->role == MMF_PARAM_TRAINED ? &trained : &state) += padded(p->tensor->count);
    }
    params->trained_size = trained;
    params->state_size = state;
    params->for_inference = !for_training;
    params->values = mmf_alloc_zero(params->ctx, (size_t)trained, sizeof(mmf_real));
    params->gradients =
        for_training ? mmf_alloc_zero(params->ctx, (size_t)trained, sizeof(mmf_real)) : NULL;
    params->state = mmf_alloc_zero(params->ctx, (size_t)state, sizeof(mmf_real));
    if (!params->values || (for_training && !params->gradients) || !params->state)
        return MMF_NOMEM;
    trained = state = 0;
    for (size_t i = 0; i < params->count; i++) {
        mmf_tensor *const t = params->items[i].tensor;
        if (params->items[i].is_alias)
            continue;
        const bool is_trained = params->items[i].role == MMF_PARAM_TRAINED;
        t->wants_grad = is_trained;
        if (waits(&params->items[i], for_training))
            continue;
        if (is_trained) {
            t->data = params->values + trained;
            t->grad = for_training ? params->gradients + trained : NULL;
            trained += padded(t->count);
        } else {
            t->data = params->state + state;
            state += padded(t->count);
        }
    }
    return MMF_OK;
}

void mmf_params__keep_lender(mmf_params *params, void *lender, void (*close)(void *lender))
{
    if (!params->has_lent) {
        close(lender);
        return;
    }
    params->lender = lender;
    params->close_lender = close;
}

static mmf_status make_values(mmf_params *params, mmf_tensor *t)
{
    if (!t->data)
        t->data = mmf_arena_alloc(&params->arena, (size_t)t->count * sizeof *t->data);
    return t->data ? MMF_OK : MMF_NOMEM;
}

/* What was read of the file is given back piece by piece, so that it does not stand in memory a
 * second time. */
mmf_status mmf_params__take(mmf_params *params, size_t i, const mmf_array *array)
{
    mmf_tensor *const t = params->items[i].tensor;
    const bool fits = array->dtype == MMF_F32 && sizeof *t->data == sizeof(float) &&
                      (uintptr_t)array->data % sizeof(float) == 0;
    if (t->is_mapped) /* under another of its names */
        return MMF_OK;
    if (!t->data && fits) {
        t->data = (mmf_real *)(uintptr_t)array->data;
        t->is_mapped = params->has_lent = true;
        return MMF_OK;
    }
    MMF_TRY(make_values(params, t));
    for (int64_t first = 0; first < t->count; first += PIECE) {
        const int64_t n = t->count - first < PIECE ? t->count - first : PIECE;
#ifdef MMF_DOUBLE
        mmf_array_doubles(array, first, n, t->data + first);
#else
        mmf_array_floats(array, first, n, t->data + first);
#endif
        mmf_map_give_back((const unsigned char *)array->data + (size_t)first * array->item_bytes,
                          (size_t)n * array->item_bytes);
    }
    return MMF_OK;
}

mmf_status mmf_params__start(mmf_params *params, size_t i, uint64_t seed)
{
    MMF_TRY(make_values(params, params->items[i].tensor));
    init_param(&params->items[i], seed);
    return MMF_OK;
}

/* ---- Builder ----------------------------------------------------------------------------- */

mmf_ctx *mmf_builder_ctx(mmf_builder *builder)
{
    return builder->ctx;
}

mmf_status mmf_builder_status(const mmf_builder *builder)
{
    return builder->status;
}

mmf_status mmf_builder_fail(mmf_builder *builder, mmf_status status, const char *format, ...)
{
    if (builder->status != MMF_OK)
        return builder->status;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    builder->status = mmf_fail(builder->ctx, status, "%s", text);
    return status;
}

void *mmf_builder_alloc(mmf_builder *builder, size_t bytes)
{
    void *const piece = mmf_arena_alloc(&builder->params->arena, bytes);
    if (piece)
        memset(piece, 0, bytes);
    else if (builder->status == MMF_OK)
        builder->status = MMF_NOMEM;
    return piece;
}

const char *mmf_builder_text(mmf_builder *builder, const char *format, ...)
{
    char text[2 * MMF_SCOPE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof text) {
        mmf_builder_fail(builder, MMF_LIMIT, "a parameter's name is longer than %zu bytes",
                         sizeof text);
        return "";
    }
    char *const copy = mmf_builder_alloc(builder, (size_t)n + 1);
    if (!copy)
        return "";
    memcpy(copy, text, (size_t)n + 1);
    return copy;
}

void mmf_builder_enter(mmf_builder *builder, const char *name)
{
    if (builder->status != MMF_OK) /* the scope that failed has left no mark to add to */
        return;
    const size_t used = strlen(builder->scope);
    const int n = snprintf(builder->scope + used, sizeof builder->scope - used, "%s%s",
                           *name ? name : "", *name ? "." : "");
    if (n < 0 || used + (size_t)n + 2 >= sizeof builder->scope) {
        builder->scope[used] = '\0';
        mmf_builder_fail(builder, MMF_LIMIT, "parameter names nest deeper than %d bytes",
                         MMF_SCOPE_BYTES);
        return;
    }
    /* A mark after the text tells mmf_builder_leave where this scope began. */
    const size_t end = strlen(builder->scope);
    builder->scope[end] = (char)1;
    builder->scope[end + 1] = '\0';
}

void mmf_builder_leave(mmf_builder *builder)
{
    if (builder->status != MMF_OK)
        return;
    size_t end = strlen(builder->scope);
    if (end > 0 && builder->scope[end - 1] == (char)1)
        end--;
    while (end > 0 && builder->scope[end - 1] != (char)1)
        end--;
    builder->scope[end] = '\0';
}

void mmf_builder_for_losses(mmf_builder *builder, bool for_losses)
{
    builder->for_losses = for_losses;
}

void mmf_builder_bound(mmf_builder *builder, double low, double high)
{
    mmf_params *const params = builder->params;
    if (builder->status != MMF_OK || params->count == 0)
        return;
    params->items[params->count - 1].low = low;
    params->items[params->count - 1].high = high;
}

void mmf_builder_reordered(mmf_builder *builder, bool reordered)
{
    builder->reordered = reordered;
}

void mmf_builder_group(mmf_builder *builder, int group)
{
    builder->group = group;
}

void mmf_builder_set_width(mmf_builder *builder, int64_t width)
{
    builder->width = width;
}

void mmf_builder_set_grid(mmf_builder *builder, int64_t rows, int64_t columns)
{
    builder->rows = rows;
    builder->columns = columns;
}

void mmf_builder_grid(const mmf_builder *builder, int64_t *rows, int64_t *columns)
{
    *rows = builder->rows;
    *columns = builder->columns;
}

int64_t mmf_builder_width(const mmf_builder *builder)
{
    return builder->width;
}

static void full_name(const mmf_builder *builder, const char *name, char *out, size_t size)
{
    size_t used = 0;
    for (const char *c = builder->scope; *c && used + 1 < size; c++) {
        if (*c != (char)1)
            out[used++] = *c;
    }
    snprintf(out + used, size - used, "%s", name);
}

void mmf_builder_place(mmf_builder *builder, const char *input)
{
    char full[2 * MMF_SCOPE_BYTES];
    mmf_place *const place = mmf_builder_alloc(builder, sizeof *place);
    full_name(builder, "", full, sizeof full);
    const size_t n = strlen(full);
    const char *const scope = mmf_builder_text(builder, "%.*s", n > 0 ? (int)n - 1 : 0, full);
    if (!place || builder->status != MMF_OK)
        return;
    *place = (mmf_place){builder->params->places, mmf_builder_text(builder, "%s", input), scope};
    builder->params->places = place;
}

static bool make_room(mmf_params *params)
{
    if (params->count < params->capacity)
        return true;
    const size_t capacity = params->capacity ? 2 * params->capacity : 32;
    mmf_param *const grown = mmf_realloc(params->ctx, params->items, capacity * sizeof *grown);
    if (!grown)
        return false;
    params->items = grown;
    params->capacity = capacity;
    return true;
}

/* The stored full name of a new entry, with room for it; NULL after an error. */
static const char *new_entry(mmf_builder *builder, const char *full)
{
    mmf_params *const params = builder->params;
    if (params->count >= MMF_MAX_PARAMS || mmf_params_find(params, full)) {
        mmf_builder_fail(builder, MMF_INTERNAL, "parameter %s is declared twice", full);
        return NULL;
    }
    const char *const stored = mmf_builder_text(builder, "%s", full);
    if (builder->status == MMF_OK && !make_room(params))
        builder->status = MMF_NOMEM;
    return builder->status == MMF_OK ? stored : NULL;
}

void mmf_builder_alias(mmf_builder *builder, const char *name, mmf_tensor *tensor)
{
    if (builder->status != MMF_OK)
        return;
    char full[2 * MMF_SCOPE_BYTES];
    full_name(builder, name, full, sizeof full);
    mmf_params *const params = builder->params;
    size_t first = 0;
    while (first < params->count && params->items[first].tensor != tensor)
        first++;
    if (first == params->count) {
        mmf_builder_fail(builder, MMF_INTERNAL, "%s names no parameter", full);
        return;
    }
    const char *const stored = new_entry(builder, full);
    if (!stored)
        return;
    mmf_param alias = params->items[first];
    alias.name = stored;
    alias.is_alias = true;
    params->items[params->count++] = alias;
}

mmf_tensor *mmf_builder_param(mmf_builder *builder, const char *name, mmf_param_role role,
                              mmf_init init, int n_dims, const int64_t *shape)
{
    if (builder->status != MMF_OK)
        return NULL;
    char full[2 * MMF_SCOPE_BYTES];
    full_name(builder, name, full, sizeof full);
    size_t count = 1;
    for (int d = 0; d < n_dims; d++) {
        if (shape[d] <= 0 || !mmf_mul_ok(count, (size_t)shape[d], &count) ||
            count > (size_t)1 << 40) {
            mmf_builder_fail(builder, MMF_SHAPE, "parameter %s: dimension %d is %lld", full, d,
                             (long long)shape[d]);
            return NULL;
        }
    }
    const char *const stored = new_entry(builder, full);
    mmf_tensor *const tensor = stored ? mmf_builder_alloc(builder, sizeof *tensor) : NULL;
    if (!tensor)
        return NULL;
    tensor->count = (int64_t)count;
    tensor->n_dims = n_dims;
    for (int d = 0; d < n_dims; d++)
        tensor->shape[d] = shape[d];
    mmf_params *const params = builder->params;
    if (role == MMF_PARAM_TRAINED && builder->frozen &&
        mmf_scopes_freeze(builder->frozen, params, stored))
        role = MMF_PARAM_FIXED;
    params->items[params->count++] = (mmf_param){stored,
                                                 role,
                                                 builder->group,
                                                 init,
                                                 tensor,
                                                 false,
                                                 builder->for_losses,
                                                 builder->reordered,
                                                 1,
                                                 0,
                                                 0};
    return builder->status == MMF_OK ? tensor : NULL;
}
