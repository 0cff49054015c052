/* test_csv.c: cells, columns into arrays, types, what is refused. */
#include <math.h>

#include "io/cells.h"
#include "io/utf8.h"
#include "io_tools.h"

static mmf_archive *open_text(mmf_ctx *ctx, const char *format, const char *text)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open_memory(ctx, &archive, "t", format, text, strlen(text), NULL));
    return archive;
}

static void check_numbers(const mmf_array *array, mmf_dtype dtype, int n_dims, int64_t columns,
                          const double *wanted)
{
    assert_int_equal(array->dtype, dtype);
    assert_int_equal(array->n_dims, n_dims);
    if (n_dims == 2)
        assert_int_equal(array->shape[1], columns);
    for (int64_t i = 0; i < mmf_array_count(array); i++) {
        const double got = mmf_array_number(array, i);
        if (got != wanted[i] && !(isnan(got) && isnan(wanted[i])))
            fail_msg("element %lld is %.17g, not %.17g", (long long)i, got, wanted[i]);
    }
}

static void columns_become_arrays_of_the_contract(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive =
        open_text(ctx, "csv",
                  "id,imu.x,audio.2,imu.y,audio.10,audio.1,audio.length,label.cat,label.dog,split,"
                  "group,note,No.\n"
                  "007,1.5,12,2,110,11,3,1,0,train,u1,hello,1\n"
                  "008,,22,-1e-3,210,21,2,0,1,test,u2,\"a, \"\"b\"\"\nc\",2\n");
    static const char *const names[] = {"id",           "imu",   "imu.names",   "audio",
                                        "audio.length", "label", "label.names", "split",
                                        "group",        "note",  "No."};
    assert_int_equal(mmf_archive_count(archive), sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(mmf_archive_name(archive, i), names[i]);
    mmf_array a = load_named(ctx, archive, "id");
    check_cell(&a, 0, "007"); /* a name, though it looks like a number */
    a = load_named(ctx, archive, "imu");
    check_numbers(&a, MMF_F64, 2, 2, (const double[]){1.5, 2, NAN, -1e-3});
    a = load_named(ctx, archive, "imu.names");
    check_cell(&a, 0, "x");
    check_cell(&a, 1, "y");
    a = load_named(ctx, archive, "audio"); /* by number: 1, 2, 10 */
    check_numbers(&a, MMF_I64, 2, 3, (const double[]){11, 12, 110, 21, 22, 210});
    a = load_named(ctx, archive, "audio.length");
    check_numbers(&a, MMF_I64, 1, 0, (const double[]){3, 2});
    a = load_named(ctx, archive, "label");
    check_numbers(&a, MMF_I64, 2, 2, (const double[]){1, 0, 0, 1});
    a = load_named(ctx, archive, "label.names");
    check_cell(&a, 1, "dog");
    a = load_named(ctx, archive, "split");
    check_numbers(&a, MMF_I64, 1, 0, (const double[]){0, 2});
    a = load_named(ctx, archive, "group");
    check_cell(&a, 1, "u2");
    a = load_named(ctx, archive, "note");
    check_cell(&a, 0, "hello");
    check_cell(&a, 1, "a, \"b\"\nc");
    a = load_named(ctx, archive, "No.");
    check_numbers(&a, MMF_I64, 1, 0, (const double[]){1, 2});
    mmf_archive_close(archive);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void line_ends_marks_and_blank_lines_do_not_matter(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a,b\n1,x\n2,y\n",
        "a,b\r\n1,x\r\n2,y\r\n",
        "\xef\xbb\xbf\x61,b\n1,x\n2,y",
        "\n\na,b\n\n1,x\n\n2,y\n\n",
        "\"a\",\"b\"\n\"1\",x\n 2 ,\"y\"",
        " a ,b\n1,x\r\n2,y",
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        mmf_archive *archive = open_text(ctx, "csv", texts[i]);
        const mmf_array a = load_named(ctx, archive, "a"), b = load_named(ctx, archive, "b");
        check_numbers(&a, MMF_I64, 1, 0, (const double[]){1, 2});
        assert_int_equal(b.shape[0], 2);
        check_cell(&b, 0, "x");
        check_cell(&b, 1, "y");
        mmf_archive_close(archive);
    }
    mmf_archive *archive = open_text(ctx, "tsv", "a\tb,c\n1\tx,y\n");
    const mmf_array b = load_named(ctx, archive, "b,c");
    check_cell(&b, 0, "x,y");
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void numbers_are_read_exactly(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0.1",
        "-0.1",
        "3.",
        ".5",
        "1e3",
        "1E-7",
        "123456789012345678",
        "0.3",
        "2.675",
        "1e308",
        "1e-320",
        "inf",
        "-Infinity",
        "nan",
        "9.007199254740993",
        "123456789.123456789",
        "179769313486231570000",
        "+4",
        "1.7976931348623157e308",
        "0.000001",
        "999999999999999",
        "4.35",
        "0.30000000000000004",
        "00012.50",
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[80];
        snprintf(text, sizeof text, "x\n%s\n0.5\n", texts[i]);
        mmf_archive *archive = open_text(ctx, "csv", text);
        const mmf_array a = load_named(ctx, archive, "x");
        check_numbers(&a, MMF_F64, 1, 0, (const double[]){strtod(texts[i], NULL), 0.5});
        mmf_archive_close(archive);
    }
    /* Whole numbers keep what a double would lose. */
    mmf_archive *archive = open_text(ctx, "csv", "x\n123456789012345679\n-5.0\n+7\n");
    const mmf_array a = load_named(ctx, archive, "x");
    assert_int_equal(a.dtype, MMF_I64);
    assert_true(mmf_array_integer(&a, 0) == 123456789012345679);
    assert_int_equal(mmf_array_integer(&a, 1), -5);
    assert_int_equal(mmf_array_integer(&a, 2), 7);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void missing_cells_are_nan_or_empty(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = open_text(ctx, "csv", "x,y,z\n1,,\nNA,b,null\nN/A,NA,None\n");
    const mmf_array x = load_named(ctx, archive, "x"), y = load_named(ctx, archive, "y"),
                    z = load_named(ctx, archive, "z");
    check_numbers(&x, MMF_F64, 1, 0, (const double[]){1, NAN, NAN});
    check_numbers(&z, MMF_F64, 1, 0, (const double[]){NAN, NAN, NAN});
    check_cell(&y, 0, "");
    check_cell(&y, 2, "NA");
    mmf_archive_close(archive);
    archive = open_text(ctx, "csv", "x,t\n\xff,\xc3\xa9\xc3\n");
    const mmf_array broken = load_named(ctx, archive, "x"), t = load_named(ctx, archive, "t");
    check_cell(&broken, 0, "?");
    check_cell(&t, 0, "\xc3\xa9?");
    mmf_archive_close(archive);
    archive = open_text(ctx, "csv", "x,y.0\n");
    assert_int_equal(load_named(ctx, archive, "x").shape[0], 0);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void tables_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        mmf_status status;
        const char *piece;
    } cases[] = {
        {"", MMF_FORMAT, "empty"},
        {"\n\n", MMF_FORMAT, "empty"},
        {"1,2\n3,4\n", MMF_FORMAT, "names of the columns"},
        {"a,\n1,2\n", MMF_FORMAT, "column 2"},
        {"a,a\n1,2\n", MMF_FORMAT, "column \"a\" is there twice"},
        {"m.1,m.1\n1,2\n", MMF_FORMAT, "column \"m.1\" is there twice"},
        {"m.1,m.01\n1,2\n", MMF_FORMAT, "are the same"},
        {"m,m.1\n1,2\n", MMF_FORMAT, "beside columns \"m.PART\""},
        {"m.vocab\nx\n", MMF_FORMAT, "vocabulary"},
        {"a,b\n1\n", MMF_FORMAT, "row 1 (line 2): 1 cells"},
        {"a,b\n1,2\n1,2,3\n", MMF_FORMAT, "row 2 (line 3): 3 cells"},
        {"a,m.x\n1,2\n\n1,two\n", MMF_FORMAT, "column \"m.x\", row 2 (line 4): \"two\""},
        {"m.length\nfour\n", MMF_FORMAT, "column \"m.length\", row 1"},
        {"split\nvalidate\n", MMF_FORMAT, "train, valid, test"},
        {"a\n\"x\n", MMF_FORMAT, "line 2: a quote is opened"},
        {"a\n\"x\"y\n", MMF_FORMAT, "line 2: text follows"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        test_fails(ctx, read_all(ctx, "csv", cases[c].text, strlen(cases[c].text), NULL),
                   cases[c].status, cases[c].piece);
        assert_memory_equal(mmf_ctx_error(ctx), "bytes: ", 7);
    }
    test_fails(ctx, read_all(ctx, "csv", "a\nx\0y\n", 6, NULL), MMF_FORMAT, "zero byte");
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void limits_hold_at_the_limit_and_not_beyond(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const text = "abc,m.0\nxyz,1\nx,2\n";
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    options.max_entries = 2;
    options.max_name_bytes = 3;
    options.max_bytes = 16;
    test_ok(ctx, read_all(ctx, "csv", text, strlen(text), &options));
    mmf_io_options less = options;
    less.max_entries = 1;
    test_fails(ctx, read_all(ctx, "csv", text, strlen(text), &less), MMF_LIMIT, "1 columns");
    less = options;
    less.max_name_bytes = 2;
    test_fails(ctx, read_all(ctx, "csv", text, strlen(text), &less), MMF_LIMIT, "1 to 2");
    less = options;
    less.max_bytes = 15;
    test_fails(ctx, read_all(ctx, "csv", text, strlen(text), &less), MMF_LIMIT, "15 bytes");
    /* A cell of 1 MiB is read, one of a byte more is not. */
    const size_t longest = (size_t)1 << 20;
    char *const big = malloc(longest + 16);
    for (size_t extra = 0; extra < 2; extra++) {
        memcpy(big, "a\n", 2);
        memset(big + 2, 'x', longest + extra);
        const mmf_status status = read_all(ctx, "csv", big, 2 + longest + extra, NULL);
        if (extra == 0)
            test_ok(ctx, status);
        else
            test_fails(ctx, status, MMF_LIMIT, "1048577");
    }
    /* One wide cell must not make every row of a long table as wide. */
    const size_t n_rows = 1000;
    char *const blown = malloc(longest + 2 * n_rows + 16);
    memcpy(blown, "a\n", 2);
    memset(blown + 2, 'x', longest);
    for (size_t i = 0; i < n_rows; i++)
        memcpy(blown + 2 + longest + 2 * i, "\ny", 2);
    test_fails(ctx, read_all(ctx, "csv", blown, 2 + longest + 2 * n_rows, NULL), MMF_LIMIT,
               "longest cell");
    free(blown);
    free(big);
    mmf_ctx_free(ctx);
}

/* A table cut at a row's end is a shorter table; cut elsewhere it may also be one. Whatever is
 * accepted must agree with the whole. */
static void truncation_and_lack_of_memory_are_survived(void **state)
{
    (void)state;
    const char *const text = "id,m.x,m.y,t\na,10,2.5,\"q \"\"z\"\"\"\nb,30,4.25,w\n";
    mmf_ctx *const ctx = test_ctx();
    for (size_t cut = 0; cut < strlen(text); cut++) {
        const mmf_status status = read_all(ctx, "csv", text, cut, NULL);
        if (status != MMF_OK && status != MMF_FORMAT)
            fail_msg("cut to %zu: %s", cut, mmf_ctx_error(ctx));
        mmf_archive *archive = NULL;
        if (status == MMF_OK && cut > strlen("id,m.x,m.y,t\n")) {
            test_ok(ctx, mmf_archive_open_memory(ctx, &archive, "t", "csv", text, cut, NULL));
            const mmf_array m = load_named(ctx, archive, "m");
            assert_int_equal(m.shape[1], 2);
            assert_true(mmf_array_number(&m, 0) == 10 && mmf_array_number(&m, 1) == 2.5);
            mmf_archive_close(archive);
        }
    }
    mmf_ctx_free(ctx);
    survive_lack_of_memory("csv", text, strlen(text));
}

static void real_tables_are_read(void **state)
{
    (void)state;
    const char *const path = test_shared("data/meld/dev_sent_emo.csv");
    if (!path)
        return;
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    const mmf_array text = load_named(ctx, archive, "Utterance");
    assert_int_equal(text.shape[0], 1109);
    check_cell(&text, 0, "Oh my God, he\xe2\x80\x99s lost it. He\xe2\x80\x99s totally lost it.");
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

static void the_first_byte_that_is_not_utf8_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t line, column;
    } cases[] = {
        {"a,b\n1,2\n3,4\n", 0, 0},
        {"a,b\nna\xc3\xafve,2\n", 0, 0},
        {"a,b\n1,\xfc\n", 2, 2},
        {"a,b\n1,2\n\n\n,\n3,x\xe4\n\xff,\n", 6, 2},
        {"a,b\n\"x\ny\",\"quoted \"\"z\"\"\"\n\xe9,1\n", 4, 1},
        {"a,b\n,\n,\n,\xe9", 4, 2},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_cells cells = mmf_cells_start(ctx, cases[i].text, strlen(cases[i].text), ',');
        mmf_foreign_byte byte = {0};
        assert_int_equal(mmf_cells_find_foreign(&cells, &byte), cases[i].line > 0);
        assert_int_equal(byte.line, cases[i].line);
        assert_int_equal(byte.column, cases[i].column);
        mmf_cells_end(&cells);
    }
    mmf_ctx_free(ctx);
}

static void a_broken_byte_is_found_at_every_place(void **state)
{
    (void)state;
    char text[41];
    for (size_t n = 0; n <= 40; n++) {
        for (size_t at = 0; at < n; at++) {
            memset(text, 'x', n);
            text[at] = '\xfc';
            assert_int_equal(mmf_utf8_first_broken(text, n), at);
        }
        memset(text, 'x', n);
        assert_int_equal(mmf_utf8_first_broken(text, n), n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_byte_that_is_not_utf8_is_found),
        cmocka_unit_test(a_broken_byte_is_found_at_every_place),
        cmocka_unit_test(columns_become_arrays_of_the_contract),
        cmocka_unit_test(line_ends_marks_and_blank_lines_do_not_matter),
        cmocka_unit_test(numbers_are_read_exactly),
        cmocka_unit_test(missing_cells_are_nan_or_empty),
        cmocka_unit_test(tables_that_cannot_be_read_are_refused),
        cmocka_unit_test(limits_hold_at_the_limit_and_not_beyond),
        cmocka_unit_test(truncation_and_lack_of_memory_are_survived),
        cmocka_unit_test(real_tables_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
