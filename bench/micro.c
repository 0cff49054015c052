/*
 * micro.c: what the engine adds to its arithmetic, as CSV tables.
 *
 *     micro engine   time of a recorded operation on tiny tensors; Adam against memory bandwidth
 *     micro linear   linear layers as a share of the matrix product alone
 *     micro ops      every operation of the table over sizes, as a share of the roofline
 *
 * Each number is the best of several rounds in processor time, on one thread, so that other work on
 * the machine disturbs it little.
 */
#include <stdio.h>
#include <string.h>

#include "mmfuse/nn.h"
#include "tensor/ops.h"
#include "tensor/tape.h"
#include "timer.h"

#define SECONDS 0.1
#define ROUNDS 7
#define CHAIN 256
#define TINY 8
/* Larger than any cache here, so that Adam and the copy move memory. */
#define LARGE ((int64_t)1 << 24)

typedef void work_fn(void *argument);

static double repeat(work_fn *work, void *argument, int64_t n)
{
    const double start = bench_cpu_seconds();
    for (int64_t i = 0; i < n; i++)
        work(argument);
    return bench_cpu_seconds() - start;
}

/* Processor seconds of one call, best of ROUNDS. */
static double best_time(work_fn *work, void *argument, double seconds)
{
    int64_t n = 1;
    double spent = repeat(work, argument, n);
    while (spent < seconds) {
        n *= 2;
        spent = repeat(work, argument, n);
    }
    double best = spent / (double)n;
    for (int r = 1; r < ROUNDS; r++) {
        spent = repeat(work, argument, n) / (double)n;
        best = spent < best ? spent : best;
    }
    return best;
}

/* ---- Operations on tiny tensors ---------------------------------------------------------- */

typedef struct chain_work {
    mmf_tape *tape;
    mmf_real values[TINY];
} chain_work;

static void run_chain(void *argument)
{
    chain_work *const w = argument;
    const int64_t shape[] = {TINY};
    const mmf_real one[TINY] = {1, 1, 1, 1, 1, 1, 1, 1};
    mmf_tape_begin(w->tape, &(mmf_pass){.record = true});
    mmf_tensor *x = mmf_variable(w->tape, w->values, 1, shape);
    for (int i = 0; i < CHAIN / 2; i++)
        x = mmf_relu(w->tape, mmf_affine(w->tape, x, 1, 0));
    mmf_tape_backward_from(w->tape, x, one);
}

/* ---- Adam -------------------------------------------------------------------------------- */

typedef struct flat_work {
    const mmf_kernels *k;
    mmf_real *grad, *m, *v, *w;
} flat_work;

static void run_adam(void *argument)
{
    const flat_work *const f = argument;
    const mmf_adam adam = {.lr = (mmf_real)1e-3,
                           .beta1 = (mmf_real)0.9,
                           .beta2 = (mmf_real)0.999,
                           .eps = (mmf_real)1e-8,
                           .correction1 = 1,
                           .correction2 = 1,
                           .grad_scale = 1};
    f->k->adam(LARGE, &adam, f->grad, f->m, f->v, f->w);
}

/* Reads four streams and writes three, as Adam does, with next to no arithmetic: in blocks, so that
 * the gradient is read from memory once. */
static void run_stream(void *argument)
{
    enum { BLOCK = 2048 };
    const flat_work *const f = argument;
    for (int64_t i = 0; i < LARGE; i += BLOCK) {
        f->k->axpby(BLOCK, 1, f->grad + i, 1, f->m + i);
        f->k->axpby(BLOCK, 1, f->grad + i, 1, f->v + i);
        f->k->axpby(BLOCK, 1, f->grad + i, 1, f->w + i);
    }
}

