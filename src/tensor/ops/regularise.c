/* regularise.c: dropout, noise, gradient reversal and detach. */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct dropout_node {
    mmf_node node;
    mmf_tensor *x;
    uint64_t stream;
    mmf_real p; /* dropout's probability, or the factor of a reversed gradient */
} dropout_node;

typedef struct dropout_job {
    const mmf_tape *tape;
    uint64_t stream;
    mmf_real p, beta;
    const mmf_real *from;
    mmf_real *to;
} dropout_job;

static void dropout_range(void *argument, int64_t begin, int64_t end)
{
    const dropout_job *const j = argument;
    j->tape->k->dropout(begin, end - begin, j->tape->pass.seed, j->stream, j->p, j->from + begin,
                        j->to + begin, j->beta);
}

/* Ranges start at multiples of the generator's block; .4 ns an element. */
#define DROPOUT_GRAIN 65536

/* The mask is drawn again from its counters, so nothing is stored. */
static void dropout_backward(mmf_tape *tape, mmf_node *node)
{
    dropout_node *const d = (dropout_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, d->x, &fresh);
    if (!dx)
        return;
    dropout_job job = {tape, d->stream, d->p, fresh ? 0 : 1, node->out->grad, dx};
    mmf_tape__parallel(tape, d->x->count, DROPOUT_GRAIN, dropout_range, &job);
}

mmf_tensor *mmf_dropout(mmf_tape *tape, mmf_tensor *x, double p)
{
    static const char op[] = "dropout";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (!(p >= 0 && p < 1))
        return mmf_tape__fail(tape, MMF_ARG, op, "probability %g is outside [0, 1)", p);
    const uint64_t stream = mmf_tape__stream(tape);
    if (!tape->pass.training || p == 0)
        return x;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    if (!y)
        return NULL;
    dropout_job job = {tape, stream, (mmf_real)p, 0, x->data, y->data};
    mmf_tape__parallel(tape, x->count, DROPOUT_GRAIN, dropout_range, &job);
    dropout_node *const d =
        mmf_tape__record(tape, sizeof *d, op, y, x->wants_grad, dropout_backward);
    if (d) {
        d->x = x;
        d->stream = stream;
        d->p = (mmf_real)p;
    }
    return y;
}

mmf_tensor *mmf_normal_noise(mmf_tape *tape, int n_dims, const int64_t *shape)
{
    mmf_tensor *const y = mmf_tape__tensor(tape, n_dims, shape);
    mmf_rng rng = mmf_rng_make(tape->pass.seed, mmf_tape__stream(tape));
    for (int64_t i = 0; y && i < y->count; i++)
        y->data[i] = (mmf_real)mmf_rng_normal(&rng);
    return y;
}

mmf_tensor *mmf_gumbel_noise(mmf_tape *tape, int n_dims, const int64_t *shape)
{
    static const double smallest = 0x1p-54; /* half of the least number above 0 that is drawn */
    mmf_tensor *const y = mmf_tape__tensor(tape, n_dims, shape);
    mmf_rng rng = mmf_rng_make(tape->pass.seed, mmf_tape__stream(tape));
    for (int64_t i = 0; y && i < y->count; i++)
        y->data[i] = (mmf_real)-log(-log(fmax(mmf_rng_uniform(&rng), smallest)));
    return y;
}

static void reversal_backward(mmf_tape *tape, mmf_node *node)
{
    dropout_node *const d = (dropout_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, d->x, &fresh);
    if (dx)
        tape->k->axpby(d->x->count, -d->p, node->out->grad, fresh ? 0 : 1, dx);
}

mmf_tensor *mmf_gradient_reversal(mmf_tape *tape, mmf_tensor *x, double scale)
{
    static const char op[] = "gradient_reversal";
    if (!x)
        return mmf_tape__missing(tape, op);
    mmf_tensor *const y = mmf_input(tape, x->data, x->n_dims, x->shape);
    if (!y)
        return NULL;
    dropout_node *const d =
        mmf_tape__record(tape, sizeof *d, op, y, x->wants_grad, reversal_backward);
    if (d) {
        d->x = x;
        d->p = (mmf_real)scale;
    }
    return y;
}

mmf_tensor *mmf_detach(mmf_tape *tape, mmf_tensor *x)
{
    static const char op[] = "detach";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    return mmf_input(tape, x->data, x->n_dims, x->shape);
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *dropout_example(mmf_op_case *c)
{
    return mmf_dropout(c->tape, mmf_case_input(c, -2, 2, 2, (int64_t[]){7 * c->scale, 19}), 0.3);
}

/* Reversed with scale -1 the gradient is the true derivative, which is what the check can see. */
static mmf_tensor *gradient_reversal_example(mmf_op_case *c)
{
    return mmf_gradient_reversal(c->tape, mmf_case_input(c, -2, 2, 2, (int64_t[]){3, 5}), -1);
}

const mmf_op mmf_op_dropout = {"dropout", 1, dropout_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_gradient_reversal = {"gradient_reversal", 1, gradient_reversal_example,
                                         mmf_flops_elementwise, true};
