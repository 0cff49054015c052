/*
 * mag.h: the multimodal adaptation gate: word vectors moved by what was seen and heard with them.
 *
 * Rahman, Hasan, Lee, Zadeh, Mao, Morency, Hoque, ACL 2020, with the reference's names: `W_hv`,
 * `W_v` for vision (or video), `W_ha`, `W_a` for audio; other modalities `W_h_<name>`, `W_<name>`.
 */
#ifndef MMFUSE_NN_MAG_H
#define MMFUSE_NN_MAG_H

#include "mmfuse/nn.h"

/** Rows of the option tables. */
#define MMF_MAG_OPTIONS                                                                            \
    {"beta_shift",                                                                                 \
     NULL,                                                                                         \
     MMF_OPTION_REAL,                                                                              \
     0,                                                                                            \
     1000,                                                                                         \
     NULL,                                                                                         \
     "1",                                                                                          \
     "how far, in lengths of a word vector, the others may move it"},                              \
    {                                                                                              \
        "dropout_prob", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.3",                               \
            "on the moved vectors (paper: 0.5)"                                                    \
    }

typedef struct mmf_mag_side {
    const mmf_input_schema *input;
    mmf_linear_layer gate, shift;
} mmf_mag_side;

typedef struct mmf_mag {
    mmf_mag_side *sides; /* vision before audio before others */
    size_t count;
    mmf_layer_norm_layer norm;
    int64_t n_steps;
    double beta, dropout;
} mmf_mag;

/**
 * Every input but `text` moves it: sequences of as many steps, or vectors, which stand beside every
 * step. Reads the options above.
 * @param width  of the word vectors
 */
mmf_mag mmf_mag_build(mmf_builder *builder, const char *name, const mmf_config *config,
                      const mmf_schema *inputs, const mmf_input_schema *text, int64_t width);
/** Whether an input can move a text of so many steps. */
bool mmf_mag_takes(const mmf_input_schema *input, int64_t n_steps);
/**
 * Dropout(LN(z + alpha h)), h = sum_m relu(W_hm [x_m; z] + b) (W_m x_m + b),
 * alpha = min(beta |z| / (|h| + 1e-6), 1); steps behind a length and absent inputs are zeros.
 * @param z (B, T, D)  @param shift  NULL or where to put alpha h (B, T, D)
 */
mmf_tensor *mmf_mag_run(mmf_tape *tape, const mmf_mag *mag, mmf_tensor *z, const mmf_named *in,
                        mmf_tensor **shift);

#endif
