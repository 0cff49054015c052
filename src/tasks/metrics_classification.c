/*
 * metrics_classification.c: scores of class probabilities: decisions, ranking, calibration.
 *
 * Conventions are scikit-learn's where it has the score: ties of a ranking count half (AUROC) or
 * enter together (average precision), macro F1 is over the classes that occur in truth or
 * prediction. Calibration follows Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
 * eq. (3) and (5), with bins closed above. Nothing of size K x K is made here: K may be thousands.
 */
#include "tasks/metric_functions.h"

#include <math.h>
#include <stdlib.h>

/* Below this a probability counts as this, so that one certain error costs 27.6 and not infinity.
 */
static const double SMALLEST_PROBABILITY = 1e-12;
enum { MAX_BINS = 65536 };

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

static double f1_of(int64_t hits, int64_t support, int64_t predicted)
{
    const int64_t doubt = support + predicted; /* 2 TP + FP + FN */
    return doubt > 0 ? 2 * (double)hits / (double)doubt : 0;
}

static double surprise(double probability)
{
    return -log(fmin(fmax(probability, SMALLEST_PROBABILITY), 1));
}

static bool all_finite(const double *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return false;
    }
    return true;
}

static void add_undefined(mmf_metrics *out, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        mmf_metrics_add(out, names[i], NAN);
}

/* ---- Calibration ------------------------------------------------------------------------- */

typedef struct calibration {
    mmf_calibration_bin *bins;
    int64_t n_bins;
} calibration;

static mmf_status calibration_open(mmf_ctx *ctx, calibration *out, int64_t n_bins)
{
    out->n_bins = n_bins;
    out->bins = mmf_alloc_zero(ctx, (size_t)n_bins, sizeof *out->bins);
    return out->bins ? MMF_OK : MMF_NOMEM;
}

/* The bin whose (low, high] holds `c`; rounding of c * n_bins is mended against the edges. */
static void calibration_count(calibration *cal, double c, bool hit)
{
    const int64_t n = cal->n_bins;
    const double width = 1.0 / (double)n;
    int64_t i = (int64_t)ceil(fmin(fmax(c, 0), 1) * (double)n) - 1;
    if (i > 0 && c <= (double)i * width)
        i--;
    else if (i + 1 < n && c > (double)(i + 1) * width)
        i++;
    mmf_calibration_bin *const b = &cal->bins[i < 0 ? 0 : i];
    b->confidence += c;
    b->hits += hit;
    b->count++;
}

static void calibration_close(mmf_ctx *ctx, calibration *cal, mmf_metrics *out)
{
    double total = 0, sum = 0, worst = 0;
    for (int64_t i = 0; i < cal->n_bins; i++) {
        const mmf_calibration_bin *const b = &cal->bins[i];
        if (b->count == 0)
            continue;
        const double gap = fabs(b->hits - b->confidence); /* times the count */
        sum += gap;
        total += b->count;
        worst = fmax(worst, gap / b->count);
    }
    mmf_metrics_add(out, "ece", ratio(sum, total));
    mmf_metrics_add(out, "mce", total > 0 ? worst : NAN);
    mmf_free(ctx, cal->bins);
}

/* ---- Ranking ----------------------------------------------------------------------------- */

typedef struct scored {
    double score;
    int64_t positive;
} scored;

static int higher_first(const void *a, const void *b)
{
    const double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x < y) - (x > y);
}

/* Sorts `rows` and walks down groups of equal scores. Undefined values come out as NaN. */
static void rank(scored *rows, int64_t n, double *auroc, double *auprc)
{
    qsort(rows, (size_t)n, sizeof *rows, higher_first);
    int64_t positives = 0;
    for (int64_t i = 0; i < n; i++)
        positives += rows[i].positive;
    double pairs_won = 0, area = 0;
    int64_t above = 0; /* positives above the group */
    for (int64_t i = 0, next; i < n; i = next) {
        int64_t hits = 0;
        for (next = i; next < n && rows[next].score == rows[i].score; next++)
            hits += rows[next].positive;
        pairs_won += (double)(next - i - hits) * ((double)above + (double)hits / 2);
        above += hits;
        area += (double)hits * (double)above / (double)next;
    }
    *auroc = ratio(pairs_won, (double)positives * (double)(n - positives));
    *auprc = ratio(area, (double)positives);
}

