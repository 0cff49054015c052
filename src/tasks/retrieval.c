/* retrieval.c: see retrieval.h. */
#include "tasks/retrieval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/metric_functions.h"

#define LANES 8

/* A given row by the stored row that it reads of a modality. */
typedef struct reading {
    int64_t stored, at; /* `at`: its place among the given rows */
} reading;

/* The items of one modality. */
typedef struct view {
    int64_t n;
    int64_t *first;   /* [n] place of the first row that has the item */
    int64_t *item_of; /* [n_rows] item of a row, -1 where absent */
    double *length;   /* [n] Euclidean, of the item's features */
} view;

typedef struct scoring {
    mmf_ctx *ctx;
    const mmf_dataset *dataset;
    const int64_t *rows;
    int64_t n_rows;
    const double *features;
    size_t n_views;
    int64_t width; /* of one modality's features */
    view *views;
    int64_t *classes; /* [n_rows]; NULL: the data has none */
    mmf_candidate_item *items;
    mmf_query_result *queries;
    uint8_t *paired; /* [n_rows] of the asked view's item: candidates that stand beside it */
} scoring;

static const double *feature_of(const scoring *s, size_t m, int64_t item)
{
    const int64_t all = (int64_t)s->n_views * s->width;
    return s->features + s->views[m].first[item] * all + (int64_t)m * s->width;
}

/* In lanes, which the compiler makes vectors of: most of the time of a ranking is spent here. */
static double dot(const double *a, const double *b, int64_t n)
{
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++)
            lanes[l] += a[i + l] * b[i + l];
    }
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

static int by_stored_row(const void *a, const void *b)
{
    const reading *const x = a, *const y = b;
    if (x->stored != y->stored)
        return x->stored < y->stored ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static mmf_status find_items(const scoring *s, size_t m, reading *readings)
{
    view *const v = &s->views[m];
    const size_t n = (size_t)s->n_rows + 1;
    v->first = mmf_alloc_zero(s->ctx, n, sizeof *v->first);
    v->item_of = mmf_alloc_zero(s->ctx, n, sizeof *v->item_of);
    v->length = mmf_alloc_zero(s->ctx, n, sizeof *v->length);
    if (!v->first || !v->item_of || !v->length)
        return MMF_NOMEM;
    int64_t n_there = 0;
    for (int64_t i = 0; i < s->n_rows; i++) {
        v->item_of[i] = -1;
        if (mmf_dataset_present(s->dataset, m, s->rows[i]))
            readings[n_there++] = (reading){mmf_dataset_stored_row(s->dataset, m, s->rows[i]), i};
    }
    qsort(readings, (size_t)n_there, sizeof *readings, by_stored_row);
    for (int64_t i = 0; i < n_there; i++) {
        if (i == 0 || readings[i].stored != readings[i - 1].stored)
            v->first[v->n++] = readings[i].at;
        v->item_of[readings[i].at] = v->n - 1;
    }
    for (int64_t i = 0; i < v->n; i++) {
        const double *const f = feature_of(s, m, i);
        v->length[i] = sqrt(dot(f, f, s->width));
    }
    return MMF_OK;
}

static void mark_pairs(const scoring *s, size_t a, size_t b, int64_t item)
{
    memset(s->paired, 0, (size_t)s->n_rows);
    for (int64_t i = 0; i < s->n_rows; i++) {
        if (s->views[a].item_of[i] == item && s->views[b].item_of[i] >= 0)
            s->paired[s->views[b].item_of[i]] = 1;
    }
}

static mmf_query_result ask(const scoring *s, size_t a, size_t b, int64_t item)
{
    const view *const from = &s->views[a], *const to = &s->views[b];
    const double *const f = feature_of(s, a, item);
    if (!s->classes)
        mark_pairs(s, a, b, item);
    for (int64_t j = 0; j < to->n; j++) {
        const double lengths = from->length[item] * to->length[j];
        const double cosine = lengths > 0 ? dot(f, feature_of(s, b, j), s->width) / lengths : 0;
        const bool is_relevant =
            s->classes ? s->classes[from->first[item]] == s->classes[to->first[j]] : s->paired[j];
        s->items[j] = (mmf_candidate_item){cosine, j, is_relevant};
    }
    return mmf_rank_candidates(s->items, to->n);
}

static mmf_status read_classes(scoring *s)
{
    if (mmf_dataset_n_classes(s->dataset) == 0)
        return MMF_OK;
    s->classes = mmf_alloc_zero(s->ctx, (size_t)s->n_rows + 1, sizeof *s->classes);
    if (!s->classes)
        return MMF_NOMEM;
    for (int64_t i = 0; i < s->n_rows; i++) {
        double value = 0;
        mmf_dataset_target(s->dataset, s->rows[i], &value);
        s->classes[i] = (int64_t)value;
    }
    return MMF_OK;
}

static mmf_status prepare(scoring *s)
{
    const size_t n = (size_t)s->n_rows + 1;
    reading *const readings = mmf_alloc_zero(s->ctx, n, sizeof *readings);
    s->views = mmf_alloc_zero(s->ctx, s->n_views, sizeof *s->views);
    s->items = mmf_alloc_zero(s->ctx, n, sizeof *s->items);
    s->queries = mmf_alloc_zero(s->ctx, n, sizeof *s->queries);
    s->paired = mmf_alloc_zero(s->ctx, n, sizeof *s->paired);
    mmf_status status =
        readings && s->views && s->items && s->queries && s->paired ? MMF_OK : MMF_NOMEM;
    for (size_t m = 0; status == MMF_OK && m < s->n_views; m++)
        status = find_items(s, m, readings);
    mmf_free(s->ctx, readings);
    return status == MMF_OK ? read_classes(s) : status;
}

static void clear(scoring *s)
{
    for (size_t m = 0; s->views && m < s->n_views; m++) {
        mmf_free(s->ctx, s->views[m].first);
        mmf_free(s->ctx, s->views[m].item_of);
        mmf_free(s->ctx, s->views[m].length);
    }
    mmf_free(s->ctx, s->views);
    mmf_free(s->ctx, s->classes);
    mmf_free(s->ctx, s->items);
    mmf_free(s->ctx, s->queries);
    mmf_free(s->ctx, s->paired);
}

static bool is_finite(const scoring *s)
{
    const int64_t n = s->n_rows * (int64_t)s->n_views * s->width;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(s->features[i]))
            return false;
    }
    return true;
}

