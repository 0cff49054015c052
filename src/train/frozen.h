/*
 * frozen.h: an encoder whose weights stay as they are, over prepared rows: pictures, sounds, tokens
 * to vectors.
 *
 * The weights are those of an encoder of the catalogue, read from a file of safetensors
 * ("resnet18=FILE", "bert=FOLDER"), whose `feature` is taken, or a trained model of one modality
 * ("features=MODEL.mmf"), whose `feature_<modality>` is taken. Pictures go into encoders as numbers
 * from 0 to 1, and as the encoder's source says; into models as their training data went.
 */
#ifndef MMFUSE_TRAIN_FROZEN_H
#define MMFUSE_TRAIN_FROZEN_H

#include "train/preparation.h"

/** The specification's name for a trained model in the place of an encoder. */
#define MMF_FROZEN_MODEL "features"

typedef struct mmf_frozen mmf_frozen;

/** True for names that frozen encoders have. */
bool mmf_frozen_is_name(const char *name, size_t n_bytes);
/** What its rows are prepared with, unless a specification says otherwise. @return NULL: nothing */
const mmf_preparation_kind *mmf_frozen_base(const char *name);
/**
 * Sets the options of that preparation which the encoder needs so, or which the model was trained
 * with.
 * @param source  of the weights
 */
mmf_status mmf_frozen_set_base(mmf_ctx *ctx, const char *name, const char *source,
                               const mmf_preparation_kind **kind, mmf_config **config);
/** A hash of the weights' bytes: what a model carries, to know them again. @errors IO */
mmf_status mmf_frozen_hash(mmf_ctx *ctx, const char *source, uint64_t *hash);

/**
 * @param spec   NAME[:OPTION=VALUE...] of the encoder
 * @param input  what the preparation makes of a row
 * @param out    the caller frees it with mmf_frozen_free
 * @errors       IO, FORMAT (weights that do not fit are named), SHAPE, ARG
 */
mmf_status mmf_frozen_open(mmf_ctx *ctx, mmf_frozen **out, const char *spec, const char *source,
                           const mmf_input_schema *input);
/** Accepts NULL. */
void mmf_frozen_free(mmf_frozen *frozen);
int64_t mmf_frozen_width(const mmf_frozen *frozen);
/** Large linear layers in eight bits from here on, as mmf_model_set_int8. */
void mmf_frozen_set_int8(mmf_frozen *frozen, bool int8);
/**
 * Features of rows: `in` as a batch has it, not normalised, all rows present.
 * @param first  first dimension of a row: that of the input, of tokens also less
 * @param out  (n_rows, width); borrowed until the next call
 */
mmf_status mmf_frozen_run(mmf_frozen *frozen, const mmf_batch_input *in, int64_t n_rows,
                          int64_t first, const float **out);

#endif
