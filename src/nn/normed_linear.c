/* normed_linear.c: see normed_linear.h. */
#include "nn/normed_linear.h"

#include <math.h>

mmf_tensor *mmf_normed_weight(mmf_tape *tape, mmf_tensor *v, mmf_tensor *g)
{
    mmf_tensor *const length = mmf_sqrt(tape, mmf_sum(tape, mmf_mul(tape, v, v), MMF_ALL_AXES));
    return mmf_mul(tape, v, mmf_div(tape, g, length));
}

static mmf_normed_linear build(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs,
                               bool with_bias)
{
    const int64_t one = 1;
    /* About the length of a weight that is drawn as below: its variance is 1 / (3 inputs). */
    const mmf_init length = mmf_init_constant(sqrt((double)outputs / 3));
    mmf_normed_linear l = {0};
    mmf_builder_enter(b, name);
    l.weight_v = mmf_builder_param(b, "weight_v", MMF_PARAM_TRAINED, mmf_init_fan_in(inputs), 2,
                                   (int64_t[]){outputs, inputs});
    l.weight_g = mmf_builder_param(b, "weight_g", MMF_PARAM_TRAINED, length, 1, &one);
    if (with_bias)
        l.bias =
            mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_fan_in(inputs), 1, &outputs);
    mmf_builder_leave(b);
    return l;
}

mmf_normed_linear mmf_normed_linear_build(mmf_builder *b, const char *name, int64_t inputs,
                                          int64_t outputs)
{
    return build(b, name, inputs, outputs, true);
}

mmf_normed_linear mmf_normed_matrix_build(mmf_builder *b, const char *name, int64_t inputs,
                                          int64_t outputs)
{
    return build(b, name, inputs, outputs, false);
}

mmf_tensor *mmf_normed_linear_run(mmf_tape *tape, const mmf_normed_linear *l, mmf_tensor *x,
                                  mmf_activation activation)
{
    return mmf_linear(tape, x, mmf_normed_weight(tape, l->weight_v, l->weight_g), l->bias,
                      activation);
}
