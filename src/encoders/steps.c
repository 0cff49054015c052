/* steps.c: see steps.h. */
#include "encoders/steps.h"

#include <math.h>
#include <string.h>

#define PATCH_KERNEL 3
#define PATCH_STRIDE 2

static mmf_conv_layer patch_conv(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs)
{
    const mmf_window window = {.kernel = {PATCH_KERNEL, PATCH_KERNEL},
                               .stride = {PATCH_STRIDE, PATCH_STRIDE},
                               .padding = {1, 1}};
    return mmf_conv_build(b, name, 2, inputs, outputs, &window, true);
}

static int64_t halved(int64_t size)
{
    return (size + PATCH_STRIDE - 1) / PATCH_STRIDE;
}

/* Of the shape alone. */
static mmf_steps_encoder build_plain(mmf_builder *b, const char *name,
                                     const mmf_input_schema *input, int64_t width, double dropout)
{
    mmf_steps_encoder e = {.input = input, .width = width, .n_steps = 1, .dropout = dropout};
    const int64_t *const shape = input->shape;
    mmf_builder_enter(b, name);
    switch (input->kind) {
    case MMF_VECTOR:
        e.project = mmf_linear_build(b, "project", shape[0], width, true);
        break;
    case MMF_SEQUENCE:
        e.n_steps = shape[0];
        e.project = mmf_linear_build(b, "project", shape[1], width, true);
        break;
    case MMF_IMAGE:
        e.rows = halved(halved(shape[1]));
        e.columns = halved(halved(shape[2]));
        e.n_steps = e.rows * e.columns;
        e.conv_1 = patch_conv(b, "conv_1", shape[0], width);
        e.conv_2 = patch_conv(b, "conv_2", width, width);
        break;
    case MMF_VIDEO:
        e.n_steps = shape[0];
        e.conv_1 = patch_conv(b, "conv_1", shape[1], width);
        e.conv_2 = patch_conv(b, "conv_2", width, width);
        break;
    case MMF_TOKENS:
        e.n_steps = shape[0];
        e.embedding = mmf_embedding_build(b, "embedding", input->vocab_size, width, 0);
        e.project = mmf_linear_build(b, "project", width, width, true);
        break;
    }
    mmf_builder_leave(b);
    return e;
}

/* Does an encoder of this name put out sequences? One that there is not is refused. */
static bool gives_steps(mmf_builder *b, const mmf_input_schema *input, const char *spec)
{
    const mmf_def *const def =
        mmf_encoder_find(mmf_builder_ctx(b), input, spec, strcspn(spec, ":="));
    if (!def)
        mmf_builder_fail(b, MMF_ARG, "%s", mmf_ctx_error(mmf_builder_ctx(b)));
    const mmf_option *const pooling = def ? mmf_option_find(def, "pooling") : NULL;
    return pooling && pooling->choices && strstr(pooling->choices, "none");
}

const char *mmf_steps_spec(mmf_builder *b, const mmf_config *config, const mmf_input_schema *input)
{
    const char *const spec = mmf_encoder_spec(config, "encoder", input->name);
    if (!spec || mmf_builder_status(b) != MMF_OK)
        return spec;
    if (gives_steps(b, input, spec) || mmf_builder_status(b) != MMF_OK)
        return spec;
    mmf_ctx_log(mmf_builder_ctx(b), MMF_LOG_WARNING,
                "encoder \"%s\" of %s does not put out steps: this model, which is over steps, "
                "does without",
                spec, input->name);
    return NULL;
}

mmf_steps_encoder mmf_steps_build(mmf_builder *b, const mmf_config *config, const char *name,
                                  const mmf_input_schema *input, int64_t width, double dropout)
{
    const mmf_encoder_choice choice = {.spec = mmf_steps_spec(b, config, input),
                                       .width = width,
                                       .dropout = dropout,
                                       .steps = true};
    if (!choice.spec)
        return build_plain(b, name, input, width, dropout);
    mmf_steps_encoder e = {
        .input = input, .through = mmf_builder_alloc(b, sizeof *e.through), .width = width};
    if (!e.through)
        return e;
    *e.through = mmf_encoder_build(b, name, input, &choice);
    e.rows = e.through->rows;
    e.columns = e.through->columns;
    e.n_steps = e.rows * e.columns;
    if (mmf_builder_status(b) == MMF_OK && e.through->width != width)
        mmf_builder_fail(
            b, MMF_ARG, "encoder %s of %s: its steps must have width %lld here, not %lld",
            e.through->def->name, input->name, (long long)width, (long long)e.through->width);
    return e;
}

static mmf_tensor *project(mmf_tape *tape, const mmf_steps_encoder *e, mmf_tensor *x)
{
    return mmf_linear_run(tape, &e->project, mmf_dropout(tape, x, e->dropout), MMF_ACT_NONE);
}

