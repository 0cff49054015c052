/* pretrained_source.c: see pretrained_source.h. */
#include "train/pretrained_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/wordpiece.h"
#include "base/file.h"
#include "encoders/bert_source.h"
#include "encoders/encoder.h"
#include "nn/builder.h"
#include "nn/pretrained.h"
#include "train/model_parts.h"

#define SCOPE_BYTES 512

void mmf_starts_clear(mmf_starts *s)
{
    for (size_t i = 0; i < s->count; i++) {
        mmf_free(s->ctx, s->items[i].part);
        mmf_free(s->ctx, s->items[i].path);
        mmf_free(s->ctx, s->items[i].below);
    }
    if (s->ctx)
        mmf_free(s->ctx, s->items);
    *s = (mmf_starts){0};
}

static mmf_status add_start(mmf_starts *s, const char *part, size_t n_part, const char *path,
                            size_t n_path, const mmf_def *encoder)
{
    mmf_start *const grown = mmf_realloc(s->ctx, s->items, (s->count + 1) * sizeof *grown);
    if (!grown)
        return MMF_NOMEM;
    s->items = grown;
    mmf_start *const start = &s->items[s->count++];
    *start = (mmf_start){.part = mmf_alloc(s->ctx, n_part + 1),
                         .path = mmf_alloc(s->ctx, n_path + 1),
                         .below = mmf_alloc_zero(s->ctx, n_path + 1, 1),
                         .encoder = encoder};
    if (!start->part || !start->path || !start->below)
        return MMF_NOMEM;
    snprintf(start->part, n_part + 1, "%.*s", (int)n_part, part);
    snprintf(start->path, n_path + 1, "%.*s", (int)n_path, path);
    char *const mark = encoder ? NULL : strrchr(start->path, '#');
    if (mark) {
        snprintf(start->below, n_path + 1, "%s", mark + 1);
        *mark = '\0';
    }
    return MMF_OK;
}

/* ---- Specifications of encoders ---------------------------------------------------------- */

/* The "=" in front of SOURCE in NAME[:WIDTH][:OPTION=VALUE]...[=SOURCE]; the end if there is none.
 */
static const char *source_of(const char *spec)
{
    const char *at = spec + strcspn(spec, ":=");
    while (*at == ':') {
        const size_t n = 1 + strcspn(at + 1, ":=");
        const bool is_width = strspn(at + 1, "0123456789") == n - 1;
        at += n;
        if (*at == '=' && !is_width)
            at += 1 + strcspn(at + 1, ":=");
    }
    return at;
}

/* Rows of the table of words that a description names. */
static int64_t described_vocab(const char *description)
{
    static const char key[] = ":vocab_size=";
    const char *const place = description ? strstr(description, key) : NULL;
    return place ? strtoll(place + strlen(key), NULL, 10) : 0;
}

/* A tokenizer beside the weights may not know more pieces than the table has rows. */
static mmf_status check_vocabulary(mmf_ctx *ctx, const mmf_start *start)
{
    mmf_wordpiece *w = NULL;
    char path[4096];
    static const char *const names[] = {"tokenizer.json", "vocab.txt"};
    bool found = false;
    for (size_t i = 0; !found && mmf_path_is_folder(start->path) && i < 2; i++) {
        MMF_TRY(mmf_path_join(ctx, path, sizeof path, start->path, strlen(start->path), names[i]));
        found = mmf_path_is_file(path);
    }
    if (!found || start->vocab == 0 || mmf_wordpiece_load(ctx, &w, start->path) != MMF_OK)
        return MMF_OK; /* tokens may come from elsewhere, made by whatever made them */
    const int64_t n = mmf_wordpiece_vocab(w);
    mmf_wordpiece_free(w);
    if (n > start->vocab)
        return mmf_fail(ctx, MMF_FORMAT,
                        "%s has %lld pieces, but the table of words in config.json has %lld rows: "
                        "they do not belong together",
                        path, (long long)n, (long long)start->vocab);
    return MMF_OK;
}

