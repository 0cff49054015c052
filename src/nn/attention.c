/*
 * attention.c: multi-head attention, the transformer layer around it, and the registered layer
 * `attention`.
 *
 * Vaswani et al., NeurIPS 2017, with the names, packing and initialisation of
 * torch.nn.MultiheadAttention and torch.nn.TransformerEncoderLayer. Masks say which keys count;
 * masked queries are computed like any other.
 */
#include <math.h>
#include <string.h>

#include "nn/projected_attention.h"
#include "tensor/heads.h"

#define MAX_SHARES 64

static double scale_of(int64_t width, const mmf_heads *heads)
{
    const int64_t head = heads->count > 0 ? width / heads->count : 1;
    return 1 / sqrt((double)(head > 0 ? head : 1));
}

/* Whether the weights are needed by themselves. */
static bool are_seen(const mmf_pass *pass, const mmf_heads *heads, mmf_tensor **weights)
{
    return pass->record || weights || (pass->training && heads->dropout > 0);
}

mmf_tensor *mmf_attend(mmf_tape *tape, mmf_tensor *q, mmf_tensor *k, mmf_tensor *v,
                       const mmf_heads *heads, mmf_tensor **weights)
{
    const double scale = scale_of(q && q->n_dims == 3 ? q->shape[2] : 0, heads);
    if (!are_seen(mmf_tape_pass(tape), heads, weights))
        return mmf_heads_attend(tape, q, k, v, heads->count, scale, heads->mask, heads->empty);
    mmf_tensor *const scores = mmf_head_scores(tape, q, k, heads->count, scale);
    mmf_tensor *const a = mmf_softmax(tape, scores, heads->mask, heads->empty);
    if (weights)
        *weights = a;
    return mmf_head_mix(tape, mmf_dropout(tape, a, heads->dropout), v);
}

mmf_tensor *mmf_attend_projected(mmf_tape *tape, const mmf_linear_layer *query,
                                 const mmf_linear_layer *out, mmf_tensor *x, mmf_tensor *k,
                                 mmf_tensor *v, const mmf_heads *heads, mmf_tensor **weights)
{
    const mmf_projected p = {x, query->weight, query->bias, out->weight, out->bias};
    mmf_tensor *const y =
        are_seen(mmf_tape_pass(tape), heads, weights) || !k
            ? NULL
            : mmf_heads_attend_few(tape, &p, k, v, heads->count, scale_of(k->shape[2], heads),
                                   heads->mask, heads->empty);
    if (y)
        return y;
    mmf_tensor *const q = mmf_linear_run(tape, query, x, MMF_ACT_NONE);
    return mmf_linear_run(tape, out, mmf_attend(tape, q, k, v, heads, weights), MMF_ACT_NONE);
}

mmf_tensor *mmf_attention_shares(mmf_tape *tape, mmf_tensor *weights, mmf_tensor *const *keys,
                                 size_t n)
{
    mmf_tensor *shares[MAX_SHARES];
    int64_t first = 0;
    if (!weights || n == 0 || n > MAX_SHARES)
        return NULL;
    const int last = weights->n_dims - 1;
    for (size_t i = 0; i < n; i++) {
        const int64_t n_keys = keys[i] ? keys[i]->shape[1] : 0;
        shares[i] = mmf_sum(tape, mmf_slice(tape, weights, last, first, n_keys), last);
        first += n_keys;
    }
    return mmf_stack(tape, shares, (int)n, last);
}

mmf_tensor *mmf_attention_mask(mmf_tape *tape, mmf_tensor *keys, mmf_tensor *between)
{
    if (!keys)
        return between;
    mmf_tensor *const wide =
        mmf_reshape(tape, keys, 4, (int64_t[]){keys->shape[0], 1, 1, keys->shape[1]});
    return between ? mmf_mul(tape, wide, between) : wide;
}

mmf_tensor *mmf_key_mask(mmf_tape *tape, const mmf_named *in, const char *name, int64_t n_steps)
{
    mmf_tensor *mask = mmf_named_part(in, name, "mask");
    const mmf_tensor *const length = mmf_named_part(in, name, "length");
    mmf_tensor *const present = mmf_named_part(in, name, "present");
    if (mask && mask->is_int)
        mask = mmf_token_mask(tape, mask, 0);
    if (length) {
        mmf_tensor *const valid = mmf_length_mask(tape, length, n_steps);
        mask = mask ? mmf_mul(tape, mask, valid) : valid;
    }
    if (present) {
        const int64_t rows = present->count;
        mmf_tensor *const column = mmf_reshape(tape, present, 2, (int64_t[]){rows, 1});
        mask = mask ? mmf_mul(tape, mask, column)
                    : mmf_expand(tape, column, 2, (int64_t[]){rows, n_steps});
    }
    return mask;
}

/* ---- Multi-head attention ---------------------------------------------------------------- */

