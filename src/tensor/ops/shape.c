/* shape.c: operations that move elements without changing them. */
#include <string.h>

#include "tensor/broadcast.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

static void add_or_copy(const mmf_tape *tape, int64_t n, const mmf_real *from, bool fresh,
                        mmf_real *to)
{
    if (fresh)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        tape->k->axpby(n, 1, from, 1, to);
}

/* ---- Reshape ----------------------------------------------------------------------------- */

typedef struct reshape_node {
    mmf_node node;
    mmf_tensor *x;
} reshape_node;

static void reshape_backward(mmf_tape *tape, mmf_node *node)
{
    reshape_node *const r = (reshape_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, r->x, &fresh);
    if (dx)
        add_or_copy(tape, r->x->count, node->out->grad, fresh, dx);
}

mmf_tensor *mmf_reshape(mmf_tape *tape, mmf_tensor *x, int n_dims, const int64_t *shape)
{
    static const char op[] = "reshape";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (n_dims < 1 || n_dims > MMF_MAX_DIMS)
        return mmf_tape__fail(tape, MMF_LIMIT, op, "%d dimensions, at most %d", n_dims,
                              MMF_MAX_DIMS);
    int64_t resolved[MMF_MAX_DIMS], known = 1;
    int open = -1;
    for (int d = 0; d < n_dims; d++) {
        resolved[d] = shape[d];
        if (shape[d] == -1 && open < 0)
            open = d;
        else
            known *= shape[d];
    }
    if (open >= 0)
        resolved[open] = known > 0 ? x->count / known : 0;
    if (known * (open >= 0 ? resolved[open] : 1) != x->count) {
        char from[96], to[96];
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%s does not hold the elements of %s",
                              mmf_shape_text(to, sizeof to, shape, n_dims),
                              mmf_shape_text(from, sizeof from, x->shape, x->n_dims));
    }
    mmf_tensor *const y = mmf_input(tape, x->data, n_dims, resolved);
    if (!y)
        return NULL;
    y->is_int = x->is_int;
    reshape_node *const r =
        mmf_tape__record(tape, sizeof *r, op, y, x->wants_grad, reshape_backward);
    if (r)
        r->x = x;
    return y;
}

/* ---- Concat ------------------------------------------------------------------------------ */

typedef struct concat_node {
    mmf_node node;
    mmf_tensor **parts;
    int n_parts;
    int64_t outer, inner;
    int axis;
} concat_node;

static void concat_backward(mmf_tape *tape, mmf_node *node)
{
    concat_node *const c = (concat_node *)node;
    const int64_t total = node->out->shape[c->axis] * c->inner;
    int64_t offset = 0;
    for (int i = 0; i < c->n_parts; i++) {
        const int64_t width = c->parts[i]->shape[c->axis] * c->inner;
        bool fresh = false;
        mmf_real *const dx = mmf_tape__grad(tape, c->parts[i], &fresh);
        for (int64_t o = 0; dx && o < c->outer; o++)
            add_or_copy(tape, width, node->out->grad + o * total + offset, fresh, dx + o * width);
        offset += width;
    }
}

mmf_tensor *mmf_concat(mmf_tape *tape, mmf_tensor *const *parts, int n_parts, int axis)
{
    static const char op[] = "concat";
    if (n_parts < 1 || !parts[0])
        return mmf_tape__missing(tape, op);
    const int d = mmf_tape__axis(parts[0], axis);
    if (d < 0)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "axis %d of %d dimensions", axis,
                              parts[0]->n_dims);
    int64_t shape[MMF_MAX_DIMS];
    bool wants = false;
    memcpy(shape, parts[0]->shape, sizeof shape);
    shape[d] = 0;
    for (int i = 0; i < n_parts; i++) {
        if (!parts[i])
            return mmf_tape__missing(tape, op);
        bool fits = parts[i]->n_dims == parts[0]->n_dims && !parts[i]->is_int;
        for (int e = 0; fits && e < parts[0]->n_dims; e++)
            fits = e == d || parts[i]->shape[e] == shape[e];
        if (!fits)
            return mmf_tape__unfit(tape, op, parts[0], parts[i],
                                   "all but the joined axis must be equal");
        shape[d] += parts[i]->shape[d];
        wants = wants || parts[i]->wants_grad;
    }
    mmf_tensor *const y = mmf_tape__tensor(tape, parts[0]->n_dims, shape);
    if (!y)
        return NULL;
    const int64_t outer = mmf_tensor__outer(y, d), inner = mmf_tensor__inner(y, d),
                  total = shape[d] * inner;
    int64_t offset = 0;
    for (int i = 0; i < n_parts; i++) {
        const int64_t width = parts[i]->shape[d] * inner;
        for (int64_t o = 0; o < outer; o++)
            memcpy(y->data + o * total + offset, parts[i]->data + o * width,
                   (size_t)width * sizeof *y->data);
        offset += width;
    }
    concat_node *const c = mmf_tape__record(tape, sizeof *c, op, y, wants, concat_backward);
    if (c) {
        c->parts = mmf_tape__alloc(tape, (size_t)n_parts * sizeof(mmf_tensor *));
        if (!c->parts)
            return NULL;
        for (int i = 0; i < n_parts; i++)
            c->parts[i] = parts[i];
        c->n_parts = n_parts;
        c->outer = outer;
        c->inner = inner;
        c->axis = d;
    }
    return y;
}

