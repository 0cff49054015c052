/*
 * rnn.c: LSTM and GRU over sequences of their own lengths.
 *
 * The inputs of all steps are projected in one product; then every range of samples runs through
 * time on its own, so threads meet once a sequence and not once a step. At a step behind a sample's
 * length the state is zero and nothing is computed, which serves both directions: the forward one
 * has ended there, the reverse one has not begun. Weight gradients are one product over all steps
 * after the walk back.
 */
#include <math.h>
#include <string.h>

#include "tensor/ops.h"
#include "tensor/rnn.h"
#include "tensor/panels.h"

typedef struct rnn_job {
    const mmf_tape *tape;
    rnn_node *n;
    const mmf_real *d_sequence, *d_cells;
} rnn_job;

/* Samples a range: small enough for two threads at the usual batch of 32. */
#define RANGE_ROWS 16

/* Rows a batch needs before transposing the recurrent weight pays. */
#define TRANSPOSE_ROWS 4

/*
 * Rows that are a multiple of a page apart meet in the same few lines of the cache: products over
 * 1600 steps of 512 gates reach 54 GFLOP/s, with rows 16 elements longer 84.
 */
static int64_t padded(int64_t width)
{
    return width % 64 == 0 ? width + 16 : width;
}

/* ---- LSTM -------------------------------------------------------------------------------- */

static void lstm_rows(const rnn_job *j, int64_t begin, int64_t end, int64_t t, int64_t before,
                      const mmf_real *zeros)
{
    rnn_node *const n = j->n;
    const int64_t h = n->hidden;
    mmf_real *const sequence = n->node.out->data, *const cells = n->cells->data;
    for (int64_t b = begin; b < end; b++) {
        const int64_t at = (b * n->steps + t) * h;
        if (!rnn_is_valid(n, b, t)) {
            memset(sequence + at, 0, (size_t)h * sizeof *sequence);
            memset(cells + at, 0, (size_t)h * sizeof *cells);
            continue;
        }
        const mmf_real *const old = before < 0 ? zeros : cells + (b * n->steps + before) * h;
        j->tape->k->lstm_cell(h, h, n->gates + (b * n->steps + t) * n->stride, old, cells + at,
                              n->tanh_c + at, sequence + at);
    }
}

/* gates[begin..end, t] += h[begin..end, before] W_hh' */
static void recurrent_product(const rnn_job *j, int64_t begin, int64_t end, int64_t before,
                              mmf_real *out, int64_t ld_out)
{
    const rnn_node *const n = j->n;
    const bool transposed = n->w_hh_t != NULL;
    const mmf_real *const weight = transposed ? n->w_hh_t : n->w.weight_hh->data;
    const mmf_gemm g = {false,
                        !transposed,
                        end - begin,
                        n->rows,
                        n->hidden,
                        1,
                        n->node.out->data + (begin * n->steps + before) * n->hidden,
                        n->steps * n->hidden,
                        weight,
                        transposed ? padded(n->rows) : n->hidden,
                        1,
                        out,
                        ld_out};
    mmf_blas_gemm(&g);
}

static void lstm_forward_range(void *argument, int64_t begin, int64_t end)
{
    const rnn_job *const j = argument;
    rnn_node *const n = j->n;
    const mmf_real *const zeros = j->d_sequence; /* a row of zeros during the forward pass */
    for (int64_t i = 0; i < n->steps; i++) {
        const int64_t t = rnn_walk_step(n, i), before = rnn_previous_step(n, t);
        if (before >= 0)
            recurrent_product(j, begin, end, before, n->gates + (begin * n->steps + t) * n->stride,
                              n->steps * n->stride);
        lstm_rows(j, begin, end, t, before, zeros);
    }
}

