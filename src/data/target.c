/*
 * target.c: the target of a data set: which array, what kind of task, and whether its values fit.
 *
 * Whole numbers with at most 50 different values are classes unless the task says otherwise.
 */
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define MAX_DIFFERENT 50
/* Rows of soft scores come from division in half precision at worst, where 1,000 columns each
 * carry a rounding error of 2^-11 of their share. */
#define SUM_TOLERANCE 2e-3

static const char *const tasks[] = {"regression", "classification", "multilabel",
                                    "soft",       "retrieval",      "pretraining"};
enum { N_TASKS = 6, REGRESSION = 0, CLASSIFICATION, MULTILABEL, SOFT, RETRIEVAL, PRETRAINING };

/* ---- Finding the array --------------------------------------------------------------------- */

static bool fits_target(const char *name, const mmf_array *header)
{
    return !strchr(name, '.') && header->dtype != MMF_STR &&
           (header->n_dims == 1 || header->n_dims == 2);
}

static mmf_status fail_missing(mmf_dataset *ds, const char *name)
{
    const size_t n = mmf_archive_count(ds->archive);
    const char **const names = mmf_alloc_zero(ds->ctx, n ? n : 1, sizeof *names);
    if (!names)
        return MMF_NOMEM;
    size_t n_names = 0;
    mmf_text list = {.ctx = ds->ctx};
    for (size_t i = 0; i < n; i++) {
        const mmf_array *const header = mmf_archive_header(ds->archive, i);
        const char *const other = mmf_archive_name(ds->archive, i);
        if (header->dtype == MMF_STR && !strchr(other, '.'))
            names[n_names++] = other; /* names of classes, in a table */
        if (!fits_target(other, header))
            continue;
        names[n_names++] = other;
        if (header->n_dims == 1)
            mmf_text_add(&list, "%s%s", list.length ? ", " : "", names[n_names - 1]);
    }
    const char *const nearest = mmf_text_nearest(name, names, n_names);
    mmf_status status = list.status;
    if (status == MMF_OK && nearest)
        status = mmf_fail(ds->ctx, MMF_ARG,
                          "%s: no target \"%s\"; did you mean \"%s\"? (--target NAME chooses)",
                          ds->path, name, nearest);
    else if (status == MMF_OK)
        status = mmf_fail(ds->ctx, MMF_ARG,
                          "%s: no target \"%s\"; --target NAME chooses another array: %s", ds->path,
                          name, list.length ? list.data : "the file has none of shape (N)");
    mmf_text_clear(&list);
    mmf_free(ds->ctx, names);
    return status;
}

mmf_status mmf_data_find_target(mmf_dataset *ds, const char *name, bool optional)
{
    char shape[160];
    const char *const wanted = name ? name : "label";
    const int64_t i = mmf_archive_find(ds->archive, wanted);
    if (i < 0)
        return optional ? MMF_OK : fail_missing(ds, wanted);
    const mmf_array *const header = mmf_archive_header(ds->archive, (size_t)i);
    if (header->dtype == MMF_STR && optional)
        return MMF_OK; /* text is a note */
    if (header->dtype == MMF_STR)
        return mmf_data_fail(ds, MMF_ARG, wanted,
                             "text cannot be a target; store class numbers from 0 and their names "
                             "in \"%s.names\"",
                             wanted);
    if (header->n_dims < 1 || header->n_dims > 2 || mmf_array_count(header) < 1)
        return mmf_data_fail(ds, MMF_ARG, wanted,
                             "a target has shape (N) or (N, C) and is not empty; this has %s%s",
                             mmf_shape_text(shape, sizeof shape, header->shape, header->n_dims),
                             header->n_dims > 0 && header->shape[0] == 0
                                 ? ": there are no rows, as in a table of a first line alone"
                                 : "");
    if (mmf_array_row(header) > MMF_MAX_CLASSES)
        return mmf_data_fail(ds, MMF_LIMIT, wanted, "%lld columns; at most %d",
                             (long long)mmf_array_row(header), MMF_MAX_CLASSES);
    ds->target_name = mmf_archive_name(ds->archive, (size_t)i);
    MMF_TRY(mmf_archive_load(ds->archive, (size_t)i, &ds->target));
    return mmf_data_load_companion(ds, ds->target_name, "names", &ds->class_names);
}

/* ---- Checking its values ------------------------------------------------------------------- */

static mmf_status check_finite(const mmf_dataset *ds)
{
    const int64_t width = mmf_array_row(&ds->target);
    const int64_t n = ds->n_samples * width;
    for (int64_t i = 0; i < n && mmf_dtype_is_float(ds->target.dtype); i++) {
        const double value = mmf_array_number(&ds->target, i);
        if (!isfinite(value))
            return mmf_data_fail_row(ds, MMF_NUMERIC, ds->target_name, i / width,
                                     "the target is %g; leave such samples out of the file", value);
    }
    return MMF_OK;
}

