/*
 * window_kernels.h: maxima over windows of maps with channels last.
 *
 * In vectors of the level's own width: compilers make no selection between numbers of pixels of
 * plain loops, and of vectors wider than the level's one element after the other.
 */
#ifndef MMFUSE_KERNELS_WINDOW_H
#define MMFUSE_KERNELS_WINDOW_H

#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#ifdef MMF_DOUBLE
typedef int64_t mmf_whole; /* as wide as mmf_real: what comparing gives */
#else
typedef int32_t mmf_whole;
#endif

#define VECTOR_LANES ((int64_t)(VECTOR_BYTES / sizeof(mmf_real)))

typedef mmf_real vector_real __attribute__((vector_size(VECTOR_BYTES)));
typedef mmf_whole vector_whole __attribute__((vector_size(VECTOR_BYTES)));
typedef uint8_t vector_byte __attribute__((vector_size(VECTOR_BYTES / sizeof(mmf_real))));

static inline __attribute__((always_inline)) void top_of_vector(const mmf_window_taps *taps,
                                                                const mmf_real *x, mmf_real low,
                                                                mmf_real *top, uint8_t *winner)
{
    vector_real best = low - (vector_real){0};
    vector_whole won = MMF_NO_WINNER - (vector_whole){0};
    for (int64_t t = 0; t < taps->n; t++) {
        vector_real value;
        memcpy(&value, x + taps->offset[t], sizeof value);
        const vector_whole number = (mmf_whole)taps->number[t] - (vector_whole){0};
        /* NOLINTNEXTLINE(misc-redundant-expression): false where it is not a number */
        const vector_whole wins = ~(value <= best) & (best == best);
        best = (vector_real)((wins & (vector_whole)value) | (~wins & (vector_whole)best));
        won = (wins & number) | (~wins & won);
    }
    const vector_byte bytes = __builtin_convertvector(won, vector_byte);
    memcpy(top, &best, sizeof best);
    memcpy(winner, &bytes, sizeof bytes);
}

static void window_top(int64_t n, int64_t channels, int64_t step, const mmf_window_taps *taps,
                       const mmf_real *x, mmf_real low, mmf_real *top, uint8_t *winner)
{
    for (int64_t i = 0; i < n; i++, x += step, top += channels, winner += channels) {
        int64_t c = 0;
        for (; c + VECTOR_LANES <= channels; c += VECTOR_LANES)
            top_of_vector(taps, x + c, low, top + c, winner + c);
        for (; c < channels; c++) {
            mmf_real best = low;
            uint8_t won = MMF_NO_WINNER;
            for (int64_t t = 0; t < taps->n; t++) {
                const mmf_real value = x[taps->offset[t] + c];
                const bool wins = !(value <= best) & (best == best);
                best = wins ? value : best;
                won = wins ? taps->number[t] : won;
            }
            top[c] = best;
            winner[c] = won;
        }
    }
}

static inline __attribute__((always_inline)) void
give_of_vector(const mmf_window_taps *taps, const uint8_t *winner, const mmf_real *dy, mmf_real *dx)
{
    vector_byte bytes;
    vector_real own, to;
    memcpy(&bytes, winner, sizeof bytes);
    memcpy(&own, dy, sizeof own);
    const vector_whole won = __builtin_convertvector(bytes, vector_whole);
    for (int64_t t = 0; t < taps->n; t++) {
        const vector_whole mine = won == (mmf_whole)taps->number[t] - (vector_whole){0};
        memcpy(&to, dx + taps->offset[t], sizeof to);
        to += (vector_real)(mine & (vector_whole)own);
        memcpy(dx + taps->offset[t], &to, sizeof to);
    }
}

static void window_give(int64_t n, int64_t channels, int64_t step, const mmf_window_taps *taps,
                        const uint8_t *winner, const mmf_real *dy, mmf_real *dx)
{
    for (int64_t i = 0; i < n; i++, dx += step, dy += channels, winner += channels) {
        int64_t c = 0;
        for (; c + VECTOR_LANES <= channels; c += VECTOR_LANES)
            give_of_vector(taps, winner + c, dy + c, dx + c);
        for (; c < channels; c++) {
            for (int64_t t = 0; t < taps->n; t++) {
                if (winner[c] == taps->number[t])
                    dx[taps->offset[t] + c] += dy[c];
            }
        }
    }
}

#endif
