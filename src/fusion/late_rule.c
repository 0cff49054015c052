/*
 * late_rule.c: combining the predictions of one model a modality.
 *
 * Inputs are probabilities (B, K), or values (B, 1) for regression, under the modalities' names.
 * Votes tie to the lowest class, or to the highest summed probability among the tied ones.
 */
#include <math.h>
#include <string.h>

#include "fusion/fusion.h"

typedef enum rule { MEAN, WEIGHTED, LEARNED, VOTE, SOFT_VOTE, MAX, PRODUCT, STACKING } rule;

static const char *const rule_names[] = {"mean",      "weighted", "learned", "vote",
                                         "soft-vote", "max",      "product", "stacking"};

static const mmf_option options[] = {
    {"rule", NULL, MMF_OPTION_TEXT, 0, 0,
     "mean|weighted|learned|vote|soft-vote|max|product|stacking", "mean",
     "how predictions are combined"},
    {"weights", NULL, MMF_OPTION_REALS, 0, 1e6, NULL, "",
     "for weighted and soft-vote, in the order of the modalities"},
    {"tie", NULL, MMF_OPTION_TEXT, 0, 0, "lowest|probability", "lowest", "who wins a tied vote"},
    {"modalities", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",
     "order of the modalities; default: that of the inputs"},
    {"task", NULL, MMF_OPTION_TEXT, 0, 0, "classification|multilabel|regression", "classification",
     "what is combined"},
    {0},
};

/* A probability below this counts as this in the product, so one zero cannot make a logarithm
 * infinite. */
#define MIN_PROBABILITY 1e-12

typedef struct late_operator {
    const mmf_schema *inputs;
    const char **order;
    rule rule;
    bool ties_by_probability, is_regression, is_multilabel;
    mmf_tensor *weights;    /* (1, M): fixed weights, or logits of learned ones */
    mmf_linear_layer stack; /* stacking: scores from all predictions */
    mmf_tensor **predictions;
} late_operator;

static void choose_order(mmf_builder *b, const mmf_config *config, late_operator *op)
{
    const size_t n = mmf_config_count(config, "modalities");
    if (n > 0 && n != op->inputs->count)
        mmf_builder_fail(b, MMF_ARG, "late: option modalities names %zu of %zu inputs", n,
                         op->inputs->count);
    for (size_t m = 0; m < op->inputs->count; m++) {
        const char *const name =
            n > 1 ? mmf_config_text_at(config, "modalities", m) : op->inputs->inputs[m].name;
        const mmf_input_schema *const found = mmf_schema_find(op->inputs, name);
        if (!found)
            mmf_builder_fail(b, MMF_ARG, "late: there is no input \"%s\"", name);
        op->order[m] = found ? found->name : name;
    }
}

