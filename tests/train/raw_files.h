/* raw_files.h: small images, recordings and tables of their names, written for tests. */
#ifndef MMFUSE_TESTS_RAW_FILES_H
#define MMFUSE_TESTS_RAW_FILES_H

#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "mmfuse/prepare.h"
#include "support.h"

/** Ends the test where the build has no decoder. */
static inline void needs_media(void)
{
    if (access(MMF_BINARY_DIR "/mmfuse-read-media", X_OK) != 0) {
        print_message("mmfuse-read-media was not built; left out\n");
        skip();
    }
}

static inline void write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void big_endian(unsigned char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> (24 - 8 * i));
}

static inline void png_chunk(FILE *file, const char *type, const unsigned char *data, uint32_t n)
{
    unsigned char number[4];
    big_endian(number, n);
    fwrite(number, 1, 4, file);
    fwrite(type, 1, 4, file);
    fwrite(data, 1, n, file);
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)type, 4);
    crc = n ? crc32(crc, data, n) : crc;
    big_endian(number, (uint32_t)crc);
    fwrite(number, 1, 4, file);
}

/** A picture of one channel (grey) or three. @param pixels  height x width x channels */
static inline void write_png(const char *path, uint32_t height, uint32_t width, int channels,
                             const unsigned char *pixels)
{
    unsigned char head[13] = {0};
    big_endian(head, width);
    big_endian(head + 4, height);
    head[8] = 8;
    head[9] = channels == 3 ? 2 : 0;
    const size_t row = (size_t)width * (size_t)channels;
    unsigned char *const raw = malloc((row + 1) * height);
    uLongf n = compressBound((row + 1) * height);
    unsigned char *const packed = malloc(n);
    for (size_t y = 0; y < height; y++) {
        raw[y * (row + 1)] = 0; /* no filter */
        memcpy(raw + y * (row + 1) + 1, pixels + y * row, row);
    }
    assert_int_equal(compress(packed, &n, raw, (row + 1) * height), Z_OK);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, file);
    png_chunk(file, "IHDR", head, sizeof head);
    png_chunk(file, "IDAT", packed, (uint32_t)n);
    png_chunk(file, "IEND", head, 0);
    assert_int_equal(fclose(file), 0);
    free(raw);
    free(packed);
}

static inline void little_endian(unsigned char *out, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

/** 16-bit samples of a tone. @param hertz  0: silence */
static inline void write_wav(const char *path, uint32_t rate, uint32_t n_samples, double hertz)
{
    unsigned char head[44] = "RIFF\0\0\0\0WAVEfmt ";
    little_endian(head + 4, 36 + 2 * n_samples, 4);
    little_endian(head + 16, 16, 4);
    little_endian(head + 20, 1, 2);
    little_endian(head + 22, 1, 2);
    little_endian(head + 24, rate, 4);
    little_endian(head + 28, 2 * rate, 4);
    little_endian(head + 32, 2, 2);
    little_endian(head + 34, 16, 2);
    memcpy(head + 36, "data", 4);
    little_endian(head + 40, 2 * n_samples, 4);
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(head, 1, sizeof head, file);
    for (uint32_t i = 0; i < n_samples; i++) {
        unsigned char sample[2];
        const double value = 12000 * sin(6.283185307179586 * hertz * i / rate);
        little_endian(sample, (uint32_t)(int32_t)lround(value), 2);
        fwrite(sample, 1, 2, file);
    }
    assert_int_equal(fclose(file), 0);
}

/** Options with a cache folder of this process. */
static inline mmf_prepare_options prepare_options(const char *cache)
{
    mmf_prepare_options options = MMF_PREPARE_OPTIONS_INIT;
    options.cache = cache;
    options.n_workers = 1;
    return options;
}

static inline mmf_array load_array(mmf_ctx *ctx, mmf_archive *archive, const char *name)
{
    mmf_array array = {0};
    const int64_t i = mmf_archive_find(archive, name);
    if (i < 0)
        fail_msg("there is no array \"%s\"", name);
    test_ok(ctx, mmf_archive_load(archive, (size_t)i, &array));
    return array;
}

#endif
