/*
 * prepare.c: a manifest as an archive under the names of the data contract: prepared columns out of
 * the cache, numbers out of the table itself, and what the table's texts mean.
 */
#include "mmfuse/prepare.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "io/archive.h"
#include "train/frozen.h"

#define MAX_MODALITIES 64
#define KEY_BYTES (512 + 16)

/* What the archive keeps open. */
typedef struct prepared_table {
    mmf_manifest manifest;
    mmf_archive *numbers; /* the table as the reader of csv sees it */
    mmf_raw_column columns[MAX_MODALITIES];
    size_t n_columns;
    struct source { /* where an entry's bytes are, if not in its `owned` */
        mmf_archive *archive;
        size_t entry;
    } * sources; /* one an entry */
    size_t n_sources, source_capacity;
} prepared_table;

/* ---- Which columns are raw --------------------------------------------------------------- */

static bool is_named(const prepared_table *table, size_t column)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        if (table->columns[i].column == column)
            return true;
    }
    return false;
}

static mmf_status add_column(prepared_table *table, size_t place, const char *spec)
{
    mmf_ctx *const ctx = table->manifest.ctx;
    const char *const name = table->manifest.names[place];
    if (table->n_columns == MAX_MODALITIES)
        return mmf_fail(ctx, MMF_LIMIT, "%s: more than %d raw columns", table->manifest.path,
                        MAX_MODALITIES);
    mmf_raw_column *const column = &table->columns[table->n_columns++];
    *column = (mmf_raw_column){.name = name, .column = place};
    const mmf_status status = mmf_preparation_parse(ctx, spec, column);
    if (status != MMF_OK)
        return mmf_fail_within(ctx, status, "%s: column \"%s\": ", table->manifest.path, name);
    const mmf_raw_kind found = mmf_manifest_kind(&table->manifest, place);
    if (found != MMF_RAW_NONE && found != column->kind->reads)
        return mmf_fail(ctx, MMF_ARG, "%s: column \"%s\" names files of kind %s; %s prepares %s",
                        table->manifest.path, name, mmf_raw_kind_name(found),
                        column->kind->def.name, mmf_raw_kind_name(column->kind->reads));
    return MMF_OK;
}

/* "COLUMN=SPEC" */
static mmf_status add_named(prepared_table *table, const char *spec)
{
    char name[KEY_BYTES];
    size_t place = 0;
    const char *const equals = strchr(spec, '=');
    if (!equals || equals == spec || (size_t)(equals - spec) >= sizeof name)
        return mmf_fail(table->manifest.ctx, MMF_ARG,
                        "\"%.80s\": expected COLUMN=PREPARATION, as in audio=logmel:n_mels=40",
                        spec);
    snprintf(name, sizeof name, "%.*s", (int)(equals - spec), spec);
    MMF_TRY(mmf_manifest_need(&table->manifest, name, &place));
    if (is_named(table, place))
        return mmf_fail(table->manifest.ctx, MMF_ARG, "%s: column \"%s\" is prepared twice",
                        table->manifest.path, name);
    return add_column(table, place, equals + 1);
}

/* The only text column that can be meant where the name does not say it. */
static bool is_text_of_no_name(const prepared_table *table, size_t column, const char *target)
{
    const char *const name = table->manifest.names[column];
    return !mmf_manifest_is_reserved(name) && strcmp(name, target) != 0 &&
           mmf_manifest_kind(&table->manifest, column) == MMF_RAW_NONE &&
           mmf_manifest_has_text(&table->manifest, column);
}

static bool is_of_kind(const prepared_table *table, size_t column, mmf_raw_kind kind,
                       const char *target)
{
    return kind == MMF_RAW_TEXT ? is_text_of_no_name(table, column, target)
                                : mmf_manifest_kind(&table->manifest, column) == kind;
}

