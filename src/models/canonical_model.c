/*
 * canonical_model.c: two modalities in the coordinates in which they correlate most.
 *
 * `cca` computes them from the training rows; nothing is learned by steps but the head of other
 * tasks. `dcca` learns two networks by the correlation of their outputs in the batch, and computes
 * the same coordinates of these outputs before every validation, as the paper does at the end.
 */
#include <string.h>

#include "models/towers.h"
#include "tensor/canonical.h"

/* Covariances are decomposed in time that grows with the cube of this. */
#define MAX_COLUMNS 1024
/* Rows a direction, below which correlations in a batch are chance. */
#define ROWS_A_COMPONENT 2

typedef struct canonical_view {
    mmf_tensor *mean, *projection; /* (D), (D, k) */
} canonical_view;

typedef struct canonical_model {
    const mmf_schema *inputs;
    bool is_deep;
    mmf_encoders encoders; /* cca */
    mmf_towers towers;     /* dcca */
    mmf_tensor *x[2];      /* of the last run */
    canonical_view views[2];
    mmf_tensor *correlation; /* (k) */
    mmf_tower_top top;
    int64_t k;
    double r, power;
    double *memory; /* of moments */
    mmf_moments moments;
} canonical_model;

/* ---- Building ---------------------------------------------------------------------------- */

static void build_views(mmf_builder *b, canonical_model *model, const int64_t widths[2])
{
    const int64_t k = model->k;
    for (size_t m = 0; m < 2; m++) {
        const int64_t shape[] = {widths[m], k};
        mmf_builder_enter(b, mmf_builder_text(b, "%s_canonical", model->inputs->inputs[m].name));
        model->views[m].mean =
            mmf_builder_param(b, "mean", MMF_PARAM_FIXED, mmf_init_constant(0), 1, &widths[m]);
        model->views[m].projection = mmf_builder_param(b, "projection", MMF_PARAM_FIXED,
                                                       mmf_init_xavier_normal(2, shape), 2, shape);
        mmf_builder_leave(b);
    }
    model->correlation =
        mmf_builder_param(b, "correlation", MMF_PARAM_FIXED, mmf_init_constant(1), 1, &k);
    model->memory =
        mmf_builder_alloc(b, mmf_moments_size(widths[0], widths[1]) * sizeof *model->memory);
    if (model->memory)
        model->moments = mmf_moments_place(model->memory, widths[0], widths[1]);
}

static canonical_model *begin(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs)
{
    canonical_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return NULL;
    model->inputs = inputs;
    model->r = mmf_config_real(config, "regularization");
    model->power = mmf_config_real(config, "power");
    return model;
}

static mmf_status end(mmf_builder *b, canonical_model *model, const mmf_config *config,
                      const int64_t widths[2], void **self)
{
    const int64_t most = widths[0] < widths[1] ? widths[0] : widths[1];
    for (size_t m = 0; m < 2 && mmf_builder_status(b) == MMF_OK; m++) {
        if (widths[m] > MAX_COLUMNS)
            mmf_builder_fail(b, MMF_LIMIT,
                             "%s has %lld columns, the covariances of at most %d are decomposed; "
                             "use dcca or two-tower",
                             model->inputs->inputs[m].name, (long long)widths[m], MAX_COLUMNS);
    }
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    if (model->k == 0 || model->k > most)
        model->k = most;
    build_views(b, model, widths);
    model->top = mmf_tower_top_build(b, config, 2, model->k);
    *self = model;
    return mmf_builder_status(b);
}

