/*
 * compare_tests.c: what a comparison claims: the gain of the best fusion over the best single
 * modality, every model against two references, and which models are worth their time.
 *
 * All of it is paired by test row: a row's score is averaged over the seeds that both models have.
 * Metrics that are no means over rows (f1, auroc) have no score of a row; their tasks are tested by
 * the score that mmf_compare__gain_metric names.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/task.h"
#include "train/compare.h"

/* For every model and reference, of which there may be hundreds; one number of draws and one seed,
 * so that the gain is the interval that the table has for its model. */
#define INTERVAL_DRAWS 4000
#define FLIP_DRAWS 9999

static const char concat_name[] = "joint-concat";

const char *mmf_compare__gain_metric(mmf_target_kind kind)
{
    if (kind == MMF_TARGET_REAL)
        return "mae";
    return kind == MMF_TARGET_MULTILABEL ? "label accuracy" : "accuracy";
}

/* ---- Scores by row ----------------------------------------------------------------------- */

/* Sums of per-row scores of two models; by row of the data set, for folds test other rows. */
typedef struct row_scores {
    double *a, *b;
    int64_t *n;
    double *values; /* predictions of a trial */
    int64_t n_rows;
} row_scores;

static void release(mmf_ctx *ctx, row_scores *s)
{
    mmf_free(ctx, s->a);
    mmf_free(ctx, s->b);
    mmf_free(ctx, s->n);
    mmf_free(ctx, s->values);
    *s = (row_scores){0};
}

static mmf_status reserve(const mmf_plan *plan, row_scores *out)
{
    mmf_ctx *const ctx = plan->ctx;
    const size_t n_rows = (size_t)mmf_dataset_count(plan->dataset);
    /* One row more than any split has: room for a target behind the predictions. */
    const size_t n_values = (n_rows + 1) * (size_t)plan->out->task.n_outputs;
    *out = (row_scores){.a = mmf_alloc_zero(ctx, n_rows + 1, sizeof(double)),
                        .b = mmf_alloc_zero(ctx, n_rows + 1, sizeof(double)),
                        .n = mmf_alloc_zero(ctx, n_rows + 1, sizeof(int64_t)),
                        .values = mmf_alloc_zero(ctx, n_values, sizeof(double)),
                        .n_rows = (int64_t)n_rows};
    if (out->a && out->b && out->n && out->values)
        return MMF_OK;
    release(ctx, out);
    return MMF_NOMEM;
}

/* A trial that put out what is no number has no score, and its rows are no mistakes to be counted.
 */
static bool counts(const mmf_comparison *c, size_t trial, const char *model)
{
    const mmf_trial *const t = &c->trials[trial];
    return mmf_trial__is_done_by(t, model) &&
           isfinite(mmf_metrics_get(&t->test, mmf_task_main_metric(c->task.kind)));
}

static size_t trial_of(const mmf_comparison *c, const char *model, uint64_t seed)
{
    for (size_t i = 0; i < c->n_trials; i++) {
        if (counts(c, i, model) && c->trials[i].seed == seed)
            return i;
    }
    return c->n_trials;
}

static mmf_status add_scores(const mmf_plan *plan, row_scores *scores, size_t trial, double *sums)
{
    const mmf_task *const task = &plan->out->task;
    const mmf_split *const split = mmf_plan__split(plan, trial);
    double *const target = scores->values + split->count[MMF_TEST] * task->n_outputs;
    MMF_TRY(mmf_trial__load_test(plan, trial, scores->values));
    for (int64_t i = 0; i < split->count[MMF_TEST]; i++) {
        const int64_t row = split->rows[MMF_TEST][i];
        mmf_dataset_target(plan->dataset, row, target);
        sums[row] += mmf_task_row_score(task, scores->values + i * task->n_outputs, target);
    }
    return MMF_OK;
}

/* Means over common seeds of the rows that were tested, in `a` and `b` from their begin. */
static mmf_status pair_scores(const mmf_plan *plan, row_scores *scores, const char *model,
                              const char *reference, int64_t *n_paired)
{
    const mmf_comparison *const c = plan->out;
    const size_t n_rows = (size_t)scores->n_rows;
    memset(scores->a, 0, n_rows * sizeof(double));
    memset(scores->b, 0, n_rows * sizeof(double));
    memset(scores->n, 0, n_rows * sizeof(int64_t));
    for (size_t t = 0; t < c->n_trials; t++) {
        if (!counts(c, t, model))
            continue;
        const size_t other = trial_of(c, reference, c->trials[t].seed);
        if (other == c->n_trials)
            continue;
        MMF_TRY(add_scores(plan, scores, t, scores->a));
        MMF_TRY(add_scores(plan, scores, other, scores->b));
        const mmf_split *const split = mmf_plan__split(plan, t);
        for (int64_t i = 0; i < split->count[MMF_TEST]; i++)
            scores->n[split->rows[MMF_TEST][i]]++;
    }
    int64_t n = 0;
    for (size_t row = 0; row < n_rows; row++) {
        if (scores->n[row] == 0)
            continue;
        scores->a[n] = scores->a[row] / (double)scores->n[row];
        scores->b[n] = scores->b[row] / (double)scores->n[row];
        n++;
    }
    *n_paired = n;
    return MMF_OK;
}

