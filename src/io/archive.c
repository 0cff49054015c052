/* archive.c: open files of named arrays: choice of the format, entries and their names. */
#include "io/archive.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "io/utf8.h"
#include "mmfuse/media.h"

static const mmf_format *const formats[] = {
    &mmf_format_npz, &mmf_format_npy, &mmf_format_csv, &mmf_format_tsv, &mmf_format_safetensors,
};

#define MAX_EXTENSION_BYTES 16

static const mmf_format *find_format(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    }
    return NULL;
}

/* The extension in lower case; false unless it is short and plain enough to name a program. */
static bool extension_of(const char *path, char out[MAX_EXTENSION_BYTES])
{
    const char *const slash = strrchr(path, '/');
    const char *const dot = strrchr(slash ? slash : path, '.');
    const size_t n = dot ? strlen(dot + 1) : 0;
    if (n == 0 || n >= MAX_EXTENSION_BYTES)
        return false;
    for (size_t i = 0; i <= n; i++) {
        const unsigned char c = (unsigned char)dot[1 + i];
        if (c && !(c < 128 && isalnum(c)))
            return false;
        out[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    return true;
}

mmf_status mmf_array_measure(mmf_ctx *ctx, const mmf_array *array, size_t max_bytes,
                             size_t *n_bytes)
{
    char shape[160];
    size_t bytes = array->item_bytes, real_bytes = array->item_bytes;
    bool fits = true;
    for (int d = 0; d < array->n_dims; d++) {
        if (array->shape[d] < 0)
            return mmf_fail(ctx, MMF_FORMAT, "the shape %s has a negative dimension",
                            mmf_shape_text(shape, sizeof shape, array->shape, array->n_dims));
        const size_t n = (size_t)array->shape[d];
        fits = fits && mmf_mul_ok(bytes, n ? n : 1, &bytes);
        real_bytes = fits ? real_bytes * n : 0;
    }
    if (!fits || bytes > max_bytes || bytes > INT64_MAX)
        return mmf_fail(ctx, MMF_LIMIT,
                        "the shape %s of %s takes more than the limit of %zu bytes for one array",
                        mmf_shape_text(shape, sizeof shape, array->shape, array->n_dims),
                        mmf_dtype_name(array->dtype), max_bytes);
    *n_bytes = real_bytes;
    return MMF_OK;
}

static bool printable(const char *name, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (c < 32 || c == 127)
            return false;
    }
    return n_bytes > 0 && mmf_utf8_valid(name, n_bytes);
}

mmf_status mmf_archive_check_name(mmf_archive *archive, const char *name, size_t n_bytes)
{
    mmf_ctx *const ctx = archive->ctx;
    if (n_bytes > archive->options.max_name_bytes)
        return mmf_fail(ctx, MMF_LIMIT, "array %zu has a name of %zu bytes; at most %zu are read",
                        archive->n_entries, n_bytes, archive->options.max_name_bytes);
    if (!printable(name, n_bytes))
        return mmf_fail(ctx, MMF_FORMAT, "the name of array %zu is empty or not printable UTF-8",
                        archive->n_entries);
    return MMF_OK;
}

mmf_status mmf_archive_append(mmf_archive *archive, const char *name, size_t n_bytes,
                              const mmf_array *header)
{
    mmf_ctx *const ctx = archive->ctx;
    MMF_TRY(mmf_archive_check_name(archive, name, n_bytes));
    if (archive->n_entries >= archive->options.max_entries)
        return mmf_fail(ctx, MMF_LIMIT, "more than %zu arrays", archive->options.max_entries);
    if (archive->n_entries == archive->entry_capacity) {
        const size_t capacity = archive->entry_capacity ? 2 * archive->entry_capacity : 16;
        mmf_entry *grown = mmf_realloc(ctx, archive->entries, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        archive->entries = grown;
        archive->entry_capacity = capacity;
    }
    char *copy = mmf_alloc(ctx, n_bytes + 1);
    if (!copy)
        return MMF_NOMEM;
    memcpy(copy, name, n_bytes);
    copy[n_bytes] = '\0';
    archive->entries[archive->n_entries++] = (mmf_entry){.name = copy, .array = *header};
    return MMF_OK;
}

static int compare_names(const void *a, const void *b, void *entries)
{
    const mmf_entry *const all = entries;
    const size_t i = *(const size_t *)a, j = *(const size_t *)b;
    return strcmp(all[i].name, all[j].name);
}

/* Sorting, not hashing: hostile names cannot make it slow, and equal names end up neighbours. */
static mmf_status index_names(mmf_archive *archive)
{
    const size_t n = archive->n_entries;
    mmf_free(archive->ctx, archive->by_name);
    archive->by_name = mmf_alloc_zero(archive->ctx, n, sizeof *archive->by_name);
    if (!archive->by_name)
        return MMF_NOMEM;
    for (size_t i = 0; i < n; i++)
        archive->by_name[i] = i;
    qsort_r(archive->by_name, n, sizeof *archive->by_name, compare_names, archive->entries);
    for (size_t i = 1; i < n; i++) {
        const char *const name = archive->entries[archive->by_name[i]].name;
        if (strcmp(archive->entries[archive->by_name[i - 1]].name, name) == 0)
            return mmf_fail(archive->ctx, MMF_FORMAT, "the array \"%s\" is there twice", name);
    }
    return MMF_OK;
}

mmf_status mmf_archive_add_owned(mmf_archive *archive, const char *name, const mmf_array *array,
                                 void *owned)
{
    const mmf_status status = mmf_archive_append(archive, name, strlen(name), array);
    if (status != MMF_OK) {
        mmf_free(archive->ctx, owned);
        return status;
    }
    archive->entries[archive->n_entries - 1].owned = owned;
    return index_names(archive);
}

static mmf_status make_archive(mmf_ctx *ctx, mmf_archive **out, const char *path,
                               const mmf_io_options *options)
{
    mmf_archive *archive = mmf_alloc_zero(ctx, 1, sizeof *archive);
    if (!archive)
        return MMF_NOMEM;
    archive->ctx = ctx;
    mmf_io_options *const o = &archive->options;
    if (options)
        memcpy(o, options, options->size < sizeof *o ? options->size : sizeof *o);
    o->max_entries = o->max_entries ? o->max_entries : MMF_IO_MAX_ENTRIES;
    o->max_name_bytes = o->max_name_bytes ? o->max_name_bytes : MMF_IO_MAX_NAME_BYTES;
    o->max_bytes = o->max_bytes ? o->max_bytes : MMF_IO_MAX_BYTES;
    o->helper_seconds = o->helper_seconds ? o->helper_seconds : MMF_IO_HELPER_SECONDS;
    archive->path = mmf_strdup(ctx, path);
    if (!archive->path) {
        mmf_archive_close(archive);
        return MMF_NOMEM;
    }
    *out = archive;
    return MMF_OK;
}

static mmf_status open_entries(mmf_archive *archive, mmf_archive **out)
{
    mmf_status status = archive->format->open(archive);
    if (status == MMF_OK)
        status = index_names(archive);
    if (status != MMF_OK) {
        mmf_fail_within(archive->ctx, status, "%s: %s", archive->path,
                        archive->from_helper ? "what its helper program wrote: " : "");
        mmf_archive_close(archive);
        return status;
    }
    *out = archive;
    return MMF_OK;
}

mmf_status mmf_archive_open(mmf_ctx *ctx, mmf_archive **out, const char *path,
                            const mmf_io_options *options)
{
    *out = NULL;
    char extension[MAX_EXTENSION_BYTES];
    if (!extension_of(path, extension))
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: the name has no extension that tells the format; expected .npz, .npy, "
                        ".csv, .tsv, .safetensors or that of a helper program",
                        path);
    mmf_archive *archive = NULL;
    MMF_TRY(make_archive(ctx, &archive, path, options));
    archive->format = find_format(extension);
    mmf_status status = MMF_OK;
    if (archive->format) {
        status = mmf_map_open(ctx, &archive->mapping, path);
    } else {
        mmf_media_kind kind;
        const char *const program = mmf_media_kind_of(path, &kind) ? "media"
                                    : strcmp(extension, "h5") == 0 ? "hdf5"
                                                                   : extension;
        status = mmf_helper_run(archive, program);
        archive->format = &mmf_format_npz;
        archive->from_helper = true;
    }
    if (status != MMF_OK) {
        archive->format = NULL;
        mmf_archive_close(archive);
        return status;
    }
    archive->bytes = archive->mapping.bytes;
    archive->n_bytes = archive->mapping.n_bytes;
    return open_entries(archive, out);
}

mmf_status mmf_archive__open_as(mmf_ctx *ctx, mmf_archive **out, const char *path,
                                const char *format)
{
    *out = NULL;
    mmf_archive *archive = NULL;
    MMF_TRY(make_archive(ctx, &archive, path, NULL));
    const mmf_status status = mmf_map_open(ctx, &archive->mapping, path);
    if (status != MMF_OK) {
        mmf_archive_close(archive);
        return status;
    }
    archive->format = find_format(format);
    archive->bytes = archive->mapping.bytes;
    archive->n_bytes = archive->mapping.n_bytes;
    return open_entries(archive, out);
}

mmf_status mmf_archive_open_memory(mmf_ctx *ctx, mmf_archive **out, const char *name,
                                   const char *format, const void *bytes, size_t n_bytes,
                                   const mmf_io_options *options)
{
    *out = NULL;
    const mmf_format *const found = find_format(format);
    if (!found)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: the format \"%s\" cannot be read from memory; expected npz, npy, csv, "
                        "tsv or safetensors",
                        name, format);
    mmf_archive *archive = NULL;
    MMF_TRY(make_archive(ctx, &archive, name, options));
    archive->format = found;
    archive->bytes = bytes;
    archive->n_bytes = n_bytes;
    return open_entries(archive, out);
}

