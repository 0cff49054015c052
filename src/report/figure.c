/* figure.c: see figure.h. */
#include "report/figure.h"

#include <math.h>
#include <stdio.h>

#include "report/number.h"

#define GUTTER_PADDING 20 /* 10 to the axis; the rest for letters that are wider than most */
#define LEAST_TICK_GUTTER 46.0
#define TICK_GAP 8        /* between a text and its axis */
#define NARROW_PAGE 358.0 /* pixels between the margins of a page that is 390 wide */
/* Ticks of an axis that reaches so far, or not as far, have powers of ten. */
#define LARGE_TICK 1e6
#define SMALL_TICK 1e-3

/* ---- Scales ------------------------------------------------------------------------------ */

mmf_scale mmf_scale_empty(void)
{
    return (mmf_scale){.low = INFINITY, .high = -INFINITY};
}

void mmf_scale_include(mmf_scale *scale, double value)
{
    if (!isfinite(value))
        return;
    scale->low = fmin(scale->low, value);
    scale->high = fmax(scale->high, value);
}

/* 1, 2 or 5 times a power of ten, at least `x`. */
static double round_step(double x)
{
    const double power = pow(10, floor(log10(x)));
    const double lead = x / power;
    return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

void mmf_scale_round(mmf_scale *scale)
{
    if (!(scale->low <= scale->high)) {
        *scale = (mmf_scale){.low = scale->is_log ? 0.1 : 0, .high = 1, .is_log = scale->is_log};
        return;
    }
    if (scale->is_log) {
        scale->low *= 0.8;
        scale->high *= 1.25;
        return;
    }
    /* All the same but for rounding, whatever the size. */
    const double size = fmax(fabs(scale->low), fabs(scale->high));
    if (scale->high - scale->low <= 1e-12 * size) {
        const double pad = size > 0 ? 0.1 * size : 0.1;
        scale->low -= pad;
        scale->high += pad;
    }
    const double step = round_step((scale->high - scale->low) / 8);
    scale->low = step * floor(scale->low / step + 1e-9);
    scale->high = step * ceil(scale->high / step - 1e-9);
}

double mmf_scale_at(const mmf_scale *scale, double value)
{
    if (scale->is_log)
        return log(value / scale->low) / log(scale->high / scale->low);
    return (value - scale->low) / (scale->high - scale->low);
}

static int log_ticks(const mmf_scale *scale, double out[MMF_MAX_TICKS])
{
    static const double leads[] = {1, 2, 5};
    const int n_leads = scale->high / scale->low > 200 ? 1 : 3; /* wide: powers of ten are enough */
    const int first = (int)floor(log10(scale->low)), last = (int)floor(log10(scale->high));
    int n = 0;
    for (int power = first; power <= last; power++) {
        for (int i = 0; i < n_leads; i++) {
            const double tick = leads[i] * pow(10, power);
            if (tick >= scale->low && tick <= scale->high && n < MMF_MAX_TICKS)
                out[n++] = tick;
        }
    }
    return n;
}

int mmf_scale_ticks(const mmf_scale *scale, int wanted, double out[MMF_MAX_TICKS])
{
    if (scale->is_log)
        return log_ticks(scale, out);
    const double apart = round_step((scale->high - scale->low) / wanted);
    const double step = scale->is_whole ? fmax(apart, 1) : apart;
    int n = 0;
    const int64_t first = (int64_t)ceil(scale->low / step - 1e-9);
    const int64_t last = (int64_t)floor(scale->high / step + 1e-9);
    for (int64_t k = first; k <= last && n < MMF_MAX_TICKS; k++)
        out[n++] = (double)k * step;
    return n;
}

/* ---- Axes -------------------------------------------------------------------------------- */

/* As many decimals as tell neighbours apart. @param most  the largest size on the axis, by which
 * all of its ticks are written with powers of ten or none is */
static const char *tick_text(char out[MMF_HTML_NUMBER_BYTES], double value, double step,
                             double most)
{
    char text[MMF_NUMBER_BYTES] = "0";
    const double x = fabs(value);
    const bool is_zero = x < 1e-9 * step;
    const bool by_power = most >= LARGE_TICK || most < SMALL_TICK;
    const int decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (!by_power)
        snprintf(text, sizeof text, "%.*f", decimals > 9 ? 9 : decimals, is_zero ? 0 : x);
    else if (!is_zero)
        mmf_number_power(text, x, mmf_number_exponent(x) - mmf_number_exponent(step));
    snprintf(out, MMF_HTML_NUMBER_BYTES, "%s%s", value < 0 && !is_zero ? "\xE2\x88\x92" : "", text);
    return out;
}

typedef struct ticks {
    double at[MMF_MAX_TICKS];
    int n;
    double step, most;
} ticks;

static ticks ticks_of(const mmf_scale *scale, int wanted)
{
    ticks t = {.step = 1};
    t.n = scale ? mmf_scale_ticks(scale, wanted ? wanted : 5, t.at) : 0;
    if (t.n > 1)
        t.step = t.at[1] - t.at[0];
    for (int i = 0; i < t.n; i++)
        t.most = fmax(t.most, fabs(t.at[i]));
    return t;
}

double mmf_figure_tick_gutter(const mmf_scale *scale, int wanted)
{
    const ticks t = ticks_of(scale, wanted);
    size_t width = 0;
    for (int i = 0; i < t.n; i++) {
        char text[MMF_HTML_NUMBER_BYTES];
        const size_t n = mmf_html_width(tick_text(text, t.at[i], t.step, t.most));
        width = n > width ? n : width;
    }
    return fmax(LEAST_TICK_GUTTER, TICK_GAP + MMF_CHARACTER * (double)width);
}

static void x_axis(mmf_text *out, const mmf_figure *f)
{
    const ticks t = ticks_of(f->x, f->x_ticks);
    const double narrow = NARROW_PAGE - f->left_narrow - f->right_narrow;
    double end = -INFINITY; /* of the last text on a narrow page */
    for (int i = 0; i < t.n; i++) {
        char text[MMF_HTML_NUMBER_BYTES];
        const double at = mmf_scale_at(f->x, t.at[i]);
        if (f->x_text)
            f->x_text(text, t.at[i]);
        else
            tick_text(text, t.at[i], t.step, t.most);
        const double half = MMF_CHARACTER * (double)mmf_html_width(text) / 2;
        const bool fits = at * narrow - half >= end;
        end = fits ? at * narrow + half : end;
        mmf_text_add(out,
                     "<line class=\"grid\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"%.1f\"/>"
                     "<text class=\"tick mid%s\" x=\"%.2f%%\" y=\"%.1f\">%s</text>",
                     100 * at, 100 * at, f->height, fits ? "" : " wide", 100 * at, f->height + 17,
                     text);
    }
    if (f->x_axis) {
        mmf_text_add(out, "<text class=\"axis\" x=\"0\" y=\"%.1f\">", f->height + (t.n ? 36 : 18));
        mmf_html_text(out, f->x_axis);
        mmf_text_add(out, "</text>");
    }
}

static void y_axis(mmf_text *out, const mmf_figure *f)
{
    const ticks t = ticks_of(f->y, f->y_ticks);
    for (int i = 0; i < t.n; i++) {
        char text[MMF_HTML_NUMBER_BYTES];
        const double at = f->height * (1 - mmf_scale_at(f->y, t.at[i]));
        if (f->y_text)
            f->y_text(text, t.at[i]);
        else
            tick_text(text, t.at[i], t.step, t.most);
        mmf_text_add(out,
                     "<line class=\"grid\" x1=\"0\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/>"
                     "<text class=\"tick end\" x=\"0\" dx=\"-%d\" y=\"%.1f\">%s</text>",
                     at, at, TICK_GAP, at + 4, text);
    }
}

/* ---- Frame ------------------------------------------------------------------------------- */

static void heading(mmf_text *out, const char *id, const char *title, const char *note, bool panel)
{
    const char *const tag = panel ? "h4" : "h3";
    mmf_text_add(out, "<figure id=\"%s\"%s><figcaption><%s>", id, panel ? " class=\"panel\"" : "",
                 tag);
    mmf_html_text(out, title);
    mmf_text_add(out, "</%s>", tag);
    if (note) {
        mmf_text_add(out, "<p>");
        mmf_html_text(out, note);
        mmf_text_add(out, "</p>");
    }
    mmf_text_add(out, "</figcaption>");
}

void mmf_figure_open(mmf_text *out, const mmf_figure *figure)
{
    heading(out, figure->id, figure->title, figure->note, figure->is_panel);
    mmf_text_add(out,
                 "<div class=\"plot\" role=\"img\" tabindex=\"0\" style=\"--l:%.0fpx;--r:%.0fpx;"
                 "--ln:%.0fpx;--rn:%.0fpx;padding-top:%.0fpx;padding-bottom:%.0fpx\" "
                 "aria-label=\"",
                 figure->left, figure->right, figure->left_narrow, figure->right_narrow,
                 figure->top, figure->bottom);
    mmf_html_text(out, figure->title);
    mmf_text_add(out, "; its numbers are in the table below\"><svg height=\"%.0f\">",
                 figure->height);
    if (figure->y_axis) {
        mmf_text_add(out, "<text class=\"axis\" x=\"0\" dx=\"%.0f\" y=\"-14\">",
                     -figure->left_narrow);
        mmf_html_text(out, figure->y_axis);
        mmf_text_add(out, "</text>");
    }
    y_axis(out, figure);
    x_axis(out, figure);
}

void mmf_figure_end_plot(mmf_text *out)
{
    mmf_text_add(out, "</svg></div>\n");
}

void mmf_figure_close(mmf_text *out)
{
    mmf_text_add(out, "</figure>\n");
}

double mmf_figure_gutter(size_t width, size_t most)
{
    return GUTTER_PADDING + MMF_CHARACTER * (double)(width < most ? width : most);
}

static void label(mmf_text *out, const char *text, double y, double gutter, const char *class)
{
    const double room = (gutter - GUTTER_PADDING) / MMF_CHARACTER + 0.5;
    mmf_text_add(out, "<text class=\"end %s\" x=\"0\" dx=\"-10\" y=\"%.1f\"><title>", class, y + 4);
    mmf_html_text(out, text);
    mmf_text_add(out, "</title>");
    mmf_html_short(out, text, room < 2 ? 2 : (size_t)room);
    mmf_text_add(out, "</text>");
}

void mmf_figure_label(mmf_text *out, const mmf_figure *figure, const char *text, double y,
                      bool strong)
{
    if (figure->left_narrow >= mmf_figure_gutter(mmf_html_width(text), 1000)) {
        label(out, text, y, figure->left_narrow, strong ? "name strong" : "name");
        return;
    }
    label(out, text, y, figure->left, strong ? "name strong wide" : "name wide");
    label(out, text, y, figure->left_narrow, strong ? "name strong narrow" : "name narrow");
}

void mmf_figure_missing(mmf_text *out, const char *id, const char *title, const char *why)
{
    heading(out, id, title, why, false);
    mmf_figure_close(out);
}
