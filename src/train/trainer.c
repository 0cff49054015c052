/*
 * trainer.c: the training loop: epochs over shuffled batches, early stopping on validation loss,
 * checkpoints, and errors that name the operation and step.
 *
 * Everything random is a function of (seed, epoch, step), so a run that was interrupted anywhere
 * and resumed ends with the bits of an unbroken one.
 */
#include "train/trainer_inside.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/builder.h"
#include "nn/scopes.h"
#include "tasks/task.h"

#define DEFAULT_EPOCHS 100
#define DEFAULT_PATIENCE 15
/* Seconds between two events inside an epoch, and between two checkpoints. */
#define EVENT_INTERVAL 0.1
#define CHECKPOINT_INTERVAL 5
/* An estimate of the whole run is logged when it is longer than this many seconds. */
#define LONG_RUN 10
/* Steps that are timed before the estimate; the first one also grows the memory. */
#define ESTIMATE_STEPS 4

/* ---- Preparation ------------------------------------------------------------------------- */

static mmf_status build_model(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    mmf_schema inputs = {0};
    mmf_module *module = NULL;
    MMF_TRY(mmf_schema_of(t->ctx, &inputs, fit->dataset, mmf_model_only_modality(fit->name)));
    mmf_schema_may_drop(&inputs, fit->options);
    mmf_starts_widen(fit->starts, &inputs);
    const mmf_module_making making = {.seed = fit->options->seed, .frozen = fit->options->freeze};
    mmf_status status = mmf_module__create_as(t->ctx, &module, mmf_model_find(fit->name),
                                              fit->config, &inputs, &making);
    mmf_free(t->ctx, inputs.inputs);
    if (status == MMF_OK)
        status = mmf_starts_load(fit->starts, module);
    /* Another part of a late model may be meant. */
    if (status == MMF_OK && !mmf_model_only_modality(fit->name))
        status = mmf_scopes_check_use(t->ctx, mmf_module_params(module), fit->options->freeze,
                                      fit->options->rates);
    if (status != MMF_OK) {
        mmf_module_free(module);
        return status;
    }
    mmf_task task = *fit->task;
    if (task.kind == MMF_TARGET_RETRIEVAL)
        task.n_outputs = mmf_module_width(module) * (int64_t)mmf_module_schema(module)->count;
    if (task.n_outputs < 1) {
        mmf_module_free(module);
        return mmf_fail(t->ctx, MMF_UNSUPPORTED,
                        "%s: its features have different widths, so that they cannot be compared; "
                        "give every encoder the same width, or use two-tower",
                        fit->name);
    }
    return mmf_model__create(t->ctx, &t->model, module, fit->name, &task, NULL);
}

static mmf_status prepare_data(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    const mmf_schema *const inputs = mmf_model_inputs(t->model);
    t->map = mmf_alloc_zero(t->ctx, inputs->count + 1, sizeof *t->map);
    t->order = mmf_alloc_zero(t->ctx, (size_t)fit->n_train + 1, sizeof *t->order);
    const int64_t n_outputs = mmf_model_task(t->model)->n_outputs;
    t->predictions =
        mmf_alloc_zero(t->ctx, (size_t)(fit->n_valid * n_outputs + 1), sizeof *t->predictions);
    if (!t->map || !t->order || !t->predictions)
        return MMF_NOMEM;
    MMF_TRY(mmf_model__map(t->model, fit->dataset, t->map));
    if (!fit->options->no_normalise) {
        MMF_TRY(mmf_normalisation_fit(t->ctx, &t->normalisation, fit->dataset, fit->train_rows,
                                      fit->n_train));
        MMF_TRY(mmf_starts_normalise(fit->starts, fit->config, fit->dataset, &t->normalisation));
        MMF_TRY(mmf_model__set_normalisation(t->model, fit->dataset, &t->normalisation));
    }
    t->max_rows = t->batch_rows + 1 > MMF_VALID_BATCH ? t->batch_rows + 1 : MMF_VALID_BATCH;
    MMF_TRY(mmf_batch_create(t->ctx, &t->batch, fit->dataset, t->max_rows));
    if (mmf_drops_modalities(fit->options, inputs))
        MMF_TRY(mmf_batch_track_presence(&t->batch));
    MMF_TRY(mmf_feed_want(&t->model->feed, &t->batch, fit->dataset, t->map));
    t->batch.wanted = 0;
    for (size_t m = 0; m < inputs->count; m++)
        t->batch.wanted |= UINT64_C(1) << t->map[m];
    return mmf_trainer__prepare_batches(t);
}

