/* bench.c: times of training steps, single predictions and operations, on random data. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/tool.h"
#include "tasks/task.h"
#include "tensor/ops.h"
#include "train/feed.h"
#include "train/timing.h"
#include "train/trainer.h"

#define MAX_RUNS 20000   /* durations kept for the median */
#define WARM_UP_RUNS 3   /* the arena has its final size after two */
#define WARM_UP_SHARE .1 /* of the time to measure: clocks and caches settle */
#define MIN_RUNS 5

/* ---- Timing ------------------------------------------------------------------------------ */

typedef mmf_status timed_fn(void *argument);

static mmf_status measure(mmf_ctx *ctx, timed_fn *fn, void *argument, double seconds,
                          mmf_timing *out)
{
    double *const durations = mmf_alloc_zero(ctx, MAX_RUNS, sizeof *durations);
    if (!durations)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    const double begin = mmf_seconds();
    for (int i = 0;
         status == MMF_OK && (i < WARM_UP_RUNS || mmf_seconds() - begin < WARM_UP_SHARE * seconds);
         i++)
        status = fn(argument);
    *out = (mmf_timing){.best = INFINITY};
    int64_t n_kept = 0;
    const double start = mmf_seconds();
    for (double before = start; status == MMF_OK;) {
        status =
            mmf_ctx_cancelled(ctx) ? mmf_fail(ctx, MMF_CANCELLED, "interrupted") : fn(argument);
        const double after = mmf_seconds();
        if (after - before < out->best)
            out->best = after - before;
        /* Beyond the room for all of them the latest durations stand for the rest. */
        durations[out->n_runs % MAX_RUNS] = after - before;
        out->n_runs++;
        n_kept = out->n_runs < MAX_RUNS ? out->n_runs : MAX_RUNS;
        before = after;
        if (out->n_runs >= MIN_RUNS && after - start >= seconds)
            break;
    }
    out->median = mmf_timing_median(durations, n_kept);
    mmf_free(ctx, durations);
    return status;
}

/* ---- Models ------------------------------------------------------------------------------ */

/* A module that is trained by itself: the model, or each unimodal part of a late one. */
typedef struct bench_unit {
    mmf_module *module;
    mmf_optimizer *optimizer;
    mmf_feed feed;
    const mmf_batch_input *inputs; /* of its first input */
} bench_unit;

typedef struct model_bench {
    mmf_ctx *ctx;
    mmf_tape *tape;
    const mmf_task *task;
    const mmf_schema *schema;
    int64_t batch;
    mmf_batch_input *inputs;
    mmf_real *target_values;
    int64_t *target_classes;
    bench_unit *units;
    size_t n_units;
    bench_unit whole; /* for latency */
    uint64_t step;
} model_bench;

/* Zeroed room for one piece of the inputs. */
static bool make_input(model_bench *b, size_t m, mmf_rng *rng)
{
    const mmf_input_schema *const in = &b->schema->inputs[m];
    mmf_batch_input *const given = &b->inputs[m];
    size_t n = (size_t)b->batch;
    for (int d = 0; d < in->n_dims; d++) {
        if (!mmf_mul_ok(n, (size_t)in->shape[d], &n))
            return false;
    }
    const int64_t vocab = in->vocab_size > 1 ? in->vocab_size : 2;
    if (in->kind == MMF_TOKENS)
        given->tokens = mmf_alloc_zero(b->ctx, n, sizeof *given->tokens);
    else
        given->values = mmf_alloc_zero(b->ctx, n, sizeof *given->values);
    if (in->has_length)
        given->length = mmf_alloc_zero(b->ctx, (size_t)b->batch, sizeof *given->length);
    if (in->has_present)
        given->present = mmf_alloc_zero(b->ctx, (size_t)b->batch, sizeof *given->present);
    if (!(given->tokens || given->values) || (in->has_length && !given->length) ||
        (in->has_present && !given->present))
        return false;
    for (size_t i = 0; given->tokens && i < n; i++) /* 0 is padding */
        given->tokens[i] = 1 + (int64_t)mmf_rng_below(rng, (uint64_t)(vocab - 1));
    for (size_t i = 0; given->values && i < n; i++)
        given->values[i] = (float)mmf_rng_normal(rng);
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        const size_t size = (size_t)(b->batch * in->shape[0] * in->companions[c]);
        const bool whole = mmf_companion_is_whole((mmf_companion)c);
        if (size > 0)
            given->companions[c] = mmf_alloc_zero(b->ctx, size, sizeof(float));
        if (size > 0 && !given->companions[c])
            return false;
        for (size_t i = 0; !whole && i < size; i++)
            given->companions[c][i] = (float)mmf_rng_uniform(rng);
    }
    for (int64_t i = 0; given->length && i < b->batch; i++)
        given->length[i] = in->shape[0];
    for (int64_t i = 0; given->present && i < b->batch; i++)
        given->present[i] = 1;
    return true;
}

