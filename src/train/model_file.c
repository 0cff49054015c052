/*
 * model_file.c: models on disk: one safetensors file.
 *
 * Tensors under their state_dict names; `normalisation.<modality>.mean|scale` beside them; in the
 * metadata: mmfuse (version of this layout), model, config, inputs, task, record, and for models
 * that were trained on raw files preparations.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/archive.h"
#include "nn/builder.h"
#include "train/model_parts.h"

#define LAYOUT "1"
#define NORMALISATION "normalisation."
/* Bounds of what a file may claim, before anything is allocated. */
#define MAX_INPUTS 64
#define MAX_OUTPUTS 1000000
/* Elements of one sample, all inputs together: its memory is taken before any is used. */
#define MAX_SAMPLE ((int64_t)1 << 28)
/* Elements of parameters beyond those in the file, so that a missing tensor is found by its name.
 */
#define SLACK ((int64_t)1 << 22)

/* ---- Saving ------------------------------------------------------------------------------ */

static json_t *inputs_json(const mmf_schema *schema)
{
    json_t *const list = json_array();
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        json_t *const shape = json_array();
        for (int d = 0; d < in->n_dims; d++)
            json_array_append_new(shape, json_integer(in->shape[d]));
        json_t *const object = json_pack("{s:s, s:s, s:o, s:I, s:b, s:b}", "name", in->name, "kind",
                                         mmf_modality_kind_name(in->kind), "shape", shape, "vocab",
                                         (json_int_t)in->vocab_size, "length", (int)in->has_length,
                                         "present", (int)in->has_present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++) {
            if (in->companions[c] > 0)
                json_object_set_new(object, mmf_companion_name((mmf_companion)c),
                                    json_integer((json_int_t)in->companions[c]));
        }
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *task_json(const mmf_model *model)
{
    static const char *const rules[] = {"none", "mosi", "sims"};
    const mmf_task *const task = &model->task;
    json_t *const object =
        json_pack("{s:s, s:I, s:s, s:s, s:f, s:f}", "kind", mmf_task_name(task->kind), "outputs",
                  (json_int_t)task->n_outputs, "target", task->target, "metrics",
                  rules[task->rules], "shift", model->target_shift, "scale", model->target_scale);
    if (object && task->class_names) {
        json_t *const names = json_array();
        for (int64_t k = 0; k < task->n_outputs; k++)
            json_array_append_new(names, json_string(task->class_names[k]));
        json_object_set_new(object, "classes", names);
    }
    return object;
}

static mmf_array array_of(const mmf_tensor *t)
{
    mmf_array array = {.dtype = MMF_F32, .n_dims = t->n_dims, .item_bytes = 4, .data = t->data};
    memcpy(array.shape, t->shape, sizeof array.shape);
    return array;
}

/* Arrays to write; `names` owns the names of the normalisation's. */
typedef struct file_parts {
    mmf_named_array *arrays;
    size_t n_arrays;
    char (*names)[600];
} file_parts;

static mmf_status collect(const mmf_model *model, file_parts *parts)
{
    const mmf_params *const params = mmf_module_params(model->module);
    const mmf_schema *const schema = mmf_module_schema(model->module);
    const size_t most = mmf_params_count(params) + 2 * schema->count + 1;
    parts->arrays = mmf_alloc_zero(model->ctx, most, sizeof *parts->arrays);
    parts->names = mmf_alloc_zero(model->ctx, 2 * schema->count + 1, sizeof *parts->names);
    if (!parts->arrays || !parts->names)
        return MMF_NOMEM;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        parts->arrays[parts->n_arrays++] = (mmf_named_array){p->name, array_of(p->tensor)};
    }
    for (size_t m = 0; m < model->normalisation.n_modalities; m++) {
        const int64_t n = model->normalisation.n_features[m];
        const float *const both[] = {model->normalisation.mean[m], model->normalisation.scale[m]};
        for (size_t i = 0; n > 0 && i < 2; i++) {
            char *const name = parts->names[2 * m + i];
            snprintf(name, sizeof parts->names[0], NORMALISATION "%s.%s", schema->inputs[m].name,
                     i ? "scale" : "mean");
            parts->arrays[parts->n_arrays++] = (mmf_named_array){
                name, {.dtype = MMF_F32, .n_dims = 1, .shape = {n}, .item_bytes = 4, both[i]}};
        }
    }
    return MMF_OK;
}