static mmf_tensor *convolve(mmf_tape *tape, const mmf_steps_encoder *e, mmf_tensor *x)
{
    x = mmf_relu(tape, mmf_conv_run(tape, &e->conv_1, x));
    return mmf_relu(tape, mmf_conv_run(tape, &e->conv_2, x));
}

/* (B, T, C, H, W) -> (B T, D): the mean over a frame's patches. */
static mmf_tensor *frames(mmf_tape *tape, const mmf_steps_encoder *e, mmf_tensor *x)
{
    const int64_t *const shape = e->input->shape;
    x = mmf_reshape(tape, x, 4, (int64_t[]){-1, shape[1], shape[2], shape[3]});
    x = convolve(tape, e, x);
    x = x ? mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], e->width, -1}) : NULL;
    return mmf_dropout(tape, mmf_mean(tape, x, 2), e->dropout);
}

/* (B, D, H, W) -> (B, H W, D) */
static mmf_tensor *patches(mmf_tape *tape, const mmf_steps_encoder *e, mmf_tensor *x)
{
    x = convolve(tape, e, x);
    x = mmf_reshape(tape, x, 3, (int64_t[]){-1, e->width, e->n_steps});
    return mmf_dropout(tape, mmf_transpose(tape, x, 1, 2), e->dropout);
}

static mmf_tensor *valid_steps(mmf_tape *tape, const mmf_steps_encoder *e, const mmf_named *in)
{
    const char *const name = e->input->name;
    const mmf_tensor *length = mmf_named_part(in, name, "length");
    mmf_tensor *const present = mmf_present_column(tape, in, name);
    if (e->input->kind == MMF_TOKENS && !length)
        length = mmf_token_lengths(tape, mmf_named_get(in, name), 0);
    const bool timed = mmf_modality_has_steps(e->input->kind);
    mmf_tensor *const mask = timed && length ? mmf_length_mask(tape, length, e->n_steps) : NULL;
    if (!present)
        return mask;
    if (mask)
        return mmf_mul(tape, mask, present);
    return mmf_expand(tape, present, 2, (int64_t[]){present->shape[0], e->n_steps});
}

mmf_steps mmf_steps_run(mmf_tape *tape, const mmf_steps_encoder *e, const mmf_named *in)
{
    mmf_tensor *x = mmf_named_get(in, e->input->name);
    mmf_steps steps = {.mask = valid_steps(tape, e, in)};
    if (e->through) {
        mmf_named out = {0};
        const mmf_step step = {.training = mmf_tape_pass(tape)->training};
        e->through->def->run(tape, e->through->self, in, &step, &out);
        x = mmf_named_get(&out, "feature");
    } else if (e->input->kind == MMF_IMAGE) {
        x = patches(tape, e, x);
    } else if (e->input->kind == MMF_VIDEO) {
        x = frames(tape, e, x);
    } else if (e->input->kind == MMF_TOKENS) {
        x = project(tape, e, mmf_embedding_run(tape, &e->embedding, x));
    } else {
        x = project(tape, e, x);
    }
    steps.x = mmf_reshape(tape, x, 3, (int64_t[]){-1, e->n_steps, e->width});
    steps.x = mmf_steps_masked(tape, &steps);
    return steps;
}

mmf_tensor *mmf_steps_masked(mmf_tape *tape, const mmf_steps *steps)
{
    if (!steps->mask)
        return steps->x;
    const int64_t shape[] = {-1, steps->mask->shape[1], 1};
    return mmf_mul(tape, steps->x, mmf_reshape(tape, steps->mask, 3, shape));
}

mmf_tensor *mmf_steps_mean(mmf_tape *tape, const mmf_steps *steps)
{
    if (!steps->mask)
        return mmf_mean(tape, steps->x, 1);
    mmf_tensor *const n = mmf_clamp(tape, mmf_sum(tape, steps->mask, 1), 1, INFINITY);
    mmf_tensor *const kept = mmf_steps_masked(tape, steps);
    return mmf_div(tape, mmf_sum(tape, kept, 1), mmf_reshape(tape, n, 2, (int64_t[]){-1, 1}));
}

mmf_tensor *mmf_steps_last(mmf_tape *tape, const mmf_steps *s)
{
    if (!s->x)
        return NULL;
    const int64_t n_steps = s->x->shape[1], width = s->x->shape[2];
    if (!s->mask)
        return mmf_reshape(tape, mmf_slice(tape, s->x, 1, n_steps - 1, 1), 2,
                           (int64_t[]){-1, width});
    /* Valid steps come first: the last one has none behind it. */
    mmf_tensor *last = s->mask;
    if (n_steps > 1) {
        mmf_tensor *const next = mmf_slice(tape, s->mask, 1, 1, n_steps - 1);
        last = mmf_sub(tape, last, mmf_pad(tape, next, 1, 0, 1, 0));
    }
    last = mmf_reshape(tape, last, 3, (int64_t[]){-1, 1, n_steps});
    return mmf_reshape(tape, mmf_matmul(tape, last, s->x, false, false), 2, (int64_t[]){-1, width});
}
