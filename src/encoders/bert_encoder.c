/* bert_encoder.c: a BERT on tokens, pooled to one vector, or as the steps of a model over steps. */
#include "encoders/steps.h"

#include <string.h>

#include "encoders/bert_source.h"
#include "nn/bert.h"

#define NORM_EPS 1e-12

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    {"width", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "of the feature, by a linear layer; 0, or hidden_size: the pooled state itself"},
    {"pooling", NULL, MMF_OPTION_TEXT, 0, 0, "cls|mean|max|pooler|none", "cls",
     "first state, mean or maximum over tokens, tanh(W x_0 + b); none: all states, for models over "
     "steps, which need not say it"},
    {"normalize", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "divide the pooled state by its Euclidean norm"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on the pooled state"},
    {0},
};

typedef struct bert_encoder {
    const char *input, *pooling;
    mmf_bert bert;
    mmf_linear_layer project; /* weight NULL: none */
    bool normalize;
    double dropout;
} bert_encoder;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    bert_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, in);
    const int64_t width = mmf_config_int(config, "width");
    const char *const pooling = mmf_builder_text(b, "%s", mmf_config_text(config, "pooling"));
    *e = (bert_encoder){.input = in->name,
                        .pooling = pooling,
                        .normalize = mmf_config_bool(config, "normalize"),
                        .dropout = mmf_config_real(config, "dropout")};
    if (mmf_builder_status(b) == MMF_OK)
        e->bert = mmf_bert_build(b, "bert", &sizes, strcmp(pooling, "pooler") == 0);
    if (width > 0 && width != sizes.width)
        e->project = mmf_linear_build(b, "project", sizes.width, width, true);
    mmf_builder_set_width(b, e->project.weight ? width : sizes.width);
    *self = e;
    return mmf_builder_status(b);
}

/* The largest of the tokens that count. */
static mmf_tensor *largest(mmf_tape *tape, mmf_tensor *x, mmf_tensor *keys)
{
    if (!x || !keys)
        return NULL;
    mmf_tensor *const low = mmf_affine(tape, keys, 1e30, -1e30);
    return mmf_max(tape,
                   mmf_add(tape, x, mmf_reshape(tape, low, 3, (int64_t[]){-1, x->shape[1], 1})), 1);
}

static mmf_tensor *pool(mmf_tape *tape, const bert_encoder *e, mmf_tensor *x, mmf_tensor *keys)
{
    const mmf_steps steps = {x, keys};
    if (strcmp(e->pooling, "none") == 0)
        return mmf_steps_masked(tape, &steps);
    if (strcmp(e->pooling, "mean") == 0)
        return mmf_steps_mean(tape, &steps);
    if (strcmp(e->pooling, "max") == 0)
        return largest(tape, x, keys);
    return strcmp(e->pooling, "pooler") == 0 ? mmf_bert_pool(tape, &e->bert, x)
                                             : mmf_bert_first(tape, x);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const bert_encoder *const e = self;
    mmf_tensor *const keys = mmf_bert_keys(tape, in, e->input);
    mmf_tensor *x =
        mmf_bert_encode(tape, &e->bert, mmf_bert_embed_input(tape, &e->bert, in, e->input), keys);
    x = pool(tape, e, x, keys);
    if (e->normalize)
        x = mmf_l2_normalise(tape, x, NORM_EPS);
    mmf_named_put(tape, out, "pooled", x);
    x = mmf_dropout(tape, x, e->dropout);
    mmf_named_put(tape, out, "feature",
                  e->project.weight ? mmf_linear_run(tape, &e->project, x, MMF_ACT_NONE) : x);
}

static const mmf_source source = {
    .describe = mmf_bert_describe, .rules = &mmf_pretrained_bert, .scope = "bert"};

const mmf_def mmf_encoder_bert = {
    .name = "bert",
    .title = "BERT over the tokens of a text",
    .paper = "Devlin, Chang, Lee, Toutanova, BERT: Pre-training of deep bidirectional transformers "
             "for language understanding, NAACL 2019, arXiv:1810.04805; Hugging Face's names",
    .equations = "W pool(x) + b over the states x of the layer bert; bert=FOLDER takes sizes and "
                 "weights from a checkpoint in safetensors",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_TOKENS,
    .options = options,
    .build = build,
    .run = run,
    .source = &source,
};
