/*
 * media_decode.h: one file of images, sound or video, decoded by FFmpeg's libraries.
 *
 * Decoders and containers are those of a short list; nothing but the file itself is opened, however
 * much a playlist or a reference in it asks for.
 */
#ifndef MMFUSE_HELPERS_MEDIA_DECODE_H
#define MMFUSE_HELPERS_MEDIA_DECODE_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>

#include "media_picture.h"

/** What is kept from file to file. */
typedef struct decoder {
    mmf_ctx *ctx;
    mmf_media_options options;
    struct SwsContext *scaler;
} decoder;

/** What became of one file; `bytes` is freed with mmf_free. */
typedef struct decoded {
    mmf_media_frame frame; /* but for its row */
    unsigned char *bytes;
} decoded;

/** Decodes the file as the kind of the options; the message of a failure does not name it. */
mmf_status decode_file(decoder *d, decoded *out, const char *path);
mmf_status decode_image(decoder *d, decoded *out, const char *path);
/** As decode_image for bytes in memory. */
mmf_status decode_image_bytes(decoder *d, decoded *out, const unsigned char *bytes, size_t n_bytes);
/** Sound or video of a file, or of `n_bytes` in memory where `path` is NULL. */
mmf_status decode_stream(decoder *d, decoded *out, const char *path, const unsigned char *bytes,
                         size_t n_bytes);
void decoder_close(decoder *d);

/** Fails with FFmpeg's own words for `error` behind `what`. */
mmf_status decode_fail(mmf_ctx *ctx, int error, const char *what);
/** The 8-bit planes of a decoded picture, in the channels that the options ask for. */
mmf_status convert_frame(decoder *d, picture *out, const AVFrame *frame);
/** Whether a picture of JPEG or WebP is one of luminance and colour difference of 8 bits. */
bool is_plain_yuv(const AVFrame *frame, bool *full_range);
/** Red, green and blue of one row of such a picture; the other buffers are as long as a row. */
void read_yuv_row(const AVFrame *frame, bool full_range, int y, int *scratch,
                  unsigned char *const colours[2], unsigned char *const rgb[3]);
/** Refuses pictures of more than max_pixels. */
mmf_status check_pixels(const decoder *d, int64_t width, int64_t height);

/* ---- Containers of sound and video -------------------------------------------------------- */

/** An open container whose best stream of one type is decoded. */
typedef struct source_stream {
    int file; /* -1: bytes in memory */
    const unsigned char *bytes;
    int64_t n_bytes, at;
    AVIOContext *io;
    AVFormatContext *format;
    AVCodecContext *codec;
    AVStream *stream;
    AVPacket *packet;
    AVFrame *frame;
    bool ended;          /* the container has no more packets */
    int64_t samples_end; /* plain WAV: where its samples end; 0: a container of FFmpeg */
} source_stream;

/** Opens `path`, or `n_bytes` in memory where `path` is NULL, for its best stream of `type`. */
mmf_status stream_open(decoder *d, source_stream *s, const char *path, const unsigned char *bytes,
                       size_t n_bytes, enum AVMediaType type);
void stream_close(source_stream *s);
/** The next decoded frame into s->frame; `more` is false behind the last one. */
mmf_status stream_frame(decoder *d, source_stream *s, bool *more);

/**
 * Finds the samples of a WAV; makes `format` and `stream` unless its codec needs FFmpeg's
 * container.
 *
 * @errors  FORMAT (truncated)
 */
mmf_status wav_open(const decoder *d, source_stream *s);
/** The next samples into s->packet; returns what av_read_frame does. */
int wav_read(source_stream *s);
/** All sound of an open stream. */
mmf_status decode_audio_stream(decoder *d, decoded *out, source_stream *s);
/** The frames that the options ask for. */
mmf_status decode_video_stream(decoder *d, decoded *out, source_stream *s);

#endif
