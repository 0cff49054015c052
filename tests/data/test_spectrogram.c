/* test_spectrogram.c: numbers of librosa, and recordings that are not as usual. */
#include "data/spectrogram.h"

#include <math.h>
#include <stdlib.h>

#include "support.h"

enum { N_VALUES = 16 };

typedef struct spectrogram_case {
    const char *title, *options;
    int64_t n_samples, n_frames, width;
    double largest, mean; /* of the magnitudes; of the values */
    double values[N_VALUES];
} spectrogram_case;

#include "spectrogram_numbers.h"

/* A rising tone that fades, over weak noise: the formula of make_spectrogram_numbers.py. */
static float *recording(int64_t n)
{
    float *const samples = test_malloc((size_t)(n ? n : 1) * sizeof *samples);
    for (int64_t i = 0; i < n; i++) {
        const double t = (double)i / 8000;
        const double noise = (double)((i * 7919 + i * i * 104729) % 65536) / 65536 - .5;
        samples[i] = (float)(.5 * exp(-2 * t) * sin(2 * M_PI * (180 + 900 * t) * t) + .02 * noise);
    }
    return samples;
}

/* Options as "name=value name=value". */
static mmf_spectrogram_options options_of(mmf_ctx *ctx, const char *text)
{
    mmf_spectrogram_options o = MMF_SPECTROGRAM_OPTIONS_INIT;
    while (*text) {
        char name[32] = "", value[32] = "";
        int used = 0;
        assert_int_equal(sscanf(text, " %31[a-z_]=%31[^ ]%n", name, value, &used), 2);
        test_ok(ctx, mmf_spectrogram_set(ctx, &o, name, value));
        text += used;
    }
    return o;
}

static mmf_spectrogram *create(mmf_ctx *ctx, const char *text)
{
    const mmf_spectrogram_options o = options_of(ctx, text);
    mmf_spectrogram *s = NULL;
    test_ok(ctx, mmf_spectrogram_create(ctx, &s, &o));
    return s;
}

/* Runs and gives the features, which the caller frees; *count is their number. */
static float *features(mmf_ctx *ctx, mmf_spectrogram *s, const float *samples, int64_t n,
                       int64_t *count)
{
    *count = mmf_spectrogram_frames(s, n) * mmf_spectrogram_width(s);
    float *const out = test_malloc((size_t)*count * sizeof *out + 1);
    test_ok(ctx, mmf_spectrogram_run(s, samples, n, out));
    return out;
}

static void near(const char *what, double found, double wanted, double tolerance)
{
    if (!(fabs(found - wanted) <= tolerance))
        fail_msg("%s: expected %.8g, got %.8g", what, wanted, found);
}

static void check_case(mmf_ctx *ctx, const spectrogram_case *c)
{
    mmf_spectrogram *const s = create(ctx, c->options);
    float *const samples = recording(c->n_samples);
    assert_int_equal(mmf_spectrogram_frames(s, c->n_samples), c->n_frames);
    assert_int_equal(mmf_spectrogram_width(s), c->width);
    int64_t count = 0;
    float *const x = features(ctx, s, samples, c->n_samples, &count);
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i];
    /* A transform in single precision is good to some 1e-7 of a frame's largest energy. */
    const double floor_of_rounding = 2e-6 * c->largest;
    near(c->title, sum / (double)count, c->mean, 1e-4 * fabs(c->mean) + floor_of_rounding);
    for (int64_t k = 0; k < N_VALUES; k++)
        near(c->title, (double)x[k * (count - 1) / (N_VALUES - 1)], c->values[k],
             1e-4 * fabs(c->values[k]) + floor_of_rounding);
    test_free(x);
    test_free(samples);
    mmf_spectrogram_free(s);
}

static void test_numbers_of_librosa(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(ctx, &cases[i]);
    mmf_ctx_free(ctx);
}

static void test_no_samples(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const settings[] = {"", "center=false", "n_mfcc=13"};
    for (size_t i = 0; i < 3; i++) {
        mmf_spectrogram *const s = create(ctx, settings[i]);
        float untouched = 7;
        assert_int_equal(mmf_spectrogram_frames(s, 0), 0);
        test_ok(ctx, mmf_spectrogram_run(s, NULL, 0, &untouched));
        assert_true(untouched == 7);
        mmf_spectrogram_free(s);
    }
    mmf_ctx_free(ctx);
}

static void test_silence(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float silence[3000];
    static const struct {
        const char *options;
        double value;
    } settings[] = {{"output=power", 0},
                    {"", -100},
                    {"ref=0", 0},
                    {"top_db=-1", -100},
                    {"output=log amin=1e-6", -13.815510557964274}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        mmf_spectrogram *const s = create(ctx, settings[i].options);
        int64_t count = 0;
        float *const x = features(ctx, s, silence, 3000, &count);
        assert_int_equal(count, 6 * 128);
        for (int64_t k = 0; k < count; k++)
            near(settings[i].options, (double)x[k], settings[i].value, 1e-4);
        test_free(x);
        mmf_spectrogram_free(s);
    }
    /* The cepstrum of a constant is in its first coefficient. */
    mmf_spectrogram *const s = create(ctx, "n_mfcc=4");
    int64_t count = 0;
    float *const x = features(ctx, s, silence, 3000, &count);
    for (int64_t k = 0; k < count; k++)
        near("cepstrum", (double)x[k], k % 4 == 0 ? -100 * sqrt(128) : 0, 1e-2);
    test_free(x);
    mmf_spectrogram_free(s);
    mmf_ctx_free(ctx);
}

