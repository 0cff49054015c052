/*
 * model_columns.c: what the features and tokens of the training data were called, in the model's
 * record, and files read by it.
 */
#include "train/model_columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/context.h"
#include "data/column_order.h"

static json_t *names_json(const mmf_array *names)
{
    json_t *const list = json_array();
    for (int64_t k = 0; k < names->shape[0]; k++) {
        size_t width = 0;
        const char *const name = mmf_array_string(names, k, &width);
        json_array_append_new(list, json_stringn(name, width));
    }
    return list;
}

static json_t *vocabulary_json(const mmf_array *vocab)
{
    char hash[24];
    snprintf(hash, sizeof hash, "%016" PRIx64, mmf_vocabulary_hash(vocab, vocab->shape[0]));
    return json_pack("{s:I, s:s}", "words", (json_int_t)vocab->shape[0], "hash", hash);
}

json_t *mmf_model__columns_json(const mmf_dataset *dataset)
{
    json_t *const object = json_object();
    for (size_t m = 0; m < mmf_dataset_n_modalities(dataset); m++) {
        const mmf_modality *const v = mmf_dataset_modality(dataset, m);
        if (v->names.n_dims == 1)
            json_object_set_new(object, v->name, names_json(&v->names));
        else if (v->vocab.n_dims == 1)
            json_object_set_new(object, v->name, vocabulary_json(&v->vocab));
    }
    return object;
}

static mmf_status order(mmf_ctx *ctx, mmf_dataset *dataset, size_t m, const json_t *list)
{
    const size_t n = json_array_size(list);
    const char **const names = mmf_alloc_zero(ctx, n + 1, sizeof *names);
    bool whole = true;
    if (!names)
        return MMF_NOMEM;
    for (size_t k = 0; k < n; k++) {
        names[k] = json_string_value(json_array_get(list, k));
        whole = whole && names[k];
    }
    const mmf_status status =
        whole ? mmf_dataset_order_columns(dataset, m, names, (int64_t)n) : MMF_OK;
    mmf_free(ctx, (void *)(uintptr_t)names);
    return status;
}

/* More words behind those of training are no other vocabulary. */
static mmf_status check_vocabulary(mmf_ctx *ctx, const mmf_dataset *dataset, const mmf_modality *v,
                                   const json_t *known)
{
    const int64_t n = (int64_t)json_integer_value(json_object_get(known, "words"));
    const char *const hash = json_string_value(json_object_get(known, "hash"));
    if (v->vocab.n_dims != 1 || !hash || n < 1)
        return MMF_OK;
    if (v->vocab.shape[0] >= n && mmf_vocabulary_hash(&v->vocab, n) == strtoull(hash, NULL, 16))
        return MMF_OK;
    return mmf_fail(
        ctx, MMF_ARG,
        "%s: %s.vocab is not that of training, whose %lld words have other numbers; number "
        "the tokens by the vocabulary that the model was trained with",
        mmf_dataset_path(dataset), v->name, (long long)n);
}

mmf_status mmf_model__check_columns(mmf_ctx *ctx, const mmf_model *model, mmf_dataset *dataset)
{
    const char *const text = mmf_model_record(model);
    json_t *const record = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *const columns = json_object_get(record, "columns");
    mmf_status status = MMF_OK;
    for (size_t m = 0; status == MMF_OK && m < mmf_model_inputs(model)->count; m++) {
        const mmf_modality *const v = mmf_dataset_modality(dataset, m);
        const json_t *const known = json_object_get(columns, v->name);
        status = json_is_array(known) ? order(ctx, dataset, m, known)
                                      : check_vocabulary(ctx, dataset, v, known);
    }
    json_decref(record);
    return status;
}
