/*
 * test_precision.c: every operation in single precision, with the kernels of every processor level
 * that this machine has, against the same calls in double precision.
 */
#include <math.h>
#include <stdlib.h>

#include "base/context.h"
#include "op_run.h"
#include "support.h"

#define TOLERANCE 1e-4 /* of the largest magnitude in the array */

typedef struct reference {
    int64_t count;
    double *values;
} reference;

static reference read_array(FILE *pipe)
{
    reference r = {0};
    if (fread(&r.count, sizeof r.count, 1, pipe) != 1 || r.count < 0 || r.count > 1 << 28)
        fail_msg("the reference program ended early: does %s/op_reference run?", MMF_BINARY_DIR);
    r.values = malloc(((size_t)r.count + 1) * sizeof *r.values);
    assert_non_null(r.values);
    assert_int_equal(fread(r.values, sizeof *r.values, (size_t)r.count, pipe), r.count);
    return r;
}

/* Largest difference over the largest magnitude; a NaN on one side only is infinite. */
static double relative_error(const reference *wanted, const mmf_real *got)
{
    double scale = 1e-6, worst = 0;
    for (int64_t i = 0; i < wanted->count; i++) {
        const double d = fabs(wanted->values[i] - (double)(got ? got[i] : 0));
        scale = fmax(scale, fabs(wanted->values[i]));
        worst = d <= worst ? worst : (isnan(d) ? INFINITY : d);
    }
    return worst / scale;
}

static void compare(const op_call *call, const char *level, const char *what, int which,
                    const reference *wanted, const mmf_real *got, double *worst)
{
    const double error = relative_error(wanted, got);
    if (!(error < TOLERANCE))
        fail_msg("%s, example %d, scale %lld, %s kernels: %s %d differs from double precision by "
                 "%.2g of its largest value",
                 call->op->name, call->index, (long long)call->scale, level, what, which, error);
    *worst = fmax(*worst, error);
}

typedef struct expected {
    reference out, inputs[MMF_CASE_INPUTS], grads[MMF_CASE_INPUTS];
} expected;

static void check_level(mmf_tape *tape, const op_call *call, const expected *e, double *worst)
{
    const char *const level = mmf_cpu_name(mmf_ctx_cpu(mmf_tape_ctx(tape)));
    mmf_op_case c;
    mmf_tensor *const out = op_run(tape, call, &c);
    if (!out)
        fail_msg("%s, example %d, scale %lld failed", call->op->name, call->index,
                 (long long)call->scale);
    assert_int_equal(out->count, e->out.count);
    compare(call, level, "output", 0, &e->out, out->data, worst);
    mmf_real *const cotangent = malloc(((size_t)out->count + 1) * sizeof *cotangent);
    assert_non_null(cotangent);
    op_cotangent(call, out->count, cotangent);
    test_ok(mmf_tape_ctx(tape), mmf_tape_backward_from(tape, out, cotangent));
    free(cotangent);
    for (int i = 0; i < c.n_inputs; i++) {
        mmf_tensor *const x = c.inputs[i];
        assert_int_equal(x->count, e->inputs[i].count);
        assert_true(relative_error(&e->inputs[i], x->data) == 0);
        compare(call, level, "gradient", i, &e->grads[i],
                mmf_tensor_has_grad(tape, x) ? x->grad : NULL, worst);
    }
}

static int count_inputs(mmf_tape *tape, const op_call *call)
{
    mmf_op_case c;
    assert_non_null(op_run(tape, call, &c));
    return c.n_inputs;
}

static void check_call(mmf_tape *const *tapes, int n_levels, FILE *pipe, const op_call *call,
                       double *worst)
{
    const int n_inputs = count_inputs(tapes[0], call);
    expected e = {.out = read_array(pipe)};
    for (int i = 0; i < n_inputs; i++) {
        e.inputs[i] = read_array(pipe);
        e.grads[i] = read_array(pipe);
    }
    for (int level = 0; level < n_levels; level++)
        check_level(tapes[level], call, &e, worst);
    free(e.out.values);
    for (int i = 0; i < n_inputs; i++) {
        free(e.inputs[i].values);
        free(e.grads[i].values);
    }
}

static void every_level_agrees_with_double_precision(void **state)
{
    (void)state;
    FILE *const pipe = popen(MMF_BINARY_DIR "/op_reference", "r");
    assert_non_null(pipe);
    mmf_ctx *contexts[MMF_CPU_AVX512 + 1];
    mmf_tape *tapes[MMF_CPU_AVX512 + 1];
    int n_levels = 0;
    for (mmf_cpu cpu = MMF_CPU_PORTABLE; cpu <= MMF_CPU_AVX512; cpu++) {
        mmf_ctx *const ctx = test_ctx();
        if (cpu > ctx->cpu) {
            mmf_ctx_free(ctx);
            continue;
        }
        ctx->cpu = cpu;
        contexts[n_levels] = ctx;
        test_ok(ctx, mmf_tape_create(ctx, &tapes[n_levels++]));
    }
    size_t n_ops = 0;
    const mmf_op *const *const ops = mmf_ops(&n_ops);
    for (size_t o = 0; o < n_ops; o++) {
        double worst = 0;
        for (int index = 0; index < ops[o]->n_cases; index++) {
            for (int s = 0; s < OP_N_SCALES; s++)
                check_call(
                    tapes, n_levels, pipe,
                    &(op_call){.op = ops[o], .index = index, .scale = op_scales[s], .record = true},
                    &worst);
        }
        printf("%-20s %d levels, largest relative error %.1e\n", ops[o]->name, n_levels, worst);
    }
    assert_int_equal(fgetc(pipe), EOF);
    assert_int_equal(pclose(pipe), 0);
    for (int i = 0; i < n_levels; i++) {
        mmf_tape_free(tapes[i]);
        mmf_ctx_free(contexts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_agrees_with_double_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
