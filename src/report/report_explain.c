/* report_explain.c: the report of one model: summary, contributions, subsets, gates; robustness and
 * errors stand in files of their own. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/plots.h"

enum { MAX_ROWS = 64, MAX_SHOWN_SUBSETS = 24 };

/* ---- Summary ----------------------------------------------------------------------------- */

/* The modality with the largest (sign 1) or smallest (-1) contribution; NULL without any. */
static const json_t *extreme_contribution(const json_t *e, double sign)
{
    const json_t *const values = json_object_get(json_object_get(e, "contributions"), "values");
    const json_t *best = NULL;
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *const row = json_array_get(values, i);
        const double value = mmf_json_get_real(row, "value");
        if (isfinite(value) && (!best || sign * value > sign * mmf_json_get_real(best, "value")))
            best = row;
    }
    return best;
}

static double last_score(const json_t *curve)
{
    const json_t *const scores = json_object_get(curve, "scores");
    const size_t n = json_array_size(scores);
    return n ? mmf_json_real(json_array_get(scores, n - 1)) : NAN;
}

/* The curve that ends worst, of single modalities or of all at once. */
static const json_t *worst_curve(const json_t *e, bool alone)
{
    const json_t *const curves = json_object_get(json_object_get(e, "robustness"), "curves");
    const double sign = json_is_false(json_object_get(e, "higher_is_better")) ? -1 : 1;
    const json_t *worst = NULL;
    for (size_t i = 0; i < json_array_size(curves); i++) {
        const json_t *const curve = json_array_get(curves, i);
        const double score = last_score(curve);
        if (json_is_string(json_object_get(curve, "modality")) != alone || isnan(score))
            continue;
        if (!worst || sign * score < sign * last_score(worst))
            worst = curve;
    }
    return worst;
}

static const char *noise_phrase(const char *noise)
{
    static const char *const phrases[][2] = {
        {"gaussian", "under Gaussian noise of 0.9 deviations"},
        {"entry-drop", "with nine of ten values lost"},
        {"step-drop", "with nine of ten time steps lost"},
        {"modality-drop", "missing in nine of ten samples"},
    };
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(noise, phrases[i][0]) == 0)
            return phrases[i][1];
    }
    return noise;
}

static void say_contributions(mmf_text *out, const json_t *e)
{
    char a[MMF_HTML_NUMBER_BYTES], b[MMF_HTML_NUMBER_BYTES];
    const json_t *const most = extreme_contribution(e, 1), *const least =
                                                               extreme_contribution(e, -1);
    const bool exact =
        strcmp(mmf_json_get_text(json_object_get(e, "contributions"), "method", ""), "exact") == 0;
    if (!most)
        return;
    mmf_text_add(out, "<p><b>");
    mmf_html_text(out, mmf_json_get_text(most, "modality", ""));
    mmf_text_add(out, "</b> contributes most: %s",
                 mmf_html_signed(a, mmf_json_get_real(most, "value")));
    if (least != most) {
        mmf_text_add(out, "; <b>");
        mmf_html_text(out, mmf_json_get_text(least, "modality", ""));
        mmf_text_add(out, "</b> least: %s", mmf_html_signed(b, mmf_json_get_real(least, "value")));
    }
    mmf_text_add(out,
                 ". These are Shapley values%s: together they are the whole step from knowing "
                 "nothing to knowing every modality.</p>",
                 exact ? "" : " from drawn orders");
}

static void say_weakness(mmf_text *out, const json_t *e)
{
    char score[MMF_HTML_NUMBER_BYTES];
    const json_t *const one = worst_curve(e, true), *const all = worst_curve(e, false);
    if (!one)
        return;
    mmf_text_add(out, "<p>What breaks it: of single modalities, <b>");
    mmf_html_text(out, mmf_json_get_text(one, "modality", ""));
    mmf_text_add(out, "</b> %s (", noise_phrase(mmf_json_get_text(one, "noise", "")));
    mmf_html_text(out, mmf_json_get_text(e, "main_metric", ""));
    mmf_text_add(out, " %s)", mmf_html_number(score, last_score(one)));
    if (all)
        mmf_text_add(out, "; every modality at once is worst %s (%s)",
                     noise_phrase(mmf_json_get_text(all, "noise", "")),
                     mmf_html_number(score, last_score(all)));
    mmf_text_add(out, ".</p>");
}

