/*
 * npz.c: zip files of npy arrays. Stored members are read where they lie in the mapped file,
 * deflated ones are inflated once, when they are loaded.
 *
 * Encrypted members, other compressions and archives in several volumes are refused.
 */
#define ZLIB_CONST /* inflate reads its input without writing to it */
#include "io/archive.h"

#include <string.h>
#include <zlib.h>

#include "io/npy.h"
#include "io/zip.h"

#define MAX_DEFLATE_RATIO 1032 /* 258 bytes from 2 bits; a member that claims more is lying */
/* Checksums of larger stored members are not checked: that would read all of what is only mapped.
 */
#define MAX_CHECKED_BYTES ((size_t)256 << 20)

typedef struct member {
    mmf_npy npy;
    size_t position, stored_bytes; /* in the file */
    size_t bytes;                  /* header and data, inflated */
    uint32_t crc;
    bool deflated;
} member;

typedef struct npz_reader {
    member *members; /* one for each entry */
    size_t capacity;
    z_stream inflater;
    bool inflater_ready;
} npz_reader;

/* ---- Inflating ---------------------------------------------------------------------------- */

static voidpf zlib_alloc(voidpf ctx, uInt count, uInt size)
{
    return mmf_alloc_zero(ctx, count, size);
}

static void zlib_free(voidpf ctx, voidpf pointer)
{
    mmf_free(ctx, pointer);
}

static mmf_status inflate_start(mmf_archive *archive, const member *m)
{
    npz_reader *const reader = archive->reader;
    z_stream *const z = &reader->inflater;
    if (!reader->inflater_ready) {
        *z = (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = archive->ctx};
        if (inflateInit2(z, -MAX_WBITS) != Z_OK)
            return MMF_NOMEM;
        reader->inflater_ready = true;
    } else if (inflateReset(z) != Z_OK) {
        return mmf_fail(archive->ctx, MMF_INTERNAL, "cannot restart decompression");
    }
    z->next_in = archive->bytes + m->position;
    z->avail_in = 0;
    return MMF_OK;
}

/* Inflates exactly `n` bytes; `done` then tells whether the stream ended with them. */
static mmf_status inflate_some(mmf_archive *archive, const member *m, unsigned char *out, size_t n,
                               bool *done)
{
    z_stream *const z = &((npz_reader *)archive->reader)->inflater;
    const unsigned char *const end = archive->bytes + m->position + m->stored_bytes;
    int result = Z_OK;
    size_t made = 0;
    while (result == Z_OK && made < n) {
        const size_t left = (size_t)(end - z->next_in), wanted = n - made;
        z->avail_in = left < UINT32_MAX ? (uInt)left : UINT32_MAX;
        z->avail_out = wanted < UINT32_MAX ? (uInt)wanted : UINT32_MAX;
        const uInt room = z->avail_out;
        z->next_out = out + made;
        result = inflate(z, Z_NO_FLUSH);
        made += room - z->avail_out;
    }
    if (result == Z_MEM_ERROR)
        return MMF_NOMEM;
    if (made < n)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the compressed data are damaged or cut off after %zu bytes", made);
    *done = result == Z_STREAM_END;
    return MMF_OK;
}

