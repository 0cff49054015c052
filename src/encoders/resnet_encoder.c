/* resnet_encoder.c: residual networks as encoders of images: the mean over places of the last map,
 * then a linear layer where another width is asked for. */
#include <string.h>

#include "nn/pretrained.h"
#include "nn/resnet.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 0, 8192, NULL, "0",
     "of the feature, by a linear layer; 0, or the network's own: the mean itself"},
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
    if (width > 0 && width != e->net.width)
        e->project = mmf_linear_build(b, "project", e->net.width, width, true);
    e->dropout = mmf_config_real(config, "dropout");
    mmf_builder_set_width(b, e->project.weight ? width : e->net.width);
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
    mmf_named_put(tape, out, "feature",
                  e->project.weight ? mmf_linear_run(tape, &e->project, pooled, MMF_ACT_RELU)
                                    : pooled);
}

/* Statistics of a few batches would undo what the weights were trained with. */
static mmf_status describe(mmf_ctx *ctx, const char *path, const mmf_def *def, mmf_text *spec)
{
    (void)ctx, (void)path, (void)def;
    mmf_text_add(spec, ":statistics=fixed");
    return spec->status;
}

static const char *const prefixes[] = {"module.", NULL};
static const char *const ignored[] = {"*.num_batches_tracked", "fc.", "linear.", NULL};
static const char *const optional[] = {"project.", "absent", NULL};
static const mmf_pretrained_rules rules = {
    .prefixes = prefixes, .ignored = ignored, .optional = optional};
/* ImageNet's, which CIFAR's networks were trained with as well. */
static const mmf_image_norm norm = {{0.485F, 0.456F, 0.406F}, {0.229F, 0.224F, 0.225F}};
static const mmf_source source = {describe, &rules, "", &norm};

#define PAPER "He et al., Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385"

#define RESNET(number, says)                                                                       \
    const mmf_def mmf_encoder_resnet##number = {                                                   \
        .name = "resnet" #number,                                                                  \
        .title = says,                                                                             \
        .paper = PAPER,                                                                            \
        .equations = "mean over places of the last map x, or relu(W x + b) of another width; "     \
                     "NAME=FILE takes weights with torchvision's names, and normalises images "    \
                     "as they were trained with",                                                  \
        .kind = MMF_KIND_ENCODER,                                                                  \
        .takes = MMF_TAKES_IMAGES,                                                                 \
        .options = options,                                                                        \
        .build = build,                                                                            \
        .run = run,                                                                                \
        .source = &source,                                                                         \
    }

RESNET(18, "Residual network of 18 layers");
RESNET(34, "Residual network of 34 layers");
RESNET(50, "Residual network of 50 layers, bottlenecks");
RESNET(101, "Residual network of 101 layers, bottlenecks");
RESNET(152, "Residual network of 152 layers, bottlenecks");
RESNET(20, "Small residual network of 20 layers for small images (CIFAR)");
