/* report_robustness.c: robustness curves of an explanation, a panel a kind of noise. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/plots.h"

enum { MAX_LEVELS = 32, MAX_LINES = 12 };

typedef struct noise_words {
    const char *name, *title, *axis;
} noise_words;

static const noise_words words[] = {
    {"gaussian", "Gaussian noise", "noise, in training deviations"},
    {"entry-drop", "Values lost", "probability that a value is lost"},
    {"step-drop", "Time steps lost", "probability that a step is lost"},
    {"modality-drop", "Modality missing", "probability that it is missing"},
};

static const char *modality_of(const json_t *curve)
{
    return mmf_json_get_text(curve, "modality", "all at once");
}

/* ---- Panels ------------------------------------------------------------------------------ */

typedef struct panel {
    double x[MAX_LEVELS], y[MAX_LINES][MAX_LEVELS];
    mmf_series series[MAX_LINES];
    size_t n, n_left_out;
} panel;

/* The same colour for a modality in every panel; "all at once" is ink. */
static int colour_of(const json_t *e, const char *modality)
{
    const json_t *const names = json_object_get(e, "modalities");
    for (size_t m = 0; m < json_array_size(names); m++) {
        const char *const name = json_string_value(json_array_get(names, m));
        if (name && modality && strcmp(name, modality) == 0)
            return 1 + (int)(m % (MMF_N_COLOURS - 1));
    }
    return 0;
}

static void add_series(panel *p, const json_t *e, const json_t *curve, size_t n_levels)
{
    if (p->n == MAX_LINES) {
        p->n_left_out++;
        return;
    }
    const json_t *const scores = json_object_get(curve, "scores");
    for (size_t l = 0; l < n_levels; l++)
        p->y[p->n][l] = mmf_json_real(json_array_get(scores, l));
    const int colour = colour_of(e, mmf_json_get_text(curve, "modality", NULL));
    p->series[p->n] = (mmf_series){.label = modality_of(curve),
                                   .x = p->x,
                                   .y = p->y[p->n],
                                   .n = n_levels,
                                   .colour = colour,
                                   .dashed = colour == 0,
                                   .nodes = true,
                                   .mark_x = NAN,
                                   .mark_y = NAN};
    p->n++;
}

static void draw_panel(mmf_text *out, const json_t *e, const noise_words *kind, mmf_scale y)
{
    const json_t *const r = json_object_get(e, "robustness");
    const json_t *const curves = json_object_get(r, "curves");
    const json_t *const levels = json_object_get(r, "levels");
    const size_t n = json_array_size(levels) < MAX_LEVELS ? json_array_size(levels) : MAX_LEVELS;
    panel p = {.n = 0};
    char id[64], note[96];
    if (n < 2)
        return;
    for (size_t l = 0; l < n; l++)
        p.x[l] = mmf_json_real(json_array_get(levels, l));
    for (size_t i = 0; i < json_array_size(curves); i++) {
        const json_t *const curve = json_array_get(curves, i);
        if (strcmp(mmf_json_get_text(curve, "noise", ""), kind->name) == 0)
            add_series(&p, e, curve, n);
    }
    if (p.n == 0)
        return;
    snprintf(id, sizeof id, "robustness-%s", kind->name);
    snprintf(note, sizeof note, "%zu more modalities stand in the table.", p.n_left_out);
    const mmf_line_plot plot = {.id = id,
                                .title = kind->title,
                                .note = p.n_left_out ? note : NULL,
                                .x_axis = kind->axis,
                                .y_axis = mmf_json_get_text(e, "main_metric", ""),
                                .series = p.series,
                                .n_series = p.n,
                                .x = {.low = p.x[0], .high = p.x[n - 1]},
                                .y = y,
                                .height = 230,
                                .is_panel = true};
    mmf_line_plot_draw(out, &plot);
    mmf_figure_close(out);
}

/* ---- Table ------------------------------------------------------------------------------- */

static void robustness_table(mmf_text *out, const json_t *r)
{
    const json_t *const levels = json_object_get(r, "levels");
    const json_t *const curves = json_object_get(r, "curves");
    const bool compared = json_is_string(json_object_get(r, "against"));
    const size_t n = json_array_size(levels) < MAX_LEVELS ? json_array_size(levels) : MAX_LEVELS;
    char texts[MAX_LEVELS][16];
    const char *heads[MAX_LEVELS + 4] = {"noise", "on"};
    for (size_t l = 0; l < n; l++) {
        snprintf(texts[l], sizeof texts[l], "%.1f", mmf_json_real(json_array_get(levels, l)));
        heads[l + 2] = texts[l];
    }
    heads[n + 2] = "area";
    heads[n + 3] = "effective";
    mmf_table_open(out, "Table: scores at each level, and areas below the curves", heads,
                   n + (compared ? 4 : 3));
    for (size_t i = 0; i < json_array_size(curves); i++) {
        const json_t *const curve = json_array_get(curves, i);
        mmf_table_row(out);
        mmf_table_name(out, mmf_json_get_text(curve, "noise", ""));
        mmf_table_text(out, modality_of(curve));
        for (size_t l = 0; l < n; l++)
            mmf_table_number(out,
                             mmf_json_real(json_array_get(json_object_get(curve, "scores"), l)));
        mmf_table_number(out, mmf_json_get_real(curve, "relative"));
        if (compared)
            mmf_table_number(out, mmf_json_get_real(curve, "effective"));
    }
    mmf_table_close(out);
}

void mmf_report_robustness(mmf_text *out, const json_t *e)
{
    const json_t *const r = json_object_get(e, "robustness");
    const json_t *const curves = json_object_get(r, "curves");
    const char *const against = mmf_json_get_text(r, "against", NULL);
    mmf_scale y = mmf_scale_empty();
    if (json_array_size(curves) == 0) {
        mmf_page_section_open(out, "robustness", "What breaks it",
                              "No noise was asked for; mmfuse explain without --noise none "
                              "draws the curves.");
        mmf_page_section_close(out);
        return;
    }
    for (size_t i = 0; i < json_array_size(curves); i++) {
        const json_t *const scores = json_object_get(json_array_get(curves, i), "scores");
        for (size_t l = 0; l < json_array_size(scores); l++)
            mmf_scale_include(&y, mmf_json_real(json_array_get(scores, l)));
    }
    mmf_scale_round(&y);
    mmf_page_section_open(
        out, "robustness", "What breaks it",
        "The score when one modality is damaged more and more, or all of them at "
        "once. A value that is lost becomes the training mean; a modality that is "
        "missing counts as absent.");
    mmf_text_add(out, "<div class=\"panels\">");
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        draw_panel(out, e, &words[k], y);
    mmf_text_add(out, "</div>");
    robustness_table(out, r);
    if (against) {
        mmf_text_add(out, "<p>Effective robustness is the sum over levels of the distance to the "
                          "curve of ");
        mmf_html_text(out, against);
        mmf_text_add(out, ", moved to the same clean score: above 0 is sturdier than that late "
                          "fusion.</p>");
    }
    mmf_page_section_close(out);
}
