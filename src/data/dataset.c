/*
 * dataset.c: opening a data set and asking it about itself. The meaning of keys is in
 * dataset_keys.c, the checks of values in dataset_check.c. POSIX (the size of the file).
 */
#include "data/dataset.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/context.h"
#include "base/hash.h"

static const char *const kind_names[] = {
    [MMF_VECTOR] = "vector", [MMF_SEQUENCE] = "sequence", [MMF_IMAGE] = "image",
    [MMF_TOKENS] = "tokens", [MMF_VIDEO] = "video",
};

const char *mmf_modality_kind_name(mmf_modality_kind kind)
{
    return kind_names[kind];
}

bool mmf_modality_has_steps(mmf_modality_kind kind)
{
    return kind == MMF_SEQUENCE || kind == MMF_TOKENS || kind == MMF_VIDEO;
}

bool mmf_modality_has_channels(mmf_modality_kind kind)
{
    return kind == MMF_IMAGE || kind == MMF_VIDEO;
}

mmf_status mmf_data_fail(const mmf_dataset *ds, mmf_status status, const char *key,
                         const char *format, ...)
{
    char text[MMF_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return mmf_fail(ds->ctx, status, "%s: array \"%s\": %s", ds->path, key, text);
}

mmf_status mmf_data_fail_row(const mmf_dataset *ds, mmf_status status, const char *key, int64_t row,
                             const char *format, ...)
{
    char text[MMF_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return mmf_fail(ds->ctx, status, "%s: array \"%s\", row %lld: %s", ds->path, key,
                    (long long)row, text);
}

static mmf_status read_preparations(mmf_dataset *ds)
{
    mmf_array array;
    MMF_TRY(mmf_data_load(ds, "preparations", &array));
    if (!array.data || array.dtype != MMF_STR || mmf_array_count(&array) != 1)
        return MMF_OK;
    size_t n = 0;
    const char *const text = mmf_array_string(&array, 0, &n);
    ds->preparations = mmf_alloc_zero(ds->ctx, n + 1, 1);
    if (!ds->preparations)
        return MMF_NOMEM;
    memcpy(ds->preparations, text, n);
    return MMF_OK;
}

static mmf_status build(mmf_dataset *ds, const mmf_dataset_options *options)
{
    const bool optional =
        options->target_optional || (!options->target && !mmf_data_needs_target(options->task));
    MMF_TRY(mmf_data_find_target(ds, options->target, optional));
    MMF_TRY(mmf_data_read_keys(ds, options));
    MMF_TRY(read_preparations(ds));
    MMF_TRY(mmf_data_check(ds, options));
    return mmf_data_check_target(ds, options->task, options->target && !options->target_optional);
}

mmf_status mmf_dataset_from_archive(mmf_ctx *ctx, mmf_dataset **out, mmf_archive *archive,
                                    const mmf_dataset_options *options)
{
    *out = NULL;
    const mmf_dataset_options defaults = MMF_DATASET_OPTIONS_INIT;
    const mmf_dataset_options *const o = options ? options : &defaults;
    mmf_dataset *const ds = mmf_alloc_zero(ctx, 1, sizeof *ds);
    if (!ds) {
        mmf_archive_close(archive);
        return MMF_NOMEM;
    }
    ds->ctx = ctx;
    ds->archive = archive;
    ds->path = mmf_archive_path(archive);
    ds->nonfinite = o->nonfinite;
    ds->contents = mmf_alloc_zero(ctx, 1, sizeof *ds->contents);
    const mmf_status status = ds->contents ? build(ds, o) : MMF_NOMEM;
    if (status != MMF_OK) {
        mmf_dataset_close(ds);
        return status;
    }
    *out = ds;
    return MMF_OK;
}

mmf_status mmf_dataset_open(mmf_ctx *ctx, mmf_dataset **out, const char *path,
                            const mmf_dataset_options *options)
{
    *out = NULL;
    mmf_archive *archive = NULL;
    MMF_TRY(mmf_archive_open(ctx, &archive, path, options ? options->io : NULL));
    return mmf_dataset_from_archive(ctx, out, archive, options);
}

void mmf_dataset_close(mmf_dataset *ds)
{
    if (!ds)
        return;
    for (size_t i = 0; i < ds->n_modalities; i++) {
        mmf_free(ds->ctx, ds->modalities[i].absent);
        mmf_free(ds->ctx, ds->modalities[i].ordered_values);
    }
    mmf_free(ds->ctx, ds->modalities);
    mmf_free(ds->ctx, ds->shares);
    mmf_free(ds->ctx, ds->notes);
    mmf_free(ds->ctx, ds->preparations);
    mmf_free(ds->ctx, ds->contents);
    mmf_free(ds->ctx, ds->ordered_target);
    mmf_archive_close(ds->archive);
    mmf_free(ds->ctx, ds);
}

const char *mmf_dataset_path(const mmf_dataset *ds)
{
    return ds->path;
}

int64_t mmf_dataset_count(const mmf_dataset *ds)
{
    return ds->n_samples;
}

size_t mmf_dataset_n_modalities(const mmf_dataset *ds)
{
    return ds->n_modalities;
}

const mmf_modality *mmf_dataset_modality(const mmf_dataset *ds, size_t i)
{
    return i < ds->n_modalities ? &ds->modalities[i].view : NULL;
}

int64_t mmf_dataset_find(const mmf_dataset *ds, const char *name)
{
    for (size_t i = 0; i < ds->n_modalities; i++) {
        if (strcmp(ds->modalities[i].view.name, name) == 0)
            return (int64_t)i;
    }
    return -1;
}

mmf_target_kind mmf_dataset_target_kind(const mmf_dataset *ds)
{
    return ds->target_kind;
}

const char *mmf_dataset_target_name(const mmf_dataset *ds)
{
    return ds->target_name;
}

int64_t mmf_dataset_n_classes(const mmf_dataset *ds)
{
    return ds->n_classes;
}

mmf_array mmf_dataset_class_names(const mmf_dataset *ds)
{
    return ds->class_names;
}

void mmf_dataset_target(const mmf_dataset *ds, int64_t row, double *out)
{
    if (!ds->target.data || ds->target_kind == MMF_TARGET_NONE || row < 0 || row >= ds->n_samples)
        return;
    const int64_t width = mmf_array_row(&ds->target);
    mmf_array_doubles(&ds->target, row * width, width, out);
}

void mmf_dataset_id(const mmf_dataset *ds, int64_t row, char *out, size_t size)
{
    if (size == 0)
        return;
    out[0] = '\0';
    if (row < 0 || row >= ds->n_samples)
        return;
    if (ds->id.data && ds->id.dtype == MMF_STR) {
        size_t n = 0;
        const char *const cell = mmf_array_string(&ds->id, row, &n);
        if (n >= size) {
            n = size - 1;
            while (n > 0 && ((unsigned char)cell[n] & 0xC0) == 0x80) /* not inside a character */
                n--;
        }
        memcpy(out, cell, n);
        out[n] = '\0';
        return;
    }
    const bool numbered = ds->id.data && mmf_dtype_is_integer(ds->id.dtype);
    const int64_t number = numbered ? mmf_array_integer(&ds->id, row) : row;
    snprintf(out, size, "%lld", (long long)number);
}

int64_t mmf_dataset_stored_row(const mmf_dataset *ds, size_t modality, int64_t row)
{
    return mmf_data_stored_row(&ds->modalities[modality], row);
}

bool mmf_dataset_present(const mmf_dataset *ds, size_t modality, int64_t row)
{
    return modality < ds->n_modalities && row >= 0 && row < ds->n_samples &&
           !mmf_data_absent(&ds->modalities[modality], row);
}

const char *mmf_dataset_note(const mmf_dataset *ds, size_t i)
{
    return i < ds->n_notes ? ds->notes[i] : NULL;
}

bool mmf_dataset_has_split(const mmf_dataset *ds)
{
    return ds->split.data != NULL;
}

bool mmf_dataset_has_group(const mmf_dataset *ds)
{
    return ds->group.data != NULL;
}

const char *mmf_dataset_preparations(const mmf_dataset *ds)
{
    return ds->preparations;
}

static uint64_t hash_array(uint64_t hash, const mmf_array *array)
{
    if (!array->data)
        return hash;
    return mmf_hash(hash, array->data, (size_t)mmf_array_count(array) * array->item_bytes);
}

/* Late models and comparisons ask often, and all of the data is read for it: kept. Threads that
 * share the data set would write the same number. */
static uint64_t contents_of(const mmf_dataset *ds)
{
    uint64_t hash = __atomic_load_n(ds->contents, __ATOMIC_RELAXED);
    if (hash)
        return hash;
    hash = mmf_rng_stream("contents"); /* from 0 zeros would change nothing */
    for (size_t i = 0; i < ds->n_modalities; i++) {
        const mmf_data_modality *const m = &ds->modalities[i];
        hash = hash_array(hash, &m->values);
        hash = hash_array(hash, &m->length);
        hash = hash_array(hash, &m->present);
        hash = hash_array(hash, &m->index);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            hash = hash_array(hash, &m->companions[c]);
    }
    hash = hash ? hash : 1;
    __atomic_store_n(ds->contents, hash, __ATOMIC_RELAXED);
    return hash;
}

uint64_t mmf_dataset_fingerprint(const mmf_dataset *ds)
{
    uint64_t hash = mmf_rng_stream("fingerprint");
    hash = mmf_hash_text(hash, ds->path);
    struct stat info;
    hash = mmf_hash_number(hash, stat(ds->path, &info) == 0 ? (int64_t)info.st_size : 0);
    hash = mmf_hash_number(hash, ds->n_samples);
    hash = mmf_hash(hash, &(uint64_t){contents_of(ds)}, sizeof(uint64_t));
    for (size_t i = 0; i < ds->n_modalities; i++) {
        const mmf_modality *const m = &ds->modalities[i].view;
        hash = mmf_hash_text(hash, m->name);
        hash = mmf_hash_number(hash, (int64_t)m->kind);
        hash = mmf_hash_number(hash, (int64_t)m->dtype);
        hash = mmf_hash_number(hash, m->n_rows);
        for (int d = 0; d < m->n_dims; d++)
            hash = mmf_hash_number(hash, m->shape[d]);
    }
    hash = mmf_hash_text(hash, ds->preparations ? ds->preparations : "");
    hash = mmf_hash_number(hash, (int64_t)ds->nonfinite);
    hash = mmf_hash_number(hash, (int64_t)ds->target_kind);
    if (ds->target_kind == MMF_TARGET_NONE || !ds->target.data)
        return hash;
    hash = mmf_hash_text(hash, ds->target_name);
    const size_t n_bytes = (size_t)mmf_array_count(&ds->target) * ds->target.item_bytes;
    return mmf_hash(hash, ds->target.data, n_bytes);
}
