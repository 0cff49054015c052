/* train.h: training one model, and comparing many. */
#ifndef MMFUSE_TRAIN_H
#define MMFUSE_TRAIN_H

#include "mmfuse/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- One model --------------------------------------------------------------------------- */

/** What a watcher is told: after steps (at most ten times a second) and after every epoch. */
typedef struct mmf_train_event {
    const char *stage; /**< the model, or the part of a late model: "only-audio" */
    int64_t epoch, n_epochs;
    int64_t step, n_steps; /**< inside the epoch */
    bool epoch_ended;
    double train_loss;   /**< mean over the epoch so far */
    double valid_loss;   /**< when an epoch ended; NaN without validation rows */
    double score;        /**< main metric on validation, when an epoch ended */
    bool is_best;        /**< the epoch has the lowest validation loss so far */
    double seconds;      /**< since training began */
    double seconds_left; /**< at most, if every epoch runs; NaN while unknown */
} mmf_train_event;

typedef void mmf_train_watch(void *user, const mmf_train_event *event);

typedef struct mmf_train_options {
    size_t size;
    uint64_t seed;
    int64_t epochs;                  /**< at most; 0: 100 */
    int64_t batch;                   /**< rows a step; 0: the model's, mostly 32 */
    int64_t patience;                /**< epochs without a lower validation loss; 0: 15 */
    mmf_optimizer_options optimizer; /**< lr 0: the model's, mostly 1e-3 */
    mmf_schedule_kind schedule;
    double warmup, factor; /**< as mmf_schedule */
    int64_t period;
    /** Comma-separated. Regression: "l1" (default), "mse" or "smooth-l1". Losses over the features
     * of modalities, added to the task's with a weight: "clip-loss:0.1", "supcon:0.5". What these
     * learn for themselves (projections, a temperature) is not part of the model. NULL: the default
     */
    const char *loss;
    /** Comma-separated training aids (mmf_aids) with the value of their first option or with named
     * options: "ogm-ge:0.3,unimodal-heads:weight=0.5:labels=generated". NULL: none */
    const char *aid;
    /** What was asked for and a model cannot do is left aside instead of failing, and told in its
     * record: losses over features and aids without features of two modalities, label smoothing and
     * class weights beside a loss of the model's own. */
    bool loss_where_possible;
    double smoothing;  /**< label smoothing, classes only */
    bool balance;      /**< weight classes inversely to their frequency in train */
    bool refit;        /**< then train anew on train + valid for the chosen number of epochs */
    bool no_normalise; /**< feed features as they are */
    /** Probability that a modality is left out of a training sample; one always stays. 0: never. */
    double modality_dropout;
    int64_t modality_dropout_rise; /**< epochs over which that probability rises from 0 */
    /** Comma-separated checkpoints in safetensors to begin with, "SCOPE=PATH" for a part of the
     * model's parameters or "PATH" for all; names that do not match are told in the log. What a
     * file of the same model says becomes its options where nobody set them. An encoder takes its
     * own behind its specification, "text=bert=FOLDER". NULL: none */
    const char *weights;
    /** Comma-separated parts that stay as they are: "text", or "text:6" for the embeddings and the
     * lowest 6 layers. NULL: none */
    const char *freeze;
    /** Comma-separated learning rates of parts, and the factor from each layer to the one below:
     * "text=2e-5:0.9". NULL: one rate */
    const char *rates;
    mmf_msa_rules rules; /**< sentiment metrics of regression */
    /** Comma-separated random changes of pictures in training: "image=crop:4,image=flip:0.5" moves
     * them by up to so many pixels and mirrors them with that probability. NULL: none */
    const char *augment;
    const char *checkpoint; /**< state file for resuming; NULL: none */
    bool resume; /**< go on from `checkpoint` if it is there: the same bits as unbroken */
    const char
        *unimodal_folder; /**< late models: read and write only-<m>.<seed>.mmf there; NULL: none */
    const char *command;  /**< recorded in the model file; NULL: nothing */
    mmf_train_watch *watch;
    void *watch_user;
} mmf_train_options;

#define MMF_TRAIN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(mmf_train_options), .optimizer = MMF_OPTIMIZER_OPTIONS_INIT                 \
    }

/**
 * Builds a model for a data set and trains it on split->rows[MMF_TRAIN]; epochs are chosen by the
 * loss on split->rows[MMF_VALID]. Test rows are not touched.
 *
 * @param name     of the catalogue, or "only-<modality>"
 * @param config   of its definition; NULL: defaults. The task's options are set here
 * @errors         ARG (unknown model, unfit options), UNSUPPORTED (mmf_model_refusal), NUMERIC
 * (names the operation and step), CANCELLED (after writing the checkpoint), STATE (the checkpoint
 * belongs to other data or options)
 */
MMF_API mmf_status mmf_train(mmf_ctx *ctx, mmf_model **out, mmf_dataset *dataset,
                             const mmf_split *split, const char *name, const mmf_config *config,
                             const mmf_train_options *options);

/**
 * Removes what mmf_train left at `checkpoint`, stages of late models and refits included. For the
 * caller to do when the model is safe: until then --resume needs nothing but these files.
 */
MMF_API void mmf_train_forget(const char *checkpoint);

/**
 * Definitions of the training aids: name, paper, equations, options; `takes` says for which tasks.
 * They have no `build` and no `run`.
 */
MMF_API const mmf_def *const *mmf_aids(size_t *count);

