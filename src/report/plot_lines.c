/* plot_lines.c: curves with their names at the right ends. */
#include <math.h>

#include "report/plots.h"

#define LABEL_GAP 15.0 /* between names */
#define MOST_LABELS 40
#define Y_TICKS 4
#define PATH_WIDTH 1000.0 /* of the drawing that is stretched over the area */

typedef struct end_label {
    const mmf_series *series;
    double y, place; /* end of the line, and of its name */
} end_label;

static double last_value(const mmf_series *s, double *x)
{
    for (size_t i = s->n; i-- > 0;) {
        if (isfinite(s->y[i])) {
            *x = s->x[i];
            return s->y[i];
        }
    }
    return NAN;
}

/* In order of height, pushed apart, and back up where they would leave the plot. */
static size_t place_labels(const mmf_line_plot *plot, end_label labels[MOST_LABELS])
{
    size_t n = 0;
    for (size_t i = 0; i < plot->n_series && n < MOST_LABELS; i++) {
        double x = 0;
        const double value = last_value(&plot->series[i], &x);
        if (!plot->series[i].label || isnan(value))
            continue;
        const double y = plot->height * (1 - mmf_scale_at(&plot->y, value));
        size_t k = n++;
        for (; k > 0 && labels[k - 1].y > y; k--)
            labels[k] = labels[k - 1];
        labels[k] = (end_label){&plot->series[i], y, y};
    }
    for (size_t i = 1; i < n; i++)
        labels[i].place = fmax(labels[i].place, labels[i - 1].place + LABEL_GAP);
    double limit = plot->height + 4;
    for (size_t i = n; i-- > 0; limit = labels[i].place - LABEL_GAP)
        labels[i].place = fmin(labels[i].place, limit);
    return n;
}

static void draw_label(mmf_text *out, const mmf_line_plot *plot, const end_label *label)
{
    double x = 0;
    last_value(label->series, &x);
    mmf_text_add(out,
                 "<line class=\"leader\" x1=\"%.2f%%\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/>"
                 "<svg x=\"100%%\" overflow=\"visible\"><line class=\"leader c%d\" x1=\"0\" "
                 "x2=\"12\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"value\" x=\"16\" y=\"%.1f\">"
                 "<title>",
                 100 * mmf_scale_at(&plot->x, x), label->y, label->y, label->series->colour,
                 label->y, label->place, label->place + 4);
    mmf_html_text(out, label->series->label);
    mmf_text_add(out, "</title>");
    mmf_html_short(out, label->series->label, 12);
    mmf_text_add(out, "</text></svg>");
}

static void draw_path(mmf_text *out, const mmf_line_plot *plot, const mmf_series *s)
{
    size_t n = 0;
    bool pen = false;
    mmf_text_add(out, "<path class=\"mark line c%d%s\" d=\"", s->colour,
                 s->dashed ? " dashed" : "");
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[i])) {
            pen = false;
            continue;
        }
        mmf_text_add(out, "%s%.1f %.1f", pen ? "L" : "M",
                     PATH_WIDTH * mmf_scale_at(&plot->x, s->x[i]),
                     plot->height * (1 - mmf_scale_at(&plot->y, s->y[i])));
        pen = true;
        n++;
    }
    mmf_text_add(out, "\" data-points=\"%zu\"/>", n);
}

static void draw_nodes(mmf_text *out, const mmf_line_plot *plot, const mmf_series *s)
{
    for (size_t i = 0; s->nodes && i < s->n; i++) {
        char x[MMF_HTML_NUMBER_BYTES], y[MMF_HTML_NUMBER_BYTES];
        if (!isfinite(s->y[i]))
            continue;
        mmf_text_add(out, "<circle class=\"node c%d\" cx=\"%.2f%%\" cy=\"%.1f\" r=\"3\"><title>",
                     s->colour, 100 * mmf_scale_at(&plot->x, s->x[i]),
                     plot->height * (1 - mmf_scale_at(&plot->y, s->y[i])));
        mmf_html_text(out, s->label);
        mmf_text_add(out, " at %s: %s</title></circle>", mmf_html_number(x, s->x[i]),
                     mmf_html_number(y, s->y[i]));
    }
    if (isfinite(s->mark_x) && isfinite(s->mark_y))
        mmf_text_add(out, "<circle class=\"chosen c%d\" cx=\"%.2f%%\" cy=\"%.1f\" r=\"4.5\"/>",
                     s->colour, 100 * mmf_scale_at(&plot->x, s->mark_x),
                     plot->height * (1 - mmf_scale_at(&plot->y, s->mark_y)));
}

void mmf_line_plot_draw(mmf_text *out, const mmf_line_plot *plot)
{
    end_label labels[MOST_LABELS];
    size_t width = 0;
    for (size_t i = 0; i < plot->n_series; i++) {
        const size_t n = mmf_html_width(plot->series[i].label);
        width = n > width ? n : width;
    }
    mmf_figure figure = {.id = plot->id,
                         .title = plot->title,
                         .note = plot->note,
                         .is_panel = plot->is_panel,
                         .top = 28,
                         .height = plot->height,
                         .bottom = plot->x_axis ? 44 : 26,
                         .left = mmf_figure_tick_gutter(&plot->y, Y_TICKS),
                         .right = 10 + mmf_figure_gutter(width, 12),
                         .x_axis = plot->x_axis,
                         .y_axis = plot->y_axis,
                         .x = &plot->x,
                         .y = &plot->y,
                         .x_ticks = 5,
                         .y_ticks = Y_TICKS};
    figure.left_narrow = figure.left;
    figure.right_narrow = figure.right;
    mmf_figure_open(out, &figure);
    mmf_text_add(out,
                 "<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\" width=\"100%%\" "
                 "height=\"%.0f\" overflow=\"visible\">",
                 PATH_WIDTH, plot->height, plot->height);
    for (size_t i = 0; i < plot->n_series; i++)
        draw_path(out, plot, &plot->series[i]);
    mmf_text_add(out, "</svg>");
    for (size_t i = 0; i < plot->n_series; i++)
        draw_nodes(out, plot, &plot->series[i]);
    const size_t n = place_labels(plot, labels);
    for (size_t i = 0; i < n; i++)
        draw_label(out, plot, &labels[i]);
    mmf_figure_end_plot(out);
}
