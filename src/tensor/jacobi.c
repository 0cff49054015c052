/*
 * jacobi.c: see jacobi.h. Jacobi because it is short, and because small singular values come out
 * with their own relative accuracy, which the inverse roots of covariances need.
 */
#include "tensor/jacobi.h"

#include <float.h>
#include <math.h>

#define LANES 8
/* Ten are many; the bound is for matrices that hold something that is no number. */
#define MAX_SWEEPS 60
/* Singular values below this share of the largest are rounding. */
#define NOTHING 1e-14

/* a.a, b.b and a.b in lanes, which the compiler makes vectors of. */
static void products(const double *a, const double *b, int64_t n, double out[3])
{
    double lanes[3][LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            lanes[0][l] += a[i + l] * a[i + l];
            lanes[1][l] += b[i + l] * b[i + l];
            lanes[2][l] += a[i + l] * b[i + l];
        }
    }
    for (; i < n; i++) {
        lanes[0][0] += a[i] * a[i];
        lanes[1][0] += b[i] * b[i];
        lanes[2][0] += a[i] * b[i];
    }
    for (int k = 0; k < 3; k++) {
        out[k] = 0;
        for (int l = 0; l < LANES; l++)
            out[k] += lanes[k][l];
    }
}

static void rotate(double *restrict a, double *restrict b, int64_t n, double c, double s)
{
    for (int64_t i = 0; i < n; i++) {
        const double x = a[i], y = b[i];
        a[i] = c * x - s * y;
        b[i] = s * x + c * y;
    }
}

/* The rotation that makes columns p and q orthogonal, the longer one first. */
static int meet(double *p, double *q, int64_t m, double *vp, double *vq, int64_t n)
{
    double all[3];
    products(p, q, m, all);
    const double pp = all[0], qq = all[1], pq = all[2];
    const int is_ordered = pp >= qq;
    if (!(fabs(pq) > (double)m * DBL_EPSILON * sqrt(pp * qq)) && is_ordered)
        return 0;
    const double h = (qq - pp) / 2;
    const double t = pq == 0 ? 0 : pq / (h + copysign(hypot(h, pq), h));
    double c = 1 / sqrt(1 + t * t), s = c * t;
    if (!is_ordered) { /* a quarter turn further: the same pair, changed about */
        const double kept = c;
        c = -s;
        s = kept;
    }
    rotate(p, q, m, c, s);
    rotate(vp, vq, n, c, s);
    return 1;
}

void mmf_jacobi_svd(double *columns, int64_t m, int64_t n, double *v, double *s)
{
    for (int64_t i = 0; i < n * n; i++)
        v[i] = i % (n + 1) == 0;
    int moved = 1;
    for (int sweep = 0; moved && sweep < MAX_SWEEPS; sweep++) {
        moved = 0;
        for (int64_t p = 0; p < n; p++) {
            for (int64_t q = p + 1; q < n; q++)
                moved += meet(columns + p * m, columns + q * m, m, v + p * n, v + q * n, n);
        }
    }
    for (int64_t j = 0; j < n; j++) {
        double *const u = columns + j * m;
        double all[3];
        products(u, u, m, all);
        s[j] = sqrt(all[0]);
        const double scale = s[j] > NOTHING * s[0] ? 1 / s[j] : 0;
        for (int64_t i = 0; i < m; i++)
            u[i] *= scale;
    }
}
