/*
 * csv.c: tables with a header line. A column "m.3" or "m.name" is one column of array m; a column
 * without a dot, and m.length, m.present and m.index, are arrays of their own. docs/data.md has the
 * rules. The text is read twice: once for the types, once, when the first array is loaded, for the
 * values of all arrays.
 */
#include "io/archive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "io/cells.h"
#include "io/utf8.h"

/* A string array takes its widest cell for every row: past this and this many times the file's size
 * it is refused. */
#define FREE_STRING_BYTES ((size_t)64 << 20)
#define MAX_STRING_GROWTH 64
#define LEFT_OUT SIZE_MAX

typedef enum column_kind { ANY, NUMBERS, TEXT, SPLIT } column_kind;

typedef struct column {
    char *name;
    size_t n_key;    /* bytes of the name that are the key of its array */
    size_t position; /* in the file */
    int64_t number;  /* what follows the key, if it is a plain number, else -1 */
    size_t entry;    /* the array (LEFT_OUT: none), and the column's place in its rows */
    int64_t place, n_places;
    column_kind kind; /* what the name asks for */
    bool has_text, all_whole;
    size_t width; /* of its longest cell */
} column;

typedef struct csv_reader {
    column *columns;
    column **sorted; /* by key, then as in the rows of its array */
    size_t n_columns, capacity;
    int64_t n_rows;
} csv_reader;

static mmf_cells start_cells(const mmf_archive *archive)
{
    return mmf_cells_start(archive->ctx, (const char *)archive->bytes, archive->n_bytes,
                           strcmp(archive->format->name, "tsv") == 0 ? '\t' : ',');
}

/* ---- The header line ---------------------------------------------------------------------- */

static bool one_of(const char *name, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(name, *words) == 0)
            return true;
    }
    return false;
}

static int64_t plain_number(const char *text)
{
    int64_t value = 0;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 10; n++)
        value = 10 * value + (text[n] - '0');
    return n > 0 && text[n] == '\0' ? value : -1;
}

static mmf_status describe_column(mmf_archive *archive, column *c)
{
    static const char *const per_sample[] = {"length", "present", "index", NULL};
    static const char *const per_file[] = {"names", "vocab", NULL};
    static const char *const texts[] = {"id", "caption", NULL};
    const char *const dot = strchr(c->name, '.');
    c->n_key = strlen(c->name);
    c->number = -1;
    c->all_whole = true;
    /* "No." and "Dr. Who" are names like any other. */
    if (!dot || dot == c->name || dot[1] == '\0' || dot[1] == ' ') {
        c->kind = one_of(c->name, texts) ? TEXT : strcmp(c->name, "split") == 0 ? SPLIT : ANY;
        return MMF_OK;
    }
    if (one_of(dot + 1, per_file))
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "column \"%s\": a table has no place for it; names come from the columns, "
                        "a vocabulary needs another format",
                        c->name);
    c->kind = NUMBERS;
    if (!one_of(dot + 1, per_sample)) {
        c->n_key = (size_t)(dot - c->name);
        c->number = plain_number(dot + 1);
    }
    return MMF_OK;
}

