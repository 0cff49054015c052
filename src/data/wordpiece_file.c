/*
 * wordpiece_file.c: reading vocab.txt, tokenizer.json and tokenizer_config.json, and writing the
 * tokenizer.json of a vocabulary that a model file carries.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/unicode.h"
#include "data/wordpiece_parts.h"
#include "io/json_file.h"

#define MAX_FILE_BYTES ((size_t)64 << 20)
#define MAX_VALUES ((size_t)4 << 20)

/* Names of the special tokens that vocab.txt does not mark; tokenizer_config.json may change them.
 */
typedef struct special_names {
    const char *pad, *unknown, *cls, *sep, *mask;
} special_names;

static const special_names usual_names = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

static mmf_status require_unicode(mmf_ctx *ctx)
{
    if (mmf_unicode_is_whole())
        return MMF_OK;
    return mmf_fail(ctx, MMF_UNSUPPORTED,
                    "this build tokenizes no text: it was made without utf8proc "
                    "(-DMMF_WITH_UTF8PROC=ON)");
}

/* ---- vocab.txt --------------------------------------------------------------------------- */

static mmf_status read_lines(mmf_wordpiece *w, const char *text, size_t n_bytes)
{
    int64_t id = 0;
    for (size_t start = 0; start < n_bytes; id++) {
        const char *const end = memchr(text + start, '\n', n_bytes - start);
        const size_t n = end ? (size_t)(end - text) - start : n_bytes - start;
        /* Only the line's end is cut off: some pieces are spaces of other kinds. */
        const bool returns = n > 0 && text[start + n - 1] == '\r';
        MMF_TRY(mmf_wordpiece_add(w, text + start, n - returns, id));
        start += n + 1;
    }
    if (id == 0)
        return mmf_fail(w->ctx, MMF_FORMAT, "the vocabulary is empty");
    return MMF_OK;
}

static mmf_status need_piece(const mmf_wordpiece *w, const char *piece, int32_t *out)
{
    const int64_t id = mmf_wordpiece_find(w, piece);
    if (id < 0)
        return mmf_fail(w->ctx, MMF_FORMAT,
                        "the vocabulary has no \"%s\"; is it the vocab.txt of a BERT?", piece);
    *out = (int32_t)id;
    return MMF_OK;
}

static mmf_status finish_vocab(mmf_wordpiece *w, const special_names *names)
{
    int32_t cls = 0, sep = 0;
    MMF_TRY(mmf_wordpiece_index(w));
    MMF_TRY(need_piece(w, names->unknown, &w->unknown));
    MMF_TRY(need_piece(w, names->cls, &cls));
    MMF_TRY(need_piece(w, names->sep, &sep));
    mmf_wordpiece_bert_templates(w, cls, sep);
    const char *const all[] = {names->pad, names->unknown, names->cls, names->sep, names->mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const int64_t id = mmf_wordpiece_find(w, all[i]);
        if (id >= 0)
            MMF_TRY(mmf_wordpiece_add_special(w, all[i], id));
    }
    return MMF_OK;
}

static mmf_status parse_vocab(mmf_wordpiece *w, const char *text, size_t n_bytes,
                              const special_names *names)
{
    MMF_TRY(read_lines(w, text, n_bytes));
    return finish_vocab(w, names);
}

/* ---- tokenizer.json ---------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *const text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* An absent or null flag keeps its default. */
static bool flag_of(const json_t *object, const char *key, bool standard)
{
    const json_t *const value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : standard;
}

static mmf_status not_offered(const mmf_wordpiece *w, const char *part, const char *found,
                              const char *offered)
{
    return mmf_fail(w->ctx, MMF_UNSUPPORTED, "the %s \"%s\" is not offered; expected %s", part,
                    *found ? found : "(none)", offered);
}

static mmf_status read_normalizer(mmf_wordpiece *w, const json_t *normalizer)
{
    const json_t *one = normalizer;
    const char *type = text_of(one, "type");
    const json_t *const list = json_object_get(one, "normalizers");
    if (strcmp(type, "Sequence") == 0 && json_array_size(list) == 1) {
        one = json_array_get(list, 0);
        type = text_of(one, "type");
    }
    if (!one || json_is_null(one)) {
        w->rules = (mmf_wordpiece_rules){.punctuation = true};
        return MMF_OK;
    }
    if (strcmp(type, "BertNormalizer") != 0)
        return not_offered(w, "normalizer", type, "BertNormalizer or null");
    w->rules.clean = flag_of(one, "clean_text", true);
    w->rules.ideographs = flag_of(one, "handle_chinese_chars", true);
    w->rules.lower_case = flag_of(one, "lowercase", true);
    w->rules.strip_accents = flag_of(one, "strip_accents", w->rules.lower_case);
    return MMF_OK;
}

