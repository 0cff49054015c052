/* json_values.h: values that JSON cannot hold as such. */
#ifndef MMFUSE_TRAIN_JSON_VALUES_H
#define MMFUSE_TRAIN_JSON_VALUES_H

#include <jansson.h>

#include "mmfuse/base.h"

/** null for NaN and infinities. */
json_t *mmf_json_number(double value);
/** null for NULL; "?" for bytes that are not UTF-8. */
json_t *mmf_json_text(const char *text);
json_t *mmf_json_numbers(const double *values, int64_t n);
/** Text of `object`, which is released; freed with mmf_free. NULL: no memory. */
char *mmf_json_dump(mmf_ctx *ctx, json_t *object);

#endif
