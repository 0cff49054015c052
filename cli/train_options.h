/* train_options.h: the options of training that `train` and `compare` share. */
#ifndef MMFUSE_CLI_TRAIN_OPTIONS_H
#define MMFUSE_CLI_TRAIN_OPTIONS_H

#include "data_options.h"
#include "output.h"

/** Values of cli_train_rows and cli_model_rows, with defaults by CLI_TRAIN_INIT. */
typedef struct cli_train {
    int64_t seed, epochs, batch, patience, period;
    double lr, weight_decay, momentum, clip_norm, clip_value, warmup, factor, smoothing;
    const char *optimizer, *schedule;
    bool balance, refit, no_normalise;
    double modality_dropout;
    int64_t modality_dropout_rise;
    opt_texts encoders, set, loss, aid, augment;
    char losses[512], aids[512], changes[512]; /**< `loss`, `aid`, `augment` joined, by
                                                  cli_join_beside */
} cli_train;

/** Values of cli_tuning_rows. */
typedef struct cli_tuning {
    opt_texts weights, freeze, rates;
    bool decay_matrices;
    char all_weights[4096], frozen[512], all_rates[512]; /**< joined by cli_tuning_options */
} cli_tuning;

#define CLI_TRAIN_INIT                                                                             \
    {                                                                                              \
        .epochs = 100, .patience = 15                                                              \
    }

extern const opt_row cli_train_rows[];
extern const opt_row cli_model_rows[];
extern const opt_row cli_tuning_rows[];

/** Refuses an option that the others leave without effect. @return OPT_GO_ON, or an exit code */
int cli_check_training(const char *verb, const cli_train *train);
/** Fills `losses`, `aids` and `changes`. @return OPT_GO_ON, or an exit code after saying why not */
int cli_join_beside(cli_train *train);

/** Training options of the library; strings are borrowed from `train` and `data`. */
mmf_train_options cli_train_options(const cli_train *train, const cli_data *data);

/** Sets what cli_tuning_rows hold. @return OPT_GO_ON, or an exit code after saying why not */
int cli_tuning_options(cli_tuning *tuning, mmf_train_options *out);

/**
 * The configuration of a model from --config, --encoder and --set.
 * @param config_file  NULL: none
 * @return OPT_GO_ON, or an exit code after saying why not
 */
int cli_model_config(const cli_session *session, mmf_config **out, const mmf_def *def,
                     const cli_train *train, const char *config_file);

/** An mmf_train_watch that draws a bar an epoch; `user` is an out_progress. */
void cli_watch_epoch(void *user, const mmf_train_event *event);

#endif
