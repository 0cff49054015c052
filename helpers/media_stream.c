/*
 * media_stream.c: one stream of a container, frame by frame, from a file or from memory.
 *
 * The container reads through callbacks of ours and may open nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <libavutil/avstring.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media_decode.h"

#define IO_BYTES 32768
#define MAGIC_BYTES 12
/* FFmpeg has hundreds; old ones that nobody uses are where hostile files look for faults. */
#define DECODERS                                                                                   \
    "flac,mp3,mp3float,mp2,mp2float,vorbis,opus,libopus,aac,alac,ac3,eac3,pcm_u8,pcm_s16le,"       \
    "pcm_s16be,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw,adpcm_ms,adpcm_ima_wav," \
    "gsm_ms,h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,mpeg2video,mpeg1video,mjpeg,theora"

mmf_status decode_fail(mmf_ctx *ctx, int error, const char *what)
{
    char words[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(error, words, sizeof words);
    if (error == AVERROR(ENOMEM))
        return mmf_fail(ctx, MMF_NOMEM, "%s: out of memory", what);
    return mmf_fail(ctx, MMF_FORMAT, "%s: %s", what, words);
}

/* ---- Bytes -------------------------------------------------------------------------------- */

static int read_bytes(void *user, uint8_t *out, int n_wanted)
{
    source_stream *const s = user;
    if (s->file >= 0) {
        ssize_t n;
        do
            n = read(s->file, out, (size_t)n_wanted);
        while (n < 0 && errno == EINTR);
        return n > 0 ? (int)n : n == 0 ? AVERROR_EOF : AVERROR(errno);
    }
    const int64_t left = s->n_bytes - s->at;
    const int n = left < n_wanted ? (int)left : n_wanted;
    if (n <= 0)
        return AVERROR_EOF;
    memcpy(out, s->bytes + s->at, (size_t)n);
    s->at += n;
    return n;
}

static int64_t seek_bytes(void *user, int64_t offset, int whence)
{
    source_stream *const s = user;
    if (whence & AVSEEK_SIZE)
        return s->n_bytes;
    whence &= ~AVSEEK_FORCE;
    if (s->file >= 0) {
        const off_t at = lseek(s->file, offset, whence);
        return at < 0 ? AVERROR(errno) : at;
    }
    const int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? s->at : s->n_bytes;
    int64_t at = 0;
    if (__builtin_add_overflow(base, offset, &at) || at < 0)
        return AVERROR(EINVAL);
    s->at = at < s->n_bytes ? at : s->n_bytes;
    return at;
}

static int refuse_open(AVFormatContext *format, AVIOContext **io, const char *url, int flags,
                       AVDictionary **options)
{
    (void)format, (void)io, (void)url, (void)flags, (void)options;
    return AVERROR(EPERM);
}

static mmf_status open_bytes(const decoder *d, source_stream *s, const char *path)
{
    if (path) {
        struct stat info;
        s->file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (s->file < 0)
            return mmf_fail(d->ctx, MMF_IO, "cannot open: %s", strerror(errno));
        if (fstat(s->file, &info) != 0 || !S_ISREG(info.st_mode))
            return mmf_fail(d->ctx, MMF_IO, "not a regular file");
        s->n_bytes = info.st_size;
    }
    if (s->n_bytes == 0)
        return mmf_fail(d->ctx, MMF_FORMAT, "the file is empty");
    unsigned char *const buffer = av_malloc(IO_BYTES);
    s->io =
        buffer ? avio_alloc_context(buffer, IO_BYTES, 0, s, read_bytes, NULL, seek_bytes) : NULL;
    if (s->io)
        return MMF_OK;
    av_free(buffer);
    return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* FFmpeg would ask its three hundred formats, which takes longer than decoding a word of speech. */
static const char *container_of(const unsigned char b[MAGIC_BYTES])
{
    static const struct {
        size_t at, n;
        const char *magic, *name;
    } known[] = {
        {8, 4, "WAVE", "wav"}, {0, 4, "fLaC", "flac"},
        {0, 4, "OggS", "ogg"}, {0, 3, "ID3", "mp3"},
        {4, 4, "ftyp", "mov"}, {4, 4, "moov", "mov"},
        {4, 4, "mdat", "mov"}, {4, 4, "wide", "mov"},
        {4, 4, "free", "mov"}, {0, 4, "\x1a\x45\xdf\xa3", "matroska"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (memcmp(b + known[i].at, known[i].magic, known[i].n) == 0)
            return known[i].name;
    }
    const bool mpeg_audio = b[0] == 0xff && (b[1] & 0xe0) == 0xe0 && (b[1] & 0x06) != 0;
    return mpeg_audio ? "mp3" : NULL;
}

static mmf_status open_container(const decoder *d, source_stream *s)
{
    unsigned char magic[MAGIC_BYTES] = {0};
    const int n = avio_read(s->io, magic, sizeof magic);
    const char *const name = n < 0 ? NULL : container_of(magic);
    const AVInputFormat *const input = name ? av_find_input_format(name) : NULL;
    if (!input)
        return mmf_fail(d->ctx, MMF_UNSUPPORTED,
                        "the bytes are none of WAV, FLAC, MP3, Ogg, MP4, WebM and Matroska");
    if (strcmp(name, "wav") == 0)
        MMF_TRY(wav_open(d, s));
    if (s->stream) /* samples as they are, which need no container */
        return MMF_OK;
    s->format = avformat_alloc_context();
    if (!s->format || avio_seek(s->io, 0, SEEK_SET) < 0)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    s->format->pb = s->io;
    s->format->flags |= AVFMT_FLAG_CUSTOM_IO;
    s->format->io_open = refuse_open;
    s->format->codec_whitelist = av_strdup(DECODERS);
    const int error = avformat_open_input(&s->format, "", input, NULL);
    return error < 0 ? decode_fail(d->ctx, error, "the file is damaged") : MMF_OK;
}

/* Headers often say enough; looking into the packets takes much longer. */
static int find_stream(source_stream *s, enum AVMediaType type)
{
    int index =
        type == AVMEDIA_TYPE_AUDIO ? av_find_best_stream(s->format, type, -1, -1, NULL, 0) : -1;
    if (index < 0 || s->format->streams[index]->codecpar->sample_rate <= 0) {
        const int error = avformat_find_stream_info(s->format, NULL);
        if (error < 0)
            return error;
        index = av_find_best_stream(s->format, type, -1, -1, NULL, 0);
    }
    for (unsigned i = 0; index >= 0 && i < s->format->nb_streams; i++) {
        if (i != (unsigned)index)
            s->format->streams[i]->discard = AVDISCARD_ALL;
    }
    return index;
}

static mmf_status open_codec(const decoder *d, source_stream *s)
{
    const AVCodecParameters *const parameters = s->stream->codecpar;
    const AVCodec *const found = avcodec_find_decoder(parameters->codec_id);
    if (!found || !av_match_list(found->name, DECODERS, ','))
        return mmf_fail(d->ctx, MMF_UNSUPPORTED, "the codec %s is not decoded",
                        avcodec_get_name(parameters->codec_id));
    s->codec = avcodec_alloc_context3(found);
    if (!s->codec)
        return mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    int error = avcodec_parameters_to_context(s->codec, parameters);
    s->codec->thread_count = 1;
    s->codec->max_pixels = d->options.max_pixels;
    s->codec->pkt_timebase = s->stream->time_base;
    if (error >= 0)
        error = avcodec_open2(s->codec, found, NULL);
    return error < 0 ? decode_fail(d->ctx, error, "its decoder refuses it") : MMF_OK;
}

mmf_status stream_open(decoder *d, source_stream *s, const char *path, const unsigned char *bytes,
                       size_t n_bytes, enum AVMediaType type)
{
    *s = (source_stream){.file = -1, .bytes = bytes, .n_bytes = (int64_t)n_bytes};
    mmf_status status = open_bytes(d, s, path);
    if (status == MMF_OK)
        status = open_container(d, s);
    if (status == MMF_OK && !(s->stream && type == AVMEDIA_TYPE_AUDIO)) {
        const int index = s->stream ? -1 : find_stream(s, type);
        if (index < 0)
            status = mmf_fail(d->ctx, MMF_FORMAT, "it holds no %s",
                              type == AVMEDIA_TYPE_AUDIO ? "sound" : "video");
        else
            s->stream = s->format->streams[index];
    }
    if (status == MMF_OK)
        status = open_codec(d, s);
    if (status == MMF_OK) {
        s->packet = av_packet_alloc();
        s->frame = av_frame_alloc();
        if (!s->packet || !s->frame)
            status = mmf_fail(d->ctx, MMF_NOMEM, "out of memory");
    }
    if (status != MMF_OK)
        stream_close(s);
    return status;
}

void stream_close(source_stream *s)
{
    av_frame_free(&s->frame);
    av_packet_free(&s->packet);
    avcodec_free_context(&s->codec);
    avformat_close_input(&s->format);
    if (s->io)
        av_freep(&s->io->buffer);
    avio_context_free(&s->io);
    if (s->file >= 0)
        close(s->file);
    s->file = -1;
}

/* ---- Frames ------------------------------------------------------------------------------- */

/* Junk between the frames of an MP3, as tags at its end, is usual. */
static bool forgiven(const source_stream *s, int error)
{
    const enum AVCodecID id = s->codec->codec_id;
    return error == AVERROR_INVALIDDATA && (id == AV_CODEC_ID_MP3 || id == AV_CODEC_ID_MP2);
}

static mmf_status feed_packet(const decoder *d, source_stream *s)
{
    int error = 0;
    do {
        av_packet_unref(s->packet);
        error = s->samples_end > 0 ? wav_read(s) : av_read_frame(s->format, s->packet);
    } while (error >= 0 && s->packet->stream_index != s->stream->index);
    s->ended = error == AVERROR_EOF;
    if (error < 0 && !s->ended)
        return decode_fail(d->ctx, error, "the file is damaged");
    error = avcodec_send_packet(s->codec, s->ended ? NULL : s->packet);
    av_packet_unref(s->packet);
    if (error < 0 && !forgiven(s, error))
        return decode_fail(d->ctx, error, "the stream is damaged");
    return MMF_OK;
}

mmf_status stream_frame(decoder *d, source_stream *s, bool *more)
{
    *more = false;
    for (;;) {
        const int error = avcodec_receive_frame(s->codec, s->frame);
        if (error == 0) {
            *more = true;
            return MMF_OK;
        }
        if (error == AVERROR_EOF)
            return MMF_OK;
        if (error != AVERROR(EAGAIN) && !forgiven(s, error))
            return decode_fail(d->ctx, error, "the stream is damaged");
        if (s->ended && error == AVERROR(EAGAIN))
            return MMF_OK;
        if (!s->ended)
            MMF_TRY(feed_packet(d, s));
    }
}

mmf_status decode_stream(decoder *d, decoded *out, const char *path, const unsigned char *bytes,
                         size_t n_bytes)
{
    const bool sound = d->options.kind == MMF_MEDIA_AUDIO;
    source_stream s;
    MMF_TRY(
        stream_open(d, &s, path, bytes, n_bytes, sound ? AVMEDIA_TYPE_AUDIO : AVMEDIA_TYPE_VIDEO));
    const mmf_status status = (sound ? decode_audio_stream : decode_video_stream)(d, out, &s);
    stream_close(&s);
    return status;
}

mmf_status decode_file(decoder *d, decoded *out, const char *path)
{
    *out = (decoded){0};
    return d->options.kind == MMF_MEDIA_IMAGE ? decode_image(d, out, path)
                                              : decode_stream(d, out, path, NULL, 0);
}

void decoder_close(decoder *d)
{
    sws_freeContext(d->scaler);
    d->scaler = NULL;
}
