/*
 * test_noise.c: damage to batches: in units of training deviations, within lengths, of what is
 * there only, the same again for the same seed.
 */
#include <math.h>

#include "train/noise.h"
#include "train/training_data.h"

enum { N_ROWS = 96 };

typedef struct scene {
    mmf_ctx *ctx;
    mmf_dataset *dataset;
    mmf_model *model;
    mmf_noise_scale scale;
    int64_t rows[N_ROWS];
} scene;

static scene make_scene(const data_spec *spec, bool plain)
{
    scene s = {.ctx = one_thread()};
    simple_split split;
    mmf_train_options options = quick_options(1, 32);
    options.no_normalise = plain;
    s.dataset = data_open(s.ctx, spec, "noise.npz");
    mmf_config *const config = quick_config(s.ctx, "joint-concat", 8, "0");
    test_ok(s.ctx, mmf_train(s.ctx, &s.model, s.dataset, data_split(&split, N_ROWS, 0),
                             "joint-concat", config, &options));
    mmf_config_free(config);
    for (int64_t i = 0; i < N_ROWS; i++)
        s.rows[i] = i;
    test_ok(s.ctx, mmf_noise_scale_fit(s.ctx, &s.scale, s.model, s.dataset, s.rows, N_ROWS));
    return s;
}

static void end_scene(scene *s)
{
    mmf_noise_scale_clear(s->ctx, &s->scale);
    mmf_model_free(s->model);
    mmf_dataset_close(s->dataset);
    mmf_ctx_free(s->ctx);
}

/* What `change` is shown, kept; batches follow each other. */
typedef struct kept {
    mmf_noise noise;
    float before[N_ROWS * 64], after[N_ROWS * 64];
    int64_t tokens[N_ROWS * 64], length[N_ROWS];
    float present[N_ROWS];
    size_t modality, size;
    int64_t n;
} kept;

static void keep(void *user, mmf_batch *batch, const size_t *map, const int64_t *rows)
{
    kept *const k = user;
    const mmf_batch_input *const in = &batch->inputs[map[k->modality]];
    const size_t n = (size_t)batch->n_rows * k->size, at = (size_t)k->n * k->size;
    if (in->values)
        memcpy(k->before + at, in->values, n * sizeof(float));
    mmf_noise_apply(&k->noise, batch, map, rows);
    if (in->values)
        memcpy(k->after + at, in->values, n * sizeof(float));
    for (size_t i = 0; in->tokens && i < n; i++)
        k->tokens[at + i] = in->tokens[i];
    for (int64_t b = 0; b < batch->n_rows; b++) {
        k->present[k->n + b] = in->present ? in->present[b] : 1;
        k->length[k->n + b] = in->length ? in->length[b] : 0;
    }
    k->n += batch->n_rows;
}

static kept *damage_of(const scene *s, uint64_t on, mmf_noise_kind kind, size_t modality,
                       size_t size, double level)
{
    kept *const k = calloc(1, sizeof *k);
    assert_non_null(k);
    k->noise = (mmf_noise){.inputs = mmf_model_inputs(s->model),
                           .dataset = s->dataset,
                           .scale = &s->scale,
                           .kind = kind,
                           .on = on,
                           .level = level,
                           .seed = 5};
    k->modality = modality;
    k->size = size;
    const mmf_inference how = {
        .use = MMF_ALL_MODALITIES, .tracks_presence = true, .change = keep, .user = k};
    test_ok(s->ctx, mmf_model__predict_rows(s->model, s->dataset, s->rows, N_ROWS, &how, NULL));
    assert_int_equal(k->n, N_ROWS);
    return k;
}

static kept *damage(const scene *s, mmf_noise_kind kind, size_t modality, size_t size, double level)
{
    return damage_of(s, UINT64_C(1) << modality, kind, modality, size, level);
}

static double deviation_of(const float *a, const float *b, size_t size, size_t f)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        const double d = (double)(a[i * size + f] - b[i * size + f]);
        sum += d / N_ROWS;
        squares += d * d / N_ROWS;
    }
    return sqrt(squares - sum * sum);
}

/* Also where the model takes features as they are, in whatever unit. */
static void gaussian_noise_counts_in_training_deviations(void **state)
{
    (void)state;
    const data_spec spec = {DATA_VECTORS, N_ROWS, false, false, 0, 1};
    for (int plain = 0; plain < 2; plain++) {
        scene s = make_scene(&spec, plain == 1);
        kept *const k = damage(&s, MMF_NOISE_GAUSSIAN, 0, 5, 0.5);
        for (size_t f = 0; f < 5; f++) {
            static const float zeros[N_ROWS * 5];
            const double own = deviation_of(k->before, zeros, 5, f);
            assert_true(plain ? fabs(own - 1) > 0.05 : fabs(own - 1) < 1e-3);
            /* Within four standard errors of a deviation over 96 rows. */
            const double ratio = deviation_of(k->after, k->before, 5, f) / (0.5 * own);
            assert_true(fabs(ratio - 1) < 4 / sqrt(2.0 * N_ROWS));
        }
        free(k);
        end_scene(&s);
    }
}

static void a_constant_feature_stays(void **state)
{
    (void)state;
    const data_spec spec = {DATA_VECTORS, N_ROWS, false, false, 0, 1};
    scene s = make_scene(&spec, false);
    s.scale.deviation[0][2] = 0; /* as the fit leaves it for a constant */
    kept *const k = damage(&s, MMF_NOISE_GAUSSIAN, 0, 5, 0.9);
    for (size_t i = 0; i < N_ROWS; i++) {
        assert_true(k->after[i * 5 + 2] == k->before[i * 5 + 2]);
        assert_true(k->after[i * 5 + 1] != k->before[i * 5 + 1]);
    }
    free(k);
    end_scene(&s);
}

