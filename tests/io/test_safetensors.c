/* test_safetensors.c: what is saved is read; headers that lie; limits; failing writes. */
#include "io_tools.h"

static size_t make_file(unsigned char *out, const char *header, size_t n_data)
{
    const size_t n = strlen(header);
    for (size_t i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)n >> (8 * i));
    memcpy(out + 8, header, n);
    for (size_t i = 0; i < n_data; i++)
        out[8 + n + i] = (unsigned char)i;
    return 8 + n + n_data;
}

static const mmf_metadata sample_metadata[] = {
    {"model", "lmf"}, {"config", "{\"rank\": 4, \"text\": \"a\\b\xc3\xa9\n\"}"}};

static mmf_status save_sample(mmf_ctx *ctx, const char *path)
{
    static const float weights[6] = {1, 2, 3, 4, 5, 6};
    static const uint8_t mask[3] = {1, 0, 1};
    static const int64_t steps[1] = {77};
    const mmf_named_array arrays[] = {
        {"mask", {MMF_BOOL, 1, {3}, 1, mask}},
        {"layer.weight", {MMF_F32, 2, {2, 3}, 4, weights}},
        {"step", {MMF_I64, 0, {0}, 8, steps}},
        {"half \"q\"", {MMF_BF16, 1, {2}, 2, weights}},
    };
    return mmf_safetensors_save(ctx, path, arrays, 4, sample_metadata, 2);
}

static void what_is_saved_is_read(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("sample.safetensors");
    test_ok(ctx, save_sample(ctx, path));
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    assert_int_equal(mmf_archive_count(archive), 4);
    const mmf_array weight = load_named(ctx, archive, "layer.weight");
    assert_int_equal(weight.n_dims, 2);
    assert_true(mmf_array_number(&weight, 5) == 6);
    assert_int_equal((uintptr_t)weight.data % 4, 0);
    const mmf_array step = load_named(ctx, archive, "step");
    assert_int_equal(step.n_dims, 0);
    assert_int_equal(mmf_array_integer(&step, 0), 77);
    assert_int_equal((uintptr_t)step.data % 64, 0); /* widest first, behind a padded header */
    assert_int_equal(load_named(ctx, archive, "half \"q\"").dtype, MMF_BF16);
    assert_int_equal(load_named(ctx, archive, "mask").dtype, MMF_BOOL);
    assert_string_equal(mmf_archive_metadata(archive, "config"), sample_metadata[1].value);
    assert_string_equal(mmf_archive_metadata_key(archive, 0), "model");
    assert_null(mmf_archive_metadata_key(archive, 2));
    assert_null(mmf_archive_metadata(archive, "absent"));
    mmf_archive_close(archive);
    test_ok(ctx, mmf_safetensors_save(ctx, path, NULL, 0, NULL, 0));
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    assert_int_equal(mmf_archive_count(archive), 0);
    mmf_archive_close(archive);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void misuse_of_the_writer_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = test_path("misuse.safetensors");
    const mmf_named_array text = {"t", {MMF_STR, 1, {1}, 1, "x"}};
    test_fails(ctx, mmf_safetensors_save(ctx, path, &text, 1, NULL, 0), MMF_DTYPE, "metadata");
    const mmf_named_array reserved = {"__metadata__", {MMF_U8, 1, {1}, 1, "x"}};
    test_fails(ctx, mmf_safetensors_save(ctx, path, &reserved, 1, NULL, 0), MMF_ARG, "name");
    const mmf_metadata broken = {"k", "\xff"};
    test_fails(ctx, mmf_safetensors_save(ctx, path, NULL, 0, &broken, 1), MMF_ARG, "UTF-8");
    assert_int_not_equal(access(path, F_OK), 0);
    mmf_ctx_free(ctx);
}

