/*
 * modality_graph.c: the modalities of a sample as the nodes of a complete graph: `gcn`, `gat` and
 * `gatv2`.
 *
 * Nodes are encodings projected to one width plus a learned vector a modality; absent ones have no
 * edges and do not take part in the readout. Our own construction over the layers of Kipf and
 * Welling (ICLR 2017), Velickovic et al. (ICLR 2018) and Brody et al. (ICLR 2022), with one
 * addition: a root weight, H' = act(layer(H) + H W_root). On a complete graph every row of S is the
 * same, so that without it all nodes are equal after one graph convolution and the model is an MLP
 * over the mean of the modalities; `root` false gives that model.
 */
#include <math.h>
#include <string.h>

#include "models/parts.h"
#include "nn/graph.h"

#define COMMON_OPTIONS                                                                             \
    MMF_HIDDEN_OPTION, MMF_DROPOUT_OPTION, MMF_ENCODER_OPTION,                                     \
        {"layers", NULL, MMF_OPTION_INT, 1, 16, NULL, "2", "rounds of messages"},                  \
        {"root", NULL, MMF_OPTION_BOOL, 0,                                                         \
         0,      NULL, "true",          "a weight of its own for what a node keeps of itself"},    \
    {                                                                                              \
        "readout", NULL, MMF_OPTION_TEXT, 0, 0, "concat|mean|sum|attention", "concat",             \
            "how nodes become one vector: side by side with the presence of each, or over those "  \
            "present"                                                                              \
    }

#define ATTENTION_OPTIONS                                                                          \
    {"heads", NULL, MMF_OPTION_INT, 1, 64, NULL, "4", "heads; `hidden` is divided among them"},    \
    {                                                                                              \
        "negative_slope", NULL, MMF_OPTION_REAL, 0, 1, NULL, "0.2", "of the leaky ReLU"            \
    }

