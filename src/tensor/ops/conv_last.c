/*
 * conv_last.c: convolution with channels last, (B, H, W, C): by the back end's kernels where it has
 * some, else by im2col and products.
 *
 * In this order a pixel's channels are a vector, and so is every row of a window, so the columns of
 * im2col are copies of whole runs. Weights keep the order of the reference, (O, C, kh, kw).
 */
#include <string.h>

#include "tensor/conv_pieces.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct last_node {
    mmf_node node;
    mmf_tensor *x, *w, *b;
    mmf_geometry g;
} last_node;

/* ---- By products ------------------------------------------------------------------------- */

/* Images go to this many ranges at most; each has the columns of a strip, and its own sum of weight
 * gradients, which are then added in order. */
#define MAX_RANGES 8
/* Elements of a strip's columns, so that a product finds them in the second level of the cache. */
#define STRIP_ELEMENTS 131072

typedef struct product_job {
    const mmf_tape *tape;
    const last_node *n;
    int64_t depth, grain, strip_rows;
    mmf_real *weight;  /* (O, kh, kw, C) */
    mmf_real *columns; /* of one strip, a range */
    mmf_real *y, *dx, *dw;
    bool fresh_x;
} product_job;

static product_job make_job(const mmf_tape *tape, const last_node *n)
{
    const mmf_geometry *const g = &n->g;
    product_job j = {.tape = tape, .n = n, .depth = g->channels * g->kernel[0] * g->kernel[1]};
    const int64_t least = mmf_grain(g->outputs * j.depth * g->out_height * g->out_width / 8);
    j.grain = (g->batch + MAX_RANGES - 1) / MAX_RANGES;
    j.grain = j.grain < least ? least : j.grain;
    j.strip_rows = STRIP_ELEMENTS / (j.depth * g->out_width > 0 ? j.depth * g->out_width : 1);
    j.strip_rows = j.strip_rows < 1 ? 1 : j.strip_rows;
    if (j.strip_rows > g->out_height)
        j.strip_rows = g->out_height;
    return j;
}

static int64_t range_count(const product_job *j)
{
    return (j->n->g.batch + j->grain - 1) / j->grain;
}

/* (O, C, area) to (O, area, C), or back adding. */
static void turn_weights(const mmf_tensor *w, const mmf_real *from, mmf_real *to)
{
    const int64_t area = w->shape[2] * w->shape[3], channels = w->shape[1];
    for (int64_t o = 0; o < w->shape[0]; o++) {
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t k = 0; k < area; k++)
                to[(o * area + k) * channels + c] = from[(o * channels + c) * area + k];
        }
    }
}

static void turn_back(const mmf_tensor *w, const mmf_real *from, bool fresh, mmf_real *to)
{
    const int64_t area = w->shape[2] * w->shape[3], channels = w->shape[1];
    for (int64_t o = 0; o < w->shape[0]; o++) {
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t k = 0; k < area; k++) {
                mmf_real *const at = &to[(o * channels + c) * area + k];
                *at = (fresh ? 0 : *at) + from[(o * area + k) * channels + c];
            }
        }
    }
}

static bool get_ready(mmf_tape *tape, product_job *j)
{
    const mmf_geometry *const g = &j->n->g;
    j->weight = mmf_tape__reals(tape, j->n->w->count);
    j->columns = mmf_tape__reals(tape, range_count(j) * j->strip_rows * g->out_width * j->depth);
    if (!j->weight || !j->columns)
        return false;
    turn_weights(j->n->w, j->n->w->data, j->weight);
    return true;
}

/* Row ky of the window of an output pixel: a run of an image's row, and where it begins among the
 * columns; false if it lies outside. */
static bool run_of_window(const mmf_geometry *g, int64_t oy, int64_t ox, int64_t ky, int64_t *from,
                          int64_t *at, int64_t *size)
{
    const int64_t y = oy * g->stride[0] + ky - g->padding[0];
    const int64_t x = ox * g->stride[1] - g->padding[1];
    const int64_t first = x < 0 ? 0 : x;
    const int64_t last = x + g->kernel[1] < g->width ? x + g->kernel[1] : g->width;
    *from = (y * g->width + first) * g->channels;
    *at = (first - x) * g->channels;
    *size = (last - first) * g->channels;
    return y >= 0 && y < g->height && first < last;
}

