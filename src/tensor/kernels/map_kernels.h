/*
 * map_kernels.h: loops over maps with channels last, rows of pixels x channels.
 *
 * Columns are taken in strips of STRIP, for which the sums of a strip stay in registers. Where
 * channels are few, several pixels make a row: a map of 16 channels is one of 64 with a quarter of
 * the pixels, whose columns are folded at the end.
 */
#ifndef MMFUSE_KERNELS_MAP_H
#define MMFUSE_KERNELS_MAP_H

enum { STRIP = 64 };

/* A strip of columns: `rows` rows that are `stride` elements apart, then `rest` more elements,
 * which are no whole row, where several pixels make one. Column j belongs to channel `first` + j %
 * `period`. */
typedef struct map_strip {
    int64_t first, width, period, rows, stride, rest, rest_at;
} map_strip;

/* The strip that begins with channel `first`. */
static map_strip strip_of(int64_t pixels, int64_t channels, int64_t first)
{
    const int64_t group = channels > STRIP ? 1 : STRIP / channels;
    map_strip s = {.first = first, .rows = pixels, .stride = channels};
    if (group > 1) {
        s.width = group * channels;
        s.period = channels;
        s.rows = pixels / group;
        s.stride = s.width;
        s.rest = pixels % group * channels;
        s.rest_at = s.rows * s.stride;
    } else {
        s.width = s.period = channels - first < STRIP ? channels - first : STRIP;
    }
    return s;
}

/* The channels' values for every column. */
static void spread_channels(const map_strip *s, const mmf_real *restrict values,
                            mmf_real *restrict columns)
{
    for (int64_t at = 0; at < s->width; at += s->period) {
        for (int64_t j = 0; j < s->period; j++)
            columns[at + j] = values[s->first + j];
    }
}

/* The reverse of it, for sums. */
static void fold_columns(const map_strip *s, const mmf_real *restrict columns,
                         mmf_real *restrict sums)
{
    for (int64_t j = 0; j < s->period; j++)
        sums[s->first + j] = columns[j];
    for (int64_t at = s->period; at < s->width; at += s->period) {
        for (int64_t j = 0; j < s->period; j++)
            sums[s->first + j] += columns[at + j];
    }
}

/* The bodies below are compiled once for whole strips, whose width is a constant, and once for any.
 */
#define WHOLE_OR_ANY(body, width, ...)                                                             \
    ((width) == STRIP ? body(STRIP, __VA_ARGS__) : body(width, __VA_ARGS__))

static inline __attribute__((always_inline)) void add_rows(int64_t width, int64_t rows,
                                                           int64_t stride,
                                                           const mmf_real *restrict x,
                                                           mmf_real *restrict sums)
{
    mmf_real lanes[STRIP];
    for (int64_t j = 0; j < width; j++)
        lanes[j] = sums[j];
    for (int64_t i = 0; i < rows; i++, x += stride) {
        for (int64_t j = 0; j < width; j++)
            lanes[j] += x[j];
    }
    for (int64_t j = 0; j < width; j++)
        sums[j] = lanes[j];
}

static inline __attribute__((always_inline)) void
add_squares(int64_t width, int64_t rows, int64_t stride, const mmf_real *restrict x,
            const mmf_real *restrict mean, mmf_real *restrict sums)
{
    mmf_real lanes[STRIP], center[STRIP];
    for (int64_t j = 0; j < width; j++) {
        lanes[j] = sums[j];
        center[j] = mean[j];
    }
    for (int64_t i = 0; i < rows; i++, x += stride) {
        for (int64_t j = 0; j < width; j++)
            lanes[j] += (x[j] - center[j]) * (x[j] - center[j]);
    }
    for (int64_t j = 0; j < width; j++)
        sums[j] = lanes[j];
}

