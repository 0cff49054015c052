/*
 * verify.c: a golden file against our own computation: outputs, gradients of parameters and inputs,
 * and buffers after a training step.
 *
 * The gradients are those of `loss` in the metadata, "sum(output.NAME * cotangent)" or a scalar
 * output's name. What is allowed is in golden_check.h.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "mmfuse/tool.h"
#include "tasks/golden_metrics.h"
#include "train/golden_check.h"
#include "train/model_parts.h"

#define MAX_INPUTS 64

typedef struct verifier {
    mmf_ctx *ctx;
    mmf_archive *archive;
    mmf_check check;
    json_t *config;
    mmf_module *module;
    mmf_tape *tape;
    mmf_named in, out;
    mmf_real **inputs; /* memory of real inputs, one an entry of the archive */
    int64_t **integers;
} verifier;

static mmf_status load(verifier *v, size_t i, mmf_array *out)
{
    return mmf_archive_load(v->archive, i, out);
}

static const char *after(const char *name, const char *prefix)
{
    const size_t n = strlen(prefix);
    return strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

/* ---- Inputs ------------------------------------------------------------------------------ */

/* A golden input is a modality unless it is the target or describes a modality ("text.length",
 * "history.text"). */
static bool is_modality(const verifier *v, const char *name)
{
    const char *const dot = strrchr(name, '.');
    if (strcmp(name, "label") == 0) /* the target, as training passes name it */
        return false;
    if (!dot)
        return true;
    char before[300], behind[300];
    snprintf(before, sizeof before, "input.%.*s", (int)(dot - name), name);
    snprintf(behind, sizeof behind, "input.%s", dot + 1);
    return mmf_archive_find(v->archive, before) < 0 && mmf_archive_find(v->archive, behind) < 0;
}

static mmf_modality_kind kind_of(const mmf_array *array)
{
    if (array->n_dims == 5)
        return MMF_VIDEO;
    if (array->n_dims == 4)
        return MMF_IMAGE;
    if (array->n_dims == 3)
        return MMF_SEQUENCE;
    return mmf_dtype_is_integer(array->dtype) ? MMF_TOKENS : MMF_VECTOR;
}

static bool has_part(const verifier *v, const char *name, const char *part)
{
    char key[400];
    snprintf(key, sizeof key, "input.%s.%s", name, part);
    return mmf_archive_find(v->archive, key) >= 0;
}

/* Numbers a step of "input.<name>.<part>"; 0: there is none. */
static int64_t companion_width(const verifier *v, const char *name, const char *part)
{
    char key[400];
    snprintf(key, sizeof key, "input.%s.%s", name, part);
    const int64_t place = mmf_archive_find(v->archive, key);
    if (place < 0)
        return 0;
    const mmf_array *const header = mmf_archive_header(v->archive, (size_t)place);
    return header->n_dims > 2 ? header->shape[2] : 1;
}

static mmf_status read_schema(verifier *v, mmf_schema *out)
{
    *out = (mmf_schema){0, mmf_alloc_zero(v->ctx, MAX_INPUTS, sizeof *out->inputs)};
    if (!out->inputs)
        return MMF_NOMEM;
    for (size_t i = 0; i < mmf_archive_count(v->archive); i++) {
        const char *const name = after(mmf_archive_name(v->archive, i), "input.");
        const mmf_array *const header = mmf_archive_header(v->archive, i);
        if (!name || header->n_dims < 1 || !is_modality(v, name))
            continue;
        if (out->count == MAX_INPUTS)
            return mmf_fail(v->ctx, MMF_LIMIT, "more than %d inputs", MAX_INPUTS);
        mmf_input_schema *const in = &out->inputs[out->count++];
        *in = (mmf_input_schema){.name = name,
                                 .kind = kind_of(header),
                                 .n_dims = header->n_dims - 1,
                                 .has_length = has_part(v, name, "length"),
                                 .has_present = has_part(v, name, "present")};
        for (int d = 1; d < header->n_dims; d++)
            in->shape[d - 1] = header->shape[d];
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            in->companions[c] = companion_width(v, name, mmf_companion_name((mmf_companion)c));
    }
    return out->count > 0 ? MMF_OK : mmf_fail(v->ctx, MMF_FORMAT, "there are no inputs");
}

static mmf_status put_input(verifier *v, size_t i)
{
    const char *const name = after(mmf_archive_name(v->archive, i), "input.");
    mmf_array array = {0};
    MMF_TRY(load(v, i, &array));
    const int64_t n = mmf_array_count(&array);
    mmf_tensor *tensor = NULL;
    const char *const dot = strrchr(name, '.');
    /* 0/1, stored as either type */
    const bool is_flag = (dot && strcmp(dot, ".present") == 0) || strcmp(name, "adjacency") == 0;
    if (mmf_dtype_is_integer(array.dtype) && !is_flag) {
        v->integers[i] = mmf_alloc(v->ctx, ((size_t)n + 1) * sizeof **v->integers);
        if (!v->integers[i])
            return MMF_NOMEM;
        for (int64_t j = 0; j < n; j++)
            v->integers[i][j] = mmf_array_integer(&array, j);
        tensor = mmf_input_ints(v->tape, v->integers[i], array.n_dims, array.shape);
    } else {
        v->inputs[i] = mmf_alloc(v->ctx, ((size_t)n + 1) * sizeof **v->inputs);
        if (!v->inputs[i])
            return MMF_NOMEM;
        for (int64_t j = 0; j < n; j++)
            v->inputs[i][j] = (mmf_real)mmf_array_number(&array, j);
        tensor = mmf_variable(v->tape, v->inputs[i], array.n_dims, array.shape);
    }
    mmf_named_put(v->tape, &v->in, name, tensor);
    return MMF_OK;
}

/* "sum(output.NAME * cotangent)" or "output.NAME" or "NAME"; false if nothing is differentiated. */
static bool loss_output(const char *loss, char *out, size_t size)
{
    if (!loss || strncmp(loss, "none", 4) == 0 || strcmp(loss, "-") == 0)
        return false;
    const char *const start = strstr(loss, "output.");
    const char *const name = start ? start + strlen("output.") : loss;
    const size_t n = strcspn(name, " *)");
    snprintf(out, size, "%.*s", (int)n, name);
    return true;
}

/* ---- Weights ----------------------------------------------------------------------------- */

/* A tied weight may be stored under all of its names or under one. */
static bool is_stored(const verifier *v, const mmf_param *param)
{
    const mmf_params *const params = mmf_module_params(v->module);
    char key[700];
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        snprintf(key, sizeof key, "weight.%s", p->name);
        if (p->tensor == param->tensor && mmf_archive_find(v->archive, key) >= 0)
            return true;
    }
    return false;
}