/* The encoder that the weights of a specification of `n` bytes are for. */
static mmf_status find_taker(mmf_starts *s, const mmf_input_schema *input, const char *spec,
                             size_t n, const mmf_def **out)
{
    mmf_text text = {.ctx = s->ctx};
    mmf_config *config = NULL;
    mmf_text_add_bytes(&text, spec, n);
    mmf_status status = text.status;
    if (status == MMF_OK)
        status = mmf_encoder_innermost(s->ctx, &config, input, text.data);
    if (status == MMF_OK)
        *out = mmf_config_def(config);
    mmf_config_free(config);
    mmf_text_clear(&text);
    return status;
}

/* Adds "MODALITY=SPEC" to `list`, with sizes in the place of a source. */
static mmf_status read_encoder(mmf_starts *s, mmf_text *list, const char *entry,
                               const mmf_schema *inputs)
{
    const char *const equals = strchr(entry, '=');
    const char *const spec = equals ? equals + 1 : entry + strlen(entry);
    const char *const source = source_of(spec);
    const char *const between = list->length ? "," : "";
    const size_t n_name = strcspn(spec, ":="), n_part = equals ? (size_t)(equals - entry) : 0;
    if (*source != '=') {
        mmf_text_add(list, "%s%s", between, entry);
        return list->status;
    }
    char modality[SCOPE_BYTES], hint[512];
    snprintf(modality, sizeof modality, "%.*s", (int)n_part, entry);
    const mmf_input_schema *const input = mmf_schema_find(inputs, modality);
    if (!input)
        return mmf_fail(s->ctx, MMF_ARG, "encoder %s: the data has no modality \"%s\"%s", entry,
                        modality, mmf_schema_suggest(hint, sizeof hint, inputs, modality, ""));
    const mmf_def *def = NULL;
    MMF_TRY(find_taker(s, input, spec, (size_t)(source - spec), &def));
    if (!def->source || !source[1])
        return mmf_fail(s->ctx, MMF_ARG, "encoder %s: %s", entry,
                        def->source ? "the path behind the last \"=\" is missing"
                                    : "it cannot start from weights of others");
    MMF_TRY(add_start(s, entry, n_part, source + 1, strlen(source + 1), def));
    mmf_start *const start = &s->items[s->count - 1];
    mmf_text_add(list, "%s%.*s", between, (int)(spec - entry + (ptrdiff_t)n_name), entry);
    const size_t before = list->length;
    if (def->source->describe)
        MMF_TRY(def->source->describe(s->ctx, start->path, def, list));
    start->vocab = described_vocab(list->data ? list->data + before : NULL);
    mmf_text_add(list, "%.*s", (int)(source - spec - (ptrdiff_t)n_name), spec + n_name);
    return list->status == MMF_OK ? check_vocabulary(s->ctx, start) : list->status;
}

static mmf_status read_encoders(mmf_starts *s, mmf_config *config, const mmf_schema *inputs)
{
    mmf_text list = {.ctx = s->ctx};
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < mmf_config_count(config, "encoder"); i++)
        status = read_encoder(s, &list, mmf_config_text_at(config, "encoder", i), inputs);
    if (status == MMF_OK && s->count > 0)
        status = mmf_config_set(config, "encoder", list.data);
    mmf_text_clear(&list);
    return status;
}

/* ---- Checkpoints of models --------------------------------------------------------------- */

/* How a sentence becomes one vector, which modules.json says, is no size of a model. */
static bool is_of_text(const char *option)
{
    return strcmp(option, "pooling") == 0 || strcmp(option, "normalize") == 0;
}

/* Options of the model that config.json names and nobody set. */
static mmf_status take_sizes(mmf_starts *s, mmf_config *config, mmf_start *start)
{
    mmf_text found = {.ctx = s->ctx};
    mmf_status status = mmf_bert_describe(s->ctx, start->path, mmf_config_def(config), &found);
    start->vocab = described_vocab(found.data);
    for (char *at = found.data; status == MMF_OK && at && *at == ':';) {
        char *const name = at + 1, *const equals = strchr(name, '=');
        char *const end = equals ? equals + strcspn(equals, ":") : NULL;
        if (!end)
            break;
        const char last = *end;
        *equals = *end = '\0';
        if (!is_of_text(name) && mmf_option_find(mmf_config_def(config), name) &&
            !mmf_config_is_set(config, name))
            status = mmf_config_set(config, name, equals + 1);
        *end = last;
        at = end;
    }
    mmf_text_clear(&found);
    return status;
}

