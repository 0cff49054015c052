/*
 * compare_files.c: what a comparison leaves in its folder: results.csv, results.json, a file and
 * the predictions of each trial.
 */
#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "train/compare.h"

#define RESULT_DIGITS 12
#define EXACT_DIGITS 17 /* a kept trial has the bits of one that has just ended */

/* ---- JSON -------------------------------------------------------------------------------- */

/* Adds a number; JSON knows neither NaN nor infinity. */
static void put_number(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, isfinite(value) ? json_real(value) : json_null());
}

static void put_integer(json_t *object, const char *name, int64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void put_text(json_t *object, const char *name, const char *text)
{
    /* Names may come from a file in another encoding than UTF-8. */
    json_t *value = text ? json_string(text) : json_null();
    if (!value)
        value = json_string("?");
    json_object_set_new(object, name, value);
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
    char score[MMF_METRIC_NAME_BYTES + 8];
    snprintf(score, sizeof score, "valid_%s", metric);
    for (int64_t i = 0; i < trial->n_curve; i++) {
        json_t *const row = json_object();
        put_integer(row, "epoch", i + 1);
        put_number(row, "train_loss", trial->curve[i].train_loss);
        put_number(row, "valid_loss", trial->curve[i].valid_loss);
        put_number(row, score, trial->curve[i].score);
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *trial_json(const mmf_comparison *c, const mmf_trial *trial)
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
    if (trial->n_curve > 0)
        json_object_set_new(object, "curve", curve_json(trial, mmf_task_main_metric(c->task.kind)));
    return object;
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
            json_array_append_new(trials, trial_json(c, &c->trials[i]));
    }
    json_object_set_new(object, "trials", trials);
    json_t *const leaders = json_array();
    for (size_t i = 0; i < c->n_leaders; i++)
        json_array_append_new(leaders, leader_json(c, &c->leaders[i]));
    json_object_set_new(object, "leaderboard", leaders);
    put_text(object, "best_single", c->best_single);
    put_text(object, "best_fusion", c->best_fusion);
    json_object_set_new(object, "gain", gain_json(c));
    json_object_set_new(object, "baselines", json_object());
    return object;
}

/* Takes over `object`; the text is the caller's, to be freed with mmf_free. NULL: no memory. */
static char *dump(mmf_ctx *ctx, json_t *object, size_t n_digits)
{
    char *const text =
        object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(n_digits)) : NULL;
    json_decref(object);
    char *const copy = text ? mmf_strdup(ctx, text) : NULL;
    free(text);
    return copy;
}

char *mmf_comparison_json(const mmf_comparison *comparison)
{
    return dump(comparison->ctx, comparison_json(comparison), RESULT_DIGITS);
}

/* ---- CSV --------------------------------------------------------------------------------- */

static void add_cell(mmf_text *text, const char *cell)
{
    if (!strpbrk(cell, ",\"\n\r")) {
        mmf_text_add(text, "%s", cell);
        return;
    }
    mmf_text_add(text, "\"");
    for (const char *c = cell; *c; c++)
        mmf_text_add(text, *c == '"' ? "\"\"" : "%c", *c);
    mmf_text_add(text, "\"");
}

/* Undefined scores are empty cells. */
static void add_scores(mmf_text *text, const mmf_metrics *names, const mmf_metrics *values)
{
    for (size_t i = 0; i < names->count; i++) {
        const double value = mmf_metrics_get(values, names->items[i].name);
        mmf_text_add(text, ",");
        if (isfinite(value))
            mmf_text_add(text, "%.9g", value);
    }
}

static void add_trial(mmf_text *text, const mmf_trial *trial, const mmf_metrics *test,
                      const mmf_metrics *valid)
{
    const bool done = mmf_trial__is_done(trial);
    add_cell(text, trial->model);
    mmf_text_add(text, ",%llu,%s,", (unsigned long long)trial->seed, done ? "done" : "failed");
    add_cell(text, trial->error);
    if (done)
        mmf_text_add(text, ",%lld,%lld,%.6g,%.6g", (long long)trial->n_parameters,
                     (long long)trial->epochs, trial->train_seconds, trial->latency);
    else
        mmf_text_add(text, ",,,,");
    add_scores(text, test, &trial->test);
    add_scores(text, valid, &trial->valid);
    mmf_text_add(text, "\n");
}

