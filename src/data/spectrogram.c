/*
 * spectrogram.c: see spectrogram.h. Fourier transforms are kissfft's, in single precision; tables
 * (window, mel filters, cosines) are computed in double.
 *
 * Formulas: mel scales and filters of Slaney, Auditory Toolbox, 1998, and of the HTK book 3.4,
 * 2009, in librosa's form (McFee et al., SciPy 2015).
 */
#include "data/spectrogram.h"

#ifdef MMF_WITH_KISSFFT

#include <math.h>
#include <string.h>

#include <kiss_fftr.h>

_Static_assert(_Generic((kiss_fft_scalar)0, float : 1, default : 0),
               "kissfft's headers must be those of its float library");

#define MAX_SAMPLES ((int64_t)1 << 31)

/* Slaney's scale: linear below 1 kHz, then 27 steps to every factor of 6.4. */
#define SLANEY_HZ_A_MEL (200.0 / 3)
#define SLANEY_BREAK_HZ 1000.0
#define SLANEY_BREAK_MEL (SLANEY_BREAK_HZ / SLANEY_HZ_A_MEL)
#define SLANEY_LOG_STEP (log(6.4) / 27)

/* The frequencies under one mel filter. */
typedef struct mel_band {
    int64_t first, count;
    const float *weights;
} mel_band;

struct mmf_spectrogram {
    mmf_ctx *ctx;
    mmf_spectrogram_options o;
    int64_t n_bins, n_bands; /* n_bands: values of a frame before the cepstrum */
    float *window;
    mel_band *bands; /* NULL: no mel sums */
    float *weights;
    float *cosines; /* (n_mfcc, n_bands), with scale and lifter; NULL: no cepstrum */
    kiss_fftr_cfg real;
    kiss_fft_cfg complex; /* odd lengths, which the real transform does not take */
    float *frame;
    kiss_fft_cpx *wide, *spectrum;
    float *energy; /* n_bins */
    float *mapped; /* frames x n_bands before the cepstrum */
    size_t n_mapped;
};