mmf_tensor *mmf_stack(mmf_tape *tape, mmf_tensor *const *parts, int n_parts, int axis)
{
    static const char op[] = "stack";
    if (n_parts < 1 || !parts[0])
        return mmf_tape__missing(tape, op);
    mmf_tensor **const raised = mmf_tape__alloc(tape, (size_t)n_parts * sizeof *raised);
    if (!raised)
        return NULL;
    const int d = axis < 0 ? axis + parts[0]->n_dims + 1 : axis;
    if (d < 0 || d > parts[0]->n_dims || parts[0]->n_dims + 1 > MMF_MAX_DIMS)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "axis %d of %d dimensions", axis,
                              parts[0]->n_dims + 1);
    for (int i = 0; i < n_parts; i++) {
        if (!parts[i])
            return mmf_tape__missing(tape, op);
        int64_t shape[MMF_MAX_DIMS];
        for (int e = 0; e <= parts[i]->n_dims && e < MMF_MAX_DIMS; e++)
            shape[e] = e < d ? parts[i]->shape[e] : (e == d ? 1 : parts[i]->shape[e - 1]);
        raised[i] = mmf_reshape(tape, parts[i], parts[i]->n_dims + 1, shape);
    }
    return mmf_concat(tape, raised, n_parts, d);
}

/* ---- Slice and pad ----------------------------------------------------------------------- */

typedef struct slice_node {
    mmf_node node;
    mmf_tensor *x;
    int64_t outer, from, width,
        total;   /* elements: offset and width of the piece in a run of `total` */
    bool is_pad; /* the piece is the input, the run the output */
} slice_node;

static void slice_backward(mmf_tape *tape, mmf_node *node)
{
    slice_node *const s = (slice_node *)node;
    if (s->is_pad) {
        bool fresh = false;
        mmf_real *const dx = mmf_tape__grad(tape, s->x, &fresh);
        for (int64_t o = 0; dx && o < s->outer; o++)
            add_or_copy(tape, s->width, node->out->grad + o * s->total + s->from, fresh,
                        dx + o * s->width);
        return;
    }
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, s->x);
    for (int64_t o = 0; dx && o < s->outer; o++)
        tape->k->axpby(s->width, 1, node->out->grad + o * s->width, 1, dx + o * s->total + s->from);
}

static void record_slice(mmf_tape *tape, const char *op, mmf_tensor *x, mmf_tensor *y,
                         slice_node fields)
{
    slice_node *const s = mmf_tape__record(tape, sizeof *s, op, y, x->wants_grad, slice_backward);
    if (s) {
        fields.node = s->node;
        fields.x = x;
        *s = fields;
    }
}

mmf_tensor *mmf_slice(mmf_tape *tape, mmf_tensor *x, int axis, int64_t first, int64_t length)
{
    static const char op[] = "slice";
    if (!x)
        return mmf_tape__missing(tape, op);
    const int d = mmf_tape__axis(x, axis);
    if (d < 0 || first < 0 || length < 0 || first > x->shape[d] - length)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%lld elements from %lld of axis %d with %lld",
                              (long long)length, (long long)first, axis,
                              d < 0 ? 0LL : (long long)x->shape[d]);
    int64_t shape[MMF_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[d] = length;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, shape);
    if (!y)
        return NULL;
    const int64_t inner = mmf_tensor__inner(x, d);
    const slice_node s = {.outer = mmf_tensor__outer(x, d),
                          .from = first * inner,
                          .width = length * inner,
                          .total = x->shape[d] * inner};
    for (int64_t o = 0; o < s.outer; o++)
        memcpy(y->data + o * s.width, x->data + o * s.total + s.from,
               (size_t)s.width * sizeof *y->data);
    record_slice(tape, op, x, y, s);
    return y;
}