static void add_table(mmf_text *text, const mmf_comparison *c)
{
    static const mmf_metrics none;
    const mmf_trial *first = NULL; /* trials of one task have the same scores */
    for (size_t i = 0; !first && i < c->n_trials; i++)
        first = mmf_trial__is_done(&c->trials[i]) ? &c->trials[i] : NULL;
    const mmf_metrics *const test = first ? &first->test : &none;
    const mmf_metrics *const valid = first ? &first->valid : &none;
    mmf_text_add(text, "model,seed,status,error,parameters,epochs,train_seconds,latency_seconds");
    for (size_t i = 0; i < test->count; i++)
        mmf_text_add(text, ",%s", test->items[i].name);
    for (size_t i = 0; i < valid->count; i++)
        mmf_text_add(text, ",valid.%s", valid->items[i].name);
    mmf_text_add(text, "\n");
    for (size_t i = 0; i < c->n_trials; i++) {
        if (!mmf_trial__is_pending(&c->trials[i]))
            add_trial(text, &c->trials[i], test, valid);
    }
}

static mmf_status write_in(const mmf_plan *plan, const char *name, const char *text, size_t n)
{
    mmf_text path = {.ctx = plan->ctx};
    mmf_text_add(&path, "%s/%s", plan->options->folder, name);
    const mmf_status status =
        path.data ? mmf_write_text(plan->ctx, path.data, text, n) : path.status;
    mmf_text_clear(&path);
    return status;
}

static mmf_status write_csv(const mmf_plan *plan)
{
    mmf_text text = {.ctx = plan->ctx};
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return mmf_fail(plan->ctx, MMF_NOMEM, "cannot make a locale");
    const locale_t before = uselocale(c_locale);
    add_table(&text, plan->out);
    uselocale(before);
    freelocale(c_locale);
    const mmf_status status =
        text.status == MMF_OK ? write_in(plan, "results.csv", text.data, text.length) : text.status;
    mmf_text_clear(&text);
    return status;
}

mmf_status mmf_compare__save(const mmf_plan *plan)
{
    char *const json = mmf_comparison_json(plan->out);
    if (!json)
        return mmf_fail(plan->ctx, MMF_NOMEM, "out of memory while writing results.json");
    const mmf_status status = write_in(plan, "results.json", json, strlen(json));
    mmf_free(plan->ctx, json);
    MMF_TRY(status);
    return write_csv(plan);
}

/* ---- One trial --------------------------------------------------------------------------- */

char *mmf_trial__path(const mmf_plan *plan, size_t trial, const char *folder, const char *ending)
{
    const mmf_trial *const t = &plan->out->trials[trial];
    mmf_text path = {.ctx = plan->ctx};
    mmf_text_add(&path, "%s/%s/", plan->options->folder, folder);
    for (const char *c = t->model; *c; c++) /* keys of data files may contain slashes */
        mmf_text_add(&path, "%c", *c == '/' ? '_' : *c);
    mmf_text_add(&path, ".%llu.%s", (unsigned long long)t->seed, ending);
    if (path.status == MMF_OK)
        return path.data;
    mmf_text_clear(&path);
    return NULL;
}

static void fingerprint_text(const mmf_plan *plan, size_t trial, char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)plan->fingerprints[trial]);
}

mmf_status mmf_trial__save(const mmf_plan *plan, size_t trial, const mmf_trial *result)
{
    char mark[17];
    fingerprint_text(plan, trial, mark);
    json_t *const object = trial_json(plan->out, result);
    put_text(object, "fingerprint", mark);
    char *const text = dump(plan->ctx, object, EXACT_DIGITS);
    char *const path = mmf_trial__path(plan, trial, "trials", "json");
    const mmf_status status =
        text && path ? mmf_write_text(plan->ctx, path, text, strlen(text)) : MMF_NOMEM;
    mmf_free(plan->ctx, text);
    mmf_free(plan->ctx, path);
    return status;
}

