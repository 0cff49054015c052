/* counter.c: see counter.h. */
#include "models/counter.h"

#include <math.h>

#define SEGMENTS 16
/* Of the reference: keep a division by an empty union and a root of zero finite. */
#define UNION_EPS 1e-12
#define ROOT_EPS 1e-20
/* Below every score of a box that is there. */
#define NOWHERE 1e30

mmf_counter mmf_counter_build(mmf_builder *b, const char *name, int64_t objects)
{
    const int64_t n = SEGMENTS + 1;
    /* All ones: a line. The reference starts w_0 at 0, so that f(0) = 0. */
    mmf_init one = mmf_init_constant(1);
    one.zero_row = 0;
    mmf_counter c = {.objects = objects};
    mmf_builder_enter(b, name);
    for (int i = 0; i < MMF_COUNTER_CURVES; i++)
        c.weight[i] = mmf_builder_param(b, mmf_builder_text(b, "f.%d.weight", i), MMF_PARAM_TRAINED,
                                        one, 1, &n);
    mmf_builder_leave(b);
    return c;
}

/* f(x) = w_0 + sum_j w_j clamp(16 x - j + 1, 0, 1), j = 1..16, for the normalised |w|, as x and
 * what the weights add: of many x at an end, the gradients of all w would be one large sum, in
 * which what tells them apart is lost. */
static mmf_tensor *curve(mmf_tape *tape, const mmf_counter *c, int which, mmf_tensor *x)
{
    mmf_tensor *w = mmf_abs(tape, c->weight[which]);
    w = mmf_div(tape, w, mmf_sum(tape, w, MMF_ALL_AXES));
    mmf_tensor *const line = mmf_reshape(tape, x, 2, (int64_t[]){-1, 1});
    mmf_tensor *steps =
        mmf_add(tape, mmf_affine(tape, line, SEGMENTS, 0), mmf_range(tape, SEGMENTS + 1, 1, -1));
    steps = mmf_sub(tape, mmf_clamp(tape, steps, 0, 1), line);
    mmf_tensor *const column = mmf_reshape(tape, w, 2, (int64_t[]){SEGMENTS + 1, 1});
    mmf_tensor *const y = mmf_add(tape, line, mmf_matmul(tape, steps, column, false, false));
    return x ? mmf_reshape(tape, y, x->n_dims, x->shape) : NULL;
}

/* x (B, k) as rows (B, k, 1) or columns (B, 1, k). */
static mmf_tensor *rows_of(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], x->shape[1], 1}) : NULL;
}

static mmf_tensor *columns_of(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], 1, x->shape[1]}) : NULL;
}

static mmf_tensor *side(mmf_tape *tape, mmf_tensor *low, mmf_tensor *high)
{
    return mmf_clamp(tape, mmf_sub(tape, high, low), 0, INFINITY);
}

/* 1 - intersection / union of every pair: (B, k, k). @param boxes (B, k, C) */
static mmf_tensor *distances(mmf_tape *tape, mmf_tensor *boxes)
{
    mmf_tensor *at[4], *low[2], *high[2];
    for (int i = 0; i < 4; i++) {
        mmf_tensor *const one = mmf_slice(tape, boxes, 2, i, 1);
        at[i] = one ? mmf_reshape(tape, one, 2, (int64_t[]){one->shape[0], one->shape[1]}) : NULL;
    }
    for (int i = 0; i < 2; i++) {
        low[i] = mmf_maximum(tape, rows_of(tape, at[i]), columns_of(tape, at[i]));
        high[i] = mmf_minimum(tape, rows_of(tape, at[i + 2]), columns_of(tape, at[i + 2]));
    }
    mmf_tensor *const both =
        mmf_mul(tape, side(tape, low[0], high[0]), side(tape, low[1], high[1]));
    mmf_tensor *const area = mmf_mul(tape, side(tape, at[0], at[2]), side(tape, at[1], at[3]));
    mmf_tensor *any = mmf_add(tape, rows_of(tape, area), columns_of(tape, area));
    any = mmf_affine(tape, mmf_sub(tape, any, both), 1, UNION_EPS);
    return mmf_affine(tape, mmf_div(tape, both, any), -1, 1);
}

