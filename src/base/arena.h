/*
 * arena.h: memory that is handed out by moving a pointer and given back all at once.
 *
 * After a reset the arena owns one chunk as large as everything the last round used, so a loop
 * whose rounds are alike allocates nothing after its first rounds. With MMF_ARENA_DEBUG every piece
 * is an allocation of its own, so the sanitizers see the use of what a reset has taken back.
 */
#ifndef MMFUSE_BASE_ARENA_H
#define MMFUSE_BASE_ARENA_H

#include "mmfuse/base.h"

typedef struct mmf_arena_chunk mmf_arena_chunk;

typedef struct mmf_arena {
    mmf_ctx *ctx;
    mmf_arena_chunk *chunk; /* newest first */
    mmf_arena_chunk *spare; /* given back by a rewind, for what comes next; NULL: none */
    size_t used;            /* bytes of the newest chunk */
    size_t total;           /* bytes handed out since the last reset, with padding */
    size_t peak;
    uint64_t generation; /* another one whenever pieces were given back */
    bool is_roomy; /* set by the owner: chunks have room for many pieces like their first, and pages
                      that are never touched cost nothing */
} mmf_arena;

/** A place to return to; pieces taken after it are given back by mmf_arena_rewind. */
typedef struct mmf_arena_mark {
    mmf_arena_chunk *chunk;
    size_t used, total;
} mmf_arena_mark;

void mmf_arena_init(mmf_arena *arena, mmf_ctx *ctx);
void mmf_arena_clear(mmf_arena *arena);
void mmf_arena_reset(mmf_arena *arena);
mmf_arena_mark mmf_arena_here(const mmf_arena *arena);
void mmf_arena_rewind(mmf_arena *arena, mmf_arena_mark mark);
/**
 * Rewinds, but for `bytes` at `data` (of the arena or not), which move behind a new piece of
 * `room`, a multiple of 64. NULL after recording NOMEM.
 */
void *mmf_arena_rewind_but(mmf_arena *arena, mmf_arena_mark mark, size_t room, const void *data,
                           size_t bytes);
/** The next pieces, `bytes` in all with their padding, stand in one chunk that has no more room, if
 * there is memory for it. */
void mmf_arena_reserve(mmf_arena *arena, size_t bytes);
/** 64-byte aligned, uninitialised; NULL after recording NOMEM in the context. */
void *mmf_arena_alloc(mmf_arena *arena, size_t bytes);

#endif