static mmf_status read_pre_tokenizer(mmf_wordpiece *w, const json_t *pre_tokenizer)
{
    const char *const type = text_of(pre_tokenizer, "type");
    w->rules.punctuation = strcmp(type, "BertPreTokenizer") == 0;
    if (!w->rules.punctuation && strcmp(type, "WhitespaceSplit") != 0)
        return not_offered(w, "pre-tokenizer", type, "BertPreTokenizer or WhitespaceSplit");
    return MMF_OK;
}

static mmf_status read_model(mmf_wordpiece *w, const json_t *model)
{
    const char *const type = text_of(model, "type");
    json_t *const vocab = json_object_get(model, "vocab");
    const json_t *const prefix = json_object_get(model, "continuing_subword_prefix");
    const json_t *const longest = json_object_get(model, "max_input_chars_per_word");
    if (strcmp(type, "WordPiece") != 0)
        return not_offered(w, "tokenizer model", type, "WordPiece, which is what a BERT has");
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return mmf_fail(w->ctx, MMF_FORMAT, "model.vocab is not an object of pieces and ids");
    if (json_is_string(prefix)) {
        mmf_free(w->ctx, w->prefix);
        w->prefix = mmf_strdup(w->ctx, json_string_value(prefix));
        if (!w->prefix)
            return MMF_NOMEM;
    }
    if (longest)
        w->max_word = json_integer_value(longest);
    if (w->max_word < 1 || w->max_word > MMF_WORDPIECE_MAX_WORD)
        return mmf_fail(w->ctx, MMF_LIMIT, "max_input_chars_per_word is not in [1, %d]",
                        MMF_WORDPIECE_MAX_WORD);
    const char *piece = NULL;
    json_t *id = NULL;
    json_object_foreach(vocab, piece, id)
    {
        if (!json_is_integer(id))
            return mmf_fail(w->ctx, MMF_FORMAT, "the id of the piece \"%.64s\" is no whole number",
                            piece);
        MMF_TRY(mmf_wordpiece_add(w, piece, strlen(piece), json_integer_value(id)));
    }
    MMF_TRY(mmf_wordpiece_index(w));
    return need_piece(w, *text_of(model, "unk_token") ? text_of(model, "unk_token") : "[UNK]",
                      &w->unknown);
}

static mmf_status read_added(mmf_wordpiece *w, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *const token = json_array_get(list, i);
        const json_t *const id = json_object_get(token, "id");
        const char *const content = text_of(token, "content");
        if (!json_is_integer(id) || !*content)
            return mmf_fail(w->ctx, MMF_FORMAT, "added token %zu has no id or no content", i);
        if (flag_of(token, "normalized", false) || flag_of(token, "single_word", false))
            return mmf_fail(w->ctx, MMF_UNSUPPORTED,
                            "the added token \"%.64s\" is to be found in normalised text or as a "
                            "whole word, which is not offered",
                            content);
        MMF_TRY(mmf_wordpiece_add_special(w, content, json_integer_value(id)));
    }
    return MMF_OK;
}

/* ---- Templates --------------------------------------------------------------------------- */

static mmf_status template_full(const mmf_wordpiece *w)
{
    return mmf_fail(w->ctx, MMF_LIMIT, "a template of the post-processor has over %d entries",
                    MMF_WORDPIECE_MAX_ITEMS);
}

static mmf_status add_item(const mmf_wordpiece *w, mmf_template *form, mmf_template_item item)
{
    if (form->n_items == MMF_WORDPIECE_MAX_ITEMS)
        return template_full(w);
    form->items[form->n_items++] = item;
    return MMF_OK;
}

static mmf_status add_tokens(const mmf_wordpiece *w, mmf_template *form, const json_t *specials,
                             const char *name, int segment)
{
    const json_t *const ids = json_object_get(json_object_get(specials, name), "ids");
    if (json_array_size(ids) == 0)
        return mmf_fail(w->ctx, MMF_FORMAT, "the post-processor names \"%.64s\", but not its id",
                        name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_int_t id = json_integer_value(json_array_get(ids, i));
        if (id < 0 || id >= w->vocab)
            return mmf_fail(w->ctx, MMF_FORMAT, "the post-processor's \"%.64s\" has the id %lld",
                            name, (long long)id);
        MMF_TRY(add_item(w, form, (mmf_template_item){MMF_ITEM_TOKEN, (int32_t)id, segment}));
    }
    return MMF_OK;
}

