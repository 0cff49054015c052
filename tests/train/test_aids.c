/*
 * test_aids.c: training aids: their rules by hand, what they do to gradients, and what they refuse.
 */
#include <math.h>

#include "nn/ogm_ge.h"
#include "train/aid.h"
#include "train/training_data.h"

static void near(double value, double wanted, double allowed)
{
    if (!(fabs(value - wanted) <= allowed))
        fail_msg("%.12g, expected %.12g", value, wanted);
}

/* ---- Rules ------------------------------------------------------------------------------- */

static void blend_weights_follow_gain_and_overfitting(void **state)
{
    (void)state;
    double w[3];
    const double equal[] = {0.4, 0.4, 0.4}, overfit[] = {0.1, 0.1, 0.1};
    mmf_gradient_blend_weights(3, equal, overfit, 0.01, w);
    for (int i = 0; i < 3; i++)
        near(w[i], 1.0 / 3, 1e-15);
    const double gain[] = {0.2, 0.1, -0.3}, gap[] = {0.2, 0.1, 0.1}; /* 5 : 10 : 0 */
    mmf_gradient_blend_weights(3, gain, gap, 0.01, w);
    near(w[0], 1.0 / 3, 1e-12);
    near(w[1], 2.0 / 3, 1e-12);
    near(w[2], 0, 0);
    const double tiny[] = {0.2, 1e-300, -1}; /* floored: 0.2/0.04 : 0.1/0.01 : 0 */
    mmf_gradient_blend_weights(3, gain, tiny, 0.1, w);
    near(w[0], 1.0 / 3, 1e-12);
    near(w[1], 2.0 / 3, 1e-12);
    const double nothing[] = {-1, 0, -2};
    mmf_gradient_blend_weights(3, nothing, gap, 0.01, w);
    near(w[2], 1.0 / 3, 1e-15);
}

static void equal_distances_leave_a_label_as_it_is(void **state)
{
    (void)state;
    near(mmf_self_mm_label(1.7, 0.8, 0.8, 3), 1.7, 1e-7);
    near(mmf_self_mm_label(-0.4, -0.3, -0.3, 3), -0.4, 1e-7);
    near(mmf_self_mm_label(2.5, 4, 1, 3), 3, 0); /* clipped */
    near(mmf_self_mm_label(1, 0.5, 0.25, 3), 0.5 * 2 * 1 + 0.5 * 1.25, 1e-6);
}

/* ---- Balance ----------------------------------------------------------------------------- */

/* Logits whose probability of the right class is `p`, of three classes. */
enum { MOST = 7 };

static mmf_ogm balance_of(mmf_ctx *ctx, mmf_tape *tape, const double *p, size_t n, double alpha)
{
    static mmf_real values[MOST][3];
    static int64_t label[1];
    mmf_tensor *logits[MOST];
    label[0] = 1;
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    for (size_t m = 0; m < n; m++) {
        values[m][0] = values[m][2] = (mmf_real)log((1 - p[m]) / 2);
        values[m][1] = (mmf_real)log(p[m]);
        logits[m] = mmf_variable(tape, values[m], 2, (int64_t[]){1, 3});
    }
    const mmf_ogm ogm =
        mmf_ogm_balance(tape, logits, n, mmf_input_ints(tape, label, 1, (int64_t[]){1}), alpha);
    test_ok(ctx, mmf_tape_status(tape));
    return ogm;
}

