/*
 * explain.c: mmf_explain: passes over the rows with modalities left out or damaged, and what their
 * scores say. Everything goes through the same prediction as `predict` and `eval`.
 */
#include "train/explain.h"

#include <math.h>
#include <string.h>

#include "tasks/task.h"

/* ---- Subsets ----------------------------------------------------------------------------- */

size_t mmf_subsets(size_t n, uint64_t out[MMF_SUBSETS_MAX])
{
    const uint64_t all = (UINT64_C(1) << n) - 1;
    size_t count = 0;
    if (n <= MMF_SUBSETS_FULL) {
        for (size_t size = 1; size <= n; size++) {
            for (uint64_t bits = 1; bits <= all; bits++) {
                if ((size_t)__builtin_popcountll(bits) == size)
                    out[count++] = bits;
            }
        }
        return count;
    }
    for (size_t m = 0; m < n; m++)
        out[count++] = UINT64_C(1) << m;
    for (size_t m = 0; m < n; m++)
        out[count++] = all & ~(UINT64_C(1) << m);
    out[count++] = all;
    return count;
}

/* ---- Shared ------------------------------------------------------------------------------ */

mmf_status mmf_explain__pass(mmf_explainer *e, const char *what, mmf_model *model,
                             const mmf_inference *how, mmf_metrics *metrics)
{
    if (e->options->watch)
        e->options->watch(e->options->watch_user, what, e->n_done, e->n_passes);
    e->n_done++;
    MMF_TRY(
        mmf_model__predict_rows(model, e->dataset, e->rows->rows, e->rows->n, how, e->predictions));
    if (!metrics)
        return MMF_OK;
    *metrics = (mmf_metrics){0};
    return mmf_task_score(e->ctx, metrics, &e->task, e->dataset, e->rows->rows, e->rows->n,
                          e->predictions);
}

json_t *mmf_explain__metrics(const mmf_metrics *metrics)
{
    json_t *const object = json_object();
    for (size_t i = 0; i < metrics->count; i++)
        json_object_set_new(object, metrics->items[i].name,
                            mmf_json_number(metrics->items[i].value));
    return object;
}

json_t *mmf_explain__names(const mmf_schema *inputs, uint64_t use)
{
    json_t *const list = json_array();
    for (size_t m = 0; m < inputs->count; m++) {
        if (use >> m & 1)
            json_array_append_new(list, mmf_json_text(inputs->inputs[m].name));
    }
    return list;
}

/* ---- Preparation ------------------------------------------------------------------------- */

/* Without any modality a model is not run (few are defined there): what is left to predict from is
 * how the target was distributed in training: its mean, which for classes is their shares. */
static mmf_status fit_prior(mmf_explainer *e)
{
    const bool own = e->rows->n_train == 0;
    const int64_t *const rows = own ? e->rows->rows : e->rows->train;
    const int64_t n = own ? e->rows->n : e->rows->n_train;
    const int64_t width = e->task.n_outputs;
    e->prior = mmf_alloc_zero(e->ctx, (size_t)width, sizeof *e->prior);
    double *const target = mmf_alloc_zero(e->ctx, (size_t)width, sizeof *target);
    if (!e->prior || !target) {
        mmf_free(e->ctx, target);
        return MMF_NOMEM;
    }
    for (int64_t i = 0; i < n; i++) {
        mmf_dataset_target(e->dataset, rows[i], target);
        if (e->task.kind == MMF_TARGET_CLASS) {
            e->prior[(int64_t)target[0]] += 1.0 / (double)n;
            continue;
        }
        for (int64_t k = 0; k < width; k++)
            e->prior[k] += target[k] / (double)n;
    }
    mmf_free(e->ctx, target);
    return MMF_OK;
}

