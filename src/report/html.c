/* html.c: see html.h. */
#include "report/html.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "mmfuse/tool.h"
#include "report/columns.h"
#include "report/number.h"

#define MINUS "\xE2\x88\x92"
#define ELLIPSIS "\xE2\x80\xA6"
#define MICRO "\xC2\xB5"
#define THIN_SPACE "\xC2\xA0"

/* ---- Text -------------------------------------------------------------------------------- */

static void add_byte(mmf_text *out, char c)
{
    switch (c) {
    case '&':
        mmf_text_add(out, "&amp;");
        break;
    case '<':
        mmf_text_add(out, "&lt;");
        break;
    case '>':
        mmf_text_add(out, "&gt;");
        break;
    case '"':
        mmf_text_add(out, "&quot;");
        break;
    case '\'':
        mmf_text_add(out, "&#39;");
        break;
    default:
        /* Control characters are no characters of HTML. */
        mmf_text_add_bytes(out, (unsigned char)c < ' ' && c != '\n' ? " " : &c, 1);
    }
}

void mmf_html_text(mmf_text *out, const char *text)
{
    for (; text && *text; text++)
        add_byte(out, *text);
}

size_t mmf_html_width(const char *text)
{
    return text ? mmf_text_columns(text) : 0;
}

void mmf_html_short(mmf_text *out, const char *text, size_t n)
{
    const bool cut = mmf_html_width(text) > n;
    size_t left = cut ? n - 1 : n;
    while (text && *text) {
        size_t n_bytes = 0;
        const size_t width = mmf_text_character(text, &n_bytes);
        if (width > left)
            break;
        left -= width;
        for (size_t i = 0; i < n_bytes; i++)
            add_byte(out, *text++);
    }
    if (cut)
        mmf_text_add(out, ELLIPSIS);
}

/* ---- Numbers ----------------------------------------------------------------------------- */

static const char *with_sign(char out[MMF_HTML_NUMBER_BYTES], double value, const char *plus)
{
    char text[MMF_NUMBER_BYTES];
    mmf_number_text(text, fabs(value));
    const char *const sign = strcmp(text, "0.000") == 0 ? "" : value < 0 ? MINUS : plus;
    if (isnan(value))
        snprintf(out, MMF_HTML_NUMBER_BYTES, "n/a");
    else
        snprintf(out, MMF_HTML_NUMBER_BYTES, "%s%s", sign, text);
    return out;
}

const char *mmf_html_number(char out[MMF_HTML_NUMBER_BYTES], double value)
{
    return with_sign(out, value, "");
}

const char *mmf_html_signed(char out[MMF_HTML_NUMBER_BYTES], double value)
{
    return with_sign(out, value, "+");
}

const char *mmf_html_duration(char out[MMF_HTML_NUMBER_BYTES], double seconds)
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, MICRO "s"}};
    size_t i = 0;
    while (i < 2 && seconds < 0.9995 * units[i].unit)
        i++;
    const double x = seconds / units[i].unit;
    const int decimals = x >= 9.95 || x == round(x) ? 0 : 1;
    if (isnan(seconds))
        snprintf(out, MMF_HTML_NUMBER_BYTES, "n/a");
    else
        snprintf(out, MMF_HTML_NUMBER_BYTES, "%.*f" THIN_SPACE "%s", decimals, x, units[i].name);
    return out;
}

const char *mmf_html_count(char out[MMF_HTML_NUMBER_BYTES], double value)
{
    char digits[MMF_HTML_NUMBER_BYTES / 2];
    if (isnan(value) || fabs(value) > 1e15)
        return mmf_html_number(out, value);
    const int n = snprintf(digits, sizeof digits, "%.0f", fabs(value));
    size_t used = 0;
    if (value < 0)
        used += (size_t)snprintf(out, MMF_HTML_NUMBER_BYTES, MINUS);
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

/* ---- Tables ------------------------------------------------------------------------------ */

void mmf_table_open(mmf_text *out, const char *summary, const char *const *heads, size_t n)
{
    mmf_text_add(out, "<details><summary>");
    mmf_html_text(out, summary);
    mmf_text_add(out, "</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                      "aria-label=\"");
    mmf_html_text(out, summary);
    mmf_text_add(out, "\"><table><thead><tr>");
    for (size_t i = 0; i < n; i++) {
        mmf_text_add(out, "<th scope=\"col\">");
        mmf_html_text(out, heads[i]);
        mmf_text_add(out, "</th>");
    }
    mmf_text_add(out, "</tr></thead><tbody>");
}

void mmf_table_row(mmf_text *out)
{
    mmf_text_add(out, "<tr>"); /* its end is implied */
}

void mmf_table_name(mmf_text *out, const char *name)
{
    mmf_text_add(out, "<th scope=\"row\">");
    mmf_html_text(out, name);
    mmf_text_add(out, "</th>");
}

void mmf_table_text(mmf_text *out, const char *text)
{
    mmf_text_add(out, "<td>");
    mmf_html_text(out, text);
    mmf_text_add(out, "</td>");
}

void mmf_table_number(mmf_text *out, double value)
{
    char text[MMF_HTML_NUMBER_BYTES];
    mmf_table_text(out, mmf_html_number(text, value));
}

void mmf_table_close(mmf_text *out)
{
    mmf_text_add(out, "</tbody></table></div></details>\n");
}

/* ---- JSON -------------------------------------------------------------------------------- */

double mmf_json_real(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : NAN;
}

double mmf_json_get_real(const json_t *object, const char *key)
{
    return mmf_json_real(json_object_get(object, key));
}

const char *mmf_json_get_text(const json_t *object, const char *key, const char *standard)
{
    const char *const text = json_string_value(json_object_get(object, key));
    return text ? text : standard;
}
