/* encoder.c: see encoder.h. */
#include "encoders/encoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "nn/builder.h"

#define MMF_ENCODER(file, name) extern const mmf_def mmf_encoder_##name;
#include "encoders/encoders.def"
#undef MMF_ENCODER

static const mmf_def *const encoders[] = {
#define MMF_ENCODER(file, name) &mmf_encoder_##name,
#include "encoders/encoders.def"
#undef MMF_ENCODER
};

enum { N_ENCODERS = sizeof encoders / sizeof *encoders };

const mmf_def *const *mmf_encoder_table(size_t *count)
{
    *count = N_ENCODERS;
    return encoders;
}

mmf_augment_options mmf_augment_read(const mmf_config *config)
{
    return (mmf_augment_options){.n_feature_masks = mmf_config_int(config, "freq_masks"),
                                 .feature_span = mmf_config_int(config, "freq_mask"),
                                 .n_time_masks = mmf_config_int(config, "time_masks"),
                                 .time_span = mmf_config_int(config, "time_mask"),
                                 .time_share = mmf_config_real(config, "time_mask_share")};
}

const char *mmf_encoder_default(const mmf_input_schema *input)
{
    static const char *const names[] = {[MMF_VECTOR] = "mlp",
                                        [MMF_SEQUENCE] = "cnn1d",
                                        [MMF_IMAGE] = "cnn2d",
                                        [MMF_TOKENS] = "lstm",
                                        [MMF_VIDEO] = "video"};
    const bool varies = input->kind == MMF_SEQUENCE && input->has_length;
    return varies ? "gru" : names[input->kind];
}

const mmf_def *mmf_encoder_find(mmf_ctx *ctx, const mmf_input_schema *input, const char *name,
                                size_t n)
{
    const char *names[N_ENCODERS];
    size_t n_names = 0;
    for (size_t i = 0; i < N_ENCODERS; i++) {
        if (!(encoders[i]->takes & mmf_takes_kind(input->kind)))
            continue;
        if (strlen(encoders[i]->name) == n && strncmp(encoders[i]->name, name, n) == 0)
            return encoders[i];
        names[n_names++] = encoders[i]->name;
    }
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%.*s", (int)n, name);
    const char *const nearest = mmf_text_nearest(wanted, names, n_names);
    mmf_fail(ctx, MMF_ARG,
             "modality %s is of kind %s, which encoder \"%s\" does not take; try \"%s\"",
             input->name, mmf_modality_kind_name(input->kind), wanted,
             nearest ? nearest : mmf_encoder_default(input));
    return NULL;
}

const char *mmf_encoder_spec(const mmf_config *config, const char *option, const char *modality)
{
    const size_t n = strlen(modality);
    for (size_t i = mmf_config_count(config, option); i-- > 0;) {
        const char *const entry = mmf_config_text_at(config, option, i);
        if (strncmp(entry, modality, n) == 0 && entry[n] == '=')
            return entry + n + 1;
    }
    return NULL;
}

mmf_status mmf_encoder_check_list(mmf_ctx *ctx, const char *list, const mmf_schema *inputs,
                                  const char *of)
{
    for (const char *at = list; *at;) {
        char name[256], hint[512];
        const size_t width = strcspn(at, ","), n = strcspn(at, "=,");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        if (n == width)
            return mmf_fail(ctx, MMF_ARG,
                            "encoder \"%s\": expected MODALITY=NAME[:WIDTH][:OPTION=VALUE]", name);
        if (!mmf_schema_find(inputs, name))
            return mmf_fail(ctx, MMF_ARG, "encoder \"%.*s\": %s has no modality \"%s\"%s",
                            (int)width, at, of, name,
                            mmf_schema_suggest(hint, sizeof hint, inputs, name, ""));
        at += width + (at[width] == ',');
    }
    return MMF_OK;
}

/* ---- Pixels ------------------------------------------------------------------------------ */

/* One number for all channels or one for each; `usual` where the option is not set. */
static mmf_status read_channels(mmf_ctx *ctx, const mmf_config *config, const char *option,
                                int64_t n_channels, const float *usual, float *out)
{
    const size_t count = mmf_config_count(config, option);
    if (count > 1 && (int64_t)count != n_channels)
        return mmf_fail(ctx, MMF_ARG, "%s has %zu numbers; the images have %lld channels", option,
                        count, (long long)n_channels);
    for (int64_t c = 0; c < n_channels; c++)
        out[c] = count   ? (float)mmf_config_number_at(config, option, (size_t)c)
                 : usual ? usual[c]
                         : 0;
    return MMF_OK;
}

