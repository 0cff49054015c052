/* index.c: look-ups by integer tensors, and the masks and tables made from lengths, tokens and
 * positions. */
#include <math.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct index_node {
    mmf_node node;
    mmf_tensor *x;
    const mmf_tensor *index;
    int64_t width;   /* elements a looked-up row */
    int64_t padding; /* row without gradient, -1: none */
} index_node;

static bool in_range(mmf_tape *tape, const char *op, const mmf_tensor *index, int64_t limit)
{
    if (!index->is_int) {
        mmf_tape__fail(tape, MMF_DTYPE, op, "the index must be integers");
        return false;
    }
    for (int64_t i = 0; i < index->count; i++) {
        if (index->ints[i] < 0 || index->ints[i] >= limit) {
            mmf_tape__fail(tape, MMF_ARG, op,
                           "index %lld at position %lld, but there are %lld rows",
                           (long long)index->ints[i], (long long)i, (long long)limit);
            return false;
        }
    }
    return true;
}

static void select_backward(mmf_tape *tape, mmf_node *node)
{
    index_node *const n = (index_node *)node;
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, n->x);
    for (int64_t i = 0; dx && i < n->index->count; i++) {
        if (n->index->ints[i] != n->padding)
            tape->k->axpby(n->width, 1, node->out->grad + i * n->width, 1,
                           dx + n->index->ints[i] * n->width);
    }
}

static mmf_tensor *select_rows(mmf_tape *tape, const char *op, mmf_tensor *x,
                               const mmf_tensor *index, int64_t padding)
{
    if (!x || !index)
        return mmf_tape__missing(tape, op);
    if (x->n_dims < 1 || x->is_int || !in_range(tape, op, index, x->shape[0]))
        return mmf_tape__fail(tape, MMF_SHAPE, op, "needs a table of rows");
    int64_t shape[2 * MMF_MAX_DIMS];
    int n_dims = 0;
    for (int d = 0; d < index->n_dims; d++)
        shape[n_dims++] = index->shape[d];
    for (int d = 1; d < x->n_dims; d++)
        shape[n_dims++] = x->shape[d];
    mmf_tensor *const y = mmf_tape__tensor(tape, n_dims, shape);
    if (!y)
        return NULL;
    const int64_t width = x->count / x->shape[0];
    for (int64_t i = 0; i < index->count; i++)
        memcpy(y->data + i * width, x->data + index->ints[i] * width,
               (size_t)width * sizeof *y->data);
    index_node *const n = mmf_tape__record(tape, sizeof *n, op, y, x->wants_grad, select_backward);
    if (n) {
        n->x = x;
        n->index = index;
        n->width = width;
        n->padding = padding;
    }
    return y;
}

/* Integers have no gradient. */
static mmf_tensor *select_ints(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *index)
{
    static const char op[] = "index_select";
    if (x->n_dims < 1 || !in_range(tape, op, index, x->shape[0]))
        return mmf_tape__fail(tape, MMF_SHAPE, op, "needs a table of rows");
    int64_t shape[2 * MMF_MAX_DIMS];
    int n_dims = 0;
    for (int d = 0; d < index->n_dims; d++)
        shape[n_dims++] = index->shape[d];
    for (int d = 1; d < x->n_dims; d++)
        shape[n_dims++] = x->shape[d];
    const int64_t width = x->count / x->shape[0];
    int64_t *const out = mmf_tape__alloc(tape, ((size_t)(index->count * width) + 1) * sizeof *out);
    for (int64_t i = 0; out && i < index->count; i++)
        memcpy(out + i * width, x->ints + index->ints[i] * width, (size_t)width * sizeof *out);
    return out ? mmf_input_ints(tape, out, n_dims, shape) : NULL;
}

mmf_tensor *mmf_index_select(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *index)
{
    if (x && index && x->is_int)
        return select_ints(tape, x, index);
    return select_rows(tape, "index_select", x, index, -1);
}

mmf_tensor *mmf_embedding(mmf_tape *tape, mmf_tensor *table, const mmf_tensor *tokens,
                          int64_t padding)
{
    return select_rows(tape, "embedding", table, tokens, padding);
}

/* ---- Gather and scatter ------------------------------------------------------------------ */

