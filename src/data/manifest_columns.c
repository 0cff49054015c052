/* manifest_columns.c: what the columns of a manifest hold: media by their endings, texts, classes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "data/dataset.h"
#include "data/manifest.h"
#include "io/cells.h"
#include "io/utf8.h"
#include "mmfuse/media.h"

/* A string array takes its widest cell for every row. */
#define MAX_TEXTS_BYTES ((size_t)1 << 30)
#define MAX_ENDING 8 /* bytes with the dot */
#define SHOWN_BYTES 61
#define MISTAKES_ONE_IN 10 /* cells: fewer that are not like the others are mistakes */

static const char *const kind_names[] = {[MMF_RAW_NONE] = "",
                                         [MMF_RAW_TEXT] = "text",
                                         [MMF_RAW_IMAGE] = "image",
                                         [MMF_RAW_AUDIO] = "audio",
                                         [MMF_RAW_VIDEO] = "video"};

/* The beginning of a cell: it may hold any bytes, and messages go to a terminal. */
static const char *show_cell(char out[SHOWN_BYTES], mmf_manifest_cell cell)
{
    const size_t n = cell.n_bytes < SHOWN_BYTES ? cell.n_bytes : SHOWN_BYTES - 1;
    memcpy(out, cell.text, n);
    out[n] = '\0';
    mmf_utf8_repair(out, n);
    return out;
}

const char *mmf_raw_kind_name(mmf_raw_kind kind)
{
    return kind_names[kind];
}

/* Without a dot and something before it there is no ending; longer ones are none either. */
mmf_raw_kind mmf_raw_kind_of(const char *name, size_t n_bytes)
{
    static const mmf_raw_kind kinds[] = {[MMF_MEDIA_IMAGE] = MMF_RAW_IMAGE,
                                         [MMF_MEDIA_AUDIO] = MMF_RAW_AUDIO,
                                         [MMF_MEDIA_VIDEO] = MMF_RAW_VIDEO};
    char ending[MAX_ENDING + 2] = "x";
    mmf_media_kind kind = MMF_MEDIA_IMAGE;
    const char *const dot = memrchr(name, '.', n_bytes);
    const size_t n = dot ? n_bytes - (size_t)(dot - name) : 0;
    if (n < 2 || n > MAX_ENDING || dot == name)
        return MMF_RAW_NONE;
    memcpy(ending + 1, dot, n);
    return mmf_media_kind_of(ending, &kind) ? kinds[kind] : MMF_RAW_NONE;
}

bool mmf_manifest_is_reserved(const char *name)
{
    static const char *const reserved[] = {"id", "split", "group", "label", "caption"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcmp(reserved[i], name) == 0)
            return true;
    }
    const char *const dot = strchr(name, '.');
    return dot && dot > name && dot[1] != '\0' && dot[1] != ' ';
}

mmf_raw_kind mmf_manifest_kind(const mmf_manifest *manifest, size_t column)
{
    mmf_raw_kind kind = MMF_RAW_NONE;
    if (mmf_manifest_is_reserved(manifest->names[column]))
        return kind;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(manifest, i, column);
        if (cell.n_bytes == 0)
            continue;
        const mmf_raw_kind found = mmf_raw_kind_of(cell.text, cell.n_bytes);
        if (found == MMF_RAW_NONE || (kind != MMF_RAW_NONE && found != kind))
            return MMF_RAW_NONE;
        kind = found;
    }
    return kind;
}

/* How many of its cells name files of the kind that most do. */
static mmf_raw_kind most_cells(const mmf_manifest *manifest, size_t column, int64_t *n_of_kind,
                               int64_t *n_cells)
{
    int64_t counts[MMF_RAW_VIDEO + 1] = {0};
    mmf_raw_kind most = MMF_RAW_NONE;
    *n_cells = 0;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(manifest, i, column);
        *n_cells += cell.n_bytes > 0;
        counts[mmf_raw_kind_of(cell.text, cell.n_bytes)] += cell.n_bytes > 0;
    }
    for (int k = MMF_RAW_IMAGE; k <= MMF_RAW_VIDEO; k++)
        most = counts[k] > *n_cells / 2 ? (mmf_raw_kind)k : most;
    *n_of_kind = most == MMF_RAW_NONE ? 0 : counts[most];
    return most;
}

