/* model.c: trained models and their predictions; see mmfuse/model.h. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/prepare.h"
#include "tasks/task.h"
#include "train/model_parts.h"

/* Rows of a batch in inference: enough for the matrix products, small enough for the caches. */
#define INFERENCE_BATCH 64

/* ---- Life -------------------------------------------------------------------------------- */

static int64_t sample_size(const mmf_input_schema *in)
{
    int64_t n = 1;
    for (int d = 0; d < in->n_dims; d++)
        n *= in->shape[d];
    return n;
}

static bool is_timed(const mmf_input_schema *in)
{
    return mmf_modality_has_steps(in->kind);
}

/* Predicting does without what pre-training is to find out. */
static bool is_required(int companion)
{
    return companion != MMF_COMPANION_TARGET;
}

/* Memory for one sample, so that predicting allocates nothing. */
static mmf_status allocate_sample(mmf_model *model)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    model->sample = mmf_alloc_zero(model->ctx, schema->count + 1, sizeof *model->sample);
    if (!model->sample)
        return MMF_NOMEM;
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        mmf_batch_input *const s = &model->sample[m];
        const size_t n = (size_t)sample_size(in) + 1;
        if (in->kind == MMF_TOKENS)
            s->tokens = mmf_alloc_zero(model->ctx, n, sizeof *s->tokens);
        else
            s->values = mmf_alloc_zero(model->ctx, n, sizeof *s->values);
        if (is_timed(in))
            s->length = mmf_alloc_zero(model->ctx, 1, sizeof *s->length);
        if (in->has_present)
            s->present = mmf_alloc_zero(model->ctx, 1, sizeof *s->present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++) {
            const size_t size = (size_t)(in->shape[0] * in->companions[c]);
            if (size > 0 && is_required(c))
                s->companions[c] = mmf_alloc_zero(model->ctx, size, sizeof(float));
            if (size > 0 && is_required(c) && !s->companions[c])
                return MMF_NOMEM;
        }
        if (!(s->tokens || s->values) || (is_timed(in) && !s->length) ||
            (in->has_present && !s->present))
            return MMF_NOMEM;
    }
    return MMF_OK;
}

static mmf_status copy_task(mmf_model *model, const mmf_task *task)
{
    model->task = *task;
    model->task.class_names = NULL;
    model->target = mmf_strdup(model->ctx, task->target ? task->target : "label");
    if (!model->target)
        return MMF_NOMEM;
    model->task.target = model->target;
    if (!task->class_names)
        return MMF_OK;
    model->class_names =
        mmf_alloc_zero(model->ctx, (size_t)task->n_outputs + 1, sizeof *model->class_names);
    if (!model->class_names)
        return MMF_NOMEM;
    for (int64_t k = 0; k < task->n_outputs; k++) {
        model->class_names[k] = mmf_strdup(model->ctx, task->class_names[k]);
        if (!model->class_names[k])
            return MMF_NOMEM;
    }
    model->task.class_names = (const char *const *)model->class_names;
    return MMF_OK;
}

static mmf_status fill_model(mmf_model *model, const char *name, const mmf_task *task,
                             const char *record)
{
    model->name = mmf_strdup(model->ctx, name);
    if (!model->name)
        return MMF_NOMEM;
    MMF_TRY(copy_task(model, task));
    MMF_TRY(mmf_model__set_record(model, record ? record : "{}"));
    MMF_TRY(mmf_feed_create(model->ctx, &model->feed, mmf_module_schema(model->module)));
    MMF_TRY(mmf_tape_create(model->ctx, &model->tape));
    return allocate_sample(model);
}

mmf_status mmf_model__create(mmf_ctx *ctx, mmf_model **out, mmf_module *module, const char *name,
                             const mmf_task *task, const char *record)
{
    *out = NULL;
    mmf_model *const model = mmf_alloc_zero(ctx, 1, sizeof *model);
    if (!model) {
        mmf_module_free(module);
        return MMF_NOMEM;
    }
    model->ctx = ctx;
    model->module = module;
    model->target_scale = 1;
    const mmf_status status = fill_model(model, name, task, record);
    if (status != MMF_OK) {
        mmf_model_free(model);
        return status;
    }
    *out = model;
    return MMF_OK;
}

