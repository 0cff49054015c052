/* layers.c: linear, normalisation, embedding and convolution layers with PyTorch's names and
 * defaults. */
#include "mmfuse/nn.h"
#include "tensor/panels.h"
#include "nn/builder.h"
#include "nn/channels_last.h"

#define NORM_MOMENTUM 0.1
#define NORM_EPS 1e-5

mmf_linear_layer mmf_linear_build(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs,
                                  bool with_bias)
{
    mmf_linear_layer layer = {0};
    mmf_builder_enter(b, name);
    mmf_builder_reordered(b, inputs * outputs >= MMF_PANELS_LEAST);
    layer.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_fan_in(inputs), 2,
                                     (int64_t[]){outputs, inputs});
    mmf_builder_reordered(b, false);
    if (with_bias)
        layer.bias =
            mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_fan_in(inputs), 1, &outputs);
    mmf_builder_leave(b);
    return layer;
}

mmf_linear_layer mmf_linear_alias(mmf_builder *b, const char *name, const mmf_linear_layer *layer)
{
    mmf_builder_enter(b, name);
    mmf_builder_alias(b, "weight", layer->weight);
    if (layer->bias)
        mmf_builder_alias(b, "bias", layer->bias);
    mmf_builder_leave(b);
    return *layer;
}

mmf_tensor *mmf_linear_run(mmf_tape *tape, const mmf_linear_layer *layer, mmf_tensor *x,
                           mmf_activation activation)
{
    return mmf_linear(tape, x, layer->weight, layer->bias, activation);
}

mmf_batch_norm_layer mmf_batch_norm_build(mmf_builder *b, const char *name, int64_t channels,
                                          int axis)
{
    const mmf_init one = mmf_init_constant(1), zero = mmf_init_constant(0);
    mmf_batch_norm_layer layer = {.axis = axis, .eps = NORM_EPS};
    mmf_builder_enter(b, name);
    layer.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, one, 1, &channels);
    layer.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, zero, 1, &channels);
    layer.running_mean = mmf_builder_param(b, "running_mean", MMF_PARAM_BUFFER, zero, 1, &channels);
    layer.running_var = mmf_builder_param(b, "running_var", MMF_PARAM_BUFFER, one, 1, &channels);
    mmf_builder_leave(b);
    return layer;
}

/* A frozen layer is left as it is, and its running statistics are part of it. */
static bool is_frozen(const mmf_batch_norm_layer *layer)
{
    return layer->weight && !layer->weight->wants_grad;
}

mmf_tensor *mmf_batch_norm_run(mmf_tape *tape, const mmf_batch_norm_layer *layer, mmf_tensor *x)
{
    if (is_frozen(layer))
        return mmf_batch_norm_fixed_run(tape, layer, x);
    return mmf_batch_norm(tape, x, layer->weight, layer->bias, layer->running_mean,
                          layer->running_var, layer->axis, NORM_MOMENTUM, layer->eps);
}

mmf_tensor *mmf_batch_norm_fixed_run(mmf_tape *tape, const mmf_batch_norm_layer *layer,
                                     mmf_tensor *x)
{
    return mmf_batch_norm_fixed(tape, x, layer->weight, layer->bias, layer->running_mean,
                                layer->running_var, layer->axis, layer->eps);
}

mmf_tensor *mmf_batch_norm_last_run(mmf_tape *tape, const mmf_batch_norm_layer *layer,
                                    mmf_tensor *x, bool fixed, const mmf_norm_around *around)
{
    const mmf_batch_norm_state state = {.weight = layer->weight,
                                        .bias = layer->bias,
                                        .running_mean = layer->running_mean,
                                        .running_var = layer->running_var,
                                        .momentum = NORM_MOMENTUM,
                                        .eps = layer->eps,
                                        .fixed = fixed || is_frozen(layer)};
    return mmf_batch_norm_last(tape, x, &state, around);
}

mmf_layer_norm_layer mmf_layer_norm_build(mmf_builder *b, const char *name, int64_t width,
                                          double eps)
{
    mmf_layer_norm_layer layer = {.eps = eps};
    mmf_builder_enter(b, name);
    layer.weight =
        mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_constant(1), 1, &width);
    layer.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &width);
    mmf_builder_leave(b);
    return layer;
}

void mmf_layer_norm_alias(mmf_builder *b, const char *name, const mmf_layer_norm_layer *layer)
{
    mmf_builder_enter(b, name);
    mmf_builder_alias(b, "weight", layer->weight);
    mmf_builder_alias(b, "bias", layer->bias);
    mmf_builder_leave(b);
}

mmf_tensor *mmf_layer_norm_run(mmf_tape *tape, const mmf_layer_norm_layer *layer, mmf_tensor *x)
{
    return mmf_layer_norm(tape, x, layer->weight, layer->bias, layer->eps);
}

void mmf_builder_check_words(mmf_builder *b, const char *option, int64_t value, int64_t rows,
                             const mmf_input_schema *text)
{
    if (rows < text->vocab_size)
        mmf_builder_fail(b, MMF_SHAPE, "%s is %lld, but %s has tokens up to %lld", option,
                         (long long)value, text->name, (long long)text->vocab_size - 1);
}

mmf_embedding_layer mmf_embedding_build(mmf_builder *b, const char *name, int64_t vocab,
                                        int64_t width, int64_t padding)
{
    mmf_init init = mmf_init_normal(1);
    init.zero_row = padding;
    mmf_embedding_layer layer = {.padding = padding};
    mmf_builder_enter(b, name);
    layer.weight =
        mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, init, 2, (int64_t[]){vocab, width});
    mmf_builder_leave(b);
    return layer;
}

mmf_tensor *mmf_embedding_run(mmf_tape *tape, const mmf_embedding_layer *layer,
                              const mmf_tensor *tokens)
{
    return mmf_embedding(tape, layer->weight, tokens, layer->padding);
}

mmf_conv_layer mmf_conv_build(mmf_builder *b, const char *name, int n_spatial, int64_t inputs,
                              int64_t outputs, const mmf_window *window, bool with_bias)
{
    mmf_conv_layer layer = {.window = *window, .n_spatial = n_spatial};
    const int64_t shape[] = {outputs, inputs, window->kernel[0], window->kernel[1]};
    const int64_t fan_in = inputs * window->kernel[0] * (n_spatial == 2 ? window->kernel[1] : 1);
    mmf_builder_enter(b, name);
    layer.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, mmf_init_fan_in(fan_in),
                                     2 + n_spatial, shape);
    if (with_bias)
        layer.bias =
            mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_fan_in(fan_in), 1, &outputs);
    mmf_builder_leave(b);
    return layer;
}

mmf_tensor *mmf_conv_run(mmf_tape *tape, const mmf_conv_layer *layer, mmf_tensor *x)
{
    return layer->n_spatial == 1 ? mmf_conv1d(tape, x, layer->weight, layer->bias, &layer->window)
                                 : mmf_conv2d(tape, x, layer->weight, layer->bias, &layer->window);
}

mmf_tensor *mmf_conv_last_run(mmf_tape *tape, const mmf_conv_layer *layer, mmf_tensor *x)
{
    return mmf_conv_last(tape, x, layer->weight, layer->bias, &layer->window);
}
