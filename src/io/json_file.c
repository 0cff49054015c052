/* json_file.c: see json_file.h. */
#include "io/json_file.h"

#include "base/file.h"

mmf_status mmf_json_parse(mmf_ctx *ctx, json_t **out, const char *text, size_t n_bytes,
                          size_t max_values)
{
    *out = NULL;
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n += text[i] == ',' || text[i] == '[' || text[i] == '{';
    if (n > max_values)
        return mmf_fail(ctx, MMF_LIMIT, "the JSON has over %zu values", max_values);
    json_error_t error;
    json_t *const value = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!value)
        return mmf_fail(ctx, MMF_FORMAT, "not JSON: %s at byte %d", error.text, error.position);
    if (!json_is_object(value)) {
        json_decref(value);
        return mmf_fail(ctx, MMF_FORMAT, "JSON, but not an object");
    }
    *out = value;
    return MMF_OK;
}

mmf_status mmf_json_read(mmf_ctx *ctx, json_t **out, const char *path, size_t max_bytes,
                         size_t max_values)
{
    mmf_mapping file = {0};
    *out = NULL;
    MMF_TRY(mmf_map_open(ctx, &file, path));
    mmf_status status = MMF_OK;
    if (file.n_bytes > max_bytes)
        status = mmf_fail(ctx, MMF_LIMIT, "%s: %zu bytes of JSON; at most %zu are read", path,
                          file.n_bytes, max_bytes);
    if (status == MMF_OK) {
        status = mmf_json_parse(ctx, out, (const char *)file.bytes, file.n_bytes, max_values);
        if (status != MMF_OK)
            mmf_fail_within(ctx, status, "%s: ", path);
    }
    mmf_map_close(&file);
    return status;
}
