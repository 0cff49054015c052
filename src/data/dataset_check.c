/*
 * dataset_check.c: checks every number of a file that later code relies on without looking again:
 * counts, lengths, presence, row indices, token numbers, the split, and finite values where asked.
 */
#include "data/dataset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_BYTES (512 + 16)

static const char *companion_key(char out[KEY_BYTES], const mmf_data_modality *m,
                                 const char *suffix)
{
    snprintf(out, KEY_BYTES, "%s.%s", m->view.name, suffix);
    return out;
}

/* ---- Counts -------------------------------------------------------------------------------- */

static mmf_status set_count(mmf_dataset *ds)
{
    const struct {
        const char *key;
        const mmf_array *array;
    } sources[] = {
        {ds->target_name, &ds->target},
        {"split", &ds->split},
        {"group", &ds->group},
        {"id", &ds->id},
    };
    for (size_t i = 0; i < sizeof sources / sizeof sources[0] && !ds->count_key; i++) {
        if (sources[i].array->data && sources[i].array->n_dims > 0) {
            ds->count_key = sources[i].key;
            ds->n_samples = sources[i].array->shape[0];
        }
    }
    for (size_t i = 0; i < ds->n_modalities && !ds->count_key; i++) {
        const mmf_data_modality *const m = &ds->modalities[i];
        const bool shared = m->view.has_index && m->index.n_dims > 0;
        ds->count_key = m->view.name;
        ds->n_samples = shared ? m->index.shape[0] : m->values.shape[0];
    }
    if (ds->n_samples < 1)
        return mmf_data_fail(ds, MMF_FORMAT, ds->count_key, "no rows");
    return MMF_OK;
}

static mmf_status check_count(const mmf_dataset *ds, const char *key, int64_t n, const char *hint)
{
    if (n == ds->n_samples)
        return MMF_OK;
    return mmf_data_fail(ds, MMF_FORMAT, key,
                         "%lld rows, but \"%s\" has %lld; all arrays of a file describe the same "
                         "samples%s",
                         (long long)n, ds->count_key, (long long)ds->n_samples, hint);
}

/* One value a sample: (N) or (N, 1). */
static mmf_status check_column(const mmf_dataset *ds, const char *key, const mmf_array *a,
                               bool text_allowed)
{
    char shape[160];
    if (a->n_dims < 1 || mmf_array_row(a) != 1)
        return mmf_data_fail(
            ds, MMF_FORMAT, key, "expected one value a sample, shape (%lld); found %s",
            (long long)ds->n_samples, mmf_shape_text(shape, sizeof shape, a->shape, a->n_dims));
    if (a->dtype == MMF_STR && !text_allowed)
        return mmf_data_fail(ds, MMF_FORMAT, key, "expected numbers, found text");
    return check_count(ds, key, a->shape[0], "");
}

/* The whole number at `row`, which must lie in [low, high]. */
static mmf_status check_whole(const mmf_dataset *ds, const char *key, const mmf_array *a,
                              int64_t row, int64_t low, int64_t high, const char *expected)
{
    const double value = mmf_array_number(a, row);
    if (value >= (double)low && value <= (double)high && value == floor(value))
        return MMF_OK;
    return mmf_data_fail_row(ds, MMF_FORMAT, key, row, "expected %s in [%lld, %lld], found %g",
                             expected, (long long)low, (long long)high, value);
}

/* ---- Companions of a modality -------------------------------------------------------------- */

static mmf_status check_strings(const mmf_dataset *ds, const mmf_data_modality *m,
                                const char *suffix, const mmf_array *a, int64_t wanted)
{
    char key[KEY_BYTES], shape[160];
    companion_key(key, m, suffix);
    if (a->dtype != MMF_STR || a->n_dims != 1)
        return mmf_data_fail(ds, MMF_FORMAT, key, "expected a list of texts, found %s of shape %s",
                             mmf_dtype_name(a->dtype),
                             mmf_shape_text(shape, sizeof shape, a->shape, a->n_dims));
    if (wanted > 0 && a->shape[0] != wanted)
        return mmf_data_fail(ds, MMF_FORMAT, key, "%lld names for %lld features of \"%s\"",
                             (long long)a->shape[0], (long long)wanted, m->view.name);
    return MMF_OK;
}

static mmf_status check_companions(mmf_dataset *ds, mmf_data_modality *m)
{
    char key[KEY_BYTES];
    mmf_modality *const v = &m->view;
    if (v->has_index)
        MMF_TRY(check_column(ds, companion_key(key, m, "index"), &m->index, false));
    else
        MMF_TRY(check_count(ds, v->name, v->n_rows,
                            "; add NAME.index where rows are shared, or leave this array out with "
                            "--modalities"));
    if (v->has_present) {
        MMF_TRY(check_column(ds, companion_key(key, m, "present"), &m->present, false));
        for (int64_t i = 0; i < ds->n_samples; i++)
            MMF_TRY(check_whole(ds, key, &m->present, i, 0, 1, "absent (0) or present (1)"));
    }
    if (v->has_length) {
        MMF_TRY(check_column(ds, companion_key(key, m, "length"), &m->length, false));
        for (int64_t i = 0; i < ds->n_samples; i++)
            MMF_TRY(check_whole(ds, key, &m->length, i, 0, m->n_steps, "a number of steps"));
    }
    if (v->kind != MMF_TOKENS)
        v->vocab = (mmf_array){.data = NULL};
    if (v->vocab.data)
        MMF_TRY(check_strings(ds, m, "vocab", &v->vocab, 0));
    if (v->names.data)
        MMF_TRY(check_strings(ds, m, "names", &v->names, m->n_features));
    return MMF_OK;
}

