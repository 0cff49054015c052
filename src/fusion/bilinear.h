/*
 * bilinear.h: what the operators of the bilinear pooling family share.
 *
 * They differ in how they constrain the tensor T of z_o = x' T_o y. Around it all have a projection
 * of each of two vectors to a common width, an optional normalisation (signed square root, then
 * length one) and an output layer `linear_out`. Parameter and option names are those of
 * block.bootstrap.pytorch.
 */
#ifndef MMFUSE_FUSION_BILINEAR_H
#define MMFUSE_FUSION_BILINEAR_H

#include "fusion/fusion.h"

typedef struct mmf_bilinear {
    const char *names[2]; /* of the modalities: x and y */
    int64_t widths[2];
    int64_t mm_dim;
    mmf_linear_layer linear[2], linear_out;
    mmf_activation activ_input, activ_output;
    double dropout_input, dropout_pre_lin, dropout_output;
    bool normalize, shared; /* false where there is no such option */
} mmf_bilinear;

/** Reads the options that the definition has; refuses anything but two vectors. */
void mmf_bilinear_open(mmf_builder *builder, const mmf_config *config, const mmf_schema *inputs,
                       mmf_bilinear *op);
/** Layers `first` and `second`, the second being the first under another name where `shared`. */
void mmf_bilinear_pair(mmf_builder *builder, const mmf_bilinear *op, const char *const names[2],
                       const int64_t inputs[2], int64_t outputs, mmf_linear_layer layers[2]);
/** `linear0` and `linear1` of both inputs to `width`. */
void mmf_bilinear_project_build(mmf_builder *builder, mmf_bilinear *op, int64_t width);
/** `linear_out` from `inputs` features to option output_dim, the operator's width. */
void mmf_bilinear_out_build(mmf_builder *builder, const mmf_config *config, mmf_bilinear *op,
                            int64_t inputs);

/** projections[i] = dropout(act(layers[i] v_i)) of both inputs. */
void mmf_bilinear_project(mmf_tape *tape, const mmf_bilinear *op, const mmf_linear_layer layers[2],
                          const mmf_named *in, mmf_tensor *projections[2]);
/** Signed square root, then length one. */
mmf_tensor *mmf_bilinear_power(mmf_tape *tape, mmf_tensor *z);
/** Linear map `weight` (O, N, M), `bias` (O) of the outer product of x (B, N) and y (B, M). */
mmf_tensor *mmf_bilinear_core(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y,
                              const mmf_linear_layer *core);
/** A core `<name>.weight` (O, N, M) and `<name>.bias`, all three dimensions equal. */
mmf_linear_layer mmf_bilinear_core_build(mmf_builder *builder, const char *name, int64_t width);
/** dropout(act(linear_out z)), put out as `fused`. */
mmf_tensor *mmf_bilinear_out(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *z, mmf_named *out);
/** As mmf_bilinear_out, after normalising z where asked for and dropping out of it. */
void mmf_bilinear_finish(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *z, mmf_named *out);

/** Sum over `rank` of products x, y (B, rank * width), rank slowest. @return (B, width) */
mmf_tensor *mmf_bilinear_rank_sum(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, int64_t rank,
                                  int64_t width);
/** Sum over `factor`, the fastest index of p (B, width * factor), normalised where asked for. */
mmf_tensor *mmf_bilinear_factor_sum(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *p,
                                    int64_t factor);

/** Where a chunk of the projections begins, and how wide it is. */
typedef struct mmf_chunk {
    int64_t first, width;
} mmf_chunk;
/**
 * Cuts `mm_dim` into `n` chunks as the reference does: all ceil(mm_dim / n) wide, the last one the
 * rest; where nothing would be left for it, the last ones are one less each. (Where the rest is 0
 * the reference keeps an empty chunk; here that is the second case.)
 */
mmf_chunk *mmf_bilinear_chunks(mmf_builder *builder, int64_t mm_dim, int64_t n);

#define MMF_BILINEAR_ABSENT "the encoder's learned vector stands in for an absent modality"

#define MMF_BILINEAR_TAKES (MMF_TAKES_VECTORS | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_STANDS_IN)

/* Rows. Activations: the references' None is "none". */
#define MMF_BILINEAR_ACTIVATIONS "none|relu|gelu|tanh|sigmoid"
#define MMF_MM_DIM_OPTION(standard)                                                                \
    {                                                                                              \
        "mm_dim", NULL, MMF_OPTION_INT, 1, 65536, NULL, standard, "width that both are brought to" \
    }
#define MMF_OUTPUT_DIM_OPTION                                                                      \
    {                                                                                              \
        "output_dim", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128", "width of the result"           \
    }
#define MMF_ACTIV_INPUT_OPTION                                                                     \
    {                                                                                              \
        "activ_input", NULL, MMF_OPTION_TEXT, 0, 0, MMF_BILINEAR_ACTIVATIONS, "relu",              \
            "after the projections"                                                                \
    }
#define MMF_ACTIV_OUTPUT_OPTION(standard)                                                          \
    {                                                                                              \
        "activ_output", NULL, MMF_OPTION_TEXT, 0, 0, MMF_BILINEAR_ACTIVATIONS, standard,           \
            "after linear_out"                                                                     \
    }
#define MMF_NORMALIZE_OPTION                                                                       \
    {                                                                                              \
        "normalize", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",                                   \
            "signed square root, then length one, before linear_out"                               \
    }
#define MMF_SHARED_OPTION                                                                          \
    {                                                                                              \
        "shared", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",                                      \
            "both modalities, then of one width, use the same weights"                             \
    }
#define MMF_POS_NORM_OPTION                                                                        \
    {                                                                                              \
        "pos_norm", NULL, MMF_OPTION_TEXT, 0, 0, "before_cat|after_cat", "before_cat",             \
            "signed square root and length one of every chunk, or of all together"                 \
    }
#define MMF_BILINEAR_DROPOUTS                                                                      \
    {                                                                                              \
        "dropout_input",                                                                           \
        NULL,                                                                                      \
        MMF_OPTION_REAL,                                                                           \
        0,                                                                                         \
        0.95,                                                                                      \
        NULL,                                                                                      \
        "0",                                                                                       \
        "on both projections or sketches"},                                                        \
        {"dropout_pre_lin",                                                                        \
         "dropout_pre_norm",                                                                       \
         MMF_OPTION_REAL,                                                                          \
         0,                                                                                        \
         0.95,                                                                                     \
         NULL,                                                                                     \
         "0",                                                                                      \
         "before linear_out; mfb and mfh: on the product before its sum"},                         \
    {                                                                                              \
        "dropout_output", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "after linear_out"            \
    }

#endif
