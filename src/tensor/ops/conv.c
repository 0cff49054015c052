/*
 * conv.c: 1-D and 2-D convolution and pooling; (B, C, T) is seen as (B, C, 1, T).
 *
 * Convolution is im2col and one product a sample; samples go to threads. Weight gradients are
 * summed sample by sample in order, so their bits do not depend on the thread count.
 */
#include <math.h>
#include <string.h>

#include "tensor/geometry.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef mmf_geometry geometry;

typedef struct conv_node {
    mmf_node node;
    mmf_tensor *x, *w, *b;
    geometry g;
} conv_node;

/* Fills the geometry of a 4-D or 3-D input; false after setting the error. */
static bool measure(mmf_tape *tape, const char *op, const mmf_tensor *x, const mmf_window *window,
                    geometry *g)
{
    const bool flat = x->n_dims == 3;
    *g = (geometry){.batch = x->shape[0], .channels = x->shape[1]};
    g->height = flat ? 1 : x->shape[2];
    g->width = flat ? x->shape[2] : x->shape[3];
    return mmf_geometry_measure(tape, op, flat, window, g);
}

/* Rows [first, last) of the output. */
typedef struct strip {
    int64_t first, last;
} strip;

/* columns[(c, ky, kx), (oy, ox)] of one sample's strip; `add`: the reverse, adding into the sample.
 */
static void im2col(const geometry *g, const strip *rows, mmf_real *sample, mmf_real *columns,
                   bool add)
{
    const int64_t area = (rows->last - rows->first) * g->out_width;
    for (int64_t row = 0; row < g->channels * g->kernel[0] * g->kernel[1]; row++) {
        const int64_t kx = row % g->kernel[1], ky = row / g->kernel[1] % g->kernel[0];
        mmf_real *const channel =
            sample + row / (g->kernel[0] * g->kernel[1]) * g->height * g->width;
        int64_t first = 0, last = 0;
        mmf_geometry_inside(g, kx, &first, &last);
        for (int64_t oy = rows->first; oy < rows->last; oy++) {
            const int64_t y = oy * g->stride[0] + ky - g->padding[0];
            mmf_real *const column = columns + row * area + (oy - rows->first) * g->out_width;
            if (y < 0 || y >= g->height) {
                if (!add)
                    memset(column, 0, (size_t)g->out_width * sizeof *column);
                continue;
            }
            mmf_real *const line = channel + y * g->width + kx - g->padding[1];
            if (add) {
                for (int64_t ox = first; ox < last; ox++)
                    line[ox * g->stride[1]] += column[ox];
                continue;
            }
            for (int64_t ox = 0; ox < first; ox++)
                column[ox] = 0;
            if (g->stride[1] == 1 && last > first)
                memcpy(column + first, line + first, (size_t)(last - first) * sizeof *column);
            else
                for (int64_t ox = first; ox < last; ox++)
                    column[ox] = line[ox * g->stride[1]];
            for (int64_t ox = last; ox < g->out_width; ox++)
                column[ox] = 0;
        }
    }
}

/* Samples go to this many ranges at most; each has the columns of one sample, and its own sum of
 * weight gradients, which are then added in order. */
#define MAX_RANGES 8
/* A sample's columns are made strip by strip, so that a product finds them in the second cache
 * level: elements of a strip, and the least number of columns, which a product needs to be fast. */
#define STRIP_ELEMENTS 131072
#define STRIP_COLUMNS 128

typedef struct conv_job {
    const mmf_tape *tape;
    const conv_node *c;
    mmf_real *columns; /* of one strip, a range */
    mmf_real *y, *dx, *dw;
    int64_t depth, area, grain;
    int64_t strip_rows;
    mmf_real dx_beta;
} conv_job;

static int64_t range_count(const conv_job *j)
{
    return (j->c->g.batch + j->grain - 1) / j->grain;
}

/* Ranges depend on the batch alone. */
static conv_job make_job(const mmf_tape *tape, const conv_node *c)
{
    const geometry *const g = &c->g;
    conv_job j = {.tape = tape,
                  .c = c,
                  .depth = g->channels * g->kernel[0] * g->kernel[1],
                  .area = g->out_height * g->out_width,
                  .grain = (g->batch + MAX_RANGES - 1) / MAX_RANGES};
    const int64_t least = mmf_grain(g->outputs * j.depth * j.area / 8);
    j.grain = j.grain < least ? least : j.grain;
    const int64_t fitting = j.depth > 0 ? STRIP_ELEMENTS / j.depth : j.area;
    const int64_t columns = fitting < STRIP_COLUMNS ? STRIP_COLUMNS : fitting;
    const int64_t n_strips = (j.area + columns - 1) / columns;
    j.strip_rows = n_strips > 0 ? (g->out_height + n_strips - 1) / n_strips : g->out_height;
    return j;
}

