/*
 * optimizer.c: SGD with momentum, Adam (Kingma and Ba, ICLR 2015), AdamW (Loshchilov and Hutter,
 * ICLR 2019) and BERT's own Adam (Devlin et al., NAACL 2019) over the flat block of all parameters.
 */
#include <math.h>
#include <string.h>

#include "nn/builder.h"
#include "tensor/tape.h"

/* Parameters that are treated alike and follow each other are one range, so the usual model is one
 * pass. */
typedef struct range {
    int64_t begin, end;
    double lr, decay;
} range;

struct mmf_optimizer {
    mmf_ctx *ctx;
    mmf_params *params;
    mmf_optimizer_options options;
    const mmf_kernels *k;
    range *ranges;
    size_t n_ranges;
    mmf_real *moments[2];
    int64_t steps;
    double grad_norm;
};

static double decay_of(const mmf_optimizer_options *o, const mmf_param *p)
{
    return o->decay_matrices && p->tensor->n_dims < 2 ? 0 : o->weight_decay;
}

static void make_ranges(mmf_optimizer *optimizer)
{
    const mmf_params *const params = optimizer->params;
    for (size_t i = 0; i < params->count; i++) {
        const mmf_param *const p = &params->items[i];
        if (p->role != MMF_PARAM_TRAINED || p->is_alias)
            continue;
        const double given = optimizer->options.group_lr[p->group];
        const double lr = (given > 0 ? given : optimizer->options.lr) * p->lr_scale;
        const double decay = decay_of(&optimizer->options, p);
        const int64_t begin = p->tensor->data - params->values;
        range *const last =
            optimizer->n_ranges ? &optimizer->ranges[optimizer->n_ranges - 1] : NULL;
        if (last && last->lr == lr && last->decay == decay) {
            last->end = params->trained_size;
        } else {
            if (last)
                last->end = begin;
            optimizer->ranges[optimizer->n_ranges++] =
                (range){begin, params->trained_size, lr, decay};
        }
    }
}

mmf_status mmf_optimizer_create(mmf_ctx *ctx, mmf_optimizer **out, mmf_params *params,
                                const mmf_optimizer_options *options)
{
    *out = NULL;
    mmf_optimizer *optimizer = mmf_alloc_zero(ctx, 1, sizeof *optimizer);
    if (!optimizer)
        return MMF_NOMEM;
    optimizer->ctx = ctx;
    optimizer->params = params;
    optimizer->options = *options;
    optimizer->k = mmf_kernels_for(mmf_ctx_cpu(ctx));
    optimizer->ranges = mmf_alloc_zero(ctx, params->count + 1, sizeof *optimizer->ranges);
    const int n_moments = options->kind == MMF_SGD ? (options->momentum > 0 ? 1 : 0) : 2;
    bool ok = optimizer->ranges != NULL;
    for (int i = 0; i < n_moments && ok; i++) {
        optimizer->moments[i] =
            mmf_alloc_zero(ctx, (size_t)params->trained_size + 1, sizeof(mmf_real));
        ok = optimizer->moments[i] != NULL;
    }
    if (!ok) {
        mmf_optimizer_free(optimizer);
        return MMF_NOMEM;
    }
    make_ranges(optimizer);
    *out = optimizer;
    return MMF_OK;
}

void mmf_optimizer_free(mmf_optimizer *optimizer)
{
    if (!optimizer)
        return;
    mmf_free(optimizer->ctx, optimizer->moments[0]);
    mmf_free(optimizer->ctx, optimizer->moments[1]);
    mmf_free(optimizer->ctx, optimizer->ranges);
    mmf_free(optimizer->ctx, optimizer);
}

/* Brings every parameter's own gradient down to the limit. */
static void clip_each(mmf_optimizer *optimizer)
{
    const mmf_params *const params = optimizer->params;
    const double limit = optimizer->options.clip_norm;
    for (size_t i = 0; limit > 0 && i < params->count; i++) {
        mmf_tensor *const t = params->items[i].tensor;
        if (params->items[i].role != MMF_PARAM_TRAINED || params->items[i].is_alias)
            continue;
        const double norm = sqrt((double)optimizer->k->dot(t->count, t->grad, t->grad));
        const mmf_real factor = (mmf_real)(limit / (norm + 1e-6));
        for (int64_t k = 0; factor < 1 && k < t->count; k++)
            t->grad[k] *= factor;
    }
}

/* Factor that brings the gradient's norm down to the limit, as torch.nn.utils.clip_grad_norm_. */
static double clip_factor(mmf_optimizer *optimizer)
{
    const double limit = optimizer->options.clip_norm;
    optimizer->grad_norm = NAN;
    if (limit <= 0)
        return 1;
    const mmf_params *const params = optimizer->params;
    double square = 0;
    for (size_t i = 0; i < params->count;
         i++) { /* gaps between parameters are never written: zero */
        const mmf_tensor *const t = params->items[i].tensor;
        if (params->items[i].role == MMF_PARAM_TRAINED && !params->items[i].is_alias)
            square += (double)optimizer->k->dot(t->count, t->grad, t->grad);
    }
    optimizer->grad_norm = sqrt(square);
    const double factor = limit / (optimizer->grad_norm + 1e-6);
    return factor < 1 ? factor : 1;
}