static int measure_engine(mmf_ctx *ctx)
{
    chain_work chain = {.values = {1, 2, 3, 4, 5, 6, 7, 8}};
    flat_work flat = {.k = mmf_kernels_for(mmf_ctx_cpu(ctx))};
    mmf_real **const blocks[] = {&flat.grad, &flat.m, &flat.v, &flat.w};
    if (mmf_tape_create(ctx, &chain.tape) != MMF_OK)
        return 1;
    for (int i = 0; i < 4; i++) {
        *blocks[i] = mmf_alloc_zero(ctx, (size_t)LARGE, sizeof(mmf_real));
        if (!*blocks[i])
            return 1;
        for (int64_t j = 0; j < LARGE; j++)
            (*blocks[i])[j] = (mmf_real)(1 + j % 7) / 8;
    }
    const double op = best_time(run_chain, &chain, SECONDS) / CHAIN;
    const double adam = best_time(run_adam, &flat, SECONDS),
                 stream = best_time(run_stream, &flat, SECONDS);
    const double bytes = 7.0 * sizeof(mmf_real) * (double)LARGE;
    printf("what,value,aim\n");
    printf("recorded operation on %d elements: forward and backward,%.0f ns,80 ns; at most 150\n",
           TINY, op * 1e9);
    printf("Adam over %lld parameters,%.1f GB/s,\n", (long long)LARGE, bytes / adam * 1e-9);
    printf("the same streams without its arithmetic,%.1f GB/s,\n", bytes / stream * 1e-9);
    printf("Adam as a share of that,%.2f,1\n", stream / adam);
    mmf_tape_free(chain.tape);
    for (int i = 0; i < 4; i++)
        mmf_free(ctx, *blocks[i]);
    return 0;
}

/* ---- Linear layers ----------------------------------------------------------------------- */

typedef struct linear_work {
    mmf_tape *tape;
    int64_t rows, inputs, outputs;
    mmf_real *x, *w, *b, *y;
} linear_work;

static void run_linear(void *argument)
{
    linear_work *const l = argument;
    mmf_tape_begin(l->tape, &(mmf_pass){0});
    mmf_tensor *const x = mmf_input(l->tape, l->x, 2, (int64_t[]){l->rows, l->inputs});
    mmf_tensor *const w = mmf_input(l->tape, l->w, 2, (int64_t[]){l->outputs, l->inputs});
    mmf_tensor *const b = mmf_input(l->tape, l->b, 1, &l->outputs);
    mmf_linear(l->tape, x, w, b, MMF_ACT_RELU);
}

static void run_product(void *argument)
{
    const linear_work *const l = argument;
    mmf_blas_gemm(&(mmf_gemm){false, true, l->rows, l->outputs, l->inputs, 1, l->x, l->inputs, l->w,
                              l->inputs, 0, l->y, l->outputs});
}

static int measure_linear(mmf_ctx *ctx)
{
    static const int64_t sizes[][3] = {{1, 768, 64},   {32, 74, 64},    {32, 768, 64},
                                       {32, 300, 128}, {256, 768, 768}, {512, 768, 768}};
    linear_work l = {0};
    if (mmf_tape_create(ctx, &l.tape) != MMF_OK)
        return 1;
    const size_t most = 768 * 768;
    mmf_real **const blocks[] = {&l.x, &l.w, &l.b, &l.y};
    for (int i = 0; i < 4; i++) {
        *blocks[i] = mmf_alloc_zero(ctx, most, sizeof(mmf_real));
        if (!*blocks[i])
            return 1;
        for (size_t j = 0; j < most; j++)
            (*blocks[i])[j] = (mmf_real)(1 + j % 5) / 8;
    }
    printf("rows x inputs x outputs,product alone (GFLOP/s),linear with bias and ReLU "
           "(GFLOP/s),share\n");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        l.rows = sizes[i][0];
        l.inputs = sizes[i][1];
        l.outputs = sizes[i][2];
        const double flops = 2.0 * (double)(l.rows * l.inputs * l.outputs);
        const double product = best_time(run_product, &l, SECONDS),
                     layer = best_time(run_linear, &l, SECONDS);
        printf("%lld x %lld x %lld,%.1f,%.1f,%.2f\n", (long long)l.rows, (long long)l.inputs,
               (long long)l.outputs, flops / product * 1e-9, flops / layer * 1e-9, product / layer);
    }
    mmf_tape_free(l.tape);
    for (int i = 0; i < 4; i++)
        mmf_free(ctx, *blocks[i]);
    return 0;
}

/* ---- Every operation --------------------------------------------------------------------- */

#define OP_SECONDS 0.002
#define MAX_BYTES ((int64_t)64 << 20)

typedef struct op_work {
    mmf_tape *tape;
    const mmf_op *op;
    mmf_op_store store;
    int64_t scale;
    bool records;
    double flops, bytes;
    int64_t count; /* of the output */
    const mmf_real *ones;
} op_work;

static mmf_tensor *run_example(op_work *o)
{
    mmf_op_case c = {.tape = o->tape, .scale = o->scale, .store = &o->store};
    c.rng = mmf_rng_make(1, 1);
    mmf_tape_begin(o->tape, &(mmf_pass){.record = o->records, .training = true, .seed = 1});
    mmf_tensor *const out = o->op->example(&c);
    if (!out)
        return NULL;
    int64_t elements = out->count;
    for (int i = 0; i < c.n_inputs; i++)
        elements += c.inputs[i]->count;
    o->count = out->count;
    o->bytes = (double)elements * sizeof(mmf_real);
    o->flops = o->op->flops ? o->op->flops(&c, out) : 0;
    return out;
}

