/*
 * npz_writer.c: streams arrays into a zip file of npy members.
 *
 * Written by hand because common zip libraries cannot place data: here stored members begin at
 * multiples of 64 bytes, by a padding field in front of them, so that readers may map them. Every
 * member bears the same date, so equal arrays give equal files. Format: PKWARE APPNOTE 6.3.
 */
#define ZLIB_CONST /* deflate reads its input without writing to it */
#include "io/npz_writer.h"

#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "io/archive.h"
#include "io/npy.h"
#include "io/utf8.h"

#define ALIGNMENT 64
#define OUT_BYTES 65536
#define DATE 0x21            /* 1 January 1980, the earliest there is */
#define UTF8_FLAG 0x0800     /* the name is UTF-8 */
#define PADDING_ID 0xd935    /* the field that zipalign uses */
#define PADDING_LEAST 6      /* identifier, size and the alignment itself */
#define LOCAL_BYTES 30       /* of a local header before the name */
#define ZIP64_LOCAL_BYTES 20 /* identifier, size, two sizes of 8 bytes */
#define DEFLATE_SLACK 1024   /* deflate never grows data by more than this and a thousandth */
#define FIELD32 0xffffffffu  /* stands for "see the 64-bit field" */

typedef struct record {
    char *name; /* with ".npy" */
    uint64_t offset, stored_bytes, bytes;
    uint32_t crc;
    bool zip64;
} record;

struct mmf_npz_writer {
    mmf_ctx *ctx;
    mmf_writer *file;
    bool deflate;
    mmf_status status; /* sticky: after a failure nothing is written any more */
    uint64_t position, zip64_from;
    record *records;
    size_t n_records, capacity;
    /* The member that is being written. */
    bool in_member;
    mmf_array array;
    size_t n_wanted, n_given; /* bytes of the caller's data */
    size_t n_characters;      /* of a string cell on disk */
    unsigned char *cell;      /* a string cell whose bytes come in pieces */
    z_stream deflater;
    bool deflater_ready;
    unsigned char *out; /* compressed bytes on their way, or converted cells */
};

/* ---- Bytes -------------------------------------------------------------------------------- */

typedef struct fields {
    unsigned char bytes[128];
    size_t n;
} fields;

static void put(fields *f, uint64_t value, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        f->bytes[f->n++] = (unsigned char)(value >> (8 * i));
}

static mmf_status write_bytes(mmf_npz_writer *w, const void *bytes, size_t n_bytes)
{
    w->position += n_bytes;
    return mmf_writer_write(w->file, bytes, n_bytes);
}

static uint64_t short_field(uint64_t value, bool zip64)
{
    return zip64 ? FIELD32 : value;
}

static uint64_t name_flags(const char *name)
{
    for (const char *c = name; *c; c++) {
        if ((unsigned char)*c >= 128)
            return UTF8_FLAG;
    }
    return 0;
}

/* What local and central headers have in common, from "version needed" to the lengths. */
static void put_common(fields *f, const mmf_npz_writer *w, const record *r, size_t n_extra)
{
    put(f, r->zip64 ? 45 : 20, 2);
    put(f, name_flags(r->name), 2);
    put(f, w->deflate ? Z_DEFLATED : 0, 2);
    put(f, 0, 2);
    put(f, DATE, 2);
    put(f, r->crc, 4);
    put(f, short_field(r->stored_bytes, r->zip64), 4);
    put(f, short_field(r->bytes, r->zip64), 4);
    put(f, strlen(r->name), 2);
    put(f, n_extra, 2);
}

static size_t padding_bytes(const mmf_npz_writer *w, const record *r)
{
    if (w->deflate)
        return 0;
    const uint64_t end =
        r->offset + LOCAL_BYTES + strlen(r->name) + (r->zip64 ? ZIP64_LOCAL_BYTES : 0);
    size_t n = (size_t)(ALIGNMENT - end % ALIGNMENT) % ALIGNMENT;
    if (n > 0 && n < PADDING_LEAST)
        n += ALIGNMENT;
    return n;
}

