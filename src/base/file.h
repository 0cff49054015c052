/*
 * file.h: mapped reading, and writing that leaves the old file or the new one, never half.
 *
 * POSIX.
 */
#ifndef MMFUSE_BASE_FILE_H
#define MMFUSE_BASE_FILE_H

#include "mmfuse/base.h"

/** The bytes of a file, mapped read-only. */
typedef struct mmf_mapping {
    const unsigned char *bytes;
    size_t n_bytes;
} mmf_mapping;

/** @errors IO (cannot open, not a regular file); the message names `path`. */
mmf_status mmf_map_open(mmf_ctx *ctx, mmf_mapping *out, const char *path);
/** As mmf_map_open for an open file, which stays open; `path` serves messages only. */
mmf_status mmf_map_descriptor(mmf_ctx *ctx, mmf_mapping *out, int descriptor, const char *path);
void mmf_map_close(mmf_mapping *mapping);
/** Gives the memory of bytes inside the mapping back; they are read from the file again if needed.
 */
void mmf_map_release(const mmf_mapping *mapping, const void *bytes, size_t n_bytes);

/** As mmf_map_release for bytes of any mapping. */
void mmf_map_give_back(const void *bytes, size_t n_bytes);

typedef struct mmf_writer mmf_writer;

/**
 * Starts a new version of `path` under a temporary name in the same folder. The path "-" is
 * standard output, which must be a file where mmf_writer_seek is used.
 *
 * @param out  the caller ends it with mmf_writer_commit or mmf_writer_discard, both of which free
 * it
 * @errors     NOMEM, IO (folder missing or read-only)
 */
mmf_status mmf_writer_open(mmf_ctx *ctx, mmf_writer **out, const char *path);
mmf_status mmf_writer_write(mmf_writer *writer, const void *bytes, size_t n_bytes);
/** Moves to an absolute position, for headers whose sizes are known at the end. */
mmf_status mmf_writer_seek(mmf_writer *writer, uint64_t position);
/** Flushes, syncs and renames. On failure the temporary file is removed and the old one is intact.
 */
mmf_status mmf_writer_commit(mmf_writer *writer);
/** Removes the temporary file; accepts NULL. */
void mmf_writer_discard(mmf_writer *writer);

/** Writes a whole text file through a writer. */
mmf_status mmf_write_text(mmf_ctx *ctx, const char *path, const char *text, size_t n_bytes);

/** "FOLDER/NAME"; NAME alone where `n_folder`, the bytes of the folder's path, is 0. @errors LIMIT
 */
mmf_status mmf_path_join(mmf_ctx *ctx, char *out, size_t size, const char *folder, size_t n_folder,
                         const char *name);
/** `name` in the folder that `path` is in. */
mmf_status mmf_path_beside(mmf_ctx *ctx, char *out, size_t size, const char *path,
                           const char *name);
bool mmf_path_is_folder(const char *path);
bool mmf_path_is_file(const char *path);

/** Makes a folder and its parents; an existing folder is success. */
mmf_status mmf_make_folder(mmf_ctx *ctx, const char *path);
/**
 * Keeps other processes that ask for the same out of a folder, until mmf_unlock_folder or the end
 * of this process and of the children it forks meanwhile.
 *
 * @param lock  to hand to mmf_unlock_folder
 * @errors      STATE (another process has it), IO
 */
mmf_status mmf_lock_folder(mmf_ctx *ctx, const char *path, int *lock);
/** Ignores a negative one. */
void mmf_unlock_folder(int lock);

#endif
