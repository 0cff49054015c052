/* refusal.h: why a model does not take the modalities at hand, with their names. */
#ifndef MMFUSE_MODELS_REFUSAL_H
#define MMFUSE_MODELS_REFUSAL_H

#include "mmfuse/model.h"

/** Room for most sentences; longer ones are cut. */
#define MMF_REFUSAL_BYTES 384

/**
 * `why` of mmf_model_refusal or mmf_training_refusal for the same inputs; where it is about kinds,
 * a sentence in `out` with the kinds that the model takes and the first modality of another.
 */
const char *mmf_refusal_in_full(char out[MMF_REFUSAL_BYTES], const char *why, const mmf_def *def,
                                const mmf_schema *inputs);

#endif
