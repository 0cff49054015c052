/*
 * compare.c: many models with several seeds as child processes, ranked on validation.
 *
 * The parent never runs an operation, so that its children start without an OpenMP pool that fork
 * would break. Each trial is a process that ends with its result in a file of the folder.
 */
#include "train/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tasks/task.h"
#include "train/jobs.h"
#include "train/trainer.h"

/* ---- Ranking ----------------------------------------------------------------------------- */

bool mmf_trial__is_done(const mmf_trial *trial)
{
    return trial->status == MMF_OK;
}

bool mmf_trial__is_pending(const mmf_trial *trial)
{
    return trial->status == MMF_STATE && !trial->error[0];
}

bool mmf_trial__is_done_by(const mmf_trial *trial, const char *model)
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
        if (mmf_trial__is_done_by(t, model))
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
        if (mmf_trial__is_done_by(t, model)) {
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
        leader->n_seeds += mmf_trial__is_done_by(&c->trials[i], first->model);
    summarise_metrics(c, leader, first);
    leader->train_seconds = mean_seconds(c, first->model, false);
    leader->latency = mean_seconds(c, first->model, true);
}

/* Sums of the same scores in another order differ in their last digits. */
#define EQUAL_BELOW 1e10

double mmf_compare__validation(const mmf_leader *leader, const char *metric)
{
    const double score = mmf_metrics_get(&leader->valid_mean, metric);
    return isfinite(score) ? round(score * EQUAL_BELOW) / EQUAL_BELOW : score;
}

/* Validation decides, then size; a score that is undefined comes last. */
static bool is_better(const mmf_leader *a, const mmf_leader *b, const char *metric)
{
    const double x = mmf_compare__validation(a, metric), y = mmf_compare__validation(b, metric);
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
    mmf_compare__mark_pareto(comparison);
    comparison->best_single = comparison->best_fusion = NULL;
    for (size_t i = comparison->n_leaders; i-- > 0;) {
        const char *const model = comparison->leaders[i].model;
        if (mmf_model_only_modality(model))
            comparison->best_single = model;
        else
            comparison->best_fusion = model;
    }
}

/* ---- Scheduling -------------------------------------------------------------------------- */

/* Jobs are the trials, and behind them the draws. */
typedef struct schedule {
    mmf_plan *plan;
    mmf_job_state *states;
    size_t *order;
    double begin;
} schedule;

static size_t n_jobs(const schedule *s)
{
    return s->plan->out->n_trials + s->plan->out->n_draws;
}

static bool is_draw(const schedule *s, size_t job)
{
    return job >= s->plan->out->n_trials;
}

static size_t draw_of(const schedule *s, size_t job)
{
    return job - s->plan->out->n_trials;
}

static const mmf_candidate *candidate_of(const schedule *s, size_t job)
{
    return is_draw(s, job) ? mmf_draw__candidate(s->plan, draw_of(s, job))
                           : mmf_plan__candidate(s->plan, job);
}

static mmf_status work(void *user, size_t job)
{
    const schedule *const s = user;
    return is_draw(s, job) ? mmf_draw__run(s->plan, draw_of(s, job)) : mmf_trial__run(s->plan, job);
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
            found.n_made += s->states[t] == MMF_JOB_ENDED && done && c->n_draws == 0;
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
    const mmf_candidate *const c = candidate_of(s, trial);
    if (is_draw(s, trial))
        return true;
    if (!c->is_late)
        return mmf_plan__is_tuned(s->plan, c);
    const sharing seed = look_at_seed(s, trial % s->plan->n_seeds);
    if (seed.n_unended > 0)
        return false;
    return seed.n_made == s->plan->schema.count || seed.late_done || !seed.late_runs;
}

static void tell(const schedule *s, size_t n_running)
{
    const mmf_compare_options *const options = s->plan->options;
    size_t n_done = 0;
    for (size_t job = 0; job < n_jobs(s); job++)
        n_done += s->states[job] == MMF_JOB_ENDED;
    options->watch(options->watch_user, s->plan->out, n_done, n_running, mmf_seconds() - s->begin);
}

static void tick(void *user, size_t n_running)
{
    tell(user, n_running);
}

static void note_failure(mmf_status status, const char *message, mmf_status *out, char *error,
                         size_t size)
{
    *out = status;
    snprintf(error, size, "%s", *message ? message : mmf_status_name(status));
}

/* The last draw of a model decides what its trials are run with. */
static mmf_status draw_ended(const schedule *s, size_t draw)
{
    const size_t candidate = s->plan->tunings[draw].candidate;
    return mmf_plan__is_tuned(s->plan, &s->plan->candidates[candidate])
               ? mmf_plan__choose_draw(s->plan, candidate)
               : MMF_OK;
}

static mmf_status ended(void *user, size_t job, mmf_status status, const char *message)
{
    const schedule *const s = user;
    const bool draw = is_draw(s, job);
    if (status == MMF_OK &&
        !(draw ? mmf_draw__load(s->plan, draw_of(s, job)) : mmf_trial__load(s->plan, job))) {
        status = MMF_IO;
        message = "it ended well, but its result is not in the folder";
    }
    mmf_draw *const row = draw ? &s->plan->out->draws[draw_of(s, job)] : NULL;
    mmf_trial *const trial = draw ? NULL : &s->plan->out->trials[job];
    if (status != MMF_OK)
        note_failure(status, message, draw ? &row->status : &trial->status,
                     draw ? row->error : trial->error,
                     draw ? sizeof row->error : sizeof trial->error);
    if (draw)
        MMF_TRY(draw_ended(s, draw_of(s, job)));
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
    const mmf_candidate *const x = candidate_of(s, a);
    const mmf_candidate *const y = candidate_of(s, b);
    if (urgency(x) != urgency(y))
        return urgency(x) < urgency(y);
    if (x->work != y->work)
        return x->work > y->work;
    return is_draw(s, a) && !is_draw(s, b) && x == y; /* a model's trials wait for its draws */
}

