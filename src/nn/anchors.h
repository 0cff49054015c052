/*
 * anchors.h: training rows that a model keeps, so that rows it has never seen can be compared with
 * them.
 *
 * They are buffers, as running statistics are: filled in the first epoch by the rows that pass,
 * until there is no more room, saved with the model, and read from the second epoch on. Inputs are
 * kept and not features, which would be out of date after every step.
 */
#ifndef MMFUSE_NN_ANCHORS_H
#define MMFUSE_NN_ANCHORS_H

#include "mmfuse/nn.h"

typedef struct mmf_anchors {
    const mmf_schema *inputs;
    mmf_tensor **values; /* (R, D_m) a modality */
    mmf_tensor *present; /* (R, M) */
    mmf_tensor *filled;  /* (R): 1 where a row stands */
    int64_t count;       /* R */
} mmf_anchors;

/** Room for `count` rows of vectors: `<name>.<modality>`, `.present`, `.filled`. */
mmf_anchors mmf_anchors_build(mmf_builder *builder, const char *name, const mmf_schema *inputs,
                              int64_t count);
/** False while a training pass is to keep its rows instead of reading kept ones. */
bool mmf_anchors_ready(const mmf_step *step);
/** Keeps rows of a batch while there is room. */
void mmf_anchors_keep(mmf_tape *tape, const mmf_anchors *anchors, const mmf_named *in);
/** 1 where a row stands and has the modality. @return (R, M) */
mmf_tensor *mmf_anchors_present(mmf_tape *tape, const mmf_anchors *anchors);

#endif
