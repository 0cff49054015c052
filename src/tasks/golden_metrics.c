/*
 * golden_metrics.c: see golden_metrics.h. Each kind is one function in the table `kinds`.
 *
 * Values are handed out as computed; a file whose config has "decimals" holds rounded ones, and its
 * tolerance allows for that.
 */
#include "tasks/golden_metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tasks/metric_functions.h"

enum { MAX_CLASSES = 4096, NAME_BYTES = 64 };

typedef struct golden {
    mmf_ctx *ctx;
    json_t *config;
    const mmf_named_array *inputs;
    size_t n_inputs;
    mmf_golden_emit *emit;
    void *user;
} golden;

/* ---- Inputs and options ------------------------------------------------------------------ */

static const mmf_array *find(const golden *g, const char *name)
{
    static const char prefix[] = "input.";
    for (size_t i = 0; i < g->n_inputs; i++) {
        const char *given = g->inputs[i].name;
        if (strncmp(given, prefix, sizeof prefix - 1) == 0)
            given += sizeof prefix - 1;
        if (strcmp(given, name) == 0)
            return &g->inputs[i].array;
    }
    return NULL;
}

/* The input `name` with `n_dims` dimensions, the first of them `n` long unless `n` is negative. */
static mmf_status need(const golden *g, const mmf_array **out, const char *name, int n_dims,
                       int64_t n)
{
    const mmf_array *const array = find(g, name);
    if (!array)
        return mmf_fail(g->ctx, MMF_FORMAT, "golden metrics: input.%s is missing", name);
    if (array->dtype == MMF_STR)
        return mmf_fail(g->ctx, MMF_DTYPE, "golden metrics: input.%s holds strings, not numbers",
                        name);
    if (array->n_dims != n_dims || (n >= 0 && array->shape[0] != n)) {
        char shape[128];
        mmf_shape_text(shape, sizeof shape, array->shape, array->n_dims);
        return mmf_fail(g->ctx, MMF_SHAPE,
                        "golden metrics: input.%s is %s, expected %d dimension%s%s", name, shape,
                        n_dims, n_dims == 1 ? "" : "s",
                        n >= 0 ? " and as many rows as the input before it" : "");
    }
    *out = array;
    return MMF_OK;
}

/* A copy that the caller frees. */
static mmf_status doubles(const golden *g, const mmf_array *array, double **out)
{
    const int64_t count = mmf_array_count(array);
    *out = mmf_alloc_zero(g->ctx, (size_t)count, sizeof **out);
    if (!*out)
        return MMF_NOMEM;
    mmf_array_doubles(array, 0, count, *out);
    return MMF_OK;
}

static mmf_status integers(const golden *g, const mmf_array *array, int64_t **out)
{
    const int64_t count = mmf_array_count(array);
    *out = mmf_alloc_zero(g->ctx, (size_t)count, sizeof **out);
    if (!*out)
        return MMF_NOMEM;
    for (int64_t i = 0; i < count; i++)
        (*out)[i] = mmf_array_integer(array, i);
    return MMF_OK;
}

static mmf_status number(const golden *g, const char *key, double standard, double *out)
{
    const json_t *const value = json_object_get(g->config, key);
    if (value && !json_is_number(value))
        return mmf_fail(g->ctx, MMF_FORMAT, "golden metrics: config.%s is not a number", key);
    *out = value ? json_number_value(value) : standard;
    return MMF_OK;
}

static mmf_status whole(const golden *g, const char *key, int64_t standard, int64_t *out)
{
    double value = 0;
    MMF_TRY(number(g, key, (double)standard, &value));
    if (value != floor(value) || fabs(value) > 1e9)
        return mmf_fail(g->ctx, MMF_FORMAT, "golden metrics: config.%s is %g, not a whole number",
                        key, value);
    *out = (int64_t)value;
    return MMF_OK;
}

/* ---- Outputs ----------------------------------------------------------------------------- */

