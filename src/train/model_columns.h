/* model_columns.h: what the features and tokens of the training data were called. */
#ifndef MMFUSE_TRAIN_MODEL_COLUMNS_H
#define MMFUSE_TRAIN_MODEL_COLUMNS_H

#include <jansson.h>

#include "mmfuse/model.h"

/** Names of features, and size and hash of vocabularies, by modality: for a model's record. */
json_t *mmf_model__columns_json(const mmf_dataset *dataset);
/**
 * Brings the features of a file, whose modalities are the model's, into the order of training.
 * @errors ARG  a feature that the file lacks, or tokens numbered by another vocabulary
 */
mmf_status mmf_model__check_columns(mmf_ctx *ctx, const mmf_model *model, mmf_dataset *dataset);

#endif