/* f_2(1 - |a - b|) */
static mmf_tensor *likeness(mmf_tape *tape, const mmf_counter *c, mmf_tensor *a, mmf_tensor *b)
{
    return curve(tape, c, 2, mmf_affine(tape, mmf_abs(tape, mmf_sub(tape, a, b)), -1, 1));
}

/* How alike two boxes are, in attention and in distance to every box: (B, k, k). */
static mmf_tensor *similarity(mmf_tape *tape, const mmf_counter *c, mmf_tensor *a,
                              mmf_tensor *apart)
{
    mmf_tensor *alike = likeness(tape, c, rows_of(tape, a), columns_of(tape, a));
    for (int64_t k = 0; apart && k < c->objects; k++) {
        mmf_tensor *const one = mmf_reshape(tape, mmf_slice(tape, apart, 2, k, 1), 2,
                                            (int64_t[]){apart->shape[0], apart->shape[1]});
        alike = mmf_mul(tape, alike, likeness(tape, c, rows_of(tape, one), columns_of(tape, one)));
    }
    return alike;
}

/* |f(x) - 1/2|, averaged over all but the batch. */
static mmf_tensor *doubt(mmf_tape *tape, const mmf_counter *c, int which, mmf_tensor *x)
{
    mmf_tensor *const y = mmf_abs(tape, mmf_affine(tape, curve(tape, c, which, x), 1, -0.5));
    return y ? mmf_mean(tape, mmf_reshape(tape, y, 2, (int64_t[]){y->shape[0], -1}), 1) : NULL;
}

mmf_tensor *mmf_counter_run(mmf_tape *tape, const mmf_counter *c, mmf_tensor *boxes,
                            mmf_tensor *scores, mmf_tensor *mask)
{
    if (!boxes || !scores || boxes->n_dims != 3)
        return NULL;
    const int64_t all = scores->count, n = c->objects;
    mmf_tensor *order = mmf_detach(tape, scores), *a = mmf_sigmoid(tape, scores);
    if (mask) { /* where there is no box, the score is minus infinity */
        a = mmf_mul(tape, a, mask);
        order =
            mmf_add(tape, mmf_mul(tape, order, mask), mmf_affine(tape, mask, NOWHERE, -NOWHERE));
    }
    mmf_tensor *const top = mmf_top_rows(tape, order, n);
    a = mmf_index_select(tape, mmf_reshape(tape, a, 1, &all), top); /* (B, k) */
    boxes = mmf_reshape(tape, mmf_detach(tape, boxes), 2, (int64_t[]){all, boxes->shape[2]});
    mmf_tensor *const d = distances(tape, mmf_index_select(tape, boxes, top));
    mmf_tensor *const relevancy = mmf_mul(tape, rows_of(tape, a), columns_of(tape, a));
    mmf_tensor *score = mmf_mul(tape, curve(tape, c, 0, relevancy), curve(tape, c, 1, d));
    mmf_tensor *const apart = mmf_mul(tape, curve(tape, c, 3, relevancy), curve(tape, c, 4, d));
    mmf_tensor *const alike = mmf_sum(tape, similarity(tape, c, a, apart), 2); /* (B, k) */
    score = mmf_div(tape, score, mmf_mul(tape, rows_of(tape, alike), columns_of(tape, alike)));
    mmf_tensor *const self = mmf_div(tape, curve(tape, c, 0, mmf_mul(tape, a, a)), alike);
    mmf_tensor *total =
        mmf_add(tape, mmf_sum(tape, mmf_sum(tape, score, 2), 1), mmf_sum(tape, self, 1));
    total = mmf_sqrt(tape, mmf_affine(tape, total, 1, ROOT_EPS));
    total = mmf_clamp(tape, total, 0, (double)n);
    /* One at a whole number, falling to zero at its neighbours. */
    mmf_tensor *const offset = mmf_sub(tape, mmf_reshape(tape, total, 2, (int64_t[]){-1, 1}),
                                       mmf_range(tape, n + 1, 0, 1));
    mmf_tensor *const bins = mmf_relu(tape, mmf_affine(tape, mmf_abs(tape, offset), -1, 1));
    mmf_tensor *const sure =
        curve(tape, c, 7, mmf_add(tape, doubt(tape, c, 5, a), doubt(tape, c, 6, d)));
    return mmf_mul(tape, bins, mmf_reshape(tape, sure, 2, (int64_t[]){-1, 1}));
}