static void map_moments(int64_t pixels, int64_t channels, const mmf_real *restrict x,
                        mmf_real *restrict mean, mmf_real *restrict square)
{
    const mmf_real share = 1 / (mmf_real)pixels;
    for (int64_t first = 0; first < channels; first += STRIP) {
        const map_strip s = strip_of(pixels, channels, first);
        const mmf_real *const from = x + first, *const rest = x + s.rest_at;
        mmf_real sums[STRIP] = {0}, center[STRIP];
        WHOLE_OR_ANY(add_rows, s.width, s.rows, s.stride, from, sums);
        add_rows(s.rest, 1, 0, rest, sums);
        fold_columns(&s, sums, mean);
        for (int64_t j = 0; j < s.period; j++)
            mean[first + j] *= share;
        spread_channels(&s, mean, center);
        for (int64_t j = 0; j < s.width; j++)
            sums[j] = 0;
        WHOLE_OR_ANY(add_squares, s.width, s.rows, s.stride, from, center, sums);
        add_squares(s.rest, 1, 0, rest, center, sums);
        fold_columns(&s, sums, square);
    }
}

/* How columns are normalised. */
typedef struct column_norm {
    mmf_real mean[STRIP], scale[STRIP], shift[STRIP];
} column_norm;

static inline __attribute__((always_inline)) void
affine_rows(int64_t width, int64_t rows, int64_t stride, const column_norm *norm, bool relu,
            const mmf_real *restrict x, const mmf_real *restrict residual, mmf_real *restrict y)
{
    const mmf_real zero = 0;
    for (int64_t i = 0; i < rows; i++, x += stride, y += stride) {
        for (int64_t j = 0; j < width; j++) {
            const mmf_real own = (x[j] - norm->mean[j]) * norm->scale[j] + norm->shift[j];
            const mmf_real z = residual ? own + residual[j] : own;
            y[j] = relu && z < zero ? zero : z; /* NaN stays NaN */
        }
        if (residual)
            residual += stride;
    }
}

static inline __attribute__((always_inline)) void
affine_strip(int64_t width, const map_strip *s, const column_norm *norm, bool relu,
             const mmf_real *x, const mmf_real *residual, mmf_real *y)
{
    if (residual && relu)
        affine_rows(width, s->rows, s->stride, norm, true, x, residual, y);
    else if (residual)
        affine_rows(width, s->rows, s->stride, norm, false, x, residual, y);
    else if (relu)
        affine_rows(width, s->rows, s->stride, norm, true, x, NULL, y);
    else
        affine_rows(width, s->rows, s->stride, norm, false, x, NULL, y);
}

static void map_affine(int64_t pixels, int64_t channels, const mmf_map_norm *norm, bool relu,
                       const mmf_real *x, const mmf_real *residual, mmf_real *y)
{
    for (int64_t first = 0; first < channels; first += STRIP) {
        const map_strip s = strip_of(pixels, channels, first);
        const int64_t rest = s.rest_at;
        column_norm columns;
        spread_channels(&s, norm->mean, columns.mean);
        spread_channels(&s, norm->scale, columns.scale);
        spread_channels(&s, norm->shift, columns.shift);
        WHOLE_OR_ANY(affine_strip, s.width, &s, &columns, relu, x + first,
                     residual ? residual + first : NULL, y + first);
        affine_rows(s.rest, 1, 0, &columns, relu, x + rest, residual ? residual + rest : NULL,
                    y + rest);
    }
}

static inline __attribute__((always_inline)) mmf_real masked(const mmf_real *y, const mmf_real *dy,
                                                             int64_t j)
{
    const mmf_real zero = 0, own = dy[j];
    return !y || y[j] > zero ? own : zero;
}

static inline __attribute__((always_inline)) void
add_products(int64_t width, int64_t rows, int64_t stride, const mmf_real *restrict mean,
             const mmf_real *restrict x, const mmf_real *restrict y, const mmf_real *restrict dy,
             mmf_real *restrict sums, mmf_real *restrict products)
{
    mmf_real plain[STRIP], centered[STRIP], center[STRIP];
    for (int64_t j = 0; j < width; j++) {
        plain[j] = sums[j];
        centered[j] = products[j];
        center[j] = mean[j];
    }
    for (int64_t i = 0; i < rows; i++, x += stride, dy += stride) {
        for (int64_t j = 0; j < width; j++) {
            const mmf_real dz = masked(y, dy, j);
            plain[j] += dz;
            centered[j] += dz * (x[j] - center[j]);
        }
        if (y)
            y += stride;
    }
    for (int64_t j = 0; j < width; j++) {
        sums[j] = plain[j];
        products[j] = centered[j];
    }
}

