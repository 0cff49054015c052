/* disentangle.c: see disentangle.h. */
#include "nn/disentangle.h"

#include <math.h>

/* Added to row lengths: that of the reference. */
#define LENGTH_EPS 1e-6

mmf_tensor *mmf_both_present(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return a && b ? mmf_mul(tape, a, b) : (a ? a : b);
}

mmf_tensor *mmf_row_count(mmf_tape *tape, mmf_tensor *present)
{
    return mmf_clamp(tape, mmf_sum(tape, present, MMF_ALL_AXES), 1, INFINITY);
}

mmf_tensor *mmf_row_mean(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present)
{
    if (!present)
        return mmf_mean(tape, x, 0);
    return mmf_div(tape, mmf_sum(tape, mmf_mul(tape, x, present), 0), mmf_row_count(tape, present));
}

mmf_tensor *mmf_centred_rows(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present)
{
    mmf_tensor *const centred = mmf_sub(tape, x, mmf_row_mean(tape, x, present));
    return present ? mmf_mul(tape, centred, present) : centred;
}

/* Euclidean norm of all elements, with gradient 0 at 0. */
static mmf_tensor *norm(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_signed_sqrt(tape, mmf_sum(tape, mmf_mul(tape, x, x), MMF_ALL_AXES));
}

mmf_tensor *mmf_moment_discrepancy(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *at_x,
                                   mmf_tensor *at_y, int order)
{
    mmf_tensor *const mean_x = mmf_row_mean(tape, x, at_x);
    mmf_tensor *const mean_y = mmf_row_mean(tape, y, at_y);
    mmf_tensor *const centred_x = mmf_sub(tape, x, mean_x);
    mmf_tensor *const centred_y = mmf_sub(tape, y, mean_y);
    mmf_tensor *power_x = centred_x, *power_y = centred_y;
    mmf_tensor *sum = norm(tape, mmf_sub(tape, mean_x, mean_y));
    for (int k = 2; k <= order; k++) {
        power_x = mmf_mul(tape, power_x, centred_x);
        power_y = mmf_mul(tape, power_y, centred_y);
        mmf_tensor *const moment_x = mmf_row_mean(tape, power_x, at_x);
        mmf_tensor *const moment_y = mmf_row_mean(tape, power_y, at_y);
        sum = mmf_add(tape, sum, norm(tape, mmf_sub(tape, moment_x, moment_y)));
    }
    return sum;
}

/* Centred over the batch, then each row over its length. */
static mmf_tensor *directions(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present)
{
    mmf_tensor *const centred = mmf_centred_rows(tape, x, present);
    mmf_tensor *const fixed = mmf_detach(tape, centred);
    mmf_tensor *const square = mmf_sum(tape, mmf_mul(tape, fixed, fixed), 1);
    mmf_tensor *const length = mmf_affine(tape, mmf_sqrt(tape, square), 1, LENGTH_EPS);
    return mmf_div(tape, centred, mmf_reshape(tape, length, 2, (int64_t[]){-1, 1}));
}

mmf_tensor *mmf_difference_loss(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *present)
{
    mmf_tensor *const product =
        mmf_matmul(tape, directions(tape, x, present), directions(tape, y, present), true, false);
    return mmf_mean(tape, mmf_mul(tape, product, product), MMF_ALL_AXES);
}

mmf_tensor *mmf_row_error(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, mmf_tensor *present)
{
    mmf_tensor *const d = mmf_sub(tape, x, y);
    return mmf_mean(tape, mmf_row_mean(tape, mmf_mul(tape, d, d), present), MMF_ALL_AXES);
}
