/* arena.c: see arena.h. Not for objects that need a destructor. */
#include "base/arena.h"

#define CHUNK_HEADER 64
#define CHUNK_MIN_BYTES ((size_t)64 << 10)

struct mmf_arena_chunk {
    mmf_arena_chunk *next;
    size_t bytes;
};

void mmf_arena_init(mmf_arena *arena, mmf_ctx *ctx)
{
    *arena = (mmf_arena){.ctx = ctx};
}

static void drop_until(mmf_arena *arena, const mmf_arena_chunk *last)
{
    while (arena->chunk != last) {
        mmf_arena_chunk *next = arena->chunk->next;
        mmf_free(arena->ctx, arena->chunk);
        arena->chunk = next;
    }
}

void mmf_arena_clear(mmf_arena *arena)
{
    drop_until(arena, NULL);
    arena->used = arena->total = 0;
}

static bool push_chunk(mmf_arena *arena, size_t bytes)
{
    size_t total = 0;
    if (__builtin_add_overflow(bytes, (size_t)CHUNK_HEADER, &total)) {
        mmf_fail(arena->ctx, MMF_NOMEM, "out of memory: %zu bytes asked for", bytes);
        return false;
    }
    mmf_arena_chunk *chunk = mmf_alloc(arena->ctx, total);
    if (!chunk)
        return false;
    *chunk = (mmf_arena_chunk){arena->chunk, bytes};
    arena->chunk = chunk;
    arena->used = 0;
    return true;
}

void mmf_arena_reset(mmf_arena *arena)
{
#ifdef MMF_ARENA_DEBUG
    mmf_arena_clear(arena);
#else
    /* A rewind may have given back the chunks that the round needed at its peak. */
    if (arena->chunk && (arena->chunk->next || arena->chunk->bytes < arena->peak)) {
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
    if (!mark.chunk && arena->chunk)
        mmf_arena_reset(arena);
    else
        drop_until(arena, mark.chunk);
    arena->used = mark.used;
    arena->total = mark.total;
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
        const size_t grown = arena->chunk ? arena->chunk->bytes * 2 : CHUNK_MIN_BYTES;
        if (!push_chunk(arena, rounded > grown ? rounded : grown))
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
