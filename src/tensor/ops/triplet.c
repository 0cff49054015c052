/*
 * triplet.c: a margin between how alike an anchor is to its positives and to its negatives, over
 * all triplets of a batch.
 *
 * As an expression of other operations it would hold N^3 elements; here the slopes are added up as
 * the triplets are met.
 */
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct triplet_node {
    mmf_node node;
    mmf_tensor *x;
    mmf_real *slope; /* d loss / d x */
} triplet_node;

typedef struct triplet_job {
    int64_t n;
    const mmf_real *x, *positive, *negative, *margin;
    mmf_real *slope;
    double *term; /* an anchor's mean over its triplets; negative: it has none */
} triplet_job;

static void triplet_range(void *argument, int64_t begin, int64_t end)
{
    const triplet_job *const job = argument;
    const int64_t n = job->n;
    for (int64_t i = begin; i < end; i++) {
        const mmf_real *const x = job->x + i * n, *const margin = job->margin + i * n;
        const mmf_real *const at_p = job->positive + i * n, *const at_n = job->negative + i * n;
        mmf_real *const slope = job->slope + i * n;
        int64_t n_positive = 0, n_negative = 0;
        for (int64_t j = 0; j < n; j++) {
            slope[j] = 0;
            n_positive += at_p[j] > 0;
            n_negative += at_n[j] > 0;
        }
        const double triplets = (double)n_positive * (double)n_negative;
        const mmf_real share = (mmf_real)(triplets > 0 ? 1 / triplets : 0);
        double sum = 0;
        for (int64_t p = 0; p < n; p++) {
            for (int64_t q = 0; at_p[p] > 0 && q < n; q++) {
                const mmf_real gap = margin[q] - x[p] + x[q];
                if (!(at_n[q] > 0) || !(gap > 0))
                    continue;
                sum += (double)gap;
                slope[p] -= share;
                slope[q] += share;
            }
        }
        job->term[i] = triplets > 0 ? sum / triplets : -1;
    }
}

static void triplet_backward(mmf_tape *tape, mmf_node *node)
{
    triplet_node *const t = (triplet_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, t->x, &fresh);
    if (dx)
        tape->k->axpby(t->x->count, node->out->grad[0], t->slope, fresh ? 0 : 1, dx);
}

mmf_tensor *mmf_triplet_loss(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *positive,
                             const mmf_tensor *negative, const mmf_tensor *margin)
{
    static const char op[] = "triplet_loss";
    if (!x || !positive || !negative || !margin)
        return mmf_tape__missing(tape, op);
    const mmf_tensor *const tables[] = {positive, negative, margin};
    for (int i = 0; i < 3; i++) {
        if (x->is_int || tables[i]->is_int || x->n_dims != 2 || x->shape[0] != x->shape[1] ||
            !mmf_tensor__same_shape(x, tables[i]))
            return mmf_tape__unfit(tape, op, x, tables[i], "four square tables of one size");
    }
    const int64_t n = x->shape[0];
    triplet_job job = {n, x->data, positive->data, negative->data, margin->data, NULL, NULL};
    job.slope = mmf_tape__reals(tape, x->count);
    job.term = mmf_tape__alloc(tape, (size_t)n * sizeof *job.term);
    mmf_tensor *const y = mmf_tape__tensor(tape, 1, (int64_t[]){1});
    if (!y || !job.slope || !job.term)
        return NULL;
    mmf_tape__parallel(tape, n, mmf_grain(n * n), triplet_range, &job);
    double sum = 0;
    int64_t anchors = 0;
    for (int64_t i = 0; i < n; i++) {
        anchors += job.term[i] >= 0;
        sum += job.term[i] >= 0 ? job.term[i] : 0;
    }
    const double share = anchors > 0 ? 1 / (double)anchors : 0;
    y->data[0] = (mmf_real)(sum * share);
    for (int64_t e = 0; e < x->count; e++)
        job.slope[e] *= (mmf_real)share;
    triplet_node *const t =
        mmf_tape__record(tape, sizeof *t, op, y, x->wants_grad, triplet_backward);
    if (t) {
        t->x = x;
        t->slope = job.slope;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

/* Rows of few classes; in the second example the first row, alone in its class, is no anchor. */
static mmf_tensor *triplet_loss_example(mmf_op_case *c)
{
    const int64_t n = 6 * c->scale;
    mmf_tensor *const x = mmf_case_input(c, -1, 1, 2, (int64_t[]){n, n});
    mmf_tensor *const row = mmf_range(c->tape, n, 0, 1);
    mmf_tensor *const pair = mmf_sign(c->tape, mmf_affine(c->tape, row, 1, c->index ? -0.5 : -2.5));
    mmf_tensor *const same = mmf_same_rows(c->tape, pair);
    mmf_tensor *const positive = mmf_sub(c->tape, same, mmf_identity(c->tape, n));
    mmf_tensor *const margin = mmf_case_constant(c, 0, 1, 2, (int64_t[]){n, n});
    return mmf_triplet_loss(c->tape, x, positive, mmf_affine(c->tape, same, -1, 1), margin);
}

static double triplet_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)out;
    const double n = 6 * (double)c->scale;
    return n * n * n;
}

const mmf_op mmf_op_triplet_loss = {"triplet_loss", 2, triplet_loss_example, triplet_flops, true};
