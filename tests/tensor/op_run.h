/*
 * op_run.h: runs one example of an operation; shared by the checks that go through the table of
 * operations in single and in double precision, so that both see the same calls.
 */
#ifndef MMFUSE_TESTS_OP_RUN_H
#define MMFUSE_TESTS_OP_RUN_H

#include "tensor/ops.h"

/** Sizes of the comparison of the two precisions: odd ones leave remainders in every kernel. */
enum { OP_N_SCALES = 6 };
static const int64_t op_scales[OP_N_SCALES] = {1, 2, 3, 7, 16, 29};

/** One call: example `index` of `op` at size `scale`. */
typedef struct op_call {
    const mmf_op *op;
    int index;
    int64_t scale;
    bool record;
    const mmf_real *const *replay; /* values of the inputs, NULL: drawn */
    unsigned frozen;               /* bit i: input i wants no gradient */
} op_call;

/** Even examples run as training passes, odd ones as inference; NULL if the operation failed. */
static inline mmf_tensor *op_run(mmf_tape *tape, const op_call *call, mmf_op_case *c)
{
    mmf_tape_begin(
        tape, &(mmf_pass){
                  .record = call->record, .training = call->index % 2 == 0, .seed = 3, .step = 5});
    *c = (mmf_op_case){.tape = tape,
                       .index = call->index,
                       .scale = call->scale,
                       .rng = mmf_rng_make(mmf_rng_stream(call->op->name), (uint64_t)call->index),
                       .replay = call->replay,
                       .frozen = call->frozen};
    return call->op->example(c);
}

/** The cotangent of a call's output: uniform in [-1, 1), the same in both precisions. */
static inline void op_cotangent(const op_call *call, int64_t count, mmf_real *out)
{
    mmf_rng rng = mmf_rng_make(mmf_rng_stream("cotangent"), (uint64_t)call->index);
    for (int64_t i = 0; i < count; i++)
        out[i] = (mmf_real)(float)(2 * mmf_rng_uniform(&rng) - 1);
}

#endif
