/* trainer.h: one module fitted to rows of a data set; what mmf_train is made of. */
#ifndef MMFUSE_TRAIN_TRAINER_H
#define MMFUSE_TRAIN_TRAINER_H

#include "mmfuse/train.h"
#include "train/aid.h"
#include "train/auxiliary.h"
#include "train/model_parts.h"
#include "train/pretrained_source.h"
#include "train/timing.h"

/** One fit. Everything is borrowed for the call. */
typedef struct mmf_fit {
    mmf_dataset *dataset;
    const char *name; /**< of the catalogue, or only-<modality>; not a late model */
    const mmf_config *config;
    const mmf_task *task;
    const int64_t *train_rows, *valid_rows;
    int64_t n_train, n_valid;
    int64_t fixed_epochs; /**< train exactly so long, whatever validation says; 0: stop early */
    const char *stage; /**< told to the watcher, and the checkpoint's suffix; "" for the only one */
    const mmf_train_options *options;
    const mmf_loss_list *losses; /**< of options->loss */
    const mmf_aid_list *aids;    /**< of options->aid */
    const mmf_starts *starts;    /**< weights of others to begin with */
    unsigned left_aside;         /**< before the fit */
} mmf_fit;

/** What was asked for and left aside; see loss_where_possible. */
enum {
    MMF_ASIDE_LOSSES = 1 << 0, /**< over features, or of numbers */
    MMF_ASIDE_AIDS = 1 << 1,
    MMF_ASIDE_SMOOTHING = 1 << 2,
    MMF_ASIDE_BALANCE = 1 << 3
};

/** What a fit found out. */
typedef struct mmf_fit_result {
    int64_t epochs;    /**< of the weights that were kept */
    double valid_loss; /**< NaN without validation rows */
    double train_loss; /**< of the last epoch */
    double seconds;
    unsigned left_aside;
} mmf_fit_result;

#define MMF_DEFAULT_LR 1e-3 /* where neither options nor model say */

/** Learning rate of a fit: the option's, else the model's own, else 1e-3. */
double mmf_fit_lr(const mmf_fit *fit);
/** Rows a step: the option's, else the model's own while that leaves a few steps an epoch, else 32.
 */
int64_t mmf_fit_batch(const mmf_fit *fit);
/** Shift and scale of the target in training: left as they are where labels are in [-3, 3]. */
void mmf_fit_target_scale(const mmf_fit *fit, double *shift, double *scale);
/** @param out  the caller frees it with mmf_model_free; its record is empty */
mmf_status mmf_fit_run(mmf_ctx *ctx, mmf_model **out, const mmf_fit *fit, mmf_fit_result *result);

/** Longest fingerprint, with its end. */
#define MMF_FINGERPRINT_BYTES 256

/** Identity of data, rows, model, options and seed: what is resumed or shared must have the same.
 */
mmf_status mmf_fit_fingerprint(mmf_ctx *ctx, const mmf_fit *fit, char out[MMF_FINGERPRINT_BYTES]);

/** A fit, and the refit on train + valid for as many epochs when that is asked for. */
typedef struct mmf_fit_pair {
    mmf_model *chosen; /**< of the epoch that validation chose */
    mmf_model *final;  /**< refitted; `chosen` itself without refit */
    mmf_fit_result result;
} mmf_fit_pair;

/**
 * Fits anything but a late model. Unimodal models are first looked for in options->unimodal_folder,
 * and left there.
 * @param out  ended by mmf_fit_pair_clear
 */
mmf_status mmf_fit_pair_run(mmf_ctx *ctx, mmf_fit_pair *out, const mmf_fit *fit, bool refit);
void mmf_fit_pair_clear(mmf_fit_pair *pair);

/* ---- Inside a fit ------------------------------------------------------------------------ */

/** Where a fit stands: plain values, saved as they are. */
typedef struct mmf_fit_progress {
    int64_t epoch, step; /* the next step to take */
    int64_t best_epoch;  /* epochs done when the best weights were kept; 0: none yet */
    double loss_sum, best_loss, last_loss;
    double plateau_scale, plateau_best;
    int64_t plateau_bad;
    double seconds;
} mmf_fit_progress;

/** Blocks of a checkpoint. */
typedef struct mmf_fit_state {
    mmf_params *params;
    mmf_optimizer *optimizer;
    mmf_auxiliary *auxiliary;
    mmf_aids_run *aids;
    mmf_real *best_values, *best_state;
    mmf_real *curve; /* (most_epochs, 3) as mmf_learning_curve; rows of epochs to come are 0 */
    int64_t most_epochs;
    mmf_fit_progress progress;
    char fingerprint[MMF_FINGERPRINT_BYTES];
} mmf_fit_state;

/** Whether a run left its state there, that of any stage. */
bool mmf_checkpoint_exists(const char *checkpoint);
/** "" if the fit has none. */
void mmf_checkpoint_path(const mmf_fit *fit, char *out, size_t size);
mmf_status mmf_checkpoint_save(mmf_ctx *ctx, const mmf_fit_state *state, const char *path);
/** @param found  false if there is no such file  @errors STATE (another run's), FORMAT */
mmf_status mmf_checkpoint_load(mmf_ctx *ctx, mmf_fit_state *state, const char *path, bool *found);

/** Says that classes without names have no sample: their numbers have gaps. @errors NOMEM */
mmf_status mmf_train__warn_of_gaps(mmf_ctx *ctx, const mmf_dataset *dataset);
/** Refuses "only-NAME" where `inputs`, those of the file `of`, have no such modality. @errors ARG
 */
mmf_status mmf_train__check_only(mmf_ctx *ctx, const mmf_schema *inputs, const char *of,
                                 const char *name);

/** Whether a model can be made with these options: some exclude each other, as a width that is no
 * multiple of the heads. */
bool mmf_train__builds(mmf_ctx *ctx, const mmf_dataset *dataset, const char *name,
                       const mmf_task *task, const mmf_config *config,
                       const mmf_train_options *options);

/* ---- Modality dropout -------------------------------------------------------------------- */

/** True if a fit of these inputs leaves some out: a single modality always stays. */
bool mmf_drops_modalities(const mmf_train_options *options, const mmf_schema *inputs);
/** Then every input may be absent, whatever the data set has. */
void mmf_schema_may_drop(mmf_schema *inputs, const mmf_train_options *options);
/** The rate at a step (0-based): it rises to options->modality_dropout, then stays. */
double mmf_modality_dropout_rate(const mmf_train_options *options, int64_t step,
                                 int64_t steps_per_epoch);
/**
 * Leaves modalities out of the rows of a batch; one that is there always stays.
 * @param map  places of the model's inputs in the batch, which tracks presence
 */
void mmf_modality_dropout(mmf_batch *batch, const mmf_dataset *dataset, const size_t *map,
                          size_t n_modalities, double rate, mmf_rng *rng);

/* ---- Late models ------------------------------------------------------------------------- */

/**
 * Trains the unimodal models, fits the rule and puts both into one model. `fit->name` is a late
 * one.
 * @param chosen  receives the model whose parts validation chose, for scores; the caller frees it
 * @param final   the refitted one; the same object as `chosen` without refit
 */
mmf_status mmf_late_fit(mmf_ctx *ctx, mmf_fit_pair *out, const mmf_fit *fit, bool refit);

#endif
