/* info_manifest.c: what is in a table of texts and file names. */
#include <jansson.h>
#include <string.h>

#include "info.h"
#include "output.h"

static void print_columns(const json_t *columns)
{
    out_table table = out_table_make(6, "lllrrr");
    static const char *const head[] = {"column", "holds",     "prepared as",
                                       "files",  "not there", "empty cells"};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        out_cell(&table, "%s", head[i]);
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const json_t *const row = json_array_get(columns, i);
        const char *const preparation = json_string_value(json_object_get(row, "preparation"));
        out_cell(&table, "%s", json_string_value(json_object_get(row, "name")));
        out_cell(&table, "%s", json_string_value(json_object_get(row, "role")));
        out_cell(&table, "%s", preparation ? preparation : "");
        const char *const counts[] = {"files", "missing", "empty"};
        for (size_t k = 0; k < 3; k++) {
            const json_t *const count = json_object_get(row, counts[k]);
            if (count)
                out_cell(&table, "%lld", (long long)json_integer_value(count));
            else
                out_cell(&table, "%s", "");
        }
    }
    out_table_print(&table, stdout, 0);
}

static void print_text(const char *path, const json_t *object)
{
    const json_t *const columns = json_object_get(object, "columns");
    bool has_text = false;
    printf("%s: a table of raw files, %lld rows\n\n", path,
           (long long)json_integer_value(json_object_get(object, "rows")));
    print_columns(columns);
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const json_t *const row = json_array_get(columns, i);
        const char *const missing = json_string_value(json_object_get(row, "first_missing"));
        const char *const role = json_string_value(json_object_get(row, "role"));
        if (missing)
            printf("\nnot there: %s%s\n", missing,
                   json_integer_value(json_object_get(row, "missing")) > 1 ? " and others" : "");
        has_text = has_text || (role && strcmp(role, "text") == 0);
    }
    printf("\nTry: mmfuse compare %s%s --seeds 3\n", path,
           has_text ? " --text wordpiece=VOCABULARY" : "");
}

int cli_info_manifest(const cli_session *session, const char *path, bool as_json)
{
    char *text = NULL;
    const mmf_status status = mmf_manifest_describe(session->ctx, &text, path);
    if (status != MMF_OK)
        return cli_failed(session, status);
    json_t *const object = json_loads(text, 0, NULL);
    mmf_free(session->ctx, text);
    if (as_json) {
        json_object_set_new(object, "manifest", out_json_text(path));
        out_json_print(object);
        return CLI_OK;
    }
    print_text(path, object);
    json_decref(object);
    return CLI_OK;
}
