/* compare_trial.c: one trial inside its child process: train, predict, score, time, save. */
#include <math.h>
#include <string.h>

#include "train/compare.h"
#include "train/timing.h"
#include "train/trainer.h"

#define LATENCY_CALLS 200
#define LATENCY_WARM_UP 20
#define LATENCY_SECONDS 1.0 /* slow models are asked less often */

/* ---- Latency ----------------------------------------------------------------------------- */

typedef struct latency_probe {
    mmf_model *model;
    mmf_dataset *dataset;
    mmf_batch batch;
    mmf_sample *samples; /* one an input of the model */
    double *out, *seconds;
} latency_probe;

static mmf_status take_sample(latency_probe *probe, int64_t row)
{
    const mmf_schema *const inputs = mmf_model_inputs(probe->model);
    MMF_TRY(mmf_batch_fill(&probe->batch, probe->dataset, NULL, &row, 1));
    for (size_t i = 0; i < inputs->count; i++) {
        const int64_t m = mmf_dataset_find(probe->dataset, inputs->inputs[i].name);
        const mmf_batch_input *const given = &probe->batch.inputs[m];
        probe->samples[i] = (mmf_sample){.values = given->values,
                                         .tokens = given->tokens,
                                         .length = given->length ? given->length[0] : 0,
                                         .absent = given->present && given->present[0] == 0};
        memcpy(probe->samples[i].companions, given->companions, sizeof given->companions);
    }
    return MMF_OK;
}

/* Median of single calls, each on another row. */
static mmf_status time_calls(latency_probe *probe, const int64_t *rows, int64_t n_rows,
                             double *latency)
{
    int n = 0;
    const double begin = mmf_seconds();
    for (int i = 0; i < LATENCY_WARM_UP + LATENCY_CALLS; i++) {
        MMF_TRY(take_sample(probe, rows[i % n_rows]));
        const double before = mmf_seconds();
        MMF_TRY(mmf_model_predict(probe->model, probe->samples, probe->out));
        const double after = mmf_seconds();
        if (i >= LATENCY_WARM_UP)
            probe->seconds[n++] = after - before;
        if (n > 0 && after - begin > LATENCY_SECONDS)
            break;
    }
    *latency = mmf_timing_median(probe->seconds, n);
    return MMF_OK;
}

static mmf_status measure_latency(const mmf_plan *plan, mmf_model *model, const mmf_split *split,
                                  double *latency)
{
    const int part = split->count[MMF_TEST] > 0 ? MMF_TEST : MMF_VALID;
    *latency = NAN;
    if (split->count[part] == 0)
        return MMF_OK;
    mmf_ctx *const ctx = plan->ctx;
    latency_probe probe = {.model = model, .dataset = plan->dataset};
    probe.samples = mmf_alloc_zero(ctx, mmf_model_inputs(model)->count, sizeof *probe.samples);
    probe.out = mmf_alloc_zero(ctx, (size_t)mmf_model_task(model)->n_outputs, sizeof *probe.out);
    probe.seconds = mmf_alloc_zero(ctx, LATENCY_CALLS, sizeof *probe.seconds);
    mmf_status status = probe.samples && probe.out && probe.seconds ? MMF_OK : MMF_NOMEM;
    if (status == MMF_OK)
        status = mmf_batch_create(ctx, &probe.batch, plan->dataset, 1);
    for (size_t i = 0; status == MMF_OK && i < mmf_model_inputs(model)->count; i++) {
        const mmf_input_schema *const in = &mmf_model_inputs(model)->inputs[i];
        status = mmf_batch_want_companions(&probe.batch, plan->dataset,
                                           (size_t)mmf_dataset_find(plan->dataset, in->name),
                                           in->companions);
    }
    if (status == MMF_OK) {
        status = time_calls(&probe, split->rows[part], split->count[part], latency);
        mmf_batch_clear(&probe.batch);
    }
    mmf_free(ctx, probe.samples);
    mmf_free(ctx, probe.out);
    mmf_free(ctx, probe.seconds);
    return status;
}

