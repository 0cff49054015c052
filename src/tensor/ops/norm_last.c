/*
 * norm_last.c: batch norm with channels last, together with what follows it in networks: a residual
 * that is added, ReLU, and the maximum over windows. Together they read and write memory once where
 * each alone would.
 *
 * ReLU and maximum change places: max(relu(z)) is the maximum of z and 0, of which 0 takes no
 * gradient.
 */
#include <math.h>
#include <string.h>

#include "tensor/geometry.h"
#include "tensor/norm_statistics.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

/* Elements that are worked on at a time: a part of the first level of the cache. */
#define BLOCK_ELEMENTS 4096

typedef struct last_norm_node {
    mmf_node node;
    mmf_tensor *x, *weight, *bias, *residual;
    int64_t pixels, channels;
    mmf_norm_used used;
    bool batch_statistics, relu, pools;
    mmf_geometry g;  /* of the pool */
    uint8_t *winner; /* pixel of the window, by rows */
} last_norm_node;

/*
 * A unit of work: an image where windows are taken, else a block of pixels; `parts` has its sums,
 * so that their order depends on sizes alone.
 */
typedef struct last_norm_job {
    const mmf_tape *tape;
    const last_norm_node *n;
    int64_t block;   /* pixels */
    mmf_real *parts; /* two a channel and unit */
    mmf_map_norm norm;
    mmf_map_grad grad;
    mmf_real *y, *dx;
    mmf_real dx_beta;
    int64_t grain, lines; /* of the map, at a time */
    mmf_real *scratch;    /* that many of each range, and one pixel */
    int64_t scratch_size;
} last_norm_job;

static int64_t count_of(int64_t n, int64_t each)
{
    return (n + each - 1) / each;
}

static int64_t block_of(const last_norm_node *n)
{
    const int64_t pixels = BLOCK_ELEMENTS / n->channels;
    return pixels > 0 ? pixels : 1;
}

static int64_t block_size(const last_norm_job *j, int64_t block)
{
    const int64_t left = j->n->pixels - block * j->block;
    return left < j->block ? left : j->block;
}

/* ---- Statistics -------------------------------------------------------------------------- */

static void moments_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const int64_t channels = j->n->channels;
    for (int64_t i = begin; i < end; i++) {
        mmf_real *const part = j->parts + 2 * i * channels;
        j->tape->k->map_moments(block_size(j, i), channels, j->n->x->data + i * j->block * channels,
                                part, part + channels);
    }
}

/* Chan, Golub and LeVeque 1979: of two sets with n_a and n_b members and means d apart, the sum of
 * squares about the common mean is S_a + S_b + d^2 n_a n_b / (n_a + n_b). */
static void join_moments(const last_norm_job *j, int64_t n_blocks, double *mean, double *square)
{
    const int64_t channels = j->n->channels;
    double count = 0;
    memset(mean, 0, (size_t)channels * sizeof *mean);
    memset(square, 0, (size_t)channels * sizeof *square);
    for (int64_t i = 0; i < n_blocks; i++) {
        const mmf_real *const part = j->parts + 2 * i * channels;
        const double more = (double)block_size(j, i), share = more / (count + more);
        for (int64_t c = 0; c < channels; c++) {
            const double apart = (double)part[c] - mean[c];
            mean[c] += apart * share;
            square[c] += (double)part[channels + c] + apart * apart * count * share;
        }
        count += more;
    }
}

