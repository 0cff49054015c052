/* start_weights.c: a model that begins where another file ends: tensors of the same names and
 * shapes. */
#include "nn/pretrained.h"
#include "train/trainer.h"

/* What references and wrappers put before and behind the names of their models. */
static const char *const prefixes[] = {"module.", "Model.", "model.", NULL};
static const mmf_pretrained_rename renames[] = {
    {".gamma", ".weight"}, {".beta", ".bias"}, {NULL, NULL}};
/* A model file's normalisation is that of its data; position_ids are 0, 1, 2. */
static const char *const ignored[] = {"normalisation.", "*.position_ids", "*.num_batches_tracked",
                                      NULL};

mmf_status mmf_start_weights(mmf_ctx *ctx, mmf_module *module, const char *path)
{
    static const mmf_pretrained_rules rules = {prefixes, renames, ignored, NULL};
    const char *const name = mmf_module_def(module)->name;
    mmf_pretrained_report report;
    mmf_status status =
        mmf_pretrained_load(ctx, mmf_module_params(module), "", path, &rules, &report);
    if (status == MMF_OK && report.n_loaded == 0)
        status = mmf_fail(ctx, MMF_ARG,
                          "%s: no tensor has the name and shape of one of %s; `mmfuse info` lists "
                          "those of a model file",
                          path, name);
    char *const text = status == MMF_OK ? mmf_pretrained_text(&report) : NULL;
    if (status == MMF_OK)
        status = text ? MMF_OK : MMF_NOMEM;
    if (text)
        mmf_ctx_log(ctx, MMF_LOG_INFO, "%s: %lld tensors of %s begin with it\n%s", path,
                    (long long)report.n_loaded, name, text);
    mmf_free(ctx, text);
    mmf_pretrained_report_clear(&report);
    return status;
}
