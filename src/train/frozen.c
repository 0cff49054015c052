/* frozen.c: see frozen.h. */
#include "train/frozen.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "encoders/encoder.h"
#include "nn/builder.h"
#include "nn/pretrained.h"
#include "train/aid.h"
#include "train/model_parts.h"

#define NAME_BYTES 64

struct mmf_frozen {
    mmf_ctx *ctx;
    mmf_module *module; /* of an encoder, or the model's */
    mmf_model *model;   /* NULL: an encoder */
    mmf_tape *tape;
    mmf_feed feed;
    mmf_input_schema input; /* a copy, of whose first dimension a pass may take less */
    mmf_schema inputs;
    const char *output;
    char name[600]; /* behind `output` */
    int64_t width;
    mmf_image_norm norm; /* of pixels for an encoder */
    bool has_norm;
    bool int8;
};

/* ---- Names ------------------------------------------------------------------------------- */

static const mmf_def *find_encoder(const char *name, size_t n_bytes)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_encoder_table(&n);
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i]->name) == n_bytes && memcmp(table[i]->name, name, n_bytes) == 0)
            return table[i];
    }
    return NULL;
}

bool mmf_frozen_is_name(const char *name, size_t n_bytes)
{
    const bool is_model =
        n_bytes == strlen(MMF_FROZEN_MODEL) && memcmp(name, MMF_FROZEN_MODEL, n_bytes) == 0;
    return is_model || find_encoder(name, n_bytes) != NULL;
}

const mmf_preparation_kind *mmf_frozen_base(const char *name)
{
    const mmf_def *const def = find_encoder(name, strlen(name));
    const char *const base = !def                               ? ""
                             : def->takes & MMF_TAKES_TOKENS    ? "wordpiece"
                             : def->takes & MMF_TAKES_IMAGES    ? "image"
                             : def->takes & MMF_TAKES_VIDEOS    ? "frames"
                             : def->takes & MMF_TAKES_SEQUENCES ? "logmel"
                                                                : "";
    return mmf_preparation_find(base);
}

/* Sizes that networks were trained with; the longest name that fits decides. */
static const struct {
    const char *name, *option, *value;
} usual_options[] = {
    {"resnet", "size", "224"},  {"resnet", "short_side", "256"},  {"resnet", "channels", "3"},
    {"resnet20", "size", "32"}, {"resnet20", "short_side", "32"},
};

static mmf_status set_usual(const char *name, mmf_config *config)
{
    for (size_t i = 0; i < sizeof usual_options / sizeof *usual_options; i++) {
        if (strncmp(name, usual_options[i].name, strlen(usual_options[i].name)) == 0)
            MMF_TRY(mmf_config_set(config, usual_options[i].option, usual_options[i].value));
    }
    return MMF_OK;
}

/* How the model's one modality was prepared, if it was trained on raw files. */
static mmf_status set_as_model(mmf_ctx *ctx, const char *path, const mmf_preparation_kind **kind,
                               mmf_config **config)
{
    mmf_model *model = NULL;
    MMF_TRY(mmf_model_load(ctx, &model, path));
    const mmf_schema *const inputs = mmf_model_inputs(model);
    mmf_status status = MMF_OK;
    if (inputs->count != 1)
        status = mmf_fail(ctx, MMF_ARG,
                          "%s: a model of %zu modalities; features are taken from a model of one, "
                          "such as only-image",
                          path, inputs->count);
    json_t *const list = model->preparations ? json_loads(model->preparations, 0, NULL) : NULL;
    const json_t *const row = json_array_get(list, 0);
    const char *const name = json_string_value(json_object_get(row, "preparation"));
    if (status == MMF_OK && (!name || !(*kind = mmf_preparation_find(name))))
        status = mmf_fail(ctx, MMF_ARG,
                          "%s: this model was not trained on raw files, so nothing says how they "
                          "become its input",
                          path);
    if (status == MMF_OK)
        status = mmf_config_create(ctx, config, &(*kind)->def);
    char *const options = json_dumps(json_object_get(row, "options"), JSON_COMPACT);
    if (status == MMF_OK && options)
        status = mmf_config_set_json(*config, options);
    free(options);
    json_decref(list);
    mmf_model_free(model);
    return status;
}