static const mmf_option gcn_options[] = {
    COMMON_OPTIONS,
    MMF_GRAPH_NORM_OPTION,
    {"self_loop", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1", "weight of a node's edge to itself"},
    {0},
};
static const mmf_option gat_options[] = {COMMON_OPTIONS, ATTENTION_OPTIONS, {0}};
static const mmf_option gatv2_options[] = {
    COMMON_OPTIONS,
    ATTENTION_OPTIONS,
    {"share_weights", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "one projection for neighbour and centre"},
    {0},
};

typedef enum readout { CONCAT, MEAN, SUM, ATTENTION } readout;

typedef struct graph_model {
    mmf_encoders encoders;
    mmf_linear_layer *project;
    mmf_tensor *type; /* (M, D): t_m */
    int64_t n_nodes, width, n_layers;
    bool is_gcn, may_be_absent;
    mmf_gcn_layer *gcn;
    mmf_gat_layer *gat;
    mmf_tensor **root; /* of attention layers; NULL: none */
    mmf_graph_norm norm;
    double self_loop, dropout;
    readout readout;
    mmf_linear_layer key, query; /* readout by attention */
    mmf_head head;
    mmf_tensor **nodes;
} graph_model;

/* ---- Building ---------------------------------------------------------------------------- */

static void build_gcn(mmf_builder *b, const mmf_config *config, graph_model *model)
{
    const bool root = mmf_config_bool(config, "root");
    model->norm = mmf_graph_norm_of(config);
    model->self_loop = mmf_config_real(config, "self_loop");
    for (int64_t i = 0; model->gcn && i < model->n_layers; i++)
        model->gcn[i] = mmf_gcn_build(b, mmf_builder_text(b, "gc%lld", (long long)i + 1),
                                      model->width, model->width, root);
}

static void build_gat(mmf_builder *b, const mmf_config *config, graph_model *model)
{
    const int64_t heads = mmf_config_int(config, "heads");
    const int64_t shape[] = {model->width, model->width};
    const bool v2 = mmf_option_find(mmf_config_def(config), "share_weights") != NULL;
    if (model->width % heads != 0)
        mmf_builder_fail(b, MMF_ARG, "hidden (%lld) must be a multiple of heads (%lld)",
                         (long long)model->width, (long long)heads);
    const mmf_gat_options o = {.inputs = model->width,
                               .width = model->width / heads,
                               .heads = heads,
                               .concat = true,
                               .v2 = v2,
                               .share_weights = v2 && mmf_config_bool(config, "share_weights"),
                               .slope = mmf_config_real(config, "negative_slope")};
    for (int64_t i = 0; model->gat && i < model->n_layers; i++) {
        const char *const name = mmf_builder_text(b, "conv%lld", (long long)i + 1);
        model->gat[i] = mmf_gat_build(b, name, &o);
        mmf_builder_enter(b, name);
        if (mmf_config_bool(config, "root"))
            model->root[i] = mmf_builder_param(b, "root", MMF_PARAM_TRAINED,
                                               mmf_init_xavier_uniform(2, shape), 2, shape);
        mmf_builder_leave(b);
    }
}

static int64_t build_readout(mmf_builder *b, const mmf_config *config, graph_model *model)
{
    static const char *const names[] = {"concat", "mean", "sum", "attention"};
    const char *const wanted = mmf_config_text(config, "readout");
    while (strcmp(names[model->readout], wanted) != 0)
        model->readout++;
    if (model->readout == ATTENTION) {
        model->key = mmf_linear_build(b, "readout.key", model->width, model->width, true);
        model->query = mmf_linear_build(b, "readout.query", model->width, 1, false);
    }
    return model->readout == CONCAT
               ? model->n_nodes * (model->width + (model->may_be_absent ? 1 : 0))
               : model->width;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    graph_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const size_t n = inputs->count;
    model->n_nodes = (int64_t)n;
    model->width = mmf_config_int(config, "hidden");
    model->n_layers = mmf_config_int(config, "layers");
    model->dropout = mmf_config_real(config, "dropout");
    model->is_gcn = mmf_option_find(mmf_config_def(config), "self_loop") != NULL;
    model->project = mmf_builder_alloc(b, n * sizeof *model->project);
    model->nodes = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    model->gcn = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->gcn);
    model->gat = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->gat);
    model->root = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof(mmf_tensor *));
    model->encoders = mmf_encoders_build(b, config, inputs, false);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    for (size_t m = 0; m < n; m++) {
        model->may_be_absent = model->may_be_absent || inputs->inputs[m].has_present;
        model->project[m] =
            mmf_linear_build(b, mmf_builder_text(b, "node.%s", inputs->inputs[m].name),
                             model->encoders.widths[m], model->width, true);
    }
    model->type = mmf_builder_param(b, "node.type", MMF_PARAM_TRAINED, mmf_init_normal(0.02), 2,
                                    (int64_t[]){model->n_nodes, model->width});
    if (model->is_gcn)
        build_gcn(b, config, model);
    else
        build_gat(b, config, model);
    model->head = mmf_head_build(b, config, build_readout(b, config, model));
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* x_m = relu(W_m u_m + b_m) + t_m. @return (B, M, D) */
static mmf_tensor *make_nodes(mmf_tape *tape, const graph_model *model)
{
    for (int64_t m = 0; m < model->n_nodes; m++)
        model->nodes[m] =
            mmf_linear_run(tape, &model->project[m], model->encoders.features[m], MMF_ACT_RELU);
    return mmf_add(tape, mmf_stack(tape, model->nodes, (int)model->n_nodes, 1), model->type);
}

/* Edges between present modalities: (B, M, M), or (M, M) if all are there. */
static mmf_tensor *edges(mmf_tape *tape, const graph_model *model, mmf_tensor *present)
{
    const int64_t m = model->n_nodes;
    if (!present)
        return mmf_full(tape, 2, (int64_t[]){m, m}, 1);
    return mmf_mul(tape, mmf_reshape(tape, present, 3, (int64_t[]){-1, m, 1}),
                   mmf_reshape(tape, present, 3, (int64_t[]){-1, 1, m}));
}

static mmf_tensor *run_gcn(mmf_tape *tape, const graph_model *model, mmf_tensor *h,
                           mmf_tensor *adjacency)
{
    mmf_tensor *const eye = mmf_identity(tape, model->n_nodes);
    mmf_tensor *const weights = /* 1, on the diagonal self_loop */
        mmf_affine(tape, eye, model->self_loop - 1, 1);
    mmf_tensor *const s =
        mmf_graph_propagation(tape, mmf_mul(tape, adjacency, weights), model->norm);
    for (int64_t i = 0; i < model->n_layers; i++) {
        h = mmf_relu(tape, mmf_gcn_run(tape, &model->gcn[i], h, s));
        h = i + 1 < model->n_layers ? mmf_dropout(tape, h, model->dropout) : h;
    }
    return h;
}

