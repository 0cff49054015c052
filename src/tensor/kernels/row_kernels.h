/*
 * row_kernels.h: one row through a matrix, which waits for memory: the matrix is read once, as it
 * stands, where a packed product would copy it first.
 */
#ifndef MMFUSE_KERNELS_ROW_H
#define MMFUSE_KERNELS_ROW_H

/* Sixteen elements at any address. The extension of GCC and Clang keeps several of them in
 * registers, where loops over the lanes of arrays are vectorized across the arrays. */
typedef mmf_real lanes_of
    __attribute__((vector_size(LANES * sizeof(mmf_real)), aligned(sizeof(mmf_real)), may_alias));

/* Eight sums at once wait for each other less. One row after the other: memory comes fastest in
 * the order of its addresses. */
static inline mmf_real dot_row(int64_t n, const mmf_real *restrict w, const mmf_real *restrict x)
{
    enum { SUMS = 8, STEP = SUMS * LANES };
    lanes_of sums[SUMS] = {{0}};
    int64_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        for (int s = 0; s < SUMS; s++)
            sums[s] +=
                *(const lanes_of *)(w + i + s * LANES) * *(const lanes_of *)(x + i + s * LANES);
    }
    for (; i + LANES <= n; i += LANES)
        sums[0] += *(const lanes_of *)(w + i) * *(const lanes_of *)(x + i);
    for (int s = 0; s < SUMS / 2; s++)
        sums[s] += sums[s + SUMS / 2];
    const lanes_of total = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    mmf_real lanes[LANES], rest = 0;
    memcpy(lanes, &total, sizeof lanes);
    for (; i < n; i++)
        rest += w[i] * x[i];
    return fold_pairs(lanes) + rest;
}

static void dot_rows(int64_t rows, int64_t n, const mmf_real *restrict w, int64_t stride,
                     const mmf_real *restrict x, mmf_real *restrict y)
{
    for (int64_t r = 0; r < rows; r++)
        y[r] = dot_row(n, w + r * stride, x);
}

/* y[j] += sum of four rows, each by its factor: y is read and written once for the four. */
static inline void add_four_rows(int64_t n, const mmf_real *const w[4], const mmf_real factor[4],
                                 mmf_real *restrict y)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        lanes_of total = *(const lanes_of *)(y + j);
        for (int r = 0; r < 4; r++)
            total += factor[r] * *(const lanes_of *)(w[r] + j);
        *(lanes_of *)(y + j) = total;
    }
    for (; j < n; j++) {
        for (int r = 0; r < 4; r++)
            y[j] += factor[r] * w[r][j];
    }
}

static void sum_wide_rows(int64_t rows, int64_t cols, const mmf_real *restrict x,
                          const mmf_real *restrict w, int64_t stride, mmf_real *restrict y)
{
    for (int64_t j = 0; j < cols; j++)
        y[j] = 0;
    const mmf_real *row[4];
    mmf_real factor[4];
    int n_rows = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (x[i] == (mmf_real)0)
            continue;
        row[n_rows] = w + i * stride;
        factor[n_rows++] = x[i];
        if (n_rows == 4) {
            add_four_rows(cols, row, factor, y);
            n_rows = 0;
        }
    }
    for (int r = 0; r < n_rows; r++)
        axpby(cols, factor[r], row[r], 1, y);
}

static void sum_lanes(int64_t rows, const mmf_real *restrict x, const mmf_real *restrict w,
                      int64_t stride, mmf_real *restrict y)
{
    lanes_of sums = {0};
    for (int64_t i = 0; i < rows; i++) {
        if (x[i] != (mmf_real)0)
            sums += x[i] * *(const lanes_of *)(w + i * stride);
    }
    *(lanes_of *)y = sums;
}

/* Columns in four registers: the sums never leave them. */
static void sum_narrow_rows(int64_t rows, int64_t cols, const mmf_real *restrict x,
                            const mmf_real *restrict w, int64_t stride, mmf_real *restrict y)
{
    enum { SUMS = 4, WIDTH = SUMS * LANES };
    int64_t start = 0;
    for (; start + WIDTH <= cols; start += WIDTH) {
        lanes_of sums[SUMS] = {{0}};
        for (int64_t i = 0; i < rows; i++) {
            if (x[i] == (mmf_real)0)
                continue;
            const mmf_real *const row = w + i * stride + start;
            for (int s = 0; s < SUMS; s++)
                sums[s] += x[i] * *(const lanes_of *)(row + s * LANES);
        }
        for (int s = 0; s < SUMS; s++)
            *(lanes_of *)(y + start + s * LANES) = sums[s];
    }
    for (; start + LANES <= cols; start += LANES)
        sum_lanes(rows, x, w + start, stride, y + start);
    /* The last few with some that are done already: the same sums once more. */
    if (start < cols && cols >= LANES) {
        sum_lanes(rows, x, w + cols - LANES, stride, y + cols - LANES);
        return;
    }
    mmf_real sums[LANES] = {0};
    for (int64_t i = 0; start < cols && i < rows; i++) {
        for (int64_t j = 0; x[i] != (mmf_real)0 && j < cols; j++)
            sums[j] += x[i] * w[i * stride + j];
    }
    for (int64_t j = start; j < cols; j++)
        y[j] = sums[j];
}

static void sum_rows(int64_t rows, int64_t cols, const mmf_real *restrict x,
                     const mmf_real *restrict w, int64_t stride, mmf_real *restrict y)
{
    enum { NARROW = 8 * LANES };
    if (cols <= NARROW)
        sum_narrow_rows(rows, cols, x, w, stride, y);
    else
        sum_wide_rows(rows, cols, x, w, stride, y);
}

#endif