static mmf_real *new_columns(mmf_tape *tape, const conv_job *j)
{
    return mmf_tape__reals(tape, range_count(j) * j->depth * j->strip_rows * j->c->g.out_width);
}

static strip strip_at(const conv_job *j, int64_t first)
{
    const int64_t last = first + j->strip_rows, end = j->c->g.out_height;
    return (strip){first, last < end ? last : end};
}

static void forward_range(void *argument, int64_t begin, int64_t end)
{
    const conv_job *const j = argument;
    const geometry *const g = &j->c->g;
    const int64_t size_in = g->channels * g->height * g->width, size_out = g->outputs * j->area;
    mmf_real *const columns =
        j->columns + begin / j->grain * j->depth * j->strip_rows * g->out_width;
    for (int64_t b = begin; b < end; b++) {
        mmf_real *const y = j->y + b * size_out;
        for (int64_t o = 0; j->c->b && o < g->outputs; o++)
            j->tape->k->fill(j->area, j->c->b->data[o], y + o * j->area);
        for (int64_t row = 0; row < g->out_height; row += j->strip_rows) {
            const strip rows = strip_at(j, row);
            const int64_t n = (rows.last - rows.first) * g->out_width;
            im2col(g, &rows, j->c->x->data + b * size_in, columns, false);
            mmf_blas_gemm(&(mmf_gemm){false, false, g->outputs, n, j->depth, 1, j->c->w->data,
                                      j->depth, columns, n, j->c->b ? 1 : 0, y + row * g->out_width,
                                      j->area});
        }
    }
}

/* dW += dY columns';  dcolumns = W' dY, summed back into the sample. */
static void backward_range(void *argument, int64_t begin, int64_t end)
{
    const conv_job *const j = argument;
    const geometry *const g = &j->c->g;
    const int64_t size_in = g->channels * g->height * g->width, size_out = g->outputs * j->area;
    const int64_t range = begin / j->grain;
    mmf_real *const columns = j->columns + range * j->depth * j->strip_rows * g->out_width;
    for (int64_t b = begin; b < end; b++) {
        if (j->dx && j->dx_beta == (mmf_real)0)
            memset(j->dx + b * size_in, 0, (size_t)size_in * sizeof *j->dx);
        for (int64_t row = 0; row < g->out_height; row += j->strip_rows) {
            const strip rows = strip_at(j, row);
            const int64_t n = (rows.last - rows.first) * g->out_width;
            const mmf_real *const dy = j->c->node.out->grad + b * size_out + row * g->out_width;
            if (j->dw) {
                im2col(g, &rows, j->c->x->data + b * size_in, columns, false);
                mmf_blas_gemm(&(mmf_gemm){false, true, g->outputs, j->depth, n, 1, dy, j->area,
                                          columns, n, b == begin && row == 0 ? 0 : 1,
                                          j->dw + range * g->outputs * j->depth, j->depth});
            }
            if (!j->dx)
                continue;
            mmf_blas_gemm(&(mmf_gemm){true, false, j->depth, n, g->outputs, 1, j->c->w->data,
                                      j->depth, dy, j->area, 0, columns, n});
            im2col(g, &rows, j->dx + b * size_in, columns, true);
        }
    }
}

static void conv_backward(mmf_tape *tape, mmf_node *node)
{
    conv_node *const c = (conv_node *)node;
    const geometry *const g = &c->g;
    conv_job j = make_job(tape, c);
    const int64_t n_ranges = range_count(&j);
    bool fresh = false, fresh_x = false;
    mmf_real *const db = mmf_tape__grad(tape, c->b, &fresh);
    for (int64_t o = 0; db && o < g->outputs; o++) {
        mmf_real total = fresh ? 0 : db[o];
        for (int64_t b = 0; b < g->batch; b++)
            total += tape->k->sum(j.area, node->out->grad + (b * g->outputs + o) * j.area);
        db[o] = total;
    }
    mmf_real *const dw = mmf_tape__grad(tape, c->w, &fresh);
    j.dx = mmf_tape__grad(tape, c->x, &fresh_x);
    j.dx_beta = fresh_x ? 0 : 1;
    j.columns = new_columns(tape, &j);
    j.dw = dw ? mmf_tape__reals(tape, n_ranges * c->w->count) : NULL;
    if (!j.columns || (dw && !j.dw))
        return;
    mmf_tape__parallel(tape, g->batch, j.grain, backward_range, &j);
    mmf_tape__count_products(tape, g->batch * ((j.dx != NULL) + (dw != NULL)), g->outputs, j.area,
                             j.depth);
    for (int64_t r = 0; dw && r < n_ranges; r++)
        tape->k->axpby(c->w->count, 1, j.dw + r * c->w->count, fresh && r == 0 ? 0 : 1, dw);
}

