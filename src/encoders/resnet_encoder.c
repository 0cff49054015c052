/* resnet_encoder.c: residual networks as encoders of images: the mean over places of the last map,
 * then a linear layer. */
#include <string.h>

#include "nn/resnet.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the feature"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "before the last layer"},
    {"layers", NULL, MMF_OPTION_INTS, 1, 1000, "-", "",
     "blocks of each stage; default: by the name"},
    {"base", NULL, MMF_OPTION_INT, 1, 4096, "-", "",
     "channels of the stem; default: 64, 16 for resnet20"},
    {"statistics", NULL, MMF_OPTION_TEXT, 0, 0, "batch|fixed", "batch",
     "batch norm in training: of the batch, or its running ones as they are, which suits weights "
     "that others trained"},
    {0},
};

typedef struct resnet_encoder {
    const char *input;
    mmf_resnet net;
    mmf_linear_layer project;
    double dropout;
} resnet_encoder;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    resnet_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const char *const name = mmf_config_def(config)->name;
    const int64_t width = mmf_config_int(config, "width");
    const mmf_resnet_sizes sizes = mmf_resnet_chosen(b, name, config, "layers", "base", in);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    e->input = in->name;
    e->net = mmf_resnet_build(b, &sizes, NULL);
    e->net.fixed_statistics = strcmp(mmf_config_text(config, "statistics"), "fixed") == 0;
    e->project = mmf_linear_build(b, "project", e->net.width, width, true);
    e->dropout = mmf_config_real(config, "dropout");
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const resnet_encoder *const e = self;
    mmf_tensor *const map = mmf_resnet_run(tape, &e->net, mmf_named_get(in, e->input));
    mmf_tensor *const pooled = mmf_dropout(tape, mmf_resnet_pool(tape, map), e->dropout);
    mmf_named_put(tape, out, "feature", mmf_linear_run(tape, &e->project, pooled, MMF_ACT_RELU));
}

#define PAPER "He et al., Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385"

#define RESNET(number, says)                                                                       \
    const mmf_def mmf_encoder_resnet##number = {                                                   \
        .name = "resnet" #number,                                                                  \
        .title = says,                                                                             \
        .paper = PAPER,                                                                            \
        .equations = "relu(W mean over places of the last map + b); parameters of the network by " \
                     "torchvision's names, the last layer is `project`",                           \
        .kind = MMF_KIND_ENCODER,                                                                  \
        .takes = MMF_TAKES_IMAGES,                                                                 \
        .options = options,                                                                        \
        .build = build,                                                                            \
        .run = run,                                                                                \
    }

RESNET(18, "Residual network of 18 layers");
RESNET(34, "Residual network of 34 layers");
RESNET(50, "Residual network of 50 layers, bottlenecks");
RESNET(101, "Residual network of 101 layers, bottlenecks");
RESNET(152, "Residual network of 152 layers, bottlenecks");
RESNET(20, "Small residual network of 20 layers for small images (CIFAR)");
