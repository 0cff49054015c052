/*
 * reduce_kernels.h: sums in sixteen explicit lanes.
 *
 * Compilers do not vectorize a float sum without reordering it; the lanes make the order part of
 * the source. Blocks of BLOCK elements are folded into a double, so long sums keep their digits.
 */
#ifndef MMFUSE_KERNELS_REDUCE_H
#define MMFUSE_KERNELS_REDUCE_H

#define LANES 16
#define BLOCK 1024

/* Of the first n lanes. */
static inline double fold_some(int64_t n, const mmf_real *lanes)
{
    double quarter[4] = {0};
    for (int64_t i = 0; i < n; i++)
        quarter[i % 4] += (double)lanes[i];
    return (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
}

static double fold(const mmf_real lanes[LANES])
{
    return fold_some(LANES, lanes);
}

static mmf_real sum(int64_t n, const mmf_real *restrict x)
{
    if (n < LANES) /* the same sums, without the lanes that have none */
        return (mmf_real)fold_some(n, x);
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = n - start < BLOCK ? n : start + BLOCK;
        mmf_real lanes[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += x[i + lane];
        }
        for (int lane = 0; i < end; i++, lane++)
            lanes[lane] += x[i];
        total += fold(lanes);
    }
    return (mmf_real)total;
}

static mmf_real dot(int64_t n, const mmf_real *restrict a, const mmf_real *restrict b)
{
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = n - start < BLOCK ? n : start + BLOCK;
        mmf_real lanes[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += a[i + lane] * b[i + lane];
        }
        for (int lane = 0; i < end; i++, lane++)
            lanes[lane] += a[i] * b[i];
        total += fold(lanes);
    }
    return (mmf_real)total;
}

/* Sums sixteen lanes pairwise, in registers. */
static inline mmf_real fold_pairs(const mmf_real lanes[LANES])
{
    mmf_real eight[8], four[4];
    for (int l = 0; l < 8; l++)
        eight[l] = lanes[l] + lanes[l + 8];
    for (int l = 0; l < 4; l++)
        four[l] = eight[l] + eight[l + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

static mmf_real max(int64_t n, const mmf_real *restrict x)
{
    mmf_real best = x[0];
    if (n >= LANES) {
        mmf_real lanes[LANES];
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = x[lane];
        int64_t i = LANES;
        for (; i + LANES <= n; i += LANES) {
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
        }
        for (int lane = 0; lane < LANES; lane++)
            best = lanes[lane] > best ? lanes[lane] : best;
        for (; i < n; i++)
            best = x[i] > best ? x[i] : best;
        return best;
    }
    for (int64_t i = 1; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

static void column_sum(int64_t rows, int64_t cols, mmf_real alpha, const mmf_real *restrict x,
                       mmf_real beta, mmf_real *restrict y)
{
    enum { WIDTH = 64 };
    for (int64_t start = 0; start < cols; start += WIDTH) {
        const int64_t width = cols - start < WIDTH ? cols - start : WIDTH;
        mmf_real sums[WIDTH] = {0};
        const mmf_real *row = x + start;
        if (width == WIDTH) {
            for (int64_t i = 0; i < rows; i++, row += cols) {
                for (int64_t j = 0; j < WIDTH; j++)
                    sums[j] += row[j];
            }
        } else {
            for (int64_t i = 0; i < rows; i++, row += cols) {
                for (int64_t j = 0; j < width; j++)
                    sums[j] += row[j];
            }
        }
        for (int64_t j = 0; j < width; j++) {
            const mmf_real old = beta == (mmf_real)0 ? (mmf_real)0 : beta * y[start + j];
            y[start + j] = old + alpha * sums[j];
        }
    }
}

#endif
