/* feed.h: from a batch of arrays to the named tensors that models take. */
#ifndef MMFUSE_TRAIN_FEED_H
#define MMFUSE_TRAIN_FEED_H

#include "mmfuse/model.h"

/** Keys of one modality, made once. */
typedef struct mmf_feed_key {
    char *name, *length, *present;
    char *companions[MMF_N_COMPANIONS];
} mmf_feed_key;

typedef struct mmf_feed {
    mmf_ctx *ctx;
    const mmf_schema *schema;
    mmf_feed_key *keys;
} mmf_feed;

/** @param schema  must outlive the feed, which mmf_feed_clear ends */
mmf_status mmf_feed_create(mmf_ctx *ctx, mmf_feed *out, const mmf_schema *schema);
void mmf_feed_clear(mmf_feed *feed);

/**
 * Appends `<m>`, `<m>.length`, `<m>.present` and companions of every input to `named`.
 *
 * @param inputs  of a batch of `n_rows`
 * @param map     place of each input in `inputs`; NULL: the same
 * @param use     bit m: input m may be used; others become zeros and absent
 */
void mmf_feed_put(const mmf_feed *feed, mmf_tape *tape, const mmf_batch_input *inputs,
                  const size_t *map, int64_t n_rows, uint64_t use, mmf_named *named);

/** Has a batch bring the companions that the schema holds. @param map  as above */
mmf_status mmf_feed_want(const mmf_feed *feed, mmf_batch *batch, const mmf_dataset *dataset,
                         const size_t *map);

/** Inputs of a data set; only `only` if that is not NULL. Strings are borrowed; free inputs with
 * mmf_free. */
mmf_status mmf_schema_of(mmf_ctx *ctx, mmf_schema *out, const mmf_dataset *dataset,
                         const char *only);

#endif