/* Running means over the classes for which a score is defined. */
typedef struct ranking {
    double auroc, auprc;
    int64_t n_auroc, n_auprc;
} ranking;

static void ranking_count(ranking *r, scored *rows, int64_t n)
{
    double auroc, auprc;
    rank(rows, n, &auroc, &auprc);
    if (!isnan(auroc)) {
        r->auroc += auroc;
        r->n_auroc++;
    }
    if (!isnan(auprc)) {
        r->auprc += auprc;
        r->n_auprc++;
    }
}

static void ranking_close(const ranking *r, mmf_metrics *out)
{
    mmf_metrics_add(out, "auroc", ratio(r->auroc, (double)r->n_auroc));
    mmf_metrics_add(out, "auprc", ratio(r->auprc, (double)r->n_auprc));
}

/* ---- One class a row --------------------------------------------------------------------- */

int64_t mmf_largest_class(const double *row, int64_t n_classes)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n_classes; k++) {
        if (row[k] > row[best] || isnan(row[best]))
            best = k;
    }
    return isnan(row[best]) ? 0 : best;
}

int64_t mmf_predicted_class(const double *row, int64_t n_classes)
{
    return n_classes == 2 ? row[1] >= 0.5 : mmf_largest_class(row, n_classes);
}

void mmf_confusion(const double *probability, const int64_t *classes, int64_t n, int64_t n_classes,
                   int64_t *confusion)
{
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        confusion[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (classes[i] >= 0 && classes[i] < n_classes)
            confusion[classes[i] * n_classes +
                      mmf_predicted_class(probability + i * n_classes, n_classes)]++;
    }
}

void mmf_class_scores_from(const int64_t *confusion, int64_t n_classes, mmf_class_scores *out)
{
    int64_t total = 0;
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        total += confusion[i];
    for (int64_t k = 0; k < n_classes; k++) {
        int64_t support = 0, predicted = 0;
        for (int64_t c = 0; c < n_classes; c++) {
            support += confusion[k * n_classes + c];
            predicted += confusion[c * n_classes + k];
        }
        const int64_t hits = confusion[k * n_classes + k];
        const int64_t others = total - support;
        out[k].support = support;
        out[k].precision = ratio((double)hits, (double)predicted);
        out[k].sensitivity = ratio((double)hits, (double)support);
        out[k].specificity = ratio((double)(others - (predicted - hits)), (double)others);
        out[k].f1 = f1_of(hits, support, predicted);
    }
}

/* A classification call: what is scored, and counts of each class. */
typedef struct classification {
    const double *probability;
    const int64_t *classes;
    int64_t n, n_classes;
    mmf_classification_options options;
    bool binary;
    int64_t *hits, *support, *predicted; /* (K) each, one block at `hits` */
} classification;

static int64_t predict(const classification *c, const double *row)
{
    return c->binary ? row[1] >= c->options.threshold : mmf_largest_class(row, c->n_classes);
}

static void decisions(const classification *c, mmf_metrics *out)
{
    int64_t hits = 0, n_supported = 0, n_seen = 0;
    double recall = 0, f1_sum = 0, f1_weighted = 0;
    for (int64_t k = 0; k < c->n_classes; k++) {
        const double f1 = f1_of(c->hits[k], c->support[k], c->predicted[k]);
        hits += c->hits[k];
        f1_sum += f1;
        f1_weighted += f1 * (double)c->support[k];
        n_seen += c->support[k] + c->predicted[k] > 0;
        if (c->support[k] > 0) {
            n_supported++;
            recall += (double)c->hits[k] / (double)c->support[k];
        }
    }
    const double n = (double)c->n;
    mmf_metrics_add(out, "accuracy", ratio((double)hits, n));
    mmf_metrics_add(out, "balanced_accuracy", ratio(recall, (double)n_supported));
    mmf_metrics_add(out, "f1_macro", ratio(f1_sum, (double)n_seen));
    mmf_metrics_add(out, "f1_weighted", ratio(f1_weighted, n));
    /* With one prediction a row, summed FP and FN are equal, and micro F1 is the accuracy. */
    mmf_metrics_add(out, "f1_micro", ratio((double)hits, n));
    if (c->binary) {
        const int64_t p = c->options.positive;
        mmf_metrics_add(out, "f1", f1_of(c->hits[p], c->support[p], c->predicted[p]));
        mmf_metrics_add(out, "sensitivity", ratio((double)c->hits[p], (double)c->support[p]));
        mmf_metrics_add(out, "specificity",
                        ratio((double)c->hits[1 - p], (double)c->support[1 - p]));
    }
}

