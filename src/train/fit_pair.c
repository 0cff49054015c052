/*
 * fit_pair.c: a fit with its refit, the identity of a fit, and the folder through which late models
 * share unimodal ones.
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/trainer.h"

#define DEFAULT_BATCH 32
/* Steps an epoch that a model's own batch must leave. */
#define FEWEST_STEPS 8

/* ---- What a fit starts from -------------------------------------------------------------- */

int64_t mmf_fit_batch(const mmf_fit *fit)
{
    const int64_t own = mmf_model_find(fit->name)->batch, most = fit->n_train / FEWEST_STEPS;
    const int64_t asked = own < most ? own : most;
    if (fit->options->batch > 0)
        return fit->options->batch;
    return asked > DEFAULT_BATCH ? asked : DEFAULT_BATCH;
}

double mmf_fit_lr(const mmf_fit *fit)
{
    const double own = mmf_model_find(fit->name)->lr;
    const double standard = own > 0 ? own : MMF_DEFAULT_LR;
    return fit->options->optimizer.lr > 0 ? fit->options->optimizer.lr : standard;
}

/* Labels beyond the sentiment papers' [-3, 3] are standardised, so that learning rates fit them. */
void mmf_fit_target_scale(const mmf_fit *fit, double *shift, double *scale)
{
    if (fit->task->kind != MMF_TARGET_REAL)
        return;
    double sum = 0, square = 0, y = 0;
    bool within = true;
    for (int64_t i = 0; i < fit->n_train; i++) {
        mmf_dataset_target(fit->dataset, fit->train_rows[i], &y);
        within = within && fabs(y) <= 3;
        sum += y;
    }
    const double mean = sum / (double)fit->n_train;
    for (int64_t i = 0; i < fit->n_train; i++) {
        mmf_dataset_target(fit->dataset, fit->train_rows[i], &y);
        square += (y - mean) * (y - mean);
    }
    const double deviation = sqrt(square / (double)fit->n_train);
    if (within || !(deviation > 0))
        return;
    *shift = mean;
    *scale = deviation;
}

/* ---- Identity ---------------------------------------------------------------------------- */

/* FNV-1a. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *const b = bytes;
    for (size_t i = 0; i < n; i++) /* NOLINTNEXTLINE: the analyser loses the bytes of a double */
        hash = (hash ^ b[i]) * UINT64_C(1099511628211);
    return hash;
}

mmf_status mmf_fit_fingerprint(mmf_ctx *ctx, const mmf_fit *fit, char out[MMF_FINGERPRINT_BYTES])
{
    const mmf_train_options *const o = fit->options;
    char *const config = mmf_config_json(fit->config);
    if (!config)
        return MMF_NOMEM;
    uint64_t h = UINT64_C(14695981039346656037);
    h = hash_bytes(h, config, strlen(config));
    h = hash_bytes(h, fit->train_rows, (size_t)fit->n_train * sizeof *fit->train_rows);
    h = hash_bytes(h, fit->valid_rows, (size_t)fit->n_valid * sizeof *fit->valid_rows);
    const double numbers[] = {o->optimizer.lr,
                              o->optimizer.beta1,
                              o->optimizer.beta2,
                              o->optimizer.eps,
                              o->optimizer.momentum,
                              o->smoothing,
                              o->optimizer.clip_norm,
                              o->optimizer.clip_value,
                              o->warmup,
                              o->factor,
                              o->optimizer.weight_decay,
                              o->modality_dropout};
    const int64_t whole[] = {(int64_t)o->optimizer.kind,
                             (int64_t)o->schedule,
                             o->period,
                             o->epochs,
                             o->batch,
                             o->patience,
                             o->balance,
                             o->no_normalise,
                             o->modality_dropout_rise,
                             fit->fixed_epochs};
    h = hash_bytes(h, numbers, sizeof numbers);
    h = hash_bytes(h, o->optimizer.group_lr, sizeof o->optimizer.group_lr);
    h = hash_bytes(h, whole, sizeof whole);
    h = hash_bytes(h, o->loss ? o->loss : "", o->loss ? strlen(o->loss) : 0);
    if (o->weights)
        h = hash_bytes(h, o->weights, strlen(o->weights));
    if (o->aid && fit->aids->count > 0)
        h = hash_bytes(h, o->aid, strlen(o->aid));
    if (o->augment)
        h = hash_bytes(h, o->augment, strlen(o->augment));
    const char *const texts[] = {o->weights, o->freeze, o->rates};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i]) {
            h = hash_bytes(h, &i, sizeof i);
            h = hash_bytes(h, texts[i], strlen(texts[i]));
        }
    }
    for (size_t i = 0; i < fit->starts->count; i++)
        h = hash_bytes(h, fit->starts->items[i].path, strlen(fit->starts->items[i].path));
    if (o->optimizer.decay_matrices)
        h = hash_bytes(h, "matrices", strlen("matrices"));
    mmf_free(ctx, config);
    snprintf(out, MMF_FINGERPRINT_BYTES, "%.120s %016" PRIx64 " %016" PRIx64 " %" PRIu64, fit->name,
             mmf_dataset_fingerprint(fit->dataset), h, o->seed);
    return MMF_OK;
}

/* ---- The shared folder ------------------------------------------------------------------- */

static bool shared_path(const mmf_fit *fit, const char *kind, char *out, size_t size)
{
    const char *const folder = fit->options->unimodal_folder;
    if (!folder || !mmf_model_only_modality(fit->name))
        return false;
    const int n = snprintf(out, size, "%s/%s.%" PRIu64 ".%s.mmf", folder, fit->name,
                           fit->options->seed, kind);
    return n > 0 && (size_t)n < size;
}