/* dh[B, H] and dc[B, H] walk back through time; dgates keeps what the products afterwards need. */
static void lstm_backward_range(void *argument, int64_t begin, int64_t end)
{
    const rnn_job *const j = argument;
    rnn_node *const n = j->n;
    const int64_t h = n->hidden;
    mmf_real *const dh = n->dhidden + begin * h, *const dc = n->dhidden + (n->batch + begin) * h;
    const mmf_real *const zeros = n->dhidden + 2 * n->batch * h;
    memset(dh, 0, (size_t)((end - begin) * h) * sizeof *dh);
    memset(dc, 0, (size_t)((end - begin) * h) * sizeof *dc);
    for (int64_t i = n->steps - 1; i >= 0; i--) {
        const int64_t t = rnn_walk_step(n, i), before = rnn_previous_step(n, t);
        for (int64_t b = begin; b < end; b++) {
            const int64_t step = b * n->steps + t, at = step * h, local = (b - begin) * h;
            mmf_real *const dgates = n->dgates + step * n->stride;
            if (!rnn_is_valid(n, b, t)) {
                memset(dgates, 0, (size_t)n->rows * sizeof *dgates);
                continue;
            }
            if (j->d_sequence)
                j->tape->k->axpby(h, 1, j->d_sequence + at, 1, dh + local);
            if (j->d_cells)
                j->tape->k->axpby(h, 1, j->d_cells + at, 1, dc + local);
            const mmf_real *const old =
                before < 0 ? zeros : n->cells->data + (b * n->steps + before) * h;
            j->tape->k->lstm_cell_grad(h, n->gates + step * n->stride, old, n->tanh_c + at,
                                       dh + local, dc + local, dgates);
        }
        const mmf_gemm g = {false,
                            false,
                            end - begin,
                            h,
                            n->rows,
                            1,
                            n->dgates + (begin * n->steps + t) * n->stride,
                            n->steps * n->stride,
                            n->w.weight_hh->data,
                            h,
                            0,
                            dh,
                            h};
        mmf_blas_gemm(&g);
    }
}

/* ---- GRU: n = tanh(x_n + r hh_n), h = (1 - z) n + z h_old --------------------------------- */

static void gru_forward_range(void *argument, int64_t begin, int64_t end)
{
    const rnn_job *const j = argument;
    rnn_node *const n = j->n;
    const int64_t h = n->hidden, n_local = end - begin;
    mmf_real *const part =
        n->dhidden + begin * n->rows; /* recurrent pre-activations of this step */
    const mmf_real *const zeros = n->dhidden + n->batch * n->rows;
    const mmf_real *const bias = n->w.bias_hh ? n->w.bias_hh->data : NULL;
    mmf_real *const sequence = n->node.out->data;
    for (int64_t i = 0; i < n->steps; i++) {
        const int64_t t = rnn_walk_step(n, i), before = rnn_previous_step(n, t);
        memset(part, 0, (size_t)(n_local * n->rows) * sizeof *part);
        for (int64_t b = 0; bias && b < n_local; b++)
            memcpy(part + b * n->rows, bias, (size_t)n->rows * sizeof *part);
        if (before >= 0)
            recurrent_product(j, begin, end, before, part, n->rows);
        for (int64_t b = begin; b < end; b++) {
            const int64_t step = b * n->steps + t, at = step * h;
            if (rnn_is_valid(n, b, t))
                j->tape->k->gru_cell(h, h, n->gates + step * n->stride,
                                     part + (b - begin) * n->rows,
                                     before < 0 ? zeros : sequence + (b * n->steps + before) * h,
                                     n->tanh_c + at, sequence + at);
            else
                memset(sequence + at, 0, (size_t)h * sizeof *sequence);
        }
    }
}

/* dgates: gradient of the input projection; dhidden: of the recurrent one (they differ by r in the
 * n part). */
