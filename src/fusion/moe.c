/*
 * moe.c: a mixture of experts whose experts are fusion operators over the same encodings.
 *
 * Jacobs, Jordan, Nowlan, Hinton, Adaptive mixtures of local experts, Neural Computation 1991, eq.
 * (1.1), with the top-k gate and the importance loss of Shazeer et al., ICLR 2017, eq. (3) to (7),
 * and the router z-loss of Zoph et al., 2022, eq. (5). That the experts are operators is our own
 * definition. Deviation: no noise on the gate.
 */
#include <stdio.h>
#include <string.h>

#include "fusion/fusion.h"

/* More than any score of a gate: takes a chosen expert out of the next round. */
#define CHOSEN 1e30
/* Keeps the squared coefficient of variation finite. */
#define MIN_IMPORTANCE 1e-10

static const mmf_option options[] = {
    {"experts", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "concat,weighted-sum,low-rank,gmu",
     "operators, each with its own defaults; any that is defined here but late ones and this one"},
    {"width", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128", "width of what an expert puts out"},
    {"top_k", NULL, MMF_OPTION_INT, 0, 64, NULL, "0",
     "experts that count for a sample, by the gate's score; 0: all"},
    {"balance", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.01",
     "of the loss that keeps the experts equally important over a batch"},
    {"z_loss", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.001",
     "of the loss that keeps the gate's scores small"},
    {0},
};

typedef struct expert {
    mmf_operator operator;
    mmf_linear_layer out;
} expert;

typedef struct moe_operator {
    const mmf_schema *inputs;
    expert *experts;
    int64_t n_experts, top_k, width;
    double balance, z_loss;
    mmf_linear_layer gate;
    bool sees_presence;
    mmf_tensor **features, **parts; /* M of the modalities and one for presence; experts */
} moe_operator;

/* ---- Building ---------------------------------------------------------------------------- */

static const mmf_def *find_expert(mmf_builder *b, const char *name, size_t n_inputs)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_fusion_table(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) != 0)
            continue;
        const bool decides = table[i]->takes & MMF_ANY_TASK;
        if (decides || table[i] == &mmf_fusion_moe ||
            ((table[i]->takes & MMF_TWO_ONLY) && n_inputs != 2))
            break;
        return table[i];
    }
    mmf_builder_fail(b, MMF_ARG,
                     "moe: \"%s\" is no operator that can be an expert for %zu modalities; try "
                     "concat, weighted-sum, low-rank, gmu, mmtm",
                     name, n_inputs);
    return NULL;
}

/* Defaults, with the width of the result where the operator lets it be chosen. */
static mmf_config *expert_config(mmf_builder *b, const mmf_def *def, int64_t width)
{
    static const char *const names[] = {"width", "hidden", "output", "output_dim"};
    mmf_config *config = NULL;
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)width);
    if (mmf_config_create(mmf_builder_ctx(b), &config, def) != MMF_OK) {
        mmf_builder_fail(b, MMF_NOMEM, "moe: out of memory");
        return NULL;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (mmf_option_find(def, names[i]))
            mmf_config_set(config, names[i], text);
    }
    return config;
}

