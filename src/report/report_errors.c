/* report_errors.c: where an explained model is wrong: confusion, reliability, predicted against
 * true. */
#include <math.h>
#include <stdio.h>

#include "report/page.h"
#include "report/plots.h"

#define MAX_CLASSES 60 /* of a matrix that a page can show */
#define MAX_PAIRS 12   /* of the table of confusions */

/* ---- Confusion --------------------------------------------------------------------------- */

static double count_at(const json_t *counts, size_t i, size_t k)
{
    return mmf_json_real(json_array_get(json_array_get(counts, i), k));
}

static const char *class_at(const json_t *classes, size_t i)
{
    const char *const name = json_string_value(json_array_get(classes, i));
    return name ? name : "?";
}

/* The largest counts off the diagonal, found one after the other: there are few to show. */
static void confused_pairs(mmf_text *out, const json_t *classes, const json_t *counts)
{
    static const char *const heads[] = {"true class", "predicted", "times", "share of the class"};
    const size_t n = json_array_size(classes);
    double below = INFINITY;
    size_t last = 0;
    mmf_table_open(out, "Table: what is confused most", heads, 4);
    for (int shown = 0; n > 0 && shown < MAX_PAIRS; shown++) {
        double best = 0, sum = 0;
        size_t place = 0;
        for (size_t at = 0; at < n * n; at++) {
            const double count = count_at(counts, at / n, at % n);
            const bool later = count < below || (count == below && at > last);
            if (at / n != at % n && later && count > best) {
                best = count;
                place = at;
            }
        }
        if (best <= 0)
            break;
        for (size_t k = 0; k < n; k++)
            sum += count_at(counts, place / n, k);
        mmf_table_row(out);
        mmf_table_name(out, class_at(classes, place / n));
        mmf_table_text(out, class_at(classes, place % n));
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_text(out, mmf_html_count(text, best));
        mmf_table_number(out, best / sum);
        below = best;
        last = place;
    }
    mmf_table_close(out);
}

static void count_table(mmf_text *out, const json_t *classes, const json_t *counts)
{
    const char *heads[MAX_CLASSES + 1] = {"true \\ predicted"};
    const size_t n = json_array_size(classes);
    for (size_t k = 0; k < n; k++)
        heads[k + 1] = class_at(classes, k);
    mmf_table_open(out, "Table: all counts", heads, n + 1);
    for (size_t i = 0; i < n; i++) {
        mmf_table_row(out);
        mmf_table_name(out, class_at(classes, i));
        for (size_t k = 0; k < n; k++) {
            char text[MMF_HTML_NUMBER_BYTES];
            mmf_table_text(out, mmf_html_count(text, count_at(counts, i, k)));
        }
    }
    mmf_table_close(out);
}

static void confusion(mmf_text *out, const json_t *e)
{
    const json_t *const object = json_object_get(e, "confusion");
    const json_t *const classes = json_object_get(object, "classes");
    const json_t *const counts = json_object_get(object, "counts");
    const size_t n = json_array_size(classes);
    if (n == 0 || n > MAX_CLASSES) {
        mmf_figure_missing(out, "confusion", "Which classes are confused",
                           n ? "There are too many classes for a matrix on a page; the JSON of "
                               "this report has the counts."
                             : "The result holds no confusion matrix: the task has none, or more "
                               "than 200 classes.");
        return;
    }
    const char *names[MAX_CLASSES];
    double values[MAX_CLASSES * MAX_CLASSES];
    for (size_t i = 0; i < n; i++) {
        names[i] = class_at(classes, i);
        for (size_t k = 0; k < n; k++)
            values[i * n + k] = count_at(counts, i, k);
    }
    const mmf_matrix_plot plot = {.id = "confusion",
                                  .title = "Which classes are confused",
                                  .note = "A row a true class, a column a predicted one. Blue is "
                                          "right, orange is wrong; the fuller "
                                          "a cell, the larger its share of the true class.",
                                  .names = names,
                                  .counts = values,
                                  .n = n};
    mmf_matrix_plot_draw(out, &plot);
    confused_pairs(out, classes, counts);
    count_table(out, classes, counts);
    mmf_figure_close(out);
}

/* ---- Reliability ------------------------------------------------------------------------- */

enum { MAX_BINS = 64 };

static void reliability_table(mmf_text *out, const json_t *bins)
{
    static const char *const heads[] = {"probability", "rows", "mean probability", "right"};
    mmf_table_open(out, "Table: reliability", heads, 4);
    for (size_t i = 0; i < json_array_size(bins); i++) {
        const json_t *const bin = json_array_get(bins, i);
        char name[2 * MMF_HTML_NUMBER_BYTES + 8], text[MMF_HTML_NUMBER_BYTES];
        char low[MMF_HTML_NUMBER_BYTES], high[MMF_HTML_NUMBER_BYTES];
        snprintf(name, sizeof name, "%s to %s", mmf_html_number(low, mmf_json_get_real(bin, "low")),
                 mmf_html_number(high, mmf_json_get_real(bin, "high")));
        mmf_table_row(out);
        mmf_table_name(out, name);
        mmf_table_text(out, mmf_html_count(text, mmf_json_get_real(bin, "n")));
        mmf_table_number(out, mmf_json_get_real(bin, "confidence"));
        mmf_table_number(out, mmf_json_get_real(bin, "accuracy"));
    }
    mmf_table_close(out);
}

