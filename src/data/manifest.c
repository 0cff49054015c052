/* manifest.c: see manifest.h. What columns become is in manifest_columns.c. */
#include "data/manifest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/text.h"
#include "io/cells.h"
#include "io/utf8.h"

#define MAX_COLUMNS 4096
#define MAX_NAME_BYTES 512
#define MAX_LISTED 12

/* ---- Messages ---------------------------------------------------------------------------- */

mmf_status mmf_manifest_within(const mmf_manifest *manifest, mmf_status status, int64_t row,
                               size_t column)
{
    return mmf_fail_within(manifest->ctx, status,
                           "%s: column \"%s\", row %lld (line %zu): ", manifest->path,
                           manifest->names[column], (long long)row + 1, manifest->lines[row]);
}

mmf_status mmf_manifest_fail(const mmf_manifest *manifest, mmf_status status, int64_t row,
                             size_t column, const char *format, ...)
{
    char text[MMF_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mmf_fail(manifest->ctx, status, "%s", text);
    return mmf_manifest_within(manifest, status, row, column);
}

/* ---- Reading ----------------------------------------------------------------------------- */

/* Makes room for `count` elements more. */
static mmf_status grow(mmf_ctx *ctx, void **block, size_t *capacity, size_t used, size_t count,
                       size_t size)
{
    if (used + count <= *capacity)
        return MMF_OK;
    const size_t wanted = 2 * (used + count) + 16;
    size_t n_bytes = 0;
    if (!mmf_mul_ok(wanted, size, &n_bytes))
        return mmf_fail(ctx, MMF_LIMIT, "the table is too large");
    void *const grown = mmf_realloc(ctx, *block, n_bytes);
    if (!grown)
        return MMF_NOMEM;
    *block = grown;
    *capacity = wanted;
    return MMF_OK;
}

static mmf_status add_name(mmf_manifest *m, const mmf_cell *cell)
{
    if (m->n_columns == MAX_COLUMNS)
        return mmf_fail(m->ctx, MMF_LIMIT, "more than %d columns", MAX_COLUMNS);
    if (cell->n_bytes == 0 || cell->n_bytes > MAX_NAME_BYTES)
        return mmf_fail(m->ctx, MMF_FORMAT,
                        "column %zu: a name of %zu bytes; expected 1 to %d in the first line",
                        m->n_columns + 1, cell->n_bytes, MAX_NAME_BYTES);
    if (!mmf_utf8_valid(cell->text, cell->n_bytes))
        return mmf_fail(m->ctx, MMF_FORMAT,
                        "line 1, column %zu: its name is not UTF-8; " MMF_SAVE_AS_UTF8,
                        m->n_columns + 1);
    MMF_TRY(
        grow(m->ctx, (void **)&m->names, &m->column_capacity, m->n_columns, 1, sizeof *m->names));
    char *const name = mmf_alloc(m->ctx, cell->n_bytes + 1);
    if (!name)
        return MMF_NOMEM;
    memcpy(name, cell->text, cell->n_bytes);
    name[cell->n_bytes] = '\0';
    if (mmf_manifest_find(m, name) >= 0) {
        mmf_fail(m->ctx, MMF_FORMAT, "column \"%s\" is there twice", name);
        mmf_free(m->ctx, name);
        return MMF_FORMAT;
    }
    m->names[m->n_columns++] = name;
    return MMF_OK;
}

static mmf_status read_head(mmf_manifest *m, mmf_cells *cells)
{
    if (!mmf_cells_more(cells))
        return mmf_fail(m->ctx, MMF_FORMAT, "the table is empty");
    for (mmf_cell cell = {0}; !cell.ends_row;) {
        MMF_TRY(mmf_cells_next(cells, &cell));
        mmf_cell_trim(&cell);
        MMF_TRY(add_name(m, &cell));
    }
    return MMF_OK;
}

/* A cell with doubled quotes lies in the reader's scratch memory: it needs a copy that stays. */
static mmf_status keep(mmf_manifest *m, const mmf_cells *cells, mmf_cell *cell)
{
    if (!cells->scratch || cell->text < cells->scratch ||
        cell->text > cells->scratch + cells->scratch_bytes)
        return MMF_OK;
    MMF_TRY(
        grow(m->ctx, (void **)&m->copies, &m->copy_capacity, m->n_copies, 1, sizeof *m->copies));
    char *const copy = mmf_alloc(m->ctx, cell->n_bytes + 1);
    if (!copy)
        return MMF_NOMEM;
    memcpy(copy, cell->text, cell->n_bytes);
    m->copies[m->n_copies++] = copy;
    cell->text = copy;
    return MMF_OK;
}

static mmf_status read_row(mmf_manifest *m, mmf_cells *cells)
{
    const size_t line = cells->line, first = (size_t)m->n_rows * m->n_columns;
    MMF_TRY(grow(m->ctx, (void **)&m->lines, &m->line_capacity, (size_t)m->n_rows, 1,
                 sizeof *m->lines));
    MMF_TRY(
        grow(m->ctx, (void **)&m->cells, &m->cell_capacity, first, m->n_columns, sizeof *m->cells));
    m->lines[m->n_rows] = line;
    size_t n = 0;
    for (mmf_cell cell = {0}; !cell.ends_row; n++) {
        MMF_TRY(mmf_cells_next(cells, &cell));
        if (n >= m->n_columns)
            continue;
        mmf_cell_trim(&cell);
        MMF_TRY(keep(m, cells, &cell));
        m->cells[first + n] = (mmf_manifest_cell){cell.text, cell.n_bytes};
    }
    if (n != m->n_columns)
        return mmf_fail(m->ctx, MMF_FORMAT,
                        "row %lld (line %zu): %zu cells where the first line names %zu columns; "
                        "put a text with commas in quotes",
                        (long long)m->n_rows + 1, line, n, m->n_columns);
    m->n_rows++;
    return MMF_OK;
}

static bool ends_in(const char *text, const char *end)
{
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

static char delimiter_of(const mmf_manifest *m)
{
    return ends_in(m->path, ".tsv") ? '\t' : ',';
}

static mmf_status read_table(mmf_manifest *m, const char *text, size_t n_bytes)
{
    mmf_cells cells = mmf_cells_start(m->ctx, text, n_bytes, delimiter_of(m));
    mmf_status status = read_head(m, &cells);
    while (status == MMF_OK && mmf_cells_more(&cells))
        status = read_row(m, &cells);
    mmf_cells_end(&cells);
    if (status == MMF_OK && m->n_rows == 0)
        status = mmf_fail(m->ctx, MMF_FORMAT, "the table has no rows below its first line");
    return status;
}

static mmf_status name_folder(mmf_manifest *m, const char *path)
{
    const char *const slash = strrchr(path, '/');
    m->path = mmf_strdup(m->ctx, path);
    m->folder = mmf_strdup(m->ctx, path);
    if (!m->path || !m->folder)
        return MMF_NOMEM;
    m->folder[slash ? slash - path + 1 : 0] = '\0';
    return MMF_OK;
}

mmf_status mmf_manifest_read(mmf_ctx *ctx, mmf_manifest *out, const char *path, const char *text,
                             size_t n_bytes)
{
    *out = (mmf_manifest){.ctx = ctx};
    MMF_TRY(name_folder(out, path));
    const mmf_status status = read_table(out, text, n_bytes);
    return status == MMF_OK ? MMF_OK : mmf_fail_within(ctx, status, "%s: ", path);
}

mmf_status mmf_manifest_open(mmf_ctx *ctx, mmf_manifest *out, const char *path)
{
    mmf_mapping mapping = {0};
    *out = (mmf_manifest){.ctx = ctx};
    MMF_TRY(mmf_map_open(ctx, &mapping, path));
    const mmf_status status =
        mmf_manifest_read(ctx, out, path, (const char *)mapping.bytes, mapping.n_bytes);
    out->mapping = mapping;
    return status;
}

void mmf_manifest_warn_of_foreign(const mmf_manifest *m)
{
    const mmf_cells cells = mmf_cells_start(m->ctx, (const char *)m->mapping.bytes,
                                            m->mapping.n_bytes, delimiter_of(m));
    mmf_foreign_byte byte;
    if (mmf_cells_find_foreign(&cells, &byte) && byte.column <= m->n_columns)
        mmf_cells_tell_foreign(m->ctx, m->path, &byte, m->names[byte.column - 1]);
}

void mmf_manifest_close(mmf_manifest *manifest)
{
    mmf_ctx *const ctx = manifest->ctx;
    if (!ctx)
        return;
    for (size_t i = 0; i < manifest->n_columns; i++)
        mmf_free(ctx, manifest->names[i]);
    for (size_t i = 0; i < manifest->n_copies; i++)
        mmf_free(ctx, manifest->copies[i]);
    mmf_free(ctx, manifest->names);
    mmf_free(ctx, manifest->copies);
    mmf_free(ctx, manifest->cells);
    mmf_free(ctx, manifest->lines);
    mmf_free(ctx, manifest->path);
    mmf_free(ctx, manifest->folder);
    mmf_map_close(&manifest->mapping);
    *manifest = (mmf_manifest){0};
}

/* ---- Columns ----------------------------------------------------------------------------- */

int64_t mmf_manifest_find(const mmf_manifest *manifest, const char *name)
{
    for (size_t i = 0; i < manifest->n_columns; i++) {
        if (strcmp(manifest->names[i], name) == 0)
            return (int64_t)i;
    }
    return -1;
}

mmf_status mmf_manifest_need(const mmf_manifest *manifest, const char *name, size_t *column)
{
    const int64_t place = mmf_manifest_find(manifest, name);
    if (place >= 0) {
        *column = (size_t)place;
        return MMF_OK;
    }
    mmf_text list = {.ctx = manifest->ctx};
    for (size_t i = 0; i < manifest->n_columns && i < MAX_LISTED; i++)
        mmf_text_add(&list, "%s%s", i ? ", " : "", manifest->names[i]);
    const char *const nearest =
        mmf_text_nearest(name, (const char *const *)manifest->names, manifest->n_columns);
    mmf_status status = list.status;
    if (status == MMF_OK)
        status = mmf_fail(manifest->ctx, MMF_ARG, "%s: no column \"%s\"; %s%s%sthere are: %s%s",
                          manifest->path, name, nearest ? "did you mean \"" : "",
                          nearest ? nearest : "", nearest ? "\"? " : "", list.data,
                          manifest->n_columns > MAX_LISTED ? ", ..." : "");
    mmf_text_clear(&list);
    return status;
}

mmf_manifest_cell mmf_manifest_at(const mmf_manifest *manifest, int64_t row, size_t column)
{
    return manifest->cells[(size_t)row * manifest->n_columns + column];
}
