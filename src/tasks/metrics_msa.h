/* metrics_msa.h: the sentiment benchmarks' accuracies, called by mmf_metrics_regression. */
#ifndef MMFUSE_TASKS_METRICS_MSA_H
#define MMFUSE_TASKS_METRICS_MSA_H

#include "tasks/metric_functions.h"

/** Appends the scores of `rules` (none for MMF_MSA_NONE); all NaN for n = 0. Values are finite. */
void mmf_metrics__msa(mmf_metrics *out, const double *prediction, const double *target, int64_t n,
                      mmf_msa_rules rules);

#endif
