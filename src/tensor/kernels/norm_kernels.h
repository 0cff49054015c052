/* norm_kernels.h: softmax and normalisation of one row. */
#ifndef MMFUSE_KERNELS_NORM_H
#define MMFUSE_KERNELS_NORM_H

/* The largest element that the mask keeps; returns how many it keeps. */
static int64_t masked_max(int64_t n, const mmf_real *restrict x, const mmf_real *restrict mask,
                          mmf_real *top)
{
    mmf_real lanes[LANES], best = -(mmf_real)INFINITY;
    int32_t kept[LANES] = {0};
    int64_t i = 0, n_kept = 0;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = best;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            const bool keep = mask[i + lane] != (mmf_real)0;
            kept[lane] += keep;
            lanes[lane] = keep && x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
        }
    }
    for (; i < n; i++) {
        n_kept += mask[i] != (mmf_real)0;
        best = mask[i] != (mmf_real)0 && x[i] > best ? x[i] : best;
    }
    for (int lane = 0; lane < LANES; lane++) {
        n_kept += kept[lane];
        best = lanes[lane] > best ? lanes[lane] : best;
    }
    *top = best;
    return n_kept;
}

static int64_t softmax_row(int64_t n, const mmf_real *restrict x, const mmf_real *restrict mask,
                           mmf_real *restrict y)
{
    int64_t n_kept = n;
    mmf_real top = 0;
    if (mask) {
        n_kept = masked_max(n, x, mask, &top);
        if (n_kept == 0)
            return 0;
        for (int64_t i = 0; i < n; i++) {
            const mmf_real value = vexp(x[i] - top);
            y[i] = mask[i] != (mmf_real)0 ? value : (mmf_real)0;
        }
    } else {
        top = max(n, x);
        for (int64_t i = 0; i < n; i++)
            y[i] = vexp(x[i] - top);
    }
    const mmf_real scale = 1 / sum(n, y);
    for (int64_t i = 0; i < n; i++)
        y[i] *= scale;
    return n_kept;
}

/* What the mean of dy lacks because of the rounding of y, whose sum is not quite 1: where one y is
 * nearly 1, the gradient is a small difference of large numbers. */
static mmf_real dot_centred(int64_t n, const mmf_real *restrict y, const mmf_real *restrict dy,
                            mmf_real mean)
{
    mmf_real lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += y[i + lane] * (dy[i + lane] - mean);
    }
    for (int lane = 0; i < n; i++, lane++)
        lanes[lane] += y[i] * (dy[i] - mean);
    return (mmf_real)fold(lanes);
}

static void softmax_row_grad(int64_t n, const mmf_real *restrict y, const mmf_real *restrict dy,
                             mmf_real beta, mmf_real *restrict dx)
{
    const mmf_real mean = dot(n, y, dy), rest = dot_centred(n, y, dy, mean);
    for (int64_t i = 0; i < n; i++)
        dx[i] = added(beta, dx[i], y[i] * (dy[i] - mean - rest));
}

static void norm_row(int64_t n, const mmf_real *restrict x, const mmf_real *restrict w,
                     const mmf_real *restrict b, mmf_real eps, bool by_deviation,
                     mmf_real *restrict y, mmf_row_norm *row)
{
    const mmf_real m = sum(n, x) / (mmf_real)n;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] - m;
    *row = (mmf_row_norm){m, 0, 0, (mmf_real)n};
    if (by_deviation) {
        /* What the mean was rounded by would count where a row is nearly constant. */
        row->rest = sum(n, y) / (mmf_real)n;
        for (int64_t i = 0; i < n; i++)
            y[i] -= row->rest;
        const mmf_real deviation = vsqrt(dot(n, y, y) / (mmf_real)(n - 1));
        row->scale = 1 / (deviation + eps);
        row->divisor = deviation > (mmf_real)0 ? (mmf_real)(n - 1) * deviation * row->scale
                                               : (mmf_real)INFINITY;
    } else {
        row->scale = 1 / vsqrt(dot(n, y, y) / (mmf_real)n + eps);
    }
    const mmf_real r = row->scale;
    if (w && b) {
        for (int64_t i = 0; i < n; i++)
            y[i] = y[i] * r * w[i] + b[i];
    } else if (w) {
        for (int64_t i = 0; i < n; i++)
            y[i] = y[i] * r * w[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i] = y[i] * r;
    }
}

