/*
 * late_fit.c: late models: unimodal models trained by themselves, and a rule fitted on predictions
 * that the unimodal models were not trained on.
 *
 * late-weighted: validation accuracy, or 1 / mean squared error, of each modality. late-learned:
 * softmax weights fitted on validation. late-stacking: a linear layer fitted on out-of-fold
 * predictions of the training rows (Wolpert 1992).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fusion/fusion.h"
#include "nn/builder.h"
#include "nn/scopes.h"
#include "tasks/task.h"
#include "train/trainer.h"

extern const mmf_def mmf_model_only;

/* Fitting a rule: full-batch Adam over a few numbers, which takes milliseconds. */
#define RULE_STEPS 500
#define RULE_LR 0.02
#define STACK_WEIGHT_DECAY 1e-3

typedef struct late_fit {
    mmf_ctx *ctx;
    const mmf_fit *fit;
    size_t count;        /* modalities */
    mmf_schema inputs;   /* of the data set */
    mmf_fit_pair *parts; /* one a modality */
    double **scores;     /* (n, K) predictions of each modality on rows it was not trained on */
    double seconds;
} late_fit;

/* ---- Unimodal models --------------------------------------------------------------------- */

static mmf_status copy_number(const mmf_config *from, mmf_config *to, const char *name, bool whole)
{
    char text[40];
    if (whole)
        snprintf(text, sizeof text, "%lld", (long long)mmf_config_int(from, name));
    else
        snprintf(text, sizeof text, "%.12g", mmf_config_real(from, name));
    return mmf_config_set(to, name, text);
}

static mmf_status only_config(late_fit *l, mmf_config **out, const char *modality)
{
    const mmf_config *const given = l->fit->config;
    const size_t n = strlen(modality);
    MMF_TRY(mmf_config_create(l->ctx, out, &mmf_model_only));
    MMF_TRY(copy_number(given, *out, "hidden", true));
    MMF_TRY(copy_number(given, *out, "num_classes", true));
    MMF_TRY(copy_number(given, *out, "dropout", false));
    MMF_TRY(mmf_config_set(*out, "train_mode", mmf_config_text(given, "train_mode")));
    for (size_t i = 0; i < mmf_config_count(given, "encoder"); i++) {
        const char *const entry = mmf_config_text_at(given, "encoder", i);
        if (strncmp(entry, modality, n) == 0 && entry[n] == '=')
            MMF_TRY(mmf_config_set(*out, "encoder", entry));
    }
    return MMF_OK;
}

/* The fit of one modality with the late model's data and options; the caller frees its config. */
static mmf_status only_fit(late_fit *l, size_t m, char *name, size_t size, mmf_config **config,
                           mmf_fit *out)
{
    snprintf(name, size, "only-%s", l->inputs.inputs[m].name);
    MMF_TRY(only_config(l, config, l->inputs.inputs[m].name));
    *out = *l->fit;
    out->name = name;
    out->stage = name;
    out->config = *config;
    return MMF_OK;
}

static mmf_status train_parts(late_fit *l, bool refit)
{
    for (size_t m = 0; m < l->count; m++) {
        char name[600];
        mmf_config *config = NULL;
        mmf_fit fit = {0};
        mmf_status status = only_fit(l, m, name, sizeof name, &config, &fit);
        if (status == MMF_OK)
            status = mmf_fit_pair_run(l->ctx, &l->parts[m], &fit, refit);
        mmf_config_free(config);
        MMF_TRY(status);
        l->seconds += l->parts[m].result.seconds;
    }
    return MMF_OK;
}

/* ---- Predictions to fit a rule on -------------------------------------------------------- */

static mmf_status allocate_scores(late_fit *l, int64_t n_rows)
{
    for (size_t m = 0; m < l->count; m++) {
        l->scores[m] =
            mmf_alloc_zero(l->ctx, (size_t)(n_rows * l->fit->task->n_outputs) + 1, sizeof(double));
        if (!l->scores[m])
            return MMF_NOMEM;
    }
    return MMF_OK;
}

