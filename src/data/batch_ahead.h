/*
 * batch_ahead.h: the next batch, filled by a thread while this one is worked on.
 *
 * The thread has a context and a view of the data set of its own, so the caller may use both
 * freely; what must not change meanwhile is the data set itself. POSIX threads.
 */
#ifndef MMFUSE_DATA_BATCH_AHEAD_H
#define MMFUSE_DATA_BATCH_AHEAD_H

#include "data/augment.h"

typedef struct mmf_batch_ahead mmf_batch_ahead;

/** Rows to fill; everything is lent until the batch was taken. */
typedef struct mmf_batch_order {
    const mmf_normalisation *normalisation; /**< NULL: none */
    const mmf_augment *augment;             /**< NULL: none */
    const int64_t *rows;
    int64_t n_rows;
    uint64_t seed, step;
} mmf_batch_order;

/** What an order means, here and now. */
mmf_status mmf_batch_fill_order(mmf_batch *batch, mmf_dataset *dataset,
                                const mmf_batch_order *order);

/** @param like  a batch whose capacity, modalities, presence and companions the one ahead shares */
mmf_status mmf_batch_ahead_create(mmf_ctx *ctx, mmf_batch_ahead **out, const mmf_dataset *dataset,
                                  const mmf_batch *like);
/** Accepts NULL. */
void mmf_batch_ahead_free(mmf_batch_ahead *ahead);
/** Begins to fill. A batch that was not taken is lost. */
void mmf_batch_ahead_start(mmf_batch_ahead *ahead, const mmf_batch_order *order);
/**
 * Waits and exchanges `batch` with the one ahead.
 * @return false if nothing, or something else, was begun, or if it failed: the caller fills the
 * batch and has the message
 */
bool mmf_batch_ahead_take(mmf_batch_ahead *ahead, const mmf_batch_order *order, mmf_batch *batch);

#endif
