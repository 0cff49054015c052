/* explain_modalities.c: scores of subsets of modalities, and what each modality contributes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tasks/task.h"
#include "train/contribution.h"
#include "train/explain.h"

#define DEFAULT_ORDERS 64

typedef struct subset_run {
    mmf_explainer *e;
    double empty; /* sign * main metric of the prior */
    double whole;
    double *row_scores; /* (2^n, n_rows) where the main metric is a mean over rows; else NULL */
    double *target;     /* (n_outputs) */
} subset_run;

/* With these the contribution of each row is known, and so the error of the mean. */
static bool is_mean_over_rows(const mmf_task *task)
{
    return task->kind == MMF_TARGET_CLASS || task->kind == MMF_TARGET_SOFT ||
           task->kind == MMF_TARGET_REAL;
}

static void keep_row_scores(const subset_run *run, uint64_t use, const double *predictions,
                            int64_t stride)
{
    const mmf_explainer *const e = run->e;
    double *const out = run->row_scores + (int64_t)use * e->rows->n;
    for (int64_t i = 0; i < e->rows->n; i++) {
        mmf_dataset_target(e->dataset, e->rows->rows[i], run->target);
        out[i] = mmf_task_row_score(&e->task, predictions + i * stride, run->target);
    }
}

static bool has_any(const mmf_dataset *dataset, const size_t *places, size_t n, int64_t row)
{
    size_t i = 0;
    while (i < n && !mmf_dataset_present(dataset, places[i], row))
        i++;
    return i < n;
}

/* A row without any modality of the subset has nothing, so it is predicted as from nothing: or else
 * modalities that are never there would be given what the model makes of nothing. @return whether
 * there is such a row */
static bool put_prior(const mmf_explainer *e, uint64_t use)
{
    const int64_t width = e->task.n_outputs;
    size_t places[64], n = 0;
    bool any = false;
    for (size_t m = 0; m < e->inputs->count; m++) {
        const int64_t at = mmf_dataset_find(e->dataset, e->inputs->inputs[m].name);
        if (!(use >> m & 1) || at < 0)
            continue;
        if (mmf_dataset_modality(e->dataset, (size_t)at)->n_absent == 0)
            return false;
        places[n++] = (size_t)at;
    }
    for (int64_t i = 0; i < e->rows->n; i++) {
        if (has_any(e->dataset, places, n, e->rows->rows[i]))
            continue;
        any = true;
        memcpy(e->predictions + i * width, e->prior, (size_t)width * sizeof *e->prior);
    }
    return any;
}

/* @param metrics  of the model itself  @param value  the subset's in the game */
static mmf_status score_subset(subset_run *run, uint64_t use, mmf_metrics *metrics, double *value)
{
    mmf_explainer *const e = run->e;
    const mmf_inference how = {.use = use};
    const bool is_whole = use == (UINT64_C(1) << e->inputs->count) - 1;
    MMF_TRY(mmf_explain__pass(e, "subsets of modalities", e->model, &how, metrics));
    *value = e->sign * mmf_metrics_get(metrics, e->metric);
    if (!is_whole && put_prior(e, use)) {
        mmf_metrics played = {0};
        MMF_TRY(mmf_task_score(e->ctx, &played, &e->task, e->dataset, e->rows->rows, e->rows->n,
                               e->predictions));
        *value = e->sign * mmf_metrics_get(&played, e->metric);
    }
    if (run->row_scores)
        keep_row_scores(run, use, e->predictions, e->task.n_outputs);
    return MMF_OK;
}

/* ---- The empty subset -------------------------------------------------------------------- */

static mmf_status score_prior(subset_run *run)
{
    mmf_explainer *const e = run->e;
    const int64_t width = e->task.n_outputs;
    mmf_metrics metrics = {0};
    for (int64_t i = 0; i < e->rows->n * width; i++)
        e->predictions[i] = e->prior[i % width];
    MMF_TRY(mmf_task_score(e->ctx, &metrics, &e->task, e->dataset, e->rows->rows, e->rows->n,
                           e->predictions));
    run->empty = e->sign * mmf_metrics_get(&metrics, e->metric);
    if (run->row_scores)
        keep_row_scores(run, 0, e->prior, 0);
    return MMF_OK;
}

static json_t *prior_json(const subset_run *run)
{
    const mmf_explainer *const e = run->e;
    const bool own = e->rows->n_train == 0;
    json_t *const object = json_object();
    json_object_set_new(object, "of", mmf_json_text(own ? e->rows->part : "train"));
    json_object_set_new(object, "rows",
                        json_integer((json_int_t)(own ? e->rows->n : e->rows->n_train)));
    json_object_set_new(object, "score", mmf_json_number(e->sign * run->empty));
    return object;
}

/* ---- Contributions ----------------------------------------------------------------------- */

