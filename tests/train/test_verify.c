/*
 * test_verify.c: every golden file whose model is in the catalogue must agree; damaged copies must
 * not.
 */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>

#include "mmfuse/io.h"
#include "mmfuse/model.h"
#include "mmfuse/tool.h"
#include "support.h"

/* Fewer would mean that the files were not found. */
#define LEAST_FILES 25

typedef struct tally {
    int n_passed, n_failed, n_unknown;
    int n_lines, n_bad_lines;
    char first_bad[200];
} tally;

static void watch(void *user, const mmf_verify_line *line)
{
    tally *const t = user;
    t->n_lines++;
    if (line->passed)
        return;
    if (t->n_bad_lines++ == 0)
        snprintf(t->first_bad, sizeof t->first_bad, "%s %s", line->name,
                 line->problem ? line->problem : "differs");
}

/* Metrics that are not computed yet say so themselves; a model is known when it has a row. */
static bool is_known(mmf_ctx *ctx, const char *path)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    const char *const model = mmf_archive_metadata(archive, "model");
    assert_non_null(model);
    const bool known = strcmp(model, "metrics") == 0 || mmf_definition_find(model);
    mmf_archive_close(archive);
    return known;
}

static void verify_file(mmf_ctx *ctx, const char *path, tally *t)
{
    bool passed = false;
    if (!is_known(ctx, path)) {
        t->n_unknown++;
        return;
    }
    t->n_lines = t->n_bad_lines = 0;
    const mmf_status status = mmf_verify(ctx, path, watch, t, &passed);
    if (status == MMF_UNSUPPORTED && strstr(path, "/metrics/")) {
        t->n_unknown++;
        return;
    }
    if (status != MMF_OK)
        fprintf(stderr, "%s\n", mmf_ctx_error(ctx));
    else if (!passed)
        fprintf(stderr, "%s: %s\n", path, t->first_bad);
    assert_true(!passed || t->n_lines > 0);
    *(passed ? &t->n_passed : &t->n_failed) += 1;
}

static void verify_folder(mmf_ctx *ctx, const char *folder, tally *t)
{
    DIR *const dir = opendir(folder);
    if (!dir)
        return;
    for (const struct dirent *entry = NULL; (entry = readdir(dir));) {
        char path[2048];
        const char *const dot = strrchr(entry->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (dot && strcmp(dot, ".safetensors") == 0)
            verify_file(ctx, path, t);
    }
    closedir(dir);
}

static void verify_all(const char *root, mmf_cpu level)
{
    assert_int_equal(setenv("MMFUSE_CPU", mmf_cpu_name(level), 1), 0);
    mmf_ctx *const ctx = test_ctx();
    tally t = {0};
    DIR *const dir = opendir(root);
    assert_non_null(dir);
    for (const struct dirent *entry = NULL; (entry = readdir(dir));) {
        char folder[800];
        snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name);
        if (entry->d_name[0] != '.')
            verify_folder(ctx, folder, &t);
    }
    closedir(dir);
    fprintf(stderr, "golden files, %s: %d agree, %d differ, %d of models not in the catalogue\n",
            mmf_cpu_name(level), t.n_passed, t.n_failed, t.n_unknown);
    assert_int_equal(t.n_failed, 0);
    assert_true(t.n_passed >= LEAST_FILES);
    mmf_ctx_free(ctx);
}

/* By the kernels of every processor level: the environment caps them. */
static void golden_files_of_the_catalogue_agree(void **state)
{
    (void)state;
    const char *const shared = test_shared("golden");
    if (!shared)
        skip();
    char root[512];
    snprintf(root, sizeof root, "%s", shared);
    for (int level = 0; level <= MMF_CPU_AVX512; level++)
        verify_all(root, (mmf_cpu)level);
    unsetenv("MMFUSE_CPU");
}

/* ---- Damaged copies ---------------------------------------------------------------------- */

typedef struct blob {
    char *bytes;
    size_t size;
} blob;

static blob read_blob(const char *path)
{
    blob b = {0};
    FILE *const file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    b.size = (size_t)ftell(file);
    rewind(file);
    b.bytes = malloc(b.size + 1);
    assert_non_null(b.bytes);
    assert_int_equal(fread(b.bytes, 1, b.size, file), b.size);
    b.bytes[b.size] = '\0';
    fclose(file);
    return b;
}