void mmf_model_free(mmf_model *model)
{
    if (!model)
        return;
    mmf_ctx *const ctx = model->ctx;
    const size_t n = mmf_module_schema(model->module)->count;
    for (size_t m = 0; model->sample && m < n; m++) {
        mmf_free(ctx, model->sample[m].values);
        mmf_free(ctx, model->sample[m].tokens);
        mmf_free(ctx, model->sample[m].length);
        mmf_free(ctx, model->sample[m].present);
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            mmf_free(ctx, model->sample[m].companions[c]);
    }
    mmf_free(ctx, model->sample);
    if (model->feed.keys)
        mmf_feed_clear(&model->feed);
    mmf_tape_free(model->tape);
    mmf_normalisation_clear(ctx, &model->normalisation);
    for (int64_t k = 0; model->class_names && k < model->task.n_outputs; k++)
        mmf_free(ctx, model->class_names[k]);
    mmf_free(ctx, model->class_names);
    mmf_free(ctx, model->target);
    mmf_free(ctx, model->name);
    mmf_free(ctx, model->record);
    mmf_free(ctx, model->preparations);
    mmf_free(ctx, model->curve.values);
    mmf_module_free(model->module);
    mmf_free(ctx, model);
}

mmf_status mmf_model__set_record(mmf_model *model, const char *record)
{
    char *const copy = mmf_strdup(model->ctx, record);
    if (!copy)
        return MMF_NOMEM;
    mmf_free(model->ctx, model->record);
    model->record = copy;
    return MMF_OK;
}

static bool is_input(const mmf_model *model, const char *name)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    for (size_t m = 0; name && m < schema->count; m++) {
        if (strcmp(schema->inputs[m].name, name) == 0)
            return true;
    }
    return false;
}

/* Those of modalities that the model does not take are left out: nobody needs to have them. */
mmf_status mmf_model__set_preparations(mmf_model *model, const char *preparations)
{
    json_t *const all = preparations ? json_loads(preparations, 0, NULL) : NULL;
    json_t *const own = json_array();
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *const row = json_array_get(all, i);
        if (is_input(model, json_string_value(json_object_get(row, "modality"))))
            json_array_append(own, row);
    }
    char *const text =
        json_array_size(own) > 0 ? json_dumps(own, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    mmf_free(model->ctx, model->preparations);
    model->preparations = text ? mmf_strdup(model->ctx, text) : NULL;
    const bool failed = text && !model->preparations;
    free(text);
    json_decref(own);
    json_decref(all);
    return failed ? MMF_NOMEM : MMF_OK;
}

static mmf_status empty_normalisation(mmf_model *model)
{
    const size_t n = mmf_module_schema(model->module)->count;
    mmf_normalisation *const own = &model->normalisation;
    if (own->n_modalities == n)
        return MMF_OK;
    own->n_features = mmf_alloc_zero(model->ctx, n, sizeof *own->n_features);
    own->mean = mmf_alloc_zero(model->ctx, n, sizeof *own->mean);
    own->scale = mmf_alloc_zero(model->ctx, n, sizeof *own->scale);
    own->n_modalities = n;
    return own->n_features && own->mean && own->scale ? MMF_OK : MMF_NOMEM;
}

static mmf_status copy_statistics(mmf_model *model, size_t m, const mmf_normalisation *from,
                                  size_t place)
{
    mmf_normalisation *const own = &model->normalisation;
    const int64_t n = from->n_features[place];
    MMF_TRY(empty_normalisation(model));
    if (n == 0)
        return MMF_OK;
    own->mean[m] = mmf_alloc_zero(model->ctx, (size_t)n, sizeof(float));
    own->scale[m] = mmf_alloc_zero(model->ctx, (size_t)n, sizeof(float));
    if (!own->mean[m] || !own->scale[m])
        return MMF_NOMEM;
    memcpy(own->mean[m], from->mean[place], (size_t)n * sizeof(float));
    memcpy(own->scale[m], from->scale[place], (size_t)n * sizeof(float));
    own->n_features[m] = n;
    return MMF_OK;
}

