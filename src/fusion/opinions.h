/*
 * opinions.h: one classifier a modality, whose results an operator weighs sample by sample: what
 * QMF and TMC share.
 */
#ifndef MMFUSE_FUSION_OPINIONS_H
#define MMFUSE_FUSION_OPINIONS_H

#include "fusion/fusion.h"

/** Linear, ReLU, dropout for each hidden width, then linear; layers are called 0, 3, 6, ... */
typedef struct mmf_classifier {
    mmf_linear_layer *layers;
    size_t n_layers;
    double dropout;
} mmf_classifier;

typedef struct mmf_opinions {
    const mmf_schema *inputs; /* in the order of option `modalities` */
    int64_t classes;
    mmf_classifier *of;
    mmf_tensor **z; /* logits (B, C) of the last run */
} mmf_opinions;

#define MMF_OPINION_OPTIONS                                                                        \
    MMF_ORDER_OPTION,                                                                              \
        {"classes",                                                                                \
         "n_classes",                                                                              \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         1000000,                                                                                  \
         NULL,                                                                                     \
         "1",                                                                                      \
         "outputs of each classifier; models: those of the task"},                                 \
        {"hidden",                                                                                 \
         NULL,                                                                                     \
         MMF_OPTION_INTS,                                                                          \
         1,                                                                                        \
         65536,                                                                                    \
         NULL,                                                                                     \
         "",                                                                                       \
         "widths of the hidden layers of each modality's classifier; none: it is linear"},         \
    {                                                                                              \
        "classifier_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",                         \
            "behind each hidden layer"                                                             \
    }

/** Reads the options above. @param name  scope of the layers */
mmf_classifier mmf_classifier_build(mmf_builder *builder, const mmf_config *config,
                                    const char *name, int64_t inputs, int64_t classes);
mmf_tensor *mmf_classifier_run(mmf_tape *tape, const mmf_classifier *classifier, mmf_tensor *x);

/** `clf_<modality>` for each, under the released names: clf_rgb for vision. */
mmf_status mmf_opinions_build(mmf_builder *builder, const mmf_config *config,
                              const mmf_schema *inputs, mmf_opinions *opinions);
void mmf_opinions_run(mmf_tape *tape, const mmf_opinions *opinions, const mmf_named *in);

/** The target as a distribution a row (B, C); NULL where there is none, outside training. */
mmf_tensor *mmf_opinions_target(mmf_tape *tape, const mmf_opinions *opinions, const mmf_named *in);
/** Mean of x (B) over the rows in which `present` (B, or NULL: all) is 1; 0 if there are none. */
mmf_tensor *mmf_present_mean(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present);

#endif
