/* broadcast.c: see broadcast.h. */
#include "tensor/broadcast.h"

#include <string.h>

bool mmf_broadcast__make(mmf_broadcast *out, const mmf_tensor *a, const mmf_tensor *b)
{
    *out = (mmf_broadcast){.n_dims = a->n_dims > b->n_dims ? a->n_dims : b->n_dims};
    int64_t step_a = 1, step_b = 1;
    for (int d = out->n_dims - 1; d >= 0; d--) {
        const int da = d - (out->n_dims - a->n_dims), db = d - (out->n_dims - b->n_dims);
        const int64_t size_a = da >= 0 ? a->shape[da] : 1, size_b = db >= 0 ? b->shape[db] : 1;
        if (size_a != size_b && size_a != 1 && size_b != 1)
            return false;
        out->shape[d] = size_a == 1 ? size_b : size_a;
        out->stride_a[d] = size_a == 1 ? 0 : step_a;
        out->stride_b[d] = size_b == 1 ? 0 : step_b;
        step_a *= size_a;
        step_b *= size_b;
    }
    return true;
}

void mmf_broadcast__start(const mmf_broadcast *shape, mmf_broadcast_rows *rows)
{
    *rows = (mmf_broadcast_rows){.n_rows = 1, .n_cols = 1};
    if (shape->n_dims > 0)
        rows->n_cols = shape->shape[shape->n_dims - 1];
    for (int d = 0; d < shape->n_dims - 1; d++)
        rows->n_rows *= shape->shape[d];
}

void mmf_broadcast__next(const mmf_broadcast *shape, mmf_broadcast_rows *rows)
{
    for (int d = shape->n_dims - 2; d >= 0; d--) {
        rows->offset_a += shape->stride_a[d];
        rows->offset_b += shape->stride_b[d];
        if (++rows->index[d] < shape->shape[d])
            return;
        rows->offset_a -= shape->stride_a[d] * shape->shape[d];
        rows->offset_b -= shape->stride_b[d] * shape->shape[d];
        rows->index[d] = 0;
    }
}

void mmf_broadcast__reduce(const mmf_tape *tape, const mmf_broadcast *shape, const int64_t *stride,
                           const mmf_real *full, mmf_real beta, mmf_real *out, int64_t count)
{
    mmf_broadcast walk = *shape;
    memcpy(walk.stride_a, stride, sizeof walk.stride_a);
    mmf_broadcast_rows rows;
    mmf_broadcast__start(&walk, &rows);
    const int64_t col_stride = walk.n_dims > 0 ? walk.stride_a[walk.n_dims - 1] : 0;
    if (count == rows.n_cols && col_stride == 1) { /* one row that all rows share: a bias */
        tape->k->column_sum(rows.n_rows, rows.n_cols, 1, full, beta, out);
        return;
    }
    if (beta == (mmf_real)0)
        memset(out, 0, (size_t)count * sizeof *out);
    for (int64_t i = 0; i < rows.n_rows; i++, full += rows.n_cols) {
        mmf_real *const target = out + rows.offset_a;
        if (col_stride == 0)
            *target += tape->k->sum(rows.n_cols, full);
        else
            tape->k->axpby(rows.n_cols, 1, full, 1, target);
        mmf_broadcast__next(&walk, &rows);
    }
}
