/* test_media_sound.c: sound and video through mmfuse-read-media. */
#include "media_tools.h"

/* ---- Sound -------------------------------------------------------------------------------- */

static void channels_are_averaged(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.kind = MMF_MEDIA_AUDIO;
    static const int16_t samples[6] = {32767, -32768, 16384, 8192, -100, 300};
    mmf_media_item item = read_one(ctx, &options, write_wav("two.wav", 8000, 2, samples, 6, 6));
    assert_int_equal(item.array.dtype, MMF_F32);
    assert_int_equal(item.array.shape[0], 3);
    assert_int_equal(item.sample_rate, 8000);
    for (int64_t i = 0; i < 3; i++)
        assert_true(fabs(mmf_array_number(&item.array, i) -
                         (samples[2 * i] + samples[2 * i + 1]) / 65536.0) < 1e-7);
    item = read_one(ctx, &options, write_wav("one.wav", 11025, 1, samples, 6, 6));
    assert_int_equal(item.sample_rate, 11025);
    for (int64_t i = 0; i < 6; i++)
        assert_true(mmf_array_number(&item.array, i) == samples[i] / 32768.0);
    item = read_one(ctx, &options, write_wav("none.wav", 8000, 1, samples, 0, 0));
    assert_string_equal(item.error, "");
    assert_int_equal(item.array.shape[0], 0);
    mmf_ctx_free(ctx);
}

static void rates_are_converted(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static int16_t tone[44100];
    for (int i = 0; i < 44100; i++)
        tone[i] = (int16_t)lrint(20000 * sin(2 * PI * 440 * i / 44100.0));
    const char *const path = write_wav("tone.wav", 44100, 1, tone, 44100, 44100);
    static const int rates[] = {16000, 8000, 22050, 48000};
    for (int r = 0; r < 4; r++) {
        mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
        options.kind = MMF_MEDIA_AUDIO;
        options.sample_rate = rates[r];
        const mmf_media_item item = read_one(ctx, &options, path);
        assert_string_equal(item.error, "");
        assert_int_equal(item.array.shape[0], rates[r]);
        assert_int_equal(item.sample_rate, rates[r]);
        double worst = 0;
        for (int64_t i = rates[r] / 50; i < rates[r] - rates[r] / 50; i++) {
            const double exact = 20000 / 32768.0 * sin(2 * PI * 440 * (double)i / rates[r]);
            worst = fmax(worst, fabs(mmf_array_number(&item.array, i) - exact));
        }
        assert_true(worst < 2e-4);
    }
    mmf_ctx_free(ctx);
}

static void long_sound_is_cut_and_short_sound_refused(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static int16_t noise[20000];
    for (int i = 0; i < 20000; i++)
        noise[i] = (int16_t)(i * 7919 % 30000);
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.kind = MMF_MEDIA_AUDIO;
    options.max_seconds = 2;
    mmf_media_item item = read_one(ctx, &options, write_wav("a.wav", 8000, 1, noise, 20000, 20000));
    assert_true(item.cut);
    assert_int_equal(item.array.shape[0], 16000);
    item = read_one(ctx, &options, write_wav("a.wav", 8000, 1, noise, 16000, 16000));
    assert_true(!item.cut);
    assert_int_equal(item.array.shape[0], 16000);
    refuse(ctx, &options, write_wav("b.wav", 8000, 1, noise, 4000, 12000), "truncated");
    item = read_one(ctx, &options, write_wav("c.wav", 8000, 1, noise, 4000, 0x7ffffff0));
    assert_string_equal(item.error, ""); /* a size that the writer did not know */
    assert_int_equal(item.array.shape[0], 4000);
    write_blob(test_path("d.wav"), "RIFFxxxxWAVEnothing", 19);
    refuse(ctx, &options, test_path("d.wav"), "damaged");
    write_blob(test_path("e.wav"), "#EXTM3U\nfile:///etc/passwd\n", 27);
    refuse(ctx, &options, test_path("e.wav"), "none of WAV");
    mmf_ctx_free(ctx);
}

static void other_formats_of_sound(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static const struct {
        const char *name, *encoder;
        double tolerance; /* root mean square, of a tone of .5 */
        int64_t slack;    /* samples that the format adds at its end */
    } cases[] = {
        {"t.flac", "-c:a flac", 1e-4, 0},
        {"t.mp3", "-c:a libmp3lame -b:a 192k", 2e-2, 1200},
        {"t.ogg", "-c:a libvorbis -q:a 6", 2e-2, 0},
        {"t24.wav", "-c:a pcm_s24le", 1e-4, 0},
        {"tf.wav", "-c:a pcm_f32le", 1e-4, 0},
        {"t8.wav", "-c:a pcm_u8", 1e-2, 0},
        {"td.wav", "-c:a pcm_f64le", 1e-4, 0},
        {"ta.wav", "-c:a pcm_alaw", 2e-2, 0},
        {"tm.wav", "-c:a adpcm_ms", 2e-2, 2100},
        {"t4.wav", "-c:a pcm_s24le -ac 4", 0.2,
         0}, /* how ffmpeg spreads two over four is its own */
        {"t.m4a", "-c:a aac -b:a 192k", 2e-2, 2100},
    };
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.kind = MMF_MEDIA_AUDIO;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char arguments[256];
        snprintf(arguments, sizeof arguments,
                 "-f lavfi -i 'aevalsrc=0.5*sin(2*PI*500*t)|0.5*sin(2*PI*500*t):d=1.5:s=22050' %s",
                 cases[c].encoder);
        if (!run_ffmpeg(arguments, cases[c].name))
            continue;
        const mmf_media_item item = read_one(ctx, &options, test_path(cases[c].name));
        if (item.error[0])
            fail_msg("%s: %s", item.path, item.error);
        assert_int_equal(item.sample_rate, 22050);
        assert_true(llabs(item.array.shape[0] - 33075) <= cases[c].slack);
        double sum = 0;
        for (int64_t i = 2000; i < 31000; i++) {
            const double exact = 0.5 * sin(2 * PI * 500 * (double)i / 22050);
            sum += pow(mmf_array_number(&item.array, i) - exact, 2);
        }
        if (sqrt(sum / 29000) > cases[c].tolerance)
            fail_msg("%s differs by %g", cases[c].name, sqrt(sum / 29000));
        /* The padding of an MP3 may make up for its last frame. */
        read_parts(ctx, &options, cases[c].name, 0, SIZE_MAX, 1499, "", 33075 + cases[c].slack);
    }
    mmf_ctx_free(ctx);
}

