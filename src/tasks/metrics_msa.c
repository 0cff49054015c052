/*
 * metrics_msa.c: accuracies and F1 of the sentiment benchmarks as the MMSA toolkit defines them
 * (Yu et al., CH-SIMS, ACL 2020; Mao et al., M-SENA, ACL 2022 demo), on single-precision values.
 *
 * Whole numbers are reached by rounding half to even, and SIMS bin edges are single-precision
 * constants: a value equal to the float nearest 0.1 lies in the lower bin. Comparing in double
 * would put it in the upper one.
 */
#include "tasks/metrics_msa.h"

#include <math.h>

/* Counts of a yes/no decision: rows[truth][prediction]. */
typedef struct table2 {
    double rows[2][2];
} table2;

static double accuracy(const table2 *t)
{
    const double n = t->rows[0][0] + t->rows[0][1] + t->rows[1][0] + t->rows[1][1];
    return n > 0 ? (t->rows[0][0] + t->rows[1][1]) / n : NAN;
}

/* F1 of both classes, each weighted by its true support. */
static double weighted_f1(const table2 *t)
{
    double sum = 0, n = 0;
    for (int c = 0; c < 2; c++) {
        const double hit = t->rows[c][c], support = hit + t->rows[c][1 - c];
        const double doubt = 2 * hit + t->rows[c][1 - c] + t->rows[1 - c][c];
        sum += doubt > 0 ? support * 2 * hit / doubt : 0;
        n += support;
    }
    return n > 0 ? sum / n : NAN;
}

/* Share of rows whose values agree after clipping to [-limit, limit] and rounding half to even. */
static double rounded_accuracy(const double *p, const double *y, int64_t n, float limit)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < n; i++) {
        const float a = fminf(fmaxf((float)p[i], -limit), limit);
        const float b = fminf(fmaxf((float)y[i], -limit), limit);
        hits += rintf(a) == rintf(b);
    }
    return n > 0 ? (double)hits / (double)n : NAN;
}

static void mosi(mmf_metrics *out, const double *p, const double *y, int64_t n)
{
    table2 has0 = {0}, non0 = {0};
    for (int64_t i = 0; i < n; i++) {
        const float a = (float)p[i], b = (float)y[i];
        has0.rows[b >= 0][a >= 0]++;
        if (b != 0)
            non0.rows[b > 0][a > 0]++;
    }
    mmf_metrics_add(out, "acc2_has0", accuracy(&has0));
    mmf_metrics_add(out, "f1_has0", weighted_f1(&has0));
    mmf_metrics_add(out, "acc2_non0", accuracy(&non0));
    mmf_metrics_add(out, "f1_non0", weighted_f1(&non0));
    mmf_metrics_add(out, "acc3", rounded_accuracy(p, y, n, 1));
    mmf_metrics_add(out, "acc5", rounded_accuracy(p, y, n, 2));
    mmf_metrics_add(out, "acc7", rounded_accuracy(p, y, n, 3));
}

/* Bins are open below and closed above, so the bin of x is the number of edges below it. Clipping
 * to
 * [-1, 1] moves no value over an edge and is left out. */
static int bin_of(double x, const float *edges, int n_edges)
{
    int bin = 0;
    for (int e = 0; e < n_edges; e++)
        bin += (float)x > edges[e];
    return bin;
}

static double bin_accuracy(const double *p, const double *y, int64_t n, const float *edges,
                           int n_edges)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < n; i++)
        hits += bin_of(p[i], edges, n_edges) == bin_of(y[i], edges, n_edges);
    return n > 0 ? (double)hits / (double)n : NAN;
}

static void sims(mmf_metrics *out, const double *p, const double *y, int64_t n)
{
    static const float two[] = {0.0f}, three[] = {-0.1f, 0.1f}, five[] = {-0.7f, -0.1f, 0.1f, 0.7f};
    table2 signs = {0};
    for (int64_t i = 0; i < n; i++)
        signs.rows[bin_of(y[i], two, 1)][bin_of(p[i], two, 1)]++;
    mmf_metrics_add(out, "acc2", accuracy(&signs));
    mmf_metrics_add(out, "f1", weighted_f1(&signs));
    mmf_metrics_add(out, "acc3", bin_accuracy(p, y, n, three, 2));
    mmf_metrics_add(out, "acc5", bin_accuracy(p, y, n, five, 4));
}

void mmf_metrics__msa(mmf_metrics *out, const double *prediction, const double *target, int64_t n,
                      mmf_msa_rules rules)
{
    if (rules == MMF_MSA_MOSI)
        mosi(out, prediction, target, n);
    else if (rules == MMF_MSA_SIMS)
        sims(out, prediction, target, n);
}