static void coefficients_are_those_of_the_paper(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    /* k(1.5), k(2) and k(4) for alpha = 0.1 */
    const double ratios[] = {1.5, 2, 4}, wanted[] = {0.851, 0.803, 0.620};
    for (int i = 0; i < 3; i++) {
        const double p[] = {0.2 * ratios[i], 0.2};
        const mmf_ogm ogm = balance_of(ctx, tape, p, 2, 0.1);
        near((double)ogm.ratio->data[0], ratios[i], 1e-5);
        near((double)ogm.ratio->data[1], 1 / ratios[i], 1e-6);
        near((double)ogm.coefficient->data[0], wanted[i], 6e-4);
        near((double)ogm.coefficient->data[1], 1, 0);
    }
    const double same[] = {0.3, 0.3, 0.3};
    const mmf_ogm equal = balance_of(ctx, tape, same, 3, 0.7);
    for (int m = 0; m < 3; m++) {
        near((double)equal.ratio->data[m], 1, 1e-6);
        near((double)equal.score->data[m], 0.3, 1e-6);
    }
    /* However their sums are rounded, modalities that are the same are not modulated. */
    for (int i = 1; i < 400; i++) {
        const double share = i / 401.0,
                     all_same[] = {share, share, share, share, share, share, share};
        for (size_t n = 2; n <= MOST; n++) {
            const mmf_ogm none = balance_of(ctx, tape, all_same, n, 0.7);
            for (size_t m = 0; m < n; m++)
                near((double)none.coefficient->data[m], 1, 0);
        }
    }
    const double ahead[] = {0.6, 0.1, 0.3}; /* 0.6 over the mean of the others, 0.2 */
    const mmf_ogm three = balance_of(ctx, tape, ahead, 3, 0.5);
    near((double)three.ratio->data[0], 3, 1e-5);
    near((double)three.coefficient->data[0], 1 - tanh(1.5), 1e-5);
    near((double)three.coefficient->data[1], 1, 0);
    /* A modality that has learned nothing makes the ratio large, never another modality's rounding.
     */
    const double alone[] = {0.999, 1e-6};
    const mmf_ogm far = balance_of(ctx, tape, alone, 2, 0.1);
    near((double)far.ratio->data[0] / 999000, 1, 1e-5);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* ---- Training ---------------------------------------------------------------------------- */

typedef struct fitted {
    mmf_ctx *ctx;
    mmf_dataset *dataset;
    mmf_model *model;
} fitted;

enum { N_TRAIN = 48, N_VALID = 16, SEED = 3 };

static fitted fit(const char *model, data_kind kind, bool regression, const char *aid,
                  const mmf_train_options *options)
{
    fitted f = {.ctx = one_thread()};
    const data_spec spec = {kind, N_TRAIN + N_VALID, regression, false, 0, 6};
    mmf_train_options o = *options;
    simple_split s;
    f.dataset = data_open(f.ctx, &spec, "aids.npz");
    mmf_config *const config = quick_config(f.ctx, model, 0, "0");
    o.aid = aid;
    test_ok(f.ctx, mmf_train(f.ctx, &f.model, f.dataset, data_split(&s, N_TRAIN, N_VALID), model,
                             config, &o));
    mmf_config_free(config);
    return f;
}

static void end(fitted *f)
{
    mmf_model_free(f->model);
    mmf_dataset_close(f->dataset);
    assert_int_equal(mmf_ctx_memory(f->ctx).live_bytes, 0);
    mmf_ctx_free(f->ctx);
}

/* One step of plain SGD over all rows. */
static mmf_train_options one_step(void)
{
    mmf_train_options o = quick_options(1, N_TRAIN);
    o.seed = SEED;
    o.optimizer.kind = MMF_SGD;
    o.optimizer.lr = 0.1;
    return o;
}

static const mmf_real *values_of(const fitted *f)
{
    return mmf_params_values(mmf_module_params(mmf_model_module(f->model)));
}

/* Where training began. */
static mmf_module *untrained(const fitted *f)
{
    const mmf_module *const built = mmf_model_module(f->model);
    mmf_module *fresh = NULL;
    test_ok(f->ctx, mmf_module_create(f->ctx, &fresh, mmf_module_def(built),
                                      mmf_module_config(built), mmf_module_schema(built), SEED));
    return fresh;
}

static bool is_of_head(const char *name)
{
    return strncmp(name, "head.", 5) == 0;
}

static void without_strength_and_noise_nothing_changes(void **state)
{
    (void)state;
    const mmf_train_options o = quick_options(4, 8);
    fitted plain = fit("joint-concat", DATA_VECTORS, false, NULL, &o);
    fitted aided = fit("joint-concat", DATA_VECTORS, false, "ogm-ge:0:noise=false", &o);
    assert_same_weights("ogm-ge of strength 0", plain.model, aided.model);
    end(&aided);
    aided = fit("joint-concat", DATA_VECTORS, false, "unimodal-heads:0", &o);
    assert_same_weights("heads of weight 0", plain.model, aided.model);
    end(&aided);
    end(&plain);
}

/* With plain SGD a modulated gradient is a modulated step, the same factor in a whole encoder. */
static void modulation_scales_one_encoder_and_no_head(void **state)
{
    (void)state;
    const mmf_train_options o = one_step();
    fitted plain = fit("joint-concat", DATA_VECTORS, false, NULL, &o);
    fitted aided = fit("joint-concat", DATA_VECTORS, false, "ogm-ge:0.6:noise=false", &o);
    mmf_module *const fresh = untrained(&plain);
    const mmf_params *const params = mmf_module_params(fresh);
    double factor[2] = {NAN, NAN};
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const int64_t at = p->tensor->data - mmf_params_values(params);
        const int which = p->name[0] == 'a' ? 0 : 1;
        for (int64_t j = 0; j < p->tensor->count; j++) {
            const double start = (double)p->tensor->data[j];
            const double step = (double)values_of(&plain)[at + j] - start;
            const double changed = (double)values_of(&aided)[at + j] - start;
            if (is_of_head(p->name))
                near(changed, step, 0);
            if (is_of_head(p->name) || fabs(step) < 1e-3)
                continue;
            factor[which] = isnan(factor[which]) ? changed / step : factor[which];
            near(changed / step, factor[which], 1e-3);
        }
    }
    /* Exactly one of two modalities is ahead. */
    assert_true((factor[0] < 0.6 && fabs(factor[1] - 1) < 1e-6) ||
                (factor[1] < 0.6 && fabs(factor[0] - 1) < 1e-6));
    mmf_module_free(fresh);
    end(&plain);
    end(&aided);
}

