/*
 * golden_check.h: what a golden file stores, held to what we computed.
 *
 * Allowed is the file's `tolerance` times the tensor's largest magnitude; for metrics it is an
 * absolute error, and for gradients in `zero_gradients` a share of the file's largest gradient.
 */
#ifndef MMFUSE_TRAIN_GOLDEN_CHECK_H
#define MMFUSE_TRAIN_GOLDEN_CHECK_H

#include <jansson.h>

#include "mmfuse/io.h"
#include "mmfuse/tool.h"

typedef struct mmf_check {
    mmf_verify_watch *watch; /* may be NULL */
    void *user;
    double tolerance, largest_gradient;
    json_t *zero_gradients;
    bool passed; /* all that was told so far */
} mmf_check;

/**
 * Reads what the metadata and gradients say of tolerances; the caller sets `watch` and `user`, and
 * closes in any case.
 * @errors FORMAT
 */
mmf_status mmf_check_open(mmf_ctx *ctx, mmf_check *check, mmf_archive *archive);
void mmf_check_close(mmf_check *check);

/** Tells the watcher of one tensor. @param problem  NULL: there is none beside the numbers */
void mmf_check_tell(mmf_check *check, const char *name, double error, double relative, bool passed,
                    const char *problem);
/** Dimensions of one element apart, which references keep or drop. */
bool mmf_check_same_shape(const mmf_array *stored, const mmf_tensor *tensor);

void mmf_check_tensor(mmf_check *check, const char *name, const mmf_array *stored,
                      const mmf_tensor *tensor);
/** @param gradient  as many as the tensor has elements */
void mmf_check_gradient(mmf_check *check, const char *name, const mmf_array *stored,
                        const mmf_tensor *tensor, const mmf_real *gradient);
void mmf_check_metric(mmf_check *check, const char *name, const mmf_array *stored,
                      const double *values, int64_t count);

#endif
