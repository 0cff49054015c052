/*
 * steps.h: one modality as a sequence of feature vectors, for models that attend over steps.
 *
 * A vector is a sequence of one step, an image a sequence of patches, a video one of frames. Unlike
 * the registered encoders, which put out one vector a modality, nothing is pooled here.
 */
#ifndef MMFUSE_ENCODERS_STEPS_H
#define MMFUSE_ENCODERS_STEPS_H

#include "encoders/encoder.h"

typedef struct mmf_steps_encoder {
    const mmf_input_schema *input;
    mmf_linear_layer project; /* vectors, sequences, embedded tokens */
    mmf_conv_layer conv_1, conv_2;
    mmf_embedding_layer embedding;
    mmf_encoder *through; /* an encoder that puts out a sequence, in the place of all these; NULL */
    int64_t width, n_steps; /* of what comes out: (B, n_steps, width) */
    int64_t rows, columns;  /* images: of the grid that the steps are, row by row */
    double dropout;
} mmf_steps_encoder;

typedef struct mmf_steps {
    mmf_tensor *x;    /**< (B, T, D); from mmf_steps_run with zeros at steps that are masked */
    mmf_tensor *mask; /**< (B, T), 1 valid, 0 beyond the length or absent; NULL: all valid */
} mmf_steps;

/**
 * The specification that the option `encoder` of a model has for a modality, where that encoder
 * puts out a sequence, as bert does of tokens and resnet18 of the places of an image. NULL: there
 * is none; told in the log if it is of an encoder of vectors.
 */
const char *mmf_steps_spec(mmf_builder *builder, const mmf_config *config,
                           const mmf_input_schema *input);
/**
 * Through that encoder. Without one vectors and sequences go through one linear layer a step;
 * images through two convolutions of stride 2 with ReLU; so do frames of video, whose patches are
 * then averaged; tokens (0 is padding) through an embedding and a linear layer.
 *
 * @param config  of the model   @param name  scope of the parameters   @param width  D
 */
mmf_steps_encoder mmf_steps_build(mmf_builder *builder, const mmf_config *config, const char *name,
                                  const mmf_input_schema *input, int64_t width, double dropout);
mmf_steps mmf_steps_run(mmf_tape *tape, const mmf_steps_encoder *encoder, const mmf_named *in);

/** x with zeros at steps that are masked. */
mmf_tensor *mmf_steps_masked(mmf_tape *tape, const mmf_steps *steps);
/** Mean over the valid steps, zeros where there are none. @return (B, D) */
mmf_tensor *mmf_steps_mean(mmf_tape *tape, const mmf_steps *steps);
/** The last valid step, which must come after no masked one; zeros if there is none. @return (B, D)
 */
mmf_tensor *mmf_steps_last(mmf_tape *tape, const mmf_steps *steps);

#endif
