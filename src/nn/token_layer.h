/*
 * token_layer.h: what layers over the tokens of several modalities share.
 *
 * Such a layer takes sequences of tokens (B, T_m, D) of one width under the modalities' names, with
 * what mmf_key_mask reads, and puts out `logit` (B, ..., K). src/models/joint_steps.c makes a model
 * of it.
 */
#ifndef MMFUSE_NN_TOKEN_LAYER_H
#define MMFUSE_NN_TOKEN_LAYER_H

#include "mmfuse/nn.h"

#define MMF_MODALITY_ORDER_OPTION                                                                  \
    {                                                                                              \
        "modalities", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",                                      \
            "the order of the modalities; default: the data's"                                     \
    }

/**
 * The inputs in the order of the option `modalities`, without the one called `aside` (may be NULL);
 * checks that each is a sequence of tokens of this width.
 */
mmf_schema mmf_token_inputs(mmf_builder *builder, const mmf_config *config,
                            const mmf_schema *inputs, const char *aside, int64_t width);

#endif
