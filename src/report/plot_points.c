/* plot_points.c: points over two axes: trade-offs, calibration, predicted against true. */
#include <math.h>
#include <string.h>

#include "report/plots.h"

#define PATH_WIDTH 1000.0
#define WIDE_AREA 780.0 /* pixels that the area has at least on a wide page */
#define MOST_NAMES 64
#define NAME_HEIGHT 16.0
#define MARGIN 8.0 /* that a name may reach beyond the area above and below */

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

/* ---- Names ------------------------------------------------------------------------------- */

/* Where a name may stand, the best place first: +1 is to the right of the point, and below it. */
static const struct name_side {
    int across, down;
} sides[] = {{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {1, 1}, {1, -1}, {-1, 1}, {-1, -1}};

#define N_SIDES (sizeof sides / sizeof *sides)

typedef struct name_board {
    const mmf_point_plot *plot;
    box taken[MOST_NAMES];
    size_t n;
} name_board;

/* At a corner it only clears a line through the point's middle. */
static box name_box(const box *point, double width, struct name_side side)
{
    const double x = (point->x0 + point->x1) / 2, y = (point->y0 + point->y1) / 2;
    const double left = side.across > 0   ? point->x1 + 4
                        : side.across < 0 ? point->x0 - 6 - width
                                          : x - width / 2 - 1;
    const double off = side.across ? 2 : (point->y1 - point->y0) / 2 + 1;
    const double top = y - NAME_HEIGHT / 2 + side.down * (off + NAME_HEIGHT / 2);
    return (box){left, left + width + 2, top, top + NAME_HEIGHT};
}

static bool is_free(const name_board *board, const box *name, size_t owner)
{
    const mmf_point_plot *const plot = board->plot;
    bool free = name->x0 >= 0 && name->x1 <= WIDE_AREA && name->y0 >= -MARGIN &&
                name->y1 <= plot->height + MARGIN;
    for (size_t k = 0; free && k < plot->n_points; k++) {
        const box other = point_box(plot, &plot->points[k]);
        free = k == owner || !overlap(name, &other);
    }
    for (size_t k = 0; free && k < board->n; k++)
        free = !overlap(name, &board->taken[k]);
    return free;
}

/* Whether the stairs run through it. */
static bool is_crossed(const mmf_point_plot *plot, const box *name)
{
    double last_x = 0, last_y = 0;
    bool pen = false;
    for (size_t i = 0; plot->stairs && i < plot->n_points; i++) {
        if (!plot->points[i].strong)
            continue;
        const box at = point_box(plot, &plot->points[i]);
        const double x = (at.x0 + at.x1) / 2, y = (at.y0 + at.y1) / 2;
        const box flat = {last_x, x, last_y - 1, last_y + 1};
        const box steep = {x - 1, x + 1, fmin(y, last_y), fmax(y, last_y)};
        if (pen && (overlap(name, &flat) || overlap(name, &steep)))
            return true;
        last_x = x;
        last_y = y;
        pen = true;
    }
    const box end = {last_x, WIDE_AREA, last_y - 1, last_y + 1};
    return pen && overlap(name, &end);
}

static void write_name(mmf_text *out, const mmf_point_plot *plot, const mmf_point *p,
                       const box *name, struct name_side side)
{
    static const char *const anchors[] = {" end", " mid", ""};
    mmf_text_add(out, "<text class=\"value wide halo%s\" x=\"%.2f%%\" dx=\"%.1f\" y=\"%.1f\">",
                 anchors[side.across + 1], 100 * mmf_scale_at(&plot->x, p->x),
                 side.across * (p->radius + 5), (name->y0 + name->y1) / 2 + 4);
    mmf_html_text(out, p->name);
    mmf_text_add(out, "</text>");
}

/* On a side that is free, off the stairs if any is; across them its halo keeps it readable. A name
 * without a free side is left to the table. */
static void place_name(mmf_text *out, name_board *board, size_t i)
{
    const mmf_point *const p = &board->plot->points[i];
    if (!p->name || board->n == MOST_NAMES)
        return;
    const double width = MMF_CHARACTER * (double)mmf_html_width(p->name);
    const box point = point_box(board->plot, p);
    for (size_t k = 0; k < 2 * N_SIDES; k++) {
        const struct name_side side = sides[k % N_SIDES];
        const box name = name_box(&point, width, side);
        if (!is_free(board, &name, i) || (k < N_SIDES && is_crossed(board->plot, &name)))
            continue;
        board->taken[board->n++] = name;
        write_name(out, board->plot, p, &name, side);
        return;
    }
}

/* The strong points choose first. */
static void draw_names(mmf_text *out, const mmf_point_plot *plot)
{
    name_board board = {.plot = plot};
    for (int weak = 0; weak < 2; weak++) {
        for (size_t i = 0; i < plot->n_points; i++) {
            if (plot->points[i].strong == (weak == 0))
                place_name(out, &board, i);
        }
    }
}

/* ---- Marks ------------------------------------------------------------------------------- */

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
    const double left = mmf_figure_tick_gutter(&plot->y, 0);
    mmf_figure figure = {.id = plot->id,
                         .title = plot->title,
                         .note = plot->note,
                         .is_panel = plot->is_panel,
                         .top = 28,
                         .height = plot->height,
                         .bottom = 44,
                         .left = left,
                         .left_narrow = left,
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
