/* loss.c: training losses: one pass for the value, one for the gradient. */
#include <math.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* ---- Losses of two equal shapes ---------------------------------------------------------- */

typedef enum pair_loss { PAIR_L1, PAIR_MSE, PAIR_SMOOTH_L1, PAIR_BCE } pair_loss;

typedef struct pair_node {
    mmf_node node;
    pair_loss kind;
    mmf_tensor *x;
    const mmf_tensor *target, *weight;
    double beta;
} pair_node;

/* Value and slope of one element. BCE: w y softplus(-x) + (1 - y) softplus(x), w for positives. */
static double pair_value(const pair_node *p, int64_t i, double *slope)
{
    const double x = (double)p->x->data[i], y = (double)p->target->data[i], d = x - y;
    switch (p->kind) {
    case PAIR_L1:
        *slope = (d > 0) - (d < 0);
        return fabs(d);
    case PAIR_MSE:
        *slope = 2 * d;
        return d * d;
    case PAIR_SMOOTH_L1:
        if (fabs(d) < p->beta) {
            *slope = d / p->beta;
            return 0.5 * d * d / p->beta;
        }
        *slope = (d > 0) - (d < 0);
        return fabs(d) - 0.5 * p->beta;
    case PAIR_BCE: {
        const double w = p->weight ? (double)p->weight->data[i % p->weight->count] : 1;
        const double tail = log1p(exp(-fabs(x)));
        const double sigmoid = 1 / (1 + exp(-x));
        *slope = (1 - y) * sigmoid - w * y * (1 - sigmoid);
        return w * y * (fmax(-x, 0) + tail) + (1 - y) * (fmax(x, 0) + tail);
    }
    }
    return 0;
}

static void pair_backward(mmf_tape *tape, mmf_node *node)
{
    pair_node *const p = (pair_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, p->x, &fresh);
    const double scale = (double)node->out->grad[0] / (double)p->x->count;
    for (int64_t i = 0; dx && i < p->x->count; i++) {
        double slope = 0;
        pair_value(p, i, &slope);
        dx[i] = (fresh ? 0 : dx[i]) + (mmf_real)(scale * slope);
    }
}

static mmf_tensor *pair(mmf_tape *tape, const char *op, pair_node p)
{
    if (!p.x || !p.target)
        return mmf_tape__missing(tape, op);
    if (p.x->count != p.target->count || p.x->count == 0 || p.target->is_int)
        return mmf_tape__unfit(tape, op, p.x, p.target, "a real target for every prediction");
    mmf_tensor *const y = mmf_tape__tensor(tape, 1, (int64_t[]){1});
    if (!y)
        return NULL;
    double total = 0, slope = 0;
    for (int64_t i = 0; i < p.x->count; i++)
        total += pair_value(&p, i, &slope);
    y->data[0] = (mmf_real)(total / (double)p.x->count);
    pair_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, p.x->wants_grad, pair_backward);
    if (node) {
        p.node = node->node;
        *node = p;
    }
    return y;
}

mmf_tensor *mmf_l1_loss(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *target)
{
    return pair(tape, "l1_loss", (pair_node){.kind = PAIR_L1, .x = x, .target = target});
}

mmf_tensor *mmf_mse_loss(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *target)
{
    return pair(tape, "mse_loss", (pair_node){.kind = PAIR_MSE, .x = x, .target = target});
}

mmf_tensor *mmf_smooth_l1_loss(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *target, double beta)
{
    static const char op[] = "smooth_l1_loss";
    if (!(beta > 0))
        return mmf_tape__fail(tape, MMF_ARG, op, "threshold %g is not positive", beta);
    return pair(tape, op,
                (pair_node){.kind = PAIR_SMOOTH_L1, .x = x, .target = target, .beta = beta});
}

mmf_tensor *mmf_bce_logits(mmf_tape *tape, mmf_tensor *logits, const mmf_tensor *target,
                           const mmf_tensor *weight)
{
    return pair(tape, "bce_logits",
                (pair_node){.kind = PAIR_BCE, .x = logits, .target = target, .weight = weight});
}

/* ---- Losses of a row of scores ----------------------------------------------------------- */

typedef struct row_node {
    mmf_node node;
    mmf_tensor *x;
    int64_t width;
    mmf_real *slope; /* d loss / d x, before the incoming gradient */
} row_node;