mmf_status mmf_model__set_normalisation(mmf_model *model, const mmf_dataset *dataset,
                                        const mmf_normalisation *of_dataset)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    for (size_t m = 0; m < schema->count; m++) {
        const int64_t place = mmf_dataset_find(dataset, schema->inputs[m].name);
        if (place >= 0)
            MMF_TRY(copy_statistics(model, m, of_dataset, (size_t)place));
    }
    return MMF_OK;
}

mmf_status mmf_model__take_normalisation(mmf_model *model, size_t m,
                                         const mmf_normalisation *of_one)
{
    return of_one->n_modalities > 0 ? copy_statistics(model, m, of_one, 0) : MMF_OK;
}

/* ---- Facts ------------------------------------------------------------------------------- */

const char *mmf_model_name(const mmf_model *model)
{
    return model->name;
}

const mmf_task *mmf_model_task(const mmf_model *model)
{
    return &model->task;
}

const mmf_schema *mmf_model_inputs(const mmf_model *model)
{
    return mmf_module_schema(model->module);
}

mmf_module *mmf_model_module(const mmf_model *model)
{
    return model->module;
}

const char *mmf_model_preparations(const mmf_model *model)
{
    return model->preparations;
}

const char *mmf_model_record(const mmf_model *model)
{
    return model->record;
}

const mmf_normalisation *mmf_model_normalisation(const mmf_model *model)
{
    return &model->normalisation;
}

void mmf_model_set_int8(mmf_model *model, bool int8)
{
    model->int8 = int8;
}

int64_t mmf_model_n_parameters(const mmf_model *model)
{
    const mmf_params *const params = mmf_module_params(model->module);
    int64_t n = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        n += p->role == MMF_PARAM_TRAINED && !p->is_alias ? p->tensor->count : 0;
    }
    return n;
}

/* ---- Prediction -------------------------------------------------------------------------- */

/* A pass over one batch without recording; values in the target's units, until the next pass. */
static mmf_tensor *infer(mmf_model *model, const mmf_batch_input *inputs, const size_t *map,
                         int64_t n_rows, uint64_t use, bool looks, mmf_named *out)
{
    mmf_named in = {0};
    const mmf_step step = {.looks = looks};
    mmf_tape_begin(model->tape, &(mmf_pass){.fixed = true, .int8 = model->int8});
    mmf_feed_put(&model->feed, model->tape, inputs, map, n_rows, use, &in);
    mmf_module_run(model->module, model->tape, &in, &step, out);
    mmf_tensor *y = mmf_task_prediction(model->tape, &model->task, mmf_model_inputs(model), out);
    if (model->task.kind == MMF_TARGET_REAL &&
        (model->target_scale != 1 || model->target_shift != 0))
        y = mmf_affine(model->tape, y, model->target_scale, model->target_shift);
    return y;
}

/* Values of one sample, normalised as the training data were; zeros behind its length. */
static mmf_status put_values(mmf_model *model, size_t m, const mmf_sample *given, int64_t length)
{
    const mmf_input_schema *const in = &mmf_module_schema(model->module)->inputs[m];
    float *const out = model->sample[m].values;
    const int64_t n = sample_size(in);
    const int64_t valid = is_timed(in) ? length * (n / in->shape[0]) : n;
    const int64_t n_features =
        model->normalisation.n_modalities ? model->normalisation.n_features[m] : 0;
    const int64_t inner = mmf_input_pixels(in);
    for (int64_t i = 0; i < valid; i++) {
        if (!isfinite(given->values[i]))
            return mmf_fail(model->ctx, MMF_NUMERIC, "%s: value %lld is not finite", in->name,
                            (long long)i);
        const int64_t f = n_features ? i / inner % n_features : 0;
        out[i] = n_features ? (given->values[i] - model->normalisation.mean[m][f]) *
                                  model->normalisation.scale[m][f]
                            : given->values[i];
    }
    memset(out + valid, 0, (size_t)(n - valid) * sizeof *out);
    return MMF_OK;
}

static mmf_status put_tokens(mmf_model *model, size_t m, const mmf_sample *given, int64_t length)
{
    const mmf_input_schema *const in = &mmf_module_schema(model->module)->inputs[m];
    int64_t *const out = model->sample[m].tokens;
    for (int64_t i = 0; i < length; i++) {
        out[i] = given->tokens[i];
        if (out[i] < 0 || out[i] >= in->vocab_size)
            return mmf_fail(model->ctx, MMF_ARG, "%s: token %lld is %lld, the vocabulary has %lld",
                            in->name, (long long)i, (long long)out[i], (long long)in->vocab_size);
    }
    memset(out + length, 0, (size_t)(in->shape[0] - length) * sizeof *out);
    return MMF_OK;
}

