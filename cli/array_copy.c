/* array_copy.c: see array_copy.h. */
#include "array_copy.h"

#define PIECE_BYTES ((size_t)8 << 20)

mmf_status cli_copy_array(const cli_session *session, mmf_npz_writer *writer, const char *name,
                          const mmf_array *array, out_progress *progress, double share)
{
    const size_t n_bytes = (size_t)mmf_array_count(array) * array->item_bytes;
    if (array->dtype == MMF_STR) /* as wide as its longest text, which a stream cannot know */
        return mmf_npz_add(writer, name, array);
    MMF_TRY(mmf_npz_begin(writer, name, array));
    for (size_t at = 0; at < n_bytes; at += PIECE_BYTES) {
        const size_t left = n_bytes - at;
        MMF_TRY(mmf_npz_append(writer, (const char *)array->data + at,
                               left < PIECE_BYTES ? left : PIECE_BYTES));
        if (mmf_ctx_cancelled(session->ctx))
            return mmf_fail(session->ctx, MMF_CANCELLED, "interrupted; nothing was written");
        out_progress_show(progress, share, "%s", name);
    }
    return mmf_npz_end(writer);
}

json_t *cli_array_json(const char *name, const mmf_array *array)
{
    char shape[128];
    json_t *const row = json_object();
    json_object_set_new(row, "name", out_json_text(name));
    json_object_set_new(row, "dtype", out_json_text(mmf_dtype_name(array->dtype)));
    mmf_shape_text(shape, sizeof shape, array->shape, array->n_dims);
    json_object_set_new(row, "shape", out_json_text(shape));
    return row;
}

void cli_print_arrays(const json_t *arrays)
{
    out_table table = out_table_make(3, "l");
    for (size_t i = 0; i < json_array_size(arrays); i++) {
        const json_t *const row = json_array_get(arrays, i);
        out_cell(&table, "%s", json_string_value(json_object_get(row, "name")));
        out_cell(&table, "%s", json_string_value(json_object_get(row, "dtype")));
        out_cell(&table, "%s", json_string_value(json_object_get(row, "shape")));
    }
    out_table_print(&table, stdout, 0);
}