static bool find_statistics(mmf_tape *tape, last_norm_node *n, const mmf_batch_norm_state *state)
{
    n->used.mean = mmf_tape__reals(tape, n->channels);
    n->used.rstd = mmf_tape__reals(tape, n->channels);
    if (!n->used.mean || !n->used.rstd)
        return false;
    if (!n->batch_statistics) {
        mmf_norm_use_running(state, &n->used);
        return true;
    }
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    last_norm_job j = {.tape = tape, .n = n, .block = block_of(n)};
    const int64_t n_blocks = count_of(n->pixels, j.block);
    j.parts = mmf_tape__reals(tape, 2 * n_blocks * n->channels);
    double *const mean = mmf_tape__alloc(tape, (size_t)(2 * n->channels) * sizeof *mean);
    if (j.parts && mean) {
        double *const var = mean + n->channels;
        mmf_tape__parallel(tape, n_blocks, mmf_grain(j.block * n->channels), moments_range, &j);
        join_moments(&j, n_blocks, mean, var);
        for (int64_t c = 0; c < n->channels; c++)
            var[c] /= (double)n->pixels;
        mmf_norm_use_batch(state, n->pixels, mean, var, &n->used);
    }
    mmf_arena_rewind(&tape->arena, mark);
    return tape->status == MMF_OK;
}

/* ---- Forward ----------------------------------------------------------------------------- */

static void affine_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const last_norm_node *const n = j->n;
    const int64_t first = begin * j->block;
    const int64_t last = end * j->block < n->pixels ? end * j->block : n->pixels;
    const int64_t at = first * n->channels;
    j->tape->k->map_affine(last - first, n->channels, &j->norm, n->relu, n->x->data + at,
                           n->residual ? n->residual->data + at : NULL, j->y + at);
}

/* Lines [first, last) of an image that lie under lines [begin, end) of the result. */
static void lines_under(const mmf_geometry *g, int64_t begin, int64_t end, int64_t *first,
                        int64_t *last)
{
    *first = begin * g->stride[0] - g->padding[0];
    *last = (end - 1) * g->stride[0] - g->padding[0] + g->kernel[0];
    *first = *first > 0 ? *first : 0;
    *last = *last < g->height ? *last : g->height;
}

/* Runs of windows of a line that have the same pixels inside the image: each at the borders alone,
 * those between together. @return how many from `ox` on */
static int64_t run_at(const mmf_geometry *g, int64_t ox)
{
    int64_t first = 0, last = 0, unused = 0;
    mmf_geometry_inside(g, 0, &first, &unused);
    mmf_geometry_inside(g, g->kernel[1] - 1, &unused, &last);
    return ox >= first && ox < last ? last - ox : 1;
}

/* The pixels of window (oy, ox) in lines [first, last) of the image; offsets from line `first`. */
static void find_taps(const mmf_geometry *g, int64_t oy, int64_t ox, int64_t first, int64_t last,
                      mmf_window_taps *taps)
{
    taps->n = 0;
    for (int64_t ky = 0; ky < g->kernel[0]; ky++) {
        const int64_t y = oy * g->stride[0] - g->padding[0] + ky;
        for (int64_t kx = 0; y >= first && y < last && kx < g->kernel[1]; kx++) {
            const int64_t x = ox * g->stride[1] - g->padding[1] + kx;
            if (x < 0 || x >= g->width)
                continue;
            taps->offset[taps->n] = ((y - first) * g->width + x) * g->channels;
            taps->number[taps->n++] = (uint8_t)(ky * g->kernel[1] + kx);
        }
    }
}

/* Maxima of line `oy` of the result. @param z  lines [first, last), all that lie under it */
static void top_line(const last_norm_job *j, int64_t oy, const mmf_real *z, int64_t first,
                     int64_t last, mmf_real *top, uint8_t *winner)
{
    const mmf_geometry *const g = &j->n->g;
    const mmf_real low = j->n->relu ? 0 : -(mmf_real)INFINITY;
    mmf_window_taps taps;
    int64_t run = 0;
    for (int64_t ox = 0; ox < g->out_width; ox += run) {
        run = run_at(g, ox);
        find_taps(g, oy, ox, first, last, &taps);
        j->tape->k->window_top(run, g->channels, g->stride[1] * g->channels, &taps, z, low,
                               top + ox * g->channels, winner + ox * g->channels);
    }
}

