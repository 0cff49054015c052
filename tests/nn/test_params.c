/*
 * test_params.c: initialisers (bounds, deviations, fans), names and scopes, flat blocks, gradients
 * of what a loss does not reach.
 */
#include <math.h>

#include "mmfuse/model.h"
#include "support.h"

enum { LARGE = 40000 };

static void declare_one(mmf_builder *b, const char *name, mmf_init init, int64_t count)
{
    mmf_builder_param(b, name, MMF_PARAM_TRAINED, init, 1, &count);
}

static mmf_status build_drawn(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    (void)config, (void)inputs, (void)self;
    declare_one(b, "constant", mmf_init_constant(-0.75), 100);
    declare_one(b, "uniform", mmf_init_uniform(0.3), LARGE);
    declare_one(b, "normal", mmf_init_normal(0.2), LARGE);
    declare_one(b, "fan_in", mmf_init_fan_in(25), LARGE);
    declare_one(b, "below", mmf_init_below(7), LARGE);
    declare_one(b, "signs", mmf_init_signs(0.5), LARGE);
    mmf_init padded = mmf_init_normal(1);
    padded.zero_row = 2;
    mmf_builder_param(b, "embedding", MMF_PARAM_TRAINED, padded, 2, (int64_t[]){5, 4});
    return mmf_builder_status(b);
}

static const mmf_def drawn = {.name = "drawn", .kind = MMF_KIND_LAYER, .build = build_drawn};

static mmf_module *make(mmf_ctx *ctx, const mmf_def *def, uint64_t seed)
{
    mmf_module *module = NULL;
    const mmf_schema none = {0};
    test_ok(ctx, mmf_module_create(ctx, &module, def, NULL, &none, seed));
    return module;
}

