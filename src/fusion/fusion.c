/* fusion.c: see fusion.h. */
#include "fusion/fusion.h"

#include <string.h>

#define MAX_MODALITIES 64

static const mmf_def *const fusions[] = {
#define MMF_FUSION(file, name) &mmf_fusion_##name,
#include "fusion/fusion.def"
#undef MMF_FUSION
};

const mmf_def *const *mmf_fusion_table(size_t *count)
{
    *count = sizeof fusions / sizeof *fusions;
    return fusions;
}

mmf_operator mmf_operator_build(mmf_builder *b, const char *name, const mmf_def *def,
                                const mmf_config *config, const mmf_schema *inputs,
                                const int64_t *widths)
{
    mmf_operator op = {.def = def};
    mmf_schema encoded = {inputs->count,
                          mmf_builder_alloc(b, inputs->count * sizeof *encoded.inputs)};
    if (!encoded.inputs)
        return op;
    for (size_t m = 0; m < inputs->count; m++)
        encoded.inputs[m] = (mmf_input_schema){.name = inputs->inputs[m].name,
                                               .kind = MMF_VECTOR,
                                               .n_dims = 1,
                                               .shape = {widths[m]},
                                               .has_present = inputs->inputs[m].has_present};
    mmf_builder_enter(b, name);
    if (mmf_builder_status(b) == MMF_OK)
        def->build(b, config, &encoded, &op.self);
    op.width = mmf_builder_width(b);
    mmf_builder_leave(b);
    return op;
}

/* Some references end their operator as a classifier; inside a model that name is the model's. */
static bool is_result(const char *name)
{
    return strcmp(name, "logits") == 0 || strcmp(name, "prediction") == 0 ||
           strcmp(name, "probability") == 0;
}

mmf_tensor *mmf_operator_run(mmf_tape *tape, const mmf_operator *op, const mmf_schema *inputs,
                             mmf_tensor *const *features, const mmf_named *in, const mmf_step *step,
                             mmf_named *out)
{
    mmf_named encoded = {0};
    for (size_t m = 0; m < inputs->count; m++)
        mmf_named_put(tape, &encoded, inputs->inputs[m].name, features[m]);
    for (size_t i = 0; i < in->count; i++) { /* `m.present` and its kind, and the target */
        if (strchr(in->items[i].name, '.') || strcmp(in->items[i].name, "label") == 0)
            mmf_named_put(tape, &encoded, in->items[i].name, in->items[i].tensor);
    }
    const size_t before = out->count;
    op->def->run(tape, op->self, &encoded, step, out);
    mmf_tensor *fused = NULL;
    size_t kept = before;
    for (size_t i = before; i < out->count; i++) {
        if (strcmp(out->items[i].name, "fused") == 0)
            fused = out->items[i].tensor;
        if (!is_result(out->items[i].name))
            out->items[kept++] = out->items[i];
    }
    out->count = kept;
    return fused;
}

mmf_schema *mmf_operator_order(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs)
{
    const size_t n = config ? mmf_config_count(config, "modalities") : 0;
    mmf_schema *const order = mmf_builder_alloc(b, sizeof *order);
    if (!order)
        return NULL;
    order->count = inputs->count;
    order->inputs = mmf_builder_alloc(b, (inputs->count + 1) * sizeof *order->inputs);
    if (!order->inputs)
        return NULL;
    if (n > 0 && n != inputs->count) {
        mmf_builder_fail(b, MMF_ARG, "%s: option modalities names %zu of %zu inputs",
                         mmf_config_def(config)->name, n, inputs->count);
        return NULL;
    }
    for (size_t m = 0; m < inputs->count; m++) {
        const char *const name =
            n > 0 ? mmf_config_text_at(config, "modalities", m) : inputs->inputs[m].name;
        const mmf_input_schema *const in = mmf_schema_find(inputs, name);
        if (!in || (m > 0 && mmf_schema_find(&(mmf_schema){m, order->inputs}, name))) {
            mmf_builder_fail(b, MMF_ARG, "%s: option modalities: %s \"%s\"",
                             mmf_config_def(config)->name, in ? "twice" : "there is no input",
                             name);
            return NULL;
        }
        order->inputs[m] = *in;
    }
    return order;
}

mmf_tensor *mmf_presence(mmf_tape *tape, const mmf_schema *inputs, const mmf_named *in)
{
    mmf_tensor *columns[MAX_MODALITIES];
    bool any = false;
    if (inputs->count == 0 || inputs->count > MAX_MODALITIES)
        return NULL;
    for (size_t m = 0; m < inputs->count; m++) {
        columns[m] = mmf_named_part(in, inputs->inputs[m].name, "present");
        any = any || columns[m];
    }
    if (!any)
        return NULL;
    const mmf_tensor *const first = mmf_named_get(in, inputs->inputs[0].name);
    const int64_t rows = first ? first->shape[0] : 0;
    for (size_t m = 0; m < inputs->count; m++)
        columns[m] = columns[m] ? mmf_reshape(tape, columns[m], 2, (int64_t[]){rows, 1})
                                : mmf_full(tape, 2, (int64_t[]){rows, 1}, 1);
    return mmf_concat(tape, columns, (int)inputs->count, 1);
}