/* Whole numbers with at most MAX_DIFFERENT different values. */
static bool looks_like_classes(const mmf_dataset *ds)
{
    double seen[MAX_DIFFERENT];
    int n_seen = 0;
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const double value = mmf_array_number(&ds->target, i);
        if (value != floor(value))
            return false;
        int low = 0, high = n_seen; /* place of value among those seen, in ascending order */
        while (low < high) {
            const int middle = (low + high) / 2;
            if (seen[middle] < value)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < n_seen && seen[low] == value)
            continue;
        if (n_seen == MAX_DIFFERENT)
            return false;
        memmove(seen + low + 1, seen + low, (size_t)(n_seen - low) * sizeof seen[0]);
        seen[low] = value;
        n_seen++;
    }
    return true;
}

static int compare_names(const void *a, const void *b, void *user)
{
    size_t n = 0, m = 0;
    const char *const x = mmf_array_string(user, *(const int64_t *)a, &n);
    const char *const y = mmf_array_string(user, *(const int64_t *)b, &m);
    const int order = memcmp(x, y, n < m ? n : m);
    return order != 0 ? order : (n > m) - (n < m);
}

/* Answers are given by name, so of two classes of one name one would be lost. */
static mmf_status check_distinct(const mmf_dataset *ds)
{
    mmf_array names = ds->class_names;
    const int64_t n = names.shape[0];
    mmf_status status = MMF_OK;
    int64_t *const order = mmf_alloc_zero(ds->ctx, (size_t)n + 1, sizeof *order);
    if (!order)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, (size_t)n, sizeof *order, compare_names, &names);
    for (int64_t i = 1; status == MMF_OK && i < n; i++) {
        size_t width = 0;
        const char *const name = mmf_array_string(&names, order[i], &width);
        if (compare_names(&order[i - 1], &order[i], &names) == 0)
            status = mmf_fail(ds->ctx, MMF_FORMAT,
                              "%s: array \"%s.names\": two classes are called \"%.*s\"", ds->path,
                              ds->target_name, (int)width, name);
    }
    mmf_free(ds->ctx, order);
    return status;
}

static mmf_status check_names(mmf_dataset *ds, int64_t n_columns)
{
    mmf_array *const names = &ds->class_names;
    if (!names->data)
        return MMF_OK;
    if (names->dtype != MMF_STR || names->n_dims != 1)
        return mmf_fail(ds->ctx, MMF_FORMAT,
                        "%s: array \"%s.names\": expected a list of texts, one a class", ds->path,
                        ds->target_name);
    if (n_columns > 0 && names->shape[0] != n_columns)
        return mmf_fail(ds->ctx, MMF_FORMAT,
                        "%s: array \"%s.names\": %lld names for %lld columns of \"%s\"", ds->path,
                        ds->target_name, (long long)names->shape[0], (long long)n_columns,
                        ds->target_name);
    return names->shape[0] <= MMF_MAX_CLASSES ? check_distinct(ds) : MMF_OK;
}

static mmf_status check_classes(mmf_dataset *ds)
{
    MMF_TRY(check_names(ds, 0));
    const int64_t n_names = ds->class_names.data ? ds->class_names.shape[0] : 0;
    if (n_names > MMF_MAX_CLASSES)
        return mmf_data_fail(ds, MMF_LIMIT, ds->target_name, "%lld class names; at most %d",
                             (long long)n_names, MMF_MAX_CLASSES);
    ds->n_classes = n_names;
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const double value = mmf_array_number(&ds->target, i);
        if (value < 0 || value != floor(value))
            return mmf_data_fail_row(ds, MMF_FORMAT, ds->target_name, i,
                                     "%g is no class: classes are whole numbers from 0; for "
                                     "numbers to predict use --task regression",
                                     value);
        if (n_names > 0 && value >= (double)n_names)
            return mmf_data_fail_row(ds, MMF_FORMAT, ds->target_name, i,
                                     "class %.0f is outside the %lld classes of \"%s.names\"",
                                     value, (long long)n_names, ds->target_name);
        if (value >= MMF_MAX_CLASSES)
            return mmf_data_fail_row(ds, MMF_FORMAT, ds->target_name, i,
                                     "class %.0f; at most %d classes are taken: number them from "
                                     "0, or use --task regression",
                                     value, MMF_MAX_CLASSES);
        if ((int64_t)value >= ds->n_classes)
            ds->n_classes = (int64_t)value + 1;
    }
    ds->target_kind = MMF_TARGET_CLASS;
    return MMF_OK;
}