/* "@image=SPEC": every column of that kind that no other specification names. */
static mmf_status add_kind(prepared_table *table, const char *spec, const char *target)
{
    const mmf_manifest *const m = &table->manifest;
    size_t n_found = 0;
    for (int k = MMF_RAW_TEXT; k <= MMF_RAW_VIDEO; k++) {
        const char *const name = mmf_raw_kind_name((mmf_raw_kind)k);
        const size_t n = strlen(name);
        if (strncmp(spec + 1, name, n) != 0 || spec[1 + n] != '=')
            continue;
        for (size_t c = 0; c < m->n_columns; c++) {
            if (is_named(table, c) || !is_of_kind(table, c, (mmf_raw_kind)k, target))
                continue;
            MMF_TRY(add_column(table, c, spec + 2 + n));
            n_found++;
        }
        if (n_found == 0)
            return mmf_fail(m->ctx, MMF_ARG,
                            "%s: --%s: no column holds %s; columns are known by the endings of "
                            "their files, and --prepare COLUMN=... names one",
                            m->path, name, name);
        return MMF_OK;
    }
    return mmf_fail(m->ctx, MMF_ARG, "\"%.80s\": expected @text, @image, @audio or @video", spec);
}

/* What nobody named, by the files' endings. */
static mmf_status add_rest(prepared_table *table)
{
    const mmf_manifest *const m = &table->manifest;
    for (size_t c = 0; c < m->n_columns; c++) {
        const mmf_preparation_kind *const kind = mmf_preparation_default(mmf_manifest_kind(m, c));
        if (kind && !is_named(table, c))
            MMF_TRY(add_column(table, c, kind->def.name));
    }
    return MMF_OK;
}

static void tell_left_out(const prepared_table *table, const char *target)
{
    const mmf_manifest *const m = &table->manifest;
    for (size_t c = 0; c < m->n_columns; c++) {
        if (!is_named(table, c) && is_text_of_no_name(table, c, target))
            mmf_ctx_log(m->ctx, MMF_LOG_INFO,
                        "%s: the texts of column \"%s\" are left out; --prepare %s=PREPARATION "
                        "makes it a modality, --target %s what is predicted",
                        m->path, m->names[c], m->names[c], m->names[c]);
    }
}

/* A column of numbers "NAME.PART". */
static bool has_vectors(const mmf_manifest *m)
{
    for (size_t c = 0; c < m->n_columns; c++) {
        if (strchr(m->names[c], '.') && mmf_manifest_is_reserved(m->names[c]))
            return true;
    }
    return false;
}

/* Says how to get a modality out of a table that has none. */
static mmf_status no_modality(const prepared_table *table, const char *target)
{
    const mmf_manifest *const m = &table->manifest;
    if (m->n_columns == 1 && strpbrk(m->names[0], ";\t|"))
        return mmf_fail(m->ctx, MMF_FORMAT,
                        "%s: its first line is one name, \"%s\"; expected commas between the "
                        "columns of a .csv, tabs in a .tsv",
                        m->path, m->names[0]);
    for (size_t c = 0; c < m->n_columns; c++) {
        const char *const name = m->names[c];
        if (is_text_of_no_name(table, c, target))
            return mmf_fail(m->ctx, MMF_ARG,
                            "%s: no modality: nothing says how the texts of column \"%s\" are "
                            "read; try --text wordpiece=FOLDER (tokens, by the vocabulary of a "
                            "BERT) or --text bert=FOLDER (its features), or for this column alone "
                            "--prepare %s=wordpiece=FOLDER",
                            m->path, name, name);
    }
    return mmf_fail(m->ctx, MMF_ARG,
                    "%s: no modality: no column holds texts or names of images, recordings or "
                    "videos, and none is called NAME.PART, as columns of numbers that belong "
                    "together are",
                    m->path);
}

static int compare_places(const void *a, const void *b)
{
    const mmf_raw_column *const x = a, *const y = b;
    return x->column < y->column ? -1 : x->column > y->column;
}

static mmf_status choose_by_specs(prepared_table *table, const mmf_prepare_options *o,
                                  const char *target)
{
    for (size_t i = 0; i < o->n_specs; i++) {
        if (o->specs[i][0] != '@')
            MMF_TRY(add_named(table, o->specs[i]));
    }
    for (size_t c = 0; c < table->manifest.n_columns; c++) {
        if (!is_named(table, c) && strcmp(table->manifest.names[c], target) != 0)
            MMF_TRY(mmf_manifest_check_mixed(&table->manifest, c));
    }
    for (size_t i = 0; i < o->n_specs; i++) {
        if (o->specs[i][0] == '@')
            MMF_TRY(add_kind(table, o->specs[i], target));
    }
    MMF_TRY(add_rest(table));
    qsort(table->columns, table->n_columns, sizeof *table->columns, compare_places);
    return MMF_OK;
}