/* Place in the header of the entry whose name begins with `prefix`. */
static char *entry_of(const blob *b, const char *prefix)
{
    char quoted[100];
    snprintf(quoted, sizeof quoted, "\"%s", prefix);
    char *const at = memmem(b->bytes, b->size, quoted, strlen(quoted));
    assert_non_null(at);
    return at + 1;
}

/* Moves the first float of an entry by one. */
static void change_value(const blob *b, const char *prefix)
{
    uint64_t header = 0;
    memcpy(&header, b->bytes, sizeof header);
    char *const offsets = strstr(entry_of(b, prefix), "\"data_offsets\"");
    assert_non_null(offsets);
    char *const data =
        b->bytes + sizeof header + header + strtoull(strchr(offsets, '[') + 1, NULL, 10);
    float value = 0;
    memcpy(&value, data, sizeof value);
    value += 1;
    memcpy(data, &value, sizeof value);
}

static const char *write_blob(const blob *b)
{
    const char *const path = test_path("damaged.safetensors");
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(b->bytes, 1, b->size, file), b->size);
    fclose(file);
    return path;
}

static void assert_fails(mmf_ctx *ctx, const blob *b, const char *bad_line)
{
    const char *const path = write_blob(b);
    tally t = {0};
    bool passed = true;
    test_ok(ctx, mmf_verify(ctx, path, watch, &t, &passed));
    assert_false(passed);
    if (!strstr(t.first_bad, bad_line))
        fail_msg("expected a complaint about \"%s\", got \"%s\"", bad_line, t.first_bad);
}

static void damaged_copies_differ(void **state)
{
    (void)state;
    const char *const original = test_shared("golden/lmf/regression.safetensors");
    if (!original)
        skip();
    mmf_ctx *const ctx = test_ctx();
    static const struct {
        const char *change, *rename, *bad_line;
    } cases[] = {
        {"output.prediction", NULL, "output.prediction differs"},
        {"grad.fusion_weights", NULL, "grad.fusion_weights differs"},
        {"weight.fusion_weights", NULL, "differs"},
        {NULL, "weight.fusion_bias", "weight.fusion_bias is not in the file"},
        {NULL, "output.prediction", "is not an output of the model"},
        {NULL, "grad.fusion_bias", "is not a parameter"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const blob b = read_blob(original);
        if (cases[i].change)
            change_value(&b, cases[i].change);
        else /* the last letter of the name */
            entry_of(&b, cases[i].rename)[strlen(cases[i].rename) - 1] = '_';
        assert_fails(ctx, &b, cases[i].bad_line);
        free(b.bytes);
    }
    mmf_ctx_free(ctx);
}

/* The references ran without dropout, whatever their configuration says. */
static void dropout_of_the_configuration_is_left_out(void **state)
{
    (void)state;
    const char *const original = test_shared("golden/ef-lstm/train-batchnorm.safetensors");
    if (!original)
        skip();
    mmf_ctx *const ctx = test_ctx();
    const blob b = read_blob(original);
    char *const rate = memmem(b.bytes, b.size, "dropout\\\": 0.0", strlen("dropout\\\": 0.0"));
    assert_non_null(rate);
    rate[strlen("dropout\\\": 0.")] = '5';
    const char *const path = write_blob(&b);
    tally t = {0};
    bool passed = false;
    test_ok(ctx, mmf_verify(ctx, path, watch, &t, &passed));
    assert_true(passed);
    free(b.bytes);
    mmf_ctx_free(ctx);
}

/* A weight that is one here, under both names of the file. */
static void names_of_one_weight_must_agree(void **state)
{
    (void)state;
    const char *const original = test_shared("golden/mutan/normalized-shared.safetensors");
    if (!original)
        skip();
    mmf_ctx *const ctx = test_ctx();
    const blob b = read_blob(original);
    bool passed = true;
    change_value(&b, "weight.linear1.weight");
    test_fails(ctx, mmf_verify(ctx, write_blob(&b), NULL, NULL, &passed), MMF_FORMAT,
               "different values");
    free(b.bytes);
    mmf_ctx_free(ctx);
}

static void files_that_are_not_golden_are_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    bool passed = true;
    const char *const path = test_path("plain.safetensors");
    const float values[2] = {1, 2};
    const mmf_named_array array = {"input.x", {MMF_F32, 1, {2}, 4, values}};
    test_ok(ctx, mmf_safetensors_save(ctx, path, &array, 1, NULL, 0));
    test_fails(ctx, mmf_verify(ctx, path, NULL, NULL, &passed), MMF_FORMAT, "names no model");
    assert_false(passed);
    mmf_ctx_free(ctx);
}

