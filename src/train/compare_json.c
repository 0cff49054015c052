/* compare_json.c: a comparison, its trials and its draws as JSON. */
#include "train/compare_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/task.h"

static void put_number(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, mmf_json_number(value));
}

static void put_integer(json_t *object, const char *name, int64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void put_text(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, mmf_json_text(text));
}

static json_t *metrics_json(const mmf_metrics *metrics)
{
    json_t *const object = json_object();
    for (size_t i = 0; i < metrics->count; i++)
        put_number(object, metrics->items[i].name, metrics->items[i].value);
    return object;
}

static json_t *curve_json(const mmf_trial *trial, const char *metric)
{
    json_t *const list = json_array();
    for (int64_t i = 0; i < trial->n_curve; i++) {
        const mmf_epoch_scores *const e = &trial->curve[i];
        json_array_append_new(
            list, mmf_json_epoch(i + 1, e->train_loss, e->valid_loss, e->score, metric));
    }
    return list;
}

json_t *mmf_trial__json(const mmf_comparison *c, const mmf_trial *trial)
{
    json_t *const object = json_object();
    put_text(object, "model", trial->model);
    put_integer(object, "seed", (int64_t)trial->seed);
    json_object_set_new(object, "metrics", metrics_json(&trial->test));
    json_object_set_new(object, "valid", metrics_json(&trial->valid));
    if (!mmf_trial__is_done(trial)) {
        put_text(object, "error", trial->error);
        return object;
    }
    put_integer(object, "parameters", trial->n_parameters);
    put_integer(object, "epochs", trial->epochs);
    put_number(object, "train_seconds", trial->train_seconds);
    put_number(object, "latency_seconds", trial->latency);
    put_text(object, "left_aside", trial->left_aside);
    if (trial->n_curve > 0)
        json_object_set_new(object, "curve", curve_json(trial, mmf_task_main_metric(c->task.kind)));
    return object;
}

/* Takes over what it reads; NULL becomes null. */
static json_t *parse(const char *text)
{
    json_t *const value = text ? json_loads(text, 0, NULL) : NULL;
    return value ? value : json_null();
}

json_t *mmf_draw__json(const mmf_draw *draw)
{
    json_t *const object = json_object();
    put_integer(object, "draw", draw->number);
    json_object_set_new(object, "setting", parse(draw->setting));
    json_object_set_new(object, "valid", metrics_json(&draw->valid));
    if (draw->status != MMF_OK) {
        put_text(object, "error", draw->error);
        return object;
    }
    put_integer(object, "epochs", draw->epochs);
    put_number(object, "train_seconds", draw->train_seconds);
    return object;
}

/* [{"model", "chosen", "draws": [...]}] of draws that stand model by model. */
static json_t *tune_json(const mmf_comparison *c)
{
    json_t *const models = json_array();
    if (c->n_draws == 0) {
        json_decref(models);
        return json_null();
    }
    json_t *draws = NULL, *model = NULL;
    for (size_t i = 0; i < c->n_draws; i++) {
        const mmf_draw *const draw = &c->draws[i];
        if (i == 0 || strcmp(draw->model, c->draws[i - 1].model) != 0) {
            model = json_object();
            draws = json_array();
            put_text(model, "model", draw->model);
            json_object_set_new(model, "chosen", json_null());
            json_object_set_new(model, "draws", draws);
            json_array_append_new(models, model);
        }
        if (draw->is_chosen)
            put_integer(model, "chosen", draw->number);
        if (!mmf_draw__is_pending(draw))
            json_array_append_new(draws, mmf_draw__json(draw));
    }
    json_t *const object = json_object();
    put_text(object, "metric", mmf_task_main_metric(c->task.kind));
    put_integer(object, "seed", c->n_trials ? (int64_t)c->trials[0].seed : 0);
    json_object_set_new(object, "models", models);
    return object;
}

static json_t *against_json(const mmf_against *against, bool with_name)
{
    if (!against->reference)
        return json_null();
    json_t *const object = json_object();
    if (with_name)
        put_text(object, "model", against->reference);
    put_number(object, "difference", against->difference);
    put_number(object, "low", against->low);
    put_number(object, "high", against->high);
    put_number(object, "p", against->p);
    put_number(object, "p_adjusted", against->p_adjusted);
    return object;
}

static const mmf_draw *chosen_draw(const mmf_comparison *c, const char *model)
{
    for (size_t i = 0; i < c->n_draws; i++) {
        if (c->draws[i].is_chosen && strcmp(c->draws[i].model, model) == 0)
            return &c->draws[i];
    }
    return NULL;
}

