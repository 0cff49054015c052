/*
 * conv_pieces.h: a batch of convolutions with channels last, piece by piece by the back end's
 * kernels.
 *
 * A piece is a power of two of images, so that few kernels serve every batch, and pieces depend on
 * sizes alone: results do not depend on the number of threads. False, without an error, where the
 * back end has no kernel; then nothing was written.
 */
#ifndef MMFUSE_TENSOR_CONV_PIECES_H
#define MMFUSE_TENSOR_CONV_PIECES_H

#include "tensor/geometry.h"

/** y = conv(x, w) + b. @param b  may be NULL */
bool mmf_conv_pieces_forward(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *x,
                             const mmf_tensor *w, const mmf_tensor *b, mmf_real *y);
/** dx +=, or = where `fresh`, the gradient for x. */
bool mmf_conv_pieces_data(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *w, mmf_real *dy,
                          bool fresh, mmf_real *dx);

/** Where gradients go: written if fresh, else added. */
typedef struct mmf_conv_gradients {
    mmf_real *weight, *bias; /**< bias: may be NULL */
    bool fresh_weight, fresh_bias;
} mmf_conv_gradients;
bool mmf_conv_pieces_weights(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *x,
                             mmf_real *dy, const mmf_conv_gradients *to);

#endif
