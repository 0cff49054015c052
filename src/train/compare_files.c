/*
 * compare_files.c: what a comparison leaves in its folder: results.csv, results.json, a file of
 * each draw, a file and the predictions of each trial.
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
#include "train/compare_json.h"

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

static void add_number(mmf_text *text, double value)
{
    mmf_text_add(text, ",");
    if (isfinite(value))
        mmf_text_add(text, "%.6g", value);
}

static void add_against(mmf_text *text, const mmf_against *against)
{
    const double values[] = {against->difference, against->low, against->high, against->p,
                             against->p_adjusted};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        add_number(text, against->reference ? values[i] : NAN);
}

/* What a model's place says, the same in all of its rows. */
static void add_place(mmf_text *text, const mmf_comparison *c, const mmf_trial *trial)
{
    static const mmf_leader none;
    const mmf_leader *leader = &none;
    for (size_t i = 0; i < c->n_leaders && mmf_trial__is_done(trial); i++)
        leader = strcmp(c->leaders[i].model, trial->model) == 0 ? &c->leaders[i] : leader;
    mmf_text_add(text, ",%s", leader == &none ? "" : leader->is_pareto ? "true" : "false");
    add_against(text, &leader->against_concat);
    add_against(text, &leader->against_single);
}

static void add_trial(mmf_text *text, const mmf_comparison *c, const mmf_trial *trial,
                      const mmf_metrics *test, const mmf_metrics *valid)
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
    add_place(text, c, trial);
    mmf_text_add(text, "\n");
}

static void add_table(mmf_text *text, const mmf_comparison *c)
{
    static const mmf_metrics none;
    static const char *const against[] = {"difference", "low", "high", "p", "p_adjusted"};
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
    mmf_text_add(text, ",pareto");
    for (int i = 0; i < 10; i++)
        mmf_text_add(text, ",%s.%s", i < 5 ? "joint-concat" : "best_single", against[i % 5]);
    mmf_text_add(text, "\n");
    for (size_t i = 0; i < c->n_trials; i++) {
        if (!mmf_trial__is_pending(&c->trials[i]))
            add_trial(text, c, &c->trials[i], test, valid);
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

static char *path_of(const mmf_plan *plan, const char *folder, const char *model, uint64_t number,
                     const char *ending)
{
    mmf_text path = {.ctx = plan->ctx};
    mmf_text_add(&path, "%s/%s/", plan->options->folder, folder);
    for (const char *c = model; *c; c++) /* keys of data files may contain slashes */
        mmf_text_add(&path, "%c", *c == '/' ? '_' : *c);
    mmf_text_add(&path, ".%llu.%s", (unsigned long long)number, ending);
    if (path.status == MMF_OK)
        return path.data;
    mmf_text_clear(&path);
    return NULL;
}

char *mmf_trial__path(const mmf_plan *plan, size_t trial, const char *folder, const char *ending)
{
    const mmf_trial *const t = &plan->out->trials[trial];
    return path_of(plan, folder, t->model, t->seed, ending);
}

static void fingerprint_text(uint64_t fingerprint, char out[17])
{
    snprintf(out, 17, "%016llx", (unsigned long long)fingerprint);
}

/* Takes over both. */
static mmf_status write_object(const mmf_plan *plan, json_t *object, char *path)
{
    char *const text = mmf_json_dump(plan->ctx, object, MMF_JSON_EXACT);
    const mmf_status status =
        text && path ? mmf_write_text(plan->ctx, path, text, strlen(text)) : MMF_NOMEM;
    mmf_free(plan->ctx, text);
    mmf_free(plan->ctx, path);
    return status;
}

mmf_status mmf_trial__save(const mmf_plan *plan, size_t trial, const mmf_trial *result)
{
    char mark[17];
    fingerprint_text(plan->fingerprints[trial], mark);
    json_t *const object = mmf_trial__json(plan->out, result);
    json_object_set_new(object, "fingerprint", json_string(mark));
    return write_object(plan, object, mmf_trial__path(plan, trial, "trials", "json"));
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
    fingerprint_text(plan->fingerprints[trial], mark);
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
    const char *const aside = json_string_value(json_object_get(object, "left_aside"));
    snprintf(result.left_aside, sizeof result.left_aside, "%s", aside ? aside : "");
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
    const json_t *const aside = json_object_get(object, "left_aside");
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(aside) && used < sizeof out->left_aside; i++)
        used += (size_t)snprintf(out->left_aside + used, sizeof out->left_aside - used, "%s%s",
                                 i ? ", " : "", json_string_value(json_array_get(aside, i)));
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

/* ---- One draw ---------------------------------------------------------------------------- */

char *mmf_draw__path(const mmf_plan *plan, size_t draw)
{
    const mmf_draw *const row = &plan->out->draws[draw];
    return path_of(plan, "tune", row->model, (uint64_t)row->number, "json");
}

mmf_status mmf_draw__save(const mmf_plan *plan, size_t draw, const char *record)
{
    mmf_trial trained = {.status = MMF_OK};
    mmf_draw row = plan->out->draws[draw];
    char mark[17];
    mmf_trial__read_record(plan, record, &trained);
    mmf_free(plan->ctx, trained.curve);
    row.status = MMF_OK;
    row.valid = trained.valid;
    row.epochs = trained.epochs;
    row.train_seconds = trained.train_seconds;
    json_t *const object = mmf_draw__json(&row);
    fingerprint_text(plan->tunings[draw].fingerprint, mark);
    json_object_set_new(object, "fingerprint", json_string(mark));
    return write_object(plan, object, mmf_draw__path(plan, draw));
}

bool mmf_draw__load(const mmf_plan *plan, size_t draw)
{
    mmf_draw *const row = &plan->out->draws[draw];
    char mark[17];
    char *const path = mmf_draw__path(plan, draw);
    json_t *const object = path ? json_load_file(path, 0, NULL) : NULL;
    const char *const found = json_string_value(json_object_get(object, "fingerprint"));
    fingerprint_text(plan->tunings[draw].fingerprint, mark);
    const bool fits = found && strcmp(found, mark) == 0 &&
                      read_metrics(json_object_get(object, "valid"), &row->valid);
    if (fits) {
        row->epochs = json_integer_value(json_object_get(object, "epochs"));
        row->train_seconds = read_number(object, "train_seconds");
        row->status = MMF_OK;
        row->error[0] = '\0';
    }
    json_decref(object);
    mmf_free(plan->ctx, path);
    return fits;
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
