/*
 * cholesky.c: systems and determinants of symmetric positive definite matrices, one a batch, by
 * Cholesky's factor. Meant for matrices of up to a few dozen rows, such as covariances: plain
 * loops.
 *
 * A matrix that is not positive definite gives NaN, as the logarithm of a negative number does.
 * Of a matrix the lower triangle is read. Its gradient is symmetric, as if both triangles counted
 * half.
 */
#include <math.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct cholesky_node {
    mmf_node node;
    mmf_tensor *a, *b; /* b NULL for the determinant */
    mmf_real *factor;
    int64_t batches, n, k;
} cholesky_node;

/* One pass over the batches. */
typedef struct cholesky_job {
    const cholesky_node *c;
    const mmf_real *from;     /* right-hand sides, or gradients of the solution */
    mmf_real *x;              /* (batches, n, k): solutions; forward: of the node */
    mmf_real *da, *db;        /* NULL where unwanted */
    bool fresh_a, fresh_b;    /* overwrite instead of add */
    const mmf_real *solution; /* backward of a solve */
} cholesky_job;

/* A = L L', row by row; NaN throughout where a pivot is not positive. */
static void factorise(const mmf_real *a, mmf_real *l, int64_t n)
{
    bool definite = true;
    for (int64_t i = 0; i < n && definite; i++) {
        for (int64_t j = 0; j <= i; j++) {
            double sum = (double)a[i * n + j];
            for (int64_t p = 0; p < j; p++)
                sum -= (double)l[i * n + p] * (double)l[j * n + p];
            l[i * n + j] = (mmf_real)(i == j ? sqrt(sum) : sum / (double)l[j * n + j]);
            definite = definite && (i != j || sum > 0);
        }
        for (int64_t j = i + 1; j < n; j++)
            l[i * n + j] = 0;
    }
    for (int64_t e = 0; !definite && e < n * n; e++)
        l[e] = NAN;
}

/* x <- (L L')^-1 x for x (n, k). */
static void substitute(const mmf_real *l, mmf_real *x, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            for (int64_t c = 0; c < k; c++)
                x[i * k + c] -= l[i * n + j] * x[j * k + c];
        }
        for (int64_t c = 0; c < k; c++)
            x[i * k + c] /= l[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t j = i + 1; j < n; j++) {
            for (int64_t c = 0; c < k; c++)
                x[i * k + c] -= l[j * n + i] * x[j * k + c];
        }
        for (int64_t c = 0; c < k; c++)
            x[i * k + c] /= l[i * n + i];
    }
}

static void factor_range(void *argument, int64_t begin, int64_t end)
{
    const cholesky_job *const job = argument;
    const int64_t n = job->c->n;
    for (int64_t i = begin; i < end; i++)
        factorise(job->c->a->data + i * n * n, job->c->factor + i * n * n, n);
}

/* Checks the matrices and factorises them; false after setting the error. */
static bool prepare(mmf_tape *tape, const char *op, cholesky_node *c)
{
    const mmf_tensor *const a = c->a;
    if (a->is_int || a->n_dims < 2 || a->shape[a->n_dims - 1] != a->shape[a->n_dims - 2] ||
        a->count == 0) {
        mmf_tape__fail(tape, MMF_SHAPE, op, "needs square matrices of reals");
        return false;
    }
    c->n = a->shape[a->n_dims - 1];
    c->batches = a->count / (c->n * c->n);
    c->factor = mmf_tape__reals(tape, a->count);
    if (!c->factor)
        return false;
    cholesky_job job = {.c = c};
    mmf_tape__parallel(tape, c->batches, mmf_grain(c->n * c->n * c->n / 3 + 1), factor_range, &job);
    return true;
}

/* ---- Solving ----------------------------------------------------------------------------- */

static void solve_range(void *argument, int64_t begin, int64_t end)
{
    const cholesky_job *const job = argument;
    const int64_t n = job->c->n, k = job->c->k;
    for (int64_t i = begin; i < end; i++) {
        mmf_real *const x = job->x + i * n * k;
        memcpy(x, job->from + i * n * k, (size_t)(n * k) * sizeof *x);
        substitute(job->c->factor + i * n * n, x, n, k);
    }
}

/* W = A^-1 dX: dB = W and dA = -W X', of which the symmetric part is taken. */
static void solve_backward_range(void *argument, int64_t begin, int64_t end)
{
    const cholesky_job *const job = argument;
    const int64_t n = job->c->n, k = job->c->k;
    solve_range(argument, begin, end);
    for (int64_t i = begin; i < end; i++) {
        const mmf_real *const w = job->x + i * n * k, *const x = job->solution + i * n * k;
        mmf_real *const da = job->da ? job->da + i * n * n : NULL;
        mmf_real *const db = job->db ? job->db + i * n * k : NULL;
        for (int64_t e = 0; db && e < n * k; e++)
            db[e] = (job->fresh_b ? 0 : db[e]) + w[e];
        for (int64_t e = 0; da && e < n * n; e++) {
            const int64_t r = e / n, s = e % n;
            double sum = 0;
            for (int64_t c = 0; c < k; c++)
                sum += (double)w[r * k + c] * (double)x[s * k + c] +
                       (double)w[s * k + c] * (double)x[r * k + c];
            da[e] = (job->fresh_a ? 0 : da[e]) - (mmf_real)(0.5 * sum);
        }
    }
}

