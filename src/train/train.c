/*
 * train.c: mmf_train: checks what was asked, fits one model (or the parts of a late one), refits on
 * train + valid, and writes the training record.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoders/encoder.h"
#include "nn/builder.h"
#include "nn/scopes.h"
#include "tasks/task.h"
#include "train/json_values.h"
#include "train/model_columns.h"
#include "train/trainer.h"

/* ---- Task -------------------------------------------------------------------------------- */

mmf_status mmf_task_of(mmf_ctx *ctx, mmf_task *out, const mmf_dataset *dataset, mmf_msa_rules rules)
{
    const mmf_target_kind kind = mmf_dataset_target_kind(dataset);
    const bool retrieves = kind == MMF_TARGET_RETRIEVAL || kind == MMF_TARGET_PRETRAINING;
    *out = (mmf_task){.kind = kind,
                      .n_outputs = retrieves ? 1 : mmf_dataset_n_classes(dataset),
                      .target = mmf_dataset_target_name(dataset),
                      .rules = rules};
    if (out->kind == MMF_TARGET_NONE)
        return mmf_fail(ctx, MMF_ARG,
                        "%s: there is no target; name one with --target, or pre-train without one "
                        "with --task pretraining",
                        mmf_dataset_path(dataset));
    if (rules != MMF_MSA_NONE && out->kind != MMF_TARGET_REAL)
        return mmf_fail(ctx, MMF_ARG, "sentiment metrics score regression; target %s is for %s",
                        out->target ? out->target : "label", mmf_task_name(out->kind));
    const mmf_array names = mmf_dataset_class_names(dataset);
    if (names.n_dims == 0 || retrieves) /* classes are not what a model of retrieval puts out */
        return MMF_OK;
    /* One block: the pointers, then the names. */
    const size_t k = (size_t)out->n_outputs, width = names.item_bytes + 1;
    char **const list = mmf_alloc_zero(ctx, k, sizeof *list + width);
    if (!list)
        return MMF_NOMEM;
    char *const text = (char *)(list + k);
    for (size_t i = 0; i < k; i++) {
        size_t n = 0;
        const char *const cell = mmf_array_string(&names, (int64_t)i, &n);
        memcpy(text + i * width, cell, n);
        list[i] = text + i * width;
    }
    out->class_names = (const char *const *)list;
    return MMF_OK;
}

/* ---- Record ------------------------------------------------------------------------------ */

static json_t *curve_json(const mmf_learning_curve *curve, const char *metric)
{
    json_t *const list = json_array();
    for (int64_t i = 0; i < curve->n_epochs; i++) {
        const mmf_real *const point = curve->values + 3 * i;
        json_array_append_new(list, mmf_json_epoch(i + 1, (double)point[0], (double)point[1],
                                                   (double)point[2], metric));
    }
    return list;
}

/* [{"name": "ogm-ge", "options": {...}}] */
static json_t *aids_json(mmf_ctx *ctx, const mmf_aid_list *aids)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < aids->count; i++) {
        json_t *const options = json_object();
        const mmf_option *row = NULL;
        char *const all = mmf_config_json(aids->configs[i]);
        json_t *const given = all ? json_loads(all, 0, NULL) : NULL;
        mmf_free(ctx, all);
        while ((row = mmf_option_next(&aids->kinds[i]->def, row))) {
            if (!mmf_option_is_common(row))
                json_object_set(options, row->name, json_object_get(given, row->name));
        }
        json_decref(given);
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "name", aids->kinds[i]->def.name, "options", options));
    }
    return list;
}

static json_t *left_aside_json(unsigned left_aside)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{MMF_ASIDE_LOSSES, "losses"},
                 {MMF_ASIDE_AIDS, "aids"},
                 {MMF_ASIDE_SMOOTHING, "smoothing"},
                 {MMF_ASIDE_BALANCE, "balance"}};
    json_t *const list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (left_aside & names[i].bit)
            json_array_append_new(list, json_string(names[i].name));
    }
    return list;
}

/* [{"part": "text", "path": "..."}] */
static json_t *starts_json(const mmf_starts *starts)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < starts->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "part", starts->items[i].part, "path",
                                              starts->items[i].path));
    return list;
}

