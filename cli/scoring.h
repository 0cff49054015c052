/* scoring.h: predictions of rows and their scores, for `train` and `eval`. */
#ifndef MMFUSE_CLI_SCORING_H
#define MMFUSE_CLI_SCORING_H

#include "cli.h"

/**
 * Predicts rows and scores them. Says on stderr if a row's outputs are not numbers.
 *
 * @param task  the model's, or a copy with other sentiment rules
 * @param use   as mmf_model_predict_rows takes it
 */
mmf_status cli_score(mmf_ctx *ctx, mmf_metrics *out, mmf_model *model, const mmf_task *task,
                     mmf_dataset *dataset, const int64_t *rows, int64_t n_rows, uint64_t use);

/** "train", "valid" or "test". */
const char *cli_part_name(mmf_part part);

#endif
