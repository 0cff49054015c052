/* test_metrics.c: hand-computed scores, scores against their definitions spelt out the slow way,
 * and degenerate inputs. */
#include "support.h"

#include <math.h>

#include "tasks/metric_functions.h"

static void near(double value, double wanted, double tolerance, const char *name)
{
    if (isnan(wanted) ? !isnan(value) : !(fabs(value - wanted) <= tolerance))
        fail_msg("%s is %.9g, expected %.9g", name, value, wanted);
}

static void has(const mmf_metrics *m, const char *name, double wanted, double tolerance)
{
    for (size_t i = 0; i < m->count; i++) {
        if (strcmp(m->items[i].name, name) == 0) {
            near(m->items[i].value, wanted, tolerance, name);
            return;
        }
    }
    fail_msg("%s is absent", name);
}

static void all_nan(const mmf_metrics *m, size_t count)
{
    assert_int_equal(m->count, count);
    for (size_t i = 0; i < m->count; i++)
        near(m->items[i].value, NAN, 0, m->items[i].name);
}

static void list_of_scores(void **state)
{
    (void)state;
    mmf_metrics m = {0};
    mmf_metrics_add(&m, "mae", 1);
    mmf_metrics_add(&m, "corr", 2);
    mmf_metrics_add(&m, "mae", 3);
    assert_int_equal(m.count, 2);
    near(mmf_metrics_get(&m, "mae"), 3, 0, "mae");
    near(mmf_metrics_get(&m, "absent"), NAN, 0, "absent");
    char name[64];
    for (int i = 0; i < MMF_METRICS_MAX + 5; i++) {
        snprintf(name, sizeof name, "a-name-that-is-longer-than-it-may-be-%d", i);
        mmf_metrics_add(&m, name, i);
        snprintf(name, sizeof name, "m%d", i);
        mmf_metrics_add(&m, name, i);
    }
    assert_int_equal(m.count, MMF_METRICS_MAX);
    assert_true(mmf_metric_higher_is_better("accuracy"));
    assert_true(mmf_metric_higher_is_better("recall@1"));
    assert_true(mmf_metric_higher_is_better("r2"));
    const char *const lower[] = {"nll", "brier", "ece", "mce", "mae", "rmse", "loss.cmd", "loss"};
    for (size_t i = 0; i < sizeof lower / sizeof lower[0]; i++)
        assert_false(mmf_metric_higher_is_better(lower[i]));
}

static void regression_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double p[] = {1, 2, 4}, y[] = {1, 3, 2};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_regression(ctx, &m, p, y, 3, MMF_MSA_NONE));
    assert_int_equal(m.count, 4);
    has(&m, "mae", 1, 1e-15);
    has(&m, "rmse", sqrt(5.0 / 3), 1e-15);
    /* Centred: p (-4 -1 5)/3, y (-1 1 0): py 1, pp 42/9, yy 2. */
    has(&m, "corr", 1 / sqrt(42.0 / 9 * 2), 1e-15);
    has(&m, "r2", 1 - 5.0 / 2, 1e-15);
    mmf_ctx_free(ctx);
}

static void mosi_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double y[] = {2.4, -1.8, 0, 0, .6, -.2, 3, -3, 1, -.6};
    const double p[] = {1.5, -2.5, -.1, .3, -.4, .2, 3.4, -3.6, .5, -.5};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_regression(ctx, &m, p, y, 10, MMF_MSA_MOSI));
    has(&m, "acc2_has0", .7, 1e-12);
    has(&m, "f1_has0", .703, 5e-4);
    has(&m, "acc2_non0", .75, 1e-12);
    has(&m, "f1_non0", .75, 1e-12);
    has(&m, "acc5", .7, 1e-12);
    has(&m, "acc7", .7, 1e-12);
    has(&m, "mae", .5, 1e-6);
    has(&m, "corr", .9604, 5e-5);
    assert_true(isfinite(mmf_metrics_get(&m, "acc3")));
    /* Half-way values go to the even neighbour: 0.5 to 0, 1.5 and 2.5 to 2; -0 is 0. */
    const double half[] = {.5, 1.5, 2.5, -.5, -1.5, -2.5}, even[] = {0, 2, 2, 0, -2, -2};
    m.count = 0;
    test_ok(ctx, mmf_metrics_regression(ctx, &m, half, even, 6, MMF_MSA_MOSI));
    has(&m, "acc7", 1, 0);
    mmf_ctx_free(ctx);
}