static char *make_record(mmf_ctx *ctx, const mmf_fit *fit, const mmf_split *split,
                         const mmf_fit_result *result, const mmf_metrics *valid,
                         const mmf_learning_curve *curve)
{
    const mmf_train_options *const o = fit->options;
    json_t *const record = json_object();
    char fingerprint[32];
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)mmf_dataset_fingerprint(fit->dataset));
    json_object_set_new(record, "data", json_string(mmf_dataset_path(fit->dataset)));
    json_object_set_new(record, "fingerprint", json_string(fingerprint));
    json_object_set_new(record, "columns", mmf_model__columns_json(fit->dataset));
    json_object_set_new(record, "command", o->command ? json_string(o->command) : json_null());
    json_object_set_new(record, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(record, "train_rows", json_integer(split->count[MMF_TRAIN]));
    json_object_set_new(record, "valid_rows", json_integer(split->count[MMF_VALID]));
    json_object_set_new(record, "epochs", json_integer(result->epochs));
    json_object_set_new(record, "refit", json_boolean(o->refit));
    json_object_set_new(record, "batch", json_integer(mmf_fit_batch(fit)));
    json_object_set_new(record, "lr", mmf_json_number(mmf_fit_lr(fit)));
    json_object_set_new(record, "weight_decay", mmf_json_number(o->optimizer.weight_decay));
    json_object_set_new(record, "modality_dropout", mmf_json_number(o->modality_dropout));
    json_object_set_new(record, "modality_dropout_rise", json_integer(o->modality_dropout_rise));
    json_object_set_new(record, "aids", aids_json(ctx, fit->aids));
    if (o->augment)
        json_object_set_new(record, "augment", json_string(o->augment));
    if (o->freeze)
        json_object_set_new(record, "freeze", json_string(o->freeze));
    if (o->rates)
        json_object_set_new(record, "rates", json_string(o->rates));
    if (fit->starts->count > 0)
        json_object_set_new(record, "weights", starts_json(fit->starts));
    json_object_set_new(record, "left_aside",
                        left_aside_json(result->left_aside | fit->left_aside));
    json_object_set_new(record, "train_loss", mmf_json_number(result->train_loss));
    json_object_set_new(record, "valid_loss", mmf_json_number(result->valid_loss));
    json_object_set_new(record, "seconds", mmf_json_number(result->seconds));
    json_t *const scores = json_object();
    for (size_t i = 0; i < valid->count; i++)
        json_object_set_new(scores, valid->items[i].name, mmf_json_number(valid->items[i].value));
    json_object_set_new(record, "valid", scores);
    if (curve->n_epochs > 0)
        json_object_set_new(record, "curve",
                            curve_json(curve, mmf_task_main_metric(fit->task->kind)));
    char *const text = json_dumps(record, JSON_REAL_PRECISION(12));
    json_decref(record);
    return text;
}

/* ---- Fitting ----------------------------------------------------------------------------- */

/* Scores on validation, of the weights chosen there: with --refit that is before the refit. */
static mmf_status score_valid(mmf_ctx *ctx, mmf_model *model, const mmf_fit *fit, mmf_metrics *out)
{
    *out = (mmf_metrics){0};
    if (fit->n_valid == 0)
        return MMF_OK;
    const mmf_task *const task = mmf_model_task(model);
    double *const y = mmf_alloc_zero(ctx, (size_t)(fit->n_valid * task->n_outputs), sizeof *y);
    if (!y)
        return MMF_NOMEM;
    mmf_status status = mmf_model_predict_rows(model, fit->dataset, fit->valid_rows, fit->n_valid,
                                               MMF_ALL_MODALITIES, y);
    if (status == MMF_OK)
        status = mmf_task_score(ctx, out, task, fit->dataset, fit->valid_rows, fit->n_valid, y);
    mmf_free(ctx, y);
    return status;
}

