/*
 * late.c: the late family: one `only` model a modality, each trained by itself, and a rule over
 * their predictions.
 *
 * Parameters are `<modality>.*`, those of only-<modality>, and `rule.*`. The unimodal models of a
 * seed are shared by the whole family; src/train/late.c trains them and fits the rule.
 */
#include "models/parts.h"

#include <stdio.h>
#include <string.h>

static const mmf_option options[] = {
    {"weights", NULL, MMF_OPTION_REALS, 0, 1e6, NULL, "",
     "late-weighted, late-soft-vote: in the order of the modalities; default: by validation score"},
    {"tie", NULL, MMF_OPTION_TEXT, 0, 0, "lowest|probability", "lowest",
     "late-vote: a tie goes to the lowest class, or to the highest summed probability"},
    {"folds", NULL, MMF_OPTION_INT, 2, 20, NULL, "3",
     "late-stacking: parts that the training rows are cut into for out-of-fold predictions"},
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

extern const mmf_def mmf_model_only;

typedef struct late_model {
    const mmf_schema *inputs;
    void **parts; /* an `only` model each */
    mmf_tensor **predictions;
    mmf_operator rule;
    bool is_regression, is_multilabel;
} late_model;

/* Copies the options that `only` has too. */
static mmf_status unimodal_config(mmf_ctx *ctx, mmf_config **out, const mmf_config *config)
{
    static const char *const shared[] = {"hidden", "dropout", "train_mode", "num_classes"};
    char text[64];
    MMF_TRY(mmf_config_create(ctx, out, &mmf_model_only));
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        const char *const name = shared[i];
        if (strcmp(name, "train_mode") == 0)
            snprintf(text, sizeof text, "%s", mmf_config_text(config, name));
        else if (strcmp(name, "dropout") == 0)
            snprintf(text, sizeof text, "%.12g", mmf_config_real(config, name));
        else
            snprintf(text, sizeof text, "%lld", (long long)mmf_config_int(config, name));
        MMF_TRY(mmf_config_set(*out, name, text));
    }
    return MMF_OK;
}

static mmf_status rule_config(mmf_ctx *ctx, mmf_config **out, const mmf_config *config)
{
    char text[32];
    const char *const task = mmf_config_text(config, "train_mode");
    MMF_TRY(mmf_config_create(ctx, out, &mmf_fusion_late_rule));
    MMF_TRY(mmf_config_set(*out, "rule", mmf_config_def(config)->name + strlen("late-")));
    MMF_TRY(mmf_config_set(*out, "tie", mmf_config_text(config, "tie")));
    MMF_TRY(mmf_config_set(*out, "task", strcmp(task, "soft") == 0 ? "classification" : task));
    char list[1024] = "";
    for (size_t i = 0; i < mmf_config_count(config, "weights"); i++) {
        snprintf(text, sizeof text, "%s%.12g", i ? "," : "",
                 mmf_config_number_at(config, "weights", i));
        strncat(list, text, sizeof list - strlen(list) - 1);
    }
    return *list ? mmf_config_set(*out, "weights", list) : MMF_OK;
}

