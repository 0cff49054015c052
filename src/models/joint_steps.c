/*
 * joint_steps.c: models that are steps of every modality and one layer over all of them.
 *
 * The layer (src/nn/token_layer.h) takes tokens that are embedded already, as golden files have
 * them, and puts out logits; a row below makes a model of it, whose options and description are the
 * layer's.
 */
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "models/parts.h"

#define EMBEDDING_DEVIATION 0.02

#define MMF_LAYER(file, name) extern const mmf_def mmf_layer_##name;
#include "nn/layers.def"
#undef MMF_LAYER

static const mmf_option options[] = {
    MMF_ENCODER_OPTION,
    {"steps_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",
     "on what enters the steps of a modality"},
    {0},
};

/* Where the width is by the data. Every modality has a stream of blocks of its own: more of them
 * are narrower. */
#define WIDE 128
#define NARROW 64
#define MOST_WIDE_MODALITIES 3

/* How a layer calls the width of its tokens, and whether it adds positions of its own. */
typedef struct token_kind {
    const mmf_def *layer;
    const char *width;
    bool has_positions;
} token_kind;

static const token_kind kinds[] = {
    {&mmf_layer_mbt, "hidden", true},
    {&mmf_layer_perceiver, "dim", false},
};

typedef struct steps_model {
    const mmf_def *layer;
    void *self;
    mmf_all_steps all;
    mmf_tensor **positions; /* (T_m, D), of a modality too; NULL where the layer has its own */
    int64_t n_outputs;
    bool is_regression;
} steps_model;

static const token_kind *kind_of(const mmf_def *layer)
{
    const token_kind *kind = kinds;
    while (kind->layer != layer)
        kind++;
    return kind;
}

static void build_layer(mmf_builder *b, const mmf_config *config, steps_model *model)
{
    const mmf_schema *const inputs = model->all.inputs;
    mmf_schema tokens = {inputs->count,
                         mmf_builder_alloc(b, inputs->count * sizeof *tokens.inputs)};
    mmf_config *own = NULL;
    char text[32];
    if (!tokens.inputs || mmf_config_create(mmf_builder_ctx(b), &own, model->layer) != MMF_OK)
        return;
    for (size_t m = 0; m < inputs->count; m++)
        tokens.inputs[m] =
            (mmf_input_schema){.name = inputs->inputs[m].name,
                               .kind = MMF_SEQUENCE,
                               .n_dims = 2,
                               .shape = {model->all.encoders[m].n_steps, model->all.width}};
    mmf_status status = mmf_config_share(own, config);
    snprintf(text, sizeof text, "%lld", (long long)model->all.width);
    if (status == MMF_OK)
        status = mmf_config_set(own, kind_of(model->layer)->width, text);
    snprintf(text, sizeof text, "%lld", (long long)model->n_outputs);
    if (status == MMF_OK)
        status = mmf_config_set(own, "classes", text);
    if (status == MMF_OK)
        model->layer->build(b, own, &tokens, &model->self);
    else
        mmf_builder_fail(b, status, "%s: %s", model->layer->name,
                         mmf_ctx_error(mmf_builder_ctx(b)));
    mmf_config_free(own);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    steps_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->layer = mmf_config_def(config)->fuses;
    model->n_outputs = mmf_n_outputs(config);
    model->is_regression = mmf_is_regression(config);
    model->positions = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    const token_kind *const kind = kind_of(model->layer);
    const int64_t given = mmf_config_int(config, kind->width);
    const int64_t width = given > 0 ? given : inputs->count > MOST_WIDE_MODALITIES ? NARROW : WIDE;
    model->all =
        mmf_all_steps_build(b, config, inputs, width, mmf_config_real(config, "steps_dropout"));
    for (size_t m = 0; !kind->has_positions && mmf_builder_status(b) == MMF_OK && m < inputs->count;
         m++)
        model->positions[m] =
            mmf_builder_param(b, mmf_builder_text(b, "position.%s", inputs->inputs[m].name),
                              MMF_PARAM_TRAINED, mmf_init_normal(EMBEDDING_DEVIATION), 2,
                              (int64_t[]){model->all.encoders[m].n_steps, width});
    if (mmf_builder_status(b) == MMF_OK)
        build_layer(b, config, model);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const steps_model *const model = self;
    const mmf_schema *const inputs = model->all.inputs;
    mmf_named tokens = {0};
    mmf_all_steps_run(tape, &model->all, in);
    for (size_t m = 0; m < inputs->count; m++) {
        mmf_steps s = model->all.steps[m];
        if (model->positions[m])
            s.x = mmf_add(tape, s.x, model->positions[m]);
        mmf_named_put(tape, &tokens, inputs->inputs[m].name, s.x);
        if (s.mask)
            mmf_named_putf(tape, &tokens, s.mask, "%s.mask", inputs->inputs[m].name);
    }
    model->layer->run(tape, model->self, &tokens, step, out);
    mmf_tensor *const logit = mmf_named_get(out, "logit");
    mmf_put_result(tape, out, model->is_regression,
                   logit ? mmf_reshape(tape, logit, 2, (int64_t[]){-1, model->n_outputs}) : NULL);
}

#define STEPS(id, text)                                                                            \
    const mmf_def mmf_model_##id = {                                                               \
        .name = text,                                                                              \
        .fuses = &mmf_layer_##id,                                                                  \
        .timing = "intermediate",                                                                  \
        .structure = "attention",                                                                  \
        .kind = MMF_KIND_MODEL,                                                                    \
        .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,                                    \
        .options = options,                                                                        \
        .build = build,                                                                            \
        .run = run,                                                                                \
    }

STEPS(mbt, "mbt");
STEPS(perceiver, "perceiver");