/* A metric's name in the file and in the product. */
typedef struct name_pair {
    const char *file, *product;
} name_pair;

static void emit_group(const golden *g, const char *group, const name_pair *names, size_t n_names,
                       const mmf_metrics *metrics)
{
    for (size_t i = 0; i < n_names; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s.%s", group, names[i].file);
        const double value = mmf_metrics_get(metrics, names[i].product);
        g->emit(g->user, name, &value, 1);
    }
}

/* ---- Kinds ------------------------------------------------------------------------------- */

static mmf_status msa_rules(const golden *g, const double *p, const double *y, int64_t n)
{
    static const name_pair mosi[] = {{"Has0_acc_2", "acc2_has0"},
                                     {"Has0_F1_score", "f1_has0"},
                                     {"Non0_acc_2", "acc2_non0"},
                                     {"Non0_F1_score", "f1_non0"},
                                     {"Mult_acc_5", "acc5"},
                                     {"Mult_acc_7", "acc7"},
                                     {"MAE", "mae"},
                                     {"Corr", "corr"}};
    static const name_pair sims[] = {{"Mult_acc_2", "acc2"}, {"Mult_acc_3", "acc3"},
                                     {"Mult_acc_5", "acc5"}, {"F1_score", "f1"},
                                     {"MAE", "mae"},         {"Corr", "corr"}};
    mmf_metrics scores = {0};
    MMF_TRY(mmf_metrics_regression(g->ctx, &scores, p, y, n, MMF_MSA_MOSI));
    emit_group(g, "mosi", mosi, sizeof mosi / sizeof mosi[0], &scores);
    scores.count = 0;
    MMF_TRY(mmf_metrics_regression(g->ctx, &scores, p, y, n, MMF_MSA_SIMS));
    emit_group(g, "sims", sims, sizeof sims / sizeof sims[0], &scores);
    return MMF_OK;
}

static mmf_status msa(const golden *g)
{
    const mmf_array *prediction = NULL, *label = NULL;
    MMF_TRY(need(g, &prediction, "prediction", 1, -1));
    MMF_TRY(need(g, &label, "label", 1, prediction->shape[0]));
    double *p = NULL, *y = NULL;
    mmf_status status = doubles(g, prediction, &p);
    if (status == MMF_OK)
        status = doubles(g, label, &y);
    if (status == MMF_OK)
        status = msa_rules(g, p, y, prediction->shape[0]);
    mmf_free(g->ctx, y);
    mmf_free(g->ctx, p);
    return status;
}

static const name_pair decision_names[] = {{"accuracy", "accuracy"},
                                           {"balanced_accuracy", "balanced_accuracy"},
                                           {"f1_macro", "f1_macro"},
                                           {"f1_micro", "f1_micro"},
                                           {"f1_weighted", "f1_weighted"},
                                           {"brier", "brier"},
                                           {"nll", "nll"},
                                           {"ece", "ece"},
                                           {"mce", "mce"}};
enum { N_DECISION_NAMES = sizeof decision_names / sizeof decision_names[0] };

static mmf_status binary(const golden *g, const mmf_classification_options *options)
{
    static const name_pair more[] = {{"f1", "f1"},
                                     {"auroc", "auroc"},
                                     {"auprc", "auprc"},
                                     {"sensitivity", "sensitivity"},
                                     {"specificity", "specificity"}};
    const mmf_array *label = NULL, *probability = NULL;
    MMF_TRY(need(g, &label, "binary.label", 1, -1));
    MMF_TRY(need(g, &probability, "binary.probability", 1, label->shape[0]));
    const int64_t n = label->shape[0];
    mmf_metrics scores = {0};
    int64_t *classes = NULL;
    mmf_status status = integers(g, label, &classes);
    double *const rows = mmf_alloc_zero(g->ctx, (size_t)n, 2 * sizeof *rows);
    if (!rows)
        status = MMF_NOMEM;
    if (status == MMF_OK) {
        for (int64_t i = 0; i < n; i++) {
            rows[2 * i + 1] = mmf_array_number(probability, i);
            rows[2 * i] = 1 - rows[2 * i + 1];
        }
        status = mmf_metrics_classification_with(g->ctx, &scores, rows, classes, n, 2, options);
    }
    if (status == MMF_OK) {
        emit_group(g, "binary", decision_names, N_DECISION_NAMES, &scores);
        emit_group(g, "binary", more, sizeof more / sizeof more[0], &scores);
    }
    mmf_free(g->ctx, rows);
    mmf_free(g->ctx, classes);
    return status;
}

