/*
 * gat.c: graph attention, GAT and GATv2, over a dense adjacency or edges, and the registered layers
 * of these names.
 *
 * Velickovic, Cucurull, Casanova, Romero, Lio, Bengio, Graph attention networks, ICLR 2018, eq. (1)
 * to (6); Brody, Alon, Yahav, How attentive are graph attention networks?, ICLR 2022, eq. (7). An
 * edge is where the adjacency is not zero, its value is not read, and every node attends to itself.
 * Names of the authors' and PyTorch Geometric's files. GAT ranks neighbours the same way for every
 * node; GATv2 does not.
 */
#include <string.h>

#include "nn/graph.h"

static mmf_linear_layer projection(mmf_builder *b, const char *name, const mmf_gat_options *o,
                                   bool with_bias)
{
    const int64_t shape[] = {o->heads * o->width, o->inputs};
    mmf_linear_layer layer = {0};
    mmf_builder_enter(b, name);
    layer.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED,
                                     mmf_init_xavier_uniform(2, shape), 2, shape);
    if (with_bias)
        layer.bias =
            mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_fan_in(o->inputs), 1, shape);
    mmf_builder_leave(b);
    return layer;
}

mmf_gat_layer mmf_gat_build(mmf_builder *b, const char *name, const mmf_gat_options *o)
{
    const int64_t shape[] = {1, o->heads, o->width};
    const int64_t outputs = o->concat ? o->heads * o->width : o->width;
    const mmf_init init = mmf_init_xavier_uniform(3, shape);
    mmf_gat_layer layer = {.o = *o};
    mmf_builder_enter(b, name);
    if (o->v2) {
        layer.lin_l = projection(b, "lin_l", o, true);
        layer.lin_r = o->share_weights ? mmf_linear_alias(b, "lin_r", &layer.lin_l)
                                       : projection(b, "lin_r", o, true);
        layer.att = mmf_builder_param(b, "att", MMF_PARAM_TRAINED, init, 3, shape);
    } else {
        layer.lin = projection(b, "lin", o, false);
        layer.att_src = mmf_builder_param(b, "att_src", MMF_PARAM_TRAINED, init, 3, shape);
        layer.att_dst = mmf_builder_param(b, "att_dst", MMF_PARAM_TRAINED, init, 3, shape);
    }
    layer.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &outputs);
    mmf_builder_leave(b);
    return layer;
}

/* (B, N, K F) -> (B, K, N, F) */
static mmf_tensor *by_head(mmf_tape *tape, const mmf_gat_options *o, mmf_tensor *x)
{
    if (!x)
        return NULL;
    const int64_t shape[] = {x->shape[0], x->shape[1], o->heads, o->width};
    return mmf_permute(tape, mmf_reshape(tape, x, 4, shape), (int[]){0, 2, 1, 3});
}

/* a . g for every node, as a column or a row of the scores: (B, K, N, 1) or (B, K, 1, N). */
static mmf_tensor *score(mmf_tape *tape, const mmf_gat_options *o, mmf_tensor *g, mmf_tensor *a,
                         bool as_row)
{
    const int64_t n = g ? g->shape[2] : 1, shape[] = {-1, o->heads, as_row ? 1 : n, as_row ? n : 1};
    a = mmf_reshape(tape, a, 3, (int64_t[]){o->heads, 1, o->width});
    return mmf_reshape(tape, mmf_sum(tape, mmf_mul(tape, g, a), -1), 4, shape);
}

/* e_ij = a . leaky_relu(left_j + right_i). */
static mmf_tensor *score_v2(mmf_tape *tape, const mmf_gat_layer *layer, mmf_tensor *left,
                            mmf_tensor *right)
{
    const int64_t n = left ? left->shape[2] : 1, k = layer->o.heads, f = layer->o.width;
    left = mmf_reshape(tape, left, 5, (int64_t[]){-1, k, 1, n, f});
    right = mmf_reshape(tape, right, 5, (int64_t[]){-1, k, n, 1, f});
    mmf_tensor *const pairs = mmf_leaky_relu(tape, mmf_add(tape, left, right), layer->o.slope);
    mmf_tensor *const a = mmf_reshape(tape, layer->att, 4, (int64_t[]){k, 1, 1, f});
    return mmf_sum(tape, mmf_mul(tape, pairs, a), -1);
}