static bool is_index(const char *path)
{
    const size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".json") == 0;
}

static mmf_status read_weights(mmf_starts *s, mmf_config *config, const char *weights)
{
    for (const char *at = weights; at && *at;) {
        const size_t n = strcspn(at, ",");
        const char *const equals = memchr(at, '=', n);
        const size_t n_part = equals ? (size_t)(equals - at) : 0;
        const char *const path = equals ? equals + 1 : at;
        MMF_TRY(add_start(s, at, n_part, path, (size_t)(at + n - path), NULL));
        mmf_start *const start = &s->items[s->count - 1];
        if (!*start->path)
            return mmf_fail(s->ctx, MMF_ARG, "weights \"%.80s\": expected SCOPE=SOURCE or SOURCE",
                            at);
        if (!*start->part && mmf_path_is_file(start->path) && !is_index(start->path))
            MMF_TRY(mmf_model__take_options(s->ctx, config, start->path));
        MMF_TRY(take_sizes(s, config, start));
        at += n + (at[n] == ',');
    }
    return MMF_OK;
}

mmf_status mmf_starts_read(mmf_ctx *ctx, mmf_starts *out, mmf_config *config,
                           const mmf_schema *inputs, const char *weights)
{
    *out = (mmf_starts){.ctx = ctx};
    if (mmf_option_find(mmf_config_def(config), "encoder"))
        MMF_TRY(read_encoders(out, config, inputs));
    return read_weights(out, config, weights);
}

void mmf_starts_widen(const mmf_starts *s, mmf_schema *inputs)
{
    for (size_t i = 0; i < s->count; i++) {
        for (size_t m = 0; m < inputs->count; m++) {
            mmf_input_schema *const in = &inputs->inputs[m];
            const bool meant = !s->items[i].encoder || strcmp(in->name, s->items[i].part) == 0;
            if (meant && in->kind == MMF_TOKENS && in->vocab_size < s->items[i].vocab)
                in->vocab_size = s->items[i].vocab;
        }
    }
}

static bool has_encoder(const mmf_starts *s, const char *modality)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->items[i].encoder && strcmp(s->items[i].part, modality) == 0)
            return true;
    }
    return false;
}

/* What the encoder of a modality wants its pixels to be. */
static mmf_status find_norm(const mmf_starts *s, const mmf_config *config, const mmf_modality *view,
                            int64_t n_channels, mmf_image_norm *norm, bool *has_norm)
{
    mmf_config *own = NULL;
    const mmf_input_schema input = {.name = view->name, .kind = view->kind};
    const char *const spec = mmf_encoder_spec(config, "encoder", view->name);
    *has_norm = false;
    if (!spec || !mmf_modality_has_channels(view->kind))
        return MMF_OK;
    mmf_status status = mmf_encoder_innermost(s->ctx, &own, &input, spec);
    if (status == MMF_OK)
        status = mmf_encoder_image_norm(s->ctx, own, n_channels, has_encoder(s, view->name), norm,
                                        has_norm);
    mmf_config_free(own);
    return status == MMF_OK ? MMF_OK : mmf_fail_within(s->ctx, status, "encoder %s: ", spec);
}

mmf_status mmf_starts_normalise(const mmf_starts *s, const mmf_config *config,
                                const mmf_dataset *dataset, mmf_normalisation *normalisation)
{
    if (!mmf_option_find(mmf_config_def(config), "encoder"))
        return MMF_OK;
    for (size_t m = 0; m < normalisation->n_modalities; m++) {
        bool has_norm = false;
        mmf_image_norm norm;
        const mmf_modality *const view = mmf_dataset_modality(dataset, m);
        const int64_t n_channels = normalisation->n_features[m];
        MMF_TRY(find_norm(s, config, view, n_channels, &norm, &has_norm));
        const float top = mmf_dtype_is_integer(view->dtype) ? 255 : 1;
        for (int64_t c = 0; has_norm && c < n_channels; c++) {
            normalisation->mean[m][c] = top * norm.mean[c];
            normalisation->scale[m][c] = 1 / (top * norm.deviation[c]);
        }
    }
    return MMF_OK;
}

