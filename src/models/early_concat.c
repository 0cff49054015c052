/*
 * early_concat.c: raw inputs side by side, then a small network: fusion before any encoding.
 *
 * Vectors, sequences and images are flattened; tokens, which have no raw vector, are averaged
 * embeddings.
 */
#include "models/parts.h"

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    {0},
};

typedef struct early_model {
    const mmf_schema *inputs;
    mmf_encoder *words; /* of token inputs; def NULL elsewhere */
    mmf_tensor **parts; /* a part a modality, and its presence where it may be absent */
    mmf_head head;
} early_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    early_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->inputs = inputs;
    model->words = mmf_builder_alloc(b, inputs->count * sizeof *model->words);
    model->parts = mmf_builder_alloc(b, 2 * inputs->count * sizeof(mmf_tensor *));
    int64_t width = 0;
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        const mmf_encoder_choice mean = {.spec = "mean", .width = mmf_config_int(config, "hidden")};
        int64_t own = 1;
        for (int d = 0; d < in->n_dims; d++)
            own *= in->shape[d];
        if (in->kind == MMF_TOKENS) {
            model->words[m] = mmf_encoder_build(b, in->name, in, &mean);
            own = model->words[m].width;
        }
        width += own + (in->has_present ? 1 : 0);
    }
    if (mmf_builder_status(b) == MMF_OK)
        model->head = mmf_head_build(b, config, width);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const early_model *const model = self;
    int n = 0;
    for (size_t m = 0; m < model->inputs->count; m++) {
        const char *const name = model->inputs->inputs[m].name;
        mmf_tensor *x = model->words[m].def ? mmf_encoder_run(tape, &model->words[m], in, step)
                                            : mmf_named_get(in, name);
        x = x ? mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1}) : NULL;
        mmf_tensor *const present = mmf_present_column(tape, in, name);
        model->parts[n++] = present ? mmf_mul(tape, x, present) : x;
        if (model->inputs->inputs[m].has_present && x)
            model->parts[n++] =
                present ? present : mmf_full(tape, 2, (int64_t[]){x->shape[0], 1}, 1);
    }
    mmf_head_run(tape, &model->head, mmf_concat(tape, model->parts, n, 1), out);
}

const mmf_def mmf_model_early_concat = {
    .name = "early-concat",
    .title = "Concatenation of raw inputs",
    .paper = "Baltrusaitis, Ahuja, Morency, Multimodal machine learning: a survey and taxonomy, "
             "TPAMI 2019, doi:10.1109/TPAMI.2018.2798607",
    .equations = "y = head([x_1 ; ... ; x_M])",
    .missing = "zeros stand in, and a column of 0/1 says so",
    .timing = "early",
    .structure = "concatenation",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