bool mmf_manifest_is_mixed(const mmf_manifest *manifest, size_t column)
{
    int64_t n = 0, n_cells = 0;
    return !mmf_manifest_is_reserved(manifest->names[column]) &&
           most_cells(manifest, column, &n, &n_cells) != MMF_RAW_NONE && n < n_cells;
}

mmf_status mmf_manifest_check_mixed(const mmf_manifest *manifest, size_t column)
{
    char shown[SHOWN_BYTES];
    int64_t n = 0, n_cells = 0, row = 0;
    if (!mmf_manifest_is_mixed(manifest, column))
        return MMF_OK;
    const mmf_raw_kind kind = most_cells(manifest, column, &n, &n_cells);
    mmf_manifest_cell cell = mmf_manifest_at(manifest, row, column);
    while (cell.n_bytes == 0 || mmf_raw_kind_of(cell.text, cell.n_bytes) == kind)
        cell = mmf_manifest_at(manifest, ++row, column);
    const char *const name = manifest->names[column];
    const mmf_status status = mmf_manifest_fail(
        manifest, MMF_FORMAT, row, column,
        "\"%s\" names no file of kind %s, as %lld of the %lld cells do; correct it, leave it empty "
        "if the sample has none, or say how to read the column with --prepare %s=PREPARATION",
        show_cell(shown, cell), kind_names[kind], (long long)n, (long long)n_cells, name);
    if ((n_cells - n) * MISTAKES_ONE_IN <= n_cells)
        return status;
    mmf_ctx_log(manifest->ctx, MMF_LOG_WARNING, "%s", mmf_ctx_error(manifest->ctx));
    return MMF_OK;
}

bool mmf_manifest_has_text(const mmf_manifest *manifest, size_t column)
{
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell at = mmf_manifest_at(manifest, i, column);
        const mmf_cell cell = {at.text, at.n_bytes, false};
        double value = 0;
        bool whole = false;
        int64_t integer = 0;
        if (!mmf_cell_number(&cell, &value, &whole, &integer))
            return true;
    }
    return false;
}

mmf_status mmf_manifest_path(const mmf_manifest *manifest, int64_t row, size_t column, char **out)
{
    const mmf_manifest_cell cell = mmf_manifest_at(manifest, row, column);
    const size_t n_folder = cell.text[0] == '/' ? 0 : strlen(manifest->folder);
    *out = mmf_alloc(manifest->ctx, n_folder + cell.n_bytes + 1);
    if (!*out)
        return MMF_NOMEM;
    memcpy(*out, manifest->folder, n_folder);
    memcpy(*out + n_folder, cell.text, cell.n_bytes);
    (*out)[n_folder + cell.n_bytes] = '\0';
    return MMF_OK;
}

/* ---- Arrays ------------------------------------------------------------------------------ */

mmf_status mmf_manifest_texts(const mmf_manifest *manifest, size_t column, mmf_array *out)
{
    size_t width = 1, n_bytes = 0;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const size_t n = mmf_manifest_at(manifest, i, column).n_bytes;
        width = n > width ? n : width;
    }
    if (!mmf_mul_ok(width, (size_t)manifest->n_rows, &n_bytes) || n_bytes > MAX_TEXTS_BYTES)
        return mmf_fail(manifest->ctx, MMF_LIMIT,
                        "%s: column \"%s\": its longest cell of %zu bytes in each of %lld rows "
                        "would take %zu bytes; shorten it",
                        manifest->path, manifest->names[column], width, (long long)manifest->n_rows,
                        n_bytes);
    char *const cells = mmf_alloc_zero(manifest->ctx, (size_t)manifest->n_rows, width);
    if (!cells)
        return MMF_NOMEM;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(manifest, i, column);
        memcpy(cells + (size_t)i * width, cell.text, cell.n_bytes);
        mmf_utf8_repair(cells + (size_t)i * width, cell.n_bytes);
    }
    *out = (mmf_array){MMF_STR, 1, {manifest->n_rows}, width, cells};
    return MMF_OK;
}

