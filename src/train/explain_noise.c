/* explain_noise.c: scores under rising noise, and the areas below the curves. */
#include <math.h>
#include <string.h>

#include "tasks/metric_functions.h"
#include "tasks/statistics.h"
#include "train/explain.h"
#include "train/noise.h"

#define DEFAULT_DRAWS 3
#define MAX_DRAWS 1000
#define LEVEL_STEP 0.1

/* One model under noise. */
typedef struct noisy_model {
    mmf_model *model;
    mmf_noise_scale scale;
    double clean;
} noisy_model;

typedef struct curve {
    double mean[MMF_NOISE_LEVELS], deviation[MMF_NOISE_LEVELS]; /* the metric itself */
} curve;

static int64_t n_draws_of(const mmf_explainer *e)
{
    return e->options->n_draws > 0 ? e->options->n_draws : DEFAULT_DRAWS;
}

static bool names_noise(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at && *at;) {
        const size_t width = strcspn(at, ",");
        if (width == n && strncmp(at, name, n) == 0)
            return true;
        at += width + (at[width] == ',');
    }
    return false;
}

static bool is_wanted(const mmf_explainer *e, mmf_noise_kind kind)
{
    const char *const list = e->options->noise;
    /* Without its only modality a model is not defined. */
    if (kind == MMF_NOISE_MODALITY_DROP && e->inputs->count < 2)
        return false;
    return !list || names_noise(list, mmf_noise_name(kind));
}

mmf_status mmf_explain__check_noise(const mmf_explainer *e)
{
    if (n_draws_of(e) > MAX_DRAWS)
        return mmf_fail(e->ctx, MMF_ARG, "%lld draws of noise; at most %d",
                        (long long)n_draws_of(e), MAX_DRAWS);
    for (const char *at = e->options->noise; at && *at;) {
        const size_t width = strcspn(at, ",");
        bool known = width == 4 && strncmp(at, "none", width) == 0;
        for (int k = 0; !known && k < MMF_NOISE_COUNT; k++) {
            const char *const name = mmf_noise_name((mmf_noise_kind)k);
            known = strlen(name) == width && strncmp(at, name, width) == 0;
        }
        if (!known)
            return mmf_fail(e->ctx, MMF_ARG,
                            "there is no noise \"%.*s\"; expected gaussian, entry-drop, step-drop, "
                            "modality-drop or none",
                            (int)width, at);
        at += width + (at[width] == ',');
    }
    return MMF_OK;
}

/* Bits of the inputs that this noise can damage. */
static uint64_t inputs_for(const mmf_schema *inputs, mmf_noise_kind kind)
{
    uint64_t bits = 0;
    for (size_t m = 0; m < inputs->count; m++) {
        if (mmf_noise_applies(kind, inputs->inputs[m].kind))
            bits |= UINT64_C(1) << m;
    }
    return bits;
}

/* Each input that can be damaged alone, and all of them at once where they are several. */
static size_t n_curves_of(const mmf_schema *inputs, mmf_noise_kind kind)
{
    const int n = __builtin_popcountll(inputs_for(inputs, kind));
    return (size_t)(n > 1 ? n + 1 : n);
}

size_t mmf_explain__robustness_passes(const mmf_explainer *e)
{
    size_t n = 0;
    for (int k = 0; k < MMF_NOISE_COUNT; k++) {
        if (is_wanted(e, (mmf_noise_kind)k))
            n += n_curves_of(e->inputs, (mmf_noise_kind)k);
    }
    return n * (MMF_NOISE_LEVELS - 1) * (size_t)n_draws_of(e) * (e->options->against ? 2 : 1);
}

/* ---- Curves ------------------------------------------------------------------------------ */

static mmf_status score_level(mmf_explainer *e, const noisy_model *model, mmf_noise *noise,
                              double *mean, double *deviation)
{
    double scores[MAX_DRAWS];
    const int64_t n = n_draws_of(e);
    for (int64_t d = 0; d < n; d++) {
        mmf_metrics metrics = {0};
        noise->seed = e->options->seed + (uint64_t)d;
        const mmf_inference how = {.use = MMF_ALL_MODALITIES,
                                   .tracks_presence = noise->kind == MMF_NOISE_MODALITY_DROP,
                                   .change = mmf_noise_apply,
                                   .user = noise};
        MMF_TRY(mmf_explain__pass(e, mmf_noise_name(noise->kind), model->model, &how, &metrics));
        scores[d] = mmf_metrics_get(&metrics, e->metric);
    }
    const mmf_summary s = mmf_summarise(scores, n);
    *mean = s.mean;
    *deviation = s.deviation;
    return MMF_OK;
}

/* @param on  bits of the explained model's inputs; `model` may have fewer, in another order */
static mmf_status draw_curve(mmf_explainer *e, const noisy_model *model, mmf_noise_kind kind,
                             uint64_t on, curve *out)
{
    const mmf_schema *const inputs = mmf_model_inputs(model->model);
    mmf_noise noise = {
        .inputs = inputs, .dataset = e->dataset, .scale = &model->scale, .kind = kind};
    for (size_t m = 0; m < inputs->count; m++) {
        for (size_t k = 0; k < e->inputs->count; k++) {
            if ((on >> k & 1) && strcmp(e->inputs->inputs[k].name, inputs->inputs[m].name) == 0)
                noise.on |= UINT64_C(1) << m;
        }
    }
    *out = (curve){.mean = {model->clean}};
    for (int l = 1; l < MMF_NOISE_LEVELS; l++) {
        noise.level = LEVEL_STEP * l;
        MMF_TRY(score_level(e, model, &noise, &out->mean[l], &out->deviation[l]));
    }
    return MMF_OK;
}