/* columns[(oy, ox), (ky, kx, c)] of rows [first, last) of one image. */
static void fill_columns(const mmf_geometry *g, int64_t first, int64_t last, const mmf_real *image,
                         mmf_real *columns)
{
    const int64_t width = g->kernel[1] * g->channels;
    for (int64_t oy = first; oy < last; oy++) {
        for (int64_t ox = 0; ox < g->out_width; ox++) {
            for (int64_t ky = 0; ky < g->kernel[0]; ky++, columns += width) {
                int64_t from = 0, at = 0, size = 0;
                const bool some = run_of_window(g, oy, ox, ky, &from, &at, &size);
                if (size < width || !some)
                    memset(columns, 0, (size_t)width * sizeof *columns);
                if (some)
                    memcpy(columns + at, image + from, (size_t)size * sizeof *columns);
            }
        }
    }
}

/* The reverse, adding into the image. */
static void add_columns(const mmf_geometry *g, int64_t first, int64_t last, mmf_real *image,
                        const mmf_real *columns)
{
    const int64_t width = g->kernel[1] * g->channels;
    for (int64_t oy = first; oy < last; oy++) {
        for (int64_t ox = 0; ox < g->out_width; ox++) {
            for (int64_t ky = 0; ky < g->kernel[0]; ky++, columns += width) {
                int64_t from = 0, at = 0, size = 0;
                if (!run_of_window(g, oy, ox, ky, &from, &at, &size))
                    continue;
                for (int64_t i = 0; i < size; i++)
                    image[from + i] += columns[at + i];
            }
        }
    }
}

static mmf_real *columns_of(const product_job *j, int64_t begin)
{
    return j->columns + begin / j->grain * j->strip_rows * j->n->g.out_width * j->depth;
}

static void forward_range(void *argument, int64_t begin, int64_t end)
{
    const product_job *const j = argument;
    const mmf_geometry *const g = &j->n->g;
    mmf_real *const columns = columns_of(j, begin);
    for (int64_t b = begin; b < end; b++) {
        const mmf_real *const image = j->n->x->data + b * g->height * g->width * g->channels;
        mmf_real *const y = j->y + b * g->out_height * g->out_width * g->outputs;
        for (int64_t row = 0; row < g->out_height; row += j->strip_rows) {
            const int64_t last =
                row + j->strip_rows < g->out_height ? row + j->strip_rows : g->out_height;
            mmf_real *const to = y + row * g->out_width * g->outputs;
            const int64_t n = (last - row) * g->out_width;
            fill_columns(g, row, last, image, columns);
            mmf_blas_gemm(&(mmf_gemm){false, true, n, g->outputs, j->depth, 1, columns, j->depth,
                                      j->weight, j->depth, 0, to, g->outputs});
            if (j->n->b)
                j->tape->k->bias_act(n, g->outputs, j->n->b->data, MMF_ACT_NONE, to);
        }
    }
}

/* dW += dY' columns;  dcolumns = dY W, summed back into the image. */
static void backward_range(void *argument, int64_t begin, int64_t end)
{
    const product_job *const j = argument;
    const mmf_geometry *const g = &j->n->g;
    mmf_real *const columns = columns_of(j, begin);
    mmf_real *const dw = j->dw ? j->dw + begin / j->grain * j->n->w->count : NULL;
    const int64_t size = g->height * g->width * g->channels;
    for (int64_t b = begin; b < end; b++) {
        if (j->dx && j->fresh_x)
            memset(j->dx + b * size, 0, (size_t)size * sizeof *j->dx);
        for (int64_t row = 0; row < g->out_height; row += j->strip_rows) {
            const int64_t last =
                row + j->strip_rows < g->out_height ? row + j->strip_rows : g->out_height;
            const int64_t n = (last - row) * g->out_width;
            const mmf_real *const dy =
                j->n->node.out->grad + (b * g->out_height + row) * g->out_width * g->outputs;
            if (dw) {
                fill_columns(g, row, last, j->n->x->data + b * size, columns);
                mmf_blas_gemm(&(mmf_gemm){true, false, g->outputs, j->depth, n, 1, dy, g->outputs,
                                          columns, j->depth, b == begin && row == 0 ? 0 : 1, dw,
                                          j->depth});
            }
            if (!j->dx)
                continue;
            mmf_blas_gemm(&(mmf_gemm){false, false, n, j->depth, g->outputs, 1, dy, g->outputs,
                                      j->weight, j->depth, 0, columns, j->depth});
            add_columns(g, row, last, j->dx + b * size, columns);
        }
    }
}

