/* canonical.c: see canonical.h. */
#include "tensor/canonical.h"

#include <math.h>
#include <string.h>

#include "tensor/jacobi.h"
#include "tensor/tape.h"

/* Directions whose variance is below this share of the largest one do not vary. */
#define NO_VARIANCE 1e-12

/* ---- Moments ----------------------------------------------------------------------------- */

size_t mmf_moments_size(int64_t p, int64_t q)
{
    return (size_t)((p + q) * (p + q + 1));
}

mmf_moments mmf_moments_place(double *memory, int64_t p, int64_t q)
{
    double *const xx = memory + p + q, *const yy = xx + p * p;
    return (mmf_moments){p, q, 0, memory, memory + p, xx, yy, yy + q * q};
}

void mmf_moments_clear(mmf_moments *m)
{
    m->n = 0;
    memset(m->x, 0, mmf_moments_size(m->p, m->q) * sizeof *m->x);
}

/* out (p, q) += a b' */
static void add_outer(double *out, const mmf_real *a, int64_t p, const mmf_real *b, int64_t q)
{
    for (int64_t i = 0; i < p; i++) {
        const double scale = (double)a[i];
        for (int64_t j = 0; j < q; j++)
            out[i * q + j] += scale * (double)b[j];
    }
}

void mmf_moments_add(mmf_moments *m, const mmf_tensor *x, const mmf_tensor *y,
                     const mmf_tensor *both)
{
    if (!x || !y)
        return;
    for (int64_t row = 0; row < x->shape[0]; row++) {
        const mmf_real *const a = x->data + row * m->p, *const b = y->data + row * m->q;
        if (both && both->data[row] == 0)
            continue;
        m->n += 1;
        for (int64_t i = 0; i < m->p; i++)
            m->x[i] += (double)a[i];
        for (int64_t j = 0; j < m->q; j++)
            m->y[j] += (double)b[j];
        add_outer(m->xx, a, m->p, a, m->p);
        add_outer(m->yy, b, m->q, b, m->q);
        add_outer(m->xy, a, m->p, b, m->q);
    }
}

/* ---- Solving ----------------------------------------------------------------------------- */

/* Covariance of sums: (S - n mean mean') / (n - 1) + r I. */
static void covariance(double *out, const double *sums, const double *a, int64_t p, const double *b,
                       int64_t q, double n, double r)
{
    for (int64_t i = 0; i < p; i++) {
        for (int64_t j = 0; j < q; j++)
            out[i * q + j] = (sums[i * q + j] - n * a[i] * b[j]) / (n - 1);
        if (r > 0)
            out[i * q + i] += r;
    }
}

/* (n, m) = (n, k) (k, m) */
static void product(double *out, const double *a, const double *b, int64_t n, int64_t k, int64_t m)
{
    memset(out, 0, (size_t)(n * m) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t l = 0; l < k; l++) {
            const double scale = a[i * k + l];
            for (int64_t j = 0; j < m; j++)
                out[i * m + j] += scale * b[l * m + j];
        }
    }
}

/* `root` (n, n) becomes S^{-1/2}; S, `v` and `s` are destroyed. */
static void inverse_root(double *root, double *covariances, int64_t n, double *v, double *s)
{
    mmf_jacobi_svd(covariances, n, n, v, s);
    memset(root, 0, (size_t)(n * n) * sizeof *root);
    for (int64_t e = 0; e < n && s[e] > NO_VARIANCE * s[0]; e++) {
        const double *const u = v + e * n;
        const double scale = 1 / sqrt(s[e]);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++)
                root[i * n + j] += scale * u[i] * u[j];
        }
    }
}

/* out (n, k) = root (n, n) times the first k of the vectors that are the rows of `u`. */
static void project(double *out, const double *root, const double *u, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < k; c++) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++)
                sum += root[i * n + j] * u[c * n + j];
            out[i * k + c] = sum;
        }
    }
}

static void fix_signs(mmf_canonical *out, int64_t p, int64_t q)
{
    for (int64_t c = 0; c < out->k; c++) {
        double largest = 0;
        for (int64_t i = 0; i < p; i++) {
            const double value = out->a[i * out->k + c];
            largest = fabs(value) > fabs(largest) ? value : largest;
        }
        for (int64_t i = 0; largest < 0 && i < p; i++)
            out->a[i * out->k + c] *= -1;
        for (int64_t i = 0; largest < 0 && i < q; i++)
            out->b[i * out->k + c] *= -1;
    }
}

static double *doubles(mmf_tape *tape, int64_t n)
{
    double *const memory = mmf_tape__alloc(tape, (size_t)n * sizeof *memory);
    if (memory)
        memset(memory, 0, (size_t)n * sizeof *memory);
    return memory;
}

/* `t` holds S_xx^{-1/2} S_xy S_yy^{-1/2} by rows (p, q): as columns of its transpose (q, p), or,
 * where x is the wider one, turned into the columns of itself, so that there are few of them. */
static void directions(mmf_canonical *out, double *t, const double *root_x, const double *root_y,
                       int64_t p, int64_t q, double *turned, double *v, double *s)
{
    const bool few = p <= q;
    for (int64_t i = 0; !few && i < p; i++) {
        for (int64_t j = 0; j < q; j++)
            turned[j * p + i] = t[i * q + j];
    }
    mmf_jacobi_svd(few ? t : turned, few ? q : p, few ? p : q, v, s);
    project(out->a, root_x, few ? v : turned, p, out->k);
    project(out->b, root_y, few ? t : v, q, out->k);
    memcpy(out->d, s, (size_t)out->k * sizeof *s);
    fix_signs(out, p, q);
}

bool mmf_canonical_solve(mmf_tape *tape, const mmf_moments *m, int64_t k, double r,
                         mmf_canonical *out)
{
    const int64_t p = m->p, q = m->q, w = p > q ? p : q;
    *out = (mmf_canonical){.k = k,
                           .x_mean = doubles(tape, p),
                           .y_mean = doubles(tape, q),
                           .a = doubles(tape, p * k),
                           .b = doubles(tape, q * k),
                           .d = doubles(tape, k)};
    double *const root_x = doubles(tape, p * p), *const root_y = doubles(tape, q * q);
    double *const one = doubles(tape, w * w), *const two = doubles(tape, w * w);
    double *const v = doubles(tape, w * w), *const s = doubles(tape, w);
    if (mmf_tape_status(tape) != MMF_OK)
        return false;
    for (int64_t i = 0; m->n > 0 && i < p; i++)
        out->x_mean[i] = m->x[i] / m->n;
    for (int64_t j = 0; m->n > 0 && j < q; j++)
        out->y_mean[j] = m->y[j] / m->n;
    if (m->n < 2)
        return true;
    covariance(one, m->xx, out->x_mean, p, out->x_mean, p, m->n, r);
    inverse_root(root_x, one, p, v, s);
    covariance(one, m->yy, out->y_mean, q, out->y_mean, q, m->n, r);
    inverse_root(root_y, one, q, v, s);
    covariance(one, m->xy, out->x_mean, p, out->y_mean, q, m->n, 0);
    product(two, root_x, one, p, p, q);
    product(one, two, root_y, p, q, q);
    directions(out, one, root_x, root_y, p, q, two, v, s);
    return true;
}