/* The frozen encoder that a data set or a model says. */
static mmf_status set_encoder(mmf_ctx *ctx, mmf_raw_column *column, const json_t *row)
{
    const char *const encoder = json_string_value(json_object_get(row, "encoder"));
    const char *const source = json_string_value(json_object_get(row, "source"));
    const char *const weights = json_string_value(json_object_get(row, "weights"));
    if (!encoder || !source || !weights)
        return MMF_OK;
    column->encoder = mmf_strdup(ctx, encoder);
    column->source = mmf_strdup(ctx, source);
    if (!column->encoder || !column->source)
        return MMF_NOMEM;
    MMF_TRY(mmf_frozen_hash(ctx, source, &column->weights));
    if (column->weights == strtoull(weights, NULL, 16))
        return MMF_OK;
    return mmf_fail(ctx, MMF_FORMAT,
                    "%s: these are not the weights that the training data were encoded with",
                    source);
}

/* One column as a data set or a model says. */
static mmf_status add_settled(prepared_table *table, const json_t *row, const char *may_lack)
{
    mmf_ctx *const ctx = table->manifest.ctx;
    size_t place = 0;
    const char *const name = json_string_value(json_object_get(row, "modality"));
    const char *const spec = json_string_value(json_object_get(row, "preparation"));
    if (name && mmf_text_list_has(may_lack, name) && mmf_manifest_find(&table->manifest, name) < 0)
        return MMF_OK;
    char *const options = json_dumps(json_object_get(row, "options"), JSON_COMPACT);
    mmf_status status =
        name && spec && options
            ? mmf_manifest_need(&table->manifest, name, &place)
            : mmf_fail(ctx, MMF_FORMAT, "the preparations that the model carries are damaged");
    if (status == MMF_OK)
        status = add_column(table, place, spec);
    if (status == MMF_OK)
        status = mmf_config_set_json(table->columns[table->n_columns - 1].config, options);
    if (status == MMF_OK)
        status = set_encoder(ctx, &table->columns[table->n_columns - 1], row);
    free(options);
    return status;
}

static mmf_status choose_as_settled(prepared_table *table, const mmf_prepare_options *o)
{
    json_t *const list = json_loads(o->settled, 0, NULL);
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < json_array_size(list); i++)
        status = add_settled(table, json_array_get(list, i), o->may_lack);
    json_decref(list);
    return status;
}

/* ---- Entries ----------------------------------------------------------------------------- */

static mmf_status add_entry(mmf_archive *archive, const char *key, const mmf_array *header,
                            void *owned, mmf_archive *from, size_t entry)
{
    prepared_table *const table = archive->reader;
    mmf_array array = *header;
    array.data = owned;
    mmf_status status = mmf_archive_append(archive, key, strlen(key), &array);
    if (status == MMF_OK)
        archive->entries[archive->n_entries - 1].owned = owned;
    else
        mmf_free(archive->ctx, owned);
    if (status == MMF_OK && table->n_sources == table->source_capacity) {
        const size_t capacity = 2 * table->source_capacity + 32;
        struct source *const grown =
            mmf_realloc(archive->ctx, table->sources, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        table->sources = grown;
        table->source_capacity = capacity;
    }
    if (status == MMF_OK)
        table->sources[table->n_sources++] = (struct source){from, entry};
    return status;
}

static mmf_status add_owned(mmf_archive *archive, const char *key, const mmf_array *array)
{
    return add_entry(archive, key, array, (void *)(uintptr_t)array->data, NULL, 0);
}

static mmf_status add_borrowed(mmf_archive *archive, const char *key, mmf_archive *from,
                               const char *name)
{
    const int64_t i = mmf_archive_find(from, name);
    return i < 0 ? MMF_OK
                 : add_entry(archive, key, mmf_archive_header(from, (size_t)i), NULL, from,
                             (size_t)i);
}

static char *key_of(char out[KEY_BYTES], const mmf_raw_column *column, const char *suffix)
{
    snprintf(out, KEY_BYTES, "%s%s", column->name, suffix);
    return out;
}

/* `value(i)` for every row as an array of its own. */
static mmf_status add_companion(mmf_archive *archive, const mmf_raw_column *column,
                                const char *suffix, const int64_t *values)
{
    char key[KEY_BYTES];
    const prepared_table *const table = archive->reader;
    const int64_t n = table->manifest.n_rows;
    int64_t *const copy = mmf_alloc(archive->ctx, (size_t)n * sizeof *copy);
    if (!copy)
        return MMF_NOMEM;
    memcpy(copy, values, (size_t)n * sizeof *copy);
    const mmf_array array = {MMF_I64, 1, {n}, sizeof *copy, copy};
    return add_owned(archive, key_of(key, column, suffix), &array);
}

/* Lengths, presence and indices of the rows, from those of the stored rows. */
static mmf_status add_companions(mmf_archive *archive, const mmf_raw_column *column,
                                 const mmf_array *stored_length, bool is_timed, int64_t *scratch)
{
    const prepared_table *const table = archive->reader;
    const int64_t n = table->manifest.n_rows;
    bool some_absent = false;
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = column->stored[i];
        scratch[i] = at < 0 ? 0 : mmf_array_integer(stored_length, at);
        some_absent = some_absent || scratch[i] == 0;
    }
    if (is_timed)
        MMF_TRY(add_companion(archive, column, ".length", scratch));
    for (int64_t i = 0; i < n; i++)
        scratch[i] = scratch[i] > 0;
    if (some_absent)
        MMF_TRY(add_companion(archive, column, ".present", scratch));
    if (column->n_stored == n)
        return MMF_OK;
    for (int64_t i = 0; i < n; i++)
        scratch[i] = column->stored[i] < 0 ? 0 : column->stored[i];
    return add_companion(archive, column, ".index", scratch);
}

