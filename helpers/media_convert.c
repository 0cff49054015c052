/*
 * media_convert.c: decoded pictures of any pixel format as 8-bit planes.
 *
 * Palettes, grey and red-green-blue of any depth are converted here, exactly; luminance and colour
 * difference by media_chroma.c in images, by libswscale in video. Alpha is dropped.
 */
#include <string.h>

#include <libavutil/pixdesc.h>

#include "media_decode.h"

/* The nearest of 256 levels. */
static unsigned char to_byte(unsigned value, unsigned most)
{
    return (unsigned char)((value * 255u + most / 2) / most);
}

/* ITU-R 601 luminance in 16-bit fixed point, as PIL's conversion to "L". */
static unsigned char luminance(unsigned r, unsigned g, unsigned b)
{
    return (unsigned char)((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

static bool is_simple(const AVPixFmtDescriptor *desc)
{
    const bool colour = (desc->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0;
    const bool grey = desc->nb_components <= 2;
    return (colour || grey) && !(desc->flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT |
                                                AV_PIX_FMT_FLAG_BAYER));
}

/* FFmpeg keeps palettes as 32-bit numbers, alpha at the top. */
static void read_palette_row(const AVFrame *frame, int y, unsigned char *const rows[3])
{
    const unsigned char *const from = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
    for (int x = 0; x < frame->width; x++) {
        uint32_t colour;
        memcpy(&colour, frame->data[1] + 4 * from[x], sizeof colour);
        rows[0][x] = (unsigned char)(colour >> 16);
        rows[1][x] = (unsigned char)(colour >> 8);
        rows[2][x] = (unsigned char)colour;
    }
}

/* One row of interleaved bytes, the usual formats. */
static bool copy_bytes(const AVFrame *frame, int y, int channels, unsigned char *const rows[3])
{
    const int step = frame->format == AV_PIX_FMT_RGB24   ? 3
                     : frame->format == AV_PIX_FMT_RGBA  ? 4
                     : frame->format == AV_PIX_FMT_GRAY8 ? 1
                                                         : 0;
    const unsigned char *from = frame->data[0] + (ptrdiff_t)y * frame->linesize[0];
    for (int x = 0; step > 0 && x < frame->width; x++, from += step) {
        for (int c = 0; c < channels; c++)
            rows[c][x] = from[c];
    }
    return step > 0;
}

/* The colour channels of one row, whatever their order, depth and packing. */
static void read_row(const AVFrame *frame, const AVPixFmtDescriptor *desc, int y, int channels,
                     uint16_t *scratch, unsigned char *const rows[3])
{
    if (copy_bytes(frame, y, channels, rows))
        return;
    if (desc->flags & AV_PIX_FMT_FLAG_PAL) {
        read_palette_row(frame, y, rows);
        return;
    }
    for (int c = 0; c < channels; c++) {
        const unsigned char *planes[4] = {frame->data[0], frame->data[1], frame->data[2],
                                          frame->data[3]};
        av_read_image_line2(scratch, planes, frame->linesize, desc, 0, y, c, frame->width, 0, 2);
        const unsigned most = (1u << desc->comp[c].depth) - 1;
        for (int x = 0; x < frame->width; x++)
            rows[c][x] = to_byte(scratch[x], most);
    }
}

/* Rows of `from` channels become those of the picture. */
static void store_row(picture *out, int64_t y, int from, unsigned char *const rows[3])
{
    const size_t w = (size_t)out->width;
    const int64_t plane = out->height * out->width;
    unsigned char *const to = out->pixels + y * out->width;
    if (out->channels == 1 && from == 3) {
        for (size_t x = 0; x < w; x++)
            to[x] = luminance(rows[0][x], rows[1][x], rows[2][x]);
        return;
    }
    for (int c = 0; c < out->channels; c++)
        memcpy(to + c * plane, rows[from == 3 ? c : 0], w);
}

/* Row by row, by what can be read without libswscale. */
static mmf_status convert_rows(const decoder *d, picture *out, const AVFrame *frame, bool yuv,
                               bool full)
{
    const AVPixFmtDescriptor *const desc = av_pix_fmt_desc_get((enum AVPixelFormat)frame->format);
    const size_t w = (size_t)frame->width;
    const bool palette = (desc->flags & AV_PIX_FMT_FLAG_PAL) != 0;
    const int channels = palette || desc->nb_components > 2 ? 3 : 1;
    unsigned char *block = mmf_alloc_zero(d->ctx, 5, w);
    int *scratch = mmf_alloc_zero(d->ctx, w, sizeof *scratch);
    mmf_status status = block && scratch ? picture_make(d->ctx, out, d->options.channels,
                                                        frame->height, frame->width)
                                         : MMF_NOMEM;
    unsigned char *const rows[5] = {block, block + w, block + 2 * w, block + 3 * w, block + 4 * w};
    for (int y = 0; status == MMF_OK && y < frame->height; y++) {
        if (yuv)
            read_yuv_row(frame, full, y, scratch, rows + 3, rows);
        else
            read_row(frame, desc, y, channels, (uint16_t *)scratch, rows);
        store_row(out, y, channels, rows);
    }
    mmf_free(d->ctx, block);
    mmf_free(d->ctx, scratch);
    return status;
}

/* Deprecated names of full-range formats would make libswscale warn, and guess the range. */
static enum AVPixelFormat plain_format(enum AVPixelFormat format, bool *full)
{
    static const enum AVPixelFormat pairs[][2] = {
        {AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUV420P}, {AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUV422P},
        {AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P}, {AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUV440P},
        {AV_PIX_FMT_YUVJ411P, AV_PIX_FMT_YUV411P},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (format == pairs[i][0]) {
            *full = true;
            return pairs[i][1];
        }
    }
    return format;
}

static mmf_status set_up_scaler(decoder *d, const AVFrame *frame)
{
    const int w = frame->width, h = frame->height;
    bool full = frame->color_range == AVCOL_RANGE_JPEG;
    const enum AVPixelFormat from = plain_format((enum AVPixelFormat)frame->format, &full);
    d->scaler = sws_getCachedContext(d->scaler, w, h, from, w, h, AV_PIX_FMT_RGB24,
                                     SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT |
                                         SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                                     NULL, NULL, NULL);
    if (!d->scaler)
        return mmf_fail(d->ctx, MMF_UNSUPPORTED, "pictures in the format %s cannot be converted",
                        av_get_pix_fmt_name((enum AVPixelFormat)frame->format));
    const int matrix = frame->colorspace == AVCOL_SPC_BT709 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    const int *const in = sws_getCoefficients(matrix);
    const int *const out = sws_getCoefficients(SWS_CS_DEFAULT);
    sws_setColorspaceDetails(d->scaler, in, full, out, 1, 0, 1 << 16, 1 << 16);
    return MMF_OK;
}

static mmf_status convert_scaled(decoder *d, picture *out, const AVFrame *frame)
{
    MMF_TRY(set_up_scaler(d, frame));
    AVFrame *rgb = av_frame_alloc();
    if (!rgb)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    rgb->format = AV_PIX_FMT_RGB24;
    rgb->width = frame->width;
    rgb->height = frame->height;
    int error = av_frame_get_buffer(rgb, 0);
    if (error >= 0)
        error = sws_scale(d->scaler, (const uint8_t *const *)frame->data, frame->linesize, 0,
                          frame->height, rgb->data, rgb->linesize);
    const mmf_status status = error < 0
                                  ? decode_fail(d->ctx, error, "the picture cannot be converted")
                                  : convert_rows(d, out, rgb, false, false);
    av_frame_free(&rgb);
    return status;
}

mmf_status convert_frame(decoder *d, picture *out, const AVFrame *frame)
{
    const AVPixFmtDescriptor *const desc = av_pix_fmt_desc_get((enum AVPixelFormat)frame->format);
    if (!desc)
        return mmf_fail(d->ctx, MMF_UNSUPPORTED, "a picture of an unknown pixel format");
    bool full = false;
    if (is_simple(desc))
        return convert_rows(d, out, frame, false, false);
    if (d->options.kind == MMF_MEDIA_IMAGE && is_plain_yuv(frame, &full))
        return convert_rows(d, out, frame, true, full);
    return convert_scaled(d, out, frame);
}