static void sims_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double y[] = {-1, -.8, -.2, 0, .2, .4, .8, 1};
    const double p[] = {-.9, -.6, -.1, .05, -.3, .75, .71, 1.3};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_regression(ctx, &m, p, y, 8, MMF_MSA_SIMS));
    has(&m, "acc2", .75, 1e-12);
    has(&m, "acc3", .875, 1e-12);
    has(&m, "acc5", .625, 1e-12);
    has(&m, "f1", .75, 1e-12);
    has(&m, "mae", .17375, 1e-6);
    has(&m, "corr", .936, 5e-4);
    /* 0.1f exceeds 0.1 in double but equals the edge in single precision: the lower bin. */
    const double edge[] = {(double)0.1f, (double)-0.1f, (double)0.7f, (double)-0.7f};
    const double lower[] = {0, -.4, .4, -.9};
    m.count = 0;
    test_ok(ctx, mmf_metrics_regression(ctx, &m, edge, lower, 4, MMF_MSA_SIMS));
    has(&m, "acc5", 1, 0);
    has(&m, "acc3", 1, 0);
    mmf_ctx_free(ctx);
}

static void regression_degenerate(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double p[] = {.1, .1, .1}, y[] = {1, 2, 4}, bad[] = {1, NAN, 2},
                 wide[] = {1, INFINITY, 0};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_regression(ctx, &m, p, y, 3, MMF_MSA_MOSI));
    has(&m, "corr", NAN, 0);
    assert_true(mmf_metrics_get(&m, "r2") < 0);
    m.count = 0;
    test_ok(ctx, mmf_metrics_regression(ctx, &m, y, p, 3, MMF_MSA_NONE));
    has(&m, "corr", NAN, 0);
    has(&m, "r2", NAN, 0);
    const mmf_msa_rules rules[] = {MMF_MSA_NONE, MMF_MSA_MOSI, MMF_MSA_SIMS};
    const size_t counts[] = {4, 11, 8};
    for (int r = 0; r < 3; r++) {
        const double *const given[] = {bad, wide, y};
        for (int g = 0; g < 3; g++) {
            m.count = 0;
            test_ok(ctx, mmf_metrics_regression(ctx, &m, given[g], y, g == 2 ? 0 : 3, rules[r]));
            all_nan(&m, counts[r]);
        }
    }
    /* No label but 0: the scores without zeros are undefined. */
    const double zero[] = {0, 0, 0};
    m.count = 0;
    test_ok(ctx, mmf_metrics_regression(ctx, &m, y, zero, 3, MMF_MSA_MOSI));
    has(&m, "acc2_non0", NAN, 0);
    has(&m, "f1_non0", NAN, 0);
    has(&m, "acc2_has0", 1, 0);
    test_fails(ctx, mmf_metrics_regression(ctx, &m, y, y, -1, MMF_MSA_NONE), MMF_ARG, "-1 rows");
    mmf_ctx_free(ctx);
}