static mmf_status add_modality(mmf_archive *archive, mmf_raw_column *column)
{
    char key[KEY_BYTES];
    mmf_array length = {.data = NULL};
    const prepared_table *const table = archive->reader;
    const int64_t place = mmf_archive_find(column->cache, "length");
    if (place < 0 || mmf_archive_find(column->cache, "values") < 0)
        return mmf_fail(archive->ctx, MMF_FORMAT, "%s: this is no file of the cache; remove it",
                        mmf_archive_path(column->cache));
    MMF_TRY(mmf_archive_load(column->cache, (size_t)place, &length));
    if (!mmf_dtype_is_integer(length.dtype) || length.n_dims != 1 ||
        length.shape[0] < column->n_stored)
        return mmf_fail(archive->ctx, MMF_FORMAT, "%s: the lengths are damaged; remove it",
                        mmf_archive_path(column->cache));
    const bool is_timed = !column->encoder && mmf_option_find(&column->kind->def, "steps") != NULL;
    MMF_TRY(add_borrowed(archive, column->name, column->cache, "values"));
    MMF_TRY(add_borrowed(archive, key_of(key, column, ".vocab"), column->cache, "vocab"));
    int64_t *const scratch =
        mmf_alloc_zero(archive->ctx, (size_t)table->manifest.n_rows, sizeof *scratch);
    if (!scratch)
        return MMF_NOMEM;
    const mmf_status status = add_companions(archive, column, &length, is_timed, scratch);
    mmf_free(archive->ctx, scratch);
    return status;
}

/* ---- What the table itself says ---------------------------------------------------------- */

/* The classes of a model as an array of names. */
static mmf_status names_of(mmf_ctx *ctx, const mmf_prepare_options *o, mmf_array *out)
{
    size_t width = 1;
    *out = (mmf_array){.data = NULL};
    if (!o->class_names)
        return MMF_OK;
    for (int64_t k = 0; k < o->n_classes; k++)
        width = strlen(o->class_names[k]) > width ? strlen(o->class_names[k]) : width;
    char *const text = mmf_alloc_zero(ctx, (size_t)o->n_classes, width);
    if (!text)
        return MMF_NOMEM;
    for (int64_t k = 0; k < o->n_classes; k++)
        memcpy(text + (size_t)k * width, o->class_names[k], strlen(o->class_names[k]));
    *out = (mmf_array){MMF_STR, 1, {o->n_classes}, width, text};
    return MMF_OK;
}