static mmf_tensor *run_gat(mmf_tape *tape, const graph_model *model, mmf_tensor *h,
                           mmf_tensor *adjacency, mmf_named *out)
{
    const int64_t m = model->n_nodes;
    mmf_tensor *const mask = mmf_reshape(
        tape, adjacency, 4, (int64_t[]){adjacency && adjacency->n_dims == 3 ? -1 : 1, 1, m, m});
    for (int64_t i = 0; i < model->n_layers; i++) {
        mmf_tensor *attention = NULL;
        mmf_tensor *y = mmf_gat_run(tape, &model->gat[i], h, mask, &attention);
        if (model->root[i])
            y = mmf_add(tape, y, mmf_matmul(tape, h, model->root[i], false, false));
        h = mmf_elu(tape, y, 1);
        h = i + 1 < model->n_layers ? mmf_dropout(tape, h, model->dropout) : h;
        mmf_named_putf(tape, out, attention, "attention.%lld", (long long)i + 1);
        mmf_named_axes(out, "BHQM");
    }
    return h;
}

/* (B, M, D) to one vector; nodes of absent modalities do not count. */
static mmf_tensor *read_out(mmf_tape *tape, const graph_model *model, mmf_tensor *h,
                            mmf_tensor *present)
{
    const int64_t m = model->n_nodes, d = model->width, rows = h ? h->shape[0] : 1;
    mmf_tensor *const mask =
        present ? mmf_reshape(tape, present, 3, (int64_t[]){rows, m, 1}) : NULL;
    if (model->readout == ATTENTION) {
        mmf_tensor *const k = mmf_linear_run(tape, &model->key, h, MMF_ACT_TANH);
        mmf_tensor *const scores = mmf_reshape(
            tape, mmf_linear_run(tape, &model->query, k, MMF_ACT_NONE), 2, (int64_t[]){rows, m});
        mmf_tensor *const weights = mmf_softmax(tape, scores, present, MMF_EMPTY_ZERO);
        return mmf_sum(tape,
                       mmf_mul(tape, h, mmf_reshape(tape, weights, 3, (int64_t[]){rows, m, 1})), 1);
    }
    if (mask)
        h = mmf_mul(tape, h, mask);
    if (model->readout == CONCAT) {
        mmf_tensor *const bits = present ? present : mmf_full(tape, 2, (int64_t[]){rows, m}, 1);
        mmf_tensor *const parts[] = {mmf_reshape(tape, h, 2, (int64_t[]){rows, m * d}), bits};
        return mmf_concat(tape, parts, model->may_be_absent ? 2 : 1, 1);
    }
    if (model->readout == SUM || !mask)
        return model->readout == SUM ? mmf_sum(tape, h, 1) : mmf_mean(tape, h, 1);
    return mmf_div(tape, mmf_sum(tape, h, 1), mmf_clamp(tape, mmf_sum(tape, mask, 1), 1, INFINITY));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const graph_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_tensor *const present = mmf_presence(tape, model->encoders.inputs, in);
    mmf_tensor *h = make_nodes(tape, model);
    mmf_tensor *const adjacency = edges(tape, model, present);
    h = model->is_gcn ? run_gcn(tape, model, h, adjacency)
                      : run_gat(tape, model, h, adjacency, out);
    mmf_named_put(tape, out, "node", h);
    mmf_head_run(tape, &model->head, read_out(tape, model, h, present), out);
}

#define ABSENT "its node has no edges and is left out of the readout"

const mmf_def mmf_model_gcn = {
    .name = "gcn",
    .title = "Graph convolution over the modalities of a sample",
    .paper = "Kipf, Welling, Semi-supervised classification with graph convolutional networks, "
             "ICLR 2017, arXiv:1609.02907; graph of modalities: our own",
    .equations = "H' = relu(S H W + H W_root + b), S = D^-1/2 A D^-1/2, A = v v'",
    .missing = ABSENT,
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = gcn_options,
    .build = build,
    .run = run,
};

const mmf_def mmf_model_gat = {
    .name = "gat",
    .title = "Graph attention over the modalities of a sample",
    .paper = "Velickovic, Cucurull, Casanova, Romero, Lio, Bengio, Graph attention networks, ICLR "
             "2018, arXiv:1710.10903; graph of modalities: our own",
    .equations = "H' = elu(sum_j softmax_j(leaky_relu(a_dst . W h_i + a_src . W h_j)) W h_j + "
                 "W_root h_i)",
    .missing = ABSENT,
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = gat_options,
    .build = build,
    .run = run,
};

const mmf_def mmf_model_gatv2 = {
    .name = "gatv2",
    .title = "Dynamic graph attention over the modalities of a sample",
    .paper = "Brody, Alon, Yahav, How attentive are graph attention networks?, ICLR 2022, "
             "arXiv:2105.14491; graph of modalities: our own",
    .equations =
        "H' = elu(sum_j softmax_j(a . leaky_relu(W_l h_j + W_r h_i)) W_l h_j + W_root h_i)",
    .missing = ABSENT,
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = gatv2_options,
    .build = build,
    .run = run,
};
