/*
 * operator_case.h: an operator or late rule on given vectors; shared by the tests of both.
 */
#ifndef MMFUSE_TESTS_OPERATOR_CASE_H
#define MMFUSE_TESTS_OPERATOR_CASE_H

#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { MAX_M = 3, MAX_B = 4, MAX_D = 8, MAX_OUT = 64 };

/* M modalities of `width` features, B rows; `present` NULL: always there. */
typedef struct features {
    int64_t m, b, width[MAX_M];
    mmf_real values[MAX_M][MAX_B * MAX_D];
    bool has_present;
    mmf_real present[MAX_M][MAX_B];
} features;

static const char *const names[MAX_M] = {"p", "q", "r"};

typedef struct setting {
    const char *name, *value;
} setting;

static inline const mmf_def *find(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_OPERATOR, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    }
    fail_msg("there is no operator %s", name);
    return NULL;
}

static inline mmf_module *make(mmf_ctx *ctx, const char *name, const features *f,
                               const setting *settings)
{
    const mmf_def *const def = find(name);
    mmf_input_schema inputs[MAX_M] = {{0}};
    const mmf_schema schema = {(size_t)f->m, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    for (int64_t m = 0; m < f->m; m++)
        inputs[m] = (mmf_input_schema){.name = names[m],
                                       .kind = MMF_VECTOR,
                                       .n_dims = 1,
                                       .shape = {f->width[m]},
                                       .has_present = f->has_present};
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    for (const setting *s = settings; s && s->name; s++)
        test_ok(ctx, mmf_config_set(config, s->name, s->value));
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, &schema, 1));
    mmf_config_free(config);
    return module;
}

/* One row of an output after the other. */
typedef struct output {
    int64_t width;
    double values[MAX_B * MAX_OUT];
} output;

static inline output run(mmf_ctx *ctx, mmf_module *module, features *f, const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (int64_t m = 0; m < f->m; m++) {
        const int64_t shape[] = {f->b, f->width[m]};
        mmf_named_put(tape, &in, names[m], mmf_input(tape, f->values[m], 2, shape));
        if (f->has_present)
            mmf_named_putf(tape, &in, mmf_input(tape, f->present[m], 1, shape), "%s.present",
                           names[m]);
    }
    mmf_module_run(module, tape, &in, &step, &out);
    const mmf_tensor *const y = mmf_named_get(&out, name);
    test_ok(ctx, mmf_tape_status(tape));
    assert_non_null(y);
    assert_true(y->count <= MAX_B * MAX_OUT);
    output o = {.width = y->count / f->b};
    for (int64_t i = 0; i < y->count; i++)
        o.values[i] = y->is_int ? (double)y->ints[i] : (double)y->data[i];
    mmf_tape_free(tape);
    return o;
}

static inline output once(mmf_ctx *ctx, const char *name, features *f, const setting *settings,
                          const char *wanted)
{
    mmf_module *const module = make(ctx, name, f, settings);
    const output o = run(ctx, module, f, wanted);
    mmf_module_free(module);
    return o;
}

static inline void assert_near(const output *found, const double *wanted, int64_t n,
                               double tolerance)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(found->values[i] - wanted[i]) <= tolerance * fmax(1, fabs(wanted[i]))))
            fail_msg("element %lld is %.9g, expected %.9g", (long long)i, found->values[i],
                     wanted[i]);
    }
}

static inline mmf_tensor *parameter(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* c sin(0.7 (i + 1) + s): the fill that the published numbers were made with. */
static inline void fill(mmf_real *out, int64_t n, double s)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (mmf_real)(0.5 * sin(0.7 * (double)(i + 1) + s));
}

static inline features random_features(int64_t m, int64_t b, int64_t width, uint64_t seed)
{
    features f = {.m = m, .b = b};
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (int64_t i = 0; i < m; i++) {
        f.width[i] = width;
        for (int64_t e = 0; e < b * width; e++)
            f.values[i][e] = (mmf_real)mmf_rng_normal(&rng);
        for (int64_t r = 0; r < b; r++)
            f.present[i][r] = 1;
    }
    return f;
}

#endif
