/*
 * test_model_file.c: damaged and lying model files: one clear error each, nothing leaked, never a
 * crash.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "train/training_data.h"

enum { MAX_TENSORS = 64, N_KEYS = 7 };

static const char *const keys[N_KEYS] = {"mmfuse", "model",  "config", "inputs",
                                         "task",   "record", "version"};

/* Everything of a file, to be changed and written again. Owned strings and data are the archive's.
 */
typedef struct parts {
    mmf_archive *archive;
    mmf_named_array arrays[MAX_TENSORS + 1];
    size_t n_arrays;
    mmf_metadata metadata[N_KEYS + 1];
    size_t n_metadata;
} parts;

static mmf_model *train_model(mmf_ctx *ctx, const char *name, const data_spec *spec)
{
    const mmf_train_options options = quick_options(1, 8);
    mmf_dataset *const dataset = data_open(ctx, spec, "model-file.npz");
    mmf_config *const config = quick_config(ctx, name, 4, "0");
    mmf_model *model = NULL;
    simple_split s;
    test_ok(ctx, mmf_train(ctx, &model, dataset, data_split(&s, 12, 4), name, config, &options));
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    return model;
}

static void write_model(mmf_ctx *ctx, const char *name, const char *path)
{
    const data_spec spec = {DATA_MIXED, 16, false, true, 0, 2};
    mmf_model *const model = train_model(ctx, name, &spec);
    test_ok(ctx, mmf_model_save(model, path));
    mmf_model_free(model);
}

static parts read_parts(mmf_ctx *ctx, const char *path)
{
    parts p = {0};
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    char copy[600];
    /* Model files have an extension of their own; the reader goes by it. */
    snprintf(copy, sizeof copy, "%s.safetensors", path);
    unlink(copy);
    assert_int_equal(link(path, copy), 0);
    test_ok(ctx, mmf_archive_open(ctx, &p.archive, copy, &options));
    assert_true(mmf_archive_count(p.archive) <= MAX_TENSORS);
    for (size_t i = 0; i < mmf_archive_count(p.archive); i++) {
        p.arrays[p.n_arrays].name = mmf_archive_name(p.archive, i);
        test_ok(ctx, mmf_archive_load(p.archive, i, &p.arrays[p.n_arrays++].array));
    }
    for (size_t k = 0; k < N_KEYS; k++) {
        const char *const value = mmf_archive_metadata(p.archive, keys[k]);
        assert_non_null(value);
        p.metadata[p.n_metadata++] = (mmf_metadata){keys[k], value};
    }
    return p;
}

static void must_not_load(mmf_ctx *ctx, const parts *p, mmf_status wanted, const char *piece)
{
    const char *const path = test_path("changed.mmf");
    mmf_model *model = NULL;
    const size_t live = mmf_ctx_memory(ctx).live_bytes;
    test_ok(ctx,
            mmf_safetensors_save(ctx, path, p->arrays, p->n_arrays, p->metadata, p->n_metadata));
    const mmf_status status = mmf_model_load(ctx, &model, path);
    test_fails(ctx, status, wanted, piece);
    test_fails(ctx, status, wanted, "changed.mmf");
    assert_null(model);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, live);
}

/* ---- Truncated and damaged bytes --------------------------------------------------------- */

static unsigned char *contents(const char *path, size_t *n_bytes)
{
    FILE *const file = fopen(path, "rb");
    struct stat info;
    assert_true(file && fstat(fileno(file), &info) == 0);
    *n_bytes = (size_t)info.st_size;
    unsigned char *const bytes = malloc(*n_bytes);
    assert_true(bytes && fread(bytes, 1, *n_bytes, file) == *n_bytes);
    fclose(file);
    return bytes;
}

