/*
 * resnet.h: residual networks for images, with torchvision's names and structure ("v1.5": a
 * bottleneck's stride is on its 3x3 convolution), and the small ones for CIFAR.
 */
#ifndef MMFUSE_NN_RESNET_H
#define MMFUSE_NN_RESNET_H

#include "mmfuse/nn.h"
#include "tensor/conv_program.h"

enum { MMF_RESNET_STAGES = 8, MMF_RESNET_BLOCK_CONVS = 3 };

/** What a network is made of. */
typedef struct mmf_resnet_sizes {
    bool bottleneck; /**< 1x1, 3x3, 1x1 with four times the width; else two 3x3 */
    bool small_stem; /**< 3x3 without pooling, for images of some 32 x 32; else 7x7 and pooling */
    bool padded_shortcut; /**< option A: every second pixel, zeros as new channels; else 1x1 */
    int n_stages;
    int64_t layers[MMF_RESNET_STAGES]; /**< blocks of each stage; each stage halves the image and
                                          doubles the width, but for the first */
    int64_t width;                     /**< of the stem and the first stage */
    int64_t channels;                  /**< of the image */
} mmf_resnet_sizes;

/** Convolution without bias, then batch norm. */
typedef struct mmf_resnet_conv {
    mmf_conv_layer conv;
    mmf_batch_norm_layer norm;
} mmf_resnet_conv;

typedef struct mmf_resnet_block {
    mmf_resnet_conv convs[MMF_RESNET_BLOCK_CONVS];
    int n_convs;
    bool has_downsample; /**< a convolution on the shortcut */
    mmf_resnet_conv downsample;
    mmf_tensor *padding; /**< of a padded shortcut that changes the size; else NULL */
    int64_t stride, inputs, outputs;
} mmf_resnet_block;

/** Names of the parts, for models that have them in a torch.nn.Sequential. */
typedef struct mmf_resnet_names {
    const char *conv, *norm; /**< of the stem */
    const char *stages[MMF_RESNET_STAGES];
} mmf_resnet_names;

typedef struct mmf_resnet {
    mmf_resnet_sizes sizes;
    mmf_resnet_conv stem;
    mmf_resnet_block *blocks; /**< all stages behind each other */
    int n_blocks;
    int64_t width;            /**< of the last stage */
    mmf_conv_program program; /**< the whole network, where nothing is recorded */
    bool fixed_statistics;    /**< batch norm keeps its running statistics in training too */
} mmf_resnet;

/** Sizes of "resnet18", "resnet34", "resnet50", "resnet101", "resnet152" for images of three
 * channels, or "resnet20" (CIFAR); false: no such name. */
bool mmf_resnet_named(const char *name, mmf_resnet_sizes *out);
/** Channels of the last stage. */
int64_t mmf_resnet_width(const mmf_resnet_sizes *sizes);
/** Rows and columns of the last stage for an image. */
void mmf_resnet_grid(const mmf_resnet_sizes *sizes, int64_t height, int64_t width, int64_t *rows,
                     int64_t *columns);

/** Options of encoders and models that have a network by name; `layers` and `base` "" are its own.
 */
mmf_resnet_sizes mmf_resnet_chosen(mmf_builder *builder, const char *name, const mmf_config *config,
                                   const char *layers, const char *base,
                                   const mmf_input_schema *image);

/** @param names  NULL: those of torchvision */
mmf_resnet mmf_resnet_build(mmf_builder *builder, const mmf_resnet_sizes *sizes,
                            const mmf_resnet_names *names);
/** @param x (B, C, H, W)  @return (B, width, h, w) of the last stage */
mmf_tensor *mmf_resnet_run(mmf_tape *tape, const mmf_resnet *net, mmf_tensor *x);
/** Mean over the places of a map. @param map (B, C, h, w)  @return (B, C) */
mmf_tensor *mmf_resnet_pool(mmf_tape *tape, mmf_tensor *map);

/** One block alone in the current scope. @param planes  width before a bottleneck's expansion */
mmf_resnet_block mmf_resnet_block_build(mmf_builder *builder, const mmf_resnet_sizes *sizes,
                                        int64_t inputs, int64_t planes, int64_t stride);
mmf_tensor *mmf_resnet_block_run(mmf_tape *tape, const mmf_resnet *net,
                                 const mmf_resnet_block *block, mmf_tensor *x);

#endif
