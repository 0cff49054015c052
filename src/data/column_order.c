/* column_order.c: see column_order.h. */
#include "data/column_order.h"

#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "data/dataset.h"

/* The place of a name among the file's own, -1: it is none of them. */
static int64_t place_of(const mmf_array *own, const char *name)
{
    for (int64_t k = 0; k < own->shape[0]; k++) {
        if (mmf_text_is_cell(name, own, k))
            return k;
    }
    return -1;
}

static mmf_status find_places(mmf_dataset *ds, const mmf_modality *v, const char *const *names,
                              int64_t n, int64_t *places, bool *same)
{
    for (int64_t k = 0; k < n; k++) {
        /* Of equal names each stays where it is. */
        const bool stays = mmf_text_is_cell(names[k], &v->names, k);
        size_t width = 0;
        const char *const own = mmf_array_string(&v->names, k, &width);
        places[k] = stays ? k : place_of(&v->names, names[k]);
        *same = *same && places[k] == k;
        if (places[k] < 0)
            return mmf_data_fail(
                ds, MMF_ARG, v->name,
                "there is no column \"%s\", which the model was trained on; in its "
                "place is \"%.*s\"",
                names[k], (int)width, own);
    }
    return MMF_OK;
}

static mmf_status reorder(mmf_dataset *ds, mmf_data_modality *m, const int64_t *places, int64_t n)
{
    const size_t item = m->values.item_bytes;
    const int64_t count = mmf_array_count(&m->values);
    const char *const from = m->values.data;
    char *const to = mmf_alloc_zero(ds->ctx, (size_t)count + 1, item);
    if (!to)
        return MMF_NOMEM;
    for (int64_t at = 0; at < count; at += n) {
        for (int64_t k = 0; k < n; k++)
            memcpy(to + (size_t)(at + k) * item, from + (size_t)(at + places[k]) * item, item);
    }
    m->ordered_values = to;
    m->values.data = to;
    m->view.names = (mmf_array){.data = NULL}; /* they are the model's now */
    return MMF_OK;
}

mmf_status mmf_dataset_order_columns(mmf_dataset *ds, size_t modality, const char *const *names,
                                     int64_t n)
{
    mmf_data_modality *const m = &ds->modalities[modality];
    const mmf_modality *const v = &m->view;
    bool same = true;
    if (v->names.n_dims != 1 || v->names.shape[0] != n || n != m->n_features)
        return MMF_OK;
    int64_t *const places = mmf_alloc_zero(ds->ctx, (size_t)n + 1, sizeof *places);
    if (!places)
        return MMF_NOMEM;
    mmf_status status = find_places(ds, v, names, n, places, &same);
    if (status == MMF_OK && !same && v->kind != MMF_VECTOR && v->kind != MMF_SEQUENCE)
        status = mmf_data_fail(ds, MMF_ARG, v->name,
                               "its channels are named in another order than those that the model "
                               "was trained on; bring them into that order");
    else if (status == MMF_OK && !same)
        status = reorder(ds, m, places, n);
    mmf_free(ds->ctx, places);
    return status;
}

uint64_t mmf_vocabulary_hash(const mmf_array *vocab, int64_t n)
{
    uint64_t hash = 0;
    for (int64_t k = 0; k < n; k++) {
        size_t width = 0;
        const char *const word = mmf_array_string(vocab, k, &width);
        /* With its width: "ab", "c" is not "a", "bc". */
        hash = mmf_hash(mmf_hash_number(hash, (int64_t)width), word, width);
    }
    return hash;
}
