/*
 * aid.h: training aids: what stands beside the training of any model that puts out
 * `feature_<modality>` and changes its loss or its gradients.
 *
 * What an aid learns and remembers belongs to the fit, as that of losses over features does
 * (auxiliary.h): it is part of the checkpoint and dropped with the fit. The model file holds the
 * model, and names the aids in its training record.
 */
#ifndef MMFUSE_TRAIN_AID_H
#define MMFUSE_TRAIN_AID_H

#include "mmfuse/train.h"
#include "tasks/task.h"

#define MMF_MAX_AIDS 4

typedef struct mmf_aid mmf_aid;

/** One forward pass as an aid sees it. */
typedef struct mmf_aid_pass {
    mmf_tape *tape;
    const mmf_named *in, *out;
    const mmf_step *step;
    const int64_t *rows; /* of the data set */
    int64_t n_rows;
    mmf_tensor *target; /* in the units of training */
    uint64_t seed;
} mmf_aid_pass;

/** What aids know of the fit. Everything is borrowed. */
typedef struct mmf_aid_fit {
    const mmf_task *task;
    const mmf_loss_options *loss;
    const mmf_train_options *options;
    mmf_dataset *dataset;
    mmf_params *params; /* of the model */
    const char *name;   /* of the model, for messages */
    const int64_t *train_rows, *valid_rows;
    int64_t n_train, n_valid;
    int64_t max_rows; /* of a pass */
    double lr;
    double target_scale, target_shift;
    /** Mean losses over rows, in evaluation: the task's, then that of the aid's head of each
     * feature. */
    mmf_status (*measure)(void *trainer, mmf_aid *aid, const int64_t *rows, int64_t n_rows,
                          double *means);
    void *trainer;
} mmf_aid_fit;

/** One row of aids.def. Functions may be NULL, but for `start`. */
typedef struct mmf_aid_kind {
    /** Name, paper, equations, `missing`, options; `takes` says which tasks. */
    mmf_def def;
    /** Builds what it needs for the features of a recorded pass over a few rows. */
    mmf_status (*start)(mmf_aid *aid, const mmf_aid_pass *pass);
    /** Before the first epoch of a run that is not resumed. */
    mmf_status (*begin)(mmf_aid *aid);
    /** The loss of a training step. @param loss that of the model */
    mmf_tensor *(*loss)(mmf_aid *aid, const mmf_aid_pass *pass, mmf_tensor *loss);
    /** After the backward pass, before the update. */
    void (*gradients)(mmf_aid *aid, const mmf_aid_pass *pass);
    /** After an epoch. @param epoch how many are done */
    mmf_status (*epoch)(mmf_aid *aid, int64_t epoch);
} mmf_aid_kind;

/** An aid in a fit. */
struct mmf_aid {
    mmf_ctx *ctx;
    const mmf_aid_kind *kind;
    const mmf_config *config;
    const mmf_aid_fit *fit;
    const mmf_schema *features; /* vectors, one a modality */
    mmf_module *heads;          /* NULL: none */
    mmf_optimizer *optimizer;   /* of the heads */
    mmf_real *state;            /* kept in checkpoints */
    int64_t n_state;
    int64_t *indices; /* 2 max_rows a feature: lent to a pass */
    void *own;        /* one block, freed with the aid */
};

/** The option `aid`, taken apart. */
typedef struct mmf_aid_list {
    size_t count;
    const mmf_aid_kind *kinds[MMF_MAX_AIDS];
    mmf_config *configs[MMF_MAX_AIDS];
} mmf_aid_list;

/**
 * @param text  "ogm-ge:0.3,unimodal-heads:weight=0.5:labels=generated"; NULL: nothing
 * @param out   ended by mmf_aid_list_clear, after a failure too
 * @errors      ARG: unknown (with the nearest name), twice, or an option that does not fit
 */
mmf_status mmf_aid_list_parse(mmf_ctx *ctx, mmf_aid_list *out, const char *text);
void mmf_aid_list_clear(mmf_aid_list *list);

/** The aids of one fit. Zero-initialise. */
typedef struct mmf_aids_run {
    mmf_ctx *ctx;
    size_t count; /* 0: there are none, or the model puts out nothing that they work on */
    mmf_aid aids[MMF_MAX_AIDS];
    mmf_aid_fit fit;
    mmf_schema features;
} mmf_aids_run;

/**
 * @param inputs  of the model, must outlive it   @param pass  recorded, over a few rows
 * @errors        UNSUPPORTED: fewer than two features, unless the options say where possible; a
 * task that the aid is not defined on
 */
mmf_status mmf_aids_create(mmf_ctx *ctx, mmf_aids_run *run, const mmf_aid_list *list,
                           const mmf_schema *inputs, const mmf_aid_fit *fit,
                           const mmf_aid_pass *pass);
void mmf_aids_clear(mmf_aids_run *run);
mmf_status mmf_aids_begin(mmf_aids_run *run);
mmf_tensor *mmf_aids_loss(mmf_aids_run *run, const mmf_aid_pass *pass, mmf_tensor *loss);
void mmf_aids_gradients(mmf_aids_run *run, const mmf_aid_pass *pass);
/** After mmf_aids_gradients: one update of what the aids learn. */
void mmf_aids_step(mmf_aids_run *run, const mmf_tape *tape, double lr_scale);
mmf_status mmf_aids_epoch(mmf_aids_run *run, int64_t epoch);

/** Modalities with a vector a row in what a model puts out; `features` has room for all inputs. */
size_t mmf_list_features(const mmf_schema *inputs, const mmf_named *out, int64_t n_rows,
                         mmf_input_schema *features);
/** The output `feature_<modality>` or NULL. */
mmf_tensor *mmf_feature_of(const mmf_named *out, const char *modality);

/* ---- Heads ------------------------------------------------------------------------------- */

/**
 * A prediction from each feature alone. `hidden` 0: one linear layer `<m>_head`; else the three of
 * Self-MM, `post_<m>_layer_1` to `_3`.
 */
mmf_status mmf_aid_heads_create(mmf_aid *aid, int64_t hidden, double dropout);
/**
 * Puts out `logits_<m>` or `prediction_<m>`, and `hidden_<m>` of heads that have a hidden layer.
 * @param detached  the heads learn, what is below them does not notice
 */
void mmf_aid_heads_run(const mmf_aid *aid, const mmf_aid_pass *pass, bool detached, mmf_named *out);
/** The head's output of feature `m`. */
mmf_tensor *mmf_aid_head(const mmf_aid *aid, const mmf_named *out, size_t m);
/**
 * The task's loss of head `m` over the rows that have the modality; NULL where none has.
 */
mmf_tensor *mmf_aid_head_loss(const mmf_aid *aid, const mmf_aid_pass *pass, const mmf_named *out,
                              size_t m);

/* ---- Rules of single aids ---------------------------------------------------------------- */

/**
 * w_k ~ G_k / O_k^2, summing to one; G below 0 counts as 0, O below `least_o` as that. All equal
 * where nothing gained.
 */
void mmf_gradient_blend_weights(size_t n, const double *gain, const double *overfit, double least_o,
                                double *weights);
/**
 * Self-MM's label of a modality for one sample, before momentum.
 * @param delta, delta_fusion  (D- - D+) / (D+ + eps) of the modality's and the fused feature
 */
double mmf_self_mm_label(double fused_label, double delta, double delta_fusion, double limit);

#endif
