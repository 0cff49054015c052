/*
 * mfn.c: memory fusion networks: one LSTM a modality, and a memory that takes in what their steps
 * have in common.
 *
 * Zadeh, Liang, Mazumder, Poria, Cambria, Morency, AAAI 2018: an attention over the cells of a step
 * and the one before proposes what is remembered. Zadeh, Liang, Poria, Cambria, Morency, ACL 2018:
 * a graph with a vertex for every set of modalities proposes it. Two gates write it into the
 * memory. Structure and names of thuiar/MMSA. Deviations: the graph's networks for sets of
 * modalities are parameters (the reference never registers them); any modalities, any number, are
 * taken; sequences end at their own lengths, where their cells become zeros, and the memory stops
 * when all have ended.
 */
#include <math.h>
#include <string.h>

#include "models/parts.h"

#define MFN_OPTIONS                                                                                \
    {"hidden_dims",                                                                                \
     NULL,                                                                                         \
     MMF_OPTION_INTS,                                                                              \
     1,                                                                                            \
     8192,                                                                                         \
     NULL,                                                                                         \
     "",                                                                                           \
     "units of the LSTMs: text, audio, vision (256,32,256), or one a modality in the data's "      \
     "order "                                                                                      \
     "(64)"},                                                                                      \
        {"memsize", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the memory"},            \
        {"gamma1", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "hidden width of the keeping gate"}, \
        {"gamma2", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "hidden width of the writing gate"}, \
        {"out", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "hidden width of the head"},            \
    {                                                                                              \
        "dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.2", "inside every small network"       \
    }

static const mmf_option mfn_options[] = {
    MFN_OPTIONS,
    {"NN1", "attention_hidden", MMF_OPTION_INT, 1, 8192, NULL, "64",
     "hidden width of the attention over cells"},
    {"NN2", "proposal_hidden", MMF_OPTION_INT, 1, 8192, NULL, "64",
     "hidden width of the network that proposes a memory"},
    {"windowsize", NULL, MMF_OPTION_INT, 2, 2, NULL, "2",
     "steps whose cells are looked at; the network is defined for two"},
    {0},
};

static const mmf_option graph_options[] = {
    MFN_OPTIONS,
    {"NN", "proposal_hidden", MMF_OPTION_INT, 1, 8192, NULL, "64",
     "hidden width of the network that proposes a memory"},
    {"inner_node_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32", "width of the graph's vertices"},
    {"dfg_hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "100",
     "hidden width of the graph's networks"},
    {0},
};

/* Vertices are sets of modalities, and every pair of sets is looked at. */
#define MAX_MODALITIES 5
#define MAX_VERTICES 32
/* Units of an LSTM unless hidden_dims says. */
#define OTHER_UNITS 64

/* linear, ReLU, dropout, linear */
typedef struct small_net {
    mmf_linear_layer fc1, fc2;
} small_net;

typedef struct mfn_part {
    const mmf_input_schema *input;
    mmf_rnn_weights lstm;
    int64_t hidden;
    mmf_linear_layer transform; /* graph only */
    mmf_rnn_output states;      /* of the last run, `cells` and `sequence` as long as the longest */
} mfn_part;

/* Two or three linear layers without anything between them, as in the reference. */
typedef struct linear_stack {
    mmf_linear_layer layers[3];
    int count;
} linear_stack;

typedef struct mfn_model {
    mfn_part *parts;
    mmf_tensor **states, **ends; /* of the last run; the memory is the last of the ends */
    size_t count;
    bool trio, is_regression, graph;
    int64_t steps, cells, memory; /* longest sequence; widths of all cells, of the memory */
    double dropout;
    small_net attention, proposal, keep, write, out;
    /* The graph: sets of modalities as bits, smaller sets first. */
    unsigned sets[MAX_VERTICES];
    int n_sets;
    linear_stack vertices[MAX_VERTICES], summary, efficacy;
} mfn_model;

/* ---- Building ---------------------------------------------------------------------------- */

static small_net build_net(mmf_builder *b, const char *name, int64_t inputs, int64_t hidden,
                           int64_t outputs)
{
    return (small_net){
        mmf_linear_build(b, mmf_builder_text(b, "%s_fc1", name), inputs, hidden, true),
        mmf_linear_build(b, mmf_builder_text(b, "%s_fc2", name), hidden, outputs, true)};
}

/* One of the paper's modalities, its letter in the reference's names and its units. */
typedef struct paper_part {
    const char *name, *letter;
    int64_t units;
} paper_part;

/* NULL for other modalities. */
static const paper_part *paper_part_of(const mfn_model *model, size_t m)
{
    static const paper_part trio[] = {{"text", "l", 256}, {"audio", "a", 32}, {"vision", "v", 256}};
    return model->trio && m < sizeof trio / sizeof *trio ? &trio[m] : NULL;
}

static int64_t units_of(const mmf_config *config, const paper_part *paper, size_t m)
{
    const size_t n = mmf_config_count(config, "hidden_dims");
    if (n == 1 || m < n)
        return (int64_t)mmf_config_number_at(config, "hidden_dims", m);
    return paper ? paper->units : OTHER_UNITS;
}

/* Names of torch.nn.LSTMCell. */
static mmf_rnn_weights build_cell(mmf_builder *b, const char *name, int64_t inputs, int64_t hidden)
{
    const mmf_init init = mmf_init_fan_in(hidden);
    const int64_t rows = 4 * hidden;
    mmf_rnn_weights w = {0};
    mmf_builder_enter(b, name);
    w.weight_ih =
        mmf_builder_param(b, "weight_ih", MMF_PARAM_TRAINED, init, 2, (int64_t[]){rows, inputs});
    w.weight_hh =
        mmf_builder_param(b, "weight_hh", MMF_PARAM_TRAINED, init, 2, (int64_t[]){rows, hidden});
    w.bias_ih = mmf_builder_param(b, "bias_ih", MMF_PARAM_TRAINED, init, 1, &rows);
    w.bias_hh = mmf_builder_param(b, "bias_hh", MMF_PARAM_TRAINED, init, 1, &rows);
    mmf_builder_leave(b);
    return w;
}

static void build_parts(mmf_builder *b, const mmf_config *config, mfn_model *model,
                        const mmf_schema *inputs)
{
    for (size_t m = 0; m < model->count; m++) {
        mfn_part *const part = &model->parts[m];
        const paper_part *const paper = paper_part_of(model, m);
        part->input = paper ? mmf_schema_find(inputs, paper->name) : &inputs->inputs[m];
        part->hidden = units_of(config, paper, m);
        const int64_t steps = part->input->shape[0], hidden = part->hidden;
        const char *const name = paper ? paper->letter : part->input->name;
        if (part->input->kind != MMF_SEQUENCE) {
            mmf_builder_fail(b, MMF_UNSUPPORTED, "%s takes sequences; %s is of kind %s",
                             mmf_config_def(config)->name, part->input->name,
                             mmf_modality_kind_name(part->input->kind));
            return;
        }
        model->steps = steps > model->steps ? steps : model->steps;
        model->cells += hidden;
        part->lstm =
            build_cell(b, mmf_builder_text(b, "lstm_%s", name), part->input->shape[1], hidden);
        if (model->graph)
            part->transform = mmf_linear_build(b, mmf_builder_text(b, "%s_transform", name),
                                               2 * hidden, hidden, true);
    }
}

/* The reference's nesting of nn.Sequential: `0`, `1.0`, `2`. */
static linear_stack build_stack(mmf_builder *b, const char *name, int64_t inputs, int64_t hidden,
                                int64_t inner, int64_t outputs)
{
    linear_stack s = {.count = outputs > 0 ? 3 : 2};
    mmf_builder_enter(b, name);
    s.layers[0] = mmf_linear_build(b, "0", inputs, hidden, true);
    mmf_builder_enter(b, "1");
    s.layers[1] = mmf_linear_build(b, "0", hidden, inner, true);
    mmf_builder_leave(b);
    if (outputs > 0)
        s.layers[2] = mmf_linear_build(b, "2", inner, outputs, true);
    mmf_builder_leave(b);
    return s;
}

static bool inside(unsigned set, unsigned of)
{
    return (set & of) == set && set != of;
}

/* Sets of one size in lexicographic order: a set comes first if its lowest modality that the other
 * lacks is lower. */
static void list_sets(mfn_model *model)
{
    const unsigned all = (1U << model->count) - 1;
    for (int size = 1; size <= (int)model->count; size++) {
        const int first = model->n_sets;
        for (unsigned set = 1; set <= all; set++) {
            if (__builtin_popcount(set) != size)
                continue;
            int at = model->n_sets++;
            for (; at > first; at--) {
                const unsigned other = model->sets[at - 1], differ = set ^ other;
                if (other & (differ & (~differ + 1U)))
                    break;
                model->sets[at] = other;
            }
            model->sets[at] = set;
        }
    }
}

static const char *set_name(mmf_builder *b, unsigned set)
{
    const char *name = "";
    for (int m = 0; m < MAX_MODALITIES; m++) {
        if (set & (1U << m))
            name = mmf_builder_text(b, "%s%s%d", name, *name ? "_" : "", m);
    }
    return name;
}

static void build_graph(mmf_builder *b, const mmf_config *config, mfn_model *model)
{
    const int64_t inner = mmf_config_int(config, "inner_node_dim");
    const int64_t hidden = mmf_config_int(config, "dfg_hidden");
    int64_t n_efficacies = 0, all = 0, width[MAX_VERTICES] = {0};
    if (model->count > MAX_MODALITIES) {
        mmf_builder_fail(b, MMF_UNSUPPORTED,
                         "graph-mfn has a vertex for every set of modalities: at most %d, not %zu; "
                         "choose with --modalities, or use mfn",
                         MAX_MODALITIES, model->count);
        return;
    }
    list_sets(model);
    mmf_builder_enter(b, "graph_mfn");
    for (int v = 0; v < model->n_sets; v++) {
        const bool single = v < (int)model->count;
        int64_t inputs = 0;
        for (int r = 0; !single && r < v; r++) {
            if (inside(model->sets[r], model->sets[v])) {
                inputs += width[r];
                n_efficacies++;
            }
        }
        width[v] = single ? model->parts[v].hidden : inner;
        all += width[v];
        if (!single)
            model->vertices[v] =
                build_stack(b, mmf_builder_text(b, "networks.%s", set_name(b, model->sets[v])),
                            inputs, hidden, inner, 0);
    }
    n_efficacies += model->n_sets;
    model->summary = build_stack(b, "t_network", all, hidden, inner, 0);
    model->efficacy = build_stack(b, "efficacy_model", model->cells, hidden, inner, n_efficacies);
    mmf_builder_leave(b);
}

static mmf_status build_model(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self, bool graph)
{
    mfn_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    *model = (mfn_model){.count = inputs->count,
                         .trio = mmf_is_sentiment_trio(inputs),
                         .is_regression = mmf_is_regression(config),
                         .graph = graph,
                         .memory = mmf_config_int(config, "memsize"),
                         .dropout = mmf_config_real(config, "dropout")};
    model->parts = mmf_builder_alloc(b, inputs->count * sizeof *model->parts);
    model->states = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    model->ends = mmf_builder_alloc(b, (inputs->count + 1) * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) == MMF_OK)
        build_parts(b, config, model, inputs);
    if (graph && mmf_builder_status(b) == MMF_OK)
        build_graph(b, config, model);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const int64_t seen = 2 * model->cells, memory = model->memory;
    const int64_t proposed = graph ? mmf_config_int(config, "inner_node_dim") : seen;
    if (!graph)
        model->attention = build_net(b, "att1", seen, mmf_config_int(config, "NN1"), seen);
    model->proposal =
        build_net(b, "att2", proposed, mmf_config_int(config, graph ? "NN" : "NN2"), memory);
    model->keep =
        build_net(b, "gamma1", proposed + memory, mmf_config_int(config, "gamma1"), memory);
    model->write =
        build_net(b, "gamma2", proposed + memory, mmf_config_int(config, "gamma2"), memory);
    model->out = build_net(b, "out", model->cells + memory, mmf_config_int(config, "out"),
                           mmf_n_outputs(config));
    *self = model;
    return mmf_builder_status(b);
}

