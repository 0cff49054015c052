/* memory.c: allocation through the context, with counts and a limit. */
#include "base/context.h"

#include <string.h>

/* The size stands in front of the block so that the live count needs no table; 64 bytes keep the
 * caller's pointer on a cache line. */
#define HEADER_BYTES 64

bool mmf_mul_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

void *mmf_alloc(mmf_ctx *ctx, size_t bytes)
{
    if (bytes == 0)
        bytes = 1;
    size_t total = 0;
    const bool fits = !__builtin_add_overflow(bytes, (size_t)HEADER_BYTES + 63, &total);
    total &= ~(size_t)63;
    const bool allowed =
        fits && (ctx->memory_limit == 0 || (bytes <= ctx->memory_limit &&
                                            ctx->memory.live_bytes <= ctx->memory_limit - bytes));
    unsigned char *block = allowed ? ctx->allocator.alloc(ctx->allocator.user, total) : NULL;
    if (!block) {
        mmf_fail(ctx, MMF_NOMEM, "out of memory: %zu bytes asked for, %zu in use%s", bytes,
                 ctx->memory.live_bytes, fits && !allowed ? ", limited by --memory-limit" : "");
        return NULL;
    }
    memcpy(block, &bytes, sizeof bytes);
    ctx->memory.n_allocations++;
    ctx->memory.live_bytes += bytes;
    if (ctx->memory.live_bytes > ctx->memory.peak_bytes)
        ctx->memory.peak_bytes = ctx->memory.live_bytes;
    return block + HEADER_BYTES;
}

void *mmf_alloc_zero(mmf_ctx *ctx, size_t count, size_t size)
{
    size_t bytes = 0;
    if (!mmf_mul_ok(count, size, &bytes)) {
        mmf_fail(ctx, MMF_NOMEM, "out of memory: %zu elements of %zu bytes asked for", count, size);
        return NULL;
    }
    void *pointer = mmf_alloc(ctx, bytes);
    if (pointer)
        memset(pointer, 0, bytes ? bytes : 1);
    return pointer;
}

static size_t block_bytes(const void *pointer)
{
    size_t bytes = 0;
    memcpy(&bytes, (const unsigned char *)pointer - HEADER_BYTES, sizeof bytes);
    return bytes;
}

void *mmf_realloc(mmf_ctx *ctx, void *pointer, size_t bytes)
{
    if (!pointer)
        return mmf_alloc(ctx, bytes);
    const size_t old_bytes = block_bytes(pointer);
    void *grown = mmf_alloc(ctx, bytes);
    if (!grown)
        return NULL;
    memcpy(grown, pointer, old_bytes < bytes ? old_bytes : bytes);
    mmf_free(ctx, pointer);
    return grown;
}

void mmf_free(mmf_ctx *ctx, void *pointer)
{
    if (!pointer)
        return;
    ctx->memory.live_bytes -= block_bytes(pointer);
    ctx->allocator.release(ctx->allocator.user, (unsigned char *)pointer - HEADER_BYTES);
}

char *mmf_strdup(mmf_ctx *ctx, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = mmf_alloc(ctx, bytes);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}
