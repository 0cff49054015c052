/* linear.c: act(x W' + b): one matrix product and one pass for bias and activation. */
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct linear_node {
    mmf_node node;
    mmf_activation activation;
    mmf_tensor *x, *w, *b;
    mmf_real
        *pre; /* pre-activation, kept for GELU only; the others differentiate from the output */
} linear_node;

/*
 * With g = dy act'(.):  dx = g W,  dW = g' x,  db = column sums of g.
 */
static void linear_backward(mmf_tape *tape, mmf_node *node)
{
    linear_node *const n = (linear_node *)node;
    const int64_t outputs = n->w->shape[0], inputs = n->w->shape[1];
    const int64_t rows = n->x->count / inputs;
    const mmf_real *g = node->out->grad;
    if (n->activation != MMF_ACT_NONE) {
        mmf_real *const local = mmf_tape__reals(tape, node->out->count);
        if (!local)
            return;
        if (n->activation == MMF_ACT_GELU)
            tape->k->unary_grad(MMF_UNARY_GELU, node->out->count, n->pre, n->pre, g, local, 0, 0,
                                0);
        else
            tape->k->act_grad(n->activation, node->out->count, node->out->data, g, local);
        g = local;
    }
    bool fresh = false;
    mmf_real *const db = n->b ? mmf_tape__grad(tape, n->b, &fresh) : NULL;
    if (db)
        tape->k->column_sum(rows, outputs, 1, g, fresh ? 0 : 1, db);
    mmf_real *const dw = mmf_tape__grad(tape, n->w, &fresh);
    if (dw)
        mmf_tape__gemm(tape, &(mmf_gemm){true, false, outputs, inputs, rows, 1, g, outputs,
                                         n->x->data, inputs, fresh ? 0 : 1, dw, inputs});
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh);
    if (dx)
        mmf_tape__gemm(tape, &(mmf_gemm){false, false, rows, inputs, outputs, 1, g, outputs,
                                         n->w->data, inputs, fresh ? 0 : 1, dx, inputs});
}

/* ---- One row through a large matrix ------------------------------------------------------ */

/* Elements of a matrix beyond which waiting for memory is what one row takes. */
#define SPARSE_MIN_ELEMENTS ((int64_t)1 << 20)
static void transpose(const mmf_tensor *w, mmf_real *out)
{
    const int64_t outputs = w->shape[0], inputs = w->shape[1];
    for (int64_t i = 0; i < inputs; i++) {
        for (int64_t o = 0; o < outputs; o++)
            out[i * outputs + o] = w->data[o * inputs + i];
    }
}

/*
 * Behind ReLU and products of it most inputs are 0, and by rows of the transposed weight their part
 * of the memory is never read. One thread: waking another takes as long as it would save. False
 * where that does not apply.
 */
static bool sum_nonzero_inputs(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w,
                               mmf_tensor *y)
{
    const int64_t outputs = w->shape[0], inputs = w->shape[1];
    if (x->count != inputs || w->count < SPARSE_MIN_ELEMENTS || inputs < 8 * outputs)
        return false;
    bool is_new = false;
    mmf_real *const by_input =
        mmf_tape__keep(tape, w, "transposed", (size_t)w->count * sizeof *by_input, &is_new);
    if (!by_input)
        return false;
    if (is_new)
        transpose(w, by_input);
    mmf_tape__count_products(tape, 1, 1, outputs, inputs);
    tape->k->sum_rows(inputs, outputs, x->data, by_input, y->data);
    return true;
}

mmf_tensor *mmf_linear(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, mmf_tensor *b,
                       mmf_activation activation)
{
    static const char op[] = "linear";
    if (!x || !w)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    if (w->n_dims != 2 || x->n_dims < 1 || x->shape[x->n_dims - 1] != w->shape[1])
        return mmf_tape__unfit(tape, op, x, w,
                               "the input's last dimension is not the weight's second");
    if (b && b->count != w->shape[0])
        return mmf_tape__unfit(tape, op, w, b, "one bias an output");
    int64_t shape[MMF_MAX_DIMS];
    for (int d = 0; d < x->n_dims; d++)
        shape[d] = x->shape[d];
    const int64_t outputs = w->shape[0], inputs = w->shape[1];
    shape[x->n_dims - 1] = outputs;
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, shape);
    if (!y)
        return NULL;
    const int64_t rows = inputs > 0 ? x->count / inputs : 0;
    if (!sum_nonzero_inputs(tape, x, w, y))
        mmf_tape__gemm(tape, &(mmf_gemm){false, true, rows, outputs, inputs, 1, x->data, inputs,
                                         w->data, inputs, 0, y->data, outputs});
    const bool wants = x->wants_grad || w->wants_grad || (b && b->wants_grad);
    linear_node *const n = mmf_tape__record(tape, sizeof *n, op, y, wants, linear_backward);
    if (n) {
        n->activation = activation;
        n->x = x;
        n->w = w;
        n->b = b;
        n->pre = NULL;
        if (activation == MMF_ACT_GELU) {
            n->pre = mmf_tape__reals(tape, y->count);
            if (!n->pre)
                return NULL;
            tape->k->bias_act(rows, outputs, b ? b->data : NULL, MMF_ACT_NONE, y->data);
            tape->k->axpby(y->count, 1, y->data, 0, n->pre);
            tape->k->unary(MMF_UNARY_GELU, y->count, n->pre, y->data, 0, 0);
            return y;
        }
    }
    tape->k->bias_act(rows, outputs, b ? b->data : NULL, activation, y->data);
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *linear_example(mmf_op_case *c)
{
    static const mmf_activation activations[] = {MMF_ACT_NONE, MMF_ACT_RELU,    MMF_ACT_GELU,
                                                 MMF_ACT_TANH, MMF_ACT_SIGMOID, MMF_ACT_NONE};
    const int64_t inputs = 7 * c->scale, outputs = 5 * c->scale;
    const int64_t x_shape[] = {2, 3, inputs}, w_shape[] = {outputs, inputs}, b_shape[] = {outputs};
    mmf_tensor *const x = mmf_case_input(c, -1, 1, 3, x_shape);
    mmf_tensor *const w = mmf_case_input(c, -1, 1, 2, w_shape);
    mmf_tensor *const b = c->index == 5 ? NULL : mmf_case_input(c, -1, 1, 1, b_shape);
    return mmf_linear(c->tape, x, w, b, activations[c->index]);
}

static double linear_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    return 2.0 * (double)out->count * (double)c->inputs[1]->shape[1];
}

const mmf_op mmf_op_linear = {"linear", 6, linear_example, linear_flops, true};