static mmf_status cca_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    canonical_model *const model = begin(b, config, inputs);
    if (!model)
        return mmf_builder_status(b);
    model->k = mmf_config_is_set(config, "components") ? mmf_config_int(config, "components") : 0;
    model->encoders.inputs = inputs;
    model->encoders.encoders = mmf_builder_alloc(b, 2 * sizeof *model->encoders.encoders);
    model->encoders.features = mmf_builder_alloc(b, 2 * sizeof(mmf_tensor *));
    int64_t widths[2] = {1, 1};
    for (size_t m = 0; model->encoders.encoders && model->encoders.features && m < 2; m++) {
        const mmf_encoder_choice choice = {.spec = "identity", .width = 1};
        mmf_encoder *const e = &model->encoders.encoders[m];
        *e = mmf_encoder_build(b, inputs->inputs[m].name, &inputs->inputs[m], &choice);
        widths[m] = e->width;
    }
    return end(b, model, config, widths, self);
}

static mmf_status dcca_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    canonical_model *const model = begin(b, config, inputs);
    if (!model)
        return mmf_builder_status(b);
    const int64_t width = mmf_config_int(config, "width"), widths[2] = {width, width};
    model->is_deep = true;
    model->k = width;
    model->towers = mmf_towers_build(b, config, inputs, width);
    return end(b, model, config, widths, self);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* What is correlated: the inputs, or the networks' outputs. */
static void encode(mmf_tape *tape, canonical_model *model, const mmf_named *in,
                   const mmf_step *step)
{
    mmf_named encoded = {0};
    if (model->is_deep)
        mmf_towers_run(tape, &model->towers, in, step);
    else
        mmf_encoders_run(tape, &model->encoders, in, step, &encoded);
    for (size_t m = 0; m < 2; m++)
        model->x[m] = model->is_deep ? model->towers.x[m] : model->encoders.features[m];
}

static mmf_tensor *both_present(mmf_tape *tape, const canonical_model *model, const mmf_named *in)
{
    return mmf_pair_present(tape, in, model->inputs->inputs[0].name, model->inputs->inputs[1].name);
}

/* -sum of the correlations in the batch. */
static mmf_tensor *loss_of(mmf_tape *tape, const canonical_model *model, const mmf_named *in)
{
    const int64_t rows = model->x[0] ? model->x[0]->shape[0] : 0;
    if (model->x[0] && rows < ROWS_A_COMPONENT * model->k)
        return mmf_full(tape, 1, (int64_t[]){1}, 0);
    mmf_tensor *const d =
        mmf_canonical_correlation(tape, model->x[0], model->x[1], both_present(tape, model, in),
                                  model->k, model->r)
            .correlation;
    return mmf_affine(tape, mmf_sum(tape, d, MMF_ALL_AXES), -model->top.weight, 0);
}

/* (x - mean) A diag(d^power) */
static mmf_tensor *variates(mmf_tape *tape, const canonical_model *model, size_t m)
{
    mmf_tensor *const centred = mmf_sub(tape, model->x[m], model->views[m].mean);
    mmf_tensor *const y = mmf_matmul(tape, centred, model->views[m].projection, false, false);
    if (model->power == 0)
        return y;
    return mmf_mul(tape, y, mmf_pow(tape, model->correlation, model->power));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    canonical_model *const model = self;
    mmf_tensor *features[2];
    encode(tape, model, in, step);
    if (step->training && model->is_deep)
        mmf_named_put(tape, out, "loss.correlation", loss_of(tape, model, in));
    /* The coordinates change from epoch to epoch: what learns with the networks sees their outputs.
     */
    const bool as_learned = model->is_deep && (step->training || model->top.has_head);
    for (size_t m = 0; m < 2; m++)
        features[m] = as_learned ? model->x[m] : variates(tape, model, m);
    mmf_tower_top_run(tape, &model->top, model->inputs, features, in, out);
}

/* ---- Fitting ----------------------------------------------------------------------------- */

static void keep(mmf_tensor *out, const double *values)
{
    for (int64_t i = 0; i < out->count; i++)
        out->data[i] = (mmf_real)values[i];
}