/* ---- Gain -------------------------------------------------------------------------------- */

static mmf_status compute_gain(const mmf_plan *plan, row_scores *scores)
{
    mmf_comparison *const c = plan->out;
    mmf_interval gain = {0};
    int64_t n = 0;
    if (!c->best_fusion || !c->best_single)
        return MMF_OK;
    MMF_TRY(pair_scores(plan, scores, c->best_fusion, c->best_single, &n));
    if (n == 0)
        return MMF_OK;
    MMF_TRY(mmf_paired_bootstrap(plan->ctx, &gain, scores->a, scores->b, n, INTERVAL_DRAWS,
                                 MMF_COMPARE_LEVEL, plan->options->train.seed));
    c->gain = gain.mean;
    c->gain_low = gain.low;
    c->gain_high = gain.high;
    return MMF_OK;
}

/* ---- Against a reference ----------------------------------------------------------------- */

static mmf_status test_against(const mmf_plan *plan, row_scores *scores, const char *model,
                               const char *reference, mmf_against *out)
{
    const uint64_t seed = plan->options->train.seed;
    mmf_interval interval = {0};
    int64_t n = 0;
    *out = (mmf_against){.difference = NAN, .low = NAN, .high = NAN, .p = NAN, .p_adjusted = NAN};
    if (strcmp(model, reference) == 0)
        return MMF_OK;
    MMF_TRY(pair_scores(plan, scores, model, reference, &n));
    if (n == 0)
        return MMF_OK;
    MMF_TRY(mmf_paired_bootstrap(plan->ctx, &interval, scores->a, scores->b, n, INTERVAL_DRAWS,
                                 MMF_COMPARE_LEVEL, seed));
    MMF_TRY(mmf_sign_flip_test(plan->ctx, &out->p, scores->a, scores->b, n, FLIP_DRAWS, seed));
    out->reference = reference;
    out->difference = interval.mean;
    out->low = interval.low;
    out->high = interval.high;
    return MMF_OK;
}

static mmf_against *against_of(mmf_leader *leader, bool single)
{
    return single ? &leader->against_single : &leader->against_concat;
}

/* All models against one reference, with p values corrected for their number. */
static mmf_status test_all(const mmf_plan *plan, row_scores *scores, const char *reference,
                           bool single)
{
    mmf_comparison *const c = plan->out;
    for (size_t i = 0; i < c->n_leaders; i++)
        MMF_TRY(test_against(plan, scores, c->leaders[i].model, reference,
                             against_of(&c->leaders[i], single)));
    double *const p = mmf_alloc_zero(plan->ctx, c->n_leaders + 1, sizeof *p);
    if (!p)
        return MMF_NOMEM;
    for (size_t i = 0; i < c->n_leaders; i++)
        p[i] = against_of(&c->leaders[i], single)->p;
    const mmf_status status = mmf_holm(plan->ctx, p, (int64_t)c->n_leaders);
    for (size_t i = 0; i < c->n_leaders; i++)
        against_of(&c->leaders[i], single)->p_adjusted = p[i];
    mmf_free(plan->ctx, p);
    return status;
}

static const char *find_leader(const mmf_comparison *c, const char *model)
{
    for (size_t i = 0; i < c->n_leaders; i++) {
        if (strcmp(c->leaders[i].model, model) == 0)
            return c->leaders[i].model;
    }
    return NULL;
}

mmf_status mmf_compare__test(const mmf_plan *plan)
{
    row_scores scores;
    mmf_comparison *const c = plan->out;
    const char *const concat = find_leader(c, concat_name);
    c->gain = c->gain_low = c->gain_high = NAN;
    if (c->task.kind == MMF_TARGET_RETRIEVAL) /* a row has no score without the others */
        return MMF_OK;
    MMF_TRY(reserve(plan, &scores));
    mmf_status status = compute_gain(plan, &scores);
    if (status == MMF_OK && concat)
        status = test_all(plan, &scores, concat, false);
    if (status == MMF_OK && c->best_single)
        status = test_all(plan, &scores, c->best_single, true);
    release(plan->ctx, &scores);
    return status;
}

/* ---- Pareto front ------------------------------------------------------------------------ */

/* `a` is at least as good and as fast as `b`, and better in one. */
static bool dominates(const mmf_leader *a, const mmf_leader *b, const char *metric)
{
    const double sign = mmf_metric_higher_is_better(metric) ? 1 : -1;
    const double x = sign * mmf_compare__validation(a, metric);
    const double y = sign * mmf_compare__validation(b, metric);
    return x >= y && a->latency <= b->latency && (x > y || a->latency < b->latency);
}

void mmf_compare__mark_pareto(mmf_comparison *c)
{
    const char *const metric = mmf_task_main_metric(c->task.kind);
    for (size_t i = 0; i < c->n_leaders; i++) {
        mmf_leader *const leader = &c->leaders[i];
        leader->is_pareto =
            isfinite(leader->latency) && isfinite(mmf_metrics_get(&leader->valid_mean, metric));
        for (size_t j = 0; j < c->n_leaders && leader->is_pareto; j++)
            leader->is_pareto = !dominates(&c->leaders[j], leader, metric);
    }
}