static void order_trials(schedule *s)
{
    for (size_t i = 0; i < n_jobs(s); i++) {
        size_t j = i;
        for (; j > 0 && comes_before(s, i, s->order[j - 1]); j--)
            s->order[j] = s->order[j - 1];
        s->order[j] = i;
    }
}

/* Whether there was something. */
static bool forget(const schedule *s, char *path)
{
    const bool was_there = path && unlink(path) == 0;
    mmf_free(s->plan->ctx, path);
    return was_there;
}

/* What --resume did not do is said. */
static void tell_resumed(const mmf_plan *plan, size_t n_kept, size_t n_forgotten)
{
    const char *const folder = plan->options->folder;
    if (n_forgotten > 0)
        mmf_ctx_log(plan->ctx, MMF_LOG_INFO,
                    "%s: %zu of %zu trials are trained anew: those there failed, or are of other "
                    "data or options",
                    folder, n_forgotten, plan->out->n_trials);
    else if (n_kept == 0)
        mmf_ctx_log(plan->ctx, MMF_LOG_INFO,
                    "%s: there are no finished trials; the comparison begins anew", folder);
}

/* Keeps what is finished when resuming; else forgets what an earlier run has left. Draws come
 * first: they decide what the trials are run with. */
static mmf_status look_at_folder(schedule *s)
{
    mmf_plan *const plan = s->plan;
    size_t n_kept = 0, n_forgotten = 0;
    for (size_t d = 0; d < plan->out->n_draws; d++) {
        const bool is_kept = plan->options->resume && mmf_draw__load(plan, d);
        if (is_kept)
            s->states[plan->out->n_trials + d] = MMF_JOB_ENDED;
        else
            (void)forget(s, mmf_draw__path(plan, d));
        n_kept += is_kept;
    }
    for (size_t i = 0; i < plan->n_candidates; i++) {
        const mmf_candidate *const c = &plan->candidates[i];
        if (c->n_draws > 0 && mmf_plan__is_tuned(plan, c))
            MMF_TRY(mmf_plan__choose_draw(plan, i));
    }
    for (size_t t = 0; t < plan->out->n_trials; t++) {
        const mmf_candidate *const c = mmf_plan__candidate(plan, t);
        const bool can_keep = plan->options->resume && mmf_plan__is_tuned(plan, c);
        const bool is_kept = !c->is_refused && can_keep && mmf_trial__load(plan, t);
        if (c->is_refused || is_kept)
            s->states[t] = MMF_JOB_ENDED;
        else
            n_forgotten += forget(s, mmf_trial__path(plan, t, "trials", "json"));
        n_kept += is_kept;
    }
    if (plan->options->resume)
        tell_resumed(plan, n_kept, n_forgotten);
    return MMF_OK;
}

static void mark_unended(const schedule *s)
{
    static const char message[] = "interrupted before its end";
    mmf_comparison *const out = s->plan->out;
    for (size_t t = 0; t < out->n_trials; t++) {
        mmf_trial *const row = &out->trials[t];
        if (mmf_trial__is_pending(row))
            note_failure(MMF_CANCELLED, message, &row->status, row->error, sizeof row->error);
    }
    for (size_t d = 0; d < out->n_draws; d++) {
        mmf_draw *const row = &out->draws[d];
        if (mmf_draw__is_pending(row))
            note_failure(MMF_CANCELLED, message, &row->status, row->error, sizeof row->error);
    }
}

static mmf_status run_schedule(schedule *s)
{
    mmf_plan *const plan = s->plan;
    MMF_TRY(look_at_folder(s));
    order_trials(s);
    mmf_compare__rank(plan->out);
    MMF_TRY(mmf_compare__save(plan));
    const mmf_jobs jobs = {.count = n_jobs(s),
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
    MMF_TRY(mmf_compare__test(plan));
    return mmf_compare__save(plan);
}

static mmf_status compare(mmf_plan *plan)
{
    MMF_TRY(mmf_plan__make(plan));
    schedule s = {.plan = plan, .begin = mmf_seconds()};
    const size_t n = n_jobs(&s);
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
    mmf_plan plan = {.ctx = ctx, .dataset = dataset, .options = options, .out = out, .lock = -1};
    mmf_loss_list losses = {0};
    mmf_aid_list aids = {0};
    /* Misspelt once, not in every trial. */
    mmf_status status = mmf_loss_list_parse(ctx, &losses, options->train.loss);
    if (status == MMF_OK)
        status = mmf_aid_list_parse(ctx, &aids, options->train.aid);
    mmf_aid_list_clear(&aids);
    if (status == MMF_OK)
        status = compare(&plan);
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
    for (size_t i = 0; i < comparison->n_draws; i++)
        mmf_free(ctx, comparison->draws[i].setting);
    mmf_free(ctx, comparison->draws);
    *comparison = (mmf_comparison){0};
}