static mmf_status read_template(const mmf_wordpiece *w, mmf_template *form, const json_t *list,
                                const json_t *specials, int n_texts)
{
    int seen[2] = {0, 0};
    *form = (mmf_template){.n_items = 0};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *const entry = json_array_get(list, i);
        const json_t *const token = json_object_get(entry, "SpecialToken");
        const json_t *const text = json_object_get(entry, "Sequence");
        const json_t *const type = json_object_get(token ? token : text, "type_id");
        const int segment = json_integer_value(type) == 1;
        if (json_integer_value(type) < 0 || json_integer_value(type) > 1)
            return mmf_fail(w->ctx, MMF_UNSUPPORTED, "a template with other segments than 0 and 1");
        if (token) {
            MMF_TRY(add_tokens(w, form, specials, text_of(token, "id"), segment));
        } else {
            const bool second = strcmp(text_of(text, "id"), "B") == 0;
            seen[second]++;
            MMF_TRY(add_item(
                w, form,
                (mmf_template_item){second ? MMF_ITEM_SECOND : MMF_ITEM_FIRST, 0, segment}));
        }
    }
    if (seen[0] != 1 || seen[1] != n_texts - 1)
        return mmf_fail(w->ctx, MMF_UNSUPPORTED,
                        "a template of the post-processor does not hold each of %d texts once",
                        n_texts);
    return MMF_OK;
}

static mmf_status read_bert_processing(mmf_wordpiece *w, const json_t *post)
{
    const json_t *const cls = json_object_get(post, "cls"), *const sep =
                                                                json_object_get(post, "sep");
    const json_int_t cls_id = json_integer_value(json_array_get(cls, 1));
    const json_int_t sep_id = json_integer_value(json_array_get(sep, 1));
    if (json_array_size(cls) != 2 || json_array_size(sep) != 2 || cls_id < 0 ||
        cls_id >= w->vocab || sep_id < 0 || sep_id >= w->vocab)
        return mmf_fail(w->ctx, MMF_FORMAT,
                        "the post-processor's cls and sep are not pieces with their ids");
    mmf_wordpiece_bert_templates(w, (int32_t)cls_id, (int32_t)sep_id);
    return MMF_OK;
}

static mmf_status read_post_processor(mmf_wordpiece *w, const json_t *post)
{
    const char *const type = text_of(post, "type");
    if (!post || json_is_null(post)) {
        w->single = (mmf_template){{{MMF_ITEM_FIRST, 0, 0}}, 1};
        w->pair = (mmf_template){{{MMF_ITEM_FIRST, 0, 0}, {MMF_ITEM_SECOND, 0, 1}}, 2};
        return MMF_OK;
    }
    if (strcmp(type, "BertProcessing") == 0)
        return read_bert_processing(w, post);
    if (strcmp(type, "TemplateProcessing") != 0)
        return not_offered(w, "post-processor", type, "TemplateProcessing, BertProcessing or null");
    const json_t *const specials = json_object_get(post, "special_tokens");
    MMF_TRY(read_template(w, &w->single, json_object_get(post, "single"), specials, 1));
    return read_template(w, &w->pair, json_object_get(post, "pair"), specials, 2);
}

static mmf_status read_json(mmf_wordpiece *w, const json_t *root)
{
    MMF_TRY(read_model(w, json_object_get(root, "model")));
    MMF_TRY(read_normalizer(w, json_object_get(root, "normalizer")));
    MMF_TRY(read_pre_tokenizer(w, json_object_get(root, "pre_tokenizer")));
    MMF_TRY(read_added(w, json_object_get(root, "added_tokens")));
    return read_post_processor(w, json_object_get(root, "post_processor"));
}

/* ---- tokenizer_config.json --------------------------------------------------------------- */

/* A special token is a string or an object with its content. */
static void read_name(const json_t *config, const char *key, const char **out)
{
    const json_t *const value = json_object_get(config, key);
    const char *const text =
        json_is_object(value) ? text_of(value, "content") : json_string_value(value);
    if (text && *text)
        *out = text;
}

static void read_names(const json_t *config, special_names *names)
{
    read_name(config, "pad_token", &names->pad);
    read_name(config, "unk_token", &names->unknown);
    read_name(config, "cls_token", &names->cls);
    read_name(config, "sep_token", &names->sep);
    read_name(config, "mask_token", &names->mask);
}

