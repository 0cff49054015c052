/* norm.c: layer norm, deviation norm, batch norm, L2 normalisation and cosine. */
#include <math.h>
#include <string.h>

#include "tensor/norm_statistics.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct row_norm_node {
    mmf_node node;
    mmf_tensor *x, *weight, *bias;
    int64_t width;
    mmf_row_norm *rows;
} row_norm_node;

static void row_norm_backward(mmf_tape *tape, mmf_node *node)
{
    row_norm_node *const n = (row_norm_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh);
    mmf_real *const dw = mmf_tape__grad_zeroed(tape, n->weight);
    mmf_real *const db = mmf_tape__grad_zeroed(tape, n->bias);
    const mmf_real beta = fresh ? 0 : 1;
    for (int64_t r = 0; r < n->x->count / n->width; r++) {
        const int64_t at = r * n->width;
        tape->k->norm_row_grad(n->width, n->x->data + at, n->weight ? n->weight->data : NULL,
                               &n->rows[r], node->out->grad + at, beta, dx ? dx + at : NULL, dw,
                               db);
    }
}

typedef struct norm_job {
    const mmf_tape *tape;
    const row_norm_node *n;
    mmf_real eps;
    bool by_deviation;
    mmf_real *y;
} norm_job;

static void norm_rows(void *argument, int64_t begin, int64_t end)
{
    const norm_job *const j = argument;
    const row_norm_node *const n = j->n;
    for (int64_t r = begin; r < end; r++)
        j->tape->k->norm_row(n->width, n->x->data + r * n->width,
                             n->weight ? n->weight->data : NULL, n->bias ? n->bias->data : NULL,
                             j->eps, j->by_deviation, j->y + r * n->width, &n->rows[r]);
}

static mmf_tensor *normalise_rows(mmf_tape *tape, const char *op, mmf_tensor *x, mmf_tensor *weight,
                                  mmf_tensor *bias, double eps, bool by_deviation)
{
    const int64_t width = x->shape[x->n_dims - 1], rows = x->count / width;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    row_norm_node n = {.x = x, .weight = weight, .bias = bias, .width = width};
    n.rows = mmf_tape__alloc(tape, (size_t)rows * sizeof *n.rows);
    if (!y || !n.rows)
        return NULL;
    norm_job job = {tape, &n, (mmf_real)eps, by_deviation, y->data};
    mmf_tape__parallel(tape, rows, mmf_grain(4 * width), norm_rows, &job);
    const bool wants =
        x->wants_grad || (weight && weight->wants_grad) || (bias && bias->wants_grad);
    row_norm_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, wants, row_norm_backward);
    if (node) {
        n.node = node->node;
        *node = n;
    }
    return y;
}

mmf_tensor *mmf_layer_norm(mmf_tape *tape, mmf_tensor *x, mmf_tensor *weight, mmf_tensor *bias,
                           double eps)
{
    static const char op[] = "layer_norm";
    if (!x)
        return mmf_tape__missing(tape, op);
    const int64_t width = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 0;
    if (width < 1 || (weight && weight->count != width) || (bias && bias->count != width))
        return mmf_tape__unfit(tape, op, x, weight ? weight : x, "one weight and bias a feature");
    return normalise_rows(tape, op, x, weight, bias, eps, false);
}

mmf_tensor *mmf_deviation_norm(mmf_tape *tape, mmf_tensor *x, mmf_tensor *weight, mmf_tensor *bias,
                               double eps)
{
    static const char op[] = "deviation_norm";
    if (!x || !weight || !bias)
        return mmf_tape__missing(tape, op);
    const int64_t width = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 0;
    if (width < 2 || weight->count != width || bias->count != width)
        return mmf_tape__unfit(tape, op, x, weight,
                               "two features or more, and one weight and bias a feature");
    return normalise_rows(tape, op, x, weight, bias, eps, true);
}

/* ---- Batch norm -------------------------------------------------------------------------- */

