/*
 * metric_functions.h: scores of predictions, as plain functions of arrays.
 *
 * Fractions, never percent. A score that is undefined (correlation of a constant, AUROC with one
 * class, anything of no rows) is NaN, and one non-finite prediction makes every score of the call
 * NaN. Names, formulas and sources are those of docs/metrics.md. No function prints or keeps state.
 */
#ifndef MMFUSE_TASKS_METRIC_FUNCTIONS_H
#define MMFUSE_TASKS_METRIC_FUNCTIONS_H

#include "mmfuse/metrics.h"

/* ---- Regression -------------------------------------------------------------------------- */

/**
 * mae, rmse, corr, r2, and with rules the accuracies and F1 of the sentiment benchmarks: MOSI adds
 * acc2_has0 f1_has0 acc2_non0 f1_non0 acc3 acc5 acc7; SIMS clips to [-1, 1] first (also for mae,
 * rmse, corr, r2) and adds acc2 f1 acc3 acc5. With rules all comparisons are in single precision.
 *
 * @param prediction, target  (N); n 0: every score is NaN
 * @errors                    ARG (n < 0)
 */
mmf_status mmf_metrics_regression(mmf_ctx *ctx, mmf_metrics *out, const double *prediction,
                                  const double *target, int64_t n, mmf_msa_rules rules);

/* ---- Classification ---------------------------------------------------------------------- */

typedef struct mmf_classification_options {
    int64_t n_bins;   /**< of the calibration errors; default 15 */
    int64_t positive; /**< two classes: which of them is the positive one, 0 or 1; default 1 */
    double threshold; /**< two classes: class 1 is predicted where P(1) >= threshold; 0.5 */
    bool one_vs_rest; /**< treat two classes like more: arg max, means over classes */
} mmf_classification_options;

#define MMF_CLASSIFICATION_OPTIONS_INIT                                                            \
    {                                                                                              \
        .n_bins = 15, .positive = 1, .threshold = 0.5                                              \
    }

/** One bin of a reliability diagram: sums over its rows. */
typedef struct mmf_calibration_bin {
    double confidence, hits, count;
} mmf_calibration_bin;

/**
 * The bins behind `ece` and `mce`: rows by the probability of their most likely class, in equal
 * widths (low, high].
 *
 * @param bins  (n_bins)
 * @errors      as mmf_metrics_classification_with
 */
mmf_status mmf_reliability(mmf_ctx *ctx, const double *probability, const int64_t *classes,
                           int64_t n, int64_t n_classes, int64_t n_bins, mmf_calibration_bin *bins);

/** Scores of one class against the others. */
typedef struct mmf_class_scores {
    int64_t support;    /**< rows of this class */
    double precision;   /**< NaN if never predicted */
    double sensitivity; /**< recall; NaN without support */
    double specificity; /**< NaN if every row is of this class */
    double f1;          /**< 2 TP / (2 TP + FP + FN); 0 if the denominator is 0 */
} mmf_class_scores;

/**
 * accuracy balanced_accuracy f1_macro f1_weighted f1_micro auroc auprc nll brier ece mce; with two
 * classes also f1 sensitivity specificity of the positive class, and auroc, auprc, brier are those
 * of the positive class.
 *
 * @param probability  (N, K) rows that sum to 1
 * @param classes      (N) in [0, K)
 * @param options      NULL: defaults
 * @errors             ARG (n < 0, K < 1, a class outside [0, K), options), NOMEM
 * @cost               K sorts of N scores
 */
mmf_status mmf_metrics_classification_with(mmf_ctx *ctx, mmf_metrics *out,
                                           const double *probability, const int64_t *classes,
                                           int64_t n, int64_t n_classes,
                                           const mmf_classification_options *options);
/** As mmf_metrics_classification_with and the default options. */
mmf_status mmf_metrics_classification(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                      const int64_t *classes, int64_t n, int64_t n_classes);