/* True if the values of every row are >= 0 and sum to 1. */
static bool rows_sum_to_one(const mmf_dataset *ds, int64_t width)
{
    for (int64_t r = 0; r < ds->n_samples; r++) {
        double sum = 0;
        for (int64_t c = 0; c < width; c++) {
            const double value = mmf_array_number(&ds->target, r * width + c);
            if (value < 0)
                return false;
            sum += value;
        }
        if (fabs(sum - 1) > SUM_TOLERANCE)
            return false;
    }
    return true;
}

static mmf_status check_columns(mmf_dataset *ds, int64_t width, bool multilabel)
{
    MMF_TRY(check_names(ds, width));
    for (int64_t i = 0; i < ds->n_samples * width; i++) {
        const double value = mmf_array_number(&ds->target, i);
        if (multilabel ? value == 0 || value == 1 : value >= 0 && value <= 1)
            continue;
        return mmf_data_fail_row(ds, MMF_FORMAT, ds->target_name, i / width,
                                 "column %lld holds %g; expected %s", (long long)(i % width), value,
                                 multilabel ? "0 or 1 (multilabel)" : "scores in [0, 1] (soft)");
    }
    ds->n_classes = width;
    ds->target_kind = multilabel ? MMF_TARGET_MULTILABEL : MMF_TARGET_SOFT;
    return MMF_OK;
}

static mmf_status read_task(mmf_dataset *ds, const char *task, int *out)
{
    *out = -1;
    if (!task)
        return MMF_OK;
    for (int i = 0; i < N_TASKS; i++) {
        if (strcmp(task, tasks[i]) == 0)
            *out = i;
    }
    if (*out >= 0)
        return MMF_OK;
    const char *const nearest = mmf_text_nearest(task, tasks, N_TASKS);
    return mmf_fail(ds->ctx, MMF_ARG,
                    "task \"%.60s\" is none of regression, classification, multilabel, soft, "
                    "retrieval, pretraining%s%s%s",
                    task, nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                    nearest ? "\"?" : "");
}

static void forget_target(mmf_dataset *ds)
{
    ds->target = (mmf_array){.data = NULL};
    ds->class_names = (mmf_array){.data = NULL};
    ds->target_name = NULL;
}

/* Retrieval needs no target: classes say what is relevant if there are any. A target that is there
 * by its usual name and holds no classes is left alone. */
static mmf_status check_retrieval(mmf_dataset *ds, bool was_named)
{
    if (ds->target_name && mmf_array_row(&ds->target) == 1) {
        MMF_TRY(check_finite(ds));
        if (was_named || looks_like_classes(ds))
            MMF_TRY(check_classes(ds));
    } else if (ds->target_name && was_named) {
        return mmf_data_fail(ds, MMF_ARG, ds->target_name,
                             "retrieval takes one class a sample, or no target; this has %lld "
                             "columns",
                             (long long)mmf_array_row(&ds->target));
    }
    ds->target_kind = MMF_TARGET_RETRIEVAL;
    if (ds->n_classes == 0)
        forget_target(ds);
    return MMF_OK;
}

bool mmf_data_needs_target(const char *task)
{
    return !task || (strcmp(task, tasks[RETRIEVAL]) != 0 && strcmp(task, tasks[PRETRAINING]) != 0);
}

mmf_status mmf_data_check_target(mmf_dataset *ds, const char *task_name, bool was_named)
{
    int task = -1;
    MMF_TRY(read_task(ds, task_name, &task));
    if (task == RETRIEVAL)
        return check_retrieval(ds, was_named);
    if (task == PRETRAINING) {
        forget_target(ds);
        ds->target_kind = MMF_TARGET_PRETRAINING;
        return MMF_OK;
    }
    if (!ds->target_name)
        return MMF_OK;
    MMF_TRY(check_finite(ds));
    const int64_t width = mmf_array_row(&ds->target);
    if (width == 1 && task != MULTILABEL && task != SOFT) {
        if (task == CLASSIFICATION || (task < 0 && looks_like_classes(ds)))
            return check_classes(ds);
        ds->target_kind = MMF_TARGET_REAL;
        ds->n_classes = 1;
        ds->class_names = (mmf_array){.data = NULL};
        return MMF_OK;
    }
    if (ds->target.n_dims == 1)
        return mmf_data_fail(ds, MMF_ARG, ds->target_name,
                             "--task %s takes a target of shape (N, C); this has shape (%lld)",
                             task_name, (long long)ds->n_samples);
    if (task == REGRESSION || task == CLASSIFICATION)
        return mmf_data_fail(ds, MMF_ARG, ds->target_name,
                             "--task %s takes one number a sample; this has %lld columns",
                             task_name, (long long)width);
    if (task < 0 && !rows_sum_to_one(ds, width))
        return mmf_data_fail(ds, MMF_ARG, ds->target_name,
                             "%lld columns whose rows do not all sum to 1; say --task multilabel "
                             "(0 or 1 each) or --task soft (scores)",
                             (long long)width);
    return check_columns(ds, width, task == MULTILABEL);
}