static const char *or_else(const char *name, const char *standard)
{
    return name ? name : standard;
}

static mmf_tensor *xavier(mmf_builder *b, const char *name, int64_t rows, int64_t columns)
{
    const int64_t shape[] = {rows, columns};
    return mmf_builder_param(b, name, MMF_PARAM_TRAINED, mmf_init_xavier_uniform(2, shape), 2,
                             shape);
}

mmf_attention_layer mmf_attention_build(mmf_builder *b, const char *name,
                                        const mmf_attention_options *o)
{
    const int64_t d = o->width, three = 3 * d;
    const int64_t dk = o->key_width ? o->key_width : d, dv = o->value_width ? o->value_width : d;
    mmf_attention_layer layer = {.width = d, .n_heads = o->n_heads, .dropout = o->dropout};
    if (d % o->n_heads != 0) {
        mmf_builder_fail(b, MMF_ARG, "attention: width %lld is not a multiple of %lld heads",
                         (long long)d, (long long)o->n_heads);
        return layer;
    }
    mmf_builder_enter(b, name);
    if (dk == d && dv == d) {
        layer.in_weight = xavier(b, or_else(o->in_weight, "in_proj_weight"), three, d);
    } else {
        layer.q_weight = xavier(b, "q_proj_weight", d, d);
        layer.k_weight = xavier(b, "k_proj_weight", d, dk);
        layer.v_weight = xavier(b, "v_proj_weight", d, dv);
    }
    layer.in_bias = mmf_builder_param(b, or_else(o->in_bias, "in_proj_bias"), MMF_PARAM_TRAINED,
                                      mmf_init_constant(0), 1, &three);
    mmf_builder_enter(b, or_else(o->out, "out_proj"));
    layer.out.weight =
        mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_fan_in(d), 2, (int64_t[]){d, d});
    layer.out.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &d);
    mmf_builder_leave(b);
    mmf_builder_leave(b);
    return layer;
}

/* Projection 0, 1 or 2: queries, keys, values. */
static mmf_linear_layer projection(mmf_tape *tape, const mmf_attention_layer *layer, int which)
{
    mmf_tensor *const own[] = {layer->q_weight, layer->k_weight, layer->v_weight};
    const int64_t d = layer->width;
    return (mmf_linear_layer){.weight = layer->in_weight
                                            ? mmf_slice(tape, layer->in_weight, 0, which * d, d)
                                            : own[which],
                              .bias = mmf_slice(tape, layer->in_bias, 0, which * d, d)};
}

mmf_tensor *mmf_attention_run(mmf_tape *tape, const mmf_attention_layer *layer, mmf_tensor *query,
                              mmf_tensor *key, mmf_tensor *value, const mmf_tensor *mask,
                              mmf_tensor **weights)
{
    const mmf_heads heads = {layer->n_heads, mask, MMF_EMPTY_ZERO, layer->dropout};
    const mmf_linear_layer of_query = projection(tape, layer, 0);
    const mmf_linear_layer of_key = projection(tape, layer, 1);
    const mmf_linear_layer of_value = projection(tape, layer, 2);
    mmf_tensor *const v = mmf_linear_run(tape, &of_value, value, MMF_ACT_NONE);
    mmf_tensor *const k = mmf_linear_run(tape, &of_key, key, MMF_ACT_NONE);
    return mmf_attend_projected(tape, &of_query, &layer->out, query, k, v, &heads, weights);
}

/* ---- The transformer layer --------------------------------------------------------------- */

static const mmf_transformer_names *names_of(const mmf_transformer_options *o)
{
    static const mmf_transformer_names torch = {.attention = "self_attn",
                                                .norm1 = "norm1",
                                                .norm2 = "norm2",
                                                .linear1 = "linear1",
                                                .linear2 = "linear2"};
    return o->names ? o->names : &torch;
}

void mmf_transformer_alias(mmf_builder *b, const char *name, const mmf_transformer_layer *layer)
{
    const mmf_transformer_names *const n = names_of(&layer->options);
    mmf_builder_enter(b, name);
    mmf_builder_enter(b, n->attention);
    mmf_builder_alias(b, or_else(n->in_weight, "in_proj_weight"), layer->attention.in_weight);
    mmf_builder_alias(b, or_else(n->in_bias, "in_proj_bias"), layer->attention.in_bias);
    mmf_linear_alias(b, or_else(n->out, "out_proj"), &layer->attention.out);
    mmf_builder_leave(b);
    mmf_linear_alias(b, n->linear1, &layer->linear1);
    mmf_linear_alias(b, n->linear2, &layer->linear2);
    mmf_layer_norm_alias(b, n->norm1, &layer->norm1);
    mmf_layer_norm_alias(b, n->norm2, &layer->norm2);
    mmf_builder_leave(b);
}

