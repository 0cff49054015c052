/* media_frame.c: options and frames of the media programs as text and bytes; see media.h. */
#include "io/media_frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char magic[8] = {'M', 'M', 'F', 'M', 'E', 'D', 'I', 'A'};
static const char *const kind_names[] = {"image", "audio", "video"};

enum { FLAG_FAILED = 1, FLAG_CUT = 2 };
enum { CODE_U8, CODE_F32 };

/* ---- Frames ------------------------------------------------------------------------------- */

static void put(unsigned char *out, uint64_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t take(const unsigned char *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

void mmf_media_frame_pack(const mmf_media_frame *frame, unsigned char out[MMF_MEDIA_HEADER_BYTES])
{
    memset(out, 0, MMF_MEDIA_HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    put(out + 8, (frame->failed ? FLAG_FAILED : 0u) | (frame->cut ? FLAG_CUT : 0u), 4);
    put(out + 12, frame->array.dtype == MMF_F32 ? CODE_F32 : CODE_U8, 4);
    put(out + 16, (uint64_t)frame->row, 8);
    for (int d = 0; d < MMF_MEDIA_DIMS && d < frame->array.n_dims; d++)
        put(out + 24 + 8 * d, (uint64_t)frame->array.shape[d], 8);
    put(out + 56, (uint64_t)frame->array.n_dims, 4);
    put(out + 64, (uint64_t)frame->sample_rate, 8);
    put(out + 72, frame->n_bytes, 8);
}

static mmf_status parse_array(mmf_ctx *ctx, mmf_media_frame *frame, const unsigned char *bytes,
                              mmf_media_kind kind)
{
    const uint64_t code = take(bytes + 12, 4), n_dims = take(bytes + 56, 4);
    const bool sound = kind == MMF_MEDIA_AUDIO;
    const uint64_t wanted_dims = sound ? 1 : kind == MMF_MEDIA_IMAGE ? 3 : 4;
    if (code != (sound ? CODE_F32 : CODE_U8) || n_dims != wanted_dims)
        return mmf_fail(ctx, MMF_FORMAT,
                        "a frame has type %llu and %llu dimensions where %s has %llu",
                        (unsigned long long)code, (unsigned long long)n_dims, kind_names[kind],
                        (unsigned long long)wanted_dims);
    mmf_array *const a = &frame->array;
    a->dtype = sound ? MMF_F32 : MMF_U8;
    a->item_bytes = mmf_dtype_bytes(a->dtype);
    a->n_dims = (int)n_dims;
    size_t n_bytes = a->item_bytes;
    bool fits = true;
    for (int d = 0; d < a->n_dims; d++) {
        a->shape[d] = (int64_t)take(bytes + 24 + 8 * d, 8);
        fits = fits && a->shape[d] >= (sound ? 0 : 1) &&
               mmf_mul_ok(n_bytes, (size_t)a->shape[d], &n_bytes);
    }
    if (!fits || n_bytes != frame->n_bytes)
        return mmf_fail(ctx, MMF_FORMAT, "a frame's shape and its %llu bytes do not agree",
                        (unsigned long long)frame->n_bytes);
    return MMF_OK;
}

mmf_status mmf_media_frame_parse(mmf_ctx *ctx, mmf_media_frame *out,
                                 const unsigned char bytes[MMF_MEDIA_HEADER_BYTES],
                                 mmf_media_kind kind, uint64_t max_bytes)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return mmf_fail(ctx, MMF_FORMAT, "a frame does not begin with \"%.8s\"", magic);
    const uint64_t flags = take(bytes + 8, 4);
    if (flags & ~(uint64_t)(FLAG_FAILED | FLAG_CUT))
        return mmf_fail(ctx, MMF_FORMAT, "a frame has unknown flags");
    *out = (mmf_media_frame){.row = (int64_t)take(bytes + 16, 8),
                             .failed = (flags & FLAG_FAILED) != 0,
                             .cut = (flags & FLAG_CUT) != 0,
                             .sample_rate = (int64_t)take(bytes + 64, 8),
                             .n_bytes = take(bytes + 72, 8)};
    if (out->failed || out->row < 0) { /* a message, or the greeting */
        if (out->n_bytes >= MMF_MEDIA_ERROR_BYTES)
            return mmf_fail(ctx, MMF_FORMAT, "a message of %llu bytes",
                            (unsigned long long)out->n_bytes);
        return MMF_OK;
    }
    if (out->n_bytes > max_bytes)
        return mmf_fail(ctx, MMF_LIMIT, "an item of %llu bytes; at most %llu are taken",
                        (unsigned long long)out->n_bytes, (unsigned long long)max_bytes);
    if (out->sample_rate < 0)
        return mmf_fail(ctx, MMF_FORMAT, "a frame has a negative sample rate");
    return parse_array(ctx, out, bytes, kind);
}

/* ---- Frames in pieces --------------------------------------------------------------------- */

mmf_status mmf_frame_reader_take(mmf_ctx *ctx, mmf_frame_reader *r, mmf_media_kind kind,
                                 uint64_t max_bytes, const unsigned char *bytes, size_t n,
                                 size_t *used, bool *whole)
{
    *used = 0;
    *whole = false;
    if (!r->payload) {
        const size_t missing = MMF_MEDIA_HEADER_BYTES - r->n_header;
        *used = n < missing ? n : missing;
        memcpy(r->header + r->n_header, bytes, *used);
        r->n_header += *used;
        if (r->n_header < MMF_MEDIA_HEADER_BYTES)
            return MMF_OK;
        MMF_TRY(mmf_media_frame_parse(ctx, &r->frame, r->header, kind, max_bytes));
        r->payload = mmf_alloc(ctx, (size_t)r->frame.n_bytes + 1);
        if (!r->payload)
            return MMF_NOMEM;
    }
    const size_t missing = (size_t)r->frame.n_bytes - r->n_payload;
    const size_t taken = n - *used < missing ? n - *used : missing;
    memcpy(r->payload + r->n_payload, bytes + *used, taken);
    r->n_payload += taken;
    *used += taken;
    *whole = r->n_payload == r->frame.n_bytes;
    return MMF_OK;
}

unsigned char *mmf_frame_reader_rest(const mmf_frame_reader *r, size_t *n_missing)
{
    *n_missing = r->payload ? (size_t)r->frame.n_bytes - r->n_payload : 0;
    return r->payload ? r->payload + r->n_payload : NULL;
}

void mmf_frame_reader_next(mmf_ctx *ctx, mmf_frame_reader *r)
{
    mmf_free(ctx, r->payload);
    r->payload = NULL;
    r->n_header = r->n_payload = 0;
}

/* ---- Options ------------------------------------------------------------------------------ */

typedef struct option_row {
    const char *key;
    size_t offset, width;
    int64_t fallback, low, high; /* bounds hold after the fallback has replaced 0 */
} option_row;

#define ROW(field, fallback, low, high)                                                            \
    {                                                                                              \
#field, offsetof(mmf_media_options, field), sizeof(((mmf_media_options *)NULL)->field),    \
            fallback, low, high                                                                    \
    }
#define MAX_SIDE 65536

static const option_row rows[] = {
    ROW(n_workers, 0, 0, 256),
    ROW(channels, 3, 1, 3),
    ROW(short_side, 0, 0, MAX_SIDE),
    ROW(crop_h, 0, 0, MAX_SIDE),
    ROW(crop_w, 0, 0, MAX_SIDE),
    ROW(sample_rate, 0, 0, 768000),
    ROW(max_seconds, 3600, 1, 86400),
    ROW(n_frames, 16, 1, 65536),
    ROW(every, 0, 0, INT32_MAX),
    ROW(max_pixels, 100000000, 1, (int64_t)1 << 31),
    ROW(max_bytes, (int64_t)1 << 30, 1, (int64_t)1 << 40),
    ROW(max_file_bytes, (int64_t)256 << 20, 1, (int64_t)1 << 31),
    ROW(helper_memory, (int64_t)4 << 30, (int64_t)1 << 30, (int64_t)1 << 40),
    ROW(helper_seconds, 60, 1, 86400),
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static int64_t get_option(const mmf_media_options *o, const option_row *row)
{
    int64_t value = 0;
    int narrow = 0;
    const char *const field = (const char *)o + row->offset;
    if (row->width == sizeof narrow) {
        memcpy(&narrow, field, sizeof narrow);
        return narrow;
    }
    memcpy(&value, field, sizeof value);
    return value;
}

static void set_option(mmf_media_options *o, const option_row *row, int64_t value)
{
    const int narrow = (int)value;
    char *const field = (char *)o + row->offset;
    if (row->width == sizeof narrow)
        memcpy(field, &narrow, sizeof narrow);
    else
        memcpy(field, &value, sizeof value);
}

mmf_status mmf_media_options_complete(mmf_ctx *ctx, mmf_media_options *o)
{
    if (o->kind != MMF_MEDIA_IMAGE && o->kind != MMF_MEDIA_AUDIO && o->kind != MMF_MEDIA_VIDEO)
        return mmf_fail(ctx, MMF_ARG, "media: kind %d; expected image, audio or video",
                        (int)o->kind);
    for (int i = 0; i < N_ROWS; i++) {
        int64_t value = get_option(o, &rows[i]);
        value = value == 0 ? rows[i].fallback : value;
        if (value < rows[i].low || value > rows[i].high)
            return mmf_fail(ctx, MMF_ARG, "media: %s is %lld; expected %lld to %lld", rows[i].key,
                            (long long)value, (long long)rows[i].low, (long long)rows[i].high);
        set_option(o, &rows[i], value);
    }
    if (o->channels == 2)
        return mmf_fail(ctx, MMF_ARG, "media: channels is 2; expected 1 (grey) or 3 (colour)");
    if ((o->crop_h == 0) != (o->crop_w == 0))
        return mmf_fail(ctx, MMF_ARG, "media: a crop of %lld x %lld; give both sides or none",
                        (long long)o->crop_h, (long long)o->crop_w);
    return MMF_OK;
}

static mmf_status set_kind(mmf_ctx *ctx, mmf_media_options *o, const char *name)
{
    for (int k = 0; k < (int)(sizeof kind_names / sizeof kind_names[0]); k++) {
        if (strcmp(name, kind_names[k]) == 0) {
            o->kind = (mmf_media_kind)k;
            return MMF_OK;
        }
    }
    return mmf_fail(ctx, MMF_ARG, "kind \"%s\"; expected image, audio or video", name);
}

mmf_status mmf_media_options_set(mmf_ctx *ctx, mmf_media_options *o, const char *assignment)
{
    const char *const equals = strchr(assignment, '=');
    const size_t n = equals ? (size_t)(equals - assignment) : strlen(assignment);
    if (equals && n == 4 && strncmp(assignment, "kind", n) == 0)
        return set_kind(ctx, o, equals + 1);
    for (int i = 0; equals && i < N_ROWS; i++) {
        if (strlen(rows[i].key) != n || strncmp(assignment, rows[i].key, n) != 0)
            continue;
        char *end = NULL;
        const long long value = strtoll(equals + 1, &end, 10);
        if (end == equals + 1 || *end || value < 0 || (value > rows[i].high))
            return mmf_fail(ctx, MMF_ARG, "%s: expected a number from %lld to %lld", assignment,
                            (long long)rows[i].low, (long long)rows[i].high);
        set_option(o, &rows[i], value);
        return MMF_OK;
    }
    return mmf_fail(ctx, MMF_ARG, "\"%s\" is no option; expected kind, channels, short_side ...",
                    assignment);
}

void mmf_media_arguments(const mmf_media_options *o, char text[MMF_MEDIA_ARGUMENT_BYTES],
                         char *out[MMF_MEDIA_MAX_ARGUMENTS])
{
    const size_t size = MMF_MEDIA_ARGUMENT_BYTES;
    size_t n = 0;
    size_t used = (size_t)snprintf(text, size, "kind=%s", kind_names[o->kind]) + 1;
    out[n++] = text;
    for (int i = 0; i < N_ROWS && used < size; i++) {
        out[n++] = text + used;
        used += (size_t)snprintf(text + used, size - used, "%s=%lld", rows[i].key,
                                 (long long)get_option(o, &rows[i])) +
                1;
    }
    out[n] = NULL;
}

/* ---- File names --------------------------------------------------------------------------- */

bool mmf_media_kind_of(const char *path, mmf_media_kind *out)
{
    static const struct {
        const char *ending;
        mmf_media_kind kind;
    } endings[] = {
        {".jpg", MMF_MEDIA_IMAGE},  {".jpeg", MMF_MEDIA_IMAGE}, {".png", MMF_MEDIA_IMAGE},
        {".webp", MMF_MEDIA_IMAGE}, {".wav", MMF_MEDIA_AUDIO},  {".flac", MMF_MEDIA_AUDIO},
        {".mp3", MMF_MEDIA_AUDIO},  {".ogg", MMF_MEDIA_AUDIO},  {".oga", MMF_MEDIA_AUDIO},
        {".opus", MMF_MEDIA_AUDIO}, {".m4a", MMF_MEDIA_AUDIO},  {".mp4", MMF_MEDIA_VIDEO},
        {".m4v", MMF_MEDIA_VIDEO},  {".mov", MMF_MEDIA_VIDEO},  {".webm", MMF_MEDIA_VIDEO},
        {".mkv", MMF_MEDIA_VIDEO},
    };
    const char *const slash = strrchr(path, '/');
    const char *const dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++) {
        if (strcasecmp(dot, endings[i].ending) == 0) {
            *out = endings[i].kind;
            return true;
        }
    }
    return false;
}
