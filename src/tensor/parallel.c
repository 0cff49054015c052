/*
 * parallel.c: the only place of the engine with threads: ranges of a loop, and matrix products
 * split into one-thread products.
 *
 * Ranges depend on sizes alone, no two write the same element and partial sums are added in order,
 * so the bits of a result do not depend on the number of threads.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "tensor/tape.h"

#ifdef MMF_WITH_OPENMP
#include <omp.h>
#endif

/* Elements of work, at some 4 a nanosecond, below which waking a second thread costs more than it
 * saves. A parallel region costs 2 us on idle cores; where another process has the core, its end
 * waits for a whole turn of the scheduler, so small steps had better have none. */
#define PARALLEL_MIN_COST 131072
/* Elements of a walk below which it stays on one thread: it starts and ends once, and a thread that
 * sleeps is awake after some 50 us. */
#define LOCKSTEP_MIN_COST ((int64_t)1 << 20)
/* Looks at the other threads' progress before giving the core away. */
#define LOCKSTEP_LOOKS 4096
/* Multiply-adds below which one product stays on one thread (about 50 us of work). */
#define GEMM_MIN_WORK ((int64_t)2 << 20)
/* Elements of a matrix from which one row through it waits for the matrix to come, and has pieces.
 */
#define ROW_MIN_ELEMENTS ((int64_t)1 << 17)
/* Bytes to be read from which it is worth waking a thread that sleeps, which takes 60 us as well,
 * and those that a piece has at least. */
#define READ_WAKING_BYTES ((int64_t)1 << 21)
#define READ_MIN_BYTES ((int64_t)1 << 17)
/* Threads that spin for a while before they sleep are still awake so long after they had work. */
#define AWAKE_NANOSECONDS 30000
/* Pieces of a product, and of a large one: few, because every piece packs its operands again. */
#define GEMM_PIECES 2
#define GEMM_LARGE_PIECES 4
/* Of one row through a large matrix, which packs nothing: a thread that has to be woken takes
 * fewer. */
#define ROW_PIECES 8
/* Columns (or rows) of C in a piece are a multiple of a back end's register block. */
#define GEMM_BLOCK 16
/* Terms of a piece's sums where the inner dimension is split. */
#define GEMM_MIN_TERMS 400
/* Threads of which each begins with a share of its own. */
#define MOST_SHARES 64

int64_t mmf_grain(int64_t cost_per_item)
{
    const int64_t grain = PARALLEL_MIN_COST / (cost_per_item > 0 ? cost_per_item : 1);
    return grain > 0 ? grain : 1;
}

bool mmf_threads_sleep(void)
{
    const char *const policy = getenv("OMP_WAIT_POLICY"), *const spins = getenv("GOMP_SPINCOUNT");
    return (policy && strcasecmp(policy, "passive") == 0) || (spins && strcmp(spins, "0") == 0);
}

/* When this thread's team last had work. */
static _Thread_local int64_t last_met;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool others_are_awake(const mmf_tape *tape)
{
    return !tape->threads_sleep && now() - last_met < AWAKE_NANOSECONDS;
}

#ifdef MMF_WITH_OPENMP
/* Consecutive ranges, of which the next waits for a thread; on a line of the cache of its own. */
typedef struct share {
    _Alignas(64) int64_t next;
    int64_t end;
} share;

/* Every thread begins with a share of its own, the same in the loops that follow each other: what
 * it left in its cache it finds there again. Then it helps the others. */
static void work(share *shares, int n_shares, int64_t n, int64_t grain, mmf_range_fn *fn,
                 void *argument)
{
    const int own = omp_get_thread_num();
    for (int i = 0; i < n_shares; i++) {
        share *const s = &shares[(own + i) % n_shares];
        for (;;) {
            const int64_t r = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED);
            if (r >= s->end)
                break;
            fn(argument, r * grain, (r + 1) * grain < n ? (r + 1) * grain : n);
        }
    }
}
#endif

static void run_ranges(int n_threads, int64_t n, int64_t grain, mmf_range_fn *fn, void *argument)
{
    if (n <= grain || n_threads == 1) {
        for (int64_t begin = 0; begin < n; begin += grain)
            fn(argument, begin, begin + grain < n ? begin + grain : n);
        return;
    }
#ifdef MMF_WITH_OPENMP
    const int64_t n_ranges = (n + grain - 1) / grain;
    share shares[MOST_SHARES];
    const int n_shares = n_threads < MOST_SHARES ? n_threads : MOST_SHARES;
    for (int i = 0; i < n_shares; i++)
        shares[i] = (share){i * n_ranges / n_shares, (i + 1) * n_ranges / n_shares};
#pragma omp parallel num_threads(n_threads)
    work(shares, n_shares, n, grain, fn, argument);
    last_met = now();
#else
    for (int64_t begin = 0; begin < n; begin += grain)
        fn(argument, begin, begin + grain < n ? begin + grain : n);
#endif
}