static void row_backward(mmf_tape *tape, mmf_node *node)
{
    row_node *const r = (row_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, r->x, &fresh);
    if (dx)
        tape->k->axpby(r->x->count, node->out->grad[0], r->slope, fresh ? 0 : 1, dx);
}

/* A scalar output and, when recording, a zeroed slope of x's shape. */
static mmf_tensor *row_loss(mmf_tape *tape, const char *op, mmf_tensor *x, mmf_real **slope)
{
    *slope = mmf_tape__reals(tape, x->count);
    mmf_tensor *const y = mmf_tape__tensor(tape, 1, (int64_t[]){1});
    if (!y || !*slope)
        return NULL;
    memset(*slope, 0, (size_t)x->count * sizeof **slope);
    row_node *const r = mmf_tape__record(tape, sizeof *r, op, y, x->wants_grad, row_backward);
    if (r) {
        r->x = x;
        r->slope = *slope;
    }
    return y;
}

static bool fit_classes(mmf_tape *tape, const char *op, const mmf_tensor *x,
                        const mmf_tensor *classes, const mmf_tensor *weight)
{
    if (!x || !classes) {
        mmf_tape__missing(tape, op);
        return false;
    }
    if (x->n_dims != 2 || !classes->is_int || classes->count != x->shape[0] ||
        (weight && weight->count != x->shape[1])) {
        mmf_tape__unfit(tape, op, x, classes,
                        "takes (B, K), B integer classes and K class weights");
        return false;
    }
    for (int64_t i = 0; i < classes->count; i++) {
        if (classes->ints[i] >= x->shape[1]) {
            mmf_tape__fail(tape, MMF_ARG, op, "row %lld has class %lld, but there are %lld classes",
                           (long long)i, (long long)classes->ints[i], (long long)x->shape[1]);
            return false;
        }
    }
    return true;
}

static double log_of_sum(const mmf_real *x, int64_t n)
{
    double top = (double)x[0], total = 0;
    for (int64_t j = 1; j < n; j++)
        top = fmax(top, (double)x[j]);
    for (int64_t j = 0; j < n; j++)
        total += exp((double)x[j] - top);
    return top + log(total);
}

/*
 * Row loss: sum_j q_j (lse - x_j) with q_j = (1 - s) w_y [j = y] + s w_j / K, as PyTorch's: the
 * mean divides by the sum of w_y. Gradient: softmax_j sum(q) - q_j.
 */
mmf_tensor *mmf_cross_entropy(mmf_tape *tape, mmf_tensor *logits, const mmf_tensor *classes,
                              const mmf_tensor *weight, double smoothing)
{
    static const char op[] = "cross_entropy";
    if (!fit_classes(tape, op, logits, classes, weight))
        return NULL;
    if (!(smoothing >= 0 && smoothing < 1))
        return mmf_tape__fail(tape, MMF_ARG, op, "label smoothing %g is outside [0, 1)", smoothing);
    mmf_real *slope = NULL;
    mmf_tensor *const y = row_loss(tape, op, logits, &slope);
    if (!y)
        return NULL;
    const int64_t n = logits->shape[1];
    double total = 0, norm = 0;
    for (int64_t b = 0; b < logits->shape[0]; b++) {
        const int64_t truth = classes->ints[b];
        if (truth < 0)
            continue;
        const mmf_real *const x = logits->data + b * n;
        mmf_real *const g = slope + b * n;
        const double lse = log_of_sum(x, n), w_truth = weight ? (double)weight->data[truth] : 1;
        double q_sum = 0;
        for (int64_t j = 0; j < n; j++) {
            const double spread =
                smoothing > 0 ? smoothing * (weight ? (double)weight->data[j] : 1) / (double)n : 0;
            const double q = (j == truth ? (1 - smoothing) * w_truth : 0) + spread;
            q_sum += q;
            total += q > 0 ? q * (lse - (double)x[j]) : 0;
            g[j] = (mmf_real)-q;
        }
        for (int64_t j = 0; j < n; j++)
            g[j] += (mmf_real)(q_sum * exp((double)x[j] - lse));
        norm += w_truth;
    }
    const double scale = norm > 0 ? 1 / norm : 0;
    for (int64_t i = 0; i < logits->count; i++)
        slope[i] *= (mmf_real)scale;
    y->data[0] = (mmf_real)(total * scale);
    return y;
}

