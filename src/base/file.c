/* file.c: see file.h. POSIX. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/context.h"

struct mmf_writer {
    mmf_ctx *ctx;
    FILE *file;
    char *path, *temporary;
};

mmf_status mmf_map_descriptor(mmf_ctx *ctx, mmf_mapping *out, int descriptor, const char *path)
{
    *out = (mmf_mapping){0};
    struct stat info;
    if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode))
        return mmf_fail(ctx, MMF_IO, "%s: not a regular file", path);
    if (info.st_size == 0)
        return MMF_OK;
    void *const bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
        return mmf_fail(ctx, MMF_IO, "%s: cannot map: %s", path, strerror(errno));
    *out = (mmf_mapping){bytes, (size_t)info.st_size};
    return MMF_OK;
}

mmf_status mmf_map_open(mmf_ctx *ctx, mmf_mapping *out, const char *path)
{
    *out = (mmf_mapping){0};
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return mmf_fail(ctx, MMF_IO, "%s: cannot open: %s", path, strerror(errno));
    const mmf_status status = mmf_map_descriptor(ctx, out, descriptor, path);
    close(descriptor);
    return status;
}

void mmf_map_close(mmf_mapping *mapping)
{
    if (mapping->bytes) {
        /* munmap takes the address without const, but does not write through it. */
        void *address = NULL;
        memcpy(&address, &mapping->bytes, sizeof address);
        munmap(address, mapping->n_bytes);
    }
    *mapping = (mmf_mapping){0};
}

/* Whole pages only: the system maps pages around one that is missed, so giving back a page that is
 * shared with what is read next would bring many back. */
