/*
 * test_media_stream.c: the client of mmfuse-read-media with stand-ins for the program that die,
 * hang and answer nonsense; its options and its frames.
 */
#include <sys/stat.h>

#include "io_tools.h"
#include "mmfuse/media.h"

/* A shell script in the program's place. `answer ROW` writes a picture of one pixel. */
static const char *make_program(const char *body)
{
    static char folder[256];
    snprintf(folder, sizeof folder, "%s", test_path("programs"));
    mkdir(folder, 0700);
    char path[512];
    snprintf(path, sizeof path, "%s/mmfuse-read-media", folder);
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "#!/bin/bash\n"
            "u() { local i v=$1; for ((i = 0; i < $2; i++)); do printf \"\\\\x$(printf %%x $((v & "
            "255)))\"; ((v >>= 8)); done; }\n"
            "greet() { printf MMFMEDIA; u 0 8; u -1 8; u 0 56; }\n"
            "answer() { printf MMFMEDIA; u 0 8; u $1 8; u 1 8; u 1 8; u 1 8; u 0 8; u 3 8; u 0 8; "
            "u 1 8; u $1 1; }\n"
            "%s\n",
            body);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    return folder;
}

static void a_program_that_fails_costs_one_file(void **state)
{
    (void)state;
    static const struct {
        const char *body, *piece;
    } cases[] = {
        {"greet; while read row path; do [ $row = 3 ] && kill -SEGV $$; answer $row; done",
         "killed by signal 11"},
        {"greet; while read row path; do [ $row = 3 ] && { echo 'no more' >&2; exit 9; }; answer "
         "$row; done",
         "exit code 9: no more"},
        {"greet; while read row path; do [ $row = 3 ] && sleep 60; answer $row; done",
         "within 1 seconds"},
        {"greet; while read row path; do [ $row = 3 ] && { head -c 80 /dev/zero; sleep 60; }; "
         "answer $row; done",
         "no frame"},
        {"greet; while read row path; do [ $row = 3 ] && answer 77; answer $row; done", "no frame"},
        {"greet; while read row path; do [ $row = 3 ] && { printf MMFMEDIA; exit; }; answer $row; "
         "done",
         "exit code 0"},
    };
    static const char *const paths[8] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
        options.helper_dir = make_program(cases[c].body);
        options.helper_seconds = 1;
        options.n_workers = 1 + (int)(c % 2);
        mmf_media_stream *stream = NULL;
        test_ok(ctx, mmf_media_open(ctx, &stream, &options, paths, 8));
        for (int i = 0; i < 8; i++) {
            mmf_media_item item;
            test_ok(ctx, mmf_media_next(stream, &item));
            if (i != 3 && item.error[0])
                fail_msg("case %zu, row %d: %s", c, i, item.error);
            if (i == 3 && !strstr(item.error, cases[c].piece))
                fail_msg("case %zu: \"%s\" does not say \"%s\"", c, item.error, cases[c].piece);
            if (i != 3)
                assert_int_equal(mmf_array_integer(&item.array, 0), i);
        }
        mmf_media_close(stream);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    }
    mmf_ctx_free(ctx);
}

