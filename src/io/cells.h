/*
 * cells.h: the cells of delimited text, as RFC 4180 has them: quotes, doubled quotes inside them,
 * line breaks inside them, LF or CRLF; also a byte order mark in front and blank lines, which do
 * not count.
 */
#ifndef MMFUSE_IO_CELLS_H
#define MMFUSE_IO_CELLS_H

#include "mmfuse/base.h"

#define MMF_MAX_CELL_BYTES ((size_t)1 << 20)

typedef struct mmf_cells {
    mmf_ctx *ctx;
    const char *at, *end;
    char delimiter;
    size_t line;   /* of `at`, from 1 */
    char *scratch; /* holds a cell with doubled quotes; freed by mmf_cells_end */
    size_t scratch_bytes;
} mmf_cells;

typedef struct mmf_cell {
    const char *text; /* borrowed until the next call */
    size_t n_bytes;
    bool ends_row;
} mmf_cell;

mmf_cells mmf_cells_start(mmf_ctx *ctx, const char *text, size_t n_bytes, char delimiter);
void mmf_cells_end(mmf_cells *cells);
/** Steps over blank lines; false at the end of the text. Called at the start of a row only. */
bool mmf_cells_more(mmf_cells *cells);
/** @errors FORMAT (a quote that does not close, text behind a quote, a zero byte), LIMIT, NOMEM */
mmf_status mmf_cells_next(mmf_cells *cells, mmf_cell *out);

/** What to do about a table that is not UTF-8. */
#define MMF_SAVE_AS_UTF8 "save the table as UTF-8, as with iconv -f latin1 -t utf-8"

/** A byte of a table that is not UTF-8. */
typedef struct mmf_foreign_byte {
    size_t line, column; /* from 1 */
    unsigned value;
} mmf_foreign_byte;

/** Looks for the first such byte. @param cells  as started; not moved  @return false: none */
bool mmf_cells_find_foreign(const mmf_cells *cells, mmf_foreign_byte *out);
/** Warns that texts are repaired as they are loaded. @param name  of the byte's column */
void mmf_cells_tell_foreign(mmf_ctx *ctx, const char *path, const mmf_foreign_byte *byte,
                            const char *name);

/** Drops spaces and tabs at both ends. */
void mmf_cell_trim(mmf_cell *cell);
/**
 * Reads a trimmed cell as a number; a missing one (empty, NA, N/A, null, None) is NaN.
 *
 * @param whole    receives whether it is written as a whole number ("12", "-3", "4.0")
 * @param integer  receives that whole number
 * @return         false if the cell is text
 */
bool mmf_cell_number(const mmf_cell *cell, double *value, bool *whole, int64_t *integer);

#endif
