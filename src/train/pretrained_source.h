/*
 * pretrained_source.h: where a fit's weights start: the SOURCE of an encoder's specification
 * ("text=bert=FOLDER"), and checkpoints for whole models or parts of them ("bert=FOLDER", "FILE").
 *
 * Sources are read when training begins. What the files beside the weights say becomes options of
 * the model, so that a trained model needs none of them.
 */
#ifndef MMFUSE_TRAIN_PRETRAINED_SOURCE_H
#define MMFUSE_TRAIN_PRETRAINED_SOURCE_H

#include "mmfuse/nn.h"

typedef struct mmf_start {
    char *part; /**< the modality whose encoder it is, or a scope of the model, "" for all of it */
    char *path;
    char *below;            /**< the part of the file's names that counts, behind a "#"; "": all */
    const mmf_def *encoder; /**< NULL: a scope */
    int64_t vocab;          /**< rows of its table of words; 0: not said */
} mmf_start;

/** Zero-initialise; ended by mmf_starts_clear. */
typedef struct mmf_starts {
    mmf_ctx *ctx;
    mmf_start *items;
    size_t count;
} mmf_starts;

/**
 * Takes the sources out of the option `encoder`, in whose place their sizes stand then.
 *
 * @param config   changed
 * @param weights  "SCOPE=SOURCE" or "SOURCE" with commas between, "#PART" behind a source: only
 * names below it; NULL: none. A folder's config.json sets the model's options of the same names,
 * but for those that are set
 * @errors         ARG, those of mmf_source.describe
 */
mmf_status mmf_starts_read(mmf_ctx *ctx, mmf_starts *out, mmf_config *config,
                           const mmf_schema *inputs, const char *weights);
/** Makes the vocabularies of a schema as large as the tables that its tokens look up. */
void mmf_starts_widen(const mmf_starts *starts, mmf_schema *inputs);
/**
 * Loads weights into a module that was built for the configuration. Tells in the log what has no
 * counterpart.
 * @errors FORMAT: weights of an encoder that lack or misfit; nothing matches a scope
 */
mmf_status mmf_starts_load(const mmf_starts *starts, const mmf_module *module);
/**
 * Puts what encoders of images were trained with, or say, in the place of the statistics of
 * training rows: of whole numbers from 0 to 255, or of reals from 0 to 1.
 *
 * @param config  of the model, with the option `encoder`
 * @errors        ARG
 */
mmf_status mmf_starts_normalise(const mmf_starts *starts, const mmf_config *config,
                                const mmf_dataset *dataset, mmf_normalisation *normalisation);
void mmf_starts_clear(mmf_starts *starts);

#endif