static mmf_status prepare_loss(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    t->loss = (mmf_loss_options){.regression = fit->losses->regression,
                                 .smoothing = fit->options->smoothing};
    if (t->loss.smoothing > 0 && fit->task->kind != MMF_TARGET_CLASS) {
        if (!fit->options->loss_where_possible)
            return mmf_fail(t->ctx, MMF_ARG, "label smoothing needs classes; the task is %s",
                            mmf_task_name(fit->task->kind));
        t->left_aside |= MMF_ASIDE_SMOOTHING;
        t->loss.smoothing = 0;
    }
    if (!fit->options->balance)
        return MMF_OK;
    const int64_t k = fit->task->n_outputs;
    t->class_weight = (mmf_tensor){.count = k, .shape = {k}, .n_dims = 1};
    t->class_weight.data = mmf_alloc_zero(t->ctx, (size_t)k, sizeof(mmf_real));
    if (!t->class_weight.data)
        return MMF_NOMEM;
    t->loss.class_weight = &t->class_weight;
    return mmf_task_balance(t->ctx, fit->task, fit->dataset, fit->train_rows, fit->n_train,
                            t->class_weight.data);
}

/* ---- One batch --------------------------------------------------------------------------- */

static mmf_tensor *target_of(trainer *t)
{
    const mmf_batch *const b = &t->batch;
    const int64_t shape[] = {b->n_rows, t->fit->task->n_outputs};
    if (b->target_classes)
        return mmf_input_ints(t->tape, b->target_classes, 1, shape);
    if (!b->target_values)
        return NULL;
    mmf_tensor *const y = mmf_input(t->tape, b->target_values, 2, shape);
    if (t->model->target_scale == 1 && t->model->target_shift == 0)
        return y;
    return mmf_affine(t->tape, y, 1 / t->model->target_scale,
                      -t->model->target_shift / t->model->target_scale);
}

/* The draws of a step depend on the seed and the step alone. */
static void drop_modalities(trainer *t, const mmf_pass *pass)
{
    const mmf_schema *const inputs = mmf_model_inputs(t->model);
    const int64_t step = (int64_t)pass->step;
    if (!pass->training || !mmf_drops_modalities(t->fit->options, inputs))
        return;
    mmf_rng rng = mmf_rng_make(pass->seed, mmf_rng_stream("modality dropout") + pass->step);
    mmf_modality_dropout(&t->batch, t->fit->dataset, t->map, inputs->count,
                         mmf_modality_dropout_rate(t->fit->options, step, t->n_steps), &rng);
}

/* A model with an objective of its own takes no part in what changes the task's loss. */
static mmf_status check_objective(trainer *t, const mmf_named *out)
{
    const bool asks = t->loss.class_weight || t->loss.smoothing > 0 || t->loss.regression;
    if (!asks || !mmf_named_get(out, "objective"))
        return MMF_OK;
    if (!t->fit->options->loss_where_possible)
        return mmf_fail(t->ctx, MMF_UNSUPPORTED,
                        "%s brings its own loss, which class weights (--balance), label smoothing "
                        "(--smoothing) and losses of numbers (--loss) do not reach; leave them out",
                        t->fit->name);
    t->left_aside |= t->loss.smoothing > 0 ? MMF_ASIDE_SMOOTHING : 0;
    t->left_aside |= t->loss.class_weight ? MMF_ASIDE_BALANCE : 0;
    t->left_aside |= t->loss.regression ? MMF_ASIDE_LOSSES : 0;
    t->loss.smoothing = 0;
    t->loss.regression = NULL;
    t->loss.class_weight = NULL;
    return MMF_OK;
}

