/* anchors.c: see anchors.h. */
#include "nn/anchors.h"

#include <string.h>

/* Buffers hold reals: more than this is a yes. */
#define HALF ((mmf_real)0.5)

mmf_anchors mmf_anchors_build(mmf_builder *b, const char *name, const mmf_schema *inputs,
                              int64_t count)
{
    const int64_t m = (int64_t)inputs->count;
    const mmf_init zero = mmf_init_constant(0);
    mmf_anchors a = {.inputs = inputs, .count = count};
    a.values = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    mmf_builder_enter(b, name);
    for (size_t i = 0; a.values && i < inputs->count; i++)
        a.values[i] = mmf_builder_param(b, inputs->inputs[i].name, MMF_PARAM_BUFFER, zero, 2,
                                        (int64_t[]){count, inputs->inputs[i].shape[0]});
    a.present = mmf_builder_param(b, "present", MMF_PARAM_BUFFER, zero, 2, (int64_t[]){count, m});
    a.filled = mmf_builder_param(b, "filled", MMF_PARAM_BUFFER, zero, 1, &count);
    mmf_builder_leave(b);
    return a;
}

static void keep_row(const mmf_anchors *a, const mmf_named *in, int64_t row, int64_t place)
{
    const size_t m = a->inputs->count;
    for (size_t i = 0; i < m; i++) {
        const char *const name = a->inputs->inputs[i].name;
        const mmf_tensor *const x = mmf_named_get(in, name);
        const mmf_tensor *const present = mmf_named_part(in, name, "present");
        const int64_t width = a->inputs->inputs[i].shape[0];
        memcpy(a->values[i]->data + place * width, x->data + row * width,
               (size_t)width * sizeof *x->data);
        a->present->data[place * (int64_t)m + (int64_t)i] = present ? present->data[row] : 1;
    }
    a->filled->data[place] = 1;
}

bool mmf_anchors_ready(const mmf_step *step)
{
    return !step->training || step->epoch > 0;
}

void mmf_anchors_keep(mmf_tape *tape, const mmf_anchors *a, const mmf_named *in)
{
    const mmf_tensor *const first = mmf_named_get(in, a->inputs->inputs[0].name);
    if (mmf_tape_status(tape) != MMF_OK || !first)
        return;
    int64_t row = 0;
    for (int64_t place = 0; place < a->count && row < first->shape[0]; place++) {
        if (a->filled->data[place] <= HALF)
            keep_row(a, in, row++, place);
    }
}

mmf_tensor *mmf_anchors_present(mmf_tape *tape, const mmf_anchors *a)
{
    mmf_tensor *const both =
        mmf_mul(tape, a->present, mmf_reshape(tape, a->filled, 2, (int64_t[]){-1, 1}));
    return mmf_sign(tape, mmf_relu(tape, mmf_affine(tape, both, 1, -0.5)));
}
