/* test_dataset_errors.c: each way a file or an option can be wrong gives one message that names the
 * file, the key and the row. */
#include "data_builder.h"

#include <math.h>

enum { N = 5 };

static const float vec[N * 3] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
static const float seq[N * 2 * 3] = {1};
static const int32_t tok[N * 3] = {1, 2, 3};
static const int32_t label[N] = {0, 1, 2, 0, 1};
static const char texts5[N][8] = {"a", "b", "c", "d", "e"};

static builder base_file(void)
{
    builder b = {.n = 0};
    put(&b, "audio", floats(vec, N, 3, 0, 0));
    put(&b, "video", floats(seq, N, 2, 3, 0));
    put(&b, "question", ints(tok, N, 3));
    put(&b, "label", ints(label, N, 0));
    return b;
}

/* The message must name the file as well. */
static void fails_with(const char *key, mmf_array array, const mmf_dataset_options *o,
                       mmf_status wanted, const char *row, const char *what)
{
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, key, array);
    char quoted[64];
    snprintf(quoted, sizeof quoted, "built.npz: array \"%s\"", key);
    must_fail(ctx, &b, o, wanted, quoted, row, what);
    mmf_ctx_free(ctx);
}

static void test_lengths(void **state)
{
    (void)state;
    static const int32_t beyond[N] = {2, 1, 3, 0, 2}, negative[N] = {2, 1, 0, 0, -1};
    static const float half[N] = {2, 1.5f, 0, 0, 1};
    fails_with("video.length", ints(beyond, N, 0), NULL, MMF_FORMAT, "row 2", "[0, 2], found 3");
    fails_with("video.length", ints(negative, N, 0), NULL, MMF_FORMAT, "row 4", "found -1");
    fails_with("video.length", floats(half, N, 0, 0, 0), NULL, MMF_FORMAT, "row 1", "found 1.5");
    fails_with("video.length", ints(beyond, 3, 0), NULL, MMF_FORMAT, "3 rows", "\"label\" has 5");
    fails_with("video.length", texts(texts5, N), NULL, MMF_FORMAT, "numbers", "found text");
    fails_with("video.length", ints(tok, N, 3), NULL, MMF_FORMAT, "shape (5)", "found (5, 3)");
}

static void test_present_index_split(void **state)
{
    (void)state;
    static const int32_t two[N] = {1, 0, 1, 2, 0}, index[N] = {0, 4, 5, 1, 1};
    static const int32_t below[N] = {0, -1, 0, 0, 0}, split[N] = {0, 1, 2, 3, 0};
    static const uint64_t huge[N] = {0, UINT64_MAX, 0, 0, 0};
    fails_with("audio.present", ints(two, N, 0), NULL, MMF_FORMAT, "row 3", "found 2");
    fails_with("audio.index", ints(index, N, 0), NULL, MMF_FORMAT, "row 2", "[0, 4], found 5");
    fails_with("audio.index", ints(below, N, 0), NULL, MMF_FORMAT, "row 1", "found -1");
    fails_with("audio.index", numbers(MMF_U64, huge, N, 0, 0, 0), NULL, MMF_FORMAT, "row 1",
               "[0, 4]");
    fails_with("split", ints(split, N, 0), NULL, MMF_FORMAT, "row 3",
               "2 (test) in [0, 2], found 3");
    fails_with("split", ints(split, 3, 0), NULL, MMF_FORMAT, "3 rows", "\"label\" has 5");
    fails_with("group", ints(split, 4, 0), NULL, MMF_FORMAT, "4 rows", "\"label\" has 5");
    fails_with("group", floats((float[N]){0, 0, NAN, 0, 0}, N, 0, 0, 0), NULL, MMF_FORMAT, "row 2",
               "nan");
    fails_with("id", texts(texts5, 2), NULL, MMF_FORMAT, "2 rows", "\"label\" has 5");
}

static void test_counts(void **state)
{
    (void)state;
    fails_with("audio", floats(vec, 4, 3, 0, 0), NULL, MMF_FORMAT, "4 rows", "\"label\" has 5");
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, "label", ints(label, 4, 0));
    must_fail(ctx, &b, NULL, MMF_FORMAT, "\"audio\"", "5 rows", "\"label\" has 4");
    /* An array that was not chosen does not matter. */
    b = base_file();
    put(&b, "audio", floats(vec, 4, 3, 0, 0));
    const mmf_dataset_options o = options_of("video", NULL, NULL, NULL);
    mmf_dataset_close(open_built(ctx, &b, &o));
    mmf_ctx_free(ctx);
}

