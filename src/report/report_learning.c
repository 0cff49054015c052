/* report_learning.c: learning curves of a comparison's trials, a panel a model. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/page.h"
#include "report/plots.h"

enum { MAX_TRIALS = 6, MAX_MODELS = 24, MAX_EPOCHS = 4096 };

typedef struct learning {
    const json_t *curves[MAX_TRIALS];
    double chosen[MAX_TRIALS]; /* epoch */
    size_t n;
} learning;

static learning curves_of(const json_t *c, const char *model)
{
    const json_t *const trials = json_object_get(c, "trials");
    learning found = {.n = 0};
    for (size_t i = 0; i < json_array_size(trials) && found.n < MAX_TRIALS; i++) {
        const json_t *const trial = json_array_get(trials, i);
        const json_t *const curve = json_object_get(trial, "curve");
        if (json_array_size(curve) < 2 || json_array_size(curve) > MAX_EPOCHS ||
            strcmp(mmf_json_get_text(trial, "model", ""), model) != 0)
            continue;
        found.chosen[found.n] = mmf_json_get_real(trial, "epochs");
        found.curves[found.n++] = curve;
    }
    return found;
}

/* x, then the values of `key`, both (n). */
static void read_curve(const json_t *curve, const char *key, double *x, double *y)
{
    for (size_t i = 0; i < json_array_size(curve); i++) {
        const json_t *const point = json_array_get(curve, i);
        x[i] = mmf_json_get_real(point, "epoch");
        y[i] = mmf_json_get_real(point, key);
    }
}

static void learning_table(mmf_text *out, const char *model, const learning *l)
{
    char summary[128];
    static const char *const heads[] = {"seed, epochs", "chosen epoch", "last train loss",
                                        "lowest validation loss"};
    snprintf(summary, sizeof summary, "Table: epochs of %.100s", model);
    mmf_table_open(out, summary, heads, 4);
    for (size_t t = 0; t < l->n; t++) {
        const size_t n = json_array_size(l->curves[t]);
        char name[64];
        double lowest = NAN;
        for (size_t i = 0; i < n; i++)
            lowest = fmin(lowest, mmf_json_get_real(json_array_get(l->curves[t], i), "valid_loss"));
        snprintf(name, sizeof name, "trial %zu, %zu epochs", t + 1, n);
        mmf_table_row(out);
        mmf_table_name(out, name);
        char text[MMF_HTML_NUMBER_BYTES];
        mmf_table_text(out, mmf_html_count(text, l->chosen[t]));
        mmf_table_number(out, mmf_json_get_real(json_array_get(l->curves[t], n - 1), "train_loss"));
        mmf_table_number(out, lowest);
    }
    mmf_table_close(out);
}

/* @param memory  4 values an epoch of every curve */
static void draw_panel(mmf_text *out, const char *model, const learning *l, double longest, int id,
                       double *memory)
{
    mmf_series series[2 * MAX_TRIALS];
    mmf_scale y = mmf_scale_empty();
    char name[32];
    size_t n_series = 0;
    for (size_t t = 0; t < l->n; t++) {
        static const char *const keys[] = {"train_loss", "valid_loss"};
        const size_t n = json_array_size(l->curves[t]);
        for (int k = 0; k < 2; k++) {
            double *const x = memory, *const values = memory + n;
            memory += 2 * n;
            read_curve(l->curves[t], keys[k], x, values);
            size_t at = (size_t)fmax(l->chosen[t] - 1, 0);
            at = at < n ? at : n - 1;
            for (size_t i = 0; i < n; i++)
                mmf_scale_include(&y, values[i]);
            series[n_series++] = (mmf_series){.label = t > 0 ? NULL
                                                       : k   ? "valid"
                                                             : "train",
                                              .x = x,
                                              .y = values,
                                              .n = n,
                                              .colour = k ? 1 : 2,
                                              .dashed = k == 0,
                                              .mark_x = k ? x[at] : NAN,
                                              .mark_y = k ? values[at] : NAN};
        }
    }
    mmf_scale_round(&y);
    snprintf(name, sizeof name, "learning-%d", id);
    const mmf_line_plot plot = {.id = name,
                                .title = model,
                                .x_axis = "epoch",
                                .y_axis = "loss",
                                .series = series,
                                .n_series = n_series,
                                .x = {.low = 1, .high = longest, .is_whole = true},
                                .y = y,
                                .height = 130,
                                .is_panel = true};
    mmf_line_plot_draw(out, &plot);
    learning_table(out, model, l);
    mmf_figure_close(out);
}

static double longest_curve(const json_t *c)
{
    const json_t *const trials = json_object_get(c, "trials");
    size_t longest = 2;
    for (size_t i = 0; i < json_array_size(trials); i++) {
        const size_t n = json_array_size(json_object_get(json_array_get(trials, i), "curve"));
        longest = n > longest && n <= MAX_EPOCHS ? n : longest;
    }
    return (double)longest;
}

void mmf_report_learning(mmf_text *out, const json_t *c)
{
    const json_t *const leaders = json_object_get(c, "leaderboard");
    const double longest = longest_curve(c);
    double *const memory =
        mmf_alloc_zero(out->ctx, (size_t)longest * MAX_TRIALS, 4 * sizeof(double));
    size_t n_drawn = 0, n_without = 0;
    if (!memory) {
        out->status = MMF_NOMEM;
        return;
    }
    mmf_page_section_open(out, "learning", "How they learnt",
                          "Loss on training and validation rows after every epoch, a line a seed; "
                          "the dot is the epoch that validation chose. Losses of models with "
                          "objectives of their own do not compare with others.");
    mmf_text_add(out, "<div class=\"panels small\">");
    for (size_t i = 0; i < json_array_size(leaders); i++) {
        const char *const model = mmf_json_get_text(json_array_get(leaders, i), "model", "");
        const learning l = curves_of(c, model);
        n_without += l.n == 0;
        if (l.n > 0 && n_drawn < MAX_MODELS)
            draw_panel(out, model, &l, longest, (int)n_drawn++, memory);
    }
    mmf_text_add(out, "</div>");
    mmf_free(out->ctx, memory);
    if (n_without > 0)
        mmf_text_add(out,
                     "<p>%zu of %zu models have no curve of their own: late fusion combines models "
                     "that were trained for themselves, what is computed in closed form has no "
                     "epochs, and one epoch makes no line.</p>",
                     n_without, json_array_size(leaders));
    mmf_page_section_close(out);
}
