/* softmax.c: softmax and log-softmax over the last axis, with masks and a rule for fully masked
 * rows. */
#include <math.h>
#include <string.h>

#include "tensor/broadcast.h"
#include "tensor/heads.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct softmax_node {
    mmf_node node;
    mmf_tensor *x;
    const mmf_real **masks; /* one a row; NULL: nothing masked there, or the table itself is NULL */
    unsigned char *constant; /* rows whose output does not depend on x */
    int64_t width;
} softmax_node;

const mmf_real **mmf_softmax__masks(mmf_tape *tape, const char *op, const mmf_tensor *x,
                                    const mmf_tensor *mask)
{
    mmf_broadcast shape;
    const int64_t width = x->shape[x->n_dims - 1], rows = x->count / width;
    if (!mmf_broadcast__make(&shape, x, mask) || shape.n_dims != x->n_dims || mask->n_dims < 1 ||
        mask->shape[mask->n_dims - 1] != width) {
        mmf_tape__unfit(tape, op, x, mask, "a mask repeats over leading dimensions only");
        return NULL;
    }
    const mmf_real **const masks = mmf_tape__alloc(tape, (size_t)rows * sizeof *masks);
    mmf_broadcast_rows walk;
    mmf_broadcast__start(&shape, &walk);
    for (int64_t r = 0; masks && r < rows; r++) {
        masks[r] = mask->data + walk.offset_b;
        mmf_broadcast__next(&shape, &walk);
    }
    return masks;
}

bool mmf_softmax__row(const mmf_tape *tape, int64_t width, const mmf_real *x, const mmf_real *mask,
                      mmf_empty_row empty, mmf_real *y)
{
    if (tape->k->softmax_row(width, x, mask, y) > 0)
        return false;
    if (empty == MMF_EMPTY_SHIFTED) {
        tape->k->softmax_row(width, x, NULL, y);
        return false;
    }
    tape->k->fill(width, empty == MMF_EMPTY_UNIFORM ? 1 / (mmf_real)width : (mmf_real)0, y);
    return true;
}

/* @return true if row `r` is a constant */
static bool fill_row(const mmf_tape *tape, const softmax_node *s, int64_t r, mmf_empty_row empty,
                     mmf_real *y)
{
    return mmf_softmax__row(tape, s->width, s->x->data + r * s->width,
                            s->masks ? s->masks[r] : NULL, empty, y);
}

static mmf_tensor *prepare(mmf_tape *tape, const char *op, mmf_tensor *x, const mmf_tensor *mask,
                           softmax_node *s, int64_t *rows)
{
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->n_dims < 1 || x->is_int || x->shape[x->n_dims - 1] < 1)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "needs a last axis with at least one element");
    *s = (softmax_node){.x = x, .width = x->shape[x->n_dims - 1]};
    *rows = x->count / s->width;
    if (mask && !(s->masks = mmf_softmax__masks(tape, op, x, mask)))
        return NULL;
    s->constant = mmf_tape__alloc(tape, (size_t)*rows + 1);
    return mmf_tape__tensor(tape, x->n_dims, x->shape);
}

typedef struct rows_job {
    const mmf_tape *tape;
    const softmax_node *s;
    mmf_empty_row empty;
    mmf_real *out;
    mmf_real beta;
} rows_job;

static void softmax_rows(void *argument, int64_t begin, int64_t end)
{
    const rows_job *const j = argument;
    for (int64_t r = begin; r < end; r++)
        j->s->constant[r] = fill_row(j->tape, j->s, r, j->empty, j->out + r * j->s->width);
}

static void softmax_backward_rows(void *argument, int64_t begin, int64_t end)
{
    const rows_job *const j = argument;
    const softmax_node *const s = j->s;
    for (int64_t r = begin; r < end; r++) {
        const int64_t at = r * s->width;
        if (!s->constant[r])
            j->tape->k->softmax_row_grad(s->width, s->node.out->data + at, s->node.out->grad + at,
                                         j->beta, j->out + at);
        else if (j->beta == (mmf_real)0)
            j->tape->k->fill(s->width, 0, j->out + at);
    }
}

static void softmax_backward(mmf_tape *tape, mmf_node *node)
{
    softmax_node *const s = (softmax_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, s->x, &fresh);
    if (!dx)
        return;
    rows_job job = {tape, s, MMF_EMPTY_ZERO, dx, fresh ? 0 : 1};
    mmf_tape__parallel(tape, s->x->count / s->width, mmf_grain(4 * s->width), softmax_backward_rows,
                       &job);
}

mmf_tensor *mmf_softmax(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *mask, mmf_empty_row empty)
{
    static const char op[] = "softmax";
    softmax_node s = {0};
    int64_t rows = 0;
    mmf_tensor *const y = prepare(tape, op, x, mask, &s, &rows);
    if (!y)
        return NULL;
    rows_job job = {tape, &s, empty, y->data, 0};
    mmf_tape__parallel(tape, rows, mmf_grain(4 * s.width), softmax_rows, &job);
    softmax_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, softmax_backward);
    if (node) {
        s.node = node->node;
        *node = s;
    }
    return y;
}

