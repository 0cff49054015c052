/* json_values.c: see json_values.h. */
#include "train/json_values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *mmf_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *mmf_json_text(const char *text)
{
    /* Names may come from a file in another encoding than UTF-8. */
    json_t *const value = text ? json_string(text) : json_null();
    return value ? value : json_string("?");
}

json_t *mmf_json_numbers(const double *values, int64_t n)
{
    json_t *const list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, mmf_json_number(values[i]));
    return list;
}

json_t *mmf_json_epoch(int64_t epoch, double train_loss, double valid_loss, double score,
                       const char *metric)
{
    json_t *const row = json_object();
    char name[MMF_METRIC_NAME_BYTES + 8];
    snprintf(name, sizeof name, "valid_%s", metric);
    json_object_set_new(row, "epoch", json_integer((json_int_t)epoch));
    json_object_set_new(row, "train_loss", mmf_json_number(train_loss));
    json_object_set_new(row, "valid_loss", mmf_json_number(valid_loss));
    json_object_set_new(row, name, mmf_json_number(score));
    return row;
}

char *mmf_json_dump(mmf_ctx *ctx, json_t *object, size_t n_digits)
{
    char *const text =
        object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(n_digits)) : NULL;
    json_decref(object);
    char *const copy = text ? mmf_strdup(ctx, text) : NULL;
    free(text);
    return copy;
}
