/* test_golden_metrics.c: metrics of the reference implementations, from their files, and requests
 * that make no sense. */
#include "support.h"

#include <math.h>
#include <stdlib.h>

#include "mmfuse/io.h"
#include "tasks/golden_metrics.h"

/* Compares what is emitted with the archive's outputs. */
typedef struct comparison {
    mmf_archive *archive;
    double tolerance;
    size_t n_seen;
} comparison;

static void compare(void *user, const char *name, const double *values, int64_t count)
{
    comparison *const c = user;
    char full[128];
    snprintf(full, sizeof full, "output.%s", name);
    const int64_t entry = mmf_archive_find(c->archive, full);
    if (entry < 0)
        fail_msg("%s is not in %s", full, mmf_archive_path(c->archive));
    mmf_array wanted;
    assert_int_equal(mmf_archive_load(c->archive, (size_t)entry, &wanted), MMF_OK);
    assert_int_equal(mmf_array_count(&wanted), count);
    for (int64_t i = 0; i < count; i++) {
        const double w = mmf_array_number(&wanted, i);
        if (isnan(w) ? !isnan(values[i]) : !(fabs(values[i] - w) <= c->tolerance))
            fail_msg("%s of %s: element %lld is %.9g, expected %.9g", full,
                     mmf_archive_path(c->archive), (long long)i, values[i], w);
    }
    c->n_seen++;
}

/* Runs a file; false if the shared data is absent. */
static bool verify(const char *name)
{
    const char *const path = test_shared(name);
    if (!path)
        return false;
    mmf_ctx *const ctx = test_ctx();
    comparison c = {0};
    test_ok(ctx, mmf_archive_open(ctx, &c.archive, path, NULL));
    c.tolerance = strtod(mmf_archive_metadata(c.archive, "tolerance"), NULL);
    assert_true(c.tolerance > 0);
    mmf_named_array inputs[16];
    size_t n_inputs = 0, n_outputs = 0;
    for (size_t i = 0; i < mmf_archive_count(c.archive); i++) {
        const char *const entry = mmf_archive_name(c.archive, i);
        if (strncmp(entry, "input.", 6) == 0) {
            assert_true(n_inputs < 16);
            inputs[n_inputs].name = entry;
            test_ok(ctx, mmf_archive_load(c.archive, i, &inputs[n_inputs++].array));
        }
        n_outputs += strncmp(entry, "output.", 7) == 0;
    }
    test_ok(ctx, mmf_golden_metrics(ctx, mmf_archive_metadata(c.archive, "config"), inputs,
                                    n_inputs, compare, &c));
    assert_int_equal(c.n_seen, n_outputs);
    mmf_archive_close(c.archive);
    mmf_ctx_free(ctx);
    return true;
}

static void files(void **state)
{
    (void)state;
    const char *const names[] = {"msa", "msa-sims-range", "msa-constant", "classification",
                                 "robustness"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "golden/metrics/%s.safetensors", names[i]);
        if (!verify(path))
            skip();
    }
}

/* ---- Requests in memory ------------------------------------------------------------------ */

static mmf_named_array floats(const char *name, const float *data, int64_t n, int64_t columns)
{
    const mmf_array array = {.dtype = MMF_F32,
                             .n_dims = columns ? 2 : 1,
                             .shape = {n, columns},
                             .item_bytes = 4,
                             .data = data};
    return (mmf_named_array){name, array};
}

typedef struct last_value {
    char name[64];
    double value;
    size_t count;
} last_value;

/* Keeps the value of the output whose name was asked for. */
static void keep(void *user, const char *name, const double *values, int64_t count)
{
    last_value *const v = user;
    (void)count;
    v->count++;
    if (strcmp(v->name, name) == 0)
        v->value = values[0];
}

