/*
 * canonical.h: canonical correlation analysis from second moments, in double precision.
 *
 * With the covariances S_xx + r I, S_yy + r I and S_xy of centred columns:
 * S_xx^{-1/2} S_xy S_yy^{-1/2} = U D V'; correlations D, projections A = S_xx^{-1/2} U and
 * B = S_yy^{-1/2} V (Hotelling, Biometrika 1936).
 */
#ifndef MMFUSE_TENSOR_CANONICAL_H
#define MMFUSE_TENSOR_CANONICAL_H

#include "mmfuse/tensor.h"

/** Sums over rows of two views, gathered batch by batch. Memory is the caller's. */
typedef struct mmf_moments {
    int64_t p, q; /* widths of x and y */
    double n;     /* rows */
    double *x, *y, *xx, *yy, *xy;
} mmf_moments;

/** Number of doubles that mmf_moments_place spreads. */
size_t mmf_moments_size(int64_t p, int64_t q);
/** Lays empty moments out in zeroed `memory`. */
mmf_moments mmf_moments_place(double *memory, int64_t p, int64_t q);
void mmf_moments_clear(mmf_moments *moments);
/** Adds rows. @param x (B, p)  @param y (B, q)  @param both (B) or (B, 1): 0 leaves a row out; NULL
 */
void mmf_moments_add(mmf_moments *moments, const mmf_tensor *x, const mmf_tensor *y,
                     const mmf_tensor *both);

typedef struct mmf_canonical {
    int64_t k;
    double *x_mean, *y_mean; /* (p), (q) */
    double *a, *b;           /* (p, k), (q, k); the largest entry of each column of a is positive */
    double *d;               /* (k), falling */
} mmf_canonical;

/**
 * The first k pairs of canonical directions; memory comes from the tape. Directions in which a view
 * does not vary are left out. With fewer than two rows everything is 0.
 *
 * @param k  in [1, min(p, q)]  @param r  added to the diagonals of both covariances, not negative
 * @return   false after setting the tape's error: out of memory
 */
bool mmf_canonical_solve(mmf_tape *tape, const mmf_moments *moments, int64_t k, double r,
                         mmf_canonical *out);

#endif