static void pool_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const last_norm_node *const n = j->n;
    const mmf_geometry *const g = &n->g;
    const int64_t line = g->width * g->channels, out_line = g->out_width * g->channels;
    mmf_real *const z = j->scratch + begin / j->grain * j->scratch_size;
    const int64_t fitting = (j->lines - g->kernel[0]) / g->stride[0] + 1;
    for (int64_t b = begin; b < end; b++) {
        for (int64_t oy = 0; oy < g->out_height; oy += fitting) {
            const int64_t stop = oy + fitting < g->out_height ? oy + fitting : g->out_height;
            int64_t first = 0, last = 0;
            lines_under(g, oy, stop, &first, &last);
            j->tape->k->map_affine((last - first) * g->width, g->channels, &j->norm, false,
                                   n->x->data + (b * g->height + first) * line, NULL, z);
            for (int64_t y = oy; y < stop; y++) {
                const int64_t at = (b * g->out_height + y) * out_line;
                top_line(j, y, z, first, last, j->y + at, n->winner + at);
            }
        }
    }
}

/* Lines that are worked on at a time, and memory for them. */
static bool take_lines(mmf_tape *tape, last_norm_job *j)
{
    const mmf_geometry *const g = &j->n->g;
    const int64_t line = g->width * g->channels;
    j->grain = mmf_grain(g->height * line);
    j->lines = BLOCK_ELEMENTS / line;
    j->lines = j->lines > g->kernel[0] ? j->lines : g->kernel[0];
    j->lines = j->lines < g->height + g->kernel[0] ? j->lines : g->height + g->kernel[0];
    j->scratch_size = j->lines * line + 2 * g->channels;
    j->scratch = mmf_tape__reals(tape, count_of(g->batch, j->grain) * j->scratch_size);
    return j->scratch != NULL;
}

static void apply(mmf_tape *tape, const last_norm_node *n, mmf_real *y)
{
    last_norm_job j = {.tape = tape, .n = n, .y = y, .block = block_of(n)};
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    mmf_real *const values = mmf_tape__reals(tape, 2 * n->channels);
    if (values) {
        for (int64_t c = 0; c < n->channels; c++) {
            values[c] = n->used.rstd[c] * (n->weight ? n->weight->data[c] : 1);
            values[n->channels + c] = n->bias ? n->bias->data[c] : 0;
        }
        j.norm = (mmf_map_norm){n->used.mean, values, values + n->channels};
        if (!n->pools)
            mmf_tape__parallel(tape, count_of(n->pixels, j.block), mmf_grain(j.block * n->channels),
                               affine_range, &j);
        else if (take_lines(tape, &j))
            mmf_tape__parallel(tape, n->g.batch, j.grain, pool_range, &j);
    }
    mmf_arena_rewind(&tape->arena, mark);
}

/* ---- Backward ---------------------------------------------------------------------------- */

/* The gradient for lines [first, last) of image b of what the windows were taken of. */
static void give_lines(const last_norm_job *j, int64_t b, int64_t first, int64_t last, mmf_real *dz)
{
    const last_norm_node *const n = j->n;
    const mmf_geometry *const g = &n->g;
    const int64_t before = first + g->padding[0] - g->kernel[0] + 1;
    const int64_t begin = before > 0 ? count_of(before, g->stride[0]) : 0;
    const int64_t beyond = (last - 1 + g->padding[0]) / g->stride[0] + 1;
    const int64_t end = beyond < g->out_height ? beyond : g->out_height;
    mmf_window_taps taps;
    memset(dz, 0, (size_t)((last - first) * g->width * g->channels) * sizeof *dz);
    for (int64_t oy = begin; oy < end; oy++) {
        int64_t run = 0;
        for (int64_t ox = 0; ox < g->out_width; ox += run) {
            const int64_t at = ((b * g->out_height + oy) * g->out_width + ox) * g->channels;
            run = run_at(g, ox);
            find_taps(g, oy, ox, first, last, &taps);
            j->tape->k->window_give(run, g->channels, g->stride[1] * g->channels, &taps,
                                    n->winner + at, n->node.out->grad + at, dz);
        }
    }
}

