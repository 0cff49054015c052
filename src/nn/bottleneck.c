/*
 * bottleneck.c: the layer `mbt`: transformers of several modalities that meet in a few tokens.
 *
 * Nagrani, Yang, Arnab, Jansen, Schmid, Sun, NeurIPS 2021; the order of computation of
 * scenic/projects/mbt with PyTorch's layout of weights. Deviations: no stochastic depth and no
 * mixup; masked tokens are left out as keys and of the mean, an absent modality of the mean of the
 * bottleneck and of the logits.
 */
#include <math.h>
#include <string.h>

#include "nn/token_layer.h"

#define POSITION_DEVIATION 0.02

#define STANDARD_WIDTH 128

static const mmf_option options[] = {
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, "32|256", "",
     "width of the tokens (paper: 768); by default 128, of models of more than three modalities "
     "64"},
    {"heads", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "heads (paper: 12)"},
    {"mlp", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0", "hidden width of a block; 0: 4 hidden"},
    {"layers", NULL, MMF_OPTION_INT, 0, 64, NULL, "0",
     "blocks a modality (paper: 12); 0: 3, of more than three modalities 2"},
    {"fusion_layer", NULL, MMF_OPTION_INT, 0, 64, NULL, "1",
     "first block that sees the bottleneck (paper: 8)"},
    {"bottlenecks", NULL, MMF_OPTION_INT, 0, 1024, NULL, "4",
     "tokens that modalities meet in; a classifier of tokens brings one more"},
    {"bottleneck_tokens", NULL, MMF_OPTION_INT, 0, 1025, NULL, "0",
     "all of them; 0: as bottlenecks says"},
    {"classifier", NULL, MMF_OPTION_TEXT, 0, 0, "token|gap", "token",
     "a CLS token a modality, whose logits are averaged, or the mean over all tokens"},
    {"classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "1", "logits; models: those of the task"},
    {"share_encoder", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "the same blocks for all modalities"},
    {"gelu", NULL, MMF_OPTION_TEXT, 0, 0, "erf|tanh", "erf", "exact, or Flax's approximation"},
    {"layer_norm_eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-6", "eps of the layer norms"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "in the blocks"},
    MMF_MODALITY_ORDER_OPTION,
    {0},
};

static const mmf_transformer_names block_names = {.attention = "",
                                                  .in_weight = "qkv.weight",
                                                  .in_bias = "qkv.bias",
                                                  .out = "out",
                                                  .norm1 = "ln1",
                                                  .norm2 = "ln2",
                                                  .linear1 = "fc1",
                                                  .linear2 = "fc2"};

typedef struct stream {
    mmf_tensor *position, *cls; /* (1, T + 1, D), (1, 1, D) or NULL */
    mmf_transformer_layer *blocks;
    mmf_tensor *x, *keys; /* (B, T + 1, D); (B, T + 1) or NULL */
    mmf_tensor *present;  /* (B, 1, 1): 1 if there is a valid token; NULL: always */
    mmf_tensor *z;
} stream;

typedef struct bottleneck_layer {
    mmf_schema inputs;
    stream *streams;
    int64_t width, n_layers, fusion_layer, n_tokens;
    bool has_cls;
    mmf_tensor *bottleneck; /* (1, b, D); NULL: none */
    mmf_layer_norm_layer norm;
    mmf_linear_layer out;
    mmf_tensor **parts, **masks;
} bottleneck_layer;

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_tensor *tokens(mmf_builder *b, const char *name, double deviation, int64_t count,
                          int64_t width)
{
    return mmf_builder_param(b, name, MMF_PARAM_TRAINED, mmf_init_normal(deviation), 3,
                             (int64_t[]){1, count, width});
}

static void build_blocks(mmf_builder *b, const mmf_config *config, const bottleneck_layer *layer,
                         stream *s, const char *name)
{
    const double dropout = mmf_config_real(config, "dropout");
    const mmf_transformer_options block = {.width = layer->width,
                                           .n_heads = mmf_config_int(config, "heads"),
                                           .inner = mmf_config_int(config, "mlp"),
                                           .norm_first = true,
                                           .activation = MMF_ACT_GELU,
                                           .gelu_tanh =
                                               strcmp(mmf_config_text(config, "gelu"), "tanh") == 0,
                                           .eps = mmf_config_real(config, "layer_norm_eps"),
                                           .dropout = dropout,
                                           .attention_dropout = dropout,
                                           .inner_dropout = dropout,
                                           .names = &block_names};
    s->blocks = mmf_builder_alloc(b, (size_t)layer->n_layers * sizeof *s->blocks);
    for (int64_t l = 0; mmf_builder_status(b) == MMF_OK && l < layer->n_layers; l++)
        s->blocks[l] = mmf_transformer_build(
            b, mmf_builder_text(b, "block.%s.%lld", name, (long long)l), &block);
}

static void build_streams(mmf_builder *b, const mmf_config *config, bottleneck_layer *layer)
{
    const bool shared = mmf_config_bool(config, "share_encoder");
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < layer->inputs.count; m++) {
        const mmf_input_schema *const in = &layer->inputs.inputs[m];
        stream *const s = &layer->streams[m];
        if (layer->has_cls)
            s->cls = tokens(b, mmf_builder_text(b, "cls.%s", in->name), 0, 1, layer->width);
        s->position = tokens(b, mmf_builder_text(b, "posemb.%s", in->name), POSITION_DEVIATION,
                             in->shape[0] + layer->has_cls, layer->width);
        if (!shared || m == 0) {
            build_blocks(b, config, layer, s, in->name);
            continue;
        }
        s->blocks = layer->streams[0].blocks;
        for (int64_t l = 0; l < layer->n_layers; l++)
            mmf_transformer_alias(b, mmf_builder_text(b, "block.%s.%lld", in->name, (long long)l),
                                  &s->blocks[l]);
    }
}

