/* bert_source.h: what the files beside the weights of a BERT say: Hugging Face's and those of
 * sentence-transformers. */
#ifndef MMFUSE_ENCODERS_BERT_SOURCE_H
#define MMFUSE_ENCODERS_BERT_SOURCE_H

#include "nn/pretrained.h"

/**
 * Sizes from config.json, pooling and normalisation from modules.json and what it names, as options
 * of `def` (mmf_source).
 *
 * @param path  a folder, or a file of weights in it
 * @errors      UNSUPPORTED (another kind of network, another pooling, further modules), FORMAT, IO
 */
mmf_status mmf_bert_describe(mmf_ctx *ctx, const char *path, const mmf_def *def, mmf_text *spec);

#endif
