/*
 * multiplicative_interactions.c: a layer whose weights one modality makes for another.
 *
 * Jayakumar, Czarnecki, Menick, Schwarz, Rae, Osindero, Teh, Harley, Pascanu, Multiplicative
 * interactions and where to find them, ICLR 2020: y = x1 W x2 + x2 V + x1 U + b, where W may be
 * restricted so that x1 makes a vector or one number that scales x2. Names as in MultiBench, and
 * its form for three: y = x3 a(x1, x2) + b(x1, x2) with two interactions of the first two.
 */
#include <string.h>

#include "fusion/fusion.h"

static const mmf_option options[] = {
    {"form", NULL, MMF_OPTION_TEXT, 0, 0, "matrix|vector|scalar", "matrix",
     "what x1 makes for x2; vector and scalar keep the width of x2"},
    {"output", NULL, MMF_OPTION_INT, 1, 8192, NULL, "",
     "width of the result; default: 32 for matrix, else that of x2"},
    {"condition", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "the modality that is x1; default: the first"},
    {"flip", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false", "exchanges x1 and x2"},
    MMF_ORDER_OPTION,
    {0},
};

/* Widest result of a matrix form that was not asked for; its weights are D_1 D_2 times as many. */
#define STANDARD_OUTPUT 32
/* Weights beyond which it should not be built by accident. */
#define MAX_WEIGHTS (1 << 26)

typedef enum form { MATRIX, VECTOR, SCALAR } form;

/* Weights of one interaction; `output` counts what they make for a sample. */
typedef struct interaction {
    mmf_tensor *w, *v, *u, *b;
    int64_t output;
} interaction;

typedef struct interactions_operator {
    const char *names[3]; /* x1, x2, x3 */
    size_t count;
    int64_t widths[3], output;
    form kind;
    interaction a, b; /* three modalities; two use `b` alone */
} interactions_operator;

static mmf_tensor *declare(mmf_builder *b, const char *name, int64_t fan_in, int n_dims,
                           const int64_t *shape)
{
    return mmf_builder_param(b, name, MMF_PARAM_TRAINED, mmf_init_fan_in(fan_in), n_dims, shape);
}

/* @param tail  the result's shape, of n_tail dimensions */
static interaction matrix_build(mmf_builder *b, int64_t n, int64_t m, int n_tail,
                                const int64_t *tail)
{
    interaction i = {.output = n_tail == 2 ? tail[0] * tail[1] : tail[0]};
    const int64_t last = n_tail == 2 ? tail[1] : 0;
    const int64_t w[] = {n, m, tail[0], last}, v[] = {m, tail[0], last}, u[] = {n, tail[0], last};
    i.w = declare(b, "W", n * m, 2 + n_tail, w);
    i.v = declare(b, "V", m, 1 + n_tail, v);
    i.u = declare(b, "U", n, 1 + n_tail, u);
    i.b = declare(b, "b", n, n_tail, tail);
    return i;
}

/* x1 makes `made` numbers (m for vector, 1 for scalar), and as many to add. */
static interaction scaling_build(mmf_builder *b, int64_t n, int64_t made, form kind)
{
    const int64_t w[] = {n, made};
    const int n_dims = kind == VECTOR ? 2 : 1;
    interaction i = {.output = made};
    i.w = declare(b, "W", n, n_dims, w);
    i.v = declare(b, "V", n, 1, &made);
    i.u = declare(b, "U", n, n_dims, w);
    i.b = declare(b, "b", n, 1, &made);
    return i;
}

/* Puts the modality of option `condition` first, and the other way round with `flip`. */
static void choose_condition(mmf_builder *b, const mmf_config *config, interactions_operator *op)
{
    const char *const condition = mmf_config_text(config, "condition");
    size_t first = 0;
    while (*condition && first < op->count && strcmp(op->names[first], condition) != 0)
        first++;
    if (first >= (op->count == 3 ? 1 : op->count)) {
        mmf_builder_fail(b, MMF_ARG,
                         "multiplicative-interactions: option condition is \"%s\", which is not "
                         "%s; three modalities are put in order by option modalities",
                         condition, op->count == 3 ? "the first modality" : "a modality");
        return;
    }
    if (op->count == 2 && (first == 1) != mmf_config_bool(config, "flip")) {
        const char *const name = op->names[0];
        const int64_t width = op->widths[0];
        op->names[0] = op->names[1];
        op->widths[0] = op->widths[1];
        op->names[1] = name;
        op->widths[1] = width;
    }
}

static void choose_output(mmf_builder *b, const mmf_config *config, interactions_operator *op)
{
    const int64_t asked = mmf_config_int(config, "output"), n = op->widths[0], m = op->widths[1];
    op->output = asked ? asked : (op->kind == MATRIX ? STANDARD_OUTPUT : m);
    if (op->kind != MATRIX && op->output != m)
        mmf_builder_fail(b, MMF_ARG,
                         "multiplicative-interactions: the vector and scalar forms keep the width "
                         "%lld of %s, option output is %lld",
                         (long long)m, op->names[1], (long long)op->output);
    if (op->kind != MATRIX && op->count == 3)
        mmf_builder_fail(b, MMF_UNSUPPORTED,
                         "multiplicative-interactions: three modalities need the matrix form");
    const double weights = (double)n * (double)m * (double)op->output *
                           (op->count == 3 ? (double)op->widths[2] + 1 : 1);
    if (op->kind == MATRIX && weights > MAX_WEIGHTS)
        mmf_builder_fail(b, MMF_LIMIT,
                         "multiplicative-interactions: %.0f weights, at most %d; choose narrower "
                         "encodings, a smaller output, or the vector form",
                         weights, MAX_WEIGHTS);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    interactions_operator *const op = mmf_builder_alloc(b, sizeof *op);
    const mmf_schema *const order = mmf_operator_order(b, config, inputs);
    if (!op || !order)
        return mmf_builder_status(b);
    if (order->count < 2 || order->count > 3)
        return mmf_builder_fail(b, MMF_UNSUPPORTED,
                                "multiplicative-interactions fuses two or three modalities, there "
                                "are %zu; use tensor or low-rank",
                                order->count);
    const char *const kind = mmf_config_text(config, "form");
    op->kind =
        strcmp(kind, "vector") == 0 ? VECTOR : (strcmp(kind, "scalar") == 0 ? SCALAR : MATRIX);
    op->count = order->count;
    for (size_t m = 0; m < order->count; m++) {
        if (order->inputs[m].n_dims != 1)
            return mmf_builder_fail(b, MMF_SHAPE,
                                    "multiplicative-interactions takes one vector a modality; %s "
                                    "has %d dimensions",
                                    order->inputs[m].name, order->inputs[m].n_dims);
        op->names[m] = order->inputs[m].name;
        op->widths[m] = order->inputs[m].shape[0];
    }
    choose_condition(b, config, op);
    choose_output(b, config, op);
    const int64_t n = op->widths[0], m = op->widths[1];
    if (op->count == 3) {
        mmf_builder_enter(b, "a");
        op->a = matrix_build(b, n, m, 2, (int64_t[]){op->widths[2], op->output});
        mmf_builder_leave(b);
        mmf_builder_enter(b, "b");
    }
    op->b = op->kind == MATRIX ? matrix_build(b, n, m, 1, &op->output)
                               : scaling_build(b, n, op->kind == VECTOR ? m : 1, op->kind);
    if (op->count == 3)
        mmf_builder_leave(b);
    mmf_builder_set_width(b, op->output);
    *self = op;
    return mmf_builder_status(b);
}

/* x w of x (B, n) and w of n rows; (B, k) */
static mmf_tensor *times(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, int64_t k)
{
    return mmf_matmul(tape, x, mmf_reshape(tape, w, 2, (int64_t[]){-1, k}), false, false);
}

/* x1 w + v as (B, k) */
static mmf_tensor *affine(mmf_tape *tape, mmf_tensor *x, mmf_tensor *w, mmf_tensor *v, int64_t k)
{
    return mmf_add(tape, times(tape, x, w, k), mmf_reshape(tape, v, 1, &k));
}

/* y_o = x1_n W_nmo x2_m + x2_m V_mo + x1_n U_no + b_o */
static mmf_tensor *matrix_run(mmf_tape *tape, const interaction *i, mmf_tensor *x1, mmf_tensor *x2)
{
    mmf_tensor *const both = times(tape, mmf_outer(tape, x1, x2), i->w, i->output);
    mmf_tensor *const own =
        mmf_add(tape, times(tape, x2, i->v, i->output), affine(tape, x1, i->u, i->b, i->output));
    return mmf_add(tape, both, own);
}

/* y = (x1 W + V) * x2 + x1 U + b */
static mmf_tensor *scaling_run(mmf_tape *tape, const interaction *i, mmf_tensor *x1, mmf_tensor *x2)
{
    mmf_tensor *const scale = affine(tape, x1, i->w, i->v, i->output);
    return mmf_add(tape, mmf_mul(tape, scale, x2), affine(tape, x1, i->u, i->b, i->output));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const interactions_operator *const op = self;
    mmf_tensor *const x1 = mmf_named_get(in, op->names[0]);
    mmf_tensor *const x2 = mmf_named_get(in, op->names[1]);
    mmf_tensor *y =
        op->kind == MATRIX ? matrix_run(tape, &op->b, x1, x2) : scaling_run(tape, &op->b, x1, x2);
    if (op->count == 3) { /* y_o = x3_k a_ko + b_o */
        const int64_t k = op->widths[2];
        mmf_tensor *const a =
            mmf_reshape(tape, matrix_run(tape, &op->a, x1, x2), 3, (int64_t[]){-1, k, op->output});
        mmf_tensor *const x3 =
            mmf_reshape(tape, mmf_named_get(in, op->names[2]), 3, (int64_t[]){-1, 1, k});
        mmf_tensor *const product = mmf_matmul(tape, x3, a, false, false);
        y = mmf_add(tape, mmf_reshape(tape, product, 2, (int64_t[]){-1, op->output}), y);
    }
    mmf_named_put(tape, out, "output", y);
    mmf_named_put(tape, out, "fused", y);
}

const mmf_def mmf_fusion_multiplicative_interactions = {
    .name = "multiplicative-interactions",
    .title = "Multiplicative interactions",
    .paper = "Jayakumar et al., Multiplicative interactions and where to find them, ICLR 2020, "
             "openreview rylnK6VtDH",
    .equations = "y = x1 W x2 + x2 V + x1 U + b; vector: (x1 W + V) * x2 + x1 U + b; scalar: one "
                 "number in place of the vector; three: y = x3 a(x1, x2) + b(x1, x2)",
    .missing = "the encoder's learned vector stands in for an absent modality",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_STANDS_IN,
    .options = options,
    .build = build,
    .run = run,
};