mmf_status mmf_frozen_set_base(mmf_ctx *ctx, const char *name, const char *source,
                               const mmf_preparation_kind **kind, mmf_config **config)
{
    if (strcmp(name, MMF_FROZEN_MODEL) == 0)
        return set_as_model(ctx, source, kind, config);
    *kind = mmf_frozen_base(name);
    if (!*kind)
        return mmf_fail(ctx, MMF_ARG, "no preparation makes what encoder %s takes", name);
    MMF_TRY(mmf_config_create(ctx, config, &(*kind)->def));
    if ((*kind)->source)
        MMF_TRY(mmf_config_set(*config, (*kind)->source, source));
    return set_usual(name, *config);
}

mmf_status mmf_frozen_hash(mmf_ctx *ctx, const char *source, uint64_t *hash)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json"};
    char path[4096];
    mmf_mapping mapping = {0};
    snprintf(path, sizeof path, "%s", source);
    for (size_t i = 0; mmf_path_is_folder(source) && i < sizeof names / sizeof *names; i++) {
        MMF_TRY(mmf_path_join(ctx, path, sizeof path, source, strlen(source), names[i]));
        if (mmf_path_is_file(path))
            break;
    }
    MMF_TRY(mmf_map_open(ctx, &mapping, path));
    *hash = mmf_hash(mmf_hash_number(0, (int64_t)mapping.n_bytes), mapping.bytes, mapping.n_bytes);
    mmf_map_close(&mapping);
    return MMF_OK;
}

/* ---- Running ----------------------------------------------------------------------------- */

/* Pixels from 0 to 255 to [0, 1], and to what the encoder's weights were trained with. */
static void normalise_pixels(const mmf_frozen *f, float *values, int64_t n_rows)
{
    enum { TOP = 255 };
    const mmf_input_schema *const schema = &mmf_module_schema(f->module)->inputs[0];
    const bool is_video = schema->kind == MMF_VIDEO;
    const int64_t *const shape = schema->shape + is_video;
    const int64_t channels = shape[0], area = shape[1] * shape[2];
    const int64_t n_frames = n_rows * (is_video ? schema->shape[0] : 1);
    for (int64_t i = 0; i < n_frames * channels * area; i++) {
        const int64_t c = i / area % channels;
        const float mean = f->has_norm ? f->norm.mean[c] : 0;
        const float deviation = f->has_norm ? f->norm.deviation[c] : 1;
        values[i] = (values[i] / TOP - mean) / deviation;
    }
}

/* As the model's training rows were; zeros behind the length stay zeros. */
static void normalise(const mmf_frozen *f, const mmf_batch_input *in, int64_t n_rows)
{
    const mmf_input_schema *const schema = &mmf_module_schema(f->module)->inputs[0];
    if (!f->model && mmf_modality_has_channels(schema->kind))
        normalise_pixels(f, in->values, n_rows);
    const mmf_normalisation *const own = f->model ? &f->model->normalisation : NULL;
    if (!own || own->n_modalities == 0 || own->n_features[0] == 0 || in->tokens)
        return;
    const bool is_image = schema->kind == MMF_IMAGE;
    int64_t row = 1;
    for (int d = 0; d < schema->n_dims; d++)
        row *= schema->shape[d];
    const int64_t inner = is_image ? row / schema->shape[0] : 1;
    for (int64_t b = 0; b < n_rows; b++) {
        const int64_t n = in->length ? in->length[b] * own->n_features[0] : row;
        float *const values = in->values + b * row;
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = i / inner % own->n_features[0];
            values[i] = (values[i] - own->mean[0][at]) * own->scale[0][at];
        }
    }
}

/* @param fixed  layouts of the weights that suit this batch are kept */
static mmf_status run(mmf_frozen *f, const mmf_batch_input *in, int64_t n_rows, int64_t first,
                      bool fixed, const float **out)
{
    mmf_named inputs = {0}, outputs = {0};
    const mmf_step step = {0};
    normalise(f, in, n_rows);
    f->input.shape[0] = first;
    mmf_tape_begin(f->tape, &(mmf_pass){.fixed = fixed, .int8 = f->int8});
    mmf_feed_put(&f->feed, f->tape, in, NULL, n_rows, MMF_ALL_MODALITIES, &inputs);
    mmf_module_run(f->module, f->tape, &inputs, &step, &outputs);
    MMF_TRY(mmf_tape_status(f->tape));
    const mmf_tensor *const features = mmf_named_get(&outputs, f->output);
    if (!features || features->is_int || features->n_dims != 2 || features->shape[0] != n_rows)
        return mmf_fail(f->ctx, MMF_UNSUPPORTED,
                        "%s puts out no vector a row; pick another encoder, or train with "
                        "--encoder",
                        mmf_module_def(f->module)->name);
    f->width = features->shape[1];
    *out = features->data;
    return MMF_OK;
}

