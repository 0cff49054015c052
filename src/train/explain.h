/* explain.h: the inside of mmf_explain: what its parts share. */
#ifndef MMFUSE_TRAIN_EXPLAIN_H
#define MMFUSE_TRAIN_EXPLAIN_H

#include "mmfuse/tool.h"
#include "train/json_values.h"
#include "train/model_parts.h"

/** Longest table of robustness levels; the protocol has 0, 0.1 ... 0.9. */
#define MMF_NOISE_LEVELS 10

typedef struct mmf_explainer {
    mmf_ctx *ctx;
    mmf_model *model;
    mmf_dataset *dataset;
    const mmf_explain_options *options;
    const mmf_explain_rows *rows;
    mmf_task task;
    const char *metric; /* the main one */
    double sign;        /* 1 where higher is better, else -1 */
    const mmf_schema *inputs;
    double *predictions; /* (n, n_outputs), of the last pass */
    double *prior;       /* (n_outputs): what is predicted from nothing */
    size_t n_done, n_passes;
    json_t *json;
} mmf_explainer;

/** One pass over the rows, told to the watcher. Fills `predictions`, and `metrics` unless NULL. */
mmf_status mmf_explain__pass(mmf_explainer *e, const char *what, mmf_model *model,
                             const mmf_inference *how, mmf_metrics *metrics);
json_t *mmf_explain__metrics(const mmf_metrics *metrics);
json_t *mmf_explain__names(const mmf_schema *inputs, uint64_t use);

/** Adds "contributions" and "subsets". */
mmf_status mmf_explain__contributions(mmf_explainer *e, const mmf_metrics *whole);
/** @errors ARG (an unknown noise, too many draws) */
mmf_status mmf_explain__check_noise(const mmf_explainer *e);
/** Adds "robustness". */
mmf_status mmf_explain__robustness(mmf_explainer *e, const mmf_metrics *whole);
size_t mmf_explain__robustness_passes(const mmf_explainer *e);
/** Adds "confusion" and "reliability", or "scatter", from `predictions` of all modalities. */
mmf_status mmf_explain__errors(mmf_explainer *e);

/* ---- Outputs ----------------------------------------------------------------------------- */

/** Sums over samples of what a model puts out beside its prediction. */
typedef struct mmf_output_watch mmf_output_watch;

/** @param out  freed with mmf_output_watch_free */
mmf_status mmf_output_watch_create(mmf_ctx *ctx, mmf_output_watch **out);
void mmf_output_watch_free(mmf_output_watch *watch);
/** An mmf_inference `look`; `user` is the watch. */
void mmf_output_watch_look(void *user, const mmf_named *outputs, int64_t n_rows);
/** What names places of axes: modalities and classes. */
typedef struct mmf_output_names {
    const mmf_schema *inputs;
    const mmf_task *task;
} mmf_output_names;

/** The list "outputs"; NULL after a failure. */
json_t *mmf_output_watch_json(const mmf_output_watch *watch, const mmf_output_names *names);

#endif