/* Fills the batch and runs the model. */
mmf_status mmf_trainer__forward(trainer *t, const int64_t *rows, int64_t n, const mmf_pass *pass,
                                forward_pass *f)
{
    const bool by_features = t->fit->losses->count > 0 || t->fit->aids->count > 0;
    *f = (forward_pass){.step = {.training = pass->training,
                                 .all_features = by_features,
                                 .epoch = t->state.progress.epoch,
                                 .step = (int64_t)pass->step}};
    MMF_TRY(mmf_trainer__fill(t, rows, n, pass));
    drop_modalities(t, pass);
    mmf_tape_begin(t->tape, pass);
    mmf_feed_put(&t->model->feed, t->tape, t->batch.inputs, t->map, n, MMF_ALL_MODALITIES, &f->in);
    mmf_tensor *const target = target_of(t);
    if (pass->training)
        mmf_named_put(t->tape, &f->in, "label", target);
    mmf_module_run(mmf_model_module(t->model), t->tape, &f->in, &f->step, &f->out);
    MMF_TRY(check_objective(t, &f->out));
    if (pass->training)
        mmf_auxiliary_run(&t->auxiliary, t->tape, &f->in, &f->step, &f->out);
    /* Retrieval is validated by its ranking: a contrast within a small batch says little. */
    f->loss = pass->training || t->fit->task->kind != MMF_TARGET_RETRIEVAL
                  ? mmf_task_loss(t->tape, t->fit->task, &t->loss, &f->out, target)
                  : NULL;
    f->seen = (mmf_aid_pass){.tape = t->tape,
                             .in = &f->in,
                             .out = &f->out,
                             .step = &f->step,
                             .rows = rows,
                             .n_rows = n,
                             .target = target,
                             .seed = pass->seed};
    return mmf_tape_status(t->tape);
}

/* ---- Preparation of a fit ---------------------------------------------------------------- */

/* A trailing batch of one row joins the one before it: batch norm cannot be trained on one row. */
static int64_t count_steps(int64_t n_rows, int64_t batch)
{
    const int64_t steps = (n_rows + batch - 1) / batch;
    return steps > 1 && n_rows % batch == 1 ? steps - 1 : steps;
}