static mmf_status build_mfn(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    return build_model(b, config, inputs, self, false);
}

static mmf_status build_graph_mfn(mmf_builder *b, const mmf_config *config,
                                  const mmf_schema *inputs, void **self)
{
    return build_model(b, config, inputs, self, true);
}

/* ---- Steps of all modalities ------------------------------------------------------------- */

static mmf_tensor *run_net(mmf_tape *tape, const small_net *net, mmf_tensor *x, double dropout,
                           mmf_activation activation)
{
    mmf_tensor *const h = mmf_linear_run(tape, &net->fc1, x, MMF_ACT_RELU);
    return mmf_linear_run(tape, &net->fc2, mmf_dropout(tape, h, dropout), activation);
}

/* Every LSTM over its own sequence; zeros behind its end and where the modality is absent. */
static void run_part(mmf_tape *tape, const mfn_model *model, mfn_part *part, const mmf_named *in)
{
    const char *const name = part->input->name;
    mmf_tensor *const present = mmf_present_column(tape, in, name);
    mmf_rnn_output r = mmf_lstm(tape, mmf_named_get(in, name), &part->lstm,
                                mmf_named_part(in, name, "length"), false);
    const int64_t missing = model->steps - part->input->shape[0];
    if (present) {
        mmf_tensor *const wide = mmf_reshape(tape, present, 3, (int64_t[]){-1, 1, 1});
        r.cells = mmf_mul(tape, r.cells, wide);
        r.sequence = mmf_mul(tape, r.sequence, wide);
        r.h_n = mmf_mul(tape, r.h_n, present);
    }
    if (missing > 0) {
        r.cells = mmf_pad(tape, r.cells, 1, 0, missing, 0);
        r.sequence = mmf_pad(tape, r.sequence, 1, 0, missing, 0);
    }
    part->states = r;
}

