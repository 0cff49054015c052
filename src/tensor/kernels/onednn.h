/*
 * onednn.h: what the files blas_onednn*.c, which alone know oneDNN, share: one primitive that runs
 * on the calling thread over memory that is lent to it.
 */
#ifndef MMFUSE_TENSOR_KERNELS_ONEDNN_H
#define MMFUSE_TENSOR_KERNELS_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef MMF_WITH_OPENMP
#include <omp.h>
#endif

typedef struct onednn_unit {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
} onednn_unit;

/** An array for an argument of a primitive. */
typedef struct onednn_lent {
    int name;
    const dnnl_memory_desc_t *description;
    const void *data;
} onednn_lent;

enum { ONEDNN_MAX_LENT = 5 };

/** oneDNN makes kernels for as many threads as the calling one may start, and that is a setting of
 * each thread. */
static inline void onednn_stay_on_this_thread(void)
{
#ifdef MMF_WITH_OPENMP
    omp_set_num_threads(1);
#endif
}

/** @param unit  zeros; after onednn_open the caller makes the primitive */
static inline bool onednn_open(onednn_unit *unit)
{
    onednn_stay_on_this_thread();
    return dnnl_engine_create(&unit->engine, dnnl_cpu, 0) == dnnl_success &&
           dnnl_stream_create(&unit->stream, unit->engine, dnnl_stream_default_flags) ==
               dnnl_success;
}

static inline void onednn_close(onednn_unit *unit)
{
    if (unit->primitive)
        dnnl_primitive_destroy(unit->primitive);
    if (unit->stream)
        dnnl_stream_destroy(unit->stream);
    if (unit->engine)
        dnnl_engine_destroy(unit->engine);
}

/** Attributes of a primitive whose scratch its caller gives, so that several threads may run it.
 * NULL after a failure; the caller destroys them. */
static inline dnnl_primitive_attr_t onednn_attributes(void)
{
    dnnl_primitive_attr_t attributes = NULL;
    if (dnnl_primitive_attr_create(&attributes) != dnnl_success)
        return NULL;
    if (dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) ==
        dnnl_success)
        return attributes;
    dnnl_primitive_attr_destroy(attributes);
    return NULL;
}

/**
 * A matrix product made of tiles, which read a weight in the form that `product` names; NULL where
 * oneDNN has none, or one with more than `most` bytes of scratch.
 */
static inline dnnl_primitive_desc_t onednn_tiles(const onednn_unit *unit,
                                                 const dnnl_matmul_desc_t *product,
                                                 const_dnnl_primitive_attr_t attributes,
                                                 size_t most, dnnl_memory_desc_t *scratch)
{
    dnnl_primitive_desc_t found = NULL;
    const char *name = NULL;
    if (dnnl_primitive_desc_create(&found, product, attributes, unit->engine, NULL) != dnnl_success)
        return NULL;
    *scratch = *dnnl_primitive_desc_query_md(found, dnnl_query_scratchpad_md, 0);
    if (dnnl_primitive_desc_query(found, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
        name && strncmp(name, "brg", 3) == 0 && dnnl_memory_desc_get_size(scratch) <= most)
        return found;
    dnnl_primitive_desc_destroy(found);
    return NULL;
}

/** Makes the unit's primitive and frees its descriptor, which may be NULL after a failure. */
static inline bool onednn_make(onednn_unit *unit, dnnl_primitive_desc_t descriptor)
{
    if (!descriptor)
        return false;
    const bool fine = dnnl_primitive_create(&unit->primitive, descriptor) == dnnl_success;
    dnnl_primitive_desc_destroy(descriptor);
    return fine;
}

/** Runs the unit's primitive, or another of its engine. @param n  at most ONEDNN_MAX_LENT */
static inline bool onednn_run(const onednn_unit *unit, const_dnnl_primitive_t primitive,
                              const onednn_lent *lent, int n)
{
    dnnl_exec_arg_t arguments[ONEDNN_MAX_LENT] = {{0, NULL}};
    bool fine = true;
    onednn_stay_on_this_thread();
    for (int i = 0; i < n; i++) {
        arguments[i].arg = lent[i].name;
        fine = fine && dnnl_memory_create(&arguments[i].memory, lent[i].description, unit->engine,
                                          (void *)(uintptr_t)lent[i].data) == dnnl_success;
    }
    fine = fine && dnnl_primitive_execute(primitive, unit->stream, n, arguments) == dnnl_success &&
           dnnl_stream_wait(unit->stream) == dnnl_success;
    for (int i = 0; i < n; i++) {
        if (arguments[i].memory)
            dnnl_memory_destroy(arguments[i].memory);
    }
    return fine;
}

/** A reorder from one description to another. */
static inline bool onednn_make_reorder(const onednn_unit *unit, const dnnl_memory_desc_t *from,
                                       const dnnl_memory_desc_t *to, dnnl_primitive_t *out)
{
    dnnl_primitive_desc_t descriptor = NULL;
    const bool fine = dnnl_reorder_primitive_desc_create(&descriptor, from, unit->engine, to,
                                                         unit->engine, NULL) == dnnl_success &&
                      dnnl_primitive_create(out, descriptor) == dnnl_success;
    if (descriptor)
        dnnl_primitive_desc_destroy(descriptor);
    return fine;
}

#endif