static const mmf_tensor *tensor(const mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

typedef struct moments {
    double mean, deviation, largest;
} moments;

static moments moments_of(const mmf_tensor *t)
{
    moments m = {0};
    for (int64_t i = 0; i < t->count; i++) {
        m.mean += (double)t->data[i] / (double)t->count;
        m.largest = fmax(m.largest, fabs((double)t->data[i]));
    }
    for (int64_t i = 0; i < t->count; i++)
        m.deviation += pow((double)t->data[i] - m.mean, 2) / (double)t->count;
    m.deviation = sqrt(m.deviation);
    return m;
}

static void draws_have_their_distribution(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, &drawn, 4);
    const mmf_tensor *const constant = tensor(module, "constant");
    for (int64_t i = 0; i < constant->count; i++)
        assert_true(constant->data[i] == (mmf_real)-0.75);
    const moments u = moments_of(tensor(module, "uniform"));
    assert_true(u.largest <= 0.3 && u.largest > 0.2999);
    assert_true(fabs(u.mean) < 0.005 && fabs(u.deviation - 0.3 / sqrt(3)) < 0.002);
    const moments n = moments_of(tensor(module, "normal"));
    assert_true(fabs(n.mean) < 0.005 && fabs(n.deviation - 0.2) < 0.004);
    assert_true(n.largest > 0.6 && n.largest < 1.4); /* a normal reaches 4 deviations, not 7 */
    const moments f = moments_of(tensor(module, "fan_in"));
    assert_true(f.largest <= 0.2 && f.largest > 0.1999);
    const mmf_tensor *const below = tensor(module, "below"), *const signs = tensor(module, "signs");
    int64_t counts[7] = {0}, n_positive = 0;
    for (int64_t i = 0; i < LARGE; i++) {
        const int64_t whole = (int64_t)below->data[i];
        assert_true(whole >= 0 && whole < 7 && below->data[i] == (mmf_real)whole);
        counts[whole]++;
        assert_true(fabs((double)signs->data[i]) == 0.5);
        n_positive += signs->data[i] > 0;
    }
    for (int i = 0; i < 7; i++) /* within six deviations */
        assert_true(fabs((double)counts[i] - LARGE / 7.0) < 6 * sqrt(LARGE * 6 / 49.0));
    assert_true(fabs((double)n_positive - LARGE / 2.0) < 6 * sqrt(LARGE / 4.0));
    const mmf_tensor *const table = tensor(module, "embedding");
    for (int64_t i = 0; i < table->count; i++)
        assert_true((table->data[i] == 0) == (i / 4 == 2));
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Fans as torch.nn.init counts them. */
static void bounds_follow_the_fans(void **state)
{
    (void)state;
    const int64_t conv[] = {4, 3, 2, 5}, matrix[] = {6, 10};
    const double fan_in = 3 * 10, fan_out = 4 * 10;
    const mmf_init u = mmf_init_xavier_uniform(4, conv), n = mmf_init_xavier_normal(4, conv);
    assert_true(u.kind == MMF_INIT_UNIFORM && fabs(u.a - sqrt(6 / (fan_in + fan_out))) < 1e-12);
    assert_true(n.kind == MMF_INIT_NORMAL && fabs(n.a - sqrt(2 / (fan_in + fan_out))) < 1e-12);
    assert_true(fabs(mmf_init_xavier_uniform(2, matrix).a - sqrt(6.0 / 16)) < 1e-12);
    const mmf_init k = mmf_init_kaiming_normal(4, conv);
    assert_true(k.kind == MMF_INIT_NORMAL && fabs(k.a - sqrt(2 / fan_out)) < 1e-12);
    assert_true(fabs(mmf_init_kaiming_normal(2, matrix).a - sqrt(2.0 / 6)) < 1e-12);
    assert_true(fabs(mmf_init_fan_in(16).a - 0.25) < 1e-12);
    assert_true(u.zero_row < 0 && n.zero_row < 0 && k.zero_row < 0);
}

static void draws_depend_on_seed_and_name(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const a = make(ctx, &drawn, 4), *const b = make(ctx, &drawn, 4);
    mmf_module *const c = make(ctx, &drawn, 5);
    const size_t bytes = (size_t)mmf_params_size(mmf_module_params(a)) * sizeof(mmf_real);
    assert_memory_equal(mmf_params_values(mmf_module_params(a)),
                        mmf_params_values(mmf_module_params(b)), bytes);
    assert_memory_not_equal(tensor(a, "uniform")->data, tensor(c, "uniform")->data,
                            LARGE * sizeof(mmf_real));
    assert_memory_not_equal(tensor(a, "normal")->data, tensor(a, "fan_in")->data,
                            64 * sizeof(mmf_real));
    mmf_params_init(mmf_module_params(c), 4);
    assert_memory_equal(mmf_params_values(mmf_module_params(a)),
                        mmf_params_values(mmf_module_params(c)), bytes);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_module_free(c);
    mmf_module_free(NULL);
    mmf_ctx_free(ctx);
}

/* ---- Names ------------------------------------------------------------------------------- */

static mmf_status build_scopes(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                               void **self)
{
    (void)config, (void)inputs, (void)self;
    const mmf_init one = mmf_init_constant(1);
    declare_one(b, "top", one, 3);
    mmf_builder_enter(b, "audio_subnet");
    mmf_builder_enter(b, "linear_1");
    declare_one(b, "weight", one, 5);
    mmf_builder_leave(b);
    mmf_builder_enter(b, ""); /* changes nothing */
    mmf_builder_group(b, 2);
    mmf_builder_param(b, "mean", MMF_PARAM_BUFFER, one, 1, (int64_t[]){2});
    mmf_builder_group(b, 0);
    mmf_builder_leave(b);
    declare_one(b, "bias", one, 1);
    mmf_builder_leave(b);
    mmf_builder_param(b, "range", MMF_PARAM_FIXED, one, 0, NULL);
    declare_one(b, "end", one, 17);
    mmf_builder_set_width(b, 12);
    return mmf_builder_status(b);
}

static const mmf_def scoped = {.name = "scoped", .kind = MMF_KIND_LAYER, .build = build_scopes};

static void names_follow_the_scopes(void **state)
{
    (void)state;
    static const char *const names[] = {
        "top", "audio_subnet.linear_1.weight", "audio_subnet.mean", "audio_subnet.bias", "range",
        "end"};
    static const mmf_param_role roles[] = {MMF_PARAM_TRAINED, MMF_PARAM_TRAINED, MMF_PARAM_BUFFER,
                                           MMF_PARAM_TRAINED, MMF_PARAM_FIXED,   MMF_PARAM_TRAINED};
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, &scoped, 0);
    const mmf_params *const params = mmf_module_params(module);
    assert_int_equal(mmf_params_count(params), 6);
    for (size_t i = 0; i < 6; i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        assert_string_equal(p->name, names[i]);
        assert_int_equal(p->role, roles[i]);
        assert_int_equal(p->group, i == 2 ? 2 : 0);
        assert_ptr_equal(mmf_params_find(params, names[i]), p);
    }
    assert_null(mmf_params_find(params, "bias"));
    assert_int_equal(mmf_module_width(module), 12);
    assert_int_equal(tensor(module, "range")->count, 1);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Second names ------------------------------------------------------------------------ */

static mmf_status build_tied(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    (void)config, (void)inputs, (void)self;
    const mmf_linear_layer first = mmf_linear_build(b, "first", 3, 2, true);
    mmf_builder_enter(b, "deep");
    mmf_linear_alias(b, "second", &first);
    mmf_builder_leave(b);
    declare_one(b, "last", mmf_init_uniform(1), 4);
    return mmf_builder_status(b);
}

static const mmf_def tied = {.name = "tied", .kind = MMF_KIND_LAYER, .build = build_tied};

static mmf_status build_unknown(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                                void **self)
{
    (void)config, (void)inputs, (void)self;
    mmf_tensor none = {0};
    declare_one(b, "first", mmf_init_constant(1), 3);
    mmf_builder_alias(b, "second", &none);
    return mmf_builder_status(b);
}

static const mmf_def unknown = {.name = "unknown", .kind = MMF_KIND_LAYER, .build = build_unknown};

static mmf_status build_taken(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    (void)config, (void)inputs, (void)self;
    const mmf_linear_layer first = mmf_linear_build(b, "first", 3, 2, false);
    mmf_linear_alias(b, "first", &first);
    return mmf_builder_status(b);
}

static const mmf_def taken = {.name = "taken", .kind = MMF_KIND_LAYER, .build = build_taken};

static void a_second_name_is_the_same_tensor(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, &tied, 6);
    const mmf_params *const params = mmf_module_params(module);
    assert_int_equal(mmf_params_count(params), 5);
    assert_ptr_equal(tensor(module, "first.weight"), tensor(module, "deep.second.weight"));
    assert_ptr_equal(tensor(module, "first.bias"), tensor(module, "deep.second.bias"));
    assert_false(mmf_params_find(params, "first.weight")->is_alias);
    assert_true(mmf_params_find(params, "deep.second.weight")->is_alias);
    /* Memory and draws are those of the first name alone. */
    assert_int_equal(mmf_params_size(params), 3 * (64 / (int64_t)sizeof(mmf_real)));
    const mmf_real drawn_once = tensor(module, "first.weight")->data[0];
    mmf_params_init(mmf_module_params(module), 6);
    assert_true(tensor(module, "deep.second.weight")->data[0] == drawn_once);
    /* Its gradient counts once. */
    mmf_optimizer *optimizer = NULL;
    mmf_optimizer_options options = MMF_OPTIMIZER_OPTIONS_INIT;
    options.kind = MMF_SGD;
    options.lr = 0.25;
    options.clip_norm = 100;
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, mmf_module_params(module), &options));
    for (int i = 0; i < 6; i++)
        tensor(module, "first.weight")->grad[i] = 1;
    mmf_optimizer_step(optimizer, 1);
    assert_true(fabs(mmf_optimizer_grad_norm(optimizer) - sqrt(6)) < 1e-5);
    assert_true(fabs((double)(tensor(module, "deep.second.weight")->data[0] - drawn_once) + 0.25) <
                1e-5);
    mmf_optimizer_free(optimizer);
    mmf_module_free(module);
    mmf_module *none = NULL;
    const mmf_schema nothing = {0};
    test_fails(ctx, mmf_module_create(ctx, &none, &unknown, NULL, &nothing, 0), MMF_INTERNAL,
               "second names no parameter");
    test_fails(ctx, mmf_module_create(ctx, &none, &taken, NULL, &nothing, 0), MMF_INTERNAL,
               "first.weight is declared twice");
    mmf_ctx_free(ctx);
}

