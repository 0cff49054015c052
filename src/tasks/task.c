/* task.c: see task.h. */
#include "tasks/task.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/class_names.h"
#include "tasks/metric_functions.h"
#include "tasks/retrieval.h"
#include "tensor/tape.h"

/* Keeps the logarithm of a combined probability finite. */
#define MIN_PROBABILITY 1e-12

const char *mmf_task_name(mmf_target_kind kind)
{
    static const char *const names[] = {"none", "regression", "classification", "multilabel",
                                        "soft", "retrieval",  "pretraining"};
    return names[kind];
}

const char *mmf_task_main_metric(mmf_target_kind kind)
{
    if (kind == MMF_TARGET_REAL)
        return "mae";
    if (kind == MMF_TARGET_RETRIEVAL)
        return "map";
    if (kind == MMF_TARGET_PRETRAINING)
        return "loss";
    return kind == MMF_TARGET_MULTILABEL ? "f1_macro" : "accuracy";
}

const char *mmf_task_regression_loss(const char *name, size_t n)
{
    static const char *const names[] = {"l1", "mse", "smooth-l1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == n && strncmp(names[i], name, n) == 0)
            return names[i];
    }
    return NULL;
}

static mmf_tensor *regression_loss(mmf_tape *tape, const char *name, mmf_tensor *y,
                                   mmf_tensor *target)
{
    if (name && strcmp(name, "mse") == 0)
        return mmf_mse_loss(tape, y, target);
    if (name && strcmp(name, "smooth-l1") == 0)
        return mmf_smooth_l1_loss(tape, y, target, 1);
    return mmf_l1_loss(tape, y, target);
}

static mmf_tensor *log_probability(mmf_tape *tape, mmf_tensor *p)
{
    return mmf_log(tape, mmf_clamp(tape, p, MIN_PROBABILITY, 1));
}

/* Models that put out probabilities combine finished predictions: only their rule is trained. */
static mmf_tensor *probability_loss(mmf_tape *tape, const mmf_task *task,
                                    const mmf_loss_options *options, mmf_tensor *p,
                                    mmf_tensor *target)
{
    mmf_tensor *const log_p = log_probability(tape, p);
    if (task->kind == MMF_TARGET_CLASS)
        return mmf_nll_loss(tape, log_p, target, options->class_weight);
    if (task->kind == MMF_TARGET_SOFT)
        return mmf_kl_loss(tape, log_p, target);
    mmf_tensor *const log_q = log_probability(tape, mmf_affine(tape, p, -1, 1));
    mmf_tensor *const off = mmf_affine(tape, target, -1, 1);
    mmf_tensor *const sum = mmf_add(tape, mmf_mul(tape, target, log_p), mmf_mul(tape, off, log_q));
    return mmf_affine(tape, mmf_mean(tape, sum, MMF_ALL_AXES), -1, 0);
}

static mmf_tensor *main_loss(mmf_tape *tape, const mmf_task *task, const mmf_loss_options *options,
                             const mmf_named *outputs, mmf_tensor *target)
{
    mmf_tensor *const logits = mmf_named_get(outputs, "logits");
    mmf_tensor *const p = logits ? NULL : mmf_named_get(outputs, "probability");
    switch (task->kind) {
    case MMF_TARGET_REAL:
        return regression_loss(tape, options->regression, mmf_named_get(outputs, "prediction"),
                               target);
    case MMF_TARGET_CLASS:
        return p ? probability_loss(tape, task, options, p, target)
                 : mmf_cross_entropy(tape, logits, target, options->class_weight,
                                     options->smoothing);
    case MMF_TARGET_MULTILABEL:
        return p ? probability_loss(tape, task, options, p, target)
                 : mmf_bce_logits(tape, logits, target, NULL);
    case MMF_TARGET_SOFT:
        return p ? probability_loss(tape, task, options, p, target)
                 : mmf_soft_cross_entropy(tape, logits, target);
    case MMF_TARGET_PRETRAINING:
    case MMF_TARGET_RETRIEVAL: /* what brings features together is the model's, or beside it */
    case MMF_TARGET_NONE:
        break;
    }
    return NULL;
}

/* @param loss  NULL: nothing yet */
static mmf_tensor *add_all(mmf_tape *tape, mmf_tensor *loss, const mmf_named *outputs,
                           const char *prefix)
{
    for (size_t i = 0; i < outputs->count; i++) {
        if (strncmp(outputs->items[i].name, prefix, strlen(prefix)) == 0)
            loss = loss ? mmf_add(tape, loss, outputs->items[i].tensor) : outputs->items[i].tensor;
    }
    return loss;
}

