/*
 * counter.h: counting the boxes that attention selects, so that overlapping ones count once.
 *
 * Zhang, Hare, Pruegel-Bennett, Learning to count objects in natural images for visual question
 * answering, ICLR 2018, as BAN uses it.
 */
#ifndef MMFUSE_MODELS_COUNTER_H
#define MMFUSE_MODELS_COUNTER_H

#include "mmfuse/nn.h"

/** Monotone piecewise linear functions f_0 .. f_15 on [0, 1]; the last eight are not used. */
#define MMF_COUNTER_CURVES 16

typedef struct mmf_counter {
    mmf_tensor *weight[MMF_COUNTER_CURVES]; /* (17); |w| / sum |w| are the steps of f */
    int64_t objects;
} mmf_counter;

/** Parameters `f.<i>.weight` in the scope `name`. @param objects  boxes that take part */
mmf_counter mmf_counter_build(mmf_builder *builder, const char *name, int64_t objects);
/**
 * @param boxes (B, R, 4 or more): x1, y1, x2, y2; not differentiated
 * @param scores (B, R) logits of the attention to a box
 * @param mask (B, R) or NULL: boxes that are there
 * @return (B, objects + 1): how sure a count is, interpolated between whole numbers
 */
mmf_tensor *mmf_counter_run(mmf_tape *tape, const mmf_counter *counter, mmf_tensor *boxes,
                            mmf_tensor *scores, mmf_tensor *mask);

#endif
