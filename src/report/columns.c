/* columns.c: see columns.h. */
#include "report/columns.h"

#include <string.h>

#include "data/unicode.h"
#include "io/utf8.h"
#include "mmfuse/tool.h"

size_t mmf_text_character(const char *text, size_t *n_bytes)
{
    uint32_t code = MMF_UTF8_REPLACEMENT; /* what is shown of a byte that is no text */
    const size_t n = mmf_utf8_sequence(text, strnlen(text, 4), &code);
    *n_bytes = n ? n : 1;
    return (size_t)mmf_unicode_columns(code);
}

size_t mmf_text_columns(const char *text)
{
    size_t width = 0, n_bytes = 0;
    for (; *text; text += n_bytes)
        width += mmf_text_character(text, &n_bytes);
    return width;
}
