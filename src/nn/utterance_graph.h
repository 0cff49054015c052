/*
 * utterance_graph.h: the graph of MMGCN (Hu, Liu, Zhao, Jin, ACL-IJCNLP 2021): nodes joined by
 * edges as heavy as they are alike, and deep graph convolutions (GCNII, Chen et al., ICML 2020)
 * over it.
 */
#ifndef MMFUSE_NN_UTTERANCE_GRAPH_H
#define MMFUSE_NN_UTTERANCE_GRAPH_H

#include "nn/graph.h"

/** Rows of the option table. */
#define MMF_GCNII_OPTIONS                                                                           \
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "100", "width of the graph convolutions"},      \
        {"layers",                                                                                  \
         NULL,                                                                                      \
         MMF_OPTION_INT,                                                                            \
         1,                                                                                         \
         256,                                                                                       \
         NULL,                                                                                      \
         "4",                                                                                       \
         "graph convolutions (paper: 4; its released code ignores the option and has 64)"},         \
        {"alpha", NULL, MMF_OPTION_REAL, 0, 1, NULL, "0.1", "share of the first layer in each"},    \
        {"lambda", "lamda", MMF_OPTION_REAL, 0,                                                     \
         100,      NULL,    "0.5",           "layer l weighs its matrix with log(lambda / l + 1)"}, \
        {"variant",                                                                                 \
         NULL,                                                                                      \
         MMF_OPTION_BOOL,                                                                           \
         0,                                                                                         \
         0,                                                                                         \
         NULL,                                                                                      \
         "true",                                                                                    \
         "propagated and first features side by side before the matrix; else mixed"},               \
    {                                                                                               \
        "use_residue", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",                                   \
            "a node's input beside what the convolutions make of it"                                \
    }

typedef struct mmf_gcnii {
    mmf_linear_layer first;
    mmf_tensor **weights; /* (2 H, H) each, or (H, H) */
    int64_t n_layers;
    double alpha, lambda, dropout;
    bool variant, use_residue;
    int64_t width; /**< of what comes out */
} mmf_gcnii;

/** Reads the options above and `dropout`; parameters are `fcs.0` and `convs.<l>` of the scope. */
mmf_gcnii mmf_gcnii_build(mmf_builder *builder, const mmf_config *config, int64_t inputs);
/** @param nodes (..., N, D)  @param propagation (..., N, N)  @return (..., N, width) */
mmf_tensor *mmf_gcnii_run(mmf_tape *tape, const mmf_gcnii *net, mmf_tensor *nodes,
                          mmf_tensor *propagation);

/**
 * 1 - angle(x_i, x_j) / pi where the mask is 1, else 0. Cosines are scaled by 0.99999 to keep the
 * slope of the angle finite, so the edge of a node to itself is 0.9986.
 *
 * @param nodes (N, D) or (B, N, D)  @param mask (N, N) or (B, N, N)
 */
mmf_tensor *mmf_angular_edges(mmf_tape *tape, mmf_tensor *nodes, mmf_tensor *mask);

#endif
