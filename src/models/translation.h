/*
 * translation.h: the transformers of MulT, which read the steps of one modality, on request with
 * those of another one as keys and values.
 */
#ifndef MMFUSE_MODELS_TRANSLATION_H
#define MMFUSE_MODELS_TRANSLATION_H

#include "encoders/steps.h"

typedef struct mmf_translation_options {
    int n_layers;
    int64_t width, n_heads;
    bool causal;    /**< step i sees steps up to i, and so many more as the lengths differ */
    bool positions; /**< sinusoids of the positions are added */
    double embed_dropout, attention_dropout, inner_dropout, residual_dropout;
} mmf_translation_options;

/** Layers over steps that are scaled and given positions, and a last norm. */
typedef struct mmf_translation {
    mmf_translation_options options;
    mmf_transformer_layer *layers;
    mmf_layer_norm_layer norm;
} mmf_translation;

/**
 * Sizes for translations between all pairs of `n_modalities`: up to three the papers' own; beyond,
 * what reads a modality's translations stays as wide as theirs, in whole heads, and there are about
 * as many layers over all translations.
 */
int64_t mmf_translation_width(size_t n_modalities, int64_t paper_width, int64_t n_heads);
/** The most heads, up to the paper's, that divide `width` and are no narrower than the paper's;
 * one if there is no such number. */
int64_t mmf_translation_heads(int64_t width, int64_t paper_width, int64_t paper_heads);
int mmf_translation_levels(size_t n_modalities, int paper_levels);
/** Layers that read a modality's translations: up to three modalities at least three, as in the
 * papers' code; beyond, where these layers are most of the work, as many as the translations'. */
int mmf_translation_memory_levels(size_t n_modalities, int levels);

mmf_translation mmf_translation_build(mmf_builder *builder, const char *name,
                                      const mmf_translation_options *options);
/**
 * @param source   NULL: the steps themselves
 * @param weights  NULL or where to put those of the last layer, as for mmf_attend
 * @return         (B, T, D) for the steps of `target`
 */
mmf_tensor *mmf_translation_run(mmf_tape *tape, const mmf_translation *translation,
                                const mmf_steps *target, const mmf_steps *source,
                                mmf_tensor **weights);

/** Refuses a kernel that is longer than the sequence. @param option  its name in the message */
void mmf_step_kernel_check(mmf_builder *builder, const char *option, int64_t kernel,
                           const mmf_input_schema *input);
/** A convolution over a sequence, without bias or padding. */
mmf_conv_layer mmf_step_convolution(mmf_builder *builder, const char *name,
                                    const mmf_input_schema *input, int64_t width, int64_t kernel);
/**
 * Its steps over steps that are zero where masked: one is valid if all that it reads is, and the
 * first one if there is anything.
 */
mmf_steps mmf_steps_convolve(mmf_tape *tape, const mmf_conv_layer *layer, const mmf_steps *steps);

#endif