/* The scores of one class each, and the confusion matrix as numbers. */
static mmf_status per_class(const golden *g, const double *probability, const int64_t *classes,
                            int64_t n, int64_t n_classes)
{
    const int64_t n_cells = n_classes * n_classes;
    int64_t *const confusion = mmf_alloc_zero(g->ctx, (size_t)n_cells, sizeof *confusion);
    mmf_class_scores *const scores = mmf_alloc_zero(g->ctx, (size_t)n_classes, sizeof *scores);
    double *const values = mmf_alloc_zero(g->ctx, (size_t)n_cells, sizeof *values);
    const bool ready = confusion && scores && values;
    if (ready) {
        for (int64_t i = 0; i < n; i++)
            confusion[classes[i] * n_classes +
                      mmf_largest_class(probability + i * n_classes, n_classes)]++;
        mmf_class_scores_from(confusion, n_classes, scores);
        for (int64_t i = 0; i < n_cells; i++)
            values[i] = (double)confusion[i];
        g->emit(g->user, "multiclass.confusion", values, n_cells);
        for (int64_t k = 0; k < n_classes; k++)
            values[k] = scores[k].sensitivity;
        g->emit(g->user, "multiclass.sensitivity", values, n_classes);
        for (int64_t k = 0; k < n_classes; k++)
            values[k] = scores[k].specificity;
        g->emit(g->user, "multiclass.specificity", values, n_classes);
        for (int64_t k = 0; k < n_classes; k++)
            values[k] = scores[k].f1;
        g->emit(g->user, "multiclass.f1_per_class", values, n_classes);
    }
    mmf_free(g->ctx, values);
    mmf_free(g->ctx, scores);
    mmf_free(g->ctx, confusion);
    return ready ? MMF_OK : MMF_NOMEM;
}

static mmf_status multiclass(const golden *g, const mmf_classification_options *options)
{
    static const name_pair more[] = {{"auroc_macro", "auroc"}, {"auprc_macro", "auprc"}};
    const mmf_array *label = NULL, *probability = NULL;
    MMF_TRY(need(g, &label, "multiclass.label", 1, -1));
    MMF_TRY(need(g, &probability, "multiclass.probability", 2, label->shape[0]));
    const int64_t n = label->shape[0], n_classes = probability->shape[1];
    if (n_classes > MAX_CLASSES)
        return mmf_fail(g->ctx, MMF_LIMIT, "golden metrics: %lld classes, at most %d",
                        (long long)n_classes, MAX_CLASSES);
    mmf_metrics scores = {0};
    int64_t *classes = NULL;
    double *rows = NULL;
    mmf_status status = integers(g, label, &classes);
    if (status == MMF_OK)
        status = doubles(g, probability, &rows);
    if (status == MMF_OK)
        status =
            mmf_metrics_classification_with(g->ctx, &scores, rows, classes, n, n_classes, options);
    if (status == MMF_OK) {
        emit_group(g, "multiclass", decision_names, N_DECISION_NAMES, &scores);
        emit_group(g, "multiclass", more, sizeof more / sizeof more[0], &scores);
        status = per_class(g, rows, classes, n, n_classes);
    }
    mmf_free(g->ctx, rows);
    mmf_free(g->ctx, classes);
    return status;
}

