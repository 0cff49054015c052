/* pretrained.c: see pretrained.h. */
#include "nn/pretrained.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "io/shards.h"
#include "nn/builder.h"

#define NAME_BYTES 1024
/* Names in an error, which is one line; the report's text has all. */
#define SHOWN 4

static const char *const bert_prefixes[] = {"module.", "0.auto_model.", "model.", "bert.", NULL};
static const mmf_pretrained_rename bert_renames[] = {
    {".gamma", ".weight"}, {".beta", ".bias"}, {NULL, NULL}};
static const char *const bert_ignored[] = {"cls.",        "*.position_ids", "classifier.",
                                           "qa_outputs.", "pooler.",        NULL};
const mmf_pretrained_rules mmf_pretrained_bert = {bert_prefixes, bert_renames, bert_ignored, NULL,
                                                  NULL};

/* ---- Names ------------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

static bool matches(const char *name, const char *pattern)
{
    const size_t n = strlen(pattern);
    if (pattern[0] == '*')
        return ends_with(name, pattern + 1);
    if (n > 0 && pattern[n - 1] == '.')
        return strncmp(name, pattern, n) == 0;
    return strcmp(name, pattern) == 0;
}

static bool matches_any(const char *name, const char *const *patterns)
{
    for (; patterns && *patterns; patterns++) {
        if (matches(name, *patterns))
            return true;
    }
    return false;
}

/* The parameter's name behind the scope, NULL if it is outside. */
static const char *inside(const char *scope, const char *name)
{
    const size_t n = strlen(scope);
    if (n == 0)
        return name;
    return strncmp(name, scope, n) == 0 && name[n] == '.' ? name + n + 1 : NULL;
}

/* What a name of the file is called here, without scope; "" if it does not count. */
static mmf_status our_name(mmf_ctx *ctx, const mmf_pretrained_rules *rules, const char *theirs,
                           char out[NAME_BYTES])
{
    const char *name = theirs;
    for (const char *const *p = rules->prefixes; p && *p; p++) {
        if (strncmp(name, *p, strlen(*p)) == 0)
            name += strlen(*p);
    }
    out[0] = '\0';
    if (rules->below && !(name = inside(rules->below, name)))
        return MMF_OK;
    size_t n = strlen(name);
    const char *end = "";
    for (const mmf_pretrained_rename *r = rules->renames; r && r->from; r++) {
        if (ends_with(name, r->from)) {
            n -= strlen(r->from);
            end = r->to;
            break;
        }
    }
    const int wrote = snprintf(out, NAME_BYTES, "%.*s%s", (int)n, name, end);
    if (wrote < 0 || wrote >= NAME_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "a tensor's name is longer than %d bytes", NAME_BYTES);
    return MMF_OK;
}

/* ---- Report ------------------------------------------------------------------------------ */

static mmf_status note(mmf_ctx *ctx, mmf_name_list *list, const char *name)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 16;
        char **const grown = mmf_realloc(ctx, list->names, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        list->names = grown;
        list->capacity = capacity;
    }
    list->names[list->count] = mmf_strdup(ctx, name);
    return list->names[list->count++] ? MMF_OK : MMF_NOMEM;
}

static void clear_list(mmf_ctx *ctx, mmf_name_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mmf_free(ctx, list->names[i]);
    mmf_free(ctx, list->names);
    *list = (mmf_name_list){0};
}

void mmf_pretrained_report_clear(mmf_pretrained_report *r)
{
    if (!r->ctx)
        return;
    clear_list(r->ctx, &r->missing);
    clear_list(r->ctx, &r->kept);
    clear_list(r->ctx, &r->unexpected);
    clear_list(r->ctx, &r->ignored);
    clear_list(r->ctx, &r->misshapen);
}

static void add_list(mmf_text *text, const char *title, const mmf_name_list *list, size_t most,
                     const char *between)
{
    if (list->count == 0)
        return;
    mmf_text_add(text, "%s%s", text->length ? between : "", title);
    for (size_t i = 0; i < list->count && i < most; i++)
        mmf_text_add(text, "%s%s", i ? ", " : " ", list->names[i]);
    if (list->count > most)
        mmf_text_add(text, " and %zu more", list->count - most);
}

