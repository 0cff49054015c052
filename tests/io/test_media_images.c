/* test_media_images.c: pictures through mmfuse-read-media. */
#include "media_tools.h"

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
    read_parts(ctx, NULL, "whole.png", 0, 1, 1, "empty", 0);
    read_parts(ctx, NULL, "whole.png", 1, 8, 1, "no JPEG, PNG or WebP", 0);
    read_parts(ctx, NULL, "whole.png", 8, SIZE_MAX, 1, "truncated", 0);
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

/* A JPEG without its end marker, or half of it, is the same picture; one byte less is no picture.
 */
static void check_ends(mmf_ctx *ctx, const char *name, const mmf_media_item *whole)
{
    enum { MARKER = 2, NEAR = 40 };
    if (!strstr(name, ".jpg")) {
        read_parts(ctx, NULL, name, 12, SIZE_MAX, 97, "truncated", 0);
        return;
    }
    const blob file = read_blob(test_path(name));
    const size_t n = (size_t)mmf_array_count(&whole->array);
    unsigned char *const pixels = malloc(n);
    assert_true(pixels && file.n > NEAR);
    memcpy(pixels, whole->array.data, n);
    for (size_t k = 1; k <= MARKER; k++) {
        write_blob(test_path("end.jpg"), file.bytes, file.n - k);
        const mmf_media_item item = read_one(ctx, NULL, test_path("end.jpg"));
        check_picture(&item, 3, 40, 64, NULL);
        assert_memory_equal(item.array.data, pixels, n);
    }
    read_parts(ctx, NULL, "end.jpg", 12, SIZE_MAX, 97, "truncated", 0);
    read_parts(ctx, NULL, "end.jpg", file.n - NEAR, SIZE_MAX, 1, "truncated", 0);
    free(pixels);
    free(file.bytes);
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
        check_ends(ctx, cases[c].name, &item);
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
        cmocka_unit_test(jpeg_and_webp_are_close_to_what_was_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
