/*
 * model.h: the catalogue, and trained models: what they are, loading, saving, predicting.
 *
 *     mmf_model *model = NULL;
 *     mmf_model_load(ctx, &model, "digits.mmf");
 *     mmf_sample inputs[2] = {{.values = image}, {.values = audio, .length = 31}};
 *     double probability[10];
 *     mmf_model_predict(model, inputs, probability);
 */
#ifndef MMFUSE_MODEL_H
#define MMFUSE_MODEL_H

#include "mmfuse/metrics.h"
#include "mmfuse/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Catalogue --------------------------------------------------------------------------- */

/** Definitions of a kind in the order of their table: models, encoders, operators, rules, layers,
 * losses. */
MMF_API const mmf_def *const *mmf_catalogue(mmf_kind kind, size_t *count);
/** A model's definition by name; "only-audio" is the definition `only`. NULL if unknown. */
MMF_API const mmf_def *mmf_model_find(const char *name);
/** Any definition by the name that golden files use: the bare layer or operator before the model
 * that is made around it. NULL if unknown. */
MMF_API const mmf_def *mmf_definition_find(const char *name);
/** The catalogue's name nearest to a misspelt one, or NULL. */
MMF_API const char *mmf_model_nearest(const char *name);
/** Modality of "only-<modality>", NULL for any other name. */
MMF_API const char *mmf_model_only_modality(const char *name);
/** Room for a sentence that names modalities; a longer one is cut. */
typedef struct mmf_refusal {
    char text[384];
} mmf_refusal;
/**
 * Why a model cannot be used on these inputs and this kind of target, as one sentence with an
 * alternative; NULL if it can.
 * @param room  the sentence may stand in it
 */
MMF_API const char *mmf_model_refusal(const mmf_def *def, const mmf_schema *inputs,
                                      mmf_target_kind target, mmf_refusal *room);
/**
 * As mmf_model_refusal for a training: with a contrastive loss over features (`--loss clip-loss`)
 * models without one of their own can be trained for retrieval too.
 */
MMF_API const char *mmf_training_refusal(const mmf_def *def, const mmf_schema *inputs,
                                         mmf_target_kind target, bool contrasts, mmf_refusal *room);

/* ---- Tasks ------------------------------------------------------------------------------- */

/** What is predicted. Strings are borrowed from the object that handed the task out. */
typedef struct mmf_task {
    mmf_target_kind kind;
    int64_t n_outputs;  /**< classes or target columns; 1 for regression; retrieval: the features
                           of all modalities, known once there is a model, 1 before */
    const char *target; /**< key of the target */
    const char *const *class_names; /**< n_outputs names; NULL: numbers */
    mmf_msa_rules rules;            /**< sentiment metrics, regression only */
} mmf_task;

/** "regression", "classification", "multilabel", "soft", "retrieval", "pretraining". */
MMF_API const char *mmf_task_name(mmf_target_kind kind);
/** The score that models are chosen by and tables are ordered by: accuracy, f1_macro, mae, map or
 * loss. */
MMF_API const char *mmf_task_main_metric(mmf_target_kind kind);
/**
 * All metrics of predictions (n, n_outputs) against the targets of these rows.
 * @param predictions  probabilities, or values for regression; for retrieval the features of the
 *                     data set's modalities behind each other, each n_outputs / modalities wide;
 * for pre-training the loss of the batch that a row was in
 */
MMF_API mmf_status mmf_task_score(mmf_ctx *ctx, mmf_metrics *out, const mmf_task *task,
                                  const mmf_dataset *dataset, const int64_t *rows, int64_t n_rows,
                                  const double *predictions);

/**
 * The first of n rows of predictions with an output that is not a number or infinite, -1: none.
 * Features far outside those of training can overflow.
 */
MMF_API int64_t mmf_task_first_unanswered(const mmf_task *task, const double *predictions,
                                          int64_t n);

/* ---- Models ------------------------------------------------------------------------------ */

/** A module with its task, normalisation, names and training record. One thread at a time. */
typedef struct mmf_model mmf_model;

