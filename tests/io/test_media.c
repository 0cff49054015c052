/*
 * test_media.c: files of images and sound through mmfuse-read-media and its client; stand-ins for
 * the program that die, hang and answer nonsense.
 *
 * The files are made here, byte by byte or by the command ffmpeg.
 */
#include <math.h>
#include <sys/stat.h>
#include <time.h>
#include <zlib.h>

#include "io_tools.h"
#include "mmfuse/media.h"

#define PI 3.14159265358979

/* ---- Making files ------------------------------------------------------------------------- */

static void put_big(unsigned char *to, size_t value, int n)
{
    for (int i = n - 1; i >= 0; i--, value >>= 8)
        to[i] = (unsigned char)value;
}

static void put_little(unsigned char *to, size_t value, int n)
{
    for (int i = 0; i < n; i++, value >>= 8)
        to[i] = (unsigned char)value;
}

static size_t png_chunk(unsigned char *to, const char *type, const unsigned char *data, size_t n)
{
    put_big(to, n, 4);
    memcpy(to + 4, type, 4);
    if (n > 0)
        memcpy(to + 8, data, n);
    put_big(to + 8 + n, crc32(0, to + 4, (uInt)n + 4), 4);
    return n + 12;
}

typedef struct png {
    unsigned width, height, depth, colour;
    const unsigned char *rows; /* with the filter byte in front of each */
    size_t n_rows;
    const unsigned char *palette;
    size_t n_palette;
    int orientation;
} png;

static const char *write_png(const char *name, const png *p)
{
    static unsigned char file[65536], packed[32768];
    unsigned char header[13] = {0}, exif[26] = "MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1";
    put_big(header, p->width, 4);
    put_big(header + 4, p->height, 4);
    header[8] = (unsigned char)p->depth;
    header[9] = (unsigned char)p->colour;
    memcpy(file, "\x89PNG\r\n\x1a\n", 8);
    size_t n = 8 + png_chunk(file + 8, "IHDR", header, sizeof header);
    if (p->palette)
        n += png_chunk(file + n, "PLTE", p->palette, p->n_palette);
    exif[19] = (unsigned char)p->orientation;
    if (p->orientation > 0)
        n += png_chunk(file + n, "eXIf", exif, sizeof exif);
    uLongf n_packed = sizeof packed;
    assert_int_equal(compress(packed, &n_packed, p->rows, p->n_rows), Z_OK);
    n += png_chunk(file + n, "IDAT", packed, n_packed);
    n += png_chunk(file + n, "IEND", NULL, 0);
    write_blob(test_path(name), file, n);
    return test_path(name);
}

/* 3 wide, 2 high: levels 10 x column + 100 x row. */
static const unsigned char small_rows[] = {0, 0, 10, 20, 0, 100, 110, 120};
static const png small = {3, 2, 8, 0, small_rows, sizeof small_rows, NULL, 0, 0};

static const char *write_wav(const char *name, int rate, int channels, const int16_t *samples,
                             size_t n_samples, size_t declared)
{
    unsigned char header[44] = "RIFF....WAVEfmt \20\0\0\0\1\0";
    put_little(header + 4, 36 + 2 * declared, 4);
    put_little(header + 22, (size_t)channels, 2);
    put_little(header + 24, (size_t)rate, 4);
    put_little(header + 28, (size_t)(rate * channels * 2), 4);
    put_little(header + 32, (size_t)(channels * 2), 2);
    put_little(header + 34, 16, 2);
    memcpy(header + 36, "data", 4);
    put_little(header + 40, 2 * declared, 4);
    const char *const path = test_path(name);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(header, 1, sizeof header, file);
    if (n_samples > 0)
        fwrite(samples, 2, n_samples, file);
    fclose(file);
    return path;
}

/* ---- Asking for one file ------------------------------------------------------------------ */

static void need_program(void)
{
    if (access(MMF_BINARY_DIR "/mmfuse-read-media", X_OK) != 0)
        skip(); /* built without FFmpeg */
}

