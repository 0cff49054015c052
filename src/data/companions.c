/*
 * companions.c: numbers that belong to the steps of a modality: where a region is, which part of a
 * text a token is in. Rows, lengths and absence are the modality's own.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/dataset.h"

#define KEY_BYTES (512 + 16)
/* A table has as many rows as the largest says. */
#define MAX_SEGMENT 1023
#define MAX_WIDTH 65536

static const char *const names[MMF_N_COMPANIONS] = {
    [MMF_COMPANION_BOX] = "box",
    [MMF_COMPANION_SEGMENTS] = "segments",
    [MMF_COMPANION_TARGET] = "target",
};

const char *mmf_companion_name(mmf_companion companion)
{
    return names[companion];
}

bool mmf_companion_is_whole(mmf_companion companion)
{
    return companion == MMF_COMPANION_SEGMENTS;
}

/* ---- Opening ----------------------------------------------------------------------------- */

static bool has_steps(const mmf_data_modality *m)
{
    return m->view.kind == MMF_SEQUENCE || m->view.kind == MMF_TOKENS;
}

mmf_status mmf_data_read_step_companions(mmf_dataset *ds, mmf_data_modality *m)
{
    for (int c = 0; c < MMF_N_COMPANIONS && has_steps(m); c++) {
        char key[KEY_BYTES], shape[160];
        mmf_array *const a = &m->companions[c];
        MMF_TRY(mmf_data_load_companion(ds, m->view.name, names[c], a));
        if (!a->data)
            continue;
        snprintf(key, sizeof key, "%s.%s", m->view.name, names[c]);
        const bool whole = mmf_companion_is_whole((mmf_companion)c);
        const int n_dims = whole ? 2 : 3;
        if (a->dtype == MMF_STR || a->n_dims != n_dims || a->shape[0] != m->view.n_rows ||
            a->shape[1] != m->n_steps || (!whole && (a->shape[2] < 1 || a->shape[2] > MAX_WIDTH)))
            return mmf_data_fail(ds, MMF_FORMAT, key,
                                 "expected %s for the %lld steps of \"%s\", shape (%lld, "
                                 "%lld%s); found %s of shape %s",
                                 whole ? "a whole number" : "numbers", (long long)m->n_steps,
                                 m->view.name, (long long)m->view.n_rows, (long long)m->n_steps,
                                 whole ? "" : ", k", mmf_dtype_name(a->dtype),
                                 mmf_shape_text(shape, sizeof shape, a->shape, a->n_dims));
        m->view.companions[c] = whole ? 1 : a->shape[2];
    }
    return MMF_OK;
}

bool mmf_data_is_step_companion(const mmf_data_modality *m, const char *suffix)
{
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        if (strcmp(suffix, names[c]) == 0)
            return m ? m->view.companions[c] > 0 : true;
    }
    return false;
}

mmf_status mmf_data_check_step_companions(const mmf_dataset *ds, const mmf_data_modality *m,
                                          const int64_t *steps)
{
    const mmf_array *const a = &m->companions[MMF_COMPANION_SEGMENTS];
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", m->view.name, names[MMF_COMPANION_SEGMENTS]);
    for (int64_t r = 0; a->data && r < m->view.n_rows; r++) {
        for (int64_t t = 0; t < steps[r]; t++) {
            const double value = mmf_array_number(a, mmf_data_place(m, r, 1) + t);
            if (!(value >= 0 && value <= MAX_SEGMENT && value == floor(value)))
                return mmf_data_fail_row(ds, MMF_FORMAT, key, r,
                                         "step %lld holds %g; segments are whole numbers from 0 to "
                                         "%d",
                                         (long long)t, value, MAX_SEGMENT);
        }
    }
    return MMF_OK;
}

/* ---- Batches ----------------------------------------------------------------------------- */

mmf_status mmf_batch_want_companions(mmf_batch *batch, const mmf_dataset *ds, size_t modality,
                                     const int64_t widths[MMF_N_COMPANIONS])
{
    const mmf_data_modality *const m = &ds->modalities[modality];
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        float **const place = &batch->inputs[modality].companions[c];
        if (widths[c] == 0 || m->view.companions[c] != widths[c] || *place)
            continue;
        *place = mmf_batch__take(batch, m->n_steps * widths[c], sizeof **place);
        if (!*place)
            return MMF_NOMEM;
    }
    return MMF_OK;
}

static mmf_status fill_row(const mmf_dataset *ds, const mmf_data_modality *m, int companion,
                           int64_t sample, float *out)
{
    const int64_t width = m->view.companions[companion], n_steps = mmf_data_steps(m, sample);
    const int64_t n = n_steps * width, row = m->n_steps * width;
    if (n > 0)
        mmf_array_floats(&m->companions[companion],
                         mmf_data_place(m, mmf_data_stored_row(m, sample), width), n, out);
    memset(out + n, 0, (size_t)(row - n) * sizeof *out);
    const int64_t at = mmf_data_first_nonfinite(out, n);
    if (at < n && ds->nonfinite == MMF_NONFINITE_FAIL) {
        char key[KEY_BYTES];
        snprintf(key, sizeof key, "%s.%s", m->view.name, names[companion]);
        return mmf_data_fail_row(ds, MMF_NUMERIC, key, sample,
                                 "value %lld of the row is %g; --non-finite zero goes on with 0 "
                                 "in its place",
                                 (long long)at, (double)out[at]);
    }
    for (int64_t i = at; i < n; i++)
        out[i] = isfinite(out[i]) ? out[i] : 0;
    return MMF_OK;
}

mmf_status mmf_data_fill_companions(mmf_batch_input *in, const mmf_dataset *ds, size_t modality,
                                    const int64_t *rows, int64_t n_rows)
{
    const mmf_data_modality *const m = &ds->modalities[modality];
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        const int64_t row = m->n_steps * m->view.companions[c];
        for (int64_t b = 0; in->companions[c] && b < n_rows; b++)
            MMF_TRY(fill_row(ds, m, c, rows[b], in->companions[c] + b * row));
    }
    return MMF_OK;
}

void mmf_data_drop_companions(mmf_batch_input *in, const mmf_data_modality *m, int64_t b)
{
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        const int64_t row = m->n_steps * m->view.companions[c];
        if (in->companions[c])
            memset(in->companions[c] + b * row, 0, (size_t)row * sizeof(float));
    }
}
