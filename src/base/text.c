/* text.c: see text.h. */
#include "base/text.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES                                                                                 \
    64 /* longer names are not compared: nobody misspells them by a letter or two                  \
        */

static bool reserve(mmf_text *text, size_t extra)
{
    if (text->status != MMF_OK)
        return false;
    const size_t wanted = text->length + extra + 1;
    if (wanted <= text->capacity)
        return true;
    const size_t capacity = wanted < 2 * text->capacity ? 2 * text->capacity : wanted + 64;
    char *grown = mmf_realloc(text->ctx, text->data, capacity);
    if (!grown) {
        text->status = MMF_NOMEM;
        return false;
    }
    text->data = grown;
    text->capacity = capacity;
    return true;
}

void mmf_text_add(mmf_text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n >= 0 && reserve(text, (size_t)n)) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
}

void mmf_text_add_bytes(mmf_text *text, const char *bytes, size_t n_bytes)
{
    if (!reserve(text, n_bytes))
        return;
    memcpy(text->data + text->length, bytes, n_bytes);
    text->length += n_bytes;
    text->data[text->length] = '\0';
}

void mmf_text_clear(mmf_text *text)
{
    mmf_free(text->ctx, text->data);
    *text = (mmf_text){.ctx = text->ctx};
}

static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_BYTES + 1];
    const size_t n_b = strlen(b);
    for (size_t j = 0; j <= n_b; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            const size_t shifted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[n_b];
}

const char *mmf_text_nearest(const char *name, const char *const *candidates, size_t n)
{
    if (strlen(name) > NAME_BYTES)
        return NULL;
    const char *best = NULL;
    size_t best_distance = strlen(name) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        if (strlen(candidates[i]) > NAME_BYTES)
            continue;
        const size_t distance = edit_distance(name, candidates[i]);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}

bool mmf_text_list_has(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at && *at;) {
        const size_t width = strcspn(at, ",");
        if (width == n && memcmp(at, name, n) == 0)
            return true;
        at += width + (at[width] == ',');
    }
    return false;
}

bool mmf_text_is_cell(const char *text, const mmf_array *cells, int64_t i)
{
    size_t width = 0;
    const char *const cell = mmf_array_string(cells, i, &width);
    return strlen(text) == width && memcmp(text, cell, width) == 0;
}

bool mmf_text_number(const char *text, size_t n_bytes, double *out)
{
    char copy[64];
    if (n_bytes == 0 || n_bytes >= sizeof copy)
        return false;
    memcpy(copy, text, n_bytes);
    copy[n_bytes] = '\0';
    if (strpbrk(copy, "xXpP(")) /* hexadecimal and nan(...) are not numbers of a table */
        return false;
    const locale_t c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return false;
    char *end = NULL;
    *out = strtod_l(copy, &end, c_locale);
    freelocale(c_locale);
    return end == copy + n_bytes;
}
