/* norm_statistics.h: which statistics batch norm uses, and how the running ones move. */
#ifndef MMFUSE_TENSOR_NORM_STATISTICS_H
#define MMFUSE_TENSOR_NORM_STATISTICS_H

#include "mmfuse/tensor.h"

/** Mean and 1 / sqrt(variance + eps) of each channel. */
typedef struct mmf_norm_used {
    mmf_real *mean, *rstd;
} mmf_norm_used;

/** Those of a batch of `count` values a channel, with biased variance; moves the running ones. */
void mmf_norm_use_batch(const mmf_batch_norm_state *state, int64_t count, const double *mean,
                        const double *var, const mmf_norm_used *used);
void mmf_norm_use_running(const mmf_batch_norm_state *state, const mmf_norm_used *used);

#endif