mmf_status mmf_model_save(const mmf_model *model, const char *path)
{
    file_parts parts = {0};
    char *const config = mmf_config_json(mmf_module_config(model->module));
    json_t *const inputs = inputs_json(mmf_module_schema(model->module));
    json_t *const task = task_json(model);
    char *const inputs_text = json_dumps(inputs, JSON_COMPACT);
    char *const task_text = task ? json_dumps(task, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    mmf_status status = config && inputs_text && task_text ? MMF_OK : MMF_NOMEM;
    if (status == MMF_OK)
        status = collect(model, &parts);
    const mmf_metadata metadata[] = {
        {"mmfuse", LAYOUT},         {"model", model->name},
        {"config", config},         {"inputs", inputs_text},
        {"task", task_text},        {"record", model->record},
        {"version", mmf_version()}, {"preparations", model->preparations}};
    const size_t n_metadata = sizeof metadata / sizeof *metadata - !model->preparations;
    if (status == MMF_OK)
        status = mmf_safetensors_save(model->ctx, path, parts.arrays, parts.n_arrays, metadata,
                                      n_metadata);
    mmf_free(model->ctx, parts.arrays);
    mmf_free(model->ctx, parts.names);
    mmf_free(model->ctx, config);
    free(inputs_text);
    free(task_text);
    json_decref(inputs);
    json_decref(task);
    return status;
}

/* ---- Loading ----------------------------------------------------------------------------- */

static bool read_kind(const char *text, mmf_modality_kind *out)
{
    for (int k = MMF_VECTOR; text && k <= MMF_VIDEO; k++) {
        if (strcmp(text, mmf_modality_kind_name((mmf_modality_kind)k)) == 0) {
            *out = (mmf_modality_kind)k;
            return true;
        }
    }
    return false;
}

/* @param left  elements that the sample may still have */
static bool read_input(const json_t *object, mmf_input_schema *in, int64_t *left)
{
    static const int dims[] = {
        [MMF_VECTOR] = 1, [MMF_SEQUENCE] = 2, [MMF_IMAGE] = 3, [MMF_TOKENS] = 1, [MMF_VIDEO] = 4};
    const json_t *const shape = json_object_get(object, "shape");
    in->name = json_string_value(json_object_get(object, "name"));
    if (!in->name || !read_kind(json_string_value(json_object_get(object, "kind")), &in->kind) ||
        (int)json_array_size(shape) != dims[in->kind])
        return false;
    in->n_dims = dims[in->kind];
    int64_t count = 1;
    for (int d = 0; d < in->n_dims; d++) {
        in->shape[d] = json_integer_value(json_array_get(shape, (size_t)d));
        if (in->shape[d] < 1 || in->shape[d] > INT32_MAX)
            return false;
        if (__builtin_mul_overflow(count, in->shape[d], &count) || count > *left)
            return false;
    }
    *left -= count;
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        const json_t *const width = json_object_get(object, mmf_companion_name((mmf_companion)c));
        in->companions[c] = json_integer_value(width);
        if (!width)
            continue;
        const bool timed = in->kind == MMF_SEQUENCE || in->kind == MMF_TOKENS;
        if (!timed || in->companions[c] < 1 || in->companions[c] > *left / in->shape[0])
            return false;
        *left -= in->companions[c] * in->shape[0];
    }
    in->vocab_size = json_integer_value(json_object_get(object, "vocab"));
    in->has_length = json_is_true(json_object_get(object, "length"));
    in->has_present = json_is_true(json_object_get(object, "present"));
    return in->kind != MMF_TOKENS || (in->vocab_size > 0 && in->vocab_size <= INT32_MAX);
}