/* Every modality has blocks of its own: many of them have fewer. */
static int64_t n_layers(const mmf_config *config, size_t n_modalities)
{
    const int64_t given = mmf_config_int(config, "layers");
    return given > 0 ? given : n_modalities > 3 ? 2 : 3;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    bottleneck_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer)
        return mmf_builder_status(b);
    const int64_t classes = mmf_config_int(config, "classes"),
                  given = mmf_config_int(config, "hidden"),
                  width = given > 0 ? given : STANDARD_WIDTH;
    layer->width = width;
    layer->fusion_layer = mmf_config_int(config, "fusion_layer");
    layer->has_cls = strcmp(mmf_config_text(config, "classifier"), "token") == 0;
    layer->n_tokens = mmf_config_int(config, "bottleneck_tokens");
    if (layer->n_tokens == 0)
        layer->n_tokens = mmf_config_int(config, "bottlenecks") + layer->has_cls;
    layer->inputs = mmf_token_inputs(b, config, inputs, NULL, width);
    layer->n_layers = n_layers(config, layer->inputs.count);
    const size_t n = layer->inputs.count;
    layer->streams = mmf_builder_alloc(b, (n + 1) * sizeof *layer->streams);
    layer->parts = mmf_builder_alloc(b, (n + 1) * sizeof(mmf_tensor *));
    layer->masks = mmf_builder_alloc(b, (n + 1) * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) == MMF_OK)
        build_streams(b, config, layer);
    if (layer->n_tokens > 0)
        layer->bottleneck = tokens(b, "bottleneck", POSITION_DEVIATION, layer->n_tokens, width);
    layer->norm =
        mmf_layer_norm_build(b, "encoder_norm", width, mmf_config_real(config, "layer_norm_eps"));
    mmf_builder_enter(b, "output_projection");
    layer->out.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_constant(0), 2,
                                          (int64_t[]){classes, width});
    layer->out.bias =
        mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &classes);
    mmf_builder_leave(b);
    mmf_builder_set_width(b, classes);
    *self = layer;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* Tokens with their positions, a CLS token in front. */
