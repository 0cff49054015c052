/*
 * test_optimizer.c: updates of SGD, Adam and AdamW against numbers of torch.optim (double
 * precision, torch 2.13), clipping, groups, and their state for checkpoints.
 */
#include <math.h>
#include <string.h>

#include "nn/builder.h"
#include "support.h"

enum { WIDTH = 3, N_STEPS = 4 };

static const double start[WIDTH] = {0.5, -1.25, 2.0};
static const double gradients[N_STEPS][WIDTH] = {
    {0.1, -0.4, 0.02}, {-0.3, 0.2, 0.05}, {0.25, 0.25, -3.0}, {0.0, -0.15, 0.6}};

/* Two parameters of WIDTH elements; the second may be of another group. A buffer lies between. */
static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    (void)config, (void)inputs, (void)self;
    const int64_t width = WIDTH;
    const mmf_init zero = mmf_init_constant(0);
    mmf_builder_param(b, "first", MMF_PARAM_TRAINED, zero, 1, &width);
    mmf_builder_param(b, "between", MMF_PARAM_BUFFER, zero, 1, &width);
    mmf_builder_group(b, 1);
    mmf_builder_param(b, "second", MMF_PARAM_TRAINED, zero, 1, &width);
    mmf_builder_group(b, 0);
    mmf_builder_param(b, "bound", MMF_PARAM_TRAINED, mmf_init_constant(0.5), 1, &width);
    mmf_builder_bound(b, 0, 1);
    return mmf_builder_status(b);
}

static const mmf_def def = {.name = "two", .kind = MMF_KIND_LAYER, .build = build};

static mmf_module *make(mmf_ctx *ctx)
{
    mmf_module *module = NULL;
    const mmf_schema none = {0};
    test_ok(ctx, mmf_module_create(ctx, &module, &def, NULL, &none, 0));
    mmf_params *const params = mmf_module_params(module);
    for (int i = 0; i < WIDTH; i++) {
        mmf_params_find(params, "first")->tensor->data[i] = (mmf_real)start[i];
        mmf_params_find(params, "second")->tensor->data[i] = (mmf_real)start[i];
    }
    return module;
}

/* @param both  the second parameter gets the gradient too, else zero */
static void put_gradient(mmf_params *params, int step, bool both)
{
    for (int i = 0; i < WIDTH; i++) {
        const mmf_real g = (mmf_real)gradients[step][i];
        mmf_params_find(params, "first")->tensor->grad[i] = g;
        mmf_params_find(params, "second")->tensor->grad[i] = both ? g : 0;
    }
}

static void assert_values(const mmf_params *params, const char *name, const double *wanted)
{
    const mmf_real *const found = mmf_params_find(params, name)->tensor->data;
    for (int i = 0; i < WIDTH; i++) {
        if (!(fabs((double)found[i] - wanted[i]) <= 1e-6 * fmax(1, fabs(wanted[i]))))
            fail_msg("%s[%d] is %.9g, expected %.9g", name, i, (double)found[i], wanted[i]);
    }
}

typedef struct row {
    const char *name;
    mmf_optimizer_kind kind;
    double lr, beta1, beta2, eps, momentum, decay, clip_norm, clip_value;
    double wanted[WIDTH];
} row;

static const row rows[] = {
    {"SGD", MMF_SGD, .1, 0, 0, 0, 0, 0, 0, 0, {0.495, -1.24, 2.233}},
    {"SGD, momentum", MMF_SGD, .1, 0, 0, 0, .9, 0, 0, 0, {0.49941, -1.19914, 2.489572}},
    {"SGD, momentum and L2",
     MMF_SGD,
     .1,
     0,
     0,
     0,
     .9,
     .05,
     0,
     0,
     {0.476965782813, -1.14431069641, 2.3984567165}},
    {"Adam",
     MMF_ADAM,
     .01,
     .9,
     .999,
     1e-8,
     0,
     0,
     0,
     0,
     {0.493182800302, -1.23806418374, 1.99074529135}},
    {"Adam, other constants",
     MMF_ADAM,
     .01,
     .8,
     .95,
     1e-3,
     0,
     0,
     0,
     0,
     {0.493203634252, -1.23970892688, 1.99181156741}},
    {"Adam, L2",
     MMF_ADAM,
     .01,
     .9,
     .999,
     1e-8,
     0,
     .1,
     0,
     0,
     {0.486878093249, -1.22715254485, 1.9881185951}},
    {"AdamW",
     MMF_ADAMW,
     .01,
     .9,
     .999,
     1e-8,
     0,
     .1,
     0,
     0,
     {0.491206856451, -1.23310565028, 1.98279978128}},
    {"SGD, norm clipped",
     MMF_SGD,
     .1,
     0,
     0,
     0,
     0,
     0,
     .5,
     0,
     {0.515861971927, -1.22201126643, 1.9941492903}},
    {"SGD, values clipped", MMF_SGD, .1, 0, 0, 0, 0, 0, 0, .2, {0.49, -1.255, 1.993}},
    {"Adam, both clipped",
     MMF_ADAM,
     .01,
     .9,
     .999,
     1e-8,
     0,
     0,
     .3,
     .25,
     {0.492430894239, -1.24111536806, 1.9818404184}},
    /* By its definition: no bias correction, the third gradient clipped by itself. */
    {"BERT's Adam",
     MMF_BERT_ADAM,
     .01,
     .9,
     .999,
     1e-6,
     0,
     .1,
     1,
     0,
     {0.506972258989, -1.18437009165, 1.95680492437}},
};

