/* preparation.c: the table of preparations, their specifications, and one in use. */
#include "train/preparation.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "train/frozen.h"

#define NAME_BYTES 64
#define VALUE_BYTES 512

#define MMF_PREPARATION(file, name) extern const mmf_preparation_kind mmf_preparation_##name;
#include "train/preparations.def"
#undef MMF_PREPARATION

static const mmf_preparation_kind *const kinds[] = {
#define MMF_PREPARATION(file, name) &mmf_preparation_##name,
#include "train/preparations.def"
#undef MMF_PREPARATION
};

static const mmf_def *const definitions[] = {
#define MMF_PREPARATION(file, name) &mmf_preparation_##name.def,
#include "train/preparations.def"
#undef MMF_PREPARATION
};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

const mmf_def *const *mmf_preparations(size_t *count)
{
    *count = N_KINDS;
    return definitions;
}

const mmf_preparation_kind *const *mmf_preparation_table(size_t *count)
{
    *count = N_KINDS;
    return kinds;
}

const mmf_preparation_kind *mmf_preparation_find(const char *name)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i]->def.name, name) == 0)
            return kinds[i];
    }
    return NULL;
}

mmf_raw_kind mmf_preparation_reads(const char *name)
{
    const mmf_preparation_kind *const kind = mmf_preparation_find(name);
    return kind ? kind->reads : MMF_RAW_NONE;
}

const mmf_preparation_kind *mmf_preparation_default(mmf_raw_kind kind)
{
    static const char *const names[] = {[MMF_RAW_NONE] = "",
                                        [MMF_RAW_TEXT] = "",
                                        [MMF_RAW_IMAGE] = "image",
                                        [MMF_RAW_AUDIO] = "logmel",
                                        [MMF_RAW_VIDEO] = "frames"};
    return mmf_preparation_find(names[kind]);
}

/* ---- Specifications ---------------------------------------------------------------------- */

static mmf_status unknown(mmf_ctx *ctx, const char *name)
{
    const char *names[N_KINDS];
    mmf_text all = {.ctx = ctx};
    for (size_t i = 0; i < N_KINDS; i++) {
        names[i] = definitions[i]->name;
        mmf_text_add(&all, "%s%s", i ? ", " : "", names[i]);
    }
    const char *const nearest = mmf_text_nearest(name, names, N_KINDS);
    mmf_status status = all.status;
    if (status == MMF_OK)
        status = mmf_fail(ctx, MMF_ARG,
                          "preparation \"%s\" is unknown; %s%s%sthere are %s; and encoders "
                          "with weights, as in bert=FOLDER",
                          name, nearest ? "did you mean \"" : "", nearest ? nearest : "",
                          nearest ? "\"? " : "", all.data);
    mmf_text_clear(&all);
    return status;
}

/* Sets the option that `at` begins with; `*end` receives where its value ends, at ':', '=' or the
 * end. */
static mmf_status set_option(mmf_ctx *ctx, mmf_config *config, const char *at, const char **end)
{
    char name[NAME_BYTES], value[VALUE_BYTES];
    const char *const preparation = mmf_config_def(config)->name;
    const size_t n_name = strcspn(at, ":=");
    const size_t n_value = at[n_name] == '=' ? strcspn(at + n_name + 1, ":=") : 0;
    if (n_name == 0 || n_name >= sizeof name || n_value == 0 || n_value >= sizeof value)
        return mmf_fail(ctx, MMF_ARG,
                        "preparation %s: \"%.80s\": expected OPTION=VALUE; `mmfuse info %s` lists "
                        "the options",
                        preparation, at, preparation);
    snprintf(name, sizeof name, "%.*s", (int)n_name, at);
    snprintf(value, sizeof value, "%.*s", (int)n_value, at + n_name + 1);
    *end = at + n_name + 1 + n_value;
    const mmf_status status = mmf_config_set(config, name, value);
    return status == MMF_OK ? status
                            : mmf_fail_within(ctx, status, "preparation %s: ", preparation);
}

/* Steps over the options; what follows is "" or "=SOURCE". */
static const char *skip_options(const char *at)
{
    while (*at == ':') {
        at += 1 + strcspn(at + 1, ":=");
        if (*at == '=')
            at += 1 + strcspn(at + 1, ":=");
    }
    return at;
}

/* An absolute path: a model is used from other folders than it was trained in. */
static mmf_status find_source(mmf_ctx *ctx, const char *source, char **out)
{
    char *const path = realpath(source, NULL);
    if (!path)
        return mmf_fail(ctx, MMF_IO, "%s: cannot read: %s", source, strerror(errno));
    *out = mmf_strdup(ctx, path);
    free(path);
    return *out ? MMF_OK : MMF_NOMEM;
}