static void build_expert(mmf_builder *b, const moe_operator *op, size_t i, const char *name)
{
    const mmf_def *const def = find_expert(b, name, op->inputs->count);
    mmf_config *const config = def ? expert_config(b, def, op->width) : NULL;
    if (!config)
        return;
    int64_t *const widths = mmf_builder_alloc(b, op->inputs->count * sizeof *widths);
    for (size_t m = 0; widths && m < op->inputs->count; m++)
        widths[m] = op->inputs->inputs[m].shape[0];
    mmf_builder_enter(b, mmf_builder_text(b, "experts.%zu", i));
    expert *const e = &op->experts[i];
    if (widths)
        e->operator= mmf_operator_build(b, "operator", def, config, op->inputs, widths);
    if (mmf_builder_status(b) == MMF_OK)
        e->out = mmf_linear_build(b, "out", e->operator.width, op->width, true);
    mmf_builder_leave(b);
    mmf_config_free(config);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    moe_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    const size_t n = mmf_config_count(config, "experts");
    op->inputs = mmf_operator_order(b, NULL, inputs);
    op->width = mmf_config_int(config, "width");
    op->n_experts = (int64_t)n;
    op->top_k = mmf_config_int(config, "top_k");
    op->balance = mmf_config_real(config, "balance");
    op->z_loss = mmf_config_real(config, "z_loss");
    op->experts = mmf_builder_alloc(b, (n + 1) * sizeof *op->experts);
    op->parts = mmf_builder_alloc(b, (n + 1) * sizeof(mmf_tensor *));
    op->features = mmf_builder_alloc(b, (inputs->count + 1) * sizeof(mmf_tensor *));
    if (n == 0)
        return mmf_builder_fail(b, MMF_ARG, "moe: option experts is empty");
    int64_t seen = 0;
    for (size_t m = 0; m < inputs->count; m++) {
        seen += inputs->inputs[m].shape[0];
        op->sees_presence = op->sees_presence || inputs->inputs[m].has_present;
    }
    seen += op->sees_presence ? (int64_t)inputs->count : 0;
    op->gate = mmf_linear_build(b, "gate", seen, op->n_experts, true);
    for (size_t i = 0; i < n && mmf_builder_status(b) == MMF_OK; i++)
        build_expert(b, op, i, mmf_config_text_at(config, "experts", i));
    mmf_builder_set_width(b, op->width);
    *self = op;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* Scores of the experts from all encodings and from what is there. */
static mmf_tensor *gate_scores(mmf_tape *tape, const moe_operator *op, const mmf_named *in)
{
    const size_t n = op->inputs->count;
    if (op->sees_presence) {
        const mmf_tensor *const x = op->features[0];
        const int64_t shape[] = {x ? x->shape[0] : 1, (int64_t)n};
        mmf_tensor *const present = mmf_presence(tape, op->inputs, in);
        op->features[n] = present ? present : mmf_full(tape, 2, shape, 1);
    }
    mmf_tensor *const all =
        mmf_concat(tape, op->features, (int)n + (op->sees_presence ? 1 : 0), -1);
    return mmf_linear_run(tape, &op->gate, all, MMF_ACT_NONE);
}

/* 1 for the k largest scores of each row; NULL: all count. */
static mmf_tensor *chosen(mmf_tape *tape, const moe_operator *op, mmf_tensor *scores)
{
    if (op->top_k == 0 || op->top_k >= op->n_experts)
        return NULL;
    mmf_tensor *left = mmf_detach(tape, scores), *mask = NULL;
    for (int64_t i = 0; i < op->top_k; i++) {
        mmf_tensor *const one = mmf_one_hot(tape, mmf_argmax(tape, left), op->n_experts);
        mask = mask ? mmf_add(tape, mask, one) : one;
        left = mmf_add(tape, left, mmf_affine(tape, one, -CHOSEN, 0));
    }
    return mask;
}

/* Squared coefficient of variation of the experts' importance; mean squared log-partition. */
static void put_losses(mmf_tape *tape, const moe_operator *op, mmf_tensor *scores, mmf_tensor *g,
                       mmf_named *out)
{
    mmf_tensor *const importance = mmf_mean(tape, g, 0);
    mmf_tensor *const mean = mmf_mean(tape, importance, MMF_ALL_AXES);
    mmf_tensor *const spread =
        mmf_reshape(tape, mmf_variance(tape, importance, 0, 0), 1, (int64_t[]){1});
    mmf_tensor *const square = mmf_affine(tape, mmf_mul(tape, mean, mean), 1, MIN_IMPORTANCE);
    mmf_tensor *const z = mmf_logsumexp(tape, scores, -1);
    mmf_named_put(tape, out, "loss.balance",
                  mmf_affine(tape, mmf_div(tape, spread, square), op->balance, 0));
    mmf_named_put(
        tape, out, "loss.z",
        mmf_affine(tape, mmf_mean(tape, mmf_mul(tape, z, z), MMF_ALL_AXES), op->z_loss, 0));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const moe_operator *const op = self;
    for (size_t m = 0; m < op->inputs->count; m++)
        op->features[m] = mmf_named_get(in, op->inputs->inputs[m].name);
    mmf_tensor *const scores = gate_scores(tape, op, in);
    mmf_tensor *const g = mmf_softmax(tape, scores, chosen(tape, op, scores), MMF_EMPTY_ZERO);
    for (int64_t i = 0; i < op->n_experts; i++) {
        mmf_named own = {0}; /* what an expert shows beside its result is not put out */
        mmf_tensor *const f = mmf_operator_run(tape, &op->experts[i].operator, op->inputs,
                                               op->features, in, step, &own);
        op->parts[i] = mmf_linear_run(tape, &op->experts[i].out, f, MMF_ACT_RELU);
    }
    mmf_tensor *const y = mmf_stack(tape, op->parts, (int)op->n_experts, 1); /* (B, E, D) */
    const int64_t column[] = {-1, op->n_experts, 1};
    mmf_named_put(tape, out, "expert_weights", g);
    mmf_named_axes(out, "BE");
    if (step->training)
        put_losses(tape, op, scores, g, out);
    mmf_named_put(tape, out, "fused",
                  mmf_sum(tape, mmf_mul(tape, y, mmf_reshape(tape, g, 3, column)), 1));
}

const mmf_def mmf_fusion_moe = {
    .name = "moe",
    .title = "Mixture of experts over fusion operators",
    .paper = "Jacobs, Jordan, Nowlan, Hinton, Adaptive mixtures of local experts, Neural "
             "Computation 1991; Shazeer et al., Outrageously large neural networks, ICLR 2017, "
             "arXiv:1701.06538; operators as experts: our own",
    .equations = "f = sum_e g_e relu(P_e f_e(x_1, ..., x_M)), g = softmax of the top k of W [x_1; "
                 "...; x_M; present] + b",
    .missing = "a learned vector stands in, experts treat it by their own rule, and the gate sees "
               "which are there",
    .timing = "intermediate",
    .structure = "dynamic",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_STANDS_IN,
    .options = options,
    .build = build,
    .run = run,
};
