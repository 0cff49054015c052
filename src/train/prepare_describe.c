/* prepare_describe.c: what is in a manifest, before anything is decoded. POSIX (the state of
 * files). */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/preparation.h"

static const char *role_of(const mmf_manifest *m, size_t column)
{
    const char *const name = m->names[column];
    const mmf_raw_kind kind = mmf_manifest_kind(m, column);
    if (kind != MMF_RAW_NONE)
        return mmf_raw_kind_name(kind);
    if (mmf_manifest_is_reserved(name) && !strchr(name, '.'))
        return name;
    return mmf_manifest_has_text(m, column) ? mmf_raw_kind_name(MMF_RAW_TEXT) : "numbers";
}

static mmf_status count_files(const mmf_manifest *m, size_t column, json_t *row)
{
    mmf_raw_column plan = {.name = m->names[column],
                           .column = column,
                           .kind = mmf_preparation_default(mmf_manifest_kind(m, column))};
    mmf_status status = mmf_raw_column_plan(m, &plan);
    int64_t n_missing = 0;
    for (int64_t i = 0; status == MMF_OK && i < plan.n_stored; i++) {
        char *path = NULL;
        status = mmf_manifest_path(m, plan.first[i], column, &path);
        if (status == MMF_OK && access(path, R_OK) != 0 && n_missing++ == 0)
            json_object_set_new(row, "first_missing", json_string(path));
        mmf_free(m->ctx, path);
    }
    json_object_set_new(row, "files", json_integer(plan.n_stored));
    json_object_set_new(row, "missing", json_integer(n_missing));
    mmf_raw_column_clear(m->ctx, &plan);
    return status;
}

static mmf_status describe_column(const mmf_manifest *m, size_t column, json_t *columns)
{
    const mmf_preparation_kind *const kind = mmf_preparation_default(mmf_manifest_kind(m, column));
    int64_t n_empty = 0;
    for (int64_t i = 0; i < m->n_rows; i++)
        n_empty += mmf_manifest_at(m, i, column).n_bytes == 0;
    json_t *const row =
        json_pack("{s:s, s:s, s:s?, s:I}", "name", m->names[column], "role", role_of(m, column),
                  "preparation", kind ? kind->def.name : NULL, "empty", (json_int_t)n_empty);
    if (!row || json_array_append_new(columns, row) != 0)
        return mmf_fail(m->ctx, MMF_FORMAT, "%s: the name of column %zu is no UTF-8", m->path,
                        column + 1);
    return kind ? count_files(m, column, row) : MMF_OK;
}

mmf_status mmf_manifest_describe(mmf_ctx *ctx, char **out, const char *path)
{
    mmf_manifest m;
    *out = NULL;
    json_t *const columns = json_array();
    mmf_status status = mmf_manifest_open(ctx, &m, path);
    if (status == MMF_OK)
        mmf_manifest_warn_of_foreign(&m);
    for (size_t c = 0; status == MMF_OK && c < m.n_columns; c++) {
        status = mmf_manifest_check_mixed(&m, c);
        if (status == MMF_OK)
            status = describe_column(&m, c, columns);
    }
    json_t *const object =
        json_pack("{s:I, s:O}", "rows", (json_int_t)m.n_rows, "columns", columns);
    char *const text = status == MMF_OK ? json_dumps(object, JSON_COMPACT) : NULL;
    if (status == MMF_OK)
        *out = text ? mmf_strdup(ctx, text) : NULL;
    if (status == MMF_OK && !*out)
        status = MMF_NOMEM;
    free(text);
    json_decref(object);
    json_decref(columns);
    mmf_manifest_close(&m);
    return status;
}
