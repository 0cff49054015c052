/*
 * metrics.h: scores of predictions, as plain functions of arrays.
 *
 * Fractions, never percent. A score that is undefined (correlation of a constant, AUROC with one
 * class) is NaN. Names are those of docs/metrics.md.
 */
#ifndef MMFUSE_TASKS_METRICS_H
#define MMFUSE_TASKS_METRICS_H

#include "mmfuse/base.h"

#define MMF_METRICS_MAX 48
#define MMF_METRIC_NAME_BYTES 32

typedef struct mmf_metric {
    char name[MMF_METRIC_NAME_BYTES];
    double value;
} mmf_metric;

/** An open value; zero-initialise, then let functions append. */
typedef struct mmf_metrics {
    size_t count;
    mmf_metric items[MMF_METRICS_MAX];
} mmf_metrics;

/** Rules of the sentiment metrics (docs/metrics.md). */
typedef enum mmf_msa_rules { MMF_MSA_NONE, MMF_MSA_MOSI, MMF_MSA_SIMS } mmf_msa_rules;

void mmf_metrics_add(mmf_metrics *metrics, const char *name, double value);
/** NaN if absent. */
double mmf_metrics_get(const mmf_metrics *metrics, const char *name);
/** False for losses and errors (nll, brier, ece, mae, rmse ...). */
bool mmf_metric_higher_is_better(const char *name);

/** mae, rmse, corr, r2, and with rules the accuracies and F1 of the sentiment benchmarks. */
mmf_status mmf_metrics_regression(mmf_ctx *ctx, mmf_metrics *out, const double *prediction,
                                  const double *target, int64_t n, mmf_msa_rules rules);
/** @param probability (N, K) rows that sum to 1  @param classes (N) in [0, K) */
mmf_status mmf_metrics_classification(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                      const int64_t *classes, int64_t n, int64_t n_classes);
/** @param probability, target (N, K), each label on its own, predicted where probability >= 0.5 */
mmf_status mmf_metrics_multilabel(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                  const double *target, int64_t n, int64_t n_classes);
/** @param probability, target (N, K) distributions; classes are the targets' maxima */
mmf_status mmf_metrics_soft(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                            const double *target, int64_t n, int64_t n_classes);
/** Per-class counts (K, K), confusion[true * K + predicted]. */
void mmf_confusion(const double *probability, const int64_t *classes, int64_t n, int64_t n_classes,
                   int64_t *confusion);

#endif
