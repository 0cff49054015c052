/*
 * compare.h: the inside of a comparison: its plan, one trial in its process, files, ranking.
 *
 * Trial `t` is candidate t / n_seeds with seed number t % n_seeds.
 */
#ifndef MMFUSE_TRAIN_COMPARE_H
#define MMFUSE_TRAIN_COMPARE_H

#include "mmfuse/train.h"
#include "tasks/statistics.h"

/* Bounds the seeds of a comparison, so that summaries over seeds need no memory. */
#define MMF_COMPARE_MAX_SEEDS 1000
#define MMF_COMPARE_MAX_DRAWS 1000
#define MMF_COMPARE_LEVEL 0.95 /* of the interval of the gain */

/** One model of a comparison. */
typedef struct mmf_candidate {
    const char *name; /* one of out->names */
    const mmf_def *def;
    mmf_config *config;
    const char *modality; /* of only-<modality>, else NULL */
    bool is_late;
    bool is_refused; /* asked for by name, but unfit: a failed row that says why */
    char refusal[256];
    double work;                /* of a training step, roughly; for starting long trials first */
    double lr;                  /* that tuning chose; 0: that of the options */
    size_t first_draw, n_draws; /* 0: it is not tuned */
} mmf_candidate;

/** What a draw of out->draws trains with. */
typedef struct mmf_tuning {
    size_t candidate;
    mmf_config *config;
    double lr;
    uint64_t fingerprint; /* what it is run with */
} mmf_tuning;

typedef struct mmf_plan {
    mmf_ctx *ctx;
    mmf_dataset *dataset;
    const mmf_compare_options *options;
    mmf_comparison *out;
    mmf_schema schema; /* of all modalities */
    mmf_candidate *candidates;
    size_t n_candidates, capacity;
    bool contrasts; /* a contrastive loss over features stands beside every model */
    size_t n_seeds;
    mmf_split *splits; /* one, or one a seed with folds */
    size_t n_splits;
    uint64_t *common;       /* of each split: what all trials on it were run with */
    uint64_t *fingerprints; /* of each trial: what it was run with */
    mmf_tuning *tunings;    /* of each draw */
    size_t n_side_by_side;
    int n_threads;  /* of each child */
    char *unimodal; /* folder of the models that the late family shares */
    int lock;       /* of the folder; -1: none */
} mmf_plan;

/** Chooses models, configurations, splits and rows of `out`; the folder stands afterwards. */
mmf_status mmf_plan__make(mmf_plan *plan);
void mmf_plan__clear(mmf_plan *plan);
/** Renews the fingerprint of a trial after its model's configuration has changed. */
mmf_status mmf_plan__fingerprint(mmf_plan *plan, size_t trial);
const mmf_candidate *mmf_plan__candidate(const mmf_plan *plan, size_t trial);
const mmf_split *mmf_plan__split(const mmf_plan *plan, size_t trial);

/** Trains, scores, times and saves a trial: what a child process does. */
mmf_status mmf_trial__run(const mmf_plan *plan, size_t trial);
/** Options that every trial and draw is trained with, apart from learning rate and seed. */
mmf_train_options mmf_trial__options(const mmf_plan *plan);

/* ---- Tuning ------------------------------------------------------------------------------ */

/** Draws the settings of options->n_tune; nothing without it. */
mmf_status mmf_plan__make_draws(mmf_plan *plan);
const mmf_candidate *mmf_draw__candidate(const mmf_plan *plan, size_t draw);
/** True for a draw that has not ended. */
bool mmf_draw__is_pending(const mmf_draw *draw);
/** True when no draw of the candidate is pending. */
bool mmf_plan__is_tuned(const mmf_plan *plan, const mmf_candidate *candidate);
/** Gives the candidate the setting that is best on validation. */
mmf_status mmf_plan__choose_draw(mmf_plan *plan, size_t candidate);
/** Trains and saves a draw: what a child process does. */
mmf_status mmf_draw__run(const mmf_plan *plan, size_t draw);

/* ---- Files ------------------------------------------------------------------------------- */

/** Path of a trial's file, "trials" with "json" or "predictions" with "npz"; freed with mmf_free.
 */
char *mmf_trial__path(const mmf_plan *plan, size_t trial, const char *folder, const char *ending);
/** Predictions of a part; (n_rows, n_outputs) values in the order of the split's rows. */
typedef struct mmf_trial_rows {
    const int64_t *rows;
    int64_t n_rows, n_outputs;
    double *values;
} mmf_trial_rows;
/**
 * Writes predictions/<model>.<seed>.npz: valid.rows, valid.prediction, valid.target, test.*.
 * Parts without rows are left out, as is the target of data that has none.
 */
mmf_status mmf_trial__save_rows(const mmf_plan *plan, size_t trial, const mmf_trial_rows parts[3]);
/** Reads the test predictions back. @param values (n_rows, n_outputs) of the split's test rows */
mmf_status mmf_trial__load_test(const mmf_plan *plan, size_t trial, double *values);
mmf_status mmf_trial__save(const mmf_plan *plan, size_t trial, const mmf_trial *result);
/** Fills the row of `out` from the trial's file; false if there is none that fits. */
bool mmf_trial__load(const mmf_plan *plan, size_t trial);
/** Path of a draw's file; freed with mmf_free. */
char *mmf_draw__path(const mmf_plan *plan, size_t draw);
/** @param record  of the trained model */
mmf_status mmf_draw__save(const mmf_plan *plan, size_t draw, const char *record);
/** Fills the row of `out` from the draw's file; false if there is none that fits. */
bool mmf_draw__load(const mmf_plan *plan, size_t draw);
/** Epochs, seconds, validation scores and the learning curve out of a model's training record. */
void mmf_trial__read_record(const mmf_plan *plan, const char *record, mmf_trial *out);
/** Rewrites results.csv and results.json. */
mmf_status mmf_compare__save(const mmf_plan *plan);

/* ---- Ranking ----------------------------------------------------------------------------- */

/** True for a row that is neither failed nor still to come. */
bool mmf_trial__is_done(const mmf_trial *trial);
bool mmf_trial__is_done_by(const mmf_trial *trial, const char *model);
/** True for a row that has not ended: status STATE without a message. */
bool mmf_trial__is_pending(const mmf_trial *trial);
/** A metric over the finished trials of a model. */
mmf_summary mmf_compare__summary(const mmf_comparison *comparison, const char *model, bool on_test,
                                 const char *metric);
/** Fills the leaders and the best of both kinds. */
void mmf_compare__rank(mmf_comparison *comparison);
/** Gain of the best fusion over the best single modality, and every leader against joint-concat and
 * the best single modality, from the saved predictions. */
mmf_status mmf_compare__test(const mmf_plan *plan);
/** The mean that a model is chosen by; means that only rounding tells apart are equal. */
double mmf_compare__validation(const mmf_leader *leader, const char *metric);
/** Marks the leaders that no other one beats in both validation score and latency. */
void mmf_compare__mark_pareto(mmf_comparison *comparison);
/** What the gain and the tests count, the mean over rows: "accuracy", "mae" or "label accuracy". */
const char *mmf_compare__gain_metric(mmf_target_kind kind);

#endif
