/*
 * fuzz_media_frames.c: what a media program may write, in pieces of any size, through the parser of
 * its frames. The first two bytes choose the kind and the size of the pieces.
 */
#include <stdlib.h>

#include "fuzz_archive.h"
#include "io/media_frame.h"

#define MEMORY_LIMIT ((size_t)16 << 20)
#define MAX_BYTES ((uint64_t)1 << 20)

static void require(bool promise)
{
    if (!promise)
        abort();
}

/* The size that was promised is the size of what is there. */
static double read_payload(const mmf_frame_reader *r)
{
    double sum = 0;
    require(r->n_payload == r->frame.n_bytes);
    for (size_t i = 0; i < r->n_payload; i++)
        sum += r->payload[i];
    if (r->frame.failed || r->frame.row < 0) {
        require(r->frame.n_bytes < MMF_MEDIA_ERROR_BYTES);
        return sum;
    }
    mmf_array array = r->frame.array;
    array.data = r->payload;
    const int64_t n = mmf_array_count(&array);
    require(n >= 0 && (uint64_t)n * array.item_bytes == r->frame.n_bytes);
    require(r->frame.n_bytes <= MAX_BYTES);
    for (int64_t i = 0; i < n; i++)
        sum += mmf_array_number(&array, i);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.memory_limit = MEMORY_LIMIT;
    mmf_ctx *ctx = NULL;
    if (n_bytes < 2 || mmf_ctx_create(&ctx, &options) != MMF_OK)
        return 0;
    const mmf_media_kind kind = (mmf_media_kind)(bytes[0] % 3);
    const size_t piece = 1 + bytes[1];
    mmf_frame_reader reader = {0};
    volatile double sum = 0;
    for (size_t at = 2; at < n_bytes;) {
        const size_t n = n_bytes - at < piece ? n_bytes - at : piece;
        size_t used = 0;
        bool whole = false;
        const mmf_status status =
            mmf_frame_reader_take(ctx, &reader, kind, MAX_BYTES, bytes + at, n, &used, &whole);
        if (status != MMF_OK)
            break;
        require(used <= n && (used > 0 || whole));
        if (whole) {
            sum += read_payload(&reader);
            mmf_frame_reader_next(ctx, &reader);
        }
        at += used;
    }
    (void)sum;
    mmf_frame_reader_next(ctx, &reader);
    require(mmf_ctx_memory(ctx).live_bytes == 0);
    mmf_ctx_free(ctx);
    return 0;
}