/* Written twice: in front of the data with what is known, and again when all of it is. */
static mmf_status write_local_header(mmf_npz_writer *w, const record *r)
{
    const size_t n_padding = padding_bytes(w, r);
    fields f = {0};
    put(&f, 0x04034b50, 4);
    put_common(&f, w, r, n_padding + (r->zip64 ? ZIP64_LOCAL_BYTES : 0));
    MMF_TRY(write_bytes(w, f.bytes, f.n));
    MMF_TRY(write_bytes(w, r->name, strlen(r->name)));
    f = (fields){0};
    if (r->zip64) {
        put(&f, 1, 2);
        put(&f, 16, 2);
        put(&f, r->bytes, 8);
        put(&f, r->stored_bytes, 8);
    }
    if (n_padding > 0) {
        put(&f, PADDING_ID, 2);
        put(&f, n_padding - 4, 2);
        put(&f, ALIGNMENT, 2);
        f.n += n_padding - PADDING_LEAST;
    }
    return write_bytes(w, f.bytes, f.n);
}

static mmf_status write_central_header(mmf_npz_writer *w, const record *r)
{
    const bool far = r->offset >= w->zip64_from;
    fields extra = {0};
    if (r->zip64 || far) {
        put(&extra, 1, 2);
        put(&extra, (r->zip64 ? 16u : 0u) + (far ? 8u : 0u), 2);
        put(&extra, r->bytes, r->zip64 ? 8 : 0);
        put(&extra, r->stored_bytes, r->zip64 ? 8 : 0);
        put(&extra, r->offset, far ? 8 : 0);
    }
    fields f = {0};
    put(&f, 0x02014b50, 4);
    put(&f, 45, 2);
    put_common(&f, w, r, extra.n);
    put(&f, 0, 2); /* comment */
    put(&f, 0, 2); /* volume */
    put(&f, 0, 2); /* internal and external attributes */
    put(&f, 0, 4);
    put(&f, short_field(r->offset, far), 4);
    MMF_TRY(write_bytes(w, f.bytes, f.n));
    MMF_TRY(write_bytes(w, r->name, strlen(r->name)));
    return write_bytes(w, extra.bytes, extra.n);
}

static mmf_status write_directory(mmf_npz_writer *w)
{
    const uint64_t start = w->position;
    for (size_t i = 0; i < w->n_records; i++)
        MMF_TRY(write_central_header(w, &w->records[i]));
    const uint64_t end = w->position, n = w->n_records;
    const bool zip64 = end >= w->zip64_from || n >= 0xffff;
    fields f = {0};
    if (zip64) {
        put(&f, 0x06064b50, 4);
        put(&f, 44, 8);
        put(&f, 45, 2);
        put(&f, 45, 2);
        put(&f, 0, 8); /* volumes */
        put(&f, n, 8);
        put(&f, n, 8);
        put(&f, end - start, 8);
        put(&f, start, 8);
        put(&f, 0x07064b50, 4);
        put(&f, 0, 4);
        put(&f, end, 8);
        put(&f, 1, 4);
    }
    put(&f, 0x06054b50, 4);
    put(&f, 0, 4); /* volumes */
    put(&f, zip64 ? 0xffff : n, 2);
    put(&f, zip64 ? 0xffff : n, 2);
    put(&f, short_field(end - start, zip64), 4);
    put(&f, short_field(start, zip64), 4);
    put(&f, 0, 2); /* comment */
    return write_bytes(w, f.bytes, f.n);
}

/* ---- The data of a member ----------------------------------------------------------------- */

static voidpf zlib_alloc(voidpf ctx, uInt count, uInt size)
{
    return mmf_alloc_zero(ctx, count, size);
}

static void zlib_free(voidpf ctx, voidpf pointer)
{
    mmf_free(ctx, pointer);
}

