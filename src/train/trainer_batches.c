/* trainer_batches.c: the batches of a fit: filled now, or ahead by a thread. */
#include "train/trainer_inside.h"

/* Bytes of a batch from which on a thread fills the next one: below, handing it over takes as long.
 */
#define AHEAD_BYTES ((size_t)256 << 10)

static size_t bytes_of_batch(const mmf_schema *inputs, int64_t n_rows)
{
    size_t n = 0;
    for (size_t m = 0; m < inputs->count; m++) {
        size_t row = (size_t)n_rows * sizeof(float);
        for (int d = 0; d < inputs->inputs[m].n_dims; d++)
            row *= (size_t)inputs->inputs[m].shape[d];
        n += row;
    }
    return n;
}

mmf_status mmf_trainer__prepare_batches(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    const mmf_schema *const inputs = mmf_model_inputs(t->model);
    MMF_TRY(mmf_augment_parse(t->ctx, &t->augment, fit->dataset, fit->options->augment));
    if (t->augment.count == 0 && bytes_of_batch(inputs, t->batch_rows) < AHEAD_BYTES)
        return MMF_OK;
    return mmf_batch_ahead_create(t->ctx, &t->ahead, fit->dataset, &t->batch);
}

static mmf_batch_order order_of(const trainer *t, const int64_t *rows, int64_t n,
                                const mmf_pass *pass)
{
    return (mmf_batch_order){.normalisation =
                                 t->fit->options->no_normalise ? NULL : &t->normalisation,
                             .augment = pass->training && t->augment.count > 0 ? &t->augment : NULL,
                             .rows = rows,
                             .n_rows = n,
                             .seed = pass->seed,
                             .step = pass->step};
}

mmf_status mmf_trainer__fill(trainer *t, const int64_t *rows, int64_t n, const mmf_pass *pass)
{
    const mmf_batch_order order = order_of(t, rows, n, pass);
    if (t->ahead && pass->training && mmf_batch_ahead_take(t->ahead, &order, &t->batch))
        return MMF_OK;
    return mmf_batch_fill_order(&t->batch, t->fit->dataset, &order);
}

int64_t mmf_trainer__rows(const trainer *t, int64_t step, const int64_t **rows, mmf_pass *pass)
{
    const int64_t first = step * t->batch_rows;
    *rows = t->order + first;
    *pass = (mmf_pass){.record = true,
                       .training = true,
                       .seed = t->fit->options->seed,
                       .step = (uint64_t)(t->state.progress.epoch * t->n_steps + step)};
    return step + 1 == t->n_steps ? t->fit->n_train - first : t->batch_rows;
}

void mmf_trainer__order_ahead(const trainer *t, int64_t step)
{
    const int64_t *rows = NULL;
    mmf_pass pass;
    if (!t->ahead || step >= t->n_steps)
        return;
    const int64_t n = mmf_trainer__rows(t, step, &rows, &pass);
    const mmf_batch_order order = order_of(t, rows, n, &pass);
    mmf_batch_ahead_start(t->ahead, &order);
}
