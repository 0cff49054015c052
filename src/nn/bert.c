/* bert.c: see bert.h; and the registered layer `bert`. */
#include "nn/bert.h"

#include <string.h>

#include "tensor/panels.h"
#include "nn/builder.h"

#define INIT_DEVIATION 0.02
#define PADDING 0

/* ---- Sizes ------------------------------------------------------------------------------- */

mmf_bert_activation mmf_bert_activation_read(mmf_builder *b, const mmf_config *config,
                                             const char *option)
{
    static const struct {
        const char *name;
        mmf_bert_activation activation;
    } all[] = {{"gelu", MMF_BERT_GELU},
               {"gelu_new", MMF_BERT_GELU_TANH},
               {"gelu_pytorch_tanh", MMF_BERT_GELU_TANH},
               {"relu", MMF_BERT_RELU},
               {"swish", MMF_BERT_SWISH},
               {"silu", MMF_BERT_SWISH}};
    const char *const name = mmf_config_text(config, option);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].activation;
    }
    mmf_builder_fail(b, MMF_ARG,
                     "%s is \"%s\", not gelu, gelu_new, gelu_pytorch_tanh, relu or swish", option,
                     name);
    return MMF_BERT_GELU;
}

static void check_text(mmf_builder *b, mmf_bert_sizes *s, const mmf_input_schema *text)
{
    const int64_t n_steps = text->shape[0];
    if (text->kind != MMF_TOKENS || text->n_dims != 1) {
        mmf_builder_fail(b, MMF_SHAPE,
                         "%s is not tokens [N, T]; whole numbers are with --kind %s=tokens",
                         text->name, text->name);
        return;
    }
    if (s->vocab == 0)
        s->vocab = text->vocab_size;
    if (s->positions == 0)
        s->positions = n_steps;
    if (s->vocab == 0)
        mmf_builder_fail(b, MMF_ARG, "vocab_size is 0, and %s does not say how many words it has",
                         text->name);
    mmf_builder_check_words(b, "vocab_size", s->vocab, s->vocab, text);
    if (s->positions < n_steps)
        mmf_builder_fail(b, MMF_SHAPE,
                         "max_position_embeddings is %lld, but %s has %lld steps; cut them, or "
                         "raise the option",
                         (long long)s->positions, text->name, (long long)n_steps);
}

mmf_bert_sizes mmf_bert_sizes_read(mmf_builder *b, const mmf_config *config,
                                   const mmf_input_schema *text)
{
    mmf_bert_sizes s = {.vocab = mmf_config_int(config, "vocab_size"),
                        .width = mmf_config_int(config, "hidden_size"),
                        .n_layers = mmf_config_int(config, "num_hidden_layers"),
                        .n_heads = mmf_config_int(config, "num_attention_heads"),
                        .inner = mmf_config_int(config, "intermediate_size"),
                        .positions = mmf_config_int(config, "max_position_embeddings"),
                        .types = mmf_config_int(config, "type_vocab_size"),
                        .eps = mmf_config_real(config, "layer_norm_eps"),
                        .dropout = mmf_config_real(config, "hidden_dropout_prob"),
                        .attention_dropout =
                            mmf_config_real(config, "attention_probs_dropout_prob"),
                        .activation = mmf_bert_activation_read(b, config, "hidden_act"),
                        .recompute = mmf_config_bool(config, "gradient_checkpointing")};
    if (s.inner == 0)
        s.inner = 4 * s.width;
    if (text)
        check_text(b, &s, text);
    return s;
}

const mmf_input_schema *mmf_bert_text(const mmf_schema *inputs)
{
    const mmf_input_schema *const named = mmf_schema_find(inputs, "text");
    const mmf_input_schema *text = NULL;
    if (named && named->kind == MMF_TOKENS)
        return named;
    for (size_t m = 0; m < inputs->count; m++) {
        if (inputs->inputs[m].kind != MMF_TOKENS)
            continue;
        if (text)
            return NULL;
        text = &inputs->inputs[m];
    }
    return text;
}

