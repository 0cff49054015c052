/*
 * fuzz_manifest.c: bytes as a manifest -> kinds of columns, classes, texts, paths. The last byte
 * chooses the delimiter.
 */
#include <stdint.h>
#include <string.h>

#include "data/manifest.h"

#define MAX_BYTES ((size_t)1 << 20)
#define MEMORY_LIMIT ((size_t)64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void use_column(mmf_ctx *ctx, const mmf_manifest *m, size_t column)
{
    char *path = NULL;
    mmf_array texts = {.data = NULL}, names = {.data = NULL}, classes = {.data = NULL};
    (void)mmf_manifest_kind(m, column);
    (void)mmf_manifest_has_text(m, column);
    if (mmf_manifest_texts(m, column, &texts) == MMF_OK)
        mmf_free(ctx, (void *)(uintptr_t)texts.data);
    if (m->n_rows < 1000 && mmf_manifest_classes(m, column, true, &names, &classes) == MMF_OK)
        mmf_free(ctx, (void *)(uintptr_t)classes.data);
    mmf_free(ctx, (void *)(uintptr_t)names.data);
    if (mmf_manifest_at(m, 0, column).n_bytes > 0 &&
        mmf_manifest_path(m, 0, column, &path) == MMF_OK)
        mmf_free(ctx, path);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.memory_limit = MEMORY_LIMIT;
    options.n_threads = 1;
    mmf_ctx *ctx = NULL;
    if (n_bytes == 0 || n_bytes > MAX_BYTES || mmf_ctx_create(&ctx, &options) != MMF_OK)
        return 0;
    mmf_manifest m;
    const char *const name = bytes[n_bytes - 1] & 1 ? "folder/m.tsv" : "m.csv";
    if (mmf_manifest_read(ctx, &m, name, (const char *)bytes, n_bytes - 1) == MMF_OK) {
        for (size_t c = 0; c < m.n_columns && c < 16; c++)
            use_column(ctx, &m, c);
    }
    mmf_manifest_close(&m);
    if (mmf_ctx_memory(ctx).live_bytes != 0)
        __builtin_trap();
    mmf_ctx_free(ctx);
    return 0;
}