mmf_tensor *mmf_soft_cross_entropy(mmf_tape *tape, mmf_tensor *logits, const mmf_tensor *target)
{
    static const char op[] = "soft_cross_entropy";
    if (!logits || !target)
        return mmf_tape__missing(tape, op);
    if (logits->n_dims != 2 || target->is_int || !mmf_tensor__same_shape(logits, target))
        return mmf_tape__unfit(tape, op, logits, target, "a distribution a row");
    mmf_real *slope = NULL;
    mmf_tensor *const y = row_loss(tape, op, logits, &slope);
    if (!y)
        return NULL;
    const int64_t rows = logits->shape[0], n = logits->shape[1];
    double total = 0;
    for (int64_t b = 0; b < rows; b++) {
        const mmf_real *const x = logits->data + b * n, *const q = target->data + b * n;
        const double lse = log_of_sum(x, n);
        double q_sum = 0;
        for (int64_t j = 0; j < n; j++) {
            q_sum += (double)q[j];
            total += (double)q[j] * (lse - (double)x[j]);
        }
        for (int64_t j = 0; j < n; j++)
            slope[b * n + j] =
                (mmf_real)((q_sum * exp((double)x[j] - lse) - (double)q[j]) / (double)rows);
    }
    y->data[0] = (mmf_real)(total / (double)rows);
    return y;
}

mmf_tensor *mmf_nll_loss(mmf_tape *tape, mmf_tensor *log_p, const mmf_tensor *classes,
                         const mmf_tensor *weight)
{
    static const char op[] = "nll_loss";
    if (!fit_classes(tape, op, log_p, classes, weight))
        return NULL;
    mmf_real *slope = NULL;
    mmf_tensor *const y = row_loss(tape, op, log_p, &slope);
    if (!y)
        return NULL;
    double total = 0, norm = 0;
    for (int64_t b = 0; b < classes->count; b++)
        norm += classes->ints[b] < 0 ? 0 : (weight ? (double)weight->data[classes->ints[b]] : 1);
    for (int64_t b = 0; b < classes->count; b++) {
        if (classes->ints[b] < 0)
            continue;
        const double w = (weight ? (double)weight->data[classes->ints[b]] : 1) / norm;
        const int64_t at = b * log_p->shape[1] + classes->ints[b];
        total -= w * (double)log_p->data[at];
        slope[at] = (mmf_real)-w;
    }
    y->data[0] = (mmf_real)total;
    return y;
}

mmf_tensor *mmf_kl_loss(mmf_tape *tape, mmf_tensor *log_p, const mmf_tensor *target)
{
    static const char op[] = "kl_loss";
    if (!log_p || !target)
        return mmf_tape__missing(tape, op);
    if (log_p->n_dims < 1 || target->is_int || !mmf_tensor__same_shape(log_p, target))
        return mmf_tape__unfit(tape, op, log_p, target, "a distribution a row");
    mmf_real *slope = NULL;
    mmf_tensor *const y = row_loss(tape, op, log_p, &slope);
    if (!y)
        return NULL;
    const int64_t n_rows = log_p->count / log_p->shape[log_p->n_dims - 1];
    const double rows = (double)n_rows;
    double total = 0;
    for (int64_t i = 0; i < log_p->count; i++) {
        const double q = (double)target->data[i];
        total += q > 0 ? q * (log(q) - (double)log_p->data[i]) : 0;
        slope[i] = (mmf_real)(-q / rows);
    }
    y->data[0] = (mmf_real)(total / rows);
    return y;
}

/* 1 - cos for target +1, max(0, cos - margin) for -1. */
mmf_tensor *mmf_cosine_loss(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b, const mmf_tensor *target,
                            double margin)
{
    static const char op[] = "cosine_loss";
    mmf_tensor *const cosine = mmf_cosine(tape, a, b, 1e-8);
    if (!cosine || !target)
        return mmf_tape__missing(tape, op);
    if (target->count != cosine->count || target->is_int)
        return mmf_tape__unfit(tape, op, cosine, target, "one target of +1 or -1 a row");
    mmf_tensor *const same = mmf_full(tape, cosine->n_dims, cosine->shape, 0);
    mmf_tensor *const other = mmf_full(tape, cosine->n_dims, cosine->shape, 0);
    for (int64_t i = 0; same && other && i < target->count; i++) {
        same->data[i] = target->data[i] > 0 ? 1 : 0;
        other->data[i] = 1 - same->data[i];
    }
    mmf_tensor *const pull = mmf_mul(tape, same, mmf_affine(tape, cosine, -1, 1));
    mmf_tensor *const push =
        mmf_mul(tape, other, mmf_relu(tape, mmf_affine(tape, cosine, 1, -margin)));
    return mmf_mean(tape, mmf_add(tape, pull, push), MMF_ALL_AXES);
}

