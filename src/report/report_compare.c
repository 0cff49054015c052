/* report_compare.c: the report of a comparison: summary, leaderboard, gains, trade-off with
 * latency, failed trials. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/plots.h"

#include "mmfuse/metrics.h"

/* Corrected p below which a difference is no chance, as in the table of the terminal. */
#define SIGNIFICANT 0.05

enum { MAX_LEADERS = 128, MAX_SEEDS = 64 };

double mmf_report_leader_score(const json_t *c, const json_t *leader, const char *part,
                               const char *which)
{
    const char *const metric = mmf_json_get_text(c, "main_metric", "");
    return mmf_json_get_real(json_object_get(json_object_get(leader, part), metric), which);
}

double mmf_report_latency(const json_t *leader)
{
    const double seconds = mmf_json_get_real(leader, "latency_seconds");
    return isnan(seconds) ? 1e-6 * mmf_json_get_real(leader, "latency_us") : seconds;
}

/* Of the main metric on test over seeds; NaN of one trial, which has none. */
static double deviation_of(const json_t *c, const json_t *leader)
{
    const double n = mmf_report_leader_score(c, leader, "metrics", "n");
    return (isnan(n) ? mmf_json_get_real(leader, "seeds") : n) > 1
               ? mmf_report_leader_score(c, leader, "metrics", "std")
               : NAN;
}

static bool higher_is_better(const json_t *c)
{
    return mmf_metric_higher_is_better(mmf_json_get_text(c, "main_metric", ""));
}

/* ---- Summary ----------------------------------------------------------------------------- */

static void say_choice(mmf_text *out, const json_t *c)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    const json_t *const first = json_array_get(leaders, 0);
    char valid[MMF_HTML_NUMBER_BYTES], test[MMF_HTML_NUMBER_BYTES], std[MMF_HTML_NUMBER_BYTES];
    mmf_text_add(out, "<p><b>");
    mmf_html_text(out, mmf_json_get_text(first, "model", ""));
    mmf_text_add(out, "</b> is chosen: of %zu models it is best on the validation rows (",
                 json_array_size(leaders));
    mmf_html_text(out, mmf_json_get_text(c, "main_metric", ""));
    mmf_text_add(out, " %s). On the test rows, which chose nothing, it reaches <b>%s</b>",
                 mmf_html_number(valid, mmf_report_leader_score(c, first, "valid", "mean")),
                 mmf_html_number(test, mmf_report_leader_score(c, first, "metrics", "mean")));
    if (!isnan(deviation_of(c, first)))
        mmf_text_add(out, " &plusmn; %s over %.0f seeds",
                     mmf_html_number(std, deviation_of(c, first)),
                     mmf_json_get_real(first, "seeds"));
    mmf_text_add(out, ".</p>");
}

/* The interval is of one comparison by itself; p is corrected for the number of models. */
static const char *gain_verdict(double low, double high, double p)
{
    const bool is_sure = p < SIGNIFICANT;
    if (low > 0)
        return is_sure ? "the whole interval is above 0: fusion helps here"
                       : "the whole interval is above 0, but by the test over all models it may be "
                         "chance";
    if (high < 0)
        return is_sure ? "the whole interval is below 0: fusion harms here"
                       : "the whole interval is below 0, but by the test over all models it may be "
                         "chance";
    return "the interval includes 0: it may be chance";
}

/* Of a model's difference from the best single modality; NAN where there is none. */
static double adjusted_p(const json_t *c, const char *model)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    for (size_t i = 0; i < json_array_size(leaders); i++) {
        const json_t *const leader = json_array_get(leaders, i);
        const json_t *const against = json_object_get(leader, "against");
        if (strcmp(mmf_json_get_text(leader, "model", ""), model) == 0)
            return mmf_json_get_real(json_object_get(against, "best_single"), "p_adjusted");
    }
    return NAN;
}

