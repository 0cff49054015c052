/* start_weights.c: a model that begins where another file ends: tensors of the same names and
 * shapes. */
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "train/trainer.h"

#define MAX_LISTED 12

/* Names of one kind for the log. */
typedef struct name_list {
    mmf_text text;
    int64_t count;
} name_list;

static void add_name(name_list *list, const char *name)
{
    list->count++;
    if (list->count <= MAX_LISTED)
        mmf_text_add(&list->text, "%s%s", list->count > 1 ? ", " : "", name);
    else if (list->count == MAX_LISTED + 1)
        mmf_text_add(&list->text, ", ...");
}

static void tell(mmf_ctx *ctx, const char *path, const char *what, const name_list *list)
{
    if (list->count > 0)
        mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s: %lld tensors %s: %s", path, (long long)list->count,
                    what, list->text.data);
}

static bool same_shape(const mmf_array *array, const mmf_tensor *t)
{
    return array->n_dims == t->n_dims && mmf_dtype_is_float(array->dtype) &&
           memcmp(array->shape, t->shape, (size_t)t->n_dims * sizeof *t->shape) == 0;
}

typedef struct start_report {
    name_list missing, misshapen, unused;
    int64_t n_copied;
} start_report;

static mmf_status copy_all(mmf_archive *archive, mmf_params *params, start_report *report)
{
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const int64_t place = mmf_archive_find(archive, p->name);
        mmf_array array = {0};
        if (place < 0) {
            add_name(&report->missing, p->name);
            continue;
        }
        MMF_TRY(mmf_archive_load(archive, (size_t)place, &array));
        if (!same_shape(&array, p->tensor)) {
            add_name(&report->misshapen, p->name);
            continue;
        }
        mmf_array_floats(&array, 0, p->tensor->count, p->tensor->data);
        report->n_copied++;
    }
    for (size_t i = 0; i < mmf_archive_count(archive); i++) {
        const char *const name = mmf_archive_name(archive, i);
        if (!mmf_params_find(params, name) && strncmp(name, "normalisation.", 14) != 0)
            add_name(&report->unused, name);
    }
    return MMF_OK;
}

mmf_status mmf_start_weights(mmf_ctx *ctx, mmf_module *module, const char *path)
{
    const char *const name = mmf_module_def(module)->name;
    mmf_mapping mapping = {0};
    mmf_archive *archive = NULL;
    MMF_TRY(mmf_map_open(ctx, &mapping, path));
    mmf_status status = mmf_archive_open_memory(ctx, &archive, path, "safetensors", mapping.bytes,
                                                mapping.n_bytes, NULL);
    start_report report = {
        .missing.text.ctx = ctx, .misshapen.text.ctx = ctx, .unused.text.ctx = ctx};
    if (status == MMF_OK)
        status = copy_all(archive, mmf_module_params(module), &report);
    if (status == MMF_OK && report.n_copied == 0)
        status = mmf_fail(ctx, MMF_ARG,
                          "%s: no tensor has the name and shape of one of %s; `mmfuse info` lists "
                          "those of a model file",
                          path, name);
    if (status == MMF_OK) {
        mmf_ctx_log(ctx, MMF_LOG_INFO, "%s: %lld tensors of %s start from it", path,
                    (long long)report.n_copied, name);
        tell(ctx, path, "of the model are not in it and start anew", &report.missing);
        tell(ctx, path, "have another shape there and start anew", &report.misshapen);
        tell(ctx, path, "are not the model's and are not used", &report.unused);
    }
    mmf_text_clear(&report.missing.text);
    mmf_text_clear(&report.misshapen.text);
    mmf_text_clear(&report.unused.text);
    mmf_archive_close(archive);
    mmf_map_close(&mapping);
    return status;
}
