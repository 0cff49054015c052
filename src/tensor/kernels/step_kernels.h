/* step_kernels.h: dropout with counter-based randomness, and the optimizer's pass over all weights.
 */
#ifndef MMFUSE_KERNELS_STEP_H
#define MMFUSE_KERNELS_STEP_H

#define PHILOX_WORDS 64 /* words made at a time: sixteen counters, one a vector lane */
#define DROPOUT_BLOCK (2 * PHILOX_WORDS) /* elements masked at a time: two of 16 bits a word */

/* Philox 4x32-7 for sixteen counters at once: word w of counter `first + l` goes to
 * bits[16 w + l]. Seven rounds pass every test of the paper that introduced it (Salmon et al., SC
 * 2011); seeds of weights and shuffles use ten (base/rng.c). */
static void philox_block(uint64_t seed, uint64_t stream, uint64_t first,
                         uint32_t bits[PHILOX_WORDS])
{
    uint32_t *const c0 = bits, *const c1 = bits + LANES, *const c2 = bits + 2 * LANES,
                    *const c3 = bits + 3 * LANES;
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int l = 0; l < LANES; l++) {
        const uint64_t counter = first + (uint64_t)l;
        c0[l] = (uint32_t)counter;
        c1[l] = (uint32_t)(counter >> 32);
        c2[l] = (uint32_t)stream;
        c3[l] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < 7; round++) {
        for (int l = 0; l < LANES; l++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[l];
            const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[l];
            c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ key0;
            c1[l] = (uint32_t)p1;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ key1;
            c3[l] = (uint32_t)p0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/* n elements that share the `shift` half of their words. */
static void dropout_half(int64_t n, const uint32_t *restrict bits, int shift, uint32_t threshold,
                         mmf_real scale, const mmf_real *restrict x, mmf_real *restrict y,
                         mmf_real beta)
{
    for (int64_t j = 0; j < n; j++) {
        const uint32_t draw = (bits[j] >> shift) & 0xffffu;
        const mmf_real kept = draw < threshold ? (mmf_real)0 : scale * x[j];
        y[j] = added(beta, y[j], kept);
    }
}

/* `first` is a multiple of DROPOUT_BLOCK. The probability is p rounded to 1/65536. */
static void dropout(int64_t first, int64_t n, uint64_t seed, uint64_t stream, mmf_real p,
                    const mmf_real *restrict x, mmf_real *restrict y, mmf_real beta)
{
    const uint32_t threshold = (uint32_t)((double)p * 65536.0 + 0.5);
    const mmf_real scale = 1 / (1 - p);
    uint32_t bits[PHILOX_WORDS];
    for (int64_t start = 0; start < n; start += DROPOUT_BLOCK) {
        philox_block(seed, stream, (uint64_t)(first + start) / DROPOUT_BLOCK * LANES, bits);
        const int64_t left = n - start;
        const int64_t low = left < PHILOX_WORDS ? left : PHILOX_WORDS;
        const int64_t high = left < DROPOUT_BLOCK ? left - low : PHILOX_WORDS;
        dropout_half(low, bits, 0, threshold, scale, x + start, y + start, beta);
        dropout_half(high, bits, 16, threshold, scale, x + start + PHILOX_WORDS,
                     y + start + PHILOX_WORDS, beta);
    }
}

static void adam(int64_t n, const mmf_adam *s, const mmf_real *restrict grad, mmf_real *restrict m,
                 mmf_real *restrict v, mmf_real *restrict w)
{
    const mmf_real beta1 = s->beta1, beta2 = s->beta2, rest1 = 1 - s->beta1, rest2 = 1 - s->beta2;
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
