/* compare_json.h: a comparison, its trials and its draws as JSON. */
#ifndef MMFUSE_TRAIN_COMPARE_JSON_H
#define MMFUSE_TRAIN_COMPARE_JSON_H

#include <jansson.h>

#include "train/compare.h"

/** The caller's, as jansson's references are. */
json_t *mmf_trial__json(const mmf_comparison *comparison, const mmf_trial *trial);
json_t *mmf_draw__json(const mmf_draw *draw);
/** NULL becomes null; text in another encoding than UTF-8 "?". */
void mmf_json__put_text(json_t *object, const char *name, const char *text);
/** Takes over `object`; the text is the caller's, to be freed with mmf_free. NULL: no memory. */
char *mmf_json__dump(mmf_ctx *ctx, json_t *object, size_t n_digits);

#endif
