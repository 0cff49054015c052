/* class_names.c: see class_names.h. */
#include "data/class_names.h"

#include <stdio.h>

#include "base/text.h"
#include "data/dataset.h"

/* The place of the file's class k among `names`, -1: it is none of them. */
static int64_t place_of(const mmf_dataset *ds, int64_t k, const char *const *names, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (mmf_text_is_cell(names[i], &ds->class_names, k))
            return i;
    }
    return -1;
}

/* (N) classes, or (N, n_columns). What the model does not know stands behind what it knows. */
static void number(const mmf_dataset *ds, const int64_t *places, int64_t n_columns, double *out)
{
    const int64_t n_own = ds->class_names.shape[0];
    for (int64_t i = 0; n_columns == 0 && i < ds->n_samples; i++)
        out[i] = (double)places[mmf_array_integer(&ds->target, i)];
    for (int64_t k = 0; n_columns > 0 && k < n_own; k++) {
        for (int64_t i = 0; i < ds->n_samples; i++)
            out[i * n_columns + places[k]] = mmf_array_number(&ds->target, i * n_own + k);
    }
}

static bool has_samples(const mmf_dataset *ds, int64_t k)
{
    int64_t i = 0;
    while (i < ds->n_samples && mmf_array_integer(&ds->target, i) != k)
        i++;
    return i < ds->n_samples;
}

/* Gives what is none of the names the place behind them, and keeps the first such name. @return the
 * number of classes */
static int64_t place_foreign(mmf_dataset *ds, int64_t *places, int64_t n_own, int64_t n)
{
    bool any = false;
    for (int64_t k = 0; k < n_own; k++) {
        size_t width = 0;
        const char *const own = mmf_array_string(&ds->class_names, k, &width);
        if (places[k] >= 0)
            continue;
        places[k] = n;
        if (any || (ds->target_kind == MMF_TARGET_CLASS && !has_samples(ds, k)))
            continue;
        any = true;
        snprintf(ds->foreign_class, sizeof ds->foreign_class, "%.*s", (int)width, own);
    }
    return any ? n + 1 : n;
}

mmf_status mmf_dataset_order_classes(mmf_dataset *ds, const char *const *names, int64_t n)
{
    const bool is_class = ds->target_kind == MMF_TARGET_CLASS;
    const int64_t n_own = ds->class_names.n_dims == 1 ? ds->class_names.shape[0] : 0;
    bool same = true;
    if (n_own == 0 || (!is_class && ds->target_kind != MMF_TARGET_MULTILABEL &&
                       ds->target_kind != MMF_TARGET_SOFT))
        return MMF_OK;
    int64_t *const places = mmf_alloc_zero(ds->ctx, (size_t)n_own, sizeof *places);
    for (int64_t k = 0; places && k < n_own; k++) {
        places[k] = place_of(ds, k, names, n);
        same = same && places[k] == k;
    }
    if (!places || (same && (is_class || n_own == n))) {
        mmf_free(ds->ctx, places);
        return places ? MMF_OK : MMF_NOMEM;
    }
    const int64_t n_classes = place_foreign(ds, places, n_own, n);
    const int64_t n_columns = is_class ? 0 : n_classes;
    double *const values = mmf_alloc_zero(ds->ctx, (size_t)ds->n_samples,
                                          (size_t)(is_class ? 1 : n_columns) * sizeof *values);
    if (values)
        number(ds, places, n_columns, values);
    mmf_free(ds->ctx, places);
    if (!values)
        return MMF_NOMEM;
    ds->ordered_target = values;
    ds->n_classes = n_classes;
    ds->target = (mmf_array){.dtype = MMF_F64,
                             .n_dims = is_class ? 1 : 2,
                             .shape = {ds->n_samples, n_columns},
                             .item_bytes = sizeof *values,
                             .data = values};
    ds->class_names = (mmf_array){.data = NULL}; /* they are the model's now */
    return MMF_OK;
}

const char *mmf_dataset_foreign_class(const mmf_dataset *ds)
{
    return ds->foreign_class[0] ? ds->foreign_class : NULL;
}