static double hz_to_mel(double hz, bool htk)
{
    if (htk)
        return 2595 * log10(1 + hz / 700);
    if (hz < SLANEY_BREAK_HZ)
        return hz / SLANEY_HZ_A_MEL;
    return SLANEY_BREAK_MEL + log(hz / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP;
}

static double mel_to_hz(double mel, bool htk)
{
    if (htk)
        return 700 * (pow(10, mel / 2595) - 1);
    if (mel < SLANEY_BREAK_MEL)
        return SLANEY_HZ_A_MEL * mel;
    return SLANEY_BREAK_HZ * exp(SLANEY_LOG_STEP * (mel - SLANEY_BREAK_MEL));
}

static double window_at(mmf_spectrogram_window window, int64_t i, int64_t n)
{
    const double phase = 2 * M_PI * (double)i / (double)n;
    switch (window) {
    case MMF_WINDOW_HANN:
        return .5 - .5 * cos(phase);
    case MMF_WINDOW_HAMMING:
        return .54 - .46 * cos(phase);
    case MMF_WINDOW_BLACKMAN:
        return .42 - .5 * cos(phase) + .08 * cos(2 * phase);
    case MMF_WINDOW_BOXCAR:
        break;
    }
    return 1;
}

static mmf_status make_window(mmf_spectrogram *s)
{
    const mmf_spectrogram_options *const o = &s->o;
    s->window = mmf_alloc_zero(s->ctx, (size_t)o->n_fft, sizeof *s->window);
    if (!s->window)
        return MMF_NOMEM;
    const int64_t before = (o->n_fft - o->win_length) / 2;
    for (int64_t i = 0; i < o->win_length; i++)
        s->window[before + i] = (float)window_at(o->window, i, o->win_length);
    return MMF_OK;
}

/* The height of the triangle over three neighbouring mel frequencies. */
static double triangle(double hz, const double *corner)
{
    const double up = (hz - corner[0]) / (corner[1] - corner[0]);
    const double down = (corner[2] - hz) / (corner[2] - corner[1]);
    const double height = up < down ? up : down;
    return height > 0 ? height : 0;
}

static mmf_status make_mel(mmf_spectrogram *s)
{
    const mmf_spectrogram_options *const o = &s->o;
    const double low = hz_to_mel(o->fmin, o->htk), high = hz_to_mel(o->fmax, o->htk);
    /* Every frequency lies under two filters at most. */
    s->weights = mmf_alloc_zero(s->ctx, 2 * (size_t)s->n_bins, sizeof *s->weights);
    s->bands = mmf_alloc_zero(s->ctx, (size_t)o->n_mels, sizeof *s->bands);
    if (!s->weights || !s->bands)
        return MMF_NOMEM;
    float *next = s->weights;
    for (int64_t m = 0; m < o->n_mels; m++) {
        double corner[3];
        for (int64_t i = 0; i < 3; i++)
            corner[i] =
                mel_to_hz(low + (high - low) * (double)(m + i) / (double)(o->n_mels + 1), o->htk);
        const double scale = o->slaney_norm ? 2 / (corner[2] - corner[0]) : 1;
        mel_band *const band = &s->bands[m];
        band->weights = next;
        for (int64_t k = 0; k < s->n_bins; k++) {
            const double hz = (double)k * (double)o->sample_rate / (double)o->n_fft;
            const double height = triangle(hz, corner);
            if (height == 0)
                continue;
            if (band->count++ == 0)
                band->first = k;
            *next++ = (float)(scale * height);
        }
    }
    return MMF_OK;
}

static mmf_status make_cosines(mmf_spectrogram *s)
{
    const mmf_spectrogram_options *const o = &s->o;
    const double n = (double)s->n_bands;
    s->cosines = mmf_alloc_zero(s->ctx, (size_t)o->n_mfcc * (size_t)s->n_bands, sizeof *s->cosines);
    if (!s->cosines)
        return MMF_NOMEM;
    for (int64_t c = 0; c < o->n_mfcc; c++) {
        double scale = 2;
        if (o->dct_ortho)
            scale = sqrt((c == 0 ? 1 : 2) / n);
        if (o->lifter > 0)
            scale *= 1 + o->lifter / 2 * sin(M_PI * (double)(c + 1) / o->lifter);
        for (int64_t m = 0; m < s->n_bands; m++)
            s->cosines[c * s->n_bands + m] =
                (float)(scale * cos(M_PI * (double)c * ((double)m + .5) / n));
    }
    return MMF_OK;
}

static mmf_status make_transform(mmf_spectrogram *s)
{
    const int n = (int)s->o.n_fft;
    const bool even = n % 2 == 0;
    size_t bytes = 0;
    if (even)
        kiss_fftr_alloc(n, 0, NULL, &bytes);
    else
        kiss_fft_alloc(n, 0, NULL, &bytes);
    void *const memory = mmf_alloc(s->ctx, bytes);
    if (!memory)
        return MMF_NOMEM;
    if (even)
        s->real = kiss_fftr_alloc(n, 0, memory, &bytes);
    else
        s->complex = kiss_fft_alloc(n, 0, memory, &bytes);
    s->frame = mmf_alloc_zero(s->ctx, (size_t)n, sizeof *s->frame);
    s->wide = even ? NULL : mmf_alloc_zero(s->ctx, (size_t)n, sizeof *s->wide);
    s->spectrum = mmf_alloc_zero(s->ctx, (size_t)n, sizeof *s->spectrum);
    s->energy = mmf_alloc_zero(s->ctx, (size_t)s->n_bins, sizeof *s->energy);
    if (!s->frame || !s->spectrum || !s->energy || (!even && !s->wide))
        return MMF_NOMEM;
    return MMF_OK;
}

static mmf_status make_tables(mmf_spectrogram *s)
{
    MMF_TRY(make_window(s));
    MMF_TRY(make_transform(s));
    if (s->o.n_mels > 0)
        MMF_TRY(make_mel(s));
    if (s->o.n_mfcc > 0)
        MMF_TRY(make_cosines(s));
    return MMF_OK;
}

mmf_status mmf_spectrogram_create(mmf_ctx *ctx, mmf_spectrogram **out,
                                  const mmf_spectrogram_options *options)
{
    *out = NULL;
    mmf_spectrogram_options o = *options;
    MMF_TRY(mmf_spectrogram_check(ctx, &o));
    mmf_spectrogram *const s = mmf_alloc_zero(ctx, 1, sizeof *s);
    if (!s)
        return MMF_NOMEM;
    s->ctx = ctx;
    s->o = o;
    s->n_bins = o.n_fft / 2 + 1;
    s->n_bands = o.n_mels > 0 ? o.n_mels : s->n_bins;
    const mmf_status status = make_tables(s);
    if (status != MMF_OK) {
        mmf_spectrogram_free(s);
        return status;
    }
    *out = s;
    return MMF_OK;
}

void mmf_spectrogram_free(mmf_spectrogram *s)
{
    if (!s)
        return;
    mmf_ctx *const ctx = s->ctx;
    void *const parts[] = {s->window, s->bands,    s->weights, s->cosines, s->real,  s->complex,
                           s->frame,  s->spectrum, s->wide,    s->energy,  s->mapped};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        mmf_free(ctx, parts[i]);
    mmf_free(ctx, s);
}

int64_t mmf_spectrogram_width(const mmf_spectrogram *s)
{
    return s->o.n_mfcc > 0 ? s->o.n_mfcc : s->n_bands;
}

int64_t mmf_spectrogram_frames(const mmf_spectrogram *s, int64_t n_samples)
{
    if (n_samples <= 0)
        return 0;
    const int64_t padding = s->o.center ? s->o.n_fft / 2 : 0;
    const int64_t spare = n_samples + 2 * padding - s->o.n_fft;
    return spare < 0 ? 1 : 1 + spare / s->o.hop_length;
}

/* Where sample `i` beyond the recording's ends is taken from; -1: it is zero. */
static int64_t padded_from(mmf_spectrogram_pad mode, int64_t i, int64_t n)
{
    if (mode == MMF_PAD_EDGE)
        return i < 0 ? 0 : n - 1;
    if (mode == MMF_PAD_CONSTANT)
        return -1;
    if (n == 1)
        return 0;
    const int64_t period = 2 * (n - 1);
    const int64_t at = ((i % period) + period) % period;
    return at < n ? at : period - at;
}

static void cut_frame(mmf_spectrogram *s, const float *samples, int64_t n_samples, int64_t begin)
{
    const int64_t n = s->o.n_fft;
    const mmf_spectrogram_pad mode = s->o.center ? s->o.pad_mode : MMF_PAD_CONSTANT;
    float *const frame = s->frame;
    const float *const window = s->window;
    if (begin >= 0 && begin + n <= n_samples) {
        for (int64_t i = 0; i < n; i++)
            frame[i] = samples[begin + i] * window[i];
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = begin + i;
        const int64_t from = at >= 0 && at < n_samples ? at : padded_from(mode, at, n_samples);
        frame[i] = from < 0 ? 0 : samples[from] * window[i];
    }
}

static void transform(mmf_spectrogram *s)
{
    if (s->real) {
        kiss_fftr(s->real, s->frame, s->spectrum);
    } else {
        for (int64_t i = 0; i < s->o.n_fft; i++)
            s->wide[i] = (kiss_fft_cpx){s->frame[i], 0};
        kiss_fft(s->complex, s->wide, s->spectrum);
    }
    const kiss_fft_cpx *const x = s->spectrum;
    float *const energy = s->energy;
    for (int64_t k = 0; k < s->n_bins; k++)
        energy[k] = x[k].r * x[k].r + x[k].i * x[k].i;
    if (s->o.power == 1) {
        for (int64_t k = 0; k < s->n_bins; k++)
            energy[k] = sqrtf(energy[k]);
    } else if (s->o.power != 2) {
        for (int64_t k = 0; k < s->n_bins; k++)
            energy[k] = powf(energy[k], (float)(s->o.power / 2));
    }
}

static void band_sums(const mmf_spectrogram *s, float *out)
{
    if (!s->bands) {
        memcpy(out, s->energy, (size_t)s->n_bins * sizeof *out);
        return;
    }
    for (int64_t m = 0; m < s->n_bands; m++) {
        const mel_band *const band = &s->bands[m];
        const float *const energy = s->energy + band->first;
        float sum = 0;
        for (int64_t k = 0; k < band->count; k++)
            sum += band->weights[k] * energy[k];
        out[m] = sum;
    }
}

static void take_logarithm(const mmf_spectrogram *s, float *x, int64_t n)
{
    const float amin = (float)s->o.amin;
    if (s->o.output == MMF_SPECTROGRAM_LOG) {
        for (int64_t i = 0; i < n; i++)
            x[i] = logf(x[i] > amin ? x[i] : amin);
        return;
    }
    float largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    const double ref = s->o.ref > 0 ? s->o.ref : (double)largest;
    const float zero = (float)(10 * log10(ref > s->o.amin ? ref : s->o.amin));
    const float limit =
        s->o.top_db < 0 ? -INFINITY
                        : 10 * log10f(largest > amin ? largest : amin) - zero - (float)s->o.top_db;
    for (int64_t i = 0; i < n; i++) {
        const float db = 10 * log10f(x[i] > amin ? x[i] : amin) - zero;
        x[i] = db > limit ? db : limit;
    }
}

static void cepstrum(const mmf_spectrogram *s, const float *x, int64_t n_frames, float *out)
{
    const int64_t n_bands = s->n_bands, n_mfcc = s->o.n_mfcc;
    for (int64_t t = 0; t < n_frames; t++) {
        for (int64_t c = 0; c < n_mfcc; c++) {
            const float *const cosines = s->cosines + c * n_bands;
            double sum = 0;
            for (int64_t m = 0; m < n_bands; m++)
                sum += (double)cosines[m] * (double)x[t * n_bands + m];
            out[t * n_mfcc + c] = (float)sum;
        }
    }
}

static mmf_status check_samples(mmf_ctx *ctx, const float *samples, int64_t n)
{
    if (n < 0 || n > MAX_SAMPLES)
        return mmf_fail(ctx, MMF_LIMIT,
                        "a recording of %lld samples; at most %lld can be taken: cut it into parts",
                        (long long)n, (long long)MAX_SAMPLES);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(samples[i]))
            return mmf_fail(ctx, MMF_NUMERIC,
                            "sample %lld of %lld of the recording is not a finite number",
                            (long long)i, (long long)n);
    }
    return MMF_OK;
}

