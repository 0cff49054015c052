/* test_few_keys.c: attention of many queries over few keys, against the operations one by one. */
#include <math.h>
#include <stdlib.h>

#include "nn/projected_attention.h"
#include "support.h"
#include "tensor/heads.h"
#include "tensor/tape.h"

#define TOLERANCE 1e-5 /* of the largest magnitude */

typedef struct few_case {
    int64_t samples, queries, keys, heads, inputs, width, value_width, outputs;
    bool has_bias, by_query; /* the mask is of a query and a key, not of a key */
} few_case;

/* Panels that are not full, heads that cross them, one key, one tile of queries and several. */
static const few_case cases[] = {
    {1, 100, 14, 8, 512, 512, 512, 512, true, false},
    {2, 65, 3, 3, 400, 384, 384, 401, true, true},
    {3, 40, 1, 6, 517, 258, 516, 300, false, false},
    {1, 200, 9, 2, 700, 256, 256, 640, false, true},
};

enum { N_CASES = sizeof cases / sizeof *cases, N_ARRAYS = 8 };
enum { X, K, V, WQ, BQ, WO, BO, MASK };

typedef struct few {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_real *arrays[N_ARRAYS];
} few;

static void make(few *f, const few_case *c)
{
    mmf_rng rng = mmf_rng_make(11, (uint64_t)c->keys);
    const int64_t mask_rows = c->by_query ? c->queries : 1;
    const int64_t sizes[N_ARRAYS] = {c->samples * c->queries * c->inputs,
                                     c->samples * c->keys * c->width,
                                     c->samples * c->keys * c->value_width,
                                     c->width * c->inputs,
                                     c->width,
                                     c->outputs * c->value_width,
                                     c->outputs,
                                     c->samples * mask_rows * c->keys};
    f->ctx = test_ctx();
    mmf_ctx_set_threads(f->ctx, 2);
    test_ok(f->ctx, mmf_tape_create(f->ctx, &f->tape));
    for (int i = 0; i < N_ARRAYS; i++) {
        f->arrays[i] = mmf_alloc(f->ctx, (size_t)sizes[i] * sizeof **f->arrays);
        assert_non_null(f->arrays[i]);
        for (int64_t e = 0; e < sizes[i]; e++)
            f->arrays[i][e] = i == MASK ? (mmf_real)(e % 3 != 1)
                                        : (mmf_real)((i > V ? 0.05 : 1) * mmf_rng_normal(&rng));
    }
    /* The last query, or sample, has no key. */
    for (int64_t t = 0; t < c->keys; t++)
        f->arrays[MASK][sizes[MASK] - 1 - t] = 0;
}

static void drop(few *f)
{
    for (int i = 0; i < N_ARRAYS; i++)
        mmf_free(f->ctx, f->arrays[i]);
    mmf_tape_free(f->tape);
    mmf_ctx_free(f->ctx);
}

static mmf_tensor *given(const few *f, int which, const int64_t *shape)
{
    return mmf_input(f->tape, f->arrays[which], 3, shape);
}

/* `rule` below 0: without a mask. *folded: whether the products were taken in the other order. */
static const mmf_tensor *attend(few *f, const few_case *c, bool fixed, int rule, bool *folded)
{
    static const mmf_empty_row rules[] = {MMF_EMPTY_ZERO, MMF_EMPTY_UNIFORM, MMF_EMPTY_SHIFTED};
    const int64_t rows = c->by_query ? c->queries : 1;
    mmf_tape_begin(f->tape, &(mmf_pass){.fixed = fixed});
    mmf_tensor *const x = given(f, X, (int64_t[]){c->samples, c->queries, c->inputs});
    mmf_tensor *const k = given(f, K, (int64_t[]){c->samples, c->keys, c->width});
    mmf_tensor *const v = given(f, V, (int64_t[]){c->samples, c->keys, c->value_width});
    mmf_tensor *const mask =
        mmf_input(f->tape, f->arrays[MASK], 4, (int64_t[]){c->samples, 1, rows, c->keys});
    const mmf_linear_layer query = {
        mmf_variable(f->tape, f->arrays[WQ], 2, (int64_t[]){c->width, c->inputs}),
        c->has_bias ? mmf_variable(f->tape, f->arrays[BQ], 1, &c->width) : NULL};
    const mmf_linear_layer out = {
        mmf_variable(f->tape, f->arrays[WO], 2, (int64_t[]){c->outputs, c->value_width}),
        c->has_bias ? mmf_variable(f->tape, f->arrays[BO], 1, &c->outputs) : NULL};
    const mmf_heads heads = {
        .count = c->heads, .mask = rule < 0 ? NULL : mask, .empty = rules[rule < 0 ? 0 : rule]};
    const mmf_projected p = {x, query.weight, query.bias, out.weight, out.bias};
    *folded = mmf_heads_attend_few(f->tape, &p, k, v, c->heads, 1, heads.mask, heads.empty) != NULL;
    const mmf_tensor *const y = mmf_attend_projected(f->tape, &query, &out, x, k, v, &heads, NULL);
    test_ok(f->ctx, mmf_tape_status(f->tape));
    return y;
}

static void check(const few_case *c, int rule)
{
    few f;
    bool folded = true;
    make(&f, c);
    const mmf_tensor *const plain = attend(&f, c, false, rule, &folded);
    assert_false(folded);
    const int64_t n = plain->count;
    mmf_real *const wanted = mmf_alloc(f.ctx, (size_t)n * sizeof *wanted);
    assert_non_null(wanted);
    memcpy(wanted, plain->data, (size_t)n * sizeof *wanted);
    for (int pass = 0; pass < 2; pass++) {
        const mmf_tensor *const y = attend(&f, c, true, rule, &folded);
        double worst = 0, scale = 0;
        assert_true(folded);
        assert_int_equal(y->count, n);
        for (int64_t i = 0; i < n; i++) {
            worst = fmax(worst, fabs((double)(y->data[i] - wanted[i])));
            scale = fmax(scale, fabs((double)wanted[i]));
        }
        if (!(worst <= TOLERANCE * scale))
            fail_msg("case %d, rule %d differs by %.2g of %.2g", (int)(c - cases), rule, worst,
                     scale);
    }
    mmf_free(f.ctx, wanted);
    drop(&f);
}

/* On every level of processor: the environment caps it. */
static void products_in_another_order_are_the_same(void **state)
{
    (void)state;
    for (mmf_cpu cpu = MMF_CPU_PORTABLE; cpu <= MMF_CPU_AVX512; cpu++) {
        assert_int_equal(setenv("MMFUSE_CPU", mmf_cpu_name(cpu), 1), 0);
        for (int i = 0; i < N_CASES; i++) {
            for (int rule = -1; rule < 3; rule++)
                check(&cases[i], rule);
        }
    }
    assert_int_equal(unsetenv("MMFUSE_CPU"), 0);
}

/* As many keys as queries: the projections are shorter. */
static void many_keys_go_the_usual_way(void **state)
{
    (void)state;
    const few_case c = {1, 40, 40, 8, 512, 512, 512, 512, true, false};
    few f;
    bool folded = true;
    make(&f, &c);
    attend(&f, &c, true, 0, &folded);
    assert_false(folded);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_in_another_order_are_the_same),
        cmocka_unit_test(many_keys_go_the_usual_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