/* The item of one file; what its array borrows lives until the next call. */
static mmf_media_item read_one(mmf_ctx *ctx, const mmf_media_options *options, const char *path)
{
    static unsigned char kept[1 << 20];
    mmf_media_stream *stream = NULL;
    mmf_media_item item;
    test_ok(ctx, mmf_media_open(ctx, &stream, options, &path, 1));
    test_ok(ctx, mmf_media_next(stream, &item));
    assert_int_equal(item.row, 0);
    assert_string_equal(item.path, path);
    assert_int_equal(item.array.data == NULL, item.error[0] != '\0');
    const size_t n = (size_t)mmf_array_count(&item.array) * item.array.item_bytes;
    assert_true(n <= sizeof kept);
    if (item.array.data) {
        memcpy(kept, item.array.data, n);
        item.array.data = kept;
    }
    mmf_media_close(stream);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    return item;
}

static void refuse(mmf_ctx *ctx, const mmf_media_options *options, const char *path,
                   const char *piece)
{
    const mmf_media_item item = read_one(ctx, options, path);
    if (!strstr(item.error, piece))
        fail_msg("%s: \"%s\" does not say \"%s\"", path, item.error, piece);
}

static void check_picture(const mmf_media_item *item, int64_t channels, int64_t height,
                          int64_t width, const unsigned char *pixels)
{
    if (item->error[0])
        fail_msg("%s: %s", item->path, item->error);
    assert_int_equal(item->array.dtype, MMF_U8);
    assert_int_equal(item->array.n_dims, 3);
    assert_int_equal(item->array.shape[0], channels);
    assert_int_equal(item->array.shape[1], height);
    assert_int_equal(item->array.shape[2], width);
    if (pixels)
        assert_memory_equal(item->array.data, pixels, (size_t)(channels * height * width));
}

/* ---- Pictures ----------------------------------------------------------------------------- */

static void every_kind_of_png_becomes_bytes(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    mmf_media_options grey = MMF_MEDIA_OPTIONS_INIT, colour = MMF_MEDIA_OPTIONS_INIT;
    grey.channels = 1;
    mmf_media_item item = read_one(ctx, &grey, write_png("grey.png", &small));
    check_picture(&item, 1, 2, 3, (const unsigned char *)"\0\12\24\x64\x6e\x78");
    item = read_one(ctx, &colour, write_png("grey.png", &small));
    check_picture(
        &item, 3, 2, 3,
        (const unsigned char *)"\0\12\24\x64\x6e\x78\0\12\24\x64\x6e\x78\0\12\24\x64\x6e\x78");

    static const unsigned char deep[] = {0,    0xff, 0xff, 0x80, 0x00, 0x00, 0x7f,
                                         0x01, 0x02, 0x00, 0x80, 0xfe, 0xff};
    const png rgb16 = {2, 1, 16, 2, deep, sizeof deep, NULL, 0, 0};
    item = read_one(ctx, &colour, write_png("deep.png", &rgb16));
    check_picture(&item, 3, 1, 2, (const unsigned char *)"\xff\1\x80\0\0\xfe");
    static const unsigned char deep_grey[] = {0, 0x12, 0x34, 0xff, 0x80};
    const png grey16 = {2, 1, 16, 0, deep_grey, sizeof deep_grey, NULL, 0, 0};
    item = read_one(ctx, &grey, write_png("deep.png", &grey16));
    check_picture(&item, 1, 1, 2, (const unsigned char *)"\x12\xff");

    static const unsigned char indices[] = {0, 1, 0, 2};
    static const unsigned char palette[] = {1, 2, 3, 10, 20, 30, 100, 200, 250};
    const png indexed = {3, 1, 8, 3, indices, sizeof indices, palette, sizeof palette, 0};
    item = read_one(ctx, &colour, write_png("palette.png", &indexed));
    check_picture(&item, 3, 1, 3, (const unsigned char *)"\12\1\x64\24\2\xc8\36\3\xfa");
    item = read_one(ctx, &grey, write_png("palette.png", &indexed));
    check_picture(&item, 1, 1, 3,
                  (const unsigned char *)"\22\2\xb0"); /* .299 R + .587 G + .114 B */

    static const unsigned char clear[] = {0, 9, 8, 7, 0, 6, 5, 4, 255};
    const png rgba = {2, 1, 8, 6, clear, sizeof clear, NULL, 0, 0};
    item = read_one(ctx, &colour, write_png("alpha.png", &rgba));
    check_picture(&item, 3, 1, 2, (const unsigned char *)"\11\6\10\5\7\4");
    static const unsigned char bits[] = {0, 0xa0};
    const png binary = {3, 1, 1, 0, bits, sizeof bits, NULL, 0, 0};
    item = read_one(ctx, &grey, write_png("bits.png", &binary));
    check_picture(&item, 1, 1, 3, (const unsigned char *)"\xff\0\xff");
    mmf_ctx_free(ctx);
}

