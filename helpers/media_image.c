/* media_image.c: one picture of a JPEG, PNG or WebP file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media_decode.h"
#include "media_still.h"

mmf_status check_pixels(const decoder *d, int64_t width, int64_t height)
{
    if (height > 0 && width > d->options.max_pixels / height)
        return mmf_fail(d->ctx, MMF_LIMIT,
                        "a picture of %lld x %lld pixels; at most %lld pixels are decoded",
                        (long long)width, (long long)height, (long long)d->options.max_pixels);
    return MMF_OK;
}

static const AVCodec *find_codec(still_format format)
{
    return avcodec_find_decoder(format == STILL_JPEG  ? AV_CODEC_ID_MJPEG
                                : format == STILL_PNG ? AV_CODEC_ID_PNG
                                                      : AV_CODEC_ID_WEBP);
}

static AVCodecContext *open_codec(const decoder *d, const AVCodec *codec)
{
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c)
        return NULL;
    c->thread_count = 1;
    c->max_pixels = d->options.max_pixels;
    c->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (avcodec_open2(c, codec, NULL) < 0)
        avcodec_free_context(&c);
    return c;
}

/* Sends the one packet and takes the one frame. */
static mmf_status decode_packet(const decoder *d, AVCodecContext *codec, AVPacket *packet,
                                AVFrame *frame)
{
    int error = avcodec_send_packet(codec, packet);
    if (error >= 0)
        error = avcodec_send_packet(codec, NULL);
    if (error >= 0)
        error = avcodec_receive_frame(codec, frame);
    if (error < 0)
        return decode_fail(d->ctx, error, "the picture is damaged");
    if (frame->decode_error_flags || (frame->flags & AV_FRAME_FLAG_CORRUPT))
        return mmf_fail(d->ctx, MMF_FORMAT, "the picture is damaged: parts of it are missing");
    return check_pixels(d, frame->width, frame->height);
}

static mmf_status finish_picture(decoder *d, decoded *out, const AVFrame *frame, int orientation)
{
    picture p = {0};
    mmf_status status = convert_frame(d, &p, frame);
    if (status == MMF_OK)
        status = picture_orient(d->ctx, &p, orientation);
    if (status == MMF_OK)
        status = picture_fit(d->ctx, &p, &d->options);
    const int64_t n_bytes = p.channels * p.height * p.width;
    if (status == MMF_OK && n_bytes > d->options.max_bytes)
        status = mmf_fail(d->ctx, MMF_LIMIT, "a picture of %lld bytes; at most %lld are taken",
                          (long long)n_bytes, (long long)d->options.max_bytes);
    if (status != MMF_OK) {
        picture_free(d->ctx, &p);
        return status;
    }
    out->bytes = p.pixels;
    out->frame = (mmf_media_frame){.array = {.dtype = MMF_U8,
                                             .n_dims = 3,
                                             .shape = {p.channels, p.height, p.width},
                                             .item_bytes = 1},
                                   .n_bytes = (uint64_t)n_bytes};
    return MMF_OK;
}

/*
 * In front of the marker come bits that are all ones, which begin no code of JPEG: a decoder that
 * needs one bit more than the file has stops there. (FF is written as FF 00 in coded data.)
 */
static mmf_status add_end_marker(const decoder *d, AVPacket *packet)
{
    static const unsigned char end[] = {0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0xd9};
    const int n_begun = packet->data[packet->size - 1] == 0xff; /* half of the marker is there */
    const int at = packet->size - n_begun;
    if (av_grow_packet(packet, (int)sizeof end - n_begun) < 0)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    memcpy(packet->data + at, end, sizeof end);
    return MMF_OK;
}

/* `packet` holds all of the file. */
static mmf_status decode_still(decoder *d, decoded *out, AVPacket *packet)
{
    still_info info;
    const int n_bytes = packet->size;
    MMF_TRY(still_inspect(d->ctx, &info, packet->data, (size_t)packet->size));
    MMF_TRY(check_pixels(d, info.width, info.height));
    if (info.lacks_end)
        MMF_TRY(add_end_marker(d, packet));
    const AVCodec *const found = find_codec(info.format);
    if (!found)
        return mmf_fail(d->ctx, MMF_UNSUPPORTED,
                        "this FFmpeg was built without the decoder of the picture");
    AVCodecContext *codec = open_codec(d, found);
    AVFrame *frame = av_frame_alloc();
    mmf_status status = codec && frame ? decode_packet(d, codec, packet, frame)
                                       : mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    if (status == MMF_FORMAT && info.lacks_end)
        status = mmf_fail(d->ctx, MMF_FORMAT,
                          "the JPEG ends after %d bytes, before its end marker: it is truncated",
                          n_bytes);
    if (status == MMF_OK)
        status = finish_picture(d, out, frame, info.orientation);
    av_frame_free(&frame);
    avcodec_free_context(&codec);
    return status;
}

mmf_status decode_image_bytes(decoder *d, decoded *out, const unsigned char *bytes, size_t n_bytes)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet || n_bytes > INT32_MAX || av_new_packet(packet, (int)n_bytes) < 0) {
        av_packet_free(&packet);
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    }
    if (n_bytes > 0)
        memcpy(packet->data, bytes, n_bytes);
    const mmf_status status = decode_still(d, out, packet);
    av_packet_free(&packet);
    return status;
}

/* Reads a whole file into a packet. */
static mmf_status read_packet(const decoder *d, AVPacket *packet, int file)
{
    struct stat info;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode))
        return mmf_fail(d->ctx, MMF_IO, "not a regular file");
    if (info.st_size > d->options.max_file_bytes)
        return mmf_fail(d->ctx, MMF_LIMIT, "a file of %lld bytes; at most %lld are read",
                        (long long)info.st_size, (long long)d->options.max_file_bytes);
    if (av_new_packet(packet, (int)info.st_size) < 0)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    for (ssize_t at = 0; at < info.st_size;) {
        const ssize_t n = read(file, packet->data + at, (size_t)(info.st_size - at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mmf_fail(d->ctx, MMF_IO, "cannot read: %s", strerror(errno));
        if (n == 0)
            return mmf_fail(d->ctx, MMF_IO, "the file became shorter while it was read");
        at += n;
    }
    return MMF_OK;
}

mmf_status decode_image(decoder *d, decoded *out, const char *path)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return mmf_fail(d->ctx, MMF_IO, "cannot open: %s", strerror(errno));
    AVPacket *packet = av_packet_alloc();
    mmf_status status =
        packet ? read_packet(d, packet, file) : mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    close(file);
    if (status == MMF_OK)
        status = decode_still(d, out, packet);
    av_packet_free(&packet);
    return status;
}
