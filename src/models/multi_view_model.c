/*
 * multi_view_model.c: `mv-gcn`, are two subjects of one group, judged by several views of each.
 *
 * Zhang, He, Chen, Luo, Zhou, Wang, AMIA 2018; the network is nn/multi_view.c. A view is two
 * modalities, NAME_a and NAME_b: sequences with one row a region, of the first and of the second
 * subject of the pair. `coordinates` (regions, any numbers) places the regions; as in the paper,
 * numbers of both subjects may stand side by side.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "models/parts.h"
#include "nn/graph.h"

#define PLACES "coordinates"
#define MAX_VIEWS 32
#define SMALLEST_SCALE 1e-12

extern const mmf_def mmf_layer_mv_gcn;

static const mmf_option options[] = {
    {"neighbours", NULL, MMF_OPTION_INT, 1, 100000, NULL, "10",
     "nearest regions that have an edge into a region"},
    {0},
};

typedef struct pair_model {
    const char *first[MAX_VIEWS], *second[MAX_VIEWS];
    int64_t n_views, n_regions, n_features, neighbours, n_outputs;
    bool is_regression;
    void *layer;
} pair_model;

/* ---- Building ---------------------------------------------------------------------------- */

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static const mmf_input_schema *partner_of(const mmf_schema *inputs, const mmf_input_schema *first)
{
    const size_t n = strlen(first->name) - 1;
    for (size_t i = 0; i < inputs->count; i++) {
        const char *const name = inputs->inputs[i].name;
        if (ends_in(name, "_b") && strlen(name) == n + 1 && strncmp(name, first->name, n) == 0)
            return &inputs->inputs[i];
    }
    return NULL;
}

/* @param model  NULL: only look */
static const char *find_views(const mmf_schema *inputs, pair_model *model)
{
    static const char why[] =
        "it takes pairs of modalities NAME_a and NAME_b, sequences of one row a region, and "
        "coordinates, a sequence with the place of each region";
    const mmf_input_schema *const places = mmf_schema_find(inputs, PLACES);
    const mmf_input_schema *one = NULL;
    size_t n = 0;
    for (size_t i = 0; i < inputs->count; i++) {
        const mmf_input_schema *const in = &inputs->inputs[i];
        if (in->kind != MMF_SEQUENCE || !places || in->shape[0] != places->shape[0])
            return why;
        if (!ends_in(in->name, "_a"))
            continue;
        const mmf_input_schema *const partner = partner_of(inputs, in);
        one = one ? one : in;
        if (!partner || n == MAX_VIEWS || in->shape[1] != one->shape[1] ||
            partner->shape[1] != one->shape[1])
            return why;
        if (model) {
            model->first[n] = in->name;
            model->second[n] = partner->name;
        }
        n++;
    }
    if (n == 0 || inputs->count != 2 * n + 1)
        return why;
    if (model) {
        model->n_views = (int64_t)n;
        model->n_regions = one->shape[0];
        model->n_features = one->shape[1];
    }
    return NULL;
}

static const char *refuses(const mmf_schema *inputs)
{
    return find_views(inputs, NULL);
}