static bool make_target(model_bench *b, mmf_rng *rng)
{
    const int64_t k = b->task->n_outputs, n = b->batch;
    if (b->task->kind == MMF_TARGET_CLASS) {
        b->target_classes = mmf_alloc_zero(b->ctx, (size_t)n, sizeof *b->target_classes);
        for (int64_t i = 0; b->target_classes && i < n; i++)
            b->target_classes[i] = (int64_t)mmf_rng_below(rng, (uint64_t)k);
        return b->target_classes != NULL;
    }
    b->target_values = mmf_alloc_zero(b->ctx, (size_t)(n * k), sizeof *b->target_values);
    if (!b->target_values)
        return false;
    for (int64_t i = 0; i < n; i++) {
        const int64_t one = (int64_t)mmf_rng_below(rng, (uint64_t)k);
        if (b->task->kind == MMF_TARGET_REAL)
            b->target_values[i] = (mmf_real)mmf_rng_normal(rng);
        else
            b->target_values[i * k + one] = 1; /* one label, or a distribution */
    }
    return true;
}

static mmf_status make_unit(model_bench *b, bench_unit *unit, const mmf_def *def,
                            const mmf_config *config, const mmf_schema *schema, size_t first)
{
    unit->inputs = b->inputs + first;
    MMF_TRY(mmf_module_create(b->ctx, &unit->module, def, config, schema, 1));
    MMF_TRY(mmf_feed_create(b->ctx, &unit->feed, mmf_module_schema(unit->module)));
    const mmf_optimizer_options options = MMF_OPTIMIZER_OPTIONS_INIT;
    return mmf_optimizer_create(b->ctx, &unit->optimizer, mmf_module_params(unit->module),
                                &options);
}

static void clear_unit(bench_unit *unit)
{
    mmf_optimizer_free(unit->optimizer);
    if (unit->feed.keys)
        mmf_feed_clear(&unit->feed);
    mmf_module_free(unit->module);
}

/* Late models are trained as their unimodal parts. */
static mmf_status make_parts(model_bench *b, const mmf_config *config)
{
    const mmf_def *const only = mmf_model_find("only");
    mmf_config *own = NULL;
    mmf_status status = mmf_config_create(b->ctx, &own, only);
    if (status == MMF_OK)
        status = mmf_config_share(own, config);
    for (size_t m = 0; status == MMF_OK && m < b->schema->count; m++) {
        mmf_input_schema input = b->schema->inputs[m];
        const mmf_schema one = {1, &input};
        status = make_unit(b, &b->units[b->n_units++], only, own, &one, m);
    }
    mmf_config_free(own);
    return status;
}

static mmf_status make_modules(model_bench *b, const mmf_def *def, const mmf_config *given)
{
    char text[32];
    mmf_config *config = NULL;
    mmf_status status =
        given ? mmf_config_copy(b->ctx, &config, given) : mmf_config_create(b->ctx, &config, def);
    snprintf(text, sizeof text, "%lld", (long long)b->task->n_outputs);
    if (status == MMF_OK)
        status = mmf_config_set(config, "num_classes", text);
    if (status == MMF_OK)
        status = mmf_config_set(config, "train_mode", mmf_task_name(b->task->kind));
    if (status == MMF_OK)
        status = make_unit(b, &b->whole, def, config, b->schema, 0);
    if (status == MMF_OK && (def->takes & MMF_LATE))
        status = make_parts(b, config);
    mmf_config_free(config);
    return status;
}