/* @errors NOMEM, with a message; FORMAT without one */
static mmf_status read_inputs(mmf_ctx *ctx, const json_t *list, mmf_schema *out)
{
    const size_t n = json_array_size(list);
    int64_t left = MAX_SAMPLE;
    if (n == 0 || n > MAX_INPUTS)
        return MMF_FORMAT;
    *out = (mmf_schema){n, mmf_alloc_zero(ctx, n, sizeof *out->inputs)};
    if (!out->inputs)
        return MMF_NOMEM;
    for (size_t m = 0; m < n; m++) {
        if (!read_input(json_array_get(list, m), &out->inputs[m], &left))
            return MMF_FORMAT;
    }
    return MMF_OK;
}

/*
 * @param names  receives n_outputs pointers into `object` or NULL; the caller frees it
 * @errors       NOMEM, with a message; FORMAT without one
 */
static mmf_status read_task(mmf_ctx *ctx, const json_t *object, mmf_task *out, const char ***names)
{
    static const char *const rules[] = {"none", "mosi", "sims"};
    const char *const kind = json_string_value(json_object_get(object, "kind"));
    const char *const metrics = json_string_value(json_object_get(object, "metrics"));
    const json_t *const classes = json_object_get(object, "classes");
    for (int k = MMF_TARGET_REAL; kind && k <= MMF_TARGET_PRETRAINING; k++) {
        if (strcmp(kind, mmf_task_name((mmf_target_kind)k)) == 0)
            out->kind = (mmf_target_kind)k;
    }
    for (int r = 0; metrics && r < 3; r++) {
        if (strcmp(metrics, rules[r]) == 0)
            out->rules = (mmf_msa_rules)r;
    }
    out->n_outputs = json_integer_value(json_object_get(object, "outputs"));
    out->target = json_string_value(json_object_get(object, "target"));
    if (out->kind == MMF_TARGET_NONE || out->n_outputs < 1 || out->n_outputs > MAX_OUTPUTS ||
        !out->target)
        return MMF_FORMAT;
    if (!classes)
        return MMF_OK;
    if (json_array_size(classes) != (size_t)out->n_outputs)
        return MMF_FORMAT;
    *names = mmf_alloc_zero(ctx, (size_t)out->n_outputs, sizeof **names);
    if (!*names)
        return MMF_NOMEM;
    for (int64_t k = 0; k < out->n_outputs; k++) {
        (*names)[k] = json_string_value(json_array_get(classes, (size_t)k));
        if (!(*names)[k])
            return MMF_FORMAT;
    }
    out->class_names = *names;
    return MMF_OK;
}

/* Copies one tensor of the file into a parameter of the same shape. */
static mmf_status load_tensor(mmf_ctx *ctx, mmf_archive *archive, mmf_params *params, size_t i)
{
    const mmf_param *const param = mmf_params_at(params, i);
    const int64_t place = mmf_archive_find(archive, param->name);
    if (place < 0)
        return mmf_fail(ctx, MMF_FORMAT, "%s: tensor %s is missing", mmf_archive_path(archive),
                        param->name);
    mmf_array array = {0};
    MMF_TRY(mmf_archive_load(archive, (size_t)place, &array));
    const mmf_tensor *const t = param->tensor;
    if (array.n_dims != t->n_dims || !mmf_dtype_is_float(array.dtype) ||
        memcmp(array.shape, t->shape, (size_t)t->n_dims * sizeof *t->shape) != 0) {
        char wanted[96], found[96];
        return mmf_fail(ctx, MMF_FORMAT, "%s: tensor %s has shape %s, the model needs %s",
                        mmf_archive_path(archive), param->name,
                        mmf_shape_text(found, sizeof found, array.shape, array.n_dims),
                        mmf_shape_text(wanted, sizeof wanted, t->shape, t->n_dims));
    }
    return mmf_params__take(params, i, &array);
}