static void fit(mmf_tape *tape, void *self, const mmf_named *in, int64_t first_row)
{
    canonical_model *const model = self;
    mmf_canonical c = {0};
    if (first_row == 0)
        mmf_moments_clear(&model->moments);
    if (in) {
        encode(tape, model, in, &(mmf_step){0});
        if (mmf_tape_status(tape) == MMF_OK)
            mmf_moments_add(&model->moments, model->x[0], model->x[1],
                            both_present(tape, model, in));
        return;
    }
    if (!mmf_canonical_solve(tape, &model->moments, model->k, model->r, &c))
        return;
    keep(model->views[0].mean, c.x_mean);
    keep(model->views[1].mean, c.y_mean);
    keep(model->views[0].projection, c.a);
    keep(model->views[1].projection, c.b);
    keep(model->correlation, c.d);
}

/* What `end` refuses, known before anything is built. */
static const char *too_wide(const mmf_schema *inputs)
{
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        int64_t columns = 1;
        for (int d = in->kind == MMF_SEQUENCE ? 1 : 0; d < in->n_dims; d++)
            columns *= in->shape[d];
        if (columns > MAX_COLUMNS)
            return "it decomposes covariances, which takes long beyond 1,024 columns; use dcca";
    }
    return NULL;
}

/* ---- Definitions ------------------------------------------------------------------------- */

#define CANONICAL_POWER                                                                            \
    {                                                                                              \
        "power", NULL, MMF_OPTION_REAL, 0, 16, NULL, "0",                                          \
            "coordinates are scaled by this power of their correlation"                            \
    }

static const mmf_option cca_options[] = {
    {"components", NULL, MMF_OPTION_INT, 1, 65536, NULL, "",
     "canonical pairs, at most as many as the narrower view has columns; default: all"},
    {"regularization", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1e-4",
     "added to the diagonals of both covariances"},
    CANONICAL_POWER,
    MMF_LOSS_WEIGHT_OPTION,
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    {0},
};

static const mmf_option dcca_options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, MAX_COLUMNS, NULL, "10",
     "of the networks' outputs, and number of canonical pairs"},
    {"regularization", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1e-3",
     "added to the diagonals of both covariances"},
    CANONICAL_POWER,
    MMF_LOSS_WEIGHT_OPTION,
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

const mmf_def mmf_model_cca = {
    .name = "cca",
    .title = "Canonical correlation analysis",
    .paper = "Hotelling, Relations between two sets of variates, Biometrika 1936; for retrieval: "
             "Rasiwasia et al., A new approach to cross-modal multimedia retrieval, ACM Multimedia "
             "2010",
    .equations = "S_xx^{-1/2} S_xy S_yy^{-1/2} = U D V', feature = (x - mean) S_xx^{-1/2} U, over "
                 "the training rows; a head over both for other tasks than retrieval",
    .missing = "its coordinates are zeros; a row that lacks one is left out of the covariances",
    .timing = "late",
    .structure = "contrastive",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_TAKES_IMAGES | MMF_TWO_ONLY |
             MMF_MISSING_OK | MMF_ANY_TASK | MMF_RETRIEVES | MMF_FITS_FIRST,
    .options = cca_options,
    .build = cca_build,
    .run = run,
    .fit = fit,
    .refuses = too_wide,
};

const mmf_def mmf_model_dcca = {
    .name = "dcca",
    .title = "Deep canonical correlation analysis",
    .paper = "Andrew et al., Deep canonical correlation analysis, ICML 2013",
    .equations =
        "loss = -sum_i D_i, S_xx^{-1/2} S_xy S_yy^{-1/2} = U D V' of the networks' outputs "
        "in the batch; feature: linear CCA of the outputs over the training rows; "
        "deviations: encoders by shape, Adam; for other tasks a head over both, and the "
        "loss weighted",
    .missing = "its coordinates are zeros; a row that lacks one is left out of the correlations",
    .timing = "late",
    .structure = "contrastive",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK | MMF_RETRIEVES,
    .options = dcca_options,
    .batch = 800,
    .build = dcca_build,
    .run = run,
    .fit = fit,
};