/*
 * With u the normalised row and g = dy w: dx = scale (g - mean(g) - u <g, u> / divisor), where the
 * divisor is n, or (n - 1) s scale for the deviation s.
 */
static void norm_row_grad(int64_t n, const mmf_real *restrict x, const mmf_real *restrict w,
                          const mmf_row_norm *row, const mmf_real *restrict dy, mmf_real beta,
                          mmf_real *restrict dx, mmf_real *restrict dw, mmf_real *restrict db)
{
    const mmf_real mean = row->mean, rest = row->rest, scale = row->scale;
    if (dw) {
        for (int64_t i = 0; i < n; i++)
            dw[i] += dy[i] * (x[i] - mean - rest) * scale;
    }
    if (db) {
        for (int64_t i = 0; i < n; i++)
            db[i] += dy[i];
    }
    if (!dx)
        return;
    /* One element is its own mean; what rounding leaves of the difference, the scale would enlarge.
     */
    if (n == 1) {
        dx[0] = added(beta, dx[0], 0);
        return;
    }
    mmf_real g_lanes[LANES] = {0}, gu_lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            const mmf_real g = w ? dy[i + lane] * w[i + lane] : dy[i + lane];
            g_lanes[lane] += g;
            gu_lanes[lane] += g * (x[i + lane] - mean - rest) * scale;
        }
    }
    for (int lane = 0; i < n; i++, lane++) {
        const mmf_real g = w ? dy[i] * w[i] : dy[i];
        g_lanes[lane] += g;
        gu_lanes[lane] += g * (x[i] - mean - rest) * scale;
    }
    const mmf_real mean_g = (mmf_real)(fold(g_lanes) / (double)n);
    const mmf_real mean_gu = (mmf_real)(fold(gu_lanes) / (double)row->divisor);
    for (i = 0; i < n; i++) {
        const mmf_real g = w ? dy[i] * w[i] : dy[i];
        const mmf_real u = (x[i] - mean - rest) * scale;
        dx[i] = added(beta, dx[i], scale * (g - mean_g - u * mean_gu));
    }
}

/* ---- One run of one channel in batch norm ------------------------------------------------ */

static double centered_square(int64_t n, const mmf_real *restrict x, mmf_real mean)
{
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = n - start < BLOCK ? n : start + BLOCK;
        mmf_real lanes[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += (x[i + lane] - mean) * (x[i + lane] - mean);
        }
        for (int lane = 0; i < end; i++, lane++)
            lanes[lane] += (x[i] - mean) * (x[i] - mean);
        total += fold(lanes);
    }
    return total;
}

static double centered_dot(int64_t n, const mmf_real *restrict x, mmf_real mean,
                           const mmf_real *restrict dy)
{
    double total = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t end = n - start < BLOCK ? n : start + BLOCK;
        mmf_real lanes[LANES] = {0};
        int64_t i = start;
        for (; i + LANES <= end; i += LANES) {
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += dy[i + lane] * (x[i + lane] - mean);
        }
        for (int lane = 0; i < end; i++, lane++)
            lanes[lane] += dy[i] * (x[i] - mean);
        total += fold(lanes);
    }
    return total;
}

static void centered_affine(int64_t n, const mmf_real *restrict x, mmf_real mean, mmf_real scale,
                            mmf_real shift, mmf_real *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale + shift;
}

static void channel_grad(int64_t n, const mmf_real *restrict x, const mmf_real *restrict dy,
                         const mmf_channel_grad *g, mmf_real beta, mmf_real *restrict dx)
{
    const mmf_real mean = g->mean, factor = g->factor, mean_dy = g->mean_dy, slope = g->slope;
    for (int64_t i = 0; i < n; i++)
        dx[i] = added(beta, dx[i], factor * (dy[i] - mean_dy - (x[i] - mean) * slope));
}

#endif
