/*
 * media_video.c: some frames of a video: spread evenly over its duration, or every k-th.
 *
 * The frame of a time is the one that is shown then. Between far times the reader jumps to the last
 * key frame before the next one.
 */
#include <libavutil/display.h>
#include <math.h>
#include <string.h>

#include "media_decode.h"

#define SHORT_SHARE 0.98 /* of the length in the header: less is a truncated file */
#define SHORT_SECONDS 0.1
#define JUMP_MARGIN 0.5 /* seconds; frames are stored out of order by less than this */

typedef struct video {
    decoder *d;
    source_stream *s;
    double start, seconds; /* of what is there */
    double unit;           /* seconds of a tick */
    double shown;          /* when the frame of `current` appears; before any: -infinity */
    int orientation;
    picture first; /* its size is that of all */
    unsigned char *frames;
    int64_t n_frames, frame_bytes;
} video;

/* ---- Times -------------------------------------------------------------------------------- */

static double time_of(const video *v, int64_t ticks)
{
    return ticks == AV_NOPTS_VALUE ? v->shown : (double)ticks * v->unit;
}

static mmf_status go_to(video *v, double time)
{
    const int64_t ticks = (int64_t)floor(time / v->unit);
    const int error =
        avformat_seek_file(v->s->format, v->s->stream->index, INT64_MIN, ticks, ticks, 0);
    if (error < 0)
        return decode_fail(v->d->ctx, error, "the video cannot be wound back");
    avcodec_flush_buffers(v->s->codec);
    v->s->ended = false;
    v->shown = -INFINITY;
    return MMF_OK;
}

/* Reads all packets, without decoding, where the container does not say when its video ends. */
static mmf_status measure_packets(video *v)
{
    AVFormatContext *const format = v->s->format;
    AVPacket *const packet = v->s->packet;
    double start = INFINITY, end = -INFINITY, last = -INFINITY;
    for (unsigned i = 0; i < format->nb_streams; i++)
        format->streams[i]->discard = AVDISCARD_DEFAULT;
    while (av_read_frame(format, packet) >= 0) {
        const double unit = av_q2d(format->streams[packet->stream_index]->time_base);
        const int64_t ticks = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
        const double from = (double)ticks * unit, to = from + (double)packet->duration * unit;
        if (ticks != AV_NOPTS_VALUE) {
            last = fmax(last, to);
            if (packet->stream_index == v->s->stream->index) {
                start = fmin(start, from);
                end = fmax(end, to);
            }
        }
        av_packet_unref(packet);
    }
    for (unsigned i = 0; i < format->nb_streams; i++)
        format->streams[i]->discard =
            (int)i == v->s->stream->index ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    if (!(end >= start))
        return mmf_fail(v->d->ctx, MMF_FORMAT, "the video holds no frame");
    const double declared = format->duration > 0 ? (double)format->duration / AV_TIME_BASE : 0;
    if (last < SHORT_SHARE * declared - SHORT_SECONDS)
        return mmf_fail(v->d->ctx, MMF_FORMAT,
                        "the video ends after %.2f of %.2f seconds: it is truncated", last,
                        declared);
    v->start = start;
    v->seconds = end - start;
    return go_to(v, start);
}

static mmf_status measure(video *v)
{
    const AVStream *const stream = v->s->stream;
    v->unit = av_q2d(stream->time_base);
    v->shown = -INFINITY;
    if (stream->duration == AV_NOPTS_VALUE || stream->duration <= 0)
        return measure_packets(v);
    v->start = stream->start_time == AV_NOPTS_VALUE ? 0 : (double)stream->start_time * v->unit;
    v->seconds = (double)stream->duration * v->unit;
    return MMF_OK;
}

/* ---- Pictures ----------------------------------------------------------------------------- */