static mmf_status load_bytes(mmf_ctx *ctx, mmf_model **out, const unsigned char *bytes, size_t n)
{
    const char *const path = test_path("bytes.mmf");
    FILE *const file = fopen(path, "wb");
    assert_true(file && fwrite(bytes, 1, n, file) == n);
    fclose(file);
    return mmf_model_load(ctx, out, path);
}

static void truncated_files_are_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    char *const path = strdup(test_path("whole.mmf"));
    size_t n = 0, header = 0;
    write_model(ctx, "joint-concat", path);
    unsigned char *const bytes = contents(path, &n);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | bytes[i];
    /* Each of the first bytes, then some of the header and of the data, and all but one. */
    for (size_t at = 0; at < n; at += at < 64 ? 1 : (at < header + 64 ? 37 : n / 97 + 1)) {
        mmf_model *model = NULL;
        test_fails(ctx, load_bytes(ctx, &model, bytes, at), MMF_FORMAT, "bytes.mmf");
    }
    mmf_model *model = NULL;
    test_fails(ctx, load_bytes(ctx, &model, bytes, n - 1), MMF_FORMAT, "bytes.mmf");
    test_ok(ctx, load_bytes(ctx, &model, bytes, n));
    mmf_model_free(model);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    free(bytes);
    free(path);
    mmf_ctx_free(ctx);
}

/* Bytes of the header changed one at a time: an error or a model, and never more memory than the
 * limit. */
static void damaged_headers_never_crash(void **state)
{
    (void)state;
    mmf_ctx_options o = MMF_CTX_OPTIONS_INIT;
    mmf_ctx *const plain = one_thread();
    mmf_ctx *ctx = NULL;
    char *const path = strdup(test_path("damaged.mmf"));
    size_t n = 0, n_loaded = 0, n_refused = 0, header = 0;
    o.memory_limit = (size_t)256 << 20;
    o.n_threads = 1;
    assert_int_equal(mmf_ctx_create(&ctx, &o), MMF_OK);
    write_model(plain, "late-stacking", path);
    unsigned char *const bytes = contents(path, &n);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | bytes[i];
    assert_true(header < n);
    mmf_rng rng = mmf_rng_make(5, 0);
    for (size_t at = 0; at < header + 8; at += at < 8 ? 1 : 1 + mmf_rng_below(&rng, 8)) {
        const unsigned char kept = bytes[at];
        static const unsigned char others[] = {'0', '9', '-', '"', '}', ' ', 0, 255};
        mmf_model *model = NULL;
        bytes[at] = others[mmf_rng_below(&rng, sizeof others)];
        const mmf_status status = load_bytes(ctx, &model, bytes, n);
        assert_true((status == MMF_OK) == (model != NULL));
        assert_true(status == MMF_OK || strstr(mmf_ctx_error(ctx), "bytes.mmf") ||
                    status == MMF_NOMEM);
        n_loaded += status == MMF_OK;
        n_refused += status != MMF_OK;
        mmf_model_free(model);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
        bytes[at] = kept;
    }
    printf("%zu damaged files were refused, %zu loaded (changed records and versions)\n", n_refused,
           n_loaded);
    assert_true(n_refused > 100);
    free(bytes);
    free(path);
    mmf_ctx_free(ctx);
    mmf_ctx_free(plain);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_model *model = NULL;
    test_fails(ctx, mmf_model_load(ctx, &model, test_path("nowhere.mmf")), MMF_IO, "nowhere.mmf");
    test_fails(ctx, mmf_model_load(ctx, &model, test_path("")), MMF_IO, "not a regular file");
    const data_spec spec = {DATA_VECTORS, 16, false, false, 0, 2};
    data_write(ctx, &spec, test_path("data.npz"));
    test_fails(ctx, mmf_model_load(ctx, &model, test_path("data.npz")), MMF_FORMAT, "data.npz");
    const float number = 1;
    const mmf_named_array one = {"x", floats(&number, 1, 0, 0, 0)};
    test_ok(ctx, mmf_safetensors_save(ctx, test_path("other.safetensors"), &one, 1, NULL, 0));
    test_fails(ctx, mmf_model_load(ctx, &model, test_path("other.safetensors")), MMF_FORMAT,
               "not a model file");
    assert_null(model);
    mmf_ctx_free(ctx);
}

