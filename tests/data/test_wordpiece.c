/*
 * test_wordpiece.c: ids of the reference tokenizer, and what it does not define: cut lengths,
 * broken bytes, files that are no WordPiece, long texts.
 */
#include "data/wordpiece.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "data/unicode.h"
#include "support.h"

#define TEN "one two three four five six seven eight nine ten"
enum { MOST_IDS = 64 };

typedef enum rules { UNCASED, CASED, ACCENTS, N_RULES } rules;

/* Computed by the Python package `tokenizers` with the vocabulary of bert-base-uncased. */
static const struct {
    rules rules;
    const char *text, *pair;
    int64_t max_length, n, n_first; /* tokens, and those of segment 0 */
    int64_t ids[24];
} cases[] = {
    {UNCASED, "", NULL, 64, 2, 2, {101, 102}},
    {UNCASED,
     "Hello, WORLD!  Caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 unaffable\x09unaffables xyz",
     NULL,
     64,
     18,
     18,
     {101, 7592, 1010, 2088, 999, 7668, 1746, 1861, 14477, 20961, 3468, 14477, 20961, 13510, 1060,
      2100, 2480, 102}},
    {UNCASED,
     "na\xc3\xafve fa\xc3\xa7"
     "ade \xe1\xbb\x87",
     NULL,
     64,
     5,
     5,
     {101, 15743, 8508, 1041, 102}},
    {UNCASED,
     "\xc4\xb0stanbul \xce\x9f\xce\x94\xce\x9f\xce\xa3",
     NULL,
     64,
     7,
     7,
     {101, 9960, 1169, 29722, 29730, 29733, 102}},
    {UNCASED,
     "a\xcc\x81\xcc\xa3"
     "b \xcd\x84 \xe1\xbf\xaf\xcd\xbe",
     NULL,
     64,
     5,
     5,
     {101, 11113, 1036, 1025, 102}},
    {UNCASED,
     "x\xe2\x80\x8b\xc2\xady\xee\x80\x80z\xef\xbf\xbd!",
     NULL,
     64,
     6,
     6,
     {101, 1060, 2100, 2480, 999, 102}},
    {UNCASED,
     "\xe2\x80\xa8"
     "a\xe3\x80\x80"
     "b\xc2\xa0"
     "c\xe1\x9a\x80"
     "d",
     NULL,
     64,
     6,
     6,
     {101, 1037, 1038, 1039, 1040, 102}},
    {UNCASED,
     "don't $5.00 <b>|^_`~+= \xe2\x82\xac \xc2\xb0",
     NULL,
     64,
     21,
     21,
     {101,  2123, 1005, 1056, 1002, 1019, 1012, 4002, 1026, 1038, 1028,
      1064, 1034, 1035, 1036, 1066, 1009, 1027, 1574, 1080, 102}},
    {UNCASED,
     "\xef\xbc\xa1\xef\xbc\xa2 \xef\xac\x81n \xe2\x84\xa6",
     NULL,
     64,
     6,
     6,
     {101, 100, 1984, 2078, 1179, 102}},
    {UNCASED,
     "\xe3\x82\xab\xe3\x82\xbf\xe3\x81\x8b\xe3\x81\xaa \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4",
     NULL,
     64,
     14,
     14,
     {101, 1700, 30235, 30177, 30193, 1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 102}},
    {UNCASED,
     "\xf0\xa0\x80\x80\xf0\xab\xa0\xa0 \xef\xa4\x80",
     NULL,
     64,
     5,
     5,
     {101, 100, 100, 100, 102}},
    {UNCASED,
     "[MASK] [SEP]x[sep] [CLS]] [[PAD]",
     NULL,
     64,
     12,
     12,
     {101, 103, 102, 1060, 1031, 19802, 1033, 101, 1033, 1031, 0, 102}},
    {UNCASED,
     "\xf0\x9f\x98\x80 \xd8\x9d \xe9\xbf\x95\xe9\xbf\xaf",
     NULL,
     64,
     6,
     6,
     {101, 100, 100, 100, 100, 102}},
    {UNCASED, "\xe1\xb2\x89\xea\x9f\x9a \xcd\xb8", NULL, 64, 4, 4, {101, 100, 100, 102}},
    {UNCASED,
     "##ing # # unused1 [unused1]",
     NULL,
     64,
     13,
     13,
     {101, 1001, 1001, 13749, 1001, 1001, 15171, 2487, 1031, 15171, 2487, 1033, 102}},
    {CASED, "Hello caf\xc3\xa9 e\xcc\x81", NULL, 64, 5, 5, {101, 100, 100, 100, 102}},
    {CASED,
     "\xe4\xb8\xad"
     "ABC",
     NULL,
     64,
     4,
     4,
     {101, 1746, 100, 102}},
    {ACCENTS, "Caf\xc3\xa9 \xc4\xb0 e\xcc\x81", NULL, 64, 5, 5, {101, 100, 100, 100, 102}},
    {UNCASED, TEN, NULL, 2, 2, 2, {101, 102}},
    {UNCASED, TEN, NULL, 3, 3, 3, {101, 2028, 102}},
    {UNCASED, TEN, NULL, 7, 7, 7, {101, 2028, 2048, 2093, 2176, 2274, 102}},
    {UNCASED, TEN, "a b c", 3, 3, 2, {101, 102, 102}},
    {UNCASED, TEN, "a b c", 4, 4, 3, {101, 2028, 102, 102}},
    {UNCASED, TEN, "a b c", 8, 8, 5, {101, 2028, 2048, 2093, 102, 1037, 1038, 102}},
    {UNCASED, TEN, "a b c", 9, 9, 5, {101, 2028, 2048, 2093, 102, 1037, 1038, 1039, 102}},
    {UNCASED,
     TEN,
     "a b c",
     64,
     16,
     12,
     {101, 2028, 2048, 2093, 2176, 2274, 2416, 2698, 2809, 3157, 2702, 102, 1037, 1038, 1039, 102}},
    {UNCASED, "a b c", TEN, 8, 8, 4, {101, 1037, 1038, 102, 2028, 2048, 2093, 102}},
    {UNCASED, "a b c", TEN, 9, 9, 5, {101, 1037, 1038, 1039, 102, 2028, 2048, 2093, 102}},
    {UNCASED, TEN, TEN, 8, 8, 4, {101, 2028, 2048, 102, 2028, 2048, 2093, 102}},
    {UNCASED, TEN, TEN, 9, 9, 5, {101, 2028, 2048, 2093, 102, 2028, 2048, 2093, 102}},
    {UNCASED,
     TEN,
     TEN,
     12,
     12,
     6,
     {101, 2028, 2048, 2093, 2176, 102, 2028, 2048, 2093, 2176, 2274, 102}},
    {UNCASED,
     "a b c d e f g h i j k",
     TEN,
     9,
     9,
     5,
     {101, 1037, 1038, 1039, 102, 2028, 2048, 2093, 102}},
};

