/*
 * mag_bert.c: BERT whose word vectors are moved by what is seen and heard with the words.
 *
 * Rahman et al., ACL 2020, section 3: the gate stands between the embedding and the first layer.
 * Names of the reference's classifier: `bert.embeddings`, `bert.MAG`, `bert.encoder`,
 * `bert.pooler`, `classifier`.
 */
#include "models/parts.h"
#include "nn/bert.h"
#include "nn/mag.h"

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    MMF_MAG_OPTIONS,
    {"num_labels", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0", "outputs; 0: the task's"},
    {0},
};

typedef struct mag_bert {
    const char *text;
    mmf_bert bert;
    mmf_mag mag;
    mmf_linear_layer classifier;
    bool is_regression;
} mag_bert;

static const char *refuses(const mmf_schema *inputs)
{
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    if (!text)
        return "it needs one modality of tokens; name it with --kind NAME=tokens, or use mult";
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in != text && !mmf_mag_takes(in, text->shape[0]))
            return "its other modalities are vectors, or sequences aligned with the tokens, a "
                   "frame each; for others use bert-lstm";
    }
    return NULL;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mag_bert *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const problem = refuses(inputs);
    if (problem)
        return mmf_builder_fail(b, MMF_SHAPE, "mag-bert: %s", problem);
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    const mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, text);
    const int64_t given = mmf_config_int(config, "num_labels");
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    model->text = text->name;
    model->bert = mmf_bert_build(b, "bert", &sizes, true);
    model->mag = mmf_mag_build(b, "bert.MAG", config, inputs, text, sizes.width);
    model->classifier =
        mmf_bert_linear_build(b, "classifier", sizes.width, mmf_n_answers(b, config, "num_labels"));
    model->is_regression = given ? given == 1 : mmf_is_value(config);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mag_bert *const model = self;
    mmf_tensor *const keys = mmf_bert_keys(tape, in, model->text);
    mmf_tensor *const z = mmf_bert_embed_input(tape, &model->bert, in, model->text);
    mmf_tensor *const moved = mmf_mag_run(tape, &model->mag, z, in, NULL);
    mmf_tensor *const x = mmf_bert_encode(tape, &model->bert, moved, keys);
    mmf_tensor *const pooled = mmf_bert_pool(tape, &model->bert, x);
    mmf_named_put(tape, out, "last_hidden_state", x);
    mmf_named_put(tape, out, "pooler_output", pooled);
    mmf_tensor *const h = mmf_dropout(tape, pooled, model->bert.sizes.dropout);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->classifier, h, MMF_ACT_NONE));
}

const mmf_def mmf_model_mag_bert = {
    .name = "mag-bert",
    .title = "BERT with a multimodal adaptation gate",
    .paper = "Rahman, Hasan, Lee, Zadeh, Mao, Morency, Hoque, Integrating multimodal information "
             "in large pretrained transformers, ACL 2020, arXiv:1908.05787",
    .equations = "h = sum_m relu(W_hm [x_m; z]) (W_m x_m); z' = LN(z + min(beta |z| / |h|, 1) h); "
                 "y = W tanh(W_p BERT(z')_0)",
    .missing = "frames of an absent modality are zeros; words of an absent text too",
    .timing = "intermediate",
    .structure = "gating",
    .kind = MMF_KIND_MODEL,
    .takes =
        MMF_TAKES_TOKENS | MMF_TAKES_SEQUENCES | MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .companions = 1u << MMF_COMPANION_SEGMENTS,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