static mmf_tensor *conv(mmf_tape *tape, const char *op, int n_dims, mmf_tensor *x, mmf_tensor *w,
                        mmf_tensor *b, const mmf_window *window)
{
    if (!x || !w)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != n_dims || w->n_dims != n_dims || w->shape[1] != x->shape[1] || x->is_int ||
        (b && b->count != w->shape[0]))
        return mmf_tape__unfit(tape, op, x, w,
                               "channels of the input and the weight must be equal");
    mmf_window actual = *window; /* the kernel's size is the weight's */
    actual.kernel[0] = w->shape[2];
    actual.kernel[1] = n_dims == 4 ? w->shape[3] : 1;
    conv_node c = {.x = x, .w = w, .b = b};
    if (!measure(tape, op, x, &actual, &c.g))
        return NULL;
    c.g.outputs = w->shape[0];
    const int64_t shape4[] = {x->shape[0], w->shape[0], c.g.out_height, c.g.out_width};
    const int64_t shape3[] = {x->shape[0], w->shape[0], c.g.out_width};
    mmf_tensor *const y = mmf_tape__tensor(tape, n_dims, n_dims == 4 ? shape4 : shape3);
    conv_job j = make_job(tape, &c);
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    j.columns = new_columns(tape, &j);
    if (!y || !j.columns)
        return NULL;
    j.y = y->data;
    mmf_tape__parallel(tape, c.g.batch, j.grain, forward_range, &j);
    mmf_tape__count_products(tape, c.g.batch, c.g.outputs, j.area, j.depth);
#ifndef MMF_ARENA_DEBUG
    mmf_arena_rewind(&tape->arena, (mmf_arena_mark){mark.chunk, mark.used, mark.total});
#else
    (void)mark;
#endif
    const bool wants = x->wants_grad || w->wants_grad || (b && b->wants_grad);
    conv_node *const node = mmf_tape__record(tape, sizeof *node, op, y, wants, conv_backward);
    if (node) {
        c.node = node->node;
        *node = c;
    }
    return y;
}

mmf_tensor *mmf_conv1d(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                       const mmf_window *window)
{
    return conv(tape, "conv1d", 3, x, w, b, window);
}

mmf_tensor *mmf_conv2d(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                       const mmf_window *window)
{
    return conv(tape, "conv2d", 4, x, w, b, window);
}

/* ---- Pooling ----------------------------------------------------------------------------- */

typedef struct pool_node {
    mmf_node node;
    mmf_tensor *x;
    geometry g;
    bool is_max;
    int32_t *winner; /* max: place in the channel's plane */
} pool_node;

/* Rows [y0, y1) and columns [x0, x1) of the input under one output element. */
typedef struct pool_span {
    int64_t y0, y1, x0, x1;
} pool_span;

static pool_span span_of(const geometry *g, int64_t oy, int64_t ox)
{
    const int64_t y = oy * g->stride[0] - g->padding[0], x = ox * g->stride[1] - g->padding[1];
    const int64_t y1 = y + g->kernel[0], x1 = x + g->kernel[1];
    return (pool_span){y > 0 ? y : 0, y1 < g->height ? y1 : g->height, x > 0 ? x : 0,
                       x1 < g->width ? x1 : g->width};
}

typedef struct pool_job {
    const mmf_kernels *k;
    const pool_node *p;
    const mmf_real *dy;
    mmf_real *y, *dx;
} pool_job;

/* Planes (b, c) in [begin, end). */
static void pool_backward_range(void *argument, int64_t begin, int64_t end)
{
    const pool_job *const j = argument;
    const geometry *const g = &j->p->g;
    const int64_t area = g->out_height * g->out_width, plane = g->height * g->width;
    const mmf_real share = 1 / (mmf_real)(g->kernel[0] * g->kernel[1]);
    for (int64_t c = begin; c < end; c++) {
        const mmf_real *const dy = j->dy + c * area;
        mmf_real *const to = j->dx + c * plane;
        for (int64_t i = 0; j->p->is_max && i < area; i++)
            to[j->p->winner[c * area + i]] += dy[i];
        for (int64_t oy = 0; !j->p->is_max && oy < g->out_height; oy++) {
            for (int64_t ox = 0; ox < g->out_width; ox++) {
                const pool_span s = span_of(g, oy, ox);
                for (int64_t y = s.y0; y < s.y1; y++)
                    for (int64_t x = s.x0; x < s.x1; x++)
                        to[y * g->width + x] += share * dy[oy * g->out_width + ox];
            }
        }
    }
}

