/*
 * manifest.h: a table whose cells are texts and the names of images, recordings and videos.
 *
 * The cells are borrowed from the mapped file. Numbers of such a table (`label`, `split`, columns
 * "m.3") are read by the reader of csv; here is what it cannot turn into arrays.
 */
#ifndef MMFUSE_DATA_MANIFEST_H
#define MMFUSE_DATA_MANIFEST_H

#include "base/file.h"
#include "mmfuse/data.h"

typedef struct mmf_manifest_cell {
    const char *text; /**< without spaces at its ends, not terminated */
    size_t n_bytes;   /**< 0: the modality is absent in this row */
} mmf_manifest_cell;

typedef struct mmf_manifest {
    mmf_ctx *ctx;
    char *path, *folder; /**< relative names are relative to the folder */
    mmf_mapping mapping;
    char **names; /**< of the columns */
    size_t n_columns, column_capacity;
    mmf_manifest_cell *cells; /**< (n_rows, n_columns) */
    size_t *lines;            /**< of the rows, from 1 */
    int64_t n_rows;
    size_t cell_capacity, line_capacity;
    char **copies; /**< of cells with doubled quotes */
    size_t n_copies, copy_capacity;
} mmf_manifest;

/**
 * Reads a table with a header line, .csv or .tsv.
 *
 * @param out  ended by mmf_manifest_close, also after a failure
 * @errors     IO, FORMAT (with row and line), LIMIT, NOMEM; the message begins with the path
 */
mmf_status mmf_manifest_open(mmf_ctx *ctx, mmf_manifest *out, const char *path);
/** As mmf_manifest_open for bytes that outlive the manifest. */
mmf_status mmf_manifest_read(mmf_ctx *ctx, mmf_manifest *out, const char *path, const char *text,
                             size_t n_bytes);
void mmf_manifest_close(mmf_manifest *manifest);
/** Warns of the first byte that is not UTF-8 in the file of a manifest. */
void mmf_manifest_warn_of_foreign(const mmf_manifest *manifest);

/** Place of a column, or -1. */
int64_t mmf_manifest_find(const mmf_manifest *manifest, const char *name);
/** As mmf_manifest_find. @errors ARG, with the nearest name and all others */
mmf_status mmf_manifest_need(const mmf_manifest *manifest, const char *name, size_t *column);
mmf_manifest_cell mmf_manifest_at(const mmf_manifest *manifest, int64_t row, size_t column);

/** True for id, split, group, label, caption and columns "NAME.PART", which hold no raw media. */
bool mmf_manifest_is_reserved(const char *name);
/** What the endings of all names in a column say; MMF_RAW_NONE if they do not agree. */
mmf_raw_kind mmf_manifest_kind(const mmf_manifest *manifest, size_t column);
/** Whether more than half of the cells of a column name files of one kind, and others do not. */
bool mmf_manifest_is_mixed(const mmf_manifest *manifest, size_t column);
/**
 * Names the first cell that differs in a column where most name files of one kind: refuses it if
 * nine in ten do, as then it can only be a mistake, and warns otherwise.
 * @errors FORMAT
 */
mmf_status mmf_manifest_check_mixed(const mmf_manifest *manifest, size_t column);

/** True if the column has a cell that is no number. */
bool mmf_manifest_has_text(const mmf_manifest *manifest, size_t column);
/** The file that a cell names. @param out freed with mmf_free */
mmf_status mmf_manifest_path(const mmf_manifest *manifest, int64_t row, size_t column, char **out);

/** "FILE: column "C", row R (line L): ..."; rows count from 1. */
mmf_status mmf_manifest_fail(const mmf_manifest *manifest, mmf_status status, int64_t row,
                             size_t column, const char *format, ...) MMF_PRINTF(5, 6);
/** Puts the same in front of the current error. */
mmf_status mmf_manifest_within(const mmf_manifest *manifest, mmf_status status, int64_t row,
                               size_t column);

/** A text column as an array [N]; the caller frees its data. @errors LIMIT: a very long cell */
mmf_status mmf_manifest_texts(const mmf_manifest *manifest, size_t column, mmf_array *out);
/**
 * A column of class names as numbers [N] int64.
 *
 * @param names   the classes; `data` NULL: those of the column, in alphabetic order, which then are
 *                stored here; freed by the caller as `out`
 * @param wanted  false: an empty cell or a class beyond `names` is not an error, and `out->data`
 *                stays NULL
 */
mmf_status mmf_manifest_classes(const mmf_manifest *manifest, size_t column, bool wanted,
                                mmf_array *names, mmf_array *out);

#endif