mmf_tensor *mmf_gat_run(mmf_tape *tape, const mmf_gat_layer *layer, mmf_tensor *nodes,
                        const mmf_tensor *mask, mmf_tensor **attention)
{
    const mmf_gat_options *const o = &layer->o;
    const mmf_linear_layer *const first = o->v2 ? &layer->lin_l : &layer->lin;
    mmf_tensor *const g = by_head(tape, o, mmf_linear_run(tape, first, nodes, MMF_ACT_NONE));
    mmf_tensor *e = NULL;
    if (o->v2) {
        mmf_tensor *const right =
            o->share_weights
                ? g
                : by_head(tape, o, mmf_linear_run(tape, &layer->lin_r, nodes, MMF_ACT_NONE));
        e = score_v2(tape, layer, g, right);
    } else {
        e = mmf_leaky_relu(tape,
                           mmf_add(tape, score(tape, o, g, layer->att_dst, false),
                                   score(tape, o, g, layer->att_src, true)),
                           o->slope);
    }
    *attention = mmf_softmax(tape, e, mask, MMF_EMPTY_ZERO);
    mmf_tensor *h = mmf_matmul(tape, *attention, g, false, false); /* (B, K, N, F) */
    if (o->concat)
        h = mmf_reshape(tape, mmf_permute(tape, h, (int[]){0, 2, 1, 3}), 3,
                        (int64_t[]){-1, nodes ? nodes->shape[1] : 1, o->heads * o->width});
    else
        h = mmf_mean(tape, h, 1);
    return mmf_add(tape, h, layer->bias);
}

/* (N, K F) -> (N, K, F) */
static mmf_tensor *split_heads(mmf_tape *tape, const mmf_gat_options *o, mmf_tensor *x)
{
    return mmf_reshape(tape, x, 3, (int64_t[]){-1, o->heads, o->width});
}

mmf_tensor *mmf_gat_run_edges(mmf_tape *tape, const mmf_gat_layer *layer, mmf_tensor *nodes,
                              const mmf_edges *edges, mmf_tensor **attention)
{
    const mmf_gat_options *const o = &layer->o;
    const mmf_linear_layer *const first = o->v2 ? &layer->lin_l : &layer->lin;
    mmf_tensor *const g = split_heads(tape, o, mmf_linear_run(tape, first, nodes, MMF_ACT_NONE));
    mmf_tensor *const sent = mmf_index_select(tape, g, edges->from);
    mmf_tensor *e = NULL; /* (E, K) */
    if (o->v2) {
        mmf_tensor *const right =
            o->share_weights
                ? g
                : split_heads(tape, o, mmf_linear_run(tape, &layer->lin_r, nodes, MMF_ACT_NONE));
        mmf_tensor *const pairs = mmf_add(tape, sent, mmf_index_select(tape, right, edges->to));
        e = mmf_sum(tape, mmf_mul(tape, mmf_leaky_relu(tape, pairs, o->slope), layer->att), -1);
    } else {
        mmf_tensor *const s = mmf_sum(tape, mmf_mul(tape, g, layer->att_dst), -1);
        mmf_tensor *const t = mmf_sum(tape, mmf_mul(tape, g, layer->att_src), -1);
        e = mmf_leaky_relu(tape,
                           mmf_add(tape, mmf_index_select(tape, s, edges->to),
                                   mmf_index_select(tape, t, edges->from)),
                           o->slope);
    }
    *attention = mmf_segment_softmax(tape, e, edges->to, edges->n_nodes);
    mmf_tensor *const weights = mmf_reshape(tape, *attention, 3, (int64_t[]){-1, o->heads, 1});
    mmf_tensor *h = mmf_scatter_add(tape, mmf_mul(tape, sent, weights), edges->to, edges->n_nodes);
    h = o->concat ? mmf_reshape(tape, h, 2, (int64_t[]){-1, o->heads * o->width})
                  : mmf_mean(tape, h, 1);
    return mmf_add(tape, h, layer->bias);
}

/* ---- The registered layers --------------------------------------------------------------- */

