/*
 * media_still.c: see media_still.h.
 *
 * JPEG: ITU-T T.81 annex B. PNG: RFC 2083 section 3. WebP: RFC 9649 section 2. EXIF: TIFF 6.0
 * section 2, tag 274.
 */
#include "media_still.h"

#include <string.h>

#define ORIENTATION_TAG 0x0112
#define TYPE_SHORT 3

static uint32_t big(const unsigned char *bytes, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

static uint32_t little(const unsigned char *bytes, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (uint32_t)bytes[i] << (8 * i);
    return value;
}

/* The orientation in a block of EXIF data; 1 where it says none. */
static int exif_orientation(const unsigned char *bytes, size_t n)
{
    if (n >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        bytes += 6;
        n -= 6;
    }
    if (n < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return 1;
    uint32_t (*const number)(const unsigned char *, size_t) = bytes[0] == 'I' ? little : big;
    const size_t first = number(bytes + 4, 4);
    if (first > n - 2)
        return 1;
    const size_t n_entries = number(bytes + first, 2);
    for (size_t i = 0; i < n_entries; i++) {
        const size_t at = first + 2 + 12 * i;
        if (at + 12 > n)
            return 1;
        if (number(bytes + at, 2) == ORIENTATION_TAG && number(bytes + at + 2, 2) == TYPE_SHORT) {
            const uint32_t value = number(bytes + at + 8, 2);
            return value >= 1 && value <= 8 ? (int)value : 1;
        }
    }
    return 1;
}

static mmf_status truncated(mmf_ctx *ctx, const char *format, size_t n, const char *wanted)
{
    return mmf_fail(ctx, MMF_FORMAT, "the %s ends after %zu bytes, before %s: it is truncated",
                    format, n, wanted);
}

/* ---- JPEG --------------------------------------------------------------------------------- */

static bool is_frame_header(unsigned marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* Skips coded data: in it FF is followed by 00 or a restart marker. */
static size_t end_of_scan(const unsigned char *bytes, size_t n, size_t at)
{
    while (at + 1 < n) {
        const unsigned char *const hit = memchr(bytes + at, 0xff, n - 1 - at);
        if (!hit)
            return n;
        at = (size_t)(hit - bytes);
        const unsigned next = bytes[at + 1];
        if (next != 0 && next != 0xff && (next < 0xd0 || next > 0xd7))
            return at;
        at += next == 0xff ? 1 : 2;
    }
    return n;
}

/* Sequential coding has a picture after one scan, if that has all components. */
static bool is_whole_scan(const unsigned char *frame, const unsigned char *scan)
{
    const unsigned char marker = frame ? frame[0] : 0;
    return (marker == 0xc0 || marker == 0xc1) && frame[8] == scan[2];
}

static mmf_status inspect_jpeg(mmf_ctx *ctx, still_info *out, const unsigned char *b, size_t n)
{
    static const char name[] = "JPEG";
    size_t at = 2;
    const unsigned char *frame = NULL; /* at its marker */
    for (;;) {
        while (at < n && b[at] != 0xff)
            at++;
        while (at < n && b[at] == 0xff)
            at++;
        if (at >= n && out->lacks_end)
            return MMF_OK;
        if (at >= n)
            return truncated(ctx, name, n, "its end marker");
        const unsigned marker = b[at++];
        out->lacks_end = out->lacks_end && marker >= 0xd0 && marker <= 0xd7;
        if (marker == 0xd9)
            break;
        if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8))
            continue;
        if (n - at < 2)
            return truncated(ctx, name, n, "its end marker");
        const size_t length = big(b + at, 2);
        if (length < 2)
            return mmf_fail(ctx, MMF_FORMAT, "a JPEG segment of %zu bytes", length);
        if (length > n - at)
            return truncated(ctx, name, n, "its end marker");
        if (is_frame_header(marker) && length >= 8) {
            frame = b + at - 1;
            out->height = big(b + at + 3, 2);
            out->width = big(b + at + 5, 2);
        } else if (marker == 0xe1 && length >= 8 && memcmp(b + at + 2, "Exif\0\0", 6) == 0) {
            out->orientation = exif_orientation(b + at + 2, length - 2);
        }
        if (marker == 0xda && length >= 3)
            out->lacks_end = is_whole_scan(frame, b + at);
        at += length;
        if (marker == 0xda)
            at = end_of_scan(b, n, at);
    }
    return MMF_OK;
}

/* ---- PNG ---------------------------------------------------------------------------------- */

static mmf_status inspect_png(mmf_ctx *ctx, still_info *out, const unsigned char *b, size_t n)
{
    for (size_t at = 8;;) {
        if (n - at < 12)
            return truncated(ctx, "PNG", n, "its end chunk");
        const size_t length = big(b + at, 4);
        const unsigned char *const type = b + at + 4, *const data = b + at + 8;
        if (length > n - at - 12)
            return truncated(ctx, "PNG", n, "its end chunk");
        if (memcmp(type, "IHDR", 4) == 0 && length >= 8) {
            out->width = big(data, 4);
            out->height = big(data + 4, 4);
        } else if (memcmp(type, "eXIf", 4) == 0) {
            out->orientation = exif_orientation(data, length);
        } else if (memcmp(type, "IEND", 4) == 0) {
            return MMF_OK;
        }
        at += 12 + length;
    }
}

/* ---- WebP --------------------------------------------------------------------------------- */

static void webp_size(still_info *out, const unsigned char *type, const unsigned char *data,
                      size_t length)
{
    if (memcmp(type, "VP8X", 4) == 0 && length >= 10) {
        out->width = 1 + (int64_t)little(data + 4, 3);
        out->height = 1 + (int64_t)little(data + 7, 3);
    } else if (memcmp(type, "VP8 ", 4) == 0 && length >= 10 && out->width == 0) {
        out->width = little(data + 6, 2) & 0x3fff;
        out->height = little(data + 8, 2) & 0x3fff;
    } else if (memcmp(type, "VP8L", 4) == 0 && length >= 5 && out->width == 0) {
        const uint32_t bits = little(data + 1, 4);
        out->width = 1 + (int64_t)(bits & 0x3fff);
        out->height = 1 + (int64_t)(bits >> 14 & 0x3fff);
    }
}

static mmf_status inspect_webp(mmf_ctx *ctx, still_info *out, const unsigned char *b, size_t n)
{
    const size_t size = little(b + 4, 4);
    if (size > n - 8)
        return truncated(ctx, "WebP", n, "the end that its header names");
    const size_t end = 8 + size;
    for (size_t at = 12; at + 8 <= end;) {
        const size_t length = little(b + at + 4, 4);
        if (length > end - at - 8)
            return truncated(ctx, "WebP", n, "the end of a chunk");
        if (memcmp(b + at, "ANIM", 4) == 0)
            return mmf_fail(ctx, MMF_UNSUPPORTED, "an animated WebP; expected a single picture");
        if (memcmp(b + at, "EXIF", 4) == 0)
            out->orientation = exif_orientation(b + at + 8, length);
        webp_size(out, b + at, b + at + 8, length);
        at += 8 + length + (length & 1);
    }
    return MMF_OK;
}

mmf_status still_inspect(mmf_ctx *ctx, still_info *out, const unsigned char *bytes, size_t n_bytes)
{
    *out = (still_info){.orientation = 1};
    mmf_status status = MMF_OK;
    if (n_bytes >= 2 && bytes[0] == 0xff && bytes[1] == 0xd8) {
        out->format = STILL_JPEG;
        status = inspect_jpeg(ctx, out, bytes, n_bytes);
    } else if (n_bytes >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        out->format = STILL_PNG;
        status = inspect_png(ctx, out, bytes, n_bytes);
    } else if (n_bytes >= 12 && memcmp(bytes, "RIFF", 4) == 0 &&
               memcmp(bytes + 8, "WEBP", 4) == 0) {
        out->format = STILL_WEBP;
        status = inspect_webp(ctx, out, bytes, n_bytes);
    } else if (n_bytes == 0) {
        status = mmf_fail(ctx, MMF_FORMAT, "the file is empty");
    } else {
        status = mmf_fail(ctx, MMF_UNSUPPORTED, "the bytes are no JPEG, PNG or WebP");
    }
    if (status == MMF_OK && (out->width <= 0 || out->height <= 0))
        status = mmf_fail(ctx, MMF_FORMAT, "the picture has no width or no height");
    return status;
}
