/* wordpiece_json.c: a tokenizer as the tokenizer.json that describes it. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/wordpiece_parts.h"

static json_t *template_json(const mmf_wordpiece *w, const mmf_template *form, json_t *specials)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < form->n_items; i++) {
        const mmf_template_item *const item = &form->items[i];
        if (item->kind != MMF_ITEM_TOKEN) {
            json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "Sequence", "id",
                                                  item->kind == MMF_ITEM_FIRST ? "A" : "B",
                                                  "type_id", item->segment));
            continue;
        }
        /* Named by its number: a name may stand for two ids, a number does not. */
        char name[24];
        const char *const piece = mmf_wordpiece_piece(w, item->id);
        snprintf(name, sizeof name, "%d", item->id);
        json_array_append_new(list, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", name,
                                              "type_id", item->segment));
        json_object_set_new(specials, name,
                            json_pack("{s:s, s:[i], s:[s]}", "id", name, "ids", item->id, "tokens",
                                      piece ? piece : ""));
    }
    return list;
}

static json_t *added_json(const mmf_wordpiece *w)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < w->n_added; i++)
        json_array_append_new(list,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", w->added[i].id,
                                        "content", w->added[i].text, "single_word", 0, "lstrip", 0,
                                        "rstrip", 0, "normalized", 0, "special", 1));
    return list;
}

static json_t *model_json(const mmf_wordpiece *w)
{
    json_t *const vocab = json_object();
    for (size_t i = 0; i < w->n_pieces; i++)
        json_object_set_new(vocab, w->pieces[i].text, json_integer(w->pieces[i].id));
    return json_pack("{s:s, s:s, s:s, s:I, s:o}", "type", "WordPiece", "unk_token",
                     mmf_wordpiece_piece(w, w->unknown), "continuing_subword_prefix", w->prefix,
                     "max_input_chars_per_word", (json_int_t)w->max_word, "vocab", vocab);
}

char *mmf_wordpiece_json(const mmf_wordpiece *w)
{
    const mmf_wordpiece_rules *const r = &w->rules;
    json_t *const specials = json_object();
    json_t *const single = template_json(w, &w->single, specials);
    json_t *const pair = template_json(w, &w->pair, specials);
    json_t *const normalizer =
        json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer", "clean_text", r->clean,
                  "handle_chinese_chars", r->ideographs, "strip_accents", r->strip_accents,
                  "lowercase", r->lower_case);
    json_t *const root =
        json_pack("{s:s, s:o, s:o, s:{s:s}, s:{s:s, s:o, s:o, s:o}, s:o}", "version", "1.0",
                  "added_tokens", added_json(w), "normalizer", normalizer, "pre_tokenizer", "type",
                  r->punctuation ? "BertPreTokenizer" : "WhitespaceSplit", "post_processor", "type",
                  "TemplateProcessing", "single", single, "pair", pair, "special_tokens", specials,
                  "model", model_json(w));
    char *const text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    char *copy = NULL;
    if (text)
        copy = mmf_strdup(w->ctx, text);
    else
        mmf_fail(w->ctx, MMF_NOMEM, "no memory for the text of a tokenizer");
    free(text);
    json_decref(root);
    return copy;
}