/* ---- Examples ---------------------------------------------------------------------------- */

enum { ROWS = 6, CLASSES = 5 };

static const int64_t matrix[] = {ROWS, CLASSES};

static mmf_tensor *l1_loss_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, -0.5, 2, matrix);
    return mmf_l1_loss(c->tape, x, mmf_case_constant(c, 0, 1, 2, matrix));
}

static mmf_tensor *mse_loss_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 2, matrix);
    return mmf_mse_loss(c->tape, x, mmf_case_constant(c, -1, 1, 2, matrix));
}

static mmf_tensor *smooth_l1_loss_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, c->index ? -0.1 : 2, c->index ? 0.1 : 3, 2, matrix);
    return mmf_smooth_l1_loss(c->tape, x, mmf_case_constant(c, -0.1, 0.1, 2, matrix), 0.7);
}

static mmf_tensor *cross_entropy_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 2, matrix);
    mmf_tensor *const weight = c->index & 1 ? mmf_case_constant(c, 0.5, 2, 1, matrix + 1) : NULL;
    mmf_tensor *const classes = mmf_case_ints(c, c->index > 1 ? -1 : 0, CLASSES, 1, matrix);
    return mmf_cross_entropy(c->tape, x, classes, weight, c->index > 1 ? 0.1 : 0);
}

static mmf_tensor *soft_cross_entropy_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 2, matrix);
    mmf_tensor *const scores = mmf_case_constant(c, -1, 1, 2, matrix);
    return mmf_soft_cross_entropy(c->tape, x, mmf_softmax(c->tape, scores, NULL, MMF_EMPTY_ZERO));
}

static mmf_tensor *bce_logits_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -3, 3, 2, matrix);
    mmf_tensor *const weight = c->index ? mmf_case_constant(c, 0.5, 2, 1, matrix + 1) : NULL;
    return mmf_bce_logits(c->tape, x, mmf_case_constant(c, 0, 1, 2, matrix), weight);
}

static mmf_tensor *nll_loss_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -3, 0, 2, matrix);
    mmf_tensor *const weight = c->index ? mmf_case_constant(c, 0.5, 2, 1, matrix + 1) : NULL;
    return mmf_nll_loss(c->tape, x, mmf_case_ints(c, 0, CLASSES, 1, matrix), weight);
}

static mmf_tensor *kl_loss_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -3, 0, 2, matrix);
    return mmf_kl_loss(c->tape, x, mmf_case_constant(c, 0.1, 1, 2, matrix));
}

static mmf_tensor *cosine_loss_example(mmf_op_case *c)
{
    mmf_tensor *const a = mmf_case_input(c, 0.1, 2, 2, matrix), *const b = mmf_case_input(
                                                                    c, 0.1, 2, 2, matrix);
    mmf_tensor *const target = mmf_full(c->tape, 1, matrix, 1);
    for (int64_t i = 0; target && i < ROWS; i += 2)
        target->data[i] = -1;
    return mmf_cosine_loss(c->tape, a, b, target, 0.1);
}

const mmf_op mmf_op_l1_loss = {"l1_loss", 1, l1_loss_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_mse_loss = {"mse_loss", 1, mse_loss_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_smooth_l1_loss = {"smooth_l1_loss", 2, smooth_l1_loss_example,
                                      mmf_flops_elementwise, true};
const mmf_op mmf_op_cross_entropy = {"cross_entropy", 4, cross_entropy_example,
                                     mmf_flops_elementwise, true};
const mmf_op mmf_op_soft_cross_entropy = {"soft_cross_entropy", 1, soft_cross_entropy_example,
                                          mmf_flops_elementwise, true};
const mmf_op mmf_op_bce_logits = {"bce_logits", 2, bce_logits_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_nll_loss = {"nll_loss", 2, nll_loss_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_kl_loss = {"kl_loss", 1, kl_loss_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_cosine_loss = {"cosine_loss", 1, cosine_loss_example, mmf_flops_elementwise,
                                   true};