typedef struct batch_norm_node {
    mmf_node node;
    mmf_tensor *x, *weight, *bias;
    int64_t outer, channels, inner;
    mmf_real *mean, *rstd;
    bool batch_statistics;
} batch_norm_node;

/*
 * Work on the channels [begin, end). Runs of inner values of one channel are contiguous; with a
 * single one (vectors) the channels of a row are, and the loops go along them instead.
 */
typedef struct batch_norm_job {
    const mmf_tape *tape;
    const batch_norm_node *n;
    double *mean, *var; /* forward: statistics; backward: sums of dy, and of dy (x - mean) */
    const mmf_real *dy;
    mmf_real *y, *dx;
    mmf_real dx_beta;
} batch_norm_job;

static const mmf_real *run_of(const batch_norm_node *n, const mmf_real *data, int64_t o, int64_t c)
{
    return data + (o * n->channels + c) * n->inner;
}

/* Mean and biased variance of each channel over the other axes, accumulated in double. */
static void statistics_of_rows(const batch_norm_job *j, int64_t begin, int64_t end)
{
    const batch_norm_node *const n = j->n;
    const double count = (double)n->outer;
    for (int64_t o = 0; o < n->outer; o++) {
        const mmf_real *const x = n->x->data + o * n->channels;
        for (int64_t c = begin; c < end; c++)
            j->mean[c] += (double)x[c] / count;
    }
    for (int64_t o = 0; o < n->outer; o++) {
        const mmf_real *const x = n->x->data + o * n->channels;
        for (int64_t c = begin; c < end; c++)
            j->var[c] += ((double)x[c] - j->mean[c]) * ((double)x[c] - j->mean[c]) / count;
    }
}

static void statistics_range(void *argument, int64_t begin, int64_t end)
{
    const batch_norm_job *const j = argument;
    const batch_norm_node *const n = j->n;
    const double count = (double)(n->outer * n->inner);
    for (int64_t c = begin; c < end; c++)
        j->mean[c] = j->var[c] = 0;
    if (n->inner == 1) {
        statistics_of_rows(j, begin, end);
        return;
    }
    for (int64_t c = begin; c < end; c++) {
        for (int64_t o = 0; o < n->outer; o++)
            j->mean[c] += (double)j->tape->k->sum(n->inner, run_of(n, n->x->data, o, c)) / count;
        for (int64_t o = 0; o < n->outer; o++)
            j->var[c] += j->tape->k->centered_square(n->inner, run_of(n, n->x->data, o, c),
                                                     (mmf_real)j->mean[c]) /
                         count;
    }
}

static void batch_statistics(mmf_tape *tape, const batch_norm_node *n, double *mean, double *var)
{
    batch_norm_job job = {.tape = tape, .n = n, .mean = mean, .var = var};
    mmf_tape__parallel(tape, n->channels, mmf_grain(n->outer * n->inner), statistics_range, &job);
}

/* Of single values a channel, in a loop that the compiler makes vectors of. */
static void apply_values(int64_t n, const mmf_real *restrict x, const mmf_real *restrict mean,
                         const mmf_real *restrict rstd, const mmf_real *restrict w,
                         const mmf_real *restrict b, mmf_real *restrict y)
{
    for (int64_t c = 0; c < n; c++)
        y[c] = (x[c] - mean[c]) * (w ? rstd[c] * w[c] : rstd[c]) + (b ? b[c] : (mmf_real)0);
}

static void apply_range(void *argument, int64_t begin, int64_t end)
{
    const batch_norm_job *const j = argument;
    const batch_norm_node *const n = j->n;
    const mmf_real *const w = n->weight ? n->weight->data : NULL;
    const mmf_real *const b = n->bias ? n->bias->data : NULL;
    for (int64_t o = 0; o < n->outer; o++) {
        const int64_t first = o * n->channels + begin;
        if (n->inner == 1) {
            apply_values(end - begin, n->x->data + first, n->mean + begin, n->rstd + begin,
                         w ? w + begin : NULL, b ? b + begin : NULL, j->y + first);
            continue;
        }
        for (int64_t c = begin; c < end; c++) {
            const int64_t at = (o * n->channels + c) * n->inner;
            j->tape->k->centered_affine(n->inner, n->x->data + at, n->mean[c],
                                        n->rstd[c] * (w ? w[c] : 1), b ? b[c] : 0, j->y + at);
        }
    }
}

