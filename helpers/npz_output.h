/* npz_output.h: the npz that a helper program writes to its standard output. */
#ifndef MMFUSE_HELPERS_NPZ_OUTPUT_H
#define MMFUSE_HELPERS_NPZ_OUTPUT_H

#include "mmfuse/io.h"

typedef mmf_status npz_fill(void *user, mmf_npz_writer *writer);

/**
 * Lets `fill` write its arrays, to standard output or, where that cannot seek (a pipe), by way of a
 * temporary file.
 */
mmf_status npz_output(mmf_ctx *ctx, npz_fill *fill, void *user);
/** An array of fixed-width cells from `n` strings. */
mmf_status npz_add_strings(mmf_ctx *ctx, mmf_npz_writer *writer, const char *name,
                           const char *const *strings, int64_t n);

#endif
