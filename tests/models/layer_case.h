/*
 * layer_case.h: registered layers on inputs of any names and shapes, and what models put out;
 * shared by the tests of graphs and choices.
 */
#ifndef MMFUSE_TESTS_LAYER_CASE_H
#define MMFUSE_TESTS_LAYER_CASE_H

#include <math.h>

#include "models/model_case.h"

enum { MAX_TENSORS = 8, MAX_OUT = 4096 };

/* One named input of a layer. */
typedef struct value {
    const char *name;
    mmf_real *reals; /* NULL: integers */
    int64_t *ints;
    int n_dims;
    int64_t shape[MMF_MAX_DIMS];
} value;

typedef struct shown {
    int64_t count;
    double values[MAX_OUT];
} shown;

static inline void draw(mmf_real *values, int64_t n, uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (int64_t i = 0; i < n; i++)
        values[i] = (mmf_real)mmf_rng_normal(&rng);
}

static inline const mmf_def *layer_of(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_LAYER, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    }
    fail_msg("there is no layer %s", name);
    return NULL;
}

static inline mmf_module *make(mmf_ctx *ctx, const char *name, const char *json,
                               const value *values, size_t count)
{
    mmf_input_schema inputs[MAX_TENSORS];
    assert_true(count <= MAX_TENSORS);
    for (size_t i = 0; i < count; i++) {
        inputs[i] = (mmf_input_schema){.name = values[i].name,
                                       .kind = values[i].reals ? MMF_VECTOR : MMF_TOKENS,
                                       .n_dims = values[i].n_dims - 1};
        memcpy(inputs[i].shape, values[i].shape + 1,
               (size_t)(values[i].n_dims - 1) * sizeof *values[i].shape);
    }
    const mmf_schema schema = {count, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, layer_of(name)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_module_create(ctx, &module, layer_of(name), config, &schema, 3));
    mmf_config_free(config);
    return module;
}

static inline void keep(shown *s, const mmf_real *data, int64_t count)
{
    assert_true(count <= MAX_OUT);
    s->count = count;
    for (int64_t i = 0; i < count; i++)
        s->values[i] = (double)data[i];
}

/* @param gradient  of the sum of squares of the output for the first input, NULL: not wanted */
static inline shown run(mmf_ctx *ctx, mmf_module *module, value *values, size_t count,
                        const char *wanted, shown *gradient)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    shown s = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = gradient != NULL});
    for (size_t i = 0; i < count; i++) {
        value *const v = &values[i];
        mmf_tensor *const x = !v->reals ? mmf_input_ints(tape, v->ints, v->n_dims, v->shape)
                              : i == 0  ? mmf_variable(tape, v->reals, v->n_dims, v->shape)
                                        : mmf_input(tape, v->reals, v->n_dims, v->shape);
        mmf_named_put(tape, &in, v->name, x);
    }
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tensor *const y = mmf_named_get(&out, wanted);
    assert_non_null(y);
    keep(&s, y->data, y->count);
    if (gradient) {
        mmf_tensor *const square = mmf_sum(tape, mmf_mul(tape, y, y), MMF_ALL_AXES);
        test_ok(ctx, mmf_tape_backward(tape, square));
        const mmf_tensor *const x = mmf_named_get(&in, values[0].name);
        keep(gradient, x->grad, x->count);
    }
    mmf_tape_free(tape);
    return s;
}

/* Runs a model on a case; what it puts out under a name goes to `s` unless that is NULL.
 * @return false: nothing */
static inline bool shows(mmf_ctx *ctx, mmf_module *module, case_data *data, const mmf_step *step,
                         const char *name, shown *s)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.training = step->training});
    case_put(tape, data, false, &in);
    mmf_module_run(module, tape, &in, step, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, name);
    const bool found = y != NULL;
    if (found && s)
        keep(s, y->data, y->count);
    mmf_tape_free(tape);
    return found;
}

static inline shown run_model(mmf_ctx *ctx, mmf_module *module, case_data *data,
                              const mmf_step *step, const char *name)
{
    shown s = {0};
    if (!shows(ctx, module, data, step, name, &s))
        fail_msg("there is no output %s", name);
    return s;
}

static inline void assert_same(const shown *a, const shown *b, double tolerance)
{
    assert_int_equal(a->count, b->count);
    for (int64_t i = 0; i < a->count; i++) {
        if (!(fabs(a->values[i] - b->values[i]) <= tolerance * fmax(1, fabs(a->values[i]))))
            fail_msg("element %lld: %.9g and %.9g", (long long)i, a->values[i], b->values[i]);
    }
}

static inline bool differs(const shown *a, const shown *b)
{
    double largest = 0;
    for (int64_t i = 0; i < a->count; i++)
        largest = fmax(largest, fabs(a->values[i] - b->values[i]));
    return largest > 1e-4;
}

#endif