char *mmf_pretrained_text(const mmf_pretrained_report *r)
{
    mmf_text text = {.ctx = r->ctx};
    mmf_text_add(&text, "%lld tensors loaded", (long long)r->n_loaded);
    add_list(&text, "missing:", &r->missing, SIZE_MAX, "\n");
    add_list(&text, "of another shape:", &r->misshapen, SIZE_MAX, "\n");
    add_list(&text, "not in the file, as they start:", &r->kept, SIZE_MAX, "\n");
    add_list(&text, "in the file, but not of this model:", &r->unexpected, SIZE_MAX, "\n");
    add_list(&text, "in the file, without use here:", &r->ignored, SIZE_MAX, "\n");
    if (text.status == MMF_OK)
        return text.data;
    mmf_text_clear(&text);
    return NULL;
}

mmf_status mmf_pretrained_require(const mmf_pretrained_report *r, const char *path)
{
    if (r->missing.count == 0 && r->misshapen.count == 0 && r->n_loaded > 0)
        return MMF_OK;
    mmf_text text = {.ctx = r->ctx};
    add_list(&text, "it lacks", &r->missing, SHOWN, "; ");
    add_list(&text, "of another shape are", &r->misshapen, SHOWN, "; ");
    add_list(&text, "it has instead", &r->unexpected, SHOWN, "; ");
    const mmf_status status =
        text.status != MMF_OK
            ? text.status
            : mmf_fail(r->ctx, MMF_FORMAT,
                       "%s: these are not the weights of this model: %s; %lld tensors match", path,
                       text.data ? text.data : "it is empty", (long long)r->n_loaded);
    mmf_text_clear(&text);
    return status;
}

/* ---- Loading ----------------------------------------------------------------------------- */

typedef struct loader {
    mmf_ctx *ctx;
    mmf_params *params;
    const char *scope, *path;
    const mmf_pretrained_rules *rules;
    mmf_pretrained_report *report;
    mmf_shards *shards;
    size_t *source; /* tensor of the file for each parameter, one more than its number; 0: none */
} loader;

static bool same_shape(const mmf_array *array, const mmf_tensor *t)
{
    return array->n_dims == t->n_dims && mmf_dtype_is_float(array->dtype) &&
           memcmp(array->shape, t->shape, (size_t)t->n_dims * sizeof *t->shape) == 0;
}

static mmf_status note_shape(loader *l, const char *name, const mmf_array *array,
                             const mmf_tensor *t)
{
    char found[96], wanted[96], text[NAME_BYTES + 256];
    snprintf(text, sizeof text, "%s: %s %s in the file, %s here", name,
             mmf_dtype_name(array->dtype),
             mmf_shape_text(found, sizeof found, array->shape, array->n_dims),
             mmf_shape_text(wanted, sizeof wanted, t->shape, t->n_dims));
    return note(l->ctx, &l->report->misshapen, text);
}

static size_t find_inside(const loader *l, const char *name)
{
    const size_t n = mmf_params_count(l->params);
    size_t i = 0;
    for (; i < n; i++) {
        const char *const ours = inside(l->scope, mmf_params_at(l->params, i)->name);
        if (ours && strcmp(ours, name) == 0)
            break;
    }
    return i;
}

static mmf_status take_values(loader *l, size_t tensor, size_t param)
{
    mmf_array array = {0};
    MMF_TRY(mmf_shards_load(l->shards, tensor, &array));
    MMF_TRY(mmf_params__take(l->params, param, &array));
    l->report->n_loaded++;
    return MMF_OK;
}