static void image_sums_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const mmf_geometry *const g = &j->n->g;
    const int64_t channels = g->channels, line = g->width * channels;
    mmf_real *const dz = j->scratch + begin / j->grain * j->scratch_size;
    mmf_real *const sums = dz + j->lines * line;
    for (int64_t b = begin; b < end; b++) {
        mmf_real *const part = j->parts + 2 * b * channels;
        for (int64_t first = 0; first < g->height; first += j->lines) {
            const int64_t last = first + j->lines < g->height ? first + j->lines : g->height;
            give_lines(j, b, first, last, dz);
            j->tape->k->map_grad_sums((last - first) * g->width, channels, j->n->used.mean,
                                      j->n->x->data + (b * g->height + first) * line, NULL, dz,
                                      sums, sums + channels);
            j->tape->k->axpby(2 * channels, 1, sums, first > 0 ? 1 : 0, part);
        }
    }
}

static void image_grad_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const mmf_geometry *const g = &j->n->g;
    const int64_t line = g->width * g->channels;
    mmf_real *const dz = j->scratch + begin / j->grain * j->scratch_size;
    for (int64_t b = begin; b < end; b++) {
        for (int64_t first = 0; first < g->height; first += j->lines) {
            const int64_t last = first + j->lines < g->height ? first + j->lines : g->height;
            const int64_t at = (b * g->height + first) * line;
            give_lines(j, b, first, last, dz);
            j->tape->k->map_grad((last - first) * g->width, g->channels, &j->grad,
                                 j->n->x->data + at, NULL, dz, j->dx_beta, j->dx + at);
        }
    }
}

static void block_sums_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const last_norm_node *const n = j->n;
    const mmf_tensor *const y = n->node.out;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i * j->block * n->channels;
        mmf_real *const part = j->parts + 2 * i * n->channels;
        j->tape->k->map_grad_sums(block_size(j, i), n->channels, n->used.mean, n->x->data + at,
                                  n->relu ? y->data + at : NULL, y->grad + at, part,
                                  part + n->channels);
    }
}

static void block_grad_range(void *argument, int64_t begin, int64_t end)
{
    const last_norm_job *const j = argument;
    const last_norm_node *const n = j->n;
    const mmf_tensor *const y = n->node.out;
    const int64_t first = begin * j->block;
    const int64_t last = end * j->block < n->pixels ? end * j->block : n->pixels;
    const int64_t at = first * n->channels;
    j->tape->k->map_grad(last - first, n->channels, &j->grad, n->x->data + at,
                         n->relu ? y->data + at : NULL, y->grad + at, j->dx_beta, j->dx + at);
}

/* From the sums of dz and of dz (x - mean) to the gradients of the parameters, and to what the
 * gradient of x is made of. */
static void use_sums(last_norm_job *j, int64_t n_units, double *sums, mmf_real *values,
                     mmf_real *const grads[2], const bool fresh[2])
{
    const last_norm_node *const n = j->n;
    const int64_t channels = n->channels;
    memset(sums, 0, (size_t)(2 * channels) * sizeof *sums);
    for (int64_t i = 0; i < n_units; i++) {
        for (int64_t c = 0; c < 2 * channels; c++)
            sums[c] += (double)j->parts[2 * i * channels + c];
    }
    const double share = n->batch_statistics ? 1 / (double)n->pixels : 0;
    mmf_real *const factor = values, *const mean_dy = values + channels,
                    *const slope = values + 2 * channels;
    for (int64_t c = 0; c < channels; c++) {
        const mmf_real rstd = n->used.rstd[c];
        const double of_dy = sums[c], of_product = sums[channels + c];
        factor[c] = rstd * (n->weight ? n->weight->data[c] : 1);
        mean_dy[c] = (mmf_real)(of_dy * share);
        slope[c] = (mmf_real)(of_product * share) * rstd * rstd;
        if (grads[0])
            grads[0][c] = (fresh[0] ? 0 : grads[0][c]) + (mmf_real)(of_product * (double)rstd);
        if (grads[1])
            grads[1][c] = (fresh[1] ? 0 : grads[1][c]) + (mmf_real)of_dy;
    }
    j->grad = (mmf_map_grad){n->used.mean, factor, mean_dy, slope};
}

