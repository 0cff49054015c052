/*
 * safetensors.c: named tensors behind one JSON header; reading maps the file.
 *
 * Format: 8 bytes with the header's length, the header {"name": {"dtype", "shape",
 * "data_offsets": [begin, end]}, "__metadata__": {"key": "value"}}, then the data, without gaps or
 * overlaps. Eight-bit floats are refused.
 */
#include "io/archive.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "io/json_file.h"
#include "io/utf8.h"

#define LENGTH_BYTES 8
#define MAX_HEADER_BYTES ((size_t)16 << 20)
/* A JSON value costs far more memory than text: at most this many marks "[", "{", "," an entry. */
#define MARKS_PER_ENTRY 16
#define FREE_MARKS 4096
#define ALIGNMENT 64

static const struct {
    const char *code;
    mmf_dtype dtype;
} types[] = {
    {"F32", MMF_F32}, {"F16", MMF_F16}, {"BF16", MMF_BF16}, {"F64", MMF_F64}, {"I64", MMF_I64},
    {"I32", MMF_I32}, {"I16", MMF_I16}, {"I8", MMF_I8},     {"U8", MMF_U8},   {"U16", MMF_U16},
    {"U32", MMF_U32}, {"U64", MMF_U64}, {"BOOL", MMF_BOOL},
};
#define N_TYPES (sizeof types / sizeof types[0])

typedef struct span {
    uint64_t begin, end;
} span;

typedef struct safetensors_reader {
    json_t *header;
    span *spans; /* of each entry, from the start of the data */
    const unsigned char *data;
    size_t n_data;
} safetensors_reader;

/* ---- Reading ------------------------------------------------------------------------------ */

static mmf_status parse_header(mmf_archive *archive)
{
    mmf_ctx *const ctx = archive->ctx;
    safetensors_reader *const reader = archive->reader;
    if (archive->n_bytes < LENGTH_BYTES)
        return mmf_fail(ctx, MMF_FORMAT, "a safetensors file has at least %d bytes, this one %zu",
                        LENGTH_BYTES, archive->n_bytes);
    uint64_t n_header = 0;
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        n_header |= (uint64_t)archive->bytes[i] << (8 * i);
    if (n_header > archive->n_bytes - LENGTH_BYTES)
        return mmf_fail(ctx, MMF_FORMAT, "the header claims %llu bytes of a file of %zu",
                        (unsigned long long)n_header, archive->n_bytes);
    if (n_header > MAX_HEADER_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "a header of %llu bytes; at most %zu are read",
                        (unsigned long long)n_header, MAX_HEADER_BYTES);
    const char *const text = (const char *)archive->bytes + LENGTH_BYTES;
    const size_t most = MARKS_PER_ENTRY * archive->options.max_entries + FREE_MARKS;
    const mmf_status status = mmf_json_parse(ctx, &reader->header, text, n_header, most);
    if (status != MMF_OK)
        return mmf_fail_within(ctx, status, "the header: ");
    reader->data = archive->bytes + LENGTH_BYTES + n_header;
    reader->n_data = archive->n_bytes - LENGTH_BYTES - n_header;
    return MMF_OK;
}

static mmf_status read_metadata(mmf_archive *archive, json_t *metadata)
{
    mmf_ctx *const ctx = archive->ctx;
    if (!json_is_object(metadata))
        return mmf_fail(ctx, MMF_FORMAT, "__metadata__ is not an object");
    const size_t n = json_object_size(metadata);
    if (n > archive->options.max_entries)
        return mmf_fail(ctx, MMF_LIMIT, "%zu metadata keys; at most %zu are read", n,
                        archive->options.max_entries);
    archive->metadata = mmf_alloc_zero(ctx, n, sizeof *archive->metadata);
    if (!archive->metadata)
        return MMF_NOMEM;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return mmf_fail(ctx, MMF_FORMAT, "the value of the metadata key \"%s\" is no string",
                            key);
        mmf_pair *const pair = &archive->metadata[archive->n_metadata++];
        pair->key = mmf_strdup(ctx, key);
        pair->value = mmf_strdup(ctx, json_string_value(value));
        if (!pair->key || !pair->value)
            return MMF_NOMEM;
    }
    return MMF_OK;
}