/* ---- Files of our own -------------------------------------------------------------------- */

/* The mean of two predictions (2, 3), with the gradients of the sum of cotangent times output. */
typedef struct own_file {
    float a[6], b[6], output[6], cotangent[6], gradient[6];
    int64_t shape[2]; /* of the output */
    mmf_metadata metadata[5];
    bool without_cotangent;
} own_file;

static own_file mean_of_two(void)
{
    own_file f = {.a = {.5f, .25f, .25f, .125f, .75f, .125f},
                  .b = {.25f, .5f, .25f, .125f, .125f, .75f},
                  .cotangent = {1, -2, 3, .5f, 0, 2},
                  .shape = {2, 3},
                  .metadata = {{"model", "late"},
                               {"config", "{\"rule\": \"mean\", \"modalities\": [\"a\", \"b\"]}"},
                               {"loss", "sum(output.output * cotangent)"},
                               {"tolerance", "0.0001"},
                               {"zero_gradients", "[]"}}};
    for (int i = 0; i < 6; i++) {
        f.output[i] = (f.a[i] + f.b[i]) / 2;
        f.gradient[i] = f.cotangent[i] / 2;
    }
    return f;
}

static mmf_status verify_own(mmf_ctx *ctx, const own_file *f, tally *t, bool *passed)
{
    const char *const path = test_path("own.safetensors");
    mmf_named_array arrays[] = {
        {"input.a", {MMF_F32, 2, {2, 3}, 4, f->a}},
        {"input.b", {MMF_F32, 2, {2, 3}, 4, f->b}},
        {"output.output", {MMF_F32, 2, {f->shape[0], f->shape[1]}, 4, f->output}},
        {"grad.input.a", {MMF_F32, 2, {2, 3}, 4, f->gradient}},
        {"cotangent", {MMF_F32, 2, {2, 3}, 4, f->cotangent}}};
    *t = (tally){0};
    test_ok(ctx,
            mmf_safetensors_save(ctx, path, arrays, f->without_cotangent ? 4 : 5, f->metadata, 5));
    return mmf_verify(ctx, path, watch, t, passed);
}

static void what_is_stored_is_held_to(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    tally t;
    bool passed = false;
    own_file f = mean_of_two();
    test_ok(ctx, verify_own(ctx, &f, &t, &passed));
    assert_true(passed && t.n_lines == 2);

    f.output[0] = INFINITY; /* which must not widen what the others may be off by */
    f.output[1] += 1;
    test_ok(ctx, verify_own(ctx, &f, &t, &passed));
    assert_false(passed);

    f = mean_of_two();
    f.shape[0] = 3;
    f.shape[1] = 2;
    test_ok(ctx, verify_own(ctx, &f, &t, &passed));
    assert_false(passed);
    assert_non_null(strstr(t.first_bad, "has shape (3, 2), ours has (2, 3)"));

    f = mean_of_two();
    f.metadata[2].value = "none";
    test_ok(ctx, verify_own(ctx, &f, &t, &passed));
    assert_false(passed);
    assert_non_null(strstr(t.first_bad, "loss names no output"));
    mmf_ctx_free(ctx);
}

/* Of a group that no row is in, a reference may have an output without rows. */
static void outputs_without_elements_are_no_outputs(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const own_file f = mean_of_two();
    const char *const path = test_path("empty.safetensors");
    for (int64_t rows = 0; rows < 2; rows++) {
        const mmf_named_array arrays[] = {{"input.a", {MMF_F32, 2, {2, 3}, 4, f.a}},
                                          {"input.b", {MMF_F32, 2, {2, 3}, 4, f.b}},
                                          {"output.output", {MMF_F32, 2, {2, 3}, 4, f.output}},
                                          {"output.none", {MMF_F32, 2, {rows, 3}, 4, f.a}},
                                          {"cotangent", {MMF_F32, 2, {2, 3}, 4, f.cotangent}}};
        tally t = {0};
        bool passed = false;
        test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, 5, f.metadata, 5));
        test_ok(ctx, mmf_verify(ctx, path, watch, &t, &passed));
        assert_true(passed == (rows == 0));
    }
    mmf_ctx_free(ctx);
}

