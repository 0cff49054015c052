/*
 * training_data.h: small data files whose every modality knows the target, and quick training; for
 * the tests of training, resuming, faults and model files.
 */
#ifndef MMFUSE_TESTS_TRAINING_DATA_H
#define MMFUSE_TESTS_TRAINING_DATA_H

#include <stdlib.h>

#include "data/data_builder.h"
#include "mmfuse/train.h"

enum { N_CLASSES = 3, MAX_ROWS = 192 };

typedef enum data_kind {
    DATA_VECTORS,
    DATA_SEQUENCES,
    DATA_MIXED,
    DATA_TRIO,
    N_DATA_KINDS
} data_kind;

typedef struct data_spec {
    data_kind kind;
    int64_t n_rows;
    bool regression; /* else classes */
    bool absent;     /* some modalities are missing */
    float behind;    /* what stands behind lengths and where something is absent */
    uint64_t seed;
} data_spec;

typedef struct data_part {
    const char *name;
    int n_dims;
    int64_t shape[3];
    bool tokens;
} data_part;

static const data_part data_parts[N_DATA_KINDS][3] = {
    [DATA_VECTORS] = {{"a", 1, {5}, false}, {"b", 1, {4}, false}},
    [DATA_SEQUENCES] = {{"s", 2, {6, 3}, false}, {"u", 2, {4, 2}, false}},
    [DATA_MIXED] = {{"pixels", 3, {1, 6, 5}, false},
                    {"words", 1, {5}, true},
                    {"row", 1, {3}, false}},
    [DATA_TRIO] = {{"text", 2, {5, 4}, false},
                   {"audio", 2, {6, 3}, false},
                   {"vision", 2, {5, 2}, false}},
};

/* Memory of one file while it is written. */
typedef struct data_memory {
    float values[3][MAX_ROWS * 64];
    int32_t tokens[MAX_ROWS * 64], length[3][MAX_ROWS], present[3][MAX_ROWS], classes[MAX_ROWS];
    float targets[MAX_ROWS];
    char names[3][2][32];
} data_memory;

static inline void data_fill(const data_spec *spec, const data_part *part, size_t m,
                             data_memory *memory, mmf_rng *rng)
{
    int64_t size = 1;
    for (int d = 0; d < part->n_dims; d++)
        size *= part->shape[d];
    const bool timed = part->tokens || part->n_dims == 2;
    const int64_t step = part->n_dims == 2 ? part->shape[1] : 1;
    assert_true(size <= 64 && spec->n_rows <= MAX_ROWS);
    for (int64_t i = 0; i < spec->n_rows; i++) {
        const int64_t steps = timed ? part->shape[0] : 1;
        const int64_t length = timed ? 2 + (int64_t)mmf_rng_below(rng, (uint64_t)steps - 1) : 1;
        const bool gone = spec->absent && (i + (int64_t)m) % 4 == 3;
        memory->length[m][i] = (int32_t)length;
        memory->present[m][i] = !gone;
        for (int64_t e = 0; e < size; e++) {
            const double noise = mmf_rng_normal(rng);
            const double signal = (double)memory->targets[i] * (e % (2 * step) < 2 ? 1 : -0.5);
            const bool behind = gone || (timed && e >= length * step);
            const double word = 4 + (double)memory->targets[i] * 1.3 + 0.6 * noise;
            memory->values[m][i * size + e] = behind ? spec->behind : (float)(signal + 0.3 * noise);
            if (part->tokens) /* ids 1 to 8; padding is 0 */
                memory->tokens[i * size + e] =
                    behind ? (int32_t)(spec->behind != 0)
                           : (int32_t)(word < 1 ? 1 : (word > 8 ? 8 : word));
        }
    }
}

static inline void data_put(builder *b, const data_spec *spec, const data_part *part, size_t m,
                            data_memory *memory)
{
    const bool timed = part->tokens || part->n_dims == 2;
    const void *const data = part->tokens ? (const void *)memory->tokens : memory->values[m];
    put(b, part->name,
        numbers(part->tokens ? MMF_I32 : MMF_F32, data, spec->n_rows, part->shape[0],
                part->shape[1], part->shape[2]));
    snprintf(memory->names[m][0], sizeof memory->names[m][0], "%s.length", part->name);
    snprintf(memory->names[m][1], sizeof memory->names[m][1], "%s.present", part->name);
    if (timed)
        put(b, memory->names[m][0], ints(memory->length[m], spec->n_rows, 0));
    if (spec->absent)
        put(b, memory->names[m][1], ints(memory->present[m], spec->n_rows, 0));
}

