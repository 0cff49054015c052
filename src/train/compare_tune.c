/*
 * compare_tune.c: a small random search over a model's own options and the learning rate.
 *
 * Settings are drawn around the defaults (Bergstra and Bengio, Random search for hyper-parameter
 * optimization, JMLR 2012): sizes within a factor of two, other numbers within a factor of four and
 * the learning rate within ten, all log-uniform; shares between 0 and 0.6 uniformly; switches and
 * choices among their values. A row of the option table may give another range. The options as they
 * are given are the first draw, so that searching never loses to not searching on validation. Draws
 * see training and validation rows only.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tasks/task.h"
#include "train/compare.h"
#include "train/trainer.h"

#define SIZE_FACTOR 2
#define NUMBER_FACTOR 4
#define LR_FACTOR 10
#define LARGEST_SHARE 0.6
#define LEAST_SHARE 0.01 /* of a default; below it is an epsilon */
#define VALUE_BYTES 512
/* Draws of a setting until the model can be made with it: a width may have to be a multiple. */
#define MOST_ATTEMPTS 100

/* ---- Ranges ------------------------------------------------------------------------------ */

static bool is_number(const mmf_option *row)
{
    return row->type == MMF_OPTION_INT || row->type == MMF_OPTION_REAL ||
           row->type == MMF_OPTION_INTS || row->type == MMF_OPTION_REALS;
}

static bool is_whole(const mmf_option *row)
{
    return row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS;
}

/* Rates of dropout and the like, but no tiny constants. */
static bool is_share(const mmf_option *row)
{
    double standard = 0;
    const size_t n = row->standard ? strcspn(row->standard, ",") : 0;
    return !is_whole(row) && row->low >= 0 && row->high <= 1 &&
           mmf_text_number(row->standard, n, &standard) &&
           (standard == 0 || standard >= LEAST_SHARE);
}

/* "low|high" of a number's row. */
static bool given_range(const mmf_option *row, double *low, double *high)
{
    const char *const bar = row->choices ? strchr(row->choices, '|') : NULL;
    return bar && mmf_text_number(row->choices, (size_t)(bar - row->choices), low) &&
           mmf_text_number(bar + 1, strlen(bar + 1), high);
}

static double number_at(const mmf_config *config, const mmf_option *row, size_t i)
{
    switch (row->type) {
    case MMF_OPTION_INT:
        return (double)mmf_config_int(config, row->name);
    case MMF_OPTION_REAL:
        return mmf_config_real(config, row->name);
    default:
        return mmf_config_number_at(config, row->name, i);
    }
}

static bool is_tuned(const mmf_config *config, const mmf_option *row)
{
    double low = 0, high = 0;
    if (mmf_option_is_common(row) || mmf_config_is_set(config, row->name))
        return false;
    if (row->type == MMF_OPTION_BOOL)
        return true;
    if (row->type == MMF_OPTION_TEXT)
        return row->choices != NULL;
    if (!is_number(row) || (row->choices && strcmp(row->choices, "-") == 0))
        return false;
    if (given_range(row, &low, &high))
        return true;
    /* Defaults by the data are known to `build` alone; 0 often stands for something else. */
    const double standard = number_at(config, row, 0);
    return row->standard && *row->standard && (standard > 0 || is_share(row));
}

static double log_uniform(mmf_rng *rng, double low, double high)
{
    return low < high ? low * pow(high / low, mmf_rng_uniform(rng)) : low;
}

static double clamp(double x, double low, double high)
{
    return fmin(high, fmax(low, x));
}

static double draw_number(const mmf_option *row, double standard, mmf_rng *rng)
{
    double low = 0, high = 0;
    if (!given_range(row, &low, &high)) {
        if (is_share(row))
            return clamp(LARGEST_SHARE * mmf_rng_uniform(rng), row->low, row->high);
        const double factor = is_whole(row) ? SIZE_FACTOR : NUMBER_FACTOR;
        low = standard / factor;
        high = standard * factor;
    }
    low = clamp(low, row->low, row->high);
    high = clamp(high, row->low, row->high);
    return low > 0 ? log_uniform(rng, low, high) : low + (high - low) * mmf_rng_uniform(rng);
}