static void headers_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n_data;
        mmf_status status;
        const char *piece;
    } cases[] = {
        {"{}", 1, MMF_FORMAT, "gap at byte 0"},
        {"[]", 0, MMF_FORMAT, "not an object"},
        {"{\"a\":", 0, MMF_FORMAT, "not JSON"},
        {"{\"a\":1,\"a\":1}", 0, MMF_FORMAT, "not JSON"},
        {"{\"a\":1}", 0, MMF_FORMAT, "\"a\": expected dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, MMF_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, MMF_FORMAT, "dtype"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, MMF_UNSUPPORTED,
         "F8_E4M3"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, MMF_FORMAT,
         "ask for 8 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, MMF_FORMAT,
         "whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, MMF_FORMAT,
         "whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, MMF_FORMAT,
         "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 8, MMF_FORMAT,
         "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, MMF_FORMAT, "gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, MMF_FORMAT, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 5, MMF_FORMAT, "gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         MMF_LIMIT, "7 dimensions"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,1]}}", 1,
         MMF_LIMIT, "limit"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807,2],\"data_offsets\":[0,0]}}", 0,
         MMF_LIMIT, "limit"},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, MMF_FORMAT,
         "printable"},
        {"{\"__metadata__\":3}", 0, MMF_FORMAT, "__metadata__"},
        {"{\"__metadata__\":{\"k\":3}}", 0, MMF_FORMAT, "\"k\" is no string"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        unsigned char bytes[512];
        const size_t n = make_file(bytes, cases[c].header, cases[c].n_data);
        test_fails(ctx, read_all(ctx, "safetensors", bytes, n, NULL), cases[c].status,
                   cases[c].piece);
    }
    unsigned char bytes[64];
    size_t n = make_file(bytes, "{}", 0);
    test_ok(ctx, read_all(ctx, "safetensors", bytes, n, NULL));
    bytes[0] = 3;
    test_fails(ctx, read_all(ctx, "safetensors", bytes, n, NULL), MMF_FORMAT, "claims 3 bytes");
    bytes[7] = 0xff;
    test_fails(ctx, read_all(ctx, "safetensors", bytes, n, NULL), MMF_FORMAT, "claims");
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void limits_hold_at_the_limit_and_not_beyond(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    unsigned char bytes[512];
    const size_t n = make_file(bytes,
                               "{\"__metadata__\":{\"k\":\"v\"},"
                               "\"ab\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                               8);
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    options.max_entries = 1;
    options.max_name_bytes = 2;
    options.max_bytes = 8;
    test_ok(ctx, read_all(ctx, "safetensors", bytes, n, &options));
    mmf_io_options less = options;
    less.max_name_bytes = 1;
    test_fails(ctx, read_all(ctx, "safetensors", bytes, n, &less), MMF_LIMIT, "2 bytes");
    less = options;
    less.max_bytes = 7;
    test_fails(ctx, read_all(ctx, "safetensors", bytes, n, &less), MMF_LIMIT, "7 bytes");
    const size_t two = make_file(bytes,
                                 "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                                 2);
    test_fails(ctx, read_all(ctx, "safetensors", bytes, two, &options), MMF_LIMIT, "1 arrays");
    /* A header of many small values would take far more memory than its text. */
    const size_t n_values = 5000;
    char *const header = malloc(2 * n_values + 16);
    size_t at = (size_t)sprintf(header, "{\"a\":[0");
    for (size_t i = 0; i < n_values; i++)
        at += (size_t)sprintf(header + at, ",0");
    memcpy(header + at, "]}", 3);
    unsigned char *const big = malloc(at + 32);
    const size_t n_big = make_file(big, header, 0);
    test_fails(ctx, read_all(ctx, "safetensors", big, n_big, &options), MMF_LIMIT, "values");
    free(big);
    free(header);
    mmf_ctx_free(ctx);
}

static void truncation_and_lack_of_memory_are_survived(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    test_ok(ctx, save_sample(ctx, test_path("cut.safetensors")));
    const blob file = read_blob(test_path("cut.safetensors"));
    refuse_truncations("safetensors", file.bytes, file.n);
    survive_lack_of_memory("safetensors", file.bytes, file.n);
    free(file.bytes);
    mmf_ctx_free(ctx);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    fault_allocator f;
    mmf_ctx *const ctx = fault_ctx(&f);
    const char *const path = test_path("old.safetensors");
    write_blob(path, "old", 3);
    mmf_status status = MMF_IO;
    for (int64_t n = 0; status != MMF_OK; n++) {
        ctx->writes_before_fault = n;
        status = save_sample(ctx, path);
        ctx->writes_before_fault = -1;
        if (status != MMF_OK) {
            test_fails(ctx, status, MMF_IO, "cannot write");
            const blob old = read_blob(path);
            assert_int_equal(old.n, 3);
            free(old.bytes);
        }
        assert_int_equal(f.n_live, 1);
    }
    status = MMF_NOMEM;
    for (int64_t n = 0; status != MMF_OK; n++) {
        f.before_fault = n;
        status = save_sample(ctx, path);
        f.before_fault = -1;
        assert_true(status == MMF_OK || status == MMF_NOMEM);
        assert_int_equal(f.n_live, 1);
    }
    mmf_ctx_free(ctx);
}

static void golden_files_are_read(void **state)
{
    (void)state;
    const char *const path = test_shared("golden/attention/cross.safetensors");
    if (!path)
        return;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    assert_true(mmf_archive_count(archive) > 2);
    assert_non_null(mmf_archive_metadata(archive, "model"));
    for (size_t i = 0; i < mmf_archive_count(archive); i++) {
        mmf_array array;
        test_ok(ctx, mmf_archive_load(archive, i, &array));
        assert_non_null(array.data);
    }
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_read),
        cmocka_unit_test(misuse_of_the_writer_is_refused),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(limits_hold_at_the_limit_and_not_beyond),
        cmocka_unit_test(truncation_and_lack_of_memory_are_survived),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(golden_files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