static void say_gain(mmf_text *out, const json_t *c)
{
    const json_t *const gain = json_object_get(c, "gain");
    char mean[MMF_HTML_NUMBER_BYTES], low[MMF_HTML_NUMBER_BYTES], high[MMF_HTML_NUMBER_BYTES];
    if (!json_is_object(gain)) {
        mmf_text_add(out, "<p>What fusion gains over a single modality is unknown: no model of one "
                          "modality, or no fusion, was among the models that finished.</p>");
        return;
    }
    const bool error = !mmf_metric_higher_is_better(mmf_json_get_text(gain, "metric", ""));
    mmf_text_add(out, "<p>The best fusion, <b>");
    mmf_html_text(out, mmf_json_get_text(gain, "model", ""));
    mmf_text_add(out, "</b>, gains <b>%s</b> ",
                 mmf_html_signed(mean, mmf_json_get_real(gain, "mean")));
    mmf_html_text(out, mmf_json_get_text(gain, "metric", ""));
    mmf_text_add(out, "%s over the best single modality, <b>", error ? " (less error)" : "");
    mmf_html_text(out, mmf_json_get_text(gain, "over", ""));
    mmf_text_add(out, "</b>, with a %.0f&nbsp;%% interval from %s to %s; %s.</p>",
                 100 * mmf_json_get_real(gain, "level"),
                 mmf_html_signed(low, mmf_json_get_real(gain, "low")),
                 mmf_html_signed(high, mmf_json_get_real(gain, "high")),
                 gain_verdict(mmf_json_get_real(gain, "low"), mmf_json_get_real(gain, "high"),
                              adjusted_p(c, mmf_json_get_text(gain, "model", ""))));
}

static size_t count_failed(const json_t *c)
{
    const json_t *const trials = json_object_get(c, "trials");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(trials); i++)
        n += json_object_get(json_array_get(trials, i), "error") != NULL;
    return n;
}

static void summary(mmf_text *out, const json_t *c)
{
    const json_t *const first = json_array_get(json_object_get(c, "leaderboard"), 0);
    const json_t *const gain = json_object_get(c, "gain");
    const size_t n_trials = json_array_size(json_object_get(c, "trials"));
    char score[MMF_HTML_NUMBER_BYTES], mean[MMF_HTML_NUMBER_BYTES], low[MMF_HTML_NUMBER_BYTES];
    char high[MMF_HTML_NUMBER_BYTES], time[MMF_HTML_NUMBER_BYTES], size[MMF_HTML_NUMBER_BYTES];
    char metric[96], interval[120], parameters[80];
    mmf_page_summary_open(out);
    if (!first) {
        mmf_text_add(out, "<p>No trial finished, so nothing is chosen.</p>");
        mmf_page_summary_close(out, NULL, 0);
        return;
    }
    say_choice(out, c);
    say_gain(out, c);
    if (count_failed(c) > 0)
        mmf_text_add(out, "<p>%zu of %zu trials <a href=\"#failed\">failed</a>.</p>",
                     count_failed(c), n_trials);
    snprintf(metric, sizeof metric, "Test %s", mmf_json_get_text(c, "main_metric", ""));
    snprintf(parameters, sizeof parameters, "%s parameters",
             mmf_html_count(size, mmf_json_get_real(first, "parameters")));
    mmf_tile tiles[4] = {
        {"Chosen on validation", mmf_json_get_text(first, "model", ""), parameters},
        {metric, mmf_html_number(score, mmf_report_leader_score(c, first, "metrics", "mean")),
         isnan(deviation_of(c, first)) ? "of one seed" : "mean over seeds"}};
    size_t n = 2;
    if (json_is_object(gain)) {
        snprintf(interval, sizeof interval, "over one modality; %s to %s",
                 mmf_html_signed(low, mmf_json_get_real(gain, "low")),
                 mmf_html_signed(high, mmf_json_get_real(gain, "high")));
        tiles[n++] = (mmf_tile){"Gain of fusion",
                                mmf_html_signed(mean, mmf_json_get_real(gain, "mean")), interval};
    }
    if (!isnan(mmf_report_latency(first)))
        tiles[n++] = (mmf_tile){"Latency", mmf_html_duration(time, mmf_report_latency(first)),
                                "for one sample"};
    mmf_page_summary_close(out, tiles, n);
}

/* ---- Leaderboard ------------------------------------------------------------------------- */

static size_t seed_scores(const json_t *c, const char *model, double out[MAX_SEEDS])
{
    const json_t *const trials = json_object_get(c, "trials");
    const char *const metric = mmf_json_get_text(c, "main_metric", "");
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(trials) && n < MAX_SEEDS; i++) {
        const json_t *const trial = json_array_get(trials, i);
        if (strcmp(mmf_json_get_text(trial, "model", ""), model) == 0 &&
            !json_object_get(trial, "error"))
            out[n++] = mmf_json_get_real(json_object_get(trial, "metrics"), metric);
    }
    return n;
}

