/*
 * io_tools.h: files as bytes, an allocator that fails on request, and a reader that touches every
 * element, for the tests of base and io.
 */
#ifndef MMFUSE_TESTS_IO_TOOLS_H
#define MMFUSE_TESTS_IO_TOOLS_H

#include <stdlib.h>
#include <unistd.h>

#include "base/context.h"
#include "mmfuse/io.h"
#include "support.h"

/** Allocations that still succeed before one fails; negative: all succeed. */
typedef struct fault_allocator {
    int64_t before_fault;
    int64_t n_live;
} fault_allocator;

static inline void *fault_alloc(void *user, size_t bytes)
{
    fault_allocator *const f = user;
    if (f->before_fault == 0)
        return NULL;
    if (f->before_fault > 0)
        f->before_fault--;
    void *pointer = NULL;
    if (posix_memalign(&pointer, 64, bytes) != 0)
        return NULL;
    f->n_live++;
    return pointer;
}

static inline void fault_release(void *user, void *pointer)
{
    fault_allocator *const f = user;
    f->n_live -= pointer != NULL;
    free(pointer);
}

static inline mmf_ctx *fault_ctx(fault_allocator *f)
{
    *f = (fault_allocator){.before_fault = -1};
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.allocator = (mmf_allocator){fault_alloc, fault_release, f};
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    return ctx;
}

typedef struct blob {
    unsigned char *bytes;
    size_t n;
} blob;

static inline blob read_blob(const char *path)
{
    FILE *const file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot read %s", path);
    fseek(file, 0, SEEK_END);
    blob b = {.n = (size_t)ftell(file)};
    rewind(file);
    b.bytes = malloc(b.n + 1);
    assert_int_equal(fread(b.bytes, 1, b.n, file), b.n);
    fclose(file);
    return b;
}

static inline void write_blob(const char *path, const void *bytes, size_t n)
{
    FILE *const file = fopen(path, "wb");
    if (!file)
        fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
}

/** Opens bytes and reads every element of every array. The bytes are copied to a block of their own
 * size, so that the address sanitizer sees reads beyond them. */
static inline mmf_status read_all(mmf_ctx *ctx, const char *format, const void *bytes, size_t n,
                                  const mmf_io_options *options)
{
    unsigned char *const exact = malloc(n ? n : 1);
    if (n > 0)
        memcpy(exact, bytes, n);
    mmf_archive *archive = NULL;
    mmf_status status = mmf_archive_open_memory(ctx, &archive, "bytes", format, exact, n, options);
    volatile double sum = 0;
    for (size_t i = 0; status == MMF_OK && i < mmf_archive_count(archive); i++) {
        mmf_array array;
        status = mmf_archive_load(archive, i, &array);
        for (int64_t k = 0; status == MMF_OK && k < mmf_array_count(&array); k++) {
            size_t n_text = 0;
            if (array.dtype == MMF_STR)
                sum += mmf_array_string(&array, k, &n_text)[0] + (double)n_text;
            else
                sum += mmf_array_number(&array, k);
        }
    }
    (void)sum;
    mmf_archive_close(archive);
    free(exact);
    return status;
}

/** Every shorter version of valid bytes must be refused, with `FORMAT`. */
static inline void refuse_truncations(const char *format, const void *bytes, size_t n)
{
    mmf_ctx *const ctx = test_ctx();
    test_ok(ctx, read_all(ctx, format, bytes, n, NULL));
    for (size_t cut = 0; cut < n; cut++) {
        const mmf_status status = read_all(ctx, format, bytes, cut, NULL);
        if (status != MMF_FORMAT)
            fail_msg("%s cut to %zu of %zu bytes: %s", format, cut, n, mmf_status_name(status));
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

/** Reading with the first, second ... allocation failing ends in NOMEM, without a leak, until none
 * fails any more. */
static inline void survive_lack_of_memory(const char *format, const void *bytes, size_t n)
{
    fault_allocator f;
    mmf_ctx *const ctx = fault_ctx(&f);
    mmf_status status = MMF_NOMEM;
    int64_t n_allowed = 0;
    for (; status != MMF_OK; n_allowed++) {
        f.before_fault = n_allowed;
        status = read_all(ctx, format, bytes, n, NULL);
        if (status != MMF_OK && status != MMF_NOMEM)
            fail_msg("allocation %lld: %s", (long long)n_allowed, mmf_ctx_error(ctx));
        assert_int_equal(f.n_live, 1); /* the context itself */
    }
    assert_true(n_allowed > 2);
    mmf_ctx_free(ctx);
}

/** The array `name` of an open archive, loaded. */
static inline mmf_array load_named(mmf_ctx *ctx, mmf_archive *archive, const char *name)
{
    const int64_t i = mmf_archive_find(archive, name);
    if (i < 0)
        fail_msg("no array \"%s\"", name);
    mmf_array array = {0};
    test_ok(ctx, mmf_archive_load(archive, (size_t)i, &array));
    return array;
}

static inline void check_cell(const mmf_array *array, int64_t i, const char *wanted)
{
    size_t n = 0;
    const char *const cell = mmf_array_string(array, i, &n);
    if (n != strlen(wanted) || memcmp(cell, wanted, n) != 0)
        fail_msg("cell %lld is \"%.*s\", not \"%s\"", (long long)i, (int)n, cell, wanted);
}

#endif
