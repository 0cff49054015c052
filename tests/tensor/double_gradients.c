/*
 * double_gradients.c: every example of every operation against central differences.
 *
 * With a random cotangent q the checked function is f(x) = sum(q * op(x)). Up to EACH elements an
 * input is checked one element at a time, a larger one along random directions.
 */
#include <math.h>
#include <stdlib.h>

#include "op_run.h"
#include "support.h"

#define TOLERANCE 1e-6
#define STEP 1e-5
#define EACH 2000
#define N_DIRECTIONS 32

/* What one recorded run left behind, copied out of the tape. */
typedef struct record {
    int n_inputs;
    int64_t counts[MMF_CASE_INPUTS], out_count;
    mmf_real *values[MMF_CASE_INPUTS], *grads[MMF_CASE_INPUTS];
    mmf_real *out, *cotangent;
} record;

static mmf_real *copy_of(const mmf_real *from, int64_t count)
{
    mmf_real *const copy = calloc((size_t)count + 1, sizeof *copy);
    assert_non_null(copy);
    if (from && count > 0)
        memcpy(copy, from, (size_t)count * sizeof *copy);
    return copy;
}

static mmf_tensor *must_run(mmf_tape *tape, const op_call *call, mmf_op_case *c)
{
    mmf_tensor *const out = op_run(tape, call, c);
    if (!out)
        fail_msg("%s, example %d: %s", call->op->name, call->index,
                 mmf_tape_status(tape) == MMF_OK ? "returned NULL without an error"
                                                 : mmf_ctx_error(mmf_tape_ctx(tape)));
    return out;
}

static record make_record(mmf_tape *tape, op_call call)
{
    mmf_op_case c;
    call.record = true;
    mmf_tensor *const out = must_run(tape, &call, &c);
    record r = {.n_inputs = c.n_inputs, .out_count = out->count};
    r.out = copy_of(out->data, out->count);
    r.cotangent = copy_of(NULL, out->count);
    op_cotangent(&call, out->count, r.cotangent);
    test_ok(mmf_tape_ctx(tape), mmf_tape_backward_from(tape, out, r.cotangent));
    for (int i = 0; i < c.n_inputs; i++) {
        mmf_tensor *const x = c.inputs[i];
        r.counts[i] = x->count;
        r.values[i] = copy_of(x->data, x->count);
        r.grads[i] = copy_of(mmf_tensor_has_grad(tape, x) ? x->grad : NULL, x->count);
    }
    return r;
}

static void free_record(record *r)
{
    for (int i = 0; i < r->n_inputs; i++) {
        free(r->values[i]);
        free(r->grads[i]);
    }
    free(r->out);
    free(r->cotangent);
}

static double largest(const mmf_real *x, int64_t count)
{
    double top = 0;
    for (int64_t i = 0; i < count; i++)
        top = fmax(top, fabs((double)x[i]));
    return top;
}

/* Moves input `which` by h * direction (NULL: only element `at`) both ways and contracts the
 * difference of the outputs; differences before the sum keep more digits. */
static double difference(mmf_tape *tape, const op_call *call, const record *r, int which,
                         const mmf_real *direction, int64_t at, double h)
{
    mmf_real *const moved = copy_of(r->values[which], r->counts[which]);
    mmf_real *const above = copy_of(NULL, r->out_count);
    const mmf_real *replay[MMF_CASE_INPUTS];
    for (int i = 0; i < r->n_inputs; i++)
        replay[i] = i == which ? moved : r->values[i];
    op_call once = *call;
    once.replay = replay;
    double total = 0;
    for (int side = 0; side < 2; side++) {
        const double step = side ? -h : h;
        for (int64_t e = 0; direction && e < r->counts[which]; e++)
            moved[e] = r->values[which][e] + (mmf_real)(step * (double)direction[e]);
        if (!direction)
            moved[at] = r->values[which][at] + (mmf_real)step;
        mmf_op_case c;
        const mmf_tensor *const out = must_run(tape, &once, &c);
        for (int64_t e = 0; e < r->out_count; e++) {
            if (side == 0)
                above[e] = out->data[e];
            else
                total += (double)(above[e] - out->data[e]) * (double)r->cotangent[e];
        }
    }
    free(moved);
    free(above);
    return total / (2 * h);
}

static double check_elements(mmf_tape *tape, const op_call *call, const record *r, int which)
{
    const double scale = largest(r->grads[which], r->counts[which]);
    double worst = 0;
    for (int64_t e = 0; e < r->counts[which]; e++) {
        const double h = STEP * fmax(fabs((double)r->values[which][e]), 1);
        const double numeric = difference(tape, call, r, which, NULL, e, h);
        const double error = fabs(numeric - (double)r->grads[which][e]);
        const double relative = error / fmax(scale, 1e-3);
        if (!(relative < TOLERANCE))
            fail_msg("%s, example %d, scale %lld, input %d, element %lld: gradient %.10g, "
                     "differences %.10g (relative error %.2g)",
                     call->op->name, call->index, (long long)call->scale, which, (long long)e,
                     (double)r->grads[which][e], numeric, relative);
        worst = fmax(worst, relative);
    }
    return worst;
}

