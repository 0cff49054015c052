/* arena.c: see arena.h. Not for objects that need a destructor. */
#include "base/arena.h"

#include <string.h>

#include "base/context.h"

#define CHUNK_HEADER 64
#define CHUNK_MIN_BYTES ((size_t)64 << 10)
/* Of a roomy arena: a rewind inside a chunk lets the same pages serve again, and fewer chunks have
 * a page that is used in part. */
#define PIECES_AHEAD 32

struct mmf_arena_chunk {
    mmf_arena_chunk *next;
    size_t bytes;
};

void mmf_arena_init(mmf_arena *arena, mmf_ctx *ctx)
{
    *arena = (mmf_arena){.ctx = ctx};
}

/* The largest stays for what comes next, so that rounds of one size ask for memory once. */
static void drop_until(mmf_arena *arena, mmf_arena_chunk **from, const mmf_arena_chunk *last)
{
    while (*from != last) {
        mmf_arena_chunk *drop = *from;
        *from = drop->next;
#ifndef MMF_ARENA_DEBUG
        if (!arena->spare || arena->spare->bytes < drop->bytes) {
            mmf_arena_chunk *const smaller = arena->spare;
            arena->spare = drop;
            drop = smaller;
        }
#endif
        mmf_free(arena->ctx, drop);
    }
}

void mmf_arena_clear(mmf_arena *arena)
{
    arena->generation++;
    drop_until(arena, &arena->chunk, NULL);
    mmf_free(arena->ctx, arena->spare);
    arena->spare = NULL;
    arena->used = arena->total = 0;
}

static bool push_chunk(mmf_arena *arena, size_t bytes)
{
    size_t total = 0;
    if (__builtin_add_overflow(bytes, (size_t)CHUNK_HEADER, &total)) {
        mmf_fail(arena->ctx, MMF_NOMEM, "out of memory: %zu bytes asked for", bytes);
        return false;
    }
    mmf_arena_chunk *chunk = arena->spare;
    arena->spare = NULL;
    if (!chunk || chunk->bytes < bytes) {
        mmf_free(arena->ctx, chunk);
        chunk = mmf_alloc(arena->ctx, total);
    } else {
        bytes = chunk->bytes;
    }
    if (!chunk)
        return false;
    *chunk = (mmf_arena_chunk){arena->chunk, bytes};
    arena->chunk = chunk;
    arena->used = 0;
    return true;
}

void mmf_arena_reset(mmf_arena *arena)
{
    arena->generation++;
#ifdef MMF_ARENA_DEBUG
    mmf_arena_clear(arena);
#else
    /* A rewind may have given back the chunks that the round needed at its peak. */
    const bool is_whole = arena->chunk && !arena->chunk->next && arena->chunk->bytes >= arena->peak;
    if (is_whole) {
        mmf_free(arena->ctx, arena->spare);
        arena->spare = NULL;
    } else if (arena->chunk || arena->spare) {
        const size_t wanted = arena->peak;
        mmf_arena_clear(arena);
        push_chunk(arena, wanted); /* without it the next round grows chunk by chunk again */
    }
    arena->used = arena->total = 0;
#endif
}

mmf_arena_mark mmf_arena_here(const mmf_arena *arena)
{
    return (mmf_arena_mark){arena->chunk, arena->used, arena->total};
}

void mmf_arena_rewind(mmf_arena *arena, mmf_arena_mark mark)
{
    arena->generation++;
    if (!mark.chunk && arena->chunk)
        mmf_arena_reset(arena);
    else
        drop_until(arena, &arena->chunk, mark.chunk);
    arena->used = mark.used;
    arena->total = mark.total;
}

void mmf_arena_reserve(mmf_arena *arena, size_t bytes)
{
    if (!arena->chunk || arena->chunk->bytes - arena->used < bytes)
        (void)push_chunk(arena, bytes);
}

void *mmf_arena_alloc(mmf_arena *arena, size_t bytes)
{
    size_t rounded = 0;
    if (__builtin_add_overflow(bytes, (size_t)63, &rounded)) {
        mmf_fail(arena->ctx, MMF_NOMEM, "out of memory: %zu bytes asked for", bytes);
        return NULL;
    }
    rounded &= ~(size_t)63;
#ifdef MMF_ARENA_DEBUG
    if (!push_chunk(arena, rounded))
        return NULL;
#else
    if (!arena->chunk || arena->chunk->bytes - arena->used < rounded) {
        /* Where memory is limited, room for later would be missed elsewhere. */
        const bool is_roomy = arena->is_roomy && arena->ctx->memory_limit == 0;
        const size_t twice = arena->chunk ? arena->chunk->bytes * 2 : CHUNK_MIN_BYTES;
        const size_t roomy =
            is_roomy && rounded < SIZE_MAX / PIECES_AHEAD ? rounded * PIECES_AHEAD : rounded;
        if (!push_chunk(arena, roomy > twice ? roomy : twice) && !push_chunk(arena, rounded))
            return NULL;
    }
#endif
    void *const piece = (unsigned char *)arena->chunk + CHUNK_HEADER + arena->used;
    arena->used += rounded;
    arena->total += rounded;
    if (arena->total > arena->peak)
        arena->peak = arena->total;
    return piece;
}

/* Where a piece of `bytes` goes after a rewind: to the mark, or where its chunk is full to the
 * start of the next one, whose pages have been used already. */
static mmf_arena_mark place_after(const mmf_arena *arena, mmf_arena_mark mark, size_t bytes)
{
    mmf_arena_chunk *next = arena->chunk;
    while (next != mark.chunk && next->next != mark.chunk)
        next = next->next;
    const bool is_full = !mark.chunk || mark.chunk->bytes - mark.used < bytes;
    return is_full && next != mark.chunk && next->bytes >= bytes
               ? (mmf_arena_mark){next, 0, mark.total}
               : mark;
}

void *mmf_arena_rewind_but(mmf_arena *arena, mmf_arena_mark mark, size_t room, const void *data,
                           size_t bytes)
{
    arena->generation++;
    const mmf_arena_mark place = place_after(arena, mark, (room + bytes + 63) & ~(size_t)63);
    mmf_arena_chunk *newer = arena->chunk; /* readable until the bytes have moved */
    arena->chunk = place.chunk;
    arena->used = place.used;
    arena->total = place.total;
    unsigned char *const piece = mmf_arena_alloc(arena, room + bytes);
    if (piece)
        memmove(piece + room, data, bytes);
    drop_until(arena, &newer, place.chunk);
    return piece;
}
