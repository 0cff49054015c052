/* gate.h: choosing one of several branches by a softmax that may be made hard. */
#ifndef MMFUSE_NN_GATE_H
#define MMFUSE_NN_GATE_H

#include "mmfuse/nn.h"

typedef enum mmf_gate_kind {
    MMF_GATE_SOFT,    /**< the softmax itself */
    MMF_GATE_HARD,    /**< 1 for the largest, 0 for the others; no gradient */
    MMF_GATE_STRAIGHT /**< that, with the gradient of the softmax (straight-through) */
} mmf_gate_kind;

/**
 * Weights of the branches. @param logits (B, E)  @param tau temperature of the softmax
 * @param soft  receives the softmax; may be NULL
 */
mmf_tensor *mmf_gate(mmf_tape *tape, mmf_tensor *logits, double tau, mmf_gate_kind kind,
                     mmf_tensor **soft);

#endif
