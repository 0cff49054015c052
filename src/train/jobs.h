/*
 * jobs.h: pieces of work side by side as child processes, so that a crash costs one of them.
 *
 * POSIX.
 */
#ifndef MMFUSE_TRAIN_JOBS_H
#define MMFUSE_TRAIN_JOBS_H

#include "mmfuse/base.h"

#define MMF_JOB_MESSAGE_BYTES 256

typedef enum mmf_job_state { MMF_JOB_WAITING, MMF_JOB_RUNNING, MMF_JOB_ENDED } mmf_job_state;

typedef struct mmf_jobs {
    size_t count;
    size_t n_side_by_side;
    const size_t *order;   /* jobs in the order in which they are started when ready */
    mmf_job_state *states; /* one a job, kept up to date; jobs that are ENDED are not run */
    void *user;
    /** In the child. A failure's message is that of the context. */
    mmf_status (*work)(void *user, size_t job);
    /** May the job start now? Asked again whenever another one has ended. NULL: always. */
    bool (*is_ready)(void *user, size_t job);
    /** In the parent, after a job's end. A failure ends everything. */
    mmf_status (*ended)(void *user, size_t job, mmf_status status, const char *message);
    /** In the parent, at most ten times a second. NULL: nobody watches. */
    void (*tick)(void *user, size_t n_running);
} mmf_jobs;

/**
 * Runs every waiting job. A child that dies has failed with INTERNAL and a message such as "killed
 * by signal 11". Ends children of its own only, so a program around the library keeps its own.
 *
 * @errors CANCELLED (children are killed first; jobs that were running are WAITING again), NOMEM,
 *         those of `ended`
 */
mmf_status mmf_jobs_run(mmf_ctx *ctx, const mmf_jobs *jobs);

/**
 * Threads that a child may use of the context's: their share, or one where this process already
 * has several threads, because an OpenMP pool does not survive fork.
 */
int mmf_jobs_threads(const mmf_ctx *ctx, size_t n_side_by_side);

#endif