static mmf_status start_deflate(mmf_npz_writer *w)
{
    if (w->deflater_ready)
        return deflateReset(&w->deflater) == Z_OK
                   ? MMF_OK
                   : mmf_fail(w->ctx, MMF_INTERNAL, "cannot restart compression");
    w->deflater = (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = w->ctx};
    if (deflateInit2(&w->deflater, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return MMF_NOMEM;
    w->deflater_ready = true;
    return MMF_OK;
}

static mmf_status deflate_bytes(mmf_npz_writer *w, const unsigned char *bytes, size_t n, int flush)
{
    z_stream *const z = &w->deflater;
    z->next_in = bytes;
    do {
        const uInt piece = n < UINT32_MAX ? (uInt)n : UINT32_MAX;
        z->avail_in = piece;
        z->next_out = w->out;
        z->avail_out = OUT_BYTES;
        if (deflate(z, piece == n ? flush : Z_NO_FLUSH) == Z_STREAM_ERROR)
            return mmf_fail(w->ctx, MMF_INTERNAL, "compression failed");
        n -= piece - z->avail_in;
        MMF_TRY(write_bytes(w, w->out, OUT_BYTES - z->avail_out));
    } while (n > 0 || z->avail_out == 0);
    return MMF_OK;
}

/* Bytes of the npy member, header included. */
static mmf_status emit(mmf_npz_writer *w, const void *bytes, size_t n)
{
    record *const r = &w->records[w->n_records - 1];
    r->crc = (uint32_t)crc32_z(r->crc, bytes, n);
    return w->deflate ? deflate_bytes(w, bytes, n, Z_NO_FLUSH) : write_bytes(w, bytes, n);
}

static size_t count_characters(const char *cell, size_t n_bytes)
{
    uint32_t code = 0;
    size_t n_characters = 0;
    for (size_t i = 0; i < n_bytes; n_characters++) {
        const size_t n = mmf_utf8_sequence(cell + i, n_bytes - i, &code);
        i += n ? n : 1;
    }
    return n_characters;
}

/* One UTF-8 cell as code points of 4 bytes; broken bytes become U+FFFD. */
static mmf_status emit_cell(mmf_npz_writer *w, const char *cell)
{
    unsigned char codes[1024];
    size_t n_bytes = w->array.item_bytes, n_codes = 0, used = 0;
    while (n_bytes > 0 && cell[n_bytes - 1] == '\0')
        n_bytes--;
    for (size_t i = 0; i < n_bytes || n_codes < w->n_characters; n_codes++) {
        uint32_t code = 0; /* past the text: the padding of the cell */
        if (i < n_bytes) {
            const size_t n = mmf_utf8_sequence(cell + i, n_bytes - i, &code);
            code = n ? code : MMF_UTF8_REPLACEMENT;
            i += n ? n : 1;
        }
        for (size_t b = 0; b < 4; b++)
            codes[used++] = (unsigned char)(code >> (8 * b));
        if (used == sizeof codes) {
            MMF_TRY(emit(w, codes, used));
            used = 0;
        }
    }
    return emit(w, codes, used);
}

static mmf_status emit_strings(mmf_npz_writer *w, const char *bytes, size_t n_bytes)
{
    const size_t width = w->array.item_bytes;
    while (n_bytes > 0) {
        const size_t held = w->n_given % width;
        const size_t n = n_bytes < width - held ? n_bytes : width - held;
        if (n == width) {
            MMF_TRY(emit_cell(w, bytes));
        } else {
            memcpy(w->cell + held, bytes, n);
            if (held + n == width)
                MMF_TRY(emit_cell(w, (const char *)w->cell));
        }
        w->n_given += n;
        bytes += n;
        n_bytes -= n;
    }
    return MMF_OK;
}

/* ---- Members ------------------------------------------------------------------------------ */

static mmf_status check_member(mmf_npz_writer *w, const char *name, const mmf_array *array)
{
    mmf_ctx *const ctx = w->ctx;
    if (w->in_member)
        return mmf_fail(ctx, MMF_STATE, "array \"%s\" begins before the one before it has ended",
                        name);
    if (!*name || strlen(name) > MMF_IO_MAX_NAME_BYTES)
        return mmf_fail(ctx, MMF_ARG, "the name of an array takes 1 to %d bytes",
                        MMF_IO_MAX_NAME_BYTES);
    if (w->n_records >= MMF_IO_MAX_ENTRIES)
        return mmf_fail(ctx, MMF_LIMIT, "more than %d arrays", MMF_IO_MAX_ENTRIES);
    for (size_t i = 0; i < w->n_records; i++) {
        const char *const other = w->records[i].name;
        if (strncmp(other, name, strlen(name)) == 0 && strcmp(other + strlen(name), ".npy") == 0)
            return mmf_fail(ctx, MMF_ARG, "the array \"%s\" is written twice", name);
    }
    if (array->dtype == MMF_BF16)
        return mmf_fail(ctx, MMF_DTYPE, "array \"%s\": npz has no bfloat16; convert it to float32",
                        name);
    if (array->n_dims < 0 || array->n_dims > MMF_MAX_DIMS || array->item_bytes == 0 ||
        (array->dtype != MMF_STR && array->item_bytes != mmf_dtype_bytes(array->dtype)))
        return mmf_fail(ctx, MMF_ARG, "array \"%s\": %d dimensions, elements of %zu bytes", name,
                        array->n_dims, array->item_bytes);
    /* 8 for the growth of strings to 4 bytes a character, and room for the rest of the file. */
    return mmf_array_measure(ctx, array, INT64_MAX / 8, &w->n_wanted);
}

static mmf_status add_record(mmf_npz_writer *w, const char *name)
{
    if (w->n_records == w->capacity) {
        const size_t capacity = w->capacity ? 2 * w->capacity : 16;
        record *grown = mmf_realloc(w->ctx, w->records, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        w->records = grown;
        w->capacity = capacity;
    }
    const size_t n = strlen(name);
    char *copy = mmf_alloc(w->ctx, n + sizeof ".npy");
    if (!copy)
        return MMF_NOMEM;
    memcpy(copy, name, n);
    memcpy(copy + n, ".npy", sizeof ".npy");
    w->records[w->n_records++] = (record){.name = copy, .offset = w->position};
    return MMF_OK;
}

static mmf_status begin_member(mmf_npz_writer *w, const char *name, const mmf_array *array,
                               size_t n_characters)
{
    MMF_TRY(check_member(w, name, array));
    MMF_TRY(add_record(w, name));
    w->array = *array;
    w->n_characters = n_characters;
    w->n_given = 0;
    if (array->dtype == MMF_STR) {
        mmf_free(w->ctx, w->cell);
        w->cell = mmf_alloc(w->ctx, array->item_bytes);
        if (!w->cell)
            return MMF_NOMEM;
    }
    mmf_text header = {.ctx = w->ctx};
    mmf_npy_write_header(&header, array, n_characters);
    record *const r = &w->records[w->n_records - 1];
    const size_t n_data =
        array->dtype == MMF_STR ? w->n_wanted / array->item_bytes * n_characters * 4 : w->n_wanted;
    r->bytes = header.length + n_data;
    r->stored_bytes = r->bytes;
    r->zip64 = r->bytes + r->bytes / 1000 + DEFLATE_SLACK >= w->zip64_from;
    mmf_status status = header.status;
    if (status == MMF_OK)
        status = write_local_header(w, r);
    if (status == MMF_OK && w->deflate)
        status = start_deflate(w);
    if (status == MMF_OK)
        status = emit(w, header.data, header.length);
    mmf_text_clear(&header);
    w->in_member = status == MMF_OK;
    return status;
}

static mmf_status append_bytes(mmf_npz_writer *w, const void *bytes, size_t n_bytes)
{
    if (!w->in_member)
        return mmf_fail(w->ctx, MMF_STATE, "data without an array that was begun");
    if (n_bytes > w->n_wanted - w->n_given)
        return mmf_fail(w->ctx, MMF_ARG, "%zu bytes of data where %zu are left of the array",
                        n_bytes, w->n_wanted - w->n_given);
    if (w->array.dtype == MMF_STR)
        return emit_strings(w, bytes, n_bytes);
    w->n_given += n_bytes;
    return n_bytes > 0 ? emit(w, bytes, n_bytes) : MMF_OK;
}

static mmf_status end_member(mmf_npz_writer *w)
{
    if (!w->in_member || w->n_given != w->n_wanted)
        return mmf_fail(w->ctx, MMF_STATE, "the array ends after %zu of %zu bytes", w->n_given,
                        w->n_wanted);
    record *const r = &w->records[w->n_records - 1];
    if (w->deflate) {
        MMF_TRY(deflate_bytes(w, NULL, 0, Z_FINISH));
        r->stored_bytes = w->deflater.total_out;
    }
    const uint64_t end = w->position;
    w->position = r->offset;
    MMF_TRY(mmf_writer_seek(w->file, r->offset));
    MMF_TRY(write_local_header(w, r));
    w->position = end;
    w->in_member = false;
    return mmf_writer_seek(w->file, end);
}

static mmf_status add_whole(mmf_npz_writer *w, const char *name, const mmf_array *array)
{
    size_t n_bytes = 0, n_characters = 1;
    MMF_TRY(mmf_array_measure(w->ctx, array, INT64_MAX / 8, &n_bytes));
    if (array->dtype == MMF_STR) {
        for (int64_t i = 0; i < mmf_array_count(array); i++) {
            size_t n_cell = 0;
            const char *const cell = mmf_array_string(array, i, &n_cell);
            const size_t n = count_characters(cell, n_cell);
            n_characters = n > n_characters ? n : n_characters;
        }
    }
    MMF_TRY(begin_member(w, name, array, n_characters));
    MMF_TRY(append_bytes(w, array->data, n_bytes));
    return end_member(w);
}

/* ---- Public ------------------------------------------------------------------------------- */

mmf_status mmf_npz_create(mmf_ctx *ctx, mmf_npz_writer **out, const char *path, bool deflate)
{
    *out = NULL;
    mmf_npz_writer *w = mmf_alloc_zero(ctx, 1, sizeof *w);
    if (!w)
        return MMF_NOMEM;
    w->ctx = ctx;
    w->deflate = deflate;
    w->zip64_from = FIELD32;
    mmf_status status = MMF_OK;
    if (deflate) {
        w->out = mmf_alloc(ctx, OUT_BYTES);
        status = w->out ? MMF_OK : MMF_NOMEM;
    }
    if (status == MMF_OK)
        status = mmf_writer_open(ctx, &w->file, path);
    if (status != MMF_OK) {
        mmf_npz_discard(w);
        return status;
    }
    *out = w;
    return MMF_OK;
}

void mmf_npz__set_zip64_from(mmf_npz_writer *writer, uint64_t n_bytes)
{
    writer->zip64_from = n_bytes;
}

mmf_status mmf_npz_add(mmf_npz_writer *writer, const char *name, const mmf_array *array)
{
    if (writer->status == MMF_OK)
        writer->status = add_whole(writer, name, array);
    return writer->status;
}

mmf_status mmf_npz_begin(mmf_npz_writer *writer, const char *name, const mmf_array *header)
{
    if (writer->status == MMF_OK)
        writer->status = begin_member(writer, name, header, header->item_bytes);
    return writer->status;
}

mmf_status mmf_npz_append(mmf_npz_writer *writer, const void *bytes, size_t n_bytes)
{
    if (writer->status == MMF_OK)
        writer->status = append_bytes(writer, bytes, n_bytes);
    return writer->status;
}

mmf_status mmf_npz_end(mmf_npz_writer *writer)
{
    if (writer->status == MMF_OK)
        writer->status = end_member(writer);
    return writer->status;
}

mmf_status mmf_npz_commit(mmf_npz_writer *writer)
{
    mmf_status status = writer->status;
    if (status == MMF_OK && writer->in_member)
        status = mmf_fail(writer->ctx, MMF_STATE, "the file ends inside an array");
    if (status == MMF_OK)
        status = write_directory(writer);
    if (status == MMF_OK) {
        mmf_writer *const file = writer->file;
        writer->file = NULL;
        status = mmf_writer_commit(file);
    }
    mmf_npz_discard(writer);
    return status;
}

void mmf_npz_discard(mmf_npz_writer *writer)
{
    if (!writer)
        return;
    mmf_ctx *const ctx = writer->ctx;
    mmf_writer_discard(writer->file);
    if (writer->deflater_ready)
        deflateEnd(&writer->deflater);
    for (size_t i = 0; i < writer->n_records; i++)
        mmf_free(ctx, writer->records[i].name);
    mmf_free(ctx, writer->records);
    mmf_free(ctx, writer->cell);
    mmf_free(ctx, writer->out);
    mmf_free(ctx, writer);
}
