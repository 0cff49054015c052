/* data_builder.h: small data files for the tests of src/data, written with the project's npz
 * writer. */
#ifndef MMFUSE_TESTS_BUILDER_H
#define MMFUSE_TESTS_BUILDER_H

#include "mmfuse/data.h"
#include "support.h"

/** An array over the caller's elements; unused dimensions are 0. */
static inline mmf_array numbers(mmf_dtype dtype, const void *data, int64_t a, int64_t b, int64_t c,
                                int64_t d)
{
    const int64_t shape[] = {a, b, c, d};
    mmf_array array = {.dtype = dtype, .item_bytes = mmf_dtype_bytes(dtype), .data = data};
    while (array.n_dims < 4 && shape[array.n_dims] > 0) {
        array.shape[array.n_dims] = shape[array.n_dims];
        array.n_dims++;
    }
    return array;
}

static inline mmf_array floats(const float *data, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return numbers(MMF_F32, data, a, b, c, d);
}

static inline mmf_array ints(const int32_t *data, int64_t a, int64_t b)
{
    return numbers(MMF_I32, data, a, b, 0, 0);
}

/** Texts of up to 8 bytes each. */
static inline mmf_array texts(const char (*data)[8], int64_t n)
{
    return (mmf_array){.dtype = MMF_STR, .n_dims = 1, .shape = {n}, .item_bytes = 8, .data = data};
}

#define MAX_ARRAYS 32

/** The arrays of a file to write. */
typedef struct builder {
    mmf_named_array arrays[MAX_ARRAYS];
    size_t n;
} builder;

/** Adds an array, or puts it in the place of the one with this name. */
static inline void put(builder *b, const char *name, mmf_array array)
{
    size_t i = 0;
    while (i < b->n && strcmp(b->arrays[i].name, name) != 0)
        i++;
    assert_true(i < MAX_ARRAYS);
    b->arrays[i] = (mmf_named_array){name, array};
    b->n = i == b->n ? b->n + 1 : b->n;
}

static inline const char *write_file(mmf_ctx *ctx, const builder *b)
{
    const char *const path = test_path("built.npz");
    mmf_npz_writer *writer = NULL;
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, false));
    for (size_t i = 0; i < b->n; i++)
        test_ok(ctx, mmf_npz_add(writer, b->arrays[i].name, &b->arrays[i].array));
    test_ok(ctx, mmf_npz_commit(writer));
    return path;
}

static inline mmf_status try_open(mmf_ctx *ctx, mmf_dataset **out, const builder *b,
                                  const mmf_dataset_options *options)
{
    return mmf_dataset_open(ctx, out, write_file(ctx, b), options);
}

static inline mmf_dataset *open_built(mmf_ctx *ctx, const builder *b,
                                      const mmf_dataset_options *options)
{
    mmf_dataset *ds = NULL;
    test_ok(ctx, try_open(ctx, &ds, b, options));
    return ds;
}

/** Opening must fail with this status, and the message must hold each of the three pieces. */
static inline void must_fail(mmf_ctx *ctx, const builder *b, const mmf_dataset_options *options,
                             mmf_status wanted, const char *key, const char *row, const char *what)
{
    mmf_dataset *ds = NULL;
    const mmf_status status = try_open(ctx, &ds, b, options);
    test_fails(ctx, status, wanted, key);
    test_fails(ctx, status, wanted, row);
    test_fails(ctx, status, wanted, what);
    assert_null(ds);
}

static inline mmf_dataset_options options_of(const char *modalities, const char *kinds,
                                             const char *target, const char *task)
{
    mmf_dataset_options options = MMF_DATASET_OPTIONS_INIT;
    options.modalities = modalities;
    options.kinds = kinds;
    options.target = target;
    options.task = task;
    return options;
}

#endif