static mmf_status fit_model(mmf_ctx *ctx, mmf_model **out, const mmf_fit *fit,
                            const mmf_split *split)
{
    mmf_fit_pair pair = {0};
    mmf_metrics valid = {0};
    const bool is_late = mmf_model_find(fit->name)->takes & MMF_LATE;
    const bool refits = fit->options->refit && fit->n_valid > 0;
    mmf_status status =
        is_late ? mmf_late_fit(ctx, &pair, fit, refits) : mmf_fit_pair_run(ctx, &pair, fit, refits);
    if (status == MMF_OK)
        status = score_valid(ctx, pair.chosen, fit, &valid);
    char *const record =
        status == MMF_OK ? make_record(ctx, fit, split, &pair.result, &valid, &pair.chosen->curve)
                         : NULL;
    if (status == MMF_OK)
        status = record ? mmf_model__set_record(pair.final, record) : MMF_NOMEM;
    free(record);
    if (status == MMF_OK)
        status = mmf_model__set_preparations(pair.final, mmf_dataset_preparations(fit->dataset));
    if (status == MMF_OK) {
        *out = pair.final;
        pair.chosen = pair.chosen == pair.final ? NULL : pair.chosen;
        pair.final = NULL;
    }
    mmf_fit_pair_clear(&pair);
    return status;
}

/* The task decides these; everything else is the user's. */
static mmf_status complete_config(mmf_ctx *ctx, mmf_config **out, const mmf_def *def,
                                  const mmf_config *given, const mmf_task *task)
{
    char outputs[32];
    if (given)
        MMF_TRY(mmf_config_copy(ctx, out, given));
    else
        MMF_TRY(mmf_config_create(ctx, out, def));
    snprintf(outputs, sizeof outputs, "%lld", (long long)task->n_outputs);
    MMF_TRY(mmf_config_set(*out, "train_mode", mmf_task_name(task->kind)));
    return mmf_config_set(*out, "num_classes", outputs);
}

bool mmf_train__builds(mmf_ctx *ctx, const mmf_dataset *dataset, const char *name,
                       const mmf_task *task, const mmf_config *config,
                       const mmf_train_options *options)
{
    const mmf_def *const def = mmf_model_find(name);
    const mmf_module_making making = {.for_inference = true};
    mmf_config *complete = NULL;
    mmf_module *module = NULL;
    mmf_schema inputs = {0};
    mmf_status status = complete_config(ctx, &complete, def, config, task);
    if (status == MMF_OK)
        status = mmf_schema_of(ctx, &inputs, dataset, mmf_model_only_modality(name));
    if (status == MMF_OK) {
        mmf_schema_may_drop(&inputs, options);
        status = mmf_module__create_as(ctx, &module, def, complete, &inputs, &making);
    }
    mmf_module_free(module);
    mmf_free(ctx, inputs.inputs);
    mmf_config_free(complete);
    return status == MMF_OK;
}

mmf_status mmf_train__check_only(mmf_ctx *ctx, const mmf_schema *inputs, const char *of,
                                 const char *name)
{
    char hint[512];
    const char *const modality = mmf_model_only_modality(name);
    if (!modality || mmf_schema_find(inputs, modality))
        return MMF_OK;
    return mmf_fail(ctx, MMF_ARG, "%s: %s has no modality \"%s\"%s", name, of, modality,
                    mmf_schema_suggest(hint, sizeof hint, inputs, modality, "only-"));
}

/* Encoders are of modalities that there are; a part of a model may not take all of them. */
static mmf_status check_encoders(mmf_ctx *ctx, const mmf_config *config, const mmf_def *def,
                                 const mmf_dataset *dataset)
{
    mmf_schema inputs = {0};
    mmf_status status = MMF_OK;
    if (!mmf_option_find(def, "encoder"))
        return MMF_OK;
    MMF_TRY(mmf_schema_of(ctx, &inputs, dataset, NULL));
    for (size_t i = 0; status == MMF_OK && i < mmf_config_count(config, "encoder"); i++)
        status = mmf_encoder_check_list(ctx, mmf_config_text_at(config, "encoder", i), &inputs,
                                        mmf_dataset_path(dataset));
    mmf_free(ctx, inputs.inputs);
    return status;
}

/* What weights of others say about sizes becomes part of the configuration. */
static mmf_status read_starts(mmf_ctx *ctx, mmf_starts *out, mmf_config *config,
                              const mmf_dataset *dataset, const char *name,
                              const mmf_train_options *options)
{
    mmf_schema inputs = {0};
    MMF_TRY(mmf_scopes_check_frozen(ctx, options->freeze));
    MMF_TRY(mmf_scopes_check_rates(ctx, options->rates));
    MMF_TRY(mmf_schema_of(ctx, &inputs, dataset, mmf_model_only_modality(name)));
    const mmf_status status = mmf_starts_read(ctx, out, config, &inputs, options->weights);
    mmf_free(ctx, inputs.inputs);
    return status;
}

