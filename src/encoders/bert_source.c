/* bert_source.c: see bert_source.h. */
#include "encoders/bert_source.h"

#include <string.h>

#include "base/file.h"
#include "io/json_file.h"

#define MAX_CONFIG_BYTES ((size_t)16 << 20)
#define MAX_CONFIG_VALUES ((size_t)1 << 20)
enum { PATH_BYTES = 4096 };

/* A file of the folder; `*out` stays NULL where there is none. */
static mmf_status read_beside(mmf_ctx *ctx, json_t **out, const char *folder, const char *name)
{
    char path[PATH_BYTES];
    *out = NULL;
    MMF_TRY(mmf_path_join(ctx, path, sizeof path, folder, strlen(folder), name));
    if (!mmf_path_is_file(path))
        return MMF_OK;
    return mmf_json_read(ctx, out, path, MAX_CONFIG_BYTES, MAX_CONFIG_VALUES);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *const text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* ---- config.json ------------------------------------------------------------------------- */

static void add_value(mmf_text *spec, const char *name, const json_t *value)
{
    if (json_is_integer(value))
        mmf_text_add(spec, ":%s=%lld", name, (long long)json_integer_value(value));
    else if (json_is_real(value))
        mmf_text_add(spec, ":%s=%.12g", name, json_real_value(value));
    else if (json_is_boolean(value))
        mmf_text_add(spec, ":%s=%s", name, json_is_true(value) ? "true" : "false");
    else if (json_is_string(value))
        mmf_text_add(spec, ":%s=%s", name, json_string_value(value));
}

static mmf_status check_kind(mmf_ctx *ctx, const char *folder, const json_t *config)
{
    const char *const type = text_of(config, "model_type");
    const char *const positions = text_of(config, "position_embedding_type");
    if (*type && strcmp(type, "bert") != 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s/config.json: the network is a \"%.64s\"; expected a \"bert\"", folder,
                        type);
    if (*positions && strcmp(positions, "absolute") != 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s/config.json: positions are \"%.64s\"; only absolute ones are offered",
                        folder, positions);
    return MMF_OK;
}

/* The options carry Hugging Face's names. */
static mmf_status describe_sizes(mmf_ctx *ctx, const char *folder, const json_t *config,
                                 const mmf_def *def, mmf_text *spec)
{
    MMF_TRY(check_kind(ctx, folder, config));
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(def, row))) {
        const json_t *const value = json_object_get(config, row->name);
        const char *const text = json_string_value(value);
        if (text && strpbrk(text, ":=,"))
            return mmf_fail(ctx, MMF_FORMAT, "%s/config.json: %s is \"%.64s\"", folder, row->name,
                            text);
        if (value && !mmf_option_is_common(row))
            add_value(spec, row->name, value);
    }
    return MMF_OK;
}

/* ---- modules.json ------------------------------------------------------------------------ */

static mmf_status describe_pooling(mmf_ctx *ctx, const char *folder, const json_t *pooling,
                                   mmf_text *spec)
{
    static const struct {
        const char *key, *name;
    } modes[] = {
        {"pooling_mode_cls_token", "cls"},          {"pooling_mode_mean_tokens", "mean"},
        {"pooling_mode_max_tokens", "max"},         {"pooling_mode_mean_sqrt_len_tokens", NULL},
        {"pooling_mode_weightedmean_tokens", NULL}, {"pooling_mode_lasttoken", NULL}};
    const char *chosen = NULL;
    int n = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (json_is_true(json_object_get(pooling, modes[i].key))) {
            chosen = modes[i].name;
            n++;
        }
    }
    const char *const named = text_of(pooling, "pooling_mode");
    for (size_t i = 0; *named && i < 3; i++) {
        if (strcmp(named, modes[i].name) == 0) {
            chosen = modes[i].name;
            n++;
        }
    }
    if (n != 1 || !chosen)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: its pooling is not one of cls, mean and max alone", folder);
    mmf_text_add(spec, ":pooling=%s", chosen);
    return MMF_OK;
}

static mmf_status describe_module(mmf_ctx *ctx, const char *folder, const json_t *module,
                                  mmf_text *spec)
{
    const char *const type = text_of(module, "type"), *const dot = strrchr(type, '.');
    const char *const name = dot ? dot + 1 : type, *const path = text_of(module, "path");
    if (strcmp(name, "Transformer") == 0 && !*path)
        return MMF_OK;
    if (strcmp(name, "Normalize") == 0) {
        mmf_text_add(spec, ":normalize=true");
        return MMF_OK;
    }
    if (strcmp(name, "Pooling") != 0 || strchr(path, '/') || *path == '.')
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s/modules.json: a module \"%.64s\" in \"%.64s\"; Transformer in the "
                        "folder itself, Pooling and Normalize are offered",
                        folder, type, path);
    char inside[PATH_BYTES];
    json_t *pooling = NULL;
    MMF_TRY(mmf_path_join(ctx, inside, sizeof inside, folder, strlen(folder), path));
    MMF_TRY(read_beside(ctx, &pooling, inside, "config.json"));
    const mmf_status status = describe_pooling(ctx, inside, pooling, spec);
    json_decref(pooling);
    return status;
}

static mmf_status describe_modules(mmf_ctx *ctx, const char *folder, mmf_text *spec)
{
    char path[PATH_BYTES];
    mmf_mapping file = {0};
    MMF_TRY(mmf_path_join(ctx, path, sizeof path, folder, strlen(folder), "modules.json"));
    if (!mmf_path_is_file(path))
        return MMF_OK;
    MMF_TRY(mmf_map_open(ctx, &file, path));
    /* A list, where all other files are objects. */
    json_error_t error;
    json_t *const list = file.bytes && file.n_bytes <= MAX_CONFIG_VALUES
                             ? json_loadb((const char *)file.bytes, file.n_bytes, 0, &error)
                             : NULL;
    mmf_map_close(&file);
    mmf_status status = json_is_array(list)
                            ? MMF_OK
                            : mmf_fail(ctx, MMF_FORMAT, "%s: not a JSON list of modules", path);
    for (size_t i = 0; status == MMF_OK && i < json_array_size(list); i++)
        status = describe_module(ctx, folder, json_array_get(list, i), spec);
    json_decref(list);
    return status;
}

mmf_status mmf_bert_describe(mmf_ctx *ctx, const char *path, const mmf_def *def, mmf_text *spec)
{
    char folder[PATH_BYTES];
    json_t *config = NULL;
    if (mmf_path_is_folder(path))
        MMF_TRY(mmf_path_join(ctx, folder, sizeof folder, "", 0, path));
    else
        MMF_TRY(mmf_path_beside(ctx, folder, sizeof folder, path, "."));
    MMF_TRY(read_beside(ctx, &config, folder, "config.json"));
    mmf_status status = config ? describe_sizes(ctx, folder, config, def, spec) : MMF_OK;
    json_decref(config);
    if (status == MMF_OK)
        status = describe_modules(ctx, folder, spec);
    return status == MMF_OK ? spec->status : status;
}
