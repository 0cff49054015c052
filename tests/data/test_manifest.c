/* test_manifest.c: cells, kinds of columns, classes, paths, and what is refused. */
#include "data/manifest.h"
#include "support.h"

static mmf_manifest read_text(mmf_ctx *ctx, const char *path, const char *text)
{
    mmf_manifest m;
    test_ok(ctx, mmf_manifest_read(ctx, &m, path, text, strlen(text)));
    return m;
}

static void check_cell(const mmf_manifest *m, int64_t row, size_t column, const char *wanted)
{
    const mmf_manifest_cell cell = mmf_manifest_at(m, row, column);
    assert_int_equal(cell.n_bytes, strlen(wanted));
    assert_memory_equal(cell.text, wanted, cell.n_bytes);
}

static void cells_are_texts_and_names(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_manifest m = read_text(ctx, "a/b/m.csv",
                               "id, image ,text\n"
                               "1,x.png,\"He said \"\"no\"\", twice\"\n"
                               "\n"
                               "2, sub/y.JPG ,\"two\nlines\"\n"
                               "3,/z.webp,\n");
    assert_int_equal(m.n_rows, 3);
    assert_int_equal(m.n_columns, 3);
    assert_string_equal(m.names[1], "image");
    check_cell(&m, 0, 2, "He said \"no\", twice");
    check_cell(&m, 1, 1, "sub/y.JPG");
    check_cell(&m, 1, 2, "two\nlines");
    check_cell(&m, 2, 2, "");
    assert_int_equal(m.lines[0], 2);
    assert_int_equal(m.lines[1], 4);
    assert_int_equal(m.lines[2], 6); /* the row before it has a line break inside */
    char *path = NULL;
    test_ok(ctx, mmf_manifest_path(&m, 1, 1, &path));
    assert_string_equal(path, "a/b/sub/y.JPG");
    mmf_free(ctx, path);
    test_ok(ctx, mmf_manifest_path(&m, 2, 1, &path));
    assert_string_equal(path, "/z.webp");
    mmf_free(ctx, path);
    mmf_manifest_close(&m);
    mmf_manifest t = read_text(ctx, "m.tsv", "a\tb\nx, y\tz.wav\n");
    check_cell(&t, 0, 0, "x, y");
    test_ok(ctx, mmf_manifest_path(&t, 0, 1, &path));
    assert_string_equal(path, "z.wav");
    mmf_free(ctx, path);
    mmf_manifest_close(&t);
    mmf_ctx_free(ctx);
}

static void endings_say_what_a_column_holds(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_manifest m = read_text(ctx, "m.csv",
                               "id,a,b,c,d,e,f.1,label\n"
                               "i.png,a.png,b.wav,c.mp4,d.png,7,1,l.png\n"
                               "j.png,,b.FLAC,c.mkv,d.wav,x,2,l.png\n");
    static const mmf_raw_kind wanted[] = {MMF_RAW_NONE, MMF_RAW_IMAGE, MMF_RAW_AUDIO, MMF_RAW_VIDEO,
                                          MMF_RAW_NONE, MMF_RAW_NONE,  MMF_RAW_NONE,  MMF_RAW_NONE};
    for (size_t c = 0; c < 8; c++)
        assert_int_equal(mmf_manifest_kind(&m, c), wanted[c]);
    assert_true(mmf_manifest_has_text(&m, 5));
    assert_false(mmf_manifest_has_text(&m, 6));
    assert_int_equal(mmf_raw_kind_of("png", 3), MMF_RAW_NONE);
    assert_int_equal(mmf_raw_kind_of(".png", 4), MMF_RAW_NONE);
    assert_int_equal(mmf_raw_kind_of("a.png", 4), MMF_RAW_NONE); /* "a.pn" */
    assert_int_equal(mmf_raw_kind_of("a.b.OGG", 7), MMF_RAW_AUDIO);
    mmf_manifest_close(&m);
    mmf_ctx_free(ctx);
}

static void class_names_become_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_manifest m = read_text(ctx, "m.csv", "label,other\ndog,x\ncat,\ndog,y\nants,x\n");
    mmf_array names = {.data = NULL}, classes = {.data = NULL};
    test_ok(ctx, mmf_manifest_classes(&m, 0, true, &names, &classes));
    static const int64_t wanted[] = {2, 1, 2, 0};
    assert_int_equal(names.shape[0], 3);
    size_t n = 0;
    assert_memory_equal(mmf_array_string(&names, 0, &n), "ants", 4);
    for (int64_t i = 0; i < 4; i++)
        assert_int_equal(mmf_array_integer(&classes, i), wanted[i]);
    mmf_free(ctx, (void *)(uintptr_t)names.data);
    mmf_free(ctx, (void *)(uintptr_t)classes.data);
    /* In the order of a model, which need not be alphabetic. */
    static const char text[] = "dog\0\0cat\0\0ants";
    mmf_array given = {MMF_STR, 1, {3}, 5, text};
    test_ok(ctx, mmf_manifest_classes(&m, 0, true, &given, &classes));
    assert_int_equal(mmf_array_integer(&classes, 0), 0);
    assert_int_equal(mmf_array_integer(&classes, 3), 2);
    mmf_free(ctx, (void *)(uintptr_t)classes.data);
    given.shape[0] = 2;
    test_fails(ctx, mmf_manifest_classes(&m, 0, true, &given, &classes), MMF_FORMAT,
               "column \"label\", row 4 (line 5): \"ants\"");
    test_ok(ctx, mmf_manifest_classes(&m, 0, false, &given, &classes));
    assert_null(classes.data);
    mmf_array others = {.data = NULL};
    test_fails(ctx, mmf_manifest_classes(&m, 1, true, &others, &classes), MMF_FORMAT,
               "column \"other\", row 2 (line 3): an empty cell");
    mmf_free(ctx, (void *)(uintptr_t)others.data);
    mmf_manifest_close(&m);
    mmf_ctx_free(ctx);
}