static mmf_status load_statistic(mmf_model *model, mmf_archive *archive, size_t m,
                                 const char *suffix, float **out)
{
    char name[600];
    const mmf_input_schema *const in = &mmf_module_schema(model->module)->inputs[m];
    snprintf(name, sizeof name, NORMALISATION "%s.%s", in->name, suffix);
    const int64_t place = mmf_archive_find(archive, name);
    if (place < 0)
        return MMF_OK;
    mmf_array array = {0};
    MMF_TRY(mmf_archive_load(archive, (size_t)place, &array));
    const int64_t n = mmf_input_features(in);
    if (array.n_dims != 1 || array.shape[0] != n || !mmf_dtype_is_float(array.dtype))
        return mmf_fail(model->ctx, MMF_FORMAT, "%s: tensor %s does not have %lld numbers",
                        mmf_archive_path(archive), name, (long long)n);
    *out = mmf_alloc_zero(model->ctx, (size_t)n, sizeof **out);
    if (!*out)
        return MMF_NOMEM;
    mmf_array_floats(&array, 0, n, *out);
    model->normalisation.n_features[m] = n;
    return MMF_OK;
}

static mmf_status load_normalisation(mmf_model *model, mmf_archive *archive)
{
    mmf_normalisation *const own = &model->normalisation;
    const size_t n = mmf_module_schema(model->module)->count;
    own->n_modalities = n;
    own->n_features = mmf_alloc_zero(model->ctx, n + 1, sizeof *own->n_features);
    own->mean = mmf_alloc_zero(model->ctx, n + 1, sizeof *own->mean);
    own->scale = mmf_alloc_zero(model->ctx, n + 1, sizeof *own->scale);
    if (!own->n_features || !own->mean || !own->scale)
        return MMF_NOMEM;
    for (size_t m = 0; m < n; m++) {
        MMF_TRY(load_statistic(model, archive, m, "mean", &own->mean[m]));
        MMF_TRY(load_statistic(model, archive, m, "scale", &own->scale[m]));
        if (!own->mean[m] != !own->scale[m])
            return mmf_fail(
                model->ctx, MMF_FORMAT, "%s: half of the normalisation of %s is missing",
                mmf_archive_path(archive), mmf_module_schema(model->module)->inputs[m].name);
    }
    return MMF_OK;
}

/* "normalisation.<input>.mean" or "....scale". */
static bool is_statistic(const mmf_model *model, const char *name)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    char wanted[600];
    for (size_t i = 0; i < 2 * schema->count; i++) {
        snprintf(wanted, sizeof wanted, NORMALISATION "%s.%s", schema->inputs[i / 2].name,
                 i % 2 ? "scale" : "mean");
        if (strcmp(wanted, name) == 0)
            return true;
    }
    return false;
}

static mmf_status load_tensors(mmf_model *model, mmf_archive *archive)
{
    mmf_params *const params = mmf_module_params(model->module);
    for (size_t i = 0; i < mmf_params_count(params); i++)
        MMF_TRY(load_tensor(model->ctx, archive, params, i));
    for (size_t i = 0; i < mmf_archive_count(archive); i++) {
        const char *const name = mmf_archive_name(archive, i);
        if (!mmf_params_find(params, name) && !is_statistic(model, name))
            return mmf_fail(model->ctx, MMF_FORMAT, "%s: tensor %s is not part of model %s",
                            mmf_archive_path(archive), name, model->name);
    }
    MMF_TRY(load_normalisation(model, archive));
    mmf_map_release(&archive->mapping, archive->bytes, archive->n_bytes);
    return MMF_OK;
}

