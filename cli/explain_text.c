/* explain_text.c: see explain_text.h. */
#include "explain_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

#define MAX_METRICS 6      /* columns of the table of subsets */
#define MAX_SUBSET_ROWS 20 /* of more, single modalities, all but one, and all are printed */
#define MAX_CONFUSION 15   /* classes of a matrix that fits a terminal */
#define TOP_CONFUSIONS 5
#define TEXT_BYTES 512

/* ---- Values ------------------------------------------------------------------------------ */

static double number_of(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *const text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void number_cell(out_table *table, const json_t *value)
{
    char text[48];
    const double x = number_of(value);
    out_cell(table, "%s", isnan(x) ? "-" : out_number_text(text, sizeof text, x));
}

static void short_cell(out_table *table, double x)
{
    char text[48];
    out_cell(table, "%s", out_short_text(text, sizeof text, x));
}

static void join(const json_t *names, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(names) && used < size; i++) {
        const int n = snprintf(out + used, size - used, "%s%s", i ? " + " : "",
                               json_string_value(json_array_get(names, i)));
        used += n > 0 ? (size_t)n : 0;
    }
}

/* ---- Tables ------------------------------------------------------------------------------ */

static void print_contributions(const json_t *e)
{
    const json_t *const c = json_object_get(e, "contributions");
    const json_t *const values = json_object_get(c, "values");
    const json_t *const prior = json_object_get(c, "prior");
    const char *const error_of = text_of(c, "error_of");
    char score[48];
    printf("\nWhat each modality adds to %s (Shapley values, %s", text_of(e, "main_metric"),
           text_of(c, "method"));
    if (*error_of)
        printf("; +- one standard error over %s", error_of);
    printf("%s)\n",
           json_is_false(json_object_get(e, "higher_is_better")) ? "; above 0: less error" : "");
    out_table table = out_table_make(3, "lr");
    out_cell(&table, "modality");
    out_cell(&table, "adds");
    out_cell(&table, "+-");
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *const row = json_array_get(values, i);
        out_cell(&table, "%s", text_of(row, "modality"));
        short_cell(&table, number_of(json_object_get(row, "value")));
        short_cell(&table, number_of(json_object_get(row, "error")));
    }
    out_table_print(&table, stdout, 2);
    const bool is_train = strcmp(text_of(prior, "of"), "train") == 0;
    printf("  from nothing, the mean of %s%lld %s: %s\n", is_train ? "" : "the ",
           (long long)json_integer_value(json_object_get(prior, "rows")),
           is_train ? "train rows" : "rows themselves",
           out_number_text(score, sizeof score, number_of(json_object_get(prior, "score"))));
    printf("  absent: %s\n", text_of(e, "absent"));
}

static void print_subsets(const json_t *e)
{
    const json_t *const subsets = json_object_get(e, "subsets");
    json_t *const first = json_object_get(json_array_get(subsets, 0), "metrics");
    const char *names[MAX_METRICS] = {text_of(e, "main_metric")};
    const size_t n_modalities = json_array_size(json_object_get(e, "modalities"));
    size_t n = 1;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(first, key, value)
    {
        if (n < MAX_METRICS && strcmp(key, names[0]) != 0)
            names[n++] = key;
    }
    out_table table = out_table_make(1 + n, "lr");
    out_cell(&table, "modalities");
    for (size_t i = 0; i < n; i++)
        out_cell(&table, "%s", names[i]);
    for (size_t s = 0; s < json_array_size(subsets); s++) {
        const json_t *const row = json_array_get(subsets, s);
        const size_t size = json_array_size(json_object_get(row, "modalities"));
        char text[TEXT_BYTES];
        if (json_array_size(subsets) > MAX_SUBSET_ROWS && size > 1 && size + 1 < n_modalities)
            continue;
        join(json_object_get(row, "modalities"), text, sizeof text);
        out_cell(&table, "%s", text);
        for (size_t i = 0; i < n; i++)
            number_cell(&table, json_object_get(json_object_get(row, "metrics"), names[i]));
    }
    printf("\nWith these modalities only\n");
    out_table_print(&table, stdout, 2);
}

static void print_axis(const json_t *axis)
{
    const json_t *const labels = json_object_get(axis, "labels");
    const size_t n = json_array_size(labels);
    if (n == 0)
        return;
    out_table table = out_table_make(3, "lr");
    out_cell(&table, "%s", text_of(axis, "title"));
    out_cell(&table, "mean");
    out_cell(&table, "deviation");
    for (size_t i = 0; i < n; i++) {
        out_cell(&table, "%s", json_string_value(json_array_get(labels, i)));
        short_cell(&table, number_of(json_array_get(json_object_get(axis, "mean"), i)));
        short_cell(&table, number_of(json_array_get(json_object_get(axis, "deviation"), i)));
    }
    out_table_print(&table, stdout, 4);
}

/* Outputs of one name for each modality are one table; the first of them prints it. */
static void print_group(const json_t *outputs, size_t first, const char *group)
{
    out_table table = out_table_make(3, "lr");
    for (size_t i = 0; i < first; i++) {
        if (strcmp(text_of(json_array_get(outputs, i), "group"), group) == 0)
            return;
    }
    out_cell(&table, "%s", group);
    out_cell(&table, "mean");
    out_cell(&table, "deviation");
    for (size_t i = first; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        if (strcmp(text_of(output, "group"), group) != 0)
            continue;
        out_cell(&table, "%s", text_of(output, "modality"));
        short_cell(&table, number_of(json_object_get(output, "mean")));
        short_cell(&table, number_of(json_object_get(output, "deviation")));
    }
    out_table_print(&table, stdout, 2);
}