/* Row and column of the stored picture at which each upright one begins, by the EXIF standard. */
static void pictures_are_turned_upright(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.channels = 1;
    static const unsigned char a = 0, b = 10, c = 20, d = 100, e = 110, f = 120;
    const unsigned char upright[8][6] = {
        {a, b, c, d, e, f}, {c, b, a, f, e, d}, {f, e, d, c, b, a}, {d, e, f, a, b, c},
        {a, d, b, e, c, f}, {d, a, e, b, f, c}, {f, c, e, b, d, a}, {c, f, b, e, a, d},
    };
    for (int o = 1; o <= 8; o++) {
        png turned = small;
        turned.orientation = o;
        const mmf_media_item item = read_one(ctx, &options, write_png("turned.png", &turned));
        check_picture(&item, 1, o < 5 ? 2 : 3, o < 5 ? 3 : 2, upright[o - 1]);
    }
    mmf_ctx_free(ctx);
}

static void pictures_are_scaled_and_cropped(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.channels = 1;
    options.short_side = 1; /* 3 x 2 to 1 x 1: what PIL makes of it */
    mmf_media_item item = read_one(ctx, &options, write_png("small.png", &small));
    check_picture(&item, 1, 1, 1, (const unsigned char *)"\x3c");
    options.short_side = 4;
    item = read_one(ctx, &options, write_png("small.png", &small));
    static const unsigned char larger[24] = {
        0,  3,  8,  13, 18, 20, 25,  28,  33,  38,  43,  45,
        75, 78, 83, 88, 93, 95, 100, 103, 108, 113, 118, 120,
    };
    check_picture(&item, 1, 4, 6, larger);
    options.short_side = 0;
    options.crop_h = 4;
    options.crop_w = 2;
    item = read_one(ctx, &options, write_png("small.png", &small));
    check_picture(&item, 1, 4, 2, (const unsigned char *)"\0\0\0\12\x64\x6e\0\0");
    mmf_ctx_free(ctx);
}

static void bad_pictures_are_one_message_each(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    const blob file = read_blob(write_png("whole.png", &small));
    for (size_t n = 0; n < file.n; n++) {
        write_blob(test_path("cut.png"), file.bytes, n);
        refuse(ctx, NULL, test_path("cut.png"),
               n == 0  ? "empty"
               : n < 8 ? "no JPEG, PNG or WebP"
                       : "truncated");
    }
    file.bytes[file.n - 20] ^= 0x40; /* in the coded pixels */
    write_blob(test_path("flip.png"), file.bytes, file.n);
    refuse(ctx, NULL, test_path("flip.png"), "damaged");
    free(file.bytes);
    png huge = small;
    huge.width = huge.height = 50000;
    refuse(ctx, NULL, write_png("huge.png", &huge), "50000 x 50000 pixels; at most 100000000");
    huge.width = 0;
    refuse(ctx, NULL, write_png("huge.png", &huge), "no width");
    refuse(ctx, NULL, test_path("absent.png"), "cannot open");
    refuse(ctx, NULL, test_path(""), "not a regular file");
    refuse(ctx, NULL, "line\nbreak.png", "line break");
    char path[5000];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    refuse(ctx, NULL, path, "too long");
    mmf_ctx_free(ctx);
}

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