/* A grey that rises by 25 a second over eight seconds. */
static void frames_are_those_of_their_times(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static const struct {
        const char *name, *encoder;
    } cases[] = {
        {"v.mp4", "-c:v libx264 -g 25 -pix_fmt yuv420p"},
        {"v.mkv", "-c:v libx264 -bf 3 -g 250 -pix_fmt yuv420p"},
        {"v.webm", "-c:v libvpx -pix_fmt yuv420p"},
        {"m.mp4", "-c:v mpeg4 -q:v 2 -g 12"},
    };
    static const struct {
        int64_t n_frames, every;
        int levels[8], n;
    } wanted[] = {
        {8, 0, {20, 45, 70, 95, 120, 145, 170, 195}, 8},
        {3, 0, {45, 120, 170}, 3},
        {1, 0, {120}, 1},
        {4, 30, {20, 45, 70, 95}, 4},
        {4, 90, {20, 95, 195}, 3},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char arguments[256];
        snprintf(
            arguments, sizeof arguments,
            "-f lavfi -i \"color=black:s=64x48:r=25:d=8,format=gray,geq=lum='25*floor(T)+20'\" %s",
            cases[c].encoder);
        if (!run_ffmpeg(arguments, cases[c].name))
            continue;
        mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
        options.kind = MMF_MEDIA_VIDEO;
        options.short_side = 12;
        for (size_t w = 0; w < sizeof wanted / sizeof wanted[0]; w++) {
            options.n_frames = wanted[w].n_frames;
            options.every = wanted[w].every;
            const mmf_media_item item = read_one(ctx, &options, test_path(cases[c].name));
            if (item.error[0])
                fail_msg("%s: %s", item.path, item.error);
            assert_int_equal(item.array.n_dims, 4);
            assert_int_equal(item.array.shape[0], wanted[w].n);
            assert_int_equal(item.array.shape[1], 3);
            assert_int_equal(item.array.shape[2], 12);
            assert_int_equal(item.array.shape[3], 16);
            for (int64_t t = 0; t < wanted[w].n; t++) {
                const int64_t level = mmf_array_integer(&item.array, t * 576 + 300);
                if (llabs(level - wanted[w].levels[t]) > 3)
                    fail_msg("%s, case %zu, frame %d: %d", cases[c].name, w, (int)t, (int)level);
            }
        }
        options.n_frames = 2;
        options.every = 0;
        const blob file = read_blob(test_path(cases[c].name));
        read_parts(ctx, &options, cases[c].name, 0, file.n * 9 / 10, file.n / 9, "", 0);
        free(file.bytes);
        options.max_pixels = 1000;
        refuse(ctx, &options, test_path(cases[c].name), "");
    }
    mmf_ctx_free(ctx);
}

static void videos_are_turned_upright(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    if (run_ffmpeg(
            "-f lavfi -i \"color=black:s=64x32:r=5:d=1,format=gray,geq=lum='if(lt(X,32),230,20)'\" "
            "-c:v libx264 -pix_fmt yuv420p",
            "flat.mp4")) {
        char again[512];
        snprintf(again, sizeof again, "-i '%s' -c copy -metadata:s:v rotate=90",
                 test_path("flat.mp4"));
        mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
        options.kind = MMF_MEDIA_VIDEO;
        options.n_frames = 1;
        options.channels = 1;
        const mmf_media_item flat = read_one(ctx, &options, test_path("flat.mp4"));
        assert_int_equal(flat.array.shape[2], 32);
        assert_true(mmf_array_integer(&flat.array, 5) > 200);
        char shown[512];
        snprintf(shown, sizeof shown, "-i '%s' -frames:v 1", test_path("held.mp4"));
        if (run_ffmpeg(again, "held.mp4") && run_ffmpeg(shown, "held.png")) {
            const mmf_media_item held = read_one(ctx, &options, test_path("held.mp4"));
            assert_string_equal(held.error, "");
            assert_int_equal(held.array.shape[2], 64);
            const int64_t top = mmf_array_integer(&held.array, 5),
                          bottom = mmf_array_integer(&held.array, 63 * 32 + 5);
            assert_true(llabs(top - bottom) > 150);
            options.kind = MMF_MEDIA_IMAGE; /* as a player turns it */
            const mmf_media_item wanted = read_one(ctx, &options, test_path("held.png"));
            assert_int_equal(wanted.array.shape[1], 64);
            assert_true(llabs(mmf_array_integer(&wanted.array, 5) - top) < 9);
        }
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_are_averaged),
        cmocka_unit_test(rates_are_converted),
        cmocka_unit_test(long_sound_is_cut_and_short_sound_refused),
        cmocka_unit_test(other_formats_of_sound),
        cmocka_unit_test(frames_are_those_of_their_times),
        cmocka_unit_test(videos_are_turned_upright),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