static void pool_backward(mmf_tape *tape, mmf_node *node)
{
    pool_node *const p = (pool_node *)node;
    pool_job job = {.p = p, .dy = node->out->grad, .dx = mmf_tape__grad_zeroed(tape, p->x)};
    if (job.dx)
        mmf_tape__parallel(tape, p->g.batch * p->g.channels, mmf_grain(p->g.height * p->g.width),
                           pool_backward_range, &job);
}

/* A NaN in the window wins: it must not be hidden. */
static mmf_real max_under(const mmf_real *plane, int64_t width, const pool_span *s, int32_t *winner)
{
    int64_t best = s->y0 * width + s->x0;
    for (int64_t y = s->y0; y < s->y1; y++) {
        for (int64_t x = s->x0; x < s->x1; x++) {
            const mmf_real value = plane[y * width + x], top = plane[best];
            if (!(value <= top) && top == top)
                best = y * width + x;
        }
    }
    *winner = (int32_t)best;
    return plane[best];
}

static mmf_real mean_under(const mmf_real *plane, const geometry *g, const pool_span *s)
{
    mmf_real total = 0;
    for (int64_t y = s->y0; y < s->y1; y++) {
        for (int64_t x = s->x0; x < s->x1; x++)
            total += plane[y * g->width + x];
    }
    return total / (mmf_real)(g->kernel[0] * g->kernel[1]);
}

/* Windows [*first, *last) of a row lie within the input's width. */
static void whole_windows(const geometry *g, int64_t *first, int64_t *last)
{
    const int64_t stride = g->stride[1], room = g->width + g->padding[1] - g->kernel[1];
    *first = (g->padding[1] + stride - 1) / stride;
    *last = room < 0 ? 0 : room / stride + 1;
    if (*last > g->out_width)
        *last = g->out_width;
    if (*first > *last)
        *first = *last;
}

/* A row of windows at once, one element of each after the other. */
static void max_row(const pool_job *j, const mmf_real *plane, int64_t oy, mmf_real *out,
                    int32_t *winner)
{
    const geometry *const g = &j->p->g;
    int64_t first = 0, last = 0;
    whole_windows(g, &first, &last);
    const pool_span rows = span_of(g, oy, first);
    for (int64_t y = rows.y0; first < last && y < rows.y1; y++) {
        for (int64_t x = 0; x < g->kernel[1]; x++) {
            const int64_t at = y * g->width + first * g->stride[1] - g->padding[1] + x;
            j->k->window_max(last - first, g->stride[1], y == rows.y0 && x == 0, plane + at,
                             (int32_t)at, out + first, winner + first);
        }
    }
    for (int64_t ox = 0; ox < g->out_width; ox++) {
        if (ox == first && first < last) {
            ox = last - 1;
            continue;
        }
        const pool_span s = span_of(g, oy, ox);
        out[ox] = max_under(plane, g->width, &s, winner + ox);
    }
}

static void pool_range(void *argument, int64_t begin, int64_t end)
{
    const pool_job *const j = argument;
    const geometry *const g = &j->p->g;
    const int64_t area = g->out_height * g->out_width;
    for (int64_t c = begin; c < end; c++) {
        const mmf_real *const plane = j->p->x->data + c * g->height * g->width;
        for (int64_t oy = 0; oy < g->out_height; oy++) {
            const int64_t at = c * area + oy * g->out_width;
            if (j->p->is_max) {
                max_row(j, plane, oy, j->y + at, j->p->winner + at);
                continue;
            }
            for (int64_t ox = 0; ox < g->out_width; ox++) {
                const pool_span s = span_of(g, oy, ox);
                j->y[at + ox] = mean_under(plane, g, &s);
            }
        }
    }
}

