/*
 * media_chroma.c: luminance and colour difference of JPEG and WebP as red, green and blue.
 *
 * Halved colour planes are brought to full size with the triangle filter of libjpeg and libwebp
 * (3/4 of the nearer sample, 1/4 of the further one along each halved axis), and converted with the
 * constants of libjpeg (JFIF, full range) or libwebp (ITU-R 601, 16 to 235), so that pictures look
 * the same to a network as those it was trained with.
 */
#include <string.h>

#include <libavutil/pixdesc.h>

#include "media_decode.h"

static inline unsigned char clip(int value)
{
    return (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* A row at full height in quarters: 3 of the nearer row and 1 of the further one, or 4 of one. */
PICTURE_LOOP static void mix_rows(int *restrict out, const unsigned char *near,
                                  const unsigned char *far, int n)
{
    for (int x = 0; x < n; x++)
        out[x] = 3 * near[x] + far[x];
}

/* Doubles the columns of a row in quarters. libjpeg rounds the two halves of a pair differently,
 * and the other way about where the rows were halved too. */
PICTURE_LOOP static void widen(unsigned char *restrict out, const int *in, int n, int width,
                               bool halved)
{
    const int left = halved ? 8 : 4, right = halved ? 7 : 8;
    for (int x = 0; x < n; x++) /* the edges again below */
        out[2 * x] = (unsigned char)((3 * in[x] + in[x - (x > 0)] + left) >> 4);
    for (int x = 0; x + 1 < n; x++)
        out[2 * x + 1] = (unsigned char)((3 * in[x] + in[x + 1] + right) >> 4);
    if (2 * n <= width)
        out[2 * n - 1] = (unsigned char)((4 * in[n - 1] + right) >> 4);
}

/* One row of one colour plane at full size. `row` has room for a row in quarters. */
static void upsample_row(const AVFrame *frame, const AVPixFmtDescriptor *desc, int plane, int y,
                         int *row, unsigned char *out)
{
    const int n = AV_CEIL_RSHIFT(frame->width, desc->log2_chroma_w);
    const int n_rows = AV_CEIL_RSHIFT(frame->height, desc->log2_chroma_h);
    const ptrdiff_t stride = frame->linesize[plane];
    const bool halved = desc->log2_chroma_h == 1;
    const int near = halved ? y / 2 : y;
    int far = !halved ? near : y % 2 ? near + 1 : near - 1;
    far = far < 0 ? 0 : far < n_rows ? far : n_rows - 1;
    const unsigned char *const a = frame->data[plane] + near * stride;
    const unsigned char *const b = frame->data[plane] + far * stride;
    if (desc->log2_chroma_w == 0 && !halved) {
        memcpy(out, a, (size_t)n);
        return;
    }
    mix_rows(row, a, b, n);
    if (desc->log2_chroma_w == 1)
        widen(out, row, n, frame->width, halved);
    for (int x = 0; desc->log2_chroma_w == 0 && x < n; x++)
        out[x] = (unsigned char)((row[x] + 1 + y % 2) >> 2);
}

/* ITU-T T.871: R = Y + 1.402 Cr and so on, in 16-bit fixed point. */
PICTURE_LOOP static void full_range(const unsigned char *const yuv[3], int n,
                                    unsigned char *const rgb[3])
{
    enum { R_V = 91881, G_U = 22554, G_V = 46802, B_U = 116130, HALF = 1 << 15 };
    const unsigned char *const luma = yuv[0], *const blue = yuv[1], *const red = yuv[2];
    unsigned char *restrict const r = rgb[0], *restrict const g = rgb[1],
                                  *restrict const b = rgb[2];
    for (int x = 0; x < n; x++) {
        const int y = luma[x], u = blue[x] - 128, v = red[x] - 128;
        r[x] = clip(y + ((R_V * v + HALF) >> 16));
        g[x] = clip(y + ((-G_U * u - G_V * v + HALF) >> 16));
        b[x] = clip(y + ((B_U * u + HALF) >> 16));
    }
}

static inline int scaled(int value, int factor)
{
    return (value * factor) >> 8;
}

/* RFC 6386 leaves it open; these are libwebp's 14-bit constants. */
PICTURE_LOOP static void video_range(const unsigned char *const yuv[3], int n,
                                     unsigned char *const rgb[3])
{
    const unsigned char *const luma = yuv[0], *const blue = yuv[1], *const red = yuv[2];
    unsigned char *restrict const r = rgb[0], *restrict const g = rgb[1],
                                  *restrict const b = rgb[2];
    for (int x = 0; x < n; x++) {
        const int y = scaled(luma[x], 19077), u = blue[x], v = red[x];
        r[x] = clip((y + scaled(v, 26149) - 14234) >> 6);
        g[x] = clip((y - scaled(u, 6419) - scaled(v, 13320) + 8708) >> 6);
        b[x] = clip((y + scaled(u, 33050) - 17685) >> 6);
    }
}

bool is_plain_yuv(const AVFrame *frame, bool *full)
{
    switch (frame->format) {
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ444P:
    case AV_PIX_FMT_YUVJ440P:
        *full = true;
        return true;
    case AV_PIX_FMT_YUV420P:
    case AV_PIX_FMT_YUVA420P:
    case AV_PIX_FMT_YUV422P:
    case AV_PIX_FMT_YUV444P:
    case AV_PIX_FMT_YUVA444P:
    case AV_PIX_FMT_YUV440P:
        *full = frame->color_range == AVCOL_RANGE_JPEG;
        return true;
    default:
        return false;
    }
}

/* Rows of red, green and blue of one row of the frame. */
void read_yuv_row(const AVFrame *frame, bool full, int y, int *scratch,
                  unsigned char *const colours[2], unsigned char *const rgb[3])
{
    const AVPixFmtDescriptor *const desc = av_pix_fmt_desc_get((enum AVPixelFormat)frame->format);
    const unsigned char *const yuv[3] = {frame->data[0] + (ptrdiff_t)y * frame->linesize[0],
                                         colours[0], colours[1]};
    for (int plane = 1; plane < 3; plane++)
        upsample_row(frame, desc, plane, y, scratch, colours[plane - 1]);
    (full ? full_range : video_range)(yuv, frame->width, rgb);
}
