/*
 * media_tools.h: files of images, sound and video, made byte by byte or by the command ffmpeg, and
 * one of them through mmfuse-read-media.
 */
#ifndef MMFUSE_TESTS_MEDIA_TOOLS_H
#define MMFUSE_TESTS_MEDIA_TOOLS_H

#include <math.h>
#include <sys/stat.h>
#include <zlib.h>

#include "io_tools.h"
#include "mmfuse/media.h"

#define PI 3.14159265358979

/* ---- Making files ------------------------------------------------------------------------- */

static inline void put_big(unsigned char *to, size_t value, int n)
{
    for (int i = n - 1; i >= 0; i--, value >>= 8)
        to[i] = (unsigned char)value;
}

static inline void put_little(unsigned char *to, size_t value, int n)
{
    for (int i = 0; i < n; i++, value >>= 8)
        to[i] = (unsigned char)value;
}

static inline size_t png_chunk(unsigned char *to, const char *type, const unsigned char *data,
                               size_t n)
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

static inline const char *write_png(const char *name, const png *p)
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

static inline const char *write_wav(const char *name, int rate, int channels,
                                    const int16_t *samples, size_t n_samples, size_t declared)
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

static inline void need_program(void)
{
    if (access(MMF_BINARY_DIR "/mmfuse-read-media", X_OK) == 0)
        return;
    fprintf(stderr, "left out: this build has no mmfuse-read-media (it is one without FFmpeg)\n");
    skip();
}

/* The item of one file; what its array borrows lives until the next call. */
static inline mmf_media_item read_one(mmf_ctx *ctx, const mmf_media_options *options,
                                      const char *path)
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

static inline void refuse(mmf_ctx *ctx, const mmf_media_options *options, const char *path,
                          const char *piece)
{
    const mmf_media_item item = read_one(ctx, options, path);
    if (!strstr(item.error, piece))
        fail_msg("%s: \"%s\" does not say \"%s\"", path, item.error, piece);
}

/* The file `name` cut to `first`, `first` + `step` ... bytes, fewer than `end`, through one stream.
 * A part must be refused, with `piece` in the message, or have less than `whole` elements. */
static inline void read_parts(mmf_ctx *ctx, const mmf_media_options *options, const char *name,
                              size_t first, size_t end, size_t step, const char *piece,
                              int64_t whole)
{
    const blob file = read_blob(test_path(name));
    end = end < file.n ? end : file.n;
    const size_t n = (end - first + step - 1) / step;
    char(*const names)[256] = calloc(n, sizeof *names);
    const char **const paths = calloc(n, sizeof *paths);
    for (size_t i = 0; i < n; i++) {
        char part[64];
        snprintf(part, sizeof part, "part%zu", i);
        write_blob(test_path(part), file.bytes, first + i * step);
        snprintf(names[i], sizeof names[i], "%s", test_path(part));
        paths[i] = names[i];
    }
    mmf_media_stream *stream = NULL;
    test_ok(ctx, mmf_media_open(ctx, &stream, options, paths, (int64_t)n));
    for (size_t i = 0; i < n; i++) {
        mmf_media_item item;
        test_ok(ctx, mmf_media_next(stream, &item));
        if (item.error[0] ? !strstr(item.error, piece) : mmf_array_count(&item.array) >= whole)
            fail_msg("%s cut to %zu of %zu bytes: \"%s\"", name, first + i * step, file.n,
                     item.error);
        unlink(paths[i]);
    }
    mmf_media_close(stream);
    free(names);
    free(paths);
    free(file.bytes);
}

static inline void check_picture(const mmf_media_item *item, int64_t channels, int64_t height,
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

static inline bool run_ffmpeg(const char *arguments, const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "ffmpeg -nostdin -v error -y %s '%s' 2>/dev/null", arguments,
             test_path(name));
    if (system(command) == 0)
        return true;
    fprintf(stderr, "SKIPPED: no %s, as the command ffmpeg is absent or cannot write it\n", name);
    return false;
}

#endif
