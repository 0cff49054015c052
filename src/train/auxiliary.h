/*
 * auxiliary.h: losses over the features of modalities, trained beside any model that puts out
 * `feature_<modality>`.
 *
 * What such a loss learns for itself (projections to a common width, a temperature) belongs to the
 * fit: it has an optimizer of its own, is part of the checkpoint, and is dropped with the fit. The
 * model file holds the model alone.
 */
#ifndef MMFUSE_TRAIN_AUXILIARY_H
#define MMFUSE_TRAIN_AUXILIARY_H

#include "mmfuse/train.h"

#define MMF_MAX_AUXILIARY 8

/** The option `loss`, taken apart: at most one loss of regression, and losses over features. */
typedef struct mmf_loss_list {
    const char *regression; /* a literal; NULL: the default */
    size_t count;
    const mmf_def *defs[MMF_MAX_AUXILIARY];
    double weights[MMF_MAX_AUXILIARY];
} mmf_loss_list;

/** @param text  "mse,clip-loss:0.1"; NULL: nothing  @errors ARG: what is wrong with which entry */
mmf_status mmf_loss_list_parse(mmf_ctx *ctx, mmf_loss_list *out, const char *text);

/** Losses of regression are of numbers. @errors ARG: one was chosen for another task */
mmf_status mmf_loss_list_check_task(mmf_ctx *ctx, const mmf_loss_list *list, const mmf_task *task);

/** True when one of them brings the features of a sample closer to each other than to others'. */
bool mmf_loss_list_contrasts(const mmf_loss_list *list);

/** The losses of one fit. Zero-initialise. */
typedef struct mmf_auxiliary {
    mmf_ctx *ctx;
    const mmf_loss_list *list;
    size_t count; /* 0: there are none, or the model puts out nothing to apply them to */
    mmf_module *modules[MMF_MAX_AUXILIARY];
    mmf_optimizer *optimizers[MMF_MAX_AUXILIARY];
    mmf_input_schema *features; /* modalities whose feature is (B, D) */
    size_t n_features;
} mmf_auxiliary;

/**
 * Builds the losses for what a model puts out.
 *
 * @param out   of one pass over a batch of `n_rows`   @param inputs  of the model, must outlive it
 * @param name  of the model, for messages   @param lr  of the fit
 * @errors      UNSUPPORTED: fewer than two features, unless `where_possible`
 */
mmf_status mmf_auxiliary_create(mmf_ctx *ctx, mmf_auxiliary *auxiliary, const mmf_loss_list *list,
                                const mmf_schema *inputs, const mmf_named *out, int64_t n_rows,
                                const char *name, const mmf_train_options *options, double lr);
void mmf_auxiliary_clear(mmf_auxiliary *auxiliary);
/** Appends `auxiliary.<name>`, weighted, to the outputs of a training pass. */
void mmf_auxiliary_run(mmf_auxiliary *auxiliary, mmf_tape *tape, const mmf_named *in,
                       const mmf_step *step, mmf_named *out);
/** After the backward pass: one update of what the losses learn. */
void mmf_auxiliary_step(mmf_auxiliary *auxiliary, const mmf_tape *tape, double lr_scale);

#endif
