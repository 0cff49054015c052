/* transport.c: plans that move one set of points onto another; without gradients. */
#include <math.h>
#include <string.h>

#include "tensor/tape.h"

typedef struct plan_job {
    const mmf_real *cost, *from, *to; /* from, to: 1 where there is a point; NULL: everywhere */
    int64_t n, m;
    double beta;
    int64_t n_iterations;
    double *kernel, *plan, *column; /* scratch of one sample: n m, n m, m */
    mmf_real *out;
} plan_job;

static int64_t points(const mmf_real *flags, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        n += !flags || flags[i] > 0;
    return n;
}

/*
 * With A = exp(-C / beta), T = 1, s = 1 / m, repeatedly Q = A T; d_j = 1 / (n sum_i Q_ji s_i);
 * s_i = 1 / (m sum_j d_j Q_ji); T_ji = d_j Q_ji s_i. Points that are not there have no mass.
 */
static void iterate(const plan_job *j)
{
    const int64_t n = points(j->from, j->n), m = points(j->to, j->m);
    memset(j->plan, 0, (size_t)(j->n * j->m) * sizeof *j->plan);
    if (n == 0 || m == 0)
        return;
    for (int64_t i = 0; i < j->m; i++)
        j->column[i] = 1.0 / (double)m;
    for (int64_t r = 0; r < j->n; r++) {
        for (int64_t c = 0; c < j->m; c++) {
            const bool there = (!j->from || j->from[r] > 0) && (!j->to || j->to[c] > 0);
            j->kernel[r * j->m + c] = there ? exp(-(double)j->cost[r * j->m + c] / j->beta) : 0;
            j->plan[r * j->m + c] = there;
        }
    }
    for (int64_t k = 0; k < j->n_iterations; k++) {
        for (int64_t r = 0; r < j->n; r++) {
            double *const row = j->plan + r * j->m;
            double sum = 0;
            for (int64_t c = 0; c < j->m; c++) {
                row[c] *= j->kernel[r * j->m + c];
                sum += row[c] * j->column[c];
            }
            const double d = sum > 0 ? 1 / ((double)n * sum) : 0;
            for (int64_t c = 0; c < j->m; c++)
                row[c] *= d;
        }
        for (int64_t c = 0; c < j->m; c++) {
            double sum = 0;
            for (int64_t r = 0; r < j->n; r++)
                sum += j->plan[r * j->m + c];
            j->column[c] = sum > 0 ? 1 / ((double)m * sum) : 0;
            for (int64_t r = 0; r < j->n; r++)
                j->plan[r * j->m + c] *= j->column[c];
        }
    }
}

mmf_tensor *mmf_transport_plan(mmf_tape *tape, const mmf_tensor *cost, const mmf_tensor *from,
                               const mmf_tensor *to, double beta, int64_t n_iterations)
{
    static const char op[] = "transport_plan";
    if (!cost)
        return mmf_tape__missing(tape, op);
    if (cost->is_int || cost->n_dims != 3 ||
        (from && from->count != cost->shape[0] * cost->shape[1]) ||
        (to && to->count != cost->shape[0] * cost->shape[2]))
        return mmf_tape__fail(tape, MMF_SHAPE, op, "takes costs (B, N, M), masks (B, N), (B, M)");
    if (!(beta > 0) || n_iterations < 1)
        return mmf_tape__fail(tape, MMF_ARG, op, "beta %g, %lld iterations: both are above 0", beta,
                              (long long)n_iterations);
    const int64_t n = cost->shape[1], m = cost->shape[2];
    mmf_tensor *const y = mmf_tape__tensor(tape, 3, cost->shape);
    double *const scratch = mmf_tape__alloc(tape, (size_t)(2 * n * m + m + 1) * sizeof *scratch);
    for (int64_t b = 0; y && scratch && b < cost->shape[0]; b++) {
        const plan_job job = {.cost = cost->data + b * n * m,
                              .from = from ? from->data + b * n : NULL,
                              .to = to ? to->data + b * m : NULL,
                              .n = n,
                              .m = m,
                              .beta = beta,
                              .n_iterations = n_iterations,
                              .kernel = scratch,
                              .plan = scratch + n * m,
                              .column = scratch + 2 * n * m};
        iterate(&job);
        for (int64_t i = 0; i < n * m; i++)
            y->data[b * n * m + i] = (mmf_real)job.plan[i];
    }
    return scratch ? y : NULL;
}