static json_t *summaries_json(const mmf_comparison *c, const mmf_leader *leader, bool on_test)
{
    json_t *const object = json_object();
    const mmf_metrics *const means = on_test ? &leader->test_mean : &leader->valid_mean;
    for (size_t i = 0; i < means->count; i++) {
        const char *const name = means->items[i].name;
        const mmf_summary s = mmf_compare__summary(c, leader->model, on_test, name);
        json_t *const entry = json_object();
        put_number(entry, "mean", s.mean);
        put_number(entry, "std", s.deviation);
        put_integer(entry, "n", s.n);
        json_object_set_new(object, name, entry);
    }
    return object;
}

static json_t *leader_json(const mmf_comparison *c, const mmf_leader *leader)
{
    json_t *const object = json_object();
    const mmf_def *const def = mmf_model_find(leader->model);
    put_text(object, "model", leader->model);
    put_text(object, "structure", def ? def->structure : NULL);
    put_integer(object, "seeds", leader->n_seeds);
    json_object_set_new(object, "metrics", summaries_json(c, leader, true));
    json_object_set_new(object, "valid", summaries_json(c, leader, false));
    put_integer(object, "parameters", leader->n_parameters);
    put_number(object, "train_seconds", leader->train_seconds);
    put_number(object, "latency_seconds", leader->latency);
    json_object_set_new(object, "pareto", json_boolean(leader->is_pareto));
    json_t *const against = json_object();
    json_object_set_new(against, "joint-concat", against_json(&leader->against_concat, false));
    json_object_set_new(against, "best_single", against_json(&leader->against_single, true));
    json_object_set_new(object, "against", against);
    const mmf_draw *const draw = chosen_draw(c, leader->model);
    json_object_set_new(object, "setting", parse(draw ? draw->setting : NULL));
    return object;
}

/* What the tests of `against` are. */
static json_t *tests_json(const mmf_comparison *c)
{
    json_t *const object = json_object();
    put_text(object, "metric", mmf_compare__gain_metric(c->task.kind));
    put_text(object, "sign", "positive: better than the reference");
    put_text(object, "rows", "test rows, averaged over the seeds that both models have");
    put_text(object, "interval", "paired bootstrap over rows");
    put_number(object, "level", MMF_COMPARE_LEVEL);
    put_text(object, "p", "two-sided sign-flip permutation over rows");
    put_text(object, "p_adjusted", "Holm over all models of the leaderboard");
    return object;
}

static json_t *gain_json(const mmf_comparison *c)
{
    if (!isfinite(c->gain))
        return json_null();
    json_t *const object = json_object();
    put_text(object, "metric", mmf_compare__gain_metric(c->task.kind));
    put_text(object, "model", c->best_fusion);
    put_text(object, "over", c->best_single);
    put_number(object, "mean", c->gain);
    put_number(object, "low", c->gain_low);
    put_number(object, "high", c->gain_high);
    put_number(object, "level", MMF_COMPARE_LEVEL);
    return object;
}

static json_t *comparison_json(const mmf_comparison *c)
{
    json_t *const object = json_object();
    put_text(object, "data", c->data);
    put_text(object, "task", mmf_task_name(c->task.kind));
    put_text(object, "main_metric", mmf_task_main_metric(c->task.kind));
    json_t *const trials = json_array();
    for (size_t i = 0; i < c->n_trials; i++) {
        if (!mmf_trial__is_pending(&c->trials[i]))
            json_array_append_new(trials, mmf_trial__json(c, &c->trials[i]));
    }
    json_object_set_new(object, "trials", trials);
    json_t *const leaders = json_array();
    for (size_t i = 0; i < c->n_leaders; i++)
        json_array_append_new(leaders, leader_json(c, &c->leaders[i]));
    json_object_set_new(object, "leaderboard", leaders);
    put_text(object, "best_single", c->best_single);
    put_text(object, "best_fusion", c->best_fusion);
    json_object_set_new(object, "gain", gain_json(c));
    json_object_set_new(object, "tests", tests_json(c));
    json_object_set_new(object, "tune", tune_json(c));
    json_object_set_new(object, "baselines", json_object());
    return object;
}

char *mmf_comparison_json(const mmf_comparison *comparison)
{
    return mmf_json_dump(comparison->ctx, comparison_json(comparison), MMF_JSON_DIGITS);
}