static mmf_tensor *pool(mmf_tape *tape, const char *op, mmf_tensor *x, const mmf_window *window,
                        bool is_max)
{
    if (!x)
        return mmf_tape__missing(tape, op);
    pool_node p = {.x = x, .is_max = is_max};
    if ((x->n_dims != 3 && x->n_dims != 4) || x->is_int)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "takes (B, C, T) or (B, C, H, W)");
    if (!measure(tape, op, x, window, &p.g))
        return NULL;
    if (p.g.height * p.g.width > INT32_MAX)
        return mmf_tape__fail(tape, MMF_LIMIT, op, "planes of more than 2^31 elements");
    if (2 * p.g.padding[0] > p.g.kernel[0] || 2 * p.g.padding[1] > p.g.kernel[1])
        return mmf_tape__fail(tape, MMF_ARG, op, "padding is more than half of the window");
    const int64_t shape4[] = {x->shape[0], x->shape[1], p.g.out_height, p.g.out_width};
    const int64_t shape3[] = {x->shape[0], x->shape[1], p.g.out_width};
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->n_dims == 4 ? shape4 : shape3);
    if (!y)
        return NULL;
    p.winner = mmf_tape__alloc(tape, (size_t)(is_max ? y->count : 1) * sizeof *p.winner);
    if (!p.winner)
        return NULL;
    pool_job job = {.k = tape->k, .p = &p, .y = y->data};
    mmf_tape__parallel(tape, p.g.batch * p.g.channels, mmf_grain(p.g.height * p.g.width),
                       pool_range, &job);
    pool_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, pool_backward);
    if (node) {
        p.node = node->node;
        *node = p;
    }
    return y;
}

mmf_tensor *mmf_max_pool(mmf_tape *tape, mmf_tensor *x, const mmf_window *window)
{
    return pool(tape, "max_pool", x, window, true);
}

mmf_tensor *mmf_avg_pool(mmf_tape *tape, mmf_tensor *x, const mmf_window *window)
{
    return pool(tape, "avg_pool", x, window, false);
}

/* ---- Examples ---------------------------------------------------------------------------- */

static const mmf_window windows[] = {{{3, 3}, {1, 1}, {1, 1}},
                                     {{3, 2}, {2, 1}, {0, 1}},
                                     {{2, 3}, {2, 3}, {1, 0}},
                                     {{1, 1}, {1, 2}, {0, 0}}};

static mmf_tensor *conv1d_example(mmf_op_case *c)
{
    const mmf_window *const w = &windows[c->index];
    mmf_tensor *const x = mmf_case_input(c, -1, 1, 3, (int64_t[]){2, 3, 8 * c->scale});
    mmf_tensor *const weight = mmf_case_input(c, -1, 1, 3, (int64_t[]){4, 3, w->kernel[0]});
    return mmf_conv1d(c->tape, x, weight,
                      c->index ? mmf_case_input(c, -1, 1, 1, (int64_t[]){4}) : NULL, w);
}

static mmf_tensor *conv2d_example(mmf_op_case *c)
{
    const mmf_window *const w = &windows[c->index];
    mmf_tensor *const x = mmf_case_input(c, -1, 1, 4, (int64_t[]){2, 3, 6 * c->scale, 5});
    mmf_tensor *const weight =
        mmf_case_input(c, -1, 1, 4, (int64_t[]){4, 3, w->kernel[0], w->kernel[1]});
    return mmf_conv2d(c->tape, x, weight,
                      c->index ? mmf_case_input(c, -1, 1, 1, (int64_t[]){4}) : NULL, w);
}

static mmf_tensor *pool_input(mmf_op_case *c)
{
    return c->index & 1 ? mmf_case_input(c, -1, 1, 3, (int64_t[]){2, 3, 9 * c->scale})
                        : mmf_case_input(c, -1, 1, 4, (int64_t[]){2, 3, 6 * c->scale, 5});
}

static mmf_tensor *max_pool_example(mmf_op_case *c)
{
    return mmf_max_pool(c->tape, pool_input(c), &windows[c->index]);
}

static mmf_tensor *avg_pool_example(mmf_op_case *c)
{
    return mmf_avg_pool(c->tape, pool_input(c), &windows[c->index]);
}

static double conv_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    const int64_t taps = c->inputs[1]->count / c->inputs[1]->shape[0];
    return 2.0 * (double)out->count * (double)taps;
}

const mmf_op mmf_op_conv1d = {"conv1d", 4, conv1d_example, conv_flops, true};
const mmf_op mmf_op_conv2d = {"conv2d", 4, conv2d_example, conv_flops, true};
const mmf_op mmf_op_max_pool = {"max_pool", 4, max_pool_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_avg_pool = {"avg_pool", 4, avg_pool_example, mmf_flops_elementwise, true};