/* Options are those of the preparation where it has one of the name, else the encoder's. */
static mmf_status parse_frozen(mmf_ctx *ctx, const char *name, const char *options,
                               mmf_raw_column *out)
{
    const char *const source = skip_options(options);
    mmf_text encoder = {.ctx = ctx};
    if (*source != '=' || !source[1])
        return mmf_fail(ctx, MMF_ARG, "encoder %s prepares nothing without weights; write %s=FILE",
                        name, name);
    MMF_TRY(find_source(ctx, source + 1, &out->source));
    MMF_TRY(mmf_frozen_set_base(ctx, name, out->source, &out->kind, &out->config));
    mmf_text_add(&encoder, "%s", name);
    mmf_status status = MMF_OK;
    for (const char *at = options; status == MMF_OK && at < source;) {
        char option[NAME_BYTES];
        const size_t n = strcspn(at + 1, ":="), all = 1 + n + strcspn(at + 1 + n, ":");
        snprintf(option, sizeof option, "%.*s", (int)(n < NAME_BYTES ? n : NAME_BYTES - 1), at + 1);
        const char *next = at + all < source ? at + all : source;
        if (mmf_option_find(&out->kind->def, option))
            status = set_option(ctx, out->config, at + 1, &next);
        else
            mmf_text_add_bytes(&encoder, at, (size_t)(next - at));
        at = next;
    }
    if (status == MMF_OK)
        status = encoder.status;
    if (status == MMF_OK)
        out->encoder = encoder.data;
    else
        mmf_text_clear(&encoder);
    return status;
}

mmf_status mmf_preparation_parse(mmf_ctx *ctx, const char *spec, mmf_raw_column *out)
{
    char name[NAME_BYTES];
    const size_t n_name = strcspn(spec, ":=");
    snprintf(name, sizeof name, "%.*s", (int)(n_name < sizeof name ? n_name : sizeof name - 1),
             spec);
    out->kind = mmf_preparation_find(name);
    if (!out->kind && mmf_frozen_is_name(name, strlen(name)))
        return parse_frozen(ctx, name, spec + n_name, out);
    if (!out->kind)
        return unknown(ctx, name);
    MMF_TRY(mmf_config_create(ctx, &out->config, &out->kind->def));
    const char *at = spec + n_name;
    while (*at == ':')
        MMF_TRY(set_option(ctx, out->config, at + 1, &at));
    if (*at != '=')
        return MMF_OK;
    if (!out->kind->source)
        return mmf_fail(ctx, MMF_ARG, "preparation %s takes no source; found \"%.200s\"", name, at);
    return mmf_config_set(out->config, out->kind->source, at + 1);
}

mmf_status mmf_preparation_settle(mmf_config *config, const char *name, int64_t value)
{
    char text[32];
    if (mmf_config_int(config, name) != 0)
        return MMF_OK;
    snprintf(text, sizeof text, "%lld", (long long)value);
    return mmf_config_set(config, name, text);
}

char *mmf_preparation_settings(mmf_ctx *ctx, const mmf_config *config)
{
    const mmf_option *row = NULL;
    json_t *const own = json_object();
    char *const all = mmf_config_json(config);
    json_t *const given = all ? json_loads(all, 0, NULL) : NULL;
    mmf_free(ctx, all);
    while ((row = mmf_option_next(mmf_config_def(config), row))) {
        if (!mmf_option_is_common(row))
            json_object_set(own, row->name, json_object_get(given, row->name));
    }
    char *const text = given ? json_dumps(own, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    char *const copy = text ? mmf_strdup(ctx, text) : NULL;
    free(text);
    json_decref(given);
    json_decref(own);
    return copy;
}

/* ---- In use ------------------------------------------------------------------------------ */

mmf_status mmf_preparer_open(mmf_ctx *ctx, mmf_preparer *out, const mmf_preparation_kind *kind,
                             mmf_config *config)
{
    *out = (mmf_preparer){.ctx = ctx, .kind = kind, .config = config};
    const mmf_status status = kind->open(out);
    return status == MMF_OK ? status
                            : mmf_fail_within(ctx, status, "preparation %s: ", kind->def.name);
}

void mmf_preparer_close(mmf_preparer *p)
{
    if (p->kind && p->kind->close)
        p->kind->close(p);
    *p = (mmf_preparer){0};
}

int64_t mmf_preparer_step(const mmf_preparer *p)
{
    int64_t n = 1;
    for (int d = 0; d < p->n_dims; d++)
        n *= p->shape[d];
    return n;
}