static void binary_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    /* P(1): .9 .5 .5 .2 of truth 1 1 0 0; predictions 1 1 1 0. */
    const double p[] = {.1, .9, .5, .5, .5, .5, .8, .2};
    const int64_t y[] = {1, 1, 0, 0};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_classification(ctx, &m, p, y, 4, 2));
    has(&m, "accuracy", .75, 1e-15);
    has(&m, "balanced_accuracy", .75, 1e-15);
    has(&m, "f1", .8, 1e-15);
    has(&m, "f1_macro", (.8 + 2.0 / 3) / 2, 1e-15);
    has(&m, "f1_weighted", (.8 + 2.0 / 3) / 2, 1e-15);
    has(&m, "f1_micro", .75, 1e-15);
    has(&m, "sensitivity", 1, 0);
    has(&m, "specificity", .5, 0);
    has(&m, "auroc", 3.5 / 4, 1e-15);             /* the tie at .5 counts half */
    has(&m, "auprc", .5 * 1 + .5 * 2 / 3, 1e-15); /* the tie enters whole */
    has(&m, "brier", (.01 + .25 + .25 + .04) / 4, 1e-15);
    has(&m, "nll", -(log(.9) + 2 * log(.5) + log(.8)) / 4, 1e-15);
    /* Confidences .9, .8: right, gaps .1, .2; .5 twice: one right, gap 0. */
    has(&m, "ece", (.1 + .2) / 4, 1e-15);
    has(&m, "mce", .2, 1e-15);
    mmf_classification_options o = MMF_CLASSIFICATION_OPTIONS_INIT;
    o.positive = 0;
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification_with(ctx, &m, p, y, 4, 2, &o));
    has(&m, "sensitivity", .5, 0);
    has(&m, "auprc", .5 * 1 + .5 * 2 / 3, 1e-15);
    o = (mmf_classification_options)MMF_CLASSIFICATION_OPTIONS_INIT;
    o.one_vs_rest = true; /* ties of the largest go to class 0 */
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification_with(ctx, &m, p, y, 4, 2, &o));
    has(&m, "accuracy", .75, 1e-15);
    has(&m, "brier", 2 * (.01 + .25 + .25 + .04) / 4, 1e-15);
    assert_int_equal(m.count, 11);
    mmf_ctx_free(ctx);
}

/* The same scores by their definitions, in the slowest way. */
static void slow_ranking(const double *p, const int64_t *y, int64_t n, int64_t n_classes, int64_t k,
                         double *auroc, double *auprc)
{
    double won = 0, pairs = 0, ap = 0, positives = 0;
    for (int64_t i = 0; i < n; i++) {
        if (y[i] != k)
            continue;
        double at_least = 0, hits = 0;
        positives++;
        for (int64_t j = 0; j < n; j++) {
            const double a = p[i * n_classes + k], b = p[j * n_classes + k];
            at_least += b >= a;
            hits += b >= a && y[j] == k;
            if (y[j] != k) {
                won += a > b ? 1 : a == b ? .5 : 0;
                pairs++;
            }
        }
        ap += hits / at_least;
    }
    *auroc = won / pairs;
    *auprc = ap / positives;
}

static void slow_calibration(const double *p, const int64_t *y, int64_t n, int64_t n_classes,
                             int64_t n_bins, double *ece, double *mce)
{
    *ece = *mce = 0;
    for (int64_t b = 0; b < n_bins; b++) {
        double count = 0, hits = 0, confidence = 0;
        for (int64_t i = 0; i < n; i++) {
            const int64_t guess = mmf_largest_class(p + i * n_classes, n_classes);
            const double c = p[i * n_classes + guess];
            const double low = (double)b * (1.0 / (double)n_bins);
            const double high = (double)(b + 1) * (1.0 / (double)n_bins);
            if (c > low && c <= high) {
                count++;
                hits += guess == y[i];
                confidence += c;
            }
        }
        if (count > 0) {
            const double gap = fabs(hits / count - confidence / count);
            *ece += gap * count / (double)n;
            *mce = fmax(*mce, gap);
        }
    }
}

