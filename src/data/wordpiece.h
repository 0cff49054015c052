/*
 * wordpiece.h: text to the token ids of BERT and its relatives.
 *
 * Exact to the fast tokenizer of Hugging Face (`tokenizers`), for every code point: text is split
 * at special tokens, cleaned, spaced around ideographs, stripped of accents, lower-cased, split at
 * spaces and punctuation, and every word is cut greedily into the longest pieces of the vocabulary.
 * The reference classifies code points by Unicode 8 and knows no final sigma; so do we. Bytes that
 * are no UTF-8, which a text there cannot have, count as U+FFFD, which cleaning drops.
 *
 * What a tokenizer.json asks for beyond that (other models, normalizers, pre-tokenizers, added
 * tokens with conditions) is refused by name.
 */
#ifndef MMFUSE_DATA_WORDPIECE_H
#define MMFUSE_DATA_WORDPIECE_H

#include "mmfuse/base.h"

/** A vocabulary and its rules. Immutable once loaded: threads may share one for encoding. */
typedef struct mmf_wordpiece mmf_wordpiece;

/**
 * Reads vocab.txt, tokenizer.json, or a folder that holds either (tokenizer.json first).
 * tokenizer_config.json beside it decides about lower case, accents, ideographs and the names of
 * the special tokens, as it does in the reference.
 *
 * @param out  freed with mmf_wordpiece_free
 * @errors     IO, FORMAT, LIMIT, UNSUPPORTED (no WordPiece; a build without utf8proc); the message
 *             names the file
 */
mmf_status mmf_wordpiece_load(mmf_ctx *ctx, mmf_wordpiece **out, const char *path);
/** As mmf_wordpiece_load from the bytes of a tokenizer.json, such as mmf_wordpiece_json makes. */
mmf_status mmf_wordpiece_parse_json(mmf_ctx *ctx, mmf_wordpiece **out, const char *json,
                                    size_t n_bytes);
/** From the bytes of a vocab.txt, with the rules of bert-base-uncased. */
mmf_status mmf_wordpiece_parse_vocab(mmf_ctx *ctx, mmf_wordpiece **out, const char *text,
                                     size_t n_bytes);
/** Accepts NULL. */
void mmf_wordpiece_free(mmf_wordpiece *wordpiece);

/** The whole tokenizer as a tokenizer.json. @return freed with mmf_free; NULL after an error */
char *mmf_wordpiece_json(const mmf_wordpiece *wordpiece);

/** One more than the largest id: rows of the table of embeddings. */
int64_t mmf_wordpiece_vocab(const mmf_wordpiece *wordpiece);
/** The piece of an id ("##able"), NULL if it has none; borrowed. */
const char *mmf_wordpiece_piece(const mmf_wordpiece *wordpiece, int64_t id);
/** The id of a piece or special token, -1 if there is none. */
int64_t mmf_wordpiece_find(const mmf_wordpiece *wordpiece, const char *piece);

/** One text or a pair of them. */
typedef struct mmf_wordpiece_text {
    const char *text;
    size_t n_bytes;
    const char *pair; /**< NULL: a single text */
    size_t n_pair_bytes;
} mmf_wordpiece_text;

/**
 * Ids with the special tokens of the template ([CLS] A [SEP], [CLS] A [SEP] B [SEP]), cut to
 * `max_length` by dropping the last pieces, of a pair from the longer text first. Takes no memory
 * and stops reading where the cut is.
 *
 * @param ids, segments  room for `max_length` numbers; `segments` may be NULL
 * @param n              receives how many were written
 * @errors               ARG (max_length has no room for the special tokens)
 */
mmf_status mmf_wordpiece_encode_bytes(mmf_ctx *ctx, const mmf_wordpiece *wordpiece,
                                      const mmf_wordpiece_text *text, int64_t max_length,
                                      int64_t *ids, int64_t *segments, int64_t *n);
/** The same for strings. @param pair  NULL: a single text */
mmf_status mmf_wordpiece_encode(mmf_ctx *ctx, const mmf_wordpiece *wordpiece, const char *text,
                                const char *pair, int64_t max_length, int64_t *ids,
                                int64_t *segments, int64_t *n);

#endif