static void test_tokens_and_names(void **state)
{
    (void)state;
    static const int32_t negative[N * 3] = {0, 1, 2, 0, 0, 0, 0, -4, 0};
    static const int32_t wild[N * 3] = {0, 0, 0, 0, 1 << 24};
    const mmf_dataset_options o = options_of(NULL, "question=tokens", NULL, NULL);
    fails_with("question", ints(negative, N, 3), &o, MMF_FORMAT, "row 2", "token -4");
    fails_with("question", ints(wild, N, 3), &o, MMF_FORMAT, "row 1", "token 16777216");
    fails_with("question.vocab", ints(tok, 3, 0), NULL, MMF_FORMAT, "list of texts", "int32");
    fails_with("audio.names", texts(texts5, 2), NULL, MMF_FORMAT, "2 names", "3 features");
    fails_with("audio.names", ints(tok, 3, 0), NULL, MMF_FORMAT, "list of texts", "int32");
    const mmf_dataset_options on_floats = options_of(NULL, "audio=tokens", NULL, NULL);
    fails_with("audio", floats(vec, N, 3, 0, 0), &on_floats, MMF_ARG, "whole numbers",
               "float32 of shape (5, 3)");
    const mmf_dataset_options on_image = options_of(NULL, "audio=sequence", NULL, NULL);
    fails_with("audio", floats(vec, N, 1, 1, 3), &on_image, MMF_ARG, "sequence", "(5, 1, 1, 3)");
}

static void test_class_values(void **state)
{
    (void)state;
    static const int32_t negative[N] = {0, 1, -1, 0, 1}, four[N] = {0, 1, 2, 4, 1};
    static const int32_t wild[N] = {0, 1, 1000000, 0, 1};
    static const char names[3][8] = {"x", "y", "z"};
    fails_with("label", ints(negative, N, 0), NULL, MMF_FORMAT, "row 2", "-1 is no class");
    fails_with("label", ints(wild, N, 0), NULL, MMF_FORMAT, "row 2", "class 1000000");
    fails_with("label", floats((float[N]){0, 1, .5f, 1, 0}, N, 0, 0, 0),
               &(mmf_dataset_options){.task = "classification"}, MMF_FORMAT, "row 2", "0.5");
    fails_with("label", floats((float[N]){0, NAN, .5f, 1, 0}, N, 0, 0, 0), NULL, MMF_NUMERIC,
               "row 1", "nan");
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, "label", ints(four, N, 0));
    put(&b, "label.names", texts(names, 3));
    must_fail(ctx, &b, NULL, MMF_FORMAT, "\"label\", row 3", "class 4", "3 classes of");
    put(&b, "label.names", ints(label, 3, 0));
    must_fail(ctx, &b, NULL, MMF_FORMAT, "\"label.names\"", "list of texts", "");
    mmf_ctx_free(ctx);
}

static void test_columns_of_targets(void **state)
{
    (void)state;
    static const float mixed[N * 2] = {1, 1, 0, 1, .5f, 0, 1, 1};
    static const float above[N * 2] = {1, 1, 0, 1, 1, 0, 1, 1.5f};
    static const char names[3][8] = {"x", "y", "z"};
    const mmf_array array = floats(mixed, N, 2, 0, 0);
    fails_with("label", array, NULL, MMF_ARG, "2 columns", "--task multilabel");
    fails_with("label", array, &(mmf_dataset_options){.task = "multilabel"}, MMF_FORMAT, "row 2",
               "column 0 holds 0.5");
    fails_with("label", floats(above, N, 2, 0, 0), &(mmf_dataset_options){.task = "soft"},
               MMF_FORMAT, "row 3", "column 1 holds 1.5");
    fails_with("label", array, &(mmf_dataset_options){.task = "regression"}, MMF_ARG, "2 columns",
               "one number");
    fails_with("label", ints(label, N, 0), &(mmf_dataset_options){.task = "multilabel"}, MMF_ARG,
               "shape (N, C)", "(5)");
    fails_with("label", floats(seq, N, 2, 3, 0), NULL, MMF_ARG, "(N) or (N, C)", "(5, 2, 3)");
    fails_with("label", texts(texts5, N), NULL, MMF_ARG, "text", "label.names");
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, "label", array);
    put(&b, "label.names", texts(names, 3));
    must_fail(ctx, &b, &(mmf_dataset_options){.task = "soft"}, MMF_FORMAT, "\"label.names\"",
              "3 names", "2 columns");
    mmf_ctx_free(ctx);
}

