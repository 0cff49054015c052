/* text.h: a growing string, numbers in the C locale, comparison of names, and the nearest one to a
 * misspelt name. */
#ifndef MMFUSE_BASE_TEXT_H
#define MMFUSE_BASE_TEXT_H

#include "mmfuse/base.h"

/** Zero-initialise with a context; `data` is NULL until something was added. */
typedef struct mmf_text {
    mmf_ctx *ctx;
    char *data;
    size_t length, capacity;
    mmf_status status; /* sticky: the first failure to grow */
} mmf_text;

void mmf_text_add(mmf_text *text, const char *format, ...) MMF_PRINTF(2, 3);
void mmf_text_add_bytes(mmf_text *text, const char *bytes, size_t n_bytes);
void mmf_text_clear(mmf_text *text);

/**
 * The candidate closest to `name` by edit distance if it is close enough to be a misspelling, else
 * NULL. `candidates` holds `n` strings; the result is one of them.
 */
const char *mmf_text_nearest(const char *name, const char *const *candidates, size_t n);

/** Whether a list "a,b" has the name; NULL has none. */
bool mmf_text_list_has(const char *list, const char *name);

/** Whether cell `i` of an array of texts is `text`, without the zeros that fill it. */
bool mmf_text_is_cell(const char *text, const mmf_array *cells, int64_t i);

/** Parses all of `text` as a finite or non-finite number in the C locale; false if it is none. */
bool mmf_text_number(const char *text, size_t n_bytes, double *out);

#endif
