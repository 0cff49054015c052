/* scoring.c: see scoring.h. */
#include "scoring.h"

mmf_status cli_score(mmf_ctx *ctx, mmf_metrics *out, mmf_model *model, const mmf_task *task,
                     mmf_dataset *dataset, const int64_t *rows, int64_t n_rows, uint64_t use)
{
    size_t count = 0;
    *out = (mmf_metrics){0};
    if (!mmf_mul_ok((size_t)n_rows, (size_t)task->n_outputs, &count))
        return mmf_fail(ctx, MMF_LIMIT, "too many predictions");
    double *const predictions = mmf_alloc_zero(ctx, count, sizeof *predictions);
    if (!predictions)
        return MMF_NOMEM;
    mmf_status status = mmf_model_predict_rows(model, dataset, rows, n_rows, use, predictions);
    if (status == MMF_OK)
        status = mmf_task_score(ctx, out, task, dataset, rows, n_rows, predictions);
    mmf_free(ctx, predictions);
    return status;
}

const char *cli_part_name(mmf_part part)
{
    static const char *const names[] = {"train", "valid", "test"};
    return names[part];
}
