/* step_kernels.h: dropout with counter-based randomness, and the optimizer's pass over all weights.
 */
#ifndef MMFUSE_KERNELS_STEP_H
#define MMFUSE_KERNELS_STEP_H

#ifdef __AVX2__
#include <immintrin.h>
#endif

/* Elements masked at a time: sixteen counters, one a lane, of four words, of two halves. */
#define DROPOUT_BLOCK 128
/* Seven rounds pass every test of BigCrush (Salmon et al., SC 2011, table 2). */
#define DROPOUT_ROUNDS 7

/* Eight lanes as one value: left to itself the compiler takes them apart again. */
#define WIDE 8
typedef uint32_t wide_words __attribute__((vector_size(WIDE * sizeof(uint32_t))));

/* Halves of a * m. Without the instruction named, dropout takes .84 ns an element instead of .29.
 */
static inline void multiply_wide(const wide_words *a, uint32_t m, wide_words *high, wide_words *low)
{
#ifdef __AVX2__
    const __m256i x = (__m256i)*a, factor = _mm256_set1_epi32((int)m);
    const __m256i even = _mm256_mul_epu32(x, factor);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
    *low = (wide_words)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    *high = (wide_words)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
#else
    for (int l = 0; l < WIDE; l++) {
        const uint64_t product = (uint64_t)m * (*a)[l];
        (*high)[l] = (uint32_t)(product >> 32);
        (*low)[l] = (uint32_t)product;
    }
#endif
}

/* Philox 4x32 (see base/rng.c) for sixteen counters at once: word w of counter `first + l` goes to
 * bits[16 w + l]. */
static inline void philox_block(uint64_t seed, uint64_t stream, uint64_t first,
                                uint32_t bits[4 * LANES])
{
    enum { PARTS = LANES / WIDE };
    const wide_words zero = {0}, places = {0, 1, 2, 3, 4, 5, 6, 7};
    wide_words c0[PARTS], c1[PARTS], c2[PARTS], c3[PARTS];
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (uint32_t i = 0; i < PARTS; i++) { /* `first` is a multiple of LANES: no carry */
        c0[i] = places + (uint32_t)first + WIDE * i;
        c1[i] = zero + (uint32_t)(first >> 32);
        c2[i] = zero + (uint32_t)stream;
        c3[i] = zero + (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < DROPOUT_ROUNDS; round++) {
        for (int i = 0; i < PARTS; i++) {
            wide_words high0 = zero, high1 = zero, low0 = zero, low1 = zero;
            multiply_wide(&c0[i], 0xD2511F53u, &high0, &low0);
            multiply_wide(&c2[i], 0xCD9E8D57u, &high1, &low1);
            c0[i] = high1 ^ c1[i] ^ key0;
            c1[i] = low1;
            c2[i] = high0 ^ c3[i] ^ key1;
            c3[i] = low0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    memcpy(bits, c0, sizeof c0);
    memcpy(bits + LANES, c1, sizeof c1);
    memcpy(bits + 2 * LANES, c2, sizeof c2);
    memcpy(bits + 3 * LANES, c3, sizeof c3);
}

/* y = beta y + scale x where the 16 bits of an element are at least the threshold. */
static inline void drop_block(const uint32_t bits[4 * LANES], uint32_t threshold, mmf_real scale,
                              const mmf_real *restrict x, mmf_real *restrict y, mmf_real beta)
{
    enum { HALF = DROPOUT_BLOCK / 2 };
    for (int j = 0; j < HALF; j++) {
        const mmf_real kept = (bits[j] & 0xffffu) < threshold ? (mmf_real)0 : scale * x[j];
        y[j] = added(beta, y[j], kept);
    }
    for (int j = 0; j < HALF; j++) {
        const mmf_real kept = bits[j] >> 16 < threshold ? (mmf_real)0 : scale * x[HALF + j];
        y[HALF + j] = added(beta, y[HALF + j], kept);
    }
}

/* Element e of a block uses the low half of word e, from 64 on the high half of word e - 64. The
 * probability is rounded to 1/65536; the scale keeps the mean exact. */
static void dropout(int64_t first, int64_t n, uint64_t seed, uint64_t stream, mmf_real p,
                    const mmf_real *restrict x, mmf_real *restrict y, mmf_real beta)
{
    const uint32_t threshold = (uint32_t)((double)p * 65536.0 + 0.5);
    const mmf_real scale = (mmf_real)(65536.0 / (65536.0 - (double)threshold));
    uint32_t bits[4 * LANES];
    for (int64_t start = 0; start < n; start += DROPOUT_BLOCK) {
        const int64_t width = n - start < DROPOUT_BLOCK ? n - start : DROPOUT_BLOCK;
        philox_block(seed, stream, (uint64_t)((first + start) / DROPOUT_BLOCK) * LANES, bits);
        if (width == DROPOUT_BLOCK) {
            drop_block(bits, threshold, scale, x + start, y + start, beta);
            continue;
        }
        mmf_real from[DROPOUT_BLOCK] = {0}, to[DROPOUT_BLOCK] = {0};
        for (int64_t j = 0; j < width; j++) {
            from[j] = x[start + j];
            to[j] = beta == (mmf_real)0 ? (mmf_real)0 : y[start + j];
        }
        drop_block(bits, threshold, scale, from, to, beta);
        for (int64_t j = 0; j < width; j++)
            y[start + j] = to[j];
    }
}

static void adam(int64_t n, const mmf_adam *s, const mmf_real *restrict grad, mmf_real *restrict m,
                 mmf_real *restrict v, mmf_real *restrict w)
{
    const mmf_real beta1 = s->beta1, beta2 = s->beta2, rest1 = s->rest1, rest2 = s->rest2;
    const mmf_real step = s->lr * s->correction1, shrink = 1 - s->lr * s->decay;
    const mmf_real l2 = s->l2, scale = s->grad_scale, eps = s->eps, correction2 = s->correction2;
    for (int64_t i = 0; i < n; i++) {
        const mmf_real g = scale * grad[i] + l2 * w[i];
        const mmf_real first = beta1 * m[i] + rest1 * g;
        const mmf_real second = beta2 * v[i] + rest2 * g * g;
        m[i] = first;
        v[i] = second;
        w[i] = shrink * w[i] - step * first / (vsqrt(second) * correction2 + eps);
    }
}

#endif
