/* context.c: contexts, their error message, log and cancellation flag. Holds no global state. */
#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* Weights that are read once a pass are waited for less where one page covers many of them. Only
 * whole huge pages are asked for, so none is taken that is not used. */
static void *system_alloc(void *user, size_t bytes)
{
    (void)user;
    void *pointer = NULL;
    const bool is_large = bytes >= 2 * HUGE_PAGE;
    if (posix_memalign(&pointer, is_large ? HUGE_PAGE : 64, bytes) != 0)
        return NULL;
    if (is_large)
        (void)madvise(pointer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return pointer;
}

static void system_release(void *user, void *pointer)
{
    (void)user;
    free(pointer);
}

static mmf_cpu detect_cpu(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return MMF_CPU_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return MMF_CPU_AVX2;
#endif
    return MMF_CPU_PORTABLE;
}

static mmf_status cap_cpu(mmf_ctx *ctx)
{
    const char *wanted = getenv("MMFUSE_CPU");
    if (!wanted || !*wanted)
        return MMF_OK;
    for (mmf_cpu cpu = MMF_CPU_PORTABLE; cpu <= MMF_CPU_AVX512; cpu++) {
        if (strcmp(wanted, mmf_cpu_name(cpu)) == 0) {
            if (cpu < ctx->cpu)
                ctx->cpu = cpu;
            return MMF_OK;
        }
    }
    return MMF_ARG;
}

mmf_status mmf_ctx_create(mmf_ctx **out, const mmf_ctx_options *options)
{
    *out = NULL;
    const mmf_ctx_options defaults = MMF_CTX_OPTIONS_INIT;
    const mmf_ctx_options *const o = options ? options : &defaults;
    if (o->n_threads < 0)
        return MMF_ARG;
    mmf_allocator allocator = o->allocator;
    if (!allocator.alloc)
        allocator = (mmf_allocator){system_alloc, system_release, NULL};
    mmf_ctx *ctx = allocator.alloc(allocator.user, sizeof *ctx);
    if (!ctx)
        return MMF_NOMEM;
    memset(ctx, 0, sizeof *ctx);
    ctx->allocator = allocator;
    ctx->memory_limit = o->memory_limit;
    ctx->writes_before_fault = -1;
    ctx->log = o->log;
    ctx->log_user = o->log_user;
    ctx->cpu = detect_cpu();
    mmf_ctx_set_threads(ctx, o->n_threads);
    const mmf_status status = cap_cpu(ctx);
    if (status != MMF_OK) {
        mmf_ctx_free(ctx);
        return status;
    }
    *out = ctx;
    return MMF_OK;
}

void mmf_ctx_free(mmf_ctx *ctx)
{
    if (ctx) {
        const mmf_allocator allocator = ctx->allocator;
        allocator.release(allocator.user, ctx);
    }
}

const char *mmf_ctx_error(const mmf_ctx *ctx)
{
    return ctx->error;
}

int mmf_ctx_threads(const mmf_ctx *ctx)
{
    return ctx->n_threads;
}

void mmf_ctx_set_threads(mmf_ctx *ctx, int n_threads)
{
    if (n_threads <= 0) {
        const long n_online = sysconf(_SC_NPROCESSORS_ONLN);
        n_threads = n_online > 0 ? (int)n_online : 1;
    }
    ctx->n_threads = n_threads;
}

mmf_cpu mmf_ctx_cpu(const mmf_ctx *ctx)
{
    return ctx->cpu;
}

const char *mmf_cpu_name(mmf_cpu cpu)
{
    static const char *const names[] = {"portable", "avx2", "avx512"};
    return names[cpu];
}

mmf_memory_stats mmf_ctx_memory(const mmf_ctx *ctx)
{
    return ctx->memory;
}

void mmf_ctx_cancel(mmf_ctx *ctx)
{
    ctx->cancelled = 1;
}

bool mmf_ctx_cancelled(const mmf_ctx *ctx)
{
    return ctx->cancelled != 0;
}

/* Messages quote what stands in files: control characters must not reach a terminal. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 32 || *text == 127)
            *text = ' ';
    }
}

mmf_status mmf_fail(mmf_ctx *ctx, mmf_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ctx->error, sizeof ctx->error, format, arguments);
    va_end(arguments);
    make_printable(ctx->error);
    return status;
}

mmf_status mmf_fail_within(mmf_ctx *ctx, mmf_status status, const char *format, ...)
{
    char message[MMF_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int n_prefix = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (n_prefix >= 0 && (size_t)n_prefix < sizeof message)
        snprintf(message + n_prefix, sizeof message - (size_t)n_prefix, "%s", ctx->error);
    memcpy(ctx->error, message, sizeof message);
    return status;
}

void mmf_ctx_log(mmf_ctx *ctx, mmf_log_level level, const char *format, ...)
{
    if (!ctx->log)
        return;
    char text[MMF_ERROR_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ctx->log(ctx->log_user, level, text);
}

const char *mmf_status_name(mmf_status status)
{
    switch (status) {
    case MMF_OK:
        return "done";
    case MMF_NOMEM:
        return "out of memory";
    case MMF_ARG:
        return "bad argument";
    case MMF_SHAPE:
        return "shapes do not fit";
    case MMF_DTYPE:
        return "wrong element type";
    case MMF_IO:
        return "input or output failed";
    case MMF_FORMAT:
        return "damaged file";
    case MMF_LIMIT:
        return "limit exceeded";
    case MMF_UNSUPPORTED:
        return "not supported";
    case MMF_NUMERIC:
        return "not a finite number";
    case MMF_CANCELLED:
        return "interrupted";
    case MMF_STATE:
        return "called in the wrong order";
    case MMF_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

const char *mmf_version(void)
{
    return "0.1.0";
}
