/*
 * gcn.c: graph convolution over a dense adjacency or edges, and the registered classifier `gcn`.
 *
 * Kipf, Welling, Semi-supervised classification with graph convolutional networks, ICLR 2017, eq.
 * (2) and (9). The diagonal is set to `self_loop`, not added to. The released PyTorch code divides
 * rows by their sum instead of normalising symmetrically: `norm` row. Names of pygcn.
 */
#include <math.h>
#include <string.h>

#include "nn/graph.h"

/* A degree below this belongs to a node without edges: its row of A is zero, but in a directed
 * graph its column is not, so its scale is 0. */
#define MIN_DEGREE 1e-12

mmf_graph_norm mmf_graph_norm_of(const mmf_config *config)
{
    const char *const text = mmf_config_text(config, "norm");
    return strcmp(text, "sym") == 0   ? MMF_GRAPH_SYM
           : strcmp(text, "row") == 0 ? MMF_GRAPH_ROW
                                      : MMF_GRAPH_NONE;
}

mmf_tensor *mmf_graph_degree_scale(mmf_tape *tape, mmf_tensor *degree, mmf_graph_norm norm)
{
    mmf_tensor *const has_edges = mmf_clamp(tape, mmf_sign(tape, degree), 0, 1);
    degree = mmf_clamp(tape, degree, MIN_DEGREE, INFINITY);
    return mmf_mul(tape, mmf_pow(tape, degree, norm == MMF_GRAPH_SYM ? -0.5 : -1), has_edges);
}

mmf_tensor *mmf_graph_propagation(mmf_tape *tape, mmf_tensor *a, mmf_graph_norm norm)
{
    if (!a || norm == MMF_GRAPH_NONE)
        return a;
    const int64_t n = a->shape[a->n_dims - 1];
    const bool batched = a->n_dims == 3;
    const int64_t column[] = {batched ? -1 : n, batched ? n : 1, 1};
    const int64_t row[] = {batched ? -1 : 1, batched ? 1 : n, n};
    mmf_tensor *const scale = mmf_graph_degree_scale(tape, mmf_sum(tape, a, -1), norm);
    a = mmf_mul(tape, a, mmf_reshape(tape, scale, a->n_dims, column));
    return norm == MMF_GRAPH_SYM ? mmf_mul(tape, a, mmf_reshape(tape, scale, batched ? 3 : 2, row))
                                 : a;
}

mmf_gcn_layer mmf_gcn_build(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs,
                            bool with_root)
{
    const mmf_init init = mmf_init_uniform(1 / sqrt((double)outputs));
    const int64_t shape[] = {inputs, outputs};
    mmf_gcn_layer layer = {0};
    mmf_builder_enter(b, name);
    layer.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, init, 2, shape);
    layer.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, init, 1, &outputs);
    if (with_root)
        layer.root = mmf_builder_param(b, "root", MMF_PARAM_TRAINED, init, 2, shape);
    mmf_builder_leave(b);
    return layer;
}

static mmf_tensor *with_root(mmf_tape *tape, const mmf_gcn_layer *layer, mmf_tensor *nodes,
                             mmf_tensor *h)
{
    if (layer->root)
        h = mmf_add(tape, h, mmf_matmul(tape, nodes, layer->root, false, false));
    return mmf_add(tape, h, layer->bias);
}

mmf_tensor *mmf_gcn_run(mmf_tape *tape, const mmf_gcn_layer *layer, mmf_tensor *nodes,
                        mmf_tensor *propagation)
{
    mmf_tensor *const messages = mmf_matmul(tape, nodes, layer->weight, false, false);
    return with_root(tape, layer, nodes, mmf_matmul(tape, propagation, messages, false, false));
}