static mmf_status rankings(mmf_ctx *ctx, const classification *c, mmf_metrics *out)
{
    scored *const rows = mmf_alloc_zero(ctx, (size_t)c->n, sizeof *rows);
    if (!rows)
        return MMF_NOMEM;
    ranking r = {0};
    const int64_t first = c->binary ? c->options.positive : 0;
    const int64_t end = c->binary ? first + 1 : c->n_classes;
    for (int64_t k = first; k < end; k++) {
        if (c->support[k] == 0)
            continue; /* neither score is defined without a positive row */
        for (int64_t i = 0; i < c->n; i++)
            rows[i] = (scored){c->probability[i * c->n_classes + k], c->classes[i] == k};
        ranking_count(&r, rows, c->n);
    }
    mmf_free(ctx, rows);
    ranking_close(&r, out);
    return MMF_OK;
}

static mmf_status probabilities(mmf_ctx *ctx, const classification *c, mmf_metrics *out)
{
    calibration cal;
    MMF_TRY(calibration_open(ctx, &cal, c->options.n_bins));
    double nll = 0, brier = 0;
    for (int64_t i = 0; i < c->n; i++) {
        const double *const row = c->probability + i * c->n_classes;
        const int64_t truth = c->classes[i];
        nll += surprise(row[truth]);
        for (int64_t k = 0; k < c->n_classes; k++) {
            const double error = row[k] - (k == truth);
            brier += c->binary && k != c->options.positive ? 0 : error * error;
        }
        calibration_count(&cal, row[mmf_largest_class(row, c->n_classes)],
                          predict(c, row) == truth);
    }
    mmf_metrics_add(out, "nll", ratio(nll, (double)c->n));
    mmf_metrics_add(out, "brier", ratio(brier, (double)c->n));
    calibration_close(ctx, &cal, out);
    return MMF_OK;
}

static mmf_status check(mmf_ctx *ctx, const classification *c)
{
    const mmf_classification_options *const o = &c->options;
    if (c->n < 0 || c->n_classes < 1)
        return mmf_fail(ctx, MMF_ARG,
                        "classification metrics: %lld rows of %lld classes, expected 0 or more "
                        "rows and 1 or more classes",
                        (long long)c->n, (long long)c->n_classes);
    if (o->n_bins < 1 || o->n_bins > MAX_BINS || o->positive < 0 || o->positive > 1 ||
        isnan(o->threshold))
        return mmf_fail(ctx, MMF_ARG,
                        "classification metrics: %lld bins (1 to %d), positive class %lld (0 or "
                        "1), threshold %g",
                        (long long)o->n_bins, MAX_BINS, (long long)o->positive, o->threshold);
    for (int64_t i = 0; i < c->n; i++) {
        if (c->classes[i] < 0 || c->classes[i] >= c->n_classes)
            return mmf_fail(ctx, MMF_ARG,
                            "classification metrics: row %lld has class %lld, expected 0 to %lld",
                            (long long)i, (long long)c->classes[i], (long long)c->n_classes - 1);
    }
    return MMF_OK;
}

mmf_status mmf_reliability(mmf_ctx *ctx, const double *probability, const int64_t *classes,
                           int64_t n, int64_t n_classes, int64_t n_bins, mmf_calibration_bin *bins)
{
    classification c = {.probability = probability,
                        .classes = classes,
                        .n = n,
                        .n_classes = n_classes,
                        .options = MMF_CLASSIFICATION_OPTIONS_INIT};
    c.options.n_bins = n_bins;
    MMF_TRY(check(ctx, &c));
    for (int64_t i = 0; i < n_bins; i++)
        bins[i] = (mmf_calibration_bin){0};
    calibration cal = {.bins = bins, .n_bins = n_bins};
    for (int64_t i = 0; i < n; i++) {
        const double *const row = probability + i * n_classes;
        calibration_count(&cal, row[mmf_largest_class(row, n_classes)],
                          mmf_predicted_class(row, n_classes) == classes[i]);
    }
    return MMF_OK;
}

