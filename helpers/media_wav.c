/*
 * media_wav.c: WAV with plain samples, read without FFmpeg's container: that looks in every file
 * for other sound hidden in the samples, which takes longer than decoding a spoken word, and reads
 * a file that was cut off to its end without finding anything wrong with it.
 */
#include "media_decode.h"

#define RIFF_BYTES 12
#define FORMAT_BYTES 40           /* of a format chunk that we look at */
#define STREAMED_BYTES 0x7ff00000 /* a size that writers name who do not know it yet */
#define PACKET_SAMPLES 4096

enum { TAG_PCM = 1, TAG_FLOAT = 3, TAG_ALAW = 6, TAG_MULAW = 7, TAG_EXTENSIBLE = 0xfffe };

static unsigned two(const unsigned char *bytes)
{
    return bytes[0] | (unsigned)bytes[1] << 8;
}

static enum AVCodecID codec_of(unsigned tag, unsigned bits)
{
    static const struct {
        unsigned tag, bits;
        enum AVCodecID id;
    } known[] = {
        {TAG_PCM, 8, AV_CODEC_ID_PCM_U8},       {TAG_PCM, 16, AV_CODEC_ID_PCM_S16LE},
        {TAG_PCM, 24, AV_CODEC_ID_PCM_S24LE},   {TAG_PCM, 32, AV_CODEC_ID_PCM_S32LE},
        {TAG_FLOAT, 32, AV_CODEC_ID_PCM_F32LE}, {TAG_FLOAT, 64, AV_CODEC_ID_PCM_F64LE},
        {TAG_ALAW, 8, AV_CODEC_ID_PCM_ALAW},    {TAG_MULAW, 8, AV_CODEC_ID_PCM_MULAW},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].tag == tag && known[i].bits == bits)
            return known[i].id;
    }
    return AV_CODEC_ID_NONE;
}

/* The stream that a container would have made. Leaves it out for codecs that are not plain. */
static mmf_status set_stream(const decoder *d, source_stream *s, const unsigned char *b, size_t n)
{
    unsigned tag = two(b);
    const unsigned channels = two(b + 2), block = two(b + 12), bits = two(b + 14);
    if (tag == TAG_EXTENSIBLE && n >= FORMAT_BYTES)
        tag = two(b + 24);
    const enum AVCodecID id = codec_of(tag, bits);
    if (id == AV_CODEC_ID_NONE || channels == 0 || block != channels * bits / 8)
        return MMF_OK;
    s->format = avformat_alloc_context();
    s->stream = s->format ? avformat_new_stream(s->format, NULL) : NULL;
    if (!s->stream)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    AVCodecParameters *const p = s->stream->codecpar;
    p->codec_type = AVMEDIA_TYPE_AUDIO;
    p->codec_id = id;
    p->sample_rate = (int)(two(b + 4) | two(b + 6) << 16);
    p->block_align = (int)block;
    p->bits_per_coded_sample = (int)bits;
    av_channel_layout_default(&p->ch_layout, (int)channels);
    s->stream->time_base = (AVRational){1, p->sample_rate > 0 ? p->sample_rate : 1};
    return MMF_OK;
}

mmf_status wav_open(const decoder *d, source_stream *s)
{
    if (avio_seek(s->io, RIFF_BYTES, SEEK_SET) < 0)
        return mmf_fail(d->ctx, MMF_IO, "cannot read");
    for (;;) {
        const uint32_t type = avio_rl32(s->io), size = avio_rl32(s->io);
        const int64_t at = avio_tell(s->io), left = s->n_bytes - at;
        if (avio_feof(s->io))
            return mmf_fail(d->ctx, MMF_FORMAT, "a WAV without data: it is truncated or damaged");
        if (type == MKTAG('f', 'm', 't', ' ') && size >= 16 && !s->format) {
            unsigned char header[FORMAT_BYTES] = {0};
            const int n = avio_read(s->io, header, size < FORMAT_BYTES ? (int)size : FORMAT_BYTES);
            MMF_TRY(set_stream(d, s, header, n > 0 ? (size_t)n : 0));
        } else if (type == MKTAG('d', 'a', 't', 'a')) {
            if (size < STREAMED_BYTES && size > left)
                return mmf_fail(d->ctx, MMF_FORMAT,
                                "%lld of %u bytes of sound are there: it is truncated",
                                (long long)left, size);
            if (s->stream)
                s->samples_end = size < left ? at + size : s->n_bytes;
            return MMF_OK;
        }
        if (avio_seek(s->io, at + size + (size & 1), SEEK_SET) < 0)
            return mmf_fail(d->ctx, MMF_FORMAT, "a WAV without data: it is truncated or damaged");
    }
}

int wav_read(source_stream *s)
{
    const int64_t block = s->stream->codecpar->block_align;
    const int64_t left = (s->samples_end - avio_tell(s->io)) / block;
    if (left <= 0)
        return AVERROR_EOF;
    return av_get_packet(s->io, s->packet,
                         (int)(block * (left < PACKET_SAMPLES ? left : PACKET_SAMPLES)));
}
