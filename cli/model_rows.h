/* model_rows.h: a trained model with the data set and the rows that `eval` and `predict` use. */
#ifndef MMFUSE_CLI_MODEL_ROWS_H
#define MMFUSE_CLI_MODEL_ROWS_H

#include "data_options.h"

/** Rows of one part, or all rows. */
typedef struct cli_rows {
    const char *part; /**< "test", "valid", "train", "all" */
    int64_t *rows;
    int64_t count;
} cli_rows;

/** True for a model file, known by its header, whatever it is called. */
bool cli_is_model_file(const char *path);
/** Loads a model. @return OPT_GO_ON or an exit code */
int cli_load_model(const cli_session *session, mmf_model **out, const char *path);

/** Opens data for a model; `data` may ask for another target. @return OPT_GO_ON or an exit code */
int cli_open_for_model(const cli_session *session, mmf_dataset **out, const mmf_model *model,
                       const char *path, const cli_data *data);

/** Bits of --modalities for a model; all when that is NULL. @return OPT_GO_ON or an exit code */
int cli_use_bits(const char *verb, const mmf_model *model, const char *modalities, uint64_t *use);

/**
 * Rows of a part. The file's own split counts; else the options given; else those of the command
 * that trained the model, so that its test rows are test rows again. Says on stderr which.
 *
 * @return OPT_GO_ON or an exit code; free with cli_rows_clear
 */
int cli_choose_rows(const cli_session *session, const char *verb, const mmf_model *model,
                    const mmf_dataset *dataset, const char *part, const cli_split *split,
                    cli_rows *out);
/** Training rows by the same rules, without a word; there may be none. */
int cli_training_rows(const cli_session *session, const char *verb, const mmf_model *model,
                      const mmf_dataset *dataset, const cli_split *split, cli_rows *out);
void cli_rows_clear(const cli_session *session, cli_rows *rows);

#endif