static mmf_status predict_valid(late_fit *l)
{
    const mmf_fit *const fit = l->fit;
    MMF_TRY(allocate_scores(l, fit->n_valid));
    for (size_t m = 0; m < l->count; m++)
        MMF_TRY(mmf_model_predict_rows(l->parts[m].chosen, fit->dataset, fit->valid_rows,
                                       fit->n_valid, MMF_ALL_MODALITIES, l->scores[m]));
    return MMF_OK;
}

/* Rows of one fold, or of all the others; returns their number. */
static int64_t pick_rows(const mmf_fit *fit, const int64_t *fold_of, int64_t fold, bool inside,
                         int64_t *rows, int64_t *places)
{
    int64_t n = 0;
    for (int64_t i = 0; i < fit->n_train; i++) {
        if ((fold_of[i] == fold) != inside)
            continue;
        places[n] = i;
        rows[n++] = fit->train_rows[i];
    }
    return n;
}

/* Trains one modality without one fold and predicts the fold. @param scratch  3 n_train numbers */
static mmf_status predict_fold(late_fit *l, size_t m, const int64_t *fold_of, int64_t fold,
                               int64_t *scratch)
{
    char name[600], stage[640];
    const int64_t n = l->fit->n_train, k = l->fit->task->n_outputs;
    int64_t *const rows = scratch, *const places = scratch + n;
    mmf_config *config = NULL;
    mmf_model *model = NULL;
    mmf_fit fit = {0};
    mmf_fit_result result = {0};
    mmf_status status = only_fit(l, m, name, sizeof name, &config, &fit);
    fit.train_rows = rows;
    fit.n_train = pick_rows(l->fit, fold_of, fold, false, rows, places);
    fit.n_valid = 0;
    fit.fixed_epochs = l->parts[m].result.epochs;
    fit.stage = stage;
    snprintf(stage, sizeof stage, "%s.fold%lld", name, (long long)fold + 1);
    if (status == MMF_OK)
        status = mmf_fit_run(l->ctx, &model, &fit, &result);
    l->seconds += result.seconds;
    const int64_t inside = pick_rows(l->fit, fold_of, fold, true, rows, places);
    double *y =
        status == MMF_OK ? mmf_alloc_zero(l->ctx, (size_t)(inside * k) + 1, sizeof *y) : NULL;
    if (status == MMF_OK)
        status =
            y ? mmf_model_predict_rows(model, l->fit->dataset, rows, inside, MMF_ALL_MODALITIES, y)
              : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < inside; i++)
        memcpy(l->scores[m] + places[i] * k, y + i * k, (size_t)k * sizeof *y);
    mmf_free(l->ctx, y);
    mmf_model_free(model);
    mmf_config_free(config);
    return status;
}

static mmf_status predict_out_of_fold(late_fit *l)
{
    const mmf_fit *const fit = l->fit;
    const int64_t n_folds = mmf_config_int(fit->config, "folds");
    int64_t *const scratch = mmf_alloc_zero(l->ctx, 3 * (size_t)fit->n_train + 1, sizeof *scratch);
    if (!scratch)
        return MMF_NOMEM;
    int64_t *const fold_of = scratch + 2 * fit->n_train;
    mmf_status status = allocate_scores(l, fit->n_train);
    if (status == MMF_OK)
        status = mmf_split_folds(l->ctx, fit->dataset, fit->train_rows, fit->n_train, n_folds,
                                 fit->options->seed, fold_of);
    for (size_t m = 0; status == MMF_OK && m < l->count; m++) {
        for (int64_t f = 0; status == MMF_OK && f < n_folds; f++)
            status = predict_fold(l, m, fold_of, f, scratch);
    }
    mmf_free(l->ctx, scratch);
    return status;
}