/* ---- Tensors ----------------------------------------------------------------------------- */

static void tensors_must_be_the_models(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    char *const path = strdup(test_path("tensors.mmf"));
    write_model(ctx, "joint-concat", path);
    parts p = read_parts(ctx, path);
    for (size_t i = 0; i < p.n_arrays; i++) { /* each one missing */
        parts less = p;
        less.arrays[i] = less.arrays[--less.n_arrays];
        const bool half = strncmp(p.arrays[i].name, "normalisation.", 14) == 0;
        must_not_load(ctx, &less, MMF_FORMAT,
                      half ? "half of the normalisation of" : p.arrays[i].name);
    }
    for (size_t i = 0; i < p.n_arrays; i++) { /* each one of another shape, and of another rank */
        parts other = p;
        mmf_array *const a = &other.arrays[i].array;
        const int64_t count = mmf_array_count(a);
        if (a->shape[0] > 1) {
            a->shape[0]--;
            must_not_load(ctx, &other, MMF_FORMAT, p.arrays[i].name);
            a->shape[0]++;
        }
        a->shape[a->n_dims++] = 1;
        must_not_load(ctx, &other, MMF_FORMAT, p.arrays[i].name);
        *a = p.arrays[i].array;
        int64_t *const integers = calloc((size_t)count, sizeof *integers);
        assert_non_null(integers);
        a->dtype = MMF_I64;
        a->item_bytes = 8;
        a->data = integers;
        must_not_load(ctx, &other, MMF_FORMAT, p.arrays[i].name);
        free(integers);
    }
    parts more = p;
    more.arrays[more.n_arrays] = p.arrays[0];
    more.arrays[more.n_arrays++].name = "head.more";
    must_not_load(ctx, &more, MMF_FORMAT, "head.more");
    more.arrays[p.n_arrays].name = "normalisation.nothing.mean";
    must_not_load(ctx, &more, MMF_FORMAT, "normalisation.nothing.mean");
    mmf_archive_close(p.archive);
    free(path);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

/* Other float types hold the same model. */
static void tensors_may_be_doubles(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    char *const path = strdup(test_path("doubles.mmf"));
    write_model(ctx, "weighted", path);
    parts p = read_parts(ctx, path);
    double *owned[MAX_TENSORS];
    for (size_t i = 0; i < p.n_arrays; i++) {
        mmf_array *const a = &p.arrays[i].array;
        owned[i] = calloc((size_t)mmf_array_count(a), sizeof *owned[i]);
        assert_non_null(owned[i]);
        mmf_array_doubles(a, 0, mmf_array_count(a), owned[i]);
        *a = (mmf_array){.dtype = MMF_F64, .n_dims = a->n_dims, .item_bytes = 8, .data = owned[i]};
        memcpy(a->shape, mmf_archive_header(p.archive, i)->shape, sizeof a->shape);
    }
    mmf_model *one = NULL, *two = NULL;
    test_ok(ctx, mmf_safetensors_save(ctx, test_path("wide.mmf"), p.arrays, p.n_arrays, p.metadata,
                                      p.n_metadata));
    test_ok(ctx, mmf_model_load(ctx, &one, path));
    test_ok(ctx, mmf_model_load(ctx, &two, test_path("wide.mmf")));
    assert_same_weights("doubles", one, two);
    mmf_model_free(one);
    mmf_model_free(two);
    for (size_t i = 0; i < p.n_arrays; i++)
        free(owned[i]);
    mmf_archive_close(p.archive);
    free(path);
    mmf_ctx_free(ctx);
}

/* ---- Metadata ---------------------------------------------------------------------------- */

typedef struct lie {
    const char *key, *value; /* NULL: the key is missing */
    mmf_status status;
    const char *piece;
} lie;

#define INPUT(shape) "[{\"name\":\"a\",\"kind\":\"vector\",\"shape\":" shape "}]"
#define TWO_INPUTS                                                                                 \
    "[{\"name\":\"a\",\"kind\":\"vector\",\"shape\":[2]},{\"name\":\"a\",\"kind\":\"vector\","     \
    "\"shape\":[2]}]"

static const lie lies[] = {
    {"mmfuse", NULL, MMF_FORMAT, "not a model file"},
    {"mmfuse", "2", MMF_UNSUPPORTED, "newer mmfuse (layout 2)"},
    {"mmfuse", "", MMF_UNSUPPORTED, "layout"},
    {"model", NULL, MMF_UNSUPPORTED, "not in the catalogue"},
    {"model", "", MMF_UNSUPPORTED, "not in the catalogue"},
    {"model", "joint", MMF_UNSUPPORTED, "\"joint\" is not in the catalogue"},
    {"model", "only-row", MMF_ARG, "takes one modality"},
    {"model", "lmf", MMF_ARG, "lmf has no option"},
    {"config", "", MMF_FORMAT, "configuration"},
    {"config", "[]", MMF_FORMAT, "not an object"},
    {"config", "{\"hiden\": 3}", MMF_ARG, "did you mean \"hidden\""},
    {"config", "{\"hidden\": 0}", MMF_ARG, "1 to 8192"},
    {"config", "{\"hidden\": 3, \"num_classes\": 3}", MMF_FORMAT, "the model needs"},
    /* Refused before memory for it is taken. */
    {"config", "{\"hidden\": 8192, \"num_classes\": 3}", MMF_LIMIT, "elements allowed here"},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:8000\"]}", MMF_LIMIT,
     "elements allowed here"},
    {"config", "{\"hidden\": 4, \"num_classes\": 1000000}", MMF_FORMAT, "with 3 outputs"},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=gru\"]}", MMF_ARG, "mlp"},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:-1\"]}", MMF_ARG,
     "found \":-1\""},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:x\"]}", MMF_ARG,
     "NAME[:WIDTH]"},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:8:widht=9\"]}", MMF_ARG,
     "did you mean \"width\""},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:dropout=2\"]}", MMF_ARG,
     "0 to 0.95"},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:8:\"]}", MMF_ARG,
     "found \":\""},
    {"config", "{\"hidden\": 4, \"num_classes\": 3, \"encoder\": [\"row=mlp:8:=9\"]}", MMF_ARG,
     "found \":=9\""},
    {"inputs", NULL, MMF_FORMAT, "inputs are damaged"},
    {"inputs", "", MMF_FORMAT, "inputs are damaged"},
    {"inputs", "{}", MMF_FORMAT, "inputs are damaged"},
    {"inputs", "[]", MMF_FORMAT, "inputs are damaged"},
    {"inputs", "[1]", MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[0]"), MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[-3]"), MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[2,2]"), MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[9223372036854775807]"), MMF_FORMAT, "inputs are damaged"},
    {"inputs", "[{\"name\":\"a\",\"kind\":\"sequence\",\"shape\":[2000000000,2000000000]}]",
     MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[268435456]"), MMF_LIMIT, "elements allowed here"},
    {"inputs", INPUT("[268435457]"), MMF_FORMAT, "inputs are damaged"},
    {"inputs", "[{\"name\":\"a\",\"kind\":\"tokens\",\"shape\":[2],\"vocab\":0}]", MMF_FORMAT,
     "inputs are damaged"},
    {"inputs", "[{\"name\":\"a\",\"kind\":\"smell\",\"shape\":[2]}]", MMF_FORMAT,
     "inputs are damaged"},
    {"inputs", "[{\"kind\":\"vector\",\"shape\":[2]}]", MMF_FORMAT, "inputs are damaged"},
    {"inputs", INPUT("[2]"), MMF_FORMAT, "is missing"},
    {"inputs", TWO_INPUTS, MMF_INTERNAL, "declared twice"},
    {"task", NULL, MMF_FORMAT, "task is damaged"},
    {"task", "{}", MMF_FORMAT, "task is damaged"},
    {"task", "{\"kind\":\"guess\",\"outputs\":3,\"target\":\"label\"}", MMF_FORMAT,
     "task is damaged"},
    {"task", "{\"kind\":\"classification\",\"outputs\":0,\"target\":\"label\"}", MMF_FORMAT,
     "task is damaged"},
    {"task", "{\"kind\":\"classification\",\"outputs\":1000001,\"target\":\"label\"}", MMF_FORMAT,
     "task is damaged"},
    {"task", "{\"kind\":\"classification\",\"outputs\":3}", MMF_FORMAT, "task is damaged"},
    {"task", "{\"kind\":\"classification\",\"outputs\":3,\"target\":\"l\",\"classes\":[\"a\"]}",
     MMF_FORMAT, "task is damaged"},
    {"task", "{\"kind\":\"classification\",\"outputs\":3,\"target\":\"l\",\"classes\":[1,2,3]}",
     MMF_FORMAT, "task is damaged"},
    /* What the head puts out is not what the task says: reading predictions would overrun. */
    {"task", "{\"kind\":\"classification\",\"outputs\":5,\"target\":\"label\"}", MMF_FORMAT,
     "task"},
    {"task", "{\"kind\":\"classification\",\"outputs\":2,\"target\":\"label\"}", MMF_FORMAT,
     "task"},
    {"task", "{\"kind\":\"regression\",\"outputs\":1,\"target\":\"label\"}", MMF_FORMAT, "task"},
    {"task", "{\"kind\":\"regression\",\"outputs\":3,\"target\":\"label\"}", MMF_FORMAT, "task"},
    {"config", "{\"hidden\": 4, \"train_mode\": \"regression\"}", MMF_FORMAT, "regression with 1"},
};