static void gru_backward_range(void *argument, int64_t begin, int64_t end)
{
    const rnn_job *const j = argument;
    rnn_node *const n = j->n;
    const int64_t h = n->hidden, total = n->batch * n->steps * n->stride;
    mmf_real *const dh = n->dhidden + total + begin * h;
    const mmf_real *const zeros = n->dhidden + total + n->batch * h;
    memset(dh, 0, (size_t)((end - begin) * h) * sizeof *dh);
    for (int64_t i = n->steps - 1; i >= 0; i--) {
        const int64_t t = rnn_walk_step(n, i), before = rnn_previous_step(n, t);
        for (int64_t b = begin; b < end; b++) {
            const int64_t step = b * n->steps + t, at = step * h;
            mmf_real *const dx = n->dgates + step * n->stride;
            mmf_real *const dr = n->dhidden + step * n->stride;
            mmf_real *const d = dh + (b - begin) * h;
            if (!rnn_is_valid(n, b, t)) {
                memset(dx, 0, (size_t)n->rows * sizeof *dx);
                memset(dr, 0, (size_t)n->rows * sizeof *dr);
                continue;
            }
            const mmf_real *const old =
                before < 0 ? zeros : n->node.out->data + (b * n->steps + before) * h;
            j->tape->k->gru_cell_grad(h, n->gates + step * n->stride, old, n->tanh_c + at,
                                      j->d_sequence ? j->d_sequence + at : zeros, d, dx, dr);
        }
        const mmf_gemm g = {false,
                            false,
                            end - begin,
                            h,
                            n->rows,
                            1,
                            n->dhidden + (begin * n->steps + t) * n->stride,
                            n->steps * n->stride,
                            n->w.weight_hh->data,
                            h,
                            1,
                            dh,
                            h};
        mmf_blas_gemm(&g);
    }
}

/* ---- Backward: the walk, then products over all steps ------------------------------------- */

/* h at the step before each, zeros where there is none: what weight_hh was multiplied with. */
static mmf_real *previous_states(mmf_tape *tape, const rnn_node *n, int64_t stride)
{
    mmf_real *const out = mmf_tape__reals(tape, n->batch * n->steps * stride);
    for (int64_t step = 0; out && step < n->batch * n->steps; step++) {
        const int64_t t = step % n->steps, before = rnn_previous_step(n, t);
        mmf_real *const to = out + step * stride;
        if (before < 0)
            memset(to, 0, (size_t)n->hidden * sizeof *to);
        else
            memcpy(to, n->node.out->data + (step - t + before) * n->hidden,
                   (size_t)n->hidden * sizeof *to);
    }
    return out;
}

/* Column sums of the gates' gradients for up to two biases. */
static void bias_grad(mmf_tape *tape, const rnn_node *n, const mmf_real *d, mmf_tensor *bias,
                      mmf_tensor *other)
{
    bool fresh = false;
    mmf_tensor *const both[] = {bias, other};
    mmf_real *const sums = mmf_tape__reals(tape, n->stride); /* those behind `rows` mean nothing */
    if (!sums)
        return;
    tape->k->column_sum(n->batch * n->steps, n->stride, 1, d, 0, sums);
    for (int i = 0; i < 2; i++) {
        mmf_real *const db = both[i] ? mmf_tape__grad(tape, both[i], &fresh) : NULL;
        if (db)
            tape->k->axpby(n->rows, 1, sums, fresh ? 0 : 1, db);
    }
}

static void rnn_backward(mmf_tape *tape, mmf_node *node)
{
    rnn_node *const n = (rnn_node *)node;
    const int64_t all = n->batch * n->steps, h = n->hidden;
    const int64_t ld = padded(h);
    n->dgates = mmf_tape__reals(tape, all * n->stride);
    /* LSTM: dh and dc; GRU: recurrent gradients of all steps and dh; both: a row of zeros. */
    const int64_t extra = n->is_gru ? all * n->stride + n->batch * h : 2 * n->batch * h;
    n->dhidden = mmf_tape__reals(tape, extra + h);
    mmf_real *const states = previous_states(tape, n, ld);
    if (!n->dgates || !n->dhidden || !states)
        return;
    memset(n->dhidden + extra, 0, (size_t)h * sizeof *n->dhidden);
    rnn_job job = {tape, n, mmf_tape__output_grad(tape, node->out),
                   mmf_tape__output_grad(tape, n->cells)};
    mmf_tape__parallel(tape, n->batch, RANGE_ROWS,
                       n->is_gru ? gru_backward_range : lstm_backward_range, &job);
    mmf_tape__count_products(tape, n->batch * n->steps, n->rows, n->hidden, 1);
    const mmf_real *const d_recurrent = n->is_gru ? n->dhidden : n->dgates;
    bool fresh = false;
    mmf_real *const dw_hh = mmf_tape__grad(tape, n->w.weight_hh, &fresh);
    if (dw_hh)
        mmf_tape__gemm(tape, &(mmf_gemm){true, false, n->rows, h, all, 1, d_recurrent, n->stride,
                                         states, ld, fresh ? 0 : 1, dw_hh, h});
    mmf_real *const dw_ih = mmf_tape__grad(tape, n->w.weight_ih, &fresh);
    if (dw_ih)
        mmf_tape__gemm(tape,
                       &(mmf_gemm){true, false, n->rows, n->inputs, all, 1, n->dgates, n->stride,
                                   n->x->data, n->inputs, fresh ? 0 : 1, dw_ih, n->inputs});
    bias_grad(tape, n, n->dgates, n->w.bias_ih, n->is_gru ? NULL : n->w.bias_hh);
    if (n->is_gru)
        bias_grad(tape, n, d_recurrent, n->w.bias_hh, NULL);
    mmf_real *const dx = mmf_tape__grad(tape, n->x, &fresh);
    if (dx)
        mmf_tape__gemm(tape,
                       &(mmf_gemm){false, false, all, n->inputs, n->rows, 1, n->dgates, n->stride,
                                   n->w.weight_ih->data, n->inputs, fresh ? 0 : 1, dx, n->inputs});
}

