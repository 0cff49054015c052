/* preparation_sound.c: recordings as log-mel frames, cepstral coefficients, or the samples. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "data/spectrogram.h"
#include "train/preparation.h"

/* Frames of speech, where nothing else is asked for. */
#define WINDOW_SECONDS 0.025
#define HOP_SECONDS 0.010

#define SOUND_OPTIONS                                                                              \
    {"sample_rate",                                                                                \
     "sr",                                                                                         \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     384000,                                                                                       \
     "-",                                                                                          \
     "0",                                                                                          \
     "Hz that every recording is brought to; 0: that of the first file"},                          \
        {"max_seconds", NULL, MMF_OPTION_INT, 1,                                                   \
         3600,          "-",  "30",           "of a recording, what follows is cut off"},          \
    {                                                                                              \
        "steps", NULL, MMF_OPTION_INT, 0, 100000000, "-", "0",                                     \
            "length of all rows; 0: of the longest"                                                \
    }

/* Names and meanings are librosa's; the values that 0 stands for are not. */
#define FRAME_OPTIONS                                                                              \
    {"n_fft",                                                                                      \
     NULL,                                                                                         \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     1 << 20,                                                                                      \
     "-",                                                                                          \
     "0",                                                                                          \
     "samples of a transform; 0: the power of two from the window's length on"},                   \
        {"win_length",                                                                             \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1 << 20,                                                                                  \
         "-",                                                                                      \
         "0",                                                                                      \
         "samples under the window; 0: 25 ms, or n_fft where that is given"},                      \
        {"hop_length",                                                                             \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1 << 30,                                                                                  \
         "-",                                                                                      \
         "0",                                                                                      \
         "samples from frame to frame; 0: 10 ms"},                                                 \
        {"window", NULL, MMF_OPTION_TEXT, 0, 0, "hann|hamming|blackman|boxcar", "hann", "shape"},  \
        {"center", NULL, MMF_OPTION_BOOL, 0,                                                       \
         1,        NULL, "true",          "frames are centred at their sample, not begun"},        \
        {"pad_mode",                                                                               \
         NULL,                                                                                     \
         MMF_OPTION_TEXT,                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         "constant|reflect|edge",                                                                  \
         "constant",                                                                               \
         "what lies beyond the ends"},                                                             \
        {"power", NULL, MMF_OPTION_REAL, 1e-3, 16, "-", "2", "1: magnitude, 2: energy"},           \
        {"fmin", NULL, MMF_OPTION_REAL, 0, 1e7, "-", "0", "Hz"},                                   \
        {"fmax", NULL, MMF_OPTION_REAL, 0, 1e7, "-", "0", "Hz; 0: half the sample rate"},          \
        {"htk", NULL, MMF_OPTION_BOOL, 0, 1, NULL, "false", "HTK's mel scale, not Slaney's"},      \
        {"norm", NULL,          MMF_OPTION_TEXT, 0,                                                \
         0,      "slaney|none", "slaney",        "filters of one area, or of one height"},         \
        {"output", NULL, MMF_OPTION_TEXT, 0, 0, "db|log|power", "db", "of the mel sums"},          \
        {"amin",                                                                                   \
         NULL,                                                                                     \
         MMF_OPTION_REAL,                                                                          \
         1e-37,                                                                                    \
         1e37,                                                                                     \
         "-",                                                                                      \
         "1e-10",                                                                                  \
         "least energy that the logarithm sees: what silence becomes"},                            \
        {"ref",                                                                                    \
         NULL,                                                                                     \
         MMF_OPTION_REAL,                                                                          \
         0,                                                                                        \
         1e37,                                                                                     \
         "-",                                                                                      \
         "1",                                                                                      \
         "energy of 0 dB; 0: the recording's largest"},                                            \
    {                                                                                              \
        "top_db", NULL, MMF_OPTION_REAL, -1, 1e6, "-", "80",                                       \
            "dB kept below the recording's largest value; -1: all"                                 \
    }

static const mmf_option logmel_options[] = {
    {"n_mels", NULL, MMF_OPTION_INT, 1, 8192, "-", "64", "mel bands"},
    SOUND_OPTIONS,
    FRAME_OPTIONS,
    {0},
};

static const mmf_option mfcc_options[] = {
    {"n_mfcc", NULL, MMF_OPTION_INT, 1, 8192, "-", "20", "coefficients"},
    {"n_mels", NULL, MMF_OPTION_INT, 1, 8192, "-", "64", "mel bands that they are made of"},
    {"dct_ortho", NULL, MMF_OPTION_BOOL, 0, 1, NULL, "true", "orthonormal cosine transform"},
    {"lifter", NULL, MMF_OPTION_REAL, 0, 1e6, "-", "0", "of the coefficients; 0: none"},
    SOUND_OPTIONS,
    FRAME_OPTIONS,
    {0},
};

static const mmf_option waveform_options[] = {SOUND_OPTIONS, {0}};

/* ---- What the data decide ---------------------------------------------------------------- */

static bool makes_frames(const mmf_config *config)
{
    return mmf_option_find(mmf_config_def(config), "n_fft") != NULL;
}

static void decode(const mmf_config *config, mmf_media_options *media)
{
    media->sample_rate = mmf_config_int(config, "sample_rate");
    media->max_seconds = mmf_config_int(config, "max_seconds");
}

static bool waits(const mmf_config *config)
{
    return mmf_config_int(config, "sample_rate") == 0 ||
           (makes_frames(config) &&
            (mmf_config_int(config, "n_fft") == 0 || mmf_config_int(config, "win_length") == 0 ||
             mmf_config_int(config, "hop_length") == 0));
}

static void look(mmf_preparation_facts *facts, const mmf_raw_item *item)
{
    if (facts->n_items++ == 0)
        facts->sample_rate = item->sample_rate;
}

