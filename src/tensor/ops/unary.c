/* unary.c: element-wise functions of one tensor; the loops stand in kernels/element_kernels.h. */
#include <math.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

typedef struct unary_node {
    mmf_node node;
    mmf_unary f;
    mmf_real p0, p1;
    mmf_tensor *x;
} unary_node;

typedef struct unary_job {
    const mmf_tape *tape;
    const unary_node *u;
    const mmf_real *dy;
    mmf_real *out; /* y forward, dx backward */
    mmf_real beta;
} unary_job;

/* Elements a thread takes at once: transcendental functions cost about eight cheap operations. */
#define UNARY_COST 4

static void forward_range(void *argument, int64_t begin, int64_t end)
{
    const unary_job *const job = argument;
    const unary_node *const u = job->u;
    job->tape->k->unary(u->f, end - begin, u->x->data + begin, job->out + begin, u->p0, u->p1);
}

static void backward_range(void *argument, int64_t begin, int64_t end)
{
    const unary_job *const job = argument;
    const unary_node *const u = job->u;
    job->tape->k->unary_grad(u->f, end - begin, u->x->data + begin, u->node.out->data + begin,
                             job->dy + begin, job->out + begin, job->beta, u->p0, u->p1);
}

static void unary_backward(mmf_tape *tape, mmf_node *node)
{
    unary_node *const u = (unary_node *)node;
    bool fresh = false;
    mmf_real *const dx = mmf_tape__grad(tape, u->x, &fresh);
    if (!dx)
        return;
    unary_job job = {tape, u, node->out->grad, dx, fresh ? 0 : 1};
    mmf_tape__parallel(tape, u->x->count, mmf_grain(UNARY_COST), backward_range, &job);
}

static mmf_tensor *apply(mmf_tape *tape, const char *op, mmf_unary f, mmf_tensor *x, double p0,
                         double p1)
{
    if (!x)
        return mmf_tape__missing(tape, op);
    if (x->is_int)
        return mmf_tape__fail(tape, MMF_DTYPE, op, "takes reals, got integers");
    mmf_tensor *const y = mmf_tape__tensor(tape, x->n_dims, x->shape);
    if (!y)
        return NULL;
    const unary_node plain = {.f = f, .p0 = (mmf_real)p0, .p1 = (mmf_real)p1, .x = x};
    unary_job job = {.tape = tape, .u = &plain, .out = y->data};
    mmf_tape__parallel(tape, x->count, mmf_grain(UNARY_COST), forward_range, &job);
    unary_node *const u = mmf_tape__record(tape, sizeof *u, op, y, x->wants_grad, unary_backward);
    if (u) {
        u->f = f;
        u->p0 = plain.p0;
        u->p1 = plain.p1;
        u->x = x;
    }
    return y;
}

mmf_tensor *mmf_relu(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "relu", MMF_UNARY_RELU, x, 0, 0);
}

mmf_tensor *mmf_leaky_relu(mmf_tape *tape, mmf_tensor *x, double slope)
{
    return apply(tape, "leaky_relu", MMF_UNARY_LEAKY_RELU, x, slope, 0);
}

mmf_tensor *mmf_elu(mmf_tape *tape, mmf_tensor *x, double alpha)
{
    return apply(tape, "elu", MMF_UNARY_ELU, x, alpha, 0);
}

mmf_tensor *mmf_gelu(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "gelu", MMF_UNARY_GELU, x, 0, 0);
}

mmf_tensor *mmf_tanh(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "tanh", MMF_UNARY_TANH, x, 0, 0);
}

mmf_tensor *mmf_sigmoid(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "sigmoid", MMF_UNARY_SIGMOID, x, 0, 0);
}

mmf_tensor *mmf_softplus(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "softplus", MMF_UNARY_SOFTPLUS, x, 0, 0);
}

mmf_tensor *mmf_exp(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "exp", MMF_UNARY_EXP, x, 0, 0);
}

mmf_tensor *mmf_log(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "log", MMF_UNARY_LOG, x, 0, 0);
}

mmf_tensor *mmf_sqrt(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "sqrt", MMF_UNARY_SQRT, x, 0, 0);
}

mmf_tensor *mmf_signed_sqrt(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "signed_sqrt", MMF_UNARY_SIGNED_SQRT, x, 0, 0);
}

mmf_tensor *mmf_abs(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "abs", MMF_UNARY_ABS, x, 0, 0);
}

mmf_tensor *mmf_sign(mmf_tape *tape, mmf_tensor *x)
{
    return apply(tape, "sign", MMF_UNARY_SIGN, x, 0, 0);
}

mmf_tensor *mmf_clamp(mmf_tape *tape, mmf_tensor *x, double low, double high)
{
    return apply(tape, "clamp", MMF_UNARY_CLAMP, x, low, high);
}

mmf_tensor *mmf_pow(mmf_tape *tape, mmf_tensor *x, double exponent)
{
    return apply(tape, "pow", MMF_UNARY_POW, x, exponent, 0);
}

