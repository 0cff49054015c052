/* bilinear.c: see bilinear.h. */
#include "fusion/bilinear.h"

#include <string.h>

/* Below this length a vector is not stretched to length one; PyTorch's bound. */
#define SHORTEST 1e-12

static mmf_activation activation(const mmf_config *config, const char *option)
{
    static const struct {
        const char *name;
        mmf_activation activation;
    } rows[] = {{"relu", MMF_ACT_RELU},
                {"gelu", MMF_ACT_GELU},
                {"tanh", MMF_ACT_TANH},
                {"sigmoid", MMF_ACT_SIGMOID}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(mmf_config_text(config, option), rows[i].name) == 0)
            return rows[i].activation;
    }
    return MMF_ACT_NONE;
}

void mmf_bilinear_open(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                       mmf_bilinear *op)
{
    const char *const name = mmf_config_def(config)->name;
    if (inputs->count != 2) {
        mmf_builder_fail(b, MMF_UNSUPPORTED,
                         "%s fuses two modalities, there are %zu; choose two, or use tensor or "
                         "low-rank",
                         name, inputs->count);
        return;
    }
    for (int m = 0; m < 2; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in->n_dims != 1) {
            mmf_builder_fail(b, MMF_SHAPE, "%s takes one vector a modality; %s has %d dimensions",
                             name, in->name, in->n_dims);
            return;
        }
        op->names[m] = in->name;
        op->widths[m] = in->shape[0];
    }
    op->mm_dim = mmf_config_int(config, "mm_dim");
    op->activ_input = activation(config, "activ_input");
    op->activ_output = activation(config, "activ_output");
    op->dropout_input = mmf_config_real(config, "dropout_input");
    op->dropout_pre_lin = mmf_config_real(config, "dropout_pre_lin");
    op->dropout_output = mmf_config_real(config, "dropout_output");
    op->normalize = mmf_config_bool(config, "normalize");
    op->shared = mmf_config_bool(config, "shared");
}

void mmf_bilinear_pair(mmf_builder *b, const mmf_bilinear *op, const char *const names[2],
                       const int64_t inputs[2], int64_t outputs, mmf_linear_layer layers[2])
{
    if (op->shared && inputs[0] != inputs[1]) {
        mmf_builder_fail(b, MMF_SHAPE,
                         "shared weights need modalities of one width; %s has %lld features and %s "
                         "%lld",
                         op->names[0], (long long)inputs[0], op->names[1], (long long)inputs[1]);
        return;
    }
    layers[0] = mmf_linear_build(b, names[0], inputs[0], outputs, true);
    layers[1] = op->shared ? mmf_linear_alias(b, names[1], &layers[0])
                           : mmf_linear_build(b, names[1], inputs[1], outputs, true);
}

void mmf_bilinear_project_build(mmf_builder *b, mmf_bilinear *op, int64_t width)
{
    static const char *const names[] = {"linear0", "linear1"};
    mmf_bilinear_pair(b, op, names, op->widths, width, op->linear);
}

void mmf_bilinear_out_build(mmf_builder *b, const mmf_config *config, mmf_bilinear *op,
                            int64_t inputs)
{
    const int64_t width = mmf_config_int(config, "output_dim");
    op->linear_out = mmf_linear_build(b, "linear_out", inputs, width, true);
    mmf_builder_set_width(b, width);
}

void mmf_bilinear_project(mmf_tape *tape, const mmf_bilinear *op, const mmf_linear_layer layers[2],
                          const mmf_named *in, mmf_tensor *projections[2])
{
    for (int i = 0; i < 2; i++) {
        mmf_tensor *const v = mmf_named_get(in, op->names[i]);
        projections[i] = mmf_dropout(tape, mmf_linear_run(tape, &layers[i], v, op->activ_input),
                                     op->dropout_input);
    }
}

mmf_tensor *mmf_bilinear_power(mmf_tape *tape, mmf_tensor *z)
{
    return mmf_l2_normalise(tape, mmf_signed_sqrt(tape, z), SHORTEST);
}

mmf_linear_layer mmf_bilinear_core_build(mmf_builder *b, const char *name, int64_t width)
{
    const mmf_init init = mmf_init_fan_in(width);
    mmf_linear_layer core = {0};
    mmf_builder_enter(b, name);
    core.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED, init, 3,
                                    (int64_t[]){width, width, width});
    core.bias = mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, init, 1, &width);
    mmf_builder_leave(b);
    return core;
}

mmf_tensor *mmf_bilinear_core(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y,
                              const mmf_linear_layer *core)
{
    const int64_t shape[] = {core->weight->shape[0], -1};
    return mmf_linear(tape, mmf_outer(tape, x, y), mmf_reshape(tape, core->weight, 2, shape),
                      core->bias, MMF_ACT_NONE);
}

mmf_tensor *mmf_bilinear_out(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *z, mmf_named *out)
{
    mmf_tensor *const y = mmf_linear_run(tape, &op->linear_out, z, op->activ_output);
    mmf_tensor *const fused = mmf_dropout(tape, y, op->dropout_output);
    mmf_named_put(tape, out, "fused", fused);
    return fused;
}

void mmf_bilinear_finish(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *z, mmf_named *out)
{
    if (op->normalize)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

mmf_tensor *mmf_bilinear_rank_sum(mmf_tape *tape, mmf_tensor *x, mmf_tensor *y, int64_t rank,
                                  int64_t width)
{
    const int64_t shape[] = {-1, rank, width};
    return mmf_sum(tape, mmf_reshape(tape, mmf_mul(tape, x, y), 3, shape), 1);
}

mmf_tensor *mmf_bilinear_factor_sum(mmf_tape *tape, const mmf_bilinear *op, mmf_tensor *p,
                                    int64_t factor)
{
    const int64_t shape[] = {-1, op->mm_dim, factor};
    mmf_tensor *const z = mmf_sum(tape, mmf_reshape(tape, p, 3, shape), 2);
    return op->normalize ? mmf_bilinear_power(tape, z) : z;
}

mmf_chunk *mmf_bilinear_chunks(mmf_builder *b, int64_t mm_dim, int64_t n)
{
    if (n > mm_dim) {
        mmf_builder_fail(b, MMF_ARG, "%lld chunks of %lld features: at most one chunk a feature",
                         (long long)n, (long long)mm_dim);
        return NULL;
    }
    mmf_chunk *const chunks = mmf_builder_alloc(b, (size_t)n * sizeof *chunks);
    if (!chunks)
        return NULL;
    const int64_t split = (mm_dim + n - 1) / n, excess = split * n - mm_dim;
    int64_t first = 0;
    for (int64_t c = 0; c < n; c++) {
        int64_t width = split;
        if (excess < split) /* the last chunk alone is shorter */
            width -= c == n - 1 ? excess : 0;
        else
            width -= c >= n - excess ? 1 : 0;
        chunks[c] = (mmf_chunk){first, width};
        first += width;
    }
    return chunks;
}
