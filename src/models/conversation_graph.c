/*
 * conversation_graph.c: `mmgcn`, a sample as a conversation whose utterances are the steps of its
 * modalities.
 *
 * Hu, Liu, Zhao, Jin, ACL-IJCNLP 2021, over any modalities: the graph and its convolutions are
 * those of nn/utterance_graph.h. The paper labels every utterance; here one label a sample is read
 * from the mean over the nodes of each modality. Where modalities have different numbers of steps,
 * two steps are of one utterance when they overlap in relative time, so that a vector, which is one
 * step, meets all steps of the others.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/utterance_graph.h"

/* Edges of all pairs are computed: beyond this many nodes a batch of 32 would take gigabytes. */
#define MAX_NODES 1024

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 2, 8192, NULL, "128", "of the nodes (paper: 200); even"},
    MMF_GCNII_OPTIONS,
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.4", "on nodes, before each convolution"},
    {"recurrent", NULL, MMF_OPTION_TEXT, 0, 0, "all|text|none", "all",
     "modalities whose steps pass two bidirectional LSTM layers before they are nodes (released "
     "code: text)"},
    {0},
};

typedef struct conversation_model {
    mmf_all_steps all;
    mmf_rnn_layer *context; /* weights NULL: none */
    mmf_gcnii net;
    mmf_linear_layer out;
    int64_t n_nodes;
    mmf_real *may_meet; /* (N, N): 1 where steps of full length have an edge */
    mmf_tensor **parts;
    bool is_regression;
} conversation_model;

/* ---- Building ---------------------------------------------------------------------------- */

/* Steps t of T and u of U, as intervals of the time from 0 to 1. */
static bool overlap(int64_t t, int64_t n_t, int64_t u, int64_t n_u)
{
    return t * n_u < (u + 1) * n_t && u * n_t < (t + 1) * n_u;
}

static void fill_meetings(conversation_model *model)
{
    const mmf_all_steps *const all = &model->all;
    int64_t i = 0;
    for (size_t m = 0; m < all->inputs->count; m++) {
        for (int64_t t = 0; t < all->encoders[m].n_steps; t++, i++) {
            int64_t j = 0;
            for (size_t n = 0; n < all->inputs->count; n++) {
                const int64_t n_t = all->encoders[m].n_steps, n_u = all->encoders[n].n_steps;
                for (int64_t u = 0; u < n_u; u++, j++)
                    model->may_meet[i * model->n_nodes + j] =
                        m == n || overlap(t, n_t, u, n_u) ? 1 : 0;
            }
        }
    }
}