/* ---- Loading ----------------------------------------------------------------------------- */

static void tell(mmf_ctx *ctx, const mmf_start *start, const mmf_pretrained_report *report)
{
    char *const text = mmf_pretrained_text(report);
    /* A line of the log each. */
    for (char *line = text; line && *line;) {
        char *const end = line + strcspn(line, "\n");
        const char last = *end;
        *end = '\0';
        mmf_ctx_log(ctx, MMF_LOG_INFO, "%s%s%s: %s", start->part, *start->part ? " from " : "",
                    start->path, line);
        line = end + (last == '\n');
    }
    mmf_free(ctx, text);
}

static mmf_status require(mmf_ctx *ctx, const mmf_start *start, const char *scope,
                          const mmf_params *params, const mmf_pretrained_rules *rules,
                          const mmf_pretrained_report *report)
{
    char other[SCOPE_BYTES];
    const bool none = report->n_loaded == 0;
    if (start->encoder || (none && report->misshapen.count > 0))
        return mmf_pretrained_require(report, start->path);
    if (!none)
        return MMF_OK;
    MMF_TRY(mmf_pretrained_guess_scope(ctx, params, start->path, rules, other, sizeof other));
    return mmf_fail(ctx, MMF_FORMAT, "%s: no tensor of it has the name of a parameter%s%s%s%s%s%s",
                    start->path, *scope ? " below " : "", scope, *other ? "; try --weights " : "",
                    other, *other ? "=" : "", *other ? start->path : "");
}

/* A model's own names may begin as a part's do, and its heads are its own. What references and
 * wrappers put before the names comes off; a model file's normalisation is that of its data. */
static const char *const wrappers[] = {"module.", "Model.", "model.", NULL};
static const mmf_pretrained_rename old_names[] = {
    {".gamma", ".weight"}, {".beta", ".bias"}, {NULL, NULL}};
static const char *const no_weights[] = {"normalisation.", "*.position_ids",
                                         "*.num_batches_tracked", NULL};
static const mmf_pretrained_rules of_whole = {
    .prefixes = wrappers, .renames = old_names, .ignored = no_weights};

static mmf_status load_start(mmf_ctx *ctx, const mmf_start *start, mmf_params *params)
{
    char scope[SCOPE_BYTES];
    const char *const place = start->encoder ? mmf_params_place(params, start->part) : start->part;
    if (!place) /* another part of a late model */
        return MMF_OK;
    const char *const inner = start->encoder ? start->encoder->source->scope : "";
    const int n =
        snprintf(scope, sizeof scope, "%s%s%s", place, *place && *inner ? "." : "", inner);
    if (n < 0 || (size_t)n >= sizeof scope)
        return mmf_fail(ctx, MMF_LIMIT, "the scope %s is too long", place);
    mmf_pretrained_rules rules = start->encoder ? *start->encoder->source->rules
                                 : *scope       ? mmf_pretrained_bert
                                                : of_whole;
    rules.below = *start->below ? start->below : NULL;
    mmf_pretrained_report report;
    mmf_status status = mmf_pretrained_load(ctx, params, scope, start->path, &rules, &report);
    if (status == MMF_OK)
        status =
            require(ctx, start, scope, params, *scope ? &rules : &mmf_pretrained_bert, &report);
    if (status == MMF_OK)
        tell(ctx, start, &report);
    mmf_pretrained_report_clear(&report);
    return status;
}

mmf_status mmf_starts_load(const mmf_starts *s, const mmf_module *module)
{
    for (size_t i = 0; i < s->count; i++)
        MMF_TRY(load_start(s->ctx, &s->items[i], mmf_module_params(module)));
    return MMF_OK;
}
