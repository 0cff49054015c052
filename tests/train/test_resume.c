/*
 * test_resume.c: a run that is interrupted anywhere and resumed ends with the bits of an unbroken
 * one; a checkpoint of another run, or a damaged one, is refused.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train/training_data.h"

enum { N_TRAIN = 40, N_VALID = 12, BATCH = 8, EPOCHS = 5 };

/* The watcher is told of steps at most ten times a second: a pause longer than that before the
 * epoch in question lets its first step be told. */
#define PAUSE_MICROSECONDS 120000

/* Where to interrupt: after a step of an epoch, or at its end, of a stage. */
typedef struct stop {
    mmf_ctx *ctx;
    const char *stage;
    int64_t epoch;
    bool at_end;
    bool pulled;
    int64_t first_epoch; /* the first end of an epoch that this stage told */
} stop;

static void watch(void *user, const mmf_train_event *event)
{
    stop *const s = user;
    if (strcmp(event->stage, s->stage) != 0)
        return;
    if (event->epoch_ended && s->first_epoch == 0)
        s->first_epoch = event->epoch;
    if (event->epoch_ended && event->epoch == s->epoch - 1)
        usleep(PAUSE_MICROSECONDS);
    if (event->epoch != s->epoch || event->epoch_ended != s->at_end || s->pulled)
        return;
    if (!event->epoch_ended)
        assert_true(event->step > 0 && event->step < event->n_steps);
    s->pulled = true;
    mmf_ctx_cancel(s->ctx);
}

typedef struct run_case {
    const char *model;
    data_kind kind;
    bool regression, absent, refit;
    mmf_schedule_kind schedule;
    mmf_optimizer_kind optimizer;
    const char *stage;
    int64_t epoch;
    bool at_end;
    const char *loss;
    double modality_dropout;
    const char *aid;
} run_case;

static const run_case cases[] = {
    {"joint-concat", DATA_VECTORS, false, false, false, MMF_SCHEDULE_CONSTANT, MMF_ADAM,
     "joint-concat", 3, false, NULL, 0, NULL},
    {"joint-concat", DATA_MIXED, false, true, false, MMF_SCHEDULE_COSINE, MMF_ADAMW, "joint-concat",
     1, false, NULL, 0, NULL},
    {"weighted", DATA_SEQUENCES, true, true, false, MMF_SCHEDULE_PLATEAU, MMF_SGD, "weighted", 4,
     false, NULL, 0, NULL},
    {"joint-concat", DATA_VECTORS, false, true, true, MMF_SCHEDULE_COSINE, MMF_ADAM, "refit", 2,
     false, "clip-loss:0.3,supcon:0.1", 0, NULL},
    {"tfn", DATA_TRIO, true, false, false, MMF_SCHEDULE_LINEAR, MMF_ADAMW, "tfn", 3, false,
     "mse,clip-loss", 0, NULL},
    {"misa", DATA_TRIO, false, true, false, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "misa", 2, false, NULL,
     0, NULL},
    {"tfn", DATA_TRIO, true, false, false, MMF_SCHEDULE_LINEAR, MMF_ADAM, "tfn", 2, true, NULL, 0,
     NULL},
    {"lmf", DATA_TRIO, false, true, true, MMF_SCHEDULE_STEP, MMF_ADAM, "refit", 2, false, NULL, 0,
     NULL},
    {"ef-lstm", DATA_TRIO, false, false, true, MMF_SCHEDULE_CONSTANT, MMF_SGD, "ef-lstm", 2, false,
     NULL, 0, NULL},
    {"only-words", DATA_MIXED, false, false, true, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "refit", 1,
     false, NULL, 0, NULL},
    {"late-mean", DATA_VECTORS, false, false, false, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "only-b", 2,
     false, NULL, 0, NULL},
    {"late-mean", DATA_VECTORS, true, true, true, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "only-a.refit",
     2, false, NULL, 0, NULL},
    {"late-learned", DATA_TRIO, false, false, false, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "only-audio",
     1, false, NULL, 0, NULL},
    {"late-stacking", DATA_VECTORS, false, false, true, MMF_SCHEDULE_CONSTANT, MMF_ADAM,
     "only-b.fold2", 1, false, NULL, 0, NULL},
    {"joint-concat", DATA_TRIO, false, true, false, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "joint-concat",
     3, false, NULL, 0.4, NULL},
    {"joint-concat", DATA_MIXED, false, true, false, MMF_SCHEDULE_CONSTANT, MMF_SGD, "joint-concat",
     3, false, NULL, 0, "ogm-ge:0.5"},
    {"tfn", DATA_TRIO, true, false, false, MMF_SCHEDULE_COSINE, MMF_ADAM, "tfn", 4, false, NULL, 0,
     "unimodal-heads:labels=generated"},
    {"lmf", DATA_TRIO, false, true, false, MMF_SCHEDULE_CONSTANT, MMF_ADAMW, "lmf", 3, true,
     "clip-loss:0.1", 0, "gradient-blend:2,unimodal-heads:0.3"},
    {"joint-concat", DATA_TRIO, false, true, true, MMF_SCHEDULE_CONSTANT, MMF_ADAM, "refit", 2,
     false, NULL, 0.3, "unimodal-heads"},
};

