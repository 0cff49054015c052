/*
 * utterance_graph.c: see utterance_graph.h; and the registered layer `mmgcn`, the multimodal part
 * of the paper's network over features of utterances.
 *
 * Hu, Liu, Zhao, Jin, MMGCN: Multimodal fusion via deep graph convolution network for emotion
 * recognition in conversation, ACL-IJCNLP 2021, eq. (2) to (8); Chen, Wei, Huang, Ding, Li, Simple
 * and deep graph convolutional networks, ICML 2020, eq. (5). Names of the authors' code, of whose
 * parameters those that it never uses are left out. Unlike it, this does not change its inputs.
 */
#include "nn/utterance_graph.h"

#include <math.h>
#include <string.h>

/* Keeps acos away from 1, where its slope is infinite. */
#define COSINE_SCALE 0.99999
/* A vector shorter than this has no direction: it is at a right angle to every other. */
#define SHORTEST 1e-8
#define PI 3.14159265358979323846

/* ---- Edges ------------------------------------------------------------------------------- */

mmf_tensor *mmf_angular_edges(mmf_tape *tape, mmf_tensor *nodes, mmf_tensor *mask)
{
    if (!nodes)
        return NULL;
    mmf_tensor *const unit = mmf_l2_normalise(tape, nodes, SHORTEST);
    mmf_tensor *const eye = mmf_identity(tape, nodes->shape[nodes->n_dims - 2]);
    mmf_tensor *cosine = mmf_matmul(tape, unit, unit, false, true);
    /* A node and itself: 1 by definition, and the steep slope there must not amplify rounding. */
    cosine = mmf_add(tape, mmf_mul(tape, cosine, mmf_affine(tape, eye, -1, 1)), eye);
    mmf_tensor *const angle = mmf_acos(tape, mmf_affine(tape, cosine, COSINE_SCALE, 0));
    return mmf_mul(tape, mmf_affine(tape, angle, -1 / PI, 1), mask);
}

/* ---- Convolutions ------------------------------------------------------------------------ */

mmf_gcnii mmf_gcnii_build(mmf_builder *b, const mmf_config *config, int64_t inputs)
{
    const int64_t hidden = mmf_config_int(config, "hidden");
    mmf_gcnii net = {.n_layers = mmf_config_int(config, "layers"),
                     .alpha = mmf_config_real(config, "alpha"),
                     .lambda = mmf_config_real(config, "lambda"),
                     .dropout = mmf_config_real(config, "dropout"),
                     .variant = mmf_config_bool(config, "variant"),
                     .use_residue = mmf_config_bool(config, "use_residue")};
    const int64_t shape[] = {net.variant ? 2 * hidden : hidden, hidden};
    net.width = hidden + (net.use_residue ? inputs : 0);
    net.weights = mmf_builder_alloc(b, (size_t)net.n_layers * sizeof *net.weights);
    for (int64_t l = 0; net.weights && l < net.n_layers; l++) {
        mmf_builder_enter(b, mmf_builder_text(b, "convs.%lld", (long long)l));
        net.weights[l] = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED,
                                           mmf_init_uniform(1 / sqrt((double)hidden)), 2, shape);
        mmf_builder_leave(b);
    }
    net.first = mmf_linear_build(b, "fcs.0", inputs, hidden, true);
    return net;
}

mmf_tensor *mmf_gcnii_run(mmf_tape *tape, const mmf_gcnii *net, mmf_tensor *nodes,
                          mmf_tensor *propagation)
{
    mmf_tensor *const x = mmf_dropout(tape, nodes, net->dropout);
    mmf_tensor *const first = mmf_linear_run(tape, &net->first, x, MMF_ACT_RELU);
    mmf_tensor *h = first;
    for (int64_t l = 0; l < net->n_layers; l++) {
        const double theta = log(net->lambda / (double)(l + 1) + 1);
        h = mmf_dropout(tape, h, net->dropout);
        mmf_tensor *const p = mmf_matmul(tape, propagation, h, false, false);
        mmf_tensor *const r = mmf_add(tape, mmf_affine(tape, p, 1 - net->alpha, 0),
                                      mmf_affine(tape, first, net->alpha, 0));
        mmf_tensor *const beside[] = {p, first};
        mmf_tensor *const support = net->variant && p ? mmf_concat(tape, beside, 2, -1) : r;
        mmf_tensor *const y = mmf_matmul(tape, support, net->weights[l], false, false);
        h = mmf_relu(
            tape, mmf_add(tape, mmf_affine(tape, y, theta, 0), mmf_affine(tape, r, 1 - theta, 0)));
    }
    h = mmf_dropout(tape, h, net->dropout);
    mmf_tensor *const both[] = {x, h};
    return net->use_residue ? mmf_concat(tape, both, 2, -1) : h;
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    MMF_GCNII_OPTIONS,
    {"classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "2", "outputs of an utterance"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.4", "on nodes, before each convolution"},
    {"modalities", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "", "their order; else the inputs'"},
    {"speakers", NULL, MMF_OPTION_INT, 1, 100000, NULL, "2", "speakers that can occur"},
    {"use_speaker", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "a learned vector a speaker, added to the text, if speakers are given"},
    {"use_modal", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "a learned vector a modality, added to its utterances"},
    {0},
};

