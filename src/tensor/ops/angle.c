/* angle.c: the angle of a cosine. */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* Elements a thread takes at once: the library's function costs about eight cheap operations. */
#define ACOS_COST 8

typedef struct acos_node {
    mmf_node node;
    mmf_tensor *x;
} acos_node;

typedef struct acos_job {
    const mmf_real *x, *dy;
    mmf_real *out; /* y forward, dx backward */
    bool fresh;
} acos_job;

static void forward_range(void *argument, int64_t begin, int64_t end)
{
    const acos_job *const job = argument;
    for (int64_t i = begin; i < end; i++)
        job->out[i] = (mmf_real)acos((double)job->x[i]);
}

/* d acos(x) / dx = -1 / sqrt(1 - x^2) */
static void backward_range(void *argument, int64_t begin, int64_t end)
{
    const acos_job *const job = argument;
    for (int64_t i = begin; i < end; i++) {
        const double x = (double)job->x[i];
        const mmf_real dx = (mmf_real)(-(double)job->dy[i] / sqrt((1 - x) * (1 + x)));
        job->out[i] = job->fresh ? dx : job->out[i] + dx;
    }
}

static void backward(mmf_tape *tape, mmf_node *node)
{
    const acos_node *const n = (const acos_node *)node;
    acos_job job = {.x = n->x->data, .dy = node->out->grad};
    job.out = mmf_tape__grad(tape, n->x, &job.fresh);
    if (job.out)
        mmf_tape__parallel(tape, n->x->count, mmf_grain(ACOS_COST), backward_range, &job);
}

mmf_tensor *mmf_acos(mmf_tape *tape, mmf_tensor *x)
{
    static const char op[] = "acos";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    for (int64_t i = 0; i < x->count; i++) {
        if (x->data[i] <= -1 || x->data[i] >= 1)
            return mmf_tape__fail(tape, MMF_ARG, op,
                                  "is for numbers between -1 and 1, where it has a slope, got %g; "
                                  "scale the cosine down or clamp it",
                                  (double)x->data[i]);
    }
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    if (!y)
        return NULL;
    acos_job job = {.x = x->data, .out = y->data};
    mmf_tape__parallel(tape, x->count, mmf_grain(ACOS_COST), forward_range, &job);
    acos_node *const n = mmf_tape__record(tape, sizeof *n, op, y, x->wants_grad, backward);
    if (n)
        n->x = x;
    return y;
}

static mmf_tensor *acos_example(mmf_op_case *c)
{
    return mmf_acos(c->tape, mmf_case_input(c, -0.9, 0.9, 2, (int64_t[]){3 * c->scale, 17}));
}

const mmf_op mmf_op_acos = {"acos", 1, acos_example, mmf_flops_elementwise, true};