static mmf_status check_against(const mmf_explainer *e)
{
    const mmf_model *const other = e->options->against;
    if (!other)
        return MMF_OK;
    const mmf_task *const task = mmf_model_task(other);
    if (task->kind != e->task.kind || task->n_outputs != e->task.n_outputs)
        return mmf_fail(e->ctx, MMF_ARG,
                        "the model to measure against, %s, predicts %s with %lld outputs; %s "
                        "predicts %s with %lld",
                        mmf_model_name(other), mmf_task_name(task->kind),
                        (long long)task->n_outputs, mmf_model_name(e->model),
                        mmf_task_name(e->task.kind), (long long)e->task.n_outputs);
    const mmf_schema *const inputs = mmf_model_inputs(other);
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const theirs = &inputs->inputs[m];
        const mmf_input_schema *const ours = mmf_schema_find(e->inputs, theirs->name);
        if (!ours || ours->kind != theirs->kind || ours->n_dims != theirs->n_dims ||
            memcmp(ours->shape, theirs->shape, (size_t)ours->n_dims * sizeof *ours->shape) != 0)
            return mmf_fail(e->ctx, MMF_ARG,
                            "the model to measure against, %s, takes %s, which %s does not take "
                            "in that shape; train both on the same modalities",
                            mmf_model_name(other), theirs->name, mmf_model_name(e->model));
    }
    return MMF_OK;
}

static mmf_status prepare(mmf_explainer *e)
{
    if (e->rows->n < 1)
        return mmf_fail(e->ctx, MMF_ARG, "%s: there are no rows to explain a model on",
                        mmf_dataset_path(e->dataset));
    if (mmf_dataset_target_kind(e->dataset) == MMF_TARGET_NONE)
        return mmf_fail(e->ctx, MMF_ARG, "%s: there is no target to score against",
                        mmf_dataset_path(e->dataset));
    if (e->task.kind == MMF_TARGET_PRETRAINING)
        return mmf_fail(e->ctx, MMF_UNSUPPORTED,
                        "%s: a pre-trained model predicts nothing that could be explained; train "
                        "it on a target first, with --weights",
                        mmf_model_name(e->model));
    if (e->task.kind == MMF_TARGET_RETRIEVAL)
        return mmf_fail(e->ctx, MMF_UNSUPPORTED,
                        "%s: retrieval ranks one modality by another, so none of them can be taken "
                        "away; `mmfuse eval` scores every direction",
                        mmf_model_name(e->model));
    if (e->inputs->count > 63)
        return mmf_fail(e->ctx, MMF_LIMIT, "%zu modalities; at most 63 can be explained",
                        e->inputs->count);
    MMF_TRY(check_against(e));
    MMF_TRY(mmf_task__check_classes(e->ctx, &e->task, e->dataset));
    MMF_TRY(mmf_explain__check_noise(e));
    size_t count = 0;
    if (!mmf_mul_ok((size_t)e->rows->n, (size_t)e->task.n_outputs, &count))
        return mmf_fail(e->ctx, MMF_LIMIT, "too many predictions");
    e->predictions = mmf_alloc_zero(e->ctx, count, sizeof *e->predictions);
    if (!e->predictions)
        return MMF_NOMEM;
    return fit_prior(e);
}

static void put_facts(mmf_explainer *e, const mmf_metrics *whole)
{
    const mmf_def *const def = mmf_module_def(mmf_model_module(e->model));
    const char *const missing = def->missing ? def->missing
                                : def->fuses ? def->fuses->missing
                                             : NULL;
    json_object_set_new(e->json, "report", json_string("explanation"));
    json_object_set_new(e->json, "model", mmf_json_text(mmf_model_name(e->model)));
    json_object_set_new(e->json, "data", mmf_json_text(mmf_dataset_path(e->dataset)));
    json_object_set_new(e->json, "split", mmf_json_text(e->rows->part));
    json_object_set_new(e->json, "task", mmf_json_text(mmf_task_name(e->task.kind)));
    json_object_set_new(e->json, "main_metric", mmf_json_text(e->metric));
    json_object_set_new(e->json, "higher_is_better", json_boolean(e->sign > 0));
    json_object_set_new(e->json, "n", json_integer((json_int_t)e->rows->n));
    json_object_set_new(e->json, "parameters",
                        json_integer((json_int_t)mmf_model_n_parameters(e->model)));
    json_object_set_new(e->json, "modalities", mmf_explain__names(e->inputs, MMF_ALL_MODALITIES));
    json_object_set_new(
        e->json, "absent",
        mmf_json_text(missing ? missing
                              : "the model does not define it: zeros, the training mean of each "
                                "feature, stand in its place"));
    json_object_set_new(e->json, "metrics", mmf_explain__metrics(whole));
}

