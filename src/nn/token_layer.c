/* token_layer.c: see token_layer.h. */
#include "nn/token_layer.h"

#include <string.h>

static void check_tokens(mmf_builder *b, const char *layer, const mmf_input_schema *in,
                         int64_t width)
{
    if (in->n_dims != 2)
        mmf_builder_fail(b, MMF_SHAPE, "%s: %s is not a sequence of tokens (B, T, D)", layer,
                         in->name);
    else if (in->shape[1] != width)
        mmf_builder_fail(b, MMF_SHAPE, "%s: tokens are %lld wide, but %s has width %lld", layer,
                         (long long)width, in->name, (long long)in->shape[1]);
}

mmf_schema mmf_token_inputs(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            const char *aside, int64_t width)
{
    const char *const layer = mmf_config_def(config)->name;
    const size_t n_named = mmf_config_count(config, "modalities");
    mmf_schema ordered = {0, mmf_builder_alloc(b, (inputs->count + 1) * sizeof *ordered.inputs)};
    for (size_t i = 0; ordered.inputs && i < inputs->count; i++) {
        const mmf_input_schema *const in = &inputs->inputs[i];
        if (!n_named && !(aside && strcmp(in->name, aside) == 0))
            ordered.inputs[ordered.count++] = *in;
    }
    for (size_t i = 0; ordered.inputs && i < n_named && i < inputs->count; i++) {
        const char *const name = mmf_config_text_at(config, "modalities", i);
        const mmf_input_schema *const in = mmf_schema_find(inputs, name);
        if (in)
            ordered.inputs[ordered.count++] = *in;
        else
            mmf_builder_fail(b, MMF_ARG, "%s: modalities names %s, which is not an input", layer,
                             name);
    }
    const size_t wanted = inputs->count - (aside && mmf_schema_find(inputs, aside) ? 1 : 0);
    if (mmf_builder_status(b) == MMF_OK && (ordered.count != wanted || ordered.count == 0))
        mmf_builder_fail(b, MMF_ARG, "%s: modalities names %zu of %zu inputs", layer, ordered.count,
                         wanted);
    for (size_t i = 0; i < ordered.count; i++)
        check_tokens(b, layer, &ordered.inputs[i], width);
    return ordered;
}