static mmf_status take_tensor(loader *l, size_t tensor)
{
    char name[NAME_BYTES];
    const char *const theirs = mmf_shards_name(l->shards, tensor);
    MMF_TRY(our_name(l->ctx, l->rules, theirs, name));
    const size_t i = *name ? find_inside(l, name) : mmf_params_count(l->params);
    if (i == mmf_params_count(l->params))
        return note(l->ctx,
                    !*name || matches_any(name, l->rules->ignored) ? &l->report->ignored
                                                                   : &l->report->unexpected,
                    theirs);
    if (l->source[i])
        return mmf_fail(l->ctx, MMF_FORMAT, "%s: %s and %s are both %s here", l->path,
                        mmf_shards_name(l->shards, l->source[i] - 1), theirs, name);
    l->source[i] = tensor + 1;
    const mmf_tensor *const t = mmf_params_at(l->params, i)->tensor;
    const mmf_array *const header = mmf_shards_header(l->shards, tensor);
    return same_shape(header, t) ? take_values(l, tensor, i) : note_shape(l, name, header, t);
}

/* Tied parameters are one tensor under several names; a file may have any of them. */
static bool is_found(const loader *l, size_t i)
{
    const mmf_tensor *const t = mmf_params_at(l->params, i)->tensor;
    for (size_t k = 0; k < mmf_params_count(l->params); k++) {
        if (l->source[k] && mmf_params_at(l->params, k)->tensor == t)
            return true;
    }
    return false;
}

static mmf_status find_missing(loader *l)
{
    for (size_t i = 0; i < mmf_params_count(l->params); i++) {
        const mmf_param *const p = mmf_params_at(l->params, i);
        const char *const name = inside(l->scope, p->name);
        if (!name || p->is_alias || is_found(l, i))
            continue;
        const bool may_lack = p->for_losses || matches_any(name, l->rules->optional);
        MMF_TRY(note(l->ctx, may_lack ? &l->report->kept : &l->report->missing, name));
        if (l->params->for_inference) /* nothing was drawn */
            MMF_TRY(mmf_params__start(l->params, i, 0));
    }
    return MMF_OK;
}

static mmf_status load_all(loader *l)
{
    for (size_t i = 0; i < mmf_shards_count(l->shards); i++)
        MMF_TRY(take_tensor(l, i));
    return find_missing(l);
}

static void close_shards(void *shards)
{
    mmf_shards_close(shards);
}

mmf_status mmf_pretrained_load(mmf_ctx *ctx, mmf_params *params, const char *scope,
                               const char *path, const mmf_pretrained_rules *rules,
                               mmf_pretrained_report *report)
{
    *report = (mmf_pretrained_report){.ctx = ctx};
    loader l = {.ctx = ctx,
                .params = params,
                .scope = scope,
                .path = path,
                .rules = rules,
                .report = report};
    MMF_TRY(mmf_shards_open(ctx, &l.shards, path));
    l.source = mmf_alloc_zero(ctx, mmf_params_count(params) + 1, sizeof *l.source);
    const mmf_status status = l.source ? load_all(&l) : MMF_NOMEM;
    mmf_free(ctx, l.source);
    if (status == MMF_OK)
        mmf_params__keep_lender(params, l.shards, close_shards);
    else
        mmf_shards_close(l.shards);
    return status;
}

mmf_status mmf_pretrained_guess_scope(mmf_ctx *ctx, const mmf_params *params, const char *path,
                                      const mmf_pretrained_rules *rules, char *out, size_t size)
{
    mmf_shards *shards = NULL;
    out[0] = '\0';
    MMF_TRY(mmf_shards_open(ctx, &shards, path));
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && !*out && i < mmf_shards_count(shards); i++) {
        char ours[NAME_BYTES], ending[NAME_BYTES + 1];
        status = our_name(ctx, rules, mmf_shards_name(shards, i), ours);
        snprintf(ending, sizeof ending, ".%s", ours);
        for (size_t k = 0; *ours && status == MMF_OK && k < mmf_params_count(params); k++) {
            const char *const name = mmf_params_at(params, k)->name;
            const size_t n = strlen(name) - (ends_with(name, ending) ? strlen(ending) : 0);
            if (ends_with(name, ending) && n < size)
                snprintf(out, size, "%.*s", (int)n, name);
        }
    }
    mmf_shards_close(shards);
    return status;
}
