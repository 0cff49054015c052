/* hash.h: a 64-bit hash of bytes for fingerprints; not for hostile keys. */
#ifndef MMFUSE_BASE_HASH_H
#define MMFUSE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Goes on from `hash` (any number to begin with), a word at a time as FNV-1a goes by bytes. */
static inline uint64_t mmf_hash(uint64_t hash, const void *bytes, size_t n_bytes)
{
    const unsigned char *at = bytes;
    for (; n_bytes > 0;) {
        uint64_t word = 0;
        const size_t n = n_bytes < sizeof word ? n_bytes : sizeof word;
        memcpy(&word, at, n);
        /* The shift brings high bits down, which a product alone only ever moves up. */
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
        at += n;
        n_bytes -= n;
    }
    return hash;
}

static inline uint64_t mmf_hash_number(uint64_t hash, int64_t number)
{
    return mmf_hash(hash, &number, sizeof number);
}

/** The text with its end, so that "ab", "c" differs from "a", "bc". */
static inline uint64_t mmf_hash_text(uint64_t hash, const char *text)
{
    return mmf_hash(mmf_hash_number(hash, (int64_t)strlen(text)), text, strlen(text));
}

#endif
