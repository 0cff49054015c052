/*
 * disentangle.h: distances between batches of vectors, for models and losses that tell what
 * modalities share from what is their own.
 *
 * Everywhere `present` is (B, 1) of 1/0, or NULL when every row counts; a row that is absent is
 * left out of means, centring and sums.
 */
#ifndef MMFUSE_NN_DISENTANGLE_H
#define MMFUSE_NN_DISENTANGLE_H

#include "mmfuse/nn.h"

/** Both present: the product of two columns, of which either may be NULL. */
mmf_tensor *mmf_both_present(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b);
/** How many rows are present, at least 1. @return (1) */
mmf_tensor *mmf_row_count(mmf_tape *tape, mmf_tensor *present);
/** x minus its mean; zero where absent. @param x (B, D) */
mmf_tensor *mmf_centred_rows(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present);
/** Mean over the rows. @param x (B, D)  @return (D) */
mmf_tensor *mmf_row_mean(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present);

/**
 * Central moment discrepancy up to order `order`: |m_x - m_y| + sum_k |c_k(x) - c_k(y)|. At a
 * distance of 0, where the norm has a kink, the gradient is 0.
 * @paper Zellinger et al., ICLR 2017, for values within [0, 1]  @return (1)
 */
mmf_tensor *mmf_moment_discrepancy(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *at_x,
                                   mmf_tensor *at_y, int order);
/**
 * mean_ij (X^' Y^)_ij^2, X^ being x centred over the batch with rows of length one. The lengths
 * count as constants: no gradient passes through them.
 * @paper Bousmalis et al., NeurIPS 2016; as in declare-lab/MISA  @return (1)
 */
mmf_tensor *mmf_difference_loss(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *present);
/** Mean squared error over all elements. @return (1) */
mmf_tensor *mmf_row_error(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *present);

#endif