typedef struct step_job {
    mmf_optimizer *optimizer;
    const range *range;
    mmf_adam adam;
    mmf_real momentum;
} step_job;

static void adam_range(void *argument, int64_t begin, int64_t end)
{
    const step_job *const job = argument;
    const mmf_optimizer *const o = job->optimizer;
    const int64_t at = job->range->begin + begin;
    o->k->adam(end - begin, &job->adam, o->params->gradients + at, o->moments[0] + at,
               o->moments[1] + at, o->params->values + at);
}

static void sgd_range(void *argument, int64_t begin, int64_t end)
{
    const step_job *const job = argument;
    const mmf_optimizer *const o = job->optimizer;
    const int64_t at = job->range->begin + begin;
    mmf_real *const w = o->params->values + at, *const grad = o->params->gradients + at;
    for (int64_t i = 0; i < end - begin; i++) {
        mmf_real g = job->adam.grad_scale * grad[i] + job->adam.l2 * w[i];
        if (o->moments[0]) {
            mmf_real *const velocity = o->moments[0] + at;
            /* PyTorch starts the velocity at the first gradient. */
            velocity[i] = o->steps == 1 ? g : job->momentum * velocity[i] + g;
            g = velocity[i];
        }
        w[i] -= job->adam.lr * g;
    }
}

/* Elements a thread updates at once: the pass is bound by memory, so small blocks stay on one core.
 */
#define STEP_GRAIN 131072

static void run_ranges(const mmf_optimizer *o, int64_t n, mmf_range_fn *fn, step_job *job)
{
    const mmf_tape threads = {.n_threads = mmf_ctx_threads(o->ctx)};
    mmf_tape__parallel(&threads, n, STEP_GRAIN, fn, job);
}

static void keep_bounds(const mmf_params *params)
{
    for (size_t i = 0; i < params->count; i++) {
        const mmf_param *const p = &params->items[i];
        const bool is_bound = p->low < p->high && p->role == MMF_PARAM_TRAINED && !p->is_alias;
        for (int64_t k = 0; is_bound && k < p->tensor->count; k++)
            p->tensor->data[k] = (mmf_real)fmin(fmax((double)p->tensor->data[k], p->low), p->high);
    }
}

void mmf_optimizer_step(mmf_optimizer *optimizer, double lr_scale)
{
    const mmf_optimizer_options *const o = &optimizer->options;
    optimizer->steps++;
    if (o->clip_value > 0) {
        const mmf_real limit = (mmf_real)o->clip_value;
        mmf_real *const grad = optimizer->params->gradients;
        for (int64_t i = 0; i < optimizer->params->trained_size; i++)
            grad[i] = grad[i] > limit ? limit : (grad[i] < -limit ? -limit : grad[i]);
    }
    const bool of_bert = o->kind == MMF_BERT_ADAM;
    const bool decoupled = of_bert || o->kind == MMF_ADAMW;
    if (of_bert)
        clip_each(optimizer);
    const double t = (double)optimizer->steps;
    const double scale = of_bert ? 1 : clip_factor(optimizer);
    for (size_t r = 0; r < optimizer->n_ranges; r++) {
        const range *const span = &optimizer->ranges[r];
        step_job job = {.optimizer = optimizer, .range = span, .momentum = (mmf_real)o->momentum};
        job.adam =
            (mmf_adam){.lr = (mmf_real)(span->lr * lr_scale),
                       .beta1 = (mmf_real)o->beta1,
                       .rest1 = (mmf_real)(1 - o->beta1),
                       .rest2 = (mmf_real)(1 - o->beta2),
                       .beta2 = (mmf_real)o->beta2,
                       .eps = (mmf_real)o->eps,
                       .l2 = (mmf_real)(decoupled ? 0 : span->decay),
                       .decay = (mmf_real)(decoupled ? span->decay : 0),
                       .correction1 = (mmf_real)(of_bert ? 1 : 1 / (1 - pow(o->beta1, t))),
                       .correction2 = (mmf_real)(of_bert ? 1 : 1 / sqrt(1 - pow(o->beta2, t))),
                       .grad_scale = (mmf_real)scale};
        run_ranges(optimizer, span->end - span->begin, o->kind == MMF_SGD ? sgd_range : adam_range,
                   &job);
    }
    keep_bounds(optimizer->params);
}

int64_t mmf_optimizer_steps(const mmf_optimizer *optimizer)
{
    return optimizer->steps;
}

void mmf_optimizer_set_steps(mmf_optimizer *optimizer, int64_t steps)
{
    optimizer->steps = steps;
}

mmf_real *mmf_optimizer_moment(const mmf_optimizer *optimizer, int which)
{
    return optimizer->moments[which];
}

double mmf_optimizer_grad_norm(const mmf_optimizer *optimizer)
{
    return optimizer->grad_norm;
}
