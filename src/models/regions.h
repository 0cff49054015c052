/*
 * regions.h: what is looked at beside a text: regions of a sequence with their boxes, the cells of
 * an image, or a single vector.
 */
#ifndef MMFUSE_MODELS_REGIONS_H
#define MMFUSE_MODELS_REGIONS_H

#include "encoders/steps.h"

typedef struct mmf_regions {
    const mmf_input_schema *input;
    mmf_steps_encoder cells; /* images */
    int64_t n, width;        /* regions, with the one that stands for all; features a region */
    int64_t box_width;
    bool adds_global;
} mmf_regions;

/** Regions of a batch. */
typedef struct mmf_region_set {
    mmf_tensor *x;      /**< (B, R, D), zeros where masked */
    mmf_tensor *box;    /**< (B, R, k) or (1, R, k) */
    mmf_tensor *mask;   /**< (B, R); NULL: all count */
    mmf_tensor *target; /**< (B, R, C), of the data; NULL: none */
} mmf_region_set;

/**
 * Sequences are regions as they are; images become cells of `cell_width` features, by the model's
 * option `encoder` or as mmf_steps_build has it.
 *
 * @param box_width    numbers that the model wants of a region: corners, then the area (5), or
 * width, height and area (7). Data with corners alone are completed, with nothing zeros
 * @param adds_global  mmf_regions_add_global will put one more in front
 */
mmf_regions mmf_regions_build(mmf_builder *builder, const mmf_config *config,
                              const mmf_input_schema *input, int64_t cell_width, int64_t box_width,
                              bool adds_global);
/** Without the one that stands for all. */
mmf_region_set mmf_regions_run(mmf_tape *tape, const mmf_regions *regions, const mmf_named *in);
/** Puts the mean of the regions that count in front, in the box of the whole image. */
void mmf_regions_add_global(mmf_tape *tape, const mmf_regions *regions, mmf_region_set *set);
/** The same of other rows of the batch. @param rows (B) integers */
mmf_region_set mmf_regions_of_rows(mmf_tape *tape, const mmf_region_set *set,
                                   const mmf_tensor *rows);
/** What is looked at beside a text (mmf_bert_text): regions, an image or a vector called `vision`,
 * else the only such input; NULL if there is no text, none or several. */
const mmf_input_schema *mmf_regions_input(const mmf_schema *inputs);
/** What is wrong with the inputs of a model over a text and regions; NULL if nothing is. */
const char *mmf_regions_refusal(const mmf_schema *inputs);

#endif