/* ---- What ffmpeg writes ------------------------------------------------------------------- */

static bool run_ffmpeg(const char *arguments, const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "ffmpeg -nostdin -v error -y %s '%s' 2>/dev/null", arguments,
             test_path(name));
    if (system(command) == 0)
        return true;
    fprintf(stderr, "SKIPPED: no %s, as the command ffmpeg is absent or cannot write it\n", name);
    return false;
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
        /* Cut in the middle: what is left is refused or shorter, never a crash. */
        const blob file = read_blob(test_path(cases[c].name));
        for (size_t cut = 0; cut < 8; cut++) {
            write_blob(test_path("cut"), file.bytes, file.n * cut / 8);
            const mmf_media_item part = read_one(ctx, &options, test_path("cut"));
            assert_true(part.error[0] != '\0' || part.array.shape[0] < 33075);
        }
        free(file.bytes);
    }
    mmf_ctx_free(ctx);
}

static void jpeg_and_webp_are_close_to_what_was_drawn(void **state)
{
    (void)state;
    need_program();
    mmf_ctx *const ctx = test_ctx();
    static const struct {
        const char *name, *encoder;
        double tolerance;
    } cases[] = {
        {"d420.jpg", "-pix_fmt yuvj420p -q:v 2", 3},
        {"d422.jpg", "-pix_fmt yuvj422p -q:v 2", 3},
        {"d444.jpg", "-pix_fmt yuvj444p -q:v 2", 3},
        {"d.webp", "-c:v libwebp -quality 95", 3},
        {"dl.webp", "-c:v libwebp -pix_fmt bgra -lossless 1", 0.01},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char arguments[256];
        snprintf(
            arguments, sizeof arguments,
            "-f lavfi -i 'color=black:s=64x40,format=gbrp,geq=r=4*X:g=6*Y:b=128' -frames:v 1 %s",
            cases[c].encoder);
        if (!run_ffmpeg(arguments, cases[c].name))
            continue;
        const mmf_media_item item = read_one(ctx, NULL, test_path(cases[c].name));
        check_picture(&item, 3, 40, 64, NULL);
        double sum = 0;
        for (int64_t i = 0; i < 3 * 40 * 64; i++) {
            const int64_t y = i / 64 % 40, x = i % 64;
            const double wanted = i < 2560 ? 4.0 * (double)x : i < 5120 ? 6.0 * (double)y : 128;
            sum += fabs(mmf_array_number(&item.array, i) - wanted);
        }
        if (sum / 7680 > cases[c].tolerance)
            fail_msg("%s differs by %g levels", cases[c].name, sum / 7680);
        const blob file = read_blob(test_path(cases[c].name));
        for (size_t n = 12; n < file.n; n += file.n / 7) {
            write_blob(test_path("cut"), file.bytes, n);
            refuse(ctx, NULL, test_path("cut"), "truncated");
        }
        free(file.bytes);
    }
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
        cmocka_unit_test(every_kind_of_png_becomes_bytes),
        cmocka_unit_test(pictures_are_turned_upright),
        cmocka_unit_test(pictures_are_scaled_and_cropped),
        cmocka_unit_test(bad_pictures_are_one_message_each),
        cmocka_unit_test(channels_are_averaged),
        cmocka_unit_test(rates_are_converted),
        cmocka_unit_test(long_sound_is_cut_and_short_sound_refused),
        cmocka_unit_test(other_formats_of_sound),
        cmocka_unit_test(jpeg_and_webp_are_close_to_what_was_drawn),
        cmocka_unit_test(items_come_in_order),
        cmocka_unit_test(a_program_that_fails_costs_one_file),
        cmocka_unit_test(a_program_that_does_not_start_is_an_error),
        cmocka_unit_test(decoding_is_stopped_on_request),
        cmocka_unit_test(lack_of_memory_is_survived),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(frames_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
