/* context.h: the inside of a context, for files of the floor `base` and for fault-injection tests.
 */
#ifndef MMFUSE_BASE_CONTEXT_H
#define MMFUSE_BASE_CONTEXT_H

#include <signal.h>

#include "mmfuse/base.h"

#define MMF_ERROR_BYTES 1024

struct mmf_ctx {
    mmf_allocator allocator;
    size_t memory_limit;
    mmf_memory_stats memory;
    int n_threads;
    mmf_cpu cpu;
    mmf_log_fn *log;
    void *log_user;
    volatile sig_atomic_t cancelled;
    /* Writes that still succeed before one fails; negative: all succeed. Set by tests only. */
    int64_t writes_before_fault;
    char error[MMF_ERROR_BYTES];
};

#endif