static void start_stream(mmf_tape *tape, const mmf_input_schema *input, stream *s,
                         const mmf_named *in)
{
    s->x = mmf_named_get(in, input->name);
    s->keys = mmf_key_mask(tape, in, input->name, input->shape[0]);
    s->present = NULL;
    if (!s->x)
        return;
    const int64_t rows = s->x->shape[0];
    if (s->keys) {
        mmf_tensor *const any = mmf_clamp(tape, mmf_sum(tape, s->keys, 1), 0, 1);
        s->present = mmf_reshape(tape, any, 3, (int64_t[]){rows, 1, 1});
    }
    if (s->cls) {
        mmf_tensor *const cls = mmf_expand(tape, s->cls, 3, (int64_t[]){rows, 1, s->cls->shape[2]});
        s->x = mmf_concat(tape, (mmf_tensor *[]){cls, s->x}, 2, 1);
        if (s->keys)
            s->keys = mmf_concat(
                tape,
                (mmf_tensor *[]){mmf_reshape(tape, s->present, 2, (int64_t[]){rows, 1}), s->keys},
                2, 1);
    }
    s->x = mmf_add(tape, s->x, s->position);
}

/* [x, z] = Block([x, z]); without z: x = Block(x). */
static void run_block(mmf_tape *tape, const bottleneck_layer *layer, stream *s, int64_t l,
                      mmf_tensor *z)
{
    if (!s->x)
        return;
    const int64_t n = s->x->shape[1];
    mmf_tensor *x = s->x, *keys = s->keys;
    if (z) {
        x = mmf_concat(tape, (mmf_tensor *[]){x, z}, 2, 1);
        keys = keys ? mmf_pad(tape, keys, 1, 0, layer->n_tokens, 1) : NULL;
    }
    x = mmf_transformer_run(tape, &s->blocks[l], x, NULL, mmf_attention_mask(tape, keys, NULL));
    s->x = z ? mmf_slice(tape, x, 1, 0, n) : x;
    s->z = z ? mmf_slice(tape, x, 1, n, layer->n_tokens) : NULL;
}

/* Mean over the modalities that are there. @param dims  of the parts: (B, b, D) or (B, K) */
static mmf_tensor *mean_of(mmf_tape *tape, const bottleneck_layer *layer, int dims)
{
    const int n = (int)layer->inputs.count;
    bool all = true;
    for (int m = 0; m < n; m++)
        all = all && !layer->streams[m].present;
    if (all)
        return mmf_mean(tape, mmf_stack(tape, layer->parts, n, 0), 0);
    mmf_tensor *sum = NULL, *count = NULL;
    for (int m = 0; m < n; m++) {
        mmf_tensor *part = layer->parts[m], *one = layer->streams[m].present;
        if (!one && part)
            one = mmf_full(tape, 3, (int64_t[]){part->shape[0], 1, 1}, 1);
        one = mmf_reshape(tape, one, dims, (int64_t[]){-1, 1, 1});
        part = mmf_mul(tape, part, one);
        sum = m == 0 ? part : mmf_add(tape, sum, part);
        count = m == 0 ? one : mmf_add(tape, count, one);
    }
    return mmf_div(tape, sum, mmf_clamp(tape, count, 1, INFINITY));
}

/* The CLS tokens' logits, averaged. */
static mmf_tensor *token_logits(mmf_tape *tape, const bottleneck_layer *layer, mmf_tensor *encoded,
                                mmf_named *out)
{
    int64_t at = 0;
    for (size_t m = 0; m < layer->inputs.count; m++) {
        mmf_tensor *const cls =
            mmf_reshape(tape, mmf_slice(tape, encoded, 1, at, 1), 2, (int64_t[]){-1, layer->width});
        layer->parts[m] = mmf_linear_run(tape, &layer->out, cls, MMF_ACT_NONE);
        mmf_named_putf(tape, out, layer->parts[m], "logit.%s", layer->inputs.inputs[m].name);
        at += layer->inputs.inputs[m].shape[0] + 1;
    }
    return mean_of(tape, layer, 2);
}

