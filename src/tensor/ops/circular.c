/*
 * circular.c: circular convolution along the last axis, for any length.
 *
 * What is convolved here are count sketches. Those of short vectors are mostly zeros: direct sums
 * skip them, and exact zeros of the result stay exact, which a Fourier transform's rounding would
 * spoil for the signed square root that follows in compact bilinear pooling. Those of long vectors
 * fill every place of the result, and there transforms are many times faster.
 */
#include "tensor/ops.h"
#include "tensor/tape.h"
#include "tensor/transform.h"

/* Elements that are not 0 in a row, beyond which a transform is faster. */
#define TRANSFORM_LEAST 256
/* Pairs of such elements for each place of the result, so that hardly one stays empty. */
#define PAIRS_A_PLACE 4

typedef struct circular_node {
    mmf_node node;
    mmf_tensor *a, *b;
    bool transforms;
} circular_node;

/* One pass over rows: y += shifted copies of `moved`, weighted by the elements of `taps`. */
typedef struct circular_job {
    const mmf_kernels *k;
    int64_t width;
    const mmf_real *moved, *taps;
    mmf_real *y;
    bool forward; /* towards higher indices; backward passes shift the other way */
} circular_job;

/* y[(i + shift) mod D] += tap x[i], with shift = t forward and -t backward. */
static void circular_range(void *argument, int64_t begin, int64_t end)
{
    const circular_job *const job = argument;
    const int64_t d = job->width;
    for (int64_t r = begin; r < end; r++) {
        const mmf_real *const x = job->moved + r * d, *const taps = job->taps + r * d;
        mmf_real *const y = job->y + r * d;
        for (int64_t t = 0; t < d; t++) {
            const int64_t shift = job->forward ? t : (d - t) % d;
            if (taps[t] == 0)
                continue;
            job->k->axpby(d - shift, taps[t], x, 1, y + shift);
            job->k->axpby(shift, taps[t], x + d - shift, 1, y);
        }
    }
}

static void accumulate(mmf_tape *tape, const mmf_real *moved, const mmf_real *taps, mmf_real *y,
                       bool forward, int64_t rows, int64_t width)
{
    circular_job job = {tape->k, width, moved, taps, y, forward};
    mmf_tape__parallel(tape, rows, mmf_grain(width * 16), circular_range, &job);
}

static double share_of_others(const mmf_tensor *x)
{
    int64_t count = 0;
    for (int64_t i = 0; i < x->count; i++)
        count += x->data[i] != (mmf_real)0;
    return x->count > 0 ? (double)count / (double)x->count : 0;
}

static bool suits_transform(const mmf_tensor *a, const mmf_tensor *b)
{
    const double width = (double)a->shape[1];
    const double n_a = share_of_others(a) * width, n_b = share_of_others(b) * width;
    return n_a >= TRANSFORM_LEAST && n_b >= TRANSFORM_LEAST && n_a * n_b >= PAIRS_A_PLACE * width;
}

/* y[j] = sum_i a[i] b[j - i]: da[i] = sum_j b[j - i] dy[j] = sum_t b[t] dy[i + t], b likewise. */
static void circular_backward(mmf_tape *tape, mmf_node *node)
{
    circular_node *const n = (circular_node *)node;
    const mmf_real *const dy = node->out->grad;
    const int64_t width = n->a->shape[1], rows = n->a->shape[0];
    mmf_real *const da = mmf_tape__grad_zeroed(tape, n->a);
    mmf_real *const db = mmf_tape__grad_zeroed(tape, n->b);
    if (n->transforms &&
        mmf_transform_convolve_back(tape, rows, width, n->a->data, n->b->data, dy, da, db))
        return;
    if (da)
        accumulate(tape, dy, n->b->data, da, false, rows, width);
    if (db)
        accumulate(tape, dy, n->a->data, db, false, rows, width);
}

mmf_tensor *mmf_circular_convolution(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    static const char op[] = "circular_convolution";
    if (!a || !b)
        return mmf_tape__missing(tape, op);
    if (a->is_int || b->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    if (a->n_dims != 2 || !mmf_tensor__same_shape(a, b))
        return mmf_tape__unfit(tape, op, a, b, "two matrices of equal shape");
    mmf_tensor *const y = mmf_full(tape, 2, a->shape, 0);
    if (!y)
        return NULL;
    const bool transforms =
        suits_transform(a, b) &&
        mmf_transform_convolve(tape, a->shape[0], a->shape[1], a->data, b->data, y->data);
    if (!transforms)
        accumulate(tape, a->data, b->data, y->data, true, a->shape[0], a->shape[1]);
    const bool wants = a->wants_grad || b->wants_grad;
    circular_node *const n = mmf_tape__record(tape, sizeof *n, op, y, wants, circular_backward);
    if (n) {
        n->a = a;
        n->b = b;
        n->transforms = transforms;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *circular_convolution_example(mmf_op_case *c)
{
    const int64_t shape[] = {3, (c->index ? 8 : 7) * c->scale};
    mmf_tensor *const a = mmf_case_input(c, -2, 2, 2, shape);
    return mmf_circular_convolution(c->tape, a,
                                    c->index == 2 ? a : mmf_case_input(c, -2, 2, 2, shape));
}

static double circular_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)c;
    return 2 * (double)out->count * (double)out->shape[1];
}

const mmf_op mmf_op_circular_convolution = {"circular_convolution", 3, circular_convolution_example,
                                            circular_flops, true};
