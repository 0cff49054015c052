/* only.c: one modality alone, through its encoder and the head: the baseline of every fusion. */
#include <string.h>

#include "models/parts.h"

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {"head", NULL, MMF_OPTION_TEXT, 0, 0, "hidden|linear|none", "hidden",
     "a hidden layer and one of the outputs, the latter alone, or none: the feature is the "
     "prediction, as with an encoder that puts out logits"},
    {0},
};

typedef struct only_model {
    mmf_encoders encoders;
    mmf_head head;
} only_model;

static mmf_head build_head(mmf_builder *b, const mmf_config *config, int64_t width)
{
    const char *const kind = mmf_config_text(config, "head");
    const int64_t n_outputs = mmf_n_outputs(config);
    if (strcmp(kind, "hidden") == 0)
        return mmf_head_build(b, config, width);
    mmf_head head = {.is_regression = mmf_is_regression(config)};
    if (strcmp(kind, "linear") == 0) {
        mmf_builder_enter(b, "head");
        head.dropout = mmf_config_real(config, "dropout");
        head.out = mmf_linear_build(b, "out", width, n_outputs, true);
        mmf_builder_leave(b);
    } else if (width != n_outputs) {
        mmf_builder_fail(b, MMF_ARG,
                         "head=none: the encoder puts out %lld numbers, the task has %lld outputs",
                         (long long)width, (long long)n_outputs);
    }
    return head;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    only_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    if (inputs->count != 1)
        return mmf_builder_fail(b, MMF_ARG, "only: takes one modality, got %zu; name it, as in %s",
                                inputs->count, "only-audio");
    model->encoders = mmf_encoders_build(b, config, inputs, true);
    if (mmf_builder_status(b) == MMF_OK)
        model->head = build_head(b, config, model->encoders.widths[0]);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const only_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_head_run(tape, &model->head, model->encoders.features[0], out);
}

const mmf_def mmf_model_only = {
    .name = "only",
    .title = "One modality alone",
    .equations = "y = head(encode(x)); written only-<modality>",
    .missing = "a learned vector stands in: the prediction is then the same for all such samples",
    .timing = "none",
    .structure = "unimodal",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_ONE_ONLY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