/* (B, T) of 1 while any modality is running; NULL when all run to the end. */
static mmf_tensor *running(mmf_tape *tape, const mfn_model *model, const mmf_named *in)
{
    mmf_tensor *any = NULL;
    for (size_t m = 0; m < model->count; m++) {
        const mmf_input_schema *const input = model->parts[m].input;
        const mmf_tensor *const length = mmf_named_part(in, input->name, "length");
        mmf_tensor *const present = mmf_present_column(tape, in, input->name);
        const mmf_tensor *const x = mmf_named_get(in, input->name);
        if (!length && !present && input->shape[0] == model->steps)
            return NULL;
        if (!x)
            return NULL;
        const int64_t shape[] = {x->shape[0], input->shape[0]};
        mmf_tensor *mask =
            length ? mmf_length_mask(tape, length, input->shape[0]) : mmf_full(tape, 2, shape, 1);
        mask = present ? mmf_mul(tape, mask, present) : mask;
        mask = mmf_pad(tape, mask, 1, 0, model->steps - input->shape[0], 0);
        any = any ? mmf_maximum(tape, any, mask) : mask;
    }
    return any;
}

/* x of the step before beside x of every step: (B, T, D) -> (B, T, 2 D). */
static mmf_tensor *with_previous(mmf_tape *tape, mmf_tensor *x)
{
    if (!x)
        return NULL;
    mmf_tensor *const before = mmf_slice(tape, mmf_pad(tape, x, 1, 1, 0, 0), 1, 0, x->shape[1]);
    return mmf_concat(tape, (mmf_tensor *[]){before, x}, 2, 2);
}

