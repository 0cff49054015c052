/*
 * fuzz_wordpiece.c: any bytes as a text, and as a pair of texts, through a small vocabulary. The
 * first byte chooses the length.
 */
#include "fuzz_archive.h"

#include <stdlib.h>
#include <string.h>

#include "data/wordpiece.h"

#define MAX_LENGTH 256

static void require(bool promise)
{
    if (!promise)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static const char vocab[] =
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n##a\na\nb\n##bc\n.\n\xe4\xb8\xad\n"
        "\xcf\x83\n##\xce\xb1\n\xe1\x84\x80\n##\xe1\x85\xa1\n";
    int64_t ids[MAX_LENGTH], segments[MAX_LENGTH], n = 0;
    mmf_ctx *ctx = NULL;
    mmf_wordpiece *w = NULL;
    if (n_bytes == 0 || mmf_ctx_create(&ctx, NULL) != MMF_OK)
        return 0;
    if (mmf_wordpiece_parse_vocab(ctx, &w, vocab, sizeof vocab - 1) == MMF_OK) {
        const char *const text = (const char *)bytes + 1;
        const size_t n_text = n_bytes - 1, half = n_text / 2;
        const mmf_wordpiece_text given[] = {{text, n_text, NULL, 0},
                                            {text, half, text + half, n_text - half}};
        for (size_t i = 0; i < 2; i++) {
            const mmf_status status =
                mmf_wordpiece_encode_bytes(ctx, w, &given[i], bytes[0], ids, segments, &n);
            require((status == MMF_OK) == (bytes[0] >= 2 + i));
            require(n <= bytes[0]);
            for (int64_t k = 0; k < n; k++)
                require(ids[k] >= 0 && ids[k] < mmf_wordpiece_vocab(w) && segments[k] <= (int)i);
        }
    }
    mmf_wordpiece_free(w);
    require(mmf_ctx_memory(ctx).live_bytes == 0);
    mmf_ctx_free(ctx);
    return 0;
}
