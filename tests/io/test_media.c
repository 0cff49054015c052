/* test_media.c: many files through mmfuse-read-media and its client; the program alone. */
#include "media_tools.h"

/* ---- The program alone -------------------------------------------------------------------- */

static int convert(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && '%s/mmfuse-read-media' %s > out.npz 2> says.txt",
             test_path(""), MMF_BINARY_DIR, arguments);
    return system(command);
}

static void a_folder_becomes_arrays_with_labels(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    mkdir(test_path("set"), 0700);
    mkdir(test_path("set/cat"), 0700);
    mkdir(test_path("set/ant"), 0700);
    write_png("set/cat/1.png", &small);
    write_png("set/ant/2.png", &small);
    write_blob(test_path("set/ant/3.png"), "nothing", 7);
    write_blob(test_path("set/notes.txt"), "nothing", 7);
    assert_int_not_equal(convert("channels=1 set"), 0);
    const blob says = read_blob(test_path("says.txt"));
    says.bytes[says.n] = '\0';
    assert_non_null(strstr((const char *)says.bytes, "ant/3.png: the bytes are no JPEG"));
    free(says.bytes);
    assert_int_equal(convert("--skip channels=1 set"), 0);
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, test_path("out.npz"), NULL));
    const mmf_array image = load_named(ctx, archive, "image"), id = load_named(ctx, archive, "id"),
                    present = load_named(ctx, archive, "image.present"),
                    label = load_named(ctx, archive, "label"),
                    names = load_named(ctx, archive, "label.names");
    assert_int_equal(image.n_dims, 4);
    assert_int_equal(image.shape[0], 3);
    assert_int_equal(mmf_array_integer(&image, 12 + 5), 120);
    check_cell(&id, 0, "ant/2.png");
    check_cell(&names, 1, "cat");
    static const int rows[3][2] = {{1, 0}, {0, 0}, {1, 1}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(mmf_array_integer(&present, i), rows[i][0]);
        assert_int_equal(mmf_array_integer(&label, i), rows[i][1]);
    }
    mmf_archive_close(archive);
    png wide = small;
    wide.width = 2;
    wide.height = 2;
    wide.n_rows = 6;
    write_png("set/ant/3.png", &wide);
    assert_int_not_equal(convert("channels=1 set"), 0);
    assert_int_equal(convert("channels=1 short_side=5 crop_h=4 crop_w=3 set"), 0);
    assert_int_not_equal(convert("set/notes.txt"), 0);
    assert_int_not_equal(convert("size=3 set"), 0);
    mmf_ctx_free(ctx);
}

/* The endings lead to the program; recordings of different lengths become one array. */
static void recordings_are_padded(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static const int16_t samples[4] = {16384, -16384, 8192, 4096};
    mkdir(test_path("sounds"), 0700);
    write_wav("sounds/a.wav", 8000, 1, samples, 2, 2);
    write_wav("sounds/b.wav", 8000, 1, samples, 4, 4);
    assert_int_equal(convert("sounds"), 0);
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, test_path("out.npz"), NULL));
    const mmf_array audio = load_named(ctx, archive, "audio"),
                    length = load_named(ctx, archive, "audio.length");
    assert_int_equal(audio.n_dims, 3);
    assert_int_equal(audio.shape[1], 4);
    static const double wanted[8] = {0.5, -0.5, 0, 0, 0.5, -0.5, 0.25, 0.125};
    for (int i = 0; i < 8; i++)
        assert_true(mmf_array_number(&audio, i) == wanted[i]);
    assert_int_equal(mmf_array_integer(&length, 0), 2);
    mmf_archive_close(archive);
    test_ok(ctx, mmf_archive_open(ctx, &archive, test_path("sounds/b.wav"), NULL));
    assert_int_equal(load_named(ctx, archive, "audio").shape[1], 4);
    mmf_archive_close(archive);
    write_wav("sounds/b.wav", 16000, 1, samples, 4, 4);
    assert_int_not_equal(convert("sounds"), 0);
    assert_int_equal(convert("sample_rate=8000 sounds"), 0);
    mmf_ctx_free(ctx);
}

/* ---- The stream --------------------------------------------------------------------------- */

static void items_come_in_order(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    enum { N = 500 };
    static char names[N][256];
    const char *paths[N];
    unsigned char rows[8];
    for (int i = 0; i < N; i++) {
        png numbered = small;
        memcpy(rows, small_rows, sizeof rows);
        rows[1] = (unsigned char)i;
        rows[2] = (unsigned char)(i >> 8);
        numbered.rows = rows;
        char name[32];
        snprintf(name, sizeof name, "n%d.png", i);
        snprintf(names[i], sizeof names[i], "%s",
                 i % 50 == 7 ? "/no/such/file" : write_png(name, &numbered));
        paths[i] = names[i];
    }
    for (int workers = 1; workers <= 3; workers++) {
        mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
        options.channels = 1;
        options.n_workers = workers;
        mmf_media_stream *stream = NULL;
        mmf_media_item item;
        test_ok(ctx, mmf_media_open(ctx, &stream, &options, paths, N));
        for (int i = 0; i < N; i++) {
            test_ok(ctx, mmf_media_next(stream, &item));
            assert_int_equal(item.row, i);
            assert_int_equal(item.error[0] != '\0', i % 50 == 7);
            if (!item.error[0])
                assert_int_equal(
                    mmf_array_integer(&item.array, 0) + 256 * mmf_array_integer(&item.array, 1), i);
        }
        test_fails(ctx, mmf_media_next(stream, &item), MMF_STATE, "all 500 files");
        mmf_media_close(stream);
        test_ok(ctx, mmf_media_open(ctx, &stream, &options, paths, N)); /* left in the middle */
        test_ok(ctx, mmf_media_next(stream, &item));
        mmf_media_close(stream);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_becomes_arrays_with_labels),
        cmocka_unit_test(recordings_are_padded),
        cmocka_unit_test(items_come_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