static void build_context(mmf_builder *b, const mmf_config *config, conversation_model *model)
{
    const char *const which = mmf_config_text(config, "recurrent");
    const int64_t width = model->all.width;
    const mmf_rnn_options o = {
        .inputs = width, .hidden = width / 2, .n_layers = 2, .bidirectional = true};
    for (size_t m = 0; m < model->all.inputs->count; m++) {
        const char *const name = model->all.inputs->inputs[m].name;
        const bool wanted = *which == 'a' || (*which == 't' && strcmp(name, "text") == 0);
        if (wanted && model->all.encoders[m].n_steps > 1)
            model->context[m] = mmf_rnn_build(b, mmf_builder_text(b, "lstm_%s", name), &o);
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    conversation_model *const model = mmf_builder_alloc(b, sizeof *model);
    const int64_t width = mmf_config_int(config, "width");
    if (!model)
        return mmf_builder_status(b);
    if (width % 2 != 0)
        return mmf_builder_fail(b, MMF_ARG, "width (%lld) must be even: two directions share it",
                                (long long)width);
    model->all = mmf_all_steps_build(b, config, inputs, width, 0);
    model->context = mmf_builder_alloc(b, inputs->count * sizeof *model->context);
    model->parts = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    for (size_t m = 0; m < inputs->count; m++)
        model->n_nodes += model->all.encoders[m].n_steps;
    if (model->n_nodes > MAX_NODES)
        return mmf_builder_fail(
            b, MMF_LIMIT,
            "mmgcn joins all steps of a sample to each other: %lld are more than "
            "%d; choose fewer or shorter ones with --modalities",
            (long long)model->n_nodes, MAX_NODES);
    model->may_meet =
        mmf_builder_alloc(b, (size_t)(model->n_nodes * model->n_nodes) * sizeof *model->may_meet);
    if (!model->may_meet)
        return mmf_builder_status(b);
    fill_meetings(model);
    build_context(b, config, model);
    mmf_builder_enter(b, "graph_model.graph_net");
    model->net = mmf_gcnii_build(b, config, width);
    mmf_builder_leave(b);
    model->is_regression = mmf_is_regression(config);
    model->out = mmf_linear_build(b, "smax_fc", (int64_t)inputs->count * model->net.width,
                                  mmf_n_outputs(config), true);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

static const mmf_tensor *length_of(mmf_tape *tape, const mmf_input_schema *input,
                                   const mmf_named *in)
{
    const mmf_tensor *const length = mmf_named_part(in, input->name, "length");
    if (length || input->kind != MMF_TOKENS)
        return length;
    return mmf_token_lengths(tape, mmf_named_get(in, input->name), 0);
}

/* 1 where a node is there, (B, N). */
static mmf_tensor *valid_nodes(mmf_tape *tape, const conversation_model *model, int64_t rows)
{
    const mmf_all_steps *const all = &model->all;
    for (size_t m = 0; m < all->inputs->count; m++)
        model->parts[m] = all->steps[m].mask
                              ? all->steps[m].mask
                              : mmf_full(tape, 2, (int64_t[]){rows, all->encoders[m].n_steps}, 1);
    return mmf_concat(tape, model->parts, (int)all->inputs->count, 1);
}

static mmf_tensor *edge_mask(mmf_tape *tape, const conversation_model *model, mmf_tensor *valid)
{
    const int64_t n = model->n_nodes;
    mmf_tensor *const both = mmf_mul(tape, mmf_reshape(tape, valid, 3, (int64_t[]){-1, n, 1}),
                                     mmf_reshape(tape, valid, 3, (int64_t[]){-1, 1, n}));
    return mmf_mul(tape, both, mmf_input(tape, model->may_meet, 2, (int64_t[]){n, n}));
}

/* Nodes (B, N, width) to the mean of each modality's valid ones, side by side. */
static mmf_tensor *read_out(mmf_tape *tape, const conversation_model *model, mmf_tensor *h)
{
    const mmf_all_steps *const all = &model->all;
    int64_t at = 0;
    for (size_t m = 0; m < all->inputs->count; m++) {
        const int64_t n_steps = all->encoders[m].n_steps;
        const mmf_steps own = {.x = mmf_slice(tape, h, 1, at, n_steps), .mask = all->steps[m].mask};
        model->parts[m] = own.x ? mmf_steps_mean(tape, &own) : NULL;
        at += n_steps;
    }
    return mmf_concat(tape, model->parts, (int)all->inputs->count, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const conversation_model *const model = self;
    const mmf_all_steps *const all = &model->all;
    mmf_all_steps_run(tape, all, in);
    for (size_t m = 0; m < all->inputs->count; m++) {
        mmf_steps *const s = &all->steps[m];
        if (model->context[m].weights) {
            s->x = mmf_rnn_run(tape, &model->context[m], s->x,
                               length_of(tape, &all->inputs->inputs[m], in), false)
                       .sequence;
            s->x = mmf_steps_masked(tape, s);
        }
        model->parts[m] = s->x;
    }
    mmf_tensor *const x = mmf_concat(tape, model->parts, (int)all->inputs->count, 1);
    mmf_tensor *const mask = edge_mask(tape, model, valid_nodes(tape, model, x ? x->shape[0] : 1));
    mmf_tensor *const s =
        mmf_graph_propagation(tape, mmf_angular_edges(tape, x, mask), MMF_GRAPH_SYM);
    const bool single = model->n_nodes == (int64_t)all->inputs->count; /* no modality has steps */
    mmf_named_put(tape, out, "adjacency", s);
    mmf_named_axes(out, single ? "BQM" : "BQN");
    mmf_tensor *h = mmf_gcnii_run(tape, &model->net, x, s);
    mmf_named_put(tape, out, "node", h);
    h = read_out(tape, model, h);
    mmf_named_put(tape, out, "feature_fusion", h);
    h = mmf_relu(tape, mmf_dropout(tape, h, model->net.dropout));
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->out, h, MMF_ACT_NONE));
}

const mmf_def mmf_model_mmgcn = {
    .name = "mmgcn",
    .title = "Deep graph convolution over steps and modalities",
    .paper = "Hu, Liu, Zhao, Jin, MMGCN: Multimodal fusion via deep graph convolution network for "
             "emotion recognition in conversation, ACL-IJCNLP 2021, arXiv:2107.06779",
    .equations =
        "A_ij = 1 - angle(x_i, x_j) / pi between steps of one modality and between modalities of a "
        "step; S = D^-1/2 A D^-1/2; P = S H, R = (1 - alpha) P + alpha H0, H' = relu(theta [P, H0] "
        "W + (1 - theta) R), theta = log(lambda / l + 1). Deviations: a label a sample, from the "
        "mean of each modality's nodes; steps that overlap in relative time meet where lengths "
        "differ; no vectors of speakers",
    .missing = "its nodes have no edges, and zeros stand for their mean",
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