/* The logits of the mean over valid tokens. */
static mmf_tensor *mean_logits(mmf_tape *tape, const bottleneck_layer *layer, mmf_tensor *encoded)
{
    bool any = false;
    for (size_t m = 0; m < layer->inputs.count; m++)
        any = any || layer->streams[m].keys;
    mmf_tensor *mean = NULL;
    if (any && encoded) {
        for (size_t m = 0; m < layer->inputs.count; m++) {
            const int64_t shape[] = {encoded->shape[0], layer->inputs.inputs[m].shape[0]};
            mmf_tensor *const keys = layer->streams[m].keys;
            layer->masks[m] = keys ? keys : mmf_full(tape, 2, shape, 1);
        }
        mmf_tensor *const mask = mmf_concat(tape, layer->masks, (int)layer->inputs.count, 1);
        mmf_tensor *const wide =
            mask ? mmf_reshape(tape, mask, 3, (int64_t[]){mask->shape[0], mask->shape[1], 1})
                 : NULL;
        mmf_tensor *const n = mmf_clamp(tape, mmf_sum(tape, wide, 1), 1, INFINITY);
        mean = mmf_div(tape, mmf_sum(tape, mmf_mul(tape, encoded, wide), 1), n);
    } else {
        mean = mmf_mean(tape, encoded, 1);
    }
    return mmf_linear_run(tape, &layer->out, mean, MMF_ACT_NONE);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const bottleneck_layer *const layer = self;
    const size_t n = layer->inputs.count;
    mmf_tensor *z = NULL;
    for (size_t m = 0; m < n; m++)
        start_stream(tape, &layer->inputs.inputs[m], &layer->streams[m], in);
    if (layer->bottleneck && layer->streams[0].x)
        z = mmf_expand(tape, layer->bottleneck, 3,
                       (int64_t[]){layer->streams[0].x->shape[0], layer->n_tokens, layer->width});
    for (int64_t l = 0; l < layer->n_layers; l++) {
        mmf_tensor *const shared = l >= layer->fusion_layer ? z : NULL;
        for (size_t m = 0; m < n; m++) {
            run_block(tape, layer, &layer->streams[m], l, shared);
            layer->parts[m] = layer->streams[m].z;
        }
        if (shared)
            z = mean_of(tape, layer, 3);
    }
    for (size_t m = 0; m < n; m++)
        layer->parts[m] = layer->streams[m].x;
    mmf_tensor *encoded = mmf_concat(tape, layer->parts, (int)n, 1);
    encoded = mmf_layer_norm_run(tape, &layer->norm, encoded);
    mmf_named_put(tape, out, "encoded", encoded);
    if (z)
        mmf_named_put(tape, out, "bottleneck", z);
    mmf_named_put(tape, out, "logit",
                  layer->has_cls ? token_logits(tape, layer, encoded, out)
                                 : mean_logits(tape, layer, encoded));
}

const mmf_def mmf_layer_mbt = {
    .name = "mbt",
    .title = "Multimodal bottleneck transformer",
    .paper = "Nagrani, Yang, Arnab, Jansen, Schmid, Sun, Attention bottlenecks for multimodal "
             "fusion, NeurIPS 2021, arXiv:2107.00135",
    .equations =
        "l < L_f: x_m = Block_m(x_m); then [x_m, z_m] = Block_m([x_m, z]), z = mean_m z_m; "
        "logits from CLS tokens, averaged, or from the mean over tokens",
    .missing = "its tokens are masked; the bottleneck and the logits are means over the others",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