void mmf_tape__parallel(const mmf_tape *tape, int64_t n, int64_t grain, mmf_range_fn *fn,
                        void *argument)
{
    run_ranges(tape->n_threads, n, grain, fn, argument);
}

/* Who waits for so many bytes. */
static int readers(const mmf_tape *tape, int64_t n_bytes)
{
    return n_bytes >= READ_WAKING_BYTES || others_are_awake(tape) ? tape->n_threads : 1;
}

void mmf_tape__parallel_reads(const mmf_tape *tape, int64_t n, int64_t bytes_each, mmf_range_fn *fn,
                              void *argument)
{
    const int64_t grain = (READ_MIN_BYTES + bytes_each - 1) / bytes_each;
    run_ranges(readers(tape, n * bytes_each), n, grain, fn, argument);
}

/* ---- Steps in order ---------------------------------------------------------------------- */

/* On a line of the cache of its own: threads write to different ones. */
typedef struct walk_count {
    _Alignas(64) int64_t n;
} walk_count;

typedef struct walk {
    int64_t n_steps, n_pieces;
    mmf_step_fn *fn;
    void *argument;
    walk_count done;                            /* pieces of all steps */
    walk_count begun[MMF_LOCKSTEP_MOST_PIECES]; /* steps of each piece */
} walk;

/* Runs the piece of this step unless another thread has begun it. */
static void try_piece(walk *w, int64_t step, int64_t piece)
{
    int64_t expected = step;
    if (!__atomic_compare_exchange_n(&w->begun[piece].n, &expected, step + 1, false,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    w->fn(w->argument, step, piece);
    __atomic_fetch_add(&w->done.n, 1, __ATOMIC_RELEASE);
}

static void walk_steps(walk *w, int64_t thread, int64_t n_threads)
{
    for (int64_t step = 0; step < w->n_steps; step++) {
        for (int64_t piece = thread; piece < w->n_pieces; piece += n_threads)
            try_piece(w, step, piece);
        for (int64_t piece = 0; piece < w->n_pieces; piece++)
            try_piece(w, step, piece);
        const int64_t wanted = (step + 1) * w->n_pieces;
        int looks = 0;
        while (__atomic_load_n(&w->done.n, __ATOMIC_ACQUIRE) < wanted) {
            if (looks < LOCKSTEP_LOOKS)
                looks++;
            else
                sched_yield();
        }
    }
}

void mmf_tape__lockstep(const mmf_tape *tape, int64_t n_steps, int64_t n_pieces, int64_t cost,
                        mmf_step_fn *fn, void *argument)
{
    walk w = {n_steps, n_pieces, fn, argument, {0}, {{0}}};
    const int64_t most = tape->n_threads < n_pieces ? tape->n_threads : n_pieces;
    const int n_threads = n_steps * cost < LOCKSTEP_MIN_COST ? 1 : (int)most;
#ifdef MMF_WITH_OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
    walk_steps(&w, omp_get_thread_num(), omp_get_num_threads());
    last_met = n_threads > 1 ? now() : last_met;
#else
    (void)n_threads;
    walk_steps(&w, 0, 1);
#endif
}

bool mmf_tape__lanes(mmf_tape *tape, int64_t n, int64_t grain, mmf_lanes *out)
{
    const int64_t n_ranges = (n + grain - 1) / grain;
    out->count = n_ranges < tape->n_threads ? n_ranges : tape->n_threads;
    out->taken = mmf_tape__alloc(tape, (size_t)out->count * sizeof *out->taken + 1);
    for (int64_t i = 0; out->taken && i < out->count; i++)
        out->taken[i] = false;
    return out->taken != NULL;
}

int64_t mmf_lane_take(const mmf_lanes *lanes)
{
    int64_t lane = 0;
    while (__atomic_exchange_n(&lanes->taken[lane], true, __ATOMIC_ACQUIRE))
        lane = (lane + 1) % lanes->count;
    return lane;
}

void mmf_lane_give(const mmf_lanes *lanes, int64_t lane)
{
    __atomic_store_n(&lanes->taken[lane], false, __ATOMIC_RELEASE);
}

/* ---- Matrix products --------------------------------------------------------------------- */

/* One row through a matrix that no first cache level holds. */
static bool is_row(const mmf_gemm *g)
{
    return g->m == 1 && g->n * g->k >= ROW_MIN_ELEMENTS && !g->transpose_a &&
           g->alpha == (mmf_real)1 && g->beta == (mmf_real)0;
}

static void product(const mmf_kernels *k, const mmf_gemm *g, bool row)
{
    if (!row)
        mmf_blas_gemm(g);
    else if (g->transpose_b)
        k->dot_rows(g->n, g->k, g->b, g->ldb, g->a, g->c);
    else
        k->sum_rows(g->k, g->n, g->a, g->b, g->ldb, g->c);
}

typedef struct piece_job {
    const mmf_kernels *k;
    mmf_gemm whole;
    bool row;
} piece_job;

static mmf_gemm column_piece(const mmf_gemm *whole, int64_t begin, int64_t end)
{
    mmf_gemm piece = *whole;
    piece.n = end - begin;
    piece.b += whole->transpose_b ? begin * whole->ldb : begin;
    piece.c += begin;
    return piece;
}

static mmf_gemm row_piece(const mmf_gemm *whole, int64_t begin, int64_t end)
{
    mmf_gemm piece = *whole;
    piece.m = end - begin;
    piece.a += whole->transpose_a ? begin : begin * whole->lda;
    piece.c += begin * whole->ldc;
    return piece;
}

static void run_columns(void *argument, int64_t begin, int64_t end)
{
    const piece_job *const j = argument;
    const mmf_gemm piece = column_piece(&j->whole, begin, end);
    product(j->k, &piece, j->row);
}

static void run_rows(void *argument, int64_t begin, int64_t end)
{
    const piece_job *const j = argument;
    const mmf_gemm piece = row_piece(&j->whole, begin, end);
    mmf_blas_gemm(&piece);
}

/* Where the inner dimension is the longest one: each piece sums a range of it into a matrix of its
 * own, and the matrices are added in order. */
typedef struct inner_job {
    const mmf_kernels *k;
    mmf_gemm whole;
    bool row;
    int64_t terms;     /* of a piece */
    int64_t n_parts;   /* matrices beside C */
    mmf_real *partial; /* (n_parts, m, n) */
} inner_job;

static void run_inner(void *argument, int64_t begin, int64_t end)
{
    const inner_job *const j = argument;
    const int64_t part = begin / j->terms;
    mmf_gemm piece = j->whole;
    piece.k = end - begin;
    piece.a += piece.transpose_a ? begin * piece.lda : begin;
    piece.b += piece.transpose_b ? begin : begin * piece.ldb;
    if (part > 0) {
        piece.c = j->partial + (part - 1) * piece.m * piece.n;
        piece.ldc = piece.n;
        piece.beta = 0;
    }
    product(j->k, &piece, j->row);
}

static void add_parts(void *argument, int64_t begin, int64_t end)
{
    const inner_job *const j = argument;
    const mmf_gemm *const g = &j->whole;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t part = 0; part < j->n_parts; part++)
            j->k->axpby(g->n, 1, j->partial + (part * g->m + row) * g->n, 1, g->c + row * g->ldc);
    }
}