mmf_status mmf_archive_compose(mmf_ctx *ctx, mmf_archive **out, const char *path,
                               const mmf_format *format,
                               mmf_status (*fill)(mmf_archive *archive, void *user), void *user)
{
    mmf_archive *archive = NULL;
    *out = NULL;
    MMF_TRY(make_archive(ctx, &archive, path, NULL));
    archive->format = format;
    mmf_status status = fill(archive, user);
    if (status == MMF_OK) {
        status = index_names(archive);
        if (status != MMF_OK)
            mmf_fail_within(ctx, status, "%s: ", path);
    }
    if (status == MMF_OK)
        *out = archive;
    else
        mmf_archive_close(archive);
    return status;
}

void mmf_archive_close(mmf_archive *archive)
{
    if (!archive)
        return;
    mmf_ctx *const ctx = archive->ctx;
    if (archive->format && archive->format->close)
        archive->format->close(archive);
    for (size_t i = 0; i < archive->n_entries; i++) {
        mmf_free(ctx, archive->entries[i].name);
        mmf_free(ctx, archive->entries[i].owned);
    }
    for (size_t i = 0; i < archive->n_metadata; i++) {
        mmf_free(ctx, archive->metadata[i].key);
        mmf_free(ctx, archive->metadata[i].value);
    }
    mmf_free(ctx, archive->entries);
    mmf_free(ctx, archive->metadata);
    mmf_free(ctx, archive->by_name);
    mmf_free(ctx, archive->path);
    mmf_map_close(&archive->mapping);
    mmf_free(ctx, archive);
}

