/* columns.h: characters of text as they stand in a terminal. */
#ifndef MMFUSE_REPORT_COLUMNS_H
#define MMFUSE_REPORT_COLUMNS_H

#include <stddef.h>

/** Columns of the first character. @param text  not empty   @param n_bytes  receives its length */
size_t mmf_text_character(const char *text, size_t *n_bytes);

#endif