/* Scores of one direction; their share of the means is added. */
static void score_pair(const scoring *s, size_t a, size_t b, bool defined, mmf_metrics *out)
{
    static const char *const means[] = {"map", "recall@1", "recall@5", "recall@10"};
    const double n_pairs = (double)(s->n_views * (s->n_views - 1));
    char prefix[2 * MMF_METRIC_NAME_BYTES], name[3 * MMF_METRIC_NAME_BYTES];
    const int64_t n = defined ? s->views[a].n : 0;
    for (int64_t i = 0; i < n; i++)
        s->queries[i] = ask(s, a, b, i);
    snprintf(prefix, sizeof prefix, "%s_to_%s.", mmf_dataset_modality(s->dataset, a)->name,
             mmf_dataset_modality(s->dataset, b)->name);
    mmf_metrics own = {0};
    mmf_metrics_retrieval(&own, "", s->queries, n);
    for (size_t i = 0; i < sizeof means / sizeof *means; i++)
        mmf_metrics_add(out, means[i],
                        mmf_metrics_get(out, means[i]) + mmf_metrics_get(&own, means[i]) / n_pairs);
    for (size_t i = 0; i < own.count; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, own.items[i].name);
        mmf_metrics_add(out, name, own.items[i].value);
    }
}

mmf_status mmf_retrieval_score(mmf_ctx *ctx, mmf_metrics *out, const mmf_dataset *dataset,
                               const int64_t *rows, int64_t n_rows, const double *features,
                               int64_t width)
{
    const size_t n = mmf_dataset_n_modalities(dataset);
    if (n < 2 || width < 1 || width % (int64_t)n)
        return mmf_fail(ctx, MMF_SHAPE,
                        "%s: retrieval takes features of two or more modalities of one width; "
                        "there are %zu modalities and %lld columns",
                        mmf_dataset_path(dataset), n, (long long)width);
    scoring s = {.ctx = ctx,
                 .dataset = dataset,
                 .rows = rows,
                 .n_rows = n_rows,
                 .features = features,
                 .n_views = n,
                 .width = width / (int64_t)n};
    const mmf_status status = prepare(&s);
    const bool defined = status == MMF_OK && is_finite(&s);
    static const char *const first[] = {"map", "recall@1", "recall@5", "recall@10"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        mmf_metrics_add(out, first[i], 0);
    for (size_t a = 0; status == MMF_OK && a < n; a++) {
        for (size_t b = 0; b < n; b++) {
            if (a != b)
                score_pair(&s, a, b, defined, out);
        }
    }
    clear(&s);
    return status;
}