/* Scratch for the values of all frames, where the cepstrum has fewer of them. */
static mmf_status reserve(mmf_spectrogram *s, int64_t n_frames)
{
    const size_t n = (size_t)n_frames * (size_t)s->n_bands;
    if (n <= s->n_mapped)
        return MMF_OK;
    float *const grown = mmf_realloc(s->ctx, s->mapped, n * sizeof *grown);
    if (!grown)
        return MMF_NOMEM;
    s->mapped = grown;
    s->n_mapped = n;
    return MMF_OK;
}

mmf_status mmf_spectrogram_run(mmf_spectrogram *s, const float *samples, int64_t n_samples,
                               float *out)
{
    MMF_TRY(check_samples(s->ctx, samples, n_samples));
    const int64_t n_frames = mmf_spectrogram_frames(s, n_samples);
    if (s->cosines)
        MMF_TRY(reserve(s, n_frames));
    float *const values = s->cosines ? s->mapped : out;
    const int64_t before = s->o.center ? s->o.n_fft / 2 : 0;
    for (int64_t t = 0; t < n_frames; t++) {
        cut_frame(s, samples, n_samples, t * s->o.hop_length - before);
        transform(s);
        band_sums(s, values + t * s->n_bands);
    }
    if (s->o.output != MMF_SPECTROGRAM_POWER)
        take_logarithm(s, values, n_frames * s->n_bands);
    if (s->cosines)
        cepstrum(s, values, n_frames, out);
    return MMF_OK;
}

#else

mmf_status mmf_spectrogram_create(mmf_ctx *ctx, mmf_spectrogram **out,
                                  const mmf_spectrogram_options *options)
{
    *out = NULL;
    mmf_spectrogram_options o = *options;
    MMF_TRY(mmf_spectrogram_check(ctx, &o));
    return mmf_fail(ctx, MMF_UNSUPPORTED,
                    "this build takes no spectrograms, it was made without kissfft; install "
                    "libkissfft-dev and build with -DMMF_WITH_KISSFFT=ON");
}

void mmf_spectrogram_free(mmf_spectrogram *s)
{
    (void)s;
}

int64_t mmf_spectrogram_width(const mmf_spectrogram *s)
{
    (void)s;
    return 0;
}

int64_t mmf_spectrogram_frames(const mmf_spectrogram *s, int64_t n_samples)
{
    (void)s;
    (void)n_samples;
    return 0;
}

mmf_status mmf_spectrogram_run(mmf_spectrogram *s, const float *samples, int64_t n_samples,
                               float *out)
{
    (void)s;
    (void)samples;
    (void)n_samples;
    (void)out;
    return MMF_UNSUPPORTED;
}

#endif
