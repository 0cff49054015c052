/* prepare_features.c: see prepare_features.h. */
#include "train/prepare_features.h"

#include <string.h>

/* Rows of a pass: enough for the matrix products, few enough for memory and an interruption. */
#define ROWS 32
#define MAX_BATCH_BYTES ((size_t)1 << 30)

/* What the preparation makes of a row, as an encoder sees it. */
static mmf_status schema_of(const mmf_preparer *p, const char *name, mmf_input_schema *out)
{
    mmf_array vocab = {.data = NULL};
    *out = (mmf_input_schema){.name = name, .has_length = p->is_timed};
    if (p->is_timed && p->most_steps == 0)
        return mmf_fail(
            p->ctx, MMF_ARG,
            "a frozen encoder takes rows of one length; add steps=N to the preparation");
    int64_t *shape = out->shape;
    if (p->is_timed)
        *shape++ = p->most_steps;
    for (int d = 0; d < p->n_dims; d++)
        *shape++ = p->shape[d];
    out->n_dims = p->is_timed + p->n_dims;
    out->kind = !p->is_timed ? MMF_IMAGE : p->n_dims == 3 ? MMF_VIDEO : MMF_SEQUENCE;
    if (p->n_dims == 0) {
        out->kind = MMF_TOKENS;
        MMF_TRY(p->kind->vocab((mmf_preparer *)(uintptr_t)p, &vocab));
        out->vocab_size = vocab.shape[0];
    }
    return MMF_OK;
}

static mmf_status allocate(mmf_features *f, bool has_tokens)
{
    size_t n_bytes = 0;
    if (!mmf_mul_ok((size_t)f->row * ROWS, sizeof(int64_t), &n_bytes) || n_bytes > MAX_BATCH_BYTES)
        return mmf_fail(f->ctx, MMF_LIMIT, "%d rows of %lld elements take more than 1 GB", ROWS,
                        (long long)f->row);
    f->steps = mmf_alloc_zero(f->ctx, ROWS, sizeof *f->steps);
    if (has_tokens)
        f->batch.tokens = mmf_alloc_zero(f->ctx, (size_t)f->row * ROWS, sizeof *f->batch.tokens);
    else
        f->batch.values = mmf_alloc_zero(f->ctx, (size_t)f->row * ROWS, sizeof *f->batch.values);
    if (f->is_timed)
        f->batch.length = mmf_alloc_zero(f->ctx, ROWS, sizeof *f->batch.length);
    return f->steps && (f->batch.tokens || f->batch.values) && (!f->is_timed || f->batch.length)
               ? MMF_OK
               : MMF_NOMEM;
}

mmf_status mmf_features_open(mmf_ctx *ctx, mmf_features *out, const mmf_preparer *preparer,
                             const char *name, const char *spec, const char *source)
{
    mmf_input_schema schema;
    *out = (mmf_features){.ctx = ctx,
                          .dtype = preparer->dtype,
                          .step = mmf_preparer_step(preparer),
                          .n_steps = preparer->is_timed ? preparer->most_steps : 1,
                          .is_timed = preparer->is_timed};
    out->row = out->step * out->n_steps;
    MMF_TRY(schema_of(preparer, name, &schema));
    out->first = schema.shape[0];
    out->is_any_length = strcmp(spec, MMF_FROZEN_MODEL) != 0;
    MMF_TRY(allocate(out, schema.kind == MMF_TOKENS));
    return mmf_frozen_open(ctx, &out->frozen, spec, source, &schema);
}

void mmf_features_close(mmf_features *features)
{
    mmf_ctx *const ctx = features->ctx;
    if (!ctx)
        return;
    mmf_frozen_free(features->frozen);
    mmf_free(ctx, features->batch.values);
    mmf_free(ctx, features->batch.tokens);
    mmf_free(ctx, features->batch.length);
    mmf_free(ctx, features->steps);
    *features = (mmf_features){0};
}

static void put_row(mmf_features *f, int64_t n_steps, const void *data)
{
    const int64_t n = n_steps * f->step, first = f->n_there * f->row;
    const mmf_array array = {f->dtype, 1, {n}, mmf_dtype_bytes(f->dtype), data};
    if (f->batch.tokens) {
        memset(f->batch.tokens + first, 0, (size_t)f->row * sizeof *f->batch.tokens);
        for (int64_t i = 0; i < n; i++)
            f->batch.tokens[first + i] = mmf_array_integer(&array, i);
    } else {
        memset(f->batch.values + first, 0, (size_t)f->row * sizeof *f->batch.values);
        mmf_array_floats(&array, 0, n, f->batch.values + first);
    }
    if (f->batch.length)
        f->batch.length[f->n_there] = n_steps;
    f->n_there++;
}

mmf_status mmf_features_add(mmf_features *features, mmf_journal *journal, int64_t n_steps,
                            const void *data)
{
    const int64_t kept = n_steps < features->n_steps ? n_steps : features->n_steps;
    if (kept > 0)
        put_row(features, kept, data);
    features->steps[features->n_waiting++] = kept;
    return features->n_waiting == ROWS ? mmf_features_flush(features, journal) : MMF_OK;
}

/* Texts are mostly short: a pass is as long as its longest. @return its steps */
static int64_t pack_tokens(const mmf_features *f)
{
    int64_t longest = 1;
    for (int64_t b = 0; b < f->n_there; b++)
        longest = f->batch.length[b] > longest ? f->batch.length[b] : longest;
    for (int64_t b = 1; b < f->n_there; b++)
        memmove(f->batch.tokens + b * longest, f->batch.tokens + b * f->row,
                (size_t)longest * sizeof *f->batch.tokens);
    return longest;
}

mmf_status mmf_features_flush(mmf_features *f, mmf_journal *journal)
{
    const float *features = NULL;
    if (f->n_there > 0) {
        const int64_t first = f->batch.tokens && f->is_any_length ? pack_tokens(f) : f->first;
        MMF_TRY(mmf_frozen_run(f->frozen, &f->batch, f->n_there, first, &features));
    }
    for (int64_t i = 0; i < f->n_waiting; i++) {
        const bool is_there = f->steps[i] > 0;
        MMF_TRY(mmf_journal_add(journal, is_there ? 1 : f->steps[i], is_there ? features : NULL));
        features += is_there ? mmf_frozen_width(f->frozen) : 0;
    }
    f->n_waiting = f->n_there = 0;
    return MMF_OK;
}