static mmf_status add_classes(mmf_archive *archive, const mmf_prepare_options *o,
                              const char *target, size_t column)
{
    char key[KEY_BYTES];
    mmf_array names, classes = {.data = NULL};
    const prepared_table *const table = archive->reader;
    MMF_TRY(names_of(archive->ctx, o, &names));
    const mmf_status status =
        mmf_manifest_classes(&table->manifest, column, !o->target_optional, &names, &classes);
    if (status != MMF_OK || !classes.data) {
        mmf_free(archive->ctx, (void *)(uintptr_t)names.data);
        return status;
    }
    snprintf(key, sizeof key, "%s.names", target);
    const mmf_status added = add_owned(archive, key, &names);
    if (added != MMF_OK) {
        mmf_free(archive->ctx, (void *)(uintptr_t)classes.data);
        return added;
    }
    return add_owned(archive, target, &classes);
}

static mmf_status add_texts(mmf_archive *archive, const char *name)
{
    const prepared_table *const table = archive->reader;
    const int64_t column = mmf_manifest_find(&table->manifest, name);
    mmf_array texts = {.data = NULL};
    if (column < 0 || mmf_archive_find(table->numbers, name) >= 0)
        return MMF_OK;
    MMF_TRY(mmf_manifest_texts(&table->manifest, (size_t)column, &texts));
    return add_owned(archive, name, &texts);
}

/* Numbers of the table, but for the columns that were prepared. */
static mmf_status add_numbers(mmf_archive *archive, const mmf_prepare_options *o,
                              const char *target)
{
    const prepared_table *const table = archive->reader;
    for (size_t i = 0; i < mmf_archive_count(table->numbers); i++) {
        const char *const name = mmf_archive_name(table->numbers, i);
        const int64_t column = mmf_manifest_find(&table->manifest, name);
        if (column < 0 || !is_named(table, (size_t)column))
            MMF_TRY(add_borrowed(archive, name, table->numbers, name));
    }
    size_t named = 0;
    if (o->target && !o->target_optional)
        MMF_TRY(mmf_manifest_need(&table->manifest, target, &named));
    const int64_t column = mmf_manifest_find(&table->manifest, target);
    if (column >= 0 && mmf_archive_find(table->numbers, target) < 0)
        MMF_TRY(add_classes(archive, o, target, (size_t)column));
    MMF_TRY(add_texts(archive, "group"));
    return add_texts(archive, "id");
}

/* The row that lets a model do the same to other files. */
static mmf_status add_preparations(mmf_archive *archive)
{
    const prepared_table *const table = archive->reader;
    json_t *const list = json_array();
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < table->n_columns; i++) {
        const mmf_raw_column *const c = &table->columns[i];
        char *const settings = mmf_preparation_settings(archive->ctx, c->config);
        json_t *const options = settings ? json_loads(settings, 0, NULL) : NULL;
        mmf_free(archive->ctx, settings);
        json_t *const row = json_pack("{s:s, s:s, s:o}", "modality", c->name, "preparation",
                                      c->kind->def.name, "options", options);
        char weights[20];
        snprintf(weights, sizeof weights, "%016llx", (unsigned long long)c->weights);
        if (c->encoder) {
            json_object_set_new(row, "encoder", json_string(c->encoder));
            json_object_set_new(row, "source", json_string(c->source));
            json_object_set_new(row, "weights", json_string(weights));
        }
        if (!row || json_array_append_new(list, row) != 0)
            status = MMF_NOMEM;
    }
    char *const text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(17));
    char *const copy = text ? mmf_strdup(archive->ctx, text) : NULL;
    free(text);
    json_decref(list);
    if (status != MMF_OK || !copy)
        return status != MMF_OK ? status : MMF_NOMEM;
    const mmf_array array = {MMF_STR, 1, {1}, strlen(copy), copy};
    return add_owned(archive, "preparations", &array);
}

/* ---- The archive ------------------------------------------------------------------------- */

static mmf_status load_entry(mmf_archive *archive, size_t i)
{
    const prepared_table *const table = archive->reader;
    mmf_array array = {0};
    MMF_TRY(mmf_archive_load(table->sources[i].archive, table->sources[i].entry, &array));
    archive->entries[i].array.item_bytes = array.item_bytes; /* texts are shorter once decoded */
    archive->entries[i].array.data = array.data;
    return MMF_OK;
}