typedef struct mmgcn_layer {
    const char **names; /* of modalities, in the order of the nodes */
    int64_t n_modalities, width;
    mmf_embedding_layer speakers;
    mmf_tensor *modal; /* (M, D) */
    int64_t *rows;     /* of it, one a modality */
    mmf_gcnii net;
    mmf_linear_layer out;
    mmf_tensor **nodes;
} mmgcn_layer;

static bool is_feature(const mmf_input_schema *in)
{
    return in->kind == MMF_VECTOR && in->n_dims == 1;
}

static mmf_status choose_modalities(mmf_builder *b, const mmf_config *config,
                                    const mmf_schema *inputs, mmgcn_layer *layer)
{
    const size_t wanted = mmf_config_count(config, "modalities");
    const size_t most = wanted > inputs->count ? wanted : inputs->count;
    layer->names = mmf_builder_alloc(b, most * sizeof *layer->names);
    layer->nodes = mmf_builder_alloc(b, most * sizeof *layer->nodes);
    layer->rows = mmf_builder_alloc(b, most * sizeof *layer->rows);
    if (!layer->names || !layer->nodes || !layer->rows)
        return mmf_builder_status(b);
    for (size_t i = 0; i < (wanted > 0 ? wanted : inputs->count); i++) {
        const char *const name =
            wanted > 0 ? mmf_config_text_at(config, "modalities", i) : inputs->inputs[i].name;
        const mmf_input_schema *const in = mmf_schema_find(inputs, name);
        if (wanted == 0 && !is_feature(in))
            continue;
        if (!in || !is_feature(in) || (layer->width > 0 && in->shape[0] != layer->width))
            return mmf_builder_fail(b, MMF_SHAPE,
                                    "mmgcn takes features (utterances, D) of one width D for every "
                                    "modality; \"%s\" is not",
                                    name);
        layer->width = in->shape[0];
        layer->names[layer->n_modalities++] =
            wanted > 0 ? mmf_builder_text(b, "%s", name) : in->name;
    }
    if (layer->n_modalities == 0)
        return mmf_builder_fail(b, MMF_SHAPE, "mmgcn takes features (utterances, D) of modalities");
    return MMF_OK;
}

static int64_t place_of(const mmgcn_layer *layer, const char *name)
{
    int64_t m = 0;
    while (m < layer->n_modalities && strcmp(layer->names[m], name) != 0)
        m++;
    return m;
}

/* Rows of the modalities' vectors: the released code has three, whichever of its modalities there
 * are; others have one each. @return how many rows */
static int64_t number_modalities(mmgcn_layer *layer)
{
    static const char *const released[] = {"audio", "vision", "text"};
    enum { N_RELEASED = sizeof released / sizeof *released };
    int64_t n_known = 0;
    for (int64_t r = 0; r < N_RELEASED; r++) {
        const int64_t m = place_of(layer, released[r]);
        if (m < layer->n_modalities) {
            layer->rows[m] = r;
            n_known++;
        }
    }
    if (n_known == layer->n_modalities)
        return N_RELEASED;
    for (int64_t m = 0; m < layer->n_modalities; m++)
        layer->rows[m] = m;
    return layer->n_modalities;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mmgcn_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer || choose_modalities(b, config, inputs, layer) != MMF_OK)
        return mmf_builder_status(b);
    mmf_builder_enter(b, "graph_model");
    if (mmf_config_bool(config, "use_speaker") && mmf_schema_find(inputs, "speaker") &&
        place_of(layer, "text") < layer->n_modalities)
        layer->speakers = mmf_embedding_build(b, "speaker_embeddings",
                                              mmf_config_int(config, "speakers"), layer->width, -1);
    if (mmf_config_bool(config, "use_modal"))
        layer->modal =
            mmf_embedding_build(b, "modal_embeddings", number_modalities(layer), layer->width, -1)
                .weight;
    mmf_builder_enter(b, "graph_net");
    layer->net = mmf_gcnii_build(b, config, layer->width);
    mmf_builder_leave(b);
    mmf_builder_leave(b);
    layer->out = mmf_linear_build(b, "smax_fc", layer->n_modalities * layer->net.width,
                                  mmf_config_int(config, "classes"), true);
    *self = layer;
    return mmf_builder_status(b);
}