/* Shapley values are linear in the game: the value of the mean is the mean of the rows' values. */
static void row_errors(const subset_run *run, size_t n, double *errors)
{
    double values[1 << MMF_SHAPLEY_EXACT_MAX], phi[MMF_SHAPLEY_EXACT_MAX];
    double sum[MMF_SHAPLEY_EXACT_MAX] = {0}, squares[MMF_SHAPLEY_EXACT_MAX] = {0};
    const int64_t n_rows = run->e->rows->n;
    const double count = (double)n_rows;
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t use = 0; use < INT64_C(1) << n; use++)
            values[use] = run->row_scores[use * n_rows + i];
        mmf_shapley_exact(n, values, phi);
        for (size_t m = 0; m < n; m++) {
            sum[m] += phi[m];
            squares[m] += phi[m] * phi[m];
        }
    }
    for (size_t m = 0; m < n; m++) {
        const double mean = sum[m] / count;
        errors[m] =
            n_rows > 1 ? sqrt(fmax(squares[m] / count - mean * mean, 0) / (count - 1)) : NAN;
    }
}

static mmf_status value_of_subset(void *user, uint64_t use, double *out)
{
    subset_run *const run = user;
    mmf_explainer *const e = run->e;
    mmf_metrics metrics = {0};
    *out = use ? run->whole : run->empty;
    if (use == 0 || use == (UINT64_C(1) << e->inputs->count) - 1)
        return MMF_OK;
    e->n_passes += e->n_done == e->n_passes ? e->inputs->count : 0;
    return score_subset(run, use, &metrics, out);
}

static void put_contributions(const subset_run *run, const double *phi, const double *errors,
                              int64_t n_orders)
{
    const mmf_explainer *const e = run->e;
    json_t *const list = json_array();
    for (size_t m = 0; m < e->inputs->count; m++) {
        json_t *const row = json_object();
        json_object_set_new(row, "modality", mmf_json_text(e->inputs->inputs[m].name));
        json_object_set_new(row, "value", mmf_json_number(phi[m]));
        json_object_set_new(row, "error", mmf_json_number(errors[m]));
        json_array_append_new(list, row);
    }
    json_t *const object = json_object();
    const char *const error_of = n_orders > 0 ? "orders" : run->row_scores ? "rows" : NULL;
    json_object_set_new(object, "method", json_string(n_orders > 0 ? "sampled" : "exact"));
    json_object_set_new(object, "orders", n_orders > 0 ? json_integer(n_orders) : json_null());
    json_object_set_new(object, "error_of", mmf_json_text(error_of));
    json_object_set_new(object, "prior", prior_json(run));
    json_object_set_new(object, "empty", mmf_json_number(run->empty));
    json_object_set_new(object, "full", mmf_json_number(run->whole));
    json_object_set_new(object, "values", list);
    json_object_set_new(e->json, "contributions", object);
}

static mmf_status sample_contributions(subset_run *run)
{
    const mmf_explainer *const e = run->e;
    const int64_t n_orders = e->options->n_orders > 0 ? e->options->n_orders : DEFAULT_ORDERS;
    double phi[64], errors[64];
    MMF_TRY(mmf_shapley_sampled(e->ctx, e->inputs->count, n_orders, e->options->seed,
                                value_of_subset, run, phi, errors));
    put_contributions(run, phi, errors, n_orders);
    return MMF_OK;
}

static mmf_status all_subsets(subset_run *run)
{
    mmf_explainer *const e = run->e;
    const size_t n = e->inputs->count;
    const bool exact = n <= MMF_SHAPLEY_EXACT_MAX;
    double values[1 << MMF_SHAPLEY_EXACT_MAX] = {0};
    uint64_t subsets[MMF_SUBSETS_MAX];
    const size_t n_subsets = mmf_subsets(n, subsets);
    json_t *const list = json_array();
    json_object_set_new(e->json, "subsets", list);
    MMF_TRY(score_prior(run));
    values[0] = run->empty;
    for (size_t i = 0; i < n_subsets; i++) {
        mmf_metrics metrics = {0};
        double value = 0;
        MMF_TRY(score_subset(run, subsets[i], &metrics, &value));
        if (exact)
            values[subsets[i]] = value;
        json_t *const row = json_object();
        json_object_set_new(row, "modalities", mmf_explain__names(e->inputs, subsets[i]));
        json_object_set_new(row, "metrics", mmf_explain__metrics(&metrics));
        json_array_append_new(list, row);
    }
    if (!exact)
        return sample_contributions(run);
    double phi[MMF_SHAPLEY_EXACT_MAX], errors[MMF_SHAPLEY_EXACT_MAX];
    mmf_shapley_exact(n, values, phi);
    for (size_t m = 0; m < n; m++)
        errors[m] = NAN;
    if (run->row_scores)
        row_errors(run, n, errors);
    put_contributions(run, phi, errors, 0);
    return MMF_OK;
}

mmf_status mmf_explain__contributions(mmf_explainer *e, const mmf_metrics *whole)
{
    subset_run run = {.e = e, .whole = e->sign * mmf_metrics_get(whole, e->metric)};
    run.target = mmf_alloc_zero(e->ctx, (size_t)e->task.n_outputs, sizeof *run.target);
    if (!run.target)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    if (e->inputs->count <= MMF_SHAPLEY_EXACT_MAX && is_mean_over_rows(&e->task)) {
        run.row_scores =
            mmf_alloc_zero(e->ctx, (size_t)e->rows->n << e->inputs->count, sizeof *run.row_scores);
        status = run.row_scores ? MMF_OK : MMF_NOMEM;
    }
    if (status == MMF_OK)
        status = all_subsets(&run);
    mmf_free(e->ctx, run.row_scores);
    mmf_free(e->ctx, run.target);
    return status;
}