/**
 * Reads a model file. Large weights that are laid out anew stay in the file, mapped, as long as the
 * model lives: it may be replaced (as mmf_model_save does) or removed, not written over in place.
 * @param out  the caller owns it and frees it with mmf_model_free
 * @errors     IO, FORMAT (not a model file; a tensor is missing, extra or misshapen: named),
 *             UNSUPPORTED (an unknown model)
 */
MMF_API mmf_status mmf_model_load(mmf_ctx *ctx, mmf_model **out, const char *path);
/** Writes a model file: a temporary name, fsync, rename. */
MMF_API mmf_status mmf_model_save(const mmf_model *model, const char *path);
/** Accepts NULL. */
MMF_API void mmf_model_free(mmf_model *model);

/** "tfn", "only-audio". Borrowed. */
MMF_API const char *mmf_model_name(const mmf_model *model);
MMF_API const mmf_task *mmf_model_task(const mmf_model *model);
/** Inputs in the order in which mmf_model_predict takes them. */
MMF_API const mmf_schema *mmf_model_inputs(const mmf_model *model);
MMF_API mmf_module *mmf_model_module(const mmf_model *model);
/** How it was trained, as a JSON object: data, split, seed, options, epochs, scores. Borrowed. */
MMF_API const char *mmf_model_record(const mmf_model *model);
/** How raw files become its inputs, as JSON; NULL: it was trained on arrays. Borrowed. */
MMF_API const char *mmf_model_preparations(const mmf_model *model);
/** Trained parameters. */
MMF_API int64_t mmf_model_n_parameters(const mmf_model *model);
/** Features of one input's vector, or a step of its sequence: names if the data had them, or NULL.
 */
MMF_API const mmf_normalisation *mmf_model_normalisation(const mmf_model *model);

/** One modality of one sample, in the units of the training data; lent for the call. */
typedef struct mmf_sample {
    const float *values;   /**< the schema's shape, row-major; NULL for tokens */
    const int64_t *tokens; /**< tokens only */
    /** valid steps, 0: all; fewer only where padding is known: trained with lengths, or tokens */
    int64_t length;
    bool absent; /**< the modality is missing; values are not read */
    /** T times as many numbers as the schema says; NULL for what it does not have */
    const float *companions[MMF_N_COMPANIONS];
} mmf_sample;

/**
 * Predictions from here on: linear layers of 64 x 128 weights and larger in eight bits, weights
 * with a scale a row, inputs quantised as they come. Faster where the processor multiplies bytes
 * (VNNI) and oneDNN is there; elsewhere the same numbers, slowly. The model itself is not changed.
 */
MMF_API void mmf_model_set_int8(mmf_model *model, bool int8);

/**
 * Predicts one sample. After the first call nothing is allocated.
 *
 * @param samples  one a modality, in the order of mmf_model_inputs
 * @param out      n_outputs probabilities, or the value
 * @errors         ARG (a length beyond T, a modality absent that was never absent in training, a
 * token outside the vocabulary), NUMERIC (non-finite input)
 */
MMF_API mmf_status mmf_model_predict(mmf_model *model, const mmf_sample *samples, double *out);

/**
 * Opens a data file for a model: its modalities in its order, its target if the file has it. With
 * options->prepare a table of texts and file names serves a model that was trained on such a table.
 * @param options  NULL: defaults; `target` is the model's unless given. A modality that the file
 * lacks is absent in every sample, if training had samples without it or `modalities`, those that
 * will be used, leaves it out
 * @errors         as mmf_dataset_open; ARG when a modality is lacking or has another shape
 */
MMF_API mmf_status mmf_model_open_data(mmf_ctx *ctx, mmf_dataset **out, const mmf_model *model,
                                       const char *path, const mmf_dataset_options *options);

#define MMF_ALL_MODALITIES UINT64_MAX
/**
 * Predicts rows of a data set that mmf_model_open_data opened, or that the model was trained on.
 *
 * @param use  bit m: modality m may be used; others count as absent. MMF_ALL_MODALITIES: all
 * @param out  (n_rows, n_outputs)
 */
MMF_API mmf_status mmf_model_predict_rows(mmf_model *model, mmf_dataset *dataset,
                                          const int64_t *rows, int64_t n_rows, uint64_t use,
                                          double *out);

#ifdef __cplusplus
}
#endif
#endif
