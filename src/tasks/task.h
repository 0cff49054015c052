/*
 * task.h: from a model's outputs to a loss and to predictions.
 *
 * A model puts out `prediction` (B, 1) for regression; `feature_<modality>` (B, D) for retrieval;
 * `loss.*` and their sum as `prediction` (B, 1) for pre-training; `logits` (B, K), or `probability`
 * (B, K) where it combines predictions, for everything else.
 */
#ifndef MMFUSE_TASKS_TASK_H
#define MMFUSE_TASKS_TASK_H

#include "mmfuse/model.h"

/** How the loss is computed; part of the training options. */
typedef struct mmf_loss_options {
    const char *regression;   /* "l1", "mse", "smooth-l1"; NULL: "l1" */
    double smoothing;         /* of labels */
    mmf_tensor *class_weight; /* (K) or NULL */
} mmf_loss_options;

/** The regression loss called by the first `n` bytes of `name`, as a literal; NULL if it is none.
 */
const char *mmf_task_regression_loss(const char *name, size_t n);

/**
 * Mean loss of a batch, shape (1), plus every output called "loss.*" that the model puts out; or
 * the model's output "objective", of which the others are parts then. Outputs called "auxiliary.*",
 * losses that stand beside a model, are added to either.
 * @param target  (B, 1) or (B, K) reals, or (B) integers for classes; not read for retrieval
 * @return        NULL without an error: retrieval, and the model put out no loss
 */
mmf_tensor *mmf_task_loss(mmf_tape *tape, const mmf_task *task, const mmf_loss_options *options,
                          const mmf_named *outputs, mmf_tensor *target);

/** Modalities whose features can be compared. */
#define MMF_MAX_VIEWS 64

/** (B, n_outputs): probabilities, values for regression, or the features of all `inputs` for
 * retrieval. */
mmf_tensor *mmf_task_prediction(mmf_tape *tape, const mmf_task *task, const mmf_schema *inputs,
                                const mmf_named *outputs);

/** Whether the classes, or columns, of a data set are ones that the model knows.
 * @errors ARG */
mmf_status mmf_task__check_classes(mmf_ctx *ctx, const mmf_task *task, const mmf_dataset *dataset);

/** One score a row for paired comparisons: 1/0 for right or wrong, or the negative absolute error.
 */
double mmf_task_row_score(const mmf_task *task, const double *prediction, const double *target);

/** Class weights N / (K n_k) of the given rows; classes without rows get 0. @param out (K) */
mmf_status mmf_task_balance(mmf_ctx *ctx, const mmf_task *task, const mmf_dataset *dataset,
                            const int64_t *rows, int64_t n_rows, mmf_real *out);

#endif
