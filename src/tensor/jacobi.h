/* jacobi.h: singular values and vectors of small matrices. */
#ifndef MMFUSE_TENSOR_JACOBI_H
#define MMFUSE_TENSOR_JACOBI_H

#include <stdint.h>

/**
 * A = U diag(s) V' by one-sided Jacobi rotations, in double precision, s falling.
 *
 * Of a symmetric matrix without negative eigenvalues s are the eigenvalues and V their vectors.
 *
 * @param columns  (n, m): row j is column j of A (m, n), and column j of U on return; a column
 *                 whose singular value is nothing beside the largest one becomes zeros
 * @param v        (n, n): row j is column j of V on return
 * @param s        (n)
 * @cost           about 6 m n^2 a sweep, 5 to 10 sweeps
 * @paper          Hestenes, Journal of SIAM 1958; de Rijk, SIAM J. Sci. Stat. Comput. 1989 (order)
 */
void mmf_jacobi_svd(double *columns, int64_t m, int64_t n, double *v, double *s);

#endif
