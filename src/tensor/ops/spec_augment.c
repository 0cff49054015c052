/*
 * spec_augment.c: random bands of features and spans of time are set to zero.
 *
 * Park et al., SpecAugment, Interspeech 2019, arXiv:1904.08779, without the time warp. The paper
 * fills masks with the mean of the recording, which for normalised features is zero.
 */
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct augment_node {
    mmf_node node;
    mmf_tensor *x;
    const mmf_tensor *length;
    uint64_t stream;
    mmf_augment_options options;
} augment_node;

/* Draws of one row, so that no row depends on the others. */
#define DRAWS_A_ROW ((uint64_t)1 << 20)

typedef struct band {
    int64_t first, count;
} band;

/* A span of up to `most` of `all`, as long as there is room behind its beginning. */
static band draw_band(mmf_rng *rng, int64_t most, int64_t all)
{
    const int64_t limit = most < all ? most : all;
    band b = {0, (int64_t)mmf_rng_below(rng, (uint64_t)limit + 1)};
    b.first = (int64_t)mmf_rng_below(rng, (uint64_t)(all - b.count) + 1);
    return b;
}

static void mask_row(mmf_rng *rng, const mmf_augment_options *o, int64_t n_valid, int64_t width,
                     mmf_real *row)
{
    for (int64_t i = 0; i < o->n_feature_masks; i++) {
        const band f = draw_band(rng, o->feature_span, width);
        for (int64_t t = 0; t < n_valid; t++) {
            for (int64_t k = 0; k < f.count; k++)
                row[t * width + f.first + k] = 0;
        }
    }
    const int64_t share = (int64_t)(o->time_share * (double)n_valid);
    const int64_t most = o->time_span < share ? o->time_span : share;
    for (int64_t i = 0; i < o->n_time_masks; i++) {
        const band t = draw_band(rng, most, n_valid);
        for (int64_t k = 0; k < t.count * width; k++)
            row[t.first * width + k] = 0;
    }
}

/* Zeroes the masked elements of values or gradients of x's shape. */
static void mask_all(const mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *length,
                     const mmf_augment_options *o, uint64_t stream, mmf_real *values)
{
    const int64_t n_steps = x->shape[1], width = x->shape[2];
    for (int64_t b = 0; b < x->shape[0]; b++) {
        mmf_rng rng = mmf_rng_make(tape->pass.seed, stream);
        rng.counter = (uint64_t)b * DRAWS_A_ROW;
        const int64_t n_valid = length ? length->ints[b] : n_steps;
        mask_row(&rng, o, n_valid, width, values + b * n_steps * width);
    }
}

static void augment_backward(mmf_tape *tape, mmf_node *node)
{
    augment_node *const a = (augment_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, a->x, &fresh);
    mmf_real *const masked = dx && !fresh ? mmf_tape__reals(tape, a->x->count) : dx;
    if (!masked)
        return;
    tape->k->axpby(a->x->count, 1, node->out->grad, 0, masked);
    mask_all(tape, a->x, a->length, &a->options, a->stream, masked);
    if (!fresh)
        tape->k->axpby(a->x->count, 1, masked, 1, dx);
}

static bool lengths_fit(const mmf_tensor *length, int64_t n_rows, int64_t n_steps)
{
    if (!length)
        return true;
    bool fit = length->is_int && length->count == n_rows;
    for (int64_t b = 0; fit && b < n_rows; b++)
        fit = length->ints[b] >= 0 && length->ints[b] <= n_steps;
    return fit;
}

mmf_tensor *mmf_spec_augment(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *length,
                             const mmf_augment_options *o)
{
    static const char op[] = "spec_augment";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != 3 || x->is_int)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "expected reals (B, T, D)");
    if (!lengths_fit(length, x->shape[0], x->shape[1]))
        return mmf_tape__fail(tape, MMF_ARG, op, "lengths must be (%lld) integers of 0 to %lld",
                              (long long)x->shape[0], (long long)x->shape[1]);
    const uint64_t stream = mmf_tape__stream(tape);
    if (!tape->pass.training || (o->n_feature_masks == 0 && o->n_time_masks == 0))
        return x;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    if (!y)
        return NULL;
    tape->k->axpby(x->count, 1, x->data, 0, y->data);
    mask_all(tape, x, length, o, stream, y->data);
    augment_node *const a =
        mmf_tape__record(tape, sizeof *a, op, y, x->wants_grad, augment_backward);
    if (a) {
        a->x = x;
        a->length = length;
        a->stream = stream;
        a->options = *o;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *augment_example(mmf_op_case *c)
{
    static const mmf_augment_options options[] = {
        {.n_feature_masks = 2,
         .feature_span = 3,
         .n_time_masks = 2,
         .time_span = 4,
         .time_share = 1},
        {.n_time_masks = 1, .time_span = 9, .time_share = .5},
    };
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 3, (int64_t[]){4 * c->scale, 9, 7});
    mmf_tensor *const length =
        c->index ? mmf_case_ints(c, 1, 10, 1, (int64_t[]){4 * c->scale}) : NULL;
    return mmf_spec_augment(c->tape, x, length, &options[c->index]);
}

const mmf_op mmf_op_spec_augment = {"spec_augment", 2, augment_example, mmf_flops_elementwise,
                                    true};
