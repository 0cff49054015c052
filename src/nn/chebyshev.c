/*
 * chebyshev.c: polynomials of a graph's Laplacian.
 *
 * Defferrard, Bresson, Vandergheynst, Convolutional neural networks on graphs with fast localized
 * spectral filtering, NeurIPS 2016, eq. (4) and (5).
 */
#include "nn/graph.h"

/* L' x with L' = 2 L / lambda - I, L = I - S. */
static mmf_tensor *scaled_laplacian(mmf_tape *tape, mmf_tensor *x, mmf_tensor *s, double lambda_max)
{
    const double a = 2 / lambda_max;
    const int axis = x && x->n_dims == 3 ? 1 : 0;
    const int64_t senders = s ? s->shape[s->n_dims - 1] : 0;
    mmf_tensor *const sent =
        x && x->shape[axis] > senders ? mmf_slice(tape, x, axis, 0, senders) : x;
    mmf_tensor *const messages = mmf_affine(tape, mmf_matmul(tape, s, sent, false, false), -a, 0);
    return a < 1 || a > 1 ? mmf_add(tape, messages, mmf_affine(tape, x, a - 1, 0)) : messages;
}

mmf_tensor *mmf_chebyshev_terms(mmf_tape *tape, mmf_tensor *x, mmf_tensor *propagation,
                                int64_t order, double lambda_max)
{
    mmf_tensor *terms[MMF_CHEBYSHEV_MAX] = {x};
    if (!x || !propagation || order < 1 || order > MMF_CHEBYSHEV_MAX)
        return NULL;
    for (int64_t k = 1; k < order; k++) {
        mmf_tensor *const y = scaled_laplacian(tape, terms[k - 1], propagation, lambda_max);
        terms[k] = k == 1 ? y : mmf_sub(tape, mmf_affine(tape, y, 2, 0), terms[k - 2]);
    }
    int64_t shape[MMF_MAX_DIMS];
    for (int d = 0; d < x->n_dims; d++)
        shape[d] = x->shape[d];
    shape[x->n_dims - 1] *= order;
    return mmf_reshape(tape, mmf_stack(tape, terms, (int)order, -1), x->n_dims, shape);
}
