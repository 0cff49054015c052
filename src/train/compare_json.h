/* compare_json.h: a comparison, its trials and its draws as JSON. */
#ifndef MMFUSE_TRAIN_COMPARE_JSON_H
#define MMFUSE_TRAIN_COMPARE_JSON_H

#include <jansson.h>

#include "train/compare.h"
#include "train/json_values.h"

/** The caller's, as jansson's references are. */
json_t *mmf_trial__json(const mmf_comparison *comparison, const mmf_trial *trial);
json_t *mmf_draw__json(const mmf_draw *draw);

#endif
