/*
 * correlation.c: canonical correlations of two batches of vectors, with the closed form of their
 * gradient, so that no eigenvector is differentiated.
 */
#include <string.h>

#include "tensor/canonical.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct correlation_node {
    mmf_node node;
    mmf_tensor *x, *y;
    const mmf_tensor *both;
    mmf_canonical c;
    double n;
} correlation_node;

/* (x - mean) A of one row; zeros for a row that does not count. */
static void variates(const correlation_node *n, const mmf_tensor *x, const double *mean,
                     const double *a, int64_t row, double *out)
{
    const int64_t width = x->shape[1], k = n->c.k;
    memset(out, 0, (size_t)k * sizeof *out);
    for (int64_t i = 0; i < width; i++) {
        const double centred = (double)x->data[row * width + i] - mean[i];
        for (int64_t c = 0; c < k; c++)
            out[c] += centred * a[i * k + c];
    }
}

/*
 * T = S_xx^{-1/2} S_xy S_yy^{-1/2}, d_i = u_i' T v_i, hence
 *   G_xy = A diag(g) B' and G_xx = -A diag(g d) A' / 2 for the cotangent g of d,
 *   dx = (2 x G_xx + y G_xy') / (n - 1) = (y B diag(g) - x A diag(g d)) A' / (n - 1), x and y
 * centred; its columns have mean 0, so the mean that centring subtracts needs no term.
 */
static void add_gradient(mmf_tape *tape, const correlation_node *n, mmf_tensor *x, const double *a,
                         const double *x_mean, const mmf_tensor *y, const double *b,
                         const double *y_mean)
{
    const int64_t k = n->c.k, width = x->shape[1];
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, x);
    double *const own = mmf_tape__alloc(tape, 2 * (size_t)k * sizeof *own);
    if (!dx || !own || n->n < 2)
        return;
    double *const other = own + k;
    for (int64_t row = 0; row < x->shape[0]; row++) {
        if (n->both && n->both->data[row] == 0)
            continue;
        variates(n, x, x_mean, a, row, own);
        variates(n, y, y_mean, b, row, other);
        for (int64_t c = 0; c < k; c++)
            other[c] = (double)n->node.out->grad[c] * (other[c] - n->c.d[c] * own[c]) / (n->n - 1);
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t c = 0; c < k; c++)
                sum += other[c] * a[i * k + c];
            dx[row * width + i] += (mmf_real)sum;
        }
    }
}

static void backward(mmf_tape *tape, mmf_node *node)
{
    const correlation_node *const n = (const correlation_node *)node;
    add_gradient(tape, n, n->x, n->c.a, n->c.x_mean, n->y, n->c.b, n->c.y_mean);
    add_gradient(tape, n, n->y, n->c.b, n->c.y_mean, n->x, n->c.a, n->c.x_mean);
}

static mmf_tensor *to_tensor(mmf_tape *tape, const double *values, int n_dims, const int64_t *shape)
{
    mmf_tensor *const t = mmf_tape__tensor(tape, n_dims, shape);
    for (int64_t i = 0; t && i < t->count; i++)
        t->data[i] = (mmf_real)values[i];
    return t;
}

static bool fits(mmf_tape *tape, const char *op, const mmf_tensor *x, const mmf_tensor *y,
                 const mmf_tensor *both, int64_t k)
{
    if (!x || !y)
        return mmf_tape__missing(tape, op);
    if (x->is_int || y->is_int || (both && both->is_int))
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    if (x->n_dims != 2 || y->n_dims != 2 || x->shape[0] != y->shape[0] ||
        (both && both->count != x->shape[0]))
        return mmf_tape__unfit(tape, op, x, y, "two matrices with as many rows");
    if (k < 1 || k > x->shape[1] || k > y->shape[1])
        return mmf_tape__fail(tape, MMF_ARG, op, "%lld correlations of vectors %lld and %lld wide",
                              (long long)k, (long long)x->shape[1], (long long)y->shape[1]);
    return true;
}

mmf_correlation mmf_canonical_correlation(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y,
                                          const mmf_tensor *both, int64_t k, double r)
{
    static const char op[] = "canonical_correlation";
    mmf_correlation result = {0};
    if (!fits(tape, op, x, y, both, k))
        return result;
    const int64_t p = x->shape[1], q = y->shape[1];
    const size_t bytes = mmf_moments_size(p, q) * sizeof(double);
    double *const memory = mmf_tape__alloc(tape, bytes);
    mmf_canonical c = {0};
    if (!memory)
        return result;
    memset(memory, 0, bytes);
    mmf_moments moments = mmf_moments_place(memory, p, q);
    mmf_moments_add(&moments, x, y, both);
    if (!mmf_canonical_solve(tape, &moments, k, r, &c))
        return result;
    result.correlation = to_tensor(tape, c.d, 1, &k);
    result.x_projection = to_tensor(tape, c.a, 2, (int64_t[]){p, k});
    result.y_projection = to_tensor(tape, c.b, 2, (int64_t[]){q, k});
    correlation_node *const n = result.correlation
                                    ? mmf_tape__record(tape, sizeof *n, op, result.correlation,
                                                       x->wants_grad || y->wants_grad, backward)
                                    : NULL;
    if (n) {
        n->x = x;
        n->y = y;
        n->both = both;
        n->c = c;
        n->n = moments.n;
    }
    return result;
}

/* ---- Examples: y follows x, so that no correlation is near 0, where they are not smooth --- */

static mmf_tensor *canonical_correlation_example(mmf_op_case *c)
{
    const int64_t p = 2 + c->scale, q = c->index == 1 ? p + 2 : p, rows = 12 * q;
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 2, (int64_t[]){rows, p});
    mmf_tensor *const noise = mmf_case_input(c, -2, 2, 2, (int64_t[]){rows, q});
    mmf_tensor *y = noise;
    if (q == p && x && noise) {
        mmf_tensor *const slope = mmf_linspace(c->tape, p, 0.2, 2);
        y = mmf_add(c->tape, noise, mmf_mul(c->tape, x, slope));
    }
    return mmf_canonical_correlation(c->tape, x, y, NULL, c->index == 2 ? 1 : p, 1e-3).correlation;
}

static double canonical_correlation_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)out;
    const double p = 2 + (double)c->scale, q = c->index == 1 ? p + 2 : p;
    return 2 * 12 * q * (p * p + q * q + p * q);
}

const mmf_op mmf_op_canonical_correlation = {
    "canonical_correlation", 3, canonical_correlation_example, canonical_correlation_flops, true};