static mmf_status check_answers(const mmf_explainer *e)
{
    const int64_t first = mmf_task_first_unanswered(&e->task, e->predictions, e->rows->n);
    char id[256];
    if (first < 0)
        return MMF_OK;
    const int64_t row = e->rows->rows[first];
    mmf_dataset_id(e->dataset, row, id, sizeof id);
    return mmf_fail(e->ctx, MMF_NUMERIC,
                    "%s: row %lld (id %s): the model's outputs are not numbers, so nothing can be "
                    "explained; are its features far outside those of training?",
                    mmf_dataset_path(e->dataset), (long long)row, id);
}

static mmf_status look_at_whole(mmf_explainer *e, mmf_metrics *whole)
{
    mmf_output_watch *watch = NULL;
    MMF_TRY(mmf_output_watch_create(e->ctx, &watch));
    const mmf_inference how = {
        .use = MMF_ALL_MODALITIES, .look = mmf_output_watch_look, .user = watch};
    mmf_status status = mmf_explain__pass(e, "every modality", e->model, &how, whole);
    if (status == MMF_OK) {
        put_facts(e, whole);
        json_t *const outputs =
            mmf_output_watch_json(watch, &(mmf_output_names){e->inputs, &e->task});
        status = outputs ? MMF_OK : MMF_NOMEM;
        json_object_set_new(e->json, "outputs", outputs);
    }
    mmf_output_watch_free(watch);
    return status;
}

static mmf_status explain(mmf_explainer *e)
{
    uint64_t subsets[MMF_SUBSETS_MAX];
    mmf_metrics whole = {0};
    MMF_TRY(prepare(e));
    /* Drawn orders ask for more subsets than the table shows; how many is known at the end. */
    const size_t n_noisy = mmf_explain__robustness_passes(e);
    const size_t n_clean = n_noisy > 0 && e->options->against ? 2 : 1;
    e->n_passes = n_clean + mmf_subsets(e->inputs->count, subsets) + n_noisy;
    MMF_TRY(look_at_whole(e, &whole));
    MMF_TRY(check_answers(e));
    MMF_TRY(mmf_explain__errors(e));
    MMF_TRY(mmf_explain__contributions(e, &whole));
    return mmf_explain__robustness(e, &whole);
}

mmf_status mmf_explain(mmf_ctx *ctx, char **json, mmf_model *model, mmf_dataset *dataset,
                       const mmf_explain_rows *rows, const mmf_explain_options *options)
{
    const mmf_explain_options standard = MMF_EXPLAIN_OPTIONS_INIT;
    mmf_explainer e = {.ctx = ctx,
                       .model = model,
                       .dataset = dataset,
                       .options = options ? options : &standard,
                       .rows = rows,
                       .task = *mmf_model_task(model),
                       .inputs = mmf_model_inputs(model),
                       .json = json_object()};
    *json = NULL;
    if (e.options->rules != MMF_MSA_NONE && e.task.kind == MMF_TARGET_REAL)
        e.task.rules = e.options->rules;
    e.metric = mmf_task_main_metric(e.task.kind);
    e.sign = mmf_metric_higher_is_better(e.metric) ? 1 : -1;
    mmf_status status = e.json ? explain(&e) : MMF_NOMEM;
    mmf_free(ctx, e.predictions);
    mmf_free(ctx, e.prior);
    if (status != MMF_OK) {
        json_decref(e.json);
        return status;
    }
    *json = mmf_json_dump(ctx, e.json, MMF_JSON_DIGITS);
    return *json ? MMF_OK : MMF_NOMEM;
}
