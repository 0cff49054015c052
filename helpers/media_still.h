/*
 * media_still.h: what the containers of JPEG, PNG and WebP say before a decoder is asked: size,
 * orientation, and whether all of the file is there.
 */
#ifndef MMFUSE_HELPERS_MEDIA_STILL_H
#define MMFUSE_HELPERS_MEDIA_STILL_H

#include "mmfuse/base.h"

typedef enum still_format { STILL_JPEG, STILL_PNG, STILL_WEBP } still_format;

typedef struct still_info {
    still_format format;
    int64_t width, height; /* as stored, before the orientation */
    int orientation;       /* 1 to 8, of the EXIF data; 1: upright */
    bool lacks_end;        /* a sequential JPEG whose scan of all components nothing follows: its
                              end marker alone may be missing, or coded data, as decoding tells */
} still_info;

/** @errors UNSUPPORTED (none of the three, or an animation), FORMAT (truncated or damaged) */
mmf_status still_inspect(mmf_ctx *ctx, still_info *out, const unsigned char *bytes, size_t n_bytes);

#endif
