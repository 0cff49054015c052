/* step_kernels.h: dropout with counter-based randomness, and the optimizer's pass over all weights.
 */
#ifndef MMFUSE_KERNELS_STEP_H
#define MMFUSE_KERNELS_STEP_H

#define DROPOUT_BLOCK 64 /* elements masked at a time: sixteen counters, one a vector lane */

/* Philox 4x32-10 (see base/rng.c) for sixteen counters at once; word w of counter `first + l` goes
 * to bits[4 l + w]. */
static void philox_block(uint64_t seed, uint64_t stream, uint64_t first,
                         uint32_t bits[DROPOUT_BLOCK])
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int l = 0; l < LANES; l++) {
        const uint64_t counter = first + (uint64_t)l;
        c0[l] = (uint32_t)counter;
        c1[l] = (uint32_t)(counter >> 32);
        c2[l] = (uint32_t)stream;
        c3[l] = (uint32_t)(stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
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
    for (ptrdiff_t l = 0; l < LANES; l++) {
        bits[4 * l] = c0[l];
        bits[4 * l + 1] = c1[l];
        bits[4 * l + 2] = c2[l];
        bits[4 * l + 3] = c3[l];
    }
}

/* `first` is a multiple of DROPOUT_BLOCK: element e uses word e % 4 of counter e / 4. */
static void dropout(int64_t first, int64_t n, uint64_t seed, uint64_t stream, mmf_real p,
                    const mmf_real *restrict x, mmf_real *restrict y, mmf_real beta)
{
    const uint32_t threshold = (uint32_t)((double)p * 4294967296.0);
    const mmf_real scale = 1 / (1 - p);
    uint32_t bits[DROPOUT_BLOCK];
    for (int64_t start = 0; start < n; start += DROPOUT_BLOCK) {
        philox_block(seed, stream, (uint64_t)(first + start) / 4, bits);
        const int64_t width = n - start < DROPOUT_BLOCK ? n - start : DROPOUT_BLOCK;
        for (int64_t j = 0; j < width; j++) {
            const mmf_real kept = bits[j] < threshold ? (mmf_real)0 : scale * x[start + j];
            y[start + j] = added(beta, y[start + j], kept);
        }
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
