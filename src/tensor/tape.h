/*
 * tape.h: the inside of the tape, for operations only.
 *
 * An operation allocates its node (its own struct that begins with mmf_node), computes into
 * node->out and returns it. Its backward function asks mmf_tape__grad for each input's gradient
 * buffer and adds to it, or overwrites it where `fresh` says that nothing stands there: so no
 * buffer is ever filled with zeros only to be added to.
 */
#ifndef MMFUSE_TENSOR_TAPE_H
#define MMFUSE_TENSOR_TAPE_H

#include "base/arena.h"
#include "mmfuse/tensor.h"
#include "tensor/kernels/kernels.h"

typedef struct mmf_node mmf_node;
typedef void mmf_backward_fn(mmf_tape *tape, mmf_node *node);

struct mmf_node {
    mmf_node *previous;
    const char *op;
    mmf_backward_fn *backward;
    mmf_tensor
        *out; /* the output whose gradient starts the node; others, if any, in the op's struct */
};

/** Something made of a parameter's values, such as another layout. */
typedef struct mmf_kept {
    struct mmf_kept *next;
    const mmf_real *of;
    const char *form;
    void *piece;
} mmf_kept;

/** Rows in bytes, as several layers read them one after the other; see int8.c. */
typedef struct mmf_byte_rows {
    const mmf_real *of; /* NULL: none */
    int64_t count, inputs;
    uint64_t
        generation;  /* of the arena: in a later one `of` and the pieces may be something else */
    uint8_t *bytes;  /* (rows, inputs), in whole tiles */
    mmf_real *scale; /* of a row */
    int32_t *zero;
} mmf_byte_rows;

struct mmf_tape {
    mmf_ctx *ctx;
    mmf_arena arena;
    mmf_arena kept_arena; /* survives passes as long as they are `fixed` */
    mmf_kept *kept;
    struct mmf_conv_cached *conv_kernels; /* see conv_cache.h */
    struct mmf_byte_cached *byte_kernels; /* see int8.h */
    mmf_byte_rows byte_rows;              /* the last ones */
    mmf_pass pass;
    const mmf_kernels *k;
    int n_threads;
    bool threads_sleep; /* as soon as they have no work; they take long to wake */
    mmf_node *last;
    int64_t n_nodes;
    double flops;           /* of the products of this pass */
    uint64_t n_sites;       /* random sites met in this pass: gives each dropout its own stream */
    uint64_t backward_pass; /* numbers backward passes over the tape's whole life */
    mmf_status status;
    char message[512];
};

/** Scratch or saved values: lives until the next mmf_tape_begin. NULL after setting the sticky
 * error. */
void *mmf_tape__alloc(mmf_tape *tape, size_t bytes);
mmf_real *mmf_tape__reals(mmf_tape *tape, int64_t count);
/** A new uninitialised tensor; `wants_grad` is false. */
mmf_tensor *mmf_tape__tensor(mmf_tape *tape, int n_dims, const int64_t *shape);
/**
 * Memory for something made of a parameter's values, which `fixed` passes share; `form` names it.
 * *is_new: the caller has to fill it. NULL where the pass is not fixed, `of` is no parameter, or
 * memory is short: then the operation does without.
 */
void *mmf_tape__keep(mmf_tape *tape, const mmf_tensor *of, const char *form, size_t bytes,
                     bool *is_new);
/** What mmf_tape__keep would give without making it, NULL if it is not there. */
void *mmf_tape__kept(const mmf_tape *tape, const mmf_tensor *of, const char *form);
/** The parameter's values are not read again soon: pages of a file go back to the system. */
void mmf_tape__give_back(const mmf_tensor *of);
/**
 * Records a node of `bytes` bytes (its struct begins with mmf_node) when the pass records and
 * `wants`; returns NULL otherwise. Marks `out` as wanting gradients.
 */
void *mmf_tape__record(mmf_tape *tape, size_t bytes, const char *op, mmf_tensor *out, bool wants,
                       mmf_backward_fn *backward);
/**
 * Gradient buffer of an input, NULL if it wants none. *fresh: overwrite, nothing stands there yet
 * (the caller must then write every element).
 */
mmf_real *mmf_tape__grad(mmf_tape *tape, mmf_tensor *tensor, bool *fresh);
/** As mmf_tape__grad, zero-filled where fresh: for scattered additions. */
mmf_real *mmf_tape__grad_zeroed(mmf_tape *tape, mmf_tensor *tensor);
/** Gradient of an extra output of a node, NULL if nothing reached it. */
const mmf_real *mmf_tape__output_grad(const mmf_tape *tape, const mmf_tensor *out);

/** The stream of the next random site of this step: every site has its own. */
uint64_t mmf_tape__stream(mmf_tape *tape);