static void close_table(mmf_archive *archive)
{
    prepared_table *const table = archive->reader;
    if (!table)
        return;
    for (size_t i = 0; i < table->n_columns; i++)
        mmf_raw_column_clear(archive->ctx, &table->columns[i]);
    mmf_archive_close(table->numbers);
    mmf_manifest_close(&table->manifest);
    mmf_free(archive->ctx, table->sources);
    mmf_free(archive->ctx, table);
}

static mmf_status choose_columns(prepared_table *table, const mmf_prepare_options *o,
                                 const char *target)
{
    if (o->settled)
        MMF_TRY(choose_as_settled(table, o));
    else
        MMF_TRY(choose_by_specs(table, o, target));
    if (table->n_columns == 0 && !has_vectors(&table->manifest))
        return o->settled ? mmf_fail(table->manifest.ctx, MMF_ARG,
                                     "%s: the model was not trained on raw files but on vectors; "
                                     "the table has none (columns NAME.PART)",
                                     table->manifest.path)
                          : no_modality(table, target);
    if (!o->settled)
        tell_left_out(table, target);
    for (size_t i = 0; i < table->n_columns; i++)
        MMF_TRY(mmf_raw_column_plan(&table->manifest, &table->columns[i]));
    return MMF_OK;
}

static mmf_status fill(mmf_archive *archive, void *user)
{
    const mmf_prepare_options *const o = user;
    const char *const target = o->target ? o->target : "label";
    prepared_table *const table = mmf_alloc_zero(archive->ctx, 1, sizeof *table);
    if (!table)
        return MMF_NOMEM;
    archive->reader = table;
    mmf_io_options io = MMF_IO_OPTIONS_INIT;
    io.skip_text = true;
    MMF_TRY(mmf_manifest_open(archive->ctx, &table->manifest, archive->path));
    MMF_TRY(mmf_archive_open(archive->ctx, &table->numbers, archive->path, &io));
    MMF_TRY(choose_columns(table, o, target));
    for (size_t i = 0; i < table->n_columns; i++) {
        MMF_TRY(mmf_raw_column_prepare(&table->manifest, &table->columns[i], o));
        MMF_TRY(add_modality(archive, &table->columns[i]));
    }
    MMF_TRY(add_numbers(archive, o, target));
    return add_preparations(archive);
}

mmf_status mmf_prepare(mmf_ctx *ctx, mmf_archive **out, const char *path,
                       const mmf_prepare_options *options)
{
    static const mmf_format format = {"manifest", NULL, load_entry, close_table};
    mmf_prepare_options own = MMF_PREPARE_OPTIONS_INIT;
    *out = NULL;
    memcpy(&own, options, options->size < sizeof own ? options->size : sizeof own);
    if (!own.cache || !*own.cache)
        return mmf_fail(ctx, MMF_ARG, "%s: preparing it needs a folder for the cache", path);
    return mmf_archive_compose(ctx, out, path, &format, fill, &own);
}

/* Without names of files a table is still one if its texts need a meaning. */
static bool needs_meaning(const mmf_manifest *m, const mmf_prepare_options *options)
{
    const char *const target = options && options->target ? options->target : "label";
    const prepared_table table = {.manifest = *m};
    const int64_t place = mmf_manifest_find(m, target);
    if (options && place >= 0 && mmf_manifest_has_text(m, (size_t)place))
        return true;
    for (size_t c = 0; c < m->n_columns && !has_vectors(m); c++) {
        if (is_text_of_no_name(&table, c, target))
            return true;
    }
    return false;
}

bool mmf_is_manifest(mmf_ctx *ctx, const char *path, const mmf_prepare_options *options)
{
    const size_t n = strlen(path);
    if (n < 4 || (strcmp(path + n - 4, ".csv") != 0 && strcmp(path + n - 4, ".tsv") != 0))
        return false;
    if (options && (options->n_specs > 0 || options->settled))
        return true;
    mmf_manifest manifest;
    bool found = false;
    if (mmf_manifest_open(ctx, &manifest, path) == MMF_OK) {
        for (size_t c = 0; !found && c < manifest.n_columns; c++)
            found = mmf_manifest_kind(&manifest, c) != MMF_RAW_NONE ||
                    mmf_manifest_is_mixed(&manifest, c);
        found = found || needs_meaning(&manifest, options);
    }
    mmf_manifest_close(&manifest);
    return found;
}