static mmf_status classification(const golden *g)
{
    mmf_classification_options options = MMF_CLASSIFICATION_OPTIONS_INIT;
    MMF_TRY(whole(g, "bins", options.n_bins, &options.n_bins));
    MMF_TRY(whole(g, "positive", options.positive, &options.positive));
    MMF_TRY(number(g, "threshold", options.threshold, &options.threshold));
    const bool has_binary = find(g, "binary.label") != NULL;
    if (has_binary)
        MMF_TRY(binary(g, &options));
    if (has_binary && !find(g, "multiclass.label"))
        return MMF_OK;
    options.one_vs_rest = true;
    return multiclass(g, &options);
}

static mmf_status robustness(const golden *g)
{
    double step = 0;
    MMF_TRY(number(g, "step", 0.1, &step));
    const mmf_array *late_fusion = NULL, *curve = NULL;
    MMF_TRY(need(g, &late_fusion, "late_fusion", 1, -1));
    const int64_t n_levels = late_fusion->shape[0];
    const mmf_array *const given = find(g, "curve");
    const bool one = given && given->n_dims == 1;
    MMF_TRY(need(g, &curve, "curve", one ? 1 : 2, one ? n_levels : -1));
    if (!one && curve->shape[1] != n_levels)
        return mmf_fail(g->ctx, MMF_SHAPE,
                        "golden metrics: input.curve has %lld levels, input.late_fusion %lld",
                        (long long)curve->shape[1], (long long)n_levels);
    const int64_t n_methods = one ? 1 : curve->shape[0];
    double *f = NULL, *lf = NULL;
    mmf_status status = doubles(g, curve, &f);
    if (status == MMF_OK)
        status = doubles(g, late_fusion, &lf);
    double *const values = mmf_alloc_zero(g->ctx, (size_t)n_methods, 2 * sizeof *values);
    if (!values)
        status = MMF_NOMEM;
    if (status == MMF_OK) {
        mmf_robustness(f, lf, n_methods, n_levels, step, values, values + n_methods);
        g->emit(g->user, "relative", values, n_methods);
        g->emit(g->user, "effective", values + n_methods, n_methods);
    }
    mmf_free(g->ctx, values);
    mmf_free(g->ctx, lf);
    mmf_free(g->ctx, f);
    return status;
}

/* Rankings in one direction: rows ask columns, or columns rows. Caption c belongs to image c / k.
 * @param ranks  receives one rank a query, as a number */
static void rank_all(const double *similarity, int64_t n_images, int64_t k, bool columns_ask,
                     mmf_candidate_item *items, mmf_query_result *queries, double *ranks)
{
    const int64_t n_captions = n_images * k;
    const int64_t n_queries = columns_ask ? n_captions : n_images;
    const int64_t n_items = columns_ask ? n_images : n_captions;
    for (int64_t q = 0; q < n_queries; q++) {
        for (int64_t i = 0; i < n_items; i++) {
            const int64_t image = columns_ask ? i : q, caption = columns_ask ? q : i;
            items[i] = (mmf_candidate_item){similarity[image * n_captions + caption], i,
                                            caption / k == image};
        }
        queries[q] = mmf_rank_candidates(items, n_items);
        ranks[q] = (double)queries[q].rank;
    }
}

/* @param scale  of recalls  @return sum of the recalls */
static double emit_direction(const golden *g, const char *group, const mmf_metrics *scores,
                             double scale)
{
    static const name_pair recalls[] = {
        {"recall_at_1", "recall@1"}, {"recall_at_5", "recall@5"}, {"recall_at_10", "recall@10"}};
    static const name_pair others[] = {
        {"median_rank", "median_rank"}, {"mean_rank", "mean_rank"}, {"map", "map"}};
    double sum = 0;
    for (size_t i = 0; i < sizeof recalls / sizeof recalls[0]; i++) {
        char name[NAME_BYTES];
        const double value = scale * mmf_metrics_get(scores, recalls[i].product);
        snprintf(name, sizeof name, "%s.%s", group, recalls[i].file);
        g->emit(g->user, name, &value, 1);
        sum += value;
    }
    emit_group(g, group, others, sizeof others / sizeof others[0], scores);
    return sum;
}

