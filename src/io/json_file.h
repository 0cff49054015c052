/* json_file.h: JSON from files that nobody vouches for, with bounds on what it may cost. */
#ifndef MMFUSE_IO_JSON_FILE_H
#define MMFUSE_IO_JSON_FILE_H

#include <jansson.h>

#include "mmfuse/base.h"

/**
 * Parses an object. A JSON value costs far more memory than its text, so its values are bounded.
 *
 * @param max_values  most marks "[", "{" and "," in the text
 * @param out         the caller calls json_decref
 * @errors            LIMIT, FORMAT (no JSON, no object, a name twice); the message does not name
 *                    the file
 */
mmf_status mmf_json_parse(mmf_ctx *ctx, json_t **out, const char *text, size_t n_bytes,
                          size_t max_values);

/** The object in the file at `path`. @errors IO, LIMIT, FORMAT; the message names the file */
mmf_status mmf_json_read(mmf_ctx *ctx, json_t **out, const char *path, size_t max_bytes,
                         size_t max_values);

#endif