static char *shared_record(const char *fingerprint, const mmf_fit_result *result)
{
    json_t *const record = json_pack("{s:s, s:I, s:f, s:f, s:f}", "fingerprint", fingerprint,
                                     "epochs", (json_int_t)result->epochs, "valid_loss",
                                     isfinite(result->valid_loss) ? result->valid_loss : 0.0,
                                     "train_loss", result->train_loss, "seconds", result->seconds);
    char *const text = record ? json_dumps(record, JSON_REAL_PRECISION(17)) : NULL;
    json_decref(record);
    return text;
}

static mmf_status save_shared(mmf_ctx *ctx, const mmf_fit *fit, const char *kind,
                              const char *fingerprint, const mmf_fit_result *result,
                              mmf_model *model)
{
    char path[1024];
    if (!shared_path(fit, kind, path, sizeof path))
        return MMF_OK;
    MMF_TRY(mmf_make_folder(ctx, fit->options->unimodal_folder));
    char *const record = shared_record(fingerprint, result);
    mmf_status status = record ? mmf_model__set_record(model, record) : MMF_NOMEM;
    free(record);
    return status == MMF_OK ? mmf_model_save(model, path) : status;
}

/* A model of the folder counts only if it was fitted to the same rows with the same options. */
static mmf_model *load_shared(mmf_ctx *ctx, const mmf_fit *fit, const char *kind,
                              const char *fingerprint, mmf_fit_result *result)
{
    char path[1024];
    mmf_model *model = NULL;
    if (!shared_path(fit, kind, path, sizeof path) || access(path, R_OK) != 0 ||
        mmf_model_load(ctx, &model, path) != MMF_OK)
        return NULL;
    json_t *const record = json_loads(mmf_model_record(model), 0, NULL);
    const char *const stored = json_string_value(json_object_get(record, "fingerprint"));
    const bool fits = stored && strcmp(stored, fingerprint) == 0;
    if (fits)
        *result =
            (mmf_fit_result){.epochs = json_integer_value(json_object_get(record, "epochs")),
                             .valid_loss = json_number_value(json_object_get(record, "valid_loss")),
                             .train_loss = json_number_value(json_object_get(record, "train_loss")),
                             .seconds = json_number_value(json_object_get(record, "seconds"))};
    json_decref(record);
    if (!fits) {
        mmf_model_free(model);
        return NULL;
    }
    return model;
}

static mmf_status fit_or_load(mmf_ctx *ctx, mmf_model **out, const mmf_fit *fit, const char *kind,
                              mmf_fit_result *result)
{
    char fingerprint[MMF_FINGERPRINT_BYTES];
    MMF_TRY(mmf_fit_fingerprint(ctx, fit, fingerprint));
    *out = load_shared(ctx, fit, kind, fingerprint, result);
    if (*out)
        return MMF_OK;
    MMF_TRY(mmf_fit_run(ctx, out, fit, result));
    return save_shared(ctx, fit, kind, fingerprint, result, *out);
}

/* ---- Refitting --------------------------------------------------------------------------- */

static int compare_rows(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Train and valid rows together, ascending; the caller frees them with mmf_free. */
static int64_t *joined_rows(mmf_ctx *ctx, const mmf_fit *fit)
{
    const size_t n = (size_t)fit->n_train, v = (size_t)fit->n_valid;
    int64_t *const rows = mmf_alloc_zero(ctx, n + v + 1, sizeof *rows);
    if (!rows)
        return NULL;
    memcpy(rows, fit->train_rows, n * sizeof *rows);
    memcpy(rows + n, fit->valid_rows, v * sizeof *rows);
    qsort(rows, n + v, sizeof *rows, compare_rows);
    return rows;
}

static mmf_status refit_model(mmf_ctx *ctx, mmf_model **out, const mmf_fit *fit, int64_t epochs)
{
    char stage[600];
    snprintf(stage, sizeof stage, "%s%srefit", fit->stage, *fit->stage ? "." : "");
    mmf_fit again = *fit;
    int64_t *const rows = joined_rows(ctx, fit);
    if (!rows)
        return MMF_NOMEM;
    again.train_rows = rows;
    again.n_train = fit->n_train + fit->n_valid;
    again.n_valid = 0;
    again.fixed_epochs = epochs;
    again.stage = stage;
    mmf_fit_result result = {0};
    const mmf_status status = fit_or_load(ctx, out, &again, "refit", &result);
    mmf_free(ctx, rows);
    return status;
}

mmf_status mmf_fit_pair_run(mmf_ctx *ctx, mmf_fit_pair *out, const mmf_fit *fit, bool refit)
{
    *out = (mmf_fit_pair){0};
    mmf_status status = fit_or_load(ctx, &out->chosen, fit, "chosen", &out->result);
    out->final = out->chosen;
    if (status == MMF_OK && refit) {
        out->final = NULL;
        status = refit_model(ctx, &out->final, fit, out->result.epochs);
    }
    if (status != MMF_OK)
        mmf_fit_pair_clear(out);
    return status;
}

void mmf_fit_pair_clear(mmf_fit_pair *pair)
{
    if (pair->final != pair->chosen)
        mmf_model_free(pair->final);
    mmf_model_free(pair->chosen);
    *pair = (mmf_fit_pair){0};
}