static void run_forward(void *argument)
{
    op_work *const o = argument;
    o->records = false;
    run_example(o);
}

static void run_both(void *argument)
{
    op_work *const o = argument;
    o->records = true;
    mmf_tensor *const out = run_example(o);
    mmf_tape_backward_from(o->tape, out, o->ones);
}

typedef struct copy_work {
    const mmf_kernels *k;
    int64_t n;
    mmf_real *from, *to;
} copy_work;

static void run_copy(void *argument)
{
    const copy_work *const c = argument;
    c->k->axpby(c->n, 2, c->from, 0, c->to);
}

/*
 * The least time that peak arithmetic (a large product) and the bandwidth for as many bytes (one
 * array read, one written, from whatever cache holds them) allow.
 */
static double roofline(double peak, const op_work *o, copy_work *copy)
{
    copy->n = (int64_t)(o->bytes / (2 * sizeof(mmf_real)));
    copy->n = copy->n < 1 ? 1 : (copy->n > LARGE ? LARGE : copy->n);
    const double moving = best_time(run_copy, copy, OP_SECONDS), adding = o->flops / peak;
    return moving > adding ? moving : adding;
}

static int measure_op(mmf_ctx *ctx, const mmf_op *op, int64_t scale, double peak, copy_work *copy)
{
    op_work o = {.op = op, .store = {.ctx = ctx}, .scale = scale, .ones = copy->from};
    if (mmf_tape_create(ctx, &o.tape) != MMF_OK)
        return 1;
    const bool runs = run_example(&o) && o.bytes < (double)MAX_BYTES && o.count <= LARGE;
    if (runs) {
        const double forward = best_time(run_forward, &o, OP_SECONDS);
        const double both = best_time(run_both, &o, OP_SECONDS);
        printf("%s,%lld,%.0f,%.0f,%.2f,%.2f,%.1f,%.1f,%.0f\n", op->name, (long long)scale, o.flops,
               o.bytes, forward * 1e6, both * 1e6, o.flops / forward * 1e-9,
               o.bytes / forward * 1e-9, 100 * roofline(peak, &o, copy) / forward);
    }
    mmf_tape_free(o.tape);
    mmf_op_store_clear(&o.store);
    return 0;
}

static int measure_ops(mmf_ctx *ctx)
{
    static const int64_t scales[] = {1, 16, 64};
    copy_work copy = {.k = mmf_kernels_for(mmf_ctx_cpu(ctx))};
    copy.from = mmf_alloc_zero(ctx, (size_t)LARGE, sizeof(mmf_real));
    copy.to = mmf_alloc_zero(ctx, (size_t)LARGE, sizeof(mmf_real));
    if (!copy.from || !copy.to)
        return 1;
    copy.k->fill(LARGE, 1, copy.from);
    linear_work l = {NULL, 512, 768, 768, copy.from, copy.from, copy.from, copy.to};
    const double peak = 2.0 * 512 * 768 * 768 / best_time(run_product, &l, SECONDS);
    size_t n = 0;
    const mmf_op *const *const ops = mmf_ops(&n);
    int status = 0;
    printf("operation,scale,flop,bytes,forward us,forward and backward us,GFLOP/s,GB/s,"
           "percent of roofline\n");
    for (size_t i = 0; i < n && status == 0; i++) {
        for (size_t s = 0; s < sizeof scales / sizeof *scales && status == 0; s++)
            status = measure_op(ctx, ops[i], scales[s], peak, &copy);
    }
    mmf_free(ctx, copy.from);
    mmf_free(ctx, copy.to);
    return status;
}

int main(int argc, char **argv)
{
    mmf_ctx *ctx = NULL;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = 1;
    if (mmf_ctx_create(&ctx, &options) != MMF_OK)
        return 1;
    int status = 2;
    if (argc == 2 && strcmp(argv[1], "engine") == 0)
        status = measure_engine(ctx);
    else if (argc == 2 && strcmp(argv[1], "linear") == 0)
        status = measure_linear(ctx);
    else if (argc == 2 && strcmp(argv[1], "ops") == 0)
        status = measure_ops(ctx);
    else
        fprintf(stderr, "usage: micro engine|linear|ops\n");
    mmf_ctx_free(ctx);
    return status;
}
