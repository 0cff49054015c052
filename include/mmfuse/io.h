/*
 * io.h: named arrays in files: npy, npz, csv/tsv, safetensors, and foreign formats through helpers.
 *
 * Bytes become mmf_array values; nothing here knows samples, modalities or tensors. Every reader
 * survives any bytes: limits are checked before memory is taken, and a failure names file and key.
 */
#ifndef MMFUSE_IO_H
#define MMFUSE_IO_H

#include "mmfuse/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Limits of the readers; 0 keeps the default. */
typedef struct mmf_io_options {
    size_t size;
    size_t max_entries;      /**< arrays (or columns) in a file; default 65,536 */
    size_t max_name_bytes;   /**< length of a key; default 512 */
    size_t max_bytes;        /**< decompressed bytes of one array; default 64 GiB */
    const char *helper_dir;  /**< folder searched first for mmfuse-read-FORMAT; NULL: PATH only */
    unsigned helper_seconds; /**< time limit of a helper program; default 3,600 */
    bool skip_text;          /**< tables: columns of text are left out, not stored */
} mmf_io_options;

#define MMF_IO_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(mmf_io_options)                                                             \
    }

/** The named arrays of one open file. Immutable once open, but loading entries is not thread-safe.
 */
typedef struct mmf_archive mmf_archive;

/**
 * Opens a file by its extension: .npz, .npy (one array named "data"), .csv, .tsv, .safetensors; any
 * other extension EXT is handed to the program mmfuse-read-EXT (h5, hdf5 both mean "hdf5"; those of
 * mmf_media_kind_of mean "media"), which writes an npz to its standard output. CSV: a column "m.3"
 * or "m.name" belongs to array m; see docs/data.md.
 *
 * @param out      the caller owns it and frees it with mmf_archive_close
 * @param options  NULL: defaults
 * @errors         IO, FORMAT, LIMIT, UNSUPPORTED (no reader for this extension), NOMEM; the message
 *                 begins with the file's name and names the key
 */
MMF_API mmf_status mmf_archive_open(mmf_ctx *ctx, mmf_archive **out, const char *path,
                                    const mmf_io_options *options);
/** As mmf_archive_open for bytes in memory that outlive the archive; `format` is "npz", "csv" ...
 */
MMF_API mmf_status mmf_archive_open_memory(mmf_ctx *ctx, mmf_archive **out, const char *name,
                                           const char *format, const void *bytes, size_t n_bytes,
                                           const mmf_io_options *options);
/** Accepts NULL. Arrays handed out become invalid. */
MMF_API void mmf_archive_close(mmf_archive *archive);

MMF_API size_t mmf_archive_count(const mmf_archive *archive);
/** Name, element type and shape of entry `i`; `data` is NULL until it was loaded. Borrowed. */
MMF_API const char *mmf_archive_name(const mmf_archive *archive, size_t i);
MMF_API const mmf_array *mmf_archive_header(const mmf_archive *archive, size_t i);
/** Index of the entry, or -1. */
MMF_API int64_t mmf_archive_find(const mmf_archive *archive, const char *name);
/**
 * Makes the data of entry `i` readable: mapped where the bytes allow, else decompressed once.
 *
 * @param out  receives a value that borrows from the archive
 */
MMF_API mmf_status mmf_archive_load(mmf_archive *archive, size_t i, mmf_array *out);
/** Value of a metadata key (safetensors only), NULL if absent. Borrowed. */
MMF_API const char *mmf_archive_metadata(const mmf_archive *archive, const char *key);
/** Keys of the metadata; NULL past the end. */
MMF_API const char *mmf_archive_metadata_key(const mmf_archive *archive, size_t i);
/** Path or name the archive was opened with. */
MMF_API const char *mmf_archive_path(const mmf_archive *archive);

/** One named array or one metadata pair of a file to write. */
typedef struct mmf_named_array {
    const char *name;
    mmf_array array;
} mmf_named_array;

typedef struct mmf_metadata {
    const char *key, *value;
} mmf_metadata;

/** Writes a safetensors file (temporary name, fsync, rename). Not for MMF_STR arrays. */
MMF_API mmf_status mmf_safetensors_save(mmf_ctx *ctx, const char *path,
                                        const mmf_named_array *arrays, size_t n_arrays,
                                        const mmf_metadata *metadata, size_t n_metadata);

/** Streams arrays into an npz file; the data of stored members start at multiples of 64 bytes. */
typedef struct mmf_npz_writer mmf_npz_writer;
MMF_API mmf_status mmf_npz_create(mmf_ctx *ctx, mmf_npz_writer **out, const char *path,
                                  bool deflate);
/** Adds a whole array. */
MMF_API mmf_status mmf_npz_add(mmf_npz_writer *writer, const char *name, const mmf_array *array);
/** Starts an array of `header`'s type and shape whose bytes follow in any number of pieces. */
MMF_API mmf_status mmf_npz_begin(mmf_npz_writer *writer, const char *name, const mmf_array *header);
MMF_API mmf_status mmf_npz_append(mmf_npz_writer *writer, const void *bytes, size_t n_bytes);
MMF_API mmf_status mmf_npz_end(mmf_npz_writer *writer);
/** Finishes and renames into place; frees the writer in every case. */
MMF_API mmf_status mmf_npz_commit(mmf_npz_writer *writer);
/** Drops the unfinished file; accepts NULL. */
MMF_API void mmf_npz_discard(mmf_npz_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
