/*
 * conv_kernel.h: convolution and pooling as the back end of products provides them.
 *
 * For inference, one image in a layout of blocks of channels. With b = mmf_blas_block(): images are
 * [C / b][H][W][b], weights [O / b][C / b][kh][kw][b in][b out], zeros where C or O end within a
 * block; an image that is given row by row, [C][H][W], has weights [O / b][kh][kw][C][b out].
 * Weights of Winograd's algorithm are in a form that the back end makes itself.
 *
 * For networks in training, several images with channels last, [B][H][W][C], one kernel for the
 * result and one for each gradient; all weights are in a form that the back end makes itself.
 */
#ifndef MMFUSE_TENSOR_CONV_KERNEL_H
#define MMFUSE_TENSOR_CONV_KERNEL_H

#include "mmfuse/tensor.h"

enum {
    MMF_CONV_BLOCKS = 0, /* an image in blocks of channels, from x, weight and bias to y */
    MMF_CONV_FORWARD,    /* channels last, from x, weight and bias to y */
    MMF_CONV_DATA,       /* from y and weight to x: both are gradients */
    MMF_CONV_WEIGHTS,    /* from x and the gradient y to those of weight and bias */
};

/** What one kernel is made for; compared as bytes, so made from zeroed memory. */
typedef struct mmf_conv_shape {
    int64_t kind, images; /* images: with channels last */
    int64_t has_bias;     /* with channels last; of blocks always */
    int64_t inputs, outputs, height, width, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2];
    int64_t plain_input, add, relu, is_pool; /* 0 or 1, as wide as the others: no padding */
    int64_t winograd; /* F(2x2, 3x3), whose rounding is about that of the direct sum */
} mmf_conv_shape;

typedef struct mmf_conv_kernel mmf_conv_kernel;

/** Channels of a block; 0: this back end has no such layout on this processor. */
int64_t mmf_blas_block(void);
/** NULL where the back end has no fast kernel. Freed with mmf_blas_conv_free. */
mmf_conv_kernel *mmf_blas_conv_make(mmf_ctx *ctx, const mmf_conv_shape *shape);
void mmf_blas_conv_free(mmf_ctx *ctx, mmf_conv_kernel *kernel);
/** Bytes of scratch that every run needs. */
size_t mmf_blas_conv_scratch(const mmf_conv_kernel *kernel);
/** Bytes of weights in a form that the back end makes, and that form: of Winograd's algorithm, and
 * with channels last. @param weight [O][C][kh][kw] */
size_t mmf_blas_conv_weight_bytes(const mmf_conv_kernel *kernel);
bool mmf_blas_conv_pack(const mmf_conv_kernel *kernel, const mmf_real *weight, void *packed);
/** The reverse for MMF_CONV_WEIGHTS. */
bool mmf_blas_conv_unpack(const mmf_conv_kernel *kernel, void *packed, mmf_real *weight);
/** Both take weights in the same form. */
bool mmf_blas_conv_same_weights(const mmf_conv_kernel *a, const mmf_conv_kernel *b);

/** What a run reads and writes; which is which says the kind. */
typedef struct mmf_conv_arrays {
    mmf_real *x, *weight, *bias, *y;
} mmf_conv_arrays;
/** On the calling thread; false if the back end failed. A kernel may run on several threads at
 * once. */
bool mmf_blas_conv_run(const mmf_conv_kernel *kernel, const mmf_conv_arrays *arrays, void *scratch);

#endif
