/* lacking.c: a modality of the model that a file does not have is there as one that every sample
 * lacks. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "io/archive.h"
#include "train/model_parts.h"

enum { KEY_BYTES = 600 };

/* Zeros under NAME or NAME.suffix. */
static mmf_status add_zeros(mmf_archive *archive, const char *name, const char *suffix,
                            mmf_array array)
{
    char key[KEY_BYTES];
    size_t bytes = 0;
    array.item_bytes = mmf_dtype_bytes(array.dtype);
    snprintf(key, sizeof key, "%s%s", name, suffix);
    MMF_TRY(mmf_array_measure(archive->ctx, &array, archive->options.max_bytes, &bytes));
    void *const data = mmf_alloc_zero(archive->ctx, bytes, 1);
    if (!data)
        return MMF_NOMEM;
    array.data = data;
    return mmf_archive_add_owned(archive, key, &array, data);
}

/* One stored row, which no sample has. */
static mmf_status add_absent(mmf_archive *archive, const mmf_input_schema *in, int64_t n_samples)
{
    mmf_array values = {.dtype = in->kind == MMF_TOKENS ? MMF_I64 : MMF_F32,
                        .n_dims = in->n_dims + 1,
                        .shape = {1}};
    memcpy(values.shape + 1, in->shape, (size_t)in->n_dims * sizeof *in->shape);
    MMF_TRY(add_zeros(archive, in->name, "", values));
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        char suffix[64];
        const bool whole = mmf_companion_is_whole((mmf_companion)c);
        const mmf_array steps = {.dtype = whole ? MMF_I64 : MMF_F32,
                                 .n_dims = whole ? 2 : 3,
                                 .shape = {1, in->shape[0], in->companions[c]}};
        snprintf(suffix, sizeof suffix, ".%s", mmf_companion_name((mmf_companion)c));
        if (in->companions[c] > 0)
            MMF_TRY(add_zeros(archive, in->name, suffix, steps));
    }
    const mmf_array column = {.dtype = MMF_U8, .n_dims = 1, .shape = {n_samples}};
    MMF_TRY(add_zeros(archive, in->name, ".index", column));
    return add_zeros(archive, in->name, ".present", column);
}

/* Samples of the file, by a modality that it has; 0: it has none of the model's. */
static int64_t count_samples(const mmf_archive *archive, const mmf_schema *inputs)
{
    for (size_t m = 0; m < inputs->count; m++) {
        char key[KEY_BYTES];
        snprintf(key, sizeof key, "%s.index", inputs->inputs[m].name);
        const int64_t values = mmf_archive_find(archive, inputs->inputs[m].name);
        const int64_t index = mmf_archive_find(archive, key);
        const mmf_array *const header =
            values < 0 ? NULL : mmf_archive_header(archive, (size_t)(index < 0 ? values : index));
        if (header && header->n_dims > 0)
            return header->shape[0];
    }
    return 0;
}

bool mmf_model__may_lack(const mmf_schema *inputs, const char *used, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t m = 0; m < inputs->count && n < size; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        const bool left_out = used && *used && !mmf_text_list_has(used, in->name);
        if (in->has_present || left_out)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "," : "", in->name);
    }
    return n < size;
}

mmf_status mmf_model__add_lacking(mmf_archive *archive, const mmf_schema *inputs,
                                  const char *may_lack)
{
    const int64_t n_samples = count_samples(archive, inputs);
    for (size_t m = 0; n_samples > 0 && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (mmf_archive_find(archive, in->name) < 0 && mmf_text_list_has(may_lack, in->name))
            MMF_TRY(add_absent(archive, in, n_samples));
    }
    return MMF_OK;
}
