/* wordpiece_vocab.c: the pieces of a vocabulary and finding them. */
#include "data/wordpiece_parts.h"

#include <string.h>

#include "io/utf8.h"

#define HASH_FACTOR UINT64_C(0x100000001b3)
#define USUAL_WORD 100

uint64_t mmf_wordpiece_hash(uint64_t hash, const char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * HASH_FACTOR;
    return hash;
}

mmf_status mmf_wordpiece_create(mmf_ctx *ctx, mmf_wordpiece **out)
{
    mmf_wordpiece *const w = mmf_alloc_zero(ctx, 1, sizeof *w);
    *out = w;
    if (!w)
        return MMF_NOMEM;
    *w = (mmf_wordpiece){.ctx = ctx,
                         .rules = {true, true, true, true, true},
                         .max_word = USUAL_WORD,
                         .prefix = mmf_strdup(ctx, "##")};
    w->added = mmf_alloc_zero(ctx, MMF_WORDPIECE_MAX_ADDED, sizeof *w->added);
    return w->prefix && w->added ? MMF_OK : MMF_NOMEM;
}

void mmf_wordpiece_free(mmf_wordpiece *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_pieces; i++)
        mmf_free(w->ctx, w->pieces[i].text);
    for (size_t i = 0; i < w->n_added; i++)
        mmf_free(w->ctx, w->added[i].text);
    mmf_free(w->ctx, w->pieces);
    mmf_free(w->ctx, w->added);
    mmf_free(w->ctx, w->slots);
    mmf_free(w->ctx, w->by_id);
    mmf_free(w->ctx, w->prefix);
    mmf_free(w->ctx, w);
}

static mmf_status make_piece(mmf_wordpiece *w, mmf_piece *out, const char *text, size_t n_bytes,
                             int64_t id)
{
    if (n_bytes > MMF_WORDPIECE_MAX_PIECE_BYTES)
        return mmf_fail(w->ctx, MMF_LIMIT, "piece %lld has %zu bytes; at most %d are read",
                        (long long)id, n_bytes, MMF_WORDPIECE_MAX_PIECE_BYTES);
    if (id < 0 || id >= MMF_WORDPIECE_MAX_VOCAB)
        return mmf_fail(w->ctx, MMF_LIMIT, "the id %lld of \"%.*s\" is not in [0, %lld)",
                        (long long)id, (int)n_bytes, text, (long long)MMF_WORDPIECE_MAX_VOCAB);
    if (!mmf_utf8_valid(text, n_bytes) || memchr(text, '\0', n_bytes))
        return mmf_fail(w->ctx, MMF_FORMAT, "piece %lld is not valid UTF-8, or has a NUL",
                        (long long)id);
    char *const copy = mmf_alloc(w->ctx, n_bytes + 1);
    if (!copy)
        return MMF_NOMEM;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    *out = (mmf_piece){copy, mmf_wordpiece_hash(MMF_WORDPIECE_HASH, text, n_bytes),
                       (uint32_t)n_bytes, (int32_t)id};
    return MMF_OK;
}

