/*
 * batch.c: rows of a data set as dense arrays, normalised, padded with zeros.
 *
 * Each row is read with one conversion (a copy where the file holds float32) and normalised in
 * place while it is in the cache. Filling allocates nothing.
 */
#include "data/dataset.h"

#include <math.h>
#include <string.h>

void *mmf_batch__take(mmf_batch *batch, int64_t per_row, size_t size)
{
    size_t n = 0;
    if (!mmf_mul_ok((size_t)batch->capacity, (size_t)per_row, &n)) {
        mmf_fail(batch->ctx, MMF_NOMEM, "a batch of %lld rows of %lld values is too large",
                 (long long)batch->capacity, (long long)per_row);
        return NULL;
    }
    return mmf_alloc_zero(batch->ctx, n, size);
}

static mmf_status create(mmf_batch *batch, const mmf_dataset *ds)
{
    batch->inputs = mmf_alloc_zero(batch->ctx, ds->n_modalities, sizeof *batch->inputs);
    if (!batch->inputs)
        return MMF_NOMEM;
    batch->n_modalities = ds->n_modalities;
    for (size_t i = 0; i < ds->n_modalities; i++) {
        const mmf_data_modality *const m = &ds->modalities[i];
        mmf_batch_input *const in = &batch->inputs[i];
        const bool tokens = m->view.kind == MMF_TOKENS;
        if (tokens)
            in->tokens = mmf_batch__take(batch, m->row, sizeof *in->tokens);
        else
            in->values = mmf_batch__take(batch, m->row, sizeof *in->values);
        if (m->view.has_length)
            in->length = mmf_batch__take(batch, 1, sizeof *in->length);
        if (m->view.has_present)
            in->present = mmf_batch__take(batch, 1, sizeof *in->present);
        if (!(tokens ? (void *)in->tokens : (void *)in->values) ||
            (m->view.has_length && !in->length) || (m->view.has_present && !in->present))
            return MMF_NOMEM;
    }
    if (ds->target_kind == MMF_TARGET_NONE || ds->n_classes == 0)
        return MMF_OK;
    if (mmf_data_has_classes(ds))
        batch->target_classes = mmf_batch__take(batch, 1, sizeof *batch->target_classes);
    else
        batch->target_values = mmf_batch__take(batch, ds->n_classes, sizeof *batch->target_values);
    return batch->target_classes || batch->target_values ? MMF_OK : MMF_NOMEM;
}

mmf_status mmf_batch_create(mmf_ctx *ctx, mmf_batch *out, const mmf_dataset *dataset,
                            int64_t capacity)
{
    *out = (mmf_batch){.ctx = ctx, .capacity = capacity, .wanted = UINT64_MAX};
    if (capacity < 1) {
        *out = (mmf_batch){.ctx = ctx};
        return mmf_fail(ctx, MMF_ARG, "batch size: expected 1 or more, found %lld",
                        (long long)capacity);
    }
    const mmf_status status = create(out, dataset);
    if (status != MMF_OK)
        mmf_batch_clear(out);
    return status;
}

