/*
 * metrics_retrieval.c: scores of ranked candidates; definitions in docs/metrics.md.
 *
 * Faghri et al., VSE++, BMVC 2018 (recall, ranks: those of its evaluation code); mean average
 * precision over all relevant candidates: Rasiwasia et al., ACM Multimedia 2010.
 */
#include "tasks/metric_functions.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* So many relevant candidates are counted; for more of them all candidates are sorted. */
enum { FEW = 12 };

static int by_similarity(const void *a, const void *b)
{
    const mmf_candidate_item *const x = a, *const y = b;
    if (x->similarity != y->similarity)
        return x->similarity > y->similarity ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static int ascending(const void *a, const void *b)
{
    const int64_t *const x = a, *const y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Places of the relevant candidates in the order of their ranks, by counting what comes before. */
static void count_before(const mmf_candidate_item *items, int64_t n, int64_t *ranks)
{
    int64_t n_found = 0;
    for (int64_t j = 0; j < n; j++) {
        int64_t before = 0;
        if (!items[j].is_relevant)
            continue;
        for (int64_t i = 0; i < n; i++)
            before +=
                items[i].similarity > items[j].similarity ||
                (items[i].similarity == items[j].similarity && items[i].place < items[j].place);
        ranks[n_found++] = before;
    }
    qsort(ranks, (size_t)n_found, sizeof *ranks, ascending);
}

static void take(mmf_query_result *result, int64_t rank, int64_t n_found)
{
    if (n_found == 1)
        *result = (mmf_query_result){.rank = rank, .precision = 0};
    result->precision += (double)n_found / (double)(rank + 1);
}

mmf_query_result mmf_rank_candidates(mmf_candidate_item *items, int64_t n)
{
    mmf_query_result result = {.rank = -1, .precision = NAN};
    int64_t n_relevant = 0, n_found = 0, ranks[FEW];
    for (int64_t i = 0; i < n; i++)
        n_relevant += items[i].is_relevant;
    if (n_relevant <= FEW) {
        count_before(items, n, ranks);
        for (; n_found < n_relevant; n_found++)
            take(&result, ranks[n_found], n_found + 1);
    } else {
        qsort(items, (size_t)n, sizeof *items, by_similarity);
        for (int64_t i = 0; i < n; i++) {
            if (items[i].is_relevant)
                take(&result, i, ++n_found);
        }
    }
    if (n_found > 0)
        result.precision /= (double)n_found;
    return result;
}

static int by_rank(const void *a, const void *b)
{
    const mmf_query_result *const x = a, *const y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void add(mmf_metrics *out, const char *prefix, const char *name, double value)
{
    char text[2 * MMF_METRIC_NAME_BYTES];
    snprintf(text, sizeof text, "%s%s", prefix, name);
    mmf_metrics_add(out, text, value);
}

void mmf_metrics_retrieval(mmf_metrics *out, const char *prefix, mmf_query_result *queries,
                           int64_t n)
{
    static const int64_t cuts[] = {1, 5, 10};
    static const char *const names[] = {"recall@1", "recall@5", "recall@10"};
    double within[3] = {0}, ranks = 0, precision = 0;
    qsort(queries, (size_t)n, sizeof *queries, by_rank);
    int64_t first = 0; /* behind the queries without a relevant candidate */
    while (first < n && queries[first].rank < 0)
        first++;
    const mmf_query_result *const q = queries + first;
    const int64_t n_asked = n - first;
    for (int64_t i = 0; i < n_asked; i++) {
        for (int c = 0; c < 3; c++)
            within[c] += q[i].rank < cuts[c] ? 1 : 0;
        ranks += (double)q[i].rank;
        precision += q[i].precision;
    }
    const double count = n_asked > 0 ? (double)n_asked : NAN;
    const double middle =
        n_asked > 0 ? (double)(q[(n_asked - 1) / 2].rank + q[n_asked / 2].rank) / 2 : NAN;
    for (int c = 0; c < 3; c++)
        add(out, prefix, names[c], within[c] / count);
    add(out, prefix, "median_rank", floor(middle) + 1);
    add(out, prefix, "mean_rank", ranks / count + 1);
    add(out, prefix, "map", precision / count);
}
