/*
 * archive.h: the inside of an open file of named arrays, shared by the readers of src/io.
 *
 * A format is one row of the table in archive.c: `open` lists the entries with their types and
 * shapes, `load` makes the bytes of one entry readable, `close` frees what `open` kept.
 */
#ifndef MMFUSE_IO_ARCHIVE_H
#define MMFUSE_IO_ARCHIVE_H

#include "base/file.h"
#include "mmfuse/io.h"

#define MMF_IO_MAX_ENTRIES 65536
#define MMF_IO_MAX_NAME_BYTES 512
#define MMF_IO_MAX_BYTES ((size_t)64 << 30)
#define MMF_IO_HELPER_SECONDS 3600

typedef struct mmf_entry {
    char *name;
    mmf_array array; /* data is NULL until the entry was loaded */
    void *owned;     /* decompressed or converted bytes; NULL where the file's own bytes serve */
} mmf_entry;

typedef struct mmf_pair {
    char *key, *value;
} mmf_pair;

typedef struct mmf_format {
    const char *name;
    mmf_status (*open)(mmf_archive *archive);
    /** Sets `data` (and `owned`) of entry `i`, which was not loaded before. */
    mmf_status (*load)(mmf_archive *archive, size_t i);
    void (*close)(mmf_archive *archive); /**< may be NULL; also called when `open` failed */
} mmf_format;

struct mmf_archive {
    mmf_ctx *ctx;
    char *path;
    mmf_io_options options; /* with the defaults filled in */
    const mmf_format *format;
    bool from_helper;           /* the bytes are the output of a helper program */
    mmf_mapping mapping;        /* what to unmap; empty for bytes that the caller lent */
    const unsigned char *bytes; /* the whole file */
    size_t n_bytes;
    mmf_entry *entries;
    size_t n_entries, entry_capacity;
    size_t *by_name; /* entry numbers in the order of their names */
    mmf_pair *metadata;
    size_t n_metadata;
    void *reader; /* what the format keeps between open and close */
};

/** For names that are to stand in a message: LIMIT (too long), FORMAT (not printable UTF-8). */
mmf_status mmf_archive_check_name(mmf_archive *archive, const char *name, size_t n_bytes);

/**
 * Appends an entry; `header->data` may already be set.
 *
 * @errors  those of mmf_archive_check_name, LIMIT (too many entries)
 */
mmf_status mmf_archive_append(mmf_archive *archive, const char *name, size_t n_bytes,
                              const mmf_array *header);

/**
 * Appends an array to an open archive.
 * @param owned  what the archive frees, also on failure: the array's data
 * @errors       those of mmf_archive_append; FORMAT (the name is there already)
 */
mmf_status mmf_archive_add_owned(mmf_archive *archive, const char *name, const mmf_array *array,
                                 void *owned);

/**
 * An archive whose entries come from elsewhere: `fill` sets `reader` and appends them. `format`
 * serves `load` and `close`; its `open` is not called.
 *
 * @errors  those of `fill`; FORMAT (two entries of one name)
 */
mmf_status mmf_archive_compose(mmf_ctx *ctx, mmf_archive **out, const char *path,
                               const mmf_format *format,
                               mmf_status (*fill)(mmf_archive *archive, void *user), void *user);

/**
 * Number of elements and bytes of an array, each dimension counted as at least 1 so that a hollow
 * shape cannot hide a huge one.
 *
 * @errors  FORMAT (a negative dimension), LIMIT (more than max_bytes)
 */
mmf_status mmf_array_measure(mmf_ctx *ctx, const mmf_array *array, size_t max_bytes,
                             size_t *n_bytes);

/**
 * Runs mmfuse-read-FORMAT on the archive's path and maps the npz it writes.
 *
 * @errors  UNSUPPORTED (no such program), IO (it failed, crashed or ran out of time), CANCELLED
 */
mmf_status mmf_helper_run(mmf_archive *archive, const char *format);

extern const mmf_format mmf_format_npy, mmf_format_npz, mmf_format_csv, mmf_format_tsv,
    mmf_format_safetensors;

/** As mmf_archive_open for a file of this format, whatever its name ends with. */
mmf_status mmf_archive__open_as(mmf_ctx *ctx, mmf_archive **out, const char *path,
                                const char *format);

#endif
