/* metrics.h: named scores. */
#ifndef MMFUSE_METRICS_H
#define MMFUSE_METRICS_H

#include "mmfuse/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MMF_METRICS_MAX 512
#define MMF_METRIC_NAME_BYTES 128

typedef struct mmf_metric {
    char name[MMF_METRIC_NAME_BYTES];
    double value; /**< a fraction, never percent; NaN where the score is undefined */
} mmf_metric;

/** An open value; zero-initialise, then let functions append. Names are those of docs/metrics.md.
 */
typedef struct mmf_metrics {
    size_t count;
    mmf_metric items[MMF_METRICS_MAX];
} mmf_metrics;

/** Rules of the sentiment metrics (docs/metrics.md). */
typedef enum mmf_msa_rules { MMF_MSA_NONE, MMF_MSA_MOSI, MMF_MSA_SIMS } mmf_msa_rules;

/** Appends, or replaces the value of a name that is there; beyond MMF_METRICS_MAX it is dropped. */
MMF_API void mmf_metrics_add(mmf_metrics *metrics, const char *name, double value);
/** NaN if absent. */
MMF_API double mmf_metrics_get(const mmf_metrics *metrics, const char *name);
/** False for losses and errors (nll, brier, ece, mae, rmse, names that begin with "loss" ...). */
MMF_API bool mmf_metric_higher_is_better(const char *name);

#ifdef __cplusplus
}
#endif
#endif