/* Every element of a list is drawn around its own default. */
static void draw_numbers(const mmf_config *config, const mmf_option *row, mmf_rng *rng, char *out)
{
    const bool is_list = row->type == MMF_OPTION_INTS || row->type == MMF_OPTION_REALS;
    const size_t n = is_list ? mmf_config_count(config, row->name) : 1;
    size_t used = 0;
    for (size_t i = 0; i < (n > 0 ? n : 1) && used < VALUE_BYTES; i++) {
        const double standard = number_at(config, row, i);
        const double value = draw_number(row, standard, rng);
        used +=
            (size_t)snprintf(out + used, VALUE_BYTES - used, is_whole(row) ? "%s%.0f" : "%s%.6g",
                             i ? "," : "", is_whole(row) ? round(value) : value);
    }
}

static void draw_choice(const char *choices, mmf_rng *rng, char *out)
{
    size_t n = 1;
    for (const char *c = choices; *c; c++)
        n += *c == '|';
    size_t chosen = (size_t)mmf_rng_below(rng, n);
    const char *at = choices;
    for (; chosen > 0; chosen--)
        at += strcspn(at, "|") + 1;
    snprintf(out, VALUE_BYTES, "%.*s", (int)strcspn(at, "|"), at);
}

static mmf_status draw_options(mmf_config *config, const mmf_config *given, mmf_rng *rng)
{
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(mmf_config_def(given), row))) {
        char value[VALUE_BYTES];
        if (!is_tuned(given, row))
            continue;
        if (is_number(row))
            draw_numbers(given, row, rng, value);
        else
            draw_choice(row->type == MMF_OPTION_BOOL ? "false|true" : row->choices, rng, value);
        MMF_TRY(mmf_config_set(config, row->name, value));
    }
    return MMF_OK;
}

static mmf_status fingerprint(mmf_plan *plan, mmf_tuning *tuning, const char *name)
{
    char *const config = mmf_config_json(tuning->config);
    mmf_text text = {.ctx = plan->ctx};
    mmf_text_add(&text, "draw %s %s %llu %.17g %llu %s", mmf_version(), name,
                 (unsigned long long)plan->options->train.seed, tuning->lr,
                 (unsigned long long)plan->common[0], config ? config : "");
    tuning->fingerprint = text.data ? mmf_rng_stream(text.data) : 0;
    const bool ok = config && text.status == MMF_OK;
    mmf_text_clear(&text);
    mmf_free(plan->ctx, config);
    return ok ? MMF_OK : MMF_NOMEM;
}

/* The tuned options of a configuration. */
static char *setting_of(mmf_ctx *ctx, const mmf_config *config, const mmf_config *given, double lr)
{
    char *const all = mmf_config_json(config);
    json_t *const values = all ? json_loads(all, 0, NULL) : NULL;
    json_t *const setting = json_object();
    const mmf_option *row = NULL;
    json_object_set_new(setting, "lr", json_real(lr));
    while ((row = mmf_option_next(mmf_config_def(given), row))) {
        if (is_tuned(given, row))
            json_object_set(setting, row->name, json_object_get(values, row->name));
    }
    char *const text = values ? json_dumps(setting, JSON_REAL_PRECISION(8)) : NULL;
    char *const copy = text ? mmf_strdup(ctx, text) : NULL;
    free(text);
    json_decref(setting);
    json_decref(values);
    mmf_free(ctx, all);
    return copy;
}

/* ---- Plan -------------------------------------------------------------------------------- */

const mmf_candidate *mmf_draw__candidate(const mmf_plan *plan, size_t draw)
{
    return &plan->candidates[plan->tunings[draw].candidate];
}

static mmf_status make_draw(mmf_plan *plan, size_t candidate, size_t draw, int64_t number)
{
    const mmf_candidate *const c = &plan->candidates[candidate];
    const mmf_train_options *const o = &plan->options->train;
    mmf_tuning *const tuning = &plan->tunings[draw];
    mmf_draw *const row = &plan->out->draws[draw];
    mmf_rng rng =
        mmf_rng_make(o->seed ^ mmf_rng_stream(c->name), mmf_rng_stream("tune") + (uint64_t)number);
    const double standard = c->def->lr > 0 ? c->def->lr : MMF_DEFAULT_LR;
    *tuning = (mmf_tuning){.candidate = candidate,
                           .lr = o->optimizer.lr > 0 ? o->optimizer.lr : standard};
    *row = (mmf_draw){.model = c->name, .number = number, .status = MMF_STATE};
    MMF_TRY(mmf_config_copy(plan->ctx, &tuning->config, c->config));
    if (number > 0 && !(o->optimizer.lr > 0))
        tuning->lr = log_uniform(&rng, standard / LR_FACTOR, standard * LR_FACTOR);
    for (int i = 0; number > 0 && i < MOST_ATTEMPTS; i++) {
        MMF_TRY(draw_options(tuning->config, c->config, &rng));
        if (mmf_train__builds(plan->ctx, plan->dataset, c->name, &plan->out->task, tuning->config,
                              o))
            break;
    }
    MMF_TRY(fingerprint(plan, tuning, c->name));
    row->setting = setting_of(plan->ctx, tuning->config, c->config, tuning->lr);
    return row->setting ? MMF_OK : MMF_NOMEM;
}