static json_t *curve_json(const mmf_explainer *e, mmf_noise_kind kind, const char *modality,
                          const curve *own, const curve *other)
{
    double f[MMF_NOISE_LEVELS], late[MMF_NOISE_LEVELS], relative = 0, effective = 0;
    for (int l = 0; l < MMF_NOISE_LEVELS; l++) {
        f[l] = e->sign * own->mean[l];
        late[l] = e->sign * other->mean[l];
    }
    mmf_robustness(f, late, 1, MMF_NOISE_LEVELS, LEVEL_STEP, &relative, &effective);
    json_t *const object = json_object();
    json_object_set_new(object, "noise", mmf_json_text(mmf_noise_name(kind)));
    json_object_set_new(object, "modality", mmf_json_text(modality));
    json_object_set_new(object, "scores", mmf_json_numbers(own->mean, MMF_NOISE_LEVELS));
    json_object_set_new(object, "deviation", mmf_json_numbers(own->deviation, MMF_NOISE_LEVELS));
    json_object_set_new(object, "relative", mmf_json_number(relative));
    json_object_set_new(object, "effective", mmf_json_number(own == other ? NAN : effective));
    return object;
}

static mmf_status add_curve(mmf_explainer *e, const noisy_model models[2], mmf_noise_kind kind,
                            uint64_t on, json_t *list)
{
    curve own, other;
    MMF_TRY(draw_curve(e, &models[0], kind, on, &own));
    if (models[1].model)
        MMF_TRY(draw_curve(e, &models[1], kind, on, &other));
    const bool alone = (on & (on - 1)) == 0;
    const char *const modality = alone ? e->inputs->inputs[__builtin_ctzll(on)].name : NULL;
    json_array_append_new(list,
                          curve_json(e, kind, modality, &own, models[1].model ? &other : &own));
    return MMF_OK;
}

static mmf_status add_kind(mmf_explainer *e, const noisy_model models[2], mmf_noise_kind kind,
                           json_t *list)
{
    const uint64_t all = inputs_for(e->inputs, kind);
    for (uint64_t rest = all; rest; rest &= rest - 1)
        MMF_TRY(add_curve(e, models, kind, rest & (~rest + 1), list));
    if (all & (all - 1))
        MMF_TRY(add_curve(e, models, kind, all, list));
    return MMF_OK;
}

/* ---- Together ---------------------------------------------------------------------------- */

static json_t *settings_json(const mmf_explainer *e, const noisy_model *other)
{
    double levels[MMF_NOISE_LEVELS];
    for (int l = 0; l < MMF_NOISE_LEVELS; l++)
        levels[l] = LEVEL_STEP * l;
    json_t *const object = json_object();
    json_object_set_new(object, "levels", mmf_json_numbers(levels, MMF_NOISE_LEVELS));
    json_object_set_new(object, "step", json_real(LEVEL_STEP));
    json_object_set_new(object, "draws", json_integer((json_int_t)n_draws_of(e)));
    json_object_set_new(object, "seed", json_integer((json_int_t)e->options->seed));
    json_object_set_new(object, "against",
                        mmf_json_text(other->model ? mmf_model_name(other->model) : NULL));
    json_object_set_new(object, "against_clean",
                        mmf_json_number(other->model ? other->clean : NAN));
    json_object_set_new(object, "curves", json_array());
    return object;
}

static mmf_status prepare_model(mmf_explainer *e, noisy_model *out, mmf_model *model)
{
    const bool own = e->rows->n_train == 0;
    out->model = model;
    return mmf_noise_scale_fit(e->ctx, &out->scale, model, e->dataset,
                               own ? e->rows->rows : e->rows->train,
                               own ? e->rows->n : e->rows->n_train);
}

static mmf_status all_kinds(mmf_explainer *e, noisy_model models[2])
{
    MMF_TRY(prepare_model(e, &models[0], e->model));
    if (e->options->against) {
        mmf_metrics metrics = {0};
        const mmf_inference how = {.use = MMF_ALL_MODALITIES};
        MMF_TRY(prepare_model(e, &models[1], e->options->against));
        MMF_TRY(mmf_explain__pass(e, "late fusion", models[1].model, &how, &metrics));
        models[1].clean = mmf_metrics_get(&metrics, e->metric);
    }
    json_t *const object = settings_json(e, &models[1]);
    json_object_set_new(e->json, "robustness", object);
    for (int k = 0; k < MMF_NOISE_COUNT; k++) {
        if (is_wanted(e, (mmf_noise_kind)k))
            MMF_TRY(add_kind(e, models, (mmf_noise_kind)k, json_object_get(object, "curves")));
    }
    return MMF_OK;
}

mmf_status mmf_explain__robustness(mmf_explainer *e, const mmf_metrics *whole)
{
    noisy_model models[2] = {{.clean = mmf_metrics_get(whole, e->metric)}, {.clean = NAN}};
    if (mmf_explain__robustness_passes(e) == 0)
        return MMF_OK;
    const mmf_status status = all_kinds(e, models);
    mmf_noise_scale_clear(e->ctx, &models[0].scale);
    mmf_noise_scale_clear(e->ctx, &models[1].scale);
    return status;
}