static bool read_metrics(const json_t *object, mmf_metrics *out)
{
    const char *name = NULL;
    json_t *value = NULL;
    *out = (mmf_metrics){0};
    if (!json_is_object(object) || json_object_size(object) > MMF_METRICS_MAX)
        return false;
    /* jansson walks objects that are not const only, but changes nothing. */
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (strlen(name) >= MMF_METRIC_NAME_BYTES ||
            !(json_is_number(value) || json_is_null(value)))
            return false;
        mmf_metrics_add(out, name, json_is_null(value) ? NAN : json_number_value(value));
    }
    return true;
}

static double read_number(const json_t *object, const char *name)
{
    const json_t *const value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Takes a curve over; without memory, or where one is damaged, the trial goes without. */
static void read_curve(const mmf_plan *plan, const json_t *list, mmf_trial *out)
{
    char score[MMF_METRIC_NAME_BYTES + 8];
    const size_t n = json_array_size(list);
    snprintf(score, sizeof score, "valid_%s", mmf_task_main_metric(plan->out->task.kind));
    mmf_free(plan->ctx, out->curve);
    out->curve = n > 0 ? mmf_alloc_zero(plan->ctx, n, sizeof *out->curve) : NULL;
    out->n_curve = out->curve ? (int64_t)n : 0;
    for (int64_t i = 0; i < out->n_curve; i++) {
        const json_t *const row = json_array_get(list, (size_t)i);
        out->curve[i] = (mmf_epoch_scores){.train_loss = read_number(row, "train_loss"),
                                           .valid_loss = read_number(row, "valid_loss"),
                                           .score = read_number(row, score)};
    }
}

static bool read_trial(const mmf_plan *plan, size_t trial, const json_t *object)
{
    char mark[17];
    fingerprint_text(plan, trial, mark);
    const char *const found = json_string_value(json_object_get(object, "fingerprint"));
    mmf_trial result = plan->out->trials[trial];
    if (!found || strcmp(found, mark) != 0 || json_object_get(object, "error") ||
        !read_metrics(json_object_get(object, "metrics"), &result.test) ||
        !read_metrics(json_object_get(object, "valid"), &result.valid))
        return false;
    result.n_parameters = json_integer_value(json_object_get(object, "parameters"));
    result.epochs = json_integer_value(json_object_get(object, "epochs"));
    result.train_seconds = read_number(object, "train_seconds");
    result.latency = read_number(object, "latency_seconds");
    read_curve(plan, json_object_get(object, "curve"), &result);
    result.status = MMF_OK;
    result.error[0] = '\0';
    plan->out->trials[trial] = result;
    return true;
}

void mmf_trial__read_record(const mmf_plan *plan, const char *record, mmf_trial *out)
{
    json_t *const object = json_loads(record, 0, NULL);
    out->epochs = json_integer_value(json_object_get(object, "epochs"));
    out->train_seconds = read_number(object, "seconds");
    if (!read_metrics(json_object_get(object, "valid"), &out->valid))
        out->valid = (mmf_metrics){0};
    read_curve(plan, json_object_get(object, "curve"), out);
    json_decref(object);
}

bool mmf_trial__load(const mmf_plan *plan, size_t trial)
{
    char *const path = mmf_trial__path(plan, trial, "trials", "json");
    char *const rows = mmf_trial__path(plan, trial, "predictions", "npz");
    json_t *const object =
        path && rows && access(rows, R_OK) == 0 ? json_load_file(path, 0, NULL) : NULL;
    const bool found = object && read_trial(plan, trial, object);
    json_decref(object);
    mmf_free(plan->ctx, path);
    mmf_free(plan->ctx, rows);
    return found;
}

/* ---- Predictions of a trial -------------------------------------------------------------- */

static mmf_array array_of(mmf_dtype dtype, const void *data, int64_t n_rows, int64_t width)
{
    return (mmf_array){.dtype = dtype,
                       .n_dims = width > 0 ? 2 : 1,
                       .shape = {n_rows, width},
                       .item_bytes = mmf_dtype_bytes(dtype),
                       .data = data};
}

static mmf_status add_targets(const mmf_plan *plan, mmf_npz_writer *writer, const char *name,
                              const mmf_trial_rows *part)
{
    const mmf_target_kind kind = plan->out->task.kind;
    const bool wide = kind == MMF_TARGET_MULTILABEL || kind == MMF_TARGET_SOFT;
    const int64_t width = wide ? plan->out->task.n_outputs : 1;
    double *const targets =
        mmf_alloc_zero(plan->ctx, (size_t)part->n_rows * (size_t)width, sizeof *targets);
    if (!targets)
        return MMF_NOMEM;
    for (int64_t i = 0; i < part->n_rows; i++)
        mmf_dataset_target(plan->dataset, part->rows[i], targets + i * width);
    const mmf_array array = array_of(MMF_F64, targets, part->n_rows, wide ? width : 0);
    const mmf_status status = mmf_npz_add(writer, name, &array);
    mmf_free(plan->ctx, targets);
    return status;
}

static mmf_status add_part(const mmf_plan *plan, mmf_npz_writer *writer, const char *part_name,
                           const mmf_trial_rows *part)
{
    char name[32];
    const int64_t width = part->n_outputs;
    const mmf_array rows = array_of(MMF_I64, part->rows, part->n_rows, 0);
    const mmf_array values = array_of(MMF_F64, part->values, part->n_rows, width);
    snprintf(name, sizeof name, "%s.rows", part_name);
    MMF_TRY(mmf_npz_add(writer, name, &rows));
    snprintf(name, sizeof name, "%s.prediction", part_name);
    MMF_TRY(mmf_npz_add(writer, name, &values));
    snprintf(name, sizeof name, "%s.target", part_name);
    if (mmf_dataset_n_classes(plan->dataset) == 0)
        return MMF_OK;
    return add_targets(plan, writer, name, part);
}

mmf_status mmf_trial__save_rows(const mmf_plan *plan, size_t trial, const mmf_trial_rows parts[3])
{
    char *const path = mmf_trial__path(plan, trial, "predictions", "npz");
    mmf_npz_writer *writer = NULL;
    mmf_status status = path ? mmf_npz_create(plan->ctx, &writer, path, false) : MMF_NOMEM;
    if (status == MMF_OK && parts[MMF_VALID].n_rows > 0)
        status = add_part(plan, writer, "valid", &parts[MMF_VALID]);
    if (status == MMF_OK && parts[MMF_TEST].n_rows > 0)
        status = add_part(plan, writer, "test", &parts[MMF_TEST]);
    if (status == MMF_OK)
        status = mmf_npz_commit(writer);
    else
        mmf_npz_discard(writer);
    mmf_free(plan->ctx, path);
    return status;
}

static mmf_status copy_test(const mmf_plan *plan, size_t trial, mmf_archive *archive,
                            double *values)
{
    const mmf_split *const split = mmf_plan__split(plan, trial);
    const int64_t width = plan->out->task.n_outputs, n = split->count[MMF_TEST];
    const int64_t at = mmf_archive_find(archive, "test.prediction");
    mmf_array array = {0};
    if (at >= 0)
        MMF_TRY(mmf_archive_load(archive, (size_t)at, &array));
    if (array.n_dims != 2 || array.shape[0] != n || array.shape[1] != width ||
        !mmf_dtype_is_float(array.dtype))
        return mmf_fail(plan->ctx, MMF_FORMAT,
                        "%s: test.prediction is not an array of numbers of shape (%lld, %lld)",
                        mmf_archive_path(archive), (long long)n, (long long)width);
    mmf_array_doubles(&array, 0, n * width, values);
    return MMF_OK;
}

mmf_status mmf_trial__load_test(const mmf_plan *plan, size_t trial, double *values)
{
    char *const path = mmf_trial__path(plan, trial, "predictions", "npz");
    mmf_archive *archive = NULL;
    mmf_status status = path ? mmf_archive_open(plan->ctx, &archive, path, NULL) : MMF_NOMEM;
    if (status == MMF_OK)
        status = copy_test(plan, trial, archive, values);
    mmf_archive_close(archive);
    mmf_free(plan->ctx, path);
    return status;
}
