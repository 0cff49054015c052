/*
 * bert.h: BERT and its pieces, for models that put something in between.
 *
 * Devlin, Chang, Lee, Toutanova, NAACL 2019, with Hugging Face's parameter names: `embeddings.*`,
 * `encoder.layer.N.*`, `pooler.dense.*`. Without recording every layer gives its temporaries back.
 */
#ifndef MMFUSE_NN_BERT_H
#define MMFUSE_NN_BERT_H

#include "mmfuse/nn.h"

typedef enum mmf_bert_activation {
    MMF_BERT_GELU, /**< exact */
    MMF_BERT_GELU_TANH,
    MMF_BERT_RELU,
    MMF_BERT_SWISH /**< x sigmoid(x) */
} mmf_bert_activation;

typedef struct mmf_bert_sizes {
    int64_t vocab, width, n_layers, n_heads, inner, positions, types;
    double eps, dropout, attention_dropout;
    mmf_bert_activation activation;
    bool recompute; /**< activations of a layer are computed again for its gradients */
} mmf_bert_sizes;

/** What an option names as Hugging Face does: gelu, gelu_new, gelu_pytorch_tanh or relu. */
mmf_bert_activation mmf_bert_activation_read(mmf_builder *builder, const mmf_config *config,
                                             const char *option);