/* The reference's vocabulary with settings beside it; NULL where it is not there. */
static mmf_wordpiece *load_base(mmf_ctx *ctx, const char *settings)
{
    const char *const vocab = test_shared("data/weights/bert-base-uncased-vocab.txt");
    if (!vocab)
        return NULL;
    const char *const folder = test_path("wordpiece-base");
    mmf_mapping file;
    test_ok(ctx, mmf_map_open(ctx, &file, vocab));
    char copy[512];
    test_ok(ctx, mmf_make_folder(ctx, folder));
    snprintf(copy, sizeof copy, "%s/vocab.txt", folder);
    test_ok(ctx, mmf_write_text(ctx, copy, (const char *)file.bytes, file.n_bytes));
    mmf_map_close(&file);
    test_write(ctx, folder, "tokenizer_config.json", settings);
    mmf_wordpiece *w = NULL;
    test_ok(ctx, mmf_wordpiece_load(ctx, &w, folder));
    return w;
}

static void check_case(mmf_ctx *ctx, const mmf_wordpiece *w, size_t i)
{
    int64_t ids[MOST_IDS], segments[MOST_IDS], n = 0;
    test_ok(ctx, mmf_wordpiece_encode(ctx, w, cases[i].text, cases[i].pair, cases[i].max_length,
                                      ids, segments, &n));
    if (n != cases[i].n || memcmp(ids, cases[i].ids, (size_t)n * sizeof *ids) != 0)
        fail_msg("case %zu, \"%s\": other ids than the reference", i, cases[i].text);
    for (int64_t k = 0; k < n; k++)
        assert_int_equal(segments[k], k >= cases[i].n_first);
}

