/* tool.h: for the faces (command, Python); may change between versions. */
#ifndef MMFUSE_TOOL_H
#define MMFUSE_TOOL_H

#include "mmfuse/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Golden files ------------------------------------------------------------------------ */

/** One compared tensor. */
typedef struct mmf_verify_line {
    const char *name; /**< "output.prediction", "grad.head.out.weight" */
    double error;     /**< largest absolute difference */
    double relative;  /**< that over the tensor's largest magnitude */
    bool passed;
    const char *problem; /**< a sentence when it could not be compared, else NULL */
} mmf_verify_line;

typedef void mmf_verify_watch(void *user, const mmf_verify_line *line);

/**
 * Builds what a golden file names, loads its weights, runs it and compares every stored output and
 * gradient. metrics/ files are recomputed.
 *
 * @param passed  true when every line passed
 * @errors        UNSUPPORTED (a model or metric that is not in the catalogue), FORMAT, those of
 * building
 */
MMF_API mmf_status mmf_verify(mmf_ctx *ctx, const char *path, mmf_verify_watch *watch, void *user,
                              bool *passed);

/* ---- Explanations ------------------------------------------------------------------------ */

/** Up to so many modalities every subset is scored; above, single ones, all but one, and all. */
#define MMF_SUBSETS_FULL 6
#define MMF_SUBSETS_MAX 160

/** Subsets of `n` modalities (at most 63) that tables show, small ones first. @return how many */
MMF_API size_t mmf_subsets(size_t n, uint64_t out[MMF_SUBSETS_MAX]);

/** Told before each pass over the rows. */
typedef void mmf_explain_watch(void *user, const char *what, size_t n_done, size_t n_passes);

typedef struct mmf_explain_options {
    size_t size;
    uint64_t seed;
    int64_t n_orders;    /**< of modalities, where there are too many for every subset; 0: 64 */
    int64_t n_draws;     /**< of noise a level; 0: 3 */
    const char *noise;   /**< "gaussian,entry-drop,step-drop,modality-drop", or "none"; NULL: all */
    mmf_model *against;  /**< late fusion that effective robustness is measured against; or NULL */
    mmf_msa_rules rules; /**< sentiment metrics, where the model was not trained with them */
    mmf_explain_watch *watch;
    void *watch_user;
} mmf_explain_options;

#define MMF_EXPLAIN_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(mmf_explain_options)                                                        \
    }

/** The rows that are looked at, and the training rows that noise and the prior are counted on. */
typedef struct mmf_explain_rows {
    const char *part; /**< "test", for the result */
    const int64_t *rows, *train;
    int64_t n, n_train; /**< n_train 0: the rows themselves stand for the training rows */
} mmf_explain_rows;

/**
 * Looks at how a model comes to its predictions, as one JSON object (docs/explain.md):
 * contributions of modalities (Shapley values of the main metric), scores of subsets, statistics of
 * attention and gates, robustness curves, confusion and reliability or predicted against true.
 *
 * @param json     freed with mmf_free
 * @param dataset  as mmf_model_predict_rows takes it
 * @errors         ARG (an unknown noise, `against` with other inputs or another task), those of
 * predicting, CANCELLED
 */
MMF_API mmf_status mmf_explain(mmf_ctx *ctx, char **json, mmf_model *model, mmf_dataset *dataset,
                               const mmf_explain_rows *rows, const mmf_explain_options *options);

/**
 * One HTML page for an explanation, or for a comparison's results.json: tables, SVG plots and the
 * JSON itself, without anything from elsewhere.
 *
 * @param html  freed with mmf_free
 * @errors      FORMAT (not JSON, or neither of the two)
 */
MMF_API mmf_status mmf_report_html(mmf_ctx *ctx, char **html, const char *json);

/** Columns of a terminal that UTF-8 text takes: wide characters two, combining marks none; in
 * builds without utf8proc every character is one. */
MMF_API size_t mmf_text_columns(const char *text);

/* ---- Samples as JSON --------------------------------------------------------------------- */

/**
 * Predicts one sample given as {"audio": [[...], ...], "text": null, "id": "..."}: numbers nested
 * as the modality's shape (sequences may be shorter than T), null or no key for an absent modality.
 *
 * @param out  n_outputs values   @param id  receives the sample's id or "", at most `id_size` bytes
 * @errors     FORMAT (not JSON; line), ARG (unknown modality, wrong shape: both shapes named)
 */
MMF_API mmf_status mmf_model_predict_json(mmf_model *model, const char *json, size_t n_bytes,
                                          double *out, char *id, size_t id_size);

/* ---- The machine ------------------------------------------------------------------------- */

typedef struct mmf_system {
    char processor[128];
    const char *kernels; /**< "avx512" */
    char blas[64];       /**< "oneDNN 2.6.3", or "portable" */
    int n_threads;
} mmf_system;

MMF_API mmf_system mmf_system_info(const mmf_ctx *ctx);

/* ---- Benchmarks -------------------------------------------------------------------------- */

/** Times of one piece of work, in seconds. */
typedef struct mmf_timing {
    double best, median;
    int64_t n_runs;
} mmf_timing;

/** What a model costs. */
typedef struct mmf_model_cost {
    mmf_timing step;    /**< forward, backward and Adam of a batch */
    mmf_timing latency; /**< prediction of one sample */
    int64_t n_parameters;
    double flops; /**< of the products in a prediction of one sample, see mmf_tape_flops */
} mmf_model_cost;

/**
 * Measures a training step and a prediction of a model on random data of a schema.
 * @param seconds  how long to measure each
 */
MMF_API mmf_status mmf_bench_model(mmf_ctx *ctx, const mmf_def *def, const mmf_config *config,
                                   const mmf_schema *inputs, const mmf_task *task, int64_t batch,
                                   double seconds, mmf_model_cost *out);

typedef struct mmf_bench_op {
    const char *name;
    mmf_timing forward_backward;
    double flops; /**< of the forward pass */
} mmf_bench_op;
/** Times example `i` of the operations' table at a size; false past the end. */
MMF_API bool mmf_bench_operation(mmf_ctx *ctx, size_t i, int64_t scale, double seconds,
                                 mmf_bench_op *out);

#ifdef __cplusplus
}
#endif
#endif
