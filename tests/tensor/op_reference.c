/*
 * op_reference.c: writes inputs, outputs and gradients of every operation's examples, computed in
 * double precision, to standard output: for each array its length as int64 and its doubles.
 * test_precision starts it and reads along, for the two builds cannot be linked into one program.
 */
#include <stdio.h>
#include <stdlib.h>

#include "op_run.h"

static bool write_array(const double *values, int64_t count)
{
    return fwrite(&count, sizeof count, 1, stdout) == 1 &&
           fwrite(values, sizeof *values, (size_t)count, stdout) == (size_t)count;
}

static bool write_zeros(int64_t count)
{
    double *const zeros = calloc((size_t)count + 1, sizeof *zeros);
    const bool done = zeros && write_array(zeros, count);
    free(zeros);
    return done;
}

/* Inputs as the single-precision build sees them: rounded to float. */
static void round_inputs(const mmf_op_case *c, double **rounded)
{
    for (int i = 0; i < c->n_inputs; i++) {
        rounded[i] = malloc(((size_t)c->inputs[i]->count + 1) * sizeof **rounded);
        for (int64_t e = 0; rounded[i] && e < c->inputs[i]->count; e++)
            rounded[i][e] = (double)(float)c->inputs[i]->data[e];
    }
}

static bool write_call(mmf_tape *tape, op_call call)
{
    mmf_op_case c;
    double *rounded[MMF_CASE_INPUTS] = {0};
    if (!op_run(tape, &call, &c))
        return false;
    round_inputs(&c, rounded);
    call.replay = (const double *const *)(const void *)rounded;
    call.record = true;
    mmf_tensor *const out = op_run(tape, &call, &c);
    double *const cotangent = out ? malloc(((size_t)out->count + 1) * sizeof *cotangent) : NULL;
    bool done = cotangent != NULL;
    if (done) {
        op_cotangent(&call, out->count, cotangent);
        done = mmf_tape_backward_from(tape, out, cotangent) == MMF_OK;
        done = done && write_array(out->data, out->count);
    }
    for (int i = 0; i < c.n_inputs && done; i++) {
        mmf_tensor *const x = c.inputs[i];
        done =
            write_array(x->data, x->count) &&
            (mmf_tensor_has_grad(tape, x) ? write_array(x->grad, x->count) : write_zeros(x->count));
    }
    for (int i = 0; i < MMF_CASE_INPUTS; i++)
        free(rounded[i]);
    free(cotangent);
    return done;
}

int main(void)
{
    mmf_ctx *ctx = NULL;
    mmf_tape *tape = NULL;
    if (mmf_ctx_create(&ctx, NULL) != MMF_OK || mmf_tape_create(ctx, &tape) != MMF_OK)
        return 1;
    size_t n_ops = 0;
    const mmf_op *const *const ops = mmf_ops(&n_ops);
    bool done = true;
    for (size_t o = 0; o < n_ops && done; o++) {
        for (int index = 0; index < ops[o]->n_cases && done; index++) {
            for (int s = 0; s < OP_N_SCALES && done; s++)
                done = write_call(tape,
                                  (op_call){.op = ops[o], .index = index, .scale = op_scales[s]});
        }
    }
    done = done && fflush(stdout) == 0;
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
    return done ? 0 : 1;
}
