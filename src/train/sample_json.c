/* sample_json.c: one sample as a JSON object, predicted; see mmfuse/tool.h. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "mmfuse/tool.h"
#include "train/model_parts.h"

/* Memory of the numbers of one modality. */
typedef struct parsed {
    float *values;
    int64_t *tokens;
    int64_t length;
    bool absent;
    float *companions[MMF_N_COMPANIONS];
} parsed;

static const char id_key[] = "id";

/* Where numbers go while the nested arrays are read. */
typedef struct reader {
    mmf_ctx *ctx;
    const mmf_input_schema *in;
    parsed *out;
    int64_t count;
    size_t place[MMF_MAX_DIMS]; /* of the element that is being read, a level each */
} reader;

/* ---- What does not fit, in words ----------------------------------------------------------- */

static bool may_be_short(const mmf_input_schema *in, int level)
{
    return level == 0 && mmf_input_knows_padding(in);
}

/* "a list of up to 40 steps, each a list of 74 numbers" */
static void describe_wanted(const mmf_input_schema *in, mmf_text *out)
{
    /* What the lists of each level hold, as far as it is not numbers. */
    static const char *const levels[][MMF_MAX_DIMS] = {
        [MMF_SEQUENCE] = {"step"},
        [MMF_IMAGE] = {"channel", "row"},
        [MMF_VIDEO] = {"frame", "channel", "row"},
    };
    for (int d = 0; d < in->n_dims; d++) {
        const bool is_whole = in->kind == MMF_TOKENS;
        const bool is_last = d + 1 == in->n_dims;
        const char *const what = !is_last   ? levels[in->kind][d]
                                 : is_whole ? "whole number"
                                            : "number";
        mmf_text_add(out, "%sa list of %s%lld %s%s", d ? ", each " : "",
                     may_be_short(in, d) ? "up to " : "", (long long)in->shape[d], what,
                     in->shape[d] == 1 ? "" : "s");
    }
}

static void describe_found(const json_t *value, mmf_text *out)
{
    const size_t n = json_array_size(value);
    if (json_is_array(value) && n > 0)
        mmf_text_add(out, "a list of %zu%s", n,
                     !json_is_array(json_array_get(value, 0)) ? ""
                     : n == 1                                 ? " list"
                                                              : " lists");
    else if (json_is_number(value))
        mmf_text_add(out, "the number %g", json_number_value(value));
    else
        mmf_text_add(out, "%s",
                     json_is_array(value)    ? "an empty list"
                     : json_is_string(value) ? "a text"
                     : json_is_object(value) ? "an object"
                     : json_is_true(value)   ? "true"
                     : json_is_false(value)  ? "false"
                                             : "null");
}

/* "sound: expected a list of 3 numbers; sound[2] is a text". Places count from 0, as in JSON. */
static mmf_status wrong_shape(const reader *r, int level, const json_t *value)
{
    mmf_text text = {.ctx = r->ctx};
    describe_wanted(r->in, &text);
    mmf_text_add(&text, "; %s", level > 0 ? r->in->name : "it");
    for (int d = 0; d < level; d++)
        mmf_text_add(&text, "[%zu]", r->place[d]);
    mmf_text_add(&text, " is ");
    describe_found(value, &text);
    const mmf_status status =
        text.status == MMF_OK ? mmf_fail(r->ctx, MMF_ARG, "%s: expected %s", r->in->name, text.data)
                              : text.status;
    mmf_text_clear(&text);
    return status;
}

/* ---- Reading ------------------------------------------------------------------------------- */

static mmf_status read_number(reader *r, const json_t *value)
{
    const bool is_token = r->in->kind == MMF_TOKENS;
    if (is_token ? !json_is_integer(value) : !json_is_number(value))
        return wrong_shape(r, r->in->n_dims, value);
    if (is_token) {
        r->out->tokens[r->count++] = json_integer_value(value);
    } else {
        r->out->values[r->count++] = (float)json_number_value(value);
    }
    return MMF_OK;
}

/* Depth is that of the schema (at most 4), never that of the input. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static mmf_status read_level(reader *r, const json_t *value, int level)
{
    if (level == r->in->n_dims)
        return read_number(r, value);
    const size_t n = json_array_size(value), wanted = (size_t)r->in->shape[level];
    const bool is_short = may_be_short(r->in, level);
    if (!json_is_array(value) || n == 0 || (is_short ? n > wanted : n != wanted))
        return wrong_shape(r, level, value);
    if (level == 0 && mmf_modality_has_steps(r->in->kind))
        r->out->length = (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        r->place[level] = i;
        MMF_TRY(read_level(r, json_array_get(value, i), level + 1));
    }
    return MMF_OK;
}

static mmf_status read_modality(mmf_ctx *ctx, const mmf_input_schema *in, const json_t *value,
                                parsed *out)
{
    out->absent = !value || json_is_null(value);
    if (out->absent)
        return MMF_OK;
    size_t n = 1;
    for (int d = 0; d < in->n_dims; d++)
        n *= (size_t)in->shape[d];
    if (in->kind == MMF_TOKENS)
        out->tokens = mmf_alloc_zero(ctx, n, sizeof *out->tokens);
    else
        out->values = mmf_alloc_zero(ctx, n, sizeof *out->values);
    if (!out->tokens && !out->values)
        return MMF_NOMEM;
    reader r = {.ctx = ctx, .in = in, .out = out};
    return read_level(&r, value, 0);
}

/* "<modality>.box" and its like, for as many steps as the modality has. */
static mmf_status read_companions(mmf_ctx *ctx, const mmf_input_schema *in, const json_t *sample,
                                  parsed *out)
{
    for (int c = 0; c < MMF_N_COMPANIONS && !out->absent; c++) {
        char key[400];
        snprintf(key, sizeof key, "%s.%s", in->name, mmf_companion_name((mmf_companion)c));
        const json_t *const value = json_object_get(sample, key);
        if (in->companions[c] == 0 || !value)
            continue;
        const mmf_input_schema own = {.name = key,
                                      .kind = MMF_SEQUENCE,
                                      .has_length = mmf_input_knows_padding(in),
                                      .n_dims = mmf_companion_is_whole((mmf_companion)c) ? 1 : 2,
                                      .shape = {in->shape[0], in->companions[c]}};
        parsed part = {0};
        const mmf_status status = read_modality(ctx, &own, value, &part);
        out->companions[c] = part.values;
        MMF_TRY(status);
        if (part.length != out->length)
            return mmf_fail(ctx, MMF_ARG, "%s has %lld steps, %s has %lld", key,
                            (long long)part.length, in->name, (long long)out->length);
    }
    return MMF_OK;
}

