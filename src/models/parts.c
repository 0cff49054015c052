/* parts.c: see parts.h. */
#include "models/parts.h"

#include <string.h>

/* Sequences that are put behind each other: one a modality, and a token of their own. */
#define MAX_JOINED 65

bool mmf_is_regression(const mmf_config *config)
{
    return strcmp(mmf_config_text(config, "train_mode"), "regression") == 0;
}

bool mmf_is_retrieval(const mmf_config *config)
{
    return strcmp(mmf_config_text(config, "train_mode"), "retrieval") == 0;
}

bool mmf_is_value(const mmf_config *config)
{
    const bool classes = strcmp(mmf_config_text(config, "train_mode"), "classification") == 0;
    return mmf_is_regression(config) || (classes && mmf_config_int(config, "num_classes") == 1);
}

int64_t mmf_n_outputs(const mmf_config *config)
{
    return mmf_is_regression(config) ? 1 : mmf_config_int(config, "num_classes");
}

int64_t mmf_n_answers(mmf_builder *b, const mmf_config *config, const char *option)
{
    const int64_t given = mmf_config_int(config, option), wanted = mmf_n_outputs(config);
    if (given > 0 && given != wanted && mmf_config_is_set(config, "num_classes"))
        mmf_builder_fail(b, MMF_ARG,
                         "%s: option %s is %lld, but the task has %lld output%s; leave it out",
                         mmf_config_def(config)->name, option, (long long)given, (long long)wanted,
                         wanted == 1 ? "" : "s");
    return given > 0 ? given : wanted;
}

void mmf_put_result(mmf_tape *tape, mmf_named *out, bool is_regression, mmf_tensor *y)
{
    mmf_named_put(tape, out, is_regression ? "prediction" : "logits", y);
}

mmf_result_kind mmf_result_kind_of(const mmf_config *config)
{
    const char *const mode = mmf_config_text(config, "train_mode");
    if (mmf_is_value(config))
        return MMF_RESULT_VALUE;
    if (strcmp(mode, "classification") == 0)
        return MMF_RESULT_CLASS;
    return strcmp(mode, "multilabel") == 0 ? MMF_RESULT_LABELS : MMF_RESULT_SHARES;
}

mmf_tensor *mmf_result_loss(mmf_tape *tape, mmf_result_kind kind, mmf_tensor *y, mmf_tensor *label)
{
    switch (kind) {
    case MMF_RESULT_VALUE:
        return mmf_l1_loss(tape, y, label);
    case MMF_RESULT_CLASS:
        return mmf_cross_entropy(tape, y, label, NULL, 0);
    case MMF_RESULT_LABELS:
        return mmf_bce_logits(tape, y, label, NULL);
    case MMF_RESULT_SHARES:
        return mmf_soft_cross_entropy(tape, y, label);
    }
    return NULL;
}

/* ---- Encoders ---------------------------------------------------------------------------- */

mmf_encoders mmf_encoders_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                                bool stand_in)
{
    return mmf_encoders_build_wide(b, config, inputs, mmf_config_int(config, "hidden"), stand_in);
}

mmf_encoders mmf_encoders_build_wide(mmf_builder *b, const mmf_config *config,
                                     const mmf_schema *inputs, int64_t width, bool stand_in)
{
    mmf_encoders e = {.inputs = inputs};
    e.encoders = mmf_builder_alloc(b, inputs->count * sizeof *e.encoders);
    e.widths = mmf_builder_alloc(b, inputs->count * sizeof *e.widths);
    e.features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        const mmf_encoder_choice choice = {.spec = mmf_encoder_spec(config, "encoder", in->name),
                                           .width = width,
                                           .dropout = mmf_config_real(config, "dropout"),
                                           .stand_in = stand_in};
        e.encoders[m] = mmf_encoder_build(b, in->name, in, &choice);
        e.widths[m] = e.encoders[m].width;
    }
    return e;
}

void mmf_encoders_set_width(mmf_builder *b, const mmf_encoders *e)
{
    int64_t width = e->widths ? e->widths[0] : 0;
    for (size_t m = 1; e->widths && m < e->inputs->count; m++)
        width = e->widths[m] == width ? width : 0;
    mmf_builder_set_width(b, width);
}