static mmf_status build_layer(mmf_builder *b, const mmf_config *config, pair_model *model)
{
    const int64_t r = model->n_regions;
    mmf_input_schema inputs[] = {
        {.name = "node", .n_dims = 4, .shape = {model->n_views, r, model->n_features, 2}},
        {.name = "adjacency", .n_dims = 2, .shape = {r, r}}};
    const mmf_schema schema = {2, inputs};
    mmf_config *own = NULL;
    char classes[32];
    snprintf(classes, sizeof classes, "%lld", (long long)model->n_outputs);
    mmf_status status = mmf_config_create(mmf_builder_ctx(b), &own, &mmf_layer_mv_gcn);
    if (status == MMF_OK)
        status = mmf_config_share(own, config);
    if (status == MMF_OK)
        status = mmf_config_set(own, "classes", classes);
    if (status != MMF_OK)
        mmf_builder_fail(b, status, "mv-gcn: %s", mmf_ctx_error(mmf_builder_ctx(b)));
    else
        mmf_layer_mv_gcn.build(b, own, &schema, &model->layer);
    mmf_config_free(own);
    return mmf_builder_status(b);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    pair_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const why = find_views(inputs, model);
    if (why)
        return mmf_builder_fail(b, MMF_SHAPE, "mv-gcn: %s", why);
    model->neighbours = mmf_config_int(config, "neighbours");
    model->n_outputs = mmf_n_outputs(config);
    model->is_regression = mmf_is_regression(config);
    *self = model;
    return build_layer(b, config, model);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* Squared distances between the regions of a sample, (B, R, R). */
static mmf_tensor *far_apart(mmf_tape *tape, mmf_tensor *places)
{
    const int64_t n = places ? places->shape[1] : 1, d = places ? places->shape[2] : 1;
    mmf_tensor *const a = mmf_reshape(tape, places, 4, (int64_t[]){-1, n, 1, d});
    mmf_tensor *const b = mmf_reshape(tape, places, 4, (int64_t[]){-1, 1, n, d});
    mmf_tensor *const apart = mmf_sub(tape, a, b);
    return mmf_sum(tape, mmf_mul(tape, apart, apart), -1);
}

/* W_ij = exp(-d_ij^2 / sigma^2) between the k nearest, sigma the mean distance to the k-th; the
 * larger of both directions. @return (B, R, R) */
static mmf_tensor *adjacency(mmf_tape *tape, const pair_model *model, mmf_tensor *places)
{
    const int64_t n = model->n_regions, rows = places ? places->shape[0] : 1;
    const int64_t k = model->neighbours < n - 1 ? model->neighbours : n - 1;
    if (!places || k < 1)
        return mmf_full(tape, 3, (int64_t[]){rows, n, n}, 0);
    mmf_tensor *const d = far_apart(tape, places);
    /* A region itself comes after all others. */
    mmf_tensor *const near =
        mmf_sub(tape, mmf_affine(tape, d, -1, 0), mmf_affine(tape, mmf_identity(tape, n), 1e30, 0));
    mmf_tensor *const top =
        mmf_top_rows(tape, mmf_reshape(tape, near, 2, (int64_t[]){rows * n, n}), k);
    if (!top)
        return NULL;
    mmf_tensor *const flat = mmf_reshape(tape, d, 2, (int64_t[]){rows * n * n, 1});
    mmf_tensor *const chosen =
        mmf_reshape(tape, mmf_index_select(tape, flat, top), 3, (int64_t[]){rows, n, k});
    mmf_tensor *const furthest = mmf_signed_sqrt(tape, mmf_max(tape, chosen, -1));
    mmf_tensor *const sigma = mmf_mean(tape, furthest, -1);
    mmf_tensor *const scale =
        mmf_reshape(tape, mmf_clamp(tape, mmf_mul(tape, sigma, sigma), SMALLEST_SCALE, INFINITY), 3,
                    (int64_t[]){rows, 1, 1});
    mmf_tensor *const ones = mmf_full(tape, 2, (int64_t[]){top->count, 1}, 1);
    mmf_tensor *const mask = mmf_reshape(
        tape,
        mmf_scatter_add(tape, ones, mmf_input_ints(tape, top->ints, 1, &top->count), rows * n * n),
        3, (int64_t[]){rows, n, n});
    mmf_tensor *const w = mmf_exp(tape, mmf_affine(tape, mmf_div(tape, d, scale), -1, 0));
    return mmf_mul(tape, w, mmf_maximum(tape, mask, mmf_transpose(tape, mask, 1, 2)));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const pair_model *const model = self;
    mmf_tensor *first[MAX_VIEWS], *second[MAX_VIEWS];
    for (int64_t v = 0; v < model->n_views; v++) {
        first[v] = mmf_named_get(in, model->first[v]);
        second[v] = mmf_named_get(in, model->second[v]);
    }
    mmf_tensor *const pair[] = {mmf_stack(tape, first, (int)model->n_views, 1),
                                mmf_stack(tape, second, (int)model->n_views, 1)};
    mmf_named inner = {0};
    mmf_named_put(tape, &inner, "node", mmf_stack(tape, pair, 2, 4));
    mmf_named_put(tape, &inner, "adjacency", adjacency(tape, model, mmf_named_get(in, PLACES)));
    mmf_layer_mv_gcn.run(tape, model->layer, &inner, step, out);
    mmf_put_result(tape, out, model->is_regression, mmf_named_get(out, "logit"));
}

const mmf_def mmf_model_mv_gcn = {
    .name = "mv-gcn",
    .title = "Multi-view graph convolution over pairs of subjects",
    .fuses = &mmf_layer_mv_gcn,
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_SEQUENCES | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