static void forward_by_products(mmf_tape *tape, const last_node *n, mmf_real *y)
{
    product_job j = make_job(tape, n);
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    j.y = y;
    if (get_ready(tape, &j))
        mmf_tape__parallel(tape, n->g.batch, j.grain, forward_range, &j);
    mmf_arena_rewind(&tape->arena, mark);
}

/* @param dx, dw  NULL: not wanted */
static void backward_by_products(mmf_tape *tape, const last_node *n, bool fresh_x, mmf_real *dx,
                                 bool fresh_w, mmf_real *dw)
{
    product_job j = make_job(tape, n);
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    const int64_t n_ranges = range_count(&j), count = n->w->count;
    j.dx = dx;
    j.fresh_x = fresh_x;
    j.dw = dw ? mmf_tape__reals(tape, (n_ranges > 0 ? n_ranges : 1) * count) : NULL;
    if (get_ready(tape, &j) && (j.dw || !dw)) {
        if (dw && n_ranges == 0)
            memset(j.dw, 0, (size_t)count * sizeof *j.dw);
        mmf_tape__parallel(tape, n->g.batch, j.grain, backward_range, &j);
        for (int64_t r = 1; dw && r < n_ranges; r++)
            tape->k->axpby(count, 1, j.dw + r * count, 1, j.dw);
        if (dw)
            turn_back(n->w, j.dw, fresh_w, dw);
    }
    mmf_arena_rewind(&tape->arena, mark);
}

/* All columns of the batch, and one product: faster than sums of pieces where they are no more than
 * the weights, that is in the last layers of networks, which have many channels and few pixels. */
static bool is_one_product(const last_node *n)
{
    const int64_t pixels = n->g.batch * n->g.out_height * n->g.out_width;
    return pixels > 0 && pixels <= n->g.outputs;
}

static void columns_range(void *argument, int64_t begin, int64_t end)
{
    const product_job *const j = argument;
    const mmf_geometry *const g = &j->n->g;
    const int64_t size = g->height * g->width * g->channels;
    for (int64_t b = begin; b < end; b++)
        fill_columns(g, 0, g->out_height, j->n->x->data + b * size,
                     j->columns + b * g->out_height * g->out_width * j->depth);
}

static void weights_by_one_product(mmf_tape *tape, const last_node *n, bool fresh, mmf_real *dw)
{
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    product_job j = make_job(tape, n);
    const int64_t area = n->g.out_height * n->g.out_width, pixels = n->g.batch * area;
    const int64_t outputs = n->g.outputs;
    j.columns = mmf_tape__reals(tape, pixels * j.depth);
    j.dw = mmf_tape__reals(tape, n->w->count);
    if (j.columns && j.dw) {
        mmf_tape__parallel(tape, n->g.batch, mmf_grain(area * j.depth), columns_range, &j);
        mmf_tape__gemm(tape,
                       &(mmf_gemm){true, false, outputs, j.depth, pixels, 1, n->node.out->grad,
                                   outputs, j.columns, j.depth, 0, j.dw, j.depth});
        turn_back(n->w, j.dw, fresh, dw);
    }
    mmf_arena_rewind(&tape->arena, mark);
}

/* ---- The operation ----------------------------------------------------------------------- */

/* db = sum of dy over images and pixels. */
static void bias_gradient(mmf_tape *tape, const last_node *n, bool fresh, mmf_real *db)
{
    const int64_t area = n->g.out_height * n->g.out_width, outputs = n->g.outputs;
    if (fresh)
        memset(db, 0, (size_t)outputs * sizeof *db);
    for (int64_t b = 0; b < n->g.batch; b++)
        tape->k->column_sum(area, outputs, 1, n->node.out->grad + b * area * outputs, 1, db);
}