static void declare(mmf_builder *b, const mmf_config *config, late_operator *op)
{
    const int64_t n = (int64_t)op->inputs->count, k = op->inputs->inputs[0].shape[0];
    const int64_t shape[] = {1, n};
    const size_t n_weights = mmf_config_count(config, "weights");
    if (op->rule == STACKING)
        op->stack = mmf_linear_build(b, "stack", n * k, k, true);
    if (op->rule == LEARNED)
        op->weights =
            mmf_builder_param(b, "alpha", MMF_PARAM_TRAINED, mmf_init_constant(0), 2, shape);
    if (op->rule != WEIGHTED && op->rule != SOFT_VOTE)
        return;
    if (n_weights > 1 && n_weights != op->inputs->count)
        mmf_builder_fail(b, MMF_ARG, "late: %zu weights for %zu modalities", n_weights,
                         op->inputs->count);
    /* Each weight is a constant of its own, so that what was given is what a model file holds. */
    double total = 0;
    for (int64_t m = 0; m < n; m++)
        total += n_weights > 0 ? mmf_config_number_at(config, "weights", (size_t)m) : 1;
    if (!(total > 0))
        mmf_builder_fail(b, MMF_ARG, "late: the weights sum to %g", total);
    mmf_tensor **const parts = op->predictions;
    for (int64_t m = 0; m < n; m++) {
        const double w = n_weights > 0 ? mmf_config_number_at(config, "weights", (size_t)m) : 1;
        parts[m] =
            mmf_builder_param(b, mmf_builder_text(b, "weight.%s", op->order[m]), MMF_PARAM_FIXED,
                              mmf_init_constant(w / total), 1, (int64_t[]){1});
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    late_operator *const op = mmf_builder_alloc(b, sizeof *op);
    mmf_schema *const schema = mmf_builder_alloc(b, sizeof *schema);
    if (!op || !schema || inputs->count == 0)
        return mmf_builder_fail(b, MMF_ARG, "late: there is nothing to combine");
    *schema = *inputs;
    op->inputs = schema;
    while (strcmp(rule_names[op->rule], mmf_config_text(config, "rule")) != 0)
        op->rule++;
    op->ties_by_probability = strcmp(mmf_config_text(config, "tie"), "probability") == 0;
    op->is_regression = strcmp(mmf_config_text(config, "task"), "regression") == 0;
    op->is_multilabel = strcmp(mmf_config_text(config, "task"), "multilabel") == 0;
    const bool needs_classes =
        op->rule == VOTE || op->rule == SOFT_VOTE || op->rule == MAX || op->rule == PRODUCT;
    if ((op->is_regression || op->is_multilabel) && needs_classes)
        return mmf_builder_fail(
            b, MMF_UNSUPPORTED,
            "late: rule %s picks one class of several; for %s use mean, weighted, "
            "learned or stacking",
            rule_names[op->rule], mmf_config_text(config, "task"));
    op->order = mmf_builder_alloc(b, inputs->count * sizeof *op->order);
    /* The first M places hold fixed weights, the next M the predictions of a run. */
    op->predictions = mmf_builder_alloc(b, 2 * inputs->count * sizeof(mmf_tensor *));
    if (!op->order || !op->predictions)
        return mmf_builder_status(b);
    choose_order(b, config, op);
    declare(b, config, op);
    mmf_builder_set_width(b, inputs->inputs[0].shape[0]);
    *self = op;
    return mmf_builder_status(b);
}

/* sum_m w_m p_m / sum_m w_m over the modalities that are there; weights (1, M). Divided last, so
 * that equal sums stay equal. */
static mmf_tensor *weighted_mean(mmf_tape *tape, const late_operator *op, mmf_tensor *stack,
                                 mmf_tensor *weights, mmf_tensor *present)
{
    mmf_tensor *const kept = present ? mmf_mul(tape, present, weights) : weights;
    mmf_tensor *const total = mmf_clamp(tape, mmf_sum(tape, kept, 1), MIN_PROBABILITY, INFINITY);
    const int64_t a_row_each[] = {-1, 1, (int64_t)op->inputs->count};
    mmf_tensor *const rows = present ? mmf_reshape(tape, kept, 3, a_row_each) : weights;
    mmf_tensor *const sum = mmf_matmul(tape, rows, stack, false, false); /* (B, 1, K) */
    const int64_t k = sum ? sum->shape[2] : 1;
    return mmf_div(tape, mmf_reshape(tape, sum, 2, (int64_t[]){-1, k}),
                   mmf_reshape(tape, total, 2, (int64_t[]){-1, 1}));
}

static mmf_tensor *rule_weights(mmf_tape *tape, const late_operator *op)
{
    if (op->rule == LEARNED)
        return mmf_softmax(tape, op->weights, NULL, MMF_EMPTY_UNIFORM);
    if (op->rule == WEIGHTED || op->rule == SOFT_VOTE)
        return mmf_reshape(tape, mmf_concat(tape, op->predictions, (int)op->inputs->count, 0), 2,
                           (int64_t[]){1, -1});
    return mmf_full(tape, 2, (int64_t[]){1, (int64_t)op->inputs->count}, 1);
}

/* Predictions of absent modalities become zeros, which neither win a maximum nor count as a vote.
 */
static mmf_tensor *without_absent(mmf_tape *tape, const late_operator *op, mmf_tensor *stack,
                                  mmf_tensor *present)
{
    return present ? mmf_mul(tape, stack,
                             mmf_reshape(tape, present, 3,
                                         (int64_t[]){-1, (int64_t)op->inputs->count, 1}))
                   : stack;
}

static mmf_tensor *normalised_rows(mmf_tape *tape, mmf_tensor *x)
{
    mmf_tensor *const total = mmf_clamp(tape, mmf_sum(tape, x, 1), MIN_PROBABILITY, INFINITY);
    return mmf_div(tape, x, mmf_reshape(tape, total, 2, (int64_t[]){-1, 1}));
}

/* Votes a class (B, K). */
static mmf_tensor *count_votes(mmf_tape *tape, const late_operator *op,
                               mmf_tensor *const *predictions, const mmf_named *in)
{
    mmf_tensor *count = NULL;
    for (size_t m = 0; m < op->inputs->count; m++) {
        mmf_tensor *const p = predictions[m];
        mmf_tensor *vote = p ? mmf_one_hot(tape, mmf_argmax(tape, p), p->shape[1]) : NULL;
        mmf_tensor *const present = mmf_named_part(in, op->order[m], "present");
        if (present)
            vote = mmf_mul(tape, vote, mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}));
        count = m == 0 ? vote : mmf_add(tape, count, vote);
    }
    return count;
}