/* ---- Scores ------------------------------------------------------------------------------ */

static mmf_status score_part(const mmf_plan *plan, mmf_model *model, const mmf_split *split,
                             mmf_part part, mmf_trial_rows *rows, mmf_metrics *metrics)
{
    const int64_t n_outputs = mmf_model_task(model)->n_outputs;
    *rows = (mmf_trial_rows){
        .rows = split->rows[part], .n_rows = split->count[part], .n_outputs = n_outputs};
    *metrics = (mmf_metrics){0};
    if (rows->n_rows == 0)
        return MMF_OK;
    rows->values =
        mmf_alloc_zero(plan->ctx, (size_t)rows->n_rows * (size_t)n_outputs, sizeof(double));
    if (!rows->values)
        return MMF_NOMEM;
    MMF_TRY(mmf_model_predict_rows(model, plan->dataset, rows->rows, rows->n_rows,
                                   MMF_ALL_MODALITIES, rows->values));
    return mmf_task_score(plan->ctx, metrics, mmf_model_task(model), plan->dataset, rows->rows,
                          rows->n_rows, rows->values);
}

static mmf_status evaluate(const mmf_plan *plan, size_t t, mmf_model *model, mmf_trial *result)
{
    const mmf_split *const split = mmf_plan__split(plan, t);
    mmf_trial_rows parts[3] = {0};
    mmf_status status = MMF_OK;
    /* A refitted model has been trained on the validation rows; its record keeps the scores of the
     * one that was chosen. */
    if (!plan->options->train.refit)
        status = score_part(plan, model, split, MMF_VALID, &parts[MMF_VALID], &result->valid);
    if (status == MMF_OK)
        status = score_part(plan, model, split, MMF_TEST, &parts[MMF_TEST], &result->test);
    if (status == MMF_OK)
        status = measure_latency(plan, model, split, &result->latency);
    if (status == MMF_OK)
        status = mmf_trial__save_rows(plan, t, parts);
    for (int part = 0; part < 3; part++)
        mmf_free(plan->ctx, parts[part].values);
    return status;
}

mmf_train_options mmf_trial__options(const mmf_plan *plan)
{
    mmf_train_options options = plan->options->train;
    options.checkpoint = NULL; /* one path for all trials would mix them up */
    options.resume = false;
    options.loss_where_possible = true; /* baselines of one modality have nothing to compare */
    options.watch = NULL;               /* the parent has the terminal */
    options.unimodal_folder = NULL;
    return options;
}

mmf_status mmf_trial__run(const mmf_plan *plan, size_t trial)
{
    const mmf_candidate *const c = mmf_plan__candidate(plan, trial);
    mmf_trial result = plan->out->trials[trial];
    mmf_train_options options = mmf_trial__options(plan);
    options.seed = result.seed;
    /* A tuned model is no part of the late ones, which are not tuned. */
    if (c->is_late || (c->modality && c->n_draws == 0))
        options.unimodal_folder = plan->unimodal;
    if (c->lr > 0)
        options.optimizer.lr = c->lr;
    mmf_ctx_set_threads(plan->ctx, plan->n_threads);
    mmf_model *model = NULL;
    MMF_TRY(mmf_train(plan->ctx, &model, plan->dataset, mmf_plan__split(plan, trial), c->name,
                      c->config, &options));
    mmf_trial__read_record(plan, mmf_model_record(model), &result);
    result.n_parameters = mmf_model_n_parameters(model);
    result.status = MMF_OK;
    mmf_status status = evaluate(plan, trial, model, &result);
    if (status == MMF_OK)
        status = mmf_trial__save(plan, trial, &result);
    mmf_free(plan->ctx, result.curve);
    mmf_model_free(model);
    return status;
}