/* Features of every modality with the speakers' vectors: (M U, D), modality by modality. */
static mmf_tensor *make_nodes(mmf_tape *tape, const mmgcn_layer *layer, const mmf_named *in)
{
    for (int64_t m = 0; m < layer->n_modalities; m++) {
        mmf_tensor *x = mmf_named_get(in, layer->names[m]);
        if (layer->speakers.weight && strcmp(layer->names[m], "text") == 0)
            x = mmf_add(
                tape, x,
                mmf_index_select(tape, layer->speakers.weight, mmf_named_get(in, "speaker")));
        if (layer->modal)
            x = mmf_add(tape, x, mmf_slice(tape, layer->modal, 0, layer->rows[m], 1));
        layer->nodes[m] = x;
    }
    return mmf_concat(tape, layer->nodes, (int)layer->n_modalities, 0);
}

/* Utterances of one dialogue within a modality, and one utterance across modalities. */
static mmf_tensor *joined(mmf_tape *tape, int64_t m, int64_t u, const mmf_tensor *lengths)
{
    mmf_tensor *const same = lengths ? mmf_same_rows(tape, mmf_segments(tape, lengths, u))
                                     : mmf_full(tape, 2, (int64_t[]){u, u}, 1);
    mmf_tensor *const modality =
        mmf_reshape(tape, mmf_identity(tape, m), 4, (int64_t[]){m, 1, m, 1});
    mmf_tensor *const within =
        mmf_mul(tape, modality, mmf_reshape(tape, same, 4, (int64_t[]){1, u, 1, u}));
    mmf_tensor *const across =
        mmf_mul(tape, mmf_affine(tape, modality, -1, 1),
                mmf_reshape(tape, mmf_identity(tape, u), 4, (int64_t[]){1, u, 1, u}));
    return mmf_reshape(tape, mmf_add(tape, within, across), 2, (int64_t[]){m * u, m * u});
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mmgcn_layer *const layer = self;
    const int64_t m = layer->n_modalities;
    mmf_tensor *const x = make_nodes(tape, layer, in);
    const int64_t u = x ? x->shape[0] / m : 1;
    mmf_tensor *const mask = joined(tape, m, u, mmf_named_get(in, "dialogue.length"));
    mmf_tensor *const s =
        mmf_graph_propagation(tape, mmf_angular_edges(tape, x, mask), MMF_GRAPH_SYM);
    mmf_named_put(tape, out, "adjacency", s);
    mmf_tensor *h = mmf_gcnii_run(tape, &layer->net, x, s);
    h = mmf_transpose(tape, mmf_reshape(tape, h, 3, (int64_t[]){m, u, layer->net.width}), 0, 1);
    h = mmf_reshape(tape, h, 2, (int64_t[]){u, m * layer->net.width});
    mmf_named_put(tape, out, "feature", h);
    h = mmf_relu(tape, mmf_dropout(tape, h, layer->net.dropout));
    h = mmf_linear_run(tape, &layer->out, h, MMF_ACT_NONE);
    mmf_named_put(tape, out, "log_probability", mmf_log_softmax(tape, h, NULL, MMF_EMPTY_ZERO));
}

const mmf_def mmf_layer_mmgcn = {
    .name = "mmgcn",
    .title = "Deep graph convolution over utterances and modalities",
    .paper = "Hu, Liu, Zhao, Jin, MMGCN: Multimodal fusion via deep graph convolution network for "
             "emotion recognition in conversation, ACL-IJCNLP 2021, arXiv:2107.06779",
    .equations =
        "A_ij = 1 - angle(x_i, x_j) / pi between utterances of a dialogue in one modality and "
        "between modalities of an utterance; S = D^-1/2 A D^-1/2; P = S H, R = (1 - alpha) P + "
        "alpha H0, H' = relu(theta [P, H0] W + (1 - theta) R), theta = log(lambda / l + 1). As "
        "`layers` says, where the released code always has 64; inputs are not changed in place; "
        "the code's parameters without a gradient are left out; a zero vector has right angles to "
        "others instead of edges that are not numbers",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_TOKENS,
    .options = options,
    .build = build,
    .run = run,
};
