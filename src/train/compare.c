/*
 * compare.c: many models with several seeds as child processes, ranked on validation.
 *
 * The parent never runs an operation, so that its children start without an OpenMP pool that fork
 * would break. Each trial is a process that ends with its result in a file of the folder.
 */
#include "train/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tasks/task.h"
#include "train/jobs.h"
#include "train/trainer.h"

#define BOOTSTRAP_DRAWS 10000

/* ---- Ranking ----------------------------------------------------------------------------- */

bool mmf_trial__is_done(const mmf_trial *trial)
{
    return trial->status == MMF_OK;
}

bool mmf_trial__is_pending(const mmf_trial *trial)
{
    return trial->status == MMF_STATE && !trial->error[0];
}

static bool is_done_by(const mmf_trial *trial, const char *model)
{
    return mmf_trial__is_done(trial) && strcmp(trial->model, model) == 0;
}

mmf_summary mmf_compare__summary(const mmf_comparison *comparison, const char *model, bool on_test,
                                 const char *metric)
{
    double values[MMF_COMPARE_MAX_SEEDS];
    int64_t n = 0;
    for (size_t i = 0; i < comparison->n_trials && n < MMF_COMPARE_MAX_SEEDS; i++) {
        const mmf_trial *const t = &comparison->trials[i];
        if (is_done_by(t, model))
            values[n++] = mmf_metrics_get(on_test ? &t->test : &t->valid, metric);
    }
    return mmf_summarise(values, n);
}

static void summarise_metrics(const mmf_comparison *c, mmf_leader *leader, const mmf_trial *first)
{
    for (size_t i = 0; i < first->test.count; i++) {
        const char *const name = first->test.items[i].name;
        const mmf_summary s = mmf_compare__summary(c, leader->model, true, name);
        mmf_metrics_add(&leader->test_mean, name, s.mean);
        mmf_metrics_add(&leader->test_deviation, name, s.deviation);
    }
    for (size_t i = 0; i < first->valid.count; i++) {
        const char *const name = first->valid.items[i].name;
        mmf_metrics_add(&leader->valid_mean, name,
                        mmf_compare__summary(c, leader->model, false, name).mean);
    }
}

/* Mean of a duration over the finished trials of a model. */
static double mean_seconds(const mmf_comparison *c, const char *model, bool is_latency)
{
    double sum = 0;
    int64_t n = 0;
    for (size_t i = 0; i < c->n_trials; i++) {
        const mmf_trial *const t = &c->trials[i];
        if (is_done_by(t, model)) {
            sum += is_latency ? t->latency : t->train_seconds;
            n++;
        }
    }
    return n > 0 ? sum / (double)n : NAN;
}

static void add_leader(mmf_comparison *c, const mmf_trial *first)
{
    mmf_leader *const leader = &c->leaders[c->n_leaders++];
    *leader = (mmf_leader){.model = first->model, .n_parameters = first->n_parameters};
    for (size_t i = 0; i < c->n_trials; i++)
        leader->n_seeds += is_done_by(&c->trials[i], first->model);
    summarise_metrics(c, leader, first);
    leader->train_seconds = mean_seconds(c, first->model, false);
    leader->latency = mean_seconds(c, first->model, true);
}

/* Validation decides, then size; a score that is undefined comes last. */
static bool is_better(const mmf_leader *a, const mmf_leader *b, const char *metric)
{
    const double x = mmf_metrics_get(&a->valid_mean, metric);
    const double y = mmf_metrics_get(&b->valid_mean, metric);
    if (isnan(x) || isnan(y) || x == y)
        return isnan(x) == isnan(y) ? a->n_parameters < b->n_parameters : isnan(y);
    return mmf_metric_higher_is_better(metric) ? x > y : x < y;
}

/* Insertion keeps the order of the trials among equals. */
static void sort_leaders(mmf_comparison *c, const char *metric)
{
    for (size_t i = 1; i < c->n_leaders; i++) {
        for (size_t j = i; j > 0 && is_better(&c->leaders[j], &c->leaders[j - 1], metric); j--) {
            const mmf_leader moved = c->leaders[j];
            c->leaders[j] = c->leaders[j - 1];
            c->leaders[j - 1] = moved;
        }
    }
}

static bool has_leader(const mmf_comparison *c, const char *model)
{
    for (size_t i = 0; i < c->n_leaders; i++) {
        if (strcmp(c->leaders[i].model, model) == 0)
            return true;
    }
    return false;
}