/* The name before that of `param` under which its tensor has been loaded; NULL: none. */
static const char *loaded_as(const verifier *v, const mmf_param *param)
{
    const mmf_params *const params = mmf_module_params(v->module);
    char key[700];
    for (size_t i = 0; mmf_params_at(params, i) != param; i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        snprintf(key, sizeof key, "weight.%s", p->name);
        if (p->tensor == param->tensor && mmf_archive_find(v->archive, key) >= 0)
            return p->name;
    }
    return NULL;
}

static mmf_status load_weight(verifier *v, const mmf_param *param)
{
    char key[700], wanted[96], found[96];
    snprintf(key, sizeof key, "weight.%s", param->name);
    const int64_t place = mmf_archive_find(v->archive, key);
    if (place < 0) {
        /* Constants of the configuration need no weight in the file; what serves losses of training
         * alone shows in them. */
        if (param->role != MMF_PARAM_FIXED && !param->for_losses && !is_stored(v, param))
            mmf_check_tell(&v->check, key, NAN, NAN, false, "is not in the file");
        return MMF_OK;
    }
    mmf_array array = {0};
    MMF_TRY(load(v, (size_t)place, &array));
    const mmf_tensor *const t = param->tensor;
    if (!mmf_check_same_shape(&array, t))
        return mmf_fail(v->ctx, MMF_SHAPE, "%s has shape %s, our parameter has %s", key,
                        mmf_shape_text(found, sizeof found, array.shape, array.n_dims),
                        mmf_shape_text(wanted, sizeof wanted, t->shape, t->n_dims));
    const char *const before = loaded_as(v, param);
    for (int64_t i = 0; i < t->count; i++) {
        const mmf_real value = (mmf_real)mmf_array_number(&array, i);
        if (before && value != t->data[i])
            return mmf_fail(v->ctx, MMF_FORMAT,
                            "%s: the model has one weight for this and for %s, but the file has "
                            "different values",
                            key, before);
        t->data[i] = value;
    }
    return MMF_OK;
}