/* Sums of dy, and of dy (x - mean), into j->mean and j->var. */
static void gradient_sums_range(void *argument, int64_t begin, int64_t end)
{
    const batch_norm_job *const j = argument;
    const batch_norm_node *const n = j->n;
    for (int64_t c = begin; c < end; c++)
        j->mean[c] = j->var[c] = 0;
    for (int64_t o = 0; o < n->outer; o++) {
        for (int64_t c = begin; c < end; c++) {
            const int64_t at = (o * n->channels + c) * n->inner;
            if (n->inner == 1) {
                j->mean[c] += (double)j->dy[at];
                j->var[c] += (double)(j->dy[at] * (n->x->data[at] - n->mean[c]));
            } else {
                j->mean[c] += (double)j->tape->k->sum(n->inner, j->dy + at);
                j->var[c] +=
                    j->tape->k->centered_dot(n->inner, n->x->data + at, n->mean[c], j->dy + at);
            }
        }
    }
}

static void input_gradient_range(void *argument, int64_t begin, int64_t end)
{
    const batch_norm_job *const j = argument;
    const batch_norm_node *const n = j->n;
    const double share = n->batch_statistics ? 1 / (double)(n->outer * n->inner) : 0;
    for (int64_t o = 0; o < n->outer; o++) {
        for (int64_t c = begin; c < end; c++) {
            const int64_t at = (o * n->channels + c) * n->inner;
            const mmf_real rstd = n->rstd[c];
            const mmf_channel_grad g = {.mean = n->mean[c],
                                        .factor = rstd * (n->weight ? n->weight->data[c] : 1),
                                        .mean_dy = (mmf_real)(j->mean[c] * share),
                                        .slope = (mmf_real)(j->var[c] * share) * rstd * rstd};
            if (n->inner > 1)
                j->tape->k->channel_grad(n->inner, n->x->data + at, j->dy + at, &g, j->dx_beta,
                                         j->dx + at);
            else
                j->dx[at] =
                    (j->dx_beta == (mmf_real)0 ? 0 : j->dx[at]) +
                    g.factor * (j->dy[at] - g.mean_dy - (n->x->data[at] - g.mean) * g.slope);
        }
    }
}

/* With u = (x - mean) rstd, N values a channel:
 *   dw = sum dy u,  db = sum dy,  dx = rstd w (dy - mean(dy) - u mean(dy u)) for batch statistics,
 *   dx = rstd w dy where the statistics are constants. */
static void batch_norm_backward(mmf_tape *tape, mmf_node *node)
{
    batch_norm_node *const n = (batch_norm_node *)node;
    bool fresh_x = false, fresh_w = false, fresh_b = false;
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh_x);
    mmf_real *const dw = mmf_tape__grad(tape, n->weight, &fresh_w);
    mmf_real *const db = mmf_tape__grad(tape, n->bias, &fresh_b);
    double *const sums = mmf_tape__alloc(tape, (size_t)(2 * n->channels) * sizeof *sums);
    if (!sums)
        return;
    batch_norm_job job = {.tape = tape,
                          .n = n,
                          .mean = sums,
                          .var = sums + n->channels,
                          .dy = node->out->grad,
                          .dx = dx,
                          .dx_beta = fresh_x ? 0 : 1};
    const int64_t grain = mmf_grain(n->outer * n->inner);
    mmf_tape__parallel(tape, n->channels, grain, gradient_sums_range, &job);
    for (int64_t c = 0; c < n->channels; c++) {
        if (dw)
            dw[c] = (fresh_w ? 0 : dw[c]) + (mmf_real)(job.var[c] * (double)n->rstd[c]);
        if (db)
            db[c] = (fresh_b ? 0 : db[c]) + (mmf_real)job.mean[c];
    }
    if (dx)
        mmf_tape__parallel(tape, n->channels, grain, input_gradient_range, &job);
}