static mmf_train_options run_options(const run_case *c, const char *checkpoint)
{
    mmf_train_options o = quick_options(EPOCHS, BATCH);
    o.schedule = c->schedule;
    o.warmup = 0.1;
    o.period = 1;
    o.refit = c->refit;
    o.optimizer.kind = c->optimizer;
    o.optimizer.momentum = 0.9;
    o.optimizer.weight_decay = 1e-3;
    o.optimizer.clip_norm = 1;
    o.modality_dropout = c->modality_dropout;
    o.modality_dropout_rise = 2;
    o.loss = c->loss;
    o.aid = c->aid;
    o.checkpoint = checkpoint;
    return o;
}

/* One process of a run: its own context and data set. NULL when it was interrupted. */
typedef struct process {
    mmf_ctx *ctx;
    mmf_dataset *dataset;
    mmf_model *model;
} process;

static process start(const run_case *c, mmf_train_options *options, stop *where)
{
    process p = {.ctx = one_thread()};
    const data_spec spec = {c->kind, N_TRAIN + N_VALID, c->regression, c->absent, 0, 6};
    const mmf_dataset_options data = data_options(&spec);
    mmf_config *const config = quick_config(p.ctx, c->model, 6, "0.2");
    simple_split s;
    test_ok(p.ctx, mmf_dataset_open(p.ctx, &p.dataset, test_path("resume.npz"), &data));
    options->watch = where ? watch : NULL;
    options->watch_user = where;
    if (where) {
        where->ctx = p.ctx;
        where->pulled = false;
    }
    const mmf_status status = mmf_train(
        p.ctx, &p.model, p.dataset, data_split(&s, N_TRAIN, N_VALID), c->model, config, options);
    if (where && where->pulled) {
        test_fails(p.ctx, status, MMF_CANCELLED, options->checkpoint ? "saved" : "nothing was");
        assert_null(p.model);
    } else {
        test_ok(p.ctx, status);
    }
    mmf_config_free(config);
    return p;
}

static void end(process *p)
{
    mmf_model_free(p->model);
    mmf_dataset_close(p->dataset);
    assert_int_equal(mmf_ctx_memory(p->ctx).live_bytes, 0);
    mmf_ctx_free(p->ctx);
}

static void write_case(const run_case *c)
{
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {c->kind, N_TRAIN + N_VALID, c->regression, c->absent, 0, 6};
    data_write(ctx, &spec, test_path("resume.npz"));
    mmf_ctx_free(ctx);
}

/* Files of this run's checkpoint, those of its stages included. */
static int count_checkpoints(void)
{
    char command[600];
    snprintf(command, sizeof command, "ls '%s' | grep -c '^resume.state'", test_path(""));
    FILE *const pipe = popen(command, "r");
    int n = -1;
    assert_true(pipe && fscanf(pipe, "%d", &n) == 1);
    pclose(pipe);
    return n;
}