void mmf_compare__rank(mmf_comparison *comparison)
{
    comparison->n_leaders = 0;
    for (size_t i = 0; i < comparison->n_trials; i++) {
        const mmf_trial *const t = &comparison->trials[i];
        if (mmf_trial__is_done(t) && !has_leader(comparison, t->model))
            add_leader(comparison, t);
    }
    sort_leaders(comparison, mmf_task_main_metric(comparison->task.kind));
    comparison->best_single = comparison->best_fusion = NULL;
    for (size_t i = comparison->n_leaders; i-- > 0;) {
        const char *const model = comparison->leaders[i].model;
        if (mmf_model_only_modality(model))
            comparison->best_single = model;
        else
            comparison->best_fusion = model;
    }
}

/* ---- Gain -------------------------------------------------------------------------------- */

const char *mmf_compare__gain_metric(mmf_target_kind kind)
{
    if (kind == MMF_TARGET_REAL)
        return "mae";
    return kind == MMF_TARGET_MULTILABEL ? "label accuracy" : "accuracy";
}

/* Sums of per-row scores of the two models; by row of the data set, for folds test other rows. */
typedef struct row_scores {
    double *fusion, *single;
    int64_t *n;
    double *values; /* predictions of a trial */
} row_scores;

static size_t trial_of(const mmf_comparison *c, const char *model, uint64_t seed)
{
    for (size_t i = 0; i < c->n_trials; i++) {
        if (is_done_by(&c->trials[i], model) && c->trials[i].seed == seed)
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

static mmf_status sum_scores(const mmf_plan *plan, row_scores *scores)
{
    const mmf_comparison *const c = plan->out;
    for (size_t t = 0; t < c->n_trials; t++) {
        if (!is_done_by(&c->trials[t], c->best_fusion))
            continue;
        const size_t other = trial_of(c, c->best_single, c->trials[t].seed);
        if (other == c->n_trials)
            continue;
        MMF_TRY(add_scores(plan, scores, t, scores->fusion));
        MMF_TRY(add_scores(plan, scores, other, scores->single));
        const mmf_split *const split = mmf_plan__split(plan, t);
        for (int64_t i = 0; i < split->count[MMF_TEST]; i++)
            scores->n[split->rows[MMF_TEST][i]]++;
    }
    return MMF_OK;
}

static mmf_status gain_from(const mmf_plan *plan, row_scores *scores, int64_t n_rows)
{
    mmf_comparison *const c = plan->out;
    MMF_TRY(sum_scores(plan, scores));
    int64_t n = 0;
    for (int64_t row = 0; row < n_rows; row++) {
        if (scores->n[row] == 0)
            continue;
        scores->fusion[n] = scores->fusion[row] / (double)scores->n[row];
        scores->single[n] = scores->single[row] / (double)scores->n[row];
        n++;
    }
    if (n == 0)
        return MMF_OK;
    mmf_interval gain = {0};
    MMF_TRY(mmf_paired_bootstrap(plan->ctx, &gain, scores->fusion, scores->single, n,
                                 BOOTSTRAP_DRAWS, MMF_COMPARE_LEVEL, plan->options->train.seed));
    c->gain = gain.mean;
    c->gain_low = gain.low;
    c->gain_high = gain.high;
    return MMF_OK;
}

mmf_status mmf_compare__gain(const mmf_plan *plan)
{
    mmf_comparison *const c = plan->out;
    c->gain = c->gain_low = c->gain_high = NAN;
    if (!c->best_fusion || !c->best_single)
        return MMF_OK;
    mmf_ctx *const ctx = plan->ctx;
    const size_t n_rows = (size_t)mmf_dataset_count(plan->dataset);
    /* One row more than any split has: room for a target behind the predictions. */
    const size_t n_values = (n_rows + 1) * (size_t)c->task.n_outputs;
    row_scores scores = {.fusion = mmf_alloc_zero(ctx, n_rows + 1, sizeof(double)),
                         .single = mmf_alloc_zero(ctx, n_rows + 1, sizeof(double)),
                         .n = mmf_alloc_zero(ctx, n_rows + 1, sizeof(int64_t)),
                         .values = mmf_alloc_zero(ctx, n_values, sizeof(double))};
    const bool ok = scores.fusion && scores.single && scores.n && scores.values;
    const mmf_status status = ok ? gain_from(plan, &scores, (int64_t)n_rows) : MMF_NOMEM;
    mmf_free(ctx, scores.fusion);
    mmf_free(ctx, scores.single);
    mmf_free(ctx, scores.n);
    mmf_free(ctx, scores.values);
    return status;
}

/* ---- Scheduling -------------------------------------------------------------------------- */

typedef struct schedule {
    mmf_plan *plan;
    mmf_job_state *states;
    size_t *order;
    double begin;
} schedule;

static mmf_status work(void *user, size_t trial)
{
    const schedule *const s = user;
    return mmf_trial__run(s->plan, trial);
}

/* How the late trials of a seed stand with the unimodal models that they share. */
typedef struct sharing {
    size_t n_unended; /* unimodal trials still to end */
    size_t n_made;    /* unimodal trials that left a model */
    bool late_runs, late_done;
} sharing;

static sharing look_at_seed(const schedule *s, size_t seed)
{
    sharing found = {0};
    for (size_t m = 0; m < s->plan->n_candidates; m++) {
        const size_t t = m * s->plan->n_seeds + seed;
        const mmf_candidate *const c = &s->plan->candidates[m];
        const bool done = mmf_trial__is_done(&s->plan->out->trials[t]);
        if (c->modality) {
            found.n_unended += s->states[t] != MMF_JOB_ENDED;
            found.n_made += s->states[t] == MMF_JOB_ENDED && done;
        } else if (c->is_late) {
            found.late_runs |= s->states[t] == MMF_JOB_RUNNING;
            found.late_done |= s->states[t] == MMF_JOB_ENDED && done;
        }
    }
    return found;
}

/* A late trial waits for the unimodal ones of its seed. Where some of those are missing, the first
 * late trial trains them alone, lest several do so at once. */
static bool is_ready(void *user, size_t trial)
{
    const schedule *const s = user;
    if (!mmf_plan__candidate(s->plan, trial)->is_late)
        return true;
    const sharing seed = look_at_seed(s, trial % s->plan->n_seeds);
    if (seed.n_unended > 0)
        return false;
    return seed.n_made == s->plan->schema.count || seed.late_done || !seed.late_runs;
}

static void tell(const schedule *s, size_t n_running)
{
    const mmf_compare_options *const options = s->plan->options;
    size_t n_done = 0;
    for (size_t t = 0; t < s->plan->out->n_trials; t++)
        n_done += s->states[t] == MMF_JOB_ENDED;
    options->watch(options->watch_user, s->plan->out, n_done, n_running, mmf_seconds() - s->begin);
}

static void tick(void *user, size_t n_running)
{
    tell(user, n_running);
}

static mmf_status ended(void *user, size_t trial, mmf_status status, const char *message)
{
    const schedule *const s = user;
    mmf_trial *const row = &s->plan->out->trials[trial];
    if (status == MMF_OK && !mmf_trial__load(s->plan, trial)) {
        status = MMF_IO;
        message = "it ended well, but its result is not in the folder";
    }
    if (status != MMF_OK) {
        row->status = status;
        strncpy(row->error, *message ? message : mmf_status_name(status), sizeof row->error - 1);
        row->error[sizeof row->error - 1] = '\0';
    }
    mmf_compare__rank(s->plan->out);
    return mmf_compare__save(s->plan);
}

/* Trials that others wait for come first, then long ones; late models come last as they only fit a
 * rule, but for stacking, which trains every unimodal model again on each fold. */
static int urgency(const mmf_candidate *c)
{
    if (c->modality)
        return 0;
    if (c->is_late && c->def->structure && strcmp(c->def->structure, "stacking") == 0)
        return 1;
    return c->is_late ? 3 : 2;
}

static bool comes_before(const schedule *s, size_t a, size_t b)
{
    const mmf_candidate *const x = mmf_plan__candidate(s->plan, a);
    const mmf_candidate *const y = mmf_plan__candidate(s->plan, b);
    if (urgency(x) != urgency(y))
        return urgency(x) < urgency(y);
    return x->work > y->work;
}

static void order_trials(schedule *s)
{
    for (size_t i = 0; i < s->plan->out->n_trials; i++) {
        size_t j = i;
        for (; j > 0 && comes_before(s, i, s->order[j - 1]); j--)
            s->order[j] = s->order[j - 1];
        s->order[j] = i;
    }
}

/* Keeps finished trials when resuming; else forgets what an earlier run has left. */
static void look_at_folder(schedule *s)
{
    for (size_t t = 0; t < s->plan->out->n_trials; t++) {
        const bool keep = s->plan->options->resume && mmf_trial__load(s->plan, t);
        if (keep || mmf_plan__candidate(s->plan, t)->is_refused) {
            s->states[t] = MMF_JOB_ENDED;
            continue;
        }
        char *const path = mmf_trial__path(s->plan, t, "trials", "json");
        if (path)
            unlink(path);
        mmf_free(s->plan->ctx, path);
    }
}

static void mark_unended(const schedule *s)
{
    for (size_t t = 0; t < s->plan->out->n_trials; t++) {
        mmf_trial *const row = &s->plan->out->trials[t];
        if (mmf_trial__is_pending(row)) {
            row->status = MMF_CANCELLED;
            strncpy(row->error, "interrupted before its end", sizeof row->error - 1);
        }
    }
}

static mmf_status run_schedule(schedule *s)
{
    mmf_plan *const plan = s->plan;
    look_at_folder(s);
    order_trials(s);
    mmf_compare__rank(plan->out);
    MMF_TRY(mmf_compare__save(plan));
    const mmf_jobs jobs = {.count = plan->out->n_trials,
                           .n_side_by_side = plan->n_side_by_side,
                           .order = s->order,
                           .states = s->states,
                           .user = s,
                           .work = work,
                           .is_ready = is_ready,
                           .ended = ended,
                           .tick = plan->options->watch ? tick : NULL};
    const mmf_status status = mmf_jobs_run(plan->ctx, &jobs);
    if (status != MMF_OK && status != MMF_CANCELLED)
        return status;
    mark_unended(s);
    mmf_compare__rank(plan->out);
    if (status == MMF_CANCELLED) {
        MMF_TRY(mmf_compare__save(plan));
        return mmf_fail(plan->ctx, MMF_CANCELLED, "interrupted; finished trials are kept in %s",
                        plan->options->folder);
    }
    MMF_TRY(mmf_compare__gain(plan));
    return mmf_compare__save(plan);
}

static mmf_status compare(mmf_plan *plan)
{
    MMF_TRY(mmf_plan__make(plan));
    const size_t n = plan->out->n_trials;
    schedule s = {.plan = plan, .begin = mmf_seconds()};
    s.states = mmf_alloc_zero(plan->ctx, n, sizeof *s.states);
    s.order = mmf_alloc_zero(plan->ctx, n, sizeof *s.order);
    const mmf_status status = s.states && s.order ? run_schedule(&s) : MMF_NOMEM;
    mmf_free(plan->ctx, s.states);
    mmf_free(plan->ctx, s.order);
    return status;
}

/* ---- Public ------------------------------------------------------------------------------ */

mmf_status mmf_compare(mmf_ctx *ctx, mmf_comparison *out, mmf_dataset *dataset,
                       const mmf_compare_options *options)
{
    *out = (mmf_comparison){.ctx = ctx, .gain = NAN, .gain_low = NAN, .gain_high = NAN};
    mmf_plan plan = {.ctx = ctx, .dataset = dataset, .options = options, .out = out};
    mmf_loss_list losses = {0};
    MMF_TRY(mmf_loss_list_parse(ctx, &losses, options->train.loss)); /* not once in every trial */
    const mmf_status status = compare(&plan);
    mmf_plan__clear(&plan);
    if (status != MMF_OK && status != MMF_CANCELLED)
        mmf_comparison_clear(out);
    return status;
}

void mmf_comparison_clear(mmf_comparison *comparison)
{
    mmf_ctx *const ctx = comparison->ctx;
    if (!ctx)
        return;
    for (size_t i = 0; comparison->names && comparison->names[i]; i++)
        mmf_free(ctx, comparison->names[i]);
    mmf_free(ctx, comparison->names);
    mmf_free(ctx, (void *)(uintptr_t)comparison->task.class_names);
    mmf_free(ctx, comparison->data);
    for (size_t i = 0; comparison->trials && i < comparison->n_trials; i++)
        mmf_free(ctx, comparison->trials[i].curve);
    mmf_free(ctx, comparison->trials);
    mmf_free(ctx, comparison->leaders);
    *comparison = (mmf_comparison){0};
}
