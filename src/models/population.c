/*
 * population.c: `population-graph`, the subjects of a study as the nodes of a graph.
 *
 * Parisot, Ktena, Ferrante, Lee, Guerrero, Glocker, Rueckert, Disease prediction using graph
 * convolutional networks, Medical Image Analysis 2018 (MICCAI 2017): nodes are subjects, edges say
 * how alike two are, and Chebyshev convolutions predict a subject from itself and its neighbours.
 * Theirs needs the subjects of the test in the graph while it is trained. Ours does not: training
 * rows are kept (nn/anchors.h), a new row receives from its nearest ones and sends nothing, so what
 * it gets does not depend on the company it is predicted in. In the first epoch, while rows are
 * still being gathered, those of a batch are each other's population.
 */
#include <math.h>
#include <string.h>

#include "models/parts.h"
#include "nn/anchors.h"
#include "nn/graph.h"

/* One minus a correlation, or a squared difference over the squares of both, below this belongs to
 * one subject, met twice: rounding leaves about a hundredth of it. */
#define SAME_SUBJECT 1e-5
#define SMALLEST_SCALE 1e-12
#define SHORTEST 1e-8
/* Fewer features have no correlation to speak of. */
#define LEAST_FOR_CORRELATION 3
/* With the usual bound on the Laplacian's eigenvalues. */
#define LAMBDA_MAX 2

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {"filters", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32", "width of hidden graph convolutions"},
    {"layers", NULL, MMF_OPTION_INT, 0, 16, NULL, "1", "hidden graph convolutions"},
    {"order", "max_degree", MMF_OPTION_INT, 1, MMF_CHEBYSHEV_MAX, NULL, "3",
     "of the Chebyshev polynomials; 1: no neighbours"},
    {"neighbours", NULL, MMF_OPTION_INT, 0, 100000, NULL, "5",
     "nearest subjects that have an edge into a subject; 0: all"},
    {"anchors", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "256",
     "training rows that the model keeps to compare new ones with"},
    {"distance", NULL, MMF_OPTION_TEXT, 0, 0, "correlation|euclidean", "correlation",
     "between the features of two subjects; below three features always euclidean"},
    {0},
};

typedef struct convolution {
    mmf_tensor *weight, *bias;
} convolution;

typedef struct population_model {
    mmf_encoders encoders;
    mmf_anchors anchors;
    convolution *layers;
    mmf_tensor **batch; /* inputs of the last run */
    int64_t n_layers, order, neighbours;
    double dropout;
    bool by_correlation, is_regression;
} population_model;

/* ---- Building ---------------------------------------------------------------------------- */

static convolution build_convolution(mmf_builder *b, const char *name, int64_t inputs,
                                     int64_t outputs, int64_t order)
{
    const int64_t shape[] = {inputs * order, outputs};
    convolution c = {0};
    mmf_builder_enter(b, name);
    c.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_xavier_uniform(2, shape),
                                 2, shape);
    c.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &outputs);
    mmf_builder_leave(b);
    return c;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    population_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->order = mmf_config_int(config, "order");
    model->neighbours = mmf_config_int(config, "neighbours");
    model->dropout = mmf_config_real(config, "dropout");
    model->by_correlation = *mmf_config_text(config, "distance") == 'c';
    model->is_regression = mmf_is_regression(config);
    model->n_layers = mmf_config_int(config, "layers") + 1;
    model->layers = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->layers);
    model->batch = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    model->encoders = mmf_encoders_build(b, config, inputs, false);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    model->anchors = mmf_anchors_build(b, "anchor", inputs, mmf_config_int(config, "anchors"));
    int64_t width = 0;
    for (size_t m = 0; m < inputs->count; m++)
        width += model->encoders.widths[m];
    for (int64_t l = 0; l < model->n_layers; l++) {
        const int64_t to =
            l + 1 < model->n_layers ? mmf_config_int(config, "filters") : mmf_n_outputs(config);
        model->layers[l] = build_convolution(b, mmf_builder_text(b, "gc%lld", (long long)l + 1),
                                             width, to, model->order);
        width = to;
    }
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Edges ------------------------------------------------------------------------------- */