static mmf_status retrieval(const golden *g)
{
    static const char *const groups[] = {"image_to_text", "text_to_image"};
    const json_t *const unit = json_object_get(g->config, "unit");
    const bool percent = json_is_string(unit) && strcmp(json_string_value(unit), "percent") == 0;
    const mmf_array *matrix = NULL;
    int64_t k = 1;
    MMF_TRY(whole(g, "captions_per_image", 1, &k));
    MMF_TRY(need(g, &matrix, "similarity", 2, -1));
    const int64_t n_images = matrix->shape[0], n_captions = matrix->shape[1];
    if (k < 1 || n_images < 1 || n_captions / k != n_images || n_captions % k)
        return mmf_fail(g->ctx, MMF_SHAPE,
                        "golden metrics: input.similarity is %lld by %lld, expected %lld captions "
                        "an image",
                        (long long)n_images, (long long)n_captions, (long long)k);
    double *similarity = NULL, sum = 0;
    mmf_status status = doubles(g, matrix, &similarity);
    mmf_candidate_item *const items = mmf_alloc_zero(g->ctx, (size_t)n_captions, sizeof *items);
    mmf_query_result *const queries = mmf_alloc_zero(g->ctx, (size_t)n_captions, sizeof *queries);
    double *const ranks = mmf_alloc_zero(g->ctx, (size_t)n_captions, sizeof *ranks);
    if (!items || !queries || !ranks)
        status = MMF_NOMEM;
    for (int i = 0; status == MMF_OK && i < 2; i++) {
        char name[NAME_BYTES];
        const int64_t n = i ? n_captions : n_images;
        mmf_metrics scores = {0};
        rank_all(similarity, n_images, k, i == 1, items, queries, ranks);
        mmf_metrics_retrieval(&scores, "", queries, n);
        sum += emit_direction(g, groups[i], &scores, percent ? 100 : 1);
        snprintf(name, sizeof name, "%s.rank", groups[i]);
        g->emit(g->user, name, ranks, n);
    }
    if (status == MMF_OK)
        g->emit(g->user, "rsum", &sum, 1);
    mmf_free(g->ctx, ranks);
    mmf_free(g->ctx, queries);
    mmf_free(g->ctx, items);
    mmf_free(g->ctx, similarity);
    return status;
}

typedef struct kind_row {
    const char *name;
    mmf_status (*run)(const golden *g);
} kind_row;

static mmf_status run_kind(const golden *g)
{
    static const kind_row kinds[] = {{"msa", msa},
                                     {"classification", classification},
                                     {"robustness", robustness},
                                     {"retrieval", retrieval}};
    const char *const kind = json_string_value(json_object_get(g->config, "kind"));
    if (!kind)
        return mmf_fail(g->ctx, MMF_FORMAT,
                        "golden metrics: config has no \"kind\"; expected an object such as "
                        "{\"kind\": \"msa\"}");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kind, kinds[i].name) == 0)
            return kinds[i].run(g);
    }
    return mmf_fail(
        g->ctx, MMF_UNSUPPORTED,
        "golden metrics: kind \"%s\" is not one of msa, classification, robustness, retrieval",
        kind);
}

mmf_status mmf_golden_metrics(mmf_ctx *ctx, const char *config_json, const mmf_named_array *inputs,
                              size_t n_inputs, mmf_golden_emit *emit, void *user)
{
    json_error_t error;
    json_t *const config = config_json ? json_loads(config_json, 0, &error) : NULL;
    if (config_json && !config)
        return mmf_fail(ctx, MMF_FORMAT, "golden metrics: config is not JSON: %s, line %d",
                        error.text, error.line);
    const golden g = {ctx, config, inputs, n_inputs, emit, user};
    const mmf_status status = run_kind(&g);
    json_decref(config);
    return status;
}