static void bad_tables_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *piece;
    } cases[] = {
        {"", "empty"},
        {"a,b\n", "no rows"},
        {"a,a\n1,2\n", "\"a\" is there twice"},
        {"a,\n1,2\n", "column 2: a name of 0 bytes"},
        {"a,b\n1\n", "row 1 (line 2): 1 cells where the first line names 2"},
        {"a,b\n1,2\n\n1,2,3\n", "row 2 (line 4): 3 cells"},
        {"a,b\n1,\"2\n", "never closed"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_manifest m;
        test_fails(ctx, mmf_manifest_read(ctx, &m, "m.csv", cases[i].text, strlen(cases[i].text)),
                   MMF_FORMAT, cases[i].piece);
        mmf_manifest_close(&m);
    }
    mmf_manifest m = read_text(ctx, "m.csv", "image,audio\nx.png,y.wav\n");
    size_t column = 0;
    test_ok(ctx, mmf_manifest_need(&m, "audio", &column));
    assert_int_equal(column, 1);
    test_fails(ctx, mmf_manifest_need(&m, "imag", &column), MMF_ARG, "did you mean \"image\"?");
    test_fails(ctx, mmf_manifest_need(&m, "zzz", &column), MMF_ARG, "there are: image, audio");
    mmf_manifest_close(&m);
    mmf_manifest none;
    test_fails(ctx, mmf_manifest_open(ctx, &none, test_path("none.csv")), MMF_IO, "none.csv");
    mmf_manifest_close(&none);
    mmf_ctx_free(ctx);
}

/* Cut anywhere, a table is read or refused; nothing else. */
static void every_prefix_is_survived(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbfid,\"te\"\"xt\",image\r\n1,\"a \"\"b\"\"\",c.png\r\n2,,\n";
    mmf_ctx *const ctx = test_ctx();
    for (size_t n = 0; n <= sizeof text - 1; n++) {
        mmf_manifest m;
        if (mmf_manifest_read(ctx, &m, "m.csv", text, n) == MMF_OK)
            assert_true(m.n_rows > 0);
        else
            assert_true(*mmf_ctx_error(ctx) != '\0');
        mmf_manifest_close(&m);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static mmf_status check_kinds(mmf_ctx *ctx, int n_images, int n_others, const char *other)
{
    char text[4096] = "id,image\n";
    size_t n = strlen(text);
    for (int i = 0; i < n_images + n_others; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d,%s\n", i,
                              i < n_others ? other : "x.png");
    mmf_manifest m = read_text(ctx, "m.csv", text);
    assert_int_equal(mmf_manifest_is_mixed(&m, 1), n_images > n_others && n_others > 0 && *other);
    const mmf_status status = mmf_manifest_check_mixed(&m, 1);
    mmf_manifest_close(&m);
    return status;
}

static void a_name_unlike_nine_others_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const others[] = {"x.pgn", "none", "x.wav", "\xff.txt", "so it is."};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        test_ok(ctx, check_kinds(ctx, 8, 1, others[i]));
        test_fails(ctx, check_kinds(ctx, 9, 1, others[i]), MMF_FORMAT,
                   "m.csv: column \"image\", row 1 (line 2): ");
        test_ok(ctx, check_kinds(ctx, 17, 2, others[i]));
        test_fails(ctx, check_kinds(ctx, 18, 2, others[i]), MMF_FORMAT, "18 of the 20 cells");
    }
    test_ok(ctx, check_kinds(ctx, 20, 3, ""));         /* empty: absent */
    test_ok(ctx, check_kinds(ctx, 1, 9, "so it is.")); /* texts, one of which ends like a file */
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_are_texts_and_names),
        cmocka_unit_test(endings_say_what_a_column_holds),
        cmocka_unit_test(a_name_unlike_nine_others_is_refused),
        cmocka_unit_test(class_names_become_numbers),
        cmocka_unit_test(bad_tables_are_refused),
        cmocka_unit_test(every_prefix_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
