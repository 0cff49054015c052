/* dmd.h: what the structure of decoupled multimodal distilling and its losses share. */
#ifndef MMFUSE_MODELS_DMD_H
#define MMFUSE_MODELS_DMD_H

#include "models/distillation.h"
#include "models/parts.h"
#include "models/translation.h"

/** x + proj2 relu(proj1 x) */
typedef struct mmf_residual_mlp {
    mmf_linear_layer proj1, proj2;
} mmf_residual_mlp;

/** One modality. */
typedef struct mmf_dmd_part {
    const mmf_input_schema *input;
    const char *key; /**< l, v, a, or the modality's name */
    bool is_paper;   /**< a convolved sequence */
    mmf_conv_layer proj, own, decoder;
    mmf_steps_encoder encoder;
    int64_t n_steps;
    mmf_linear_layer align, low_1, low_2, low_out, high_out, weight;
    mmf_residual_mlp high;
    mmf_translation shared, memory, *from; /**< from: one a source, unused for itself */
    /* Of the last run. */
    mmf_tensor *mask, *present;
    mmf_tensor *x, *s, *c, *rebuilt, *s_again; /**< (B, D, T) */
    mmf_tensor *repr_low, *repr_high, *logits_low, *logits_high, *likeness, *last_c, *last_s;
} mmf_dmd_part;

typedef struct mmf_dmd {
    mmf_dmd_part *m;
    mmf_tensor **list; /**< scratch, one more than there are modalities */
    size_t count;
    int64_t width, outputs;
    bool trio, kernel_alone, hetero;
    mmf_result_kind kind;
    double dropout;
    mmf_conv_layer encoder_c;
    mmf_residual_mlp mlp_c, mlp;
    mmf_linear_layer out_c, weight_c, out;
    mmf_tensor *output, *logits_c; /**< of the last run */
    /* Losses. */
    bool distils;
    double margin, decoupling_weight, distillation_weight;
    mmf_distillation low, high;
    mmf_tensor **z, **h, **present;
} mmf_dmd;

void mmf_dmd_build_losses(mmf_builder *builder, const mmf_config *config, mmf_dmd *model);
/** Every term, `loss`, and in training the `objective`. */
void mmf_dmd_put_losses(mmf_tape *tape, mmf_dmd *model, mmf_tensor *label, const mmf_step *step,
                        mmf_named *out);
/** The distillation of given logits and representations (M, B, ...). */
void mmf_dmd_run_kernel(mmf_tape *tape, mmf_dmd *model, const mmf_named *in, mmf_named *out);

#endif