static mmf_status read_dtype(mmf_ctx *ctx, const json_t *value, mmf_array *array)
{
    const char *const code = json_is_string(value) ? json_string_value(value) : NULL;
    if (!code)
        return mmf_fail(ctx, MMF_FORMAT, "expected a text as dtype");
    for (size_t i = 0; i < N_TYPES; i++) {
        if (strcmp(types[i].code, code) == 0) {
            array->dtype = types[i].dtype;
            array->item_bytes = mmf_dtype_bytes(array->dtype);
            return MMF_OK;
        }
    }
    return mmf_fail(ctx, MMF_UNSUPPORTED, "the element type \"%.16s\" is not offered", code);
}

static mmf_status read_number(mmf_ctx *ctx, const json_t *list, size_t i, const char *what,
                              int64_t *out)
{
    const json_t *const value = json_array_get(list, i);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return mmf_fail(ctx, MMF_FORMAT, "expected whole numbers from 0 up in %s", what);
    *out = json_integer_value(value);
    return MMF_OK;
}

static mmf_status read_tensor(mmf_archive *archive, const json_t *tensor, mmf_array *array,
                              span *place)
{
    mmf_ctx *const ctx = archive->ctx;
    const safetensors_reader *const reader = archive->reader;
    const json_t *const shape = json_object_get(tensor, "shape");
    const json_t *const offsets = json_object_get(tensor, "data_offsets");
    if (!json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return mmf_fail(ctx, MMF_FORMAT, "expected dtype, shape and two data_offsets");
    if (json_array_size(shape) > MMF_MAX_DIMS)
        return mmf_fail(ctx, MMF_LIMIT, "%zu dimensions; at most %d are read",
                        json_array_size(shape), MMF_MAX_DIMS);
    MMF_TRY(read_dtype(ctx, json_object_get(tensor, "dtype"), array));
    array->n_dims = (int)json_array_size(shape);
    for (int d = 0; d < array->n_dims; d++)
        MMF_TRY(read_number(ctx, shape, (size_t)d, "the shape", &array->shape[d]));
    int64_t begin = 0, end = 0;
    MMF_TRY(read_number(ctx, offsets, 0, "data_offsets", &begin));
    MMF_TRY(read_number(ctx, offsets, 1, "data_offsets", &end));
    *place = (span){(uint64_t)begin, (uint64_t)end};
    if (begin > end || place->end > reader->n_data)
        return mmf_fail(ctx, MMF_FORMAT, "the data from %lld to %lld lie outside the %zu there are",
                        (long long)begin, (long long)end, reader->n_data);
    size_t n_bytes = 0;
    MMF_TRY(mmf_array_measure(ctx, array, archive->options.max_bytes, &n_bytes));
    if (place->end - place->begin != n_bytes)
        return mmf_fail(ctx, MMF_FORMAT, "dtype and shape ask for %zu bytes, the offsets span %llu",
                        n_bytes, (unsigned long long)(place->end - place->begin));
    return MMF_OK;
}

static mmf_status read_tensors(mmf_archive *archive)
{
    safetensors_reader *const reader = archive->reader;
    const size_t n = json_object_size(reader->header);
    /* One place more than arrays: the metadata. */
    if (n > archive->options.max_entries + 1)
        return mmf_fail(archive->ctx, MMF_LIMIT, "%zu arrays; at most %zu are read", n,
                        archive->options.max_entries);
    reader->spans = mmf_alloc_zero(archive->ctx, n, sizeof *reader->spans);
    if (!reader->spans)
        return MMF_NOMEM;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(reader->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            MMF_TRY(read_metadata(archive, value));
            continue;
        }
        MMF_TRY(mmf_archive_check_name(archive, name, strlen(name)));
        mmf_array array = {0};
        const mmf_status status =
            read_tensor(archive, value, &array, &reader->spans[archive->n_entries]);
        if (status != MMF_OK)
            return mmf_fail_within(archive->ctx, status,
                                   "array \"%.*s\": ", (int)archive->options.max_name_bytes, name);
        MMF_TRY(mmf_archive_append(archive, name, strlen(name), &array));
    }
    return MMF_OK;
}

