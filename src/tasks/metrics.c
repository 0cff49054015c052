/*
 * metrics.c: the list of named scores, regression, robustness. Classification stands in
 * metrics_classification.c, the sentiment rules in metrics_msa.c.
 */
#include "tasks/metric_functions.h"

#include <math.h>
#include <string.h>

#include "tasks/metrics_msa.h"

void mmf_metrics_add(mmf_metrics *metrics, const char *name, double value)
{
    size_t i = 0;
    while (i < metrics->count && strcmp(metrics->items[i].name, name) != 0)
        i++;
    if (i == MMF_METRICS_MAX)
        return;
    mmf_metric *const item = &metrics->items[i];
    if (i == metrics->count) {
        const size_t n_bytes = strnlen(name, MMF_METRIC_NAME_BYTES - 1);
        memcpy(item->name, name, n_bytes);
        item->name[n_bytes] = 0;
        metrics->count++;
    }
    item->value = value;
}

double mmf_metrics_get(const mmf_metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->count; i++) {
        if (strcmp(metrics->items[i].name, name) == 0)
            return metrics->items[i].value;
    }
    return NAN;
}

bool mmf_metric_higher_is_better(const char *name)
{
    static const char *const lower[] = {"nll",  "brier", "ece",         "mce",       "mae",
                                        "rmse", "mse",   "median_rank", "mean_rank", "perplexity"};
    if (strncmp(name, "loss", 4) == 0)
        return false;
    const char *const direction = strrchr(name, '.'); /* "image_to_text.mean_rank" */
    name = direction ? direction + 1 : name;
    for (size_t i = 0; i < sizeof lower / sizeof lower[0]; i++) {
        if (strcmp(name, lower[i]) == 0)
            return false;
    }
    return true;
}

/* Sums of one pass over centred values; `constant` is exact, where a variance would be rounding. */
typedef struct moments {
    double absolute, squared; /* of p - y */
    double pp, yy, py;        /* centred */
    bool p_constant, y_constant, finite;
} moments;

double mmf_ruled_value(double x, mmf_msa_rules rules)
{
    if (rules == MMF_MSA_NONE)
        return x;
    const float single = (float)x;
    return rules == MMF_MSA_SIMS ? (double)fminf(fmaxf(single, -1.0f), 1.0f) : (double)single;
}

static moments moments_of(const double *p, const double *y, int64_t n, mmf_msa_rules rules)
{
    moments m = {.p_constant = true, .y_constant = true, .finite = true};
    double p_mean = 0, y_mean = 0;
    for (int64_t i = 0; i < n; i++) {
        m.finite = m.finite && isfinite(p[i]) && isfinite(y[i]);
        const double a = mmf_ruled_value(p[i], rules), b = mmf_ruled_value(y[i], rules);
        m.p_constant = m.p_constant && a == mmf_ruled_value(p[0], rules);
        m.y_constant = m.y_constant && b == mmf_ruled_value(y[0], rules);
        p_mean += a;
        y_mean += b;
        m.absolute += fabs(a - b);
        m.squared += (a - b) * (a - b);
    }
    p_mean /= (double)n;
    y_mean /= (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double a = mmf_ruled_value(p[i], rules) - p_mean,
                     b = mmf_ruled_value(y[i], rules) - y_mean;
        m.pp += a * a;
        m.yy += b * b;
        m.py += a * b;
    }
    return m;
}

mmf_status mmf_metrics_regression(mmf_ctx *ctx, mmf_metrics *out, const double *prediction,
                                  const double *target, int64_t n, mmf_msa_rules rules)
{
    if (n < 0)
        return mmf_fail(ctx, MMF_ARG, "regression metrics: %lld rows, expected 0 or more",
                        (long long)n);
    const moments m = moments_of(prediction, target, n, rules);
    const bool defined = n > 0 && m.finite;
    const bool varies = defined && !m.p_constant && !m.y_constant;
    mmf_metrics_add(out, "mae", defined ? m.absolute / (double)n : NAN);
    mmf_metrics_add(out, "rmse", defined ? sqrt(m.squared / (double)n) : NAN);
    mmf_metrics_add(out, "corr", varies ? m.py / (sqrt(m.pp) * sqrt(m.yy)) : NAN);
    mmf_metrics_add(out, "r2", defined && !m.y_constant ? 1 - m.squared / m.yy : NAN);
    mmf_metrics__msa(out, prediction, target, m.finite ? n : 0, rules);
    return MMF_OK;
}

void mmf_robustness(const double *curve, const double *late_fusion, int64_t n_methods,
                    int64_t n_levels, double step, double *relative, double *effective)
{
    for (int64_t m = 0; m < n_methods; m++) {
        const double *const f = curve + m * n_levels;
        relative[m] = effective[m] = n_levels > 0 ? 0 : NAN;
        for (int64_t l = 0; l + 1 < n_levels; l++)
            relative[m] += step * (f[l] + f[l + 1]) / 2;
        for (int64_t l = 0; l < n_levels; l++)
            effective[m] += f[l] - (late_fusion[l] + f[0] - late_fusion[0]);
    }
}