static void steps_are_lost_whole_and_within_the_length(void **state)
{
    (void)state;
    const data_spec spec = {DATA_SEQUENCES, N_ROWS, false, true, 7, 2};
    scene s = make_scene(&spec, false);
    kept *const k = damage(&s, MMF_NOISE_STEP_DROP, 0, 18, 0.4);
    int64_t n_steps = 0, n_lost = 0;
    for (int64_t i = 0; i < N_ROWS; i++) {
        for (int64_t t = 0; t < 6; t++) {
            const float *const before = k->before + i * 18 + t * 3;
            const float *const after = k->after + i * 18 + t * 3;
            const bool valid = k->present[i] != 0 && t < k->length[i];
            const bool changed = memcmp(before, after, 3 * sizeof *before) != 0;
            assert_true(valid || !changed);
            n_steps += valid;
            n_lost += changed;
            for (size_t f = 0; changed && f < 3; f++)
                assert_true(after[f] == (float)s.scale.mean[0][f]);
        }
    }
    const double width = 5 * sqrt(0.4 * 0.6 / (double)n_steps);
    assert_true(fabs((double)n_lost / (double)n_steps - 0.4) < width);
    free(k);
    end_scene(&s);
}

static void entries_are_lost_one_by_one(void **state)
{
    (void)state;
    const data_spec spec = {DATA_MIXED, N_ROWS, false, false, 0, 3};
    scene s = make_scene(&spec, false);
    kept *const k = damage(&s, MMF_NOISE_ENTRY_DROP, 0, 30, 0.25);
    double n_lost = 0;
    for (size_t i = 0; i < (size_t)N_ROWS * 30; i++) {
        n_lost += k->after[i] != k->before[i];
        assert_true(k->after[i] == k->before[i] || k->after[i] == (float)s.scale.mean[0][0]);
    }
    assert_true(fabs(n_lost / (N_ROWS * 30) - 0.25) < 5 * sqrt(0.25 * 0.75 / (N_ROWS * 30)));
    free(k);
    end_scene(&s);
}

static void tokens_lose_steps_only(void **state)
{
    (void)state;
    const data_spec spec = {DATA_MIXED, N_ROWS, false, false, 0, 3};
    scene s = make_scene(&spec, false);
    kept *const lost = damage(&s, MMF_NOISE_STEP_DROP, 1, 5, 1);
    for (size_t i = 0; i < (size_t)N_ROWS * 5; i++)
        assert_int_equal(lost->tokens[i], 0);
    kept *const same = damage(&s, MMF_NOISE_GAUSSIAN, 1, 5, 1);
    assert_true(same->tokens[0] > 0);
    assert_false(mmf_noise_applies(MMF_NOISE_GAUSSIAN, MMF_TOKENS));
    free(lost);
    free(same);
    end_scene(&s);
}

static void a_modality_is_missing_as_often_as_asked(void **state)
{
    (void)state;
    const data_spec spec = {DATA_VECTORS, N_ROWS, false, false, 0, 1};
    scene s = make_scene(&spec, false);
    kept *const k = damage(&s, MMF_NOISE_MODALITY_DROP, 1, 4, 0.5);
    double there = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        there += (double)k->present[i];
        for (size_t f = 0; k->present[i] == 0 && f < 4; f++)
            assert_true(k->after[i * 4 + f] == 0);
    }
    assert_true(fabs(there / N_ROWS - 0.5) < 5 * sqrt(0.25 / N_ROWS));
    free(k);
    end_scene(&s);
}

/* Of all at once: one of two is left where both would go, each as often as the other. */
static void one_modality_is_always_left(void **state)
{
    (void)state;
    const data_spec spec = {DATA_VECTORS, N_ROWS, false, false, 0, 1};
    scene s = make_scene(&spec, false);
    kept *const a = damage_of(&s, 3, MMF_NOISE_MODALITY_DROP, 0, 5, 1);
    kept *const b = damage_of(&s, 3, MMF_NOISE_MODALITY_DROP, 1, 4, 1);
    double first = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        assert_true(a->present[i] + b->present[i] == 1);
        first += (double)a->present[i];
    }
    assert_true(fabs(first / N_ROWS - 0.5) < 5 * sqrt(0.25 / N_ROWS));
    free(a);
    free(b);
    end_scene(&s);
}

static void the_same_seed_draws_the_same(void **state)
{
    (void)state;
    const data_spec spec = {DATA_VECTORS, N_ROWS, false, false, 0, 1};
    scene s = make_scene(&spec, false);
    kept *const a = damage(&s, MMF_NOISE_GAUSSIAN, 0, 5, 0.5);
    kept *const b = damage(&s, MMF_NOISE_GAUSSIAN, 0, 5, 0.5);
    kept *const twice = damage(&s, MMF_NOISE_GAUSSIAN, 0, 5, 1);
    assert_memory_equal(a->after, b->after, sizeof a->after);
    /* A higher level is the same noise, larger. */
    for (size_t i = 0; i < (size_t)N_ROWS * 5; i++)
        assert_true(fabsf((twice->after[i] - a->before[i]) - 2 * (a->after[i] - a->before[i])) <
                    1e-5f);
    free(a);
    free(b);
    free(twice);
    end_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaussian_noise_counts_in_training_deviations),
        cmocka_unit_test(a_constant_feature_stays),
        cmocka_unit_test(steps_are_lost_whole_and_within_the_length),
        cmocka_unit_test(entries_are_lost_one_by_one),
        cmocka_unit_test(tokens_lose_steps_only),
        cmocka_unit_test(a_modality_is_missing_as_often_as_asked),
        cmocka_unit_test(one_modality_is_always_left),
        cmocka_unit_test(the_same_seed_draws_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
