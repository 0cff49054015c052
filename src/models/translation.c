/* translation.c: see translation.h. */
#include "models/translation.h"

#include <math.h>

#define NORM_EPS 1e-5

static const mmf_transformer_names layer_names = {.attention = "self_attn",
                                                  .norm1 = "layer_norms.0",
                                                  .norm2 = "layer_norms.1",
                                                  .linear1 = "fc1",
                                                  .linear2 = "fc2"};

#define PAPER_MODALITIES 3
#define MEMORY_LEVELS 3

int64_t mmf_translation_width(size_t n_modalities, int64_t paper_width, int64_t n_heads)
{
    if (n_modalities <= PAPER_MODALITIES)
        return paper_width;
    const int64_t even = paper_width * (PAPER_MODALITIES - 1) / ((int64_t)n_modalities - 1);
    return even < n_heads ? n_heads : even / n_heads * n_heads;
}

int64_t mmf_translation_heads(int64_t width, int64_t paper_width, int64_t paper_heads)
{
    const int64_t head = paper_width / paper_heads, most = width / head;
    int64_t heads = most < paper_heads ? most : paper_heads;
    while (heads > 1 && width % heads != 0)
        heads--;
    return heads < 1 ? 1 : heads;
}

int mmf_translation_levels(size_t n_modalities, int paper_levels)
{
    if (n_modalities <= PAPER_MODALITIES)
        return paper_levels;
    const int n = (int)n_modalities;
    const int fewer = paper_levels * PAPER_MODALITIES * (PAPER_MODALITIES - 1) / (n * (n - 1));
    return fewer < 1 ? 1 : fewer;
}

int mmf_translation_memory_levels(size_t n_modalities, int levels)
{
    return n_modalities <= PAPER_MODALITIES && levels < MEMORY_LEVELS ? MEMORY_LEVELS : levels;
}

mmf_translation mmf_translation_build(mmf_builder *b, const char *name,
                                      const mmf_translation_options *options)
{
    const mmf_transformer_options layer = {.width = options->width,
                                           .n_heads = options->n_heads,
                                           .norm_first = true,
                                           .activation = MMF_ACT_RELU,
                                           .eps = NORM_EPS,
                                           .dropout = options->residual_dropout,
                                           .attention_dropout = options->attention_dropout,
                                           .inner_dropout = options->inner_dropout,
                                           .names = &layer_names};
    mmf_translation t = {.options = *options};
    t.layers = mmf_builder_alloc(b, (size_t)options->n_layers * sizeof *t.layers);
    mmf_builder_enter(b, name);
    for (int l = 0; mmf_builder_status(b) == MMF_OK && l < options->n_layers; l++)
        t.layers[l] = mmf_transformer_build(b, mmf_builder_text(b, "layers.%d", l), &layer);
    t.norm = mmf_layer_norm_build(b, "layer_norm", options->width, NORM_EPS);
    mmf_builder_leave(b);
    return t;
}

/* sqrt(D) x and, if asked for, sinusoids of the positions 1, 2, ...: none where the first feature
 * is exactly zero, by which the reference knows padding. */
static mmf_tensor *embedded(mmf_tape *tape, const mmf_translation *t, mmf_tensor *x)
{
    mmf_tensor *y = mmf_affine(tape, x, sqrt((double)t->options.width), 0);
    if (t->options.positions && x) {
        mmf_tensor *const first = mmf_detach(tape, mmf_slice(tape, x, 2, 0, 1));
        mmf_tensor *const table = mmf_sinusoid(tape, x->shape[1], x->shape[2], 1);
        y = mmf_add(tape, y, mmf_mul(tape, mmf_abs(tape, mmf_sign(tape, first)), table));
    }
    return mmf_dropout(tape, y, t->options.embed_dropout);
}

mmf_tensor *mmf_translation_run(mmf_tape *tape, const mmf_translation *t, const mmf_steps *target,
                                const mmf_steps *source, mmf_tensor **weights)
{
    const mmf_steps *const keys = source ? source : target;
    if (!target->x || !keys->x)
        return NULL;
    const int64_t n_queries = target->x->shape[1], n_keys = keys->x->shape[1];
    const int64_t ahead = n_keys > n_queries ? n_keys - n_queries : n_queries - n_keys;
    mmf_tensor *const between =
        t->options.causal ? mmf_causal_mask(tape, n_queries, n_keys, ahead) : NULL;
    mmf_tensor *const mask = mmf_attention_mask(tape, keys->mask, between);
    mmf_tensor *x = embedded(tape, t, target->x);
    mmf_tensor *const k = source ? embedded(tape, t, source->x) : NULL;
    for (int l = 0; l < t->options.n_layers; l++)
        x = mmf_transformer_attend(tape, &t->layers[l], x, k, mask, weights);
    return mmf_layer_norm_run(tape, &t->norm, x);
}

void mmf_step_kernel_check(mmf_builder *b, const char *option, int64_t kernel,
                           const mmf_input_schema *input)
{
    if (kernel > input->shape[0])
        mmf_builder_fail(b, MMF_ARG, "%s is %lld, but %s has %lld steps", option, (long long)kernel,
                         input->name, (long long)input->shape[0]);
}

mmf_conv_layer mmf_step_convolution(mmf_builder *b, const char *name, const mmf_input_schema *input,
                                    int64_t width, int64_t kernel)
{
    const mmf_window window = {.kernel = {kernel}};
    return mmf_conv_build(b, name, 1, input->shape[1], width, &window, false);
}

mmf_steps mmf_steps_convolve(mmf_tape *tape, const mmf_conv_layer *layer, const mmf_steps *steps)
{
    const int64_t kernel = layer->window.kernel[0];
    mmf_steps s = *steps;
    s.x = mmf_conv_run(tape, layer, mmf_transpose(tape, s.x, 1, 2));
    s.x = mmf_transpose(tape, s.x, 1, 2);
    if (!s.mask)
        return s;
    const int64_t n_steps = s.mask->shape[1];
    mmf_tensor *const first = mmf_slice(tape, steps->mask, 1, 0, 1);
    s.mask = first;
    if (kernel < n_steps)
        s.mask = mmf_concat(
            tape,
            (mmf_tensor *[]){first, mmf_slice(tape, steps->mask, 1, kernel, n_steps - kernel)}, 2,
            1);
    return s;
}
