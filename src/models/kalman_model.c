/*
 * kalman_model.c: late fusion by a learned Kalman filter: every step of a modality becomes a
 * virtual sensor, a mean and a Cholesky factor of its noise, and a filter fuses them in time order.
 *
 * Haarnoja et al., Backprop KF, NeurIPS 2016, with one virtual sensor a modality as in Lee, Yi et
 * al., IROS 2020. Everything is trained end to end through the filter. The state has a basis of its
 * own, so sensors measure it directly (H = I) and it starts at zero; its motion F and the process
 * noise (diagonal) are learned. A modality of fewer steps than another is a slower stream over the
 * same time: its steps are spread evenly over the ticks, each at the end of its share.
 */
#include <math.h>
#include <string.h>

#include "models/parts.h"
#include "nn/kalman.h"

static const mmf_option options[] = {
    {"state", NULL, MMF_OPTION_INT, 1, 64, NULL, "6", "width of the state that is tracked"},
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32",
     "width of the layer between a step and its virtual sensor"},
    MMF_KALMAN_UPDATE_OPTION,
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on the layer of virtual sensors"},
    {0},
};

/* Of a virtual sensor's deviation: keeps R invertible in single precision. */
#define LEAST_DEVIATION 1e-2
/* What the filter starts from: slow, and about as uncertain as a standardised state is wide. */
#define FIRST_NOISE 0.1

typedef struct sensor {
    mmf_linear_layer out; /* mean, deviations, what is below the diagonal */
    int64_t *step_of;     /* (T): the step that a tick measures; the first where it measures none */
    mmf_real *measures;   /* (T): 1/0 */
} sensor;

typedef struct kalman_model {
    mmf_all_steps all;
    sensor *sensors;
    mmf_kalman filter;
    int64_t n, below, n_ticks; /* width of the state, elements below a diagonal */
    int64_t *places;           /* (below): where they stand in a matrix, row by row */
    double dropout;
    bool is_regression;
    mmf_tensor *transition, *log_noise;
    mmf_linear_layer head;
} kalman_model;

/* ---- Building ---------------------------------------------------------------------------- */

/* Step s of S ends with tick (s + 1) T / S: the fewer steps, the further apart. */
static void place_steps(mmf_builder *b, sensor *s, int64_t n_steps, int64_t n_ticks)
{
    s->step_of = mmf_builder_alloc(b, (size_t)n_ticks * sizeof *s->step_of);
    s->measures = mmf_builder_alloc(b, (size_t)n_ticks * sizeof *s->measures);
    for (int64_t i = 0; s->step_of && s->measures && i < n_steps; i++) {
        const int64_t tick = (i + 1) * n_ticks / n_steps - 1;
        s->step_of[tick] = i;
        s->measures[tick] = 1;
    }
}

static void build_sensors(mmf_builder *b, kalman_model *model, const mmf_schema *inputs)
{
    for (size_t m = 0; m < inputs->count; m++) {
        const int64_t n_steps = model->all.encoders[m].n_steps;
        model->n_ticks = n_steps > model->n_ticks ? n_steps : model->n_ticks;
    }
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        model->sensors[m].out =
            mmf_linear_build(b, mmf_builder_text(b, "%s_sensor", inputs->inputs[m].name),
                             model->all.width, 2 * model->n + model->below, true);
        place_steps(b, &model->sensors[m], model->all.encoders[m].n_steps, model->n_ticks);
    }
}

