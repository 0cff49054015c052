/*
 * rng.c: Philox 4x32-10, a counter-based generator.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */
#include "mmfuse/base.h"

#include <math.h>

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u
#define PHILOX_W1 0xBB67AE85u

void mmf_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)PHILOX_M0 * c0;
        const uint64_t p1 = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)p0;
        key0 += PHILOX_W0;
        key1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

mmf_rng mmf_rng_make(uint64_t seed, uint64_t stream)
{
    return (mmf_rng){.seed = seed, .stream = stream};
}

uint64_t mmf_rng_stream(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

uint32_t mmf_rng_u32(mmf_rng *rng)
{
    if (rng->n_left == 0) {
        mmf_philox(rng->seed, rng->stream, rng->counter++, rng->block);
        rng->n_left = 4;
    }
    return rng->block[4 - rng->n_left--];
}

double mmf_rng_uniform(mmf_rng *rng)
{
    const uint64_t high = mmf_rng_u32(rng) >> 5, low = mmf_rng_u32(rng) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

double mmf_rng_normal(mmf_rng *rng)
{
    const double radius = sqrt(-2 * log(1 - mmf_rng_uniform(rng)));
    return radius * cos(2 * 3.14159265358979323846 * mmf_rng_uniform(rng));
}

uint64_t mmf_rng_below(mmf_rng *rng, uint64_t bound)
{
    const uint64_t threshold = (0 - bound) % bound; /* draws below it would favour small values */
    for (;;) {
        const uint64_t draw = (uint64_t)mmf_rng_u32(rng) << 32 | mmf_rng_u32(rng);
        if (draw >= threshold)
            return draw % bound;
    }
}

void mmf_rng_shuffle(mmf_rng *rng, int64_t *index, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)mmf_rng_below(rng, (uint64_t)i + 1);
        const int64_t swapped = index[i];
        index[i] = index[j];
        index[j] = swapped;
    }
}
