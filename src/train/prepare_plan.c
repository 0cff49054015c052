/* prepare_plan.c: what is stored of a raw column: every text, and every file once, however many
 * rows name it. */
#include <stdlib.h>
#include <string.h>

#include "train/preparation.h"

typedef struct named_row {
    mmf_manifest_cell cell;
    int64_t row;
} named_row;

static int compare_named(const void *a, const void *b)
{
    const named_row *const x = a, *const y = b;
    const size_t n = x->cell.n_bytes < y->cell.n_bytes ? x->cell.n_bytes : y->cell.n_bytes;
    const int order = memcmp(x->cell.text, y->cell.text, n);
    if (order)
        return order;
    if (x->cell.n_bytes != y->cell.n_bytes)
        return x->cell.n_bytes < y->cell.n_bytes ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static bool same_cell(const named_row *a, const named_row *b)
{
    return a->cell.n_bytes == b->cell.n_bytes &&
           memcmp(a->cell.text, b->cell.text, a->cell.n_bytes) == 0;
}

/* Points every row to the first one that names its file. */
static void find_firsts(named_row *rows, int64_t n, int64_t *first_of)
{
    qsort(rows, (size_t)n, sizeof *rows, compare_named);
    for (int64_t i = 0, first = 0; i < n; i++) {
        first = same_cell(&rows[first], &rows[i]) ? first : i;
        first_of[rows[i].row] = rows[first].row;
    }
}

mmf_status mmf_raw_column_plan(const mmf_manifest *manifest, mmf_raw_column *column)
{
    mmf_ctx *const ctx = manifest->ctx;
    const size_t n_rows = (size_t)manifest->n_rows;
    named_row *const rows = mmf_alloc_zero(ctx, n_rows, sizeof *rows);
    column->stored = mmf_alloc_zero(ctx, n_rows, sizeof *column->stored);
    column->first = mmf_alloc_zero(ctx, n_rows, sizeof *column->first);
    if (!rows || !column->stored || !column->first) {
        mmf_free(ctx, rows);
        return MMF_NOMEM;
    }
    int64_t n_named = 0;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(manifest, i, column->column);
        column->first[i] = cell.n_bytes > 0 ? i : -1;
        if (cell.n_bytes > 0)
            rows[n_named++] = (named_row){cell, i};
    }
    if (column->kind->reads != MMF_RAW_TEXT) /* equal texts are samples of their own */
        find_firsts(rows, n_named, column->first);
    mmf_free(ctx, rows);
    column->n_stored = 0;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const int64_t first = column->first[i];
        column->stored[i] = first < 0 ? -1 : first < i ? column->stored[first] : column->n_stored;
        if (first == i)
            column->first[column->n_stored++] = i; /* not beyond i: the list is read further up */
    }
    return MMF_OK;
}

void mmf_raw_column_clear(mmf_ctx *ctx, mmf_raw_column *column)
{
    mmf_config_free(column->config);
    mmf_free(ctx, column->encoder);
    mmf_free(ctx, column->source);
    mmf_free(ctx, column->stored);
    mmf_free(ctx, column->first);
    mmf_archive_close(column->cache);
    *column = (mmf_raw_column){0};
}
