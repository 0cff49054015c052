/*
 * augment.h: random changes of a filled training batch. The draws depend on the seed, the step, the
 * row's place and the modality alone.
 */
#ifndef MMFUSE_DATA_AUGMENT_H
#define MMFUSE_DATA_AUGMENT_H

#include "mmfuse/data.h"

typedef struct mmf_augmentation {
    size_t modality;
    int64_t crop; /**< pixels of padding, within which the picture is moved; 0: none */
    double flip;  /**< probability of a mirror image */
} mmf_augmentation;

typedef struct mmf_augment {
    mmf_ctx *ctx;
    mmf_augmentation *rows; /**< one a modality that has any */
    size_t count;
} mmf_augment;

/**
 * @param text  "image=crop:4,image=flip:0.5"; NULL: nothing. `crop` alone is 4, `flip` alone 0.5
 * @param out   ended by mmf_augment_clear, also after a failure
 * @errors      ARG: an unknown modality or name, a modality that is no image, a value out of bounds
 */
mmf_status mmf_augment_parse(mmf_ctx *ctx, mmf_augment *out, const mmf_dataset *dataset,
                             const char *text);
void mmf_augment_clear(mmf_augment *augment);
/** Changes the rows of a batch; modalities that it does not hold are left alone. */
void mmf_augment_batch(const mmf_augment *augment, mmf_batch *batch, const mmf_dataset *dataset,
                       uint64_t seed, uint64_t step);

#endif