mmf_tensor *mmf_gcn_run_edges(mmf_tape *tape, const mmf_gcn_layer *layer, mmf_tensor *nodes,
                              const mmf_edges *edges)
{
    mmf_tensor *const messages = mmf_matmul(tape, nodes, layer->weight, false, false);
    return with_root(tape, layer, nodes, mmf_edges_sum(tape, edges, messages));
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "16", "width of the hidden nodes"},
    {"classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "2", "outputs of a node"},
    {"layers", NULL, MMF_OPTION_INT, 1, 64, NULL, "2", "graph convolutions, ReLU between them"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.5", "on hidden nodes"},
    MMF_GRAPH_NORM_OPTION,
    {"self_loop", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1",
     "what the diagonal of the adjacency is set to before it is normalised"},
    {0},
};

typedef struct gcn_classifier {
    mmf_gcn_layer *layers;
    int64_t n_layers;
    mmf_graph_norm norm;
    double dropout, self_loop;
} gcn_classifier;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const mmf_input_schema *const node = mmf_schema_find(inputs, "node");
    gcn_classifier *const net = mmf_builder_alloc(b, sizeof *net);
    if (!net)
        return mmf_builder_status(b);
    if (!node || node->n_dims != 1 || !mmf_graph_is_given(inputs))
        return mmf_builder_fail(b, MMF_SHAPE,
                                "gcn takes node (N, D) and adjacency (N, N), or "
                                "adjacency.indptr (N + 1) and .indices (E)");
    net->n_layers = mmf_config_int(config, "layers");
    net->norm = mmf_graph_norm_of(config);
    net->dropout = mmf_config_real(config, "dropout");
    net->self_loop = mmf_config_real(config, "self_loop");
    net->layers = mmf_builder_alloc(b, (size_t)net->n_layers * sizeof *net->layers);
    const int64_t hidden = mmf_config_int(config, "hidden");
    int64_t width = node->shape[0];
    for (int64_t i = 0; net->layers && i < net->n_layers; i++) {
        const int64_t to = i + 1 == net->n_layers ? mmf_config_int(config, "classes") : hidden;
        net->layers[i] =
            mmf_gcn_build(b, mmf_builder_text(b, "gc%lld", (long long)i + 1), width, to, false);
        width = to;
    }
    *self = net;
    return mmf_builder_status(b);
}

static mmf_tensor *dense_propagation(mmf_tape *tape, const gcn_classifier *net, mmf_tensor *a)
{
    a = mmf_detach(tape, a);
    mmf_tensor *const eye = mmf_identity(tape, a ? a->shape[0] : 1);
    mmf_tensor *const loops = mmf_add(tape, mmf_mul(tape, a, mmf_affine(tape, eye, -1, 1)),
                                      mmf_affine(tape, eye, net->self_loop, 0));
    return mmf_graph_propagation(tape, loops, net->norm);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const gcn_classifier *const net = self;
    mmf_tensor *h = mmf_named_get(in, "node"), *s = NULL;
    const bool sparse = mmf_graph_is_sparse(in);
    mmf_edges edges = {0};
    if (sparse) {
        edges = mmf_edges_of_csr(tape, in, h ? h->shape[0] : 1, net->self_loop);
        mmf_edges_normalise(tape, &edges, net->norm);
    } else {
        s = dense_propagation(tape, net, mmf_named_get(in, "adjacency"));
    }
    mmf_named_put(tape, out, "propagation", sparse ? edges.weight : s);
    for (int64_t i = 0; i < net->n_layers; i++) {
        h = sparse ? mmf_gcn_run_edges(tape, &net->layers[i], h, &edges)
                   : mmf_gcn_run(tape, &net->layers[i], h, s);
        if (i + 1 == net->n_layers)
            break;
        h = mmf_relu(tape, h);
        mmf_named_put(tape, out, "hidden", h);
        h = mmf_dropout(tape, h, net->dropout);
    }
    mmf_named_put(tape, out, "log_probability", mmf_log_softmax(tape, h, NULL, MMF_EMPTY_ZERO));
}

const mmf_def mmf_layer_gcn = {
    .name = "gcn",
    .title = "Graph convolutional network",
    .paper = "Kipf, Welling, Semi-supervised classification with graph convolutional networks, "
             "ICLR 2017, arXiv:1609.02907",
    .equations = "H' = relu(S H W + b), S = D^-1/2 A D^-1/2; log softmax of the last layer",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY,
    .options = options,
    .build = build,
    .run = run,
};
