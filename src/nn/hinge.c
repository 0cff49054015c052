/* hinge.c: see hinge.h. */
#include "nn/hinge.h"

mmf_hinge mmf_hinge_losses(mmf_tape *tape, mmf_tensor *s, mmf_tensor *both, double margin)
{
    const int64_t n = s ? s->shape[0] : 1;
    mmf_tensor *const eye = mmf_identity(tape, n);
    mmf_tensor *const pairs = mmf_sum(tape, mmf_mul(tape, s, eye), 1);
    mmf_tensor *const own_row = mmf_reshape(tape, pairs, 2, (int64_t[]){n, 1});
    mmf_tensor *const own_column = mmf_reshape(tape, pairs, 2, (int64_t[]){1, n});
    mmf_tensor *off = mmf_affine(tape, eye, -1, 1);
    if (both)
        off = mmf_mul(tape, off, mmf_matmul(tape, both, both, false, true));
    mmf_tensor *const raised = mmf_affine(tape, s, 1, margin);
    mmf_tensor *const rows = mmf_mul(tape, mmf_relu(tape, mmf_sub(tape, raised, own_row)), off);
    mmf_tensor *const columns =
        mmf_mul(tape, mmf_relu(tape, mmf_sub(tape, raised, own_column)), off);
    const mmf_hinge hinge = {.sum = mmf_sum(tape, mmf_add(tape, rows, columns), MMF_ALL_AXES),
                             .max =
                                 mmf_add(tape, mmf_sum(tape, mmf_max(tape, rows, 1), MMF_ALL_AXES),
                                         mmf_sum(tape, mmf_max(tape, columns, 0), MMF_ALL_AXES))};
    return hinge;
}

mmf_tensor *mmf_order_similarity(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    if (!a || !b)
        return mmf_sub(tape, a, b);
    const int64_t n = a->shape[0], d = a->shape[1];
    mmf_tensor *const from = mmf_reshape(tape, a, 3, (int64_t[]){n, 1, d});
    mmf_tensor *const to = mmf_reshape(tape, b, 3, (int64_t[]){1, b->shape[0], d});
    mmf_tensor *const above = mmf_relu(tape, mmf_sub(tape, to, from));
    mmf_tensor *const squares = mmf_sum(tape, mmf_mul(tape, above, above), -1);
    return mmf_affine(tape, mmf_signed_sqrt(tape, squares), -1, 0);
}