/* ---- Rules ------------------------------------------------------------------------------- */

/* Weights of `late-weighted` as the option's text: accuracy, or 1 / mean squared error. */
static mmf_status weigh_by_validation(late_fit *l, mmf_config *config)
{
    const mmf_fit *const fit = l->fit;
    const bool regression = fit->task->kind == MMF_TARGET_REAL;
    char list[2048] = "", text[40];
    MMF_TRY(predict_valid(l));
    for (size_t m = 0; m < l->count; m++) {
        mmf_metrics metrics = {0};
        MMF_TRY(mmf_task_score(l->ctx, &metrics, fit->task, fit->dataset, fit->valid_rows,
                               fit->n_valid, l->scores[m]));
        const double rmse = mmf_metrics_get(&metrics, "rmse");
        const double weight =
            regression ? 1 / fmax(rmse * rmse, 1e-9)
                       : mmf_metrics_get(&metrics, mmf_task_main_metric(fit->task->kind));
        snprintf(text, sizeof text, "%s%.9g", m ? "," : "", weight > 1e-9 ? weight : 1e-9);
        strncat(list, text, sizeof list - strlen(list) - 1);
    }
    return mmf_config_set(config, "weights", list);
}

/* Data of a rule: predictions as (n, K) inputs, targets as the task has them. */
typedef struct rule_data {
    mmf_schema schema;
    mmf_real **inputs, **present;
    mmf_real *values;
    int64_t *classes;
    mmf_tensor class_weight; /* of the rule's rows; no data: classes count as they come */
    int64_t n, width;
} rule_data;

/* A model's own numbers, which its scale brings to the target's units behind the rule. */
static mmf_status fill_rule_data(late_fit *l, rule_data *d, const int64_t *rows)
{
    const mmf_task *const task = l->fit->task;
    const int64_t k = task->n_outputs;
    double shift = 0, scale = 1;
    mmf_fit_target_scale(l->fit, &shift, &scale);
    double *const target = mmf_alloc_zero(l->ctx, (size_t)k + 1, sizeof *target);
    if (!target)
        return MMF_NOMEM;
    for (int64_t i = 0; i < d->n; i++) {
        mmf_dataset_target(l->fit->dataset, rows[i], target);
        if (task->kind == MMF_TARGET_CLASS)
            d->classes[i] = (int64_t)target[0];
        for (int64_t j = 0; task->kind != MMF_TARGET_CLASS && j < k; j++)
            d->values[i * k + j] = (mmf_real)((target[j] - shift) / scale);
        for (size_t m = 0; m < l->count; m++) {
            d->present[m][i] = mmf_dataset_present(l->fit->dataset, m, rows[i]) ? 1 : 0;
            for (int64_t j = 0; j < k; j++)
                d->inputs[m][i * k + j] = (mmf_real)((l->scores[m][i * k + j] - shift) / scale);
        }
    }
    mmf_free(l->ctx, target);
    return MMF_OK;
}

