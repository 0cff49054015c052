/* reduce.c: sums, extremes and moments over one axis. */
#include <math.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef enum reduction {
    REDUCE_SUM,
    REDUCE_MAX,
    REDUCE_MIN,
    REDUCE_LOGSUMEXP,
    REDUCE_VARIANCE
} reduction;

typedef struct reduce_node {
    mmf_node node;
    reduction kind;
    mmf_tensor *x;
    int64_t outer, n, inner;
    mmf_real scale;
    int64_t *winner; /* max, min: position along the axis */
    mmf_real *mean;  /* variance */
} reduce_node;

static void sum_backward(mmf_tape *tape, const reduce_node *r, mmf_real *dx, mmf_real beta)
{
    const mmf_real *const dy = r->node.out->grad;
    for (int64_t o = 0; o < r->outer; o++) {
        for (int64_t i = 0; i < r->n; i++) {
            mmf_real *const row = dx + (o * r->n + i) * r->inner;
            tape->k->axpby(r->inner, r->scale, dy + o * r->inner, beta, row);
        }
    }
}

/* d logsumexp = softmax = exp(x - y);  d variance = 2 (x - mean) scale */
static void curved_backward(const reduce_node *r, mmf_real *dx, mmf_real beta)
{
    const mmf_real *const dy = r->node.out->grad, *const y = r->node.out->data;
    for (int64_t e = 0; e < r->x->count; e++) {
        const int64_t at = e / (r->n * r->inner) * r->inner + e % r->inner;
        const mmf_real slope = r->kind == REDUCE_LOGSUMEXP
                                   ? (mmf_real)exp((double)(r->x->data[e] - y[at]))
                                   : 2 * r->scale * (r->x->data[e] - r->mean[at]);
        dx[e] = (beta == (mmf_real)0 ? (mmf_real)0 : dx[e]) + dy[at] * slope;
    }
}

static void reduce_backward(mmf_tape *tape, mmf_node *node)
{
    reduce_node *const r = (reduce_node *)node;
    if (r->kind == REDUCE_MAX || r->kind == REDUCE_MIN) {
        mmf_real *const dx = mmf_tape__grad_zeroed(tape, r->x);
        if (!dx)
            return;
        for (int64_t j = 0; j < node->out->count; j++) {
            const int64_t o = j / r->inner, column = j % r->inner;
            dx[(o * r->n + r->winner[j]) * r->inner + column] += node->out->grad[j];
        }
        return;
    }
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, r->x, &fresh);
    if (!dx)
        return;
    if (r->kind == REDUCE_SUM)
        sum_backward(tape, r, dx, fresh ? 0 : 1);
    else
        curved_backward(r, dx, fresh ? 0 : 1);
}

static void sum_forward(const mmf_tape *tape, const reduce_node *r, mmf_real *y)
{
    for (int64_t o = 0; o < r->outer; o++) {
        const mmf_real *const block = r->x->data + o * r->n * r->inner;
        if (r->inner == 1)
            y[o] = r->scale * tape->k->sum(r->n, block);
        else
            tape->k->column_sum(r->n, r->inner, r->scale, block, 0, y + o * r->inner);
    }
}

/* Extremes keep the position of the first winner; NaN wins, so that it shows. */
static void extreme_forward(const reduce_node *r, mmf_real *y)
{
    const mmf_real sign = r->kind == REDUCE_MAX ? 1 : -1;
    for (int64_t j = 0; j < r->outer * r->inner; j++) {
        const mmf_real *const column = r->x->data + j / r->inner * r->n * r->inner + j % r->inner;
        int64_t best = 0;
        for (int64_t i = 1; i < r->n; i++) {
            const mmf_real candidate = column[i * r->inner], lead = column[best * r->inner];
            if (sign * candidate > sign * lead || (isnan(candidate) && !isnan(lead)))
                best = i;
        }
        r->winner[j] = best;
        y[j] = column[best * r->inner];
    }
}