/* After the last byte the stream must end without making another one. */
static mmf_status inflate_finish(mmf_archive *archive, const member *m)
{
    z_stream *const z = &((npz_reader *)archive->reader)->inflater;
    const size_t left = (size_t)(archive->bytes + m->position + m->stored_bytes - z->next_in);
    unsigned char extra = 0;
    z->avail_in = left < UINT32_MAX ? (uInt)left : UINT32_MAX;
    z->next_out = &extra;
    z->avail_out = 1;
    if (inflate(z, Z_NO_FLUSH) != Z_STREAM_END || z->avail_out != 1)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the compressed data do not end after the %zu bytes promised", m->bytes);
    return MMF_OK;
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* Inflates the npy header of a member into a buffer that the caller frees. */
static mmf_status inflate_header(mmf_archive *archive, const member *m, unsigned char **out,
                                 size_t *n_bytes)
{
    unsigned char prefix[MMF_NPY_PREFIX_BYTES];
    const size_t n_prefix = m->bytes < sizeof prefix ? m->bytes : sizeof prefix;
    bool done = false;
    MMF_TRY(inflate_start(archive, m));
    MMF_TRY(inflate_some(archive, m, prefix, n_prefix, &done));
    MMF_TRY(mmf_npy_header_size(archive->ctx, prefix, n_prefix, n_bytes));
    if (*n_bytes > m->bytes || *n_bytes < n_prefix)
        return mmf_fail(archive->ctx, MMF_FORMAT, "the npy header of %zu bytes does not fit in %zu",
                        *n_bytes, m->bytes);
    unsigned char *header = mmf_alloc(archive->ctx, *n_bytes);
    if (!header)
        return MMF_NOMEM;
    memcpy(header, prefix, n_prefix);
    const mmf_status status =
        inflate_some(archive, m, header + n_prefix, *n_bytes - n_prefix, &done);
    if (status != MMF_OK) {
        mmf_free(archive->ctx, header);
        return status;
    }
    *out = header;
    return MMF_OK;
}

static mmf_status parse_header(mmf_archive *archive, member *m)
{
    const size_t max_bytes = archive->options.max_bytes;
    if (!m->deflated)
        return mmf_npy_parse(archive->ctx, archive->bytes + m->position, m->bytes, max_bytes,
                             &m->npy);
    unsigned char *header = NULL;
    size_t n_bytes = 0;
    MMF_TRY(inflate_header(archive, m, &header, &n_bytes));
    const mmf_status status = mmf_npy_parse(archive->ctx, header, n_bytes, max_bytes, &m->npy);
    mmf_free(archive->ctx, header);
    return status;
}

static mmf_status check_directory(mmf_archive *archive, const mmf_zip_member *entry)
{
    mmf_ctx *const ctx = archive->ctx;
    if (entry->encrypted)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "the member is encrypted; save it without a password");
    if (entry->method != MMF_ZIP_STORED && entry->method != MMF_ZIP_DEFLATED)
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "the member is compressed by method %u; stored and deflated are read",
                        entry->method);
    if (entry->method == MMF_ZIP_STORED && entry->stored_bytes != entry->bytes)
        return mmf_fail(ctx, MMF_FORMAT, "the two sizes of the stored member differ");
    if (entry->bytes / MAX_DEFLATE_RATIO > entry->stored_bytes)
        return mmf_fail(ctx, MMF_FORMAT, "the member claims to inflate from %llu to %llu bytes",
                        (unsigned long long)entry->stored_bytes, (unsigned long long)entry->bytes);
    return MMF_OK;
}

static mmf_status locate_member(mmf_archive *archive, mmf_zip *zip, const mmf_zip_member *entry,
                                member *m)
{
    mmf_ctx *const ctx = archive->ctx;
    size_t position = 0;
    MMF_TRY(check_directory(archive, entry));
    MMF_TRY(mmf_zip_locate(ctx, zip, entry, &position));
    *m = (member){.position = position,
                  .stored_bytes = (size_t)entry->stored_bytes,
                  .bytes = (size_t)entry->bytes,
                  .crc = entry->crc,
                  .deflated = entry->method == MMF_ZIP_DEFLATED};
    MMF_TRY(parse_header(archive, m));
    if (m->bytes - m->npy.header_bytes != m->npy.data_bytes)
        return mmf_fail(ctx, MMF_FORMAT,
                        "the header promises %zu bytes of data, the member has %zu",
                        m->npy.data_bytes, m->bytes - m->npy.header_bytes);
    return MMF_OK;
}