/* Starts as the identity: what stands still is the simplest thing to track. */
static void build_system(mmf_builder *b, kalman_model *model)
{
    const int64_t n = model->n, square[] = {n, n};
    model->transition =
        mmf_builder_param(b, "drift", MMF_PARAM_TRAINED, mmf_init_normal(0.01), 2, square);
    model->log_noise = mmf_builder_param(b, "log_process_noise", MMF_PARAM_TRAINED,
                                         mmf_init_constant(log(FIRST_NOISE)), 1, &n);
    model->places = mmf_builder_alloc(b, (size_t)(model->below + 1) * sizeof *model->places);
    int64_t at = 0;
    for (int64_t i = 1; model->places && i < n; i++) {
        for (int64_t j = 0; j < i; j++)
            model->places[at++] = i * n + j;
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    kalman_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    *self = model;
    model->n = mmf_config_int(config, "state");
    model->below = model->n * (model->n - 1) / 2;
    model->dropout = mmf_config_real(config, "dropout");
    model->is_regression = mmf_is_regression(config);
    model->filter.update = mmf_kalman_update_of(config);
    model->filter.joseph = true;
    model->filter.n_sensors = inputs->count;
    model->sensors = mmf_builder_alloc(b, inputs->count * sizeof *model->sensors);
    model->filter.sensors = mmf_builder_alloc(b, inputs->count * sizeof *model->filter.sensors);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    model->all = mmf_all_steps_build(b, config, inputs, mmf_config_int(config, "hidden"), 0);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    build_sensors(b, model, inputs);
    build_system(b, model);
    model->head = mmf_linear_build(b, "head", model->n, mmf_n_outputs(config), true);
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* L (B, S, n, n): deviations on the diagonal, what is below it as it comes. */
static mmf_tensor *factor(mmf_tape *tape, const kalman_model *model, mmf_tensor *deviation,
                          mmf_tensor *below)
{
    if (!deviation)
        return NULL;
    const int64_t n = model->n, rows = deviation->shape[0], steps = deviation->shape[1];
    const int64_t shape[] = {rows, steps, n, n}, column[] = {rows, steps, n, 1};
    mmf_tensor *const diagonal =
        mmf_mul(tape, mmf_reshape(tape, deviation, 4, column), mmf_identity(tape, n));
    if (model->below == 0)
        return diagonal;
    mmf_tensor *const places = mmf_input_ints(tape, model->places, 1, &model->below);
    mmf_tensor *const rest =
        mmf_matmul(tape, below, mmf_one_hot(tape, places, n * n), false, false);
    return mmf_add(tape, diagonal, mmf_reshape(tape, rest, 4, shape));
}

/* Steps (B, S, ...) to the ticks that measure them (B, T, ...). */
static mmf_tensor *at_ticks(mmf_tape *tape, const kalman_model *model, const sensor *s,
                            mmf_tensor *x)
{
    if (!x)
        return NULL;
    const int64_t rows = x->shape[0], steps = x->shape[1], width = x->count / (rows * steps);
    mmf_tensor *const which = mmf_input_ints(tape, s->step_of, 1, &model->n_ticks);
    mmf_tensor *const flat = mmf_reshape(tape, x, 3, (int64_t[]){rows, steps, width});
    mmf_tensor *y = mmf_index_select(tape, mmf_transpose(tape, flat, 0, 1), which);
    int64_t shape[MMF_MAX_DIMS] = {rows, model->n_ticks};
    memcpy(shape + 2, x->shape + 2, (size_t)(x->n_dims - 2) * sizeof *shape);
    y = mmf_transpose(tape, y, 0, 1);
    return mmf_reshape(tape, y, x->n_dims, shape);
}

static mmf_tensor *tick_mask(mmf_tape *tape, const kalman_model *model, sensor *s,
                             const mmf_steps *steps)
{
    mmf_tensor *const measures = mmf_input(tape, s->measures, 2, (int64_t[]){1, model->n_ticks});
    if (!steps->x)
        return NULL;
    const int64_t shape[] = {steps->x->shape[0], model->n_ticks};
    if (!steps->mask)
        return mmf_expand(tape, measures, 2, shape);
    return mmf_mul(tape, measures, at_ticks(tape, model, s, steps->mask));
}

/* One modality's virtual sensor at every tick. */
static void measure(mmf_tape *tape, kalman_model *model, size_t m, mmf_named *out)
{
    sensor *const s = &model->sensors[m];
    const mmf_steps *const steps = &model->all.steps[m];
    const int64_t n = model->n;
    mmf_tensor *h = mmf_dropout(tape, mmf_relu(tape, steps->x), model->dropout);
    h = mmf_linear_run(tape, &s->out, h, MMF_ACT_NONE);
    mmf_tensor *const mean = mmf_slice(tape, h, 2, 0, n);
    mmf_tensor *const deviation =
        mmf_affine(tape, mmf_softplus(tape, mmf_slice(tape, h, 2, n, n)), 1, LEAST_DEVIATION);
    mmf_tensor *const below = model->below > 0 ? mmf_slice(tape, h, 2, 2 * n, model->below) : NULL;
    mmf_tensor *const l = at_ticks(tape, model, s, factor(tape, model, deviation, below));
    mmf_kalman_sensor *const virtual = &model->filter.sensors[m];
    *virtual = (mmf_kalman_sensor){.z = at_ticks(tape, model, s, mean),
                                   .observation = mmf_identity(tape, n),
                                   .noise = mmf_matmul(tape, l, l, false, true),
                                   .mask = tick_mask(tape, model, s, steps),
                                   .measures = s->measures};
    const char *const name = model->all.inputs->inputs[m].name;
    mmf_named_putf(tape, out, mmf_steps_mean(tape, &(mmf_steps){mean, steps->mask}), "feature_%s",
                   name);
    mmf_named_putf(tape, out, virtual->noise, "noise_%s", name);
    mmf_named_axes(out, "BTDD");
}

/* 1 up to the last tick at which anything was measured: what follows is padding. (B, T) */
static mmf_tensor *lived(mmf_tape *tape, const kalman_model *model)
{
    mmf_tensor *any = model->filter.sensors[0].mask;
    for (size_t m = 1; m < model->filter.n_sensors; m++)
        any = mmf_maximum(tape, any, model->filter.sensors[m].mask);
    /* later[t, u] = 1 for u >= t: counts the measured ticks that are still to come. */
    mmf_tensor *const earlier = mmf_causal_mask(tape, model->n_ticks, model->n_ticks, 0);
    mmf_tensor *const left = mmf_matmul(tape, any, earlier, false, false);
    return mmf_clamp(tape, left, 0, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    kalman_model *const model = self;
    mmf_kalman *const f = &model->filter;
    mmf_all_steps_run(tape, &model->all, in);
    for (size_t m = 0; m < f->n_sensors; m++)
        measure(tape, model, m, out);
    if (!f->sensors[0].z)
        return;
    const int64_t n = model->n, rows = f->sensors[0].z->shape[0];
    mmf_tensor *const unit = mmf_identity(tape, n);
    f->transition = mmf_add(tape, unit, model->transition);
    f->process_noise = mmf_mul(tape, unit, mmf_exp(tape, model->log_noise));
    f->state = mmf_full(tape, 2, (int64_t[]){rows, n}, 0);
    f->covariance = mmf_expand(tape, unit, 3, (int64_t[]){rows, n, n});
    const mmf_kalman_result r = mmf_kalman_run(tape, f);
    mmf_tensor *const last = mmf_steps_last(tape, &(mmf_steps){r.state, lived(tape, model)});
    mmf_named_put(tape, out, "state", r.state);
    mmf_named_put(tape, out, "covariance", r.covariance);
    mmf_named_put(tape, out, "feature_fusion", last);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->head, last, MMF_ACT_NONE));
}

const mmf_def mmf_model_kalman = {
    .name = "kalman",
    .title = "Kalman filter over learned sensors",
    .paper =
        "Haarnoja, Ajay, Levine, Abbeel, Backprop KF, NeurIPS 2016, arXiv:1605.07148; Lee, Yi, "
        "Martin-Martin, Savarese, Bohg, Multimodal sensor fusion with differentiable filters, "
        "IROS 2020, arXiv:2010.13021",
    .equations = "(z_m, L_m) = W_m relu(V_m x_m) a step, R_m = L_m L_m'; x = F x, P = F P F' + Q, "
                 "then x += P (P + R_m)^-1 (z_m - x) for each m; y = W x_T; slower streams are "
                 "spread evenly over the ticks of the fastest",
    .missing = "its measurements are left out of the filter; with none there the state stays zero",
    .timing = "late",
    .structure = "weighted",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