static void option_fails(const mmf_dataset_options *o, const char *first, const char *second)
{
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, "note", texts(texts5, N));
    put(&b, "genotype", ints(label, N, 0));
    must_fail(ctx, &b, o, MMF_ARG, first, second, "");
    mmf_ctx_free(ctx);
}

static void test_options(void **state)
{
    (void)state;
    mmf_dataset_options o = options_of("audoi", NULL, NULL, NULL);
    option_fails(&o, "no modality \"audoi\"", "did you mean \"audio\"");
    o = options_of("smell", NULL, NULL, NULL);
    option_fails(&o, "no modality \"smell\"", "audio, video, question");
    o = options_of("audio,note", NULL, NULL, NULL);
    option_fails(&o, "\"note\"", "no modality");
    o = options_of("audio,label", NULL, NULL, NULL);
    option_fails(&o, "\"label\"", "not the target");
    o = options_of("audio,audio", NULL, NULL, NULL);
    option_fails(&o, "\"audio\"", "twice");
    o = options_of("", NULL, NULL, NULL);
    option_fails(&o, "modalities", "names");
    o = options_of("audio,,video", NULL, NULL, NULL);
    option_fails(&o, "modalities", "names");
    o = options_of(NULL, "qestion=tokens", NULL, NULL);
    option_fails(&o, "no modality \"qestion\"", "did you mean \"question\"");
    o = options_of(NULL, "question=token", NULL, NULL);
    option_fails(&o, "\"token\"", "did you mean \"tokens\"");
    o = options_of(NULL, "question", NULL, NULL);
    option_fails(&o, "NAME=KIND", "question");
    o = options_of(NULL, NULL, "genotpye", NULL);
    option_fails(&o, "no target \"genotpye\"", "did you mean \"genotype\"");
    o = options_of(NULL, NULL, "something", NULL);
    option_fails(&o, "no target \"something\"", "label, genotype");
    o = options_of(NULL, NULL, NULL, "clasification");
    option_fails(&o, "\"clasification\"", "did you mean \"classification\"");
}

static void test_empty_files(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = {.n = 0};
    put(&b, "label", ints(label, N, 0));
    must_fail(ctx, &b, NULL, MMF_FORMAT, "built.npz", "no modality", "(N, d)");
    put(&b, "audio",
        (mmf_array){.dtype = MMF_F32, .item_bytes = 4, .n_dims = 2, .shape = {N, 0}, .data = vec});
    must_fail(ctx, &b, NULL, MMF_FORMAT, "\"audio\"", "(5, 0)", "empty dimension");
    put(&b, "audio",
        (mmf_array){.dtype = MMF_F32, .item_bytes = 4, .n_dims = 2, .shape = {0, 3}, .data = vec});
    must_fail(ctx, &b, NULL, MMF_FORMAT, "\"audio\"", "0 rows", "\"label\" has 5");
    put(&b, "label",
        (mmf_array){.dtype = MMF_I32, .item_bytes = 4, .n_dims = 1, .shape = {0}, .data = label});
    must_fail(ctx, &b, NULL, MMF_ARG, "\"label\"", "not empty", "(0)");
    builder only = {.n = 0};
    put(&only, "audio", b.arrays[1].array);
    must_fail(ctx, &only, &(mmf_dataset_options){.target_optional = true}, MMF_FORMAT, "\"audio\"",
              "no rows", "");
    mmf_dataset *ds = NULL;
    test_fails(ctx, mmf_dataset_open(ctx, &ds, test_path("absent.npz"), NULL), MMF_IO,
               "absent.npz");
    mmf_ctx_free(ctx);
}

static void remember(void *user, mmf_log_level level, const char *text)
{
    if (level == MMF_LOG_WARNING)
        snprintf(user, 512, "%s", text);
}

/* Lengths beside an array that is read as a vector hint at a forgotten option. */
static void test_ignored_lengths_are_said(void **state)
{
    (void)state;
    char heard[512] = "";
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.log = remember;
    options.log_user = heard;
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    builder b = base_file();
    put(&b, "question.length", ints(label, N, 0));
    mmf_dataset_close(open_built(ctx, &b, NULL));
    assert_non_null(strstr(heard, "--kind question=tokens"));
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_present_index_split),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_tokens_and_names),
        cmocka_unit_test(test_class_values),
        cmocka_unit_test(test_columns_of_targets),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_ignored_lengths_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