/* ---- The state at each sample's own end -------------------------------------------------- */

typedef struct last_node {
    mmf_node node;
    mmf_tensor *states, *sequence;
    const mmf_tensor *length;
    bool reverse;
} last_node;

static int64_t end_step(const last_node *l, int64_t b)
{
    return l->reverse ? 0 : (l->length ? l->length->ints[b] : l->states->shape[1]) - 1;
}

static void last_backward(mmf_tape *tape, mmf_node *node)
{
    last_node *const l = (last_node *)node;
    const int64_t steps = l->states->shape[1], h = l->states->shape[2];
    mmf_real *const d = mmf_tape__grad_zeroed(tape, l->states);
    (void)mmf_tape__grad_zeroed(tape, l->sequence); /* the layer's node starts from its sequence */
    for (int64_t b = 0; d && b < l->states->shape[0]; b++)
        tape->k->axpby(h, 1, node->out->grad + b * h, 1, d + (b * steps + end_step(l, b)) * h);
}

static mmf_tensor *last_state(mmf_tape *tape, mmf_tensor *states, mmf_tensor *sequence,
                              const mmf_tensor *length, bool reverse)
{
    last_node l = {.states = states, .sequence = sequence, .length = length, .reverse = reverse};
    const int64_t rows = states->shape[0], h = states->shape[2];
    mmf_tensor *const y = mmf_tape__tensor(tape, 2, (int64_t[]){rows, h});
    for (int64_t b = 0; y && b < rows; b++)
        memcpy(y->data + b * h, states->data + (b * states->shape[1] + end_step(&l, b)) * h,
               (size_t)h * sizeof *y->data);
    last_node *const node =
        mmf_tape__record(tape, sizeof *node, "last_state", y, sequence->wants_grad, last_backward);
    if (node) {
        l.node = node->node;
        *node = l;
    }
    return y;
}

/* ---- Forward ----------------------------------------------------------------------------- */

static bool check(mmf_tape *tape, const char *op, mmf_tensor *x, const mmf_rnn_weights *w,
                  const mmf_tensor *length, int64_t n_gates)
{
    if (!x || !w->weight_ih || !w->weight_hh) {
        mmf_tape__missing(tape, op);
        return false;
    }
    if (x->n_dims != 3 || x->is_int || w->weight_ih->shape[1] != x->shape[2] || x->shape[1] < 1 ||
        w->weight_hh->shape[0] != n_gates * w->weight_hh->shape[1]) {
        mmf_tape__unfit(tape, op, x, w->weight_ih, "takes (B, T, D) and weights of D inputs");
        return false;
    }
    if (length && (!length->is_int || length->count != x->shape[0])) {
        mmf_tape__unfit(tape, op, x, length, "one integer length a sample");
        return false;
    }
    for (int64_t b = 0; length && b < length->count; b++) {
        if (length->ints[b] < 1 || length->ints[b] > x->shape[1]) {
            mmf_tape__fail(tape, MMF_ARG, op, "sample %lld has length %lld, expected 1 to %lld",
                           (long long)b, (long long)length->ints[b], (long long)x->shape[1]);
            return false;
        }
    }
    return true;
}

