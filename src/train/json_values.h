/* json_values.h: values that JSON cannot hold as such. */
#ifndef MMFUSE_TRAIN_JSON_VALUES_H
#define MMFUSE_TRAIN_JSON_VALUES_H

#include <jansson.h>

#include "mmfuse/metrics.h"

/** null for NaN and infinities. */
json_t *mmf_json_number(double value);
/** null for NULL; "?" for bytes that are not UTF-8. */
json_t *mmf_json_text(const char *text);
json_t *mmf_json_numbers(const double *values, int64_t n);
/** An epoch of a learning curve: {"epoch", "train_loss", "valid_loss", "valid_<metric>"}. */
json_t *mmf_json_epoch(int64_t epoch, double train_loss, double valid_loss, double score,
                       const char *metric);

/** Digits of results, and those with which a double comes back to the bit. */
enum { MMF_JSON_DIGITS = 12, MMF_JSON_EXACT = 17 };

/** Text of `object`, which is released; freed with mmf_free. NULL: no memory. */
char *mmf_json_dump(mmf_ctx *ctx, json_t *object, size_t n_digits);

#endif
