/* distillation.c: see distillation.h. */
#include "models/distillation.h"

#include "nn/disentangle.h"

#define COSINE_EPS 1e-8

mmf_distillation mmf_distillation_build(mmf_builder *b, const char *name,
                                        const mmf_distillation_options *options)
{
    mmf_distillation d = {.options = *options, .n_edges = options->count * (options->count - 1)};
    d.prior = mmf_builder_alloc(b, d.n_edges * sizeof *d.prior);
    d.nodes = mmf_builder_alloc(b, options->count * sizeof(mmf_tensor *));
    d.columns = mmf_builder_alloc(b, d.n_edges * sizeof(mmf_tensor *));
    for (size_t e = 0; d.prior && e < d.n_edges; e++)
        d.prior[e] = (mmf_real)(options->prior ? options->prior[e] : 1 / (double)d.n_edges);
    mmf_builder_enter(b, name);
    d.logit = mmf_linear_build(b, "W_logit", options->classes, options->size, true);
    d.repr = mmf_linear_build(b, "W_repr", options->width, options->size, true);
    d.edge = mmf_linear_build(b, "W_edge", 4 * options->size, 1, true);
    mmf_builder_leave(b);
    return d;
}

/* What is put side by side for every edge, to k from j. */
typedef mmf_tensor *edge_fn(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *k,
                            mmf_tensor *j);

/* (B, E) */
static mmf_tensor *over_edges(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *const *x,
                              edge_fn *fn)
{
    size_t e = 0;
    for (size_t k = 0; k < d->options.count; k++) {
        for (size_t j = 0; j < d->options.count; j++) {
            if (j != k)
                d->columns[e++] = fn(tape, d, x[k], x[j]);
        }
    }
    return mmf_concat(tape, d->columns, (int)d->n_edges, 1);
}

static mmf_tensor *edge_value(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *k,
                              mmf_tensor *j)
{
    mmf_tensor *const both = mmf_concat(tape, (mmf_tensor *[]){k, j}, 2, 1);
    return mmf_linear_run(tape, &d->edge, both, MMF_ACT_NONE);
}

static mmf_tensor *logit_distance(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *k,
                                  mmf_tensor *j)
{
    mmf_tensor *const gap = mmf_sub(tape, k, mmf_detach(tape, j));
    mmf_tensor *const size = d->options.by_square ? mmf_mul(tape, gap, gap) : mmf_abs(tape, gap);
    return mmf_reshape(tape, mmf_sum(tape, size, 1), 2, (int64_t[]){-1, 1});
}

static mmf_tensor *repr_distance(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *k,
                                 mmf_tensor *j)
{
    (void)d;
    mmf_tensor *const cosine = mmf_cosine(tape, k, mmf_detach(tape, j), COSINE_EPS);
    return mmf_reshape(tape, mmf_affine(tape, cosine, -1, 1), 2, (int64_t[]){-1, 1});
}

static mmf_tensor *both_there(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *k,
                              mmf_tensor *j)
{
    (void)d;
    return mmf_mul(tape, k, j);
}

/* (B, E) of 1/0; NULL: every modality is always there. */
static mmf_tensor *edge_mask(mmf_tape *tape, const mmf_distillation *d, mmf_tensor *const *present,
                             int64_t rows)
{
    bool any = false;
    for (size_t m = 0; m < d->options.count; m++) {
        any = any || present[m];
        d->nodes[m] = present[m] ? present[m] : mmf_full(tape, 2, (int64_t[]){rows, 1}, 1);
    }
    return any ? over_edges(tape, d, d->nodes, both_there) : NULL;
}

/* weight sum_e mean_B weights_e distance_e */
static mmf_tensor *term(mmf_tape *tape, mmf_tensor *weights, mmf_tensor *distance, double weight)
{
    mmf_tensor *const sum = mmf_sum(tape, mmf_mul(tape, weights, distance), 1);
    return mmf_affine(tape, mmf_mean(tape, sum, 0), weight, 0);
}

mmf_distillation_result mmf_distillation_run(mmf_tape *tape, const mmf_distillation *d,
                                             mmf_tensor *const *z, mmf_tensor *const *h,
                                             mmf_tensor *const *present)
{
    mmf_distillation_result r = {0};
    const int64_t n = (int64_t)d->n_edges;
    if (!z[0])
        return r;
    mmf_tensor *const mask = edge_mask(tape, d, present, z[0]->shape[0]);
    for (size_t m = 0; m < d->options.count; m++) {
        mmf_tensor *const parts[] = {mmf_linear_run(tape, &d->logit, z[m], MMF_ACT_NONE),
                                     mmf_linear_run(tape, &d->repr, h[m], MMF_ACT_NONE)};
        d->nodes[m] = mmf_concat(tape, parts, 2, 1);
    }
    mmf_tensor *const raw = over_edges(tape, d, d->nodes, edge_value);
    mmf_tensor *const edges =
        mmf_softmax(tape, mmf_affine(tape, raw, d->options.alpha, 0), mask, MMF_EMPTY_ZERO);
    mmf_tensor *const prior = mmf_input(tape, d->prior, 1, &n);
    mmf_tensor *weights = mmf_add(tape, edges, prior);
    if (mask)
        weights = mmf_mul(tape, weights, mask);
    mmf_tensor *const off = mmf_sub(tape, mmf_mean(tape, edges, 0), prior);
    r.regulariser = mmf_affine(tape, mmf_sum(tape, mmf_mul(tape, off, off), MMF_ALL_AXES),
                               d->options.regulariser, 0);
    r.logit = term(tape, weights, over_edges(tape, d, z, logit_distance), d->options.logit_weight);
    r.repr = term(tape, weights, over_edges(tape, d, h, repr_distance), d->options.repr_weight);
    r.edges = mmf_transpose(tape, edges, 0, 1);
    r.raw = mmf_reshape(tape, mmf_sum(tape, raw, 0), 2, (int64_t[]){n, 1});
    return r;
}
