/*
 * base.h: status codes, the context, arrays and random numbers.
 *
 * Everything in mmfuse that needs memory, threads, logging or a place for an error message takes a
 * context. A context belongs to one thread at a time; different contexts are independent.
 */
#ifndef MMFUSE_BASE_H
#define MMFUSE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MMF_API __attribute__((visibility("default")))
#define MMF_PRINTF(at, first) __attribute__((format(printf, at, first)))
#else
#define MMF_API
#define MMF_PRINTF(at, first)
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MMF_VERSION_MAJOR 0
#define MMF_VERSION_MINOR 1
#define MMF_VERSION_PATCH 0

/** Result of a call: 0 is success, negative is failure; the context holds the message. */
typedef enum mmf_status {
    MMF_OK = 0,
    MMF_NOMEM = -1,       /**< out of memory, or the context's limit in bytes was reached */
    MMF_ARG = -2,         /**< an argument or option is out of its bounds or unknown */
    MMF_SHAPE = -3,       /**< shapes do not fit together */
    MMF_DTYPE = -4,       /**< an element type that this call does not take */
    MMF_IO = -5,          /**< reading or writing a file failed */
    MMF_FORMAT = -6,      /**< a file is truncated, damaged or lies about its contents */
    MMF_LIMIT = -7,       /**< a documented limit was exceeded */
    MMF_UNSUPPORTED = -8, /**< valid, but not offered */
    MMF_NUMERIC = -9,     /**< not-a-number or infinity where none may be */
    MMF_CANCELLED = -10,  /**< interrupted on request; what was promised to be saved is saved */
    MMF_STATE = -11,      /**< called in the wrong order */
    MMF_INTERNAL = -12    /**< a defect of mmfuse */
} mmf_status;

/** Leaves the enclosing function with the status of `expr` unless it is MMF_OK. */
#define MMF_TRY(expr)                                                                              \
    do {                                                                                           \
        const mmf_status mmf_try_status = (expr);                                                  \
        if (mmf_try_status != MMF_OK)                                                              \
            return mmf_try_status;                                                                 \
    } while (0)

/** Short English name of a status ("out of memory"). Never NULL. */
MMF_API const char *mmf_status_name(mmf_status status);

/** Version as text, "0.1.0". */
MMF_API const char *mmf_version(void);

/* ---- Context ---------------------------------------------------------------------------- */

typedef struct mmf_ctx mmf_ctx;

typedef enum mmf_log_level { MMF_LOG_INFO, MMF_LOG_WARNING } mmf_log_level;

/** Receives messages; `text` is one line without a newline and lives during the call. */
typedef void mmf_log_fn(void *user, mmf_log_level level, const char *text);

/** Memory functions with the meaning of the C library's; `user` is handed through. */
typedef struct mmf_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void (*release)(void *user, void *pointer);
    void *user;
} mmf_allocator;

/** Processor level that the kernels may use; each includes the ones before it. */
typedef enum mmf_cpu { MMF_CPU_PORTABLE, MMF_CPU_AVX2, MMF_CPU_AVX512 } mmf_cpu;

typedef struct mmf_ctx_options {
    size_t size;             /**< sizeof(mmf_ctx_options), set by the initialiser */
    mmf_allocator allocator; /**< NULL functions: the C library's */
    size_t memory_limit;     /**< bytes of live allocations; 0: no limit */
    int n_threads;           /**< 0: as many as the process may use */
    mmf_log_fn *log;         /**< NULL: messages are dropped */
    void *log_user;
} mmf_ctx_options;

#define MMF_CTX_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(mmf_ctx_options)                                                            \
    }

/**
 * Makes a context. Reads the environment variable MMFUSE_CPU (portable, avx2, avx512), which caps
 * the processor level; nothing else in the library reads the environment.
 *
 * @param out      receives the context; the caller owns it and frees it with mmf_ctx_free
 * @param options  NULL: defaults
 * @errors         NOMEM, ARG (MMFUSE_CPU has an unknown value, negative thread count)
 */
MMF_API mmf_status mmf_ctx_create(mmf_ctx **out, const mmf_ctx_options *options);
MMF_API void mmf_ctx_free(mmf_ctx *ctx);

/** Message of the last failure, "" if there was none; borrowed until the next failure. */
MMF_API const char *mmf_ctx_error(const mmf_ctx *ctx);

MMF_API int mmf_ctx_threads(const mmf_ctx *ctx);
MMF_API void mmf_ctx_set_threads(mmf_ctx *ctx, int n_threads);
MMF_API mmf_cpu mmf_ctx_cpu(const mmf_ctx *ctx);
MMF_API const char *mmf_cpu_name(mmf_cpu cpu);

/** Number of allocations made so far, and bytes live now and at the peak. */
typedef struct mmf_memory_stats {
    uint64_t n_allocations;
    size_t live_bytes;
    size_t peak_bytes;
} mmf_memory_stats;
MMF_API mmf_memory_stats mmf_ctx_memory(const mmf_ctx *ctx);

/**
 * Asks the work in progress to stop at the next safe point; safe to call from a signal handler that
 * has a stack of its own (sigaltstack, SA_ONSTACK): on the stack of a running matrix product any
 * handler may overwrite what oneDNN keeps below the stack pointer.
 */
MMF_API void mmf_ctx_cancel(mmf_ctx *ctx);
MMF_API bool mmf_ctx_cancelled(const mmf_ctx *ctx);

/** Records `format...` as the context's error and returns `status`, so failures are one line. */
MMF_API mmf_status mmf_fail(mmf_ctx *ctx, mmf_status status, const char *format, ...)
    MMF_PRINTF(3, 4);

