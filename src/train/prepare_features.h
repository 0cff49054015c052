/* prepare_features.h: prepared rows through a frozen encoder, some at a time, into the journal. */
#ifndef MMFUSE_TRAIN_PREPARE_FEATURES_H
#define MMFUSE_TRAIN_PREPARE_FEATURES_H

#include "train/frozen.h"
#include "train/prepare_journal.h"

typedef struct mmf_features {
    mmf_ctx *ctx;
    mmf_frozen *frozen;
    mmf_dtype dtype;            /**< of prepared rows */
    int64_t step, n_steps, row; /**< elements */
    int64_t first;              /**< dimension of a row */
    bool is_timed, is_any_length;
    mmf_batch_input batch; /**< of rows that are there */
    int64_t *steps;        /**< of all rows that wait, MMF_JOURNAL_SKIPPED among them */
    int64_t n_waiting, n_there;
} mmf_features;

/** @param out  ended by mmf_features_close, also after a failure */
mmf_status mmf_features_open(mmf_ctx *ctx, mmf_features *out, const mmf_preparer *preparer,
                             const char *name, const char *spec, const char *source);
void mmf_features_close(mmf_features *features);
/** Takes a row as the journal would, and writes out what waits when that is enough. */
mmf_status mmf_features_add(mmf_features *features, mmf_journal *journal, int64_t n_steps,
                            const void *data);
/** Writes out what waits. */
mmf_status mmf_features_flush(mmf_features *features, mmf_journal *journal);

#endif