mmf_status mmf_metrics_classification_with(mmf_ctx *ctx, mmf_metrics *out,
                                           const double *probability, const int64_t *classes,
                                           int64_t n, int64_t n_classes,
                                           const mmf_classification_options *options)
{
    static const char *const names[] = {"accuracy",    "balanced_accuracy",
                                        "f1_macro",    "f1_weighted",
                                        "f1_micro",    "auroc",
                                        "auprc",       "nll",
                                        "brier",       "ece",
                                        "mce",         "f1",
                                        "sensitivity", "specificity"};
    enum { N_NAMES = sizeof names / sizeof names[0], N_BINARY = 3 };
    classification c = {.probability = probability,
                        .classes = classes,
                        .n = n,
                        .n_classes = n_classes,
                        .options = MMF_CLASSIFICATION_OPTIONS_INIT};
    if (options)
        c.options = *options;
    c.binary = n_classes == 2 && !c.options.one_vs_rest;
    MMF_TRY(check(ctx, &c));
    if (n == 0 || !all_finite(probability, n * n_classes)) {
        add_undefined(out, names, c.binary ? N_NAMES : N_NAMES - N_BINARY);
        return MMF_OK;
    }
    c.hits = mmf_alloc_zero(ctx, (size_t)n_classes, 3 * sizeof *c.hits);
    if (!c.hits)
        return MMF_NOMEM;
    c.support = c.hits + n_classes;
    c.predicted = c.support + n_classes;
    for (int64_t i = 0; i < n; i++) {
        const int64_t guess = predict(&c, probability + i * n_classes);
        c.support[classes[i]]++;
        c.predicted[guess]++;
        c.hits[guess] += guess == classes[i];
    }
    decisions(&c, out);
    mmf_status status = rankings(ctx, &c, out);
    if (status == MMF_OK)
        status = probabilities(ctx, &c, out);
    mmf_free(ctx, c.hits);
    return status;
}

mmf_status mmf_metrics_classification(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                      const int64_t *classes, int64_t n, int64_t n_classes)
{
    return mmf_metrics_classification_with(ctx, out, probability, classes, n, n_classes, NULL);
}

/* ---- Several labels a row ---------------------------------------------------------------- */

static mmf_status check_targets(mmf_ctx *ctx, const char *what, const double *target, int64_t n,
                                int64_t n_classes)
{
    if (n < 0 || n_classes < 1)
        return mmf_fail(ctx, MMF_ARG,
                        "%s metrics: %lld rows of %lld columns, expected 0 or more rows and 1 or "
                        "more columns",
                        what, (long long)n, (long long)n_classes);
    for (int64_t i = 0; i < n * n_classes; i++) {
        if (!isfinite(target[i]))
            return mmf_fail(ctx, MMF_NUMERIC,
                            "%s metrics: the target of row %lld, column %lld is %g, expected a "
                            "finite number",
                            what, (long long)(i / n_classes), (long long)(i % n_classes),
                            target[i]);
    }
    return MMF_OK;
}

/* Counts of one label (a column) or of one sample (a row). */
typedef struct label_counts {
    int64_t hits, support, predicted;
} label_counts;

static label_counts count_labels(const double *probability, const double *target, int64_t n,
                                 int64_t stride)
{
    label_counts c = {0};
    for (int64_t i = 0; i < n; i++) {
        const bool yes = target[i * stride] >= 0.5, guess = probability[i * stride] >= 0.5;
        c.support += yes;
        c.predicted += guess;
        c.hits += yes && guess;
    }
    return c;
}

static void label_columns(const double *probability, const double *target, int64_t n,
                          int64_t n_classes, scored *rows, mmf_metrics *out)
{
    label_counts all = {0};
    ranking r = {0};
    double macro = 0, weighted = 0;
    for (int64_t k = 0; k < n_classes; k++) {
        const label_counts c = count_labels(probability + k, target + k, n, n_classes);
        const double f1 = f1_of(c.hits, c.support, c.predicted);
        macro += f1;
        weighted += f1 * (double)c.support;
        all.hits += c.hits;
        all.support += c.support;
        all.predicted += c.predicted;
        for (int64_t i = 0; i < n; i++)
            rows[i] = (scored){probability[i * n_classes + k], target[i * n_classes + k] >= 0.5};
        ranking_count(&r, rows, n);
    }
    mmf_metrics_add(out, "f1_macro", macro / (double)n_classes);
    mmf_metrics_add(out, "f1_weighted", all.support > 0 ? weighted / (double)all.support : 0);
    mmf_metrics_add(out, "f1_micro", f1_of(all.hits, all.support, all.predicted));
    const double wrong = (double)(all.support + all.predicted - 2 * all.hits);
    mmf_metrics_add(out, "accuracy", 1 - wrong / ((double)n * (double)n_classes));
    ranking_close(&r, out);
}