static mmf_status make_rule_data(late_fit *l, rule_data *d, const int64_t *rows, int64_t n)
{
    const size_t k = (size_t)l->fit->task->n_outputs;
    *d = (rule_data){.schema = {l->count, NULL}, .n = n, .width = (int64_t)k};
    d->schema.inputs = mmf_alloc_zero(l->ctx, l->count, sizeof *d->schema.inputs);
    d->inputs = mmf_alloc_zero(l->ctx, l->count, sizeof *d->inputs);
    d->present = mmf_alloc_zero(l->ctx, l->count, sizeof *d->present);
    d->values = mmf_alloc_zero(l->ctx, (size_t)n * k + 1, sizeof *d->values);
    d->classes = mmf_alloc_zero(l->ctx, (size_t)n + 1, sizeof *d->classes);
    d->class_weight = (mmf_tensor){.count = (int64_t)k, .shape = {(int64_t)k}, .n_dims = 1};
    bool ok = d->schema.inputs && d->inputs && d->present && d->values && d->classes;
    for (size_t m = 0; ok && m < l->count; m++) {
        d->schema.inputs[m] = (mmf_input_schema){.name = l->inputs.inputs[m].name,
                                                 .kind = MMF_VECTOR,
                                                 .n_dims = 1,
                                                 .shape = {(int64_t)k},
                                                 .has_present = l->inputs.inputs[m].has_present};
        d->inputs[m] = mmf_alloc_zero(l->ctx, (size_t)n * k + 1, sizeof(mmf_real));
        d->present[m] = mmf_alloc_zero(l->ctx, (size_t)n + 1, sizeof(mmf_real));
        ok = d->inputs[m] && d->present[m];
    }
    if (ok && l->fit->options->balance && l->fit->task->kind == MMF_TARGET_CLASS) {
        d->class_weight.data = mmf_alloc_zero(l->ctx, k, sizeof(mmf_real));
        ok = d->class_weight.data != NULL;
        if (ok)
            MMF_TRY(mmf_task_balance(l->ctx, l->fit->task, l->fit->dataset, rows, n,
                                     d->class_weight.data));
    }
    return ok ? fill_rule_data(l, d, rows) : MMF_NOMEM;
}

static void clear_rule_data(late_fit *l, rule_data *d)
{
    for (size_t m = 0; m < l->count; m++) {
        mmf_free(l->ctx, d->inputs ? d->inputs[m] : NULL);
        mmf_free(l->ctx, d->present ? d->present[m] : NULL);
    }
    mmf_free(l->ctx, d->schema.inputs);
    mmf_free(l->ctx, d->inputs);
    mmf_free(l->ctx, d->present);
    mmf_free(l->ctx, d->values);
    mmf_free(l->ctx, d->classes);
    mmf_free(l->ctx, d->class_weight.data);
}

/* One pass over all rows; returns the loss. */
static mmf_tensor *rule_loss(late_fit *l, rule_data *d, mmf_module *rule, mmf_tape *tape)
{
    const mmf_task *const task = l->fit->task;
    const int64_t shape[] = {d->n, d->width};
    const mmf_step step = {.training = true};
    const mmf_loss_options options = {.regression = l->fit->losses->regression,
                                      .class_weight =
                                          d->class_weight.data ? &d->class_weight : NULL};
    mmf_named in = {0}, out = {0};
    for (size_t m = 0; m < l->count; m++) {
        const char *const name = d->schema.inputs[m].name;
        mmf_named_put(tape, &in, name, mmf_input(tape, d->inputs[m], 2, shape));
        if (d->schema.inputs[m].has_present)
            mmf_named_putf(tape, &in, mmf_input(tape, d->present[m], 1, shape), "%s.present", name);
    }
    mmf_module_run(rule, tape, &in, &step, &out);
    if (!mmf_named_get(&out, "logits"))
        mmf_named_put(tape, &out, task->kind == MMF_TARGET_REAL ? "prediction" : "probability",
                      mmf_named_get(&out, "fused"));
    mmf_tensor *const target = task->kind == MMF_TARGET_CLASS
                                   ? mmf_input_ints(tape, d->classes, 1, shape)
                                   : mmf_input(tape, d->values, 2, shape);
    return mmf_task_loss(tape, task, &options, &out, target);
}

