/*
 * graph.h: layers over graphs; A[i, j] weighs the message from j into i.
 *
 * Small graphs are dense: nodes (B, N, D) under one adjacency (N, N) or one a sample (B, N, N).
 * Large ones are lists of edges, which the registered layers read from compressed sparse rows, in
 * scipy's layout: `adjacency.indptr` (N + 1), `adjacency.indices` (E), and weights
 * `adjacency.data` (E) if they are not all 1.
 */
#ifndef MMFUSE_NN_GRAPH_H
#define MMFUSE_NN_GRAPH_H

#include "mmfuse/nn.h"

/* ---- Graph convolution ------------------------------------------------------------------- */

typedef enum mmf_graph_norm {
    MMF_GRAPH_SYM, /**< D^-1/2 A D^-1/2, the paper's */
    MMF_GRAPH_ROW, /**< D^-1 A, the released PyTorch code's */
    MMF_GRAPH_NONE
} mmf_graph_norm;

#define MMF_GRAPH_NORM_OPTION                                                                      \
    {                                                                                              \
        "norm", NULL, MMF_OPTION_TEXT, 0, 0, "sym|row|none", "sym",                                \
            "of the adjacency: D^-1/2 A D^-1/2 as in the paper, D^-1 A as in the released code"    \
    }
mmf_graph_norm mmf_graph_norm_of(const mmf_config *config);

/** The propagation matrix S of an adjacency with its self-loops. Rows without edges are zero. */
mmf_tensor *mmf_graph_propagation(mmf_tape *tape, mmf_tensor *adjacency, mmf_graph_norm norm);

/** What degrees scale with: d^-1/2, or d^-1 for MMF_GRAPH_ROW. @return degree's shape */
mmf_tensor *mmf_graph_degree_scale(mmf_tape *tape, mmf_tensor *degree, mmf_graph_norm norm);

/** True where a layer's inputs hold an adjacency of either form. */
bool mmf_graph_is_given(const mmf_schema *inputs);
bool mmf_graph_is_sparse(const mmf_named *in);

/** Edges without a gradient of their own. */
typedef struct mmf_edges {
    const mmf_tensor *to, *from; /**< integers (E) */
    mmf_tensor *weight;          /**< (E, 1) */
    int64_t n_nodes;
} mmf_edges;

/** The sparse rows of `in` with the diagonal set to `self_loop`; edges of weight 0 are left out. */
mmf_edges mmf_edges_of_csr(mmf_tape *tape, const mmf_named *in, int64_t n_nodes, double self_loop);
/** What mmf_graph_propagation does to a dense adjacency. */
void mmf_edges_normalise(mmf_tape *tape, mmf_edges *edges, mmf_graph_norm norm);
/** sum_j w_ij x_j. @param nodes (N, D)  @return (N, D) */
mmf_tensor *mmf_edges_sum(mmf_tape *tape, const mmf_edges *edges, mmf_tensor *nodes);

/** Weights in row layout, as in the reference: (inputs, outputs). */
typedef struct mmf_gcn_layer {
    mmf_tensor *weight, *bias;
    mmf_tensor *root; /**< of a node's own features, outside S; NULL: none */
} mmf_gcn_layer;

mmf_gcn_layer mmf_gcn_build(mmf_builder *builder, const char *name, int64_t inputs, int64_t outputs,
                            bool with_root);
/** S (H W) + b, and H W_root. @param nodes (B, N, D) or (N, D) */
mmf_tensor *mmf_gcn_run(mmf_tape *tape, const mmf_gcn_layer *layer, mmf_tensor *nodes,
                        mmf_tensor *propagation);
/** The same over normalised edges. @param nodes (N, D) */
mmf_tensor *mmf_gcn_run_edges(mmf_tape *tape, const mmf_gcn_layer *layer, mmf_tensor *nodes,
                              const mmf_edges *edges);

/* ---- Chebyshev polynomials --------------------------------------------------------------- */

#define MMF_CHEBYSHEV_MAX 64

/**
 * T_0(L') x, T_1(L') x, ... with L' = 2 L / lambda_max - I of the Laplacian L = I - S, side by
 * side: feature f of order k is column f order + k.
 *
 * @param x            (N, F) or (R, N, F)
 * @param propagation  S, (N, N) or (R, N, N); with fewer columns than rows, the nodes behind the
 *                     last column receive and do not send
 * @return             (..., N, F order)
 */
mmf_tensor *mmf_chebyshev_terms(mmf_tape *tape, mmf_tensor *x, mmf_tensor *propagation,
                                int64_t order, double lambda_max);

/* ---- Graph attention --------------------------------------------------------------------- */

typedef struct mmf_gat_options {
    int64_t inputs, width, heads; /**< width of one head */
    bool concat;                  /**< heads side by side; else their mean */
    bool v2, share_weights;
    double slope; /**< of the leaky ReLU */
} mmf_gat_options;

typedef struct mmf_gat_layer {
    mmf_gat_options o;
    mmf_linear_layer lin;          /* GAT */
    mmf_linear_layer lin_l, lin_r; /* GATv2: neighbour, centre */
    mmf_tensor *att_src, *att_dst; /* GAT: (1, K, F) */
    mmf_tensor *att;               /* GATv2 */
    mmf_tensor *bias;
} mmf_gat_layer;

mmf_gat_layer mmf_gat_build(mmf_builder *builder, const char *name, const mmf_gat_options *options);
/**
 * @param nodes      (B, N, D)
 * @param mask       (1 or B, 1, N, N): 1 where i may attend to j; rows of zeros attend to nothing
 * @param attention  (B, K, N, N)
 */
mmf_tensor *mmf_gat_run(mmf_tape *tape, const mmf_gat_layer *layer, mmf_tensor *nodes,
                        const mmf_tensor *mask, mmf_tensor **attention);
/** The same over edges, whose weights are not read. @param nodes (N, D)  @param attention (E, K) */
mmf_tensor *mmf_gat_run_edges(mmf_tape *tape, const mmf_gat_layer *layer, mmf_tensor *nodes,
                              const mmf_edges *edges, mmf_tensor **attention);

#endif
