/* fuzz_shard_index.c: any bytes as the index of a checkpoint in several files. */
#include "fuzz_archive.h"

#include <stdlib.h>
#include <string.h>

#include "io/shards.h"

static void require(bool promise)
{
    if (!promise)
        abort();
}

static mmf_status see(void *user, const char *tensor, const char *file)
{
    const mmf_shard_index *const index = user;
    bool known = false;
    for (size_t i = 0; i < index->n_files; i++)
        known = known || strcmp(index->files[i], file) == 0;
    require(known && !strchr(file, '/') && mmf_shard_index_find(index, tensor) == file);
    return MMF_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    mmf_ctx *ctx = NULL;
    if (mmf_ctx_create(&ctx, NULL) != MMF_OK)
        return 0;
    mmf_shard_index index;
    const mmf_status status = mmf_shard_index_parse(ctx, &index, (const char *)bytes, n_bytes);
    if (status == MMF_OK)
        require(index.n_files > 0 && mmf_shard_index_each(&index, see, &index) == MMF_OK);
    else
        require(strlen(mmf_ctx_error(ctx)) > 0);
    mmf_shard_index_clear(&index);
    require(mmf_ctx_memory(ctx).live_bytes == 0);
    mmf_ctx_free(ctx);
    return 0;
}