static mmf_status descend(late_fit *l, rule_data *d, mmf_module *rule)
{
    mmf_optimizer_options options = MMF_OPTIMIZER_OPTIONS_INIT;
    options.lr = RULE_LR;
    options.weight_decay =
        strcmp(mmf_module_def(rule)->name, "late") == 0 &&
                strcmp(mmf_config_text(mmf_module_config(rule), "rule"), "stacking") == 0
            ? STACK_WEIGHT_DECAY
            : 0;
    mmf_tape *tape = NULL;
    mmf_optimizer *optimizer = NULL;
    mmf_params *const params = mmf_module_params(rule);
    mmf_status status = mmf_tape_create(l->ctx, &tape);
    if (status == MMF_OK)
        status = mmf_optimizer_create(l->ctx, &optimizer, params, &options);
    for (int64_t s = 0; status == MMF_OK && s < RULE_STEPS; s++) {
        mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
        mmf_tensor *const loss = rule_loss(l, d, rule, tape);
        status = mmf_tape_backward(tape, loss);
        if (status == MMF_OK && !isfinite(loss->data[0]))
            status =
                mmf_fail(l->ctx, MMF_NUMERIC, "%s: the rule's loss is not finite", l->fit->name);
        if (status != MMF_OK)
            break;
        mmf_params_finish_gradients(params, tape);
        mmf_optimizer_step(optimizer, 1);
    }
    mmf_optimizer_free(optimizer);
    mmf_tape_free(tape);
    return status;
}

/* Copies parameters "<name>" of `from` to "<prefix>.<name>" of `to`. */
static mmf_status copy_params(mmf_ctx *ctx, const mmf_module *from, const mmf_module *to,
                              const char *prefix)
{
    const mmf_params *const source = mmf_module_params(from);
    char name[1024];
    for (size_t i = 0; i < mmf_params_count(source); i++) {
        const mmf_param *const p = mmf_params_at(source, i);
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        const mmf_param *const q = mmf_params_find(mmf_module_params(to), name);
        if (!q || q->tensor->count != p->tensor->count)
            return mmf_fail(ctx, MMF_INTERNAL, "late: there is no parameter %s", name);
        memcpy(q->tensor->data, p->tensor->data, (size_t)p->tensor->count * sizeof(mmf_real));
    }
    return MMF_OK;
}

/* Fits a rule with parameters of its own and leaves them in `rule`. */
static mmf_status fit_rule(late_fit *l, bool stacking, mmf_module **rule)
{
    const mmf_fit *const fit = l->fit;
    const int64_t *const rows = stacking ? fit->train_rows : fit->valid_rows;
    const int64_t n = stacking ? fit->n_train : fit->n_valid;
    if (n == 0)
        return mmf_fail(l->ctx, MMF_ARG,
                        "%s: its weights are fitted on validation rows; there are none", fit->name);
    rule_data data = {0};
    mmf_config *config = NULL;
    mmf_status status = stacking ? predict_out_of_fold(l) : predict_valid(l);
    if (status == MMF_OK)
        status = make_rule_data(l, &data, rows, n);
    if (status == MMF_OK)
        status = mmf_config_create(l->ctx, &config, &mmf_fusion_late_rule);
    if (status == MMF_OK)
        status = mmf_config_set(config, "rule", stacking ? "stacking" : "learned");
    if (status == MMF_OK)
        status = mmf_config_set(
            config, "task",
            fit->task->kind == MMF_TARGET_SOFT ? "classification" : mmf_task_name(fit->task->kind));
    if (status == MMF_OK)
        status = mmf_module_create(l->ctx, rule, &mmf_fusion_late_rule, config, &data.schema,
                                   fit->options->seed);
    if (status == MMF_OK)
        status = descend(l, &data, *rule);
    mmf_config_free(config);
    clear_rule_data(l, &data);
    return status;
}

/* ---- The whole model --------------------------------------------------------------------- */

