/* leaderboard.c: a comparison as an aligned text table with what it claims in a sentence. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "mmfuse/tool.h"
#include "report/number.h"
#include "train/compare.h"

#define CELL_BYTES 96
#define GAP "  "

enum {
    RANK,
    MODEL,
    STRUCTURE,
    TEST,
    VALID,
    SECOND,
    OVER_CONCAT,
    OVER_SINGLE,
    PARAMETERS,
    SECONDS,
    LATENCY,
    N_COLUMNS
};

/* Below this adjusted p value a difference is marked. */
#define SIGNIFICANT 0.05

typedef struct table_row {
    char cells[N_COLUMNS][CELL_BYTES];
} table_row;

static const char bold[] = "\033[1m", yellow[] = "\033[33m", red[] = "\033[31m",
                  plain[] = "\033[0m";

/* ---- Cells ------------------------------------------------------------------------------- */

static void put_score(char *out, double value)
{
    char text[MMF_NUMBER_BYTES];
    snprintf(out, CELL_BYTES, "%s", isfinite(value) ? mmf_number_text(text, value) : "-");
}

static void put_summary(char *out, mmf_summary s)
{
    char mean[MMF_NUMBER_BYTES], deviation[MMF_NUMBER_BYTES];
    if (s.n > 1)
        snprintf(out, CELL_BYTES, "%s ± %s", mmf_number_text(mean, s.mean),
                 mmf_number_text(deviation, s.deviation));
    else
        put_score(out, s.n > 0 ? s.mean : NAN);
}

/* 950, 12.3k, 4.51M */
static void put_count(char *out, int64_t n)
{
    static const char units[] = "kMGT";
    double value = (double)n;
    if (n < 1000) {
        snprintf(out, CELL_BYTES, "%lld", (long long)n);
        return;
    }
    size_t unit = 0;
    for (value /= 1000; value >= 999.5 && units[unit + 1]; value /= 1000)
        unit++;
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(out, CELL_BYTES, "%.*f%c", decimals, value, units[unit]);
}

static void put_train_seconds(char *out, double seconds)
{
    if (isfinite(seconds))
        snprintf(out, CELL_BYTES, "%.*f s", seconds < 99.95 ? 1 : 0, seconds);
    else
        snprintf(out, CELL_BYTES, "-");
}

static void put_latency(char *out, double seconds)
{
    if (!isfinite(seconds))
        snprintf(out, CELL_BYTES, "-");
    else if (seconds < 0.0009995)
        snprintf(out, CELL_BYTES, "%.0f µs", 1e6 * seconds);
    else
        snprintf(out, CELL_BYTES, "%.*f ms", seconds < 0.01 ? 2 : 1, 1e3 * seconds);
}

/* Better or worse than the reference, and whether that may be chance. */
static void put_against(char *out, const mmf_against *against)
{
    char text[MMF_NUMBER_BYTES];
    if (!against->reference || !isfinite(against->difference))
        snprintf(out, CELL_BYTES, "-");
    else
        snprintf(out, CELL_BYTES, "%s%s %s", against->difference >= 0 ? "+" : "",
                 mmf_number_text(text, against->difference),
                 !(against->p_adjusted < SIGNIFICANT) ? "·"
                 : against->difference > 0            ? "↑"
                                                      : "↓");
}

/* ---- Rows -------------------------------------------------------------------------------- */

static const char *second_metric(mmf_target_kind kind)
{
    if (kind == MMF_TARGET_REAL)
        return "corr";
    if (kind == MMF_TARGET_RETRIEVAL)
        return "recall@1";
    return kind == MMF_TARGET_MULTILABEL ? "f1_micro" : "f1_macro";
}

static void fill_header(table_row *row, mmf_target_kind kind)
{
    static const char *const titles[N_COLUMNS] = {
        "#",           "model",       "structure",  "test ",    "valid ", "test ",
        "over concat", "over single", "parameters", "training", "latency"};
    for (int i = 0; i < N_COLUMNS; i++)
        snprintf(row->cells[i], CELL_BYTES, "%s%s", titles[i],
                 i == TEST || i == VALID ? mmf_task_main_metric(kind)
                 : i == SECOND           ? second_metric(kind)
                                         : "");
}

