/*
 * media_audio.c: the sound of a file as mono samples of one rate.
 *
 * Channels are averaged, then resampled by libswresample. A file that holds clearly less than its
 * header says is an error; what lies beyond max_seconds is left out.
 */
#include <libavutil/opt.h>
#include <libswresample/swresample.h>
#include <string.h>

#include "media_decode.h"

#define MAX_CHANNELS 64
#define BLOCK 8192       /* samples made at a time */
#define SHORT_SHARE 0.98 /* of the length in the header: less is a truncated file */
#define SHORT_SECONDS 0.1

typedef struct sound {
    decoder *d;
    SwrContext *resampler;
    AVChannelLayout layout; /* of what was decoded */
    int format, rate_in;
    int64_t rate_out;
    float *samples;
    int64_t n, capacity, n_in;
} sound;

/* ---- Resampling --------------------------------------------------------------------------- */

static mmf_status start_resampler(sound *a, const AVFrame *frame)
{
    mmf_ctx *const ctx = a->d->ctx;
    const int channels = frame->ch_layout.nb_channels;
    if (channels < 1 || channels > MAX_CHANNELS || frame->sample_rate < 1)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "sound of %d channels at %d Hz", channels,
                        frame->sample_rate);
    AVChannelLayout mono = AV_CHANNEL_LAYOUT_MONO;
    a->format = frame->format;
    a->rate_in = frame->sample_rate;
    a->rate_out = a->d->options.sample_rate ? a->d->options.sample_rate : frame->sample_rate;
    if (frame->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC)
        av_channel_layout_default(&a->layout, channels);
    else if (av_channel_layout_copy(&a->layout, &frame->ch_layout) < 0)
        return mmf_fail(ctx, MMF_NOMEM, "out of memory");
    int error =
        swr_alloc_set_opts2(&a->resampler, &mono, AV_SAMPLE_FMT_FLT, (int)a->rate_out, &a->layout,
                            (enum AVSampleFormat)a->format, a->rate_in, 0, NULL);
    double shares[MAX_CHANNELS];
    for (int c = 0; c < channels; c++)
        shares[c] = 1.0 / channels;
    if (error >= 0 && channels > 1)
        error = swr_set_matrix(a->resampler, shares, channels);
    if (error >= 0 && a->rate_in != a->rate_out)
        error = av_opt_set_int(a->resampler, "filter_size", 64, 0);
    if (error >= 0)
        error = swr_init(a->resampler);
    return error < 0 ? decode_fail(ctx, error, "the sound cannot be resampled") : MMF_OK;
}

static mmf_status reserve(sound *a, int64_t n_more)
{
    mmf_ctx *const ctx = a->d->ctx;
    if (a->n + n_more <= a->capacity)
        return MMF_OK;
    const int64_t limit = a->d->options.max_bytes / (int64_t)sizeof(float) + 2 * BLOCK;
    int64_t capacity = a->capacity ? 2 * a->capacity : 2 * BLOCK;
    capacity = capacity < a->n + n_more ? a->n + n_more : capacity;
    capacity = capacity < limit ? capacity : limit;
    if (capacity < a->n + n_more)
        return mmf_fail(ctx, MMF_LIMIT, "the sound takes more than %lld bytes",
                        (long long)a->d->options.max_bytes);
    float *const grown = mmf_realloc(ctx, a->samples, (size_t)capacity * sizeof *grown);
    if (!grown)
        return MMF_NOMEM;
    a->samples = grown;
    a->capacity = capacity;
    return MMF_OK;
}

/* `planes` NULL: what the resampler still holds. */
static mmf_status convert(sound *a, const uint8_t **planes, int n)
{
    for (;;) {
        MMF_TRY(reserve(a, BLOCK));
        uint8_t *out = (uint8_t *)(a->samples + a->n);
        const int made = swr_convert(a->resampler, &out, BLOCK, planes, n);
        if (made < 0)
            return decode_fail(a->d->ctx, made, "the sound cannot be resampled");
        a->n += made;
        if (made < BLOCK)
            return MMF_OK;
        planes = NULL; /* it keeps what did not fit */
        n = 0;
    }
}

