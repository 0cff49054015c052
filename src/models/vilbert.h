/*
 * vilbert.h: the two streams of ViLBERT, for its tasks and its pre-training.
 *
 * Lu, Batra, Parikh, Lee, NeurIPS 2019, with the names of jiasenlu/vilbert_beta. V is the image
 * stream, W the text stream.
 */
#ifndef MMFUSE_MODELS_VILBERT_H
#define MMFUSE_MODELS_VILBERT_H

#include "models/pretraining.h"

/** A connection layer: each stream attends to the other. */
typedef struct mmf_connection {
    mmf_linear_layer query1, key1, value1; /* of V */
    mmf_linear_layer query2, key2, value2; /* of W */
    mmf_linear_layer dense1, dense2;
    mmf_layer_norm_layer norm1, norm2;
    mmf_bert_inner v_inner, t_inner;
} mmf_connection;

/** The heads of pre-training. */
typedef struct mmf_vilbert_heads {
    mmf_word_head words;
    mmf_transform image_transform;
    mmf_linear_layer image_decoder; /* weight NULL: no regions are predicted */
    mmf_linear_layer alignment;
    mmf_masking masking;
    int64_t n_targets;
} mmf_vilbert_heads;

typedef struct mmf_vilbert {
    const char *text;
    mmf_regions regions;
    mmf_bert_sizes t, v;
    int64_t bi_width, bi_heads;
    mmf_bert_embeddings embeddings;
    mmf_linear_layer image, location;
    mmf_layer_norm_layer image_norm;
    mmf_bert_layer *t_layers, *v_layers;
    mmf_connection *connections;
    int64_t *t_ids, *v_ids; /* layers of each stream that run before a connection */
    int64_t n_connections;
    mmf_linear_layer t_pooler, v_pooler;
    bool multiplies; /* the pooled streams, else adds them */
    mmf_vilbert_heads heads;
} mmf_vilbert;

/** What the streams put out. */
typedef struct mmf_vilbert_states {
    mmf_tensor *text, *vision;               /* (B, T, D_t), (B, R, D_v) */
    mmf_tensor *pooled_text, *pooled_vision; /* (B, D_bi) */
    mmf_tensor *joint;                       /* (B, D_bi), after dropout */
} mmf_vilbert_states;

/** Runs both streams. */
mmf_vilbert_states mmf_vilbert_run(mmf_tape *tape, const mmf_vilbert *model, const mmf_pair *pair);
/** x (B, T, ...) with zeros where masked. @param mask (B, T) or NULL */
mmf_tensor *mmf_masked_rows(mmf_tape *tape, mmf_tensor *x, mmf_tensor *mask);

/* ---- vilbert_pretraining.c --------------------------------------------------------------- */

/** `cls.*`. */
void mmf_vilbert_heads_build(mmf_builder *builder, const mmf_config *config, mmf_vilbert *model);
/**
 * Hides and exchanges, runs the streams, and puts out the losses of finding that out.
 */
void mmf_vilbert_pretrain(mmf_tape *tape, const mmf_vilbert *model, const mmf_named *in,
                          mmf_named *out);
/**
 * All logits of the heads, and, where the inputs have the answers (`<text>.label`,
 * `<regions>.label`,
 * `<regions>.target`, `label`), the losses.
 */
void mmf_vilbert_show_heads(mmf_tape *tape, const mmf_vilbert *model, const mmf_named *in,
                            const mmf_vilbert_states *states, const mmf_pair *pair, mmf_named *out);

#endif