/** Writes an npz file. Targets are within the sentiment papers' [-3, 3]. */
static inline void data_write(mmf_ctx *ctx, const data_spec *spec, const char *path)
{
    data_memory *const memory = calloc(1, sizeof *memory);
    builder b = {0};
    mmf_npz_writer *writer = NULL;
    mmf_rng rng = mmf_rng_make(spec->seed + 1, mmf_rng_stream("data"));
    assert_non_null(memory);
    for (int64_t i = 0; i < spec->n_rows; i++) {
        memory->classes[i] = (int32_t)(i % N_CLASSES);
        memory->targets[i] = spec->regression ? (float)(4 * mmf_rng_uniform(&rng) - 2)
                                              : (float)(2 * memory->classes[i] - 2);
    }
    for (size_t m = 0; m < 3 && data_parts[spec->kind][m].name; m++) {
        data_fill(spec, &data_parts[spec->kind][m], m, memory, &rng);
        data_put(&b, spec, &data_parts[spec->kind][m], m, memory);
    }
    put(&b, "label",
        spec->regression ? floats(memory->targets, spec->n_rows, 0, 0, 0)
                         : ints(memory->classes, spec->n_rows, 0));
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, false));
    for (size_t i = 0; i < b.n; i++)
        test_ok(ctx, mmf_npz_add(writer, b.arrays[i].name, &b.arrays[i].array));
    test_ok(ctx, mmf_npz_commit(writer));
    free(memory);
}

static inline mmf_dataset_options data_options(const data_spec *spec)
{
    return options_of(NULL, spec->kind == DATA_MIXED ? "words=tokens" : NULL, NULL,
                      spec->regression ? "regression" : NULL);
}

static inline mmf_dataset *data_open(mmf_ctx *ctx, const data_spec *spec, const char *name)
{
    mmf_dataset *dataset = NULL;
    const mmf_dataset_options options = data_options(spec);
    data_write(ctx, spec, test_path(name));
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, test_path(name), &options));
    return dataset;
}

/** The first `n_train` rows, and the `n_valid` that follow. */
typedef struct simple_split {
    int64_t rows[MAX_ROWS];
    mmf_split split;
} simple_split;

static inline const mmf_split *data_split(simple_split *s, int64_t n_train, int64_t n_valid)
{
    for (int64_t i = 0; i < MAX_ROWS; i++)
        s->rows[i] = i;
    s->split =
        (mmf_split){.rows = {s->rows, s->rows + n_train, s->rows}, .count = {n_train, n_valid, 0}};
    return &s->split;
}

/** One thread: waiting threads of a busy machine would only slow small models down. */
static inline mmf_ctx *one_thread(void)
{
    mmf_ctx_options o = MMF_CTX_OPTIONS_INIT;
    mmf_ctx *ctx = NULL;
    o.n_threads = 1;
    assert_int_equal(mmf_ctx_create(&ctx, &o), MMF_OK);
    return ctx;
}

/** Options of a short run without surprises. */
static inline mmf_train_options quick_options(int64_t epochs, int64_t batch)
{
    mmf_train_options o = MMF_TRAIN_OPTIONS_INIT;
    o.seed = 3;
    o.epochs = epochs;
    o.batch = batch;
    o.patience = 1000;
    o.optimizer.lr = 1e-2;
    return o;
}