/* Books that references keep in their state and nothing is computed from: the batches that batch
 * norm has seen, the format version of fairseq's layers, the type of its position table, the
 * numbers 0, 1, 2, ... of BERT's positions. */
static bool is_bookkeeping(const char *name)
{
    static const char *const ends[] = {"num_batches_tracked", ".version", "._float_tensor",
                                       "position_ids"};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t n = strlen(ends[i]);
        if (length >= n && strcmp(name + length - n, ends[i]) == 0)
            return true;
    }
    return false;
}

/* Of a file with gradients: nothing that it differentiates depends on the weight. */
static bool is_unused(const verifier *v, const char *name)
{
    char key[700];
    char loss[300];
    snprintf(key, sizeof key, "grad.%s", name);
    return loss_output(mmf_archive_metadata(v->archive, "loss"), loss, sizeof loss) &&
           mmf_archive_find(v->archive, key) < 0;
}

static mmf_status load_weights(verifier *v)
{
    const mmf_params *const params = mmf_module_params(v->module);
    for (size_t i = 0; i < mmf_params_count(params); i++)
        MMF_TRY(load_weight(v, mmf_params_at(params, i)));
    for (size_t i = 0; i < mmf_archive_count(v->archive); i++) {
        const char *const entry = mmf_archive_name(v->archive, i);
        const char *const name = after(entry, "weight.");
        if (name && !is_bookkeeping(name) && !is_unused(v, name) && !mmf_params_find(params, name))
            mmf_check_tell(&v->check, entry, NAN, NAN, false, "is not a parameter of the model");
    }
    return MMF_OK;
}

/* ---- Running ----------------------------------------------------------------------------- */

/* The references ran without dropout, whether their configurations say so or not. */
static mmf_status without_dropout(mmf_config *config, const mmf_def *def)
{
    for (const mmf_option *row = mmf_option_next(def, NULL); row; row = mmf_option_next(def, row)) {
        const bool real = row->type == MMF_OPTION_REAL || row->type == MMF_OPTION_REALS;
        if (real && strstr(row->name, "dropout"))
            MMF_TRY(mmf_config_set(config, row->name, "0"));
    }
    return MMF_OK;
}

static mmf_status build(verifier *v)
{
    const char *const name = mmf_archive_metadata(v->archive, "model");
    const char *const json = mmf_archive_metadata(v->archive, "config");
    const mmf_def *const def = name ? mmf_definition_find(name) : NULL;
    if (!def)
        return mmf_fail(v->ctx, MMF_UNSUPPORTED, "\"%s\" is not in the catalogue",
                        name ? name : "");
    mmf_schema schema = {0};
    mmf_config *config = NULL;
    mmf_status status = mmf_config_create(v->ctx, &config, def);
    if (status == MMF_OK)
        status = mmf_config_set_json(config, json ? json : "{}");
    if (status == MMF_OK)
        status = without_dropout(config, def);
    if (status == MMF_OK)
        status = read_schema(v, &schema);
    if (status == MMF_OK)
        status = mmf_module_create(v->ctx, &v->module, def, config, &schema, 0);
    mmf_free(v->ctx, schema.inputs);
    mmf_config_free(config);
    return status == MMF_OK ? load_weights(v) : status;
}

static mmf_status run(verifier *v)
{
    const char *const mode = json_string_value(json_object_get(v->config, "mode"));
    const bool training = mode && strcmp(mode, "train") == 0;
    const mmf_step step = {.training = training};
    mmf_tape_begin(v->tape, &(mmf_pass){.record = true, .training = training});
    for (size_t i = 0; i < mmf_archive_count(v->archive); i++) {
        if (after(mmf_archive_name(v->archive, i), "input."))
            MMF_TRY(put_input(v, i));
    }
    mmf_module_run(v->module, v->tape, &v->in, &step, &v->out);
    return mmf_tape_status(v->tape);
}