mmf_tensor *mmf_pad(mmf_tape *tape, mmf_tensor *x, int axis, int64_t before, int64_t after,
                    double value)
{
    static const char op[] = "pad";
    if (!x)
        return mmf_tape__missing(tape, op);
    const int d = mmf_tape__axis(x, axis);
    if (d < 0 || before < 0 || after < 0)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%lld before and %lld after axis %d",
                              (long long)before, (long long)after, axis);
    int64_t shape[MMF_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[d] += before + after;
    mmf_tensor *const y = mmf_full(tape, x->n_dims, shape, value);
    if (!y)
        return NULL;
    const int64_t inner = mmf_tensor__inner(x, d);
    const slice_node s = {.outer = mmf_tensor__outer(x, d),
                          .from = before * inner,
                          .width = x->shape[d] * inner,
                          .total = shape[d] * inner,
                          .is_pad = true};
    for (int64_t o = 0; o < s.outer; o++)
        memcpy(y->data + o * s.total + s.from, x->data + o * s.width,
               (size_t)s.width * sizeof *y->data);
    record_slice(tape, op, x, y, s);
    return y;
}

/* ---- Permute and expand ------------------------------------------------------------------ */

typedef struct walk_node {
    mmf_node node;
    mmf_tensor *x;
    bool repeats;       /* places of x have several in the output */
    mmf_broadcast walk; /* over the output; stride_a: strides of x */
} walk_node;

/* For each output element in order, its place in x: calls move whole rows where x's last stride
 * is 1. */
static void gather_walk(const walk_node *w, const mmf_real *x, mmf_real *y)
{
    mmf_broadcast_rows rows;
    mmf_broadcast__start(&w->walk, &rows);
    const int64_t stride = w->walk.stride_a[w->walk.n_dims - 1];
    for (int64_t r = 0; r < rows.n_rows; r++, y += rows.n_cols) {
        const mmf_real *const from = x + rows.offset_a;
        if (stride == 1)
            memcpy(y, from, (size_t)rows.n_cols * sizeof *y);
        else
            for (int64_t j = 0; j < rows.n_cols; j++)
                y[j] = from[j * stride];
        mmf_broadcast__next(&w->walk, &rows);
    }
}

static void walk_backward(mmf_tape *tape, mmf_node *node)
{
    walk_node *const w = (walk_node *)node;
    bool fresh = false;
    mmf_real *const dx =
        w->repeats ? mmf_tape__grad_zeroed(tape, w->x) : mmf_tape__grad(tape, w->x, &fresh);
    if (!dx)
        return;
    mmf_broadcast_rows rows;
    mmf_broadcast__start(&w->walk, &rows);
    const int64_t stride = w->walk.stride_a[w->walk.n_dims - 1];
    const mmf_real *dy = node->out->grad;
    for (int64_t r = 0; r < rows.n_rows; r++, dy += rows.n_cols) {
        mmf_real *const to = dx + rows.offset_a;
        if (fresh) {
            for (int64_t j = 0; j < rows.n_cols; j++)
                to[j * stride] = dy[j];
        } else {
            for (int64_t j = 0; j < rows.n_cols; j++)
                to[j * stride] += dy[j];
        }
        mmf_broadcast__next(&w->walk, &rows);
    }
}

static mmf_tensor *walk(mmf_tape *tape, const char *op, mmf_tensor *x, const mmf_broadcast *shape)
{
    walk_node w = {.x = x, .walk = *shape};
    for (int d = 0; d < shape->n_dims; d++)
        w.repeats = w.repeats || (shape->stride_a[d] == 0 && shape->shape[d] > 1);
    mmf_tensor *const y = mmf_tape__tensor(tape, shape->n_dims, shape->shape);
    if (!y)
        return NULL;
    gather_walk(&w, x->data, y->data);
    walk_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, x->wants_grad, walk_backward);
    if (node) {
        w.node = node->node;
        *node = w;
    }
    return y;
}