static mmf_status add_frame(sound *a, const AVFrame *frame, int64_t n_wanted)
{
    if (!a->resampler)
        MMF_TRY(start_resampler(a, frame));
    if (frame->sample_rate != a->rate_in || frame->format != a->format ||
        frame->ch_layout.nb_channels != a->layout.nb_channels)
        return mmf_fail(a->d->ctx, MMF_UNSUPPORTED,
                        "the rate or the channels of the sound change within the file");
    const int64_t left = n_wanted - a->n_in;
    const int n = frame->nb_samples < left ? frame->nb_samples : (int)left;
    a->n_in += n;
    return convert(a, (const uint8_t **)(uintptr_t)frame->extended_data, n);
}

/* ---- The file ----------------------------------------------------------------------------- */

/* Seconds that the header names; 0: it does not know. WAV was checked by its bytes. */
static double declared_seconds(const source_stream *s)
{
    const AVStream *const stream = s->stream;
    const bool known =
        s->samples_end == 0 && stream->duration > 0 && stream->duration != AV_NOPTS_VALUE;
    return known ? (double)stream->duration * av_q2d(stream->time_base) : 0;
}

static mmf_status read_frames(sound *a, source_stream *s, bool *cut)
{
    for (;;) {
        bool more = false;
        MMF_TRY(stream_frame(a->d, s, &more));
        if (!more)
            break;
        const int64_t n_wanted = a->d->options.max_seconds * s->frame->sample_rate;
        *cut = a->n_in + s->frame->nb_samples > n_wanted;
        MMF_TRY(add_frame(a, s->frame, n_wanted));
        if (*cut)
            break;
    }
    const double declared = declared_seconds(s);
    const double there = a->rate_in > 0 ? (double)a->n_in / a->rate_in : 0;
    if (!*cut && declared > 0 && there < SHORT_SHARE * declared - SHORT_SECONDS)
        return mmf_fail(a->d->ctx, MMF_FORMAT,
                        "the sound ends after %.2f of %.2f seconds: it is truncated or damaged",
                        there, declared);
    return MMF_OK;
}

/* As many samples as the time there was: the filter's tail ends a little before or after. */
static mmf_status finish(sound *a)
{
    if (!a->resampler)
        return MMF_OK;
    MMF_TRY(convert(a, NULL, 0));
    const int64_t wanted = (a->n_in * a->rate_out + a->rate_in - 1) / a->rate_in;
    if (a->n < wanted) {
        MMF_TRY(reserve(a, wanted - a->n));
        memset(a->samples + a->n, 0, (size_t)(wanted - a->n) * sizeof(float));
    }
    a->n = wanted;
    if (a->n > a->d->options.max_bytes / (int64_t)sizeof(float))
        return mmf_fail(a->d->ctx, MMF_LIMIT, "the sound takes more than %lld bytes",
                        (long long)a->d->options.max_bytes);
    return MMF_OK;
}

mmf_status decode_audio_stream(decoder *d, decoded *out, source_stream *s)
{
    sound a = {.d = d, .rate_out = d->options.sample_rate};
    bool cut = false;
    mmf_status status = read_frames(&a, s, &cut);
    if (status == MMF_OK)
        status = finish(&a);
    if (status == MMF_OK && !a.samples)
        status = reserve(&a, 1);
    if (a.rate_out == 0)
        a.rate_out = s->stream->codecpar->sample_rate;
    swr_free(&a.resampler);
    av_channel_layout_uninit(&a.layout);
    if (status != MMF_OK) {
        mmf_free(d->ctx, a.samples);
        return status;
    }
    out->bytes = (unsigned char *)a.samples;
    out->frame =
        (mmf_media_frame){.array = {.dtype = MMF_F32, .n_dims = 1, .shape = {a.n}, .item_bytes = 4},
                          .sample_rate = a.rate_out,
                          .cut = cut,
                          .n_bytes = (uint64_t)a.n * sizeof(float)};
    return MMF_OK;
}
