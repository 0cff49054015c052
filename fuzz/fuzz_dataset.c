/*
 * fuzz_dataset.c: bytes as an npz file -> data set -> split -> normalisation -> one batch.
 *
 * The last byte chooses options, so that the seeds reach tokens, tasks, folds and the treatments of
 * values that are not finite. A member whose checksum is wrong never gets past the reader, so every
 * mutation is followed by repairing the checksums of stored members.
 */
#include "mmfuse/data.h"

#include <string.h>
#include <zlib.h>

#define MAX_BYTES ((size_t)1 << 20)
#define MEMORY_LIMIT ((size_t)64 << 20)
#define MAX_ROWS 4096

#define LOCAL_BYTES 30
#define CENTRAL_BYTES 46

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n_bytes, size_t max_bytes, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n_bytes, size_t max_bytes);

static size_t number_at(const uint8_t *bytes, size_t n)
{
    size_t value = 0;
    for (size_t i = n; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* `central` is a directory entry of CENTRAL_BYTES or more. */
static void repair(uint8_t *bytes, size_t n_bytes, uint8_t *central)
{
    const size_t size = number_at(central + 20, 4), local = number_at(central + 42, 4);
    if (number_at(central + 10, 2) != 0 || local > n_bytes || n_bytes - local < LOCAL_BYTES)
        return;
    uint8_t *const header = bytes + local;
    const size_t start =
        local + LOCAL_BYTES + number_at(header + 26, 2) + number_at(header + 28, 2);
    if (memcmp(header, "PK\3\4", 4) != 0 || start > n_bytes || n_bytes - start < size)
        return;
    const uLong crc = crc32_z(crc32_z(0, NULL, 0), bytes + start, size);
    for (size_t i = 0; i < 4; i++) {
        header[14 + i] = (uint8_t)(crc >> 8 * i);
        central[16 + i] = (uint8_t)(crc >> 8 * i);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n_bytes, size_t max_bytes, unsigned seed)
{
    (void)seed;
    const size_t n = LLVMFuzzerMutate(bytes, n_bytes, max_bytes);
    for (size_t i = 0; n >= CENTRAL_BYTES && i <= n - CENTRAL_BYTES; i++) {
        if (memcmp(bytes + i, "PK\1\2", 4) == 0)
            repair(bytes, n, bytes + i);
    }
    return n;
}

static void use(mmf_ctx *ctx, mmf_dataset *ds, unsigned choice)
{
    char id[24];
    mmf_dataset_id(ds, 0, id, sizeof id);
    (void)mmf_dataset_fingerprint(ds);
    mmf_split_options options = MMF_SPLIT_OPTIONS_INIT;
    options.seed = choice;
    if (choice & 64)
        options.n_folds = 3;
    if (choice & 128)
        options.fractions[0] = options.fractions[2] = 0.5;
    mmf_split split;
    if (mmf_split_make(ctx, &split, ds, &options) != MMF_OK)
        return;
    const mmf_part part = split.count[MMF_TRAIN] > 0 ? MMF_TRAIN : MMF_TEST;
    mmf_normalisation norm;
    if (mmf_normalisation_fit(ctx, &norm, ds, split.rows[part], split.count[part]) == MMF_OK) {
        const int64_t n = split.count[part] < 4 ? split.count[part] : 4;
        mmf_batch batch;
        if (mmf_batch_create(ctx, &batch, ds, 4) == MMF_OK)
            (void)mmf_batch_fill(&batch, ds, &norm, split.rows[part], n);
        mmf_batch_clear(&batch);
    }
    mmf_normalisation_clear(ctx, &norm);
    mmf_split_clear(ctx, &split);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static const char *const tasks[] = {NULL, "regression", "multilabel", "soft"};
    const unsigned choice = n_bytes > 0 ? bytes[n_bytes - 1] : 0;
    mmf_ctx_options limits = MMF_CTX_OPTIONS_INIT;
    limits.memory_limit = MEMORY_LIMIT;
    mmf_ctx *ctx = NULL;
    if (mmf_ctx_create(&ctx, &limits) != MMF_OK)
        return 0;
    mmf_io_options io = MMF_IO_OPTIONS_INIT;
    io.max_entries = 64;
    io.max_bytes = MAX_BYTES;
    mmf_archive *archive = NULL;
    if (mmf_archive_open_memory(ctx, &archive, "fuzz", "npz", bytes, n_bytes, &io) == MMF_OK) {
        mmf_dataset_options options = MMF_DATASET_OPTIONS_INIT;
        options.nonfinite = (mmf_nonfinite)(choice % 3);
        options.check_finite = choice & 4;
        options.target_optional = choice & 8;
        options.task = tasks[choice >> 4 & 3];
        mmf_dataset *ds = NULL;
        if (mmf_dataset_from_archive(ctx, &ds, archive, &options) == MMF_OK &&
            mmf_dataset_count(ds) <= MAX_ROWS)
            use(ctx, ds, choice);
        mmf_dataset_close(ds);
    }
    if (mmf_ctx_memory(ctx).live_bytes != 0)
        __builtin_trap(); /* something was left behind */
    mmf_ctx_free(ctx);
    return 0;
}