/* The biases that may be added before the recurrence. */
static mmf_tensor *early_bias(mmf_tape *tape, const rnn_node *n)
{
    mmf_tensor *const bias = mmf_tape__tensor(tape, 1, &n->rows);
    for (int64_t i = 0; bias && i < n->rows; i++) {
        bias->data[i] = n->w.bias_ih ? n->w.bias_ih->data[i] : 0;
        if (!n->is_gru && n->w.bias_hh) /* the GRU's reset gate acts on the recurrent bias */
            bias->data[i] += n->w.bias_hh->data[i];
    }
    return bias;
}

/* Input projections of all steps. */
static bool project(mmf_tape *tape, rnn_node *n)
{
    const int64_t all = n->batch * n->steps;
    mmf_tensor *const gates = mmf_tape__tensor(tape, 2, (int64_t[]){all, n->stride});
    mmf_tensor *const bias = early_bias(tape, n);
    n->tanh_c = mmf_tape__reals(tape, all * n->hidden);
    if (!gates || !n->tanh_c || !bias)
        return false;
    n->gates = gates->data;
    if (n->stride == n->rows &&
        mmf_panels_linear(tape, n->x, n->w.weight_ih, bias, MMF_ACT_NONE, gates))
        return true;
    for (int64_t step = 0; step < all; step++)
        memcpy(n->gates + step * n->stride, bias->data, (size_t)n->rows * sizeof *n->gates);
    mmf_tape__gemm(tape, &(mmf_gemm){false, true, all, n->rows, n->inputs, 1, n->x->data, n->inputs,
                                     n->w.weight_ih->data, n->inputs, 1, n->gates, n->stride});
    return true;
}

/* In blocks, so that both sides stay in cache. */
static void transpose(const rnn_node *n, mmf_real *to)
{
    enum { SIDE = 16 };
    const int64_t stride = padded(n->rows);
    for (int64_t u0 = 0; u0 < n->hidden; u0 += SIDE) {
        const int64_t u1 = u0 + SIDE < n->hidden ? u0 + SIDE : n->hidden;
        for (int64_t r = 0; r < n->rows; r++) {
            for (int64_t u = u0; u < u1; u++)
                to[u * stride + r] = n->w.weight_hh->data[r * n->hidden + u];
        }
    }
}

/* What the samples of a batch share; fewer do without. */
static bool transpose_recurrent(mmf_tape *tape, rnn_node *n)
{
    if (n->batch < TRANSPOSE_ROWS)
        return true;
    mmf_real *const to = mmf_tape__reals(tape, n->hidden * padded(n->rows));
    if (!to)
        return false;
    transpose(n, to);
    n->w_hh_t = to;
    return true;
}

static bool walk(mmf_tape *tape, rnn_node *n)
{
    const int64_t n_parts = n->is_gru ? n->batch * n->rows : 0;
    mmf_real *const scratch = mmf_tape__reals(tape, n_parts + n->hidden);
    if (!scratch)
        return false;
    mmf_real *const zeros = scratch + n_parts;
    memset(zeros, 0, (size_t)n->hidden * sizeof *zeros);
    if (mmf_rnn_walk_sample(tape, n, scratch, zeros))
        return true;
    n->dhidden = scratch; /* GRU: the step's recurrent part, then the zeros */
    rnn_job job = {.tape = tape, .n = n, .d_sequence = zeros};
    if (!transpose_recurrent(tape, n))
        return false;
    mmf_tape__parallel(tape, n->batch, RANGE_ROWS,
                       n->is_gru ? gru_forward_range : lstm_forward_range, &job);
    return true;
}