/* Running statistics, which passes of one row over fixed parameters work out once; a batch shares
 * the work. */
static bool use_kept(mmf_tape *tape, batch_norm_node *n, const mmf_batch_norm_state *state)
{
    const size_t size = (size_t)(2 * n->channels) * sizeof(mmf_real);
    const bool is_row = n->outer == 1 && n->inner == 1;
    bool is_new = false;
    mmf_real *const kept =
        is_row && n->weight ? mmf_tape__keep(tape, n->weight, "statistics", size, &is_new) : NULL;
    if (!kept)
        return false;
    n->mean = kept;
    n->rstd = kept + n->channels;
    if (is_new)
        mmf_norm_use_running(state, &(mmf_norm_used){n->mean, n->rstd});
    return true;
}

/* Fills mean and rstd; in training also moves the running statistics. */
static bool choose_statistics(mmf_tape *tape, batch_norm_node *n, const mmf_batch_norm_state *state)
{
    if (!n->batch_statistics && use_kept(tape, n, state))
        return true;
    n->mean = mmf_tape__reals(tape, n->channels);
    n->rstd = mmf_tape__reals(tape, n->channels);
    double *const scratch = mmf_tape__alloc(tape, (size_t)(2 * n->channels) * sizeof *scratch);
    if (!n->mean || !n->rstd || !scratch)
        return false;
    const mmf_norm_used used = {n->mean, n->rstd};
    if (!n->batch_statistics) {
        mmf_norm_use_running(state, &used);
        return true;
    }
    double *const mean = scratch, *const var = scratch + n->channels;
    batch_statistics(tape, n, mean, var);
    mmf_norm_use_batch(state, n->outer * n->inner, mean, var, &used);
    return true;
}

static mmf_tensor *batch_norm(mmf_tape *tape, const char *op, bool batch_statistics, mmf_tensor *x,
                              mmf_tensor *weight, mmf_tensor *bias, mmf_tensor *running_mean,
                              mmf_tensor *running_var, int axis, double momentum, double eps)
{
    if (!x || !running_mean || !running_var)
        return mmf_tape__missing(tape, op);
    const int d = mmf_tape__axis(x, axis);
    if (d < 0 || x->shape[d] != running_mean->count || running_var->count != running_mean->count ||
        (weight && weight->count != x->shape[d]) || (bias && bias->count != x->shape[d]))
        return mmf_tape__unfit(tape, op, x, running_mean, "one statistic a channel");
    batch_norm_node n = {
        .x = x, .weight = weight, .bias = bias, .batch_statistics = batch_statistics};
    n.outer = mmf_tensor__outer(x, d);
    n.channels = x->shape[d];
    n.inner = mmf_tensor__inner(x, d);
    if (n.batch_statistics && n.outer * n.inner < 2)
        return mmf_tape__fail(
            tape, MMF_SHAPE, op,
            "training needs more than one value a channel: this batch has a single "
            "sample; choose a batch size that does not leave one over");
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    const mmf_batch_norm_state state = {
        .running_mean = running_mean, .running_var = running_var, .momentum = momentum, .eps = eps};
    if (!y || !choose_statistics(tape, &n, &state))
        return NULL;
    batch_norm_job job = {.tape = tape, .n = &n, .y = y->data};
    mmf_tape__parallel(tape, n.channels, mmf_grain(n.outer * n.inner), apply_range, &job);
    const bool wants =
        x->wants_grad || (weight && weight->wants_grad) || (bias && bias->wants_grad);
    batch_norm_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, wants, batch_norm_backward);
    if (node) {
        n.node = node->node;
        *node = n;
    }
    return y;
}