static void options_count(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const float p[] = {.9f, .6f, .3f, .2f}, y[] = {1, 1, 1, 0}, curve[] = {1, .5f, .25f};
    const mmf_named_array in[] = {floats("input.binary.probability", p, 4, 0),
                                  floats("binary.label", y, 4, 0)};
    last_value v = {.name = "binary.sensitivity"};
    test_ok(ctx, mmf_golden_metrics(ctx, "{\"kind\": \"classification\"}", in, 2, keep, &v));
    assert_true(fabs(v.value - 2.0 / 3) < 1e-12);
    assert_int_equal(v.count, 14);
    const char *const lower = "{\"kind\": \"classification\", \"threshold\": 0.25}";
    test_ok(ctx, mmf_golden_metrics(ctx, lower, in, 2, keep, &v));
    assert_true(v.value == 1);
    const char *const other = "{\"kind\": \"classification\", \"positive\": 0, \"threshold\": 0.7}";
    test_ok(ctx, mmf_golden_metrics(ctx, other, in, 2, keep, &v));
    assert_true(v.value == 1); /* one row of class 0, predicted 0 */
    last_value e = {.name = "binary.ece"};
    const char *const one = "{\"kind\": \"classification\", \"bins\": 1}";
    test_ok(ctx, mmf_golden_metrics(ctx, one, in, 2, keep, &e));
    assert_true(fabs(e.value - fabs(.75 - (.9 + .6 + .7 + .8) / 4)) < 1e-6);
    const mmf_named_array r[] = {floats("curve", curve, 3, 0), floats("late_fusion", curve, 3, 0)};
    last_value a = {.name = "relative"};
    test_ok(ctx,
            mmf_golden_metrics(ctx, "{\"kind\": \"robustness\", \"step\": 2}", r, 2, keep, &a));
    assert_true(fabs(a.value - 2 * (.75 + .375)) < 1e-12);
    mmf_ctx_free(ctx);
}

static void refusals(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const float x[] = {0, 1, 2, 3, 4, 5};
    const mmf_named_array short_label[] = {floats("prediction", x, 4, 0), floats("label", x, 3, 0)};
    const mmf_named_array classes[] = {floats("multiclass.label", x, 3, 0),
                                       floats("multiclass.probability", x, 3, 2)};
    const mmf_named_array curves[] = {floats("curve", x, 3, 2), floats("late_fusion", x, 3, 0)};
    mmf_named_array text = floats("prediction", x, 4, 0);
    text.array.dtype = MMF_STR;
    last_value v = {.name = ""};
    const struct {
        const char *config;
        const mmf_named_array *inputs;
        size_t n;
        mmf_status status;
        const char *piece;
    } rows[] = {
        {"{\"kind\": \"translation\"}", classes, 2, MMF_UNSUPPORTED, "retrieval"},
        {"{\"kind\": \"retrieval\"}", classes, 2, MMF_FORMAT, "input.similarity is missing"},
        {"{\"kind\": 3}", classes, 2, MMF_FORMAT, "kind"},
        {"[", classes, 2, MMF_FORMAT, "not JSON"},
        {NULL, classes, 2, MMF_FORMAT, "kind"},
        {"{\"kind\": \"msa\"}", classes, 2, MMF_FORMAT, "input.prediction is missing"},
        {"{\"kind\": \"msa\"}", short_label, 2, MMF_SHAPE, "input.label is (3)"},
        {"{\"kind\": \"msa\"}", &text, 1, MMF_DTYPE, "strings"},
        {"{\"kind\": \"classification\"}", classes, 2, MMF_ARG, "row 2 has class 2"},
        {"{\"kind\": \"classification\", \"bins\": 1.5}", classes, 2, MMF_FORMAT, "bins"},
        {"{\"kind\": \"classification\", \"bins\": \"x\"}", classes, 2, MMF_FORMAT, "bins"},
        {"{\"kind\": \"classification\", \"bins\": -2}", classes, 2, MMF_ARG, "-2 bins"},
        {"{\"kind\": \"robustness\"}", curves, 2, MMF_SHAPE, "2 levels"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        test_fails(ctx,
                   mmf_golden_metrics(ctx, rows[i].config, rows[i].inputs, rows[i].n, keep, &v),
                   rows[i].status, rows[i].piece);
    assert_int_equal(v.count, 0);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(options_count),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
