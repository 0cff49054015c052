/* geometry.h: sizes of a convolution or pooling, and which of its windows lie inside an image. */
#ifndef MMFUSE_TENSOR_GEOMETRY_H
#define MMFUSE_TENSOR_GEOMETRY_H

#include "mmfuse/tensor.h"

typedef struct mmf_geometry {
    int64_t batch, channels, height, width, outputs;
    int64_t kernel[2], stride[2], padding[2];
    int64_t out_height, out_width;
} mmf_geometry;

/**
 * For a batch of images, with batch, channels, height and width given. @param flat  height is none
 * of the input's: the window has its first size alone. False after setting the tape's error.
 */
bool mmf_geometry_measure(mmf_tape *tape, const char *op, bool flat, const mmf_window *window,
                          mmf_geometry *g);
/** Output columns of a row whose input column for kernel column kx lies inside: [first, last). */
void mmf_geometry_inside(const mmf_geometry *g, int64_t kx, int64_t *first, int64_t *last);

#endif