static mmf_status mark_absent(mmf_dataset *ds, mmf_data_modality *m, int64_t row)
{
    if (!m->absent)
        m->absent = mmf_alloc_zero(ds->ctx, (size_t)ds->n_samples, 1);
    if (!m->absent)
        return MMF_NOMEM;
    m->view.n_absent += m->absent[row] == 0;
    m->absent[row] = 1;
    m->view.has_present = true;
    return MMF_OK;
}

static mmf_status find_absent(mmf_dataset *ds, mmf_data_modality *m)
{
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const bool gone =
            m->view.has_present && m->present.data && mmf_array_number(&m->present, i) == 0;
        if (gone || (m->view.has_length && mmf_array_number(&m->length, i) == 0))
            MMF_TRY(mark_absent(ds, m, i));
    }
    return MMF_OK;
}

static mmf_status check_index(const mmf_dataset *ds, const mmf_data_modality *m)
{
    char key[KEY_BYTES];
    companion_key(key, m, "index");
    for (int64_t i = 0; i < ds->n_samples; i++) {
        if (!mmf_data_absent(m, i))
            MMF_TRY(check_whole(ds, key, &m->index, i, 0, m->view.n_rows - 1, "a stored row"));
    }
    return MMF_OK;
}

/* ---- Values -------------------------------------------------------------------------------- */

int64_t mmf_data_first_nonfinite(const float *values, int64_t n)
{
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++) { /* a loop without exits, which the compiler vectorizes */
        uint32_t bits = 0;
        memcpy(&bits, values + i, sizeof bits);
        any |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (!any)
        return n;
    int64_t i = 0;
    while (isfinite(values[i]))
        i++;
    return i;
}

/*
 * Calls for the valid part of each stored row once: `steps` receives the longest use of row r by
 * any sample, so rows that many samples share are read once.
 */
static mmf_status stored_steps(mmf_dataset *ds, const mmf_data_modality *m, int64_t **out)
{
    int64_t *const steps = mmf_alloc_zero(ds->ctx, (size_t)m->view.n_rows, sizeof *steps);
    *out = steps;
    if (!steps)
        return MMF_NOMEM;
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const int64_t n = mmf_data_steps(m, i);
        if (n == 0)
            continue;
        int64_t *const longest = &steps[mmf_data_stored_row(m, i)];
        *longest = n > *longest ? n : *longest;
    }
    return MMF_OK;
}

/* First sample that reads stored row `stored` as far as step `step`. */
static int64_t sample_of(const mmf_dataset *ds, const mmf_data_modality *m, int64_t stored,
                         int64_t step)
{
    for (int64_t i = 0; i < ds->n_samples; i++) {
        if (mmf_data_steps(m, i) > step && mmf_data_stored_row(m, i) == stored)
            return i;
    }
    return stored;
}

static mmf_status check_tokens(mmf_dataset *ds, mmf_data_modality *m, const int64_t *steps)
{
    int64_t largest = -1;
    for (int64_t r = 0; r < m->view.n_rows; r++) {
        for (int64_t t = 0; t < steps[r]; t++) {
            const int64_t token = mmf_array_integer(&m->values, mmf_data_place(m, r, 1) + t);
            if (token < 0 || token > MMF_MAX_TOKEN)
                return mmf_data_fail_row(ds, MMF_FORMAT, m->view.name, sample_of(ds, m, r, t),
                                         "step %lld holds token %lld; tokens are numbered from 0 "
                                         "to at most %d",
                                         (long long)t, (long long)token, MMF_MAX_TOKEN);
            largest = token > largest ? token : largest;
        }
    }
    const int64_t n_words = m->view.vocab.data ? m->view.vocab.shape[0] : 0;
    if (n_words > MMF_MAX_TOKEN + 1)
        return mmf_data_fail(ds, MMF_LIMIT, m->view.name, "a vocabulary of %lld; at most %d",
                             (long long)n_words, MMF_MAX_TOKEN + 1);
    m->view.vocab_size = largest + 1 > n_words ? largest + 1 : n_words;
    if (m->view.vocab_size < 1)
        m->view.vocab_size = 1; /* absent everywhere: an embedding still needs a row */
    return MMF_OK;
}

static int64_t count_nonfinite(const mmf_data_modality *m, const int64_t *steps, float *row)
{
    int64_t n_bad = 0;
    for (int64_t r = 0; r < m->view.n_rows; r++) {
        const int64_t n = steps[r] * m->step;
        mmf_array_floats(&m->values, mmf_data_place(m, r, m->step), n, row);
        for (int64_t i = mmf_data_first_nonfinite(row, n); i < n; i++)
            n_bad += !isfinite(row[i]);
    }
    return n_bad;
}

