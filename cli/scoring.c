/* scoring.c: see scoring.h. */
#include "scoring.h"

static void say_unanswered(const mmf_dataset *dataset, const int64_t *rows, int64_t n_rows,
                           const mmf_task *task, const double *predictions)
{
    const int64_t first = mmf_task_first_unanswered(task, predictions, n_rows);
    char id[256];
    if (first < 0)
        return;
    mmf_dataset_id(dataset, rows[first], id, sizeof id);
    cli_say("%s: row %lld (id %s): the model's outputs are not numbers, so there are no metrics; "
            "are its features far outside those of training?",
            mmf_dataset_path(dataset), (long long)rows[first], id);
}

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
        say_unanswered(dataset, rows, n_rows, task, predictions);
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