static mmf_status prepare(trainer *t)
{
    const mmf_fit *const fit = t->fit;
    const mmf_train_options *const o = fit->options;
    t->started = mmf_seconds();
    t->epochs =
        fit->fixed_epochs > 0 ? fit->fixed_epochs : (o->epochs > 0 ? o->epochs : DEFAULT_EPOCHS);
    t->batch_rows = mmf_fit_batch(fit);
    t->patience = o->patience > 0 ? o->patience : DEFAULT_PATIENCE;
    t->n_steps = count_steps(fit->n_train, t->batch_rows);
    MMF_TRY(build_model(t));
    mmf_fit_target_scale(fit, &t->model->target_shift, &t->model->target_scale);
    MMF_TRY(prepare_data(t));
    MMF_TRY(prepare_loss(t));
    mmf_optimizer_options optimizer = o->optimizer;
    optimizer.lr = mmf_fit_lr(fit);
    mmf_fit_state *const s = &t->state;
    s->params = mmf_module_params(mmf_model_module(t->model));
    MMF_TRY(mmf_scopes_set_rates(t->ctx, s->params, o->rates, optimizer.lr));
    if (mmf_params_size(s->params) == 0) { /* all of it is computed, nothing learned by steps */
        t->n_steps = 0;
        t->epochs = 1;
    }
    MMF_TRY(mmf_optimizer_create(t->ctx, &s->optimizer, s->params, &optimizer));
    s->best_values =
        mmf_alloc_zero(t->ctx, (size_t)mmf_params_size(s->params) + 1, sizeof(mmf_real));
    s->best_state =
        mmf_alloc_zero(t->ctx, (size_t)mmf_params_state_size(s->params) + 1, sizeof(mmf_real));
    s->curve = mmf_alloc_zero(t->ctx, (size_t)t->epochs, 3 * sizeof(mmf_real));
    s->most_epochs = t->epochs;
    if (!s->best_values || !s->best_state || !s->curve)
        return MMF_NOMEM;
    s->progress =
        (mmf_fit_progress){.best_loss = INFINITY, .plateau_scale = 1, .plateau_best = INFINITY};
    t->schedule = (mmf_schedule){.kind = o->schedule,
                                 .warmup = o->warmup,
                                 .factor = o->factor > 0 ? o->factor : 0.5,
                                 .period = o->period > 0 ? o->period : 10,
                                 .total_steps = t->epochs * t->n_steps,
                                 .steps_per_epoch = t->n_steps};
    MMF_TRY(mmf_fit_fingerprint(t->ctx, fit, s->fingerprint));
    mmf_checkpoint_path(fit, t->checkpoint, sizeof t->checkpoint);
    MMF_TRY(mmf_tape_create(t->ctx, &t->tape));
    return mmf_trainer__prepare_beside(t);
}

static void release(trainer *t)
{
    mmf_batch_ahead_free(t->ahead);
    mmf_augment_clear(&t->augment);
    if (t->batch.ctx)
        mmf_batch_clear(&t->batch);
    mmf_normalisation_clear(t->ctx, &t->normalisation);
    mmf_optimizer_free(t->state.optimizer);
    mmf_auxiliary_clear(&t->auxiliary);
    mmf_aids_clear(&t->aids);
    mmf_tape_free(t->tape);
    mmf_free(t->ctx, t->state.best_values);
    mmf_free(t->ctx, t->state.best_state);
    mmf_free(t->ctx, t->state.curve);
    mmf_free(t->ctx, t->class_weight.data);
    mmf_free(t->ctx, t->map);
    mmf_free(t->ctx, t->order);
    mmf_free(t->ctx, t->predictions);
}

/* ---- One step --------------------------------------------------------------------------- */

static mmf_status not_finite(trainer *t)
{
    const char *const op = mmf_tape_first_nonfinite(t->tape);
    return mmf_fail(
        t->ctx, MMF_NUMERIC,
        "%s: the loss is not finite in epoch %lld, step %lld: the first operation with a "
        "non-finite result is %s; try a lower --lr, --clip-norm 1, or look at the data "
        "with mmfuse info",
        t->fit->name, (long long)t->state.progress.epoch + 1, (long long)t->state.progress.step + 1,
        op ? op : "the loss itself");
}

static mmf_status take_step(trainer *t)
{
    mmf_fit_progress *const p = &t->state.progress;
    const int64_t *rows = NULL;
    mmf_pass pass;
    const int64_t n = mmf_trainer__rows(t, p->step, &rows, &pass);
    const int64_t global = (int64_t)pass.step;
    forward_pass f;
    MMF_TRY(mmf_trainer__forward(t, rows, n, &pass, &f));
    mmf_trainer__order_ahead(t, p->step + 1);
    if (!f.loss)
        return mmf_fail(t->ctx, MMF_UNSUPPORTED,
                        "%s: there is no loss to learn from; add --loss clip-loss", t->fit->name);
    mmf_tensor *const loss = mmf_aids_loss(&t->aids, &f.seen, f.loss);
    MMF_TRY(mmf_tape_status(t->tape));
    if (!isfinite(loss->data[0]))
        return not_finite(t);
    MMF_TRY(mmf_tape_backward(t->tape, loss));
    mmf_params_finish_gradients(t->state.params, t->tape);
    mmf_aids_gradients(&t->aids, &f.seen);
    const double lr_scale = mmf_schedule_at(&t->schedule, global);
    mmf_optimizer_step(t->state.optimizer, lr_scale);
    mmf_auxiliary_step(&t->auxiliary, t->tape, lr_scale);
    mmf_aids_step(&t->aids, t->tape, lr_scale);
    p->loss_sum += (double)loss->data[0] * (double)n;
    p->step++;
    return MMF_OK;
}