/* Subjects as the edges see them. */
typedef struct subjects {
    mmf_tensor **x;      /* (R, D_m) a modality */
    mmf_tensor *present; /* (R, M) */
} subjects;

static mmf_tensor *centred(mmf_tape *tape, mmf_tensor *x)
{
    mmf_tensor *const mean = mmf_reshape(tape, mmf_mean(tape, x, -1), 2, (int64_t[]){-1, 1});
    return mmf_l2_normalise(tape, mmf_sub(tape, x, mean), SHORTEST);
}

static mmf_tensor *square_lengths(mmf_tape *tape, mmf_tensor *x, bool as_row)
{
    const int64_t shape[] = {as_row ? 1 : -1, as_row ? -1 : 1};
    return mmf_reshape(tape, mmf_sum(tape, mmf_mul(tape, x, x), -1), 2, shape);
}

/* Distances of all pairs, (R, S): one minus the correlation, or squared lengths of differences. */
static mmf_tensor *distances(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, bool by_correlation)
{
    if (by_correlation) {
        mmf_tensor *const correlation =
            mmf_matmul(tape, centred(tape, x), centred(tape, y), false, true);
        return mmf_affine(tape, correlation, -1, 1);
    }
    mmf_tensor *const product = mmf_affine(tape, mmf_matmul(tape, x, y, false, true), -2, 0);
    return mmf_relu(tape, mmf_add(tape, mmf_add(tape, square_lengths(tape, x, false), product),
                                  square_lengths(tape, y, true)));
}

/* Which pairs both have modality m, (R, S). */
static mmf_tensor *both_have(mmf_tape *tape, const subjects *a, const subjects *b, size_t m)
{
    return mmf_matmul(tape, mmf_slice(tape, a->present, 1, (int64_t)m, 1),
                      mmf_slice(tape, b->present, 1, (int64_t)m, 1), false, true);
}

/* Edges by one modality: rho^2 / sigma^2, sigma the mean distance between two of the population;
 * and how far apart two subjects are by a measure that has no scale. */
typedef struct apartness {
    mmf_tensor *scaled, *relative; /* (R, S) */
} apartness;

static apartness compare(mmf_tape *tape, const population_model *model, const subjects *a,
                         const subjects *population, size_t m)
{
    mmf_tensor *const p = population->x[m], *const x = a->x[m];
    const bool by_correlation = model->by_correlation && p && p->shape[1] >= LEAST_FOR_CORRELATION;
    mmf_tensor *const among = distances(tape, p, p, by_correlation);
    mmf_tensor *const others = mmf_affine(tape, mmf_identity(tape, p ? p->shape[0] : 1), -1, 1);
    mmf_tensor *const pairs = mmf_mul(tape, both_have(tape, population, population, m), others);
    mmf_tensor *const n = mmf_clamp(tape, mmf_sum(tape, pairs, MMF_ALL_AXES), 1, INFINITY);
    mmf_tensor *scale = mmf_div(tape, mmf_sum(tape, mmf_mul(tape, among, pairs), MMF_ALL_AXES), n);
    mmf_tensor *rho = a == population ? among : distances(tape, x, p, by_correlation);
    apartness d = {.relative = rho};
    if (by_correlation) {
        scale = mmf_mul(tape, scale, scale);
        rho = mmf_mul(tape, rho, rho);
    } else {
        mmf_tensor *const size =
            mmf_add(tape, square_lengths(tape, x, false), square_lengths(tape, p, true));
        d.relative = mmf_div(tape, rho, mmf_clamp(tape, size, SMALLEST_SCALE, INFINITY));
    }
    d.scaled = mmf_div(tape, rho, mmf_clamp(tape, scale, SMALLEST_SCALE, INFINITY));
    return d;
}

