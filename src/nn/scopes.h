/*
 * scopes.h: rules about parts of a network: which parameters stay as they are, and how fast others
 * learn.
 *
 * A part is named by a modality, whose encoder it is, or by a piece of the parameters' names
 * ("bert", "encoder.layer"). Layers count from below: what comes before all layers (`embeddings`,
 * `conv1`, `bn1`) is 0, `layer.0` or `layer1` is 1, and so on.
 */
#ifndef MMFUSE_NN_SCOPES_H
#define MMFUSE_NN_SCOPES_H

#include "mmfuse/nn.h"

/** The layer that a parameter belongs to; -1: above all layers, or in a network without any. */
int64_t mmf_scope_layer(const char *name);
/** True if a parameter is in the part of this name (`n` bytes of `part`). */
bool mmf_scope_holds(const mmf_params *params, const char *part, size_t n, const char *name);

/**
 * Checks the form of a list of rules.
 * @param rules  "PART" or "PART:LAYERS" with commas between; LAYERS 2: 0, 1 and 2
 * @errors       ARG
 */
mmf_status mmf_scopes_check_frozen(mmf_ctx *ctx, const char *rules);
/** True if a checked rule freezes the parameter. */
bool mmf_scopes_freeze(const char *rules, const mmf_params *params, const char *name);

/**
 * Refuses a checked rule that is of no parameter. @param frozen, rates  lists of rules; NULL: none
 * @errors ARG
 */
mmf_status mmf_scopes_check_use(mmf_ctx *ctx, const mmf_params *params, const char *frozen,
                                const char *rates);

/**
 * Sets how fast parameters learn, before an optimizer is made of them.
 *
 * @param rules  "PART=RATE" or "PART=RATE:DECAY" with commas between: the learning rate, and what
 *               it is multiplied with from each layer to the one below
 * @param lr     the learning rate of all others
 * @errors       ARG
 */
mmf_status mmf_scopes_set_rates(mmf_ctx *ctx, mmf_params *params, const char *rules, double lr);
/** Checks the form of a list of rates. @errors ARG */
mmf_status mmf_scopes_check_rates(mmf_ctx *ctx, const char *rules);

#endif