static void noise_has_mean_zero_and_the_deviation_of_the_gradient(void **state)
{
    (void)state;
    const mmf_train_options o = one_step();
    fitted plain = fit("joint-concat", DATA_VECTORS, false, NULL, &o);
    fitted aided = fit("joint-concat", DATA_VECTORS, false, "ogm-ge:0", &o);
    mmf_module *const fresh = untrained(&plain);
    const mmf_params *const params = mmf_module_params(fresh);
    size_t n_noisy = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const int64_t at = p->tensor->data - mmf_params_values(params), n = p->tensor->count;
        double sum = 0, squares = 0, noise = 0, noise_squares = 0;
        for (int64_t j = 0; j < n; j++) {
            const double g = (double)p->tensor->data[j] - (double)values_of(&plain)[at + j];
            const double e = (double)values_of(&plain)[at + j] - (double)values_of(&aided)[at + j];
            sum += g;
            squares += g * g;
            noise += e;
            noise_squares += e * e;
        }
        const double wanted = sqrt(squares / (double)n - pow(sum / (double)n, 2));
        if (is_of_head(p->name) || p->tensor->n_dims < 2) {
            near(noise_squares, 0, 0);
            continue;
        }
        if (n < 200)
            continue;
        n_noisy++;
        near(noise / (double)n, 0, 5 * wanted / sqrt((double)n));
        near(sqrt(noise_squares / (double)n) / wanted, 1, 5 / sqrt(2.0 * (double)n));
    }
    assert_true(n_noisy >= 2);
    mmf_module_free(fresh);
    end(&plain);
    end(&aided);
}

