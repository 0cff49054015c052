/* utf8.c: see utf8.h. Overlong forms, surrogates and values beyond U+10FFFF are not well-formed. */
#include "io/utf8.h"

#include <string.h>

size_t mmf_utf8_sequence(const char *text, size_t n_bytes, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (n_bytes == 0)
        return 0;
    const unsigned char first = (unsigned char)text[0];
    if (first < 0x80) {
        *code = first;
        return 1;
    }
    const size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc0 || first >= 0xf8 || n_bytes < n)
        return 0;
    uint32_t value = first & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        const unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (next & 0x3fu);
    }
    if (value < smallest[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *code = value;
    return n;
}

/* Eight bytes of plain ASCII: most of a large table is numbers. */
static bool starts_plain(const char *text, size_t n_bytes)
{
    uint64_t word = 0;
    if (n_bytes < sizeof word)
        return false;
    memcpy(&word, text, sizeof word);
    return (word & UINT64_C(0x8080808080808080)) == 0;
}

size_t mmf_utf8_first_broken(const char *text, size_t n_bytes)
{
    uint32_t code = 0;
    for (size_t i = 0; i < n_bytes;) {
        const size_t n = starts_plain(text + i, n_bytes - i)
                             ? sizeof(uint64_t)
                             : mmf_utf8_sequence(text + i, n_bytes - i, &code);
        if (n == 0)
            return i;
        i += n;
    }
    return n_bytes;
}

bool mmf_utf8_valid(const char *text, size_t n_bytes)
{
    return mmf_utf8_first_broken(text, n_bytes) == n_bytes;
}

void mmf_utf8_repair(char *text, size_t n_bytes)
{
    uint32_t code = 0;
    for (size_t i = 0; i < n_bytes;) {
        const size_t n = mmf_utf8_sequence(text + i, n_bytes - i, &code);
        if (n == 0)
            text[i] = '?';
        i += n ? n : 1;
    }
}

size_t mmf_utf8_encode(uint32_t code, char out[4])
{
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        code = MMF_UTF8_REPLACEMENT;
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)((0xf00 >> n & 0xf0) | code);
    return n;
}