static mmf_optimizer_options options_of(const row *r)
{
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    o.kind = r->kind;
    o.lr = r->lr;
    o.beta1 = r->beta1;
    o.beta2 = r->beta2;
    o.eps = r->eps;
    o.momentum = r->momentum;
    o.weight_decay = r->decay;
    o.clip_norm = r->clip_norm;
    o.clip_value = r->clip_value;
    return o;
}

/* Both parameters have one dimension: nothing decays. */
static void vectors_need_not_decay(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_module *const modules[] = {make(ctx), make(ctx)};
        for (int k = 0; k < 2; k++) {
            mmf_optimizer_options o = options_of(&rows[i]);
            mmf_optimizer *optimizer = NULL;
            o.weight_decay = k == 0 ? 0.3 : 0;
            o.decay_matrices = true;
            test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, mmf_module_params(modules[k]), &o));
            put_gradient(mmf_module_params(modules[k]), 0, true);
            mmf_optimizer_step(optimizer, 1);
            mmf_optimizer_free(optimizer);
        }
        const mmf_params *const a = mmf_module_params(modules[0]);
        const mmf_params *const b = mmf_module_params(modules[1]);
        assert_memory_equal(mmf_params_values(a), mmf_params_values(b),
                            (size_t)mmf_params_size(a) * sizeof(mmf_real));
        mmf_module_free(modules[0]);
        mmf_module_free(modules[1]);
    }
    mmf_ctx_free(ctx);
}