/* The parts of the metadata, parsed. */
typedef struct file_facts {
    json_t *inputs_json, *task_json;
    mmf_schema inputs;
    mmf_task task;
    const char **class_names;
} file_facts;

static mmf_status read_facts(mmf_ctx *ctx, const mmf_archive *archive, file_facts *facts)
{
    const char *const path = mmf_archive_path(archive);
    const char *const layout = mmf_archive_metadata(archive, "mmfuse");
    if (!layout)
        return mmf_fail(ctx, MMF_FORMAT, "%s: not a model file of mmfuse", path);
    if (strcmp(layout, LAYOUT) != 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "%s: written by a newer mmfuse (layout %s)", path,
                        layout);
    const char *const inputs = mmf_archive_metadata(archive, "inputs");
    const char *const task = mmf_archive_metadata(archive, "task");
    facts->inputs_json = inputs ? json_loads(inputs, JSON_REJECT_DUPLICATES, NULL) : NULL;
    facts->task_json = task ? json_loads(task, JSON_REJECT_DUPLICATES, NULL) : NULL;
    mmf_status status = read_inputs(ctx, facts->inputs_json, &facts->inputs);
    if (status == MMF_FORMAT)
        mmf_fail(ctx, MMF_FORMAT, "%s: the metadata's inputs are damaged", path);
    if (status != MMF_OK)
        return status;
    status = read_task(ctx, facts->task_json, &facts->task, &facts->class_names);
    if (status == MMF_FORMAT)
        mmf_fail(ctx, MMF_FORMAT, "%s: the metadata's task is damaged", path);
    return status;
}

/* Parameters that a file may ask for: hardly more than the numbers it holds to fill them with. */
static int64_t most_parameters(const mmf_archive *archive)
{
    int64_t n = SLACK;
    for (size_t i = 0; i < mmf_archive_count(archive); i++)
        n += mmf_array_count(mmf_archive_header(archive, i));
    return n;
}

/* The head puts out what the configuration says; predictions are read as the task says. */
static mmf_status check_task(mmf_ctx *ctx, const mmf_config *config, const mmf_task *task)
{
    const char *const mode = mmf_config_text(config, "train_mode");
    int64_t outputs = task->kind == MMF_TARGET_REAL ? 1 : mmf_config_int(config, "num_classes");
    if (task->kind == MMF_TARGET_RETRIEVAL) /* check_features looks at the model itself */
        outputs = task->n_outputs;
    if (strcmp(mode, mmf_task_name(task->kind)) == 0 && outputs == task->n_outputs)
        return MMF_OK;
    return mmf_fail(
        ctx, MMF_FORMAT, "the metadata's task is %s with %lld outputs, its config %s with %lld",
        mmf_task_name(task->kind), (long long)task->n_outputs, mode, (long long)outputs);
}

static mmf_status check_features(mmf_ctx *ctx, const mmf_module *module, const mmf_task *task)
{
    const bool has_features = mmf_module_def(module)->takes & (MMF_RETRIEVES | MMF_COMMON_WIDTH);
    const int64_t outputs =
        has_features ? mmf_module_width(module) * (int64_t)mmf_module_schema(module)->count : 0;
    if (task->kind != MMF_TARGET_RETRIEVAL || outputs == task->n_outputs)
        return MMF_OK;
    return mmf_fail(ctx, MMF_FORMAT,
                    "the metadata's task is retrieval with %lld features, the model has %lld",
                    (long long)task->n_outputs, (long long)outputs);
}

