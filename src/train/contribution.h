/* contribution.h: what each modality adds to a score: Shapley values over subsets of modalities. */
#ifndef MMFUSE_TRAIN_CONTRIBUTION_H
#define MMFUSE_TRAIN_CONTRIBUTION_H

#include "mmfuse/base.h"

/** Up to here every subset is valued; beyond, orders of the modalities are drawn. */
#define MMF_SHAPLEY_EXACT_MAX 6

/**
 * Shapley values (Shapley, A value for n-person games, 1953):
 *
 *   phi_m = sum_{S without m} |S|! (n - |S| - 1)! / n!  (v(S + m) - v(S))
 *
 * @param n       players, 1 to MMF_SHAPLEY_EXACT_MAX
 * @param values  (2^n) value of each subset, by its bits
 * @param out     (n); sums to values[2^n - 1] - values[0]
 */
void mmf_shapley_exact(size_t n, const double *values, double *out);

/** Value of a subset. */
typedef mmf_status mmf_subset_value(void *user, uint64_t use, double *out);

/**
 * The same from drawn orders of the players: each order gives every player what it adds to those
 * before it. Values of subsets are asked for once.
 *
 * @param n         1 to 63
 * @param n_orders  2 or more
 * @param out, error  (n) means, and their standard errors over the orders
 */
mmf_status mmf_shapley_sampled(mmf_ctx *ctx, size_t n, int64_t n_orders, uint64_t seed,
                               mmf_subset_value *value, void *user, double *out, double *error);

#endif
