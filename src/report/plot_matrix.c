/* plot_matrix.c: a confusion matrix: right answers in one colour, wrong ones in another. */
#include <math.h>
#include <stdio.h>

#include "report/plots.h"

#define CELL 27.0
#define TOP 26.0
#define FEW 12    /* classes whose counts fit the cells of a narrow page */
#define SOME 30   /* and of a wide one */
#define DARK 0.55 /* a share from which the text on a cell changes */

static double row_sum(const mmf_matrix_plot *plot, size_t row)
{
    double sum = 0;
    for (size_t k = 0; k < plot->n; k++)
        sum += plot->counts[row * plot->n + k];
    return sum;
}

static void draw_cell(mmf_text *out, const mmf_matrix_plot *plot, size_t i, size_t k, double sum)
{
    const double count = plot->counts[i * plot->n + k], width = 100.0 / (double)plot->n;
    const double share = sum > 0 ? count / sum : 0;
    /* A single mistake of many must be seen, so that the fill begins above nothing. */
    const double fill = count > 0 ? 0.12 + 0.88 * share : 0;
    mmf_text_add(out,
                 "<g class=\"mark cell%s\"><rect x=\"%.3f%%\" y=\"%.1f\" width=\"%.3f%%\" "
                 "height=\"%.1f\" fill-opacity=\"%.2f\"/><title>",
                 i == k ? " right" : " wrong", width * (double)k, CELL * (double)i, width, CELL,
                 fill);
    mmf_html_text(out, plot->names[i]);
    mmf_text_add(out, " taken for ");
    mmf_html_text(out, plot->names[k]);
    mmf_text_add(out, ": %.0f of %.0f</title>", count, sum);
    if (count > 0 && plot->n <= SOME)
        mmf_text_add(out, "<text class=\"mid%s%s\" x=\"%.3f%%\" y=\"%.1f\">%.0f</text>",
                     fill > DARK ? " on" : "", plot->n > FEW ? " wide" : "",
                     width * ((double)k + 0.5), CELL * ((double)i + 0.5) + 4, count);
    mmf_text_add(out, "</g>");
}

static void draw_head(mmf_text *out, const mmf_matrix_plot *plot, size_t k, bool by_name)
{
    /* On a narrow page every number has room for few classes only. */
    const bool always = plot->n <= FEW || (k + 1) % (plot->n <= SOME ? 5 : 20) == 0;
    if (plot->n > SOME && !always)
        return;
    mmf_text_add(out, "<text class=\"tick mid%s\" x=\"%.3f%%\" y=\"-8\">", always ? "" : " wide",
                 100.0 * ((double)k + 0.5) / (double)plot->n);
    if (by_name)
        mmf_html_short(out, plot->names[k], 4);
    else
        mmf_text_add(out, "%zu", k + 1);
    mmf_text_add(out, "</text>");
}

void mmf_matrix_plot_draw(mmf_text *out, const mmf_matrix_plot *plot)
{
    size_t width = 0;
    bool by_name = plot->n <= FEW; /* short names stand above the columns, numbers otherwise */
    for (size_t i = 0; i < plot->n; i++) {
        const size_t n = mmf_html_width(plot->names[i]);
        width = n > width ? n : width;
        by_name = by_name && n <= 3;
    }
    width += by_name ? 0 : 4;
    const mmf_figure figure = {.id = plot->id,
                               .title = plot->title,
                               .note = plot->note,
                               .top = TOP,
                               .height = CELL * (double)plot->n,
                               .bottom = 8,
                               .left = mmf_figure_gutter(width, 26),
                               .left_narrow = mmf_figure_gutter(width, 12),
                               .right = 4,
                               .right_narrow = 4};
    mmf_figure_open(out, &figure);
    for (size_t i = 0; i < plot->n; i++) {
        const double sum = row_sum(plot, i);
        for (size_t k = 0; k < plot->n; k++)
            draw_cell(out, plot, i, k, sum);
    }
    for (size_t k = 0; k < plot->n; k++)
        draw_head(out, plot, k, by_name);
    for (size_t i = 0; i < plot->n; i++) {
        char label[256];
        if (by_name)
            snprintf(label, sizeof label, "%s", plot->names[i]);
        else
            snprintf(label, sizeof label, "%zu %s", i + 1, plot->names[i]);
        mmf_figure_label(out, &figure, label, CELL * ((double)i + 0.5), false);
    }
    mmf_figure_end_plot(out);
}