mmf_status mmf_wordpiece_add(mmf_wordpiece *w, const char *text, size_t n_bytes, int64_t id)
{
    if (w->n_pieces == w->piece_capacity) {
        const size_t capacity = w->piece_capacity ? 2 * w->piece_capacity : 1024;
        mmf_piece *const grown = mmf_realloc(w->ctx, w->pieces, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        w->pieces = grown;
        w->piece_capacity = capacity;
    }
    if (w->n_pieces >= (size_t)MMF_WORDPIECE_MAX_VOCAB)
        return mmf_fail(w->ctx, MMF_LIMIT, "more than %lld pieces",
                        (long long)MMF_WORDPIECE_MAX_VOCAB);
    MMF_TRY(make_piece(w, &w->pieces[w->n_pieces], text, n_bytes, id));
    w->n_pieces++;
    w->longest = n_bytes > w->longest ? n_bytes : w->longest;
    w->vocab = id + 1 > w->vocab ? id + 1 : w->vocab;
    return MMF_OK;
}

mmf_status mmf_wordpiece_add_special(mmf_wordpiece *w, const char *text, int64_t id)
{
    const size_t n_bytes = strlen(text);
    if (n_bytes == 0)
        return MMF_OK;
    if (w->n_added == MMF_WORDPIECE_MAX_ADDED)
        return mmf_fail(w->ctx, MMF_LIMIT, "more than %d added tokens", MMF_WORDPIECE_MAX_ADDED);
    MMF_TRY(make_piece(w, &w->added[w->n_added], text, n_bytes, id));
    w->n_added++;
    w->added_begins[(unsigned char)text[0]] = true;
    w->vocab = id + 1 > w->vocab ? id + 1 : w->vocab;
    return MMF_OK;
}

static int32_t *slot_of(const mmf_wordpiece *w, const char *prefix, const char *text,
                        size_t n_bytes, uint64_t hash)
{
    const size_t n_prefix = strlen(prefix);
    size_t place = (size_t)(hash ^ hash >> 32) & (w->n_slots - 1);
    for (;; place = (place + 1) & (w->n_slots - 1)) {
        if (w->slots[place] < 0)
            return &w->slots[place];
        const mmf_piece *const p = &w->pieces[w->slots[place]];
        if (p->hash == hash && p->n_bytes == n_prefix + n_bytes &&
            memcmp(p->text, prefix, n_prefix) == 0 &&
            memcmp(p->text + n_prefix, text, n_bytes) == 0)
            return &w->slots[place];
    }
}

const mmf_piece *mmf_wordpiece_look_up(const mmf_wordpiece *w, const char *prefix, const char *text,
                                       size_t n_bytes, uint64_t hash)
{
    const int32_t i = *slot_of(w, prefix, text, n_bytes, hash);
    return i < 0 ? NULL : &w->pieces[i];
}

mmf_status mmf_wordpiece_index(mmf_wordpiece *w)
{
    w->n_slots = 16;
    while (w->n_slots < 2 * w->n_pieces + 2)
        w->n_slots *= 2;
    w->slots = mmf_alloc(w->ctx, w->n_slots * sizeof *w->slots);
    w->by_id = mmf_alloc(w->ctx, (size_t)(w->vocab + 1) * sizeof *w->by_id);
    w->n_by_id = w->vocab;
    if (!w->slots || !w->by_id)
        return MMF_NOMEM;
    memset(w->slots, 0xff, w->n_slots * sizeof *w->slots);
    memset(w->by_id, 0xff, (size_t)(w->vocab + 1) * sizeof *w->by_id);
    for (size_t i = 0; i < w->n_pieces; i++) {
        /* Of a piece that stands twice the later line counts, as in the reference. */
        const mmf_piece *const p = &w->pieces[i];
        *slot_of(w, "", p->text, p->n_bytes, p->hash) = (int32_t)i;
        w->by_id[p->id] = (int32_t)i;
    }
    return MMF_OK;
}

void mmf_wordpiece_bert_templates(mmf_wordpiece *w, int32_t cls, int32_t sep)
{
    w->single = (mmf_template){
        {{MMF_ITEM_TOKEN, cls, 0}, {MMF_ITEM_FIRST, 0, 0}, {MMF_ITEM_TOKEN, sep, 0}}, 3};
    w->pair = (mmf_template){{{MMF_ITEM_TOKEN, cls, 0},
                              {MMF_ITEM_FIRST, 0, 0},
                              {MMF_ITEM_TOKEN, sep, 0},
                              {MMF_ITEM_SECOND, 0, 1},
                              {MMF_ITEM_TOKEN, sep, 1}},
                             5};
}

int64_t mmf_wordpiece_vocab(const mmf_wordpiece *w)
{
    return w->vocab;
}

const char *mmf_wordpiece_piece(const mmf_wordpiece *w, int64_t id)
{
    if (id >= 0 && id < w->n_by_id && w->by_id[id] >= 0)
        return w->pieces[w->by_id[id]].text;
    for (size_t i = 0; i < w->n_added; i++) {
        if (w->added[i].id == id)
            return w->added[i].text;
    }
    return NULL;
}

int64_t mmf_wordpiece_find(const mmf_wordpiece *w, const char *piece)
{
    for (size_t i = 0; i < w->n_added; i++) {
        if (strcmp(w->added[i].text, piece) == 0)
            return w->added[i].id;
    }
    const size_t n = strlen(piece);
    const mmf_piece *const found =
        mmf_wordpiece_look_up(w, "", piece, n, mmf_wordpiece_hash(MMF_WORDPIECE_HASH, piece, n));
    return found ? found->id : -1;
}
