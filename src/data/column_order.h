/* column_order.h: features of a file in the order of a model that was trained on another. */
#ifndef MMFUSE_DATA_COLUMN_ORDER_H
#define MMFUSE_DATA_COLUMN_ORDER_H

#include "mmfuse/data.h"

/**
 * Brings the features of a modality into the order of `names` (n), by the file's own NAME.names.
 * Nothing changes where the file names none, or the same in the same order.
 *
 * @errors ARG   a feature of the model that the file lacks, or channels of images in another order
 *         NOMEM
 */
mmf_status mmf_dataset_order_columns(mmf_dataset *ds, size_t modality, const char *const *names,
                                     int64_t n);

/**
 * Identity of the first `n` words of a vocabulary.
 * @param vocab  with n words or more
 */
uint64_t mmf_vocabulary_hash(const mmf_array *vocab, int64_t n);

#endif