static void gather_backward(mmf_tape *tape, mmf_node *node)
{
    index_node *const n = (index_node *)node;
    mmf_real *const dx = mmf_tape__grad_zeroed(tape, n->x);
    for (int64_t i = 0; dx && i < n->index->count; i++)
        dx[i * n->width + n->index->ints[i]] += node->out->grad[i];
}

mmf_tensor *mmf_gather(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *index)
{
    static const char op[] = "gather";
    if (!x || !index)
        return mmf_tape__missing(tape, op);
    const int64_t width = x->n_dims > 0 ? x->shape[x->n_dims - 1] : 0;
    if (width < 1 || index->count != x->count / width)
        return mmf_tape__unfit(tape, op, x, index, "one index a row of the last axis");
    if (!in_range(tape, op, index, width))
        return NULL;
    mmf_tensor *const y = mmf_tape__tensor(tape, index->n_dims, index->shape);
    if (!y)
        return NULL;
    for (int64_t i = 0; i < index->count; i++)
        y->data[i] = x->data[i * width + index->ints[i]];
    index_node *const n = mmf_tape__record(tape, sizeof *n, op, y, x->wants_grad, gather_backward);
    if (n) {
        n->x = x;
        n->index = index;
        n->width = width;
    }
    return y;
}

static void scatter_backward(mmf_tape *tape, mmf_node *node)
{
    index_node *const n = (index_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh);
    for (int64_t i = 0; dx && i < n->index->count; i++)
        tape->k->axpby(n->width, 1, node->out->grad + n->index->ints[i] * n->width, fresh ? 0 : 1,
                       dx + i * n->width);
}