static void moment_forward(const reduce_node *r, mmf_real *y)
{
    for (int64_t j = 0; j < r->outer * r->inner; j++) {
        const mmf_real *const column = r->x->data + j / r->inner * r->n * r->inner + j % r->inner;
        double total = 0;
        if (r->kind == REDUCE_LOGSUMEXP) {
            double top = -INFINITY;
            for (int64_t i = 0; i < r->n; i++)
                top = fmax(top, (double)column[i * r->inner]);
            if (!isfinite(top)) { /* all -inf: log 0; one +inf: +inf */
                y[j] = (mmf_real)top;
                continue;
            }
            for (int64_t i = 0; i < r->n; i++)
                total += exp((double)column[i * r->inner] - top);
            y[j] = (mmf_real)(top + log(total));
        } else {
            double mean = 0;
            for (int64_t i = 0; i < r->n; i++)
                mean += (double)column[i * r->inner];
            mean /= (double)r->n;
            for (int64_t i = 0; i < r->n; i++) {
                const double d = (double)column[i * r->inner] - mean;
                total += d * d;
            }
            r->mean[j] = (mmf_real)mean;
            y[j] = (mmf_real)(total * (double)r->scale);
        }
    }
}

static mmf_tensor *reduce(mmf_tape *tape, const char *op, reduction kind, mmf_tensor *x, int axis,
                          double scale)
{
    reduce_node r = {.kind = kind, .x = x, .scale = (mmf_real)scale};
    int64_t shape[MMF_MAX_DIMS] = {1};
    int n_dims = 1;
    if (axis == MMF_ALL_AXES) {
        r.outer = r.inner = 1;
        r.n = x->count;
    } else {
        const int d = mmf_tape__axis(x, axis);
        r.outer = mmf_tensor__outer(x, d);
        r.n = x->shape[d];
        r.inner = mmf_tensor__inner(x, d);
        n_dims = x->n_dims - 1;
        for (int i = 0; i < n_dims; i++)
            shape[i] = x->shape[i < d ? i : i + 1];
    }
    if (r.n == 0 && kind != REDUCE_SUM)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "the axis is empty");
    mmf_tensor *const y = mmf_tape__tensor(tape, n_dims, shape);
    if (!y)
        return NULL;
    const bool is_extreme = kind == REDUCE_MAX || kind == REDUCE_MIN;
    if (is_extreme)
        r.winner = mmf_tape__alloc(tape, (size_t)y->count * sizeof *r.winner);
    if (kind == REDUCE_VARIANCE)
        r.mean = mmf_tape__reals(tape, y->count);
    if (tape->status != MMF_OK)
        return NULL;
    if (kind == REDUCE_SUM)
        sum_forward(tape, &r, y->data);
    else if (is_extreme)
        extreme_forward(&r, y->data);
    else
        moment_forward(&r, y->data);
    reduce_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, reduce_backward);
    if (node) {
        r.node = node->node;
        *node = r;
    }
    return y;
}

/* The axis' length, or -1 after setting the error. */
static int64_t axis_length(mmf_tape *tape, const char *op, const mmf_tensor *x, int axis)
{
    if (!x) {
        mmf_tape__missing(tape, op);
        return -1;
    }
    if (axis == MMF_ALL_AXES)
        return x->count;
    const int d = mmf_tape__axis(x, axis);
    if (d < 0) {
        mmf_tape__fail(tape, MMF_SHAPE, op, "axis %d of a tensor with %d dimensions", axis,
                       x->n_dims);
        return -1;
    }
    return x->shape[d];
}

mmf_tensor *mmf_sum(mmf_tape *tape, mmf_tensor *x, int axis)
{
    return axis_length(tape, "sum", x, axis) < 0 ? NULL
                                                 : reduce(tape, "sum", REDUCE_SUM, x, axis, 1);
}

mmf_tensor *mmf_mean(mmf_tape *tape, mmf_tensor *x, int axis)
{
    const int64_t n = axis_length(tape, "mean", x, axis);
    return n < 0 ? NULL : reduce(tape, "mean", REDUCE_SUM, x, axis, 1.0 / (double)n);
}

mmf_tensor *mmf_max(mmf_tape *tape, mmf_tensor *x, int axis)
{
    return axis_length(tape, "max", x, axis) < 0 ? NULL
                                                 : reduce(tape, "max", REDUCE_MAX, x, axis, 1);
}

mmf_tensor *mmf_min(mmf_tape *tape, mmf_tensor *x, int axis)
{
    return axis_length(tape, "min", x, axis) < 0 ? NULL
                                                 : reduce(tape, "min", REDUCE_MIN, x, axis, 1);
}

mmf_tensor *mmf_logsumexp(mmf_tape *tape, mmf_tensor *x, int axis)
{
    static const char op[] = "logsumexp";
    return axis_length(tape, op, x, axis) < 0 ? NULL
                                              : reduce(tape, op, REDUCE_LOGSUMEXP, x, axis, 1);
}