static bool is_companion_key(const mmf_schema *schema, const char *key)
{
    const char *const dot = strrchr(key, '.');
    for (size_t m = 0; dot && m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        const size_t n = (size_t)(dot - key);
        if (strlen(in->name) != n || strncmp(in->name, key, n) != 0)
            continue;
        for (int c = 0; c < MMF_N_COMPANIONS; c++) {
            if (in->companions[c] > 0 && strcmp(dot + 1, mmf_companion_name((mmf_companion)c)) == 0)
                return true;
        }
    }
    return false;
}

static mmf_status check_keys(const mmf_model *model, const json_t *object)
{
    const mmf_schema *const schema = mmf_model_inputs(model);
    const char *names[64] = {0};
    size_t n = 0, n_given = 0;
    for (size_t m = 0; m < schema->count && n < 64; m++)
        names[n++] = schema->inputs[m].name;
    for (void *at = json_object_iter((json_t *)(uintptr_t)object); at;
         at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *const key = json_object_iter_key(at);
        const char *const nearest = mmf_text_nearest(key, names, n);
        n_given += mmf_schema_find(schema, key) && !json_is_null(json_object_iter_value(at));
        if (!mmf_schema_find(schema, key) && strcmp(key, id_key) != 0 &&
            !is_companion_key(schema, key))
            return mmf_fail(model->ctx, MMF_ARG, "the model has no modality \"%s\"%s%s%s", key,
                            nearest ? "; did you mean \"" : "", nearest ? nearest : "",
                            nearest ? "\"?" : "");
    }
    return n_given > 0 ? MMF_OK
                       : mmf_fail(model->ctx, MMF_ARG,
                                  "the sample holds none of the model's modalities, such as \"%s\"",
                                  names[0]);
}

static void read_id(const json_t *object, char *id, size_t size)
{
    const json_t *const value = json_object_get(object, id_key);
    if (json_is_integer(value))
        snprintf(id, size, "%lld", (long long)json_integer_value(value));
    else
        snprintf(id, size, "%s", json_is_string(value) ? json_string_value(value) : "");
}

/* As in data without lengths: zeros at the end of tokens are padding. */
static int64_t steps_of(const mmf_input_schema *in, const parsed *part)
{
    int64_t n = part->length;
    while (in->kind == MMF_TOKENS && !in->has_length && n > 1 && part->tokens[n - 1] == 0)
        n--;
    return n;
}

static mmf_status predict(mmf_model *model, const json_t *object, parsed *parts, double *out)
{
    const mmf_schema *const schema = mmf_model_inputs(model);
    mmf_sample *const samples = mmf_alloc_zero(model->ctx, schema->count, sizeof *samples);
    mmf_status status = samples ? check_keys(model, object) : MMF_NOMEM;
    for (size_t m = 0; status == MMF_OK && m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        status = read_modality(model->ctx, in, json_object_get(object, in->name), &parts[m]);
        if (status == MMF_OK)
            status = read_companions(model->ctx, in, object, &parts[m]);
        samples[m] = (mmf_sample){.values = parts[m].values,
                                  .tokens = parts[m].tokens,
                                  .length = steps_of(in, &parts[m]),
                                  .absent = parts[m].absent};
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            samples[m].companions[c] = parts[m].companions[c];
    }
    if (status == MMF_OK)
        status = mmf_model_predict(model, samples, out);
    mmf_free(model->ctx, samples);
    return status;
}

mmf_status mmf_model_predict_json(mmf_model *model, const char *json, size_t n_bytes, double *out,
                                  char *id, size_t id_size)
{
    json_error_t error;
    json_t *const object = json_loadb(json, n_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return mmf_fail(model->ctx, MMF_FORMAT, "sample: %s (line %d, column %d)",
                        object ? "not an object" : error.text, object ? 1 : error.line,
                        object ? 1 : error.column);
    }
    const size_t n = mmf_model_inputs(model)->count;
    parsed *const parts = mmf_alloc_zero(model->ctx, n, sizeof *parts);
    read_id(object, id, id_size);
    const mmf_status status = parts ? predict(model, object, parts, out) : MMF_NOMEM;
    for (size_t m = 0; parts && m < n; m++) {
        mmf_free(model->ctx, parts[m].values);
        mmf_free(model->ctx, parts[m].tokens);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            mmf_free(model->ctx, parts[m].companions[c]);
    }
    mmf_free(model->ctx, parts);
    json_decref(object);
    return status;
}