static void conv_last_backward(mmf_tape *tape, mmf_node *node)
{
    last_node *const n = (last_node *)node;
    mmf_conv_gradients to = {0};
    bool fresh_x = false;
    to.weight = mmf_tape__grad(tape, n->w, &to.fresh_weight);
    to.bias = mmf_tape__grad(tape, n->b, &to.fresh_bias);
    mmf_real *dx = mmf_tape__grad(tape, n->x, &fresh_x), *dw = to.weight;
    if (tape->status != MMF_OK)
        return;
    const bool at_once = dw && is_one_product(n);
    mmf_tape__count_products(tape, n->g.batch * ((dx != NULL) + (dw && !at_once)), n->g.outputs,
                             n->g.out_height * n->g.out_width, n->w->count / n->g.outputs);
    if (dw && !at_once && mmf_conv_pieces_weights(tape, &n->g, n->x, node->out->grad, &to))
        dw = NULL;
    else if (to.bias)
        bias_gradient(tape, n, to.fresh_bias, to.bias);
    if (at_once) {
        weights_by_one_product(tape, n, to.fresh_weight, dw);
        dw = NULL;
    }
    if (dx && mmf_conv_pieces_data(tape, &n->g, n->w, node->out->grad, fresh_x, dx))
        dx = NULL;
    if (dx || dw)
        backward_by_products(tape, n, fresh_x, dx, to.fresh_weight, dw);
}

mmf_tensor *mmf_conv_last(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                          const mmf_window *window)
{
    static const char op[] = "conv_last";
    if (!x || !w)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != 4 || w->n_dims != 4 || w->shape[1] != x->shape[3] || x->is_int ||
        (b && b->count != w->shape[0]))
        return mmf_tape__unfit(tape, op, x, w,
                               "channels, the input's last axis and the weight's second, must be "
                               "equal");
    mmf_window actual = *window; /* the kernel's size is the weight's */
    actual.kernel[0] = w->shape[2];
    actual.kernel[1] = w->shape[3];
    last_node n = {.x = x, .w = w, .b = b};
    n.g = (mmf_geometry){.batch = x->shape[0],
                         .channels = x->shape[3],
                         .height = x->shape[1],
                         .width = x->shape[2],
                         .outputs = w->shape[0]};
    if (!mmf_geometry_measure(tape, op, false, &actual, &n.g))
        return NULL;
    mmf_tensor *const y = mmf_tape__tensor(
        tape, 4, (int64_t[]){n.g.batch, n.g.out_height, n.g.out_width, n.g.outputs});
    if (!y)
        return NULL;
    if (!mmf_conv_pieces_forward(tape, &n.g, x, w, b, y->data))
        forward_by_products(tape, &n, y->data);
    if (tape->status != MMF_OK)
        return NULL;
    mmf_tape__count_products(tape, n.g.batch, n.g.outputs, n.g.out_height * n.g.out_width,
                             w->shape[1] * w->shape[2] * w->shape[3]);
    const bool wants = x->wants_grad || w->wants_grad || (b && b->wants_grad);
    last_node *const node = mmf_tape__record(tape, sizeof *node, op, y, wants, conv_last_backward);
    if (node) {
        n.node = node->node;
        *node = n;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

enum { N_EXAMPLES = 7 };

static mmf_tensor *conv_last_example(mmf_op_case *c)
{
    static const mmf_window windows[N_EXAMPLES] = {
        {{3, 3}, {1, 1}, {1, 1}}, {{3, 2}, {2, 1}, {0, 1}}, {{2, 3}, {2, 3}, {1, 0}},
        {{1, 1}, {1, 2}, {0, 0}}, {{1, 1}, {1, 1}, {0, 0}}, {{5, 5}, {2, 2}, {2, 2}},
        {{3, 3}, {1, 1}, {0, 2}}};
    static const int64_t batches[N_EXAMPLES] = {2, 3, 1, 5, 2, 7, 1};
    static const int64_t channels[N_EXAMPLES][2] = {{3, 4},  {3, 4}, {16, 5}, {2, 16},
                                                    {17, 3}, {1, 6}, {4, 18}};
    const mmf_window *const w = &windows[c->index];
    const int64_t inputs = channels[c->index][0], outputs = channels[c->index][1];
    mmf_tensor *const x =
        mmf_case_input(c, -1, 1, 4, (int64_t[]){batches[c->index], 5 + c->scale, 5, inputs});
    mmf_tensor *const weight =
        mmf_case_input(c, -1, 1, 4, (int64_t[]){outputs, inputs, w->kernel[0], w->kernel[1]});
    return mmf_conv_last(c->tape, x, weight,
                         c->index ? mmf_case_input(c, -1, 1, 1, &outputs) : NULL, w);
}

static double conv_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    const int64_t taps = c->inputs[1]->count / c->inputs[1]->shape[0];
    return 2.0 * (double)out->count * (double)taps;
}

const mmf_op mmf_op_conv_last = {"conv_last", N_EXAMPLES, conv_last_example, conv_flops, true};