size_t mmf_archive_count(const mmf_archive *archive)
{
    return archive->n_entries;
}

const char *mmf_archive_name(const mmf_archive *archive, size_t i)
{
    return i < archive->n_entries ? archive->entries[i].name : NULL;
}

const mmf_array *mmf_archive_header(const mmf_archive *archive, size_t i)
{
    return i < archive->n_entries ? &archive->entries[i].array : NULL;
}

int64_t mmf_archive_find(const mmf_archive *archive, const char *name)
{
    size_t low = 0, high = archive->n_entries;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const size_t entry = archive->by_name[middle];
        const int order = strcmp(name, archive->entries[entry].name);
        if (order == 0)
            return (int64_t)entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

mmf_status mmf_archive_load(mmf_archive *archive, size_t i, mmf_array *out)
{
    if (i >= archive->n_entries)
        return mmf_fail(archive->ctx, MMF_ARG, "%s: array %zu of %zu was asked for", archive->path,
                        i, archive->n_entries);
    mmf_entry *const entry = &archive->entries[i];
    if (!entry->array.data) {
        const mmf_status status = archive->format->load(archive, i);
        if (status != MMF_OK)
            return mmf_fail_within(archive->ctx, status, "%s: array \"%s\": ", archive->path,
                                   entry->name);
    }
    *out = entry->array;
    return MMF_OK;
}

const char *mmf_archive_metadata(const mmf_archive *archive, const char *key)
{
    for (size_t i = 0; i < archive->n_metadata; i++) {
        if (strcmp(archive->metadata[i].key, key) == 0)
            return archive->metadata[i].value;
    }
    return NULL;
}

const char *mmf_archive_metadata_key(const mmf_archive *archive, size_t i)
{
    return i < archive->n_metadata ? archive->metadata[i].key : NULL;
}

const char *mmf_archive_path(const mmf_archive *archive)
{
    return archive->path;
}