static void summary(mmf_text *out, const json_t *e)
{
    const char *const metric = mmf_json_get_text(e, "main_metric", "");
    const json_t *const metrics = json_object_get(e, "metrics");
    const json_t *const prior = json_object_get(json_object_get(e, "contributions"), "prior");
    const json_t *const most = extreme_contribution(e, 1), *const one = worst_curve(e, true);
    char score[MMF_HTML_NUMBER_BYTES], count[MMF_HTML_NUMBER_BYTES], none[MMF_HTML_NUMBER_BYTES];
    char adds[MMF_HTML_NUMBER_BYTES], broken[MMF_HTML_NUMBER_BYTES], ece[MMF_HTML_NUMBER_BYTES];
    char note[2][160];
    mmf_html_number(score, mmf_json_get_real(metrics, metric));
    mmf_html_number(none, mmf_json_get_real(prior, "score"));
    mmf_page_summary_open(out);
    mmf_text_add(out, "<p>On %s rows, <b>", mmf_html_count(count, mmf_json_get_real(e, "n")));
    mmf_html_text(out, mmf_json_get_text(e, "model", ""));
    mmf_text_add(out, "</b> reaches <b>");
    mmf_html_text(out, metric);
    mmf_text_add(
        out,
        " %s</b> from %zu modalities. From none of them, the mean target of %s alone "
        "reaches %s.</p>",
        score, json_array_size(json_object_get(e, "modalities")),
        strcmp(mmf_json_get_text(prior, "of", ""), "train") == 0 ? "training" : "these rows", none);
    say_contributions(out, e);
    say_weakness(out, e);
    snprintf(note[0], sizeof note[0], "%s adds most",
             most ? mmf_json_get_text(most, "modality", "") : "");
    snprintf(note[1], sizeof note[1], "%s %s", one ? mmf_json_get_text(one, "modality", "") : "",
             one ? noise_phrase(mmf_json_get_text(one, "noise", "")) : "");
    mmf_tile tiles[4] = {{metric, score, "every modality"}};
    size_t n = 1;
    if (most)
        tiles[n++] = (mmf_tile){"Largest contribution",
                                mmf_html_signed(adds, mmf_json_get_real(most, "value")), note[0]};
    if (one)
        tiles[n++] = (mmf_tile){"Weakest point", mmf_html_number(broken, last_score(one)), note[1]};
    if (json_object_get(e, "reliability"))
        tiles[n++] =
            (mmf_tile){"Calibration error", mmf_html_number(ece, mmf_json_get_real(metrics, "ece")),
                       "mean gap between said and right"};
    mmf_page_summary_close(out, tiles, n);
}

/* ---- Contributions ----------------------------------------------------------------------- */

static void contribution_table(mmf_text *out, const json_t *values, const char *error_of)
{
    static const char *const heads[] = {"modality", "contribution", "standard error"};
    mmf_table_open(out, "Table: contributions", heads, 3);
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *const row = json_array_get(values, i);
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_row(out);
        mmf_table_name(out, mmf_json_get_text(row, "modality", ""));
        mmf_table_text(out, mmf_html_signed(text, mmf_json_get_real(row, "value")));
        mmf_table_number(out, *error_of ? mmf_json_get_real(row, "error") : NAN);
    }
    mmf_table_close(out);
}

static void sort_rows(mmf_plot_row *rows, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t k = i; k > 0 && rows[k].value > rows[k - 1].value; k--) {
            const mmf_plot_row moved = rows[k];
            rows[k] = rows[k - 1];
            rows[k - 1] = moved;
        }
    }
}

