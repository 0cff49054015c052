/*
 * spectrogram.h: recordings to spectrograms, mel spectrograms and cepstral coefficients.
 *
 * Options have librosa's names, meanings and defaults. The result is a sequence of the data
 * contract: one row of features a frame.
 *
 * Recordings that are not as usual:
 * - no samples: no frames; whoever asks takes the modality as absent;
 * - shorter than a window: with `center`, frames as librosa cuts them out of the padded recording;
 *   without it (where librosa refuses) one frame, zeros behind the recording's end;
 * - silent: every value is what `amin` gives, and the coefficients are those of a constant;
 * - a sample that is no number: an error with its position.
 */
#ifndef MMFUSE_DATA_SPECTROGRAM_H
#define MMFUSE_DATA_SPECTROGRAM_H

#include "mmfuse/base.h"

typedef enum mmf_spectrogram_window {
    MMF_WINDOW_HANN,
    MMF_WINDOW_HAMMING,
    MMF_WINDOW_BLACKMAN,
    MMF_WINDOW_BOXCAR
} mmf_spectrogram_window;

typedef enum mmf_spectrogram_pad {
    MMF_PAD_CONSTANT, /**< zeros */
    MMF_PAD_REFLECT,  /**< mirrored at the first and the last sample, again and again if need be */
    MMF_PAD_EDGE
} mmf_spectrogram_pad;

typedef enum mmf_spectrogram_output {
    MMF_SPECTROGRAM_POWER, /**< |X|^power, or its mel sums */
    MMF_SPECTROGRAM_LOG,   /**< ln(max(amin, S)) */
    MMF_SPECTROGRAM_DB     /**< 10 log10(max(amin, S) / max(amin, ref)), at least max - top_db */
} mmf_spectrogram_output;

typedef struct mmf_spectrogram_options {
    size_t size;
    int64_t sample_rate; /**< samples a second */
    int64_t n_fft;       /**< samples of a transform, any number; powers of two are fastest */
    int64_t hop_length;  /**< samples from one frame to the next; 0: a quarter of the window */
    int64_t win_length;  /**< samples under the window, in the middle of the frame; 0: n_fft */
    mmf_spectrogram_window window;
    bool center; /**< frame t is centred at sample t hop_length; else it begins there */
    mmf_spectrogram_pad pad_mode;
    double power;      /**< 1 magnitude, 2 energy */
    int64_t n_mels;    /**< 0: the n_fft / 2 + 1 frequencies themselves */
    double fmin, fmax; /**< hertz; fmax 0: half the sample rate */
    bool htk;          /**< mel = 2595 log10(1 + f / 700); else Slaney's, linear up to 1 kHz */
    bool slaney_norm;  /**< filters of one area; else of one height */
    mmf_spectrogram_output output;
    double amin;    /**< smallest S that the logarithm sees */
    double ref;     /**< S of 0 dB; 0: the recording's largest */
    double top_db;  /**< decibels below the recording's largest value; negative: no limit */
    int64_t n_mfcc; /**< cepstral coefficients of what `output` gives; 0: none */
    bool dct_ortho; /**< orthonormal; else twice the sum, as scipy's type 2 */
    double lifter;  /**< coefficient n times 1 + lifter / 2 sin(pi n / lifter); 0: none */
} mmf_spectrogram_options;

/** librosa's defaults, and decibels. */
#define MMF_SPECTROGRAM_OPTIONS_INIT                                                               \
    {                                                                                              \
        .size = sizeof(mmf_spectrogram_options), .sample_rate = 22050, .n_fft = 2048,              \
        .hop_length = 512, .center = true, .power = 2, .n_mels = 128, .slaney_norm = true,         \
        .output = MMF_SPECTROGRAM_DB, .amin = 1e-10, .ref = 1, .top_db = 80, .dct_ortho = true     \
    }

/**
 * Sets one option by its name, from text: numbers, "true" or "false", names as `window` "hann",
 * `pad_mode` "reflect", `output` "power", "log" or "db", `norm` "slaney" or "none".
 * @errors ARG: unknown name (with the nearest one) or value
 */
mmf_status mmf_spectrogram_set(mmf_ctx *ctx, mmf_spectrogram_options *options, const char *name,
                               const char *value);

/** Fills in what 0 stands for; @errors ARG: an option out of its bounds, or two that do not fit. */
mmf_status mmf_spectrogram_check(mmf_ctx *ctx, mmf_spectrogram_options *options);

/** Tables of one choice of options, and scratch: one thread at a time. */
typedef struct mmf_spectrogram mmf_spectrogram;

/**
 * @param out  the caller owns it and frees it with mmf_spectrogram_free
 * @errors     ARG: an option out of its bounds; UNSUPPORTED: a build without kissfft; NOMEM
 */
mmf_status mmf_spectrogram_create(mmf_ctx *ctx, mmf_spectrogram **out,
                                  const mmf_spectrogram_options *options);
/** Accepts NULL. */
void mmf_spectrogram_free(mmf_spectrogram *spectrogram);

/** Features of a frame. */
int64_t mmf_spectrogram_width(const mmf_spectrogram *spectrogram);
/** Frames of a recording of so many samples. */
int64_t mmf_spectrogram_frames(const mmf_spectrogram *spectrogram, int64_t n_samples);
/**
 * @param samples  in [-1, 1] where decibels are to mean what they usually do
 * @param out      frames x width, row-major
 * @errors NUMERIC: a sample that is not finite; LIMIT: above 2^31 samples; NOMEM
 */
mmf_status mmf_spectrogram_run(mmf_spectrogram *spectrogram, const float *samples,
                               int64_t n_samples, float *out);

#endif