mmf_status mmf_encoder_image_norm(mmf_ctx *ctx, const mmf_config *config, int64_t n_channels,
                                  bool has_source, mmf_image_norm *out, bool *has_norm)
{
    const mmf_def *const def = mmf_config_def(config);
    const bool is_given = mmf_config_count(config, "mean") || mmf_config_count(config, "deviation");
    const mmf_image_norm *const usual =
        n_channels == MMF_IMAGE_COLOURS && def->source ? def->source->image : NULL;
    *has_norm = is_given || (has_source && usual);
    if (!*has_norm)
        return MMF_OK;
    if (n_channels > MMF_IMAGE_COLOURS ||
        (!usual && !(mmf_config_count(config, "mean") && mmf_config_count(config, "deviation"))))
        return mmf_fail(ctx, MMF_ARG,
                        "images of %lld channels: mean and deviation are known together for up to "
                        "%d channels, and usual for colours only",
                        (long long)n_channels, MMF_IMAGE_COLOURS);
    MMF_TRY(read_channels(ctx, config, "mean", n_channels, usual ? usual->mean : NULL, out->mean));
    return read_channels(ctx, config, "deviation", n_channels, usual ? usual->deviation : NULL,
                         out->deviation);
}

/* ---- Building ---------------------------------------------------------------------------- */

static void set_text(mmf_builder *b, mmf_config *config, const char *name, const char *text)
{
    if (mmf_builder_status(b) !=
        MMF_OK) /* a second failure would replace the first one's message */
        return;
    const mmf_status status = mmf_config_set(config, name, text);
    if (status != MMF_OK)
        mmf_builder_fail(b, status, "encoder %s: %s", mmf_config_def(config)->name,
                         mmf_ctx_error(mmf_builder_ctx(b)));
}

static void set_option(mmf_builder *b, mmf_config *config, const char *name, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.12g", value);
    set_text(b, config, name, text);
}

/* An option that the encoder lacks is for the one that it runs on every frame. */
static mmf_status hand_on(mmf_ctx *ctx, mmf_config *config, const char *name, const char *value)
{
    mmf_text inner = {.ctx = ctx};
    mmf_text_add(&inner, "%s:%s=%s", mmf_config_text(config, MMF_FRAME_OPTION), name, value);
    const mmf_status status = inner.status == MMF_OK
                                  ? mmf_config_set(config, MMF_FRAME_OPTION, inner.data)
                                  : inner.status;
    mmf_text_clear(&inner);
    return status;
}

static mmf_status set_some(mmf_ctx *ctx, mmf_config *config, const char *given, bool own)
{
    const mmf_def *const def = mmf_config_def(config);
    const bool has_inner = mmf_option_find(def, MMF_FRAME_OPTION) != NULL;
    const char *at = given;
    while (*at == ':') {
        char name[64], value[256];
        const char *const part = at + 1;
        const size_t n = strcspn(part, ":=");
        const bool is_option = part[n] == '=';
        const size_t n_value = is_option ? strcspn(part + n + 1, ":=") : n;
        if (n == 0 || n >= sizeof name || n_value >= sizeof value ||
            (!is_option && strspn(part, "0123456789") != n))
            break;
        snprintf(name, sizeof name, "%.*s", is_option ? (int)n : 5, is_option ? part : "width");
        snprintf(value, sizeof value, "%.*s", (int)n_value, is_option ? part + n + 1 : part);
        const bool is_own = !has_inner || mmf_option_find(def, name);
        if (is_own && own)
            MMF_TRY(mmf_config_set(config, name, value));
        else if (!is_own && !own)
            MMF_TRY(hand_on(ctx, config, name, value));
        at = part + n + (is_option ? 1 + n_value : 0);
    }
    if (!*at)
        return MMF_OK;
    return mmf_fail(ctx, MMF_ARG,
                    "expected NAME[:WIDTH][:OPTION=VALUE]...[=SOURCE], found \"%.80s\"", at);
}

mmf_status mmf_encoder_set_given(mmf_ctx *ctx, mmf_config *config, const char *given)
{
    MMF_TRY(set_some(ctx, config, given, true));
    return set_some(ctx, config, given, false);
}

