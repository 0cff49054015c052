/* binary.c: element-wise arithmetic of two tensors with broadcasting. */
#include "tensor/broadcast.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct binary_node {
    mmf_node node;
    mmf_binary f;
    mmf_tensor *a, *b;
    bool same_shape;
    mmf_broadcast shape; /* meaningful unless same_shape */
} binary_node;

typedef struct binary_job {
    const mmf_tape *tape;
    mmf_binary f;
    int side;
    const mmf_real *a, *b, *dy;
    mmf_real *out;
    mmf_real beta;
} binary_job;

static void forward_range(void *argument, int64_t begin, int64_t end)
{
    const binary_job *const j = argument;
    j->tape->k->binary(j->f, 1, end - begin, j->a + begin, 0, 1, j->b + begin, 0, 1,
                       j->out + begin);
}

static void backward_range(void *argument, int64_t begin, int64_t end)
{
    const binary_job *const j = argument;
    j->tape->k->binary_grad(j->f, j->side, end - begin, j->a + begin, j->b + begin, j->dy + begin,
                            j->out + begin, j->beta);
}

static void forward_broadcast(const mmf_tape *tape, mmf_binary f, const mmf_broadcast *shape,
                              const mmf_tensor *a, const mmf_tensor *b, mmf_real *y)
{
    const int last = shape->n_dims - 1;
    const int a_col = last >= 0 && shape->stride_a[last] != 0,
              b_col = last >= 0 && shape->stride_b[last] != 0;
    mmf_broadcast_rows rows;
    mmf_broadcast__start(shape, &rows);
    if (shape->n_dims == 2) { /* the usual case, one kernel call */
        tape->k->binary(f, rows.n_rows, rows.n_cols, a->data, shape->stride_a[0], a_col, b->data,
                        shape->stride_b[0], b_col, y);
        return;
    }
    for (int64_t i = 0; i < rows.n_rows; i++, y += rows.n_cols) {
        tape->k->binary(f, 1, rows.n_cols, a->data + rows.offset_a, 0, a_col,
                        b->data + rows.offset_b, 0, b_col, y);
        mmf_broadcast__next(shape, &rows);
    }
}

/* Repeats a tensor to the full shape, so that one kernel serves the gradient of every operation. */
static const mmf_real *expanded(mmf_tape *tape, const binary_node *n, int side)
{
    const mmf_tensor *const x = side ? n->b : n->a;
    const int64_t full_count = n->node.out->count;
    if (x->count == full_count)
        return x->data;
    mmf_real *const full = mmf_tape__reals(tape, full_count);
    if (!full)
        return NULL;
    mmf_broadcast walk = n->shape;
    for (int d = 0; d < walk.n_dims; d++)
        walk.stride_b[d] = side ? n->shape.stride_b[d] : n->shape.stride_a[d];
    mmf_broadcast_rows rows;
    mmf_broadcast__start(&walk, &rows);
    const int64_t col_stride = walk.stride_b[walk.n_dims - 1];
    for (int64_t i = 0; i < rows.n_rows; i++) {
        const mmf_real *const from = x->data + rows.offset_b;
        if (col_stride)
            tape->k->axpby(rows.n_cols, 1, from, 0, full + i * rows.n_cols);
        else
            tape->k->fill(rows.n_cols, *from, full + i * rows.n_cols);
        mmf_broadcast__next(&walk, &rows);
    }
    return full;
}

static void grad_of_side(mmf_tape *tape, binary_node *n, int side)
{
    mmf_tensor *const x = side ? n->b : n->a;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, x, &fresh);
    if (!dx)
        return;
    const mmf_real beta = fresh ? 0 : 1;
    const int64_t count = n->node.out->count;
    binary_job job = {tape, n->f, side, n->a->data, n->b->data, n->node.out->grad, dx, beta};
    if (n->same_shape) {
        mmf_tape__parallel(tape, count, mmf_grain(1), backward_range, &job);
        return;
    }
    const bool needs_values = n->f != MMF_BINARY_ADD && n->f != MMF_BINARY_SUB;
    if (needs_values) {
        job.a = expanded(tape, n, 0);
        job.b = expanded(tape, n, 1);
    }
    const bool direct = x->count == count;
    job.out = direct ? dx : mmf_tape__reals(tape, count);
    job.beta = direct ? beta : 0;
    if (!job.a || !job.b || !job.out)
        return;
    backward_range(&job, 0, count);
    if (!direct)
        mmf_broadcast__reduce(tape, &n->shape, side ? n->shape.stride_b : n->shape.stride_a,
                              job.out, beta, dx, x->count);
}

static void binary_backward(mmf_tape *tape, mmf_node *node)
{
    binary_node *const n = (binary_node *)node;
    grad_of_side(tape, n, 0);
    grad_of_side(tape, n, 1);
}