static int compare_spans(const void *a, const void *b)
{
    const span *const x = a, *const y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The spans must tile the data: a byte in two arrays or in none means a damaged file. */
static mmf_status check_tiling(mmf_archive *archive)
{
    const safetensors_reader *const reader = archive->reader;
    const size_t n = archive->n_entries;
    span *sorted = mmf_alloc_zero(archive->ctx, n, sizeof *sorted);
    if (!sorted)
        return MMF_NOMEM;
    memcpy(sorted, reader->spans, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_spans);
    uint64_t end = 0;
    bool tiled = true;
    for (size_t i = 0; tiled && i < n; i++) {
        tiled = sorted[i].begin == end;
        end = tiled ? sorted[i].end : end;
    }
    mmf_free(archive->ctx, sorted);
    if (!tiled || end != reader->n_data)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the arrays overlap or leave a gap at byte %llu of the %zu bytes of data",
                        (unsigned long long)end, reader->n_data);
    return MMF_OK;
}

static mmf_status open_safetensors(mmf_archive *archive)
{
    archive->reader = mmf_alloc_zero(archive->ctx, 1, sizeof(safetensors_reader));
    if (!archive->reader)
        return MMF_NOMEM;
    MMF_TRY(parse_header(archive));
    MMF_TRY(read_tensors(archive));
    safetensors_reader *const reader = archive->reader;
    json_decref(reader->header);
    reader->header = NULL;
    return check_tiling(archive);
}

static mmf_status load_safetensors(mmf_archive *archive, size_t i)
{
    const safetensors_reader *const reader = archive->reader;
    archive->entries[i].array.data = reader->data + reader->spans[i].begin;
    return MMF_OK;
}

static void close_safetensors(mmf_archive *archive)
{
    safetensors_reader *const reader = archive->reader;
    if (!reader)
        return;
    json_decref(reader->header);
    mmf_free(archive->ctx, reader->spans);
    mmf_free(archive->ctx, reader);
}

const mmf_format mmf_format_safetensors = {"safetensors", open_safetensors, load_safetensors,
                                           close_safetensors};

/* ---- Writing ------------------------------------------------------------------------------ */

static void add_json_string(mmf_text *out, const char *text)
{
    mmf_text_add_bytes(out, "\"", 1);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            mmf_text_add(out, "\\%c", *c);
        else if ((unsigned char)*c < 32)
            mmf_text_add(out, "\\u%04x", (unsigned)*c);
        else
            mmf_text_add_bytes(out, c, 1);
    }
    mmf_text_add_bytes(out, "\"", 1);
}

static mmf_status check_arrays(mmf_ctx *ctx, const mmf_named_array *arrays, size_t n_arrays)
{
    for (size_t i = 0; i < n_arrays; i++) {
        const char *const name = arrays[i].name;
        if (!*name || strcmp(name, "__metadata__") == 0 || !mmf_utf8_valid(name, strlen(name)))
            return mmf_fail(ctx, MMF_ARG, "\"%s\" cannot be the name of an array", name);
        if (arrays[i].array.dtype == MMF_STR)
            return mmf_fail(
                ctx, MMF_DTYPE,
                "array \"%s\": safetensors holds no strings; put them into the metadata", name);
    }
    return MMF_OK;
}

/*
 * The order of the data: by falling width of the elements, else as given, so that every array lies
 * at a multiple of its element's width without gaps between arrays.
 */
static void order_arrays(const mmf_named_array *arrays, size_t n_arrays, size_t *order)
{
    size_t n = 0;
    for (size_t width = 8; width > 0; width /= 2) {
        for (size_t i = 0; i < n_arrays; i++) {
            if (mmf_dtype_bytes(arrays[i].array.dtype) == width)
                order[n++] = i;
        }
    }
}

static const char *type_code(mmf_dtype dtype)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (types[i].dtype == dtype)
            return types[i].code;
    }
    return "";
}

