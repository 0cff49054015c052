/* plot_points.c: points over two axes: trade-offs, calibration, predicted against true. */
#include <math.h>
#include <string.h>

#include "report/plots.h"

#define PATH_WIDTH 1000.0
#define WIDE_AREA 780.0 /* pixels that the area has at least on a wide page */
#define MOST_NAMES 64

typedef struct box {
    double x0, x1, y0, y1;
} box;

static bool overlap(const box *a, const box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

static box point_box(const mmf_point_plot *plot, const mmf_point *p)
{
    const double x = WIDE_AREA * mmf_scale_at(&plot->x, p->x);
    const double y = plot->height * (1 - mmf_scale_at(&plot->y, p->y));
    return (box){x - p->radius, x + p->radius, y - p->radius, y + p->radius};
}

/* Names go to the right of their point, else to the left, else they are left to the table. */
static void draw_names(mmf_text *out, const mmf_point_plot *plot)
{
    box taken[MOST_NAMES];
    size_t n = 0;
    for (size_t i = 0; i < plot->n_points && n < MOST_NAMES; i++) {
        const mmf_point *const p = &plot->points[i];
        if (!p->name)
            continue;
        const double width = MMF_CHARACTER * (double)mmf_html_width(p->name);
        const box at = point_box(plot, p);
        for (int left = 0; left < 2; left++) {
            const box name = {left ? at.x0 - width - 6 : at.x1 + 4,
                              left ? at.x0 - 4 : at.x1 + 6 + width, at.y0, at.y1};
            bool free = name.x0 >= 0 && name.x1 <= WIDE_AREA;
            for (size_t k = 0; free && k < plot->n_points; k++) {
                const box other = point_box(plot, &plot->points[k]);
                free = k == i || !overlap(&name, &other);
            }
            for (size_t k = 0; free && k < n; k++)
                free = !overlap(&name, &taken[k]);
            if (!free)
                continue;
            taken[n++] = name;
            mmf_text_add(out, "<text class=\"value wide%s\" x=\"%.2f%%\" dx=\"%.1f\" y=\"%.1f\">",
                         left ? " end" : "", 100 * mmf_scale_at(&plot->x, p->x),
                         left ? -p->radius - 5 : p->radius + 5, (at.y0 + at.y1) / 2 + 4);
            mmf_html_text(out, p->name);
            mmf_text_add(out, "</text>");
            break;
        }
    }
}

static void draw_point(mmf_text *out, const mmf_point_plot *plot, const mmf_point *p)
{
    const double x = 100 * mmf_scale_at(&plot->x, p->x);
    const double y = plot->height * (1 - mmf_scale_at(&plot->y, p->y));
    mmf_text_add(out,
                 "<g class=\"mark spot%s\"><circle cx=\"%.2f%%\" cy=\"%.1f\" r=\"%.1f\"/><title>",
                 p->strong ? " strong" : "", x, y, p->radius);
    mmf_html_text(out, p->title);
    mmf_text_add(out, "</title>");
    if (p->number)
        mmf_text_add(out, "<text class=\"mid\" x=\"%.2f%%\" y=\"%.1f\">%d</text>", x, y + 4,
                     p->number);
    mmf_text_add(out, "</g>");
}

/* The best y that any x up to here reaches. */
static void draw_stairs(mmf_text *out, const mmf_point_plot *plot)
{
    bool pen = false;
    double last = 0;
    mmf_text_add(out, "<path class=\"line stairs\" d=\"");
    for (size_t i = 0; i < plot->n_points; i++) {
        const mmf_point *const p = &plot->points[i];
        if (!p->strong)
            continue;
        const double x = PATH_WIDTH * mmf_scale_at(&plot->x, p->x);
        const double y = plot->height * (1 - mmf_scale_at(&plot->y, p->y));
        if (pen)
            mmf_text_add(out, "L%.1f %.1f", x, last);
        mmf_text_add(out, "%s%.1f %.1f", pen ? "L" : "M", x, y);
        last = y;
        pen = true;
    }
    if (pen)
        mmf_text_add(out, "L%.1f %.1f", PATH_WIDTH, last);
    mmf_text_add(out, "\"/>");
}

static void draw_diagonal(mmf_text *out, const mmf_point_plot *plot)
{
    const double low = fmax(plot->x.low, plot->y.low), high = fmin(plot->x.high, plot->y.high);
    if (low >= high)
        return;
    mmf_text_add(out, "<line class=\"base\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" y2=\"%.1f\"/>",
                 100 * mmf_scale_at(&plot->x, low), 100 * mmf_scale_at(&plot->x, high),
                 plot->height * (1 - mmf_scale_at(&plot->y, low)),
                 plot->height * (1 - mmf_scale_at(&plot->y, high)));
}

void mmf_point_plot_draw(mmf_text *out, const mmf_point_plot *plot)
{
    mmf_figure figure = {.id = plot->id,
                         .title = plot->title,
                         .note = plot->note,
                         .is_panel = plot->is_panel,
                         .top = 28,
                         .height = plot->height,
                         .bottom = 44,
                         .left = 50,
                         .left_narrow = 50,
                         .right = 24,
                         .right_narrow = 24,
                         .x_axis = plot->x_axis,
                         .y_axis = plot->y_axis,
                         .x = &plot->x,
                         .y = &plot->y,
                         .x_text = plot->x_text};
    mmf_figure_open(out, &figure);
    if (plot->diagonal)
        draw_diagonal(out, plot);
    if (plot->stairs) {
        mmf_text_add(out,
                     "<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\" width=\"100%%\" "
                     "height=\"%.0f\" overflow=\"visible\">",
                     PATH_WIDTH, plot->height, plot->height);
        draw_stairs(out, plot);
        mmf_text_add(out, "</svg>");
    }
    for (int strong = 0; strong < 2; strong++) {
        for (size_t i = 0; i < plot->n_points; i++) {
            if (plot->points[i].strong == (strong == 1))
                draw_point(out, plot, &plot->points[i]);
        }
    }
    draw_names(out, plot);
    mmf_figure_end_plot(out);
}