static void a_program_that_does_not_start_is_an_error(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = "a";
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    mmf_media_stream *stream = NULL;
    mmf_media_item item;
    options.helper_dir = make_program("echo 'cannot open libavcodec.so' >&2; exit 127");
    test_ok(ctx, mmf_media_open(ctx, &stream, &options, &path, 1));
    test_fails(ctx, mmf_media_next(stream, &item), MMF_IO, "does not start");
    assert_non_null(strstr(mmf_ctx_error(ctx), "cannot open libavcodec.so"));
    mmf_media_close(stream);
    char program[512];
    snprintf(program, sizeof program, "%s/mmfuse-read-media", options.helper_dir);
    write_blob(program, "#!/no/such/interpreter\n", 23);
    test_fails(ctx, mmf_media_open(ctx, &stream, &options, &path, 1), MMF_IO, "cannot start");
    assert_null(stream);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void decoding_is_stopped_on_request(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const path = "a";
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.helper_dir = make_program("exec sleep 60");
    mmf_media_stream *stream = NULL;
    mmf_media_item item;
    test_ok(ctx, mmf_media_open(ctx, &stream, &options, &path, 1));
    mmf_ctx_cancel(ctx);
    test_fails(ctx, mmf_media_next(stream, &item), MMF_CANCELLED, "interrupted");
    mmf_media_close(stream);
    mmf_ctx_free(ctx);
}

static void lack_of_memory_is_survived(void **state)
{
    (void)state;
    fault_allocator f;
    mmf_ctx *const ctx = fault_ctx(&f);
    static const char *const paths[3] = {"a", "b\nb", "c"};
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.helper_dir = make_program("greet; while read row path; do answer $row; done");
    options.n_workers = 2;
    mmf_status status = MMF_NOMEM;
    for (int64_t n = 0; status != MMF_OK; n++) {
        mmf_media_stream *stream = NULL;
        mmf_media_item item;
        f.before_fault = n;
        status = mmf_media_open(ctx, &stream, &options, paths, 3);
        for (int i = 0; status == MMF_OK && i < 3; i++)
            status = mmf_media_next(stream, &item);
        f.before_fault = -1;
        if (status != MMF_OK)
            test_fails(ctx, status, MMF_NOMEM, "out of memory");
        mmf_media_close(stream);
        assert_int_equal(f.n_live, 1);
    }
    mmf_ctx_free(ctx);
}

/* ---- Options and frames ------------------------------------------------------------------- */

static void options_are_checked(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    test_ok(ctx, mmf_media_options_set(ctx, &options, "kind=video"));
    test_ok(ctx, mmf_media_options_set(ctx, &options, "n_frames=8"));
    assert_int_equal(options.kind, MMF_MEDIA_VIDEO);
    assert_int_equal(options.n_frames, 8);
    test_fails(ctx, mmf_media_options_set(ctx, &options, "kind=smell"), MMF_ARG, "smell");
    test_fails(ctx, mmf_media_options_set(ctx, &options, "crop_h=-1"), MMF_ARG, "crop_h=-1");
    test_fails(ctx, mmf_media_options_set(ctx, &options, "crop_h=1x"), MMF_ARG, "crop_h=1x");
    test_fails(ctx, mmf_media_options_set(ctx, &options, "crop=1"), MMF_ARG, "no option");
    test_fails(ctx, mmf_media_options_set(ctx, &options, "crop_h"), MMF_ARG, "no option");
    options.channels = 2;
    test_fails(ctx, mmf_media_options_complete(ctx, &options), MMF_ARG, "channels is 2");
    options.channels = 4;
    test_fails(ctx, mmf_media_options_complete(ctx, &options), MMF_ARG, "channels is 4");
    options.channels = 0;
    options.crop_w = 3;
    test_fails(ctx, mmf_media_options_complete(ctx, &options), MMF_ARG, "0 x 3");
    options.crop_w = 0;
    options.sample_rate = -1;
    test_fails(ctx, mmf_media_options_complete(ctx, &options), MMF_ARG, "sample_rate is -1");
    options.sample_rate = 0;
    test_ok(ctx, mmf_media_options_complete(ctx, &options));
    assert_int_equal(options.channels, 3);
    mmf_media_kind kind = MMF_MEDIA_AUDIO;
    assert_true(mmf_media_kind_of("a.b/C.JPeG", &kind) && kind == MMF_MEDIA_IMAGE);
    assert_true(mmf_media_kind_of("x.ogg", &kind) && kind == MMF_MEDIA_AUDIO);
    assert_true(mmf_media_kind_of("x.webm", &kind) && kind == MMF_MEDIA_VIDEO);
    assert_true(!mmf_media_kind_of("x.wav/y", &kind) && !mmf_media_kind_of("wav", &kind));
    mmf_ctx_free(ctx);
}

static void frames_are_checked(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_media_frame frame = {
        .row = 12345678901, .array = {MMF_U8, 3, {3, 20, 10}, 1, NULL}, .n_bytes = 600};
    unsigned char bytes[MMF_MEDIA_HEADER_BYTES];
    mmf_media_frame_pack(&frame, bytes);
    mmf_media_frame back;
    test_ok(ctx, mmf_media_frame_parse(ctx, &back, bytes, MMF_MEDIA_IMAGE, 600));
    assert_int_equal(back.row, frame.row);
    assert_int_equal(back.array.shape[1], 20);
    test_fails(ctx, mmf_media_frame_parse(ctx, &back, bytes, MMF_MEDIA_IMAGE, 599), MMF_LIMIT,
               "600 bytes");
    test_fails(ctx, mmf_media_frame_parse(ctx, &back, bytes, MMF_MEDIA_AUDIO, 600), MMF_FORMAT,
               "3 dimensions");
    static const int places[] = {0, 7, 8, 12, 24, 31, 39, 56, 72, 79};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bytes[places[i]] ^= 0x84;
        assert_int_not_equal(mmf_media_frame_parse(ctx, &back, bytes, MMF_MEDIA_IMAGE, 600),
                             MMF_OK);
        bytes[places[i]] ^= 0x84;
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_that_fails_costs_one_file),
        cmocka_unit_test(a_program_that_does_not_start_is_an_error),
        cmocka_unit_test(decoding_is_stopped_on_request),
        cmocka_unit_test(lack_of_memory_is_survived),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(frames_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
