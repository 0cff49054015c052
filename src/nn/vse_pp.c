/*
 * vse_pp.c: the networks and the loss of VSE++ as a registered layer.
 *
 * Faghri et al., BMVC 2018; names and reductions (sums over the batch) of their code. A vector and
 * the tokens that describe it; the state at the last valid word is the text's.
 */
#include "nn/vse_pp.h"

#include <string.h>

#include "nn/hinge.h"

/* The bound of word embeddings at the start. */
#define EMBEDDING_BOUND 0.1
/* As for the other unit vectors; the reference divides by the length itself. */
#define NORM_EPS 1e-12

static const mmf_option options[] = {
    MMF_VSE_OPTIONS,
    {"vocab_size", NULL, MMF_OPTION_INT, 1, 1e9, NULL, "1", "words"},
    {"measure", NULL, MMF_OPTION_TEXT, 0, 0, "cosine|order", "cosine",
     "similarity of two embeddings; order: -|max(0, text - image)|"},
    {"use_abs", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false", "absolute values of the embeddings"},
    {0},
};

typedef struct vse_layer {
    mmf_vse_net net;
    double margin;
    bool max_violation, use_abs, order;
} vse_layer;

bool mmf_vse_fits(const mmf_schema *inputs)
{
    const mmf_input_schema *const in = inputs->inputs;
    return inputs->count == 2 && ((in[0].kind == MMF_TOKENS && in[1].kind == MMF_VECTOR) ||
                                  (in[0].kind == MMF_VECTOR && in[1].kind == MMF_TOKENS));
}

mmf_vse_net mmf_vse_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                          int64_t vocab)
{
    const bool text_first = inputs->inputs[0].kind == MMF_TOKENS;
    const mmf_input_schema *const text = &inputs->inputs[text_first ? 0 : 1];
    const mmf_input_schema *const image = &inputs->inputs[text_first ? 1 : 0];
    const int64_t width = mmf_config_int(config, "embed_size");
    const int64_t word = mmf_config_int(config, "word_dim");
    const int64_t fc[] = {width, image->shape[0]}, table[] = {vocab, word};
    mmf_vse_net net = {.image = image->name, .text = text->name};
    net.fc.weight = mmf_builder_param(b, "img_enc.fc.weight", MMF_PARAM_TRAINED,
                                      mmf_init_xavier_uniform(2, fc), 2, fc);
    net.fc.bias =
        mmf_builder_param(b, "img_enc.fc.bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &width);
    mmf_builder_enter(b, "txt_enc");
    net.embed =
        (mmf_embedding_layer){mmf_builder_param(b, "embed.weight", MMF_PARAM_TRAINED,
                                                mmf_init_uniform(EMBEDDING_BOUND), 2, table),
                              -1};
    net.rnn =
        mmf_rnn_build(b, "rnn",
                      &(mmf_rnn_options){.inputs = word,
                                         .hidden = width,
                                         .n_layers = (int)mmf_config_int(config, "num_layers"),
                                         .is_gru = true});
    mmf_builder_leave(b);
    return net;
}

void mmf_vse_run(mmf_tape *tape, const mmf_vse_net *net, const mmf_named *in, mmf_tensor **image,
                 mmf_tensor **text)
{
    mmf_tensor *const tokens = mmf_named_get(in, net->text);
    const mmf_tensor *length = mmf_named_part(in, net->text, "length");
    if (!length)
        length = mmf_token_lengths(tape, tokens, 0);
    mmf_tensor *const words = mmf_embedding_run(tape, &net->embed, tokens);
    *image = mmf_linear_run(tape, &net->fc, mmf_named_get(in, net->image), MMF_ACT_NONE);
    *text = mmf_rnn_run(tape, &net->rnn, words, length, false).last;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    vse_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer)
        return mmf_builder_status(b);
    if (!mmf_vse_fits(inputs))
        return mmf_builder_fail(b, MMF_SHAPE, "vse-pp takes a vector and tokens");
    layer->margin = mmf_config_real(config, "margin");
    layer->max_violation = mmf_config_bool(config, "max_violation");
    layer->use_abs = mmf_config_bool(config, "use_abs");
    layer->order = strcmp(mmf_config_text(config, "measure"), "order") == 0;
    layer->net = mmf_vse_build(b, config, inputs, mmf_config_int(config, "vocab_size"));
    *self = layer;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const vse_layer *const l = self;
    mmf_tensor *image = NULL, *text = NULL;
    mmf_vse_run(tape, &l->net, in, &image, &text);
    image = mmf_l2_normalise(tape, image, NORM_EPS);
    text = mmf_l2_normalise(tape, text, NORM_EPS);
    if (l->use_abs) {
        image = mmf_abs(tape, image);
        text = mmf_abs(tape, text);
    }
    mmf_tensor *const similarity = l->order ? mmf_order_similarity(tape, image, text)
                                            : mmf_matmul(tape, image, text, false, true);
    const mmf_hinge hinge = mmf_hinge_losses(tape, similarity, NULL, l->margin);
    mmf_named_putf(tape, out, image, "embedding.%s", l->net.image);
    mmf_named_putf(tape, out, text, "embedding.%s", l->net.text);
    mmf_named_put(tape, out, "similarity", similarity);
    mmf_named_put(tape, out, "loss", l->max_violation ? hinge.max : hinge.sum);
    mmf_named_put(tape, out, "loss.sum", hinge.sum);
    mmf_named_put(tape, out, "loss.max", hinge.max);
}

const mmf_def mmf_layer_vse_pp = {
    .name = "vse-pp",
    .title = "Visual-semantic embedding with hard negatives",
    .paper = "Faghri et al., VSE++: improving visual-semantic embeddings with hard negatives, BMVC "
             "2018, arXiv:1707.05612",
    .equations = "S = i c', sum_i max_j [a + S_ij - S_ii]+ + sum_j max_i [a + S_ij - S_jj]+, j != "
                 "i; i = W v / |.|, c = GRU(words) / |.|",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_TOKENS | MMF_TWO_ONLY,
    .options = options,
    .build = build,
    .run = run,
};