/* ---- Parts ------------------------------------------------------------------------------- */

mmf_linear_layer mmf_bert_linear_build(mmf_builder *b, const char *name, int64_t inputs,
                                       int64_t outputs)
{
    mmf_linear_layer layer = {0};
    mmf_builder_enter(b, name);
    mmf_builder_reordered(b, inputs * outputs >= MMF_PANELS_LEAST);
    layer.weight =
        mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_normal(INIT_DEVIATION), 2,
                          (int64_t[]){outputs, inputs});
    mmf_builder_reordered(b, false);
    layer.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &outputs);
    mmf_builder_leave(b);
    return layer;
}

mmf_embedding_layer mmf_bert_table_build(mmf_builder *b, const char *name, int64_t rows,
                                         int64_t width, int64_t padding)
{
    mmf_init init = mmf_init_normal(INIT_DEVIATION);
    init.zero_row = padding;
    mmf_embedding_layer layer = {.padding = padding};
    mmf_builder_enter(b, name);
    layer.weight =
        mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, init, 2, (int64_t[]){rows, width});
    mmf_builder_leave(b);
    return layer;
}

mmf_tensor *mmf_bert_activate(mmf_tape *tape, const mmf_linear_layer *layer, mmf_tensor *x,
                              mmf_bert_activation activation)
{
    static const mmf_activation fused[] = {[MMF_BERT_GELU] = MMF_ACT_GELU,
                                           [MMF_BERT_GELU_TANH] = MMF_ACT_NONE,
                                           [MMF_BERT_RELU] = MMF_ACT_RELU,
                                           [MMF_BERT_SWISH] = MMF_ACT_NONE};
    mmf_tensor *const y = mmf_linear_run(tape, layer, x, fused[activation]);
    if (activation == MMF_BERT_GELU_TANH)
        return mmf_gelu_tanh(tape, y);
    return activation == MMF_BERT_SWISH ? mmf_mul(tape, y, mmf_sigmoid(tape, y)) : y;
}

/* ---- Embeddings -------------------------------------------------------------------------- */

mmf_bert_embeddings mmf_bert_embeddings_build(mmf_builder *b, const mmf_bert_sizes *s)
{
    return mmf_bert_embeddings_build_as(b, "embeddings", s);
}

mmf_bert_embeddings mmf_bert_embeddings_build_as(mmf_builder *b, const char *scope,
                                                 const mmf_bert_sizes *s)
{
    mmf_bert_embeddings e = {.dropout = s->dropout};
    mmf_builder_enter(b, scope);
    e.words = mmf_bert_table_build(b, "word_embeddings", s->vocab, s->width, PADDING);
    e.positions = mmf_bert_table_build(b, "position_embeddings", s->positions, s->width, -1).weight;
    e.types = mmf_bert_table_build(b, "token_type_embeddings", s->types, s->width, -1).weight;
    e.norm = mmf_layer_norm_build(b, "LayerNorm", s->width, s->eps);
    mmf_builder_leave(b);
    return e;
}

mmf_tensor *mmf_bert_words(mmf_tape *tape, const mmf_bert_embeddings *e, const mmf_tensor *tokens)
{
    return mmf_embedding_run(tape, &e->words, tokens);
}

mmf_tensor *mmf_bert_words_of(mmf_tape *tape, const mmf_bert_embeddings *e,
                              const mmf_tensor *tokens, mmf_tensor *present)
{
    mmf_tensor *const words = mmf_bert_words(tape, e, tokens);
    return present ? mmf_mul(tape, words,
                             mmf_reshape(tape, present, 3, (int64_t[]){present->count, 1, 1}))
                   : words;
}