static void spd_solve_backward(mmf_tape *tape, mmf_node *node)
{
    cholesky_node *const c = (cholesky_node *)node;
    cholesky_job job = {.c = c, .from = node->out->grad, .solution = node->out->data};
    job.x = mmf_tape__reals(tape, c->batches * c->n * c->k);
    if (!job.x)
        return;
    job.da = mmf_tape__grad(tape, c->a, &job.fresh_a);
    job.db = mmf_tape__grad(tape, c->b, &job.fresh_b);
    mmf_tape__parallel(tape, c->batches, mmf_grain(2 * c->n * c->n * c->k), solve_backward_range,
                       &job);
}

mmf_tensor *mmf_spd_solve(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    static const char op[] = "spd_solve";
    if (!a || !b)
        return mmf_tape__missing(tape, op);
    cholesky_node c = {.a = a, .b = b};
    const int d = a->n_dims;
    /* One tensor on both sides would have its first gradient overwritten by the second. */
    if (a == b || b->is_int || b->n_dims != d || d < 2 ||
        memcmp(a->shape, b->shape, (size_t)(d - 1) * sizeof *a->shape) != 0)
        return mmf_tape__unfit(tape, op, a, b, "matrices (..., n, n) and sides (..., n, k)");
    if (!prepare(tape, op, &c))
        return NULL;
    c.k = b->shape[d - 1];
    mmf_tensor *const x = mmf_tape__tensor(tape, d, b->shape);
    if (!x)
        return NULL;
    cholesky_job job = {.c = &c, .from = b->data, .x = x->data};
    mmf_tape__parallel(tape, c.batches, mmf_grain(2 * c.n * c.n * c.k), solve_range, &job);
    cholesky_node *const node = mmf_tape__record(
        tape, sizeof *node, op, x, a->wants_grad || b->wants_grad, spd_solve_backward);
    if (node) {
        c.node = node->node;
        *node = c;
    }
    return x;
}

/* ---- Determinants ------------------------------------------------------------------------ */

/* d log|A| / dA = A^-1. */
static void log_determinant_backward(mmf_tape *tape, mmf_node *node)
{
    cholesky_node *const c = (cholesky_node *)node;
    const int64_t n = c->n;
    bool fresh = false;
    mmf_real *const inverse = mmf_tape__reals(tape, n * n);
    mmf_real *const da = mmf_tape__grad(tape, c->a, &fresh);
    for (int64_t i = 0; da && inverse && i < c->batches; i++) {
        const mmf_real g = node->out->grad[i];
        for (int64_t e = 0; e < n * n; e++)
            inverse[e] = e / n == e % n ? 1 : 0;
        substitute(c->factor + i * n * n, inverse, n, n);
        tape->k->axpby(n * n, g, inverse, fresh ? 0 : 1, da + i * n * n);
    }
}

mmf_tensor *mmf_log_determinant(mmf_tape *tape, mmf_tensor *a)
{
    static const char op[] = "log_determinant";
    if (!a)
        return mmf_tape__missing(tape, op);
    cholesky_node c = {.a = a};
    if (!prepare(tape, op, &c))
        return NULL;
    const bool is_one = a->n_dims == 2;
    mmf_tensor *const y =
        mmf_tape__tensor(tape, is_one ? 1 : a->n_dims - 2, is_one ? (int64_t[]){1} : a->shape);
    for (int64_t i = 0; y && i < c.batches; i++) {
        double sum = 0;
        for (int64_t r = 0; r < c.n; r++)
            sum += log((double)c.factor[(i * c.n + r) * c.n + r]);
        y->data[i] = (mmf_real)(2 * sum);
    }
    cholesky_node *const node =
        y ? mmf_tape__record(tape, sizeof *node, op, y, a->wants_grad, log_determinant_backward)
          : NULL;
    if (node) {
        c.node = node->node;
        *node = c;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

/* M M' + I: symmetric whatever M's elements are moved by. */
static mmf_tensor *definite(mmf_op_case *c, int64_t batches, int64_t n)
{
    mmf_tensor *const m = batches > 1 ? mmf_case_input(c, -1, 1, 3, (int64_t[]){batches, n, n})
                                      : mmf_case_input(c, -1, 1, 2, (int64_t[]){n, n});
    return mmf_add(c->tape, mmf_matmul(c->tape, m, m, false, true), mmf_identity(c->tape, n));
}

static mmf_tensor *spd_solve_example(mmf_op_case *c)
{
    static const int64_t rows[] = {3, 7, 1}, sides[] = {2, 5, 1};
    const int64_t n = rows[c->index], k = sides[c->index] * c->scale;
    const int64_t batches = c->index == 1 ? 1 : 4;
    mmf_tensor *const a = definite(c, batches, n);
    mmf_tensor *const b = batches > 1 ? mmf_case_input(c, -2, 2, 3, (int64_t[]){batches, n, k})
                                      : mmf_case_input(c, -2, 2, 2, (int64_t[]){n, k});
    return mmf_spd_solve(c->tape, a, b);
}

static double spd_solve_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)c;
    const double n = (double)out->shape[out->n_dims - 2];
    const double k = (double)out->shape[out->n_dims - 1];
    return (double)out->count / (n * k) * (n * n * n / 3 + 2 * n * n * k);
}

static mmf_tensor *log_determinant_example(mmf_op_case *c)
{
    return mmf_log_determinant(c->tape, c->index ? definite(c, 1, 6) : definite(c, 5, 4));
}

static double log_determinant_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    const double n = c->index ? 6 : 4;
    return (double)out->count * n * n * n / 3;
}

const mmf_op mmf_op_spd_solve = {"spd_solve", 3, spd_solve_example, spd_solve_flops, true};
const mmf_op mmf_op_log_determinant = {"log_determinant", 2, log_determinant_example,
                                       log_determinant_flops, true};