/* ---- Epochs ------------------------------------------------------------------------------ */

static void shuffle(trainer *t)
{
    memcpy(t->order, t->fit->train_rows, (size_t)t->fit->n_train * sizeof *t->order);
    mmf_rng rng = mmf_rng_make(t->fit->options->seed,
                               mmf_rng_stream("shuffle") + (uint64_t)t->state.progress.epoch);
    mmf_rng_shuffle(&rng, t->order, t->fit->n_train);
}

/* Mean loss over the validation rows; fills `predictions` in the target's units. */
static mmf_status validate(trainer *t, double *loss)
{
    const mmf_fit *const fit = t->fit;
    const int64_t width = mmf_model_task(t->model)->n_outputs;
    double sum = 0;
    for (int64_t first = 0; first < fit->n_valid; first += MMF_VALID_BATCH) {
        const int64_t n =
            fit->n_valid - first < MMF_VALID_BATCH ? fit->n_valid - first : MMF_VALID_BATCH;
        forward_pass f;
        MMF_TRY(mmf_trainer__forward(t, fit->valid_rows + first, n, &(mmf_pass){0}, &f));
        mmf_tensor *const y =
            mmf_task_prediction(t->tape, fit->task, mmf_model_inputs(t->model), &f.out);
        MMF_TRY(mmf_tape_status(t->tape));
        sum += f.loss ? (double)f.loss->data[0] * (double)n : 0;
        for (int64_t i = 0; i < n * width; i++)
            t->predictions[first * width + i] =
                t->model->target_shift + t->model->target_scale * (double)y->data[i];
    }
    *loss = fit->n_valid > 0 ? sum / (double)fit->n_valid : NAN;
    return MMF_OK;
}

static void copy_weights(trainer *t, bool keep)
{
    mmf_fit_state *const s = &t->state;
    const size_t values = (size_t)mmf_params_size(s->params) * sizeof(mmf_real);
    const size_t state = (size_t)mmf_params_state_size(s->params) * sizeof(mmf_real);
    memcpy(keep ? s->best_values : mmf_params_values(s->params),
           keep ? mmf_params_values(s->params) : s->best_values, values);
    memcpy(keep ? s->best_state : mmf_params_state(s->params),
           keep ? mmf_params_state(s->params) : s->best_state, state);
}

static double seconds_left(const trainer *t, double spent)
{
    const mmf_fit_progress *const p = &t->state.progress;
    const int64_t done = p->epoch * t->n_steps + p->step, all = t->epochs * t->n_steps;
    return done > 0 ? spent / (double)done * (double)(all - done) : NAN;
}

static void tell(trainer *t, bool epoch_ended, double valid_loss, double score, bool is_best)
{
    const mmf_train_options *const o = t->fit->options;
    const mmf_fit_progress *const p = &t->state.progress;
    const double now = mmf_seconds();
    if (!o->watch || (!epoch_ended && now - t->last_event < EVENT_INTERVAL))
        return;
    t->last_event = now;
    const double spent = p->seconds + now - t->started;
    const int64_t rows = epoch_ended ? t->fit->n_train : p->step * t->batch_rows;
    const mmf_train_event event = {.stage = *t->fit->stage ? t->fit->stage : t->fit->name,
                                   .epoch = p->epoch + (epoch_ended ? 0 : 1),
                                   .n_epochs = t->epochs,
                                   .step = epoch_ended ? t->n_steps : p->step,
                                   .n_steps = t->n_steps,
                                   .epoch_ended = epoch_ended,
                                   .train_loss = epoch_ended ? p->last_loss
                                                 : rows > 0  ? p->loss_sum / (double)rows
                                                             : NAN,
                                   .valid_loss = valid_loss,
                                   .score = score,
                                   .is_best = is_best,
                                   .seconds = spent,
                                   .seconds_left = seconds_left(t, spent)};
    o->watch(o->watch_user, &event);
}