mmf_transformer_layer mmf_transformer_build(mmf_builder *b, const char *name,
                                            const mmf_transformer_options *o)
{
    const mmf_transformer_names *const n = names_of(o);
    const int64_t d = o->width, inner = o->inner ? o->inner : 4 * d;
    const mmf_attention_options attention = {.width = d,
                                             .n_heads = o->n_heads,
                                             .dropout = o->attention_dropout,
                                             .in_weight = n->in_weight,
                                             .in_bias = n->in_bias,
                                             .out = n->out};
    mmf_transformer_layer layer = {.options = *o};
    mmf_builder_enter(b, name);
    layer.attention = mmf_attention_build(b, n->attention, &attention);
    layer.linear1 = mmf_linear_build(b, n->linear1, d, inner, true);
    layer.linear2 = mmf_linear_build(b, n->linear2, inner, d, true);
    layer.norm1 = mmf_layer_norm_build(b, n->norm1, d, o->eps);
    layer.norm2 = mmf_layer_norm_build(b, n->norm2, d, o->eps);
    mmf_builder_leave(b);
    return layer;
}

static mmf_tensor *attention_part(mmf_tape *tape, const mmf_transformer_layer *layer, mmf_tensor *x,
                                  mmf_tensor *source, const mmf_tensor *mask, mmf_tensor **weights)
{
    mmf_tensor *const y =
        mmf_attention_run(tape, &layer->attention, x, source, source, mask, weights);
    return mmf_dropout(tape, y, layer->options.dropout);
}

static mmf_tensor *inner_part(mmf_tape *tape, const mmf_transformer_layer *layer, mmf_tensor *x)
{
    const mmf_transformer_options *const o = &layer->options;
    mmf_tensor *h =
        mmf_linear_run(tape, &layer->linear1, x, o->gelu_tanh ? MMF_ACT_NONE : o->activation);
    if (o->gelu_tanh)
        h = mmf_gelu_tanh(tape, h);
    h = mmf_dropout(tape, h, o->inner_dropout);
    return mmf_dropout(tape, mmf_linear_run(tape, &layer->linear2, h, MMF_ACT_NONE), o->dropout);
}

mmf_tensor *mmf_transformer_run(mmf_tape *tape, const mmf_transformer_layer *layer, mmf_tensor *x,
                                mmf_tensor *source, const mmf_tensor *mask)
{
    return mmf_transformer_attend(tape, layer, x, source, mask, NULL);
}

mmf_tensor *mmf_transformer_attend(mmf_tape *tape, const mmf_transformer_layer *layer,
                                   mmf_tensor *x, mmf_tensor *source, const mmf_tensor *mask,
                                   mmf_tensor **weights)
{
    if (layer->options.norm_first) {
        mmf_tensor *const u = mmf_layer_norm_run(tape, &layer->norm1, x);
        mmf_tensor *const s = source ? mmf_layer_norm_run(tape, &layer->norm1, source) : u;
        x = mmf_add(tape, x, attention_part(tape, layer, u, s, mask, weights));
        return mmf_add(tape, x,
                       inner_part(tape, layer, mmf_layer_norm_run(tape, &layer->norm2, x)));
    }
    x = mmf_add(tape, x, attention_part(tape, layer, x, source ? source : x, mask, weights));
    x = mmf_layer_norm_run(tape, &layer->norm1, x);
    return mmf_layer_norm_run(tape, &layer->norm2, mmf_add(tape, x, inner_part(tape, layer, x)));
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"block", NULL, MMF_OPTION_TEXT, 0, 0, "attention|encoder-layer", "attention",
     "attention alone, or the transformer layer around it"},
    {"embed_dim", "d_model", MMF_OPTION_INT, 1, 65536, NULL, "",
     "width; the queries' own, and must be that"},
    {"num_heads", "nhead", MMF_OPTION_INT, 1, 1024, NULL, "1",
     "heads that the width is split into"},
    {"kdim", NULL, MMF_OPTION_INT, 1, 65536, NULL, "", "width of the keys; must be their own"},
    {"vdim", NULL, MMF_OPTION_INT, 1, 65536, NULL, "", "width of the values; must be their own"},
    {"causal", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false", "step t sees steps up to t"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0",
     "on weights; encoder-layer: also inside and on what is added"},
    {"dim_feedforward", NULL, MMF_OPTION_INT, 1, 1048576, NULL, "2048",
     "encoder-layer: width of its hidden layer"},
    {"activation", NULL, MMF_OPTION_TEXT, 0, 0, "relu|gelu", "relu",
     "encoder-layer: of its hidden layer"},
    {"norm_first", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "encoder-layer: layer norm before each part instead of after"},
    {"layer_norm_eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-5",
     "encoder-layer: eps of the layer norms"},
    {0},
};