#define OPTIONS                                                                                    \
    {"hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "8", "width of a head"},                      \
        {"heads", NULL, MMF_OPTION_INTS, 1, 1024, NULL, "8", "heads of each layer"},               \
        {"layers",                                                                                 \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         64,                                                                                       \
         NULL,                                                                                     \
         "1",                                                                                      \
         "of several all but the last put their heads side by side, the last averages"},           \
        {"classes",                                                                                \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1000000,                                                                                  \
         NULL,                                                                                     \
         "0",                                                                                      \
         "outputs of a node after several layers; 0: `hidden`"},                                   \
        {"concat", NULL, MMF_OPTION_BOOL, 0,                                                       \
         0,        NULL, "true",          "one layer: heads side by side; else their mean"},       \
        {"activation",                                                                             \
         NULL,                                                                                     \
         MMF_OPTION_TEXT,                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         "none|elu|relu",                                                                          \
         "none",                                                                                   \
         "after a single layer, or between layers"},                                               \
    {                                                                                              \
        "negative_slope", NULL, MMF_OPTION_REAL, 0, 1, NULL, "0.2", "of the leaky ReLU"            \
    }

static const mmf_option gat_options[] = {OPTIONS, {0}};
static const mmf_option gatv2_options[] = {
    OPTIONS,
    {"share_weights", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "one projection for neighbour and centre"},
    {0},
};

typedef struct gat_network {
    mmf_gat_layer *layers;
    const char **attention; /* names of outputs */
    int64_t n_layers;
    char activation; /* 'n', 'e' or 'r' */
} gat_network;

/* @param o  of the first layer, but for its heads */
static void build_layers(mmf_builder *b, const mmf_config *config, gat_network *net,
                         mmf_gat_options o)
{
    const int64_t classes = mmf_config_int(config, "classes");
    const bool single = net->n_layers == 1;
    for (int64_t l = 0; l < net->n_layers; l++) {
        const bool last = l + 1 == net->n_layers;
        const long long number = (long long)l + 1;
        o.heads = (int64_t)mmf_config_number_at(config, "heads", (size_t)l);
        o.concat = single ? mmf_config_bool(config, "concat") : !last;
        o.width = last && !single && classes > 0 ? classes : o.width;
        net->layers[l] =
            mmf_gat_build(b, single ? "" : mmf_builder_text(b, "conv%lld", number), &o);
        net->attention[l] = single ? "attention" : mmf_builder_text(b, "attention.%lld", number);
        o.inputs = o.heads * o.width;
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const mmf_input_schema *const node = mmf_schema_find(inputs, "node");
    const mmf_def *const def = mmf_config_def(config);
    gat_network *const net = mmf_builder_alloc(b, sizeof *net);
    if (!net)
        return mmf_builder_status(b);
    if (!node || node->n_dims != 1 || !mmf_graph_is_given(inputs))
        return mmf_builder_fail(b, MMF_SHAPE,
                                "%s takes node (N, D) and adjacency (N, N), or adjacency.indptr "
                                "(N + 1) and .indices (E)",
                                def->name);
    mmf_gat_options o = {.inputs = node->shape[0],
                         .width = mmf_config_int(config, "hidden"),
                         .v2 = mmf_option_find(def, "share_weights") != NULL,
                         .slope = mmf_config_real(config, "negative_slope")};
    o.share_weights = o.v2 && mmf_config_bool(config, "share_weights");
    net->n_layers = mmf_config_int(config, "layers");
    net->activation = *mmf_config_text(config, "activation");
    net->layers = mmf_builder_alloc(b, (size_t)net->n_layers * sizeof *net->layers);
    net->attention = mmf_builder_alloc(b, (size_t)net->n_layers * sizeof *net->attention);
    if (net->layers && net->attention)
        build_layers(b, config, net, o);
    *self = net;
    return mmf_builder_status(b);
}

static mmf_tensor *activate(mmf_tape *tape, const gat_network *net, mmf_tensor *h)
{
    if (net->activation == 'n')
        return h;
    return net->activation == 'e' ? mmf_elu(tape, h, 1) : mmf_relu(tape, h);
}

/* (1, 1, N, N): where there is an edge, and every node itself. */
static mmf_tensor *edge_mask(mmf_tape *tape, mmf_tensor *adjacency)
{
    const int64_t n = adjacency ? adjacency->shape[0] : 1;
    mmf_tensor *const edges = mmf_sign(tape, mmf_abs(tape, mmf_detach(tape, adjacency)));
    return mmf_reshape(tape, mmf_maximum(tape, edges, mmf_identity(tape, n)), 4,
                       (int64_t[]){1, 1, n, n});
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const gat_network *const net = self;
    const bool sparse = mmf_graph_is_sparse(in);
    mmf_tensor *const x = mmf_named_get(in, "node");
    const int64_t n = x ? x->shape[0] : 1, width = x ? x->shape[1] : 1;
    mmf_edges edges = {0};
    mmf_tensor *mask = NULL, *h = x;
    if (sparse) {
        edges = mmf_edges_of_csr(tape, in, n, 1);
    } else {
        mask = edge_mask(tape, mmf_named_get(in, "adjacency"));
        h = mmf_reshape(tape, x, 3, (int64_t[]){1, n, width});
    }
    for (int64_t l = 0; l < net->n_layers; l++) {
        const mmf_gat_layer *const layer = &net->layers[l];
        mmf_tensor *attention = NULL;
        h = sparse ? mmf_gat_run_edges(tape, layer, h, &edges, &attention)
                   : mmf_gat_run(tape, layer, h, mask, &attention);
        if (l + 1 < net->n_layers || net->n_layers == 1)
            h = activate(tape, net, h);
        mmf_named_put(tape, out, net->attention[l], attention);
    }
    mmf_named_put(tape, out, "output", mmf_reshape(tape, h, 2, (int64_t[]){n, -1}));
}

const mmf_def mmf_layer_gat = {
    .name = "gat",
    .title = "Graph attention layer",
    .paper = "Velickovic, Cucurull, Casanova, Romero, Lio, Bengio, Graph attention networks, ICLR "
             "2018, arXiv:1710.10903",
    .equations = "e_ij = leaky_relu(a_dst . W h_i + a_src . W h_j), h'_i = sum_j softmax_j(e_ij) W "
                 "h_j",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY,
    .options = gat_options,
    .build = build,
    .run = run,
};

const mmf_def mmf_layer_gatv2 = {
    .name = "gatv2",
    .title = "Graph attention layer with dynamic attention",
    .paper = "Brody, Alon, Yahav, How attentive are graph attention networks?, ICLR 2022, "
             "arXiv:2105.14491",
    .equations = "e_ij = a . leaky_relu(W_l h_j + W_r h_i), h'_i = sum_j softmax_j(e_ij) W_l h_j",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY,
    .options = gatv2_options,
    .build = build,
    .run = run,
};