static void ids_are_the_references(void **state)
{
    (void)state;
    static const char *const settings[N_RULES] = {
        [UNCASED] = "{\"do_lower_case\": true, \"strip_accents\": null}",
        [CASED] = "{\"do_lower_case\": false}",
        [ACCENTS] = "{\"do_lower_case\": true, \"strip_accents\": false}"};
    mmf_ctx *const ctx = test_ctx();
    for (int r = 0; r < N_RULES; r++) {
        mmf_wordpiece *const w = load_base(ctx, settings[r]);
        if (!w)
            break;
        assert_int_equal(mmf_wordpiece_vocab(w), 30522);
        char *const json = mmf_wordpiece_json(w);
        assert_non_null(json);
        mmf_wordpiece *again = NULL;
        test_ok(ctx, mmf_wordpiece_parse_json(ctx, &again, json, strlen(json)));
        mmf_free(ctx, json);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            if (cases[i].rules != (rules)r)
                continue;
            check_case(ctx, w, i);
            check_case(ctx, again, i);
        }
        mmf_wordpiece_free(again);
        mmf_wordpiece_free(w);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

/* ---- A vocabulary of a few pieces -------------------------------------------------------- */

static const char small_vocab[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nhello\n,\nworld\n!\ncafe\n"
    "\xe4\xb8\xad\n\xe6\x96\x87\n##s\na\n##a\ne\n##e\n";
enum { UNK = 1, CLS = 2, SEP = 3 };

static mmf_wordpiece *load_small(mmf_ctx *ctx)
{
    mmf_wordpiece *w = NULL;
    test_ok(ctx, mmf_wordpiece_parse_vocab(ctx, &w, small_vocab, sizeof small_vocab - 1));
    return w;
}

static int64_t encode(mmf_ctx *ctx, const mmf_wordpiece *w, const char *text, int64_t *ids)
{
    int64_t n = 0;
    test_ok(ctx, mmf_wordpiece_encode(ctx, w, text, NULL, MOST_IDS, ids, NULL, &n));
    return n;
}

static void words_fall_into_pieces(void **state)
{
    (void)state;
    static const int64_t wanted[] = {CLS, 8, 9, 10, 11, 12, 13, 14, 5, 6, 7, 5, 6, 7, 15, UNK, SEP};
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *const w = load_small(ctx);
    int64_t ids[MOST_IDS];
    const int64_t n = encode(ctx, w,
                             "Hello, WORLD!  Caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 unaffable\t"
                             "unaffables xyz",
                             ids);
    assert_int_equal(n, sizeof wanted / sizeof *wanted);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_string_equal(mmf_wordpiece_piece(w, 6), "##aff");
    assert_null(mmf_wordpiece_piece(w, 20));
    assert_int_equal(mmf_wordpiece_find(w, "##able"), 7);
    assert_int_equal(mmf_wordpiece_find(w, "able"), -1);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

static void words_of_over_a_hundred_are_unknown(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *const w = load_small(ctx);
    char text[400] = "";
    int64_t ids[200], n = 0;
    memset(text, 'a', 100);
    test_ok(ctx, mmf_wordpiece_encode(ctx, w, text, NULL, 200, ids, NULL, &n));
    assert_int_equal(n, 102);
    text[100] = 'a';
    assert_int_equal(encode(ctx, w, text, ids), 3);
    assert_int_equal(ids[1], UNK);
    /* Accents do not count, as they are gone before words are. */
    text[0] = '\0';
    for (int i = 0; i < 100; i++)
        memcpy(text + 3 * i, "e\xcc\x81", 4);
    test_ok(ctx, mmf_wordpiece_encode(ctx, w, text, NULL, 200, ids, NULL, &n));
    assert_int_equal(n, 102);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

static void broken_bytes_vanish(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *const w = load_small(ctx);
    int64_t ids[MOST_IDS];
    assert_int_equal(encode(ctx, w, "hel\xfflo \xc3 \xed\xa0\x80 [MASK]\xe4\xb8", ids), 4);
    assert_int_equal(ids[1], 8);
    assert_int_equal(ids[2], 4);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

static void a_length_without_room_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *const w = load_small(ctx);
    int64_t ids[MOST_IDS], n = 0;
    test_fails(ctx, mmf_wordpiece_encode(ctx, w, "a", NULL, 1, ids, NULL, &n), MMF_ARG,
               "2 special");
    test_fails(ctx, mmf_wordpiece_encode(ctx, w, "a", "a", 2, ids, NULL, &n), MMF_ARG, "3 special");
    assert_int_equal(n, 0);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

static void a_million_characters_take_no_memory(void **state)
{
    (void)state;
    static const char *const units[] = {"a",     "hello, world ", "e\xcc\x81", "a\xe3\x80\xae",
                                        "[MASK", "\xe4\xb8\xad"};
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *const w = load_small(ctx);
    int64_t ids[MOST_IDS], n = 0;
    const size_t length = 1000000;
    char *const text = malloc(length + 1);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        const size_t n_unit = strlen(units[u]);
        for (size_t i = 0; i < length; i++)
            text[i] = units[u][i % n_unit];
        text[length] = '\0';
        const mmf_memory_stats before = mmf_ctx_memory(ctx);
        test_ok(ctx, mmf_wordpiece_encode(ctx, w, text, text, MOST_IDS, ids, NULL, &n));
        assert_true(n >= 5 && n <= MOST_IDS);
        assert_int_equal(mmf_ctx_memory(ctx).n_allocations, before.n_allocations);
    }
    free(text);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

/* ---- Files ------------------------------------------------------------------------------- */

#define MODEL                                                                                      \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"a\":1,"    \
    "\"##b\":2,\"[CLS]\":3}}"
#define BERT                                                                                       \
    "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"                    \
    "\"BertPreTokenizer\"}"

static void what_is_no_wordpiece_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        mmf_status status;
        const char *message;
    } bad[] = {
        {"[]", MMF_FORMAT, "not an object"},
        {"{\"model\":", MMF_FORMAT, "not JSON"},
        {"{}", MMF_UNSUPPORTED, "WordPiece"},
        {"{\"model\":{\"type\":\"BPE\"}}", MMF_UNSUPPORTED, "\"BPE\" is not offered"},
        {"{\"model\":{\"type\":\"WordPiece\"}}", MMF_FORMAT, "model.vocab"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", MMF_FORMAT, "[UNK]"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":-1}}}", MMF_LIMIT, "-1"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":99999999}}}", MMF_LIMIT, "99999999"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":\"1\"}}}", MMF_FORMAT,
         "whole number"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"NFKC\"}}", MMF_UNSUPPORTED, "NFKC"},
        {"{" MODEL ",\"normalizer\":null}", MMF_UNSUPPORTED, "pre-tokenizer"},
        {"{" MODEL "," BERT ",\"post_processor\":{\"type\":\"RobertaProcessing\"}}",
         MMF_UNSUPPORTED, "RobertaProcessing"},
        {"{" MODEL "," BERT ",\"post_processor\":{\"type\":\"BertProcessing\"}}", MMF_FORMAT,
         "cls"},
        {"{" MODEL "," BERT ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}",
         MMF_UNSUPPORTED, "each of 1 texts"},
        {"{" MODEL "," BERT
         ",\"added_tokens\":[{\"id\":4,\"content\":\"<x>\",\"normalized\":true}]}",
         MMF_UNSUPPORTED, "<x>"},
    };
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *w = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_fails(ctx, mmf_wordpiece_parse_json(ctx, &w, bad[i].json, strlen(bad[i].json)),
                   bad[i].status, bad[i].message);
        assert_null(w);
    }
    test_fails(ctx, mmf_wordpiece_parse_vocab(ctx, &w, "", 0), MMF_FORMAT, "empty");
    test_fails(ctx, mmf_wordpiece_parse_vocab(ctx, &w, "a\nb\n", 4), MMF_FORMAT, "[UNK]");
    test_fails(ctx, mmf_wordpiece_parse_vocab(ctx, &w, "\xff\n", 2), MMF_FORMAT, "UTF-8");
    test_fails(ctx, mmf_wordpiece_parse_vocab(ctx, &w, "a\0b\n", 4), MMF_FORMAT, "NUL");
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void json_settings_count(void **state)
{
    (void)state;
    static const char json[] =
        "{" MODEL ",\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":false},"
        "\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"post_processor\":null,"
        "\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"special\":true}]}";
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *w = NULL;
    test_ok(ctx, mmf_wordpiece_parse_json(ctx, &w, json, sizeof json - 1));
    int64_t ids[MOST_IDS];
    static const int64_t wanted[] = {1, 2, 9, 0, 0};
    assert_int_equal(encode(ctx, w, "ab<x> A a,b", ids), 5);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_int_equal(mmf_wordpiece_vocab(w), 10);
    mmf_wordpiece_free(w);
    mmf_ctx_free(ctx);
}