mmf_status mmf_plan__make_draws(mmf_plan *plan)
{
    const int64_t n = plan->options->n_tune;
    size_t n_tuned = 0, draw = 0;
    for (size_t i = 0; n > 0 && i < plan->n_candidates; i++)
        n_tuned += !plan->candidates[i].is_refused && !plan->candidates[i].is_late;
    if (n_tuned == 0)
        return MMF_OK;
    plan->tunings = mmf_alloc_zero(plan->ctx, n_tuned * (size_t)n, sizeof *plan->tunings);
    plan->out->draws = mmf_alloc_zero(plan->ctx, n_tuned * (size_t)n, sizeof *plan->out->draws);
    if (!plan->tunings || !plan->out->draws)
        return MMF_NOMEM;
    plan->out->n_draws = n_tuned * (size_t)n; /* what is not filled yet is zero */
    for (size_t i = 0; i < plan->n_candidates; i++) {
        mmf_candidate *const c = &plan->candidates[i];
        if (c->is_refused || c->is_late)
            continue;
        c->first_draw = draw;
        c->n_draws = (size_t)n;
        for (int64_t k = 0; k < n; k++)
            MMF_TRY(make_draw(plan, i, draw++, k));
    }
    return MMF_OK;
}

/* ---- Choice ------------------------------------------------------------------------------ */

bool mmf_draw__is_pending(const mmf_draw *draw)
{
    return draw->status == MMF_STATE && !draw->error[0];
}

bool mmf_plan__is_tuned(const mmf_plan *plan, const mmf_candidate *c)
{
    for (size_t i = 0; i < c->n_draws; i++) {
        if (mmf_draw__is_pending(&plan->out->draws[c->first_draw + i]))
            return false;
    }
    return true;
}

static bool is_better(const mmf_draw *a, const mmf_draw *b, const char *metric)
{
    const double x = mmf_metrics_get(&a->valid, metric), y = mmf_metrics_get(&b->valid, metric);
    if (isnan(x) || isnan(y))
        return isnan(y) && !isnan(x);
    return mmf_metric_higher_is_better(metric) ? x > y : x < y;
}

mmf_status mmf_plan__choose_draw(mmf_plan *plan, size_t candidate)
{
    mmf_candidate *const c = &plan->candidates[candidate];
    const char *const metric = mmf_task_main_metric(plan->out->task.kind);
    mmf_draw *const draws = plan->out->draws + c->first_draw;
    size_t best = c->n_draws;
    for (size_t i = 0; i < c->n_draws; i++) {
        draws[i].is_chosen = false;
        if (draws[i].status == MMF_OK &&
            (best == c->n_draws || is_better(&draws[i], &draws[best], metric)))
            best = i;
    }
    if (best < c->n_draws) { /* else the trials will say what is wrong */
        const mmf_tuning *const tuning = &plan->tunings[c->first_draw + best];
        mmf_config *config = NULL;
        MMF_TRY(mmf_config_copy(plan->ctx, &config, tuning->config));
        mmf_config_free(c->config);
        c->config = config;
        c->lr = tuning->lr;
        draws[best].is_chosen = true;
    }
    for (size_t s = 0; s < plan->n_seeds; s++)
        MMF_TRY(mmf_plan__fingerprint(plan, candidate * plan->n_seeds + s));
    return MMF_OK;
}

/* ---- One draw ---------------------------------------------------------------------------- */

mmf_status mmf_draw__run(const mmf_plan *plan, size_t draw)
{
    const mmf_candidate *const c = mmf_draw__candidate(plan, draw);
    mmf_train_options options = mmf_trial__options(plan);
    mmf_model *model = NULL;
    options.optimizer.lr = plan->tunings[draw].lr;
    options.refit = false; /* it is judged before */
    mmf_ctx_set_threads(plan->ctx, plan->n_threads);
    MMF_TRY(mmf_train(plan->ctx, &model, plan->dataset, &plan->splits[0], c->name,
                      plan->tunings[draw].config, &options));
    const mmf_status status = mmf_draw__save(plan, draw, mmf_model_record(model));
    mmf_model_free(model);
    return status;
}