static void contributions(mmf_text *out, const json_t *e)
{
    const json_t *const c = json_object_get(e, "contributions");
    const json_t *const values = json_object_get(c, "values");
    const char *const error_of = mmf_json_get_text(c, "error_of", "");
    mmf_plot_row rows[MAX_ROWS];
    char note[320], axis[96], empty[MMF_HTML_NUMBER_BYTES], full[MMF_HTML_NUMBER_BYTES];
    size_t n = 0;
    for (; n < json_array_size(values) && n < MAX_ROWS; n++) {
        const json_t *const row = json_array_get(values, n);
        const double value = mmf_json_get_real(row, "value");
        const double error = 1.96 * mmf_json_get_real(row, "error");
        rows[n] = (mmf_plot_row){.label = mmf_json_get_text(row, "modality", ""),
                                 .value = value,
                                 .low = *error_of ? value - error : NAN,
                                 .high = *error_of ? value + error : NAN,
                                 .strong = true};
        mmf_html_signed(rows[n].text, value);
    }
    sort_rows(rows, n);
    snprintf(note, sizeof note,
             "From nothing (%s) to every modality (%s): what each adds, as the "
             "mean over all orders in which they could come in.%s",
             mmf_html_number(empty, fabs(mmf_json_get_real(c, "empty"))),
             mmf_html_number(full, fabs(mmf_json_get_real(c, "full"))),
             strcmp(error_of, "rows") == 0     ? " Lines: 95 % interval over rows."
             : strcmp(error_of, "orders") == 0 ? " Lines: 95 % interval over the orders drawn."
                                               : "");
    snprintf(axis, sizeof axis, "%s %s", mmf_json_get_text(e, "main_metric", ""),
             json_is_false(json_object_get(e, "higher_is_better")) ? "taken away (less is better)"
                                                                   : "added");
    const mmf_row_plot plot = {.id = "contributions",
                               .title = "Contribution of each modality",
                               .note = note,
                               .axis = axis,
                               .rows = rows,
                               .n_rows = n,
                               .bars = true,
                               .base = 0};
    mmf_row_plot_draw(out, &plot);
    contribution_table(out, values, error_of);
    mmf_figure_close(out);
}

/* ---- Subsets ----------------------------------------------------------------------------- */

static uint64_t members_of(const json_t *subset, const json_t *modalities)
{
    const json_t *const names = json_object_get(subset, "modalities");
    uint64_t bits = 0;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *const name = json_string_value(json_array_get(names, i));
        for (size_t m = 0; m < json_array_size(modalities) && m < 64; m++) {
            const char *const other = json_string_value(json_array_get(modalities, m));
            if (name && other && strcmp(name, other) == 0)
                bits |= UINT64_C(1) << m;
        }
    }
    return bits;
}

static void subset_text(const json_t *subset, mmf_text *text)
{
    const json_t *const names = json_object_get(subset, "modalities");
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *const name = json_string_value(json_array_get(names, i));
        mmf_text_add(text, "%s%s", i ? " + " : "", name ? name : "?");
    }
}

static void subset_table(mmf_text *out, const json_t *subsets, const char *metric)
{
    enum { MAX_HEADS = 10 };
    json_t *const first = json_object_get(json_array_get(subsets, 0), "metrics");
    const char *heads[MAX_HEADS] = {"modalities", metric};
    size_t n = 2;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(first, key, value)
    {
        if (n < MAX_HEADS && strcmp(key, metric) != 0)
            heads[n++] = key;
    }
    mmf_table_open(out, "Table: every subset that was scored", heads, n);
    for (size_t i = 0; i < json_array_size(subsets); i++) {
        const json_t *const subset = json_array_get(subsets, i);
        mmf_text name = {.ctx = out->ctx};
        subset_text(subset, &name);
        mmf_table_row(out);
        mmf_table_name(out, name.data ? name.data : "");
        for (size_t h = 1; h < n; h++)
            mmf_table_number(out, mmf_json_get_real(json_object_get(subset, "metrics"), heads[h]));
        mmf_text_clear(&name);
    }
    mmf_table_close(out);
}

