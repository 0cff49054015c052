/* cells.c: see cells.h. */
#include "io/cells.h"

#include <math.h>
#include <string.h>

#include "base/text.h"
#include "io/utf8.h"

#define MAX_EXACT_DIGITS 15 /* any whole number of so many digits is a double */
#define MAX_DIGITS 18       /* and of so many an int64 */
#define MAX_EXACT_POWER 22  /* largest power of ten that is a double */

mmf_cells mmf_cells_start(mmf_ctx *ctx, const char *text, size_t n_bytes, char delimiter)
{
    const size_t n_mark = n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    return (mmf_cells){.ctx = ctx,
                       .at = n_bytes ? text + n_mark : text,
                       .end = n_bytes ? text + n_bytes : text,
                       .delimiter = delimiter,
                       .line = 1};
}

void mmf_cells_end(mmf_cells *cells)
{
    mmf_free(cells->ctx, cells->scratch);
    cells->scratch = NULL;
}

/* Bytes of the line break at `at`: 0, 1 or 2. */
static size_t line_break(const mmf_cells *cells)
{
    if (cells->at == cells->end)
        return 0;
    if (*cells->at == '\n')
        return 1;
    return *cells->at == '\r' && cells->at + 1 < cells->end && cells->at[1] == '\n' ? 2 : 0;
}

bool mmf_cells_more(mmf_cells *cells)
{
    for (size_t n = line_break(cells); n > 0; n = line_break(cells)) {
        cells->at += n;
        cells->line++;
    }
    return cells->at < cells->end;
}

static mmf_status check_cell(const mmf_cells *cells, const char *start, size_t n_bytes, size_t line)
{
    if (n_bytes > MMF_MAX_CELL_BYTES)
        return mmf_fail(cells->ctx, MMF_LIMIT,
                        "line %zu: a cell of %zu bytes; at most %zu are read", line, n_bytes,
                        MMF_MAX_CELL_BYTES);
    if (n_bytes > 0 && memchr(start, '\0', n_bytes))
        return mmf_fail(cells->ctx, MMF_FORMAT,
                        "line %zu: a cell contains a zero byte; this is not a text file", line);
    return MMF_OK;
}

/* Copies a quoted cell with one quote for every two. */
static mmf_status unquote(mmf_cells *cells, const char *start, size_t n_bytes, mmf_cell *out)
{
    if (cells->scratch_bytes < n_bytes) {
        mmf_free(cells->ctx, cells->scratch);
        cells->scratch_bytes = 0;
        cells->scratch = mmf_alloc(cells->ctx, 2 * n_bytes);
        if (!cells->scratch)
            return MMF_NOMEM;
        cells->scratch_bytes = 2 * n_bytes;
    }
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        cells->scratch[n++] = start[i];
        if (start[i] == '"')
            i++;
    }
    out->text = cells->scratch;
    out->n_bytes = n;
    return MMF_OK;
}

static mmf_status quoted_cell(mmf_cells *cells, mmf_cell *out)
{
    const size_t line = cells->line;
    const char *const start = cells->at + 1;
    const char *at = start;
    bool doubled = false;
    for (;; at++) {
        if (at == cells->end)
            return mmf_fail(cells->ctx, MMF_FORMAT, "line %zu: a quote is opened and never closed",
                            line);
        if (*at == '\n')
            cells->line++;
        if (*at != '"')
            continue;
        if (at + 1 == cells->end || at[1] != '"')
            break;
        doubled = true;
        at++;
    }
    const size_t n_bytes = (size_t)(at - start);
    cells->at = at + 1;
    MMF_TRY(check_cell(cells, start, n_bytes, line));
    if (cells->at < cells->end && *cells->at != cells->delimiter && line_break(cells) == 0)
        return mmf_fail(cells->ctx, MMF_FORMAT,
                        "line %zu: text follows the closing quote of a cell; write a quote inside "
                        "a cell twice",
                        cells->line);
    if (doubled)
        return unquote(cells, start, n_bytes, out);
    out->text = start;
    out->n_bytes = n_bytes;
    return MMF_OK;
}

