/* open_archive.c: see fuzz_archive.h. Stops the process when a promise of io.h is broken. */
#include "fuzz_archive.h"

#include <stdlib.h>
#include <string.h>

#include "mmfuse/io.h"

#define MEMORY_LIMIT ((size_t)64 << 20)
#define MAX_BYTES ((size_t)1 << 20)

static void require(bool promise)
{
    if (!promise)
        abort();
}

static double read_array(const mmf_array *array)
{
    double sum = 0;
    const int64_t count = mmf_array_count(array);
    require(array->data != NULL && count >= 0);
    require((size_t)count * array->item_bytes <= MAX_BYTES);
    for (int64_t i = 0; i < count; i++) {
        size_t n_text = 0;
        if (array->dtype == MMF_STR) {
            const char *const cell = mmf_array_string(array, i, &n_text);
            for (size_t c = 0; c < n_text; c++)
                sum += cell[c];
        } else {
            sum += mmf_array_number(array, i);
        }
    }
    return sum;
}

int fuzz_archive(const char *format, const uint8_t *bytes, size_t n_bytes)
{
    mmf_ctx_options ctx_options = MMF_CTX_OPTIONS_INIT;
    ctx_options.memory_limit = MEMORY_LIMIT;
    mmf_ctx *ctx = NULL;
    if (mmf_ctx_create(&ctx, &ctx_options) != MMF_OK)
        return 0;
    mmf_io_options options = MMF_IO_OPTIONS_INIT;
    options.max_entries = 64;
    options.max_name_bytes = 64;
    options.max_bytes = MAX_BYTES;
    mmf_archive *archive = NULL;
    volatile double sum = 0;
    mmf_status status =
        mmf_archive_open_memory(ctx, &archive, "input", format, bytes, n_bytes, &options);
    require((status == MMF_OK) == (archive != NULL));
    for (size_t i = 0; archive && i < mmf_archive_count(archive); i++) {
        mmf_array array;
        require(mmf_archive_find(archive, mmf_archive_name(archive, i)) == (int64_t)i);
        status = mmf_archive_load(archive, i, &array);
        if (status == MMF_OK)
            sum += read_array(&array);
        require(status == MMF_OK || strlen(mmf_ctx_error(ctx)) > 0);
    }
    (void)sum;
    mmf_archive_close(archive);
    require(mmf_ctx_memory(ctx).live_bytes == 0);
    mmf_ctx_free(ctx);
    return 0;
}