static mmf_status settle(mmf_ctx *ctx, mmf_config *config, const mmf_preparation_facts *facts)
{
    (void)ctx;
    MMF_TRY(mmf_preparation_settle(config, "sample_rate", facts->sample_rate));
    if (!makes_frames(config))
        return MMF_OK;
    const double rate = (double)mmf_config_int(config, "sample_rate");
    const int64_t asked = mmf_config_int(config, "n_fft");
    const int64_t window = (int64_t)(rate * WINDOW_SECONDS + 0.5);
    MMF_TRY(mmf_preparation_settle(config, "win_length", asked ? asked : window > 2 ? window : 2));
    int64_t n_fft = 2;
    while (n_fft < mmf_config_int(config, "win_length"))
        n_fft *= 2;
    MMF_TRY(mmf_preparation_settle(config, "n_fft", n_fft));
    const int64_t hop = (int64_t)(rate * HOP_SECONDS + 0.5);
    return mmf_preparation_settle(config, "hop_length", hop > 1 ? hop : 1);
}

/* ---- Frames ------------------------------------------------------------------------------ */

typedef struct sound {
    mmf_spectrogram *spectrogram; /* NULL: the samples themselves */
    float *frames;
    size_t n_bytes;
} sound;

/* The settings by their names, as spectrograms take them. */
static mmf_status set_all(mmf_preparer *p, mmf_spectrogram_options *out)
{
    const char *name = NULL;
    json_t *value = NULL;
    char *const text = mmf_preparation_settings(p->ctx, p->config);
    json_t *const settings = text ? json_loads(text, 0, NULL) : NULL;
    mmf_status status = settings ? MMF_OK : MMF_NOMEM;
    json_object_foreach(settings, name, value)
    {
        char number[64];
        const bool is_own = strcmp(name, "steps") != 0 && strcmp(name, "max_seconds") != 0;
        const char *word = json_string_value(value);
        if (json_is_boolean(value))
            word = json_is_true(value) ? "true" : "false";
        snprintf(number, sizeof number, "%.17g", json_number_value(value));
        if (is_own && status == MMF_OK)
            status = mmf_spectrogram_set(p->ctx, out, name, word ? word : number);
    }
    json_decref(settings);
    mmf_free(p->ctx, text);
    return status;
}

static mmf_status open_sound(mmf_preparer *p)
{
    sound *const s = mmf_alloc_zero(p->ctx, 1, sizeof *s);
    if (!s)
        return MMF_NOMEM;
    p->own = s;
    p->dtype = MMF_F32;
    p->is_timed = true;
    p->n_dims = 1;
    p->shape[0] = 1;
    p->most_steps = mmf_config_int(p->config, "steps");
    if (!makes_frames(p->config))
        return MMF_OK;
    mmf_spectrogram_options options = MMF_SPECTROGRAM_OPTIONS_INIT;
    MMF_TRY(set_all(p, &options));
    MMF_TRY(mmf_spectrogram_create(p->ctx, &s->spectrogram, &options));
    p->shape[0] = mmf_spectrogram_width(s->spectrogram);
    return MMF_OK;
}

static mmf_status run(mmf_preparer *p, const mmf_raw_item *item, mmf_prepared *out)
{
    sound *const s = p->own;
    const int64_t n_samples = item->array.shape[0];
    *out = (mmf_prepared){item->array.data, n_samples};
    if (!s->spectrogram)
        return MMF_OK;
    const int64_t n = n_samples > 0 ? mmf_spectrogram_frames(s->spectrogram, n_samples) : 0;
    const size_t n_bytes = (size_t)(n * p->shape[0]) * sizeof *s->frames;
    if (n_bytes > s->n_bytes) {
        mmf_free(p->ctx, s->frames);
        s->n_bytes = 0;
        s->frames = mmf_alloc(p->ctx, 2 * n_bytes);
        if (!s->frames)
            return MMF_NOMEM;
        s->n_bytes = 2 * n_bytes;
    }
    *out = (mmf_prepared){s->frames, n};
    return n > 0 ? mmf_spectrogram_run(s->spectrogram, item->array.data, n_samples, s->frames)
                 : MMF_OK;
}

static void close_sound(mmf_preparer *p)
{
    sound *const s = p->own;
    if (!s)
        return;
    mmf_spectrogram_free(s->spectrogram);
    mmf_free(p->ctx, s->frames);
    mmf_free(p->ctx, s);
}

/* What all three share: their options decide what is made. */
#define SOUND                                                                                      \
    .reads = MMF_RAW_AUDIO, .decode = decode, .waits = waits, .look = look, .settle = settle,      \
    .open = open_sound, .run = run, .close = close_sound

const mmf_preparation_kind mmf_preparation_logmel = {
    .def = {.name = "logmel",
            .title = "Log-mel frames of recordings",
            .equations = "(T, n_mels): decibels of mel sums of windowed energy, as librosa's; "
                         "silence is the constant of amin, a recording without samples is absent",
            .kind = MMF_KIND_PREPARATION,
            .options = logmel_options},
    SOUND,
};

const mmf_preparation_kind mmf_preparation_mfcc = {
    .def = {.name = "mfcc",
            .title = "Mel-frequency cepstral coefficients of recordings",
            .equations = "(T, n_mfcc): cosine transform of log-mel frames, as librosa's",
            .kind = MMF_KIND_PREPARATION,
            .options = mfcc_options},
    SOUND,
};

const mmf_preparation_kind mmf_preparation_waveform = {
    .def = {.name = "waveform",
            .title = "Samples of recordings",
            .equations = "(T, 1): one channel in [-1, 1]",
            .kind = MMF_KIND_PREPARATION,
            .options = waveform_options},
    SOUND,
};
