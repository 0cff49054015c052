/*
 * attend_kernels.h: attention of sixteen queries at once, a query a lane. Heads are often too
 * narrow for a matrix product to pay for its packing, and softmax over lanes adds nothing across
 * them.
 */
#ifndef MMFUSE_KERNELS_ATTEND_H
#define MMFUSE_KERNELS_ATTEND_H

_Static_assert(LANES == MMF_ATTEND_QUERIES, "a query a lane");

/* s = q' k of `keys` keys; several at once wait for each other less. */
static inline void attend_keys(const mmf_attend_tile *a, int64_t first, int keys, lanes_of *s)
{
    enum { KEYS = 4 };
    const lanes_of *const q = (const lanes_of *)a->q;
    const mmf_real *const k = a->k + first * a->k_step;
    lanes_of sums[KEYS] = {{0}};
    for (int64_t w = 0; w < a->width; w++) {
        for (int i = 0; i < keys; i++)
            sums[i] += k[i * a->k_step + w] * q[w];
    }
    for (int i = 0; i < keys; i++)
        s[first + i] = sums[i];
}

/* scores = q' k less the largest of a lane; -infinity where the mask leaves out. */
static inline void attend_scores(const mmf_attend_tile *a, mmf_real *restrict scores)
{
    lanes_of *const s = (lanes_of *)scores;
    const int64_t n = a->n_keys * LANES;
    int64_t j = 0;
    for (; j + 4 <= a->n_keys; j += 4)
        attend_keys(a, j, 4, s);
    for (; j < a->n_keys; j++)
        attend_keys(a, j, 1, s);
    for (int64_t i = 0; a->mask && i < n; i++)
        scores[i] = a->mask[i] != (mmf_real)0 ? scores[i] : -(mmf_real)INFINITY;
    mmf_real top[LANES];
    for (int lane = 0; lane < LANES; lane++)
        top[lane] = -(mmf_real)FLT_MAX;
    for (int64_t i = 0; i < n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            top[lane] = scores[i + lane] > top[lane] ? scores[i + lane] : top[lane];
    }
    const lanes_of tops = *(const lanes_of *)top;
    for (j = 0; j < a->n_keys; j++)
        s[j] -= tops;
}

/* y = sum of weight v times a factor a lane, four columns of v at once. */
static inline void attend_mix(const mmf_attend_tile *a, const mmf_real *restrict weights,
                              const mmf_real factors[LANES])
{
    enum { COLUMNS = 4 };
    const lanes_of scale = *(const lanes_of *)factors;
    const lanes_of *const e = (const lanes_of *)weights;
    lanes_of *const y = (lanes_of *)a->y;
    int64_t c = 0;
    for (; c + COLUMNS <= a->value_width; c += COLUMNS) {
        lanes_of sums[COLUMNS] = {{0}};
        for (int64_t j = 0; j < a->n_keys; j++) {
            const mmf_real *const v = a->v + j * a->v_step + c;
            for (int i = 0; i < COLUMNS; i++)
                sums[i] += e[j] * v[i];
        }
        for (int i = 0; i < COLUMNS; i++)
            y[c + i] = sums[i] * scale;
    }
    for (; c < a->value_width; c++) {
        lanes_of sum = {0};
        for (int64_t j = 0; j < a->n_keys; j++)
            sum += e[j] * a->v[j * a->v_step + c];
        y[c] = sum * scale;
    }
}

static void attend(const mmf_attend_tile *a, mmf_real *restrict scratch)
{
    const lanes_of *const e = (const lanes_of *)scratch;
    lanes_of sums = {0};
    mmf_real factors[LANES];
    attend_scores(a, scratch);
    for (int64_t i = 0; i < a->n_keys * LANES; i++)
        scratch[i] = vexp(scratch[i]);
    for (int64_t j = 0; j < a->n_keys; j++)
        sums += e[j];
    *(lanes_of *)factors = sums;
    for (int lane = 0; lane < LANES; lane++)
        factors[lane] = factors[lane] > 0 ? 1 / factors[lane] : 0;
    attend_mix(a, scratch, factors);
}

#endif