static int compare_cells(const void *a, const void *b)
{
    const mmf_manifest_cell *const x = a, *const y = b;
    const size_t n = x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes;
    const int order = memcmp(x->text, y->text, n);
    return order ? order : (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* The different texts of a column in order. @param sorted  n_rows cells of scratch memory */
static size_t different_cells(const mmf_manifest *m, size_t column, mmf_manifest_cell *sorted)
{
    size_t n = 0, n_different = 0;
    for (int64_t i = 0; i < m->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(m, i, column);
        if (cell.n_bytes > 0)
            sorted[n++] = cell;
    }
    qsort(sorted, n, sizeof *sorted, compare_cells);
    for (size_t i = 0; i < n; i++) {
        if (n_different == 0 || compare_cells(&sorted[n_different - 1], &sorted[i]) != 0)
            sorted[n_different++] = sorted[i];
    }
    return n_different;
}

static mmf_status name_classes(const mmf_manifest *m, size_t column, mmf_array *names)
{
    mmf_manifest_cell *const cells = mmf_alloc_zero(m->ctx, (size_t)m->n_rows, sizeof *cells);
    if (!cells)
        return MMF_NOMEM;
    const size_t n = different_cells(m, column, cells);
    size_t width = 1;
    for (size_t k = 0; k < n; k++)
        width = cells[k].n_bytes > width ? cells[k].n_bytes : width;
    char *text = NULL;
    mmf_status status = MMF_OK;
    if (n > MMF_MAX_CLASSES || width > 4096)
        status = mmf_fail(m->ctx, MMF_LIMIT,
                          "%s: column \"%s\": %zu different texts of up to %zu bytes as classes; "
                          "at most %d of 4096",
                          m->path, m->names[column], n, width, MMF_MAX_CLASSES);
    else if (!(text = mmf_alloc_zero(m->ctx, n ? n : 1, width)))
        status = MMF_NOMEM;
    for (size_t k = 0; text && k < n; k++) {
        memcpy(text + k * width, cells[k].text, cells[k].n_bytes);
        mmf_utf8_repair(text + k * width, cells[k].n_bytes);
    }
    mmf_free(m->ctx, cells);
    if (status == MMF_OK)
        *names = (mmf_array){MMF_STR, 1, {(int64_t)n}, width, text};
    return status;
}

static int64_t class_of(const mmf_array *names, mmf_manifest_cell cell)
{
    for (int64_t k = 0; k < names->shape[0]; k++) {
        size_t n = 0;
        const char *const name = mmf_array_string(names, k, &n);
        if (n == cell.n_bytes && memcmp(name, cell.text, n) == 0)
            return k;
    }
    return -1;
}

static mmf_status fail_class(const mmf_manifest *manifest, int64_t row, size_t column,
                             int64_t n_classes)
{
    char shown[SHOWN_BYTES];
    const mmf_manifest_cell cell = mmf_manifest_at(manifest, row, column);
    const bool is_text = mmf_utf8_valid(cell.text, cell.n_bytes);
    show_cell(shown, cell);
    if (!is_text)
        return mmf_manifest_fail(manifest, MMF_FORMAT, row, column,
                                 "the class \"%s\" is not UTF-8 (" MMF_SAVE_AS_UTF8 ")", shown);
    return mmf_manifest_fail(manifest, MMF_FORMAT, row, column,
                             "\"%s\" is none of the %lld classes", shown, (long long)n_classes);
}

mmf_status mmf_manifest_classes(const mmf_manifest *manifest, size_t column, bool wanted,
                                mmf_array *names, mmf_array *out)
{
    *out = (mmf_array){.data = NULL};
    if (!names->data)
        MMF_TRY(name_classes(manifest, column, names));
    int64_t *const classes =
        mmf_alloc_zero(manifest->ctx, (size_t)manifest->n_rows, sizeof *classes);
    if (!classes)
        return MMF_NOMEM;
    for (int64_t i = 0; i < manifest->n_rows; i++) {
        const mmf_manifest_cell cell = mmf_manifest_at(manifest, i, column);
        classes[i] = class_of(names, cell);
        if (classes[i] >= 0)
            continue;
        mmf_free(manifest->ctx, classes);
        if (!wanted && cell.n_bytes == 0)
            return MMF_OK;
        if (cell.n_bytes == 0)
            return mmf_manifest_fail(manifest, MMF_FORMAT, i, column,
                                     "an empty cell is no target; leave such rows out");
        const mmf_status status = fail_class(manifest, i, column, names->shape[0]);
        if (!wanted)
            mmf_ctx_log(manifest->ctx, MMF_LOG_WARNING, "%s, so that the column is no target here",
                        mmf_ctx_error(manifest->ctx));
        return wanted ? status : MMF_OK;
    }
    *out = (mmf_array){MMF_I64, 1, {manifest->n_rows}, sizeof *classes, classes};
    return MMF_OK;
}