mmf_tensor *mmf_task_loss(mmf_tape *tape, const mmf_task *task, const mmf_loss_options *options,
                          const mmf_named *outputs, mmf_tensor *target)
{
    mmf_tensor *const whole = mmf_named_get(outputs, "objective");
    if (whole)
        return add_all(tape, whole, outputs, "auxiliary.");
    mmf_tensor *const loss = main_loss(tape, task, options, outputs, target);
    return add_all(tape, add_all(tape, loss, outputs, "loss."), outputs, "auxiliary.");
}

/* Features of the modalities behind each other. */
static mmf_tensor *all_features(mmf_tape *tape, const mmf_schema *inputs, const mmf_named *outputs)
{
    mmf_tensor *features[MMF_MAX_VIEWS];
    char name[300];
    if (inputs->count > MMF_MAX_VIEWS)
        return NULL;
    for (size_t m = 0; m < inputs->count; m++) {
        snprintf(name, sizeof name, "feature_%s", inputs->inputs[m].name);
        features[m] = mmf_named_get(outputs, name);
    }
    return mmf_concat(tape, features, (int)inputs->count, 1);
}

/* As many numbers a row as the task has, which is what is read of it. */
static mmf_tensor *held_to(mmf_tape *tape, const mmf_task *task, mmf_tensor *y)
{
    if (!y || y->count == y->shape[0] * task->n_outputs)
        return y;
    return mmf_tape__fail(tape, MMF_SHAPE, "prediction", "%lld numbers a row, the task has %lld",
                          (long long)(y->count / y->shape[0]), (long long)task->n_outputs);
}

mmf_tensor *mmf_task_prediction(mmf_tape *tape, const mmf_task *task, const mmf_schema *inputs,
                                const mmf_named *outputs)
{
    if (task->kind == MMF_TARGET_RETRIEVAL)
        return all_features(tape, inputs, outputs);
    if (task->kind == MMF_TARGET_REAL || task->kind == MMF_TARGET_PRETRAINING)
        return held_to(tape, task, mmf_named_get(outputs, "prediction"));
    mmf_tensor *const logits = held_to(tape, task, mmf_named_get(outputs, "logits"));
    if (!logits)
        return held_to(tape, task, mmf_named_get(outputs, "probability"));
    return task->kind == MMF_TARGET_MULTILABEL ? mmf_sigmoid(tape, logits)
                                               : mmf_softmax(tape, logits, NULL, MMF_EMPTY_ZERO);
}

double mmf_task_row_score(const mmf_task *task, const double *prediction, const double *target)
{
    const int64_t n = task->n_outputs;
    double right = 0;
    switch (task->kind) {
    case MMF_TARGET_REAL:
        return -fabs(mmf_ruled_value(prediction[0], task->rules) -
                     mmf_ruled_value(target[0], task->rules));
    case MMF_TARGET_CLASS:
        return mmf_predicted_class(prediction, n) == (int64_t)target[0] ? 1 : 0;
    case MMF_TARGET_SOFT:
        return mmf_largest_class(prediction, n) == mmf_largest_class(target, n) ? 1 : 0;
    case MMF_TARGET_MULTILABEL:
        for (int64_t k = 0; k < n; k++)
            right += (prediction[k] >= 0.5) == (target[k] >= 0.5) ? 1 : 0;
        return right / (double)n;
    case MMF_TARGET_RETRIEVAL:
    case MMF_TARGET_PRETRAINING:
    case MMF_TARGET_NONE:
        break;
    }
    return NAN;
}

mmf_status mmf_task_balance(mmf_ctx *ctx, const mmf_task *task, const mmf_dataset *dataset,
                            const int64_t *rows, int64_t n_rows, mmf_real *out)
{
    if (task->kind != MMF_TARGET_CLASS)
        return mmf_fail(ctx, MMF_ARG, "class weights need classes; the task is %s",
                        mmf_task_name(task->kind));
    double target = 0;
    memset(out, 0, (size_t)task->n_outputs * sizeof *out);
    for (int64_t i = 0; i < n_rows; i++) {
        mmf_dataset_target(dataset, rows[i], &target);
        out[(int64_t)target] += 1;
    }
    for (int64_t k = 0; k < task->n_outputs; k++)
        out[k] = out[k] > 0 ? (mmf_real)n_rows / ((mmf_real)task->n_outputs * out[k]) : 0;
    return MMF_OK;
}

/* ---- Scores ------------------------------------------------------------------------------ */

