/* trainer_beside.c: what stands beside the training loop: losses over features, aids, and what is
 * computed from the training rows before it. */
#include <string.h>

#include "train/trainer_inside.h"

/* Mean losses of the model and of an aid's heads, for mmf_aid_fit. */
static mmf_status measure(void *user, mmf_aid *aid, const int64_t *rows, int64_t n_rows,
                          double *means)
{
    trainer *const t = user;
    const size_t n_heads = aid->features->count;
    memset(means, 0, (n_heads + 1) * sizeof *means);
    for (int64_t first = 0; first < n_rows; first += MMF_VALID_BATCH) {
        const int64_t n = n_rows - first < MMF_VALID_BATCH ? n_rows - first : MMF_VALID_BATCH;
        forward_pass f;
        mmf_named heads = {0};
        MMF_TRY(mmf_trainer__forward(t, rows + first, n, &(mmf_pass){0}, &f));
        means[0] += (double)f.loss->data[0] * (double)n / (double)n_rows;
        mmf_aid_heads_run(aid, &f.seen, false, &heads);
        for (size_t m = 0; m < n_heads; m++) {
            const mmf_tensor *const loss = mmf_aid_head_loss(aid, &f.seen, &heads, m);
            means[m + 1] += loss ? (double)loss->data[0] * (double)n / (double)n_rows : 0;
        }
        MMF_TRY(mmf_tape_status(t->tape));
    }
    return MMF_OK;
}

mmf_status mmf_trainer__prepare_beside(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    const mmf_schema *const inputs = mmf_model_inputs(t->model);
    forward_pass f;
    t->state.auxiliary = &t->auxiliary;
    t->state.aids = &t->aids;
    if (fit->losses->count == 0 && fit->aids->count == 0)
        return MMF_OK;
    const int64_t n = fit->n_train < 2 ? fit->n_train : 2;
    MMF_TRY(mmf_trainer__forward(t, fit->train_rows, n, &(mmf_pass){.record = true}, &f));
    if (fit->losses->count > 0)
        MMF_TRY(mmf_auxiliary_create(t->ctx, &t->auxiliary, fit->losses, inputs, &f.out, n,
                                     fit->name, fit->options, mmf_fit_lr(fit)));
    t->left_aside |= fit->losses->count > t->auxiliary.count ? MMF_ASIDE_LOSSES : 0;
    if (fit->aids->count == 0)
        return MMF_OK;
    if (fit->task->kind == MMF_TARGET_RETRIEVAL || fit->task->kind == MMF_TARGET_PRETRAINING)
        return mmf_fail(t->ctx, MMF_UNSUPPORTED,
                        "training aid %s balances predictions of single modalities, and %s has "
                        "none; leave it out",
                        fit->aids->kinds[0]->def.name, mmf_task_name(fit->task->kind));
    const mmf_aid_fit known = {.task = fit->task,
                               .loss = &t->loss,
                               .options = fit->options,
                               .dataset = fit->dataset,
                               .params = t->state.params,
                               .name = fit->name,
                               .train_rows = fit->train_rows,
                               .valid_rows = fit->valid_rows,
                               .n_train = fit->n_train,
                               .n_valid = fit->n_valid,
                               .max_rows = t->max_rows,
                               .lr = mmf_fit_lr(fit),
                               .target_scale = t->model->target_scale,
                               .target_shift = t->model->target_shift,
                               .measure = measure,
                               .trainer = t};
    MMF_TRY(mmf_aids_create(t->ctx, &t->aids, fit->aids, inputs, &known, &f.seen));
    t->left_aside |= t->aids.count == 0 ? MMF_ASIDE_AIDS : 0;
    return MMF_OK;
}

mmf_status mmf_trainer__fit_closed_form(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    mmf_module *const module = mmf_model_module(t->model);
    for (int64_t first = 0; first < fit->n_train; first += MMF_VALID_BATCH) {
        const int64_t n =
            fit->n_train - first < MMF_VALID_BATCH ? fit->n_train - first : MMF_VALID_BATCH;
        mmf_named in = {0};
        MMF_TRY(mmf_batch_fill(&t->batch, fit->dataset,
                               fit->options->no_normalise ? NULL : &t->normalisation,
                               fit->train_rows + first, n));
        mmf_tape_begin(t->tape, &(mmf_pass){0});
        mmf_feed_put(&t->model->feed, t->tape, t->batch.inputs, t->map, n, MMF_ALL_MODALITIES, &in);
        mmf_module_fit(module, t->tape, &in, first);
        MMF_TRY(mmf_tape_status(t->tape));
    }
    mmf_tape_begin(t->tape, &(mmf_pass){0});
    mmf_module_fit(module, t->tape, NULL, fit->n_train);
    return mmf_tape_status(t->tape);
}
