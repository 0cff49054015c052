/*
 * views.h: the features of several modalities as views of one sample, for losses that compare them.
 */
#ifndef MMFUSE_NN_VIEWS_H
#define MMFUSE_NN_VIEWS_H

#include "mmfuse/nn.h"

/** Row of the option table of every loss over views. */
#define MMF_VIEW_WIDTH_OPTION                                                                      \
    {                                                                                              \
        "width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128",                                       \
            "common width of the projections, if features have different widths"                   \
    }

/** Vectors (B, D_m), one a modality, brought to one width. */
typedef struct mmf_views {
    const mmf_schema *inputs;
    mmf_linear_layer *projections; /* weight NULL: all have the same width already */
    mmf_tensor **x;                /* (B, D) each, of length one; those of the last run */
    mmf_tensor **present;          /* (B, 1), NULL: always there */
} mmf_views;

/** Reads the option `width`; projections are called `<modality>_projection`. */
mmf_views mmf_views_build(mmf_builder *builder, const mmf_config *config, const mmf_schema *inputs);
/** Fills `x` with rows of length one, and `present`. */
void mmf_views_run(mmf_tape *tape, const mmf_views *views, const mmf_named *in);

#endif
