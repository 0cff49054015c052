/*
 * unicode.h: what BERT's tokenizer asks of a code point: its class, its decomposition, its lower
 * case; and its width in a terminal.
 */
#ifndef MMFUSE_DATA_UNICODE_H
#define MMFUSE_DATA_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mmf_code_range {
    uint32_t first, last;
} mmf_code_range;

/** Control, format and private characters, NUL and U+FFFD; tab, line feed and return are none. */
bool mmf_unicode_is_control(uint32_t code);
/** Nonspacing marks (category Mn). */
bool mmf_unicode_is_nonspacing(uint32_t code);
/** Category P, and every ASCII character that is neither letter, digit, space nor control. */
bool mmf_unicode_is_punctuation(uint32_t code);
/** Marks that are not nonspacing and have a combining class. */
bool mmf_unicode_is_sorted(uint32_t code);
/** Has a canonical decomposition and is beyond U+FFFF. */
bool mmf_unicode_is_composed(uint32_t code);
/** Property White_Space. */
bool mmf_unicode_is_space(uint32_t code);
/** Ideographs that BERT makes words of their own; kana and hangul are none. */
bool mmf_unicode_is_ideograph(uint32_t code);

/** False in builds without utf8proc: decomposition and lower case then change ASCII alone, and
 * every code point is one column wide. */
bool mmf_unicode_is_whole(void);
#define MMF_UNICODE_MAX_PARTS 32
/** Canonical decomposition of one code point. @return 1 to MMF_UNICODE_MAX_PARTS */
int mmf_unicode_decompose(uint32_t code, uint32_t out[MMF_UNICODE_MAX_PARTS]);
/** Canonical combining class; marks of a class other than 0 are put in its order. */
int mmf_unicode_combining(uint32_t code);
/** Full lower case without context. @return 1 or 2 */
int mmf_unicode_lower(uint32_t code, uint32_t out[2]);
/** Columns of a terminal: 0 for marks, 2 for ideographs and their kind. */
int mmf_unicode_columns(uint32_t code);

#endif