/* Once, after a few steps: what a long run will cost. */
static void estimate(trainer *t)
{
    const mmf_fit_progress *const p = &t->state.progress;
    if (t->estimated || p->epoch * t->n_steps + p->step < ESTIMATE_STEPS)
        return;
    t->estimated = true;
    const double left = seconds_left(t, p->seconds + mmf_seconds() - t->started);
    if (left > LONG_RUN)
        mmf_ctx_log(
            t->ctx, MMF_LOG_INFO,
            "%s: %lld parameters, %.0f MB, %lld steps an epoch; at most %.0f s for %lld epochs",
            t->fit->name, (long long)mmf_model_n_parameters(t->model),
            (double)mmf_ctx_memory(t->ctx).peak_bytes / 1e6, (long long)t->n_steps, left,
            (long long)t->epochs);
}

static mmf_status save_checkpoint(trainer *t)
{
    if (!*t->checkpoint)
        return MMF_OK;
    const double now = mmf_seconds();
    mmf_fit_state saved = t->state;
    saved.progress.seconds += now - t->started;
    saved.progress.plateau_scale = t->schedule.scale;
    saved.progress.plateau_best = t->schedule.best;
    saved.progress.plateau_bad = t->schedule.bad_epochs;
    t->last_checkpoint = now;
    return mmf_checkpoint_save(t->ctx, &saved, t->checkpoint);
}

static mmf_status interrupted(trainer *t)
{
    MMF_TRY(save_checkpoint(t));
    if (!*t->checkpoint)
        return mmf_fail(t->ctx, MMF_CANCELLED, "%s: interrupted; nothing was saved", t->fit->name);
    return mmf_fail(t->ctx, MMF_CANCELLED, "%s: interrupted in epoch %lld; saved %s", t->fit->name,
                    (long long)t->state.progress.epoch + 1, t->checkpoint);
}

static mmf_status end_epoch(trainer *t)
{
    mmf_fit_progress *const p = &t->state.progress;
    const mmf_fit *const fit = t->fit;
    const mmf_def *const def = mmf_model_find(fit->name);
    double valid_loss = NAN, score = NAN;
    mmf_metrics metrics = {0};
    p->last_loss = t->n_steps > 0 ? p->loss_sum / (double)fit->n_train : NAN;
    p->loss_sum = 0;
    if (def->fit && !(def->takes & MMF_FITS_FIRST))
        MMF_TRY(mmf_trainer__fit_closed_form(t));
    MMF_TRY(validate(t, &valid_loss));
    if (fit->n_valid > 0) {
        MMF_TRY(mmf_task_score(t->ctx, &metrics, mmf_model_task(t->model), fit->dataset,
                               fit->valid_rows, fit->n_valid, t->predictions));
        score = mmf_metrics_get(&metrics, mmf_task_main_metric(fit->task->kind));
        if (fit->task->kind == MMF_TARGET_RETRIEVAL)
            valid_loss = isfinite(score) ? 1 - score : 1;
    }
    mmf_real *const point = t->state.curve + 3 * p->epoch;
    point[0] = (mmf_real)p->last_loss;
    point[1] = (mmf_real)valid_loss;
    point[2] = (mmf_real)score;
    p->epoch++;
    p->step = 0;
    const bool chooses = fit->n_valid > 0 && fit->fixed_epochs == 0;
    const bool is_best = !chooses || valid_loss < p->best_loss;
    if (is_best) {
        p->best_loss = valid_loss;
        p->best_epoch = p->epoch;
        copy_weights(t, true);
    }
    mmf_schedule_epoch(&t->schedule, chooses ? valid_loss : p->last_loss);
    tell(t, true, valid_loss, score, is_best);
    MMF_TRY(mmf_aids_epoch(&t->aids, p->epoch));
    if (mmf_seconds() - t->last_checkpoint > CHECKPOINT_INTERVAL)
        MMF_TRY(save_checkpoint(t));
    return MMF_OK;
}

