/*
 * image_cells.h: an image as a few vectors, one a cell of a grid, for models that put them beside
 * words.
 */
#ifndef MMFUSE_MODELS_IMAGE_CELLS_H
#define MMFUSE_MODELS_IMAGE_CELLS_H

#include "nn/resnet.h"

/** Rows of the option tables. */
#define MMF_IMAGE_OPTIONS                                                                          \
    {"image_encoder",                                                                              \
     NULL,                                                                                         \
     MMF_OPTION_TEXT,                                                                              \
     0,                                                                                            \
     0,                                                                                            \
     "resnet20|resnet18|resnet34|resnet50|resnet101|resnet152",                                    \
     "resnet20",                                                                                   \
     "network of images (paper: resnet152); sequences and vectors are features already"},          \
        {"image_layers",                                                                           \
         NULL,                                                                                     \
         MMF_OPTION_INTS,                                                                          \
         1,                                                                                        \
         1000,                                                                                     \
         "-",                                                                                      \
         "",                                                                                       \
         "blocks of each of its stages; default: by the name"},                                    \
        {"image_base",                                                                             \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         4096,                                                                                     \
         "-",                                                                                      \
         "",                                                                                       \
         "channels of its stem; default: by the name"},                                            \
    {                                                                                              \
        "image_statistics", NULL, MMF_OPTION_TEXT, 0, 0, "batch|fixed", "batch",                   \
            "its batch norm in training: of the batch, or the running ones as they are"            \
    }

/** How an image is cut. */
typedef struct mmf_image_grid {
    int64_t rows, columns; /**< cells; no more than the map has if `at_most` */
    bool at_most, by_max;  /**< the maximum of a cell instead of its mean */
} mmf_image_grid;

typedef struct mmf_image_cells {
    const mmf_input_schema *input;
    bool has_net; /**< else the input is features: a sequence of cells, or one vector */
    mmf_resnet net;
    mmf_image_grid grid;
    int64_t map_rows, map_columns;
    mmf_real *shares; /**< (cells, places): what each place of the map has in the mean of a cell */
    int64_t n_cells, width;
} mmf_image_cells;

/** True for images, sequences and vectors. */
bool mmf_image_cells_take(const mmf_input_schema *input);
/** @param scope, names  of the network's parameters (mmf_resnet_build) */
mmf_image_cells mmf_image_cells_build(mmf_builder *builder, const mmf_config *config,
                                      const mmf_input_schema *input, const char *scope,
                                      const mmf_resnet_names *names, const mmf_image_grid *grid);
/** @return (B, n_cells, width) */
mmf_tensor *mmf_image_cells_run(mmf_tape *tape, const mmf_image_cells *cells, const mmf_named *in);
/** Which cells count, by mask, length and presence. @return (B, n_cells), ones where all do */
mmf_tensor *mmf_image_cells_keys(mmf_tape *tape, const mmf_image_cells *cells, const mmf_named *in);

#endif
