/* opinions.c: see opinions.h. */
#include "fusion/opinions.h"

#include <math.h>
#include <string.h>

mmf_classifier mmf_classifier_build(mmf_builder *b, const mmf_config *config, const char *name,
                                    int64_t inputs, int64_t classes)
{
    const size_t n = mmf_config_count(config, "hidden");
    mmf_classifier c = {.n_layers = n + 1,
                        .dropout = mmf_config_real(config, "classifier_dropout")};
    c.layers = mmf_builder_alloc(b, c.n_layers * sizeof *c.layers);
    mmf_builder_enter(b, name);
    for (size_t i = 0; c.layers && i <= n; i++) {
        const int64_t to = i < n ? (int64_t)mmf_config_number_at(config, "hidden", i) : classes;
        c.layers[i] = mmf_linear_build(b, mmf_builder_text(b, "%zu", 3 * i), inputs, to, true);
        inputs = to;
    }
    mmf_builder_leave(b);
    return c;
}

mmf_tensor *mmf_classifier_run(mmf_tape *tape, const mmf_classifier *c, mmf_tensor *x)
{
    for (size_t i = 0; i + 1 < c->n_layers; i++)
        x = mmf_dropout(tape, mmf_linear_run(tape, &c->layers[i], x, MMF_ACT_RELU), c->dropout);
    return mmf_linear_run(tape, &c->layers[c->n_layers - 1], x, MMF_ACT_NONE);
}

mmf_status mmf_opinions_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              mmf_opinions *o)
{
    o->inputs = mmf_operator_order(b, config, inputs);
    o->classes = mmf_config_int(config, "classes");
    o->of = mmf_builder_alloc(b, inputs->count * sizeof *o->of);
    o->z = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &o->inputs->inputs[m];
        const char *const name =
            strcmp(in->name, "vision") == 0 ? "clf_rgb" : mmf_builder_text(b, "clf_%s", in->name);
        o->of[m] = mmf_classifier_build(b, config, name, in->shape[0], o->classes);
    }
    return mmf_builder_status(b);
}

void mmf_opinions_run(mmf_tape *tape, const mmf_opinions *o, const mmf_named *in)
{
    for (size_t m = 0; m < o->inputs->count; m++)
        o->z[m] = mmf_classifier_run(tape, &o->of[m], mmf_named_get(in, o->inputs->inputs[m].name));
}

mmf_tensor *mmf_opinions_target(mmf_tape *tape, const mmf_opinions *o, const mmf_named *in)
{
    mmf_tensor *const label = mmf_named_get(in, "label");
    return label && label->is_int ? mmf_one_hot(tape, label, o->classes) : label;
}

mmf_tensor *mmf_present_mean(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present)
{
    if (!present)
        return mmf_mean(tape, x, MMF_ALL_AXES);
    mmf_tensor *const count = mmf_clamp(tape, mmf_sum(tape, present, MMF_ALL_AXES), 1, INFINITY);
    return mmf_div(tape, mmf_sum(tape, mmf_mul(tape, x, present), MMF_ALL_AXES), count);
}