static mmf_status build_model(mmf_ctx *ctx, mmf_model **out, mmf_archive *archive,
                              const file_facts *facts)
{
    const char *const path = mmf_archive_path(archive);
    const char *const name = mmf_archive_metadata(archive, "model");
    const char *const json = mmf_archive_metadata(archive, "config");
    const mmf_def *const def = name ? mmf_model_find(name) : NULL;
    if (!def)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "%s: model \"%s\" is not in the catalogue", path,
                        name ? name : "");
    mmf_config *config = NULL;
    MMF_TRY(mmf_config_create(ctx, &config, def));
    mmf_status status = mmf_config_set_json(config, json ? json : "{}");
    mmf_module *module = NULL;
    if (status == MMF_OK)
        status = check_task(ctx, config, &facts->task);
    if (status == MMF_OK)
        status = mmf_module__create_as(
            ctx, &module, def, config, &facts->inputs,
            &(mmf_module_making){.max_elements = most_parameters(archive), .for_inference = true});
    mmf_config_free(config);
    if (status == MMF_OK) {
        status = check_features(ctx, module, &facts->task);
        if (status != MMF_OK)
            mmf_module_free(module);
    }
    if (status != MMF_OK)
        return mmf_fail_within(ctx, status, "%s: ", path);
    MMF_TRY(mmf_model__create(ctx, out, module, name, &facts->task,
                              mmf_archive_metadata(archive, "record")));
    MMF_TRY(mmf_model__set_preparations(*out, mmf_archive_metadata(archive, "preparations")));
    const json_t *const scale = json_object_get(facts->task_json, "scale");
    (*out)->target_shift = json_number_value(json_object_get(facts->task_json, "shift"));
    (*out)->target_scale = scale ? json_number_value(scale) : 1;
    return load_tensors(*out, archive);
}

static void close_archive(void *archive)
{
    mmf_archive_close(archive);
}

mmf_status mmf_model_load(mmf_ctx *ctx, mmf_model **out, const char *path)
{
    *out = NULL;
    mmf_archive *archive = NULL;
    file_facts facts = {0};
    MMF_TRY(mmf_archive__open_as(ctx, &archive, path, "safetensors"));
    mmf_status status = read_facts(ctx, archive, &facts);
    if (status == MMF_OK)
        status = build_model(ctx, out, archive, &facts);
    mmf_free(ctx, facts.inputs.inputs);
    mmf_free(ctx, facts.class_names);
    json_decref(facts.inputs_json);
    json_decref(facts.task_json);
    if (status == MMF_OK) {
        mmf_params__keep_lender(mmf_module_params((*out)->module), archive, close_archive);
        return MMF_OK;
    }
    mmf_model_free(*out);
    *out = NULL;
    mmf_archive_close(archive);
    return status;
}

/* Options of the model in `json` that are at their defaults in `config`. */
static mmf_status take_options(mmf_config *config, const char *json)
{
    const mmf_def *const def = mmf_config_def(config);
    json_t *const all = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    json_t *const taken = json_object();
    for (const mmf_option *row = mmf_option_next(def, NULL); row; row = mmf_option_next(def, row)) {
        json_t *const value = json_object_get(all, row->name);
        if (value && !json_is_null(value) && !mmf_option_is_common(row) &&
            !mmf_config_is_set(config, row->name))
            json_object_set(taken, row->name, value);
    }
    char *const text = json_dumps(taken, JSON_COMPACT | JSON_REAL_PRECISION(17));
    const mmf_status status = text ? mmf_config_set_json(config, text) : MMF_NOMEM;
    free(text);
    json_decref(taken);
    json_decref(all);
    return status;
}

mmf_status mmf_model__take_options(mmf_ctx *ctx, mmf_config *config, const char *path)
{
    mmf_archive *archive = NULL;
    MMF_TRY(mmf_archive__open_as(ctx, &archive, path, "safetensors"));
    mmf_status status = MMF_OK;
    const char *const name = mmf_archive_metadata(archive, "model");
    const char *const json = mmf_archive_metadata(archive, "config");
    if (mmf_archive_metadata(archive, "mmfuse") && name && json &&
        mmf_model_find(name) == mmf_config_def(config))
        status = take_options(config, json);
    if (status != MMF_OK)
        status = mmf_fail_within(ctx, status, "%s: ", path);
    mmf_archive_close(archive);
    return status;
}