static void subsets(mmf_text *out, const json_t *e)
{
    const json_t *const list = json_object_get(e, "subsets");
    const json_t *const modalities = json_object_get(e, "modalities");
    const json_t *const prior = json_object_get(json_object_get(e, "contributions"), "prior");
    const char *const metric = mmf_json_get_text(e, "main_metric", "");
    const size_t n_all = json_array_size(list), n_modalities = json_array_size(modalities);
    mmf_plot_row rows[MAX_SHOWN_SUBSETS];
    const char *names[MAX_ROWS];
    size_t n = 0;
    for (size_t m = 0; m < n_modalities && m < MAX_ROWS; m++) {
        names[m] = json_string_value(json_array_get(modalities, m));
        names[m] = names[m] ? names[m] : "?";
    }
    for (size_t i = 0; i < n_all && n < MAX_SHOWN_SUBSETS; i++) {
        const json_t *const subset = json_array_get(list, i);
        const size_t size = json_array_size(json_object_get(subset, "modalities"));
        if (n_all > MAX_SHOWN_SUBSETS && size > 1 && size + 1 < n_modalities)
            continue;
        rows[n] =
            (mmf_plot_row){.label = "",
                           .value = mmf_json_get_real(json_object_get(subset, "metrics"), metric),
                           .low = NAN,
                           .high = NAN,
                           .strong = size == n_modalities,
                           .members = members_of(subset, modalities)};
        mmf_html_number(rows[n].text, rows[n].value);
        n++;
    }
    const mmf_row_plot plot = {
        .id = "subsets",
        .title = "With some modalities only",
        .note = n < n_all ? "Filled circles: modalities that the model is given. Here single ones, "
                            "all but one, and all; the table has every subset."
                          : "Filled circles: modalities that the model is given; the others count "
                            "as absent.",
        .axis = metric,
        .rows = rows,
        .n_rows = n,
        .bars = true,
        .from_zero = true,
        .base = 0,
        .members = names,
        .n_members = n_modalities < MAX_ROWS ? n_modalities : MAX_ROWS};
    mmf_row_plot_draw(out, &plot);
    subset_table(out, list, metric);
    mmf_text_add(out, "<p class=\"sub\">");
    mmf_text_add(out, "An absent modality: ");
    mmf_html_text(out, mmf_json_get_text(e, "absent", ""));
    char none[MMF_HTML_NUMBER_BYTES];
    mmf_text_add(out, ". Without any, the mean of the target in training would reach %s.</p>",
                 mmf_html_number(none, mmf_json_get_real(prior, "score")));
    mmf_figure_close(out);
}

/* ---- Attention and gates ----------------------------------------------------------------- */

typedef struct weights {
    mmf_plot_row rows[MAX_ROWS];
    size_t n;
} weights;

static void add_weight(weights *w, const char *label, double mean, double deviation)
{
    if (w->n == MAX_ROWS)
        return;
    mmf_plot_row *const row = &w->rows[w->n++];
    *row = (mmf_plot_row){.label = label,
                          .value = mean,
                          .low = mean - deviation,
                          .high = mean + deviation,
                          .strong = true};
    mmf_html_number(row->text, mean);
}

static void draw_weights(mmf_text *out, weights *w, const char *title, const char *note, int number)
{
    static const char *const heads[] = {"", "mean", "deviation"};
    char id[32], summary[128];
    snprintf(id, sizeof id, "output-%d", number);
    snprintf(summary, sizeof summary, "Table: %.100s", title);
    for (size_t i = 0; i < w->n; i++) { /* without spread there is nothing to draw */
        if (w->rows[i].high - w->rows[i].low < 1e-9)
            w->rows[i].low = w->rows[i].high = NAN;
    }
    const mmf_row_plot plot = {.id = id,
                               .title = title,
                               .note = note,
                               .rows = w->rows,
                               .n_rows = w->n,
                               .bars = true,
                               .is_panel = true,
                               .from_zero = true,
                               .base = 0};
    mmf_row_plot_draw(out, &plot);
    mmf_table_open(out, summary, heads, 3);
    for (size_t i = 0; i < w->n; i++) {
        const double spread = (w->rows[i].high - w->rows[i].low) / 2;
        mmf_table_row(out);
        mmf_table_name(out, w->rows[i].label);
        mmf_table_number(out, w->rows[i].value);
        mmf_table_number(out, isnan(spread) ? 0 : spread);
    }
    mmf_table_close(out);
    mmf_figure_close(out);
}

/* Outputs of one name for each modality; drawn where the first of them stands. */
static bool draw_group(mmf_text *out, const json_t *outputs, size_t first, int number)
{
    const char *const group = mmf_json_get_text(json_array_get(outputs, first), "group", "");
    weights w = {.n = 0};
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        if (strcmp(mmf_json_get_text(output, "group", ""), group) != 0)
            continue;
        if (i < first)
            return false;
        add_weight(&w, mmf_json_get_text(output, "modality", ""), mmf_json_get_real(output, "mean"),
                   mmf_json_get_real(output, "deviation"));
    }
    draw_weights(out, &w, group, "Mean over samples and elements, by modality.", number);
    return true;
}

