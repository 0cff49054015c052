/* npz_output.c: see npz_output.h. */
#include "npz_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mmf_status write_to(mmf_ctx *ctx, const char *path, npz_fill *fill, void *user)
{
    mmf_npz_writer *writer = NULL;
    MMF_TRY(mmf_npz_create(ctx, &writer, path, false));
    const mmf_status status = fill(user, writer);
    if (status == MMF_OK)
        return mmf_npz_commit(writer);
    mmf_npz_discard(writer);
    return status;
}

static mmf_status copy_to_stdout(mmf_ctx *ctx, const char *path)
{
    FILE *const file = fopen(path, "rb");
    char block[65536];
    bool good = file != NULL;
    while (good) {
        const size_t n = fread(block, 1, sizeof block, file);
        if (n == 0)
            break;
        good = fwrite(block, 1, n, stdout) == n;
    }
    good = good && !ferror(file) && fflush(stdout) == 0;
    const int reason = errno;
    if (file)
        fclose(file);
    return good ? MMF_OK
                : mmf_fail(ctx, MMF_IO, "cannot write to standard output: %s", strerror(reason));
}

/* The npz writer moves about in its file; a pipe takes a finished one. */
mmf_status npz_output(mmf_ctx *ctx, npz_fill *fill, void *user)
{
    const int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (lseek(STDOUT_FILENO, 0, SEEK_CUR) == 0 && flags >= 0 && !(flags & O_APPEND))
        return write_to(ctx, "-", fill, user);
    char folder[] = "/tmp/mmfuse-read.XXXXXX";
    if (!mkdtemp(folder))
        return mmf_fail(ctx, MMF_IO, "cannot make a temporary folder: %s", strerror(errno));
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/out.npz", folder);
    mmf_status status = write_to(ctx, path, fill, user);
    if (status == MMF_OK)
        status = copy_to_stdout(ctx, path);
    unlink(path);
    rmdir(folder);
    return status;
}

mmf_status npz_add_strings(mmf_ctx *ctx, mmf_npz_writer *writer, const char *name,
                           const char *const *strings, int64_t n)
{
    size_t width = 1, bytes = 0;
    for (int64_t i = 0; i < n; i++)
        width = strlen(strings[i]) > width ? strlen(strings[i]) : width;
    if (!mmf_mul_ok((size_t)n, width, &bytes))
        return mmf_fail(ctx, MMF_LIMIT, "\"%s\" has too many bytes", name);
    char *const cells = mmf_alloc_zero(ctx, (size_t)n, width);
    if (!cells)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++)
        memcpy(cells + (size_t)i * width, strings[i], strlen(strings[i]));
    const mmf_array array = {
        .dtype = MMF_STR, .n_dims = 1, .shape = {n}, .item_bytes = width, .data = cells};
    const mmf_status status = mmf_npz_add(writer, name, &array);
    mmf_free(ctx, cells);
    return status;
}