mmf_tensor *mmf_batch_norm(mmf_tape *tape, mmf_tensor *x, mmf_tensor *weight, mmf_tensor *bias,
                           mmf_tensor *running_mean, mmf_tensor *running_var, int axis,
                           double momentum, double eps)
{
    return batch_norm(tape, "batch_norm", tape->pass.training, x, weight, bias, running_mean,
                      running_var, axis, momentum, eps);
}

mmf_tensor *mmf_batch_norm_fixed(mmf_tape *tape, mmf_tensor *x, mmf_tensor *weight,
                                 mmf_tensor *bias, mmf_tensor *running_mean,
                                 mmf_tensor *running_var, int axis, double eps)
{
    return batch_norm(tape, "batch_norm_fixed", false, x, weight, bias, running_mean, running_var,
                      axis, 0, eps);
}

/* ---- L2 normalisation and cosine --------------------------------------------------------- */

typedef struct length_node {
    mmf_node node;
    mmf_tensor *x;
    mmf_real *length; /* of a row; negative: it is eps, and no gradient goes through it */
} length_node;

/* dx = (dy - y <y, dy>) / |x|. Of a composition, the two parts would be rounded apart, and in a row
 * of one element, whose gradient is 0, not quite cancel. */
static void length_backward(mmf_tape *tape, mmf_node *node)
{
    length_node *const n = (length_node *)node;
    const int64_t width = n->x->shape[n->x->n_dims - 1];
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh);
    for (int64_t r = 0; dx && r < n->x->count / width; r++) {
        const mmf_real *const y = node->out->data + r * width;
        const mmf_real *const dy = node->out->grad + r * width;
        const bool is_clamped = n->length[r] < 0;
        const mmf_real along = is_clamped ? 0 : tape->k->dot(width, y, dy);
        const mmf_real length = is_clamped ? -n->length[r] : n->length[r];
        mmf_real *const d = dx + r * width;
        for (int64_t i = 0; i < width; i++)
            d[i] = (fresh ? 0 : d[i]) + (dy[i] - y[i] * along) / length;
    }
}

mmf_tensor *mmf_l2_normalise(mmf_tape *tape, mmf_tensor *x, double eps)
{
    static const char op[] = "l2_normalise";
    if (!x)
        return mmf_tape__missing(tape, op);
    const int64_t width = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 0;
    if (width < 1)
        return mmf_tape__unfit(tape, op, x, x, "features in the last axis");
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    mmf_real *const length = mmf_tape__reals(tape, x->count / width);
    if (!y || !length)
        return NULL;
    for (int64_t r = 0; r < x->count / width; r++) {
        const mmf_real *const from = x->data + r * width;
        const mmf_real square = tape->k->dot(width, from, from);
        const bool is_clamped = (double)square < eps * eps;
        const mmf_real of = is_clamped ? (mmf_real)eps : (mmf_real)sqrt((double)square);
        for (int64_t i = 0; i < width; i++)
            y->data[r * width + i] = from[i] / of;
        length[r] = is_clamped ? -of : of;
    }
    length_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, length_backward);
    if (node) {
        node->x = x;
        node->length = length;
    }
    return y;
}

mmf_tensor *mmf_cosine(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b, double eps)
{
    mmf_tensor *const dot = mmf_sum(tape, mmf_mul(tape, a, b), -1);
    mmf_tensor *const square_a = mmf_sum(tape, mmf_mul(tape, a, a), -1);
    mmf_tensor *const square_b = mmf_sum(tape, mmf_mul(tape, b, b), -1);
    mmf_tensor *const both =
        mmf_clamp(tape, mmf_mul(tape, square_a, square_b), eps * eps, INFINITY);
    return mmf_div(tape, dot, mmf_sqrt(tape, both));
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *layer_norm_example(mmf_op_case *c)
{
    const int64_t width = c->index == 2 ? 2 : 21 * c->scale;
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 3, (int64_t[]){2, 3, width});
    if (c->index == 1)
        return mmf_layer_norm(c->tape, x, NULL, NULL, 1e-5);
    mmf_tensor *const w = mmf_case_input(c, 0.5, 1.5, 1, &width);
    mmf_tensor *const b = mmf_case_input(c, -1, 1, 1, &width);
    /* Of two features only eps tells how far they are apart. */
    return mmf_layer_norm(c->tape, x, w, b, c->index == 2 ? 0.5 : 1e-5);
}