mmf_tensor *mmf_gelu_tanh(mmf_tape *tape, mmf_tensor *x)
{
    const double slope = sqrt(2 / acos(-1)), cubic = 0.044715;
    mmf_tensor *const bend = mmf_affine(tape, mmf_mul(tape, x, x), slope * cubic, slope);
    mmf_tensor *const t = mmf_tanh(tape, mmf_mul(tape, x, bend));
    return mmf_mul(tape, x, mmf_affine(tape, t, 0.5, 0.5));
}

mmf_tensor *mmf_affine(mmf_tape *tape, mmf_tensor *x, double scale, double shift)
{
    return apply(tape, "affine", MMF_UNARY_AFFINE, x, scale, shift);
}

/* ---- Examples ---------------------------------------------------------------------------- */

/* Values of both signs that keep away from the kink at 0. */
static mmf_tensor *signed_input(mmf_op_case *c)
{
    const int64_t shape[] = {3 * c->scale, 17};
    c->gap = 0.05;
    return mmf_case_input(c, -2, 2, 2, shape);
}

static mmf_tensor *positive_input(mmf_op_case *c)
{
    const int64_t shape[] = {3 * c->scale, 17};
    return mmf_case_input(c, 0.2, 3, 2, shape);
}

static mmf_tensor *affine_example(mmf_op_case *c)
{
    return mmf_affine(c->tape, signed_input(c), -1.5, 0.25);
}

static mmf_tensor *relu_example(mmf_op_case *c)
{
    return mmf_relu(c->tape, signed_input(c));
}

static mmf_tensor *leaky_relu_example(mmf_op_case *c)
{
    return mmf_leaky_relu(c->tape, signed_input(c), 0.1);
}

static mmf_tensor *elu_example(mmf_op_case *c)
{
    return mmf_elu(c->tape, signed_input(c), 0.7);
}

static mmf_tensor *gelu_example(mmf_op_case *c)
{
    return mmf_gelu(c->tape, signed_input(c));
}

static mmf_tensor *gelu_tanh_example(mmf_op_case *c)
{
    return mmf_gelu_tanh(c->tape, mmf_case_input(c, -3, 3, 2, (int64_t[]){4, 9 * c->scale}));
}

static mmf_tensor *tanh_example(mmf_op_case *c)
{
    return mmf_tanh(c->tape, signed_input(c));
}

static mmf_tensor *sigmoid_example(mmf_op_case *c)
{
    return mmf_sigmoid(c->tape, signed_input(c));
}

static mmf_tensor *softplus_example(mmf_op_case *c)
{
    return mmf_softplus(c->tape, signed_input(c));
}

static mmf_tensor *exp_example(mmf_op_case *c)
{
    return mmf_exp(c->tape, signed_input(c));
}

static mmf_tensor *log_example(mmf_op_case *c)
{
    return mmf_log(c->tape, positive_input(c));
}

static mmf_tensor *sqrt_example(mmf_op_case *c)
{
    return mmf_sqrt(c->tape, positive_input(c));
}

static mmf_tensor *signed_sqrt_example(mmf_op_case *c)
{
    return mmf_signed_sqrt(c->tape, signed_input(c));
}

static mmf_tensor *abs_example(mmf_op_case *c)
{
    return mmf_abs(c->tape, signed_input(c));
}

static mmf_tensor *sign_example(mmf_op_case *c)
{
    return mmf_sign(c->tape, signed_input(c));
}

static mmf_tensor *clamp_example(mmf_op_case *c)
{
    /* The bounds lie in the gap around 0 and outside the drawn range. */
    return mmf_clamp(c->tape, signed_input(c), c->index ? -5 : 0, c->index ? 0.01 : 5);
}

static mmf_tensor *pow_example(mmf_op_case *c)
{
    return mmf_pow(c->tape, positive_input(c), c->index ? -0.5 : 2.5);
}

const mmf_op mmf_op_affine = {"affine", 1, affine_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_relu = {"relu", 1, relu_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_leaky_relu = {"leaky_relu", 1, leaky_relu_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_elu = {"elu", 1, elu_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_gelu = {"gelu", 1, gelu_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_gelu_tanh = {"gelu_tanh", 1, gelu_tanh_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_tanh = {"tanh", 1, tanh_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_sigmoid = {"sigmoid", 1, sigmoid_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_softplus = {"softplus", 1, softplus_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_exp = {"exp", 1, exp_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_log = {"log", 1, log_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_sqrt = {"sqrt", 1, sqrt_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_signed_sqrt = {"signed_sqrt", 1, signed_sqrt_example, mmf_flops_elementwise,
                                   true};
const mmf_op mmf_op_abs = {"abs", 1, abs_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_sign = {"sign", 1, sign_example, mmf_flops_elementwise, false};
const mmf_op mmf_op_clamp = {"clamp", 2, clamp_example, mmf_flops_elementwise, true};
const mmf_op mmf_op_pow = {"pow", 2, pow_example, mmf_flops_elementwise, true};
