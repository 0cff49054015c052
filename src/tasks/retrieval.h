/* retrieval.h: one modality asks, another answers: features of a data set's rows as rankings. */
#ifndef MMFUSE_TASKS_RETRIEVAL_H
#define MMFUSE_TASKS_RETRIEVAL_H

#include "mmfuse/model.h"

/**
 * Ranks, for each ordered pair of modalities, the items of the second by their cosine to each item
 * of the first.
 *
 * An item is a stored row of a modality that the given rows use: samples that share one through
 * `<modality>.index` ask once. Relevant is the same class, where the data has classes, else what
 * stands beside it in some sample. Absent modalities are no items.
 *
 * Appends map, recall@1, recall@5, recall@10, means over the pairs, then for each pair
 * `<a>_to_<b>.` and what mmf_metrics_retrieval names.
 *
 * @param features  (n_rows, M D): the data set's M modalities behind each other
 * @param width     M D
 * @errors          SHAPE (the width is no multiple of M, or there is one modality), NOMEM
 */
mmf_status mmf_retrieval_score(mmf_ctx *ctx, mmf_metrics *out, const mmf_dataset *dataset,
                               const int64_t *rows, int64_t n_rows, const double *features,
                               int64_t width);

#endif