static void updates_are_pytorchs(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_module *const module = make(ctx);
        mmf_params *const params = mmf_module_params(module);
        const mmf_optimizer_options o = options_of(&rows[i]);
        mmf_optimizer *optimizer = NULL;
        test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
        assert_int_equal(mmf_optimizer_steps(optimizer), 0);
        for (int s = 0; s < N_STEPS; s++) {
            put_gradient(params, s, false);
            mmf_optimizer_step(optimizer, 1);
            assert_int_equal(mmf_optimizer_steps(optimizer), s + 1);
        }
        printf("%s\n", rows[i].name);
        assert_values(params, "first", rows[i].wanted);
        if (rows[i].decay == 0) /* zero gradients move nothing */
            assert_values(params, "second", start);
        const mmf_real *const buffer = mmf_params_find(params, "between")->tensor->data;
        assert_true(buffer[0] == 0 && buffer[1] == 0 && buffer[2] == 0);
        mmf_optimizer_free(optimizer);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void the_norm_is_that_before_clipping(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_params *const params = mmf_module_params(module);
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    mmf_optimizer *optimizer = NULL;
    o.kind = MMF_SGD;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
    put_gradient(params, 2, true);
    mmf_optimizer_step(optimizer, 1);
    assert_true(isnan(mmf_optimizer_grad_norm(optimizer)));
    mmf_optimizer_free(optimizer);
    o.clip_norm = 1;
    o.lr = 1;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
    const double norm = sqrt(2 * (2 * 0.25 * 0.25 + 9.0));
    const double before = (double)mmf_params_find(params, "first")->tensor->data[2];
    put_gradient(params, 2, true);
    mmf_optimizer_step(optimizer, 1);
    assert_true(fabs(mmf_optimizer_grad_norm(optimizer) - norm) < 1e-6);
    const double moved = (double)mmf_params_find(params, "first")->tensor->data[2] - before;
    assert_true(fabs(moved - 3 / norm) < 1e-5);
    /* A gradient within the limit is left alone. */
    const double second = (double)mmf_params_find(params, "second")->tensor->data[0];
    put_gradient(params, 1, true);
    mmf_optimizer_step(optimizer, 1);
    const double step = (double)mmf_params_find(params, "second")->tensor->data[0] - second;
    assert_true(fabs(step - 0.3) < 1e-6);
    mmf_optimizer_free(optimizer);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* torch.optim.Adam with two parameter groups, lr 0.01 and 0.002. */
static void groups_have_their_own_rate(void **state)
{
    (void)state;
    static const double first[] = {0.49318280030, -1.23806418374, 1.99074529135};
    static const double second[] = {0.49863656006, -1.24761283675, 1.99814905827};
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_params *const params = mmf_module_params(module);
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    mmf_optimizer *optimizer = NULL;
    o.lr = 0.01;
    o.group_lr[1] = 0.002;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
    for (int s = 0; s < N_STEPS; s++) {
        put_gradient(params, s, true);
        mmf_optimizer_step(optimizer, 1);
    }
    assert_values(params, "first", first);
    assert_values(params, "second", second);
    mmf_optimizer_free(optimizer);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void the_schedule_scales_the_rate(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_params *const params = mmf_module_params(module);
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    mmf_optimizer *optimizer = NULL;
    o.kind = MMF_SGD;
    o.lr = 0.1;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
    put_gradient(params, 0, true);
    mmf_optimizer_step(optimizer, 0);
    assert_values(params, "first", start);
    mmf_optimizer_step(optimizer, 0.5);
    assert_values(params, "first", (double[]){0.495, -1.23, 1.999});
    mmf_optimizer_free(optimizer);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Every step ends within a parameter's bounds; others have none. */
static void bounds_are_kept(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_params *const params = mmf_module_params(module);
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    mmf_optimizer *optimizer = NULL;
    o.kind = MMF_SGD;
    o.lr = 1;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, params, &o));
    put_gradient(params, 0, true);
    memcpy(mmf_params_find(params, "bound")->tensor->grad, (mmf_real[]){2, -2, .25},
           WIDTH * sizeof(mmf_real));
    mmf_optimizer_step(optimizer, 1);
    assert_values(params, "bound", (double[]){0, 1, 0.25});
    assert_values(params, "first", (double[]){0.4, -0.85, 1.98});
    mmf_optimizer_free(optimizer);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Moments and the step count carried over into a second optimizer continue bit for bit. */
static void the_state_is_complete(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_module *const whole = make(ctx), *const parts = make(ctx);
        mmf_params *const p = mmf_module_params(whole), *const q = mmf_module_params(parts);
        const size_t bytes = (size_t)mmf_params_size(p) * sizeof(mmf_real);
        const mmf_optimizer_options o = options_of(&rows[i]);
        mmf_optimizer *a = NULL, *b = NULL, *c = NULL;
        test_ok(ctx, mmf_optimizer_create(ctx, &a, p, &o));
        test_ok(ctx, mmf_optimizer_create(ctx, &b, q, &o));
        test_ok(ctx, mmf_optimizer_create(ctx, &c, q, &o));
        for (int s = 0; s < N_STEPS; s++) {
            put_gradient(p, s, true);
            put_gradient(q, s, true);
            mmf_optimizer_step(a, 1);
            mmf_optimizer_step(s < 2 ? b : c, 1);
            if (s != 1)
                continue;
            mmf_optimizer_set_steps(c, mmf_optimizer_steps(b));
            for (int m = 0; m < 2; m++) {
                assert_true(!mmf_optimizer_moment(b, m) == !mmf_optimizer_moment(c, m));
                if (mmf_optimizer_moment(b, m))
                    memcpy(mmf_optimizer_moment(c, m), mmf_optimizer_moment(b, m), bytes);
            }
        }
        assert_memory_equal(mmf_params_values(p), mmf_params_values(q), bytes);
        mmf_optimizer_free(a);
        mmf_optimizer_free(b);
        mmf_optimizer_free(c);
        mmf_module_free(whole);
        mmf_module_free(parts);
    }
    mmf_optimizer_free(NULL);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_are_pytorchs),
        cmocka_unit_test(vectors_need_not_decay),
        cmocka_unit_test(the_norm_is_that_before_clipping),
        cmocka_unit_test(groups_have_their_own_rate),
        cmocka_unit_test(the_schedule_scales_the_rate),
        cmocka_unit_test(bounds_are_kept),
        cmocka_unit_test(the_state_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
