/* trainer_inside.h: one fit while it runs, for the files that the training loop is made of. */
#ifndef MMFUSE_TRAIN_TRAINER_INSIDE_H
#define MMFUSE_TRAIN_TRAINER_INSIDE_H

#include "data/batch_ahead.h"
#include "train/trainer.h"

#define MMF_VALID_BATCH 64 /* rows of a validation batch */

typedef struct trainer {
    mmf_ctx *ctx;
    const mmf_fit *fit;
    mmf_model *model;
    mmf_fit_state state;
    mmf_auxiliary auxiliary;
    mmf_aids_run aids;
    mmf_tape *tape;
    mmf_batch batch;
    mmf_augment augment;
    mmf_batch_ahead *ahead;          /* NULL: batches are too small to be worth a thread */
    mmf_normalisation normalisation; /* of the whole data set */
    size_t *map;
    int64_t *order; /* train rows, shuffled for the epoch */
    double *predictions;
    mmf_loss_options loss;
    mmf_tensor class_weight;
    mmf_schedule schedule;
    int64_t epochs, batch_rows, max_rows, patience, n_steps;
    unsigned left_aside;
    char checkpoint[1024]; /* "" for none */
    double started, last_event, last_checkpoint;
    bool estimated;
} trainer;

/** A forward pass: what went in and came out. */
typedef struct forward_pass {
    mmf_named in, out;
    mmf_step step;
    mmf_aid_pass seen; /* the same as aids see it */
    mmf_tensor *loss;  /* of the model */
} forward_pass;

/** What is changed at random, and the thread that fills ahead where batches are worth one. */
mmf_status mmf_trainer__prepare_batches(trainer *t);
/** Fills the batch, or takes the one that was ordered ahead: training steps only are. */
mmf_status mmf_trainer__fill(trainer *t, const int64_t *rows, int64_t n, const mmf_pass *pass);
/** Rows of a step of the epoch, and the pass that it is. @return how many */
int64_t mmf_trainer__rows(const trainer *t, int64_t step, const int64_t **rows, mmf_pass *pass);
/** The order of the rows is the epoch's, so nothing is ordered behind its end. */
void mmf_trainer__order_ahead(const trainer *t, int64_t step);
/** Fills the batch and runs the model. */
mmf_status mmf_trainer__forward(trainer *t, const int64_t *rows, int64_t n, const mmf_pass *pass,
                                forward_pass *f);
/** Builds losses over features and aids for what a pass over a few rows puts out. */
mmf_status mmf_trainer__prepare_beside(trainer *t);
/** What the model computes from the training rows. */
mmf_status mmf_trainer__fit_closed_form(trainer *t);

#endif