static mmf_rnn_output run(mmf_tape *tape, const char *op, mmf_tensor *x, const mmf_rnn_weights *w,
                          const mmf_tensor *length, bool reverse, bool is_gru)
{
    const mmf_rnn_output failed = {0};
    if (!check(tape, op, x, w, length, is_gru ? 3 : 4))
        return failed;
    rnn_node n = {.w = *w, .x = x, .length = length, .reverse = reverse, .is_gru = is_gru};
    n.batch = x->shape[0];
    n.steps = x->shape[1];
    n.inputs = x->shape[2];
    n.hidden = w->weight_hh->shape[1];
    n.rows = w->weight_hh->shape[0];
    n.stride = tape->pass.record || n.batch > 1 ? padded(n.rows) : n.rows;
    const int64_t shape[] = {n.batch, n.steps, n.hidden};
    mmf_tensor *const sequence = mmf_tape__tensor(tape, 3, shape);
    n.cells = is_gru ? NULL : mmf_tape__tensor(tape, 3, shape);
    n.node.out = sequence;
    if (!sequence || (!is_gru && !n.cells) || !project(tape, &n) || !walk(tape, &n))
        return failed;
    mmf_tape__count_products(tape, n.batch * n.steps, n.rows, n.hidden, 1);
    const bool wants = x->wants_grad || w->weight_ih->wants_grad || w->weight_hh->wants_grad ||
                       (w->bias_ih && w->bias_ih->wants_grad) ||
                       (w->bias_hh && w->bias_hh->wants_grad);
    rnn_node *const node = mmf_tape__record(tape, sizeof *node, op, sequence, wants, rnn_backward);
    if (node) {
        n.node = node->node;
        *node = n;
        if (n.cells)
            n.cells->wants_grad = true;
    }
    return (mmf_rnn_output){sequence, last_state(tape, sequence, sequence, length, reverse),
                            is_gru ? NULL : last_state(tape, n.cells, sequence, length, reverse),
                            n.cells};
}

mmf_rnn_output mmf_lstm(mmf_tape *tape, mmf_tensor *x, const mmf_rnn_weights *w,
                        const mmf_tensor *length, bool reverse)
{
    return run(tape, "lstm", x, w, length, reverse, false);
}

mmf_rnn_output mmf_gru(mmf_tape *tape, mmf_tensor *x, const mmf_rnn_weights *w,
                       const mmf_tensor *length, bool reverse)
{
    return run(tape, "gru", x, w, length, reverse, true);
}

/* ---- Examples: lengths and direction vary; all three outputs reach the result ------------- */

static mmf_tensor *example(mmf_op_case *c, bool is_gru)
{
    const int64_t h = 3 * c->scale, d = 4, rows = (is_gru ? 3 : 4) * h;
    mmf_tensor *const x = mmf_case_input(c, -1, 1, 3, (int64_t[]){3, 5, d});
    mmf_rnn_weights w = {0};
    w.weight_ih = mmf_case_input(c, -1, 1, 2, (int64_t[]){rows, d});
    w.weight_hh = mmf_case_input(c, -1, 1, 2, (int64_t[]){rows, h});
    if (c->index != 3) {
        w.bias_ih = mmf_case_input(c, -1, 1, 1, &rows);
        w.bias_hh = mmf_case_input(c, -1, 1, 1, &rows);
    }
    const mmf_tensor *const length =
        c->index & 1 ? mmf_case_ints(c, 1, 6, 1, (int64_t[]){3}) : NULL;
    const mmf_rnn_output o =
        run(c->tape, is_gru ? "gru" : "lstm", x, &w, length, c->index >> 1, is_gru);
    mmf_tensor *const ends =
        is_gru ? o.h_n : mmf_concat(c->tape, (mmf_tensor *[]){o.h_n, o.c_n}, 2, 1);
    if (!o.sequence || !ends)
        return NULL;
    mmf_tensor *const flat = mmf_reshape(c->tape, o.sequence, 2, (int64_t[]){3, -1});
    if (is_gru)
        return mmf_concat(c->tape, (mmf_tensor *[]){flat, ends}, 2, 1);
    mmf_tensor *const cells = mmf_reshape(c->tape, o.cells, 2, (int64_t[]){3, -1});
    return mmf_concat(c->tape, (mmf_tensor *[]){flat, ends, cells}, 3, 1);
}

static mmf_tensor *lstm_example(mmf_op_case *c)
{
    return example(c, false);
}

static mmf_tensor *gru_example(mmf_op_case *c)
{
    return example(c, true);
}

static double rnn_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)out;
    const double steps = (double)(c->inputs[0]->shape[0] * c->inputs[0]->shape[1]);
    return 2 * steps * (double)(c->inputs[1]->count + c->inputs[2]->count);
}

const mmf_op mmf_op_lstm = {"lstm", 4, lstm_example, rnn_flops, true};
const mmf_op mmf_op_gru = {"gru", 4, gru_example, rnn_flops, true};