static const uint8_t *display_matrix(const AVStream *stream)
{
#if LIBAVCODEC_VERSION_MAJOR >= 61
    const AVPacketSideData *const data =
        av_packet_side_data_get(stream->codecpar->coded_side_data,
                                stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return data && data->size >= 9 * sizeof(int32_t) ? data->data : NULL;
#else
    size_t size = 0;
    const uint8_t *const data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return size >= 9 * sizeof(int32_t) ? data : NULL;
#endif
}

/* The EXIF orientation that turns as a phone's note on how it was held; others stay as they are. */
static int orientation_of(const AVStream *stream)
{
    int32_t matrix[9];
    const uint8_t *const data = display_matrix(stream);
    if (!data)
        return 1;
    memcpy(matrix, data, sizeof matrix);
    const double left = av_display_rotation_get(matrix);
    if (isnan(left))
        return 1;
    switch (((int)lround(-left / 90) % 4 + 4) % 4) {
    case 1:
        return 6;
    case 2:
        return 3;
    case 3:
        return 8;
    default:
        return 1;
    }
}

/* Converts the current frame and puts it behind the others. */
static mmf_status keep_frame(video *v, const AVFrame *frame, int64_t n_wanted)
{
    mmf_ctx *const ctx = v->d->ctx;
    if (frame->decode_error_flags || (frame->flags & AV_FRAME_FLAG_CORRUPT))
        return mmf_fail(ctx, MMF_FORMAT, "the frame at %.2f seconds is damaged", v->shown);
    picture p = {0};
    mmf_status status = check_pixels(v->d, frame->width, frame->height);
    if (status == MMF_OK)
        status = convert_frame(v->d, &p, frame);
    if (status == MMF_OK)
        status = picture_orient(ctx, &p, v->orientation);
    if (status == MMF_OK)
        status = picture_fit(ctx, &p, &v->d->options);
    const int64_t n_bytes = p.channels * p.height * p.width;
    if (status == MMF_OK && !v->frames) {
        v->first = p;
        v->first.pixels = NULL;
        v->frame_bytes = n_bytes;
        if (n_bytes > v->d->options.max_bytes / n_wanted)
            status = mmf_fail(ctx, MMF_LIMIT,
                              "%lld frames of %lld bytes; at most %lld bytes are taken: ask for "
                              "fewer, or scale them",
                              (long long)n_wanted, (long long)n_bytes,
                              (long long)v->d->options.max_bytes);
        else
            v->frames = mmf_alloc(ctx, (size_t)(n_bytes * n_wanted));
        if (status == MMF_OK && !v->frames)
            status = MMF_NOMEM;
    }
    if (status == MMF_OK && (p.height != v->first.height || p.width != v->first.width))
        status = mmf_fail(ctx, MMF_UNSUPPORTED, "the size of the frames changes within the video");
    if (status == MMF_OK)
        memcpy(v->frames + v->n_frames++ * v->frame_bytes, p.pixels, (size_t)n_bytes);
    picture_free(ctx, &p);
    return status;
}

/* ---- Which frames ------------------------------------------------------------------------- */

static mmf_status every_kth(video *v, int64_t k, int64_t n_wanted)
{
    for (int64_t i = 0; v->n_frames < n_wanted; i++) {
        bool more = false;
        MMF_TRY(stream_frame(v->d, v->s, &more));
        if (!more)
            break;
        v->shown = time_of(v, v->s->frame->best_effort_timestamp);
        if (i % k == 0)
            MMF_TRY(keep_frame(v, v->s->frame, n_wanted));
    }
    return MMF_OK;
}

/* Jumps where a key frame lies between what was decoded and the time. */
static mmf_status jump(video *v, double time)
{
    const int64_t ticks = (int64_t)floor((time - JUMP_MARGIN) / v->unit);
    const AVIndexEntry *const entry =
        avformat_index_get_entry_from_timestamp(v->s->stream, ticks, AVSEEK_FLAG_BACKWARD);
    const double at = isinf(v->shown) ? v->start : v->shown;
    if (!entry || (double)entry->timestamp * v->unit <= at)
        return MMF_OK;
    return go_to(v, time - JUMP_MARGIN);
}

/* `ahead` is the first frame behind the current one: whether it is shown later than `time`. */
static mmf_status spread(video *v, AVFrame *current, int64_t n_wanted)
{
    AVFrame *const ahead = v->s->frame;
    bool have_ahead = false, more = true;
    for (int64_t i = 0; i < n_wanted; i++) {
        const double time = v->start + ((double)i + 0.5) * v->seconds / (double)n_wanted;
        const double before = v->shown;
        MMF_TRY(jump(v, time));
        if (v->shown != before) {
            have_ahead = false;
            more = true;
            av_frame_unref(current);
        }
        while (more) {
            if (!have_ahead) {
                MMF_TRY(stream_frame(v->d, v->s, &more));
                have_ahead = more;
            }
            if (!more || (current->buf[0] && time_of(v, ahead->best_effort_timestamp) > time))
                break;
            v->shown = time_of(v, ahead->best_effort_timestamp);
            av_frame_unref(current);
            av_frame_move_ref(current, ahead);
            have_ahead = false;
        }
        if (!current->buf[0])
            return mmf_fail(v->d->ctx, MMF_FORMAT, "the video holds no frame at %.2f seconds",
                            time);
        if (!more && v->shown < v->start + SHORT_SHARE * (time - v->start) - 1)
            return mmf_fail(v->d->ctx, MMF_FORMAT,
                            "the video ends after %.2f of %.2f seconds: it is truncated or damaged",
                            v->shown - v->start, v->seconds);
        MMF_TRY(keep_frame(v, current, n_wanted));
    }
    return MMF_OK;
}

mmf_status decode_video_stream(decoder *d, decoded *out, source_stream *s)
{
    video v = {.d = d, .s = s, .orientation = orientation_of(s->stream)};
    AVFrame *current = av_frame_alloc();
    mmf_status status = current ? measure(&v) : mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    if (status == MMF_OK)
        status = d->options.every > 0 ? every_kth(&v, d->options.every, d->options.n_frames)
                                      : spread(&v, current, d->options.n_frames);
    if (status == MMF_OK && v.n_frames == 0)
        status = mmf_fail(d->ctx, MMF_FORMAT, "the video holds no frame");
    av_frame_free(&current);
    if (status != MMF_OK) {
        mmf_free(d->ctx, v.frames);
        return status;
    }
    out->bytes = v.frames;
    out->frame = (mmf_media_frame){
        .array = {.dtype = MMF_U8,
                  .n_dims = 4,
                  .shape = {v.n_frames, v.first.channels, v.first.height, v.first.width},
                  .item_bytes = 1},
        .n_bytes = (uint64_t)(v.n_frames * v.frame_bytes)};
    return MMF_OK;
}