mmf_status mmf_encoder_innermost(mmf_ctx *ctx, mmf_config **out, const mmf_input_schema *input,
                                 const char *spec)
{
    char inner[1024];
    mmf_input_schema seen = *input;
    *out = NULL;
    snprintf(inner, sizeof inner, "%s", spec);
    for (;;) {
        const size_t n = strcspn(inner, ":=");
        const mmf_def *const def = mmf_encoder_find(ctx, &seen, inner, n);
        if (!def)
            return MMF_ARG;
        MMF_TRY(mmf_config_create(ctx, out, def));
        const mmf_status status = mmf_encoder_set_given(ctx, *out, inner + n);
        const bool goes_on = status == MMF_OK && mmf_option_find(def, MMF_FRAME_OPTION);
        if (status == MMF_OK && !goes_on)
            return MMF_OK;
        snprintf(inner, sizeof inner, "%s", goes_on ? mmf_config_text(*out, MMF_FRAME_OPTION) : "");
        mmf_config_free(*out);
        *out = NULL;
        if (!goes_on)
            return status;
        seen.kind = MMF_IMAGE;
    }
}

static void check_pooling(mmf_builder *b, const mmf_config *config, const mmf_input_schema *input,
                          const mmf_encoder_choice *choice)
{
    const mmf_def *const def = mmf_config_def(config);
    if (!choice->steps && mmf_option_find(def, "pooling") &&
        strcmp(mmf_config_text(config, "pooling"), "none") == 0)
        mmf_builder_fail(
            b, MMF_ARG,
            "encoder %s of %s: pooling none gives a sequence, and this model takes one "
            "vector a modality",
            def->name, input->name);
}

mmf_encoder mmf_encoder_build(mmf_builder *b, const char *name, const mmf_input_schema *input,
                              const mmf_encoder_choice *choice)
{
    mmf_encoder e = {.input = input->name};
    const char *const chosen =
        choice->spec && *choice->spec ? choice->spec : mmf_encoder_default(input);
    const size_t n = strcspn(chosen, ":=");
    e.def = mmf_encoder_find(mmf_builder_ctx(b), input, chosen, n);
    mmf_config *config = NULL;
    if (!e.def) {
        mmf_builder_fail(b, MMF_ARG, "%s", mmf_ctx_error(mmf_builder_ctx(b)));
        return e;
    }
    const mmf_status status = mmf_config_create(mmf_builder_ctx(b), &config, e.def);
    if (status != MMF_OK) {
        mmf_builder_fail(b, status, "%s", mmf_ctx_error(mmf_builder_ctx(b)));
        return e;
    }
    if (choice->width > 0)
        set_option(b, config, "width", (double)choice->width);
    set_option(b, config, "dropout", choice->dropout);
    if (mmf_builder_status(b) == MMF_OK &&
        mmf_encoder_set_given(mmf_builder_ctx(b), config, chosen + n) != MMF_OK)
        mmf_builder_fail(b, MMF_ARG, "encoder \"%s\" of %s: %s", chosen, input->name,
                         mmf_ctx_error(mmf_builder_ctx(b)));
    if (choice->steps)
        set_text(b, config, "pooling", "none");
    check_pooling(b, config, input, choice);
    if (mmf_builder_status(b) == MMF_OK) {
        mmf_builder_enter(b, name);
        mmf_builder_place(b, input->name);
        mmf_builder_set_width(b, 0);
        mmf_builder_set_grid(b, input->shape[0], 1);
        const mmf_schema one = {1, mmf_builder_alloc(b, sizeof *input)};
        if (one.inputs) {
            one.inputs[0] = *input;
            e.def->build(b, config, &one, &e.self);
        }
        e.width = mmf_builder_width(b);
        mmf_builder_grid(b, &e.rows, &e.columns);
        if (choice->stand_in && input->has_present && e.width > 0)
            e.absent = mmf_builder_param(b, "absent", MMF_PARAM_TRAINED, mmf_init_constant(0), 1,
                                         &e.width);
        mmf_builder_leave(b);
    }
    mmf_config_free(config);
    return e;
}

mmf_tensor *mmf_present_column(mmf_tape *tape, const mmf_named *in, const char *modality)
{
    mmf_tensor *const present = mmf_named_part(in, modality, "present");
    return present ? mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}) : NULL;
}

mmf_tensor *mmf_replace_absent(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present,
                               mmf_tensor *absent)
{
    if (!present)
        return x;
    mmf_tensor *const kept = mmf_mul(tape, x, present);
    if (!absent)
        return kept;
    mmf_tensor *const gone = mmf_affine(tape, present, -1, 1);
    return mmf_add(tape, kept, mmf_mul(tape, gone, absent));
}

mmf_tensor *mmf_encoder_run(mmf_tape *tape, const mmf_encoder *e, const mmf_named *in,
                            const mmf_step *step)
{
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_named out = {0};
    e->def->run(tape, e->self, in, step, &out);
    mmf_tensor *const feature = mmf_replace_absent(
        tape, mmf_named_get(&out, "feature"), mmf_present_column(tape, in, e->input), e->absent);
    return mmf_tape_leave(tape, mark, feature);
}
