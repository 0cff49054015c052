/*
 * ops.h: the table of operations.
 *
 * A row of ops/ops.def, MMF_OP(file, name), names a constant `mmf_op_<name>` in ops/<file>.c. The
 * constant carries example calls: the gradient check, the comparison of single with double
 * precision and `mmfuse bench --ops` run every operation through them.
 */
#ifndef MMFUSE_TENSOR_OPS_H
#define MMFUSE_TENSOR_OPS_H

#include "mmfuse/tensor.h"

#define MMF_CASE_INPUTS 8
#define MMF_CASE_STORED 16 /* inputs, constants and integers of one example */

/** Inputs of an example that is run many times: drawn once, then lent to every call. */
typedef struct mmf_op_store {
    mmf_ctx *ctx;
    int count;
    void *data[MMF_CASE_STORED];
} mmf_op_store;

/** One example call under construction: hands out inputs and remembers the differentiable ones. */
typedef struct mmf_op_case {
    mmf_tape *tape;
    int index;     /* which example, in [0, n_cases) */
    int64_t scale; /* 1 for tests; larger for benchmarks: sizes grow with it */
    mmf_rng rng;
    const mmf_real *const *replay; /* given values of the inputs, in order; NULL: draw them */
    unsigned frozen;               /* bit i: input i wants no gradient */
    int n_inputs;
    mmf_tensor *inputs[MMF_CASE_INPUTS];
    mmf_op_store *store; /* keeps what is drawn and lends it again; NULL: draw in every call */
    int n_stored;        /* pieces of the store that this call has taken */
    double gap;          /* drawn values keep this distance from 0 (kinks); 0: no gap */
} mmf_op_case;

typedef struct mmf_op {
    const char *name;
    int n_cases;
    /** Makes inputs with mmf_case_input and calls the operation; returns its output. */
    mmf_tensor *(*example)(mmf_op_case *c);
    /** Floating-point operations and bytes moved by one forward call with these tensors. */
    double (*flops)(const mmf_op_case *c, const mmf_tensor *out);
    bool is_smooth; /* false: gradient is zero by definition (sign, detach), check is skipped */
} mmf_op;

/** A differentiable input with values uniform in [low, high]. */
mmf_tensor *mmf_case_input(mmf_op_case *c, double low, double high, int n_dims,
                           const int64_t *shape);
/** A constant (target, mask) with values uniform in [low, high]. */
mmf_tensor *mmf_case_constant(mmf_op_case *c, double low, double high, int n_dims,
                              const int64_t *shape);
/** Integers uniform in [low, high). */
mmf_tensor *mmf_case_ints(mmf_op_case *c, int64_t low, int64_t high, int n_dims,
                          const int64_t *shape);
/** Frees what a store keeps. */
void mmf_op_store_clear(mmf_op_store *store);
/** One flop an output element: the usual formula of an element-wise operation. */
double mmf_flops_elementwise(const mmf_op_case *c, const mmf_tensor *out);

/** All operations in the order of the table. */
const mmf_op *const *mmf_ops(size_t *count);

#endif