mmf_status mmf_frozen_run(mmf_frozen *f, const mmf_batch_input *in, int64_t n_rows, int64_t first,
                          const float **out)
{
    return run(f, in, n_rows, first, true, out);
}

void mmf_frozen_set_int8(mmf_frozen *frozen, bool int8)
{
    frozen->int8 = int8;
}

/* ---- Opening ----------------------------------------------------------------------------- */

/* Nothing may be left as it was drawn. @param scope  of the weights */
static mmf_status check_rest(const mmf_frozen *f, const char *scope)
{
    const mmf_params *const params = mmf_module_params(f->module);
    const size_t n = strlen(scope);
    for (size_t i = 0; n > 0 && i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        if (p->role == MMF_PARAM_TRAINED && (strncmp(p->name, scope, n) != 0 || p->name[n] != '.'))
            return mmf_fail(f->ctx, MMF_ARG,
                            "encoder %s: %s has no weights in the file and would stay as it was "
                            "drawn; pool frames by mean or max, or train with --encoder",
                            mmf_module_def(f->module)->name, p->name);
    }
    return MMF_OK;
}

/* @param taker  the encoder that the weights are for: this one, or that of its frames */
static mmf_status load_weights(mmf_frozen *f, const mmf_def *taker, const char *source)
{
    char scope[NAME_BYTES];
    mmf_pretrained_report report = {0};
    static const mmf_pretrained_rules plain = {0};
    const mmf_source *const from = taker->source;
    const char *const inner = from ? from->scope : "";
    const bool is_own = taker == mmf_module_def(f->module);
    snprintf(scope, sizeof scope, "%s%s%s", is_own ? "" : MMF_FRAME_OPTION,
             !is_own && *inner ? "." : "", inner);
    if (!is_own)
        MMF_TRY(check_rest(f, MMF_FRAME_OPTION));
    mmf_status status = mmf_pretrained_load(f->ctx, mmf_module_params(f->module), scope, source,
                                            from ? from->rules : &plain, &report);
    if (status == MMF_OK)
        status = mmf_pretrained_require(&report, source);
    if (status == MMF_OK && report.kept.count > 0)
        status = mmf_fail(f->ctx, MMF_ARG,
                          "%s: it has no weights for %s, which a width of one's own needs; leave "
                          "the width out, or train with --encoder",
                          source, report.kept.names[0]);
    mmf_pretrained_report_clear(&report);
    return status;
}

/* What the files beside the weights say, then what was asked for: ":OPTION=VALUE" each. */
static mmf_status read_spec(mmf_frozen *f, const char *spec, const char *source,
                            const mmf_input_schema *input, mmf_config *config,
                            const mmf_def **taker)
{
    const char *const given = spec + strcspn(spec, ":");
    mmf_text all = {.ctx = f->ctx};
    mmf_config *inner = NULL;
    mmf_status status = mmf_encoder_innermost(f->ctx, &inner, input, spec);
    if (status == MMF_OK)
        *taker = mmf_config_def(inner);
    if (status == MMF_OK && mmf_modality_has_channels(input->kind))
        status = mmf_encoder_image_norm(f->ctx, inner, input->shape[input->n_dims - 3], true,
                                        &f->norm, &f->has_norm);
    mmf_config_free(inner);
    if (status == MMF_OK && *taker != mmf_config_def(config))
        mmf_text_add(&all, ":width=0"); /* a projection has no weights in the file */
    if (status == MMF_OK && (*taker)->source && (*taker)->source->describe)
        status = (*taker)->source->describe(f->ctx, source, *taker, &all);
    mmf_text_add(&all, "%s", given);
    status = status == MMF_OK ? all.status : status;
    if (status == MMF_OK)
        status = mmf_encoder_set_given(f->ctx, config, all.data ? all.data : "");
    mmf_text_clear(&all);
    return status;
}