static mmf_status put_companions(mmf_model *model, size_t m, const mmf_sample *given,
                                 int64_t length)
{
    const mmf_input_schema *const in = &mmf_module_schema(model->module)->inputs[m];
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        const char *const name = mmf_companion_name((mmf_companion)c);
        float *const out = model->sample[m].companions[c];
        const int64_t n = in->shape[0] * in->companions[c], valid = length * in->companions[c];
        if (!out)
            continue;
        if (!given->companions[c])
            return mmf_fail(model->ctx, MMF_ARG, "%s.%s is missing: %lld numbers a step of %s",
                            in->name, name, (long long)in->companions[c], in->name);
        memset(out + valid, 0, (size_t)(n - valid) * sizeof *out);
        memcpy(out, given->companions[c], (size_t)valid * sizeof *out);
        for (int64_t i = 0; i < valid; i++) {
            if (!isfinite(out[i]))
                return mmf_fail(model->ctx, MMF_NUMERIC, "%s.%s: value %lld is not finite",
                                in->name, name, (long long)i);
        }
    }
    return MMF_OK;
}

static mmf_status put_sample(mmf_model *model, size_t m, const mmf_sample *given, uint64_t *use)
{
    const mmf_input_schema *const in = &mmf_module_schema(model->module)->inputs[m];
    mmf_batch_input *const s = &model->sample[m];
    const int64_t steps = is_timed(in) ? in->shape[0] : 1;
    const bool absent = given->absent || !(in->kind == MMF_TOKENS ? (const void *)given->tokens
                                                                  : (const void *)given->values);
    if (absent)
        *use &= ~(UINT64_C(1) << m);
    if (s->present)
        s->present[0] = 1;
    if (s->length)
        s->length[0] = 1;
    if (absent)
        return MMF_OK;
    if (given->length < 0 || (is_timed(in) && given->length > steps))
        return mmf_fail(model->ctx, MMF_ARG, "%s: length %lld, the model takes 1 to %lld", in->name,
                        (long long)given->length, (long long)steps);
    const int64_t length = given->length ? given->length : steps;
    if (length < steps && !mmf_input_knows_padding(in))
        return mmf_fail(model->ctx, MMF_ARG,
                        "%s: %lld steps, the model takes %lld: it was trained without lengths and "
                        "does not know padding",
                        in->name, (long long)length, (long long)steps);
    if (s->length)
        s->length[0] = length;
    MMF_TRY(put_companions(model, m, given, length));
    return in->kind == MMF_TOKENS ? put_tokens(model, m, given, length)
                                  : put_values(model, m, given, length);
}

mmf_status mmf_model_predict(mmf_model *model, const mmf_sample *samples, double *out)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    uint64_t use = MMF_ALL_MODALITIES;
    for (size_t m = 0; m < schema->count; m++)
        MMF_TRY(put_sample(model, m, &samples[m], &use));
    mmf_named outputs = {0};
    const mmf_tensor *const y = infer(model, model->sample, NULL, 1, use, false, &outputs);
    MMF_TRY(mmf_tape_status(model->tape));
    for (int64_t k = 0; k < model->task.n_outputs; k++)
        out[k] = (double)y->data[k];
    return MMF_OK;
}

mmf_status mmf_model__map(const mmf_model *model, const mmf_dataset *dataset, size_t *map)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    for (size_t m = 0; m < schema->count; m++) {
        const int64_t place = mmf_dataset_find(dataset, schema->inputs[m].name);
        if (place < 0)
            return mmf_fail(model->ctx, MMF_ARG, "%s: the model needs modality \"%s\"",
                            mmf_dataset_path(dataset), schema->inputs[m].name);
        map[m] = (size_t)place;
    }
    return MMF_OK;
}

