/*
 * multi_view.c: the registered layer `mv-gcn`: are the two subjects of a pair alike, judged by a
 * graph convolution over several views of each.
 *
 * Zhang, He, Chen, Luo, Zhou, Wang, AMIA 2018, over the released code's structure and names
 * (siamese_m_cgcnn). Deviations: `tie_branches`, on by default, shares weights between the two
 * subjects as the paper's siamese network does, where the code's branches own theirs; `lambda_max`
 * other than 2; further layers keep all nodes instead of pooling them on a coarsened graph.
 */
#include <string.h>

#include "nn/graph.h"

/* As TensorFlow's l2_normalize, which takes a square root of 1e-12. */
#define SHORTEST 1e-6
/* The released code's initialiser; ours does not cut off beyond two deviations. */
#define WEIGHT_DEVIATION 0.1
#define BIAS 0.1

static const mmf_option options[] = {
    {"chebyshev_order", NULL, MMF_OPTION_INT, 1, MMF_CHEBYSHEV_MAX, NULL, "30",
     "of the polynomials; 1: no graph"},
    {"filters", NULL, MMF_OPTION_INTS, 1, 8192, NULL, "128", "width of each layer"},
    {"layers", NULL, MMF_OPTION_INT, 1, 8, NULL, "1", "graph convolutions"},
    {"lambda_max", NULL, MMF_OPTION_REAL, 1e-3, 1000, NULL, "2",
     "largest eigenvalue of the Laplacian, or a bound on it"},
    {"tie_branches", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "the two subjects pass the same weights (released code: false)"},
    {"tie_views", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true", "all views pass the same weights"},
    {"view_pooling", NULL, MMF_OPTION_TEXT, 0, 0, "max|mean", "max", "over views"},
    {"classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "2", "outputs of a pair"},
    {0},
};

typedef struct convolution {
    mmf_tensor *weight, *bias;
} convolution;

typedef struct mv_gcn {
    convolution *layers; /* by layer, then branch, then view */
    int64_t n_layers, n_branches, n_views, order;
    int64_t views, nodes; /* of the input */
    double lambda_max;
    bool by_max;
    mmf_tensor **parts; /* of the last run */
    mmf_tensor *weight, *bias;
} mv_gcn;

static convolution build_convolution(mmf_builder *b, const char *name, int64_t nodes,
                                     int64_t inputs, int64_t outputs)
{
    return (convolution){
        .weight =
            mmf_builder_param(b, mmf_builder_text(b, "%s/weights", name), MMF_PARAM_TRAINED,
                              mmf_init_normal(WEIGHT_DEVIATION), 2, (int64_t[]){inputs, outputs}),
        .bias = mmf_builder_param(b, mmf_builder_text(b, "%s/bias", name), MMF_PARAM_TRAINED,
                                  mmf_init_constant(BIAS), 3, (int64_t[]){1, nodes, outputs})};
}

static void build_layers(mmf_builder *b, const mmf_config *config, mv_gcn *net, int64_t features)
{
    int64_t width = features;
    size_t at = 0;
    for (int64_t l = 0; l < net->n_layers; l++) {
        const int64_t filters = (int64_t)mmf_config_number_at(config, "filters", (size_t)l);
        for (int64_t branch = 0; branch < net->n_branches; branch++) {
            for (int64_t v = 0; v < net->n_views; v++) {
                const char *const view =
                    net->n_views > 1 ? mmf_builder_text(b, "view%lld/", (long long)v + 1) : "";
                const char *const name = mmf_builder_text(b, "siamese/%sconv%lld%lld", view,
                                                          (long long)branch + 1, (long long)l + 1);
                net->layers[at++] =
                    build_convolution(b, name, net->nodes, width * net->order, filters);
            }
        }
        width = filters;
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mv_gcn *const net = mmf_builder_alloc(b, sizeof *net);
    const mmf_input_schema *const node = mmf_schema_find(inputs, "node");
    if (!net)
        return mmf_builder_status(b);
    if (!node || node->n_dims != 4 || node->shape[3] != 2 || !mmf_schema_find(inputs, "adjacency"))
        return mmf_builder_fail(
            b, MMF_SHAPE,
            "mv-gcn takes node (pairs, views, nodes, features, 2) and adjacency "
            "(nodes, nodes)");
    const int64_t classes = mmf_config_int(config, "classes");
    net->views = node->shape[0];
    net->nodes = node->shape[1];
    net->n_layers = mmf_config_int(config, "layers");
    net->order = mmf_config_int(config, "chebyshev_order");
    net->lambda_max = mmf_config_real(config, "lambda_max");
    net->by_max = strcmp(mmf_config_text(config, "view_pooling"), "max") == 0;
    net->n_branches = mmf_config_bool(config, "tie_branches") ? 1 : 2;
    net->n_views = mmf_config_bool(config, "tie_views") ? 1 : net->views;
    net->layers = mmf_builder_alloc(b, (size_t)(net->n_layers * net->n_branches * net->n_views) *
                                           sizeof *net->layers);
    net->parts = mmf_builder_alloc(b, (size_t)net->views * sizeof(mmf_tensor *));
    if (net->layers)
        build_layers(b, config, net, node->shape[2]);
    net->weight =
        mmf_builder_param(b, "logits/weights", MMF_PARAM_TRAINED, mmf_init_normal(WEIGHT_DEVIATION),
                          2, (int64_t[]){net->nodes, classes});
    net->bias = mmf_builder_param(b, "logits/bias", MMF_PARAM_TRAINED, mmf_init_constant(BIAS), 1,
                                  &classes);
    *self = net;
    return mmf_builder_status(b);
}

/* D^-1/2 W D^-1/2 with a zero diagonal, for (pairs views) graphs where each pair has its own. */
static mmf_tensor *propagation(mmf_tape *tape, const mv_gcn *net, mmf_tensor *w)
{
    mmf_tensor *const others = mmf_affine(tape, mmf_identity(tape, net->nodes), -1, 1);
    mmf_tensor *const s = mmf_graph_propagation(tape, mmf_mul(tape, w, others), MMF_GRAPH_SYM);
    if (!s || s->n_dims == 2)
        return s;
    const int64_t n = net->nodes, pairs = s->shape[0];
    mmf_tensor *const each = mmf_reshape(tape, s, 4, (int64_t[]){pairs, 1, n, n});
    return mmf_reshape(tape, mmf_expand(tape, each, 4, (int64_t[]){pairs, net->views, n, n}), 3,
                       (int64_t[]){pairs * net->views, n, n});
}

/* One subject's views (pairs views, nodes, features) to one (pairs, nodes, filters). */
static mmf_tensor *subject(mmf_tape *tape, const mv_gcn *net, mmf_tensor *h, mmf_tensor *s,
                           int64_t branch)
{
    for (int64_t l = 0; h && l < net->n_layers; l++) {
        const convolution *const own =
            net->layers + (l * net->n_branches + branch % net->n_branches) * net->n_views;
        h = mmf_chebyshev_terms(tape, h, s, net->order, net->lambda_max);
        if (net->n_views > 1) { /* every view its own weights */
            const int64_t width = h ? h->shape[2] : 1;
            h = mmf_reshape(tape, h, 4, (int64_t[]){-1, net->views, net->nodes, width});
            for (int64_t v = 0; v < net->views; v++)
                net->parts[v] = mmf_add(tape,
                                        mmf_matmul(tape,
                                                   mmf_reshape(tape, mmf_slice(tape, h, 1, v, 1), 3,
                                                               (int64_t[]){-1, net->nodes, width}),
                                                   own[v].weight, false, false),
                                        own[v].bias);
            h = mmf_stack(tape, net->parts, (int)net->views, 1);
            h = h ? mmf_reshape(tape, h, 3, (int64_t[]){-1, net->nodes, h->shape[3]}) : NULL;
        } else {
            h = mmf_add(tape, mmf_matmul(tape, h, own->weight, false, false), own->bias);
        }
        h = mmf_relu(tape, h);
    }
    if (!h)
        return NULL;
    h = mmf_reshape(tape, h, 4, (int64_t[]){-1, net->views, net->nodes, h->shape[2]});
    return net->by_max ? mmf_max(tape, h, 1) : mmf_mean(tape, h, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mv_gcn *const net = self;
    mmf_tensor *const x = mmf_named_get(in, "node");
    mmf_tensor *const s = propagation(tape, net, mmf_named_get(in, "adjacency"));
    mmf_tensor *unit[2] = {NULL};
    for (int64_t i = 0; x && i < 2; i++) {
        mmf_tensor *const own = mmf_reshape(tape, mmf_slice(tape, x, 4, i, 1), 3,
                                            (int64_t[]){-1, net->nodes, x->shape[3]});
        unit[i] = mmf_l2_normalise(tape, subject(tape, net, own, s, i), SHORTEST);
    }
    mmf_tensor *const match = mmf_sum(tape, mmf_mul(tape, unit[0], unit[1]), -1);
    mmf_named_put(tape, out, "match", match);
    mmf_named_put(tape, out, "logit",
                  mmf_add(tape, mmf_matmul(tape, match, net->weight, false, false), net->bias));
}

const mmf_def mmf_layer_mv_gcn = {
    .name = "mv-gcn",
    .title = "Multi-view graph convolution over pairs of subjects",
    .paper = "Zhang, He, Chen, Luo, Zhou, Wang, Multi-view graph convolutional network and its "
             "applications on neuroimage analysis for Parkinson's disease, AMIA 2018, "
             "arXiv:1805.08801",
    .equations =
        "H_vs = relu([T_0(L') x_vs, T_1(L') x_vs, ...] W + b_n), L' = 2 L / lambda_max - I; P_s = "
        "max over v of H_vs; r_n = cosine(P_0n, P_1n); logits = r W + c. Both subjects pass the "
        "same weights unless tie_branches is false, as in the released code, whose cosine stands "
        "in for the paper's euclidean matching; no pooling of nodes between layers",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_ANY,
    .options = options,
    .build = build,
    .run = run,
};