static bool draw_axis(mmf_text *out, const json_t *output, size_t d, int number)
{
    const json_t *const axes = json_object_get(output, "axes");
    const json_t *const axis = json_array_get(axes, d);
    const json_t *const labels = json_object_get(axis, "labels");
    weights w = {.n = 0};
    char title[160], note[96];
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const char *const label = json_string_value(json_array_get(labels, i));
        add_weight(&w, label ? label : "?",
                   mmf_json_real(json_array_get(json_object_get(axis, "mean"), i)),
                   mmf_json_real(json_array_get(json_object_get(axis, "deviation"), i)));
    }
    if (w.n == 0)
        return false;
    snprintf(note, sizeof note, "Mean over samples%s.",
             json_array_size(axes) > 1 ? " and the other axes" : "");
    snprintf(title, sizeof title, "%s by %s", mmf_json_get_text(output, "name", ""),
             mmf_json_get_text(axis, "title", "place"));
    draw_weights(out, &w, title, note, number);
    return true;
}

/* What has no axis short enough to draw. */
static void other_outputs(mmf_text *out, const json_t *outputs)
{
    static const char *const heads[] = {"output", "mean", "deviation", "lowest", "highest"};
    mmf_table_open(out, "Table: every output that was looked at", heads, 5);
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        mmf_table_row(out);
        mmf_table_name(out, mmf_json_get_text(output, "name", ""));
        mmf_table_number(out, mmf_json_get_real(output, "mean"));
        mmf_table_number(out, mmf_json_get_real(output, "deviation"));
        mmf_table_number(out, mmf_json_get_real(output, "low"));
        mmf_table_number(out, mmf_json_get_real(output, "high"));
    }
    mmf_table_close(out);
}

static void gates(mmf_text *out, const json_t *e)
{
    const json_t *const outputs = json_object_get(e, "outputs");
    int number = 0;
    if (json_array_size(outputs) == 0) {
        mmf_page_section_open(out, "gates", "What it attends to",
                              "This model puts out no attention, gates or weights.");
        mmf_page_section_close(out);
        return;
    }
    mmf_page_section_open(out, "gates", "What it attends to",
                          "Attention, gates and weights that the model puts out beside its "
                          "prediction, over samples; lines are one deviation. They show where a "
                          "model looks, not what it needs: contributions say that.");
    mmf_text_add(out, "<div class=\"panels\">");
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        if (*mmf_json_get_text(output, "group", "")) {
            number += draw_group(out, outputs, i, number);
            continue;
        }
        if (strcmp(mmf_json_get_text(output, "kind", ""), "weight") != 0)
            continue;
        for (size_t d = 0; d < json_array_size(json_object_get(output, "axes")); d++)
            number += draw_axis(out, output, d, number);
    }
    mmf_text_add(out, "</div>");
    other_outputs(out, outputs);
    mmf_page_section_close(out);
}

/* ---- Page -------------------------------------------------------------------------------- */

void mmf_report_explanation(mmf_text *out, const json_t *e, const char *json)
{
    const char *const model = mmf_json_get_text(e, "model", "model");
    const char *const file = mmf_file_name(mmf_json_get_text(e, "data", "data"));
    mmf_text title = {.ctx = out->ctx}, subtitle = {.ctx = out->ctx};
    char rows[MMF_HTML_NUMBER_BYTES], size[MMF_HTML_NUMBER_BYTES];
    mmf_text_add(&title, "%s on %s", model, file);
    mmf_text_add(&subtitle, "%s, %s %s rows, %s parameters",
                 mmf_json_get_text(e, "task", "prediction"),
                 mmf_html_count(rows, mmf_json_get_real(e, "n")), mmf_json_get_text(e, "split", ""),
                 mmf_html_count(size, mmf_json_get_real(e, "parameters")));
    mmf_page_open(out, "Explanation", title.data ? title.data : model,
                  subtitle.data ? subtitle.data : "");
    mmf_text_clear(&title);
    mmf_text_clear(&subtitle);
    summary(out, e);
    mmf_text_add(out, "<nav aria-label=\"Sections\"><a href=\"#modalities\">Modalities</a>"
                      "<a href=\"#robustness\">Robustness</a><a href=\"#gates\">Attention and "
                      "gates</a><a href=\"#errors\">Errors</a></nav>\n");
    mmf_page_section_open(out, "modalities", "What each modality is worth", NULL);
    contributions(out, e);
    subsets(out, e);
    mmf_page_section_close(out);
    mmf_report_robustness(out, e);
    gates(out, e);
    mmf_report_errors(out, e);
    mmf_page_close(out, json);
}