/** Widths above `width` (0: none) become `width`; dropout as given. */
static inline mmf_config *quick_config(mmf_ctx *ctx, const char *model, int width,
                                       const char *dropout)
{
    const mmf_def *const def = mmf_model_find(model);
    mmf_config *config = NULL;
    char text[24];
    assert_non_null(def);
    snprintf(text, sizeof text, "%d", width);
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    for (const mmf_option *row = mmf_option_next(def, NULL); row && !mmf_option_is_common(row);
         row = mmf_option_next(def, row)) {
        const bool whole = row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS;
        const bool wide = !*row->standard || atoi(row->standard) > width;
        if (strstr(row->name, "dropout"))
            test_ok(ctx, mmf_config_set(config, row->name, dropout));
        else if (width > 0 && whole && wide && row->low <= width && width <= row->high)
            test_ok(ctx, mmf_config_set(config, row->name, text));
    }
    return config;
}

/** Calls `fn` with every model that a kind of data allows, `only-<modality>` for each of them. */
typedef void model_fn(const char *model, const data_spec *spec, void *user);

static inline void each_model(const data_spec *spec, model_fn *fn, void *user)
{
    size_t n_defs = 0;
    const mmf_def *const *const defs = mmf_catalogue(MMF_KIND_MODEL, &n_defs);
    mmf_input_schema inputs[3] = {{0}};
    mmf_schema schema = {0, inputs};
    for (; schema.count < 3 && data_parts[spec->kind][schema.count].name; schema.count++) {
        const data_part *const part = &data_parts[spec->kind][schema.count];
        static const mmf_modality_kind kinds[] = {MMF_VECTOR, MMF_SEQUENCE, MMF_IMAGE};
        inputs[schema.count] =
            (mmf_input_schema){.name = part->name,
                               .kind = part->tokens ? MMF_TOKENS : kinds[part->n_dims - 1],
                               .has_present = spec->absent};
    }
    for (size_t i = 0; i < n_defs; i++) {
        const bool alone = defs[i]->takes & MMF_ONE_ONLY;
        if (TEST_SAMPLE && i % 4 != (size_t)spec->kind % 4) /* every model with one kind of data */
            continue;
        for (size_t m = 0; m < (alone ? schema.count : 1); m++) {
            char name[64];
            mmf_schema part = schema;
            if (alone)
                part = (mmf_schema){1, &inputs[m]};
            snprintf(name, sizeof name, "%s%s%s", defs[i]->name, alone ? "-" : "",
                     alone ? inputs[m].name : "");
            const mmf_target_kind target = spec->regression ? MMF_TARGET_REAL : MMF_TARGET_CLASS;
            if (!mmf_model_refusal(defs[i], &part, target, &(mmf_refusal){0}))
                fn(name, spec, user);
        }
    }
}

/** Parameters and buffers of two models are the same bits. */
static inline void assert_same_weights(const char *what, const mmf_model *a, const mmf_model *b)
{
    const mmf_params *const p = mmf_module_params(mmf_model_module(a));
    const mmf_params *const q = mmf_module_params(mmf_model_module(b));
    assert_int_equal(mmf_params_count(p), mmf_params_count(q));
    for (size_t i = 0; i < mmf_params_count(p); i++) {
        const mmf_param *const x = mmf_params_at(p, i), *const y = mmf_params_at(q, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->tensor->count, y->tensor->count);
        if (memcmp(x->tensor->data, y->tensor->data, (size_t)x->tensor->count * sizeof(mmf_real)) !=
            0)
            fail_msg("%s: %s differs", what, x->name);
    }
}

/** (n_rows, n_outputs) predictions of the first rows; the caller frees them. */
static inline double *predict_all(mmf_ctx *ctx, mmf_model *model, mmf_dataset *dataset, int64_t n)
{
    simple_split s;
    double *const y = calloc((size_t)(n * mmf_model_task(model)->n_outputs) + 1, sizeof *y);
    assert_non_null(y);
    data_split(&s, n, 0);
    test_ok(ctx, mmf_model_predict_rows(model, dataset, s.rows, n, MMF_ALL_MODALITIES, y));
    return y;
}

/** The same of a file, read as the model needs it. */
static inline double *predict_file(mmf_ctx *ctx, mmf_model *model, const char *path, int64_t n)
{
    mmf_dataset *dataset = NULL;
    test_ok(ctx, mmf_model_open_data(ctx, &dataset, model, path, NULL));
    double *const y = predict_all(ctx, model, dataset, n);
    mmf_dataset_close(dataset);
    return y;
}

#endif
