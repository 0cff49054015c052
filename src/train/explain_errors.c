/* explain_errors.c: where predictions are wrong: confusion and reliability of classes, predicted
 * against true for numbers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tasks/metric_functions.h"
#include "train/explain.h"

#define RELIABILITY_BINS 15
#define MAX_CONFUSION 200 /* classes; beyond, the matrix is left out */
#define MAX_SCATTER 2000  /* rows; of more, evenly spaced ones are shown */

/* ---- Classes ----------------------------------------------------------------------------- */

static json_t *class_names(const mmf_task *task)
{
    json_t *const list = json_array();
    for (int64_t k = 0; k < task->n_outputs; k++) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)k);
        json_array_append_new(list,
                              mmf_json_text(task->class_names ? task->class_names[k] : number));
    }
    return list;
}

static mmf_status add_confusion(mmf_explainer *e, const int64_t *classes)
{
    const int64_t n = e->task.n_outputs;
    if (n > MAX_CONFUSION)
        return MMF_OK;
    int64_t *const counts = mmf_alloc_zero(e->ctx, (size_t)(n * n), sizeof *counts);
    if (!counts)
        return MMF_NOMEM;
    mmf_confusion(e->predictions, classes, e->rows->n, n, counts);
    json_t *const rows = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_t *const row = json_array();
        for (int64_t k = 0; k < n; k++)
            json_array_append_new(row, json_integer((json_int_t)counts[i * n + k]));
        json_array_append_new(rows, row);
    }
    mmf_free(e->ctx, counts);
    json_t *const object = json_object();
    json_object_set_new(object, "classes", class_names(&e->task));
    json_object_set_new(object, "counts", rows);
    json_object_set_new(e->json, "confusion", object);
    return MMF_OK;
}

static mmf_status add_reliability(mmf_explainer *e, const double *probability,
                                  const int64_t *classes, int64_t n, int64_t n_classes)
{
    mmf_calibration_bin bins[RELIABILITY_BINS];
    MMF_TRY(mmf_reliability(e->ctx, probability, classes, n, n_classes, RELIABILITY_BINS, bins));
    json_t *const list = json_array();
    for (int i = 0; i < RELIABILITY_BINS; i++) {
        const double count = bins[i].count;
        json_t *const row = json_object();
        json_object_set_new(row, "low", json_real((double)i / RELIABILITY_BINS));
        json_object_set_new(row, "high", json_real((double)(i + 1) / RELIABILITY_BINS));
        json_object_set_new(row, "n", json_integer((json_int_t)count));
        json_object_set_new(row, "confidence", mmf_json_number(bins[i].confidence / count));
        json_object_set_new(row, "accuracy", mmf_json_number(bins[i].hits / count));
        json_array_append_new(list, row);
    }
    json_object_set_new(e->json, "reliability", list);
    return MMF_OK;
}

static mmf_status classes_of(mmf_explainer *e, int64_t **out)
{
    const int64_t width = e->task.n_outputs;
    const bool soft = e->task.kind == MMF_TARGET_SOFT;
    *out = mmf_alloc_zero(e->ctx, (size_t)e->rows->n, sizeof **out);
    double *const target = mmf_alloc_zero(e->ctx, (size_t)width, sizeof *target);
    if (!*out || !target) {
        mmf_free(e->ctx, target);
        return MMF_NOMEM;
    }
    for (int64_t i = 0; i < e->rows->n; i++) {
        mmf_dataset_target(e->dataset, e->rows->rows[i], target);
        (*out)[i] = soft ? mmf_largest_class(target, width) : (int64_t)target[0];
    }
    mmf_free(e->ctx, target);
    return MMF_OK;
}

static mmf_status add_classes(mmf_explainer *e)
{
    int64_t *classes = NULL;
    mmf_status status = classes_of(e, &classes);
    if (status == MMF_OK)
        status = add_confusion(e, classes);
    if (status == MMF_OK)
        status = add_reliability(e, e->predictions, classes, e->rows->n, e->task.n_outputs);
    mmf_free(e->ctx, classes);
    return status;
}

/* Each label of each row is a decision between two classes, as in its calibration error. */
static mmf_status add_labels(mmf_explainer *e)
{
    const int64_t width = e->task.n_outputs, n = e->rows->n * width;
    int64_t *const classes = mmf_alloc_zero(e->ctx, (size_t)n, sizeof *classes);
    double *const pairs = mmf_alloc_zero(e->ctx, (size_t)n, 2 * sizeof *pairs);
    double *const target = mmf_alloc_zero(e->ctx, (size_t)width, sizeof *target);
    mmf_status status = classes && pairs && target ? MMF_OK : MMF_NOMEM;
    for (int64_t i = 0; status == MMF_OK && i < n; i++) {
        if (i % width == 0)
            mmf_dataset_target(e->dataset, e->rows->rows[i / width], target);
        classes[i] = target[i % width] >= 0.5;
        pairs[2 * i + 1] = e->predictions[i];
        pairs[2 * i] = 1 - e->predictions[i];
    }
    if (status == MMF_OK)
        status = add_reliability(e, pairs, classes, n, 2);
    mmf_free(e->ctx, target);
    mmf_free(e->ctx, pairs);
    mmf_free(e->ctx, classes);
    return status;
}

/* ---- Numbers ----------------------------------------------------------------------------- */

static void add_scatter(mmf_explainer *e)
{
    const int64_t n = e->rows->n, shown = n < MAX_SCATTER ? n : MAX_SCATTER;
    json_t *const predicted = json_array();
    json_t *const truth = json_array();
    for (int64_t i = 0; i < shown; i++) {
        const int64_t at = i * n / shown;
        double target = 0;
        mmf_dataset_target(e->dataset, e->rows->rows[at], &target);
        json_array_append_new(predicted, mmf_json_number(e->predictions[at]));
        json_array_append_new(truth, mmf_json_number(target));
    }
    json_t *const object = json_object();
    json_object_set_new(object, "rows", json_integer((json_int_t)n));
    json_object_set_new(object, "predicted", predicted);
    json_object_set_new(object, "true", truth);
    json_object_set_new(e->json, "scatter", object);
}

mmf_status mmf_explain__errors(mmf_explainer *e)
{
    switch (e->task.kind) {
    case MMF_TARGET_REAL:
        add_scatter(e);
        return MMF_OK;
    case MMF_TARGET_MULTILABEL:
        return add_labels(e);
    case MMF_TARGET_CLASS:
    case MMF_TARGET_SOFT:
        return add_classes(e);
    case MMF_TARGET_RETRIEVAL:
    case MMF_TARGET_PRETRAINING:
    case MMF_TARGET_NONE:
        break;
    }
    return MMF_OK;
}