mmf_status mmf_cells_next(mmf_cells *cells, mmf_cell *out)
{
    *out = (mmf_cell){.text = cells->at};
    if (cells->at < cells->end && *cells->at == '"') {
        MMF_TRY(quoted_cell(cells, out));
    } else {
        const char *const start = cells->at;
        while (cells->at < cells->end && *cells->at != cells->delimiter && line_break(cells) == 0)
            cells->at++;
        out->n_bytes = (size_t)(cells->at - start);
        MMF_TRY(check_cell(cells, start, out->n_bytes, cells->line));
    }
    if (cells->at < cells->end && *cells->at == cells->delimiter) {
        cells->at++;
        return MMF_OK;
    }
    const size_t n_break = line_break(cells);
    cells->at += n_break;
    cells->line += n_break > 0;
    out->ends_row = true;
    return MMF_OK;
}

bool mmf_cells_find_foreign(const mmf_cells *cells, mmf_foreign_byte *out)
{
    const size_t n_bytes = (size_t)(cells->end - cells->at);
    const size_t broken = mmf_utf8_first_broken(cells->at, n_bytes);
    if (broken == n_bytes)
        return false;
    const char *const byte = cells->at + broken;
    mmf_cells walk = *cells;
    mmf_cell cell = {.ends_row = true};
    *out = (mmf_foreign_byte){.line = cells->line, .value = (unsigned char)*byte};
    while (walk.at <= byte) {
        if (cell.ends_row && !mmf_cells_more(&walk))
            break;
        out->line = walk.line;
        out->column = cell.ends_row ? 1 : out->column + 1;
        if (mmf_cells_next(&walk, &cell) != MMF_OK)
            break;
    }
    mmf_cells_end(&walk);
    return true;
}

void mmf_cells_tell_foreign(mmf_ctx *ctx, const char *path, const mmf_foreign_byte *byte,
                            const char *name)
{
    mmf_ctx_log(ctx, MMF_LOG_WARNING,
                "%s: line %zu, column \"%s\": the byte 0x%02x is not UTF-8, and ? is read in its "
                "place; " MMF_SAVE_AS_UTF8,
                path, byte->line, name, byte->value);
}

void mmf_cell_trim(mmf_cell *cell)
{
    while (cell->n_bytes > 0 && (*cell->text == ' ' || *cell->text == '\t')) {
        cell->text++;
        cell->n_bytes--;
    }
    while (cell->n_bytes > 0 &&
           (cell->text[cell->n_bytes - 1] == ' ' || cell->text[cell->n_bytes - 1] == '\t'))
        cell->n_bytes--;
}

static bool missing(const mmf_cell *cell)
{
    static const char *const marks[] = {"", "NA", "N/A", "null", "NULL", "None"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (cell->n_bytes == strlen(marks[i]) && memcmp(cell->text, marks[i], cell->n_bytes) == 0)
            return true;
    }
    return false;
}

/*
 * Plain decimals: digits with at most one point among them. With at most 15 digits both the digits
 * and the power of ten are doubles, so one division rounds correctly (Clinger, "How to read
 * floating point numbers accurately", PLDI 1990). False: the slow way must decide.
 */
static bool plain_decimal(const mmf_cell *cell, double *value, bool *whole, int64_t *integer)
{
    static const double powers[MAX_EXACT_POWER + 1] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *at = cell->text, *const end = cell->text + cell->n_bytes;
    const bool negative = at < end && *at == '-';
    at += at < end && (*at == '-' || *at == '+');
    int64_t digits = 0, units = 0;
    int n_digits = 0, n_places = 0;
    bool point = false, fraction = false;
    for (; at < end; at++) {
        if (*at == '.' && !point) {
            point = true;
            units = digits;
            continue;
        }
        if (*at < '0' || *at > '9' || n_digits == MAX_DIGITS)
            return false;
        digits = 10 * digits + (*at - '0');
        n_digits++;
        n_places += point;
        fraction = fraction || (point && *at != '0');
    }
    if (n_digits == 0 || (point && n_digits > MAX_EXACT_DIGITS))
        return false;
    *whole = !fraction;
    *integer = negative ? -(point ? units : digits) : (point ? units : digits);
    const double magnitude = (double)digits / powers[n_places];
    *value = negative ? -magnitude : magnitude;
    return true;
}

bool mmf_cell_number(const mmf_cell *cell, double *value, bool *whole, int64_t *integer)
{
    *whole = false;
    *integer = 0;
    *value = NAN;
    if (missing(cell) || plain_decimal(cell, value, whole, integer))
        return true;
    return mmf_text_number(cell->text, cell->n_bytes, value);
}