/** Puts text in front of the current error ("FILE: " before "bad header"); returns `status`. */
MMF_API mmf_status mmf_fail_within(mmf_ctx *ctx, mmf_status status, const char *format, ...)
    MMF_PRINTF(3, 4);

MMF_API void mmf_ctx_log(mmf_ctx *ctx, mmf_log_level level, const char *format, ...)
    MMF_PRINTF(3, 4);

/* ---- Memory ------------------------------------------------------------------------------ */

/** 64-byte aligned memory of at least `bytes` (0 counts as 1); NULL after recording NOMEM. */
MMF_API void *mmf_alloc(mmf_ctx *ctx, size_t bytes);
/** As mmf_alloc for `count` elements of `size` bytes, zeroed; the product is checked. */
MMF_API void *mmf_alloc_zero(mmf_ctx *ctx, size_t count, size_t size);
/** Grows or shrinks; `pointer` NULL allocates. On failure the old block stays. */
MMF_API void *mmf_realloc(mmf_ctx *ctx, void *pointer, size_t bytes);
/** Accepts NULL. */
MMF_API void mmf_free(mmf_ctx *ctx, void *pointer);
/** A copy of `text` that the caller frees with mmf_free; NULL after recording NOMEM. */
MMF_API char *mmf_strdup(mmf_ctx *ctx, const char *text);

/** Stores a*b in *out; false if it does not fit. */
MMF_API bool mmf_mul_ok(size_t a, size_t b, size_t *out);

/* ---- Arrays ------------------------------------------------------------------------------ */

/** Element types of arrays in files. A string array holds fixed-width UTF-8 cells. */
typedef enum mmf_dtype {
    MMF_F16,
    MMF_BF16,
    MMF_F32,
    MMF_F64,
    MMF_I8,
    MMF_U8,
    MMF_I16,
    MMF_U16,
    MMF_I32,
    MMF_U32,
    MMF_I64,
    MMF_U64,
    MMF_BOOL,
    MMF_STR
} mmf_dtype;

MMF_API const char *mmf_dtype_name(mmf_dtype dtype);
/** Bytes of one element; 0 for MMF_STR, whose width is the array's `item_bytes`. */
MMF_API size_t mmf_dtype_bytes(mmf_dtype dtype);
MMF_API bool mmf_dtype_is_float(mmf_dtype dtype);
MMF_API bool mmf_dtype_is_integer(mmf_dtype dtype);

#define MMF_MAX_DIMS 6

/**
 * A dense row-major array in little-endian order, as read from a file. An open value: it owns
 * nothing; the object that handed it out does. `data` may be unaligned (files are mapped): read
 * elements with the accessors below.
 */
typedef struct mmf_array {
    mmf_dtype dtype;
    int n_dims;
    int64_t shape[MMF_MAX_DIMS];
    size_t item_bytes; /**< bytes of one element; for MMF_STR the cell's width */
    const void *data;
} mmf_array;

/** Number of elements. */
MMF_API int64_t mmf_array_count(const mmf_array *array);
/** Elements of one row (all dimensions but the first; 1 for [N]). */
MMF_API int64_t mmf_array_row(const mmf_array *array);
/** Element `i` (flat index) as double; integers beyond 2^53 are rounded. Not for MMF_STR. */
MMF_API double mmf_array_number(const mmf_array *array, int64_t i);
/** Element `i` as int64; floats are truncated. Not for MMF_STR. */
MMF_API int64_t mmf_array_integer(const mmf_array *array, int64_t i);
/** Cell `i` of an MMF_STR array: pointer to its bytes and their number without trailing zeros. */
MMF_API const char *mmf_array_string(const mmf_array *array, int64_t i, size_t *n_bytes);
/** Converts elements [first, first + count) to float or double. Not for MMF_STR. */
MMF_API void mmf_array_floats(const mmf_array *array, int64_t first, int64_t count, float *out);
MMF_API void mmf_array_doubles(const mmf_array *array, int64_t first, int64_t count, double *out);
/** "(2000, 76)" into `out`, at most `size` bytes; returns `out`. */
MMF_API char *mmf_shape_text(char *out, size_t size, const int64_t *shape, int n_dims);

/* ---- Random numbers ---------------------------------------------------------------------- */

/**
 * A counter-based generator (Philox 4x32-10; Salmon, Moraes, Dror, Shaw, SC 2011): draw `i` of
 * stream `stream` under `seed` is a pure function of the three, so results never depend on thread
 * counts.
 */
typedef struct mmf_rng {
    uint64_t seed, stream, counter;
    uint32_t block[4];
    int n_left;
} mmf_rng;

MMF_API mmf_rng mmf_rng_make(uint64_t seed, uint64_t stream);
/** A stream number from a name, so streams can be named ("shuffle", "init"). */
MMF_API uint64_t mmf_rng_stream(const char *name);
MMF_API void mmf_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
MMF_API uint32_t mmf_rng_u32(mmf_rng *rng);
/** Uniform in [0, 1). */
MMF_API double mmf_rng_uniform(mmf_rng *rng);
/** Standard normal (Box-Muller). */
MMF_API double mmf_rng_normal(mmf_rng *rng);
/** Uniform integer in [0, bound), without bias; bound > 0. */
MMF_API uint64_t mmf_rng_below(mmf_rng *rng, uint64_t bound);
/** Fisher-Yates shuffle of `n` indices. */
MMF_API void mmf_rng_shuffle(mmf_rng *rng, int64_t *index, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
