/* zip.c: see zip.h. Every offset and length is checked against the bytes there are. */
#include "io/zip.h"

#include <string.h>

#define END_BYTES 22     /* end record without its comment */
#define END64_BYTES 56   /* 64-bit end record */
#define LOCATOR_BYTES 20 /* what points to it */
#define ENTRY_BYTES 46   /* directory entry before the name */
#define LOCAL_BYTES 30   /* a member's own header before the name */
#define MAX_COMMENT 65535
#define FIELD16 0xffffu /* stand for "see the 64-bit field" */
#define FIELD32 0xffffffffu
#define ENCRYPTED_FLAG 1u
#define LATE_SIZES_FLAG 8u

static uint64_t get(const unsigned char *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static bool starts(const mmf_zip *zip, uint64_t at, uint64_t n_bytes, uint32_t mark)
{
    return at <= zip->n_bytes && n_bytes <= zip->n_bytes - at && get(zip->bytes + at, 4) == mark;
}

/* The end record is the last one whose comment reaches exactly to the end of the file. */
static bool find_end(const mmf_zip *zip, uint64_t *out)
{
    if (zip->n_bytes < END_BYTES)
        return false;
    const uint64_t last = zip->n_bytes - END_BYTES;
    for (uint64_t n = 0; n <= last && n <= MAX_COMMENT; n++) {
        if (starts(zip, last - n, END_BYTES, 0x06054b50) &&
            get(zip->bytes + last - n + 20, 2) == n) {
            *out = last - n;
            return true;
        }
    }
    return false;
}

/* The 64-bit end record; `end` becomes its position, where the directory must end. */
static mmf_status read_end64(mmf_ctx *ctx, mmf_zip *zip, uint64_t *end, uint64_t *size)
{
    const unsigned char *const bytes = zip->bytes;
    const uint64_t locator = *end >= LOCATOR_BYTES ? *end - LOCATOR_BYTES : UINT64_MAX;
    if (!starts(zip, locator, LOCATOR_BYTES, 0x07064b50))
        return mmf_fail(ctx, MMF_FORMAT, "the zip file lacks its 64-bit end record");
    const uint64_t record = get(bytes + locator + 8, 8);
    if (!starts(zip, record, END64_BYTES, 0x06064b50) || record + END64_BYTES > locator ||
        get(bytes + record + 4, 8) != locator - record - 12)
        return mmf_fail(ctx, MMF_FORMAT, "the zip file's 64-bit end record is damaged");
    if (get(bytes + record + 16, 8) != 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "a zip file in several volumes");
    zip->n_entries = get(bytes + record + 32, 8);
    *size = get(bytes + record + 40, 8);
    zip->start = get(bytes + record + 48, 8);
    *end = record;
    return MMF_OK;
}

mmf_status mmf_zip_open(mmf_ctx *ctx, mmf_zip *zip, const void *bytes, size_t n_bytes)
{
    *zip = (mmf_zip){.bytes = bytes, .n_bytes = n_bytes};
    uint64_t end = 0;
    if (!find_end(zip, &end))
        return mmf_fail(ctx, MMF_FORMAT,
                        "not a zip file, or cut off: its directory is not found at the end");
    const unsigned char *const record = zip->bytes + end;
    const uint64_t volumes = get(record + 4, 4);
    zip->n_entries = get(record + 10, 2);
    uint64_t size = get(record + 12, 4);
    zip->start = get(record + 16, 4);
    if (zip->n_entries == FIELD16 || size == FIELD32 || zip->start == FIELD32)
        MMF_TRY(read_end64(ctx, zip, &end, &size));
    else if (volumes != 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "a zip file in several volumes");
    if (zip->start > end || size != end - zip->start || zip->n_entries > size / ENTRY_BYTES)
        return mmf_fail(ctx, MMF_FORMAT, "the zip directory is not where its end record says");
    zip->at = zip->start;
    zip->end = end;
    return MMF_OK;
}

/* Values that do not fit into 32 bits stand in an extra field, in this order. */
static bool read_extra64(const unsigned char *extra, size_t n_extra, uint64_t *const fields[3])
{
    while (n_extra >= 4) {
        const size_t n = (size_t)get(extra + 2, 2);
        if (n > n_extra - 4)
            return false;
        if (get(extra, 2) == 1) {
            size_t at = 0;
            for (size_t i = 0; i < 3; i++) {
                if (*fields[i] != FIELD32)
                    continue;
                if (n - at < 8)
                    return false;
                *fields[i] = get(extra + 4 + at, 8);
                at += 8;
            }
            return true;
        }
        extra += 4 + n;
        n_extra -= 4 + n;
    }
    return false;
}

mmf_status mmf_zip_next(mmf_ctx *ctx, mmf_zip *zip, mmf_zip_member *out)
{
    if (zip->end - zip->at < ENTRY_BYTES || !starts(zip, zip->at, ENTRY_BYTES, 0x02014b50))
        return mmf_fail(ctx, MMF_FORMAT, "the zip directory ends early or is damaged");
    const unsigned char *const entry = zip->bytes + zip->at;
    const uint64_t n_name = get(entry + 28, 2), n_extra = get(entry + 30, 2);
    const uint64_t n_entry = ENTRY_BYTES + n_name + n_extra + get(entry + 32, 2);
    if (n_entry > zip->end - zip->at)
        return mmf_fail(ctx, MMF_FORMAT, "an entry of the zip directory reaches beyond its end");
    const unsigned flags = (unsigned)get(entry + 8, 2);
    *out = (mmf_zip_member){.name = (const char *)entry + ENTRY_BYTES,
                            .n_name = (size_t)n_name,
                            .header = get(entry + 42, 4),
                            .stored_bytes = get(entry + 20, 4),
                            .bytes = get(entry + 24, 4),
                            .crc = (uint32_t)get(entry + 16, 4),
                            .method = (unsigned)get(entry + 10, 2),
                            .encrypted = (flags & ENCRYPTED_FLAG) != 0,
                            .late_sizes = (flags & LATE_SIZES_FLAG) != 0};
    uint64_t *const fields[3] = {&out->bytes, &out->stored_bytes, &out->header};
    const bool wide =
        out->bytes == FIELD32 || out->stored_bytes == FIELD32 || out->header == FIELD32;
    if (wide && !read_extra64(entry + ENTRY_BYTES + n_name, (size_t)n_extra, fields))
        return mmf_fail(ctx, MMF_FORMAT, "an entry of the zip directory lacks its 64-bit sizes");
    zip->at += n_entry;
    return MMF_OK;
}

mmf_status mmf_zip_finish(mmf_ctx *ctx, const mmf_zip *zip)
{
    if (zip->at != zip->end)
        return mmf_fail(ctx, MMF_FORMAT, "the zip directory goes on after its last entry");
    return MMF_OK;
}

mmf_status mmf_zip_locate(mmf_ctx *ctx, mmf_zip *zip, const mmf_zip_member *member,
                          size_t *position)
{
    const uint64_t header = member->header;
    if (!starts(zip, header, LOCAL_BYTES, 0x04034b50))
        return mmf_fail(ctx, MMF_FORMAT, "the member's own header is not where it should be");
    const unsigned char *const local = zip->bytes + header;
    const uint64_t n_name = get(local + 26, 2);
    const uint64_t n_header = LOCAL_BYTES + n_name + get(local + 28, 2);
    if (header > zip->start || n_header > zip->start - header ||
        member->stored_bytes > zip->start - header - n_header)
        return mmf_fail(ctx, MMF_FORMAT, "the member claims %llu bytes beyond the end of the data",
                        (unsigned long long)member->stored_bytes);
    const uint64_t stored = get(local + 18, 4), bytes = get(local + 22, 4);
    const bool same_sizes =
        member->late_sizes || (get(local + 14, 4) == member->crc &&
                               (stored == FIELD32 || stored == member->stored_bytes) &&
                               (bytes == FIELD32 || bytes == member->bytes));
    if (n_name != member->n_name ||
        memcmp(local + LOCAL_BYTES, member->name, member->n_name) != 0 ||
        get(local + 8, 2) != member->method || !same_sizes)
        return mmf_fail(ctx, MMF_FORMAT, "the member's own header contradicts the directory");
    zip->n_stored += n_header + member->stored_bytes;
    if (zip->n_stored > zip->start)
        return mmf_fail(ctx, MMF_FORMAT, "members of the zip file overlap");
    *position = (size_t)(header + n_header);
    return MMF_OK;
}