static void residual_gradient(const mmf_tape *tape, const last_norm_node *n, bool fresh,
                              mmf_real *to)
{
    const mmf_tensor *const y = n->node.out;
    if (n->relu)
        tape->k->unary_grad(MMF_UNARY_RELU, y->count, y->data, y->data, y->grad, to, fresh ? 0 : 1,
                            0, 0);
    else
        tape->k->axpby(y->count, 1, y->grad, fresh ? 0 : 1, to);
}

/* As batch norm's own, see norm.c, with dz for dy. */
static void last_norm_backward(mmf_tape *tape, mmf_node *node)
{
    last_norm_node *const n = (last_norm_node *)node;
    bool fresh_x = false, fresh_residual = false, fresh[2] = {false, false};
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh_x);
    mmf_real *const grads[2] = {mmf_tape__grad(tape, n->weight, &fresh[0]),
                                mmf_tape__grad(tape, n->bias, &fresh[1])};
    mmf_real *const residual = mmf_tape__grad(tape, n->residual, &fresh_residual);
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    last_norm_job j = {.tape = tape, .n = n, .block = block_of(n), .dx = dx};
    j.dx_beta = fresh_x ? 0 : 1;
    const int64_t n_units = n->pools ? n->g.batch : count_of(n->pixels, j.block);
    j.parts = mmf_tape__reals(tape, 2 * n_units * n->channels);
    double *const sums = mmf_tape__alloc(tape, (size_t)(2 * n->channels) * sizeof *sums);
    mmf_real *const values = mmf_tape__reals(tape, 3 * n->channels);
    if (j.parts && sums && values && (!n->pools || take_lines(tape, &j))) {
        const int64_t grain = n->pools ? j.grain : mmf_grain(j.block * n->channels);
        mmf_tape__parallel(tape, n_units, grain, n->pools ? image_sums_range : block_sums_range,
                           &j);
        use_sums(&j, n_units, sums, values, grads, fresh);
        if (dx)
            mmf_tape__parallel(tape, n_units, grain, n->pools ? image_grad_range : block_grad_range,
                               &j);
        if (residual)
            residual_gradient(tape, n, fresh_residual, residual);
    }
    mmf_arena_rewind(&tape->arena, mark);
}

/* ---- The operation ----------------------------------------------------------------------- */

static bool fits(mmf_tape *tape, const char *op, const mmf_tensor *x,
                 const mmf_batch_norm_state *state, const mmf_norm_around *around)
{
    const int64_t channels = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 0;
    const mmf_tensor *const each[] = {state->running_mean, state->running_var, state->weight,
                                      state->bias};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        if (x->is_int || channels < 1 || (each[i] && each[i]->count != channels)) {
            mmf_tape__unfit(tape, op, x, each[i] ? each[i] : x,
                            "one value a channel, the last "
                            "axis");
            return false;
        }
    }
    if (around->residual && !mmf_tensor__same_shape(around->residual, x)) {
        mmf_tape__unfit(tape, op, x, around->residual, "a residual has the shape of the map");
        return false;
    }
    if (around->pool && (around->residual || x->n_dims != 4)) {
        mmf_tape__fail(tape, MMF_ARG, op,
                       "a window is taken of (B, H, W, C) and not behind a residual");
        return false;
    }
    return true;
}

static bool measure_pool(mmf_tape *tape, const char *op, const mmf_window *window,
                         last_norm_node *n)
{
    mmf_geometry *const g = &n->g;
    *g = (mmf_geometry){.batch = n->x->shape[0],
                        .channels = n->channels,
                        .height = n->x->shape[1],
                        .width = n->x->shape[2]};
    if (!mmf_geometry_measure(tape, op, false, window, g))
        return false;
    if (2 * g->padding[0] > g->kernel[0] || 2 * g->padding[1] > g->kernel[1] ||
        g->kernel[0] > MMF_NO_WINNER || g->kernel[0] * g->kernel[1] > MMF_NO_WINNER) {
        mmf_tape__fail(tape, MMF_ARG, op,
                       "a window of %lld x %lld pixels with padding %lld, %lld: at most %d pixels, "
                       "and padding up to half of them",
                       (long long)g->kernel[0], (long long)g->kernel[1], (long long)g->padding[0],
                       (long long)g->padding[1], MMF_NO_WINNER);
        return false;
    }
    n->winner =
        mmf_tape__alloc(tape, (size_t)(g->batch * g->out_height * g->out_width * g->channels) + 1);
    return n->winner != NULL;
}