void mmf_batch_clear(mmf_batch *batch)
{
    for (size_t i = 0; i < batch->n_modalities; i++) {
        mmf_free(batch->ctx, batch->inputs[i].values);
        mmf_free(batch->ctx, batch->inputs[i].tokens);
        mmf_free(batch->ctx, batch->inputs[i].length);
        mmf_free(batch->ctx, batch->inputs[i].present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            mmf_free(batch->ctx, batch->inputs[i].companions[c]);
    }
    mmf_free(batch->ctx, batch->inputs);
    mmf_free(batch->ctx, batch->target_values);
    mmf_free(batch->ctx, batch->target_classes);
    *batch = (mmf_batch){.ctx = batch->ctx};
}

mmf_status mmf_batch_track_presence(mmf_batch *batch)
{
    for (size_t i = 0; i < batch->n_modalities; i++) {
        mmf_batch_input *const in = &batch->inputs[i];
        if (!in->present)
            in->present = mmf_batch__take(batch, 1, sizeof *in->present);
        if (!in->present)
            return MMF_NOMEM;
    }
    return MMF_OK;
}

void mmf_batch_drop(mmf_batch *batch, const mmf_dataset *dataset, size_t modality, int64_t b)
{
    mmf_batch_input *const in = &batch->inputs[modality];
    const size_t row = (size_t)dataset->modalities[modality].row, at = (size_t)b * row;
    if (in->tokens)
        memset(in->tokens + at, 0, row * sizeof *in->tokens);
    else
        memset(in->values + at, 0, row * sizeof *in->values);
    mmf_data_drop_companions(in, &dataset->modalities[modality], b);
    if (in->length)
        in->length[b] = 1;
    in->present[b] = 0;
}

/* ---- Filling ------------------------------------------------------------------------------- */

static void normalise_steps(float *values, int64_t n_steps, int64_t n_features, const float *mean,
                            const float *scale)
{
    for (int64_t t = 0; t < n_steps; t++) {
        float *const step = values + t * n_features;
        for (int64_t f = 0; f < n_features; f++)
            step[f] = (step[f] - mean[f]) * scale[f];
    }
}

static void normalise_channels(float *values, int64_t n_channels, int64_t n_pixels,
                               const float *mean, const float *scale)
{
    for (int64_t c = 0; c < n_channels; c++) {
        const float offset = mean[c], factor = scale[c];
        float *const channel = values + c * n_pixels;
        for (int64_t i = 0; i < n_pixels; i++)
            channel[i] = (channel[i] - offset) * factor;
    }
}

static mmf_status fill_values(const mmf_dataset *ds, const mmf_data_modality *m, const float *mean,
                              const float *scale, int64_t sample, float *out)
{
    const int64_t n_steps = mmf_data_steps(m, sample);
    const int64_t n = n_steps * m->step;
    if (n > 0)
        mmf_array_floats(&m->values, mmf_data_place(m, mmf_data_stored_row(m, sample), m->step), n,
                         out);
    memset(out + n, 0, (size_t)(m->row - n) * sizeof *out);
    if (m->view.n_nonfinite != 0) {
        const int64_t at = mmf_data_first_nonfinite(out, n);
        if (at < n && ds->nonfinite == MMF_NONFINITE_FAIL)
            return mmf_data_fail_row(ds, MMF_NUMERIC, m->view.name, sample,
                                     "value %lld of the row is %g; --non-finite zero or absent "
                                     "goes on without it",
                                     (long long)at, (double)out[at]);
        for (int64_t i = at; i < n; i++)
            out[i] = isfinite(out[i]) ? out[i] : 0;
    }
    if (!mean || n == 0)
        return MMF_OK;
    if (mmf_modality_has_channels(m->view.kind)) {
        for (int64_t t = 0; t < n_steps; t++)
            normalise_channels(out + t * m->step, m->n_features, m->step / m->n_features, mean,
                               scale);
    } else {
        normalise_steps(out, n_steps, m->n_features, mean, scale);
    }
    return MMF_OK;
}

static void fill_tokens(const mmf_data_modality *m, int64_t sample, int64_t *out)
{
    const int64_t n = mmf_data_steps(m, sample);
    const int64_t first = n > 0 ? mmf_data_place(m, mmf_data_stored_row(m, sample), 1) : 0;
    for (int64_t t = 0; t < n; t++)
        out[t] = mmf_array_integer(&m->values, first + t);
    memset(out + n, 0, (size_t)(m->row - n) * sizeof *out);
}

static mmf_status fill_input(mmf_batch_input *in, const mmf_dataset *ds, size_t i,
                             const mmf_normalisation *normalisation, const int64_t *rows,
                             int64_t n_rows)
{
    const mmf_data_modality *const m = &ds->modalities[i];
    const bool plain = !normalisation || normalisation->n_features[i] == 0;
    const float *const mean = plain ? NULL : normalisation->mean[i];
    const float *const scale = plain ? NULL : normalisation->scale[i];
    for (int64_t b = 0; b < n_rows; b++) {
        if (in->tokens)
            fill_tokens(m, rows[b], in->tokens + b * m->row);
        else
            MMF_TRY(fill_values(ds, m, mean, scale, rows[b], in->values + b * m->row));
        if (in->length) {
            const int64_t n_steps = mmf_data_steps(m, rows[b]);
            in->length[b] = n_steps > 0 ? n_steps : 1;
        }
        if (in->present)
            in->present[b] = mmf_data_absent(m, rows[b]) ? 0.0f : 1.0f;
    }
    return mmf_data_fill_companions(in, ds, i, rows, n_rows);
}

static void fill_target(mmf_batch *batch, const mmf_dataset *ds, const int64_t *rows,
                        int64_t n_rows)
{
    const int64_t width = ds->n_classes;
    for (int64_t b = 0; b < n_rows; b++) {
        if (batch->target_classes)
            batch->target_classes[b] = mmf_array_integer(&ds->target, rows[b]);
        else if (batch->target_values)
            mmf_array_floats(&ds->target, rows[b] * width, width, batch->target_values + b * width);
    }
}

static mmf_status check_fit(const mmf_batch *batch, const mmf_dataset *ds,
                            const mmf_normalisation *normalisation)
{
    if (batch->n_modalities != ds->n_modalities)
        return mmf_fail(batch->ctx, MMF_STATE, "%s: a batch made for %zu modalities, not for %zu",
                        ds->path, batch->n_modalities, ds->n_modalities);
    if (!normalisation)
        return MMF_OK;
    if (normalisation->n_modalities != ds->n_modalities)
        return mmf_fail(batch->ctx, MMF_SHAPE,
                        "%s: normalisation of %zu modalities for data of %zu", ds->path,
                        normalisation->n_modalities, ds->n_modalities);
    for (size_t i = 0; i < ds->n_modalities; i++) {
        const int64_t n = normalisation->n_features[i];
        if (n != 0 && n != ds->modalities[i].n_features)
            return mmf_data_fail(ds, MMF_SHAPE, ds->modalities[i].view.name,
                                 "%lld features, but the normalisation was made for %lld",
                                 (long long)ds->modalities[i].n_features, (long long)n);
    }
    return MMF_OK;
}

mmf_status mmf_batch_fill(mmf_batch *batch, mmf_dataset *dataset,
                          const mmf_normalisation *normalisation, const int64_t *rows,
                          int64_t n_rows)
{
    batch->n_rows = 0;
    MMF_TRY(check_fit(batch, dataset, normalisation));
    if (n_rows < 0 || n_rows > batch->capacity)
        return mmf_fail(batch->ctx, MMF_ARG, "%lld rows for a batch of up to %lld",
                        (long long)n_rows, (long long)batch->capacity);
    for (int64_t b = 0; b < n_rows; b++) {
        if (rows[b] < 0 || rows[b] >= dataset->n_samples)
            return mmf_fail(batch->ctx, MMF_ARG, "%s: row %lld was asked for; there are %lld",
                            dataset->path, (long long)rows[b], (long long)dataset->n_samples);
    }
    for (size_t i = 0; i < dataset->n_modalities; i++) {
        if (!(batch->wanted >> i & 1))
            continue;
        MMF_TRY(fill_input(&batch->inputs[i], dataset, i, normalisation, rows, n_rows));
    }
    fill_target(batch, dataset, rows, n_rows);
    batch->n_rows = n_rows;
    return MMF_OK;
}