static mmf_tensor *target_tensor(const model_bench *b)
{
    const int64_t shape[] = {b->batch, b->task->n_outputs};
    return b->target_classes ? mmf_input_ints(b->tape, b->target_classes, 1, shape)
                             : mmf_input(b->tape, b->target_values, 2, shape);
}

static mmf_status train_unit(model_bench *b, bench_unit *unit)
{
    mmf_named in = {0}, out = {0};
    const mmf_step step = {.training = true, .step = (int64_t)b->step};
    const mmf_loss_options options = {0};
    mmf_tape_begin(b->tape,
                   &(mmf_pass){.record = true, .training = true, .seed = 1, .step = b->step});
    mmf_feed_put(&unit->feed, b->tape, unit->inputs, NULL, b->batch, MMF_ALL_MODALITIES, &in);
    mmf_module_run(unit->module, b->tape, &in, &step, &out);
    mmf_tensor *const loss = mmf_task_loss(b->tape, b->task, &options, &out, target_tensor(b));
    if (!loss && mmf_tape_status(b->tape) == MMF_OK)
        return MMF_OK; /* nothing is learned by steps */
    MMF_TRY(mmf_tape_backward(b->tape, loss));
    mmf_params_finish_gradients(mmf_module_params(unit->module), b->tape);
    mmf_optimizer_step(unit->optimizer, 1);
    return MMF_OK;
}

static mmf_status training_step(void *argument)
{
    model_bench *const b = argument;
    b->step++;
    if (b->n_units == 0)
        return train_unit(b, &b->whole);
    for (size_t i = 0; i < b->n_units; i++)
        MMF_TRY(train_unit(b, &b->units[i]));
    return MMF_OK;
}

static mmf_status predict_one(void *argument)
{
    model_bench *const b = argument;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {0};
    mmf_tape_begin(b->tape, &(mmf_pass){.fixed = true});
    mmf_feed_put(&b->whole.feed, b->tape, b->inputs, NULL, 1, MMF_ALL_MODALITIES, &in);
    mmf_module_run(b->whole.module, b->tape, &in, &step, &out);
    mmf_task_prediction(b->tape, b->task, b->schema, &out);
    return mmf_tape_status(b->tape);
}

static mmf_status prepare(model_bench *b, const mmf_def *def, const mmf_config *config)
{
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("bench"));
    b->inputs = mmf_alloc_zero(b->ctx, b->schema->count + 1, sizeof *b->inputs);
    b->units = mmf_alloc_zero(b->ctx, b->schema->count + 1, sizeof *b->units);
    if (!b->inputs || !b->units)
        return MMF_NOMEM;
    for (size_t m = 0; m < b->schema->count; m++) {
        if (!make_input(b, m, &rng))
            return mmf_fail(b->ctx, MMF_NOMEM, "%s: no memory for a batch of %lld",
                            b->schema->inputs[m].name, (long long)b->batch);
    }
    if (!make_target(b, &rng))
        return MMF_NOMEM;
    MMF_TRY(mmf_tape_create(b->ctx, &b->tape));
    return make_modules(b, def, config);
}