/* 1 at the nearest of each row. */
static mmf_tensor *nearest(mmf_tape *tape, const mmf_tensor *weights, int64_t wanted)
{
    const int64_t rows = weights ? weights->shape[0] : 1, n = weights ? weights->shape[1] : 1;
    const int64_t count = wanted > 0 && wanted < n ? wanted : n;
    if (!weights || count == n)
        return mmf_full(tape, 2, (int64_t[]){rows, n}, 1);
    mmf_tensor *const top = mmf_top_rows(tape, weights, count);
    mmf_tensor *const ones = mmf_full(tape, 2, (int64_t[]){rows * count, 1}, 1);
    mmf_tensor *const index = top ? mmf_input_ints(tape, top->ints, 1, &top->count) : NULL;
    return mmf_reshape(tape, mmf_scatter_add(tape, ones, index, rows * n), 2, (int64_t[]){rows, n});
}

/* w_ij = the mean over modalities that i and j have of exp(-rho^2 / (2 sigma^2)); none to
 * oneself. @return (R, S) */
static mmf_tensor *alike(mmf_tape *tape, const population_model *model, const subjects *a,
                         const subjects *population)
{
    mmf_tensor *weight = NULL, *apart = NULL, *common = NULL;
    for (size_t m = 0; m < model->anchors.inputs->count; m++) {
        mmf_tensor *const both = both_have(tape, a, population, m);
        const apartness d = compare(tape, model, a, population, m);
        mmf_tensor *const w =
            mmf_mul(tape, mmf_exp(tape, mmf_affine(tape, d.scaled, -0.5, 0)), both);
        mmf_tensor *const r = mmf_mul(tape, d.relative, both);
        weight = weight ? mmf_add(tape, weight, w) : w;
        apart = apart ? mmf_add(tape, apart, r) : r;
        common = common ? mmf_add(tape, common, both) : both;
    }
    mmf_tensor *const differ =
        mmf_sign(tape, mmf_relu(tape, mmf_affine(tape, mmf_detach(tape, apart), 1, -SAME_SUBJECT)));
    return mmf_mul(tape, mmf_div(tape, weight, mmf_clamp(tape, common, 1, INFINITY)), differ);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* S of the population, and beneath it of the rows that receive from it. @param rows  NULL: none */
static mmf_tensor *propagation(mmf_tape *tape, const population_model *model,
                               const subjects *population, const subjects *rows)
{
    mmf_tensor *w = alike(tape, model, population, population);
    mmf_tensor *const near = nearest(tape, w, model->neighbours);
    w = mmf_mul(tape, w, mmf_maximum(tape, near, mmf_transpose(tape, near, 0, 1)));
    mmf_tensor *const scale = mmf_graph_degree_scale(tape, mmf_sum(tape, w, -1), MMF_GRAPH_SYM);
    mmf_tensor *const senders = mmf_reshape(tape, scale, 2, (int64_t[]){1, -1});
    mmf_tensor *s =
        mmf_mul(tape, mmf_mul(tape, w, senders), mmf_reshape(tape, scale, 2, (int64_t[]){-1, 1}));
    if (!rows)
        return s;
    mmf_tensor *v = alike(tape, model, rows, population);
    v = mmf_mul(tape, v, nearest(tape, v, model->neighbours));
    mmf_tensor *const own = mmf_graph_degree_scale(tape, mmf_sum(tape, v, -1), MMF_GRAPH_SYM);
    mmf_tensor *const both[] = {
        s, mmf_mul(tape, mmf_mul(tape, v, senders), mmf_reshape(tape, own, 2, (int64_t[]){-1, 1}))};
    return mmf_concat(tape, both, 2, 0);
}

/* Inputs of the kept rows, then those of the batch. */
static void join_inputs(mmf_tape *tape, const mmf_anchors *anchors, const mmf_named *in,
                        mmf_tensor *kept, mmf_named *joined)
{
    for (size_t m = 0; m < anchors->inputs->count; m++) {
        const char *const name = anchors->inputs->inputs[m].name;
        mmf_tensor *const both[] = {anchors->values[m], mmf_named_get(in, name)};
        mmf_tensor *const present = mmf_present_column(tape, in, name);
        mmf_named_put(tape, joined, name, mmf_concat(tape, both, 2, 0));
        if (!present)
            continue;
        mmf_tensor *const columns[] = {mmf_slice(tape, kept, 1, (int64_t)m, 1), present};
        mmf_tensor *const column = mmf_concat(tape, columns, 2, 0);
        mmf_named_putf(tape, joined, mmf_reshape(tape, column, 1, (int64_t[]){-1}), "%s.present",
                       name);
    }
}

/* Encodings of all nodes through the convolutions; the rows of the batch are the last ones. */
static void convolve(mmf_tape *tape, const population_model *model, mmf_tensor *s, int64_t first,
                     int64_t rows, mmf_named *out)
{
    const size_t n = model->anchors.inputs->count;
    mmf_tensor *h = mmf_concat(tape, model->encoders.features, (int)n, 1);
    for (int64_t l = 0; l < model->n_layers; l++) {
        const convolution *const c = &model->layers[l];
        h = mmf_dropout(tape, h, model->dropout);
        h = mmf_chebyshev_terms(tape, h, s, model->order, LAMBDA_MAX);
        h = mmf_add(tape, mmf_matmul(tape, h, c->weight, false, false), c->bias);
        h = l + 1 < model->n_layers ? mmf_relu(tape, h) : h;
    }
    for (size_t m = 0; m < n; m++)
        mmf_named_putf(tape, out, mmf_slice(tape, model->encoders.features[m], 0, first, rows),
                       "feature_%s", model->anchors.inputs->inputs[m].name);
    mmf_put_result(tape, out, model->is_regression, mmf_slice(tape, h, 0, first, rows));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const population_model *const model = self;
    const mmf_schema *const inputs = model->anchors.inputs;
    const mmf_tensor *const first = mmf_named_get(in, inputs->inputs[0].name);
    const int64_t n_rows = first ? first->shape[0] : 1;
    mmf_tensor *const all = mmf_presence(tape, inputs, in);
    subjects rows = {.x = model->batch};
    rows.present = all ? all : mmf_full(tape, 2, (int64_t[]){n_rows, (int64_t)inputs->count}, 1);
    for (size_t m = 0; m < inputs->count; m++)
        model->batch[m] = mmf_named_get(in, inputs->inputs[m].name);
    mmf_named hidden = {0};
    if (!mmf_anchors_ready(step)) {
        mmf_tensor *const s = propagation(tape, model, &rows, NULL);
        mmf_encoders_run(tape, &model->encoders, in, step, &hidden);
        convolve(tape, model, s, 0, n_rows, out);
        mmf_anchors_keep(tape, &model->anchors, in);
        return;
    }
    mmf_tensor *const kept = mmf_anchors_present(tape, &model->anchors);
    const subjects anchors = {.x = model->anchors.values, .present = kept};
    mmf_named joined = {0};
    join_inputs(tape, &model->anchors, in, kept, &joined);
    mmf_tensor *const s = propagation(tape, model, &anchors, &rows);
    mmf_encoders_run(tape, &model->encoders, &joined, step, &hidden);
    convolve(tape, model, s, model->anchors.count, n_rows, out);
}

const mmf_def mmf_model_population_graph = {
    .name = "population-graph",
    .title = "Graph convolution over the subjects of a study",
    .paper =
        "Parisot, Ktena, Ferrante, Lee, Guerrero, Glocker, Rueckert, Disease prediction using "
        "graph convolutional networks: Application to autism spectrum disorder and Alzheimer's "
        "disease, Medical Image Analysis 2018, arXiv:1806.01738",
    .equations =
        "w_ij = mean over modalities of exp(-rho_ij^2 / (2 sigma^2)), rho = 1 - correlation, sigma "
        "its mean, between nearest subjects; S = D^-1/2 W D^-1/2; H' = relu([T_0(-S) H, T_1(-S) H, "
        "...] W + b). Deviations: new subjects receive from kept training subjects and send "
        "nothing, where the paper's graph holds the test subjects while it is trained; features "
        "decide which subjects are alike, where the paper counts equal phenotypes too; encoders in "
        "front instead of recursive feature elimination",
    .missing = "its encoding is zeros, and it has no say in who is alike",
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