static mmf_status check_inputs(mmf_ctx *ctx, const mmf_def *def, const char *name,
                               const mmf_dataset *dataset, const mmf_train_options *options,
                               const mmf_loss_list *losses)
{
    const char *const only = mmf_model_only_modality(name);
    mmf_schema inputs = {0};
    MMF_TRY(mmf_schema_of(ctx, &inputs, dataset, NULL));
    const mmf_status known = mmf_train__check_only(ctx, &inputs, mmf_dataset_path(dataset), name);
    mmf_free(ctx, inputs.inputs);
    MMF_TRY(known);
    MMF_TRY(mmf_schema_of(ctx, &inputs, dataset, only));
    mmf_refusal room;
    const char *const why = mmf_training_refusal(def, &inputs, mmf_dataset_target_kind(dataset),
                                                 mmf_loss_list_contrasts(losses), &room);
    const bool drops = mmf_drops_modalities(options, &inputs);
    mmf_free(ctx, inputs.inputs);
    if (!(options->modality_dropout >= 0 && options->modality_dropout < 1) ||
        options->modality_dropout_rise < 0)
        return mmf_fail(ctx, MMF_ARG,
                        "modality dropout is %g over %lld epochs; expected a probability below 1 "
                        "and 0 epochs or more",
                        options->modality_dropout, (long long)options->modality_dropout_rise);
    if (!why && drops && !(def->takes & MMF_MISSING_OK))
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: modality dropout needs a model that is defined for samples that lack "
                        "a modality, and this one is not; use joint-concat or weighted, or leave "
                        "it out",
                        name);
    return why ? mmf_fail(ctx, MMF_UNSUPPORTED, "%s: %s", name, why) : MMF_OK;
}

/* A single class is learned by answering it always, and every score would be perfect. */
static mmf_status check_classes(mmf_ctx *ctx, const mmf_task *task, const mmf_dataset *dataset,
                                const mmf_split *split)
{
    const int64_t *const rows = split->rows[MMF_TRAIN];
    const int64_t n = split->count[MMF_TRAIN];
    double first = 0, target = 0;
    if (task->kind != MMF_TARGET_CLASS || n == 0)
        return MMF_OK;
    mmf_dataset_target(dataset, rows[0], &first);
    for (int64_t i = 1; i < n; i++) {
        mmf_dataset_target(dataset, rows[i], &target);
        if (target != first)
            return MMF_OK;
    }
    return mmf_fail(ctx, MMF_FORMAT,
                    "%s: target \"%s\": all %lld training rows are of class %.0f; to tell classes "
                    "apart takes rows of two at least",
                    mmf_dataset_path(dataset), mmf_dataset_target_name(dataset), (long long)n,
                    first);
}

mmf_status mmf_train__warn_of_gaps(mmf_ctx *ctx, const mmf_dataset *dataset)
{
    const int64_t n = mmf_dataset_n_classes(dataset), n_rows = mmf_dataset_count(dataset);
    int64_t n_empty = 0, first = -1;
    double y = 0;
    if (mmf_dataset_target_kind(dataset) != MMF_TARGET_CLASS ||
        mmf_dataset_class_names(dataset).data)
        return MMF_OK;
    bool *const seen = mmf_alloc_zero(ctx, (size_t)n, sizeof *seen);
    if (!seen)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n_rows; i++) {
        mmf_dataset_target(dataset, i, &y);
        seen[(int64_t)y] = true;
    }
    for (int64_t k = n - 1; k >= 0; k--) {
        first = seen[k] ? first : k;
        n_empty += !seen[k];
    }
    mmf_free(ctx, seen);
    if (n_empty > 0)
        mmf_ctx_log(
            ctx, MMF_LOG_WARNING,
            "%s: target \"%s\": %lld of its %lld classes have no sample, the first is %lld; "
            "number classes from 0 without gaps, or name them",
            mmf_dataset_path(dataset), mmf_dataset_target_name(dataset), (long long)n_empty,
            (long long)n, (long long)first);
    return MMF_OK;
}

