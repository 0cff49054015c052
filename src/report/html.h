/* html.h: text, numbers and tables of the HTML report. Whatever comes from data goes through
 * mmf_html_text or a cell; mmf_text_add writes our own markup only. */
#ifndef MMFUSE_REPORT_HTML_H
#define MMFUSE_REPORT_HTML_H

#include <jansson.h>

#include "base/text.h"

#define MMF_HTML_NUMBER_BYTES 40

/** Adds `text` so that it means itself in content and in quoted attributes. NULL adds nothing. */
void mmf_html_text(mmf_text *out, const char *text);
/** As mmf_html_text, at most `n` wide, the last an ellipsis where some were left out. */
void mmf_html_short(mmf_text *out, const char *text, size_t n);
/** Of UTF-8 text, in characters of usual width: ideographs are two. NULL has none. */
size_t mmf_html_width(const char *text);

/** As mmf_number_text writes it; "n/a" for NaN. The minus is a real one. Returns `out`. */
const char *mmf_html_number(char out[MMF_HTML_NUMBER_BYTES], double value);
/** With a plus where positive. */
const char *mmf_html_signed(char out[MMF_HTML_NUMBER_BYTES], double value);
/** "41 us" with the letter mu, "1.2 ms", "3 s". */
const char *mmf_html_duration(char out[MMF_HTML_NUMBER_BYTES], double seconds);
/** "1,234,567". */
const char *mmf_html_count(char out[MMF_HTML_NUMBER_BYTES], double value);

/* ---- Tables ------------------------------------------------------------------------------ */

/** A table behind a line that opens it. @param heads  `n` of them; the first column is text */
void mmf_table_open(mmf_text *out, const char *summary, const char *const *heads, size_t n);
void mmf_table_row(mmf_text *out);
void mmf_table_name(mmf_text *out, const char *name); /**< head of a row */
void mmf_table_text(mmf_text *out, const char *text);
void mmf_table_number(mmf_text *out, double value);
void mmf_table_close(mmf_text *out);

/* ---- JSON -------------------------------------------------------------------------------- */

/** NaN unless it is a number. */
double mmf_json_real(const json_t *value);
double mmf_json_get_real(const json_t *object, const char *key);
/** `standard` unless it is a string. */
const char *mmf_json_get_text(const json_t *object, const char *key, const char *standard);

#endif
