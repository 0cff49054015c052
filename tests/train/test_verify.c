/*
 * test_verify.c: every golden file whose model is in the catalogue must agree; damaged copies must
 * not.
 */
#include <dirent.h>
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

static void golden_files_of_the_catalogue_agree(void **state)
{
    (void)state;
    const char *const shared = test_shared("golden");
    if (!shared)
        skip();
    char root[512];
    snprintf(root, sizeof root, "%s", shared);
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
    fprintf(stderr, "golden files: %d agree, %d differ, %d of models not in the catalogue\n",
            t.n_passed, t.n_failed, t.n_unknown);
    assert_int_equal(t.n_failed, 0);
    assert_true(t.n_passed >= LEAST_FILES);
    mmf_ctx_free(ctx);
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

static void assert_fails(mmf_ctx *ctx, const blob *b, const char *bad_line)
{
    const char *const path = test_path("damaged.safetensors");
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(b->bytes, 1, b->size, file), b->size);
    fclose(file);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files_of_the_catalogue_agree),
        cmocka_unit_test(damaged_copies_differ),
        cmocka_unit_test(files_that_are_not_golden_are_refused),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
