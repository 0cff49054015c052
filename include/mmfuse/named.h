/*
 * named.h: lists of named tensors, the inputs and outputs of everything registered.
 */
#ifndef MMFUSE_NAMED_H
#define MMFUSE_NAMED_H

#include "mmfuse/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mmf_named_tensor {
    const char *name;
    mmf_tensor *tensor;
    const char *axes; /**< what its dimensions are, see mmf_named_axes; NULL: not said */
} mmf_named_tensor;

/** A list of named tensors. Zero-initialise; memory is that of the tape of mmf_named_put. */
typedef struct mmf_named {
    mmf_named_tensor *items;
    size_t count, capacity;
} mmf_named;

/** NULL if there is none of this name. */
MMF_API mmf_tensor *mmf_named_get(const mmf_named *list, const char *name);
/** The tensor "<name>.<suffix>" or NULL. */
MMF_API mmf_tensor *mmf_named_part(const mmf_named *list, const char *name, const char *suffix);
/** Appends; `name` must outlive the pass (a literal, a string of the module). NULL is kept. */
MMF_API void mmf_named_put(mmf_tape *tape, mmf_named *list, const char *name, mmf_tensor *tensor);
/** Appends under a formatted name that lives as long as the pass. */
MMF_API void mmf_named_putf(mmf_tape *tape, mmf_named *list, mmf_tensor *tensor, const char *format,
                            ...) MMF_PRINTF(4, 5);

/**
 * Says that the tensor put last is to be looked at, as attention, gates and weights are, and what
 * its dimensions are: a letter each, B samples, M modalities in the order of the inputs, C classes,
 * E experts, H heads, G glimpses, T steps, N nodes, D features, Q those who ask (what each of them
 * gives sums to 1), 1 none.
 *
 * @param axes  "BHQM"; must outlive the pass
 */
MMF_API void mmf_named_axes(mmf_named *list, const char *axes);

#ifdef __cplusplus
}
#endif
#endif