void mmf_encoders_run(mmf_tape *tape, const mmf_encoders *e, const mmf_named *in,
                      const mmf_step *step, mmf_named *out)
{
    for (size_t m = 0; m < e->inputs->count; m++) {
        e->features[m] = mmf_encoder_run(tape, &e->encoders[m], in, step);
        mmf_named_putf(tape, out, e->features[m], "feature_%s", e->inputs->inputs[m].name);
    }
}

/* ---- Steps ------------------------------------------------------------------------------- */

mmf_all_steps mmf_all_steps_build(mmf_builder *b, const mmf_config *config,
                                  const mmf_schema *inputs, int64_t width, double dropout)
{
    mmf_all_steps all = {.inputs = inputs, .width = width};
    all.encoders = mmf_builder_alloc(b, inputs->count * sizeof *all.encoders);
    all.steps = mmf_builder_alloc(b, inputs->count * sizeof *all.steps);
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        all.encoders[m] = mmf_steps_build(b, config, in->name, in, width, dropout);
    }
    return all;
}

void mmf_all_steps_run(mmf_tape *tape, const mmf_all_steps *all, const mmf_named *in)
{
    for (size_t m = 0; m < all->inputs->count; m++)
        all->steps[m] = mmf_steps_run(tape, &all->encoders[m], in);
}

mmf_steps mmf_single_step(mmf_tape *tape, const mmf_named *in, const char *modality,
                          mmf_tensor *feature)
{
    mmf_steps one = {.mask = mmf_present_column(tape, in, modality)};
    one.x = feature ? mmf_reshape(tape, feature, 3, (int64_t[]){-1, 1, feature->shape[1]}) : NULL;
    return one;
}

mmf_steps mmf_steps_join(mmf_tape *tape, const mmf_steps *steps, size_t count)
{
    mmf_tensor *x[MAX_JOINED], *masks[MAX_JOINED];
    mmf_steps joined = {0};
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any = any || steps[i].mask;
    for (size_t i = 0; i < count && i < MAX_JOINED; i++) {
        x[i] = steps[i].x;
        masks[i] = steps[i].mask;
        if (any && !masks[i] && x[i])
            masks[i] = mmf_full(tape, 2, x[i]->shape, 1);
    }
    if (count == 0 || count > MAX_JOINED)
        return joined;
    joined.x = mmf_concat(tape, x, (int)count, 1);
    joined.mask = any ? mmf_concat(tape, masks, (int)count, 1) : NULL;
    return joined;
}

void mmf_stream_order(const mmf_schema *inputs, const mmf_input_schema **text,
                      const mmf_input_schema **image)
{
    const mmf_input_schema *const in = inputs->inputs;
    bool swap = strcmp(in[1].name, "text") == 0;
    if ((in[0].kind == MMF_TOKENS) != (in[1].kind == MMF_TOKENS))
        swap = in[1].kind == MMF_TOKENS;
    *text = &in[swap ? 1 : 0];
    *image = &in[swap ? 0 : 1];
}

mmf_tensor *mmf_region_mask(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_sign(tape, mmf_sum(tape, mmf_abs(tape, mmf_detach(tape, x)), -1));
}

/* ---- Head -------------------------------------------------------------------------------- */

mmf_head mmf_head_build(mmf_builder *b, const mmf_config *config, int64_t inputs)
{
    const int64_t hidden = mmf_config_int(config, "hidden");
    mmf_head head = {.dropout = mmf_config_real(config, "dropout"),
                     .is_regression = mmf_is_regression(config)};
    mmf_builder_enter(b, "head");
    head.hidden = mmf_linear_build(b, "hidden", inputs, hidden, true);
    head.out = mmf_linear_build(b, "out", hidden, mmf_n_outputs(config), true);
    mmf_builder_leave(b);
    return head;
}

void mmf_head_run(mmf_tape *tape, const mmf_head *head, mmf_tensor *fused, mmf_named *out)
{
    mmf_named_put(tape, out, "feature_fusion", fused);
    mmf_tensor *h = mmf_dropout(tape, fused, head->dropout);
    if (head->hidden.weight)
        h = mmf_dropout(tape, mmf_linear_run(tape, &head->hidden, h, MMF_ACT_RELU), head->dropout);
    mmf_put_result(tape, out, head->is_regression,
                   head->out.weight ? mmf_linear_run(tape, &head->out, h, MMF_ACT_NONE) : h);
}
