/* preparation_text.c: texts as the token ids of WordPiece. */
#include <string.h>

#include "data/wordpiece.h"
#include "train/preparation.h"

static const mmf_option options[] = {
    {"source", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "vocab.txt, tokenizer.json, or the folder of either"},
    {"max_length", NULL, MMF_OPTION_INT, 3, 65536, "-", "128",
     "tokens of a text at most, special ones included; what follows is cut off"},
    {"steps", NULL, MMF_OPTION_INT, 0, 65536, "-", "0", "length of all rows; 0: of the longest"},
    {"vocabulary", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "the tokenizer itself as JSON, taken from `source`: what models carry"},
    {0},
};

static bool waits(const mmf_config *config)
{
    return *mmf_config_text(config, "vocabulary") == '\0';
}

/* A text says nothing of its vocabulary: the source alone does. */
static mmf_status settle(mmf_ctx *ctx, mmf_config *config, const mmf_preparation_facts *facts)
{
    (void)facts;
    mmf_wordpiece *wordpiece = NULL;
    const char *const source = mmf_config_text(config, "source");
    if (!*source)
        return mmf_fail(ctx, MMF_ARG,
                        "preparation wordpiece needs a vocabulary: wordpiece=FOLDER, or the path "
                        "of a vocab.txt or tokenizer.json");
    MMF_TRY(mmf_wordpiece_load(ctx, &wordpiece, source));
    char *const json = mmf_wordpiece_json(wordpiece);
    const mmf_status status = json ? mmf_config_set(config, "vocabulary", json) : MMF_NOMEM;
    mmf_free(ctx, json);
    mmf_wordpiece_free(wordpiece);
    return status;
}

typedef struct text_tokens {
    mmf_wordpiece *wordpiece;
    int64_t *ids;
    int32_t *tokens;
    int64_t most;
    char *vocab; /* cells of one width */
    mmf_array pieces;
} text_tokens;

static mmf_status list_pieces(mmf_preparer *p, text_tokens *t)
{
    size_t width = 1;
    const int64_t n = mmf_wordpiece_vocab(t->wordpiece);
    for (int64_t i = 0; i < n; i++) {
        const char *const piece = mmf_wordpiece_piece(t->wordpiece, i);
        width = piece && strlen(piece) > width ? strlen(piece) : width;
    }
    t->vocab = mmf_alloc_zero(p->ctx, (size_t)n, width);
    if (!t->vocab)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        const char *const piece = mmf_wordpiece_piece(t->wordpiece, i);
        if (piece)
            memcpy(t->vocab + (size_t)i * width, piece, strlen(piece));
    }
    t->pieces = (mmf_array){MMF_STR, 1, {n}, width, t->vocab};
    return MMF_OK;
}

static mmf_status open_text(mmf_preparer *p)
{
    text_tokens *const t = mmf_alloc_zero(p->ctx, 1, sizeof *t);
    if (!t)
        return MMF_NOMEM;
    p->own = t;
    p->dtype = MMF_I32;
    p->is_timed = true;
    const char *const json = mmf_config_text(p->config, "vocabulary");
    const int64_t steps = mmf_config_int(p->config, "steps");
    t->most = mmf_config_int(p->config, "max_length");
    t->most = steps > 0 && steps < t->most ? steps : t->most;
    MMF_TRY(mmf_wordpiece_parse_json(p->ctx, &t->wordpiece, json, strlen(json)));
    t->ids = mmf_alloc_zero(p->ctx, (size_t)t->most, sizeof *t->ids);
    t->tokens = mmf_alloc_zero(p->ctx, (size_t)t->most, sizeof *t->tokens);
    p->most_steps = t->most;
    return t->ids && t->tokens ? list_pieces(p, t) : MMF_NOMEM;
}

static mmf_status run(mmf_preparer *p, const mmf_raw_item *item, mmf_prepared *out)
{
    text_tokens *const t = p->own;
    int64_t n = 0;
    const mmf_wordpiece_text text = {.text = item->text, .n_bytes = item->n_bytes};
    MMF_TRY(mmf_wordpiece_encode_bytes(p->ctx, t->wordpiece, &text, t->most, t->ids, NULL, &n));
    for (int64_t i = 0; i < n; i++)
        t->tokens[i] = (int32_t)t->ids[i];
    *out = (mmf_prepared){t->tokens, n};
    return MMF_OK;
}

static mmf_status vocab(mmf_preparer *p, mmf_array *out)
{
    *out = ((text_tokens *)p->own)->pieces;
    return MMF_OK;
}

static void close_text(mmf_preparer *p)
{
    text_tokens *const t = p->own;
    if (!t)
        return;
    mmf_wordpiece_free(t->wordpiece);
    mmf_free(p->ctx, t->ids);
    mmf_free(p->ctx, t->tokens);
    mmf_free(p->ctx, t->vocab);
    mmf_free(p->ctx, t);
}

const mmf_preparation_kind mmf_preparation_wordpiece = {
    .def = {.name = "wordpiece",
            .title = "Tokens of texts by the vocabulary of a BERT",
            .equations = "(T) ids with [CLS] and [SEP], cut to max_length; wordpiece=FOLDER names "
                         "the vocabulary, which models carry along",
            .kind = MMF_KIND_PREPARATION,
            .options = options},
    .reads = MMF_RAW_TEXT,
    .source = "source",
    .waits = waits,
    .settle = settle,
    .open = open_text,
    .run = run,
    .vocab = vocab,
    .close = close_text,
};
