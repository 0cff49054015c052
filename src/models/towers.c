/* towers.c: see towers.h. */
#include "models/towers.h"

#include "nn/disentangle.h"

/* The auxiliary share that the sentiment papers stay below. */
#define BESIDE_A_TASK 0.1

mmf_tower_top mmf_tower_top_build(mmf_builder *b, const mmf_config *config, size_t count,
                                  int64_t width)
{
    mmf_tower_top top = {.has_head = !mmf_is_retrieval(config)};
    top.weight = top.has_head ? BESIDE_A_TASK : 1;
    if (mmf_config_is_set(config, "loss_weight"))
        top.weight = mmf_config_real(config, "loss_weight");
    if (top.has_head && mmf_builder_status(b) == MMF_OK)
        top.head = mmf_head_build(b, config, (int64_t)count * width);
    mmf_builder_set_width(b, width);
    return top;
}

void mmf_tower_top_run(mmf_tape *tape, const mmf_tower_top *top, const mmf_schema *inputs,
                       mmf_tensor **embeddings, const mmf_named *in, mmf_named *out)
{
    for (size_t m = 0; m < inputs->count; m++) {
        const char *const name = inputs->inputs[m].name;
        mmf_tensor *const present = mmf_present_column(tape, in, name);
        embeddings[m] = mmf_replace_absent(tape, embeddings[m], present, NULL);
        mmf_named_putf(tape, out, embeddings[m], "feature_%s", name);
    }
    if (top->has_head)
        mmf_head_run(tape, &top->head, mmf_concat(tape, embeddings, (int)inputs->count, 1), out);
}

mmf_towers mmf_towers_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            int64_t width)
{
    mmf_towers t = {.encoders = mmf_encoders_build(b, config, inputs, false)};
    t.projections = mmf_builder_alloc(b, inputs->count * sizeof *t.projections);
    t.x = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++)
        t.projections[m] =
            mmf_linear_build(b, mmf_builder_text(b, "%s_projection", inputs->inputs[m].name),
                             t.encoders.widths[m], width, true);
    return t;
}

void mmf_towers_run(mmf_tape *tape, const mmf_towers *t, const mmf_named *in, const mmf_step *step)
{
    mmf_named encoded = {0};
    mmf_encoders_run(tape, &t->encoders, in, step, &encoded);
    for (size_t m = 0; m < t->encoders.inputs->count; m++)
        t->x[m] = mmf_linear_run(tape, &t->projections[m], t->encoders.features[m], MMF_ACT_NONE);
}

mmf_tensor *mmf_pair_present(mmf_tape *tape, const mmf_named *in, const char *a, const char *b)
{
    return mmf_both_present(tape, mmf_present_column(tape, in, a), mmf_present_column(tape, in, b));
}