static void a_resumed_run_has_the_bits_of_an_unbroken_one(void **state)
{
    (void)state;
    char *const checkpoint = strdup(test_path("resume.state"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const run_case *const c = &cases[i];
        char label[128];
        snprintf(label, sizeof label, "%s, stopped in %s", c->model, c->stage);
        write_case(c);
        mmf_train_options plain = run_options(c, NULL), saved = run_options(c, checkpoint);
        process whole = start(c, &plain, NULL);
        stop where = {.stage = c->stage, .epoch = c->epoch, .at_end = c->at_end};
        process broken = start(c, &saved, &where);
        if (!where.pulled)
            fail_msg("%s: the run was not interrupted", label);
        assert_true(count_checkpoints() > 0);
        end(&broken);
        saved.resume = true;
        stop watching = {.stage = c->stage, .epoch = -1};
        process resumed = start(c, &saved, &watching);
        /* It goes on in the epoch it was in, and does not begin again. */
        assert_int_equal(watching.first_epoch, c->epoch + (c->at_end ? 1 : 0));
        assert_same_weights(label, whole.model, resumed.model);
        double *const x = predict_all(whole.ctx, whole.model, whole.dataset, N_TRAIN + N_VALID);
        double *const y =
            predict_all(resumed.ctx, resumed.model, resumed.dataset, N_TRAIN + N_VALID);
        const int64_t width = mmf_model_task(whole.model)->n_outputs;
        assert_memory_equal(x, y, (size_t)((N_TRAIN + N_VALID) * width) * sizeof *x);
        assert_true(count_checkpoints() > 0); /* until the caller has saved the model */
        mmf_train_forget(checkpoint);
        assert_int_equal(count_checkpoints(), 0);
        free(x);
        free(y);
        end(&whole);
        end(&resumed);
    }
    free(checkpoint);
}

/* Interrupted in every epoch, alternately within it and at its end. */
static void many_interruptions_change_nothing(void **state)
{
    (void)state;
    char *const checkpoint = strdup(test_path("resume.state"));
    const run_case *const c = &cases[2];
    write_case(c);
    mmf_train_options plain = run_options(c, NULL), saved = run_options(c, checkpoint);
    saved.resume = true; /* there is no checkpoint yet: it starts */
    process whole = start(c, &plain, NULL);
    for (int64_t epoch = 1; epoch < EPOCHS; epoch++) {
        stop where = {.stage = c->stage, .epoch = epoch, .at_end = epoch % 2 == 0};
        process broken = start(c, &saved, &where);
        assert_true(where.pulled);
        end(&broken);
    }
    process last = start(c, &saved, NULL);
    assert_same_weights("many interruptions", whole.model, last.model);
    mmf_train_forget(checkpoint);
    end(&whole);
    end(&last);
    free(checkpoint);
}

static void without_a_checkpoint_nothing_is_saved(void **state)
{
    (void)state;
    const run_case *const c = &cases[0];
    write_case(c);
    mmf_train_options options = run_options(c, NULL);
    stop where = {.stage = c->stage, .epoch = 1};
    process broken = start(c, &options, &where);
    assert_true(where.pulled);
    assert_int_equal(count_checkpoints(), 0);
    end(&broken);
}

/* ---- What is refused --------------------------------------------------------------------- */

typedef enum change {
    SAME,
    SEED,
    LR,
    GROUP_LR,
    OPTIMIZER,
    MOMENTUM,
    DECAY,
    CLIP,
    N_BATCH,
    N_EPOCHS,
    N_PATIENCE,
    SCHEDULE,
    WARMUP,
    SMOOTHING,
    BALANCE,
    NORMALISE,
    MODALITIES,
    RISE,
    AID,
    CONFIG,
    ROWS,
    DATA,
    VALUES, /* other features in a file of the same name, size and targets */
    N_CHANGES
} change;

static void change_options(mmf_train_options *o, change what)
{
    o->seed += what == SEED;
    o->optimizer.lr *= what == LR ? 2 : 1;
    o->optimizer.group_lr[1] = what == GROUP_LR ? 0.1 : 0;
    o->optimizer.kind = what == OPTIMIZER ? MMF_ADAMW : o->optimizer.kind;
    o->optimizer.momentum += what == MOMENTUM ? 0.05 : 0;
    o->optimizer.weight_decay += what == DECAY ? 0.05 : 0;
    o->optimizer.clip_norm += what == CLIP ? 0.5 : 0;
    o->batch += what == N_BATCH;
    o->epochs += what == N_EPOCHS;
    o->patience -= what == N_PATIENCE;
    o->schedule = what == SCHEDULE ? MMF_SCHEDULE_COSINE : o->schedule;
    o->warmup += what == WARMUP ? 0.05 : 0;
    o->smoothing += what == SMOOTHING ? 0.1 : 0;
    o->balance = what == BALANCE;
    o->no_normalise = what == NORMALISE;
    o->modality_dropout += what == MODALITIES ? 0.1 : 0;
    o->modality_dropout_rise += what == RISE;
    o->aid = what == AID ? "ogm-ge" : o->aid;
}

static void a_checkpoint_of_another_run_is_refused(void **state)
{
    (void)state;
    const run_case *const c = &cases[0];
    char *const checkpoint = strdup(test_path("resume.state"));
    mmf_train_options options = run_options(c, checkpoint);
    write_case(c);
    stop where = {.stage = c->stage, .epoch = 2, .at_end = true};
    process broken = start(c, &options, &where);
    end(&broken);
    for (int what = N_CHANGES - 1; what >= SAME; what--) {
        mmf_ctx *const ctx = one_thread();
        data_spec spec = {c->kind, N_TRAIN + N_VALID, false, false, 0, 6};
        spec.n_rows += what == DATA;
        spec.seed += what == VALUES;
        mmf_dataset *const dataset =
            data_open(ctx, &spec, what == DATA ? "another.npz" : "resume.npz");
        mmf_config *const config = quick_config(ctx, c->model, 6, what == CONFIG ? "0.1" : "0.2");
        mmf_train_options changed = run_options(c, checkpoint);
        mmf_model *model = NULL;
        simple_split s;
        change_options(&changed, (change)what);
        changed.resume = true;
        const mmf_status status =
            mmf_train(ctx, &model, dataset, data_split(&s, N_TRAIN - (what == ROWS), N_VALID),
                      c->model, config, &changed);
        if (what == SAME)
            test_ok(ctx, status);
        else if (status != MMF_STATE)
            fail_msg("change %d went on: %s", what, mmf_ctx_error(ctx));
        else
            test_fails(ctx, status, MMF_STATE,
                       what == DATA || what == VALUES ? "a run on other data"
                                                      : "other rows or options");
        mmf_model_free(model);
        mmf_config_free(config);
        mmf_dataset_close(dataset);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
        mmf_ctx_free(ctx);
    }
    free(checkpoint);
}

static void a_damaged_checkpoint_is_refused(void **state)
{
    (void)state;
    const run_case *const c = &cases[0];
    char *const checkpoint = strdup(test_path("resume.state"));
    mmf_train_options options = run_options(c, checkpoint);
    write_case(c);
    stop where = {.stage = c->stage, .epoch = 2, .at_end = true};
    process broken = start(c, &options, &where);
    end(&broken);
    struct stat info;
    assert_int_equal(stat(checkpoint, &info), 0);
    /* Ever shorter: within the data, the header, and nothing at all. */
    const off_t sizes[] = {info.st_size - 1, info.st_size / 2, 300, 9, 8, 3, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mmf_ctx *const ctx = one_thread();
        const data_spec spec = {c->kind, N_TRAIN + N_VALID, false, false, 0, 6};
        mmf_dataset *const dataset = data_open(ctx, &spec, "resume.npz");
        mmf_config *const config = quick_config(ctx, c->model, 6, "0.2");
        mmf_model *model = NULL;
        simple_split s;
        assert_int_equal(truncate(checkpoint, sizes[i]), 0);
        options = run_options(c, checkpoint);
        options.resume = true;
        test_fails(ctx,
                   mmf_train(ctx, &model, dataset, data_split(&s, N_TRAIN, N_VALID), c->model,
                             config, &options),
                   MMF_FORMAT, "resume.state");
        mmf_config_free(config);
        mmf_dataset_close(dataset);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
        mmf_ctx_free(ctx);
    }
    unlink(checkpoint);
    free(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resumed_run_has_the_bits_of_an_unbroken_one),
        cmocka_unit_test(many_interruptions_change_nothing),
        cmocka_unit_test(without_a_checkpoint_nothing_is_saved),
        cmocka_unit_test(a_checkpoint_of_another_run_is_refused),
        cmocka_unit_test(a_damaged_checkpoint_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
