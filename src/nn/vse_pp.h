/* vse_pp.h: the networks of VSE++, for the layer that golden files name and for the model. */
#ifndef MMFUSE_NN_VSE_PP_H
#define MMFUSE_NN_VSE_PP_H

#include "mmfuse/nn.h"

/** Rows of the option table that layer and model share. */
#define MMF_VSE_OPTIONS                                                                            \
    {"embed_size", "width", MMF_OPTION_INT, 1, 65536, NULL, "1024", "width of the common space"},  \
        {"word_dim",                                                                               \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         65536,                                                                                    \
         NULL,                                                                                     \
         "300",                                                                                    \
         "width of word embeddings, where one modality is tokens and the other a vector"},         \
        {"num_layers", NULL, MMF_OPTION_INT, 1, 16, NULL, "1", "of the GRU over the words"},       \
        {"margin", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.2", "of the hinge"},                    \
    {                                                                                              \
        "max_violation", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",                                \
            "only the hardest negative counts, instead of all (VSE0)"                              \
    }

/** A linear layer over an image's features and a GRU over words. */
typedef struct mmf_vse_net {
    const char *image, *text; /* inputs */
    mmf_linear_layer fc;
    mmf_embedding_layer embed;
    mmf_rnn_layer rnn;
} mmf_vse_net;

/** True for one input of tokens and one vector. */
bool mmf_vse_fits(const mmf_schema *inputs);
/**
 * Declares `img_enc.*` and `txt_enc.*`.
 * @param inputs  for which mmf_vse_fits; must outlive the net  @param vocab  number of words
 */
mmf_vse_net mmf_vse_build(mmf_builder *builder, const mmf_config *config, const mmf_schema *inputs,
                          int64_t vocab);
/** Embeddings (B, embed_size), not brought to length one. */
void mmf_vse_run(mmf_tape *tape, const mmf_vse_net *net, const mmf_named *in, mmf_tensor **image,
                 mmf_tensor **text);

#endif
