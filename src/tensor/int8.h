/*
 * int8.h: linear layers in eight bits, for inference that asks for them.
 *
 * Dynamic quantisation: a weight row has one scale (symmetric, 127 steps a side) and is brought to
 * bytes once, a row of x its own scale and zero, found as it comes. Products are exact in integers,
 * so every back end and any number of threads give the same bits.
 */
#ifndef MMFUSE_TENSOR_INT8_H
#define MMFUSE_TENSOR_INT8_H

#include "tensor/tape.h"

/**
 * act(x W' + b) for x (rows, inputs). False, and nothing done, where the pass does not ask for
 * eight bits, the weight is no parameter, or it is too small for the bytes to pay.
 */
bool mmf_int8_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, const mmf_tensor *b,
                     mmf_activation activation, mmf_tensor *y);

/** x W for x (rows, inputs) and a weight (inputs, outputs), as some papers' code has them; as
 * above. */
bool mmf_int8_product(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, mmf_tensor *y);

/** Frees what a tape keeps for these products. */
void mmf_int8_free(mmf_ctx *ctx, struct mmf_byte_cached *first);

#endif