/* What the settings of the folder say wins over the tokenizer.json, as in the reference. */
static void apply_config(mmf_wordpiece *w, const json_t *config)
{
    mmf_wordpiece_rules *const rules = &w->rules;
    if (json_is_boolean(json_object_get(config, "do_lower_case"))) {
        rules->lower_case = flag_of(config, "do_lower_case", true);
        rules->strip_accents = rules->lower_case;
    }
    rules->strip_accents = flag_of(config, "strip_accents", rules->strip_accents);
    rules->ideographs = flag_of(config, "tokenize_chinese_chars", rules->ideographs);
}

/* ---- Files ------------------------------------------------------------------------------- */

static mmf_status read_bytes(mmf_wordpiece *w, const mmf_mapping *file, bool is_json,
                             const special_names *names)
{
    const char *const text = file->bytes ? (const char *)file->bytes : "";
    if (file->n_bytes > MAX_FILE_BYTES)
        return mmf_fail(w->ctx, MMF_LIMIT, "%zu bytes; at most %zu are read", file->n_bytes,
                        MAX_FILE_BYTES);
    if (!is_json)
        return parse_vocab(w, text, file->n_bytes, names);
    json_t *root = NULL;
    MMF_TRY(mmf_json_parse(w->ctx, &root, text, file->n_bytes, MAX_VALUES));
    const mmf_status status = read_json(w, root);
    json_decref(root);
    return status;
}

static mmf_status load_file(mmf_wordpiece *w, const char *path)
{
    char beside[4096];
    const size_t n = strlen(path);
    json_t *config = NULL;
    MMF_TRY(mmf_path_beside(w->ctx, beside, sizeof beside, path, "tokenizer_config.json"));
    if (mmf_path_is_file(beside))
        MMF_TRY(mmf_json_read(w->ctx, &config, beside, MAX_FILE_BYTES, MAX_VALUES));
    special_names names = usual_names;
    read_names(config, &names);
    mmf_mapping file = {0};
    mmf_status status = mmf_map_open(w->ctx, &file, path);
    if (status == MMF_OK) {
        status = read_bytes(w, &file, n > 5 && strcmp(path + n - 5, ".json") == 0, &names);
        if (status != MMF_OK)
            mmf_fail_within(w->ctx, status, "%s: ", path);
    }
    mmf_map_close(&file);
    if (status == MMF_OK)
        apply_config(w, config);
    json_decref(config);
    return status;
}

static mmf_status load(mmf_wordpiece *w, const char *path)
{
    static const char *const names[] = {"tokenizer.json", "vocab.txt"};
    if (!mmf_path_is_folder(path))
        return load_file(w, path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char inside[4096];
        MMF_TRY(mmf_path_join(w->ctx, inside, sizeof inside, path, strlen(path), names[i]));
        if (mmf_path_is_file(inside))
            return load_file(w, inside);
    }
    return mmf_fail(w->ctx, MMF_IO, "%s: the folder has neither tokenizer.json nor vocab.txt",
                    path);
}

/* Gives `w` away or frees it. */
static mmf_status deliver(mmf_wordpiece *w, mmf_status status, mmf_wordpiece **out)
{
    *out = status == MMF_OK ? w : NULL;
    if (status != MMF_OK)
        mmf_wordpiece_free(w);
    return status;
}

mmf_status mmf_wordpiece_load(mmf_ctx *ctx, mmf_wordpiece **out, const char *path)
{
    mmf_wordpiece *w = NULL;
    *out = NULL;
    MMF_TRY(require_unicode(ctx));
    mmf_status status = mmf_wordpiece_create(ctx, &w);
    if (status == MMF_OK)
        status = load(w, path);
    return deliver(w, status, out);
}

mmf_status mmf_wordpiece_parse_vocab(mmf_ctx *ctx, mmf_wordpiece **out, const char *text,
                                     size_t n_bytes)
{
    mmf_wordpiece *w = NULL;
    *out = NULL;
    MMF_TRY(require_unicode(ctx));
    mmf_status status = mmf_wordpiece_create(ctx, &w);
    if (status == MMF_OK)
        status = parse_vocab(w, text, n_bytes, &usual_names);
    return deliver(w, status, out);
}

mmf_status mmf_wordpiece_parse_json(mmf_ctx *ctx, mmf_wordpiece **out, const char *json,
                                    size_t n_bytes)
{
    mmf_wordpiece *w = NULL;
    json_t *root = NULL;
    *out = NULL;
    MMF_TRY(require_unicode(ctx));
    MMF_TRY(mmf_json_parse(ctx, &root, json, n_bytes, MAX_VALUES));
    mmf_status status = mmf_wordpiece_create(ctx, &w);
    if (status == MMF_OK)
        status = read_json(w, root);
    json_decref(root);
    return deliver(w, status, out);
}
