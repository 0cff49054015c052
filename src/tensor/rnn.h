/* rnn.h: what the walks of recurrent layers share; see ops/rnn.c. */
#ifndef MMFUSE_TENSOR_RNN_H
#define MMFUSE_TENSOR_RNN_H

#include "tensor/tape.h"

typedef struct rnn_node {
    mmf_node node;
    mmf_rnn_weights w;
    mmf_tensor *x, *cells; /* cells: LSTM only */
    const mmf_tensor *length;
    bool reverse, is_gru;
    int64_t batch, steps, inputs, hidden, rows; /* rows: gate rows, 4H or 3H */
    int64_t stride;    /* elements from one step's gates to the next; see padded() */
    mmf_real *gates;   /* (B, T, rows) at that stride: activated after the forward pass */
    mmf_real *tanh_c;  /* LSTM (B, T, H): tanh of the cell; GRU: the recurrent part of n before the
                          reset */
    mmf_real *dgates;  /* backward: gradient of the pre-activations */
    mmf_real *dhidden; /* backward, GRU: gradient of the recurrent pre-activations */
    const mmf_real *w_hh_t; /* (H, rows) padded: W_hh transposed; NULL: not worth it */
} rnn_node;

static inline bool rnn_is_valid(const rnn_node *n, int64_t b, int64_t t)
{
    return !n->length || t < n->length->ints[b];
}

/* The step before t in the direction of the walk, -1 at the start. */
static inline int64_t rnn_previous_step(const rnn_node *n, int64_t t)
{
    return n->reverse ? (t + 1 < n->steps ? t + 1 : -1) : t - 1;
}

static inline int64_t rnn_walk_step(const rnn_node *n, int64_t i)
{
    return n->reverse ? n->steps - 1 - i : i;
}

/**
 * The walk of the only sample, units side by side on several threads.
 * @param part   (rows) scratch of the GRU's recurrent part
 * @param zeros  (H) the state before the first step
 * @return false, with nothing done, where passes do not keep another layout of the weight, or after
 *         setting the tape's error
 */
bool mmf_rnn_walk_sample(mmf_tape *tape, rnn_node *n, mmf_real *part, const mmf_real *zeros);

#endif