/* The model's statistics laid out as the data set's modalities; borrows the model's arrays. */
static mmf_status spread_normalisation(const mmf_model *model, const mmf_dataset *dataset,
                                       const size_t *map, mmf_normalisation *out)
{
    const size_t n = mmf_dataset_n_modalities(dataset);
    out->n_modalities = n;
    out->n_features = mmf_alloc_zero(model->ctx, n + 1, sizeof *out->n_features);
    out->mean = mmf_alloc_zero(model->ctx, n + 1, sizeof *out->mean);
    out->scale = mmf_alloc_zero(model->ctx, n + 1, sizeof *out->scale);
    if (!out->n_features || !out->mean || !out->scale)
        return MMF_NOMEM;
    for (size_t m = 0; m < model->normalisation.n_modalities; m++) {
        out->n_features[map[m]] = model->normalisation.n_features[m];
        out->mean[map[m]] = model->normalisation.mean[m];
        out->scale[map[m]] = model->normalisation.scale[m];
    }
    return MMF_OK;
}

typedef struct rows_job {
    mmf_normalisation normalisation;
    mmf_batch batch;
    size_t *map;
} rows_job;

static mmf_status predict_batch(mmf_model *model, rows_job *job, int64_t n,
                                const mmf_inference *how, double *out)
{
    mmf_named outputs = {0};
    const mmf_tensor *const y =
        infer(model, job->batch.inputs, job->map, n, how->use, how->look, &outputs);
    MMF_TRY(mmf_tape_status(model->tape));
    for (int64_t i = 0; i < n * model->task.n_outputs; i++)
        out[i] = (double)y->data[i];
    if (how->look)
        how->look(how->user, &outputs, n);
    return MMF_OK;
}

static mmf_status predict_rows(mmf_model *model, rows_job *job, mmf_dataset *dataset,
                               const int64_t *rows, int64_t n_rows, const mmf_inference *how,
                               double *out)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    MMF_TRY(mmf_model__map(model, dataset, job->map));
    MMF_TRY(spread_normalisation(model, dataset, job->map, &job->normalisation));
    const bool normalised = model->normalisation.n_modalities > 0;
    MMF_TRY(mmf_batch_create(model->ctx, &job->batch, dataset, INFERENCE_BATCH));
    MMF_TRY(mmf_feed_want(&model->feed, &job->batch, dataset, job->map));
    if (how->tracks_presence)
        MMF_TRY(mmf_batch_track_presence(&job->batch));
    job->batch.wanted = 0;
    for (size_t m = 0; m < schema->count; m++)
        job->batch.wanted |= UINT64_C(1) << job->map[m];
    for (int64_t first = 0; first < n_rows; first += INFERENCE_BATCH) {
        const int64_t n = n_rows - first < INFERENCE_BATCH ? n_rows - first : INFERENCE_BATCH;
        if (mmf_ctx_cancelled(model->ctx))
            return mmf_fail(model->ctx, MMF_CANCELLED, "interrupted while predicting");
        MMF_TRY(mmf_batch_fill(&job->batch, dataset, normalised ? &job->normalisation : NULL,
                               rows + first, n));
        if (how->change)
            how->change(how->user, &job->batch, job->map, rows + first);
        if (out)
            MMF_TRY(predict_batch(model, job, n, how, out + first * model->task.n_outputs));
    }
    return MMF_OK;
}

mmf_status mmf_model__predict_rows(mmf_model *model, mmf_dataset *dataset, const int64_t *rows,
                                   int64_t n_rows, const mmf_inference *how, double *out)
{
    rows_job job = {0};
    job.map =
        mmf_alloc_zero(model->ctx, mmf_module_schema(model->module)->count + 1, sizeof *job.map);
    const mmf_status status =
        job.map ? predict_rows(model, &job, dataset, rows, n_rows, how, out) : MMF_NOMEM;
    mmf_free(model->ctx, job.map);
    mmf_free(model->ctx, job.normalisation.n_features);
    mmf_free(model->ctx, job.normalisation.mean);
    mmf_free(model->ctx, job.normalisation.scale);
    if (job.batch.ctx)
        mmf_batch_clear(&job.batch);
    return status;
}

mmf_status mmf_model_predict_rows(mmf_model *model, mmf_dataset *dataset, const int64_t *rows,
                                  int64_t n_rows, uint64_t use, double *out)
{
    return mmf_model__predict_rows(model, dataset, rows, n_rows, &(mmf_inference){.use = use}, out);
}