static void fill_row(table_row *row, const mmf_comparison *c, size_t i)
{
    const mmf_leader *const leader = &c->leaders[i];
    const mmf_def *const def = mmf_model_find(leader->model);
    const char *const metric = mmf_task_main_metric(c->task.kind);
    const bool is_best_single = c->best_single && strcmp(leader->model, c->best_single) == 0;
    snprintf(row->cells[RANK], CELL_BYTES, "%zu", i + 1);
    snprintf(row->cells[MODEL], CELL_BYTES, "%.80s%s%s", leader->model, is_best_single ? " *" : "",
             leader->is_pareto ? " †" : "");
    snprintf(row->cells[STRUCTURE], CELL_BYTES, "%s", def && def->structure ? def->structure : "-");
    put_summary(row->cells[TEST], mmf_compare__summary(c, leader->model, true, metric));
    put_summary(row->cells[VALID], mmf_compare__summary(c, leader->model, false, metric));
    put_score(row->cells[SECOND], mmf_metrics_get(&leader->test_mean, second_metric(c->task.kind)));
    put_against(row->cells[OVER_CONCAT], &leader->against_concat);
    put_against(row->cells[OVER_SINGLE], &leader->against_single);
    put_count(row->cells[PARAMETERS], leader->n_parameters);
    put_train_seconds(row->cells[SECONDS], leader->train_seconds);
    put_latency(row->cells[LATENCY], leader->latency);
}

static void add_padding(mmf_text *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mmf_text_add(text, " ");
}

static void add_row(mmf_text *text, const table_row *row, const size_t widths[N_COLUMNS],
                    const char *colour)
{
    if (colour)
        mmf_text_add(text, "%s", colour);
    for (int i = 0; i < N_COLUMNS; i++) {
        if (widths[i] == 0)
            continue;
        const bool left = i == MODEL || i == STRUCTURE;
        const size_t n = widths[i] - mmf_text_columns(row->cells[i]);
        mmf_text_add(text, "%s", i > 0 ? GAP : "");
        add_padding(text, left ? 0 : n);
        mmf_text_add(text, "%s", row->cells[i]);
        add_padding(text, left ? n : 0);
    }
    mmf_text_add(text, "%s\n", colour ? plain : "");
}

static bool has_tests(const mmf_comparison *c, bool single)
{
    for (size_t i = 0; i < c->n_leaders; i++) {
        const mmf_leader *const leader = &c->leaders[i];
        if ((single ? &leader->against_single : &leader->against_concat)->reference)
            return true;
    }
    return false;
}

