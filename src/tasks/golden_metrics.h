/*
 * golden_metrics.h: recomputes the outputs of a golden file of metrics, under the file's own names
 * (docs/metrics.md, "Golden files"), so that mmf_verify can compare them.
 */
#ifndef MMFUSE_TASKS_GOLDEN_METRICS_H
#define MMFUSE_TASKS_GOLDEN_METRICS_H

#include "mmfuse/io.h"

/** Receives one output: `name` without the prefix "output.", row-major values; both borrowed. */
typedef void mmf_golden_emit(void *user, const char *name, const double *values, int64_t count);

/**
 * Kinds: "msa" (inputs prediction, label [N]), "classification" (binary.label [N],
 * binary.probability [N], multiclass.label [N], multiclass.probability [N, K]; either pair may be
 * absent; options bins, positive, threshold), "robustness" (curve [M, L] or [L], late_fusion [L];
 * option step), "retrieval" (similarity [M, M k], images by captions; options captions_per_image k,
 * unit "percent").
 *
 * @param config_json  the file's `config`: a JSON object with "kind"
 * @param inputs       named with or without the prefix "input."; data is loaded
 * @errors             UNSUPPORTED (another kind), FORMAT (config is no such object, an input is
 *                     missing), SHAPE, DTYPE (an input of strings), ARG (an option out of bounds, a
 *                     label outside the classes), LIMIT (more than 4,096 classes), NOMEM
 */
mmf_status mmf_golden_metrics(mmf_ctx *ctx, const char *config_json, const mmf_named_array *inputs,
                              size_t n_inputs, mmf_golden_emit *emit, void *user);

#endif