static mmf_tensor *apply(mmf_tape *tape, const char *op, mmf_binary f, mmf_tensor *a, mmf_tensor *b)
{
    if (!a || !b)
        return mmf_tape__missing(tape, op);
    if (a->is_int || b->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    const bool same = mmf_tensor__same_shape(a, b);
    mmf_broadcast shape = {0};
    if (!same && !mmf_broadcast__make(&shape, a, b))
        return mmf_tape__unfit(tape, op, a, b, "dimensions must be equal or 1");
    mmf_tensor *const y =
        mmf_tape__tensor(tape, same ? a->n_dims : shape.n_dims, same ? a->shape : shape.shape);
    if (!y)
        return NULL;
    if (same) {
        binary_job job = {.tape = tape, .f = f, .a = a->data, .b = b->data, .out = y->data};
        mmf_tape__parallel(tape, y->count, mmf_grain(1), forward_range, &job);
    } else {
        forward_broadcast(tape, f, &shape, a, b, y->data);
    }
    const bool wants = a->wants_grad || b->wants_grad;
    binary_node *const n = mmf_tape__record(tape, sizeof *n, op, y, wants, binary_backward);
    if (n) {
        n->f = f;
        n->a = a;
        n->b = b;
        n->same_shape = same;
        if (!same)
            n->shape = shape;
    }
    return y;
}

mmf_tensor *mmf_add(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "add", MMF_BINARY_ADD, a, b);
}

mmf_tensor *mmf_sub(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "sub", MMF_BINARY_SUB, a, b);
}

mmf_tensor *mmf_mul(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "mul", MMF_BINARY_MUL, a, b);
}

mmf_tensor *mmf_div(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "div", MMF_BINARY_DIV, a, b);
}

mmf_tensor *mmf_maximum(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "maximum", MMF_BINARY_MAX, a, b);
}

mmf_tensor *mmf_minimum(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    return apply(tape, "minimum", MMF_BINARY_MIN, a, b);
}

/* ---- Examples: equal shapes, a row, a column, a scalar, both repeated, three dimensions ---- */

enum { N_LAYOUTS = 6 };

typedef mmf_tensor *binary_op(mmf_tape *, mmf_tensor *, mmf_tensor *);

static mmf_tensor *example(mmf_op_case *c, binary_op *op)
{
    static const struct {
        int dims_a, dims_b;
        int64_t a[4], b[4];
    } layouts[N_LAYOUTS] = {
        {2, 2, {5, 19}, {5, 19}}, {2, 1, {5, 19}, {19}},        {2, 2, {5, 1}, {5, 19}},
        {2, 1, {5, 19}, {1}},     {3, 3, {4, 1, 7}, {1, 3, 7}}, {4, 3, {2, 3, 4, 5}, {3, 4, 1}},
    };
    const int l = c->index;
    int64_t a_shape[4], b_shape[4];
    for (int d = 0; d < 4; d++) {
        a_shape[d] = layouts[l].a[d];
        b_shape[d] = layouts[l].b[d];
    }
    if (l == 0) {
        a_shape[0] *= c->scale;
        b_shape[0] *= c->scale;
    }
    /* Ranges that do not meet keep maximum and minimum away from ties, and divisors away from 0. */
    mmf_tensor *const a = mmf_case_input(c, -2, 2, layouts[l].dims_a, a_shape);
    mmf_tensor *const b =
        mmf_case_input(c, l % 2 ? 0.5 : 2.5, l % 2 ? 1.5 : 3.5, layouts[l].dims_b, b_shape);
    return op(c->tape, a, b);
}

static mmf_tensor *add_example(mmf_op_case *c)
{
    return example(c, mmf_add);
}

static mmf_tensor *sub_example(mmf_op_case *c)
{
    return example(c, mmf_sub);
}

static mmf_tensor *mul_example(mmf_op_case *c)
{
    return example(c, mmf_mul);
}

static mmf_tensor *div_example(mmf_op_case *c)
{
    return example(c, mmf_div);
}

static mmf_tensor *maximum_example(mmf_op_case *c)
{
    return example(c, mmf_maximum);
}

static mmf_tensor *minimum_example(mmf_op_case *c)
{
    return example(c, mmf_minimum);
}

const mmf_op mmf_op_add = {"add", N_LAYOUTS, add_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_sub = {"sub", N_LAYOUTS, sub_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_mul = {"mul", N_LAYOUTS, mul_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_div = {"div", N_LAYOUTS, div_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_maximum = {"maximum", N_LAYOUTS, maximum_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_minimum = {"minimum", N_LAYOUTS, minimum_example, mmf_flops_elementwise, true};