/** The task of a data set; borrowed strings live as long as the data set. Free class_names with
 * mmf_free. */
MMF_API mmf_status mmf_task_of(mmf_ctx *ctx, mmf_task *out, const mmf_dataset *dataset,
                               mmf_msa_rules rules);

/* ---- Many models ------------------------------------------------------------------------- */

/** One epoch of a learning curve. */
typedef struct mmf_epoch_scores {
    double train_loss, valid_loss;
    double score; /**< main metric on validation */
} mmf_epoch_scores;

/** One model with one seed. */
typedef struct mmf_trial {
    const char *model;
    uint64_t seed;
    mmf_status status;
    char error[256];         /**< of a failed trial */
    mmf_metrics valid, test; /**< of the chosen epoch */
    int64_t n_parameters;
    int64_t epochs; /**< the chosen number */
    double train_seconds;
    double latency; /**< seconds for one sample in a running process, median */
    /** From the first epoch on; owned by the comparison. NULL: late models, which are several fits,
     * and unimodal models that another trial left. */
    mmf_epoch_scores *curve;
    int64_t n_curve;
    char left_aside[64]; /**< of what was asked for: "smoothing", "aids" ..., commas between; "" */
} mmf_trial;

/** A setting that --tune tried: trained with the first seed, judged on validation. */
typedef struct mmf_draw {
    const char *model;
    int64_t number; /**< 0: the options as they were given */
    char *setting;  /**< JSON object of the drawn options and "lr" */
    mmf_status status;
    char error[256];
    mmf_metrics valid; /**< there are no test scores of a draw */
    int64_t epochs;
    double train_seconds;
    bool is_chosen;
} mmf_draw;

/**
 * A model against a reference on the test rows: per-row scores (mmf_compare says which), averaged
 * over the seeds that both have. Positive differences are in the model's favour.
 */
typedef struct mmf_against {
    const char *reference;        /**< NULL: not tested, or the model itself */
    double difference, low, high; /**< with its 95 % interval by a paired bootstrap over rows */
    double p, p_adjusted;         /**< sign-flip test over rows; Holm over all models */
} mmf_against;

/** One row of the leaderboard. */
typedef struct mmf_leader {
    const char *model;
    int64_t n_seeds; /**< finished trials */
    mmf_metrics valid_mean, test_mean, test_deviation;
    int64_t n_parameters;
    double train_seconds, latency; /**< means over seeds */
    bool is_pareto; /**< no other model is as good on validation and as fast, and better in one */
    mmf_against against_concat, against_single; /**< joint-concat; best_single */
} mmf_leader;

typedef struct mmf_comparison {
    mmf_ctx *ctx;
    char *data;
    mmf_task task;
    char **names; /**< owned strings behind `model` */
    mmf_trial *trials;
    size_t n_trials;
    mmf_leader *leaders; /**< best first, by the main metric on validation */
    size_t n_leaders;
    const char *best_single; /**< the unimodal model best on validation; NULL if none ran */
    const char *best_fusion;
    /** Gain of best_fusion over best_single on test: mean over seeds, paired bootstrap over rows.
     */
    double gain, gain_low, gain_high;
    mmf_draw *draws; /**< of every tuned model one after another; NULL: nothing was tuned */
    size_t n_draws;
} mmf_comparison;

/** @param n_done, n_running  trials and draws */
typedef void mmf_compare_watch(void *user, const mmf_comparison *so_far, size_t n_done,
                               size_t n_running, double seconds);

typedef struct mmf_compare_options {
    size_t size;
    const char *models;   /**< comma-separated names; NULL: every model that the data allows */
    int64_t n_seeds;      /**< seeds train.seed, +1, ...; 0: 3 */
    int n_jobs;           /**< trials side by side; 0: one a core */
    const char *folder;   /**< results and predictions go there; made if missing */
    bool resume;          /**< keep finished trials found in the folder */
    int64_t n_tune;       /**< settings tried for each model that is no late one; 0: none */
    const char *set;      /**< "name=value;name=value": options, for the models that have them */
    const char *encoders; /**< "audio=lstm:128,image=cnn2d"; NULL: by shape */
    mmf_split_options split;
    mmf_train_options train;
    mmf_compare_watch *watch;
    void *watch_user;
} mmf_compare_options;

#define MMF_COMPARE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(mmf_compare_options), .split = MMF_SPLIT_OPTIONS_INIT,                      \
        .train = MMF_TRAIN_OPTIONS_INIT                                                            \
    }

/**
 * Trains models x seeds as child processes and ranks them. One broken trial never ends the run. The
 * folder receives results.csv, results.json, predictions/<model>.<seed>.npz and the unimodal models
 * that the late family shares.
 *
 * @param out  freed with mmf_comparison_clear
 * @errors     ARG (unknown model), IO; failed trials are rows with a message, not errors
 */
MMF_API mmf_status mmf_compare(mmf_ctx *ctx, mmf_comparison *out, mmf_dataset *dataset,
                               const mmf_compare_options *options);
MMF_API void mmf_comparison_clear(mmf_comparison *comparison);
/** results.json of the design; the caller frees it with mmf_free. NULL: out of memory. */
MMF_API char *mmf_comparison_json(const mmf_comparison *comparison);
/** The leaderboard as an aligned text table; the caller frees it with mmf_free. */
MMF_API char *mmf_comparison_table(const mmf_comparison *comparison, bool colour);

#ifdef __cplusplus
}
#endif
#endif
