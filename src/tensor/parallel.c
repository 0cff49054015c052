/*
 * parallel.c: the only place of the engine with threads: ranges of a loop, and matrix products
 * split into one-thread products.
 *
 * Ranges depend on sizes alone and no two write the same element, so the bits of a result do not
 * depend on the number of threads.
 */
#include "tensor/tape.h"

#ifdef MMF_WITH_OPENMP
#include <omp.h>
#endif

/* Elements of work below which waking a second thread costs more than it saves: a parallel region
 * costs about 2 us here, and an element-wise loop does some 4 elements a nanosecond in cache. */
#define PARALLEL_MIN_COST 32768
/* Multiply-adds below which one product stays on one thread (about 20 us of work). */
#define GEMM_MIN_WORK ((int64_t)1 << 20)
/* Columns (or rows) of C in a piece: a multiple of every back end's register block. */
#define GEMM_PIECE 64

int64_t mmf_grain(int64_t cost_per_item)
{
    const int64_t grain = PARALLEL_MIN_COST / (cost_per_item > 0 ? cost_per_item : 1);
    return grain > 0 ? grain : 1;
}

void mmf_tape__parallel(const mmf_tape *tape, int64_t n, int64_t grain, mmf_range_fn *fn,
                        void *argument)
{
    if (n <= grain || tape->n_threads == 1) {
        for (int64_t begin = 0; begin < n; begin += grain)
            fn(argument, begin, begin + grain < n ? begin + grain : n);
        return;
    }
#ifdef MMF_WITH_OPENMP
    const int64_t n_ranges = (n + grain - 1) / grain;
#pragma omp parallel for schedule(static) num_threads(tape->n_threads)
    for (int64_t r = 0; r < n_ranges; r++) {
        const int64_t begin = r * grain;
        fn(argument, begin, begin + grain < n ? begin + grain : n);
    }
#else
    for (int64_t begin = 0; begin < n; begin += grain)
        fn(argument, begin, begin + grain < n ? begin + grain : n);
#endif
}

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
    const mmf_gemm piece = column_piece(argument, begin, end);
    mmf_blas_gemm(&piece);
}

static void run_rows(void *argument, int64_t begin, int64_t end)
{
    const mmf_gemm piece = row_piece(argument, begin, end);
    mmf_blas_gemm(&piece);
}

/* Few pieces, each large: halves for mid-sized products, up to eight for large ones. */
static int64_t piece_size(int64_t n, int64_t work)
{
    const int64_t wanted = work >= 16 * GEMM_MIN_WORK ? 8 : 2;
    const int64_t size = (n + wanted - 1) / wanted;
    return (size + GEMM_PIECE - 1) / GEMM_PIECE * GEMM_PIECE;
}

void mmf_tape__gemm(const mmf_tape *tape, const mmf_gemm *gemm)
{
    const int64_t work = gemm->m * gemm->n * gemm->k;
    if (work < GEMM_MIN_WORK) {
        mmf_blas_gemm(gemm);
        return;
    }
    mmf_gemm whole = *gemm;
    if (gemm->n >= gemm->m)
        mmf_tape__parallel(tape, gemm->n, piece_size(gemm->n, work), run_columns, &whole);
    else
        mmf_tape__parallel(tape, gemm->m, piece_size(gemm->m, work), run_rows, &whole);
}
