/*
 * pretraining.h: what pre-training tasks over a text and regions share: what is hidden, and the
 * head that finds hidden words.
 */
#ifndef MMFUSE_MODELS_PRETRAINING_H
#define MMFUSE_MODELS_PRETRAINING_H

#include "models/regions.h"
#include "nn/bert.h"

/** Rows of the option tables. */
#define MMF_PRETRAINING_OPTIONS                                                                    \
    {"mask_token",                                                                                 \
     NULL,                                                                                         \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     100000000,                                                                                    \
     NULL,                                                                                         \
     "0",                                                                                          \
     "pre-training: the token in the place of a hidden one (BERT: 103); 0: a vector of zeros"},    \
        {"special_tokens",                                                                         \
         NULL,                                                                                     \
         MMF_OPTION_INTS,                                                                          \
         0,                                                                                        \
         100000000,                                                                                \
         NULL,                                                                                     \
         "0",                                                                                      \
         "pre-training: tokens that are never hidden (BERT: 0,101,102)"},                          \
    {                                                                                              \
        "mask_rate", NULL, MMF_OPTION_REAL, 0, 0.95, "-", "0.15",                                  \
            "pre-training: share of tokens and regions that are hidden"                            \
    }

/** A text and what is looked at beside it. */
typedef struct mmf_pair {
    const mmf_tensor *tokens, *segments; /**< (B, T); segments may be NULL */
    mmf_tensor *present;                 /**< of the text; NULL: always */
    mmf_tensor *keys;                    /**< (B, T) */
    mmf_region_set regions;
} mmf_pair;
mmf_pair mmf_pair_of(mmf_tape *tape, const char *text, const mmf_regions *regions,
                     const mmf_named *in);

/** True where a model is trained on what it hides from itself (`--task pretraining`). */
bool mmf_is_pretraining(const mmf_config *config);
/** Reads the rows above; the list of special tokens lives as long as the module. */
mmf_masking mmf_masking_read(mmf_builder *builder, const mmf_config *config, int64_t vocab);

/** LN(act(W x + b)): what stands before a decoder. */
typedef struct mmf_transform {
    mmf_linear_layer dense;
    mmf_layer_norm_layer norm;
    mmf_bert_activation activation;
} mmf_transform;
/** Layers called `dense` and `norm` in the scope that the caller has entered. */
mmf_transform mmf_transform_build(mmf_builder *builder, const char *dense, const char *norm,
                                  int64_t width, double eps, mmf_bert_activation activation);
mmf_tensor *mmf_transform_run(mmf_tape *tape, const mmf_transform *transform, mmf_tensor *x);

/** BERT's `cls.predictions`: the transform, then the word table itself as decoder. */
typedef struct mmf_word_head {
    mmf_transform transform;
    mmf_linear_layer decoder; /* the weight is the word table */
} mmf_word_head;
/** @param words  the table of mmf_bert_embeddings */
mmf_word_head mmf_word_head_build(mmf_builder *builder, const mmf_bert_sizes *sizes,
                                  mmf_tensor *words);
/** @return (..., V) */
mmf_tensor *mmf_word_head_run(mmf_tape *tape, const mmf_word_head *head, mmf_tensor *x);

/** Numbers of the tokens whose label is not -1, over all of the batch; NULL: none. */
mmf_tensor *mmf_labelled_rows(mmf_tape *tape, const mmf_tensor *labels);
/** x (B, T, ...) as rows (B T, ...). */
mmf_tensor *mmf_as_rows(mmf_tape *tape, mmf_tensor *x);
/** Cross entropy of the rows with a label, averaged; zero if there are none.
 * @param logits (n, V) of those rows  @param rows  mmf_labelled_rows */
mmf_tensor *mmf_label_loss(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *labels,
                           const mmf_tensor *rows);
/** Sum of all, shape (1). */
mmf_tensor *mmf_sum_losses(mmf_tape *tape, mmf_tensor *const *losses, int count);
/** Puts the sum of the outputs called `loss.*` out for every row, as `prediction` (n_rows, 1). */
void mmf_put_loss_of_rows(mmf_tape *tape, mmf_named *out, int64_t n_rows);

#endif