static mmf_status backward(verifier *v, bool *done)
{
    char name[300];
    *done = loss_output(mmf_archive_metadata(v->archive, "loss"), name, sizeof name);
    if (!*done)
        return MMF_OK;
    mmf_tensor *const out = mmf_named_get(&v->out, name);
    if (!out)
        return mmf_fail(v->ctx, MMF_FORMAT, "the differentiated output \"%s\" is not computed",
                        name);
    mmf_real *const cotangent = mmf_alloc(v->ctx, ((size_t)out->count + 1) * sizeof *cotangent);
    if (!cotangent)
        return MMF_NOMEM;
    const int64_t place = mmf_archive_find(v->archive, "cotangent");
    mmf_array array = {0};
    mmf_status status = place >= 0 ? load(v, (size_t)place, &array) : MMF_OK;
    if (place < 0 && out->count > 1)
        status = mmf_fail(v->ctx, MMF_FORMAT, "there is no cotangent for output.%s", name);
    if (status == MMF_OK && place >= 0 && !mmf_check_same_shape(&array, out))
        status = mmf_fail(v->ctx, MMF_FORMAT, "cotangent and output.%s differ in shape", name);
    for (int64_t i = 0; status == MMF_OK && i < out->count; i++)
        cotangent[i] = place >= 0 ? (mmf_real)mmf_array_number(&array, i) : 1;
    if (status == MMF_OK)
        status = mmf_tape_backward_from(v->tape, out, cotangent);
    if (status == MMF_OK)
        mmf_params_finish_gradients(mmf_module_params(v->module), v->tape);
    mmf_free(v->ctx, cotangent);
    return status;
}

/* ---- Results ----------------------------------------------------------------------------- */

static void check_output(verifier *v, const char *entry, const char *name, const mmf_array *stored)
{
    const char *const buffer = after(name, "state.");
    const mmf_param *const p =
        buffer ? mmf_params_find(mmf_module_params(v->module), buffer) : NULL;
    const mmf_tensor *const t = p ? p->tensor : mmf_named_get(&v->out, name);
    /* Rows that a batch has none of are no output here. */
    if (!t && mmf_array_count(stored) == 0) {
        mmf_check_tell(&v->check, entry, 0, 0, true, NULL);
        return;
    }
    if (!t) {
        mmf_check_tell(&v->check, entry, NAN, NAN, false, "is not an output of the model");
        return;
    }
    mmf_check_tensor(&v->check, entry, stored, t);
}

static void check_gradient(verifier *v, const char *entry, const char *name,
                           const mmf_array *stored)
{
    const char *const input = after(name, "input.");
    const mmf_param *const p = mmf_params_find(mmf_module_params(v->module), name);
    const mmf_tensor *const t = input ? mmf_named_get(&v->in, input) : (p ? p->tensor : NULL);
    if (!t) {
        mmf_check_tell(&v->check, entry, NAN, NAN, false,
                       "is not a parameter or input of the model");
        return;
    }
    const bool reached = mmf_tensor_has_grad(v->tape, t) || p;
    mmf_real *const zeros =
        reached ? NULL : mmf_alloc_zero(v->ctx, (size_t)t->count + 1, sizeof *zeros);
    const mmf_real *const values = reached ? t->grad : zeros;
    if (values)
        mmf_check_gradient(&v->check, entry, stored, t, values);
    else
        mmf_check_tell(&v->check, entry, NAN, NAN, false, "has no gradient");
    mmf_free(v->ctx, zeros);
}

static mmf_status check_all(verifier *v, bool differentiated)
{
    for (size_t i = 0; i < mmf_archive_count(v->archive); i++) {
        const char *const entry = mmf_archive_name(v->archive, i);
        const char *const output = after(entry, "output."), *const grad = after(entry, "grad.");
        mmf_array stored = {0};
        if (!output && !grad)
            continue;
        if (grad && !differentiated) {
            mmf_check_tell(&v->check, entry, NAN, NAN, false,
                           "is of nothing: the metadata's loss names no output");
            continue;
        }
        MMF_TRY(load(v, i, &stored));
        if (output)
            check_output(v, entry, output, &stored);
        else
            check_gradient(v, entry, grad, &stored);
    }
    return MMF_OK;
}

static mmf_status verify_model(verifier *v)
{
    bool differentiated = false;
    MMF_TRY(mmf_tape_create(v->ctx, &v->tape));
    MMF_TRY(build(v));
    MMF_TRY(run(v));
    MMF_TRY(backward(v, &differentiated));
    return check_all(v, differentiated);
}