/* ---- Log-softmax ------------------------------------------------------------------------- */

/* dx = dy - softmax sum(dy) over the kept entries, softmax = exp(y). */
static void log_softmax_backward(mmf_tape *tape, mmf_node *node)
{
    softmax_node *const s = (softmax_node *)node;
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, s->x);
    mmf_real *const softmax = dx ? mmf_tape__reals(tape, s->width) : NULL;
    if (!softmax)
        return;
    for (int64_t r = 0; r < s->x->count / s->width; r++) {
        if (s->constant[r])
            continue;
        const mmf_real *const mask = s->masks ? s->masks[r] : NULL;
        const mmf_real *const y = node->out->data + r * s->width, *const dy = node->out->grad +
                                                                              r * s->width;
        double total = 0;
        for (int64_t j = 0; j < s->width; j++)
            total += !mask || mask[j] != (mmf_real)0 ? (double)dy[j] : 0;
        tape->k->unary(MMF_UNARY_EXP, s->width, y, softmax, 0, 0);
        for (int64_t j = 0; j < s->width; j++) {
            if (!mask || mask[j] != (mmf_real)0)
                dx[r * s->width + j] += dy[j] - softmax[j] * (mmf_real)total;
        }
    }
}

mmf_tensor *mmf_log_softmax(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *mask,
                            mmf_empty_row empty)
{
    static const char op[] = "log_softmax";
    softmax_node s = {0};
    int64_t rows = 0;
    mmf_tensor *const y = prepare(tape, op, x, mask, &s, &rows);
    if (!y)
        return NULL;
    for (int64_t r = 0; r < rows; r++) {
        mmf_real *const out = y->data + r * s.width;
        const mmf_real *const in = x->data + r * s.width;
        const mmf_real *row_mask = s.masks ? s.masks[r] : NULL;
        s.constant[r] = fill_row(tape, &s, r, empty, out);
        if (s.constant[r]) {
            tape->k->fill(s.width, empty == MMF_EMPTY_UNIFORM ? (mmf_real)-log((double)s.width) : 0,
                          out);
            continue;
        }
        bool any = !row_mask;
        for (int64_t j = 0; row_mask && j < s.width; j++)
            any = any || row_mask[j] != (mmf_real)0;
        if (!any && s.masks)
            row_mask = s.masks[r] = NULL; /* the shifted rule: the whole row counts */
        /* fill_row left the softmax there: the sum of exponentials follows from its largest value.
         */
        int64_t largest = -1;
        for (int64_t j = 0; j < s.width; j++) {
            if ((!row_mask || row_mask[j] != (mmf_real)0) && (largest < 0 || in[j] > in[largest]))
                largest = j;
        }
        const double shift = (double)in[largest] - log((double)out[largest]);
        for (int64_t j = 0; j < s.width; j++)
            out[j] =
                !row_mask || row_mask[j] != (mmf_real)0 ? (mmf_real)((double)in[j] - shift) : 0;
    }
    softmax_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, log_softmax_backward);
    if (node) {
        s.node = node->node;
        *node = s;
    }
    return y;
}

/* ---- Examples: no mask, a mask a sample, and the three rules with an empty row ------------ */

typedef mmf_tensor *softmax_op(mmf_tape *, mmf_tensor *, const mmf_tensor *, mmf_empty_row);

static mmf_tensor *example(mmf_op_case *c, softmax_op *op)
{
    const int64_t width = 9 * c->scale;
    mmf_tensor *const x = mmf_case_input(c, -3, 3, 3, (int64_t[]){2, 4, width});
    if (c->index == 0)
        return op(c->tape, x, NULL, MMF_EMPTY_ZERO);
    mmf_tensor *const mask = mmf_full(c->tape, 3, (int64_t[]){2, 1, width}, 1);
    for (int64_t j = 0; mask && j < width; j++)
        mask->data[j] = c->index == 1 ? (mmf_real)(j % 3 != 0) : 0;
    static const mmf_empty_row rules[] = {MMF_EMPTY_ZERO, MMF_EMPTY_ZERO, MMF_EMPTY_UNIFORM,
                                          MMF_EMPTY_SHIFTED};
    return op(c->tape, x, mask, rules[c->index - 1]);
}

static mmf_tensor *softmax_example(mmf_op_case *c)
{
    return example(c, mmf_softmax);
}

static mmf_tensor *log_softmax_example(mmf_op_case *c)
{
    return example(c, mmf_log_softmax);
}

const mmf_op mmf_op_softmax = {"softmax", 5, softmax_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_log_softmax = {"log_softmax", 5, log_softmax_example, mmf_flops_elementwise,
                                   true};