mmf_tensor *mmf_bert_embed(mmf_tape *tape, const mmf_bert_embeddings *e, mmf_tensor *words,
                           const mmf_tensor *segments, int64_t segment)
{
    if (!words)
        return NULL;
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *x = mmf_add(tape, words, mmf_slice(tape, e->positions, 0, 0, words->shape[1]));
    x = mmf_add(tape, x,
                segments ? mmf_embedding(tape, e->types, segments, -1)
                         : mmf_slice(tape, e->types, 0, segment, 1));
    x = mmf_dropout(tape, mmf_layer_norm_run(tape, &e->norm, x), e->dropout);
    return mmf_tape_leave(tape, mark, x);
}

/* ---- Layers ------------------------------------------------------------------------------ */

mmf_bert_inner mmf_bert_inner_build(mmf_builder *b, const char *intermediate, const char *output,
                                    const mmf_bert_sizes *s)
{
    mmf_bert_inner inner = {.activation = s->activation, .dropout = s->dropout};
    mmf_builder_enter(b, intermediate);
    inner.intermediate = mmf_bert_linear_build(b, "dense", s->width, s->inner);
    mmf_builder_leave(b);
    mmf_builder_enter(b, output);
    inner.output = mmf_bert_linear_build(b, "dense", s->inner, s->width);
    inner.norm = mmf_layer_norm_build(b, "LayerNorm", s->width, s->eps);
    mmf_builder_leave(b);
    return inner;
}

static mmf_bert_attention attention_build(mmf_builder *b, const mmf_bert_sizes *s)
{
    const int64_t d = s->width;
    mmf_bert_attention a = {
        .n_heads = s->n_heads, .dropout = s->dropout, .weights_dropout = s->attention_dropout};
    mmf_builder_enter(b, "attention");
    mmf_builder_enter(b, "self");
    a.query = mmf_bert_linear_build(b, "query", d, d);
    a.key = mmf_bert_linear_build(b, "key", d, d);
    a.value = mmf_bert_linear_build(b, "value", d, d);
    mmf_builder_leave(b);
    mmf_builder_enter(b, "output");
    a.dense = mmf_bert_linear_build(b, "dense", d, d);
    a.norm = mmf_layer_norm_build(b, "LayerNorm", d, s->eps);
    mmf_builder_leave(b);
    mmf_builder_leave(b);
    return a;
}

mmf_bert_layer mmf_bert_layer_build(mmf_builder *b, const char *name, const mmf_bert_sizes *s)
{
    mmf_bert_layer layer = {0};
    if (s->n_heads < 1 || s->width % s->n_heads != 0) {
        mmf_builder_fail(b, MMF_ARG, "a width of %lld is not a multiple of %lld heads",
                         (long long)s->width, (long long)s->n_heads);
        return layer;
    }
    mmf_builder_enter(b, name);
    layer.attention = attention_build(b, s);
    layer.inner = mmf_bert_inner_build(b, "intermediate", "output", s);
    mmf_builder_leave(b);
    return layer;
}

mmf_tensor *mmf_bert_inner_run(mmf_tape *tape, const mmf_bert_inner *inner, mmf_tensor *x)
{
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *y = mmf_bert_activate(tape, &inner->intermediate, x, inner->activation);
    y = mmf_linear_run(tape, &inner->output, y, MMF_ACT_NONE);
    y = mmf_dropout(tape, mmf_tape_leave(tape, mark, y), inner->dropout);
    return mmf_layer_norm_run(tape, &inner->norm, mmf_add(tape, x, y));
}