/* What stands beside the model in training. */
typedef struct beside {
    mmf_loss_list losses;
    mmf_aid_list aids;
    unsigned left_aside;
} beside;

/* Models that train one modality at a time have nothing to compare or to balance. */
static mmf_status take_beside(mmf_ctx *ctx, beside *out, const mmf_def *def, const char *name,
                              const mmf_train_options *options)
{
    MMF_TRY(mmf_loss_list_parse(ctx, &out->losses, options->loss));
    MMF_TRY(mmf_aid_list_parse(ctx, &out->aids, options->aid));
    if (!(def->takes & (MMF_LATE | MMF_ONE_ONLY)))
        return MMF_OK;
    if (!options->loss_where_possible && out->losses.count > 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: loss %s compares the features of modalities, and this model trains "
                        "one modality at a time",
                        name, out->losses.defs[0]->name);
    if (!options->loss_where_possible && out->aids.count > 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: training aid %s balances the modalities of one network, and this "
                        "model trains one modality at a time; use joint-concat or another "
                        "intermediate model",
                        name, out->aids.kinds[0]->def.name);
    out->left_aside |= out->losses.count > 0 ? MMF_ASIDE_LOSSES : 0;
    out->left_aside |= out->aids.count > 0 ? MMF_ASIDE_AIDS : 0;
    out->losses.count = out->aids.count = 0; /* the configurations stay to be freed */
    return MMF_OK;
}

mmf_status mmf_train(mmf_ctx *ctx, mmf_model **out, mmf_dataset *dataset, const mmf_split *split,
                     const char *name, const mmf_config *config, const mmf_train_options *options)
{
    *out = NULL;
    const mmf_def *const def = mmf_model_find(name);
    if (!def) {
        const char *const nearest = mmf_model_nearest(name);
        return mmf_fail(ctx, MMF_ARG, "there is no model \"%s\"%s%s%s", name,
                        nearest ? "; did you mean \"" : "; `mmfuse list` shows them",
                        nearest ? nearest : "", nearest ? "\"?" : "");
    }
    beside with = {0};
    mmf_task task = {0};
    mmf_config *complete = NULL;
    mmf_starts starts = {0};
    mmf_status status = take_beside(ctx, &with, def, name, options);
    if (status == MMF_OK)
        status = mmf_task_of(ctx, &task, dataset, options->rules);
    if (status == MMF_OK)
        status = mmf_loss_list_check_task(ctx, &with.losses, &task);
    if (status == MMF_OK)
        status = check_inputs(ctx, def, name, dataset, options, &with.losses);
    if (status == MMF_OK)
        status = check_classes(ctx, &task, dataset, split);
    if (status == MMF_OK)
        status = mmf_train__warn_of_gaps(ctx, dataset);
    if (status == MMF_OK)
        status = complete_config(ctx, &complete, def, config, &task);
    if (status == MMF_OK)
        status = check_encoders(ctx, complete, def, dataset);
    if (status == MMF_OK)
        status = read_starts(ctx, &starts, complete, dataset, name, options);
    const mmf_fit fit = {.dataset = dataset,
                         .name = name,
                         .config = complete,
                         .task = &task,
                         .train_rows = split->rows[MMF_TRAIN],
                         .n_train = split->count[MMF_TRAIN],
                         .valid_rows = split->rows[MMF_VALID],
                         .n_valid = split->count[MMF_VALID],
                         .stage = "",
                         .options = options,
                         .losses = &with.losses,
                         .aids = &with.aids,
                         .starts = &starts,
                         .left_aside = with.left_aside};
    if (status == MMF_OK && options->resume && options->checkpoint &&
        !mmf_checkpoint_exists(options->checkpoint))
        mmf_ctx_log(ctx, MMF_LOG_INFO, "%s: there is no such checkpoint; training begins anew",
                    options->checkpoint);
    if (status == MMF_OK)
        status = fit_model(ctx, out, &fit, split);
    mmf_aid_list_clear(&with.aids);
    mmf_starts_clear(&starts);
    mmf_config_free(complete);
    mmf_free(ctx, (void *)(uintptr_t)task.class_names);
    return status;
}