static mmf_status score(mmf_ctx *ctx, mmf_metrics *out, const mmf_task *task, int64_t n,
                        const double *predictions, const double *targets, int64_t *classes)
{
    switch (task->kind) {
    case MMF_TARGET_REAL:
        return mmf_metrics_regression(ctx, out, predictions, targets, n, task->rules);
    case MMF_TARGET_CLASS:
        for (int64_t i = 0; i < n; i++)
            classes[i] = (int64_t)targets[i];
        return mmf_metrics_classification(ctx, out, predictions, classes, n, task->n_outputs);
    case MMF_TARGET_MULTILABEL:
        return mmf_metrics_multilabel(ctx, out, predictions, targets, n, task->n_outputs);
    case MMF_TARGET_SOFT:
        return mmf_metrics_soft(ctx, out, predictions, targets, n, task->n_outputs);
    case MMF_TARGET_RETRIEVAL: /* not row by row: mmf_retrieval_score */
    case MMF_TARGET_PRETRAINING:
    case MMF_TARGET_NONE:
        break;
    }
    return mmf_fail(ctx, MMF_ARG, "the data has no target to score against");
}

int64_t mmf_task_first_unanswered(const mmf_task *task, const double *predictions, int64_t n)
{
    for (int64_t i = 0; i < n * task->n_outputs; i++) {
        if (!isfinite(predictions[i]))
            return i / task->n_outputs;
    }
    return -1;
}

static bool is_wide(const mmf_task *task)
{
    return task->kind == MMF_TARGET_MULTILABEL || task->kind == MMF_TARGET_SOFT;
}

mmf_status mmf_task__check_classes(mmf_ctx *ctx, const mmf_task *task, const mmf_dataset *dataset)
{
    const char *const foreign = mmf_dataset_foreign_class(dataset);
    const int64_t n = mmf_dataset_n_classes(dataset);
    if (!is_wide(task) && task->kind != MMF_TARGET_CLASS)
        return MMF_OK;
    if (foreign)
        return mmf_fail(ctx, MMF_ARG, "%s: %s: \"%s\" is none of the model's classes, %s%s%s...",
                        mmf_dataset_path(dataset), mmf_dataset_target_name(dataset), foreign,
                        task->class_names[0], task->n_outputs > 1 ? ", " : "",
                        task->n_outputs > 1 ? task->class_names[1] : "");
    if (is_wide(task) ? n != task->n_outputs : n > task->n_outputs)
        return mmf_fail(ctx, MMF_ARG, "%s: %lld classes, the model knows %lld",
                        mmf_dataset_path(dataset), (long long)n, (long long)task->n_outputs);
    return MMF_OK;
}

mmf_status mmf_task_score(mmf_ctx *ctx, mmf_metrics *out, const mmf_task *task,
                          const mmf_dataset *dataset, const int64_t *rows, int64_t n_rows,
                          const double *predictions)
{
    *out = (mmf_metrics){0};
    if (mmf_dataset_target_kind(dataset) != task->kind)
        return mmf_fail(ctx, MMF_ARG, "%s: target %s is for %s, the model is for %s",
                        mmf_dataset_path(dataset), mmf_dataset_target_name(dataset),
                        mmf_task_name(mmf_dataset_target_kind(dataset)), mmf_task_name(task->kind));
    if (task->kind == MMF_TARGET_PRETRAINING) {
        double sum = 0;
        for (int64_t i = 0; i < n_rows; i++)
            sum += predictions[i];
        mmf_metrics_add(out, "loss", n_rows > 0 ? sum / (double)n_rows : NAN);
        return MMF_OK;
    }
    if (task->kind == MMF_TARGET_RETRIEVAL)
        return mmf_retrieval_score(ctx, out, dataset, rows, n_rows, predictions, task->n_outputs);
    MMF_TRY(mmf_task__check_classes(ctx, task, dataset));
    const bool wide = is_wide(task);
    const int64_t width = wide ? task->n_outputs : 1;
    double *targets = mmf_alloc_zero(ctx, (size_t)(n_rows * width + 1), sizeof *targets);
    int64_t *classes = mmf_alloc_zero(ctx, (size_t)n_rows + 1, sizeof *classes);
    mmf_status status = targets && classes ? MMF_OK : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < n_rows; i++)
        mmf_dataset_target(dataset, rows[i], targets + i * width);
    if (status == MMF_OK)
        status = score(ctx, out, task, n_rows, predictions, targets, classes);
    mmf_free(ctx, targets);
    mmf_free(ctx, classes);
    return status;
}
