/* data_options.h: the options of every verb that reads data, and opening a file by them. */
#ifndef MMFUSE_CLI_DATA_OPTIONS_H
#define MMFUSE_CLI_DATA_OPTIONS_H

#include "prepare_options.h"

/** Values of cli_data_rows. */
typedef struct cli_data {
    const char *modalities, *target, *task, *non_finite, *metrics;
    opt_texts kinds;
    cli_prepare prepare; /**< values of cli_prepare_rows or cli_cache_rows */
} cli_data;
extern const opt_row cli_data_rows[];

/** Values of cli_split_rows. */
typedef struct cli_split {
    opt_reals split;
    double valid;
    int64_t folds, fold, train_per_class, seed;
} cli_split;
extern const opt_row cli_split_rows[];

/** Data set options from the command line; strings are borrowed from `data` and the session. */
typedef struct cli_dataset_options {
    mmf_dataset_options options; /**< `prepare` points to what follows */
    char kinds[1024];
    cli_prepare_setup prepare;
} cli_dataset_options;

/** @return OPT_GO_ON or an exit code */
int cli_dataset_options_make(cli_dataset_options *out, const cli_session *session,
                             const cli_data *data);
/**
 * Opens a data set for training; non-finite values are refused unless --non-finite says else. A
 * manifest is prepared first, which Ctrl-C interrupts.
 */
int cli_open_data(const cli_session *session, mmf_dataset **out, const char *path,
                  const cli_data *data);

/** @return OPT_GO_ON or an exit code after a usage error of `verb` */
int cli_split_options(const char *verb, const cli_split *split, mmf_split_options *out);
bool cli_split_is_given(const cli_split *split);
mmf_msa_rules cli_msa_rules(const cli_data *data);

/** The words of a command line that cli_quote_command wrote; free with cli_free_words. */
char **cli_split_command(const char *command, size_t *count);
void cli_free_words(char **words, size_t count);
/** "mmfuse VERB ..." with quotes where a shell needs them; free with free. */
char *cli_quote_command(int argc, char *const *argv);

/** Name of class `i` of a task, or its number; returns `out`. */
const char *cli_class_name(const mmf_task *task, int64_t i, char *out, size_t size);

#endif
