/* matmul.c: matrix products, batched, with any transposition; outer products. */
#include "tensor/int8.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct matmul_node {
    mmf_node node;
    mmf_tensor *a, *b;
    bool transpose_a, transpose_b;
    int64_t batches, m, n, k;
} matmul_node;

typedef struct product {
    const mmf_tape *tape;
    mmf_gemm gemm;
    int64_t step_a, step_b, step_c;
} product;

static void run_batches(void *argument, int64_t begin, int64_t end)
{
    const product *const p = argument;
    for (int64_t i = begin; i < end; i++) {
        mmf_gemm one = p->gemm;
        one.a += i * p->step_a;
        one.b += i * p->step_b;
        one.c += i * p->step_c;
        mmf_blas_gemm(&one);
    }
}

/* Independent products go to threads whole; products that add to one C follow each other. */
static void multiply(mmf_tape *tape, int64_t batches, product *p)
{
    const int64_t work = p->gemm.m * p->gemm.n * p->gemm.k;
    p->tape = tape;
    if (batches == 1) {
        mmf_tape__gemm(tape, &p->gemm);
        return;
    }
    mmf_tape__count_products(tape, batches, p->gemm.m, p->gemm.n, p->gemm.k);
    if (p->step_c == 0) {
        for (int64_t i = 0; i < batches; i++) {
            run_batches(p, i, i + 1);
            p->gemm.beta = 1;
        }
    } else {
        mmf_tape__parallel(tape, batches, mmf_grain(work / 16), run_batches, p);
    }
}

static int64_t matrix_step(const mmf_tensor *x, int64_t batches)
{
    const int64_t size = x->shape[x->n_dims - 1] * x->shape[x->n_dims - 2];
    return batches > 1 && x->count == size ? 0 : size;
}

/*
 * C = op(A) op(B), G = dC:  d op(A) = G op(B)',  d op(B) = op(A)' G; where an operand was
 * transposed its gradient is the transpose, which swaps the factors.
 */
static void matmul_backward(mmf_tape *tape, mmf_node *node)
{
    matmul_node *const p = (matmul_node *)node;
    const mmf_real *const g = node->out->grad;
    const int64_t lda = p->a->shape[p->a->n_dims - 1], ldb = p->b->shape[p->b->n_dims - 1];
    const int64_t step_a = matrix_step(p->a, p->batches), step_b = matrix_step(p->b, p->batches);
    const int64_t step_g = p->m * p->n;
    bool fresh = false;
    mmf_real *const da = mmf_tape__grad(tape, p->a, &fresh);
    if (da) {
        const mmf_real beta = fresh ? 0 : 1;
        product q = {.step_c = step_a};
        if (p->transpose_a) { /* dA (k, m) = op(B) G' */
            q.gemm = (mmf_gemm){p->transpose_b, true, p->k, p->m, p->n, 1, p->b->data, ldb, g,
                                p->n,           beta, da,   lda};
            q.step_a = step_b;
            q.step_b = step_g;
        } else { /* dA (m, k) = G op(B)' */
            q.gemm = (mmf_gemm){false, !p->transpose_b, p->m, p->k, p->n, 1,  g,
                                p->n,  p->b->data,      ldb,  beta, da,   lda};
            q.step_a = step_g;
            q.step_b = step_b;
        }
        multiply(tape, p->batches, &q);
    }
    mmf_real *const db = mmf_tape__grad(tape, p->b, &fresh);
    if (db) {
        const mmf_real beta = fresh ? 0 : 1;
        product q = {.step_c = step_b};
        if (p->transpose_b) { /* dB (n, k) = G' op(A) */
            q.gemm = (mmf_gemm){true, p->transpose_a, p->n, p->k, p->m, 1,  g,
                                p->n, p->a->data,     lda,  beta, db,   ldb};
            q.step_a = step_g;
            q.step_b = step_a;
        } else { /* dB (k, n) = op(A)' G */
            q.gemm = (mmf_gemm){!p->transpose_a,
                                false,
                                p->k,
                                p->n,
                                p->m,
                                1,
                                p->a->data,
                                lda,
                                g,
                                p->n,
                                beta,
                                db,
                                ldb};
            q.step_a = step_a;
            q.step_b = step_g;
        }
        multiply(tape, p->batches, &q);
    }
}

