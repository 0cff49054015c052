/*
 * normalise.c: mean and deviation of every feature over the training rows.
 *
 * One pass. Sums are taken of the differences from a feature's first value, in double precision:
 * a constant feature then has a deviation of exactly 0, and a large mean costs no digits.
 */
#include "data/dataset.h"

#include <math.h>
#include <string.h>

typedef struct sums {
    double *shift, *sum, *square; /* [n_features] */
    double weight;                /* values of a feature seen */
    float *row;                   /* one stored row */
    int64_t *uses; /* [n_rows] samples that read a stored row; NULL: one pass a sample */
} sums;

/* Adds a frame: the pixels of every channel. */
static void add_channels(sums *s, const float *frame, int64_t n_channels, int64_t n_pixels,
                         double weight)
{
    for (int64_t f = 0; f < n_channels; f++) {
        double sum = 0, square = 0;
        for (int64_t i = 0; i < n_pixels; i++) {
            const double x = (double)frame[f * n_pixels + i] - s->shift[f];
            sum += x;
            square += x * x;
        }
        s->sum[f] += weight * sum;
        s->square[f] += weight * square;
    }
}

static void add_row(const mmf_data_modality *m, sums *s, int64_t n_steps, double weight)
{
    const int64_t n_features = m->n_features, n_pixels = m->step / n_features;
    const bool channels = mmf_modality_has_channels(m->view.kind);
    if (s->weight == 0) {
        for (int64_t f = 0; f < n_features; f++)
            s->shift[f] = (double)s->row[f * n_pixels];
    }
    for (int64_t t = 0; t < n_steps; t++) {
        const float *const step = s->row + t * m->step;
        if (channels) {
            add_channels(s, step, n_features, n_pixels, weight);
            continue;
        }
        for (int64_t f = 0; f < n_features; f++) {
            const double x = (double)step[f] - s->shift[f];
            s->sum[f] += weight * x;
            s->square[f] += weight * x * x;
        }
    }
    s->weight += weight * (double)(n_steps * n_pixels);
}

/* Reads the valid part of a stored row; `sample` is for the message. */
static mmf_status read_row(const mmf_dataset *ds, const mmf_data_modality *m, int64_t stored,
                           int64_t n_steps, int64_t sample, float *row)
{
    const int64_t n = n_steps * m->step;
    mmf_array_floats(&m->values, mmf_data_place(m, stored, m->step), n, row);
    if (m->view.n_nonfinite == 0)
        return MMF_OK;
    const int64_t at = mmf_data_first_nonfinite(row, n);
    if (at < n && ds->nonfinite == MMF_NONFINITE_FAIL)
        return mmf_data_fail_row(ds, MMF_NUMERIC, m->view.name, sample,
                                 "value %lld of the row is %g; --non-finite zero or absent goes on "
                                 "without it",
                                 (long long)at, (double)row[at]);
    for (int64_t i = at; i < n; i++)
        row[i] = isfinite(row[i]) ? row[i] : 0;
    return MMF_OK;
}

static mmf_status add_rows(const mmf_dataset *ds, const mmf_data_modality *m, const int64_t *rows,
                           int64_t n_rows, sums *s)
{
    for (int64_t i = 0; i < n_rows; i++) {
        const int64_t n_steps = mmf_data_steps(m, rows[i]);
        if (n_steps == 0)
            continue;
        const int64_t stored = mmf_data_stored_row(m, rows[i]);
        double weight = 1;
        if (s->uses && s->uses[stored] == 0)
            continue; /* an earlier sample counted for all */
        if (s->uses) {
            weight = (double)s->uses[stored];
            s->uses[stored] = 0;
        }
        MMF_TRY(read_row(ds, m, stored, n_steps, rows[i], s->row));
        add_row(m, s, n_steps, weight);
    }
    return MMF_OK;
}