mmf_tensor *mmf_batch_norm_last(mmf_tape *tape, mmf_tensor *x, const mmf_batch_norm_state *state,
                                const mmf_norm_around *around)
{
    static const char op[] = "batch_norm_last";
    if (!x || !state->running_mean || !state->running_var)
        return mmf_tape__missing(tape, op);
    if (!fits(tape, op, x, state, around))
        return NULL;
    last_norm_node n = {.x = x,
                        .weight = state->weight,
                        .bias = state->bias,
                        .residual = around->residual,
                        .channels = x->shape[x->n_dims - 1],
                        .batch_statistics = tape->pass.training && !state->fixed,
                        .relu = around->relu,
                        .pools = around->pool != NULL};
    n.pixels = x->count / n.channels;
    if (n.batch_statistics && n.pixels < 2)
        return mmf_tape__fail(
            tape, MMF_SHAPE, op,
            "training needs more than one value a channel: this batch has a single "
            "sample; choose a batch size that does not leave one over");
    int64_t shape[MMF_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    if (n.pools) {
        if (!measure_pool(tape, op, around->pool, &n))
            return NULL;
        shape[1] = n.g.out_height;
        shape[2] = n.g.out_width;
    }
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, shape);
    if (!y || !find_statistics(tape, &n, state))
        return NULL;
    apply(tape, &n, y->data);
    if (tape->status != MMF_OK)
        return NULL;
    const bool wants = x->wants_grad || (n.weight && n.weight->wants_grad) ||
                       (n.bias && n.bias->wants_grad) || (n.residual && n.residual->wants_grad);
    last_norm_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, wants, last_norm_backward);
    if (node) {
        n.node = node->node;
        *node = n;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

enum { N_EXAMPLES = 8 };

static mmf_tensor *batch_norm_last_example(mmf_op_case *c)
{
    static const mmf_window windows[] = {{{2, 2}, {2, 2}, {0, 0}},
                                         {{3, 3}, {2, 2}, {1, 1}},
                                         {{2, 3}, {1, 2}, {0, 1}},
                                         {{1, 2}, {2, 3}, {0, 0}}};
    static const int64_t channels_of[N_EXAMPLES] = {3, 17, 16, 5, 64, 70, 2, 33};
    const bool pools = c->index >= 4;
    const int64_t channels = channels_of[c->index];
    const int64_t shape[] = {3, 3 + c->scale, 5, channels};
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 4, shape);
    mmf_batch_norm_state state = {.momentum = 0.1, .eps = 1e-5, .fixed = c->index == 2};
    if (c->index != 3) {
        state.weight = mmf_case_input(c, 0.5, 1.5, 1, &channels);
        state.bias = mmf_case_input(c, -1, 1, 1, &channels);
    }
    state.running_mean = mmf_case_constant(c, -0.2, 0.2, 1, &channels);
    state.running_var = mmf_case_constant(c, 0.5, 1.5, 1, &channels);
    const bool relu = (c->index & 1) == 0;
    mmf_tensor *const residual = !pools && c->index > 0 ? mmf_case_input(c, -1, 1, 4, shape) : NULL;
    return mmf_batch_norm_last(
        c->tape, x, &state,
        &(mmf_norm_around){residual, pools ? &windows[c->index - 4] : NULL, relu});
}

const mmf_op mmf_op_batch_norm_last = {"batch_norm_last", N_EXAMPLES, batch_norm_last_example,
                                       mmf_flops_elementwise, true};