/* ---- Metrics ----------------------------------------------------------------------------- */

static void check_metric(void *user, const char *name, const double *values, int64_t count)
{
    verifier *const v = user;
    char entry[300];
    snprintf(entry, sizeof entry, "output.%s", name);
    const int64_t place = mmf_archive_find(v->archive, entry);
    mmf_array stored = {0};
    if (place >= 0 && load(v, (size_t)place, &stored) == MMF_OK) {
        mmf_check_metric(&v->check, entry, &stored, values, count);
        v->integers[place] = mmf_alloc(v->ctx, sizeof **v->integers); /* marks it as checked */
    }
}

static mmf_status verify_metrics(verifier *v)
{
    const size_t n = mmf_archive_count(v->archive);
    mmf_named_array *const inputs = mmf_alloc_zero(v->ctx, n + 1, sizeof *inputs);
    size_t n_inputs = 0;
    mmf_status status = inputs ? MMF_OK : MMF_NOMEM;
    for (size_t i = 0; status == MMF_OK && i < n; i++) {
        if (!after(mmf_archive_name(v->archive, i), "input."))
            continue;
        inputs[n_inputs].name = mmf_archive_name(v->archive, i);
        status = load(v, i, &inputs[n_inputs++].array);
    }
    if (status == MMF_OK)
        status = mmf_golden_metrics(v->ctx, mmf_archive_metadata(v->archive, "config"), inputs,
                                    n_inputs, check_metric, v);
    for (size_t i = 0; status == MMF_OK && i < n; i++) {
        const char *const entry = mmf_archive_name(v->archive, i);
        if (after(entry, "output.") && !v->integers[i])
            mmf_check_tell(&v->check, entry, NAN, NAN, false, "is not computed");
    }
    mmf_free(v->ctx, inputs);
    return status;
}

/* ---- The file ---------------------------------------------------------------------------- */

static mmf_status verify_archive(verifier *v)
{
    const char *const model = mmf_archive_metadata(v->archive, "model");
    const char *const config = mmf_archive_metadata(v->archive, "config");
    const size_t n = mmf_archive_count(v->archive);
    v->config = json_loads(config ? config : "{}", 0, NULL);
    v->inputs = mmf_alloc_zero(v->ctx, n + 1, sizeof *v->inputs);
    v->integers = mmf_alloc_zero(v->ctx, n + 1, sizeof *v->integers);
    if (!v->inputs || !v->integers)
        return MMF_NOMEM;
    if (!model)
        return mmf_fail(v->ctx, MMF_FORMAT, "not a golden file: the metadata names no model");
    MMF_TRY(mmf_check_open(v->ctx, &v->check, v->archive));
    return strcmp(model, "metrics") == 0 ? verify_metrics(v) : verify_model(v);
}

static void release(verifier *v)
{
    const size_t n = v->archive ? mmf_archive_count(v->archive) : 0;
    for (size_t i = 0; i < n; i++) {
        mmf_free(v->ctx, v->inputs ? v->inputs[i] : NULL);
        mmf_free(v->ctx, v->integers ? v->integers[i] : NULL);
    }
    mmf_free(v->ctx, v->inputs);
    mmf_free(v->ctx, v->integers);
    json_decref(v->config);
    mmf_check_close(&v->check);
    mmf_tape_free(v->tape);
    mmf_module_free(v->module);
    mmf_archive_close(v->archive);
}

mmf_status mmf_verify(mmf_ctx *ctx, const char *path, mmf_verify_watch *watch, void *user,
                      bool *passed)
{
    verifier v = {.ctx = ctx, .check = {.watch = watch, .user = user}};
    *passed = false;
    const char *const dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".json") == 0)
        return mmf_fail(ctx, MMF_UNSUPPORTED, "%s: metrics of text are not in the catalogue", path);
    mmf_status status = mmf_archive_open(ctx, &v.archive, path, NULL);
    if (status != MMF_OK)
        return status;
    status = verify_archive(&v);
    if (status != MMF_OK)
        status = mmf_fail_within(ctx, status, "%s: ", path);
    *passed = status == MMF_OK && v.check.passed;
    release(&v);
    return status;
}
