/* resnet_layer.c: the registered layer `resnet`: a network, or one of its blocks alone. */
#include <string.h>

#include "nn/resnet.h"

static const mmf_option options[] = {
    {"block", NULL, MMF_OPTION_TEXT, 0, 0, "basic|bottleneck", "basic",
     "two 3x3 convolutions, or 1x1, 3x3, 1x1"},
    {"layers", NULL, MMF_OPTION_INTS, 1, 1000, "-", "2,2,2,2", "blocks of each stage"},
    {"width", NULL, MMF_OPTION_INT, 1, 4096, NULL, "64",
     "channels of the stem and the first stage"},
    {"num_classes", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "1000", "outputs; 0: no classifier"},
    {"stem", NULL, MMF_OPTION_TEXT, 0, 0, "imagenet|cifar", "imagenet",
     "7x7 of stride 2 and pooling, or 3x3"},
    {"shortcut", NULL, MMF_OPTION_TEXT, 0, 0, "B|A", "B",
     "where shapes change: a 1x1 convolution (B), or every second pixel and zeros (A)"},
    {"fixed_statistics", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "batch norm keeps its running statistics in training"},
    {"planes", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "width of one block alone; 0: the whole network"},
    {"inplanes", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "channels that the one block takes; 0: those of the input"},
    {"stride", NULL, MMF_OPTION_INT, 1, 16, NULL, "1", "of the one block"},
    {0},
};

typedef struct resnet_layer {
    const char *input;
    mmf_resnet net;
    mmf_resnet_block block; /* n_convs 0: the whole network */
    mmf_linear_layer classifier;
} resnet_layer;

static mmf_resnet_sizes sizes_of(const mmf_config *config, int64_t channels)
{
    mmf_resnet_sizes s = {.bottleneck = strcmp(mmf_config_text(config, "block"), "bottleneck") == 0,
                          .small_stem = strcmp(mmf_config_text(config, "stem"), "cifar") == 0,
                          .padded_shortcut = strcmp(mmf_config_text(config, "shortcut"), "A") == 0,
                          .n_stages = (int)mmf_config_count(config, "layers"),
                          .width = mmf_config_int(config, "width"),
                          .channels = channels};
    for (int i = 0; i < s.n_stages && i < MMF_RESNET_STAGES; i++)
        s.layers[i] = (int64_t)mmf_config_number_at(config, "layers", (size_t)i);
    return s;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    resnet_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer)
        return mmf_builder_status(b);
    if (inputs->count != 1 || inputs->inputs[0].n_dims != 3)
        return mmf_builder_fail(b, MMF_SHAPE, "resnet takes one image (B, C, H, W)");
    const int64_t channels = inputs->inputs[0].shape[0];
    const mmf_resnet_sizes sizes = sizes_of(config, channels);
    const int64_t planes = mmf_config_int(config, "planes");
    const int64_t expected = mmf_config_int(config, "inplanes");
    const int64_t n_classes = mmf_config_int(config, "num_classes");
    layer->input = inputs->inputs[0].name;
    *self = layer;
    if (sizes.n_stages < 1 || sizes.n_stages > MMF_RESNET_STAGES)
        return mmf_builder_fail(b, MMF_ARG,
                                "resnet: layers has %d stages, from 1 to %d are possible",
                                sizes.n_stages, MMF_RESNET_STAGES);
    if (planes > 0 && expected > 0 && expected != channels)
        return mmf_builder_fail(b, MMF_SHAPE, "resnet: inplanes is %lld, %s has %lld channels",
                                (long long)expected, layer->input, (long long)channels);
    if (planes > 0) {
        layer->net.sizes = sizes;
        layer->block =
            mmf_resnet_block_build(b, &sizes, channels, planes, mmf_config_int(config, "stride"));
    } else {
        layer->net = mmf_resnet_build(b, &sizes, NULL);
        if (n_classes > 0)
            layer->classifier = mmf_linear_build(b, sizes.small_stem ? "linear" : "fc",
                                                 layer->net.width, n_classes, true);
    }
    layer->net.fixed_statistics = mmf_config_bool(config, "fixed_statistics");
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const resnet_layer *const l = self;
    mmf_tensor *const x = mmf_named_get(in, l->input);
    if (l->block.n_convs > 0) {
        mmf_named_put(tape, out, "output", mmf_resnet_block_run(tape, &l->net, &l->block, x));
        return;
    }
    mmf_tensor *const map = mmf_resnet_run(tape, &l->net, x);
    mmf_tensor *const pooled = mmf_resnet_pool(tape, map);
    mmf_named_put(tape, out, "feature_map", map);
    mmf_named_put(tape, out, "pooled", pooled);
    if (l->classifier.weight)
        mmf_named_put(tape, out, "logits",
                      mmf_linear_run(tape, &l->classifier, pooled, MMF_ACT_NONE));
}

const mmf_def mmf_layer_resnet = {
    .name = "resnet",
    .title = "Residual network",
    .paper =
        "He et al., Deep residual learning for image recognition, CVPR 2016, arXiv:1512.03385; "
        "layout of torchvision",
    .equations = "stem; blocks relu(F(x) + shortcut(x)), F of two 3x3 or of 1x1, 3x3 (with the "
                 "stride), 1x1 convolutions, each with batch norm; mean over places; W x + b",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_IMAGES | MMF_ONE_ONLY,
    .options = options,
    .build = build,
    .run = run,
};
