/*
 * normed_linear.h: linear layers whose weight has one learned length, g v / |v| with |v| over the
 * whole matrix (PyTorch's weight_norm, dim None).
 */
#ifndef MMFUSE_NN_NORMED_LINEAR_H
#define MMFUSE_NN_NORMED_LINEAR_H

#include "mmfuse/nn.h"

typedef struct mmf_normed_linear {
    mmf_tensor *weight_v, *weight_g, *bias;
} mmf_normed_linear;
mmf_normed_linear mmf_normed_linear_build(mmf_builder *builder, const char *name, int64_t inputs,
                                          int64_t outputs);
/** The same without a bias. */
mmf_normed_linear mmf_normed_matrix_build(mmf_builder *builder, const char *name, int64_t inputs,
                                          int64_t outputs);
mmf_tensor *mmf_normed_linear_run(mmf_tape *tape, const mmf_normed_linear *layer, mmf_tensor *x,
                                  mmf_activation activation);
/** g v / |v| */
mmf_tensor *mmf_normed_weight(mmf_tape *tape, mmf_tensor *v, mmf_tensor *g);

#endif
