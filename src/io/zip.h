/*
 * zip.h: the directory of a zip file in memory.
 *
 * Read by hand: Debian's minizip 1.1 mistakes 64-bit sizes on 64-bit machines, and no common zip
 * library tells where a stored member lies, which mapping needs. Format: PKWARE APPNOTE 6.3.
 */
#ifndef MMFUSE_IO_ZIP_H
#define MMFUSE_IO_ZIP_H

#include "mmfuse/base.h"

#define MMF_ZIP_STORED 0
#define MMF_ZIP_DEFLATED 8

/** A walk through the directory. */
typedef struct mmf_zip {
    const unsigned char *bytes;
    uint64_t n_bytes, n_entries;
    uint64_t start, at, end; /* of the directory */
    uint64_t n_stored;       /* bytes of the members so far: more than the file means overlaps */
} mmf_zip;

/** Borrowed from the file. */
typedef struct mmf_zip_member {
    const char *name;
    size_t n_name;
    uint64_t header; /* where its own header lies */
    uint64_t stored_bytes, bytes;
    uint32_t crc;
    unsigned method;
    bool encrypted, late_sizes; /* late: sizes stand behind the data, not in the own header */
} mmf_zip_member;

/** @errors FORMAT (no zip file, cut off, contradictions), UNSUPPORTED (several volumes) */
mmf_status mmf_zip_open(mmf_ctx *ctx, mmf_zip *zip, const void *bytes, size_t n_bytes);
/** Reads the next of `n_entries` entries of the directory. @errors FORMAT */
mmf_status mmf_zip_next(mmf_ctx *ctx, mmf_zip *zip, mmf_zip_member *out);
/** After the last entry: the directory must end here. @errors FORMAT */
mmf_status mmf_zip_finish(mmf_ctx *ctx, const mmf_zip *zip);
/** Checks the member's own header and tells where its data lie. @errors FORMAT */
mmf_status mmf_zip_locate(mmf_ctx *ctx, mmf_zip *zip, const mmf_zip_member *member,
                          size_t *position);

#endif
