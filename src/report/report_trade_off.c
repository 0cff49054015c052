/* report_trade_off.c: quality against latency, and the models that nothing beats in both. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/plots.h"

#include "mmfuse/metrics.h"

enum { MAX_POINTS = 128 };

typedef struct trade_off {
    mmf_point points[MAX_POINTS];
    char titles[MAX_POINTS][160];
    size_t n;
    double sign;
} trade_off;

/* Results of older versions do not say it. */
static void find_front(trade_off *t, const json_t *leaders)
{
    for (size_t i = 0; i < t->n; i++) {
        const json_t *const said =
            json_object_get(json_array_get(leaders, (size_t)t->points[i].number - 1), "pareto");
        bool beaten = false;
        for (size_t k = 0; k < t->n && !beaten; k++) {
            const mmf_point *const a = &t->points[k], *const b = &t->points[i];
            const double better = t->sign * (a->y - b->y);
            beaten = a->x <= b->x && better >= 0 && (a->x < b->x || better > 0);
        }
        t->points[i].strong = json_is_boolean(said) ? json_is_true(said) : !beaten;
    }
}

static void sort_points(trade_off *t)
{
    for (size_t i = 1; i < t->n; i++) {
        for (size_t k = i; k > 0 && t->points[k].x < t->points[k - 1].x; k--) {
            const mmf_point moved = t->points[k];
            t->points[k] = t->points[k - 1];
            t->points[k - 1] = moved;
        }
    }
}

static void collect(trade_off *t, const json_t *c)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    for (size_t i = 0; i < json_array_size(leaders) && t->n < MAX_POINTS; i++) {
        const json_t *const leader = json_array_get(leaders, i);
        const double x = mmf_report_latency(leader);
        const double y = mmf_report_leader_score(c, leader, "metrics", "mean");
        char time[MMF_HTML_NUMBER_BYTES], score[MMF_HTML_NUMBER_BYTES];
        if (!(x > 0) || !isfinite(x) || !isfinite(y))
            continue;
        t->points[t->n] = (mmf_point){.x = x,
                                      .y = y,
                                      .radius = 10,
                                      .title = t->titles[t->n],
                                      .name = mmf_json_get_text(leader, "model", ""),
                                      .number = (int)i + 1};
        snprintf(t->titles[t->n], sizeof t->titles[t->n], "%zu %.80s: %s, %s", i + 1,
                 t->points[t->n].name, mmf_html_number(score, y), mmf_html_duration(time, x));
        t->n++;
    }
    find_front(t, leaders);
    sort_points(t);
}

static void trade_off_table(mmf_text *out, const trade_off *t, const char *metric)
{
    const char *const heads[] = {"model", "rank", "latency", metric, "on the front (validation)"};
    mmf_table_open(out, "Table: quality and latency", heads, 5);
    for (size_t i = 0; i < t->n; i++) {
        const mmf_point *const p = &t->points[i];
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_row(out);
        mmf_table_name(out, p->name);
        mmf_table_text(out, mmf_html_count(text, p->number));
        mmf_table_text(out, mmf_html_duration(text, p->x));
        mmf_table_number(out, p->y);
        mmf_table_text(out, p->strong ? "yes" : "");
    }
    mmf_table_close(out);
}

static void front_sentence(const trade_off *t, mmf_text *note)
{
    bool first = true;
    mmf_text_add(
        note, "Numbers are ranks. On validation, which they were chosen by, nothing is both faster "
              "and better than the filled ones: ");
    for (size_t i = 0; i < t->n; i++) {
        if (!t->points[i].strong)
            continue;
        mmf_text_add(note, "%s%d %s", first ? "" : ", ", t->points[i].number, t->points[i].name);
        first = false;
    }
    mmf_text_add(note, ".");
}

static void draw(mmf_text *out, const trade_off *t, const char *metric)
{
    mmf_text note = {.ctx = out->ctx};
    mmf_scale x = mmf_scale_empty(), y = mmf_scale_empty();
    char axis[96];
    for (size_t i = 0; i < t->n; i++) {
        mmf_scale_include(&x, t->points[i].x);
        mmf_scale_include(&y, t->points[i].y);
    }
    x.is_log = true;
    mmf_scale_round(&x);
    mmf_scale_round(&y);
    front_sentence(t, &note);
    snprintf(axis, sizeof axis, "%s on test rows", metric);
    const mmf_point_plot plot = {.id = "pareto",
                                 .title = "Quality against latency",
                                 .note = note.data,
                                 .x_axis = "time for one sample",
                                 .y_axis = axis,
                                 .points = t->points,
                                 .n_points = t->n,
                                 .x = x,
                                 .y = y,
                                 .height = 330,
                                 .stairs = true,
                                 .x_text = mmf_html_duration};
    mmf_point_plot_draw(out, &plot);
    mmf_text_clear(&note);
    trade_off_table(out, t, metric);
    mmf_figure_close(out);
}

void mmf_report_trade_off(mmf_text *out, const json_t *c)
{
    const char *const metric = mmf_json_get_text(c, "main_metric", "");
    trade_off *const t = mmf_alloc_zero(out->ctx, 1, sizeof *t);
    if (!t) {
        out->status = MMF_NOMEM;
        return;
    }
    t->sign = mmf_metric_higher_is_better(metric) ? 1 : -1;
    collect(t, c);
    mmf_page_section_open(out, "trade-off", "What speed costs", NULL);
    if (t->n > 0)
        draw(out, t, metric);
    else
        mmf_figure_missing(out, "pareto", "Quality against latency",
                           "The results hold no latencies.");
    mmf_page_section_close(out);
    mmf_free(out->ctx, t);
}