static mmf_status fit_modality(mmf_ctx *ctx, const mmf_dataset *ds, const mmf_data_modality *m,
                               const int64_t *rows, int64_t n_rows, sums *s)
{
    const size_t n = (size_t)m->n_features;
    s->shift = mmf_alloc_zero(ctx, n, sizeof *s->shift);
    s->sum = mmf_alloc_zero(ctx, n, sizeof *s->sum);
    s->square = mmf_alloc_zero(ctx, n, sizeof *s->square);
    s->row = mmf_alloc_zero(ctx, (size_t)m->row, sizeof *s->row);
    if (!s->shift || !s->sum || !s->square || !s->row)
        return MMF_NOMEM;
    if (m->view.has_index && !m->view.has_length) {
        s->uses = mmf_alloc_zero(ctx, (size_t)m->view.n_rows, sizeof *s->uses);
        if (!s->uses)
            return MMF_NOMEM;
        for (int64_t i = 0; i < n_rows; i++) {
            if (!mmf_data_absent(m, rows[i]))
                s->uses[mmf_data_stored_row(m, rows[i])]++;
        }
    }
    return add_rows(ds, m, rows, n_rows, s);
}

static void finish(const sums *s, int64_t n_features, float *mean, float *scale)
{
    for (int64_t f = 0; f < n_features; f++) {
        mean[f] = 0;
        scale[f] = 1;
        if (s->weight == 0)
            continue; /* never there in these rows */
        const double offset = s->sum[f] / s->weight;
        const double variance = s->square[f] / s->weight - offset * offset;
        mean[f] = (float)(s->shift[f] + offset);
        /* Below this the scale itself would overflow, or only rounding is left of the variance. */
        if (variance > 1e-14 * (s->square[f] / s->weight) && variance > 1e-70)
            scale[f] = (float)(1 / sqrt(variance));
    }
}

static mmf_status fit(mmf_ctx *ctx, mmf_normalisation *out, const mmf_dataset *ds,
                      const int64_t *rows, int64_t n_rows)
{
    const size_t n = ds->n_modalities;
    out->n_modalities = n;
    out->n_features = mmf_alloc_zero(ctx, n, sizeof *out->n_features);
    out->mean = mmf_alloc_zero(ctx, n, sizeof *out->mean);
    out->scale = mmf_alloc_zero(ctx, n, sizeof *out->scale);
    if (!out->n_features || !out->mean || !out->scale)
        return MMF_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const mmf_data_modality *const m = &ds->modalities[i];
        if (m->view.kind == MMF_TOKENS)
            continue;
        const size_t n_features = (size_t)m->n_features;
        out->mean[i] = mmf_alloc_zero(ctx, n_features, sizeof(float));
        out->scale[i] = mmf_alloc_zero(ctx, n_features, sizeof(float));
        if (!out->mean[i] || !out->scale[i])
            return MMF_NOMEM;
        out->n_features[i] = m->n_features;
        sums s = {.weight = 0};
        const mmf_status status = fit_modality(ctx, ds, m, rows, n_rows, &s);
        if (status == MMF_OK)
            finish(&s, m->n_features, out->mean[i], out->scale[i]);
        mmf_free(ctx, s.uses);
        mmf_free(ctx, s.row);
        mmf_free(ctx, s.square);
        mmf_free(ctx, s.sum);
        mmf_free(ctx, s.shift);
        MMF_TRY(status);
    }
    return MMF_OK;
}

mmf_status mmf_normalisation_fit(mmf_ctx *ctx, mmf_normalisation *out, mmf_dataset *dataset,
                                 const int64_t *rows, int64_t n_rows)
{
    *out = (mmf_normalisation){.n_modalities = 0};
    for (int64_t i = 0; i < n_rows; i++) {
        if (rows[i] < 0 || rows[i] >= dataset->n_samples)
            return mmf_fail(ctx, MMF_ARG, "%s: row %lld was asked for; there are %lld",
                            dataset->path, (long long)rows[i], (long long)dataset->n_samples);
    }
    const mmf_status status = fit(ctx, out, dataset, rows, n_rows);
    if (status != MMF_OK)
        mmf_normalisation_clear(ctx, out);
    return status;
}

void mmf_normalisation_clear(mmf_ctx *ctx, mmf_normalisation *normalisation)
{
    for (size_t i = 0; i < normalisation->n_modalities; i++) {
        if (normalisation->mean)
            mmf_free(ctx, normalisation->mean[i]);
        if (normalisation->scale)
            mmf_free(ctx, normalisation->scale[i]);
    }
    mmf_free(ctx, normalisation->mean);
    mmf_free(ctx, normalisation->scale);
    mmf_free(ctx, normalisation->n_features);
    *normalisation = (mmf_normalisation){.n_modalities = 0};
}
