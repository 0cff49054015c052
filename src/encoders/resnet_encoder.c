/* resnet_encoder.c: residual networks as encoders of images: the mean over places of the last map,
 * or the places as steps, then a linear layer where another width is asked for; or the outputs of a
 * checkpoint's own classifier. */
#include <stdio.h>
#include <string.h>

#include "encoders/encoder.h"
#include "io/shards.h"
#include "nn/resnet.h"
#include "nn/builder.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 0, 8192, NULL, "0",
     "of the feature, by a linear layer; 0, or the network's own: the mean itself"},
    {"pooling", NULL, MMF_OPTION_TEXT, 0, 0, "mean|none", "mean",
     "over the places of the last map; none: a step a place, for models over steps"},
    {"output", NULL, MMF_OPTION_TEXT, 0, 0, "feature|logits", "feature",
     "logits: those of the classifier that the weights come with, of whatever width"},
    {"num_classes", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "of that classifier; 0: 1000, 10 for resnet20; a file of weights says it itself"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "before the last layer"},
    {"layers", NULL, MMF_OPTION_INTS, 1, 1000, "-", "",
     "blocks of each stage; default: by the name"},
    {"base", NULL, MMF_OPTION_INT, 1, 4096, "-", "",
     "channels of the stem; default: 64, 16 for resnet20"},
    {"statistics", NULL, MMF_OPTION_TEXT, 0, 0, "batch|fixed", "batch",
     "batch norm in training: of the batch, or its running ones as they are, which suits weights "
     "that others trained"},
    MMF_IMAGE_NORM_OPTIONS,
    {0},
};

typedef struct resnet_encoder {
    const char *input;
    mmf_resnet net;
    mmf_linear_layer project;
    bool has_steps, is_classifier;
    double dropout;
} resnet_encoder;

/* torchvision's name of the classifier; the networks for CIFAR have another. */
static const char *classifier_name(bool small_stem)
{
    return small_stem ? "linear" : "fc";
}

static int64_t classes_of(const mmf_config *config, bool small_stem)
{
    enum { IMAGENET = 1000, CIFAR = 10 };
    const int64_t given = mmf_config_int(config, "num_classes");
    return given > 0 ? given : small_stem ? CIFAR : IMAGENET;
}

/* What follows the network. */
static void build_end(mmf_builder *b, const mmf_config *config, resnet_encoder *e)
{
    const int64_t width = mmf_config_int(config, "width");
    const bool small_stem = e->net.sizes.small_stem;
    e->has_steps = strcmp(mmf_config_text(config, "pooling"), "none") == 0;
    e->is_classifier = strcmp(mmf_config_text(config, "output"), "logits") == 0;
    int64_t n_outputs = e->net.width;
    if (e->is_classifier && e->has_steps) {
        mmf_builder_fail(b, MMF_ARG, "%s: logits are of the whole image; pooling none has steps",
                         mmf_config_def(config)->name);
        return;
    }
    if (e->is_classifier)
        n_outputs = classes_of(config, small_stem);
    else if (width > 0)
        n_outputs = width;
    if (e->is_classifier || n_outputs != e->net.width)
        e->project = mmf_linear_build(b, e->is_classifier ? classifier_name(small_stem) : "project",
                                      e->net.width, n_outputs, true);
    mmf_builder_set_width(b, n_outputs);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    resnet_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const char *const name = mmf_config_def(config)->name;
    int64_t rows = 0, columns = 0;
    const mmf_resnet_sizes sizes = mmf_resnet_chosen(b, name, config, "layers", "base", in);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    e->input = in->name;
    e->net = mmf_resnet_build(b, &sizes, NULL);
    e->net.fixed_statistics = strcmp(mmf_config_text(config, "statistics"), "fixed") == 0;
    e->dropout = mmf_config_real(config, "dropout");
    build_end(b, config, e);
    mmf_resnet_grid(&sizes, in->shape[1], in->shape[2], &rows, &columns);
    if (e->has_steps)
        mmf_builder_set_grid(b, rows, columns);
    *self = e;
    return mmf_builder_status(b);
}

/* (B, C, h, w) -> (B, h w, C) */
static mmf_tensor *places(mmf_tape *tape, mmf_tensor *map)
{
    if (!map)
        return NULL;
    const int64_t shape[] = {map->shape[0], map->shape[1], map->shape[2] * map->shape[3]};
    return mmf_transpose(tape, mmf_reshape(tape, map, 3, shape), 1, 2);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const resnet_encoder *const e = self;
    mmf_tensor *const map = mmf_resnet_run(tape, &e->net, mmf_named_get(in, e->input));
    mmf_tensor *const x = mmf_dropout(
        tape, e->has_steps ? places(tape, map) : mmf_resnet_pool(tape, map), e->dropout);
    const mmf_activation act = e->has_steps || e->is_classifier ? MMF_ACT_NONE : MMF_ACT_RELU;
    mmf_named_put(tape, out, "feature",
                  e->project.weight ? mmf_linear_run(tape, &e->project, x, act) : x);
}

/* Statistics of a few batches would undo what the weights were trained with. */
static mmf_status describe(mmf_ctx *ctx, const char *path, const mmf_def *def, mmf_text *spec)
{
    mmf_resnet_sizes sizes;
    mmf_shards *shards = NULL;
    char bias[32];
    mmf_text_add(spec, ":statistics=fixed");
    MMF_TRY(mmf_shards_open(ctx, &shards, path));
    const bool is_known = mmf_resnet_named(def->name, &sizes);
    snprintf(bias, sizeof bias, "%s.bias", classifier_name(is_known && sizes.small_stem));
    for (size_t i = 0; i < mmf_shards_count(shards); i++) {
        const char *const name = mmf_shards_name(shards, i);
        const mmf_array *const header = mmf_shards_header(shards, i);
        if (strcmp(name + (strncmp(name, "module.", 7) == 0 ? 7 : 0), bias) == 0 &&
            header->n_dims == 1)
            mmf_text_add(spec, ":num_classes=%lld", (long long)header->shape[0]);
    }
    mmf_shards_close(shards);
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
                     "places as steps for models over steps, W x + b of each; NAME=FILE takes "    \
                     "weights with torchvision's names, and normalises images as they were "       \
                     "trained with",                                                               \
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