/* One frame, and the same as of the recording with zeros behind it. */
static void test_shorter_than_a_window(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_spectrogram *const s = create(ctx, "n_fft=512 center=false n_mels=20 sample_rate=16000");
    float *const samples = recording(200);
    float padded[512] = {0};
    memcpy(padded, samples, 200 * sizeof *samples);
    int64_t count = 0, count_padded = 0;
    float *const x = features(ctx, s, samples, 200, &count);
    float *const y = features(ctx, s, padded, 512, &count_padded);
    assert_int_equal(count, 20);
    assert_int_equal(count_padded, 20);
    assert_memory_equal(x, y, 20 * sizeof *x);
    test_free(y);
    test_free(x);
    test_free(samples);
    mmf_spectrogram_free(s);
    mmf_ctx_free(ctx);
}

/* Twice the pressure is four times the energy, 6.0206 dB. */
static void test_scale(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_spectrogram *const s = create(ctx, "n_fft=512 n_mels=20 sample_rate=16000 top_db=-1");
    float *const samples = recording(2000);
    int64_t count = 0;
    float *const x = features(ctx, s, samples, 2000, &count);
    for (int64_t i = 0; i < 2000; i++)
        samples[i] *= 2;
    float *const y = features(ctx, s, samples, 2000, &count);
    for (int64_t k = 0; k < count; k++)
        near("scale", (double)y[k] - (double)x[k], 20 * log10(2), 1e-4);
    test_free(y);
    test_free(x);
    test_free(samples);
    mmf_spectrogram_free(s);
    mmf_ctx_free(ctx);
}

static void test_bad_samples(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_spectrogram *const s = create(ctx, "");
    float *const samples = recording(5000);
    static float out[20 * 128];
    samples[4321] = NAN;
    test_fails(ctx, mmf_spectrogram_run(s, samples, 5000, out), MMF_NUMERIC, "sample 4321 of 5000");
    samples[4321] = -INFINITY;
    test_fails(ctx, mmf_spectrogram_run(s, samples, 5000, out), MMF_NUMERIC, "4321");
    test_fails(ctx, mmf_spectrogram_run(s, samples, ((int64_t)1 << 31) + 1, out), MMF_LIMIT,
               "cut it into parts");
    test_free(samples);
    mmf_spectrogram_free(s);
    mmf_ctx_free(ctx);
}

static void test_bad_options(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_spectrogram_options o = MMF_SPECTROGRAM_OPTIONS_INIT;
    static const char *const refused[][3] = {{"n_mel", "40", "did you mean \"n_mels\"?"},
                                             {"n_fft", "0", "from 2 to"},
                                             {"n_fft", "40.5", "whole number"},
                                             {"n_mels", "many", "found \"many\""},
                                             {"power", "nan", "expected a number"},
                                             {"window", "han", "hann, hamming"},
                                             {"center", "1", "false, true"},
                                             {"norm", "htk", "none, slaney"}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        test_fails(ctx, mmf_spectrogram_set(ctx, &o, refused[i][0], refused[i][1]), MMF_ARG,
                   refused[i][2]);
    mmf_spectrogram *s = NULL;
    static const char *const unfit[][2] = {
        {"n_fft=256 win_length=300", "does not fit into transforms of 256"},
        {"sample_rate=8000 fmax=5000", "hold 0 to 4000 Hz"},
        {"fmin=4000 fmax=3000", "mel filters from 4000 to 3000"},
        {"n_mels=20 n_mfcc=21", "must not be above n_mels"}};
    for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
        o = options_of(ctx, unfit[i][0]);
        test_fails(ctx, mmf_spectrogram_create(ctx, &s, &o), MMF_ARG, unfit[i][1]);
        assert_null(s);
    }
    o = (mmf_spectrogram_options)MMF_SPECTROGRAM_OPTIONS_INIT;
    o.n_mels = -1;
    test_fails(ctx, mmf_spectrogram_create(ctx, &s, &o), MMF_ARG, "n_mels");
    o.n_mels = 128;
    o.power = NAN;
    test_fails(ctx, mmf_spectrogram_create(ctx, &s, &o), MMF_ARG, "power");
    mmf_ctx_free(ctx);
}

int main(void)
{
    /* What a build without kissfft says is all that there is to test in it. */
    mmf_ctx *const ctx = test_ctx();
    const mmf_spectrogram_options o = MMF_SPECTROGRAM_OPTIONS_INIT;
    mmf_spectrogram *s = NULL;
    const mmf_status status = mmf_spectrogram_create(ctx, &s, &o);
    mmf_spectrogram_free(s);
    if (status == MMF_UNSUPPORTED) {
        const bool says_so = strstr(mmf_ctx_error(ctx), "without kissfft") != NULL;
        mmf_ctx_free(ctx);
        return says_so ? 0 : 1;
    }
    mmf_ctx_free(ctx);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_librosa),
        cmocka_unit_test(test_no_samples),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_shorter_than_a_window),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_bad_samples),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