/* Models of every kind with features learn with every aid, and differ from those without. */
static void aids_train_and_are_recorded(void **state)
{
    (void)state;
    static const struct {
        const char *model, *aid, *record;
        data_kind kind;
        bool regression;
    } cases[] = {
        {"joint-concat", "ogm-ge", "\"name\": \"ogm-ge\", \"options\": {\"alpha\": 0.3", DATA_MIXED,
         false},
        {"tfn", "gradient-blend:2", "\"period\": 2", DATA_TRIO, true},
        {"lmf", "unimodal-heads:0.5", "\"weight\": 0.5", DATA_TRIO, false},
        {"misa", "unimodal-heads:labels=generated", "\"labels\": \"generated\"", DATA_TRIO, true},
        {"qmf", "gradient-blend:1,unimodal-heads", "\"name\": \"unimodal-heads\"", DATA_VECTORS,
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_train_options o = quick_options(6, 8);
        fitted plain = fit(cases[i].model, cases[i].kind, cases[i].regression, NULL, &o);
        fitted aided = fit(cases[i].model, cases[i].kind, cases[i].regression, cases[i].aid, &o);
        const mmf_params *const params = mmf_module_params(mmf_model_module(plain.model));
        const size_t n_bytes = (size_t)mmf_params_size(params) * sizeof(mmf_real);
        assert_int_not_equal(memcmp(values_of(&plain), values_of(&aided), n_bytes), 0);
        if (!strstr(mmf_model_record(aided.model), cases[i].record))
            fail_msg("%s is not in %s", cases[i].record, mmf_model_record(aided.model));
        assert_non_null(strstr(mmf_model_record(plain.model), "\"aids\": []"));
        end(&plain);
        end(&aided);
    }
}

/* A gate that leaves encoders out does so in predictions alone: aids and losses get all features.
 */
static void a_gate_keeps_no_feature_from_aids(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        mmf_train_options o = quick_options(2, 8);
        o.seed = seed;
        fitted aided = fit("dynmm", DATA_VECTORS, false, "gradient-blend:1", &o);
        assert_non_null(strstr(mmf_model_record(aided.model), "gradient-blend"));
        end(&aided);
    }
}

/* ---- Refusals ---------------------------------------------------------------------------- */

static void refuses(const char *model, data_kind kind, bool regression, const char *aid,
                    mmf_train_options options, mmf_status wanted, const char *piece)
{
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {kind, 40, regression, false, 0, 9};
    mmf_dataset *const dataset = data_open(ctx, &spec, "refuses.npz");
    mmf_config *const config = quick_config(ctx, model, 8, "0");
    mmf_model *trained = NULL;
    simple_split s;
    options.aid = aid;
    test_fails(ctx,
               mmf_train(ctx, &trained, dataset, data_split(&s, 30, 8), model, config, &options),
               wanted, piece);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    mmf_train_options o = quick_options(2, 8);
    static const struct {
        const char *model, *aid, *piece;
        mmf_status status;
        data_kind kind;
        bool regression;
    } cases[] = {
        {"joint-concat", "omg-ge", "did you mean \"ogm-ge\"", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge:x", "ogm-ge", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge:alpah=1", "alpha", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge:=1", "OPTION=VALUE", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge:", "OPTION=VALUE", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge,ogm-ge:1", "twice", MMF_ARG, DATA_VECTORS, false},
        {"joint-concat", "ogm-ge", "gradient-blend", MMF_UNSUPPORTED, DATA_VECTORS, true},
        {"joint-concat", "unimodal-heads:labels=generated", "labels=task", MMF_UNSUPPORTED,
         DATA_VECTORS, false},
        {"early-concat", "ogm-ge", "puts out 0", MMF_UNSUPPORTED, DATA_VECTORS, false},
        {"late-mean", "ogm-ge", "one modality at a time", MMF_UNSUPPORTED, DATA_VECTORS, false},
        {"only-a", "unimodal-heads", "one modality at a time", MMF_UNSUPPORTED, DATA_VECTORS,
         false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuses(cases[i].model, cases[i].kind, cases[i].regression, cases[i].aid, o,
                cases[i].status, cases[i].piece);
    o.refit = true;
    refuses("joint-concat", DATA_VECTORS, false, "gradient-blend", o, MMF_UNSUPPORTED, "--refit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blend_weights_follow_gain_and_overfitting),
        cmocka_unit_test(equal_distances_leave_a_label_as_it_is),
        cmocka_unit_test(coefficients_are_those_of_the_paper),
        cmocka_unit_test(without_strength_and_noise_nothing_changes),
        cmocka_unit_test(modulation_scales_one_encoder_and_no_head),
        cmocka_unit_test(noise_has_mean_zero_and_the_deviation_of_the_gradient),
        cmocka_unit_test(aids_train_and_are_recorded),
        cmocka_unit_test(a_gate_keeps_no_feature_from_aids),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