static void against_definitions(void **state)
{
    (void)state;
    enum { N = 90, K = 4 };
    mmf_ctx *const ctx = test_ctx();
    mmf_rng rng = mmf_rng_make(3, mmf_rng_stream("metrics"));
    double p[N * K];
    int64_t y[N];
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < K; k++)
            sum += p[i * K + k] = 1 + (double)mmf_rng_below(&rng, 7); /* many ties */
        for (int k = 0; k < K; k++)
            p[i * K + k] /= sum;
        y[i] = (int64_t)mmf_rng_below(&rng, K);
    }
    const int64_t bins[] = {1, 4, 10, 15};
    for (size_t b = 0; b < sizeof bins / sizeof bins[0]; b++) {
        mmf_classification_options o = MMF_CLASSIFICATION_OPTIONS_INIT;
        o.n_bins = bins[b];
        mmf_metrics m = {0};
        test_ok(ctx, mmf_metrics_classification_with(ctx, &m, p, y, N, K, &o));
        double ece, mce, auroc = 0, auprc = 0;
        slow_calibration(p, y, N, K, bins[b], &ece, &mce);
        has(&m, "ece", ece, 1e-12);
        has(&m, "mce", mce, 1e-12);
        for (int k = 0; k < K; k++) {
            double one, other;
            slow_ranking(p, y, N, K, k, &one, &other);
            auroc += one / K;
            auprc += other / K;
        }
        has(&m, "auroc", auroc, 1e-12);
        has(&m, "auprc", auprc, 1e-12);
        int64_t confusion[K * K];
        mmf_class_scores scores[K];
        mmf_confusion(p, y, N, K, confusion);
        mmf_class_scores_from(confusion, K, scores);
        double recall = 0, f1 = 0, weighted = 0, hits = 0;
        for (int k = 0; k < K; k++) {
            recall += scores[k].sensitivity / K;
            f1 += scores[k].f1 / K;
            weighted += scores[k].f1 * (double)scores[k].support / N;
            hits += (double)confusion[k * K + k] / N;
            near(scores[k].f1,
                 2 * scores[k].precision * scores[k].sensitivity /
                     (scores[k].precision + scores[k].sensitivity),
                 1e-12, "f1 of a class");
        }
        has(&m, "balanced_accuracy", recall, 1e-12);
        has(&m, "f1_macro", f1, 1e-12);
        has(&m, "f1_weighted", weighted, 1e-12);
        has(&m, "accuracy", hits, 1e-12);
        has(&m, "f1_micro", hits, 1e-12);
    }
    mmf_ctx_free(ctx);
}

static void classification_degenerate(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double p[] = {.5, .3, .2, .5, .3, .2}, bad[] = {NAN, .5, .5, NAN, NAN, NAN};
    const int64_t same[] = {0, 0}, wrong[] = {0, 3};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_classification(ctx, &m, p, same, 2, 3));
    has(&m, "accuracy", 1, 0);
    has(&m, "balanced_accuracy", 1, 0);
    has(&m, "f1_macro", 1, 0); /* classes that occur nowhere do not count */
    has(&m, "auroc", NAN, 0);
    has(&m, "auprc", 1, 0);
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification(ctx, &m, bad, same, 2, 3));
    all_nan(&m, 11);
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification(ctx, &m, p, same, 0, 3));
    all_nan(&m, 11);
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification(ctx, &m, p, same, 0, 2));
    all_nan(&m, 14);
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification(ctx, &m, p, same, 2, 1));
    has(&m, "accuracy", 1, 0);
    has(&m, "auroc", NAN, 0);
    assert_int_equal(mmf_largest_class(bad, 3), 1);
    assert_int_equal(mmf_largest_class(bad + 3, 3), 0);
    /* A certain error is finite. */
    const double certain[] = {0, 1};
    m.count = 0;
    test_ok(ctx, mmf_metrics_classification(ctx, &m, certain, same, 1, 2));
    has(&m, "nll", -log(1e-12), 1e-9);
    has(&m, "sensitivity", NAN, 0);
    has(&m, "ece", 1, 0);
    test_fails(ctx, mmf_metrics_classification(ctx, &m, p, wrong, 2, 3), MMF_ARG,
               "row 1 has class 3, expected 0 to 2");
    test_fails(ctx, mmf_metrics_classification(ctx, &m, p, same, -1, 3), MMF_ARG, "-1 rows");
    test_fails(ctx, mmf_metrics_classification(ctx, &m, p, same, 1, 0), MMF_ARG, "0 classes");
    mmf_classification_options o = MMF_CLASSIFICATION_OPTIONS_INIT;
    o.n_bins = 0;
    test_fails(ctx, mmf_metrics_classification_with(ctx, &m, p, same, 2, 3, &o), MMF_ARG, "0 bins");
    mmf_ctx_free(ctx);
}