static mmf_status add_tensor(mmf_ctx *ctx, mmf_text *header, const mmf_named_array *named,
                             uint64_t *offset)
{
    size_t n_bytes = 0;
    MMF_TRY(mmf_array_measure(ctx, &named->array, INT64_MAX / 2, &n_bytes));
    add_json_string(header, named->name);
    mmf_text_add(header, ":{\"dtype\":\"%s\",\"shape\":[", type_code(named->array.dtype));
    for (int d = 0; d < named->array.n_dims; d++)
        mmf_text_add(header, "%s%lld", d ? "," : "", (long long)named->array.shape[d]);
    mmf_text_add(header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*offset,
                 (unsigned long long)(*offset + n_bytes));
    *offset += n_bytes;
    return header->status;
}

static mmf_status make_header(mmf_ctx *ctx, mmf_text *header, const mmf_named_array *arrays,
                              const size_t *order, size_t n_arrays, const mmf_metadata *metadata,
                              size_t n_metadata)
{
    mmf_text_add(header, "{");
    for (size_t i = 0; i < n_metadata; i++) {
        if (!mmf_utf8_valid(metadata[i].key, strlen(metadata[i].key)) ||
            !mmf_utf8_valid(metadata[i].value, strlen(metadata[i].value)))
            return mmf_fail(ctx, MMF_ARG, "the metadata pair %zu is not UTF-8", i);
        mmf_text_add(header, "%s", i ? "," : "\"__metadata__\":{");
        add_json_string(header, metadata[i].key);
        mmf_text_add(header, ":");
        add_json_string(header, metadata[i].value);
    }
    mmf_text_add(header, n_metadata ? "}%s" : "%s", n_metadata && n_arrays ? "," : "");
    uint64_t offset = 0;
    for (size_t i = 0; i < n_arrays; i++) {
        if (i > 0)
            mmf_text_add(header, ",");
        MMF_TRY(add_tensor(ctx, header, &arrays[order[i]], &offset));
    }
    mmf_text_add(header, "}");
    while (header->status == MMF_OK && (LENGTH_BYTES + header->length) % ALIGNMENT != 0)
        mmf_text_add_bytes(header, " ", 1);
    if (header->status == MMF_OK && header->length > MAX_HEADER_BYTES)
        return mmf_fail(ctx, MMF_LIMIT,
                        "names, shapes and metadata take %zu bytes; at most %zu are "
                        "readable",
                        header->length, MAX_HEADER_BYTES);
    return header->status;
}

static mmf_status write_file(mmf_ctx *ctx, const char *path, const mmf_text *header,
                             const mmf_named_array *arrays, const size_t *order, size_t n_arrays)
{
    mmf_writer *writer = NULL;
    MMF_TRY(mmf_writer_open(ctx, &writer, path));
    unsigned char length[LENGTH_BYTES];
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> (8 * i));
    mmf_status status = mmf_writer_write(writer, length, sizeof length);
    if (status == MMF_OK)
        status = mmf_writer_write(writer, header->data, header->length);
    for (size_t i = 0; status == MMF_OK && i < n_arrays; i++) {
        const mmf_array *const array = &arrays[order[i]].array;
        status = mmf_writer_write(writer, array->data,
                                  (size_t)mmf_array_count(array) * mmf_dtype_bytes(array->dtype));
    }
    if (status == MMF_OK)
        return mmf_writer_commit(writer);
    mmf_writer_discard(writer);
    return status;
}

mmf_status mmf_safetensors_save(mmf_ctx *ctx, const char *path, const mmf_named_array *arrays,
                                size_t n_arrays, const mmf_metadata *metadata, size_t n_metadata)
{
    MMF_TRY(check_arrays(ctx, arrays, n_arrays));
    size_t *order = mmf_alloc_zero(ctx, n_arrays, sizeof *order);
    if (!order)
        return MMF_NOMEM;
    order_arrays(arrays, n_arrays, order);
    mmf_text header = {.ctx = ctx};
    mmf_status status = make_header(ctx, &header, arrays, order, n_arrays, metadata, n_metadata);
    if (status == MMF_OK)
        status = write_file(ctx, path, &header, arrays, order, n_arrays);
    mmf_text_clear(&header);
    mmf_free(ctx, order);
    return status;
}