static void split_inner(mmf_tape *tape, const mmf_gemm *gemm, int64_t n_pieces, int n_threads)
{
    inner_job job = {.k = tape->k, .whole = *gemm, .row = is_row(gemm)};
    const int64_t terms = (gemm->k + n_pieces - 1) / n_pieces;
    job.terms = (terms + GEMM_BLOCK - 1) / GEMM_BLOCK * GEMM_BLOCK;
    job.n_parts = (gemm->k + job.terms - 1) / job.terms - 1;
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    job.partial = mmf_tape__reals(tape, job.n_parts * gemm->m * gemm->n);
    if (!job.partial)
        return;
    run_ranges(n_threads, gemm->k, job.terms, run_inner, &job);
    run_ranges(n_threads, gemm->m, mmf_grain(gemm->n * job.n_parts), add_parts, &job);
    mmf_arena_rewind(&tape->arena, mark);
}

static int64_t piece_size(int64_t n, int64_t n_pieces)
{
    const int64_t size = (n + n_pieces - 1) / n_pieces;
    return (size + GEMM_BLOCK - 1) / GEMM_BLOCK * GEMM_BLOCK;
}

void mmf_tape__count_products(mmf_tape *tape, int64_t times, int64_t m, int64_t n, int64_t k)
{
    tape->flops += 2.0 * (double)times * (double)m * (double)n * (double)k;
}

void mmf_tape__gemm(mmf_tape *tape, const mmf_gemm *gemm)
{
    mmf_tape__count_products(tape, 1, gemm->m, gemm->n, gemm->k);
    const int64_t work = gemm->m * gemm->n * gemm->k;
    const bool row = is_row(gemm);
    if (!row && work < GEMM_MIN_WORK) {
        mmf_blas_gemm(gemm);
        return;
    }
    const int64_t n_bytes = work * (int64_t)sizeof(mmf_real);
    const bool large = row ? n_bytes >= READ_WAKING_BYTES : work >= 16 * GEMM_MIN_WORK;
    const int64_t many = row ? ROW_PIECES : GEMM_LARGE_PIECES;
    const int64_t n_pieces = large ? many : GEMM_PIECES;
    /* Pieces depend on sizes alone, who runs them does not. */
    const int n_threads = row ? readers(tape, n_bytes) : tape->n_threads;
    piece_job job = {tape->k, *gemm, row};
    if (gemm->k > gemm->m && gemm->k > gemm->n && gemm->k >= n_pieces * GEMM_MIN_TERMS)
        split_inner(tape, gemm, n_pieces, n_threads);
    else if (gemm->n >= gemm->m)
        run_ranges(n_threads, gemm->n, piece_size(gemm->n, n_pieces), run_columns, &job);
    else
        run_ranges(n_threads, gemm->m, piece_size(gemm->m, n_pieces), run_rows, &job);
}