static void leaderboard_table(mmf_text *out, const json_t *c)
{
    static const char *const heads[] = {"model", "structure",  "validation", "test",   "deviation",
                                        "seeds", "parameters", "training",   "latency"};
    const json_t *const leaders = json_object_get(c, "leaderboard");
    mmf_table_open(out, "Table: leaderboard", heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < json_array_size(leaders); i++) {
        const json_t *const row = json_array_get(leaders, i);
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_row(out);
        mmf_table_name(out, mmf_json_get_text(row, "model", ""));
        mmf_table_text(out, mmf_json_get_text(row, "structure", ""));
        mmf_table_number(out, mmf_report_leader_score(c, row, "valid", "mean"));
        mmf_table_number(out, mmf_report_leader_score(c, row, "metrics", "mean"));
        mmf_table_text(
            out, isnan(deviation_of(c, row)) ? "" : mmf_html_number(text, deviation_of(c, row)));
        mmf_table_text(out, mmf_html_count(text, mmf_json_get_real(row, "seeds")));
        mmf_table_text(out, mmf_html_count(text, mmf_json_get_real(row, "parameters")));
        mmf_table_text(out, mmf_html_duration(text, mmf_json_get_real(row, "train_seconds")));
        mmf_table_text(out, mmf_html_duration(text, mmf_report_latency(row)));
    }
    mmf_table_close(out);
}

typedef struct board {
    mmf_plot_row rows[MAX_LEADERS];
    char labels[MAX_LEADERS][96];
    double seeds[MAX_LEADERS][MAX_SEEDS];
} board;

static void leaderboard(mmf_text *out, const json_t *c)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    board *const b = mmf_alloc_zero(out->ctx, 1, sizeof *b);
    char axis[96], note[240];
    bool any_deviation = false;
    size_t n = 0;
    if (!b) {
        out->status = MMF_NOMEM;
        return;
    }
    for (; n < json_array_size(leaders) && n < MAX_LEADERS; n++) {
        const json_t *const leader = json_array_get(leaders, n);
        const char *const model = mmf_json_get_text(leader, "model", "");
        const double mean = mmf_report_leader_score(c, leader, "metrics", "mean");
        const double deviation = deviation_of(c, leader);
        char a[MMF_HTML_NUMBER_BYTES], d[MMF_HTML_NUMBER_BYTES];
        snprintf(b->labels[n], sizeof b->labels[n], "%zu  %s", n + 1, model);
        b->rows[n] = (mmf_plot_row){.label = b->labels[n],
                                    .value = mean,
                                    .low = mean - deviation,
                                    .high = mean + deviation,
                                    .dots = b->seeds[n],
                                    .n_dots = seed_scores(c, model, b->seeds[n]),
                                    .strong = n == 0};
        snprintf(b->rows[n].text, sizeof b->rows[n].text, "%s%s%s", mmf_html_number(a, mean),
                 isnan(deviation) ? "" : " \xC2\xB1 ",
                 isnan(deviation) ? "" : mmf_html_number(d, deviation));
        any_deviation = any_deviation || !isnan(deviation);
    }
    snprintf(axis, sizeof axis, "test %s", mmf_json_get_text(c, "main_metric", ""));
    snprintf(note, sizeof note,
             "In the order of their validation scores; drawn are test scores%s. %s is better.",
             any_deviation ? ": the mean, one deviation over seeds to either side, and every seed"
                           : "",
             higher_is_better(c) ? "More" : "Less");
    const mmf_row_plot plot = {.id = "leaderboard",
                               .title = "Leaderboard",
                               .note = note,
                               .axis = axis,
                               .rows = b->rows,
                               .n_rows = n,
                               .base = NAN};
    mmf_row_plot_draw(out, &plot);
    mmf_free(out->ctx, b);
    leaderboard_table(out, c);
    mmf_figure_close(out);
}

/* ---- Differences with intervals ---------------------------------------------------------- */

static void difference_table(mmf_text *out, const json_t *leaders, const char *key)
{
    static const char *const heads[] = {"model", "difference", "low", "high", "p", "p adjusted"};
    mmf_table_open(out, "Table: differences", heads, 6);
    for (size_t i = 0; i < json_array_size(leaders); i++) {
        const json_t *const leader = json_array_get(leaders, i);
        const json_t *const d = json_object_get(json_object_get(leader, "against"), key);
        if (!json_is_object(d))
            continue;
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_row(out);
        mmf_table_name(out, mmf_json_get_text(leader, "model", ""));
        mmf_table_text(out, mmf_html_signed(text, mmf_json_get_real(d, "difference")));
        mmf_table_text(out, mmf_html_signed(text, mmf_json_get_real(d, "low")));
        mmf_table_text(out, mmf_html_signed(text, mmf_json_get_real(d, "high")));
        mmf_table_number(out, mmf_json_get_real(d, "p"));
        mmf_table_number(out, mmf_json_get_real(d, "p_adjusted"));
    }
    mmf_table_close(out);
}

