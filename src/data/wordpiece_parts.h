/* wordpiece_parts.h: the inside of mmf_wordpiece, for the files that read it and the one that runs
 * it. */
#ifndef MMFUSE_DATA_WORDPIECE_PARTS_H
#define MMFUSE_DATA_WORDPIECE_PARTS_H

#include "data/wordpiece.h"

#define MMF_WORDPIECE_MAX_VOCAB ((int64_t)1 << 20)
#define MMF_WORDPIECE_MAX_PIECE_BYTES 1024
#define MMF_WORDPIECE_MAX_ADDED 1024
#define MMF_WORDPIECE_MAX_WORD 512 /* code points of a word; the usual setting is 100 */
#define MMF_WORDPIECE_MAX_ITEMS 32 /* of a template */

/* A piece and its place in the table of hashes. */
typedef struct mmf_piece {
    char *text;
    uint64_t hash;
    uint32_t n_bytes;
    int32_t id;
} mmf_piece;

/* One entry of a template: the first text, the second, or a special token. */
typedef struct mmf_template_item {
    enum { MMF_ITEM_FIRST, MMF_ITEM_SECOND, MMF_ITEM_TOKEN } kind;
    int32_t id;
    int segment;
} mmf_template_item;

typedef struct mmf_template {
    mmf_template_item items[MMF_WORDPIECE_MAX_ITEMS];
    size_t n_items;
} mmf_template;

typedef struct mmf_wordpiece_rules {
    bool clean, ideographs, strip_accents, lower_case;
    bool punctuation; /* words end at punctuation too, not at spaces alone */
} mmf_wordpiece_rules;

struct mmf_wordpiece {
    mmf_ctx *ctx;
    mmf_wordpiece_rules rules;
    mmf_piece *pieces; /* in the order of reading */
    size_t n_pieces, piece_capacity;
    size_t longest; /* bytes of the longest piece */
    int32_t *slots; /* open addressing: number of a piece or -1 */
    size_t n_slots; /* a power of two */
    int32_t *by_id; /* number of the piece or -1 */
    int64_t n_by_id;
    int64_t vocab;    /* beyond n_by_id where an added token has a larger id */
    mmf_piece *added; /* never split, found in the text as it is given */
    size_t n_added;
    bool added_begins[256];
    char *prefix; /* of pieces inside a word */
    int64_t max_word;
    int32_t unknown;
    mmf_template single, pair;
};

/* ---- wordpiece_vocab.c ---- */

#define MMF_WORDPIECE_HASH UINT64_C(0xcbf29ce484222325)
/** Continues a hash, so that the hashes of all beginnings of a word cost one walk. */
uint64_t mmf_wordpiece_hash(uint64_t hash, const char *bytes, size_t n_bytes);

/** Adds a piece. @errors LIMIT, FORMAT (no UTF-8), NOMEM */
mmf_status mmf_wordpiece_add(mmf_wordpiece *w, const char *text, size_t n_bytes, int64_t id);
/** Adds a token that text is split at first, and that is never split. */
mmf_status mmf_wordpiece_add_special(mmf_wordpiece *w, const char *text, int64_t id);
/** Builds the tables once all pieces are there. @errors LIMIT, NOMEM */
mmf_status mmf_wordpiece_index(mmf_wordpiece *w);
/** The piece `prefix` + `text`, whose hash is `hash`; NULL if there is none. */
const mmf_piece *mmf_wordpiece_look_up(const mmf_wordpiece *w, const char *prefix, const char *text,
                                       size_t n_bytes, uint64_t hash);
/** [CLS] A [SEP] and [CLS] A [SEP] B [SEP]. */
void mmf_wordpiece_bert_templates(mmf_wordpiece *w, int32_t cls, int32_t sep);
/** An empty one with BERT's rules. */
mmf_status mmf_wordpiece_create(mmf_ctx *ctx, mmf_wordpiece **out);

#endif
