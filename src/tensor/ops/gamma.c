/*
 * gamma.c: logarithm of the gamma function and its derivative, for positive arguments: the losses
 * of Dirichlet distributions need them.
 *
 * Each is moved up by its recurrence to where the asymptotic series holds (Abramowitz and Stegun
 * 6.1.41, 6.3.18, 6.4.12), in double precision in both builds: they are few and far between.
 */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* From here on the series below are exact to 1e-15. */
#define SERIES_FROM 10.0
#define HALF_LOG_2PI 0.91893853320467274178

static double log_gamma(double x)
{
    double product = 1;
    for (; x < SERIES_FROM; x++)
        product *= x;
    const double r = 1 / x, r2 = r * r;
    const double series =
        r * (1.0 / 12 - r2 * (1.0 / 360 - r2 * (1.0 / 1260 - r2 * (1.0 / 1680 - r2 / 1188))));
    return (x - 0.5) * log(x) - x + HALF_LOG_2PI + series - log(product);
}

static double digamma(double x)
{
    double below = 0;
    for (; x < SERIES_FROM; x++)
        below += 1 / x;
    const double r = 1 / x, r2 = r * r;
    const double series =
        r2 * (1.0 / 12 -
              r2 * (1.0 / 120 -
                    r2 * (1.0 / 252 - r2 * (1.0 / 240 - r2 * (1.0 / 132 - r2 * 691.0 / 32760)))));
    return log(x) - r / 2 - series - below;
}

static double trigamma(double x)
{
    double below = 0;
    for (; x < SERIES_FROM; x++)
        below += 1 / (x * x);
    const double r = 1 / x, r2 = r * r;
    const double series =
        r2 *
        (1.0 / 6 -
         r2 * (1.0 / 30 - r2 * (1.0 / 42 - r2 * (1.0 / 30 - r2 * (5.0 / 66 - r2 * 691.0 / 2730)))));
    return r + r2 / 2 + r * series + below;
}

typedef double real_function(double x);

typedef struct gamma_node {
    mmf_node node;
    mmf_tensor *x;
    real_function *slope;
} gamma_node;

static void backward(mmf_tape *tape, mmf_node *node)
{
    const gamma_node *const g = (const gamma_node *)node;
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, g->x);
    for (int64_t i = 0; dx && i < g->x->count; i++)
        dx[i] += node->out->grad[i] * (mmf_real)g->slope((double)g->x->data[i]);
}

static mmf_tensor *apply(mmf_tape *tape, const char *op, real_function *f, real_function *slope,
                         mmf_tensor *x)
{
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    for (int64_t i = 0; i < x->count; i++) {
        if (x->data[i] <= 0)
            return mmf_tape__fail(tape, MMF_ARG, op, "is for positive numbers, got %g",
                                  (double)x->data[i]);
    }
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    for (int64_t i = 0; y && i < x->count; i++)
        y->data[i] = (mmf_real)f((double)x->data[i]);
    gamma_node *const node =
        y ? mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, backward) : NULL;
    if (node) {
        node->x = x;
        node->slope = slope;
    }
    return y;
}

mmf_tensor *mmf_log_gamma(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "log_gamma", log_gamma, digamma, x);
}

mmf_tensor *mmf_digamma(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "digamma", digamma, trigamma, x);
}

/* ---- Examples: small and large arguments, both sides of the series' start ----------------- */

static mmf_tensor *input(mmf_op_case *c)
{
    const int64_t shape[] = {3 * c->scale, 17};
    return mmf_case_input(c, c->index ? 8 : 0.3, c->index ? 60 : 4, 2, shape);
}

static mmf_tensor *log_gamma_example(mmf_op_case *c)
{
    return mmf_log_gamma(c->tape, input(c));
}

static mmf_tensor *digamma_example(mmf_op_case *c)
{
    return mmf_digamma(c->tape, input(c));
}

const mmf_op mmf_op_log_gamma = {"log_gamma", 2, log_gamma_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_digamma = {"digamma", 2, digamma_example, mmf_flops_elementwise, true};