static void metadata_must_be_true(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    char *const path = strdup(test_path("lies.mmf"));
    write_model(ctx, "joint-concat", path);
    parts p = read_parts(ctx, path);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        parts changed = p;
        for (size_t k = 0; k < changed.n_metadata; k++) {
            if (strcmp(changed.metadata[k].key, lies[i].key) != 0)
                continue;
            if (lies[i].value)
                changed.metadata[k].value = lies[i].value;
            else
                changed.metadata[k] = changed.metadata[--changed.n_metadata];
            break;
        }
        must_not_load(ctx, &changed, lies[i].status, lies[i].piece);
    }
    mmf_archive_close(p.archive);
    free(path);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

/* A record is told as it is; without one the model still predicts. */
static void records_are_only_told(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    char *const path = strdup(test_path("records.mmf"));
    mmf_model *model = NULL;
    write_model(ctx, "joint-concat", path);
    parts p = read_parts(ctx, path);
    for (size_t k = 0; k < p.n_metadata; k++) {
        if (strcmp(p.metadata[k].key, "record") == 0)
            p.metadata[k] = p.metadata[--p.n_metadata];
    }
    test_ok(ctx, mmf_safetensors_save(ctx, test_path("bare.mmf"), p.arrays, p.n_arrays, p.metadata,
                                      p.n_metadata));
    test_ok(ctx, mmf_model_load(ctx, &model, test_path("bare.mmf")));
    assert_string_equal(mmf_model_record(model), "{}");
    mmf_model_free(model);
    mmf_archive_close(p.archive);
    free(path);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(damaged_headers_never_crash),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(tensors_must_be_the_models),
        cmocka_unit_test(tensors_may_be_doubles),
        cmocka_unit_test(metadata_must_be_true),
        cmocka_unit_test(records_are_only_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