static mmf_tensor *attention_run(mmf_tape *tape, const mmf_bert_attention *a, mmf_tensor *x,
                                 mmf_tensor *source, const mmf_tensor *mask, mmf_tensor **weights)
{
    const mmf_heads heads = {a->n_heads, mask, MMF_EMPTY_SHIFTED, a->weights_dropout};
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *const q = mmf_linear_run(tape, &a->query, x, MMF_ACT_NONE);
    mmf_tensor *const k = mmf_linear_run(tape, &a->key, source, MMF_ACT_NONE);
    mmf_tensor *const v = mmf_linear_run(tape, &a->value, source, MMF_ACT_NONE);
    mmf_tensor *y = mmf_attend(tape, q, k, v, &heads, weights);
    if (!weights) /* they must outlive the layer */
        y = mmf_tape_leave(tape, mark, y);
    y = mmf_dropout(tape, mmf_linear_run(tape, &a->dense, y, MMF_ACT_NONE), a->dropout);
    return mmf_layer_norm_run(tape, &a->norm, mmf_add(tape, x, y));
}

/* Without a record, what was made from `mark` on is given back, x with it if it is there. */
static mmf_tensor *layer_from(mmf_tape *tape, const mmf_bert_layer *layer, mmf_tensor *x,
                              mmf_tensor *source, const mmf_tensor *mask, mmf_tape_mark mark)
{
    mmf_tensor *y = attention_run(tape, &layer->attention, x, source, mask, NULL);
    y = mmf_tape_leave(tape, mark, y);
    y = mmf_bert_inner_run(tape, &layer->inner, y);
    return mmf_tape_leave(tape, mark, y);
}

mmf_tensor *mmf_bert_layer_run(mmf_tape *tape, const mmf_bert_layer *layer, mmf_tensor *x,
                               mmf_tensor *source, const mmf_tensor *mask, mmf_tensor **weights)
{
    if (!source)
        source = x;
    if (weights) /* they must outlive the layer */
        return mmf_bert_inner_run(tape, &layer->inner,
                                  attention_run(tape, &layer->attention, x, source, mask, weights));
    return layer_from(tape, layer, x, source, mask, mmf_tape_enter(tape));
}

/* ---- The whole --------------------------------------------------------------------------- */

mmf_bert mmf_bert_build(mmf_builder *b, const char *scope, const mmf_bert_sizes *s,
                        bool with_pooler)
{
    return mmf_bert_build_as(b, scope, "embeddings", s, with_pooler);
}

mmf_bert mmf_bert_build_as(mmf_builder *b, const char *scope, const char *embeddings,
                           const mmf_bert_sizes *s, bool with_pooler)
{
    mmf_bert bert = {.sizes = *s};
    mmf_builder_enter(b, scope);
    bert.embeddings = mmf_bert_embeddings_build_as(b, embeddings, s);
    bert.layers = mmf_builder_alloc(b, ((size_t)s->n_layers + 1) * sizeof *bert.layers);
    mmf_builder_enter(b, "encoder");
    for (int64_t l = 0; mmf_builder_status(b) == MMF_OK && l < s->n_layers; l++)
        bert.layers[l] =
            mmf_bert_layer_build(b, mmf_builder_text(b, "layer.%lld", (long long)l), s);
    mmf_builder_leave(b);
    if (with_pooler)
        bert.pooler = mmf_bert_linear_build(b, "pooler.dense", s->width, s->width);
    mmf_builder_leave(b);
    return bert;
}

mmf_tensor *mmf_bert_embed_input(mmf_tape *tape, const mmf_bert *bert, const mmf_named *in,
                                 const char *name)
{
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *const words = mmf_bert_words_of(tape, &bert->embeddings, mmf_named_get(in, name),
                                                mmf_named_part(in, name, "present"));
    mmf_tensor *const x =
        mmf_bert_embed(tape, &bert->embeddings, words, mmf_named_part(in, name, "segments"), 0);
    return mmf_tape_leave(tape, mark, x);
}

mmf_tensor *mmf_bert_keys(mmf_tape *tape, const mmf_named *in, const char *name)
{
    const mmf_tensor *const tokens = mmf_named_get(in, name);
    if (!tokens)
        return NULL;
    mmf_tensor *const given = mmf_key_mask(tape, in, name, tokens->shape[1]);
    if (mmf_named_part(in, name, "mask") || mmf_named_part(in, name, "length"))
        return given;
    mmf_tensor *const length = mmf_token_lengths(tape, tokens, PADDING);
    mmf_tensor *const valid = mmf_length_mask(tape, length, tokens->shape[1]);
    return given ? mmf_mul(tape, given, valid) : valid;
}

