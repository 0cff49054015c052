/*
 * wordpiece.c: text to ids, code point by code point.
 *
 * The reference makes a normalised copy of the text; here a code point goes through all stages
 * before the next one is read, so memory does not depend on the text. Two things need to look
 * further: marks, which wait until a character of combining class 0 comes, to be sorted by class,
 * and the word, of which no more than `max_word` code points matter: a longer one is unknown.
 */
#include "data/wordpiece_parts.h"

#include <string.h>

#include "data/unicode.h"
#include "io/utf8.h"

/* Where ids go: the first `limit` of them. */
typedef struct id_sink {
    int64_t *ids; /* NULL: they are counted */
    int64_t n, limit;
} id_sink;

typedef struct word_reader {
    const mmf_wordpiece *w;
    id_sink sink;
    /* Marks that wait to be sorted; those beyond max_word belong to a word that is unknown. */
    uint32_t marks[MMF_WORDPIECE_MAX_WORD + 1];
    int mark_classes[MMF_WORDPIECE_MAX_WORD + 1];
    int64_t n_marks;
    char word[4 * MMF_WORDPIECE_MAX_WORD];
    size_t n_bytes;
    int64_t n_codes; /* of the word, also those that did not fit */
} word_reader;

static bool is_full(const id_sink *sink)
{
    return sink->n >= sink->limit;
}

static void put_id(id_sink *sink, int32_t id)
{
    if (is_full(sink))
        return;
    if (sink->ids)
        sink->ids[sink->n] = id;
    sink->n++;
}

/* ---- One word ---------------------------------------------------------------------------- */

/* The longest piece at `start`: hashes of all beginnings first, then a look from the longest down.
 */
static const mmf_piece *longest_piece(const mmf_wordpiece *w, const char *word, size_t n_bytes,
                                      size_t start)
{
    const char *const prefix = start > 0 ? w->prefix : "";
    uint64_t hash = mmf_wordpiece_hash(MMF_WORDPIECE_HASH, prefix, strlen(prefix));
    uint64_t hashes[MMF_WORDPIECE_MAX_PIECE_BYTES];
    size_t n = n_bytes - start < w->longest ? n_bytes - start : w->longest;
    for (size_t i = 0; i < n; i++) {
        hash = mmf_wordpiece_hash(hash, word + start + i, 1);
        hashes[i] = hash;
    }
    for (; n > 0; n--) {
        const mmf_piece *const piece =
            mmf_wordpiece_look_up(w, prefix, word + start, n, hashes[n - 1]);
        if (piece)
            return piece;
    }
    return NULL;
}

static void end_word(word_reader *r)
{
    int32_t ids[MMF_WORDPIECE_MAX_WORD];
    size_t n_ids = 0;
    const mmf_wordpiece *const w = r->w;
    if (r->n_codes == 0)
        return;
    bool known = r->n_codes <= w->max_word;
    for (size_t start = 0; known && start < r->n_bytes;) {
        const mmf_piece *const piece = longest_piece(w, r->word, r->n_bytes, start);
        known = piece != NULL;
        if (known) {
            ids[n_ids++] = piece->id;
            start += piece->n_bytes - (start > 0 ? strlen(w->prefix) : 0);
        }
    }
    for (size_t i = 0; known && i < n_ids; i++)
        put_id(&r->sink, ids[i]);
    if (!known)
        put_id(&r->sink, w->unknown);
    r->n_bytes = 0;
    r->n_codes = 0;
}

/* ---- One code point ---------------------------------------------------------------------- */

static void add_to_word(word_reader *r, uint32_t code)
{
    if (r->n_codes < r->w->max_word)
        r->n_bytes += mmf_utf8_encode(code, r->word + r->n_bytes);
    r->n_codes++;
}

static void split_words(word_reader *r, uint32_t code)
{
    if (mmf_unicode_is_space(code)) {
        end_word(r);
    } else if (r->w->rules.punctuation && mmf_unicode_is_punctuation(code)) {
        end_word(r);
        add_to_word(r, code);
        end_word(r);
    } else {
        add_to_word(r, code);
    }
}

static void lower(word_reader *r, uint32_t code)
{
    uint32_t parts[2] = {code, 0};
    const int n = r->w->rules.lower_case ? mmf_unicode_lower(code, parts) : 1;
    for (int i = 0; i < n; i++)
        split_words(r, parts[i]);
}

static void release_marks(word_reader *r)
{
    for (int64_t i = 0; i < r->n_marks; i++)
        lower(r, r->marks[i]);
    r->n_marks = 0;
}

/* Stable: marks of one class stay in their order. */
static void keep_mark(word_reader *r, uint32_t code, int combining)
{
    if (r->n_marks > MMF_WORDPIECE_MAX_WORD)
        return;
    int64_t place = r->n_marks++;
    for (; place > 0 && r->mark_classes[place - 1] > combining; place--) {
        r->marks[place] = r->marks[place - 1];
        r->mark_classes[place] = r->mark_classes[place - 1];
    }
    r->marks[place] = code;
    r->mark_classes[place] = combining;
}

static void strip(word_reader *r, uint32_t code)
{
    if (!r->w->rules.strip_accents) {
        lower(r, code);
        return;
    }
    uint32_t parts[MMF_UNICODE_MAX_PARTS] = {code};
    const int n = code < 0x80 ? 1 : mmf_unicode_decompose(code, parts);
    for (int i = 0; i < n; i++) {
        const int combining = parts[i] < 0x80 ? 0 : mmf_unicode_combining(parts[i]);
        if (combining == 0)
            release_marks(r);
        if (mmf_unicode_is_nonspacing(parts[i]))
            continue;
        if (combining == 0)
            lower(r, parts[i]);
        else
            keep_mark(r, parts[i], combining);
    }
}