/** Rows of the option tables: what Hugging Face's config.json calls them. */
#define MMF_BERT_OPTIONS                                                                           \
    {"vocab_size",                                                                                 \
     NULL,                                                                                         \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     100000000,                                                                                    \
     NULL,                                                                                         \
     "0",                                                                                          \
     "words of the table; 0: those of the data"},                                                  \
        {"hidden_size", NULL,     MMF_OPTION_INT, 1,                                               \
         65536,         "32|256", "128",          "width of the states (BERT base: 768)"},         \
        {"num_hidden_layers", NULL, MMF_OPTION_INT, 0, 256, NULL, "2", "layers (base: 12)"},       \
        {"num_attention_heads", NULL, MMF_OPTION_INT, 1, 1024, NULL, "4", "heads (base: 12)"},     \
        {"intermediate_size",                                                                      \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1048576,                                                                                  \
         NULL,                                                                                     \
         "0",                                                                                      \
         "hidden width of a layer; 0: 4 hidden_size"},                                             \
        {"hidden_act",                                                                             \
         NULL,                                                                                     \
         MMF_OPTION_TEXT,                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "gelu",                                                                                   \
         "activation of a layer: gelu, which is exact, gelu_new or gelu_pytorch_tanh, its "        \
         "approximation, or relu"},                                                                \
        {"max_position_embeddings",                                                                \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         0,                                                                                        \
         1000000,                                                                                  \
         NULL,                                                                                     \
         "0",                                                                                      \
         "positions of the table (base: 512); 0: as many as the text has"},                        \
        {"type_vocab_size", NULL, MMF_OPTION_INT, 1, 1024, NULL, "2", "segments"},                 \
        {"layer_norm_eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-12", "eps of the layer norms"},  \
        {"hidden_dropout_prob",                                                                    \
         NULL,                                                                                     \
         MMF_OPTION_REAL,                                                                          \
         0,                                                                                        \
         0.95,                                                                                     \
         NULL,                                                                                     \
         "0.1",                                                                                    \
         "on embeddings and on what a layer adds"},                                                \
        {"gradient_checkpointing",                                                                 \
         NULL,                                                                                     \
         MMF_OPTION_BOOL,                                                                          \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "false",                                                                                  \
         "train with the memory of one layer, each of which is computed twice"},                   \
    {                                                                                              \
        "attention_probs_dropout_prob", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",               \
            "on attention weights"                                                                 \
    }

/**
 * Reads the rows above for a text of this shape. Fails where the table of words or positions is
 * smaller than the text needs.
 * @param text  NULL: the options alone say
 */
mmf_bert_sizes mmf_bert_sizes_read(mmf_builder *builder, const mmf_config *config,
                                   const mmf_input_schema *text);

/** The text of a model: tokens called `text`, else the only input of tokens; NULL if there is none
 * or several. */
const mmf_input_schema *mmf_bert_text(const mmf_schema *inputs);

/** A linear layer with BERT's initialisation: weights N(0, 0.02^2), biases 0. */
mmf_linear_layer mmf_bert_linear_build(mmf_builder *builder, const char *name, int64_t inputs,
                                       int64_t outputs);
/** A table of vectors, likewise; row `padding` (-1: none) is zero and gets no gradient. */
mmf_embedding_layer mmf_bert_table_build(mmf_builder *builder, const char *name, int64_t rows,
                                         int64_t width, int64_t padding);

/* ---- Embeddings -------------------------------------------------------------------------- */

typedef struct mmf_bert_embeddings {
    mmf_embedding_layer words; /* id 0 is padding */
    mmf_tensor *positions, *types;
    mmf_layer_norm_layer norm;
    double dropout;
} mmf_bert_embeddings;

/** Scope `embeddings`. */
mmf_bert_embeddings mmf_bert_embeddings_build(mmf_builder *builder, const mmf_bert_sizes *sizes);
/** In a scope of another name. */
mmf_bert_embeddings mmf_bert_embeddings_build_as(mmf_builder *builder, const char *scope,
                                                 const mmf_bert_sizes *sizes);
/** Rows of the word table. @param tokens (B, T) integers  @return (B, T, D) */
mmf_tensor *mmf_bert_words(mmf_tape *tape, const mmf_bert_embeddings *embeddings,
                           const mmf_tensor *tokens);
/** The same with zeros where the text is absent. @param present (B) or NULL: always there */
mmf_tensor *mmf_bert_words_of(mmf_tape *tape, const mmf_bert_embeddings *embeddings,
                              const mmf_tensor *tokens, mmf_tensor *present);
/**
 * Dropout(LN(words + positions from 0 + types)).
 *
 * @param words     (B, T, D): mmf_bert_words, or vectors in their place
 * @param segments  (B, T) integers; NULL: all of them `segment`
 */
mmf_tensor *mmf_bert_embed(mmf_tape *tape, const mmf_bert_embeddings *embeddings, mmf_tensor *words,
                           const mmf_tensor *segments, int64_t segment);

/* ---- Layers ------------------------------------------------------------------------------ */

/** Queries, keys and values, then `dense`, dropout, the residual and a layer norm. */
typedef struct mmf_bert_attention {
    mmf_linear_layer query, key, value, dense;
    mmf_layer_norm_layer norm;
    int64_t n_heads;
    double dropout, weights_dropout;
} mmf_bert_attention;

/** Two linear layers, dropout, the residual and a layer norm. */
typedef struct mmf_bert_inner {
    mmf_linear_layer intermediate, output;
    mmf_layer_norm_layer norm;
    mmf_bert_activation activation;
    double dropout;
} mmf_bert_inner;

typedef struct mmf_bert_layer {
    mmf_bert_attention attention;
    mmf_bert_inner inner;
} mmf_bert_layer;

/** @param name  scope of the layer, "layer.0" */
mmf_bert_layer mmf_bert_layer_build(mmf_builder *builder, const char *name,
                                    const mmf_bert_sizes *sizes);
/** `<intermediate>.dense`, `<output>.dense`, `<output>.LayerNorm`. */
mmf_bert_inner mmf_bert_inner_build(mmf_builder *builder, const char *intermediate,
                                    const char *output, const mmf_bert_sizes *sizes);
/** LN(x + Dropout(W2 act(W1 x))). */
mmf_tensor *mmf_bert_inner_run(mmf_tape *tape, const mmf_bert_inner *inner, mmf_tensor *x);
/** act(W x + b). */
mmf_tensor *mmf_bert_activate(mmf_tape *tape, const mmf_linear_layer *layer, mmf_tensor *x,
                              mmf_bert_activation activation);
/**
 * One layer over x, or over x with keys and values from elsewhere.
 *
 * @param x        (B, T, D)   @param source  (B, S, D) keys and values; NULL: x
 * @param mask     as mmf_attention_mask makes, of the keys; NULL: all count. A row without a key
 *                 attends as if it had no mask, which is what adding -10000 to all scores does
 * @param weights  NULL or where to put the attention (B, H, T, S) before dropout
 */
mmf_tensor *mmf_bert_layer_run(mmf_tape *tape, const mmf_bert_layer *layer, mmf_tensor *x,
                               mmf_tensor *source, const mmf_tensor *mask, mmf_tensor **weights);

/* ---- The whole --------------------------------------------------------------------------- */

typedef struct mmf_bert {
    mmf_bert_sizes sizes;
    mmf_bert_embeddings embeddings;
    mmf_bert_layer *layers;
    mmf_linear_layer pooler; /* weight NULL: none */
} mmf_bert;

/** `<scope>.embeddings`, `<scope>.encoder.layer.N`, `<scope>.pooler.dense`; "" is no scope. */
mmf_bert mmf_bert_build(mmf_builder *builder, const char *scope, const mmf_bert_sizes *sizes,
                        bool with_pooler);
/** As mmf_bert_build, with the embeddings in a scope of another name below `scope`. */
mmf_bert mmf_bert_build_as(mmf_builder *builder, const char *scope, const char *embeddings,
                           const mmf_bert_sizes *sizes, bool with_pooler);
/** Embeds the modality `name`, with `<name>.segments` where there are any; words of an absent text
 * are zeros. @return (B, T, D) */
mmf_tensor *mmf_bert_embed_input(mmf_tape *tape, const mmf_bert *bert, const mmf_named *in,
                                 const char *name);
/**
 * Which tokens of a modality count: by `<name>.mask`, `.length` and `.present`; without a mask and
 * a length up to the last token that is not padding. @return (B, T)
 */
mmf_tensor *mmf_bert_keys(mmf_tape *tape, const mmf_named *in, const char *name);
/** All layers over embeddings. @param keys (B, T) 1 keep, 0 drop; NULL: all  @return (B, T, D) */
mmf_tensor *mmf_bert_encode(mmf_tape *tape, const mmf_bert *bert, mmf_tensor *x, mmf_tensor *keys);
/** Row 0 of every sample. @param x (B, T, D)  @return (B, D) */
mmf_tensor *mmf_bert_first(mmf_tape *tape, mmf_tensor *x);
/** tanh(W x_0 + b) of the pooler. @return (B, D) */
mmf_tensor *mmf_bert_pool(mmf_tape *tape, const mmf_bert *bert, mmf_tensor *x);

#endif