typedef struct masked_layer {
    const mmf_bert_layer *layer;
    const mmf_tensor *mask;
} masked_layer;

static mmf_tensor *run_masked(mmf_tape *tape, const void *self, mmf_tensor *x)
{
    const masked_layer *const m = self;
    return mmf_bert_layer_run(tape, m->layer, x, NULL, m->mask, NULL);
}

mmf_tensor *mmf_bert_encode(mmf_tape *tape, const mmf_bert *bert, mmf_tensor *x, mmf_tensor *keys)
{
    const mmf_tensor *const mask = mmf_attention_mask(tape, keys, NULL);
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    for (int64_t l = 0; x && l < bert->sizes.n_layers; l++) {
        const masked_layer m = {&bert->layers[l], mask};
        const bool learns = m.layer->attention.query.weight->wants_grad || x->wants_grad;
        if (bert->sizes.recompute && mmf_tape_pass(tape)->record)
            x = mmf_recompute(tape, run_masked, &m, sizeof m, x, learns);
        else
            x = layer_from(tape, m.layer, x, x, mask, mark);
    }
    return x;
}

mmf_tensor *mmf_bert_first(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, mmf_slice(tape, x, 1, 0, 1), 2,
                           (int64_t[]){x->shape[0], x->shape[2]})
             : NULL;
}

mmf_tensor *mmf_bert_pool(mmf_tape *tape, const mmf_bert *bert, mmf_tensor *x)
{
    return mmf_linear_run(tape, &bert->pooler, mmf_bert_first(tape, x), MMF_ACT_TANH);
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    {"add_pooling_layer", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true", "the pooler is there"},
    {0},
};

typedef struct bert_layer {
    const char *input;
    mmf_bert bert;
} bert_layer;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    bert_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer)
        return mmf_builder_status(b);
    if (inputs->count != 1)
        return mmf_builder_fail(b, MMF_SHAPE, "bert takes one text, there are %zu inputs",
                                inputs->count);
    const mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, &inputs->inputs[0]);
    layer->input = inputs->inputs[0].name;
    if (mmf_builder_status(b) == MMF_OK)
        layer->bert = mmf_bert_build(b, "", &sizes, mmf_config_bool(config, "add_pooling_layer"));
    mmf_builder_set_width(b, sizes.width);
    *self = layer;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const bert_layer *const layer = self;
    mmf_tensor *const keys = mmf_bert_keys(tape, in, layer->input);
    mmf_tensor *const x = mmf_bert_encode(
        tape, &layer->bert, mmf_bert_embed_input(tape, &layer->bert, in, layer->input), keys);
    mmf_named_put(tape, out, "last_hidden_state", x);
    if (layer->bert.pooler.weight)
        mmf_named_put(tape, out, "pooler_output", mmf_bert_pool(tape, &layer->bert, x));
}

const mmf_def mmf_layer_bert = {
    .name = "bert",
    .title = "BERT: embeddings, encoder and pooler",
    .paper = "Devlin, Chang, Lee, Toutanova, BERT: Pre-training of deep bidirectional transformers "
             "for language understanding, NAACL 2019, arXiv:1810.04805; Hugging Face's names",
    .equations = "x = LN(word + position + type); a layer: h = LN(x + W_o att(x)), "
                 "x = LN(h + W_2 gelu(W_1 h)); pooled tanh(W_p x_0)",
    .missing = "its tokens are masked as keys",
    .structure = "attention",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_TOKENS | MMF_ONE_ONLY | MMF_MISSING_OK,
    .companions = 1u << MMF_COMPANION_SEGMENTS,
    .options = options,
    .build = build,
    .run = run,
};