static void clean(word_reader *r, uint32_t code)
{
    const mmf_wordpiece_rules *const rules = &r->w->rules;
    if (rules->clean) {
        if (mmf_unicode_is_control(code))
            return;
        code = mmf_unicode_is_space(code) ? ' ' : code;
    }
    const bool alone = rules->ideographs && mmf_unicode_is_ideograph(code);
    if (alone)
        strip(r, ' ');
    strip(r, code);
    if (alone)
        strip(r, ' ');
}

/* ---- A text ------------------------------------------------------------------------------ */

/* The longest added token at the start of `text`, NULL if there is none. */
static const mmf_piece *added_at(const mmf_wordpiece *w, const char *text, size_t n_bytes)
{
    const mmf_piece *longest = NULL;
    if (!w->added_begins[(unsigned char)text[0]])
        return NULL;
    for (size_t i = 0; i < w->n_added; i++) {
        const mmf_piece *const a = &w->added[i];
        if (a->n_bytes <= n_bytes && memcmp(a->text, text, a->n_bytes) == 0 &&
            (!longest || a->n_bytes > longest->n_bytes))
            longest = a;
    }
    return longest;
}

static void end_part(word_reader *r)
{
    release_marks(r);
    end_word(r);
}

/* Writes up to `limit` pieces of a text. @param ids  NULL: they are counted  @return how many */
static int64_t read_text(const mmf_wordpiece *w, const char *text, size_t n_bytes, int64_t limit,
                         int64_t *ids)
{
    word_reader r = {.w = w, .sink = {ids, 0, limit}};
    for (size_t i = 0; i < n_bytes && !is_full(&r.sink);) {
        const mmf_piece *const added = added_at(w, text + i, n_bytes - i);
        if (added) {
            end_part(&r);
            put_id(&r.sink, added->id);
            i += added->n_bytes;
            continue;
        }
        uint32_t code = MMF_UTF8_REPLACEMENT;
        const size_t n = mmf_utf8_sequence(text + i, n_bytes - i, &code);
        clean(&r, n ? code : MMF_UTF8_REPLACEMENT);
        i += n ? n : 1;
    }
    end_part(&r);
    return r.sink.n;
}

/*
 * How many pieces of each text stay when both together may have `room`: the longer one gives way
 * until both are alike, then they share, and of an odd number the longer one has one more.
 */
static void share_room(int64_t room, int64_t n[2])
{
    const bool swapped = n[0] > n[1];
    int64_t shorter = n[swapped], longer = n[!swapped];
    if (shorter + longer <= room)
        return;
    longer = room - shorter > shorter ? room - shorter : shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    n[swapped] = shorter;
    n[!swapped] = longer;
}

static void count_pieces(const mmf_wordpiece *w, const mmf_wordpiece_text *text, int64_t limit,
                         int64_t n[2])
{
    n[0] = read_text(w, text->text, text->n_bytes, limit, NULL);
    n[1] = read_text(w, text->pair, text->n_pair_bytes, limit, NULL);
}

/* Which of two long texts is the longer one matters for an odd number alone. */
static void divide_room(const mmf_wordpiece *w, const mmf_wordpiece_text *text, int64_t room,
                        int64_t n[2])
{
    count_pieces(w, text, room, n);
    if (room % 2 && n[0] == room && n[1] == room)
        count_pieces(w, text, INT64_MAX, n);
    share_room(room, n);
}

mmf_status mmf_wordpiece_encode_bytes(mmf_ctx *ctx, const mmf_wordpiece *w,
                                      const mmf_wordpiece_text *text, int64_t max_length,
                                      int64_t *ids, int64_t *segments, int64_t *n)
{
    const mmf_template *const form = text->pair ? &w->pair : &w->single;
    int64_t room = max_length;
    for (size_t i = 0; i < form->n_items; i++)
        room -= form->items[i].kind == MMF_ITEM_TOKEN;
    *n = 0;
    if (room < 0)
        return mmf_fail(ctx, MMF_ARG,
                        "a length of %lld tokens has no room for the %lld special ones",
                        (long long)max_length, (long long)(max_length - room));
    int64_t most[2] = {room, 0};
    if (text->pair)
        divide_room(w, text, room, most);
    for (size_t i = 0; i < form->n_items; i++) {
        const mmf_template_item *const item = &form->items[i];
        const int64_t before = *n;
        if (item->kind == MMF_ITEM_TOKEN)
            ids[(*n)++] = item->id;
        else if (item->kind == MMF_ITEM_FIRST)
            *n += read_text(w, text->text, text->n_bytes, most[0], ids + *n);
        else
            *n += read_text(w, text->pair, text->n_pair_bytes, most[1], ids + *n);
        for (int64_t k = before; segments && k < *n; k++)
            segments[k] = item->segment;
    }
    return MMF_OK;
}

mmf_status mmf_wordpiece_encode(mmf_ctx *ctx, const mmf_wordpiece *w, const char *text,
                                const char *pair, int64_t max_length, int64_t *ids,
                                int64_t *segments, int64_t *n)
{
    const mmf_wordpiece_text both = {text, strlen(text), pair, pair ? strlen(pair) : 0};
    return mmf_wordpiece_encode_bytes(ctx, w, &both, max_length, ids, segments, n);
}