static void multilabel_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    /* Columns: TP 1 FP 1 FN 0 | TP 1 FP 0 FN 1 | nothing true, nothing predicted. */
    const double p[] = {.9, .6, .1, .7, .3, .2}, y[] = {1, 1, 0, 0, 1, 0};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_multilabel(ctx, &m, p, y, 2, 3));
    has(&m, "accuracy", 4.0 / 6, 1e-15);
    has(&m, "exact_match", .5, 0);
    has(&m, "f1_macro", (2.0 / 3 + 2.0 / 3 + 0) / 3, 1e-15);
    has(&m, "f1_weighted", 2.0 / 3, 1e-15);
    has(&m, "f1_micro", 2.0 / 3, 1e-15);
    has(&m, "f1_samples", .5, 1e-15);
    has(&m, "auroc", 1, 0);
    has(&m, "auprc", 1, 0);
    has(&m, "brier", (.01 + .16 + .01 + .49 + .49 + .04) / 6, 1e-15);
    has(&m, "nll", -(log(.9) + log(.6) + log(.9) + log(.3) + log(.3) + log(.8)) / 6, 1e-12);
    assert_int_equal(m.count, 12);
    m.count = 0;
    test_ok(ctx, mmf_metrics_multilabel(ctx, &m, p, y, 0, 3));
    all_nan(&m, 12);
    const double bad[] = {0, NAN};
    m.count = 0;
    test_ok(ctx, mmf_metrics_multilabel(ctx, &m, bad, y, 1, 2));
    all_nan(&m, 12);
    test_fails(ctx, mmf_metrics_multilabel(ctx, &m, p, bad, 1, 2), MMF_NUMERIC, "row 0, column 1");
    test_fails(ctx, mmf_metrics_multilabel(ctx, &m, p, y, 1, 0), MMF_ARG, "0 columns");
    mmf_ctx_free(ctx);
}

static void soft_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double p[] = {.5, .3, .2, .1, .2, .7}, t[] = {.6, .4, 0, .5, .5, 0};
    mmf_metrics m = {0};
    test_ok(ctx, mmf_metrics_soft(ctx, &m, p, t, 2, 3));
    has(&m, "accuracy", .5, 0);
    has(&m, "soft_accuracy", .3, 1e-15);
    has(&m, "nll", -(.6 * log(.5) + .4 * log(.3) + .5 * log(.1) + .5 * log(.2)) / 2, 1e-15);
    has(&m, "brier", (.01 + .01 + .04 + .16 + .09 + .49) / 2, 1e-15);
    /* One-hot targets of two classes give what hard classes give. */
    const double q[] = {.4, .6, .8, .2}, hot[] = {1, 0, 1, 0};
    const int64_t hard[] = {0, 0};
    mmf_metrics soft = {0}, classes = {0};
    test_ok(ctx, mmf_metrics_soft(ctx, &soft, q, hot, 2, 2));
    test_ok(ctx, mmf_metrics_classification(ctx, &classes, q, hard, 2, 2));
    for (size_t i = 0; i < classes.count; i++)
        has(&soft, classes.items[i].name, classes.items[i].value, 1e-15);
    m.count = 0;
    test_ok(ctx, mmf_metrics_soft(ctx, &m, p, t, 0, 3));
    all_nan(&m, 12);
    test_fails(ctx, mmf_metrics_soft(ctx, &m, p, (const double[]){INFINITY, 0, 0}, 1, 3),
               MMF_NUMERIC, "inf");
    mmf_ctx_free(ctx);
}

static void robustness_by_hand(void **state)
{
    (void)state;
    const double curve[] = {.9, .8, .4, .5, .5, .5}, lf[] = {.7, .6, .1};
    double relative[2], effective[2];
    mmf_robustness(curve, lf, 2, 3, .5, relative, effective);
    near(relative[0], .5 * (.85 + .6), 1e-15, "relative");
    near(relative[1], .5, 1e-15, "relative");
    near(effective[0], 0 + 0 + .1, 1e-15, "effective");
    near(effective[1], 0 + .1 + .6, 1e-15, "effective");
    mmf_robustness(curve, lf, 2, 1, .5, relative, effective);
    near(relative[1], 0, 0, "relative of one level");
    mmf_robustness(curve, lf, 2, 0, .5, relative, effective);
    near(relative[0], NAN, 0, "relative of no level");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_of_scores),        cmocka_unit_test(regression_by_hand),
        cmocka_unit_test(mosi_by_hand),          cmocka_unit_test(sims_by_hand),
        cmocka_unit_test(regression_degenerate), cmocka_unit_test(binary_by_hand),
        cmocka_unit_test(against_definitions),   cmocka_unit_test(classification_degenerate),
        cmocka_unit_test(multilabel_by_hand),    cmocka_unit_test(soft_by_hand),
        cmocka_unit_test(robustness_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
