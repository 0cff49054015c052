/*
 * fuzz_vocabulary.c: any bytes as a tokenizer.json ("{" first) or a vocab.txt. What was read is
 * written and read again, and has to encode alike.
 */
#include "fuzz_archive.h"

#include <stdlib.h>
#include <string.h>

#include "data/wordpiece.h"

#define MAX_LENGTH 64
#define MEMORY_LIMIT ((size_t)64 << 20)

static void require(bool promise)
{
    if (!promise)
        abort();
}

static int64_t encode(mmf_ctx *ctx, const mmf_wordpiece *w, int64_t *ids)
{
    int64_t n = 0;
    memset(ids, 0, MAX_LENGTH * sizeof *ids);
    (void)mmf_wordpiece_encode(ctx, w, "Hello [MASK] unaffable, caf\xc3\xa9 \xe4\xb8\xad", "b",
                               MAX_LENGTH, ids, NULL, &n);
    for (int64_t i = 0; i < n; i++)
        require(ids[i] >= 0 && ids[i] < mmf_wordpiece_vocab(w));
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.memory_limit = MEMORY_LIMIT;
    mmf_ctx *ctx = NULL;
    mmf_wordpiece *w = NULL, *again = NULL;
    const char *const text = (const char *)bytes;
    if (n_bytes == 0 || mmf_ctx_create(&ctx, &options) != MMF_OK)
        return 0;
    const mmf_status status = bytes[0] == '{' ? mmf_wordpiece_parse_json(ctx, &w, text, n_bytes)
                                              : mmf_wordpiece_parse_vocab(ctx, &w, text, n_bytes);
    require((status == MMF_OK) == (w != NULL));
    require(w || strlen(mmf_ctx_error(ctx)) > 0);
    char *const json = w ? mmf_wordpiece_json(w) : NULL;
    if (json && mmf_wordpiece_parse_json(ctx, &again, json, strlen(json)) == MMF_OK) {
        int64_t first[MAX_LENGTH], second[MAX_LENGTH];
        require(encode(ctx, w, first) == encode(ctx, again, second));
        require(memcmp(first, second, sizeof first) == 0);
    }
    mmf_free(ctx, json);
    mmf_wordpiece_free(again);
    mmf_wordpiece_free(w);
    require(mmf_ctx_memory(ctx).live_bytes == 0);
    mmf_ctx_free(ctx);
    return 0;
}
