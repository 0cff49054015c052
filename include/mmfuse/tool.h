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