static mmf_status add_column(mmf_archive *archive, const mmf_cell *cell)
{
    mmf_ctx *const ctx = archive->ctx;
    csv_reader *const reader = archive->reader;
    if (reader->n_columns >= archive->options.max_entries)
        return mmf_fail(ctx, MMF_LIMIT, "more than %zu columns", archive->options.max_entries);
    if (cell->n_bytes == 0 || cell->n_bytes > archive->options.max_name_bytes)
        return mmf_fail(ctx, cell->n_bytes ? MMF_LIMIT : MMF_FORMAT,
                        "column %zu: a name of %zu bytes; expected 1 to %zu in the first line",
                        reader->n_columns + 1, cell->n_bytes, archive->options.max_name_bytes);
    if (reader->n_columns == reader->capacity) {
        const size_t capacity = reader->capacity ? 2 * reader->capacity : 16;
        column *grown = mmf_realloc(ctx, reader->columns, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        reader->columns = grown;
        reader->capacity = capacity;
    }
    if (!mmf_utf8_valid(cell->text, cell->n_bytes))
        return mmf_fail(ctx, MMF_FORMAT,
                        "line 1, column %zu: its name is not UTF-8; " MMF_SAVE_AS_UTF8,
                        reader->n_columns + 1);
    char *name = mmf_alloc(ctx, cell->n_bytes + 1);
    if (!name)
        return MMF_NOMEM;
    memcpy(name, cell->text, cell->n_bytes);
    name[cell->n_bytes] = '\0';
    column *const c = &reader->columns[reader->n_columns];
    *c = (column){.name = name, .position = reader->n_columns};
    reader->n_columns++;
    return describe_column(archive, c);
}

static mmf_status read_header(mmf_archive *archive, mmf_cells *cells)
{
    const csv_reader *const reader = archive->reader;
    if (!mmf_cells_more(cells))
        return mmf_fail(archive->ctx, MMF_FORMAT, "the table is empty");
    mmf_cell cell = {0};
    size_t n_numbers = 0;
    while (!cell.ends_row) {
        double value = 0;
        bool whole = false;
        int64_t integer = 0;
        MMF_TRY(mmf_cells_next(cells, &cell));
        mmf_cell_trim(&cell);
        n_numbers += cell.n_bytes > 0 && mmf_cell_number(&cell, &value, &whole, &integer);
        MMF_TRY(add_column(archive, &cell));
    }
    if (n_numbers == reader->n_columns)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the first line holds numbers only; expected the names of the columns");
    return MMF_OK;
}

/* ---- Columns into arrays ------------------------------------------------------------------ */

static int compare_columns(const void *a, const void *b)
{
    const column *const x = *(const column *const *)a, *const y = *(const column *const *)b;
    const size_t n = x->n_key < y->n_key ? x->n_key : y->n_key;
    const int order = memcmp(x->name, y->name, n);
    if (order != 0)
        return order;
    if (x->n_key != y->n_key)
        return x->n_key < y->n_key ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

static int compare_numbers(const void *a, const void *b)
{
    const column *const x = *(const column *const *)a, *const y = *(const column *const *)b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int compare_names(const void *a, const void *b)
{
    const column *const x = *(const column *const *)a, *const y = *(const column *const *)b;
    return strcmp(x->name, y->name);
}

static int compare_first(const void *a, const void *b)
{
    const column *const x = **(column * *const *)a, *const y = **(column * *const *)b;
    return x->position < y->position ? -1 : x->position > y->position;
}

static bool same_key(const column *a, const column *b)
{
    return a->n_key == b->n_key && memcmp(a->name, b->name, a->n_key) == 0;
}

/* Gives the columns of one array their places: by number if all parts are numbers. */
static mmf_status place_columns(mmf_archive *archive, column **group, size_t n)
{
    bool numbered = true;
    for (size_t i = 0; i < n; i++) {
        numbered = numbered && group[i]->number >= 0;
        if (n > 1 && group[i]->name[group[i]->n_key] == '\0')
            return mmf_fail(
                archive->ctx, MMF_FORMAT,
                "column \"%s\" is there twice, or beside columns \"%s.PART\"; rename it",
                group[i]->name, group[i]->name);
    }
    if (numbered)
        qsort(group, n, sizeof *group, compare_numbers);
    for (size_t i = 0; i < n; i++) {
        if (numbered && i > 0 && group[i - 1]->number == group[i]->number)
            return mmf_fail(archive->ctx, MMF_FORMAT, "columns \"%s\" and \"%s\" are the same",
                            group[i - 1]->name, group[i]->name);
        group[i]->place = (int64_t)i;
        group[i]->n_places = (int64_t)n;
    }
    return MMF_OK;
}

static mmf_status check_twins(mmf_archive *archive)
{
    const csv_reader *const reader = archive->reader;
    qsort(reader->sorted, reader->n_columns, sizeof *reader->sorted, compare_names);
    for (size_t i = 1; i < reader->n_columns; i++) {
        if (strcmp(reader->sorted[i - 1]->name, reader->sorted[i]->name) == 0)
            return mmf_fail(archive->ctx, MMF_FORMAT, "column \"%s\" is there twice",
                            reader->sorted[i]->name);
    }
    return MMF_OK;
}

static mmf_status sort_columns(mmf_archive *archive)
{
    csv_reader *const reader = archive->reader;
    const size_t n = reader->n_columns;
    reader->sorted = mmf_alloc_zero(archive->ctx, n, sizeof *reader->sorted);
    if (!reader->sorted)
        return MMF_NOMEM;
    for (size_t i = 0; i < n; i++)
        reader->sorted[i] = &reader->columns[i];
    MMF_TRY(check_twins(archive));
    qsort(reader->sorted, n, sizeof *reader->sorted, compare_columns);
    for (size_t i = 0, first = 0; i < n; i++) {
        if (i + 1 < n && same_key(reader->sorted[i], reader->sorted[i + 1]))
            continue;
        MMF_TRY(place_columns(archive, reader->sorted + first, i + 1 - first));
        first = i + 1;
    }
    return MMF_OK;
}

/* The type and shape of the array whose columns are `group`; item_bytes 0: it is left out. */
static mmf_status array_of(mmf_archive *archive, column *const *group, mmf_array *out)
{
    const csv_reader *const reader = archive->reader;
    const size_t n = (size_t)group[0]->n_places;
    bool text = false, whole = reader->n_rows > 0;
    size_t width = 1, n_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        text = text || group[i]->has_text || group[i]->kind == TEXT;
        whole = whole && group[i]->all_whole;
        width = group[i]->width > width ? group[i]->width : width;
    }
    *out = (mmf_array){.dtype = text    ? MMF_STR
                                : whole ? MMF_I64
                                        : MMF_F64,
                       .n_dims = group[0]->name[group[0]->n_key] == '.' ? 2 : 1,
                       .shape = {reader->n_rows, (int64_t)n},
                       .item_bytes = text ? width : 8};
    if (text && archive->options.skip_text) {
        out->item_bytes = 0;
        return MMF_OK;
    }
    const mmf_status status =
        mmf_array_measure(archive->ctx, out, archive->options.max_bytes, &n_bytes);
    if (status != MMF_OK)
        return mmf_fail_within(archive->ctx, status, "column \"%s\": ", group[0]->name);
    if (text && n_bytes > FREE_STRING_BYTES && n_bytes / MAX_STRING_GROWTH > archive->n_bytes)
        return mmf_fail(archive->ctx, MMF_LIMIT,
                        "column \"%s\": its longest cell of %zu bytes in each of %lld rows would "
                        "take %zu bytes; shorten it or leave the column out",
                        group[0]->name, width, (long long)reader->n_rows, n_bytes);
    return MMF_OK;
}

static mmf_status add_names(mmf_archive *archive, column *const *group)
{
    const size_t n = (size_t)group[0]->n_places, n_key = group[0]->n_key;
    size_t width = 1;
    bool numbered = true;
    for (size_t i = 0; i < n; i++) {
        const size_t n_name = strlen(group[i]->name + n_key + 1);
        width = n_name > width ? n_name : width;
        numbered = numbered && group[i]->number >= 0;
    }
    if (numbered)
        return MMF_OK;
    mmf_text key = {.ctx = archive->ctx};
    mmf_text_add(&key, "%.*s.names", (int)n_key, group[0]->name);
    char *cells = mmf_alloc_zero(archive->ctx, n, width);
    mmf_status status = cells ? key.status : MMF_NOMEM;
    if (status == MMF_OK) {
        for (size_t i = 0; i < n; i++)
            memcpy(cells + i * width, group[i]->name + n_key + 1,
                   strlen(group[i]->name + n_key + 1));
        const mmf_array names = {MMF_STR, 1, {(int64_t)n}, width, cells};
        status = mmf_archive_append(archive, key.data, key.length, &names);
    }
    if (status == MMF_OK)
        archive->entries[archive->n_entries - 1].owned = cells;
    else
        mmf_free(archive->ctx, cells);
    mmf_text_clear(&key);
    return status;
}

static mmf_status add_arrays(mmf_archive *archive, column ***groups)
{
    const csv_reader *const reader = archive->reader;
    size_t n_groups = 0;
    for (size_t i = 0; i < reader->n_columns; i += (size_t)reader->sorted[i]->n_places)
        groups[n_groups++] = &reader->sorted[i];
    /* Arrays come in the order of the file: by the column that stands first in it. */
    qsort(groups, n_groups, sizeof *groups, compare_first);
    for (size_t g = 0; g < n_groups; g++) {
        column *const *const group = groups[g];
        mmf_array array = {0};
        MMF_TRY(array_of(archive, group, &array));
        for (int64_t i = 0; i < group[0]->n_places; i++)
            group[i]->entry = array.item_bytes ? archive->n_entries : LEFT_OUT;
        if (array.item_bytes == 0)
            continue;
        MMF_TRY(mmf_archive_append(archive, group[0]->name, group[0]->n_key, &array));
        if (array.n_dims == 2)
            MMF_TRY(add_names(archive, group));
    }
    return MMF_OK;
}

/* ---- Rows --------------------------------------------------------------------------------- */

static int64_t split_word(const mmf_cell *cell)
{
    static const struct {
        const char *word;
        int64_t split;
    } words[] = {{"train", 0}, {"valid", 1}, {"validation", 1},
                 {"val", 1},   {"dev", 1},   {"test", 2}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (cell->n_bytes == strlen(words[i].word) &&
            memcmp(cell->text, words[i].word, cell->n_bytes) == 0)
            return words[i].split;
    }
    return -1;
}

static bool read_number(const column *c, mmf_cell cell, double *value, bool *whole,
                        int64_t *integer)
{
    mmf_cell_trim(&cell);
    if (c->kind == SPLIT) {
        *integer = split_word(&cell);
        if (*integer >= 0) {
            *value = (double)*integer;
            *whole = true;
            return true;
        }
    }
    return mmf_cell_number(&cell, value, whole, integer);
}

static mmf_status classify_cell(const mmf_archive *archive, const mmf_cell *cell, size_t line,
                                column *c)
{
    double value = 0;
    bool whole = false;
    int64_t integer = 0;
    c->width = cell->n_bytes > c->width ? cell->n_bytes : c->width;
    if (c->has_text || c->kind == TEXT)
        return MMF_OK;
    if (read_number(c, *cell, &value, &whole, &integer)) {
        c->all_whole = c->all_whole && whole;
        return MMF_OK;
    }
    if (c->kind == ANY) {
        c->has_text = true;
        return MMF_OK;
    }
    const int n = cell->n_bytes < 40 ? (int)cell->n_bytes : 40;
    const int64_t row = ((const csv_reader *)archive->reader)->n_rows + 1;
    return mmf_fail(archive->ctx, MMF_FORMAT,
                    "column \"%s\", row %lld (line %zu): \"%.*s\" is not a number%s", c->name,
                    (long long)row, line, n, cell->text,
                    c->kind == SPLIT ? "; expected 0, 1, 2 or train, valid, test"
                                     : "; a column NAME.PART holds numbers");
}

/* Calls for each cell of the next row; both passes share the check of its length. */
static mmf_status next_row(mmf_archive *archive, mmf_cells *cells,
                           mmf_status (*use)(const mmf_archive *, const mmf_cell *, size_t,
                                             column *))
{
    csv_reader *const reader = archive->reader;
    const size_t line = cells->line;
    mmf_cell cell = {0};
    size_t n = 0;
    for (; !cell.ends_row; n++) {
        MMF_TRY(mmf_cells_next(cells, &cell));
        if (n < reader->n_columns)
            MMF_TRY(use(archive, &cell, line, &reader->columns[n]));
    }
    if (n != reader->n_columns)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "row %lld (line %zu): %zu cells where the first line names %zu columns",
                        (long long)reader->n_rows + 1, line, n, reader->n_columns);
    reader->n_rows++;
    return MMF_OK;
}

static mmf_status scan(mmf_archive *archive, mmf_cells *cells)
{
    MMF_TRY(read_header(archive, cells));
    MMF_TRY(sort_columns(archive));
    while (mmf_cells_more(cells))
        MMF_TRY(next_row(archive, cells, classify_cell));
    return MMF_OK;
}

static void warn_of_foreign(const mmf_archive *archive, const mmf_cells *cells)
{
    const csv_reader *const reader = archive->reader;
    mmf_foreign_byte byte;
    if (mmf_cells_find_foreign(cells, &byte) && byte.column <= reader->n_columns)
        mmf_cells_tell_foreign(archive->ctx, archive->path, &byte,
                               reader->columns[byte.column - 1].name);
}

static mmf_status open_csv(mmf_archive *archive)
{
    csv_reader *const reader = mmf_alloc_zero(archive->ctx, 1, sizeof *reader);
    if (!reader)
        return MMF_NOMEM;
    archive->reader = reader;
    mmf_cells cells = start_cells(archive);
    mmf_status status = scan(archive, &cells);
    mmf_cells_end(&cells);
    MMF_TRY(status);
    const mmf_cells whole = start_cells(archive);
    warn_of_foreign(archive, &whole);
    column ***groups = mmf_alloc_zero(archive->ctx, reader->n_columns, sizeof *groups);
    if (!groups)
        return MMF_NOMEM;
    status = add_arrays(archive, groups);
    mmf_free(archive->ctx, groups);
    return status;
}

static mmf_status store_cell(const mmf_archive *archive, const mmf_cell *cell, size_t line,
                             column *c)
{
    (void)line;
    if (c->entry == LEFT_OUT)
        return MMF_OK;
    mmf_entry *const entry = &archive->entries[c->entry];
    const int64_t row = ((const csv_reader *)archive->reader)->n_rows;
    const size_t at = (size_t)(row * c->n_places + c->place);
    char *const out = (char *)entry->owned + at * entry->array.item_bytes;
    if (entry->array.dtype == MMF_STR) {
        memcpy(out, cell->text, cell->n_bytes);
        mmf_utf8_repair(out, cell->n_bytes);
        return MMF_OK;
    }
    double value = 0;
    bool whole = false;
    int64_t integer = 0;
    read_number(c, *cell, &value, &whole, &integer);
    if (entry->array.dtype == MMF_I64)
        memcpy(out, &integer, sizeof integer);
    else
        memcpy(out, &value, sizeof value);
    return MMF_OK;
}

static mmf_status store_all(mmf_archive *archive)
{
    csv_reader *const reader = archive->reader;
    for (size_t i = 0; i < archive->n_entries; i++) {
        mmf_entry *const entry = &archive->entries[i];
        if (entry->owned)
            continue;
        entry->owned = mmf_alloc_zero(archive->ctx, (size_t)mmf_array_count(&entry->array),
                                      entry->array.item_bytes);
        if (!entry->owned)
            return MMF_NOMEM;
    }
    mmf_cells cells = start_cells(archive);
    mmf_status status = MMF_OK;
    mmf_cells_more(&cells);
    for (mmf_cell cell = {0}; status == MMF_OK && !cell.ends_row;)
        status = mmf_cells_next(&cells, &cell);
    reader->n_rows = 0;
    while (status == MMF_OK && mmf_cells_more(&cells))
        status = next_row(archive, &cells, store_cell);
    mmf_cells_end(&cells);
    return status;
}

static mmf_status load_csv(mmf_archive *archive, size_t i)
{
    (void)i; /* one pass serves all arrays */
    MMF_TRY(store_all(archive));
    for (size_t e = 0; e < archive->n_entries; e++)
        archive->entries[e].array.data = archive->entries[e].owned;
    return MMF_OK;
}

static void close_csv(mmf_archive *archive)
{
    csv_reader *const reader = archive->reader;
    if (!reader)
        return;
    for (size_t i = 0; i < reader->n_columns; i++)
        mmf_free(archive->ctx, reader->columns[i].name);
    mmf_free(archive->ctx, reader->columns);
    mmf_free(archive->ctx, reader->sorted);
    mmf_free(archive->ctx, reader);
}

const mmf_format mmf_format_csv = {"csv", open_csv, load_csv, close_csv};
const mmf_format mmf_format_tsv = {"tsv", open_csv, load_csv, close_csv};