static mmf_status keep_member(mmf_archive *archive, const char *name, size_t n_bytes,
                              const member *m)
{
    npz_reader *const reader = archive->reader;
    if (archive->n_entries == reader->capacity) {
        const size_t capacity = reader->capacity ? 2 * reader->capacity : 16;
        member *grown = mmf_realloc(archive->ctx, reader->members, capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        reader->members = grown;
        reader->capacity = capacity;
    }
    reader->members[archive->n_entries] = *m;
    return mmf_archive_append(archive, name, n_bytes, &m->npy.array);
}

static mmf_status read_member(mmf_archive *archive, mmf_zip *zip, size_t i)
{
    mmf_ctx *const ctx = archive->ctx;
    mmf_zip_member entry;
    MMF_TRY(mmf_zip_next(ctx, zip, &entry));
    if (entry.n_name < 4 || memcmp(entry.name + entry.n_name - 4, ".npy", 4) != 0) {
        mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s: member %zu is not an .npy array and is left out",
                    archive->path, i);
        return MMF_OK;
    }
    const size_t n_name = entry.n_name - 4;
    MMF_TRY(mmf_archive_check_name(archive, entry.name, n_name));
    member m = {0};
    const mmf_status status = locate_member(archive, zip, &entry, &m);
    if (status != MMF_OK)
        return mmf_fail_within(ctx, status, "array \"%.*s\": ", (int)n_name, entry.name);
    return keep_member(archive, entry.name, n_name, &m);
}

static mmf_status open_npz(mmf_archive *archive)
{
    archive->reader = mmf_alloc_zero(archive->ctx, 1, sizeof(npz_reader));
    if (!archive->reader)
        return MMF_NOMEM;
    mmf_zip zip;
    MMF_TRY(mmf_zip_open(archive->ctx, &zip, archive->bytes, archive->n_bytes));
    if (zip.n_entries > archive->options.max_entries)
        return mmf_fail(archive->ctx, MMF_LIMIT, "%llu members; at most %zu are read",
                        (unsigned long long)zip.n_entries, archive->options.max_entries);
    for (size_t i = 0; i < zip.n_entries; i++)
        MMF_TRY(read_member(archive, &zip, i));
    return mmf_zip_finish(archive->ctx, &zip);
}

/* ---- Loading ------------------------------------------------------------------------------ */

static mmf_status check_crc(mmf_archive *archive, const member *m, uLong crc)
{
    if ((uint32_t)crc != m->crc)
        return mmf_fail(archive->ctx, MMF_FORMAT,
                        "the checksum is %08x where %08x was promised: the data are damaged",
                        (unsigned)crc, m->crc);
    return MMF_OK;
}

static mmf_status inflate_member(mmf_archive *archive, const member *m, unsigned char *data)
{
    unsigned char *header = NULL;
    size_t n_header = 0;
    bool done = false;
    MMF_TRY(inflate_header(archive, m, &header, &n_header));
    uLong crc = crc32_z(crc32_z(0, NULL, 0), header, n_header);
    mmf_free(archive->ctx, header);
    MMF_TRY(inflate_some(archive, m, data, m->npy.data_bytes, &done));
    if (!done)
        MMF_TRY(inflate_finish(archive, m));
    crc = crc32_z(crc, data, m->npy.data_bytes);
    return check_crc(archive, m, crc);
}

static mmf_status load_npz(mmf_archive *archive, size_t i)
{
    mmf_ctx *const ctx = archive->ctx;
    const member *const m = &((const npz_reader *)archive->reader)->members[i];
    mmf_entry *const entry = &archive->entries[i];
    if (!m->deflated) {
        const unsigned char *const start = archive->bytes + m->position;
        if (m->bytes <= MAX_CHECKED_BYTES)
            MMF_TRY(check_crc(archive, m, crc32_z(crc32_z(0, NULL, 0), start, m->bytes)));
        return mmf_npy_convert(ctx, &m->npy, start + m->npy.header_bytes, &entry->array,
                               &entry->owned);
    }
    unsigned char *data = mmf_alloc(ctx, m->npy.data_bytes);
    if (!data)
        return MMF_NOMEM;
    mmf_status status = inflate_member(archive, m, data);
    if (status == MMF_OK)
        status = mmf_npy_convert(ctx, &m->npy, data, &entry->array, &entry->owned);
    if (status == MMF_OK && !entry->owned)
        entry->owned = data;
    else
        mmf_free(ctx, data);
    return status;
}

static void close_npz(mmf_archive *archive)
{
    npz_reader *const reader = archive->reader;
    if (!reader)
        return;
    if (reader->inflater_ready)
        inflateEnd(&reader->inflater);
    mmf_free(archive->ctx, reader->members);
    mmf_free(archive->ctx, reader);
}

const mmf_format mmf_format_npz = {"npz", open_npz, load_npz, close_npz};