static mmf_tensor *deviation_norm_example(mmf_op_case *c)
{
    const int64_t width =
        c->index ? 2 : 21 * c->scale; /* two: the deviation is |a - b| / sqrt(2) */
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 3, (int64_t[]){2, 3, width});
    mmf_tensor *const w = mmf_case_input(c, 0.5, 1.5, 1, &width);
    mmf_tensor *const b = mmf_case_input(c, -1, 1, 1, &width);
    return mmf_deviation_norm(c->tape, x, w, b, c->index ? 0.5 : 1e-6);
}

static mmf_tensor *batch_norm_example(mmf_op_case *c)
{
    const int axis = c->index % 3; /* the harness alternates training and evaluation passes */
    const int64_t shape[] = {4, 3, 5 * c->scale};
    const int64_t channels = shape[axis];
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 3, shape);
    mmf_tensor *const w = mmf_case_input(c, 0.5, 1.5, 1, &channels);
    mmf_tensor *const b = mmf_case_input(c, -1, 1, 1, &channels);
    mmf_tensor *const mean = mmf_case_constant(c, -0.2, 0.2, 1, &channels);
    mmf_tensor *const var = mmf_case_constant(c, 0.5, 1.5, 1, &channels);
    return mmf_batch_norm(c->tape, x, w, b, mean, var, axis, 0.1, 1e-5);
}

static mmf_tensor *batch_norm_fixed_example(mmf_op_case *c)
{
    const int64_t channels = 3;
    mmf_tensor *const x =
        mmf_case_input(c, -2, 2, 3, (int64_t[]){c->index ? 1 : 4, 3, 5 * c->scale});
    mmf_tensor *const w = mmf_case_input(c, 0.5, 1.5, 1, &channels);
    mmf_tensor *const b = mmf_case_input(c, -1, 1, 1, &channels);
    mmf_tensor *const mean = mmf_case_constant(c, -0.2, 0.2, 1, &channels);
    mmf_tensor *const var = mmf_case_constant(c, 0.5, 1.5, 1, &channels);
    return mmf_batch_norm_fixed(c->tape, x, w, b, mean, var, 1, 1e-5);
}

static mmf_tensor *l2_normalise_example(mmf_op_case *c)
{
    return mmf_l2_normalise(c->tape, mmf_case_input(c, -2, 2, 2, (int64_t[]){4, 9 * c->scale}),
                            1e-12);
}

static mmf_tensor *cosine_example(mmf_op_case *c)
{
    const int64_t shape[] = {4, 9 * c->scale};
    mmf_tensor *const a = mmf_case_input(c, -2, 2, 2, shape);
    return mmf_cosine(c->tape, a, mmf_case_input(c, -2, 2, 2, shape), 1e-8);
}

const mmf_op mmf_op_layer_norm = {"layer_norm", 3, layer_norm_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_deviation_norm = {"deviation_norm", 2, deviation_norm_example,
                                      mmf_flops_elementwise, true};
const mmf_op mmf_op_batch_norm = {"batch_norm", 6, batch_norm_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_batch_norm_fixed = {"batch_norm_fixed", 2, batch_norm_fixed_example,
                                        mmf_flops_elementwise, true};
const mmf_op mmf_op_l2_normalise = {"l2_normalise", 1, l2_normalise_example, mmf_flops_elementwise,
                                    true};
const mmf_op mmf_op_cosine = {"cosine", 1, cosine_example, mmf_flops_elementwise, true};