/* References keep weights that nothing reads; one that is read has a gradient. */
static void weights_that_nothing_reads_may_be_stored(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const own_file f = mean_of_two();
    const char *const path = test_path("unused.safetensors");
    const mmf_named_array arrays[] = {{"input.a", {MMF_F32, 2, {2, 3}, 4, f.a}},
                                      {"input.b", {MMF_F32, 2, {2, 3}, 4, f.b}},
                                      {"output.output", {MMF_F32, 2, {2, 3}, 4, f.output}},
                                      {"weight.unused", {MMF_F32, 2, {2, 3}, 4, f.a}},
                                      {"cotangent", {MMF_F32, 2, {2, 3}, 4, f.cotangent}},
                                      {"grad.unused", {MMF_F32, 2, {2, 3}, 4, f.gradient}}};
    for (size_t n = 5; n <= 6; n++) {
        tally t = {0};
        bool passed = n == 6;
        test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, n, f.metadata, 5));
        test_ok(ctx, mmf_verify(ctx, path, watch, &t, &passed));
        assert_true(passed == (n == 5));
    }
    mmf_ctx_free(ctx);
}

static void metadata_must_make_sense(void **state)
{
    (void)state;
    static const struct {
        int place;
        const char *value, *piece;
    } cases[] = {{3, "small", "tolerance \"small\""},
                 {3, "-1", "tolerance"},
                 {3, "inf", "tolerance"},
                 {4, "grad.input.a", "zero_gradients"},
                 {2, "sum(output.none * cotangent)", "\"none\" is not computed"}};
    mmf_ctx *const ctx = test_ctx();
    tally t;
    bool passed = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        own_file f = mean_of_two();
        f.metadata[cases[i].place].value = cases[i].value;
        test_fails(ctx, verify_own(ctx, &f, &t, &passed), MMF_FORMAT, cases[i].piece);
    }
    own_file f = mean_of_two();
    f.without_cotangent = true;
    test_fails(ctx, verify_own(ctx, &f, &t, &passed), MMF_FORMAT, "no cotangent for output.output");
    mmf_ctx_free(ctx);
}

/* Metrics are held to an absolute error, but not to less than a float can say. */
static void a_large_metric_is_as_near_as_its_type(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("metric.safetensors");
    const float curve[] = {-2266.25f, 1.5f, 3.25f, 900.125f}, late[] = {1, 2, 3, 4};
    const float relative =
        (float)(0.1 * ((-2266.25 + 1.5) / 2 + (1.5 + 3.25) / 2 + (3.25 + 900.125) / 2));
    const mmf_metadata metadata[] = {{"model", "metrics"},
                                     {"config", "{\"kind\": \"robustness\", \"step\": 0.1}"},
                                     {"tolerance", "1e-06"}};
    float stored = relative;
    const mmf_named_array arrays[] = {{"input.curve", {MMF_F32, 2, {1, 4}, 4, curve}},
                                      {"input.late_fusion", {MMF_F32, 1, {4}, 4, late}},
                                      {"output.relative", {MMF_F32, 1, {1}, 4, &stored}}};
    for (int far = 0; far < 2; far++) {
        bool passed = false;
        stored = far ? relative + 0.001f : relative;
        test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, 3, metadata, 3));
        test_ok(ctx, mmf_verify(ctx, path, NULL, NULL, &passed));
        assert_true(passed == !far);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files_of_the_catalogue_agree),
        cmocka_unit_test(damaged_copies_differ),
        cmocka_unit_test(dropout_of_the_configuration_is_left_out),
        cmocka_unit_test(names_of_one_weight_must_agree),
        cmocka_unit_test(files_that_are_not_golden_are_refused),
        cmocka_unit_test(what_is_stored_is_held_to),
        cmocka_unit_test(outputs_without_elements_are_no_outputs),
        cmocka_unit_test(weights_that_nothing_reads_may_be_stored),
        cmocka_unit_test(metadata_must_make_sense),
        cmocka_unit_test(a_large_metric_is_as_near_as_its_type),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
