/* step_fit.h: sequences of a file in the length of a model that was trained on another. */
#ifndef MMFUSE_DATA_STEP_FIT_H
#define MMFUSE_DATA_STEP_FIT_H

#include "mmfuse/data.h"

/**
 * Makes `n_steps` the steps of a modality that has some. What a file has fewer of is filled up with
 * zeros in batches, which then bring lengths; what it has more of must be padding: beyond every
 * sample's length, or tokens 0. Before batches are made of the data set.
 *
 * @errors ARG   a sample with more steps, by its row
 */
mmf_status mmf_dataset_fit_steps(mmf_dataset *ds, size_t modality, int64_t n_steps);

#endif