/* ---- Matrices turned over: permutations that exchange two runs of axes -------------------- */

typedef struct turn_node {
    mmf_node node;
    mmf_tensor *x;
    int64_t n, rows, cols; /* matrices of x */
} turn_node;

typedef struct turn_job {
    int64_t rows, cols;
    const mmf_real *from;
    mmf_real *to;
    bool add;
} turn_job;

/* Tiles, so that what is read a column at a time stays in the cache. */
static void turn_range(void *argument, int64_t begin, int64_t end)
{
    enum { TILE = 16 };
    const turn_job *const j = argument;
    for (int64_t m = begin; m < end; m++) {
        const mmf_real *const from = j->from + m * j->rows * j->cols;
        mmf_real *const to = j->to + m * j->rows * j->cols;
        for (int64_t r0 = 0; r0 < j->rows; r0 += TILE) {
            const int64_t r1 = r0 + TILE < j->rows ? r0 + TILE : j->rows;
            for (int64_t c = 0; c < j->cols; c++) {
                mmf_real *const line = to + c * j->rows;
                for (int64_t r = r0; r < r1; r++)
                    line[r] = (j->add ? line[r] : 0) + from[r * j->cols + c];
            }
        }
    }
}

static void turn(const mmf_tape *tape, int64_t n, turn_job job)
{
    mmf_tape__parallel(tape, n, mmf_grain(2 * job.rows * job.cols), turn_range, &job);
}

static void turn_backward(mmf_tape *tape, mmf_node *node)
{
    turn_node *const t = (turn_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, t->x, &fresh);
    if (dx)
        turn(tape, t->n, (turn_job){t->cols, t->rows, node->out->grad, dx, !fresh});
}

/* Whether the order is that of x with two runs of axes, at the end, exchanged. */
static bool is_turn(const mmf_tensor *x, const int *order, turn_node *t)
{
    int first = 0;
    while (first < x->n_dims && order[first] == first)
        first++;
    if (first == x->n_dims)
        return false;
    const int second = order[first]; /* where the second run begins in x */
    for (int d = first; d < x->n_dims; d++) {
        const int n_second = x->n_dims - second;
        const int wanted = d - first < n_second ? second + d - first : d - n_second;
        if (order[d] != wanted)
            return false;
    }
    t->n = t->rows = t->cols = 1;
    for (int d = 0; d < x->n_dims; d++)
        *(d < first ? &t->n : d < second ? &t->rows : &t->cols) *= x->shape[d];
    return true;
}

static mmf_tensor *turn_over(mmf_tape *tape, const char *op, turn_node *t, const int64_t *shape)
{
    mmf_tensor *const y = mmf_tape__tensor(tape, t->x->n_dims, shape);
    if (!y)
        return NULL;
    turn(tape, t->n, (turn_job){t->rows, t->cols, t->x->data, y->data, false});
    turn_node *const node =
        mmf_tape__record(tape, sizeof *node, op, y, t->x->wants_grad, turn_backward);
    if (node) {
        t->node = node->node;
        *node = *t;
    }
    return y;
}

/* ---- Any permutation --------------------------------------------------------------------- */

mmf_tensor *mmf_permute(mmf_tape *tape, mmf_tensor *x, const int *order)
{
    static const char op[] = "permute";
    if (!x)
        return mmf_tape__missing(tape, op);
    mmf_broadcast shape = {.n_dims = x->n_dims};
    unsigned seen = 0;
    for (int d = 0; d < x->n_dims; d++) {
        if (order[d] < 0 || order[d] >= x->n_dims || (seen >> order[d] & 1))
            return mmf_tape__fail(tape, MMF_ARG, op,
                                  "the order is not a permutation of %d dimensions", x->n_dims);
        seen |= 1u << order[d];
        shape.shape[d] = x->shape[order[d]];
        shape.stride_a[d] = mmf_tensor__inner(x, order[d]);
    }
    turn_node t = {.x = x};
    if (!x->is_int && is_turn(x, order, &t))
        return turn_over(tape, op, &t, shape.shape);
    return x->n_dims == 0 ? x : walk(tape, op, x, &shape);
}