static void print_outputs(const json_t *e)
{
    const json_t *const outputs = json_object_get(e, "outputs");
    if (json_array_size(outputs) > 0)
        printf("\nAttention, gates and weights that the model puts out, over samples\n");
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        const json_t *const axes = json_object_get(output, "axes");
        const char *const group = text_of(output, "group");
        if (*group) {
            print_group(outputs, i, group);
            continue;
        }
        static const char *const keys[] = {"mean", "low", "high"};
        char numbers[3][48];
        for (size_t k = 0; k < 3; k++)
            out_short_text(numbers[k], sizeof numbers[k],
                           number_of(json_object_get(output, keys[k])));
        printf("  %s: mean %s, from %s to %s\n", text_of(output, "name"), numbers[0], numbers[1],
               numbers[2]);
        for (size_t d = 0; d < json_array_size(axes); d++)
            print_axis(json_array_get(axes, d));
    }
}

static void print_robustness(const json_t *e)
{
    static const size_t shown[] = {0, 3, 6, 9};
    const json_t *const r = json_object_get(e, "robustness");
    const json_t *const curves = json_object_get(r, "curves");
    const json_t *const levels = json_object_get(r, "levels");
    const bool compared = json_is_string(json_object_get(r, "against"));
    if (json_array_size(curves) == 0)
        return;
    printf("\n%s under noise, in training deviations or as a probability (mean of %lld draws)\n",
           text_of(e, "main_metric"), (long long)json_integer_value(json_object_get(r, "draws")));
    out_table table = out_table_make(compared ? 8 : 7, "llr");
    out_cell(&table, "noise");
    out_cell(&table, "on");
    for (size_t i = 0; i < 4; i++)
        out_cell(&table, "%.1f", number_of(json_array_get(levels, shown[i])));
    out_cell(&table, "area");
    if (compared)
        out_cell(&table, "effective");
    for (size_t c = 0; c < json_array_size(curves); c++) {
        const json_t *const row = json_array_get(curves, c);
        const char *const modality = json_string_value(json_object_get(row, "modality"));
        out_cell(&table, "%s", text_of(row, "noise"));
        out_cell(&table, "%s", modality ? modality : "(all)");
        for (size_t i = 0; i < 4; i++)
            short_cell(&table, number_of(json_array_get(json_object_get(row, "scores"), shown[i])));
        short_cell(&table, number_of(json_object_get(row, "relative")));
        if (compared)
            short_cell(&table, number_of(json_object_get(row, "effective")));
    }
    out_table_print(&table, stdout, 2);
    if (compared)
        printf("  effective: above %s, moved to the same clean score; positive is sturdier\n",
               text_of(r, "against"));
}

/* ---- Errors ------------------------------------------------------------------------------ */

static long long count_at(const json_t *counts, size_t row, size_t column)
{
    return (long long)json_integer_value(json_array_get(json_array_get(counts, row), column));
}

static void print_matrix(const json_t *classes, const json_t *counts)
{
    const size_t n = json_array_size(classes);
    out_table table = out_table_make(n + 1, "lr");
    out_cell(&table, "true \\ predicted");
    for (size_t k = 0; k < n; k++)
        out_cell(&table, "%s", json_string_value(json_array_get(classes, k)));
    for (size_t i = 0; i < n; i++) {
        out_cell(&table, "%s", json_string_value(json_array_get(classes, i)));
        for (size_t k = 0; k < n; k++)
            out_cell(&table, "%lld", count_at(counts, i, k));
    }
    out_table_print(&table, stdout, 2);
}

/* The largest count off the diagonal that comes after `below` in descending order. */
static bool next_confusion(const json_t *counts, size_t n, long long *below, size_t *at)
{
    bool found = false;
    long long best = 0;
    size_t place = 0;
    for (size_t i = 0; i < n * n; i++) {
        const long long count = count_at(counts, i / n, i % n);
        const bool later = count < *below || (count == *below && i > *at);
        if (i / n != i % n && count > best && later) {
            best = count;
            place = i;
            found = true;
        }
    }
    *below = best;
    *at = place;
    return found;
}

static void print_confusion(const json_t *e)
{
    const json_t *const confusion = json_object_get(e, "confusion");
    const json_t *const classes = json_object_get(confusion, "classes");
    const json_t *const counts = json_object_get(confusion, "counts");
    const size_t n = json_array_size(classes);
    if (n == 0)
        return;
    printf("\nConfusion\n");
    if (n <= MAX_CONFUSION) {
        print_matrix(classes, counts);
        return;
    }
    long long below = INT64_MAX;
    size_t at = 0;
    for (int i = 0; i < TOP_CONFUSIONS && next_confusion(counts, n, &below, &at); i++)
        printf("  %lld times %s was taken for %s\n", below,
               json_string_value(json_array_get(classes, at / n)),
               json_string_value(json_array_get(classes, at % n)));
}

static void print_calibration(const json_t *e)
{
    const json_t *const metrics = json_object_get(e, "metrics");
    const double ece = number_of(json_object_get(metrics, "ece"));
    if (json_object_get(e, "reliability") && !isnan(ece))
        printf("\nProbabilities are off by %.3f on average (ece), %.3f at worst (mce)\n", ece,
               number_of(json_object_get(metrics, "mce")));
}

void explain_text_print(const json_t *explanation)
{
    print_contributions(explanation);
    print_subsets(explanation);
    print_outputs(explanation);
    print_robustness(explanation);
    print_confusion(explanation);
    print_calibration(explanation);
}
