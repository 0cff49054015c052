/* views.c: see views.h. */
#include "nn/views.h"

/* PyTorch's bound of the norm in `normalize`. */
#define NORM_EPS 1e-12

mmf_views mmf_views_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs)
{
    mmf_views v = {.inputs = inputs};
    const int64_t width = mmf_config_int(config, "width");
    bool same = true;
    v.projections = mmf_builder_alloc(b, inputs->count * sizeof *v.projections);
    v.x = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    v.present = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return v;
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in->n_dims != 1) {
            mmf_builder_fail(b, MMF_SHAPE, "%s takes one vector a modality; %s has %d dimensions",
                             mmf_config_def(config)->name, in->name, in->n_dims);
            return v;
        }
        same = same && in->shape[0] == inputs->inputs[0].shape[0];
    }
    for (size_t m = 0; !same && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        v.projections[m] = mmf_linear_build(b, mmf_builder_text(b, "%s_projection", in->name),
                                            in->shape[0], width, true);
    }
    return v;
}

void mmf_views_run(mmf_tape *tape, const mmf_views *v, const mmf_named *in)
{
    for (size_t m = 0; m < v->inputs->count; m++) {
        const char *const name = v->inputs->inputs[m].name;
        mmf_tensor *x = mmf_named_get(in, name);
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        if (v->projections[m].weight)
            x = mmf_linear_run(tape, &v->projections[m], x, MMF_ACT_NONE);
        v->x[m] = mmf_l2_normalise(tape, x, NORM_EPS);
        v->present[m] =
            present ? mmf_reshape(tape, present, 2, (int64_t[]){present->count, 1}) : NULL;
    }
}
