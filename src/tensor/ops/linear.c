/* linear.c: act(x W' + b): one matrix product and one pass for bias and activation. */
#include "tensor/int8.h"
#include "tensor/ops.h"
#include "tensor/panels.h"
#include "tensor/tape.h"

typedef struct linear_node {
    mmf_node node;
    mmf_activation activation;
    mmf_tensor *x, *w, *b;
    mmf_real
        *pre; /* pre-activation, kept for GELU only; the others differentiate from the output */
} linear_node;

typedef struct local_job {
    const mmf_tape *tape;
    const linear_node *n;
    const mmf_real *dy;
    mmf_real *g;
} local_job;

static void local_range(void *argument, int64_t begin, int64_t end)
{
    const local_job *const j = argument;
    const linear_node *const n = j->n;
    if (n->activation == MMF_ACT_GELU)
        j->tape->k->unary_grad(MMF_UNARY_GELU, end - begin, n->pre + begin, n->pre + begin,
                               j->dy + begin, j->g + begin, 0, 0, 0);
    else
        j->tape->k->act_grad(n->activation, end - begin, n->node.out->data + begin, j->dy + begin,
                             j->g + begin);
}

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
        local_job job = {tape, n, g, local};
        mmf_tape__parallel(tape, node->out->count, mmf_grain(4), local_range, &job);
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
 * of the memory is never read. False where that does not apply.
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
    if (is_new) {
        transpose(w, by_input);
        mmf_tape__give_back(w);
    }
    mmf_tape__gemm(tape, &(mmf_gemm){false, false, 1, outputs, inputs, 1, x->data, inputs, by_input,
                                     outputs, 0, y->data, outputs});
    return true;
}

/* ---- Bias and activation ----------------------------------------------------------------- */

typedef struct finish_job {
    const mmf_tape *tape;
    int64_t outputs;
    const mmf_real *bias;
    mmf_activation activation;
    mmf_real *y;
    mmf_real *pre; /* NULL unless what enters the activation is kept */
} finish_job;

static int64_t finish_cost(mmf_activation activation)
{
    return activation == MMF_ACT_NONE || activation == MMF_ACT_RELU ? 1 : 4;
}

/* Rows while they are in the cache. */
static void finish_rows(void *argument, int64_t begin, int64_t end)
{
    const finish_job *const j = argument;
    const mmf_kernels *const k = j->tape->k;
    for (int64_t r = begin; r < end; r++) {
        mmf_real *const y = j->y + r * j->outputs;
        if (!j->pre) {
            k->bias_act(1, j->outputs, j->bias, j->activation, y);
            continue;
        }
        k->bias_act(1, j->outputs, j->bias, MMF_ACT_NONE, y);
        k->axpby(j->outputs, 1, y, 0, j->pre + r * j->outputs);
        k->unary(MMF_UNARY_GELU, j->outputs, y, y, 0, 0);
    }
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
    if (mmf_int8_linear(tape, x, w, b, activation, y))
        return y;
    const bool is_summed = sum_nonzero_inputs(tape, x, w, y);
    if (!is_summed && mmf_panels_linear(tape, x, w, b, activation, y))
        return y;
    if (!is_summed)
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
        n->pre = activation == MMF_ACT_GELU ? mmf_tape__reals(tape, y->count) : NULL;
        if (activation == MMF_ACT_GELU && !n->pre)
            return NULL;
    }
    finish_job job = {tape, outputs, b ? b->data : NULL, activation, y->data, n ? n->pre : NULL};
    mmf_tape__parallel(tape, rows, mmf_grain(outputs * finish_cost(activation)), finish_rows, &job);
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