/** Sets the sticky error "op: ..." unless one is set; returns NULL so operations can return it. */
mmf_tensor *mmf_tape__fail(mmf_tape *tape, mmf_status status, const char *op, const char *format,
                           ...) MMF_PRINTF(4, 5);
/** For an operation that was given NULL. */
mmf_tensor *mmf_tape__missing(mmf_tape *tape, const char *op);
/** Sets the sticky error that names both shapes. */
mmf_tensor *mmf_tape__unfit(mmf_tape *tape, const char *op, const mmf_tensor *a,
                            const mmf_tensor *b, const char *hint);
/** Axis in [0, n_dims) from one that may be negative; -1 if out of range. */
int mmf_tape__axis(const mmf_tensor *x, int axis);
bool mmf_tensor__same_shape(const mmf_tensor *a, const mmf_tensor *b);
/** Product of the dimensions before, and after, an axis. */
int64_t mmf_tensor__outer(const mmf_tensor *x, int axis);
int64_t mmf_tensor__inner(const mmf_tensor *x, int axis);

/* ---- Threads ----------------------------------------------------------------------------- */

typedef void mmf_range_fn(void *argument, int64_t begin, int64_t end);

/**
 * Calls `fn` for consecutive ranges of [0, n) of `grain` items (the last may be shorter), on
 * several threads when there is more than one range and the tape may use them. Ranges depend on n
 * and grain alone, so results do not depend on the number of threads.
 */
void mmf_tape__parallel(const mmf_tape *tape, int64_t n, int64_t grain, mmf_range_fn *fn,
                        void *argument);
/**
 * The same for items that take as long as reading their bytes, once: few of them are worth a thread
 * that is awake, but not waking one.
 */
void mmf_tape__parallel_reads(const mmf_tape *tape, int64_t n, int64_t bytes_each, mmf_range_fn *fn,
                              void *argument);
/** Whether the environment tells OpenMP that threads without work shall sleep; it cannot be asked.
 */
bool mmf_threads_sleep(void);

#define MMF_LOCKSTEP_MOST_PIECES 16

typedef void mmf_step_fn(void *argument, int64_t step, int64_t piece);

/**
 * Calls `fn` for every piece of every step; a step begins when all pieces of the one before are
 * done. For work that walks through time: threads start once, not once a step, and each keeps to
 * the same pieces, whose part of a weight stays in its cache. What another thread has not begun,
 * because it sleeps or lost its core, is done by those that are there.
 * @param n_pieces  at most MMF_LOCKSTEP_MOST_PIECES
 * @param cost      of a step, in elements
 */
void mmf_tape__lockstep(const mmf_tape *tape, int64_t n_steps, int64_t n_pieces, int64_t cost,
                        mmf_step_fn *fn, void *argument);
/** Items a range so that each does about a worthwhile amount of work (`cost` in elements an item).
 */
int64_t mmf_grain(int64_t cost_per_item);

/** Pieces of scratch for the ranges of one mmf_tape__parallel: as many as are under way at a time.
 */
typedef struct mmf_lanes {
    int64_t count;
    bool *taken;
} mmf_lanes;
/** For n items in ranges of `grain`. False after setting the error. */
bool mmf_tape__lanes(mmf_tape *tape, int64_t n, int64_t grain, mmf_lanes *out);
/** The number of a lane that nobody has, until it is given back. */
int64_t mmf_lane_take(const mmf_lanes *lanes);
void mmf_lane_give(const mmf_lanes *lanes, int64_t lane);

/* ---- Matrix products --------------------------------------------------------------------- */

/** One product C = alpha op(A) op(B) + beta C, row-major, leading dimensions in elements. */
typedef struct mmf_gemm {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    mmf_real alpha;
    const mmf_real *a;
    int64_t lda;
    const mmf_real *b;
    int64_t ldb;
    mmf_real beta;
    mmf_real *c;
    int64_t ldc;
} mmf_gemm;

/**
 * Splits large products over columns, rows or the inner dimension at boundaries fixed by the sizes.
 * Not inside mmf_tape__parallel: it may take scratch from the tape.
 */
void mmf_tape__gemm(mmf_tape *tape, const mmf_gemm *gemm);
/** For operations that call the back end themselves: `times` products of these sizes were made. */
void mmf_tape__count_products(mmf_tape *tape, int64_t times, int64_t m, int64_t n, int64_t k);
/** The back end: one product on the calling thread. */
void mmf_blas_gemm(const mmf_gemm *gemm);
/** "oneDNN 2.6.3" or "portable". */
const char *mmf_blas_name(void);
/** Limits the back end's instruction set to the context's; before the first product. */
void mmf_blas_limit_cpu(mmf_cpu cpu);

#endif