static mmf_status label_rows(mmf_ctx *ctx, const double *probability, const double *target,
                             int64_t n, int64_t n_classes, mmf_metrics *out)
{
    const mmf_classification_options defaults = MMF_CLASSIFICATION_OPTIONS_INIT;
    calibration cal;
    MMF_TRY(calibration_open(ctx, &cal, defaults.n_bins));
    double exact = 0, samples = 0, nll = 0, brier = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *const p = probability + i * n_classes, *const t = target + i * n_classes;
        const label_counts c = count_labels(p, t, n_classes, 1);
        samples += f1_of(c.hits, c.support, c.predicted);
        exact += c.hits == c.support && c.hits == c.predicted;
        for (int64_t k = 0; k < n_classes; k++) {
            const bool yes = t[k] >= 0.5;
            nll += surprise(yes ? p[k] : 1 - p[k]);
            brier += (p[k] - yes) * (p[k] - yes);
            calibration_count(&cal, fmax(p[k], 1 - p[k]), (p[k] >= 0.5) == yes);
        }
    }
    const double n_decisions = (double)n * (double)n_classes;
    mmf_metrics_add(out, "exact_match", exact / (double)n);
    mmf_metrics_add(out, "f1_samples", samples / (double)n);
    mmf_metrics_add(out, "nll", nll / n_decisions);
    mmf_metrics_add(out, "brier", brier / n_decisions);
    calibration_close(ctx, &cal, out);
    return MMF_OK;
}

mmf_status mmf_metrics_multilabel(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                                  const double *target, int64_t n, int64_t n_classes)
{
    static const char *const names[] = {"accuracy", "exact_match", "f1_macro", "f1_weighted",
                                        "f1_micro", "f1_samples",  "auroc",    "auprc",
                                        "nll",      "brier",       "ece",      "mce"};
    MMF_TRY(check_targets(ctx, "multi-label", target, n, n_classes));
    if (n == 0 || !all_finite(probability, n * n_classes)) {
        add_undefined(out, names, sizeof names / sizeof names[0]);
        return MMF_OK;
    }
    scored *const rows = mmf_alloc_zero(ctx, (size_t)n, sizeof *rows);
    if (!rows)
        return MMF_NOMEM;
    label_columns(probability, target, n, n_classes, rows, out);
    mmf_free(ctx, rows);
    return label_rows(ctx, probability, target, n, n_classes, out);
}

/* ---- Targets that are distributions ------------------------------------------------------ */

static void soft_scores(const double *probability, const double *target, int64_t n,
                        int64_t n_classes, mmf_metrics *out)
{
    double nll = 0, brier = 0, won = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *const p = probability + i * n_classes, *const t = target + i * n_classes;
        /* As for hard classes, two columns count once in the Brier score. */
        for (int64_t k = n_classes == 2 ? 1 : 0; k < n_classes; k++)
            brier += (p[k] - t[k]) * (p[k] - t[k]);
        for (int64_t k = 0; k < n_classes; k++)
            nll += t[k] * surprise(p[k]);
        won += t[mmf_predicted_class(p, n_classes)];
    }
    const bool defined = n > 0 && all_finite(probability, n * n_classes);
    mmf_metrics_add(out, "nll", defined ? nll / (double)n : NAN);
    mmf_metrics_add(out, "brier", defined ? brier / (double)n : NAN);
    mmf_metrics_add(out, "soft_accuracy", defined ? won / (double)n : NAN);
}

mmf_status mmf_metrics_soft(mmf_ctx *ctx, mmf_metrics *out, const double *probability,
                            const double *target, int64_t n, int64_t n_classes)
{
    MMF_TRY(check_targets(ctx, "soft-target", target, n, n_classes));
    int64_t *const classes = mmf_alloc_zero(ctx, (size_t)n, sizeof *classes);
    if (!classes)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++)
        classes[i] = mmf_largest_class(target + i * n_classes, n_classes);
    const mmf_status status =
        mmf_metrics_classification(ctx, out, probability, classes, n, n_classes);
    mmf_free(ctx, classes);
    if (status == MMF_OK)
        soft_scores(probability, target, n, n_classes, out);
    return status;
}
