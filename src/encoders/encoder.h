/*
 * encoder.h: choosing and running the encoder of one modality.
 *
 * An encoder takes one input and puts out `feature` (B, D); its width is mmf_builder_width after
 * `build`. A specification is NAME[:WIDTH][:OPTION=VALUE]..., such as "lstm:128" or
 * "transformer:64:layers=3"; a SOURCE behind it, "bert=FOLDER", is gone before models are built
 * (src/train/pretrained_source.h).
 */
#ifndef MMFUSE_ENCODERS_ENCODER_H
#define MMFUSE_ENCODERS_ENCODER_H

#include "nn/pretrained.h"

/** An encoder built into another definition's parameters. */
typedef struct mmf_encoder {
    const mmf_def *def;
    const char *input; /* name of the modality */
    void *self;
    int64_t width, rows, columns; /* of the grid of its steps, where it was built for steps */
    mmf_tensor
        *absent; /* (width): learned stand-in where the modality is missing; NULL if it never is */
} mmf_encoder;

/** SpecAugment: rows of the option tables of encoders over frames, off by default. */
#define MMF_AUGMENT_OPTIONS                                                                        \
    {"freq_masks",                                                                                 \
     "num_freq_mask",                                                                              \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     100,                                                                                          \
     NULL,                                                                                         \
     "0",                                                                                          \
     "SpecAugment in training: bands of features set to zero"},                                    \
        {"freq_mask",                                                                              \
         "freq_mask_param",                                                                        \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         65536,                                                                                    \
         NULL,                                                                                     \
         "0",                                                                                      \
         "SpecAugment: a band's largest width"},                                                   \
        {"time_masks",                                                                             \
         "num_time_mask",                                                                          \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         100,                                                                                      \
         NULL,                                                                                     \
         "0",                                                                                      \
         "SpecAugment in training: spans of time set to zero"},                                    \
        {"time_mask",                                                                              \
         "time_mask_param",                                                                        \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1048576,                                                                                  \
         NULL,                                                                                     \
         "0",                                                                                      \
         "SpecAugment: a span's largest length in steps"},                                         \
    {                                                                                              \
        "time_mask_share", "p", MMF_OPTION_REAL, 0, 1, NULL, "1",                                  \
            "SpecAugment: a span's largest length as a share of the recording"                     \
    }
mmf_augment_options mmf_augment_read(const mmf_config *config);

/** Rows of the option tables of encoders whose images are normalised as some weights need it. */
#define MMF_IMAGE_NORM_OPTIONS                                                                     \
    {"mean",                                                                                       \
     NULL,                                                                                         \
     MMF_OPTION_REALS,                                                                             \
     -255,                                                                                         \
     255,                                                                                          \
     "-",                                                                                          \
     "",                                                                                           \
     "taken off pixels from 0 to 1, one number or one a channel, as in .485/.456/.406; default: "  \
     "ImageNet's for weights of others, else of the training images"},                             \
    {                                                                                              \
        "deviation", NULL, MMF_OPTION_REALS, 1e-6, 255, "-", "",                                   \
            "that they are divided by then, as in .229/.224/.225"                                  \
    }

/**
 * How images are normalised for an encoder of such a configuration.
 *
 * @param has_source  its weights come from others: what they were trained with is the default
 * @param has_norm    false: by the data's own statistics
 * @errors            ARG
 */
mmf_status mmf_encoder_image_norm(mmf_ctx *ctx, const mmf_config *config, int64_t n_channels,
                                  bool has_source, mmf_image_norm *out, bool *has_norm);

/** Names the encoder that runs on every frame, of encoders of video. */
#define MMF_FRAME_OPTION "frame"

/**
 * Sets what follows an encoder's name: ":64" is the width, ":layers=3" an option, of the encoder of
 * frames where this one lacks it. @errors ARG
 */
mmf_status mmf_encoder_set_given(mmf_ctx *ctx, mmf_config *config, const char *given);
/**
 * The configuration of the encoder that reads the modality itself, into which weights of others go:
 * that of a specification, or the one that it runs on every frame.
 *
 * @param spec  without a source   @param out  freed with mmf_config_free   @errors ARG
 */
mmf_status mmf_encoder_innermost(mmf_ctx *ctx, mmf_config **out, const mmf_input_schema *input,
                                 const char *spec);

/** All encoders in the order of the table. */
const mmf_def *const *mmf_encoder_table(size_t *count);

/**
 * The encoder of this name (`n` bytes) that takes an input: several may share one, as `lstm` takes
 * sequences, and tokens through an embedding. @return NULL after an error in the context: ARG
 */
const mmf_def *mmf_encoder_find(mmf_ctx *ctx, const mmf_input_schema *input, const char *name,
                                size_t n);

/**
 * "mlp" for vectors, "cnn1d" for sequences of one length, "gru" for those of their own lengths,
 * "cnn2d" for images, "lstm" over embeddings for tokens, "video" for video.
 */
const char *mmf_encoder_default(const mmf_input_schema *input);

/** How the encoder of one modality is chosen and sized. */
typedef struct mmf_encoder_choice {
    const char *spec; /**< as above; NULL or "": the default of the input's shape */
    int64_t width;    /**< of the feature, unless the specification names one; 0: the encoder's */
    double dropout;   /**< inside and on the feature */
    bool stand_in;    /**< learn a vector for absent modalities; else their features are zeros */
    bool steps;       /**< `feature` is to be (B, T, D), for mmf_steps_run: encoders of which the
                         option `pooling` may be "none" */
} mmf_encoder_choice;

/** Builds the encoder of one modality in the scope `name`. */
mmf_encoder mmf_encoder_build(mmf_builder *builder, const char *name, const mmf_input_schema *input,
                              const mmf_encoder_choice *choice);

/**
 * Refuses a list such as "audio=lstm:128,image=cnn2d" where an entry has another form, or `inputs`,
 * those of the file `of`, have no such modality.
 * @errors ARG
 */
mmf_status mmf_encoder_check_list(mmf_ctx *ctx, const char *list, const mmf_schema *inputs,
                                  const char *of);

/** The specification of a modality in a list option of "modality=spec" entries, the last if there
 * are several, NULL if there is none. */
const char *mmf_encoder_spec(const mmf_config *config, const char *option, const char *modality);

/**
 * (B, width). Where the modality is absent the learned stand-in, or zeros, take the feature's
 * place.
 */
mmf_tensor *mmf_encoder_run(mmf_tape *tape, const mmf_encoder *encoder, const mmf_named *in,
                            const mmf_step *step);

/** 1/0 for each sample as a column (B, 1), NULL if the modality is always there. */
mmf_tensor *mmf_present_column(mmf_tape *tape, const mmf_named *in, const char *modality);
/** Replaces rows of x (B, D) by `absent` (D) where present is 0; x itself when present is NULL. */
mmf_tensor *mmf_replace_absent(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present,
                               mmf_tensor *absent);

#endif
