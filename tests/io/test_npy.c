/* test_npy.c: headers of all versions and types, conversions, lies, truncation, limits. */
#include <math.h>

#include "io_tools.h"

/* An npy file of version `major` with this header text; returns its size. */
static size_t make_npy(unsigned char *out, int major, const char *header, const void *data,
                       size_t n_data)
{
    const size_t n_header = strlen(header), n_length = major == 1 ? 2 : 4;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)major;
    out[7] = 0;
    for (size_t i = 0; i < n_length; i++)
        out[8 + i] = (unsigned char)(n_header >> (8 * i));
    memcpy(out + 8 + n_length, header, n_header);
    if (n_data > 0)
        memcpy(out + 8 + n_length + n_header, data, n_data);
    return 8 + n_length + n_header + n_data;
}

static mmf_archive *open_npy(mmf_ctx *ctx, const unsigned char *bytes, size_t n)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open_memory(ctx, &archive, "x.npy", "npy", bytes, n, NULL));
    assert_int_equal(mmf_archive_count(archive), 1);
    assert_string_equal(mmf_archive_name(archive, 0), "data");
    assert_null(mmf_archive_header(archive, 0)->data);
    return archive;
}

static void every_version_and_number_type_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *descr;
        mmf_dtype dtype;
        unsigned char bytes[16]; /* two elements */
        double values[2];
    } cases[] = {
        {"<f2", MMF_F16, {0x00, 0x3e, 0x00, 0xc0}, {1.5, -2}},
        {"<f4", MMF_F32, {0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0}, {1.5, -2}},
        {">f4", MMF_F32, {0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0}, {1.5, -2}},
        {"<f8", MMF_F64, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0}, {1.5, -2}},
        {">f8", MMF_F64, {0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0}, {1.5, -2}},
        {"|i1", MMF_I8, {5, 0xff}, {5, -1}},
        {"|u1", MMF_U8, {5, 0xff}, {5, 255}},
        {"|b1", MMF_BOOL, {0, 1}, {0, 1}},
        {"<i2", MMF_I16, {1, 2, 0xff, 0xff}, {513, -1}},
        {">i2", MMF_I16, {2, 1, 0xff, 0xfe}, {513, -2}},
        {"<u2", MMF_U16, {1, 2, 0xff, 0xff}, {513, 65535}},
        {"<i4", MMF_I32, {1, 2, 0, 0, 0xfe, 0xff, 0xff, 0xff}, {513, -2}},
        {"=i4", MMF_I32, {1, 2, 0, 0, 0xfe, 0xff, 0xff, 0xff}, {513, -2}},
        {"<u4", MMF_U32, {0, 0, 0, 0x80, 1, 0, 0, 0}, {2147483648.0, 1}},
        {"<i8",
         MMF_I64,
         {7, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
         {7, -1}},
        {"<u8", MMF_U64, {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, {7, 0x1p63}},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int version = 1; version <= 3; version++) {
            char header[128];
            snprintf(header, sizeof header,
                     "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }   \n",
                     cases[c].descr);
            unsigned char bytes[256];
            const size_t n = make_npy(bytes, version, header, cases[c].bytes,
                                      2 * mmf_dtype_bytes(cases[c].dtype));
            mmf_archive *archive = open_npy(ctx, bytes, n);
            mmf_array array;
            test_ok(ctx, mmf_archive_load(archive, 0, &array));
            assert_int_equal(array.dtype, cases[c].dtype);
            assert_int_equal(array.n_dims, 1);
            for (int i = 0; i < 2; i++)
                assert_true(mmf_array_number(&array, i) == cases[c].values[i]);
            mmf_archive_close(archive);
        }
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void column_order_is_turned_into_row_order(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    /* Element (i, j, k) of shape (2, 3, 2) holds 100 i + 10 j + k. */
    uint8_t data[12];
    for (int k = 0, n = 0; k < 2; k++)
        for (int j = 0; j < 3; j++)
            for (int i = 0; i < 2; i++)
                data[n++] = (uint8_t)(100 * i + 10 * j + k);
    unsigned char bytes[256];
    const size_t n = make_npy(
        bytes, 1, "{'shape': (2, 3, 2), 'fortran_order': True, 'descr': '|u1'}\n", data, 12);
    mmf_archive *archive = open_npy(ctx, bytes, n);
    mmf_array array;
    test_ok(ctx, mmf_archive_load(archive, 0, &array));
    for (int64_t i = 0, at = 0; i < 2; i++)
        for (int64_t j = 0; j < 3; j++)
            for (int64_t k = 0; k < 2; k++)
                assert_int_equal(mmf_array_integer(&array, at++), 100 * i + 10 * j + k);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void strings_become_utf8(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const uint32_t codes[] = {'a',    0,        0,       /* "a" */
                              0xe9,   0x20ac,   0x1f600, /* two, three and four bytes */
                              0xd800, 0x110000, 'z'};    /* no characters */
    unsigned char bytes[256];
    size_t n = make_npy(bytes, 1, "{'descr': '<U3', 'fortran_order': False, 'shape': (3,)}", codes,
                        sizeof codes);
    mmf_archive *archive = open_npy(ctx, bytes, n);
    mmf_array array;
    test_ok(ctx, mmf_archive_load(archive, 0, &array));
    assert_int_equal(array.dtype, MMF_STR);
    assert_int_equal(array.item_bytes, 9);
    check_cell(&array, 0, "a");
    check_cell(&array, 1, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    check_cell(&array, 2, "\xef\xbf\xbd\xef\xbf\xbdz");
    mmf_archive_close(archive);

    n = make_npy(bytes, 3, "{'descr': '|S4', 'fortran_order': False, 'shape': (3,)}",
                 "abcd\xc3\xa9\0\0x\xff\xc3\0", 12);
    archive = open_npy(ctx, bytes, n);
    test_ok(ctx, mmf_archive_load(archive, 0, &array));
    check_cell(&array, 0, "abcd");
    check_cell(&array, 1, "\xc3\xa9");
    check_cell(&array, 2, "x??");
    mmf_archive_close(archive);

    n = make_npy(bytes, 1, "{'descr': '>U1', 'fortran_order': True, 'shape': (1, 2)}",
                 "\0\0\0a\0\0\0b", 8);
    archive = open_npy(ctx, bytes, n);
    test_ok(ctx, mmf_archive_load(archive, 0, &array));
    check_cell(&array, 0, "a");
    check_cell(&array, 1, "b");
    mmf_archive_close(archive);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void headers_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        mmf_status status;
        const char *piece;
    } cases[] = {
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", MMF_UNSUPPORTED, "astype"},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", MMF_UNSUPPORTED, "<c8"},
        {"{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,)}", MMF_UNSUPPORTED, "M8"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", MMF_UNSUPPORTED,
         "named fields"},
        {"{'descr': '<U0', 'fortran_order': False, 'shape': (2,)}", MMF_FORMAT, "width"},
        {"{'descr': '<U', 'fortran_order': False, 'shape': (2,)}", MMF_FORMAT, "width"},
        {"{'descr': '<f4', 'fortran_order': False}", MMF_FORMAT, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", MMF_FORMAT, "once"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", MMF_FORMAT,
         "once"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", MMF_FORMAT, "True or False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", MMF_FORMAT, "size"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", MMF_FORMAT, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", MMF_FORMAT, "before the shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", MMF_FORMAT, "nothing else"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,", MMF_FORMAT, "shape"},
        {"{'descr': '<f4", MMF_FORMAT, "closing quote"},
        {"", MMF_FORMAT, "{"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", MMF_LIMIT,
         "2^63"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 2)}", MMF_LIMIT,
         "limit"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904)}", MMF_LIMIT,
         "limit"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1)}", MMF_LIMIT,
         "6 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", MMF_FORMAT, "promises 12"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", MMF_FORMAT, "promises 4"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        unsigned char bytes[256];
        const size_t n = make_npy(bytes, 1, cases[c].header, "12345678", 8);
        test_fails(ctx, read_all(ctx, "npy", bytes, n, NULL), cases[c].status, cases[c].piece);
        assert_memory_equal(mmf_ctx_error(ctx), "bytes: ", 7);
    }
    unsigned char bytes[256];
    size_t n =
        make_npy(bytes, 4, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "1234", 4);
    test_fails(ctx, read_all(ctx, "npy", bytes, n, NULL), MMF_UNSUPPORTED, "version 4");
    n = make_npy(bytes, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "1234", 4);
    test_ok(ctx, read_all(ctx, "npy", bytes, n, NULL));
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void limits_hold_at_the_limit_and_not_beyond(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    unsigned char bytes[256];
    const size_t n = make_npy(bytes, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                              "12345678", 8);
    options.max_bytes = 8;
    test_ok(ctx, read_all(ctx, "npy", bytes, n, &options));
    options.max_bytes = 7;
    test_fails(ctx, read_all(ctx, "npy", bytes, n, &options), MMF_LIMIT, "7 bytes");
    /* The header itself: 65,536 bytes with its first 12 are read, one more is not. */
    const size_t longest = 65536;
    unsigned char *const big = malloc(longest + 8);
    char *const header = malloc(longest);
    for (size_t extra = 0; extra < 2; extra++) {
        memset(header, ' ', longest);
        const char *const text = "{'descr': '<f4', 'fortran_order': False, 'shape': ()}";
        memcpy(header, text, strlen(text));
        header[longest - 12 + extra] = '\0';
        const size_t n_big = make_npy(big, 2, header, "1234", 4);
        const mmf_status status = read_all(ctx, "npy", big, n_big, NULL);
        if (extra == 0)
            test_ok(ctx, status);
        else
            test_fails(ctx, status, MMF_LIMIT, "65537");
    }
    free(header);
    free(big);
    mmf_ctx_free(ctx);
}

static void truncation_and_lack_of_memory_are_survived(void **state)
{
    (void)state;
    unsigned char bytes[256];
    size_t n = make_npy(bytes, 1, "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2)}",
                        "abcdefgh", 8);
    refuse_truncations("npy", bytes, n);
    survive_lack_of_memory("npy", bytes, n);
    n = make_npy(bytes, 2, "{'descr': '<U1', 'fortran_order': False, 'shape': (2,)}",
                 "a\0\0\0b\0\0\0", 8);
    refuse_truncations("npy", bytes, n);
    survive_lack_of_memory("npy", bytes, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_and_number_type_is_read),
        cmocka_unit_test(column_order_is_turned_into_row_order),
        cmocka_unit_test(strings_become_utf8),
        cmocka_unit_test(headers_that_cannot_be_read_are_refused),
        cmocka_unit_test(limits_hold_at_the_limit_and_not_beyond),
        cmocka_unit_test(truncation_and_lack_of_memory_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