static bool has_ended(const trainer *t)
{
    const mmf_fit_progress *const p = &t->state.progress;
    const bool chooses = t->fit->n_valid > 0 && t->fit->fixed_epochs == 0;
    return p->step == 0 && (p->epoch >= t->epochs ||
                            (chooses && p->epoch > 0 && p->epoch - p->best_epoch >= t->patience));
}

static mmf_status run_epochs(trainer *t)
{
    mmf_fit_progress *const p = &t->state.progress;
    while (!has_ended(t)) {
        shuffle(t);
        while (p->step < t->n_steps) {
            if (mmf_ctx_cancelled(t->ctx))
                return interrupted(t);
            MMF_TRY(take_step(t));
            estimate(t);
            tell(t, false, NAN, NAN, false);
        }
        MMF_TRY(end_epoch(t));
    }
    if (p->best_epoch == 0)
        return mmf_fail(
            t->ctx, MMF_NUMERIC,
            "%s: the validation loss was not finite in any of %lld epochs, so there are no "
            "weights to keep; lower the learning rate (--lr), or look for validation rows "
            "far outside the training rows",
            t->fit->name, (long long)p->epoch);
    copy_weights(t, false);
    return save_checkpoint(t);
}

static mmf_status start(trainer *t)
{
    bool found = false;
    if (t->fit->n_train < 1)
        return mmf_fail(t->ctx, MMF_ARG, "%s: there are no training rows",
                        mmf_dataset_path(t->fit->dataset));
    MMF_TRY(prepare(t));
    if (t->fit->options->resume && *t->checkpoint)
        MMF_TRY(mmf_checkpoint_load(t->ctx, &t->state, t->checkpoint, &found));
    t->schedule.scale = t->state.progress.plateau_scale;
    t->schedule.best = t->state.progress.plateau_best;
    t->schedule.bad_epochs = t->state.progress.plateau_bad;
    if (found && has_ended(t)) {
        copy_weights(t, false);
        return MMF_OK;
    }
    if (!found)
        MMF_TRY(mmf_aids_begin(&t->aids));
    t->last_checkpoint = mmf_seconds();
    if (mmf_model_find(t->fit->name)->takes & MMF_FITS_FIRST)
        MMF_TRY(mmf_trainer__fit_closed_form(t));
    return run_epochs(t);
}

mmf_status mmf_fit_run(mmf_ctx *ctx, mmf_model **out, const mmf_fit *fit, mmf_fit_result *result)
{
    trainer t = {.ctx = ctx, .fit = fit};
    *out = NULL;
    const mmf_status status = start(&t);
    if (status == MMF_OK) {
        const bool chooses = fit->n_valid > 0 && fit->fixed_epochs == 0;
        *result = (mmf_fit_result){.epochs = t.state.progress.best_epoch,
                                   .valid_loss = chooses ? t.state.progress.best_loss : NAN,
                                   .train_loss = t.state.progress.last_loss,
                                   .seconds = t.state.progress.seconds + mmf_seconds() - t.started,
                                   .left_aside = t.left_aside};
        t.model->curve = (mmf_learning_curve){t.state.curve, t.state.progress.epoch};
        t.state.curve = NULL;
        *out = t.model;
    } else {
        mmf_model_free(t.model);
    }
    release(&t);
    return status;
}
