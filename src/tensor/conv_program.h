/*
 * conv_program.h: a network of convolutions as a list of steps, run in the back end's own layout.
 *
 * Inference only: batch norm is folded into the weights, a residual is added and ReLU applied as a
 * convolution writes its result, and images stay in blocks of channels from the first step to the
 * last. Where the back end has no such layout the caller runs operation by operation, which
 * computes the same.
 */
#ifndef MMFUSE_TENSOR_CONV_PROGRAM_H
#define MMFUSE_TENSOR_CONV_PROGRAM_H

#include "mmfuse/tensor.h"

enum { MMF_CONV_SLOTS = 4, MMF_CONV_INPUT = -1 };

/** A batch norm behind a convolution, with its running statistics. */
typedef struct mmf_conv_norm {
    const mmf_tensor *weight, *bias, *mean, *var;
    double eps;
} mmf_conv_norm;

/** One convolution, or pooling. */
typedef struct mmf_conv_step {
    const mmf_tensor *weight; /**< (O, C, kh, kw); NULL: maximum over the window */
    mmf_conv_norm norm;
    mmf_window window;
    int from, to; /**< slots that hold images; MMF_CONV_INPUT: what the program is given */
    bool add;     /**< to what stands in `to` */
    bool relu;    /**< at the end */
} mmf_conv_step;

typedef struct mmf_conv_program {
    const mmf_conv_step *steps; /**< the last one's `to` is the result */
    int n_steps;
} mmf_conv_program;

/**
 * @param x (B, C, H, W)  @return (B, C', H', W'); NULL without an error where this build, processor
 * or these sizes have no such layout
 */
mmf_tensor *mmf_conv_program_run(mmf_tape *tape, const mmf_conv_program *program, mmf_tensor *x);

#endif