static void add_table(mmf_text *text, const mmf_comparison *c, table_row *rows, bool colour)
{
    size_t widths[N_COLUMNS] = {0};
    fill_header(&rows[0], c->task.kind);
    for (size_t i = 0; i < c->n_leaders; i++)
        fill_row(&rows[i + 1], c, i);
    for (size_t r = 0; r <= c->n_leaders; r++) {
        for (int i = 0; i < N_COLUMNS; i++) {
            const size_t width = mmf_text_columns(rows[r].cells[i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    for (int i = OVER_CONCAT; i <= OVER_SINGLE; i++) /* left out where nothing was tested */
        widths[i] = has_tests(c, i == OVER_SINGLE) ? widths[i] : 0;
    add_row(text, &rows[0], widths, colour ? bold : NULL);
    for (size_t i = 0; i < c->n_leaders; i++) {
        const bool is_single = c->best_single && strcmp(c->leaders[i].model, c->best_single) == 0;
        add_row(text, &rows[i + 1], widths, colour && is_single ? yellow : NULL);
    }
}

/* ---- Sentences --------------------------------------------------------------------------- */

static const char *measure(mmf_target_kind kind)
{
    return kind == MMF_TARGET_REAL ? "mean absolute error" : mmf_compare__gain_metric(kind);
}

typedef struct interval {
    double middle, low, high;
} interval;

/* What three decimals make 0 is 0, for the reader and for the claim, unless all of it is so small.
 */
static interval as_printed(interval i)
{
    if (mmf_number_is_tiny(i.middle) && mmf_number_is_tiny(i.low) && mmf_number_is_tiny(i.high))
        return i;
    return (interval){mmf_number_is_tiny(i.middle) ? 0 : i.middle,
                      mmf_number_is_tiny(i.low) ? 0 : i.low,
                      mmf_number_is_tiny(i.high) ? 0 : i.high};
}

/* "0.041 [0.020, 0.060]" */
static void add_interval(mmf_text *text, interval i)
{
    char middle[MMF_NUMBER_BYTES], low[MMF_NUMBER_BYTES], high[MMF_NUMBER_BYTES];
    mmf_text_add(text, "%s [%s, %s]", mmf_number_text(middle, i.middle),
                 mmf_number_text(low, i.low), mmf_number_text(high, i.high));
}

static void add_pareto(mmf_text *text, const mmf_comparison *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_leaders; i++)
        n += c->leaders[i].is_pareto;
    if (n > 0)
        mmf_text_add(text,
                     "%s† worth their time: no other model is as good on validation and as fast, "
                     "and better in one of the two\n",
                     c->best_single ? "" : "\n");
}

static void add_tests(mmf_text *text, const mmf_comparison *c)
{
    if (!has_tests(c, false) && !has_tests(c, true))
        return;
    mmf_text_add(text,
                 "over concat, over single: gain in %s on test over joint-concat and over the best "
                 "single modality;\n  ↑ ↓ p < 0.05 by a sign-flip test paired by row, corrected "
                 "for the number of models (Holm), · may be chance\n",
                 measure(c->task.kind));
    if (c->task.kind == MMF_TARGET_MULTILABEL)
        mmf_text_add(text, "  %s is no mean over rows, so the tests count right labels of a row\n",
                     mmf_task_main_metric(c->task.kind));
}

/* The interval is of one comparison by itself; the signs in the table are of all of them. */
static const char *reservation(const mmf_comparison *c)
{
    for (size_t i = 0; i < c->n_leaders; i++) {
        if (strcmp(c->leaders[i].model, c->best_fusion) == 0 &&
            !(c->leaders[i].against_single.p_adjusted < SIGNIFICANT))
            return "; by the test over all models it may be chance";
    }
    return "";
}

static void add_gain(mmf_text *text, const mmf_comparison *c)
{
    if (c->best_single)
        mmf_text_add(text, "\n* best single modality on validation\n");
    add_pareto(text, c);
    add_tests(text, c);
    if (!c->best_single || !c->best_fusion || !isfinite(c->gain))
        return;
    const interval gain = as_printed((interval){c->gain, c->gain_low, c->gain_high});
    const interval loss = {-gain.middle, -gain.high, -gain.low};
    const bool is_unclear = gain.low <= 0 && gain.high >= 0, is_loss = !is_unclear && c->gain <= 0;
    if (is_unclear)
        mmf_text_add(text, "There is no clear gain of %s over %s: ", c->best_fusion,
                     c->best_single);
    else if (is_loss)
        mmf_text_add(text, "%s alone beats %s by ", c->best_single, c->best_fusion);
    else
        mmf_text_add(text, "%s beats %s by ", c->best_fusion, c->best_single);
    add_interval(text, is_loss ? loss : gain);
    mmf_text_add(text, " in %s on test (95 %% paired bootstrap over rows)%s.\n",
                 measure(c->task.kind), is_unclear ? "" : reservation(c));
}

static void add_tuning(mmf_text *text, const mmf_comparison *c)
{
    size_t n_models = 0, n_failed = 0, n_changed = 0;
    for (size_t i = 0; i < c->n_draws; i++) {
        n_models += i == 0 || strcmp(c->draws[i].model, c->draws[i - 1].model) != 0;
        n_failed += c->draws[i].status != MMF_OK;
        n_changed += c->draws[i].is_chosen && c->draws[i].number > 0;
    }
    if (n_models == 0)
        return;
    mmf_text_add(text,
                 "Tuned on validation: %zu settings of each of %zu models with one seed; another "
                 "than the given one was chosen for %zu.",
                 c->n_draws / n_models, n_models, n_changed);
    if (n_failed > 0)
        mmf_text_add(text, " %zu settings failed; results.json says why.", n_failed);
    mmf_text_add(text, "\n");
}

static bool is_first_of(const mmf_comparison *c, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (strcmp(c->trials[i].model, c->trials[j].model) == 0 && *c->trials[j].left_aside)
            return false;
    }
    return true;
}

/* "Trained without smoothing: qmf, tmc": once for each kind. */
static void add_left_aside(mmf_text *text, const mmf_comparison *c)
{
    for (size_t i = 0; i < c->n_trials; i++) {
        const char *const what = c->trials[i].left_aside;
        bool told = !*what;
        for (size_t j = 0; j < i && !told; j++)
            told = strcmp(what, c->trials[j].left_aside) == 0;
        if (told)
            continue;
        mmf_text_add(text, "Trained without %s, which they do not take: ", what);
        size_t n = 0;
        for (size_t j = i; j < c->n_trials; j++) {
            if (strcmp(what, c->trials[j].left_aside) == 0 && is_first_of(c, j))
                mmf_text_add(text, "%s%s", n++ ? ", " : "", c->trials[j].model);
        }
        mmf_text_add(text, "\n");
    }
}

static bool is_failed(const mmf_trial *trial)
{
    return !mmf_trial__is_done(trial) && !mmf_trial__is_pending(trial);
}

static bool is_same_failure(const mmf_trial *a, const mmf_trial *b)
{
    return is_failed(a) && is_failed(b) && strcmp(a->model, b->model) == 0 &&
           strcmp(a->error, b->error) == 0;
}

/* One line for a model that failed in the same way with several seeds. */
static void add_failure(mmf_text *text, const mmf_comparison *c, size_t i)
{
    size_t n = 0;
    for (size_t j = 0; j < c->n_trials; j++)
        n += is_same_failure(&c->trials[i], &c->trials[j]);
    mmf_text_add(text, GAP "%s, seed%s", c->trials[i].model, n > 1 ? "s" : "");
    for (size_t j = i, k = 0; j < c->n_trials; j++) {
        if (is_same_failure(&c->trials[i], &c->trials[j]))
            mmf_text_add(text, "%s %llu", k++ ? "," : "", (unsigned long long)c->trials[j].seed);
    }
    mmf_text_add(text, ": %s\n", c->trials[i].error);
}

static void add_failures(mmf_text *text, const mmf_comparison *c, bool colour)
{
    bool any = false;
    for (size_t i = 0; i < c->n_trials; i++) {
        bool is_told = !is_failed(&c->trials[i]);
        for (size_t j = 0; j < i && !is_told; j++)
            is_told = is_same_failure(&c->trials[i], &c->trials[j]);
        if (is_told)
            continue;
        if (!any)
            mmf_text_add(text, "\n%sFailed:%s\n", colour ? red : "", colour ? plain : "");
        any = true;
        add_failure(text, c, i);
    }
}

static void add_all(mmf_text *text, const mmf_comparison *c, table_row *rows, bool colour)
{
    if (c->n_leaders > 0)
        add_table(text, c, rows, colour);
    else
        mmf_text_add(text, "No trial has finished.\n");
    add_gain(text, c);
    add_tuning(text, c);
    add_left_aside(text, c);
    add_failures(text, c, colour);
}

char *mmf_comparison_table(const mmf_comparison *comparison, bool colour)
{
    mmf_ctx *const ctx = comparison->ctx;
    mmf_text text = {.ctx = ctx};
    table_row *const rows = mmf_alloc_zero(ctx, comparison->n_leaders + 1, sizeof *rows);
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (rows && c_locale != (locale_t)0) {
        const locale_t before = uselocale(c_locale);
        add_all(&text, comparison, rows, colour);
        uselocale(before);
    }
    if (c_locale != (locale_t)0)
        freelocale(c_locale);
    mmf_free(ctx, rows);
    if (text.status != MMF_OK)
        mmf_text_clear(&text);
    return text.data;
}