/* @param key  of "against"   @return false where no leader has it */
static bool differences(mmf_text *out, const json_t *c, const char *key, const char *id,
                        const char *title)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    mmf_plot_row rows[MAX_LEADERS];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(leaders) && n < MAX_LEADERS; i++) {
        const json_t *const leader = json_array_get(leaders, i);
        const json_t *const d = json_object_get(json_object_get(leader, "against"), key);
        if (!json_is_object(d))
            continue;
        const double p = mmf_json_get_real(d, "p_adjusted");
        rows[n] = (mmf_plot_row){.label = mmf_json_get_text(leader, "model", ""),
                                 .value = mmf_json_get_real(d, "difference"),
                                 .low = mmf_json_get_real(d, "low"),
                                 .high = mmf_json_get_real(d, "high"),
                                 .strong = p < SIGNIFICANT};
        mmf_html_signed(rows[n].text, rows[n].value);
        n++;
    }
    if (n == 0)
        return false;
    const mmf_row_plot plot = {.id = id,
                               .title = title,
                               .note = "Paired over test rows, with 95 % intervals; filled where "
                                       "the p-value, adjusted for the number of models, is below "
                                       "0.05.",
                               .axis = "difference (right is better)",
                               .rows = rows,
                               .n_rows = n,
                               .base = 0};
    mmf_row_plot_draw(out, &plot);
    difference_table(out, leaders, key);
    mmf_figure_close(out);
    return true;
}

static void all_differences(mmf_text *out, const json_t *c)
{
    char title[160];
    snprintf(title, sizeof title, "Against the best single modality%s%s",
             json_is_string(json_object_get(c, "best_single")) ? ", " : "",
             mmf_json_get_text(c, "best_single", ""));
    mmf_page_section_open(out, "gains", "Is it more than chance", NULL);
    const bool single = differences(out, c, "best_single", "against-single", title);
    const bool concat =
        differences(out, c, "joint-concat", "against-concat", "Against plain concatenation");
    if (!single && !concat)
        mmf_text_add(out, "<p>%s no paired differences of the other models.</p>",
                     json_is_object(json_object_get(c, "gain"))
                         ? "The results hold the gain of the best fusion, above, but"
                         : "The results hold");
    mmf_page_section_close(out);
}

/* ---- Failures ---------------------------------------------------------------------------- */

static void failures(mmf_text *out, const json_t *c)
{
    const json_t *const trials = json_object_get(c, "trials");
    if (count_failed(c) == 0)
        return;
    mmf_page_section_open(out, "failed", "Trials that failed", NULL);
    mmf_text_add(out, "<ul class=\"failed\">");
    for (size_t i = 0; i < json_array_size(trials); i++) {
        const json_t *const trial = json_array_get(trials, i);
        if (!json_object_get(trial, "error"))
            continue;
        mmf_text_add(out, "<li><b>");
        mmf_html_text(out, mmf_json_get_text(trial, "model", ""));
        mmf_text_add(out, "</b>, seed %.0f: ", mmf_json_get_real(trial, "seed"));
        mmf_html_text(out, mmf_json_get_text(trial, "error", ""));
        mmf_text_add(out, "</li>");
    }
    mmf_text_add(out, "</ul>");
    mmf_page_section_close(out);
}

/* ---- Page -------------------------------------------------------------------------------- */

void mmf_report_comparison(mmf_text *out, const json_t *c, const char *json)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    const char *const file = mmf_file_name(mmf_json_get_text(c, "data", "data"));
    mmf_text title = {.ctx = out->ctx}, subtitle = {.ctx = out->ctx};
    mmf_text_add(&title, "%zu models on %s", json_array_size(leaders), file);
    mmf_text_add(&subtitle, "%s, %zu trials, chosen by %s on validation rows",
                 mmf_json_get_text(c, "task", "prediction"),
                 json_array_size(json_object_get(c, "trials")),
                 mmf_json_get_text(c, "main_metric", "score"));
    mmf_page_open(out, "Comparison", title.data ? title.data : file,
                  subtitle.data ? subtitle.data : "");
    mmf_text_clear(&title);
    mmf_text_clear(&subtitle);
    summary(out, c);
    if (json_array_size(leaders) > 0) {
        mmf_text_add(
            out,
            "<nav aria-label=\"Sections\"><a href=\"#ranking\">Ranking</a><a "
            "href=\"#gains\">Differences</a><a href=\"#trade-off\">Quality and speed</a><a "
            "href=\"#learning\">Learning</a>%s</nav>\n",
            count_failed(c) ? "<a href=\"#failed\">Failures</a>" : "");
        mmf_page_section_open(out, "ranking", "Which model is best", NULL);
        leaderboard(out, c);
        mmf_page_section_close(out);
        all_differences(out, c);
        mmf_report_trade_off(out, c);
        mmf_report_learning(out, c);
    }
    failures(out, c);
    mmf_page_close(out, json);
}