void mmf_map_give_back(const void *bytes, size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = (uintptr_t)bytes, end = begin + n_bytes;
    const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first < last)
        (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

void mmf_map_release(const mmf_mapping *mapping, const void *bytes, size_t n_bytes)
{
    const uintptr_t begin = (uintptr_t)bytes, end = begin + n_bytes;
    if (begin >= (uintptr_t)mapping->bytes && end <= (uintptr_t)mapping->bytes + mapping->n_bytes)
        mmf_map_give_back(bytes, n_bytes);
}

static mmf_status write_failed(const mmf_writer *writer)
{
    return mmf_fail(writer->ctx, MMF_IO, "%s: cannot write: %s", writer->path, strerror(errno));
}

static bool injected_fault(mmf_ctx *ctx)
{
    if (ctx->writes_before_fault < 0)
        return false;
    if (ctx->writes_before_fault-- > 0)
        return false;
    ctx->writes_before_fault = 0;
    errno = ENOSPC;
    return true;
}

/* A stream of its own, so that closing it leaves standard output open. */
static FILE *open_stdout(void)
{
    const int copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    FILE *const file = copy < 0 ? NULL : fdopen(copy, "wb");
    if (!file && copy >= 0)
        close(copy);
    return file;
}

mmf_status mmf_writer_open(mmf_ctx *ctx, mmf_writer **out, const char *path)
{
    *out = NULL;
    mmf_writer *writer = mmf_alloc_zero(ctx, 1, sizeof *writer);
    if (!writer)
        return MMF_NOMEM;
    writer->ctx = ctx;
    const size_t temporary_bytes = strlen(path) + 32;
    const bool to_stdout = strcmp(path, "-") == 0;
    writer->path = mmf_strdup(ctx, to_stdout ? "standard output" : path);
    writer->temporary = writer->path ? mmf_alloc(ctx, temporary_bytes) : NULL;
    mmf_status status = writer->temporary ? MMF_OK : MMF_NOMEM;
    if (status == MMF_OK) {
        writer->temporary[0] = '\0';
        if (!to_stdout)
            snprintf(writer->temporary, temporary_bytes, "%s.%ld.part", path, (long)getpid());
        writer->file = injected_fault(ctx) ? NULL
                       : to_stdout         ? open_stdout()
                                           : fopen(writer->temporary, "wbe");
        if (!writer->file)
            status = write_failed(writer);
    }
    if (status != MMF_OK) {
        mmf_writer_discard(writer);
        return status;
    }
    *out = writer;
    return MMF_OK;
}

mmf_status mmf_writer_write(mmf_writer *writer, const void *bytes, size_t n_bytes)
{
    if (n_bytes == 0)
        return MMF_OK;
    if (injected_fault(writer->ctx) || fwrite(bytes, 1, n_bytes, writer->file) != n_bytes)
        return write_failed(writer);
    return MMF_OK;
}

mmf_status mmf_writer_seek(mmf_writer *writer, uint64_t position)
{
    if (fseeko(writer->file, (off_t)position, SEEK_SET) != 0)
        return write_failed(writer);
    return MMF_OK;
}

mmf_status mmf_writer_commit(mmf_writer *writer)
{
    mmf_status status = MMF_OK;
    const bool has_name = writer->temporary[0] != '\0'; /* standard output has none to give */
    if (injected_fault(writer->ctx) || fflush(writer->file) != 0 ||
        (has_name && fsync(fileno(writer->file)) != 0))
        status = write_failed(writer);
    if (fclose(writer->file) != 0 && status == MMF_OK)
        status = write_failed(writer);
    writer->file = NULL;
    if (status == MMF_OK && has_name && rename(writer->temporary, writer->path) != 0)
        status = write_failed(writer);
    if (status == MMF_OK)
        writer->temporary[0] = '\0';
    mmf_writer_discard(writer);
    return status;
}

void mmf_writer_discard(mmf_writer *writer)
{
    if (!writer)
        return;
    const int saved_errno = errno;
    const bool was_open = writer->file != NULL;
    if (was_open)
        fclose(writer->file);
    if (writer->temporary && writer->temporary[0])
        unlink(writer->temporary);
    mmf_free(writer->ctx, writer->temporary);
    mmf_free(writer->ctx, writer->path);
    mmf_free(writer->ctx, writer);
    errno = saved_errno;
}

mmf_status mmf_write_text(mmf_ctx *ctx, const char *path, const char *text, size_t n_bytes)
{
    mmf_writer *writer = NULL;
    MMF_TRY(mmf_writer_open(ctx, &writer, path));
    const mmf_status status = mmf_writer_write(writer, text, n_bytes);
    if (status != MMF_OK) {
        mmf_writer_discard(writer);
        return status;
    }
    return mmf_writer_commit(writer);
}

mmf_status mmf_make_folder(mmf_ctx *ctx, const char *path)
{
    char *copy = mmf_strdup(ctx, path);
    if (!copy)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    for (char *c = copy + 1; status == MMF_OK; c++) {
        if (*c != '/' && *c != '\0')
            continue;
        const char end = *c;
        *c = '\0';
        struct stat info;
        if (mkdir(copy, 0777) != 0 &&
            !(errno == EEXIST && stat(copy, &info) == 0 && S_ISDIR(info.st_mode)))
            status = mmf_fail(ctx, MMF_IO, "%s: cannot make the folder: %s", copy, strerror(errno));
        *c = end;
        if (end == '\0')
            break;
    }
    mmf_free(ctx, copy);
    return status;
}

mmf_status mmf_lock_folder(mmf_ctx *ctx, const char *path, int *lock)
{
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0)
        return mmf_fail(ctx, MMF_IO, "%s: cannot open the folder: %s", path, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0)
        return MMF_OK;
    const bool is_taken = errno == EWOULDBLOCK;
    mmf_unlock_folder(*lock);
    *lock = -1;
    return is_taken
               ? mmf_fail(ctx, MMF_STATE, "%s: another process is writing into this folder", path)
               : mmf_fail(ctx, MMF_IO, "%s: cannot lock the folder: %s", path, strerror(errno));
}

void mmf_unlock_folder(int lock)
{
    if (lock >= 0)
        close(lock);
}

mmf_status mmf_path_join(mmf_ctx *ctx, char *out, size_t size, const char *folder, size_t n_folder,
                         const char *name)
{
    const int n = snprintf(out, size, "%.*s%s%s", (int)n_folder, folder, n_folder ? "/" : "", name);
    if (n < 0 || (size_t)n >= size)
        return mmf_fail(ctx, MMF_LIMIT, "%s: the path is longer than %zu bytes", folder, size);
    return MMF_OK;
}

mmf_status mmf_path_beside(mmf_ctx *ctx, char *out, size_t size, const char *path, const char *name)
{
    const char *const slash = strrchr(path, '/');
    return mmf_path_join(ctx, out, size, path, slash ? (size_t)(slash - path) : 0, name);
}

bool mmf_path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool mmf_path_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}