/**
 * Each label on its own, predicted where probability >= 0.5: accuracy (of all N K decisions),
 * exact_match (rows with every label right), f1_macro f1_weighted f1_micro f1_samples auroc auprc
 * (means over labels) nll brier ece mce (over all decisions).
 *
 * @param probability, target  (N, K); a target counts as 1 where it is >= 0.5
 * @errors                     ARG (n < 0, K < 1), NUMERIC (a target that is no number), NOMEM
 */
mmf_status mmf_metrics_multilabel(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                  const double *target, int64_t n, int64_t n_classes);

/**
 * Targets that are distributions: the scores of mmf_metrics_classification against the targets'
 * maxima (lowest class on ties), but nll and brier against the whole distribution, and
 * soft_accuracy, the mean target value of the predicted class.
 *
 * @param probability, target  (N, K)
 * @errors                     as mmf_metrics_multilabel
 */
mmf_status mmf_metrics_soft(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                            const double *target, int64_t n, int64_t n_classes);

/**
 * A value as the errors of a rule see it: with rules it passes through single precision, as the
 * references' do, and SIMS clips it to [-1, 1].
 */
double mmf_ruled_value(double x, mmf_msa_rules rules);

/**
 * The class that a row of probabilities predicts: the largest, the lowest on ties; of two classes
 * class 1 where its probability is >= 0.5. NaN never wins; a row of NaN predicts 0.
 */
int64_t mmf_predicted_class(const double *row, int64_t n_classes);
/** The same without the rule for two classes. */
int64_t mmf_largest_class(const double *row, int64_t n_classes);

/**
 * Per-class counts (K, K), confusion[true * K + predicted], with mmf_predicted_class. Rows whose
 * class is outside [0, K) are left out.
 */
void mmf_confusion(const double *probability, const int64_t *classes, int64_t n, int64_t n_classes,
                   int64_t *confusion);

/** @param confusion (K, K) as mmf_confusion fills it  @param out (K) */
void mmf_class_scores_from(const int64_t *confusion, int64_t n_classes, mmf_class_scores *out);

/* ---- Retrieval --------------------------------------------------------------------------- */

/** One candidate of a query. */
typedef struct mmf_candidate_item {
    double similarity;
    int64_t place; /**< among the candidates; the lower one comes first on ties */
    bool is_relevant;
} mmf_candidate_item;

/** What the ranking of a query's candidates shows. */
typedef struct mmf_query_result {
    int64_t rank;     /**< of the best relevant candidate, from 0; -1: there is none */
    double precision; /**< average precision over all relevant ones; NaN: there is none */
} mmf_query_result;

/** Ranks the candidates, most similar first; their order may change. */
mmf_query_result mmf_rank_candidates(mmf_candidate_item *items, int64_t n);

/**
 * recall@1 recall@5 recall@10 median_rank mean_rank map, each behind `prefix`, over the queries
 * with a relevant candidate; NaN where there are none.
 *
 * @param queries  (n); their order changes
 */
void mmf_metrics_retrieval(mmf_metrics *out, const char *prefix, mmf_query_result *queries,
                           int64_t n);

/* ---- Robustness -------------------------------------------------------------------------- */

/**
 * Robustness against rising noise (MultiBench; Liang et al., NeurIPS 2021 Datasets and Benchmarks).
 *
 *   relative[m]  = sum_l step (f_m[l] + f_m[l + 1]) / 2          (area below the curve)
 *   effective[m] = sum_l f_m[l] - (LF[l] + f_m[0] - LF[0])
 *
 * @param curve        (M, L) scores of M methods at L equally spaced levels; higher is better
 * @param late_fusion  (L) scores of the late fusion that methods are compared with
 * @param relative, effective  (M); L = 1: 0; L = 0: NaN
 */
void mmf_robustness(const double *curve, const double *late_fusion, int64_t n_methods,
                    int64_t n_levels, double step, double *relative, double *effective);

#endif
