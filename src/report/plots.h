/* plots.h: the kinds of plots. Each draws the figure up to its table, which the caller writes
 * before mmf_figure_close. Marks that stand for data have the class "mark". */
#ifndef MMFUSE_REPORT_PLOTS_H
#define MMFUSE_REPORT_PLOTS_H

#include "report/figure.h"

/* ---- Rows -------------------------------------------------------------------------------- */

/** One line of a plot of rows. NaN leaves a part out. */
typedef struct mmf_plot_row {
    const char *label;
    double value, low, high;
    const double *dots; /**< single values behind the row, such as seeds */
    size_t n_dots;
    char text[2 * MMF_HTML_NUMBER_BYTES + 8]; /**< at the right */
    bool strong;
    uint64_t members; /**< with `n_members`: filled circles */
} mmf_plot_row;

typedef struct mmf_row_plot {
    const char *id, *title, *note, *axis;
    const mmf_plot_row *rows;
    size_t n_rows;
    bool bars; /**< from `base`; else points */
    bool is_panel;
    double base;                /**< where bars begin; a line stands there, NaN: nowhere */
    const char *base_text;      /**< what that line is; NULL: nothing */
    const char *const *members; /**< column heads: rows show which of them they have, no labels */
    size_t n_members;
    bool from_zero; /**< the axis includes 0 */
} mmf_row_plot;

void mmf_row_plot_draw(mmf_text *out, const mmf_row_plot *plot);

/* ---- Lines ------------------------------------------------------------------------------- */

typedef struct mmf_series {
    const char *label; /**< at the right end; NULL: none */
    const double *x, *y;
    size_t n;
    int colour;
    bool dashed, nodes;
    double mark_x, mark_y; /**< a point to stand out; NaN: none */
} mmf_series;

typedef struct mmf_line_plot {
    const char *id, *title, *note, *x_axis, *y_axis;
    const mmf_series *series;
    size_t n_series;
    mmf_scale x, y;
    double height;
    bool is_panel;
} mmf_line_plot;

void mmf_line_plot_draw(mmf_text *out, const mmf_line_plot *plot);

/* ---- Points ------------------------------------------------------------------------------ */

typedef struct mmf_point {
    double x, y;
    double radius;
    const char *title; /**< said on hovering */
    const char *name;  /**< beside the point on wide pages where there is room; NULL: none */
    int number;        /**< inside the point; 0: none */
    bool strong;
} mmf_point;

typedef struct mmf_point_plot {
    const char *id, *title, *note, *x_axis, *y_axis;
    const mmf_point *points;
    size_t n_points;
    mmf_scale x, y;
    double height;
    bool diagonal; /**< where both are equal */
    bool stairs;   /**< through the strong points, which are in order of x */
    bool is_panel;
    mmf_tick_text *x_text;
} mmf_point_plot;

void mmf_point_plot_draw(mmf_text *out, const mmf_point_plot *plot);

/* ---- Matrices ---------------------------------------------------------------------------- */

typedef struct mmf_matrix_plot {
    const char *id, *title, *note;
    const char *const *names; /**< (n) */
    const double *counts;     /**< (n, n), rows are the truth */
    size_t n;
} mmf_matrix_plot;

void mmf_matrix_plot_draw(mmf_text *out, const mmf_matrix_plot *plot);

#endif
