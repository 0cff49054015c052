/* split.c: train, validation and test rows of a data set, and folds. See divide.c for the method.
 */
#include "data/dataset.h"

#include <math.h>
#include <string.h>

#define DEFAULT_VALID 0.15
#define MAX_FOLDS 1000

static const double default_fractions[3] = {0.7, 0.1, 0.2};

static bool has_fractions(const mmf_split_options *o)
{
    return o->fractions[0] != 0 || o->fractions[1] != 0 || o->fractions[2] != 0;
}

static mmf_status check_options(mmf_ctx *ctx, const mmf_dataset *ds, const mmf_split_options *o)
{
    const double *const f = o->fractions;
    const double sum = f[0] + f[1] + f[2];
    if (has_fractions(o) && !(f[0] > 0 && f[1] >= 0 && f[2] >= 0 && fabs(sum - 1) <= 1e-6))
        return mmf_fail(ctx, MMF_ARG,
                        "split: expected shares of train, valid and test that sum to 1, train "
                        "above 0; found %g, %g, %g",
                        f[0], f[1], f[2]);
    if (!(o->valid >= 0 && o->valid < 1))
        return mmf_fail(ctx, MMF_ARG, "valid: expected a share of train in [0, 1), found %g",
                        o->valid);
    if (o->n_folds != 0 && (o->n_folds < 2 || o->n_folds > MAX_FOLDS))
        return mmf_fail(ctx, MMF_ARG, "folds: expected 2 to %d, found %lld", MAX_FOLDS,
                        (long long)o->n_folds);
    if (o->n_folds != 0 && (o->fold < 0 || o->fold >= o->n_folds))
        return mmf_fail(ctx, MMF_ARG, "fold: expected 0 to %lld, found %lld",
                        (long long)o->n_folds - 1, (long long)o->fold);
    if (o->train_per_class < 0)
        return mmf_fail(ctx, MMF_ARG, "train-per-class: expected 1 or more, found %lld",
                        (long long)o->train_per_class);
    if (o->train_per_class > 0 && !mmf_data_has_classes(ds))
        return mmf_fail(ctx, MMF_ARG, "train-per-class: the target of %s is not one class a sample",
                        ds->path);
    return MMF_OK;
}

/* Work on the part of every sample; `rows`, `sub` have room for all of them. */
typedef struct parting {
    mmf_ctx *ctx;
    const mmf_dataset *ds;
    const mmf_split_options *options;
    int64_t *part_of, *rows, *sub;
} parting;

/* Collects the rows of the parts in the bit set `parts`. */
static int64_t collect(parting *w, unsigned parts)
{
    int64_t n = 0;
    for (int64_t i = 0; i < w->ds->n_samples; i++) {
        if (parts >> w->part_of[i] & 1)
            w->rows[n++] = i;
    }
    return n;
}

static mmf_status first_parts(parting *w)
{
    const int64_t n = w->ds->n_samples;
    const bool chosen = has_fractions(w->options);
    if (!chosen && w->ds->split.data) {
        for (int64_t i = 0; i < n; i++)
            w->part_of[i] = mmf_array_integer(&w->ds->split, i);
        return mmf_data_check_torn(w->ctx, w->ds, w->part_of);
    }
    memset(w->part_of, 0, (size_t)n * sizeof *w->part_of);
    if (!chosen && w->options->n_folds > 0)
        return MMF_OK;
    collect(w, 1u << MMF_TRAIN);
    return mmf_data_divide(w->ctx, w->ds, w->rows, n,
                           chosen ? w->options->fractions : default_fractions, 3,
                           mmf_rng_make(w->options->seed, mmf_rng_stream("split")), w->part_of);
}

static mmf_status cut_fold(parting *w)
{
    const int64_t n = collect(w, 1u << MMF_TRAIN | 1u << MMF_VALID);
    MMF_TRY(
        mmf_split_folds(w->ctx, w->ds, w->rows, n, w->options->n_folds, w->options->seed, w->sub));
    for (int64_t i = 0; i < n; i++)
        w->part_of[w->rows[i]] = w->sub[i] == w->options->fold ? MMF_VALID : MMF_TRAIN;
    return MMF_OK;
}

static mmf_status cut_valid(parting *w)
{
    const bool asked = w->options->valid > 0;
    if (!asked && collect(w, 1u << MMF_VALID) > 0)
        return MMF_OK;
    const int64_t n = collect(w, 1u << MMF_TRAIN);
    const double valid = asked ? w->options->valid : DEFAULT_VALID;
    const double shares[2] = {1 - valid, valid};
    if (n == 0)
        return MMF_OK; /* a file of test rows alone */
    const mmf_status status =
        mmf_data_divide(w->ctx, w->ds, w->rows, n, shares, 2,
                        mmf_rng_make(w->options->seed, mmf_rng_stream("valid")), w->sub);
    /* Nobody asked for a cut, and rows that are all related allow none: valid stays empty. */
    if (status == MMF_ARG && !asked)
        return MMF_OK;
    MMF_TRY(status);
    for (int64_t i = 0; i < n; i++) {
        if (w->sub[i] == 1)
            w->part_of[w->rows[i]] = MMF_VALID;
    }
    return MMF_OK;
}