static mmf_tensor *vote(mmf_tape *tape, const late_operator *op, mmf_tensor *stack,
                        mmf_tensor *const *predictions, const mmf_named *in, mmf_named *out)
{
    mmf_tensor *const count = count_votes(tape, op, predictions, in);
    /* Summed probabilities are at most M: divided by M + 1 they order ties and never outweigh a
     * vote. */
    mmf_tensor *const tie =
        mmf_affine(tape, mmf_sum(tape, stack, 1), 1 / ((double)op->inputs->count + 1), 0);
    mmf_tensor *const score = op->ties_by_probability ? mmf_add(tape, count, tie) : count;
    mmf_named_put(tape, out, "count", count);
    mmf_named_put(tape, out, "output", score ? mmf_argmax(tape, score) : NULL);
    return normalised_rows(tape, score);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const late_operator *const op = self;
    const int n = (int)op->inputs->count;
    mmf_tensor **const predictions = op->predictions + n;
    mmf_schema ordered = *op->inputs;
    for (int m = 0; m < n; m++) {
        predictions[m] = mmf_named_get(in, op->order[m]);
        ordered.inputs[m].name = op->order[m];
    }
    mmf_tensor *const present = mmf_presence(tape, &ordered, in);
    mmf_tensor *const stack = mmf_stack(tape, predictions, n, 1); /* (B, M, K) */
    mmf_tensor *const kept = without_absent(tape, op, stack, present);
    mmf_tensor *fused = NULL;
    if (op->rule == VOTE) {
        fused = vote(tape, op, kept, predictions, in, out);
    } else if (op->rule == MAX) {
        fused = normalised_rows(tape, mmf_max(tape, kept, 1));
    } else if (op->rule == PRODUCT) {
        mmf_tensor *const logs = mmf_log(tape, mmf_clamp(tape, stack, MIN_PROBABILITY, INFINITY));
        fused = mmf_softmax(tape, mmf_sum(tape, without_absent(tape, op, logs, present), 1), NULL,
                            MMF_EMPTY_ZERO);
    } else if (op->rule == STACKING) {
        mmf_tensor *const flat =
            kept ? mmf_reshape(tape, kept, 2, (int64_t[]){kept->shape[0], -1}) : NULL;
        mmf_tensor *const score = mmf_linear_run(tape, &op->stack, flat, MMF_ACT_NONE);
        fused = op->is_regression   ? score
                : op->is_multilabel ? mmf_sigmoid(tape, score)
                                    : mmf_softmax(tape, score, NULL, MMF_EMPTY_ZERO);
        mmf_named_put(tape, out, op->is_regression ? "prediction" : "logits", score);
    } else {
        fused = weighted_mean(tape, op, stack, rule_weights(tape, op), present);
    }
    mmf_named_put(tape, out, "fused", fused);
    if (op->rule == VOTE)
        return;
    mmf_named_put(tape, out, "output", fused);
    if (!op->is_regression)
        mmf_named_put(tape, out, "label", fused ? mmf_argmax(tape, fused) : NULL);
}

const mmf_def mmf_fusion_late_rule = {
    .name = "late",
    .title = "Rules for the predictions of unimodal models",
    .paper = "Kittler, Hatef, Duin, Matas, On combining classifiers, TPAMI 1998; Wolpert, Stacked "
             "generalization, 1992",
    .equations = "mean, sum_m w_m p_m, softmax(alpha) weights, votes, max_m p_m, prod_m p_m, "
                 "softmax(W [p_1;..;p_M])",
    .missing = "weights of absent modalities move to the others; absent ones do not vote",
    .timing = "late",
    .structure = "weighted",
    .kind = MMF_KIND_RULE,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
