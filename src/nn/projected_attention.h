/* projected_attention.h: attention with the projections of its queries and of what they find. */
#ifndef MMFUSE_NN_PROJECTED_ATTENTION_H
#define MMFUSE_NN_PROJECTED_ATTENTION_H

#include "mmfuse/nn.h"

/**
 * out(mmf_attend(query(x), k, v)). Where nothing is recorded and many queries ask few keys, the
 * projections are folded into keys and values.
 *
 * @param x (B, Tq, I)  @param k (B, Tk, D)  @param v (B, Tk, E)
 * @param weights  as for mmf_attend
 * @return (B, Tq, O)
 */
mmf_tensor *mmf_attend_projected(mmf_tape *tape, const mmf_linear_layer *query,
                                 const mmf_linear_layer *out, mmf_tensor *x, mmf_tensor *k,
                                 mmf_tensor *v, const mmf_heads *heads, mmf_tensor **weights);

/**
 * What each group of keys gets: (.., T) to (.., n), for keys that stand behind each other. Keys
 * behind the last group do not count.
 *
 * @param keys  n tensors (B, T_i, D)  @return NULL for more than 64 groups, or none
 */
mmf_tensor *mmf_attention_shares(mmf_tape *tape, mmf_tensor *weights, mmf_tensor *const *keys,
                                 size_t n);

#endif
