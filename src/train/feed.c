/* feed.c: see feed.h. */
#include "train/feed.h"

#include <stdio.h>
#include <string.h>

static char *key(mmf_ctx *ctx, const char *name, const char *suffix)
{
    const size_t n = strlen(name) + strlen(suffix) + 1;
    char *const text = mmf_alloc(ctx, n);
    if (text)
        snprintf(text, n, "%s%s", name, suffix);
    return text;
}

mmf_status mmf_feed_create(mmf_ctx *ctx, mmf_feed *out, const mmf_schema *schema)
{
    *out = (mmf_feed){.ctx = ctx, .schema = schema};
    out->keys = mmf_alloc_zero(ctx, schema->count + 1, sizeof *out->keys);
    bool ok = out->keys != NULL;
    for (size_t m = 0; ok && m < schema->count; m++) {
        mmf_feed_key *const k = &out->keys[m];
        k->name = key(ctx, schema->inputs[m].name, "");
        k->length = key(ctx, schema->inputs[m].name, ".length");
        k->present = key(ctx, schema->inputs[m].name, ".present");
        ok = k->name && k->length && k->present;
        for (int c = 0; ok && c < MMF_N_COMPANIONS; c++) {
            char suffix[32];
            snprintf(suffix, sizeof suffix, ".%s", mmf_companion_name((mmf_companion)c));
            if (schema->inputs[m].companions[c] > 0)
                k->companions[c] = key(ctx, schema->inputs[m].name, suffix);
            ok = k->companions[c] || schema->inputs[m].companions[c] == 0;
        }
    }
    if (!ok)
        mmf_feed_clear(out);
    return ok ? MMF_OK : MMF_NOMEM;
}

void mmf_feed_clear(mmf_feed *feed)
{
    for (size_t m = 0; feed->keys && m < feed->schema->count; m++) {
        mmf_free(feed->ctx, feed->keys[m].name);
        mmf_free(feed->ctx, feed->keys[m].length);
        mmf_free(feed->ctx, feed->keys[m].present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            mmf_free(feed->ctx, feed->keys[m].companions[c]);
    }
    mmf_free(feed->ctx, feed->keys);
    feed->keys = NULL;
}

static mmf_tensor *values(mmf_tape *tape, const mmf_input_schema *in, const mmf_batch_input *given,
                          int64_t n_rows, bool used)
{
    int64_t shape[MMF_MAX_DIMS] = {n_rows};
    memcpy(shape + 1, in->shape, (size_t)in->n_dims * sizeof *shape);
    if (in->kind == MMF_TOKENS)
        return mmf_input_ints(tape, given->tokens, 1 + in->n_dims, shape);
    return used ? mmf_input(tape, given->values, 1 + in->n_dims, shape)
                : mmf_full(tape, 1 + in->n_dims, shape, 0);
}

/* Whole numbers become integers. What a batch does not bring, a target of pre-training in a
 * prediction, stays away. */
static void put_companions(mmf_tape *tape, const mmf_input_schema *in, const mmf_feed_key *keys,
                           const mmf_batch_input *given, int64_t n_rows, bool used,
                           mmf_named *named)
{
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        if (in->companions[c] == 0 || !given->companions[c])
            continue;
        const bool whole = mmf_companion_is_whole((mmf_companion)c);
        const int64_t shape[] = {n_rows, in->shape[0], in->companions[c]};
        mmf_tensor *const x = used ? mmf_input(tape, given->companions[c], whole ? 2 : 3, shape)
                                   : mmf_full(tape, whole ? 2 : 3, shape, 0);
        mmf_named_put(tape, named, keys->companions[c], whole ? mmf_whole_numbers(tape, x) : x);
    }
}

mmf_status mmf_feed_want(const mmf_feed *feed, mmf_batch *batch, const mmf_dataset *dataset,
                         const size_t *map)
{
    for (size_t m = 0; m < feed->schema->count; m++)
        MMF_TRY(mmf_batch_want_companions(batch, dataset, map ? map[m] : m,
                                          feed->schema->inputs[m].companions));
    return MMF_OK;
}

void mmf_feed_put(const mmf_feed *feed, mmf_tape *tape, const mmf_batch_input *inputs,
                  const size_t *map, int64_t n_rows, uint64_t use, mmf_named *named)
{
    for (size_t m = 0; m < feed->schema->count; m++) {
        const mmf_input_schema *const in = &feed->schema->inputs[m];
        const mmf_batch_input *const given = &inputs[map ? map[m] : m];
        const mmf_feed_key *const k = &feed->keys[m];
        const bool used = use >> m & 1;
        mmf_named_put(tape, named, k->name, values(tape, in, given, n_rows, used));
        put_companions(tape, in, k, given, n_rows, used, named);
        if (given->length)
            mmf_named_put(tape, named, k->length, mmf_input_ints(tape, given->length, 1, &n_rows));
        if (!used)
            mmf_named_put(tape, named, k->present, mmf_full(tape, 1, &n_rows, 0));
        else if (given->present)
            mmf_named_put(tape, named, k->present, mmf_input(tape, given->present, 1, &n_rows));
        else if (in->has_present) /* trained on data that lack it now and then */
            mmf_named_put(tape, named, k->present, mmf_full(tape, 1, &n_rows, 1));
    }
}

mmf_status mmf_schema_of(mmf_ctx *ctx, mmf_schema *out, const mmf_dataset *dataset,
                         const char *only)
{
    const size_t n = mmf_dataset_n_modalities(dataset);
    *out = (mmf_schema){0, mmf_alloc_zero(ctx, n + 1, sizeof *out->inputs)};
    if (!out->inputs)
        return MMF_NOMEM;
    for (size_t m = 0; m < n; m++) {
        const mmf_modality *const given = mmf_dataset_modality(dataset, m);
        if (only && strcmp(only, given->name) != 0)
            continue;
        mmf_input_schema *const in = &out->inputs[out->count++];
        *in = (mmf_input_schema){.name = given->name,
                                 .kind = given->kind,
                                 .n_dims = given->n_dims,
                                 .vocab_size = given->vocab_size,
                                 .has_length = given->has_length,
                                 .has_present = given->has_present};
        memcpy(in->shape, given->shape, sizeof in->shape);
        memcpy(in->companions, given->companions, sizeof in->companions);
    }
    return MMF_OK;
}