typedef struct attention_block {
    const mmf_input_schema *query, *key, *value;
    bool is_layer, causal;
    mmf_attention_layer attention;
    mmf_transformer_layer layer;
} attention_block;

/* One input is all three; of two the second is key and value. By role's name where there is one,
 * and text asks before others. */
static const mmf_input_schema *input_of(const mmf_schema *inputs, const char *role, size_t place)
{
    const mmf_input_schema *const named = mmf_schema_find(inputs, role);
    const bool text_second = inputs->count == 2 && strcmp(inputs->inputs[1].name, "text") == 0;
    if (named)
        return named;
    if (text_second)
        return &inputs->inputs[place == 0 ? 1 : 0];
    return &inputs->inputs[place < inputs->count ? place : inputs->count - 1];
}

static void check_width(mmf_builder *b, const mmf_config *config, const char *option,
                        const mmf_input_schema *in)
{
    const int64_t wanted = mmf_config_int(config, option);
    if (wanted > 0 && wanted != in->shape[1])
        mmf_builder_fail(b, MMF_SHAPE, "attention: %s is %lld, but %s has %lld features", option,
                         (long long)wanted, in->name, (long long)in->shape[1]);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    attention_block *const block = mmf_builder_alloc(b, sizeof *block);
    if (!block)
        return mmf_builder_status(b);
    block->is_layer = strcmp(mmf_config_text(config, "block"), "encoder-layer") == 0;
    if (inputs->count < 1 || inputs->count > (block->is_layer ? 1 : 3))
        return mmf_builder_fail(b, MMF_SHAPE,
                                "attention takes one to three sequences, "
                                "encoder-layer one");
    for (size_t i = 0; i < inputs->count; i++) {
        if (inputs->inputs[i].n_dims != 2)
            return mmf_builder_fail(b, MMF_SHAPE, "attention: %s is not a sequence (B, T, D)",
                                    inputs->inputs[i].name);
    }
    block->query = input_of(inputs, "query", 0);
    block->key = input_of(inputs, "key", 1);
    block->value = input_of(inputs, "value", inputs->count == 3 ? 2 : 1);
    block->causal = mmf_config_bool(config, "causal");
    check_width(b, config, "embed_dim", block->query);
    check_width(b, config, "kdim", block->key);
    check_width(b, config, "vdim", block->value);
    const double dropout = mmf_config_real(config, "dropout");
    const mmf_attention_options attention = {.width = block->query->shape[1],
                                             .n_heads = mmf_config_int(config, "num_heads"),
                                             .key_width = block->key->shape[1],
                                             .value_width = block->value->shape[1],
                                             .dropout = dropout};
    const bool gelu = strcmp(mmf_config_text(config, "activation"), "gelu") == 0;
    const mmf_transformer_options layer = {.width = attention.width,
                                           .n_heads = attention.n_heads,
                                           .inner = mmf_config_int(config, "dim_feedforward"),
                                           .norm_first = mmf_config_bool(config, "norm_first"),
                                           .activation = gelu ? MMF_ACT_GELU : MMF_ACT_RELU,
                                           .eps = mmf_config_real(config, "layer_norm_eps"),
                                           .dropout = dropout,
                                           .attention_dropout = dropout,
                                           .inner_dropout = dropout};
    if (block->is_layer)
        block->layer = mmf_transformer_build(b, "", &layer);
    else
        block->attention = mmf_attention_build(b, "", &attention);
    *self = block;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const attention_block *const block = self;
    const int64_t n_queries = block->query->shape[0], n_keys = block->key->shape[0];
    mmf_tensor *const keys = mmf_key_mask(tape, in, block->key->name, n_keys);
    mmf_tensor *const between = block->causal ? mmf_causal_mask(tape, n_queries, n_keys, 0) : NULL;
    mmf_tensor *const mask = mmf_attention_mask(tape, keys, between);
    mmf_tensor *const query = mmf_named_get(in, block->query->name);
    if (block->is_layer) {
        mmf_named_put(tape, out, "output",
                      mmf_transformer_run(tape, &block->layer, query, NULL, mask));
        return;
    }
    mmf_tensor *weights = NULL;
    mmf_tensor *const y =
        mmf_attention_run(tape, &block->attention, query, mmf_named_get(in, block->key->name),
                          mmf_named_get(in, block->value->name), mask, &weights);
    mmf_named_put(tape, out, "output", y);
    mmf_named_put(tape, out, "attention", weights);
}

const mmf_def mmf_layer_attention = {
    .name = "attention",
    .title = "Multi-head attention and the transformer layer",
    .paper = "Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, Attention is "
             "all you need, NeurIPS 2017, arXiv:1706.03762; layout of torch.nn",
    .equations =
        "softmax(Q K' / sqrt(d_h)) V a head; a query without a key gets zeros (torch: NaN)",
    .missing = "its steps are masked as keys",
    .structure = "attention",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