static inline __attribute__((always_inline)) void
products_strip(int64_t width, const map_strip *s, const mmf_real *mean, const mmf_real *x,
               const mmf_real *y, const mmf_real *dy, mmf_real *sums, mmf_real *products)
{
    if (y)
        add_products(width, s->rows, s->stride, mean, x, y, dy, sums, products);
    else
        add_products(width, s->rows, s->stride, mean, x, NULL, dy, sums, products);
}

static void map_grad_sums(int64_t pixels, int64_t channels, const mmf_real *mean, const mmf_real *x,
                          const mmf_real *y, const mmf_real *dy, mmf_real *sum_dy,
                          mmf_real *sum_dy_x)
{
    for (int64_t first = 0; first < channels; first += STRIP) {
        const map_strip s = strip_of(pixels, channels, first);
        const int64_t rest = s.rest_at;
        mmf_real center[STRIP], sums[STRIP] = {0}, products[STRIP] = {0};
        spread_channels(&s, mean, center);
        WHOLE_OR_ANY(products_strip, s.width, &s, center, x + first, y ? y + first : NULL,
                     dy + first, sums, products);
        add_products(s.rest, 1, 0, center, x + rest, y ? y + rest : NULL, dy + rest, sums,
                     products);
        fold_columns(&s, sums, sum_dy);
        fold_columns(&s, products, sum_dy_x);
    }
}

/* dx = factor (dz - (x - mean) slope) + offset, the offset being -factor mean_dy. */
typedef struct column_grad {
    mmf_real mean[STRIP], factor[STRIP], mean_dy[STRIP], slope[STRIP];
} column_grad;

static inline __attribute__((always_inline)) void
grad_rows(int64_t width, int64_t rows, int64_t stride, const column_grad *g, bool add,
          const mmf_real *restrict x, const mmf_real *restrict y, const mmf_real *restrict dy,
          mmf_real *restrict dx)
{
    for (int64_t i = 0; i < rows; i++, x += stride, dy += stride, dx += stride) {
        for (int64_t j = 0; j < width; j++) {
            const mmf_real own = g->factor[j] * (masked(y, dy, j) - g->mean_dy[j] -
                                                 (x[j] - g->mean[j]) * g->slope[j]);
            dx[j] = add ? dx[j] + own : own;
        }
        if (y)
            y += stride;
    }
}

static inline __attribute__((always_inline)) void grad_strip(int64_t width, const map_strip *s,
                                                             const column_grad *g, bool add,
                                                             const mmf_real *x, const mmf_real *y,
                                                             const mmf_real *dy, mmf_real *dx)
{
    if (add)
        grad_rows(width, s->rows, s->stride, g, true, x, y, dy, dx);
    else if (y)
        grad_rows(width, s->rows, s->stride, g, false, x, y, dy, dx);
    else
        grad_rows(width, s->rows, s->stride, g, false, x, NULL, dy, dx);
}

static void map_grad(int64_t pixels, int64_t channels, const mmf_map_grad *grad, const mmf_real *x,
                     const mmf_real *y, const mmf_real *dy, mmf_real beta, mmf_real *dx)
{
    const bool add = beta != (mmf_real)0;
    for (int64_t first = 0; first < channels; first += STRIP) {
        const map_strip s = strip_of(pixels, channels, first);
        const int64_t rest = s.rest_at;
        column_grad g;
        spread_channels(&s, grad->mean, g.mean);
        spread_channels(&s, grad->factor, g.factor);
        spread_channels(&s, grad->mean_dy, g.mean_dy);
        spread_channels(&s, grad->slope, g.slope);
        WHOLE_OR_ANY(grad_strip, s.width, &s, &g, add, x + first, y ? y + first : NULL, dy + first,
                     dx + first);
        grad_rows(s.rest, 1, 0, &g, add, x + rest, y ? y + rest : NULL, dy + rest, dx + rest);
    }
}

#undef WHOLE_OR_ANY

#endif