static double check_directions(mmf_tape *tape, const op_call *call, const record *r, int which)
{
    mmf_rng rng = mmf_rng_make(11, 0);
    mmf_real *const direction = copy_of(NULL, r->counts[which]);
    double worst = 0;
    for (int d = 0; d < N_DIRECTIONS; d++) {
        double exact = 0, scale = 0;
        for (int64_t e = 0; e < r->counts[which]; e++) {
            direction[e] = (mmf_real)(mmf_rng_u32(&rng) & 1 ? 1 : -1);
            exact += (double)(direction[e] * r->grads[which][e]);
            scale += (double)(r->grads[which][e] * r->grads[which][e]);
        }
        const double numeric = difference(tape, call, r, which, direction, 0, STEP);
        const double relative = fabs(numeric - exact) / fmax(sqrt(scale), 1e-3);
        if (!(relative < TOLERANCE))
            fail_msg("%s, example %d, scale %lld, input %d, direction %d: gradient %.10g, "
                     "differences %.10g (relative error %.2g)",
                     call->op->name, call->index, (long long)call->scale, which, d, exact, numeric,
                     relative);
        worst = fmax(worst, relative);
    }
    free(direction);
    return worst;
}

/* sum(q * out) + sum_i sum(k_i * x_i): the second part is recorded last, so the walk back has
 * written k_i before the operation adds its own share. */
static void check_accumulation(mmf_tape *tape, const op_call *call, const record *r)
{
    mmf_op_case c;
    mmf_tensor *const out = must_run(tape, call, &c);
    mmf_tensor *const q = mmf_input(tape, r->cotangent, out->n_dims, out->shape);
    mmf_tensor *loss = mmf_sum(tape, mmf_mul(tape, out, q), MMF_ALL_AXES);
    for (int i = 0; i < c.n_inputs; i++) {
        mmf_tensor *const scaled = mmf_affine(tape, c.inputs[i], 0.5 + i, 0);
        loss = mmf_add(tape, loss, mmf_sum(tape, scaled, MMF_ALL_AXES));
    }
    test_ok(mmf_tape_ctx(tape), mmf_tape_backward(tape, loss));
    for (int i = 0; i < c.n_inputs; i++) {
        const double scale = fmax(largest(r->grads[i], r->counts[i]), 1);
        for (int64_t e = 0; e < r->counts[i]; e++) {
            const double wanted = (double)r->grads[i][e] + 0.5 + i;
            const double error = fabs((double)c.inputs[i]->grad[e] - wanted) / scale;
            if (!(error < 1e-12))
                fail_msg("%s, example %d, input %d, element %lld: gradient %.15g after one of "
                         "%.15g, expected %.15g: it does not add up",
                         call->op->name, call->index, i, (long long)e, (double)c.inputs[i]->grad[e],
                         0.5 + i, wanted);
        }
    }
}

/* Without gradients for some inputs the others keep theirs, bit for bit. */
static void check_frozen(mmf_tape *tape, op_call call, const record *r)
{
    for (unsigned frozen = 1; r->n_inputs > 1 && frozen < 1u << r->n_inputs; frozen++) {
        mmf_op_case c;
        call.frozen = frozen;
        mmf_tensor *const out = must_run(tape, &call, &c);
        test_ok(mmf_tape_ctx(tape), mmf_tape_backward_from(tape, out, r->cotangent));
        for (int i = 0; i < c.n_inputs; i++) {
            if (frozen >> i & 1) {
                assert_false(mmf_tensor_has_grad(tape, c.inputs[i]));
                continue;
            }
            if (largest(r->grads[i], r->counts[i]) > 0 && !mmf_tensor_has_grad(tape, c.inputs[i]))
                fail_msg("%s, example %d: input %d lost its gradient with frozen set %u",
                         call.op->name, call.index, i, frozen);
            for (int64_t e = 0; e < r->counts[i] && mmf_tensor_has_grad(tape, c.inputs[i]); e++) {
                const double error = fabs((double)(c.inputs[i]->grad[e] - r->grads[i][e]));
                if (error > 1e-12 * fmax(1, largest(r->grads[i], r->counts[i])))
                    fail_msg("%s, example %d: input %d's gradient changes with frozen set %u",
                             call.op->name, call.index, i, frozen);
            }
        }
    }
}

static void check_unrecorded(mmf_tape *tape, op_call call, const record *r)
{
    mmf_op_case c;
    call.record = false;
    const mmf_tensor *const out = must_run(tape, &call, &c);
    assert_int_equal(mmf_tape_n_nodes(tape), 0);
    assert_int_equal(out->count, r->out_count);
    if (memcmp(out->data, r->out, (size_t)out->count * sizeof *out->data) != 0)
        fail_msg("%s, example %d: a pass that does not record gives another output", call.op->name,
                 call.index);
}

static double check_case(mmf_tape *tape, const op_call *call)
{
    record r = make_record(tape, *call);
    op_call recorded = *call;
    recorded.record = true;
    assert_true(r.n_inputs > 0);
    double worst = 0;
    for (int i = 0; i < r.n_inputs; i++) {
        if (!call->op->is_smooth) {
            assert_true(largest(r.grads[i], r.counts[i]) == 0);
            continue;
        }
        const double error = r.counts[i] <= EACH ? check_elements(tape, call, &r, i)
                                                 : check_directions(tape, call, &r, i);
        worst = fmax(worst, error);
    }
    check_accumulation(tape, &recorded, &r);
    check_frozen(tape, recorded, &r);
    check_unrecorded(tape, *call, &r);
    free_record(&r);
    return worst;
}

static void every_operation_agrees_with_differences(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    size_t n_ops = 0;
    const mmf_op *const *const ops = mmf_ops(&n_ops);
    for (size_t o = 0; o < n_ops; o++) {
        double worst = 0;
        for (int index = 0; index < ops[o]->n_cases; index++) {
            for (int64_t scale = 1; scale <= 3; scale += 2)
                worst =
                    fmax(worst, check_case(tape, &(op_call){ops[o], index, scale, false, NULL, 0}));
        }
        printf("%-20s %d examples, largest relative error %.1e\n", ops[o]->name, ops[o]->n_cases,
               worst);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_agrees_with_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