static void reliability(mmf_text *out, const json_t *e)
{
    const json_t *const bins = json_object_get(e, "reliability");
    const json_t *const metrics = json_object_get(e, "metrics");
    mmf_point points[MAX_BINS];
    char titles[MAX_BINS][96], note[320], ece[MMF_HTML_NUMBER_BYTES], mce[MMF_HTML_NUMBER_BYTES];
    size_t n = 0;
    double most = 1;
    for (size_t i = 0; i < json_array_size(bins); i++)
        most = fmax(most, mmf_json_get_real(json_array_get(bins, i), "n"));
    for (size_t i = 0; i < json_array_size(bins) && n < MAX_BINS; i++) {
        const json_t *const bin = json_array_get(bins, i);
        const double count = mmf_json_get_real(bin, "n");
        char said[MMF_HTML_NUMBER_BYTES], right[MMF_HTML_NUMBER_BYTES];
        if (!(count > 0))
            continue;
        points[n] = (mmf_point){.x = mmf_json_get_real(bin, "confidence"),
                                .y = mmf_json_get_real(bin, "accuracy"),
                                .radius = 3.5 + 9 * sqrt(count / most),
                                .title = titles[n],
                                .strong = true};
        snprintf(titles[n], sizeof titles[n], "%.0f rows: said %s, right %s", count,
                 mmf_html_number(said, points[n].x), mmf_html_number(right, points[n].y));
        n++;
    }
    snprintf(note, sizeof note,
             "Rows by the probability of the class they were given, in 15 bins; on the line the "
             "model is as often right as it says, below it is too sure. Large circles hold many "
             "rows. On average the gap is %s (ece), at worst %s (mce).",
             mmf_html_number(ece, mmf_json_get_real(metrics, "ece")),
             mmf_html_number(mce, mmf_json_get_real(metrics, "mce")));
    const mmf_point_plot plot = {.id = "reliability",
                                 .title = "Can the probabilities be believed",
                                 .note = note,
                                 .x_axis = "mean probability of the predicted class",
                                 .y_axis = "share that is right",
                                 .points = points,
                                 .n_points = n,
                                 .x = {.low = 0, .high = 1},
                                 .y = {.low = 0, .high = 1},
                                 .height = 300,
                                 .diagonal = true};
    mmf_point_plot_draw(out, &plot);
    reliability_table(out, bins);
    mmf_figure_close(out);
}

/* ---- Regression -------------------------------------------------------------------------- */

enum { MAX_SCATTER = 2000, MAX_SCATTER_ROWS = 200 };

static void scatter_table(mmf_text *out, const json_t *predicted, const json_t *truth)
{
    static const char *const heads[] = {"true", "predicted", "difference"};
    const size_t n = json_array_size(predicted);
    char summary[96], text[MMF_HTML_NUMBER_BYTES];
    const size_t shown = n < MAX_SCATTER_ROWS ? n : MAX_SCATTER_ROWS;
    snprintf(summary, sizeof summary, "Table: %s%zu rows", shown < n ? "the first " : "", shown);
    mmf_table_open(out, summary, heads, 3);
    for (size_t i = 0; i < shown; i++) {
        const double p = mmf_json_real(json_array_get(predicted, i));
        const double y = mmf_json_real(json_array_get(truth, i));
        mmf_table_row(out);
        mmf_table_name(out, mmf_html_number(text, y));
        mmf_table_number(out, p);
        mmf_table_text(out, mmf_html_signed(text, p - y));
    }
    mmf_table_close(out);
}

static void scatter(mmf_text *out, const json_t *e)
{
    const json_t *const object = json_object_get(e, "scatter");
    const json_t *const predicted = json_object_get(object, "predicted");
    const json_t *const truth = json_object_get(object, "true");
    mmf_point *const points =
        mmf_alloc_zero(out->ctx, json_array_size(predicted) + 1, sizeof *points);
    mmf_scale both = mmf_scale_empty();
    size_t n = 0;
    if (!points) {
        out->status = MMF_NOMEM;
        return;
    }
    for (size_t i = 0; i < json_array_size(predicted) && n < MAX_SCATTER; i++) {
        const mmf_point p = {.x = mmf_json_real(json_array_get(truth, i)),
                             .y = mmf_json_real(json_array_get(predicted, i)),
                             .radius = 3.5,
                             .strong = true};
        if (!isfinite(p.x) || !isfinite(p.y))
            continue;
        points[n++] = p;
        mmf_scale_include(&both, p.x);
        mmf_scale_include(&both, p.y);
    }
    mmf_scale_round(&both);
    const double rows = mmf_json_get_real(object, "rows");
    char note[160];
    snprintf(note, sizeof note,
             "%s%zu rows; on the line a prediction is right, above it is too high.",
             (double)n < rows ? "Evenly spaced " : "", n);
    const mmf_point_plot plot = {.id = "scatter",
                                 .title = "Predicted against true",
                                 .note = note,
                                 .x_axis = "true",
                                 .y_axis = "predicted",
                                 .points = points,
                                 .n_points = n,
                                 .x = both,
                                 .y = both,
                                 .height = 360,
                                 .diagonal = true};
    mmf_point_plot_draw(out, &plot);
    mmf_free(out->ctx, points);
    scatter_table(out, predicted, truth);
    mmf_figure_close(out);
}

void mmf_report_errors(mmf_text *out, const json_t *e)
{
    mmf_page_section_open(out, "errors", "Where it is wrong", NULL);
    if (json_object_get(e, "scatter"))
        scatter(out, e);
    else
        confusion(out, e);
    if (json_object_get(e, "reliability"))
        reliability(out, e);
    mmf_page_section_close(out);
}
