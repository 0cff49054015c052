/* json_values.c: see json_values.h. */
#include "train/json_values.h"

#include <math.h>
#include <stdlib.h>

#define DIGITS 12

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

char *mmf_json_dump(mmf_ctx *ctx, json_t *object)
{
    char *const text =
        object ? json_dumps(object, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(object);
    char *const copy = text ? mmf_strdup(ctx, text) : NULL;
    free(text);
    return copy;
}
