/* outer_kernels.h: the outer product of two vectors and its gradient, which reads dy once. */
#ifndef MMFUSE_KERNELS_OUTER_H
#define MMFUSE_KERNELS_OUTER_H

static void outer(int64_t n_i, int64_t n_j, const mmf_real *restrict a, const mmf_real *restrict b,
                  mmf_real *restrict y)
{
    for (int64_t i = 0; i < n_i; i++, y += n_j) {
        const mmf_real factor = a[i];
        for (int64_t j = 0; j < n_j; j++)
            y[j] = factor * b[j];
    }
}

static inline mmf_real outer_row_grad(int64_t n, mmf_real a, const mmf_real *restrict b,
                                      const mmf_real *restrict g, mmf_real *restrict db)
{
    mmf_real lanes[LANES] = {0}, rest = 0;
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += g[j + lane] * b[j + lane];
        for (int lane = 0; lane < LANES; lane++)
            db[j + lane] += a * g[j + lane];
    }
    for (; j < n; j++) {
        rest += g[j] * b[j];
        db[j] += a * g[j];
    }
    return fold_pairs(lanes) + rest;
}

static void outer_grad(int64_t n_i, int64_t n_j, const mmf_real *restrict a,
                       const mmf_real *restrict b, const mmf_real *restrict g, mmf_real beta_a,
                       mmf_real *restrict da, mmf_real beta_b, mmf_real *restrict db)
{
    if (db && beta_b == (mmf_real)0)
        fill(n_j, 0, db);
    for (int64_t i = 0; i < n_i; i++, g += n_j) {
        if (!db)
            da[i] = added(beta_a, da[i], dot(n_j, g, b));
        else if (!da)
            axpby(n_j, a[i], g, 1, db);
        else
            da[i] = added(beta_a, da[i], outer_row_grad(n_j, a[i], b, g, db));
    }
}

#endif