/* Attended cells of every step and the one before: (B, T, 2 sum H). */
static mmf_tensor *attend(mmf_tape *tape, const mfn_model *model, mmf_tensor *const *cells,
                          mmf_named *out)
{
    mmf_tensor *const all = mmf_concat(tape, cells, (int)model->count, 2);
    mmf_tensor *const both = with_previous(tape, all);
    mmf_tensor *const scores = run_net(tape, &model->attention, both, model->dropout, MMF_ACT_NONE);
    mmf_tensor *const weights = mmf_softmax(tape, scores, NULL, MMF_EMPTY_ZERO);
    mmf_named_put(tape, out, "attention", weights);
    return mmf_mul(tape, weights, both);
}

/* ---- The graph --------------------------------------------------------------------------- */

static mmf_tensor *run_stack(mmf_tape *tape, const linear_stack *s, mmf_tensor *x)
{
    for (int i = 0; i < s->count; i++)
        x = mmf_linear_run(tape, &s->layers[i], x, MMF_ACT_NONE);
    return x;
}

/* The summary vertex of every step: (B, T, inner). */
static mmf_tensor *fuse_sets(mmf_tape *tape, const mfn_model *model, mmf_tensor *const *states,
                             mmf_named *out)
{
    mmf_tensor *vertex[MAX_VERTICES] = {NULL}, *scaled[MAX_VERTICES] = {NULL};
    const int n = (int)model->count;
    for (int m = 0; m < n; m++)
        vertex[m] = mmf_linear_run(tape, &model->parts[m].transform, with_previous(tape, states[m]),
                                   MMF_ACT_RELU);
    mmf_tensor *const efficacy =
        run_stack(tape, &model->efficacy, mmf_concat(tape, vertex, n, 2)); /* (B, T, edges) */
    int64_t edge = 0;
    for (int v = n; v <= model->n_sets; v++) { /* the last one is the summary of all sets */
        const bool last = v == model->n_sets;
        int n_parts = 0;
        for (int r = 0; r < v; r++) {
            if (last || inside(model->sets[r], model->sets[v]))
                scaled[n_parts++] =
                    mmf_mul(tape, vertex[r], mmf_slice(tape, efficacy, 2, edge++, 1));
        }
        mmf_tensor *const joined = mmf_concat(tape, scaled, n_parts, 2);
        if (last)
            vertex[v] = run_stack(tape, &model->summary, joined);
        else
            vertex[v] = run_stack(tape, &model->vertices[v], joined);
    }
    mmf_named_put(tape, out, "efficacy", efficacy);
    mmf_named_axes(out, "BTD");
    return vertex[model->n_sets];
}