static mmf_status open_encoder(mmf_frozen *f, const char *spec, const char *source,
                               const mmf_input_schema *input)
{
    mmf_config *config = NULL;
    const mmf_def *taker = NULL;
    const mmf_def *const def = find_encoder(spec, strcspn(spec, ":"));
    if (!def)
        return mmf_fail(f->ctx, MMF_ARG, "there is no encoder \"%.60s\"", spec);
    mmf_input_schema one = *input;
    const mmf_schema schema = {1, &one};
    mmf_status status = mmf_config_create(f->ctx, &config, def);
    if (status == MMF_OK)
        status = read_spec(f, spec, source, input, config, &taker);
    if (status == MMF_OK)
        status = mmf_module__create_as(f->ctx, &f->module, def, config, &schema,
                                       &(mmf_module_making){.for_inference = true});
    mmf_config_free(config);
    if (status != MMF_OK)
        return mmf_fail_within(f->ctx, status, "encoder %s: ", def->name);
    f->output = "feature";
    return load_weights(f, taker, source);
}

static mmf_status open_model(mmf_frozen *f, const char *source, const mmf_input_schema *input)
{
    MMF_TRY(mmf_model_load(f->ctx, &f->model, source));
    const mmf_input_schema *const own = &mmf_model_inputs(f->model)->inputs[0];
    if (own->kind != input->kind || own->n_dims != input->n_dims ||
        memcmp(own->shape, input->shape, (size_t)own->n_dims * sizeof *own->shape) != 0) {
        char wanted[96], found[96];
        return mmf_fail(f->ctx, MMF_SHAPE, "%s was trained on %s %s, the files become %s %s",
                        source, mmf_modality_kind_name(own->kind),
                        mmf_shape_text(wanted, sizeof wanted, own->shape, own->n_dims),
                        mmf_modality_kind_name(input->kind),
                        mmf_shape_text(found, sizeof found, input->shape, input->n_dims));
    }
    f->module = f->model->module;
    snprintf(f->name, sizeof f->name, "feature_%s", own->name);
    f->output = f->name;
    return MMF_OK;
}

static mmf_status create_feed(mmf_frozen *f)
{
    f->input = mmf_module_schema(f->module)->inputs[0];
    f->inputs = (mmf_schema){1, &f->input};
    return mmf_feed_create(f->ctx, &f->feed, &f->inputs);
}

/* One pass over zeros tells how wide the features are. */
static mmf_status measure(mmf_frozen *f, const mmf_input_schema *input)
{
    size_t n = 1;
    for (int d = 0; d < input->n_dims; d++)
        n *= (size_t)input->shape[d];
    int64_t one_step = 1;
    float there = 1;
    const float *features = NULL;
    void *const zeros = mmf_alloc_zero(f->ctx, n, sizeof(int64_t));
    if (!zeros)
        return MMF_NOMEM;
    const mmf_batch_input in = {.values = zeros,
                                .tokens = input->kind == MMF_TOKENS ? zeros : NULL,
                                .length = input->has_length ? &one_step : NULL,
                                .present = &there};
    const mmf_status status = run(f, &in, 1, f->input.shape[0], false, &features);
    mmf_free(f->ctx, zeros);
    return status;
}

mmf_status mmf_frozen_open(mmf_ctx *ctx, mmf_frozen **out, const char *spec, const char *source,
                           const mmf_input_schema *input)
{
    *out = NULL;
    mmf_frozen *const f = mmf_alloc_zero(ctx, 1, sizeof *f);
    if (!f)
        return MMF_NOMEM;
    f->ctx = ctx;
    f->output = "feature";
    mmf_status status = strcmp(spec, MMF_FROZEN_MODEL) == 0 ? open_model(f, source, input)
                                                            : open_encoder(f, spec, source, input);
    if (status == MMF_OK)
        status = mmf_tape_create(ctx, &f->tape);
    if (status == MMF_OK)
        status = create_feed(f);
    f->width = f->model || !f->module ? 0 : mmf_module_width(f->module);
    if (status == MMF_OK && f->width == 0)
        status = measure(f, input);
    if (status == MMF_OK)
        *out = f;
    else
        mmf_frozen_free(f);
    return status;
}

void mmf_frozen_free(mmf_frozen *f)
{
    if (!f)
        return;
    if (f->feed.keys)
        mmf_feed_clear(&f->feed);
    mmf_tape_free(f->tape);
    if (f->model)
        mmf_model_free(f->model);
    else
        mmf_module_free(f->module);
    mmf_free(f->ctx, f);
}

int64_t mmf_frozen_width(const mmf_frozen *frozen)
{
    return frozen->width;
}