/* Goes through the samples in order, now that some value is known to be bad. */
static mmf_status treat_nonfinite(mmf_dataset *ds, mmf_data_modality *m, float *row)
{
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const int64_t n = mmf_data_steps(m, i) * m->step;
        if (n == 0)
            continue;
        mmf_array_floats(&m->values, mmf_data_place(m, mmf_data_stored_row(m, i), m->step), n, row);
        const int64_t at = mmf_data_first_nonfinite(row, n);
        if (at == n)
            continue;
        if (ds->nonfinite == MMF_NONFINITE_FAIL)
            return mmf_data_fail_row(ds, MMF_NUMERIC, m->view.name, i,
                                     "value %lld of the row is %g (%lld such values in this "
                                     "array); --non-finite zero or absent goes on without them",
                                     (long long)at, (double)row[at],
                                     (long long)m->view.n_nonfinite);
        MMF_TRY(mark_absent(ds, m, i));
    }
    return MMF_OK;
}

static mmf_status check_finite(mmf_dataset *ds, mmf_data_modality *m, const int64_t *steps)
{
    float *const row = mmf_alloc_zero(ds->ctx, (size_t)m->row, sizeof *row);
    if (!row)
        return MMF_NOMEM;
    m->view.n_nonfinite = count_nonfinite(m, steps, row);
    mmf_status status = MMF_OK;
    if (m->view.n_nonfinite > 0 && ds->nonfinite != MMF_NONFINITE_ZERO)
        status = treat_nonfinite(ds, m, row);
    mmf_free(ds->ctx, row);
    return status;
}

static mmf_status check_values(mmf_dataset *ds, mmf_data_modality *m, bool finite)
{
    const bool tokens = m->view.kind == MMF_TOKENS;
    const bool scan =
        mmf_dtype_is_float(m->view.dtype) && (finite || ds->nonfinite == MMF_NONFINITE_ABSENT);
    m->view.n_nonfinite = mmf_dtype_is_float(m->view.dtype) ? -1 : 0;
    if (!tokens && !scan && !m->companions[MMF_COMPANION_SEGMENTS].data)
        return MMF_OK;
    int64_t *steps = NULL;
    mmf_status status = stored_steps(ds, m, &steps);
    if (status == MMF_OK)
        status = mmf_data_check_step_companions(ds, m, steps);
    if (status == MMF_OK && (tokens || scan))
        status = tokens ? check_tokens(ds, m, steps) : check_finite(ds, m, steps);
    mmf_free(ds->ctx, steps);
    return status;
}

/* ---- The whole file ------------------------------------------------------------------------ */

static mmf_status check_rows(mmf_dataset *ds)
{
    if (ds->split.data) {
        MMF_TRY(check_column(ds, "split", &ds->split, false));
        for (int64_t i = 0; i < ds->n_samples; i++)
            MMF_TRY(
                check_whole(ds, "split", &ds->split, i, 0, 2, "0 (train), 1 (valid) or 2 (test)"));
    }
    if (ds->group.data) {
        MMF_TRY(check_column(ds, "group", &ds->group, true));
        for (int64_t i = 0; i < ds->n_samples && mmf_dtype_is_float(ds->group.dtype); i++) {
            const double value = mmf_array_number(&ds->group, i);
            if (!isfinite(value))
                return mmf_data_fail_row(ds, MMF_FORMAT, "group", i, "%g is no group", value);
        }
    }
    if (!ds->id.data)
        return MMF_OK;
    MMF_TRY(check_column(ds, "id", &ds->id, true));
    return mmf_data_warn_of_twins(ds);
}

static bool is_usable_column(const mmf_dataset *ds, const mmf_array *a)
{
    return a->data && a->dtype != MMF_STR && a->n_dims > 0 && a->shape[0] == ds->n_samples &&
           mmf_array_row(a) == 1;
}

/* Modalities that were not chosen are not checked, so only sound companions of theirs count. */
static void keep_usable_shares(mmf_dataset *ds)
{
    size_t n = 0;
    for (size_t i = 0; i < ds->n_shares; i++) {
        mmf_data_share share = ds->shares[i];
        if (!is_usable_column(ds, &share.present))
            share.present = (mmf_array){.data = NULL};
        if (is_usable_column(ds, &share.index))
            ds->shares[n++] = share;
    }
    ds->n_shares = n;
}

mmf_status mmf_data_check(mmf_dataset *ds, const mmf_dataset_options *options)
{
    MMF_TRY(set_count(ds));
    MMF_TRY(check_rows(ds));
    for (size_t i = 0; i < ds->n_modalities; i++) {
        mmf_data_modality *const m = &ds->modalities[i];
        MMF_TRY(check_companions(ds, m));
        MMF_TRY(find_absent(ds, m));
        if (m->view.has_index)
            MMF_TRY(check_index(ds, m));
        MMF_TRY(check_values(ds, m, options->check_finite));
    }
    keep_usable_shares(ds);
    return MMF_OK;
}