static void clear(model_bench *b)
{
    clear_unit(&b->whole);
    for (size_t i = 0; i < b->n_units; i++)
        clear_unit(&b->units[i]);
    mmf_tape_free(b->tape);
    for (size_t m = 0; b->inputs && m < b->schema->count; m++) {
        mmf_free(b->ctx, b->inputs[m].values);
        mmf_free(b->ctx, b->inputs[m].tokens);
        mmf_free(b->ctx, b->inputs[m].length);
        mmf_free(b->ctx, b->inputs[m].present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            mmf_free(b->ctx, b->inputs[m].companions[c]);
    }
    mmf_free(b->ctx, b->inputs);
    mmf_free(b->ctx, b->units);
    mmf_free(b->ctx, b->target_values);
    mmf_free(b->ctx, b->target_classes);
}

mmf_status mmf_bench_model(mmf_ctx *ctx, const mmf_def *def, const mmf_config *config,
                           const mmf_schema *inputs, const mmf_task *task, int64_t batch,
                           double seconds, mmf_model_cost *out)
{
    *out = (mmf_model_cost){0};
    mmf_refusal room;
    const char *const refusal = mmf_model_refusal(def, inputs, task->kind, &room);
    if (refusal)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "%s: %s", def->name, refusal);
    if (batch < 1 || !(seconds >= 0) || task->n_outputs < 1 || task->kind == MMF_TARGET_NONE)
        return mmf_fail(ctx, MMF_ARG,
                        "bench of %s: expected 1 or more rows, 0 or more seconds and a target",
                        def->name);
    model_bench b = {.ctx = ctx, .task = task, .schema = inputs, .batch = batch};
    mmf_status status = prepare(&b, def, config);
    if (status == MMF_OK)
        status = measure(ctx, training_step, &b, seconds, &out->step);
    if (status == MMF_OK)
        status = measure(ctx, predict_one, &b, seconds, &out->latency);
    if (status == MMF_OK) {
        out->n_parameters = mmf_params_size(mmf_module_params(b.whole.module));
        out->flops = mmf_tape_flops(b.tape);
    }
    clear(&b);
    return status;
}

/* ---- Operations -------------------------------------------------------------------------- */

typedef struct op_bench {
    mmf_tape *tape;
    const mmf_op *op;
    mmf_op_store store;
    int index;
    int64_t scale;
    mmf_real *cotangent;
    double flops;
} op_bench;

static mmf_tensor *run_example(op_bench *b, mmf_op_case *c)
{
    mmf_tape_begin(b->tape, &(mmf_pass){.record = true, .training = true, .seed = 1});
    *c = (mmf_op_case){.tape = b->tape,
                       .index = b->index,
                       .scale = b->scale,
                       .rng = mmf_rng_make(1, (uint64_t)b->index),
                       .store = &b->store};
    return b->op->example(c);
}

static mmf_status forward_backward(void *argument)
{
    op_bench *const b = argument;
    mmf_op_case c;
    mmf_tensor *const out = run_example(b, &c);
    if (!out)
        return mmf_tape_status(b->tape);
    return mmf_tape_backward_from(b->tape, out, b->cotangent);
}

static mmf_status prepare_op(mmf_ctx *ctx, op_bench *b)
{
    MMF_TRY(mmf_tape_create(ctx, &b->tape));
    mmf_op_case c;
    const mmf_tensor *const out = run_example(b, &c);
    if (!out)
        return mmf_tape_status(b->tape);
    b->flops = b->op->flops ? b->op->flops(&c, out) : 0;
    b->cotangent = mmf_alloc_zero(ctx, (size_t)out->count, sizeof *b->cotangent);
    if (!b->cotangent)
        return MMF_NOMEM;
    for (int64_t i = 0; i < out->count; i++)
        b->cotangent[i] = 1;
    return MMF_OK;
}

bool mmf_bench_operation(mmf_ctx *ctx, size_t i, int64_t scale, double seconds, mmf_bench_op *out)
{
    size_t n_ops = 0;
    const mmf_op *const *const ops = mmf_ops(&n_ops);
    size_t op = 0;
    for (; op < n_ops && i >= (size_t)ops[op]->n_cases; op++)
        i -= (size_t)ops[op]->n_cases;
    if (op == n_ops)
        return false;
    op_bench b = {.op = ops[op], .index = (int)i, .scale = scale, .store = {.ctx = ctx}};
    *out = (mmf_bench_op){.name = ops[op]->name, .forward_backward = {.best = NAN, .median = NAN}};
    mmf_status status = prepare_op(ctx, &b);
    if (status == MMF_OK)
        status = measure(ctx, forward_backward, &b, seconds, &out->forward_backward);
    if (status != MMF_OK)
        out->forward_backward = (mmf_timing){.best = NAN, .median = NAN};
    out->flops = b.flops;
    mmf_op_store_clear(&b.store);
    mmf_free(ctx, b.cotangent);
    mmf_tape_free(b.tape);
    return true;
}