mmf_tensor *mmf_transpose(mmf_tape *tape, mmf_tensor *x, int axis_a, int axis_b)
{
    if (!x)
        return mmf_tape__missing(tape, "transpose");
    const int a = mmf_tape__axis(x, axis_a), b = mmf_tape__axis(x, axis_b);
    if (a < 0 || b < 0)
        return mmf_tape__fail(tape, MMF_SHAPE, "transpose", "axes %d and %d of %d dimensions",
                              axis_a, axis_b, x->n_dims);
    int order[MMF_MAX_DIMS];
    for (int d = 0; d < x->n_dims; d++)
        order[d] = d == a ? b : (d == b ? a : d);
    return mmf_permute(tape, x, order);
}

mmf_tensor *mmf_channels_last(mmf_tape *tape, mmf_tensor *x)
{
    static const char op[] = "channels_last";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != 4)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%d dimensions, expected (B, C, H, W)",
                              x->n_dims);
    return x->shape[1] == 1
               ? mmf_reshape(tape, x, 4, (int64_t[]){x->shape[0], x->shape[2], x->shape[3], 1})
               : mmf_permute(tape, x, (int[]){0, 2, 3, 1});
}

mmf_tensor *mmf_channels_first(mmf_tape *tape, mmf_tensor *x)
{
    static const char op[] = "channels_first";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->n_dims != 4)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "%d dimensions, expected (B, H, W, C)",
                              x->n_dims);
    return mmf_permute(tape, x, (int[]){0, 3, 1, 2});
}

mmf_tensor *mmf_expand(mmf_tape *tape, mmf_tensor *x, int n_dims, const int64_t *shape)
{
    static const char op[] = "expand";
    if (!x)
        return mmf_tape__missing(tape, op);
    mmf_tensor target = {.n_dims = n_dims};
    for (int d = 0; d < n_dims && d < MMF_MAX_DIMS; d++)
        target.shape[d] = shape[d];
    mmf_broadcast both;
    bool fits = n_dims >= 1 && n_dims <= MMF_MAX_DIMS && mmf_broadcast__make(&both, x, &target);
    for (int d = 0; fits && d < n_dims; d++)
        fits = both.n_dims == n_dims && both.shape[d] == shape[d];
    return fits ? walk(tape, op, x, &both)
                : mmf_tape__unfit(tape, op, x, &target, "only sizes of 1 repeat");
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *cube(mmf_op_case *c)
{
    return mmf_case_input(c, -2, 2, 3, (int64_t[]){3, 4, 5 * c->scale});
}

static mmf_tensor *reshape_example(mmf_op_case *c)
{
    return mmf_reshape(c->tape, cube(c), 2, (int64_t[]){6, -1});
}

static mmf_tensor *concat_example(mmf_op_case *c)
{
    int64_t other[] = {3, 4, 5 * c->scale};
    other[c->index] = 2;
    mmf_tensor *const a = cube(c), *const b = mmf_case_input(c, -1, 1, 3, other);
    return mmf_concat(c->tape, (mmf_tensor *[]){a, b, a}, 3, c->index);
}

static mmf_tensor *stack_example(mmf_op_case *c)
{
    mmf_tensor *const a = cube(c), *const b = cube(c);
    return mmf_stack(c->tape, (mmf_tensor *[]){a, b}, 2, c->index);
}

static mmf_tensor *slice_example(mmf_op_case *c)
{
    return mmf_slice(c->tape, cube(c), c->index, 1, 2);
}

static mmf_tensor *pad_example(mmf_op_case *c)
{
    return mmf_pad(c->tape, cube(c), c->index, 1, 2, 0.5);
}

static mmf_tensor *permute_example(mmf_op_case *c)
{
    static const int orders[][3] = {{2, 0, 1}, {1, 0, 2}, {0, 2, 1}, {1, 2, 0}, {2, 1, 0}};
    return mmf_permute(c->tape, cube(c), orders[c->index]);
}

static mmf_tensor *expand_example(mmf_op_case *c)
{
    mmf_tensor *const x = mmf_case_input(c, -2, 2, 3, (int64_t[]){3, 1, c->index ? 5 : 1});
    return mmf_expand(c->tape, x, 4, (int64_t[]){2, 3, 4, 5});
}

const mmf_op mmf_op_reshape = {"reshape", 1, reshape_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_concat = {"concat", 3, concat_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_stack = {"stack", 4, stack_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_slice = {"slice", 3, slice_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_pad = {"pad", 3, pad_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_permute = {"permute", 5, permute_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_expand = {"expand", 2, expand_example, mmf_flops_elementwise, true};
