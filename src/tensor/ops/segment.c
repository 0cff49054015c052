/* segment.c: operations on the rows of a list that belong together, such as the edges into a node.
 */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct segment_node {
    mmf_node node;
    mmf_tensor *x;
    const mmf_tensor *index;
    int64_t n_segments;
} segment_node;

/* dx = y (dy - sum of y dy over the segment), column by column. */
static void softmax_backward(mmf_tape *tape, mmf_node *node)
{
    const segment_node *const n = (const segment_node *)node;
    const mmf_tensor *const y = node->out;
    const int64_t rows = n->index->count, width = rows > 0 ? y->count / rows : 1;
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, n->x);
    double *const sum = mmf_tape__alloc(tape, (size_t)(n->n_segments * width + 1) * sizeof *sum);
    if (!dx || !sum)
        return;
    for (int64_t i = 0; i < n->n_segments * width; i++)
        sum[i] = 0;
    for (int64_t e = 0; e < y->count; e++)
        sum[n->index->ints[e / width] * width + e % width] += (double)(y->data[e] * y->grad[e]);
    for (int64_t e = 0; e < y->count; e++) {
        const double mean = sum[n->index->ints[e / width] * width + e % width];
        dx[e] += (mmf_real)((double)y->data[e] * ((double)y->grad[e] - mean));
    }
}

static bool fits(mmf_tape *tape, const char *op, const mmf_tensor *x, const mmf_tensor *index,
                 int64_t n_segments)
{
    if (x->is_int || !index->is_int || x->n_dims < 1 || index->count != x->shape[0] ||
        n_segments < 1) {
        mmf_tape__unfit(tape, op, x, index, "one integer a row");
        return false;
    }
    for (int64_t i = 0; i < index->count; i++) {
        if (index->ints[i] < 0 || index->ints[i] >= n_segments) {
            mmf_tape__fail(tape, MMF_ARG, op, "row %lld is of segment %lld, but there are %lld",
                           (long long)i, (long long)index->ints[i], (long long)n_segments);
            return false;
        }
    }
    return true;
}

mmf_tensor *mmf_segment_softmax(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *index,
                                int64_t n_segments)
{
    static const char op[] = "segment_softmax";
    if (!x || !index)
        return mmf_tape__missing(tape, op);
    if (!fits(tape, op, x, index, n_segments))
        return NULL;
    const int64_t rows = index->count, width = rows > 0 ? x->count / rows : 1;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    mmf_real *const most = mmf_tape__reals(tape, n_segments * width + 1);
    double *const sum = mmf_tape__alloc(tape, (size_t)(n_segments * width + 1) * sizeof *sum);
    if (!y || !most || !sum)
        return NULL;
    for (int64_t i = 0; i < n_segments * width; i++) {
        most[i] = -INFINITY;
        sum[i] = 0;
    }
    for (int64_t e = 0; e < x->count; e++) {
        mmf_real *const m = &most[index->ints[e / width] * width + e % width];
        *m = x->data[e] > *m ? x->data[e] : *m;
    }
    for (int64_t e = 0; e < x->count; e++) {
        const int64_t at = index->ints[e / width] * width + e % width;
        y->data[e] = (mmf_real)exp((double)(x->data[e] - most[at]));
        sum[at] += (double)y->data[e];
    }
    for (int64_t e = 0; e < x->count; e++)
        y->data[e] /= (mmf_real)sum[index->ints[e / width] * width + e % width];
    segment_node *const n =
        mmf_tape__record(tape, sizeof *n, op, y, x->wants_grad, softmax_backward);
    if (n) {
        n->x = x;
        n->index = index;
        n->n_segments = n_segments;
    }
    return y;
}

mmf_tensor *mmf_segments(mmf_tape *tape, const mmf_tensor *counts, int64_t total)
{
    static const char op[] = "segments";
    if (!counts)
        return mmf_tape__missing(tape, op);
    if (!counts->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes integers");
    int64_t *const rows = mmf_tape__alloc(tape, ((size_t)total + 1) * sizeof *rows);
    int64_t at = 0;
    for (int64_t i = 0; rows && i < counts->count; i++) {
        if (counts->ints[i] < 0 || counts->ints[i] > total - at)
            return mmf_tape__fail(tape, MMF_ARG, op, "count %lld is %lld, but %lld of %lld remain",
                                  (long long)i, (long long)counts->ints[i], (long long)(total - at),
                                  (long long)total);
        for (int64_t k = 0; k < counts->ints[i]; k++)
            rows[at++] = i;
    }
    if (rows && at != total)
        return mmf_tape__fail(tape, MMF_ARG, op, "the counts sum to %lld, expected %lld",
                              (long long)at, (long long)total);
    return rows ? mmf_input_ints(tape, rows, 1, &total) : NULL;
}

/* One segment has a single row in some draws and none in others. */
static mmf_tensor *segment_softmax_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 2, (int64_t[]){9 * c->scale, 3});
    return mmf_segment_softmax(c->tape, x, mmf_case_ints(c, 0, 4, 1, (int64_t[]){9 * c->scale}), 4);
}

const mmf_op mmf_op_segment_softmax = {"segment_softmax", 1, segment_softmax_example,
                                       mmf_flops_elementwise, true};
