/*
 * figure.h: the frame of a plot: heading, SVG with axes, and the table behind it.
 *
 * A plot has no viewBox: across it is laid out in percent of its width, down in pixels, and it
 * stands between two gutters of fixed width into which labels reach out. So text keeps its size at
 * any width of the page, and one drawing serves screens, phones and paper.
 */
#ifndef MMFUSE_REPORT_FIGURE_H
#define MMFUSE_REPORT_FIGURE_H

#include "report/html.h"

#define MMF_MAX_TICKS 24
#define MMF_CHARACTER 8.0 /* pixels that a character of a label may take */
#define MMF_N_COLOURS 8

/* ---- Scales ------------------------------------------------------------------------------ */

typedef struct mmf_scale {
    double low, high;
    bool is_log;
    bool is_whole; /**< of things that are counted: no ticks between whole numbers */
} mmf_scale;

/** Grows a range by a value; NaN changes nothing. Start with mmf_scale_empty. */
void mmf_scale_include(mmf_scale *scale, double value);
mmf_scale mmf_scale_empty(void);
/** Widens the range to round numbers. */
void mmf_scale_round(mmf_scale *scale);
/** Place of a value, 0 to 1. */
double mmf_scale_at(const mmf_scale *scale, double value);
/** Round values inside, about `wanted` of them. @return how many */
int mmf_scale_ticks(const mmf_scale *scale, int wanted, double out[MMF_MAX_TICKS]);

/* ---- Figures ----------------------------------------------------------------------------- */

typedef const char *mmf_tick_text(char out[MMF_HTML_NUMBER_BYTES], double value);

typedef struct mmf_figure {
    const char *id, *title;
    const char *note;                 /**< plain text below the title; NULL: none */
    bool is_panel;                    /**< one of several side by side: a smaller heading */
    double top, height, bottom;       /**< pixels above, of and below the area */
    double left, right;               /**< gutters */
    double left_narrow, right_narrow; /**< gutters on a narrow page */
    const char *x_axis, *y_axis;      /**< what the axes say; NULL: nothing */
    const mmf_scale *x, *y;           /**< NULL: no ticks there */
    int x_ticks, y_ticks;
    mmf_tick_text *x_text, *y_text; /**< NULL: numbers */
} mmf_figure;

/** Opens the figure and its SVG, and draws grid and ticks. */
void mmf_figure_open(mmf_text *out, const mmf_figure *figure);
/** Ends the SVG; the table follows. */
void mmf_figure_end_plot(mmf_text *out);
void mmf_figure_close(mmf_text *out);

/** A label in the left gutter, cut to its width, which differs on a narrow page. @param y  of the
 * text's middle */
void mmf_figure_label(mmf_text *out, const mmf_figure *figure, const char *text, double y,
                      bool strong);
/** Gutter for labels of up to `width` characters, cut at `most`. */
double mmf_figure_gutter(size_t width, size_t most);

/** Gutter for the ticks of a y axis. @param wanted  as in `y_ticks` */
double mmf_figure_tick_gutter(const mmf_scale *scale, int wanted);

/** A sentence where a plot would stand. */
void mmf_figure_missing(mmf_text *out, const char *id, const char *title, const char *why);

#endif