static void build_parts(mmf_builder *b, const mmf_config *config, late_model *model)
{
    mmf_config *unimodal = NULL;
    const mmf_schema *const inputs = model->inputs;
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_status status = unimodal_config(mmf_builder_ctx(b), &unimodal, config);
        if (status != MMF_OK)
            mmf_builder_fail(b, status, "%s", mmf_ctx_error(mmf_builder_ctx(b)));
        const char *const spec = mmf_encoder_spec(config, "encoder", inputs->inputs[m].name);
        if (spec && unimodal)
            mmf_config_set(unimodal, "encoder",
                           mmf_builder_text(b, "%s=%s", inputs->inputs[m].name, spec));
        mmf_schema *const one = mmf_builder_alloc(b, sizeof *one);
        if (one && unimodal) {
            *one = (mmf_schema){1, &inputs->inputs[m]};
            mmf_builder_enter(b, inputs->inputs[m].name);
            mmf_model_only.build(b, unimodal, one, &model->parts[m]);
            mmf_builder_leave(b);
        }
        mmf_config_free(unimodal);
        unimodal = NULL;
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    late_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->inputs = inputs;
    model->is_regression = mmf_is_regression(config);
    model->is_multilabel = strcmp(mmf_config_text(config, "train_mode"), "multilabel") == 0;
    model->parts = mmf_builder_alloc(b, inputs->count * sizeof *model->parts);
    model->predictions = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    int64_t *const widths = mmf_builder_alloc(b, inputs->count * sizeof *widths);
    if (!model->parts || !model->predictions || !widths)
        return mmf_builder_status(b);
    build_parts(b, config, model);
    for (size_t m = 0; m < inputs->count; m++)
        widths[m] = mmf_n_outputs(config);
    mmf_config *rule = NULL;
    const mmf_status status =
        mmf_builder_status(b) == MMF_OK ? rule_config(mmf_builder_ctx(b), &rule, config) : MMF_OK;
    if (status != MMF_OK)
        mmf_builder_fail(b, status, "%s", mmf_ctx_error(mmf_builder_ctx(b)));
    if (mmf_builder_status(b) == MMF_OK)
        model->rule = mmf_operator_build(b, "rule", &mmf_fusion_late_rule, rule, inputs, widths);
    mmf_config_free(rule);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const late_model *const model = self;
    for (size_t m = 0; m < model->inputs->count; m++) {
        mmf_named one = {0};
        mmf_model_only.run(tape, model->parts[m], in, step, &one);
        mmf_tensor *y = mmf_named_get(&one, model->is_regression ? "prediction" : "logits");
        if (!model->is_regression)
            y = model->is_multilabel ? mmf_sigmoid(tape, y)
                                     : mmf_softmax(tape, y, NULL, MMF_EMPTY_ZERO);
        model->predictions[m] = y;
        mmf_named_putf(tape, out, y, "prediction_%s", model->inputs->inputs[m].name);
    }
    mmf_named rule = {0};
    mmf_tensor *const fused =
        mmf_operator_run(tape, &model->rule, model->inputs, model->predictions, in, step, &rule);
    mmf_named_put(tape, out, model->is_regression ? "prediction" : "probability", fused);
}

#define COMBINING                                                                                  \
    "Kittler, Hatef, Duin, Matas, On combining classifiers, TPAMI 1998, doi:10.1109/34.667881"
#define STACKED                                                                                    \
    "Wolpert, Stacked generalization, Neural Networks 1992, doi:10.1016/S0893-6080(05)80023-1"

#define LATE(id, text, about, source, formula, absent, kind_of_structure, tasks)                   \
    const mmf_def mmf_model_late_##id = {                                                          \
        .name = text,                                                                              \
        .title = about,                                                                            \
        .paper = source,                                                                           \
        .equations = formula,                                                                      \
        .missing = absent,                                                                         \
        .timing = "late",                                                                          \
        .structure = kind_of_structure,                                                            \
        .kind = MMF_KIND_MODEL,                                                                    \
        .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_LATE | tasks,                                \
        .options = options,                                                                        \
        .build = build,                                                                            \
        .run = run,                                                                                \
    }

LATE(mean, "late-mean", "Mean of unimodal predictions", COMBINING, "p = 1/M sum_m p_m",
     "the mean runs over the modalities that are there", "weighted", MMF_ANY_TASK);
LATE(weighted, "late-weighted", "Weighted mean of unimodal predictions", COMBINING,
     "p = sum_m w_m p_m; w given, else from validation: accuracy, or 1 / MSE",
     "weights of absent modalities move to the others", "weighted", MMF_ANY_TASK);
LATE(learned, "late-learned", "Learned weights of unimodal predictions", COMBINING,
     "p = sum_m softmax(alpha)_m p_m; alpha fitted on validation",
     "weights of absent modalities move to the others", "weighted", MMF_ANY_TASK);
LATE(vote, "late-vote", "Majority vote of unimodal models", COMBINING,
     "y = argmax_c #{m: argmax p_m = c}; option tie decides equal counts",
     "absent modalities do not vote", "voting", MMF_CLASSES_OK);
LATE(soft_vote, "late-soft-vote", "Weighted vote by probability", COMBINING,
     "y = argmax_c sum_m w_m p_mc; equal weights unless given",
     "weights of absent modalities move to the others", "voting", MMF_CLASSES_OK);
LATE(max, "late-max", "Maximum of unimodal probabilities", COMBINING, "p_c ~ max_m p_mc",
     "absent modalities never win the maximum", "voting", MMF_CLASSES_OK);
LATE(product, "late-product", "Product of unimodal probabilities", COMBINING,
     "log p = sum_m log max(p_m, 1e-12) + const", "absent modalities are left out of the product",
     "voting", MMF_CLASSES_OK);
LATE(stacking, "late-stacking", "Stacking: a learner over unimodal predictions", STACKED,
     "y = W [p_1 ; ... ; p_M] + b, fitted on out-of-fold predictions",
     "zeros stand in for the predictions of absent modalities", "stacking", MMF_ANY_TASK);