/* Keeps the first rows of each class; the others belong to no part. */
static mmf_status limit_train(parting *w)
{
    if (w->options->train_per_class == 0)
        return MMF_OK;
    int64_t *const taken = mmf_alloc_zero(w->ctx, (size_t)w->ds->n_classes, sizeof *taken);
    if (!taken)
        return MMF_NOMEM;
    for (int64_t i = 0; i < w->ds->n_samples; i++) {
        if (w->part_of[i] != MMF_TRAIN)
            continue;
        const int64_t label = mmf_array_integer(&w->ds->target, i);
        if (taken[label]++ >= w->options->train_per_class)
            w->part_of[i] = MMF_TEST + 1;
    }
    mmf_free(w->ctx, taken);
    return MMF_OK;
}

static mmf_status make(parting *w, mmf_split *out)
{
    const size_t n = (size_t)w->ds->n_samples;
    w->part_of = mmf_alloc_zero(w->ctx, n, sizeof *w->part_of);
    w->rows = mmf_alloc_zero(w->ctx, n, sizeof *w->rows);
    w->sub = mmf_alloc_zero(w->ctx, n, sizeof *w->sub);
    if (!w->part_of || !w->rows || !w->sub)
        return MMF_NOMEM;
    MMF_TRY(first_parts(w));
    if (w->options->n_folds > 0)
        MMF_TRY(cut_fold(w));
    else
        MMF_TRY(cut_valid(w));
    MMF_TRY(limit_train(w));
    for (int p = 0; p < 3; p++) {
        out->count[p] = collect(w, 1u << p);
        const size_t n_bytes = (size_t)out->count[p] * sizeof(int64_t);
        out->rows[p] = mmf_alloc(w->ctx, n_bytes);
        if (!out->rows[p])
            return MMF_NOMEM;
        memcpy(out->rows[p], w->rows, n_bytes);
    }
    return MMF_OK;
}

mmf_status mmf_split_make(mmf_ctx *ctx, mmf_split *out, const mmf_dataset *dataset,
                          const mmf_split_options *options)
{
    *out = (mmf_split){.count = {0}};
    const mmf_split_options defaults = MMF_SPLIT_OPTIONS_INIT;
    parting w = {.ctx = ctx, .ds = dataset, .options = options ? options : &defaults};
    MMF_TRY(check_options(ctx, dataset, w.options));
    const mmf_status status = make(&w, out);
    mmf_free(ctx, w.sub);
    mmf_free(ctx, w.rows);
    mmf_free(ctx, w.part_of);
    if (status != MMF_OK)
        mmf_split_clear(ctx, out);
    return status;
}

void mmf_split_clear(mmf_ctx *ctx, mmf_split *split)
{
    for (int p = 0; p < 3; p++)
        mmf_free(ctx, split->rows[p]);
    *split = (mmf_split){.count = {0}};
}

mmf_status mmf_split_folds(mmf_ctx *ctx, const mmf_dataset *dataset, const int64_t *rows,
                           int64_t n_rows, int64_t n_folds, uint64_t seed, int64_t *fold_of)
{
    if (n_folds < 2 || n_folds > MAX_FOLDS || n_rows < n_folds)
        return mmf_fail(ctx, MMF_ARG, "folds: expected 2 to %lld for these %lld rows, found %lld",
                        (long long)(n_rows < MAX_FOLDS ? n_rows : MAX_FOLDS), (long long)n_rows,
                        (long long)n_folds);
    for (int64_t i = 0; i < n_rows; i++) {
        if (rows[i] < 0 || rows[i] >= dataset->n_samples)
            return mmf_fail(ctx, MMF_ARG, "folds: row %lld of %lld", (long long)rows[i],
                            (long long)dataset->n_samples);
    }
    double *const shares = mmf_alloc(ctx, (size_t)n_folds * sizeof *shares);
    if (!shares)
        return MMF_NOMEM;
    for (int64_t k = 0; k < n_folds; k++)
        shares[k] = 1 / (double)n_folds;
    const mmf_status status = mmf_data_divide(ctx, dataset, rows, n_rows, shares, n_folds,
                                              mmf_rng_make(seed, mmf_rng_stream("folds")), fold_of);
    mmf_free(ctx, shares);
    return status;
}
