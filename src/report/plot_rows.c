/* plot_rows.c: one row a name: bars or points with intervals, or subsets with their members. */
#include <math.h>

#include "report/plots.h"

#define ROW 27.0
#define BAR 15.0
#define MEMBER 20.0  /* width of a column of members */
#define MOST_HEAD 10 /* characters of their heads, which lean */
#define MOST_LABEL 30
#define MOST_LABEL_NARROW 15

static mmf_scale scale_of(const mmf_row_plot *plot)
{
    mmf_scale scale = mmf_scale_empty();
    mmf_scale_include(&scale, plot->base);
    if (plot->from_zero)
        mmf_scale_include(&scale, 0);
    for (size_t i = 0; i < plot->n_rows; i++) {
        const mmf_plot_row *const row = &plot->rows[i];
        mmf_scale_include(&scale, row->value);
        mmf_scale_include(&scale, row->low);
        mmf_scale_include(&scale, row->high);
        for (size_t k = 0; k < row->n_dots; k++)
            mmf_scale_include(&scale, row->dots[k]);
    }
    mmf_scale_round(&scale);
    return scale;
}

static mmf_figure figure_of(const mmf_row_plot *plot, const mmf_scale *scale)
{
    size_t label = 0, text = 0, head = 0;
    for (size_t i = 0; i < plot->n_rows; i++) {
        const size_t a = mmf_html_width(plot->rows[i].label);
        const size_t b = mmf_html_width(plot->rows[i].text);
        label = a > label ? a : label;
        text = b > text ? b : text;
    }
    for (size_t m = 0; m < plot->n_members; m++) {
        const size_t n = mmf_html_width(plot->members[m]);
        head = n > head ? n : head;
    }
    head = head < MOST_HEAD ? head : MOST_HEAD;
    const double leaning = 20 + 0.87 * MMF_CHARACTER * (double)head; /* by 60 degrees */
    const double members = 10 + MEMBER * (double)plot->n_members;
    mmf_figure f = {.id = plot->id,
                    .title = plot->title,
                    .note = plot->note,
                    .is_panel = plot->is_panel,
                    .top = plot->n_members   ? leaning
                           : plot->base_text ? 22
                                             : 8,
                    .height = ROW * (double)plot->n_rows,
                    .bottom = plot->axis ? 42 : 26,
                    .left = plot->n_members ? members : mmf_figure_gutter(label, MOST_LABEL),
                    .left_narrow =
                        plot->n_members ? members : mmf_figure_gutter(label, MOST_LABEL_NARROW),
                    .x_axis = plot->axis,
                    .x = scale};
    f.right = f.right_narrow = mmf_figure_gutter(text, 24);
    return f;
}

static void bar(mmf_text *out, const mmf_scale *x, const mmf_plot_row *row, double base, double y)
{
    const double from = isnan(base) ? x->low : base;
    const double a = mmf_scale_at(x, fmin(from, row->value));
    const double b = mmf_scale_at(x, fmax(from, row->value));
    mmf_text_add(out,
                 "<rect class=\"mark bar%s%s\" x=\"%.2f%%\" width=\"%.2f%%\" y=\"%.1f\" "
                 "height=\"%.1f\"/>",
                 row->strong ? " strong" : "", row->value < from ? " below" : "", 100 * a,
                 100 * (b - a), y - BAR / 2, BAR);
}

static void draw_row(mmf_text *out, const mmf_row_plot *plot, const mmf_scale *x, size_t i)
{
    const mmf_plot_row *const row = &plot->rows[i];
    const double y = ROW * ((double)i + 0.5);
    if (isnan(row->value))
        mmf_text_add(out, "<text class=\"tick\" x=\"0\" dx=\"4\" y=\"%.1f\">no score</text>",
                     y + 4);
    else if (plot->bars)
        bar(out, x, row, plot->base, y);
    if (isfinite(row->low) && isfinite(row->high))
        mmf_text_add(out,
                     "<line class=\"whisker%s\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" "
                     "y2=\"%.1f\"/>",
                     row->strong && !plot->bars ? " strong" : "", 100 * mmf_scale_at(x, row->low),
                     100 * mmf_scale_at(x, row->high), y, y);
    for (size_t k = 0; k < row->n_dots; k++) {
        if (isfinite(row->dots[k]))
            mmf_text_add(out, "<circle class=\"dot\" cx=\"%.2f%%\" cy=\"%.1f\" r=\"2.5\"/>",
                         100 * mmf_scale_at(x, row->dots[k]), y);
    }
    if (!plot->bars && isfinite(row->value))
        mmf_text_add(out, "<circle class=\"mark point%s\" cx=\"%.2f%%\" cy=\"%.1f\" r=\"4.5\"/>",
                     row->strong ? " strong" : "", 100 * mmf_scale_at(x, row->value), y);
    if (row->text[0]) {
        mmf_text_add(out, "<text class=\"value%s\" x=\"100%%\" dx=\"10\" y=\"%.1f\">",
                     row->strong ? " strong" : "", y + 4);
        mmf_html_text(out, row->text);
        mmf_text_add(out, "</text>");
    }
}

static void draw_base(mmf_text *out, const mmf_row_plot *plot, const mmf_scale *x)
{
    if (isnan(plot->base))
        return;
    const double at = 100 * mmf_scale_at(x, plot->base);
    mmf_text_add(out, "<line class=\"base\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"-4\" y2=\"%.1f\"/>",
                 at, at, ROW * (double)plot->n_rows);
    if (!plot->base_text)
        return;
    mmf_text_add(out, "<text class=\"tick %s\" x=\"%.2f%%\" y=\"-9\">",
                 at > 60   ? "end"
                 : at > 25 ? "mid"
                           : "",
                 at);
    mmf_html_text(out, plot->base_text);
    mmf_text_add(out, "</text>");
}

static void draw_members(mmf_text *out, const mmf_row_plot *plot)
{
    for (size_t m = 0; m < plot->n_members; m++) {
        const double x = MEMBER * ((double)m + 0.5 - (double)plot->n_members) - 10;
        mmf_text_add(out,
                     "<text class=\"tick\" transform=\"translate(%.1f %.1f) rotate(-60)\"><title>",
                     x + 3, -8.0);
        mmf_html_text(out, plot->members[m]);
        mmf_text_add(out, "</title>");
        mmf_html_short(out, plot->members[m], MOST_HEAD);
        mmf_text_add(out, "</text>");
        for (size_t i = 0; i < plot->n_rows; i++)
            mmf_text_add(out, "<circle class=\"member%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5.5\"/>",
                         plot->rows[i].members >> m & 1 ? " has" : "", x, ROW * ((double)i + 0.5));
    }
}

void mmf_row_plot_draw(mmf_text *out, const mmf_row_plot *plot)
{
    const mmf_scale x = scale_of(plot);
    const mmf_figure figure = figure_of(plot, &x);
    mmf_figure_open(out, &figure);
    for (size_t i = 0; i < plot->n_rows; i++)
        draw_row(out, plot, &x, i);
    draw_base(out, plot, &x);
    if (plot->n_members)
        draw_members(out, plot);
    for (size_t i = 0; !plot->n_members && i < plot->n_rows; i++)
        mmf_figure_label(out, &figure, plot->rows[i].label, ROW * ((double)i + 0.5),
                         plot->rows[i].strong);
    mmf_figure_end_plot(out);
}