static void folders_are_searched(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const char *const folder = test_path("wordpiece-folder");
    mmf_wordpiece *w = NULL;
    test_ok(ctx, mmf_make_folder(ctx, folder));
    test_fails(ctx, mmf_wordpiece_load(ctx, &w, folder), MMF_IO, "neither tokenizer.json nor");
    test_write(ctx, folder, "vocab.txt", "<unk>\r\n<s>\r\n</s>\r\nA\r\n");
    test_fails(ctx, mmf_wordpiece_load(ctx, &w, folder), MMF_FORMAT, "[UNK]");
    test_write(ctx, folder, "tokenizer_config.json",
               "{\"do_lower_case\":false,\"unk_token\":{\"content\":\"<unk>\"},"
               "\"cls_token\":\"<s>\",\"sep_token\":\"</s>\"}");
    test_ok(ctx, mmf_wordpiece_load(ctx, &w, folder));
    int64_t ids[MOST_IDS];
    static const int64_t wanted[] = {1, 3, 2, 0, 2};
    assert_int_equal(encode(ctx, w, "A</s> a", ids), 5);
    assert_memory_equal(ids, wanted, sizeof wanted);
    mmf_wordpiece_free(w);
    test_write(ctx, folder, "tokenizer.json", "{}");
    test_fails(ctx, mmf_wordpiece_load(ctx, &w, folder), MMF_UNSUPPORTED, "tokenizer.json");
    mmf_ctx_free(ctx);
}

static void builds_without_unicode_say_so(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *w = NULL;
    test_fails(ctx, mmf_wordpiece_parse_vocab(ctx, &w, small_vocab, sizeof small_vocab - 1),
               MMF_UNSUPPORTED, "MMF_WITH_UTF8PROC");
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest without[] = {cmocka_unit_test(builds_without_unicode_say_so)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_the_references),
        cmocka_unit_test(words_fall_into_pieces),
        cmocka_unit_test(words_of_over_a_hundred_are_unknown),
        cmocka_unit_test(broken_bytes_vanish),
        cmocka_unit_test(a_length_without_room_is_refused),
        cmocka_unit_test(a_million_characters_take_no_memory),
        cmocka_unit_test(what_is_no_wordpiece_is_refused),
        cmocka_unit_test(json_settings_count),
        cmocka_unit_test(folders_are_searched),
    };
    if (!mmf_unicode_is_whole())
        return cmocka_run_group_tests(without, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