/* ---- The memory -------------------------------------------------------------------------- */

static mmf_tensor *step_of(mmf_tape *tape, mmf_tensor *x, int64_t t)
{
    return mmf_reshape(tape, mmf_slice(tape, x, 1, t, 1), 2, (int64_t[]){-1, x ? x->shape[2] : 1});
}

/* u <- keep([seen; u]) u + write([seen; u]) proposed, step by step, while something runs. */
static mmf_tensor *remember(mmf_tape *tape, const mfn_model *model, mmf_tensor *seen,
                            mmf_tensor *mask)
{
    mmf_tensor *const proposed =
        run_net(tape, &model->proposal, seen, model->dropout, MMF_ACT_TANH);
    mmf_tensor *u = seen ? mmf_full(tape, 2, (int64_t[]){seen->shape[0], model->memory}, 0) : NULL;
    for (int64_t t = 0; u && t < model->steps; t++) {
        mmf_tensor *const parts[] = {step_of(tape, seen, t), u};
        mmf_tensor *const both = mmf_concat(tape, parts, 2, 1);
        mmf_tensor *const keep = run_net(tape, &model->keep, both, model->dropout, MMF_ACT_SIGMOID);
        mmf_tensor *const write =
            run_net(tape, &model->write, both, model->dropout, MMF_ACT_SIGMOID);
        mmf_tensor *next =
            mmf_add(tape, mmf_mul(tape, keep, u), mmf_mul(tape, write, step_of(tape, proposed, t)));
        if (mask) {
            mmf_tensor *const on = mmf_slice(tape, mask, 1, t, 1);
            next = mmf_add(tape, mmf_mul(tape, next, on),
                           mmf_mul(tape, u, mmf_affine(tape, on, -1, 1)));
        }
        u = next;
    }
    return u;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mfn_model *const model = self;
    const size_t n = model->count;
    mmf_tensor **const states = model->states, **const ends = model->ends;
    for (size_t m = 0; m < n; m++) {
        mfn_part *const part = &model->parts[m];
        run_part(tape, model, part, in);
        states[m] = model->graph ? part->states.sequence : part->states.cells;
        ends[m] = part->states.h_n;
        mmf_named_putf(tape, out, part->states.h_n, "feature_%s", part->input->name);
    }
    mmf_tensor *const seen =
        model->graph ? fuse_sets(tape, model, states, out) : attend(tape, model, states, out);
    ends[n] = remember(tape, model, seen, running(tape, model, in));
    mmf_tensor *const last = mmf_concat(tape, ends, (int)n + 1, 1);
    mmf_tensor *const y = run_net(tape, &model->out, last, model->dropout, MMF_ACT_NONE);
    mmf_named_put(tape, out, "last_state", last);
    mmf_named_put(tape, out, "feature_fusion", last);
    mmf_named_put(tape, out, "output", y);
    mmf_put_result(tape, out, model->is_regression, y);
}

const mmf_def mmf_model_mfn = {
    .name = "mfn",
    .title = "Memory fusion network",
    .paper = "Zadeh et al., Memory fusion network for multi-view sequential learning, AAAI 2018, "
             "arXiv:1802.00927",
    .equations = "c^ = [c_{t-1}; c_t]; s = softmax(N1 c^) c^; u = g1([s; u]) u + g2([s; u]) "
                 "tanh(N2 s); y = N([h_T; u_T])",
    .missing = "its cells and its last state are zeros",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = mfn_options,
    .build = build_mfn,
    .run = run,
};

const mmf_def mmf_model_graph_mfn = {
    .name = "graph-mfn",
    .title = "Graph memory fusion network",
    .paper = "Zadeh et al., Multimodal language analysis in the wild: CMU-MOSEI dataset and "
             "interpretable dynamic fusion graph, ACL 2018, P18-1208",
    .equations =
        "v_S = P_S([a_RS v_R, R in S]); tau = P([a_S v_S]); a = E([v_m]); u as in mfn with "
        "tau in place of s; no non-linearity in P and E, as in the reference",
    .missing = "its states are zeros: its vertex has its bias alone",
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = graph_options,
    .build = build_graph_mfn,
    .run = run,
};
