/* model_data.c: files opened for a model: its modalities in its order, raw files prepared as its
 * training data were. */
#include <stdio.h>
#include <string.h>

#include "data/class_names.h"
#include "data/step_fit.h"
#include "mmfuse/prepare.h"
#include "train/model_columns.h"
#include "train/model_parts.h"

enum { NAMES_BYTES = 4096 };

/* Where the model knows what is padding, its steps may be padded to another number. */
static mmf_status fit_steps(const mmf_schema *schema, mmf_dataset *dataset)
{
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        const mmf_modality *const given = mmf_dataset_modality(dataset, m);
        if (given->kind == in->kind && mmf_input_knows_padding(in))
            MMF_TRY(mmf_dataset_fit_steps(dataset, m, in->shape[0]));
    }
    return MMF_OK;
}

static mmf_status check_shapes(mmf_ctx *ctx, const mmf_model *model, const mmf_dataset *dataset)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        const mmf_modality *const given = mmf_dataset_modality(dataset, m);
        char wanted[96], found[96];
        if (given->kind != in->kind || given->n_dims != in->n_dims ||
            memcmp(given->shape, in->shape, (size_t)in->n_dims * sizeof *in->shape) != 0)
            return mmf_fail(ctx, MMF_ARG,
                            "%s: %s is a %s of shape %s a sample, model %s was trained on a %s of "
                            "shape %s",
                            mmf_dataset_path(dataset), in->name,
                            mmf_modality_kind_name(given->kind),
                            mmf_shape_text(found, sizeof found, given->shape, given->n_dims),
                            model->name, mmf_modality_kind_name(in->kind),
                            mmf_shape_text(wanted, sizeof wanted, in->shape, in->n_dims));
        for (int c = 0; c < MMF_N_COMPANIONS; c++) {
            if (c != MMF_COMPANION_TARGET /* which predicting does without */ &&
                in->companions[c] > 0 && given->companions[c] != in->companions[c])
                return mmf_fail(
                    ctx, MMF_ARG,
                    "%s: %s.%s has %lld numbers a step, model %s was trained with %lld",
                    mmf_dataset_path(dataset), in->name, mmf_companion_name((mmf_companion)c),
                    (long long)given->companions[c], model->name, (long long)in->companions[c]);
        }
        if (given->kind == MMF_TOKENS && given->vocab_size > in->vocab_size)
            return mmf_fail(ctx, MMF_ARG, "%s: %s has tokens up to %lld, model %s knows %lld",
                            mmf_dataset_path(dataset), in->name, (long long)given->vocab_size - 1,
                            model->name, (long long)in->vocab_size);
    }
    return MMF_OK;
}

/* "text,audio" and "text=tokens" as the data set's options take them. */
static bool list_inputs(const mmf_schema *schema, char *names, char *kinds, size_t size)
{
    size_t n = 0, k = 0;
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        const int wrote = snprintf(names + n, size - n, "%s%s", m ? "," : "", in->name);
        n += wrote > 0 ? (size_t)wrote : 0;
        if (in->kind == MMF_TOKENS && n < size) {
            const int also = snprintf(kinds + k, size - k, "%s%s=tokens", k ? "," : "", in->name);
            k += also > 0 ? (size_t)also : 0;
        }
        if (n >= size || k >= size)
            return false;
    }
    return true;
}

/* A manifest is prepared as the training data were; anything else is read as it is. */
static mmf_status open_archive(mmf_ctx *ctx, mmf_archive **out, const mmf_model *model,
                               const char *path, const char *may_lack,
                               const mmf_dataset_options *options)
{
    mmf_prepare_options how = MMF_PREPARE_OPTIONS_INIT;
    if (options->prepare)
        how = *options->prepare;
    how.settled = model->preparations;
    how.may_lack = may_lack;
    how.target = options->target;
    if (!options->prepare || !mmf_is_manifest(ctx, path, &how))
        return mmf_archive_open(ctx, out, path, options->io);
    how.settled = how.settled ? how.settled : "[]"; /* its target may be texts all the same */
    const bool is_model_target = strcmp(options->target, model->task.target) == 0;
    how.target_optional = is_model_target;
    how.class_names = is_model_target ? model->task.class_names : NULL;
    how.n_classes = how.class_names ? model->task.n_outputs : 0;
    return mmf_prepare(ctx, out, path, &how);
}

static mmf_status open_file(mmf_ctx *ctx, mmf_dataset **out, const mmf_model *model,
                            const char *path, const char *used, const mmf_dataset_options *options)
{
    const mmf_schema *const schema = mmf_module_schema(model->module);
    char may_lack[NAMES_BYTES];
    mmf_archive *archive = NULL;
    if (!mmf_model__may_lack(schema, used, may_lack, sizeof may_lack))
        return mmf_fail(ctx, MMF_LIMIT, "the names of the modalities are longer than %d bytes",
                        NAMES_BYTES);
    MMF_TRY(open_archive(ctx, &archive, model, path, may_lack, options));
    const mmf_status status = mmf_model__add_lacking(archive, schema, may_lack);
    if (status == MMF_OK)
        return mmf_dataset_from_archive(ctx, out, archive, options);
    mmf_archive_close(archive);
    return status;
}

mmf_status mmf_model_open_data(mmf_ctx *ctx, mmf_dataset **out, const mmf_model *model,
                               const char *path, const mmf_dataset_options *options)
{
    char names[NAMES_BYTES] = "", kinds[NAMES_BYTES] = "";
    *out = NULL;
    if (!list_inputs(mmf_module_schema(model->module), names, kinds, sizeof names))
        return mmf_fail(ctx, MMF_LIMIT, "the names of the modalities are longer than %d bytes",
                        NAMES_BYTES);
    mmf_dataset_options own = MMF_DATASET_OPTIONS_INIT;
    if (options)
        own = *options;
    own.modalities = names;
    if (!own.kinds && *kinds)
        own.kinds = kinds;
    own.target = own.target ? own.target : model->task.target;
    own.task = own.task ? own.task : mmf_task_name(model->task.kind);
    own.target_optional = true;
    mmf_dataset *dataset = NULL;
    MMF_TRY(open_file(ctx, &dataset, model, path, options ? options->modalities : NULL, &own));
    mmf_status status = fit_steps(mmf_module_schema(model->module), dataset);
    if (status == MMF_OK)
        status = check_shapes(ctx, model, dataset);
    if (status == MMF_OK)
        status = mmf_model__check_columns(ctx, model, dataset);
    if (status == MMF_OK && model->task.class_names)
        status = mmf_dataset_order_classes(dataset, model->task.class_names, model->task.n_outputs);
    if (status != MMF_OK) {
        mmf_dataset_close(dataset);
        return status;
    }
    *out = dataset;
    return MMF_OK;
}
