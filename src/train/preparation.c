/* preparation.c: the table of preparations, their specifications, and one in use. */
#include "train/preparation.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

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
        status = mmf_fail(ctx, MMF_ARG, "preparation \"%s\" is unknown; %s%s%sthere are %s", name,
                          nearest ? "did you mean \"" : "", nearest ? nearest : "",
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

mmf_status mmf_preparation_parse(mmf_ctx *ctx, const char *spec, const mmf_preparation_kind **kind,
                                 mmf_config **config)
{
    char name[NAME_BYTES];
    const size_t n_name = strcspn(spec, ":=");
    snprintf(name, sizeof name, "%.*s", (int)(n_name < sizeof name ? n_name : sizeof name - 1),
             spec);
    *kind = mmf_preparation_find(name);
    if (!*kind)
        return unknown(ctx, name);
    MMF_TRY(mmf_config_create(ctx, config, &(*kind)->def));
    const char *at = spec + n_name;
    while (*at == ':')
        MMF_TRY(set_option(ctx, *config, at + 1, &at));
    if (*at != '=')
        return MMF_OK;
    if (!(*kind)->source)
        return mmf_fail(ctx, MMF_ARG, "preparation %s takes no source; found \"%.200s\"", name, at);
    return mmf_config_set(*config, (*kind)->source, at + 1);
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