mmf_tensor *mmf_variance(mmf_tape *tape, mmf_tensor *x, int axis, int correction)
{
    static const char op[] = "variance";
    const int64_t n = axis_length(tape, op, x, axis);
    if (n < 0)
        return NULL;
    if (n <= correction)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%lld values with correction %d", (long long)n,
                              correction);
    return reduce(tape, op, REDUCE_VARIANCE, x, axis, 1.0 / (double)(n - correction));
}

/* ---- Masked mean over time --------------------------------------------------------------- */

typedef struct masked_mean_node {
    mmf_node node;
    mmf_tensor *x;
    const mmf_tensor *length;
} masked_mean_node;

static int64_t valid_steps(const mmf_tensor *x, const mmf_tensor *length, int64_t b)
{
    const int64_t n = length ? length->ints[b] : x->shape[1];
    return n < 1 ? 1 : (n > x->shape[1] ? x->shape[1] : n);
}

static void masked_mean_backward(mmf_tape *tape, mmf_node *node)
{
    masked_mean_node *const m = (masked_mean_node *)node;
    const int64_t steps = m->x->shape[1], width = m->x->shape[2];
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, m->x);
    if (!dx)
        return;
    for (int64_t b = 0; b < m->x->shape[0]; b++) {
        const int64_t n = valid_steps(m->x, m->length, b);
        for (int64_t t = 0; t < n; t++)
            tape->k->axpby(width, 1 / (mmf_real)n, node->out->grad + b * width, 1,
                           dx + (b * steps + t) * width);
    }
}

mmf_tensor *mmf_masked_mean(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *length)
{
    static const char op[] = "masked_mean";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != 3 || x->shape[1] < 1 || (length && length->count != x->shape[0]))
        return mmf_tape__fail(tape, MMF_SHAPE, op, "takes (B, T, D) and one length a sample");
    const int64_t rows = x->shape[0], steps = x->shape[1], width = x->shape[2];
    mmf_tensor *const y = mmf_tape__tensor(tape, 2, (int64_t[]){rows, width});
    if (!y)
        return NULL;
    for (int64_t b = 0; b < rows; b++) {
        const int64_t n = valid_steps(x, length, b);
        tape->k->column_sum(n, width, 1 / (mmf_real)n, x->data + b * steps * width, 0,
                            y->data + b * width);
    }
    masked_mean_node *const m =
        mmf_tape__record(tape, sizeof *m, op, y, x->wants_grad, masked_mean_backward);
    if (m) {
        m->x = x;
        m->length = length;
    }
    return y;
}

/* ---- Examples: the three axes, and all --------------------------------------------------- */

enum { N_AXES = 4 };

static const int axes[N_AXES] = {0, 1, -1, MMF_ALL_AXES};

static mmf_tensor *cube(mmf_op_case *c)
{
    return mmf_case_input(c, -2, 2, 3, (int64_t[]){3, 5 * c->scale, 7});
}

static mmf_tensor *sum_example(mmf_op_case *c)
{
    return mmf_sum(c->tape, cube(c), axes[c->index]);
}

static mmf_tensor *mean_example(mmf_op_case *c)
{
    return mmf_mean(c->tape, cube(c), axes[c->index]);
}

static mmf_tensor *max_example(mmf_op_case *c)
{
    return mmf_max(c->tape, cube(c), axes[c->index]);
}

static mmf_tensor *min_example(mmf_op_case *c)
{
    return mmf_min(c->tape, cube(c), axes[c->index]);
}

static mmf_tensor *logsumexp_example(mmf_op_case *c)
{
    return mmf_logsumexp(c->tape, cube(c), axes[c->index]);
}

static mmf_tensor *variance_example(mmf_op_case *c)
{
    return mmf_variance(c->tape, cube(c), axes[c->index], c->index & 1);
}

static mmf_tensor *masked_mean_example(mmf_op_case *c)
{
    mmf_tensor *const x = cube(c);
    return mmf_masked_mean(c->tape, x, c->index ? mmf_case_ints(c, 1, 6, 1, (int64_t[]){3}) : NULL);
}

const mmf_op mmf_op_sum = {"sum", N_AXES, sum_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_mean = {"mean", N_AXES, mean_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_max = {"max", N_AXES, max_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_min = {"min", N_AXES, min_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_logsumexp = {"logsumexp", N_AXES, logsumexp_example, mmf_flops_elementwise,
                                 true};
const mmf_op mmf_op_variance = {"variance", N_AXES, variance_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_masked_mean = {"masked_mean", 2, masked_mean_example, mmf_flops_elementwise,
                                   true};
