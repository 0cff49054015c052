/*
 * npy.h: the header of numpy's array format, versions 1 to 3, and its data as mmf_array.
 *
 * Format: numpy enhancement proposal 1.
 */
#ifndef MMFUSE_IO_NPY_H
#define MMFUSE_IO_NPY_H

#include "base/text.h"
#include "mmfuse/base.h"

#define MMF_NPY_PREFIX_BYTES 12        /* magic, version and the longer form of the length */
#define MMF_NPY_MAX_HEADER_BYTES 65536 /* numpy itself reads at most 10,000 */
#define MMF_NPY_ALIGNMENT 64

typedef struct mmf_npy {
    mmf_array array;     /* without data; U cells count 4 bytes a character until converted */
    size_t header_bytes; /* from the magic to the first byte of the data */
    size_t data_bytes;
    bool big_endian, fortran_order, utf32;
} mmf_npy;

/** Bytes of the whole header, told by its first MMF_NPY_PREFIX_BYTES (or fewer, if that is all). */
mmf_status mmf_npy_header_size(mmf_ctx *ctx, const unsigned char *prefix, size_t n_bytes,
                               size_t *out);

/**
 * Reads a whole header.
 *
 * @errors  FORMAT (not a header of this format), LIMIT (over 6 dimensions or max_bytes of data),
 *          UNSUPPORTED (Python objects, structures, complex numbers, times)
 */
mmf_status mmf_npy_parse(mmf_ctx *ctx, const unsigned char *bytes, size_t n_bytes, size_t max_bytes,
                         mmf_npy *out);

/**
 * Completes `array` over `data_bytes` of file data: the bytes themselves where they serve as they
 * are, else a converted copy (byte order, column order, UTF-32 to UTF-8, broken UTF-8).
 *
 * @param owned  the copy, to be freed with mmf_free; NULL when the data serve as they are
 */
mmf_status mmf_npy_convert(mmf_ctx *ctx, const mmf_npy *npy, const unsigned char *data,
                           mmf_array *array, void **owned);

/**
 * Appends the header of `array` to `text`, padded so that data after it stay aligned. A string
 * array is described as U cells of `n_characters`.
 */
void mmf_npy_write_header(mmf_text *text, const mmf_array *array, size_t n_characters);

#endif