/* Leading dimensions must be equal, or one side has none. */
static bool fit_batches(const mmf_tensor *a, const mmf_tensor *b)
{
    if (a->n_dims == 2 || b->n_dims == 2)
        return true;
    if (a->n_dims != b->n_dims)
        return false;
    for (int d = 0; d < a->n_dims - 2; d++) {
        if (a->shape[d] != b->shape[d])
            return false;
    }
    return true;
}

mmf_tensor *mmf_matmul(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b, bool transpose_a,
                       bool transpose_b)
{
    static const char op[] = "matmul";
    if (!a || !b)
        return mmf_tape__missing(tape, op);
    if (a->is_int || b->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    if (a->n_dims < 2 || b->n_dims < 2 || !fit_batches(a, b))
        return mmf_tape__unfit(tape, op, a, b, "two matrices, or equal batches of them");
    const int64_t *const sa = a->shape + a->n_dims - 2, *const sb = b->shape + b->n_dims - 2;
    const int64_t m = sa[transpose_a], k = sa[!transpose_a], n = sb[!transpose_b];
    if (sb[transpose_b] != k)
        return mmf_tape__unfit(tape, op, a, b, "inner dimensions differ");
    const mmf_tensor *const wide = a->n_dims >= b->n_dims ? a : b;
    int64_t shape[MMF_MAX_DIMS], batches = 1;
    for (int d = 0; d < wide->n_dims - 2; d++) {
        shape[d] = wide->shape[d];
        batches *= shape[d];
    }
    shape[wide->n_dims - 2] = m;
    shape[wide->n_dims - 1] = n;
    mmf_tensor *const y = mmf_tape__tensor(tape, wide->n_dims, shape);
    if (!y)
        return NULL;
    if (b->n_dims == 2 && !transpose_a && !transpose_b && mmf_int8_product(tape, a, b, y))
        return y;
    product p = {.gemm = {transpose_a, transpose_b, m, n, k, 1, a->data, sa[1], b->data, sb[1], 0,
                          y->data, n},
                 .step_a = matrix_step(a, batches),
                 .step_b = matrix_step(b, batches),
                 .step_c = m * n};
    multiply(tape, batches, &p);
    const bool wants = a->wants_grad || b->wants_grad;
    matmul_node *const node = mmf_tape__record(tape, sizeof *node, op, y, wants, matmul_backward);
    if (node) {
        node->a = a;
        node->b = b;
        node->transpose_a = transpose_a;
        node->transpose_b = transpose_b;
        node->batches = batches;
        node->m = m;
        node->n = n;
        node->k = k;
    }
    return y;
}

/* ---- Outer product ----------------------------------------------------------------------- */

typedef struct outer_node {
    mmf_node node;
    mmf_tensor *a, *b;
} outer_node;

typedef struct outer_job {
    const mmf_kernels *k;
    int64_t n_i, n_j;
    const mmf_real *a, *b, *g;
    mmf_real beta_a, beta_b;
    mmf_real *y, *da, *db;
} outer_job;

static void outer_range(void *argument, int64_t begin, int64_t end)
{
    const outer_job *const o = argument;
    for (int64_t r = begin; r < end; r++)
        o->k->outer(o->n_i, o->n_j, o->a + r * o->n_i, o->b + r * o->n_j,
                    o->y + r * o->n_i * o->n_j);
}

static void outer_grad_range(void *argument, int64_t begin, int64_t end)
{
    const outer_job *const o = argument;
    for (int64_t r = begin; r < end; r++)
        o->k->outer_grad(o->n_i, o->n_j, o->a + r * o->n_i, o->b + r * o->n_j,
                         o->g + r * o->n_i * o->n_j, o->beta_a, o->da ? o->da + r * o->n_i : NULL,
                         o->beta_b, o->db ? o->db + r * o->n_j : NULL);
}

static outer_job outer_job_of(const mmf_tape *tape, const mmf_tensor *a, const mmf_tensor *b)
{
    return (outer_job){
        .k = tape->k, .n_i = a->shape[1], .n_j = b->shape[1], .a = a->data, .b = b->data};
}

/* da[i] = sum_j G[i, j] b[j],  db[j] = sum_i G[i, j] a[i] for every row of the batch. */
static void outer_backward(mmf_tape *tape, mmf_node *node)
{
    outer_node *const o = (outer_node *)node;
    outer_job job = outer_job_of(tape, o->a, o->b);
    bool fresh_a = false, fresh_b = false;
    job.g = node->out->grad;
    job.da = mmf_tape__grad(tape, o->a, &fresh_a);
    job.db = mmf_tape__grad(tape, o->b, &fresh_b);
    job.beta_a = fresh_a ? 0 : 1;
    job.beta_b = fresh_b ? 0 : 1;
    if (job.da == job.db && job.da) { /* one tensor on both sides: one gradient after the other */
        job.db = NULL;
        mmf_tape__parallel(tape, o->a->shape[0], mmf_grain(job.n_i * job.n_j), outer_grad_range,
                           &job);
        job.db = job.da;
        job.da = NULL;
        job.beta_b = 1;
    }
    if (job.da || job.db)
        mmf_tape__parallel(tape, o->a->shape[0], mmf_grain(job.n_i * job.n_j), outer_grad_range,
                           &job);
}

mmf_tensor *mmf_outer(mmf_tape *tape, mmf_tensor *a, mmf_tensor *b)
{
    static const char op[] = "outer";
    if (!a || !b)
        return mmf_tape__missing(tape, op);
    if (a->is_int || b->is_int || a->n_dims != 2 || b->n_dims != 2 || a->shape[0] != b->shape[0])
        return mmf_tape__unfit(tape, op, a, b, "two real matrices with equally many rows");
    const int64_t rows = a->shape[0], n_i = a->shape[1], n_j = b->shape[1];
    mmf_tensor *const y = mmf_tape__tensor(tape, 2, (int64_t[]){rows, n_i * n_j});
    if (!y)
        return NULL;
    outer_job job = outer_job_of(tape, a, b);
    job.y = y->data;
    mmf_tape__parallel(tape, rows, mmf_grain(n_i * n_j), outer_range, &job);
    const bool wants = a->wants_grad || b->wants_grad;
    outer_node *const o = mmf_tape__record(tape, sizeof *o, op, y, wants, outer_backward);
    if (o) {
        o->a = a;
        o->b = b;
    }
    return y;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *matmul_example(mmf_op_case *c)
{
    const bool ta = c->index & 1, tb = (c->index >> 1) & 1;
    const int layout = c->index >> 2; /* matrices, two batches, one shared matrix */
    const int64_t m = 3 * c->scale, k = 4 * c->scale, n = 5 * c->scale;
    const int64_t a2[] = {ta ? k : m, ta ? m : k}, b2[] = {tb ? n : k, tb ? k : n};
    const int64_t a4[] = {2, 3, a2[0], a2[1]}, b4[] = {2, 3, b2[0], b2[1]};
    const bool batch_a = layout == 1 || layout == 2, batch_b = layout == 1 || layout == 3;
    mmf_tensor *const a = mmf_case_input(c, -1, 1, batch_a ? 4 : 2, batch_a ? a4 : a2);
    mmf_tensor *const b = mmf_case_input(c, -1, 1, batch_b ? 4 : 2, batch_b ? b4 : b2);
    return mmf_matmul(c->tape, a, b, ta, tb);
}

static double matmul_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    return 2.0 * (double)out->count * 4.0 * (double)c->scale;
}

static mmf_tensor *outer_example(mmf_op_case *c)
{
    mmf_tensor *const a = mmf_case_input(c, -1, 1, 2, (int64_t[]){3, 4 * c->scale});
    mmf_tensor *const b = mmf_case_input(c, -1, 1, 2, (int64_t[]){3, 5 * c->scale});
    return mmf_outer(c->tape, a, b);
}

const mmf_op mmf_op_matmul = {"matmul", 16, matmul_example, matmul_flops, true};
const mmf_op mmf_op_outer = {"outer", 1, outer_example, mmf_flops_elementwise, true};