static mmf_status assemble(late_fit *l, mmf_model **out, const mmf_config *config,
                           const mmf_module *rule, bool final)
{
    mmf_module *module = NULL;
    MMF_TRY(mmf_module_create(l->ctx, &module, mmf_model_find(l->fit->name), config, &l->inputs,
                              l->fit->options->seed));
    MMF_TRY(mmf_model__create(l->ctx, out, module, l->fit->name, l->fit->task, NULL));
    for (size_t m = 0; m < l->count; m++) {
        const mmf_model *const part = final ? l->parts[m].final : l->parts[m].chosen;
        MMF_TRY(copy_params(l->ctx, part->module, module, l->inputs.inputs[m].name));
        MMF_TRY(mmf_model__take_normalisation(*out, m, &part->normalisation));
        /* All parts see the same targets, so they share one scale. */
        (*out)->target_shift = part->target_shift;
        (*out)->target_scale = part->target_scale;
    }
    return rule ? copy_params(l->ctx, rule, module, "rule") : MMF_OK;
}

/* The trainer of one modality cannot tell a rule of another from a mistake. */
static mmf_status check_scopes(late_fit *l)
{
    const mmf_train_options *const o = l->fit->options;
    const mmf_module_making making = {.seed = o->seed, .frozen = o->freeze};
    mmf_module *module = NULL;
    if (!o->freeze && !o->rates)
        return MMF_OK;
    MMF_TRY(mmf_module__create_as(l->ctx, &module, mmf_model_find(l->fit->name), l->fit->config,
                                  &l->inputs, &making));
    const mmf_status status =
        mmf_scopes_check_use(l->ctx, mmf_module_params(module), o->freeze, o->rates);
    mmf_module_free(module);
    return status;
}

static mmf_status run_late(late_fit *l, mmf_fit_pair *out, mmf_config *config, mmf_module **rule,
                           bool refit)
{
    const char *const name = l->fit->name;
    MMF_TRY(check_scopes(l));
    MMF_TRY(train_parts(l, refit));
    if (strcmp(name, "late-weighted") == 0 && mmf_config_count(config, "weights") == 0 &&
        l->fit->n_valid > 0)
        MMF_TRY(weigh_by_validation(l, config));
    const bool stacking = strcmp(name, "late-stacking") == 0;
    if (stacking || strcmp(name, "late-learned") == 0)
        MMF_TRY(fit_rule(l, stacking, rule));
    MMF_TRY(assemble(l, &out->chosen, config, *rule, false));
    if (refit)
        MMF_TRY(assemble(l, &out->final, config, *rule, true));
    else
        out->final = out->chosen;
    out->result = (mmf_fit_result){.valid_loss = NAN, .train_loss = NAN, .seconds = l->seconds};
    for (size_t m = 0; m < l->count; m++) {
        const int64_t epochs = l->parts[m].result.epochs;
        out->result.epochs = epochs > out->result.epochs ? epochs : out->result.epochs;
    }
    return MMF_OK;
}

mmf_status mmf_late_fit(mmf_ctx *ctx, mmf_fit_pair *out, const mmf_fit *fit, bool refit)
{
    late_fit l = {.ctx = ctx, .fit = fit};
    mmf_config *config = NULL;
    mmf_module *rule = NULL;
    *out = (mmf_fit_pair){0};
    MMF_TRY(mmf_schema_of(ctx, &l.inputs, fit->dataset, NULL));
    l.count = l.inputs.count;
    l.parts = mmf_alloc_zero(ctx, l.count, sizeof *l.parts);
    l.scores = mmf_alloc_zero(ctx, l.count, sizeof *l.scores);
    mmf_status status =
        l.parts && l.scores ? mmf_config_copy(ctx, &config, fit->config) : MMF_NOMEM;
    if (status == MMF_OK)
        status = run_late(&l, out, config, &rule, refit);
    if (status != MMF_OK)
        mmf_fit_pair_clear(out);
    for (size_t m = 0; m < l.count; m++) {
        if (l.parts)
            mmf_fit_pair_clear(&l.parts[m]);
        mmf_free(ctx, l.scores ? l.scores[m] : NULL);
    }
    mmf_free(ctx, l.parts);
    mmf_free(ctx, l.scores);
    mmf_free(ctx, l.inputs.inputs);
    mmf_module_free(rule);
    mmf_config_free(config);
    return status;
}