mmf_tensor *mmf_scatter_add(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *index, int64_t n_rows)
{
    static const char op[] = "scatter_add";
    if (!x || !index)
        return mmf_tape__missing(tape, op);
    if (x->n_dims < 1 || index->count != x->shape[0] || n_rows < 1)
        return mmf_tape__unfit(tape, op, x, index, "one index a row");
    if (!in_range(tape, op, index, n_rows))
        return NULL;
    int64_t shape[MMF_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = n_rows;
    mmf_tensor *const y = mmf_full(tape, x->n_dims, shape, 0);
    if (!y)
        return NULL;
    const int64_t width = x->shape[0] > 0 ? x->count / x->shape[0] : 0;
    for (int64_t i = 0; i < index->count; i++)
        tape->k->axpby(width, 1, x->data + i * width, 1, y->data + index->ints[i] * width);
    index_node *const n = mmf_tape__record(tape, sizeof *n, op, y, x->wants_grad, scatter_backward);
    if (n) {
        n->x = x;
        n->index = index;
        n->width = width;
    }
    return y;
}

mmf_tensor *mmf_length_mask(mmf_tape *tape, const mmf_tensor *length, int64_t n_steps)
{
    if (!length)
        return mmf_tape__missing(tape, "length_mask");
    mmf_tensor *const mask = mmf_tape__tensor(tape, 2, (int64_t[]){length->count, n_steps});
    for (int64_t i = 0; mask && i < mask->count; i++)
        mask->data[i] = i % n_steps < length->ints[i / n_steps] ? 1 : 0;
    return mask;
}

mmf_tensor *mmf_token_mask(mmf_tape *tape, const mmf_tensor *tokens, int64_t padding)
{
    if (!tokens || !tokens->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, "token_mask", "takes integers");
    mmf_tensor *const mask = mmf_tape__tensor(tape, tokens->n_dims, tokens->shape);
    for (int64_t i = 0; mask && i < mask->count; i++)
        mask->data[i] = tokens->ints[i] != padding ? 1 : 0;
    return mask;
}

mmf_tensor *mmf_causal_mask(mmf_tape *tape, int64_t n_queries, int64_t n_keys, int64_t ahead)
{
    mmf_tensor *const mask = mmf_tape__tensor(tape, 2, (int64_t[]){n_queries, n_keys});
    for (int64_t i = 0; mask && i < mask->count; i++)
        mask->data[i] = i % n_keys - i / n_keys <= ahead ? 1 : 0;
    return mask;
}

mmf_tensor *mmf_range(mmf_tape *tape, int64_t count, double first, double step)
{
    mmf_tensor *const y = mmf_tape__tensor(tape, 1, &count);
    for (int64_t i = 0; y && i < count; i++)
        y->data[i] = (mmf_real)(first + (double)i * step);
    return y;
}

mmf_tensor *mmf_sinusoid(mmf_tape *tape, int64_t n_steps, int64_t width, int64_t first)
{
    const int64_t half = width / 2;
    mmf_tensor *const y = mmf_full(tape, 2, (int64_t[]){n_steps, width}, 0);
    for (int64_t k = 0; y && k < half; k++) {
        /* A single frequency is 1: the exponent's 0/0 is taken as 0. */
        const double rate = half > 1 ? exp(-(double)k * log(10000) / (double)(half - 1)) : 1;
        /* A step turns by the rate: its error grows by one rounding a step, in double. */
        const double turn_sin = sin(rate), turn_cos = cos(rate);
        double s = sin((double)first * rate), c = cos((double)first * rate);
        for (int64_t t = 0; t < n_steps; t++) {
            y->data[t * width + k] = (mmf_real)s;
            y->data[t * width + half + k] = (mmf_real)c;
            const double next = s * turn_cos + c * turn_sin;
            c = c * turn_cos - s * turn_sin;
            s = next;
        }
    }
    return y;
}

mmf_tensor *mmf_top_rows(mmf_tape *tape, const mmf_tensor *scores, int64_t count)
{
    if (!scores)
        return mmf_tape__missing(tape, "top_rows");
    if (scores->is_int || scores->n_dims != 2 || count < 1 || count > scores->shape[1])
        return mmf_tape__fail(tape, MMF_SHAPE, "top_rows", "takes scores (B, R) and at most R");
    const int64_t rows = scores->shape[0], n = scores->shape[1];
    int64_t *const top = mmf_tape__alloc(tape, (size_t)(rows * count) * sizeof *top);
    for (int64_t b = 0; top && b < rows; b++) {
        const mmf_real *const s = scores->data + b * n;
        int64_t *const kept = top + b * count, first = b * n;
        int64_t held = 0;
        /* Insertion into the best so far; equal scores stay behind the earlier ones. */
        for (int64_t r = 0; r < n; r++) {
            int64_t at = held;
            while (at > 0 && s[r] > s[kept[at - 1] - first])
                at--;
            if (at == count)
                continue;
            held += held < count;
            memmove(kept + at + 1, kept + at, (size_t)(held - at - 1) * sizeof *kept);
            kept[at] = first + r;
        }
    }
    return top ? mmf_input_ints(tape, top, 2, (int64_t[]){rows, count}) : NULL;
}

mmf_tensor *mmf_rows_where(mmf_tape *tape, const mmf_tensor *flags)
{
    if (!flags)
        return mmf_tape__missing(tape, "rows_where");
    if (flags->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, "rows_where", "takes reals, got integers");
    int64_t *const rows = mmf_tape__alloc(tape, (size_t)flags->count * sizeof *rows + 1);
    int64_t n = 0;
    for (int64_t i = 0; rows && i < flags->count; i++) {
        if (flags->data[i] > 0)
            rows[n++] = i;
    }
    return n > 0 ? mmf_input_ints(tape, rows, 1, &n) : NULL;
}

mmf_tensor *mmf_token_lengths(mmf_tape *tape, const mmf_tensor *tokens, int64_t padding)
{
    if (!tokens || !tokens->is_int || tokens->n_dims != 2)
        return mmf_tape__fail(tape, MMF_SHAPE, "token_lengths", "takes integer tokens (B, T)");
    const int64_t rows = tokens->shape[0], steps = tokens->shape[1];
    int64_t *const length = mmf_tape__alloc(tape, (size_t)rows * sizeof *length);
    for (int64_t b = 0; length && b < rows; b++) {
        length[b] = steps;
        while (length[b] > 1 && tokens->ints[b * steps + length[b] - 1] == padding)
            length[b]--;
    }
    return length ? mmf_input_ints(tape, length, 1, &rows) : NULL;
}

mmf_tensor *mmf_argmax(mmf_tape *tape, const mmf_tensor *x)
{
    if (!x || x->is_int || x->n_dims < 1 || x->shape[x->n_dims - 1] < 1)
        return mmf_tape__fail(tape, MMF_SHAPE, "argmax",
                              "needs a last axis with at least one element");
    const int64_t width = x->shape[x->n_dims - 1], rows = x->count / width;
    int64_t *const best = mmf_tape__alloc(tape, (size_t)rows * sizeof *best);
    for (int64_t r = 0; best && r < rows; r++) {
        best[r] = 0;
        for (int64_t j = 1; j < width; j++)
            best[r] = x->data[r * width + j] > x->data[r * width + best[r]] ? j : best[r];
    }
    return best ? mmf_input_ints(tape, best, x->n_dims - 1, x->shape) : NULL;
}

mmf_tensor *mmf_whole_numbers(mmf_tape *tape, const mmf_tensor *x)
{
    static const char op[] = "whole_numbers";
    const mmf_real most = (mmf_real)(1 << 24); /* beyond it a float skips whole numbers */
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    int64_t *const ints = mmf_tape__alloc(tape, ((size_t)x->count + 1) * sizeof *ints);
    for (int64_t i = 0; ints && i < x->count; i++) {
        const mmf_real value = x->data[i];
        if (!(value >= -most && value <= most) || (mmf_real)(int64_t)value != value)
            return mmf_tape__fail(tape, MMF_ARG, op, "element %lld is %g, not a whole number",
                                  (long long)i, (double)value);
        ints[i] = (int64_t)value;
    }
    return ints ? mmf_input_ints(tape, ints, x->n_dims, x->shape) : NULL;
}

mmf_tensor *mmf_one_hot(mmf_tape *tape, const mmf_tensor *index, int64_t n_classes)
{
    if (!index)
        return mmf_tape__missing(tape, "one_hot");
    if (!in_range(tape, "one_hot", index, n_classes))
        return NULL;
    mmf_tensor *const out = mmf_full(tape, 2, (int64_t[]){index->count, n_classes}, 0);
    for (int64_t i = 0; out && i < index->count; i++)
        out->data[i * n_classes + index->ints[i]] = 1;
    return out;
}

mmf_tensor *mmf_identity(mmf_tape *tape, int64_t n)
{
    mmf_tensor *const out = mmf_full(tape, 2, (int64_t[]){n, n}, 0);
    for (int64_t i = 0; out && i < n; i++)
        out->data[i * n + i] = 1;
    return out;
}

mmf_tensor *mmf_same_rows(mmf_tape *tape, const mmf_tensor *x)
{
    if (!x)
        return mmf_tape__missing(tape, "same_rows");
    if (x->n_dims < 1)
        return mmf_tape__fail(tape, MMF_SHAPE, "same_rows", "needs rows along axis 0");
    const int64_t n = x->shape[0], width = n > 0 ? x->count / n : 0;
    mmf_tensor *const out = mmf_full(tape, 2, (int64_t[]){n, n}, 1);
    for (int64_t i = 0; out && i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            for (int64_t e = 0; e < width; e++) {
                const bool equal = x->is_int ? x->ints[i * width + e] == x->ints[j * width + e]
                                             : !(x->data[i * width + e] < x->data[j * width + e] ||
                                                 x->data[i * width + e] > x->data[j * width + e]);
                if (!equal)
                    out->data[i * n + j] = 0;
            }
        }
    }
    return out;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *table(mmf_op_case *c)
{
    return mmf_case_input(c, -2, 2, 2, (int64_t[]){6, 5 * c->scale});
}

static mmf_tensor *index_select_example(mmf_op_case *c)
{
    return mmf_index_select(c->tape, table(c), mmf_case_ints(c, 0, 6, 2, (int64_t[]){3, 4}));
}

static mmf_tensor *embedding_example(mmf_op_case *c)
{
    return mmf_embedding(c->tape, table(c), mmf_case_ints(c, 0, 6, 2, (int64_t[]){3, 4}), -1);
}

static mmf_tensor *gather_example(mmf_op_case *c)
{
    return mmf_gather(c->tape, table(c), mmf_case_ints(c, 0, 5, 1, (int64_t[]){6}));
}

static mmf_tensor *scatter_add_example(mmf_op_case *c)
{
    return mmf_scatter_add(c->tape, table(c), mmf_case_ints(c, 0, 4, 1, (int64_t[]){6}), 4);
}

const mmf_op mmf_op_index_select = {"index_select", 1, index_select_example, mmf_flops_elementwise,
                                    true};
const mmf_op mmf_op_embedding = {"embedding", 1, embedding_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_gather = {"gather", 1, gather_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_scatter_add = {"scatter_add", 1, scatter_add_example, mmf_flops_elementwise,
                                   true};