/* Trained ones lie in values and gradients, the others in the state; each on its own cache line,
 * none over another. */
static void tensors_lie_in_the_flat_blocks(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, &scoped, 0);
    mmf_params *const params = mmf_module_params(module);
    const mmf_real *ends[2] = {mmf_params_values(params), mmf_params_state(params)};
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const bool trained = p->role == MMF_PARAM_TRAINED;
        const mmf_tensor *const t = p->tensor;
        assert_true(t->data >= ends[trained ? 0 : 1]);
        ends[trained ? 0 : 1] = t->data + t->count;
        assert_int_equal((uintptr_t)t->data % 64, 0);
        assert_int_equal(t->wants_grad, trained);
        assert_true(trained ? t->grad - mmf_params_gradients(params) ==
                                  t->data - mmf_params_values(params)
                            : t->grad == NULL);
        for (int64_t e = 0; e < t->count; e++)
            assert_true(t->data[e] == 1);
    }
    assert_true(ends[0] <= mmf_params_values(params) + mmf_params_size(params));
    assert_true(ends[1] <= mmf_params_state(params) + mmf_params_state_size(params));
    for (int64_t i = 0; i < mmf_params_size(params); i++)
        assert_true(mmf_params_gradients(params)[i] == 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void unreached_gradients_become_zero(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, &scoped, 0);
    mmf_params *const params = mmf_module_params(module);
    for (int64_t i = 0; i < mmf_params_size(params); i++)
        mmf_params_gradients(params)[i] = 9;
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_tensor *const end = mmf_params_find(params, "end")->tensor;
    test_ok(ctx, mmf_tape_backward(tape, mmf_sum(tape, mmf_affine(tape, end, 3, 0), MMF_ALL_AXES)));
    mmf_params_finish_gradients(params, tape);
    for (int64_t i = 0; i < end->count; i++)
        assert_true(end->grad[i] == 3);
    const char *const others[] = {"top", "audio_subnet.linear_1.weight", "audio_subnet.bias"};
    for (size_t o = 0; o < 3; o++) {
        const mmf_tensor *const t = tensor(module, others[o]);
        for (int64_t i = 0; i < t->count; i++)
            assert_true(t->grad[i] == 0);
    }
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Mistakes of definitions ------------------------------------------------------------- */

static mmf_status build_twice(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    (void)config, (void)inputs, (void)self;
    declare_one(b, "same", mmf_init_constant(0), 1);
    declare_one(b, "same", mmf_init_constant(0), 1);
    declare_one(b, "later", mmf_init_constant(0), 1);
    return mmf_builder_status(b);
}

static mmf_status build_empty(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    (void)config, (void)inputs, (void)self;
    mmf_builder_param(b, "flat", MMF_PARAM_TRAINED, mmf_init_constant(0), 2, (int64_t[]){3, 0});
    return mmf_builder_status(b);
}

static mmf_status build_huge(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    (void)config, (void)inputs, (void)self;
    mmf_builder_param(b, "huge", MMF_PARAM_TRAINED, mmf_init_constant(0), 3,
                      (int64_t[]){INT64_MAX, INT64_MAX, 4});
    return mmf_builder_status(b);
}

static mmf_status build_deep(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    (void)config, (void)inputs, (void)self;
    for (int i = 0; i < 40; i++)
        mmf_builder_enter(b, "level_of_a_scope");
    declare_one(b, "weight", mmf_init_constant(0), 1);
    for (int i = 0; i < 40; i++)
        mmf_builder_leave(b);
    return mmf_builder_status(b);
}

typedef struct mistake {
    mmf_def def;
    mmf_status status;
    const char *piece;
} mistake;

static const mistake mistakes[] = {
    {{.name = "twice", .build = build_twice}, MMF_INTERNAL, "same is declared twice"},
    {{.name = "empty", .build = build_empty}, MMF_SHAPE, "flat: dimension 1 is 0"},
    {{.name = "huge", .build = build_huge}, MMF_SHAPE, "huge"},
    {{.name = "deep", .build = build_deep}, MMF_LIMIT, "nest deeper"},
};

static void mistakes_stick_to_the_builder(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_schema none = {0};
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        mmf_module *module = NULL;
        test_fails(ctx, mmf_module_create(ctx, &module, &mistakes[i].def, NULL, &none, 0),
                   mistakes[i].status, mistakes[i].piece);
        assert_null(module);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_have_their_distribution),
        cmocka_unit_test(bounds_follow_the_fans),
        cmocka_unit_test(draws_depend_on_seed_and_name),
        cmocka_unit_test(names_follow_the_scopes),
        cmocka_unit_test(a_second_name_is_the_same_tensor),
        cmocka_unit_test(tensors_lie_in_the_flat_blocks),
        cmocka_unit_test(unreached_gradients_become_zero),
        cmocka_unit_test(mistakes_stick_to_the_builder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
