/* resnet.c: see resnet.h. */
#include "nn/resnet.h"
#include "nn/builder.h"
#include "nn/channels_last.h"

#include <string.h>

#define EXPANSION 4 /* of a bottleneck */

static const struct {
    const char *name;
    mmf_resnet_sizes sizes;
} named[] = {
    {"resnet18", {false, false, false, 4, {2, 2, 2, 2}, 64, 3}},
    {"resnet34", {false, false, false, 4, {3, 4, 6, 3}, 64, 3}},
    {"resnet50", {true, false, false, 4, {3, 4, 6, 3}, 64, 3}},
    {"resnet101", {true, false, false, 4, {3, 4, 23, 3}, 64, 3}},
    {"resnet152", {true, false, false, 4, {3, 8, 36, 3}, 64, 3}},
    {"resnet20", {false, true, true, 3, {3, 3, 3}, 16, 3}},
};

static const mmf_resnet_names torchvision = {
    "conv1",
    "bn1",
    {"layer1", "layer2", "layer3", "layer4", "layer5", "layer6", "layer7", "layer8"}};

bool mmf_resnet_named(const char *name, mmf_resnet_sizes *out)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(named[i].name, name) == 0) {
            *out = named[i].sizes;
            return true;
        }
    }
    return false;
}

static int64_t expansion(const mmf_resnet_sizes *sizes)
{
    return sizes->bottleneck ? EXPANSION : 1;
}

int64_t mmf_resnet_width(const mmf_resnet_sizes *sizes)
{
    return (sizes->width << (sizes->n_stages - 1)) * expansion(sizes);
}

static int64_t halved(int64_t size)
{
    return (size + 1) / 2;
}

void mmf_resnet_grid(const mmf_resnet_sizes *sizes, int64_t height, int64_t width, int64_t *rows,
                     int64_t *columns)
{
    *rows = height;
    *columns = width;
    for (int i = sizes->small_stem ? 1 : -1; i < sizes->n_stages; i++) {
        *rows = halved(*rows);
        *columns = halved(*columns);
    }
}

mmf_resnet_sizes mmf_resnet_chosen(mmf_builder *b, const char *name, const mmf_config *config,
                                   const char *layers, const char *base,
                                   const mmf_input_schema *image)
{
    mmf_resnet_sizes s = {0};
    const size_t n_stages = mmf_config_count(config, layers);
    if (!mmf_resnet_named(name, &s)) {
        mmf_builder_fail(b, MMF_ARG, "there is no image network \"%s\"", name);
        return s;
    }
    if (n_stages > MMF_RESNET_STAGES)
        mmf_builder_fail(b, MMF_ARG, "%s has %zu stages, at most %d are possible", layers, n_stages,
                         MMF_RESNET_STAGES);
    for (size_t i = 0; i < n_stages && i < MMF_RESNET_STAGES; i++)
        s.layers[i] = (int64_t)mmf_config_number_at(config, layers, i);
    if (n_stages > 0)
        s.n_stages = n_stages > MMF_RESNET_STAGES ? MMF_RESNET_STAGES : (int)n_stages;
    if (mmf_config_int(config, base) > 0)
        s.width = mmf_config_int(config, base);
    s.channels = image->shape[0];
    const int64_t least = (int64_t)1 << (s.n_stages + (s.small_stem ? -1 : 1));
    if (image->n_dims != 3 || image->shape[1] < least || image->shape[2] < least)
        mmf_builder_fail(b, MMF_SHAPE,
                         "%s: images of %s are %lld x %lld, at least %lld x %lld are needed; "
                         "enlarge them, or choose cnn2d",
                         name, image->name, (long long)image->shape[1], (long long)image->shape[2],
                         (long long)least, (long long)least);
    return s;
}

/* ---- Convolutions and blocks
 * ---------------------------------------------------------------------------- */

static mmf_resnet_conv conv_build(mmf_builder *b, const char *conv, const char *norm,
                                  int64_t inputs, int64_t outputs, int64_t kernel, int64_t stride)
{
    mmf_resnet_conv c = {.conv = {.n_spatial = 2,
                                  .window = {.kernel = {kernel, kernel},
                                             .stride = {stride, stride},
                                             .padding = {kernel / 2, kernel / 2}}}};
    const int64_t shape[] = {outputs, inputs, kernel, kernel};
    mmf_builder_enter(b, conv);
    mmf_builder_reordered(b, true);
    c.conv.weight = mmf_builder_param(b, "weight", MMF_PARAM_TRAINED,
                                      mmf_init_kaiming_normal(4, shape), 4, shape);
    mmf_builder_reordered(b, false);
    mmf_builder_leave(b);
    c.norm = mmf_batch_norm_build(b, norm, outputs, 1);
    return c;
}

/* Option A of He et al. as a convolution without parameters: every second pixel, and channel c of
 * the image is channel c + more / 2, between zeros. */
static mmf_tensor *new_padding(mmf_builder *b, int64_t inputs, int64_t outputs)
{
    const int64_t count = outputs * inputs;
    if (outputs < inputs) {
        mmf_builder_fail(b, MMF_SHAPE,
                         "a padded shortcut adds channels, and the block has %lld for %lld; choose "
                         "more planes",
                         (long long)outputs, (long long)inputs);
        return NULL;
    }
    mmf_tensor *const weight = mmf_builder_alloc(b, sizeof *weight);
    mmf_real *const data = mmf_builder_alloc(b, (size_t)count * sizeof *data);
    if (!weight || !data)
        return NULL;
    for (int64_t c = 0; c < inputs; c++)
        data[((outputs - inputs) / 2 + c) * inputs + c] = 1;
    *weight =
        (mmf_tensor){.data = data, .count = count, .shape = {outputs, inputs, 1, 1}, .n_dims = 4};
    return weight;
}

static mmf_window every(int64_t stride)
{
    return (mmf_window){{1, 1}, {stride, stride}, {0, 0}};
}

mmf_resnet_block mmf_resnet_block_build(mmf_builder *b, const mmf_resnet_sizes *sizes,
                                        int64_t inputs, int64_t planes, int64_t stride)
{
    mmf_resnet_block block = {
        .stride = stride, .inputs = inputs, .outputs = planes * expansion(sizes)};
    if (sizes->bottleneck) {
        block.n_convs = 3;
        block.convs[0] = conv_build(b, "conv1", "bn1", inputs, planes, 1, 1);
        block.convs[1] = conv_build(b, "conv2", "bn2", planes, planes, 3, stride);
        block.convs[2] = conv_build(b, "conv3", "bn3", planes, block.outputs, 1, 1);
    } else {
        block.n_convs = 2;
        block.convs[0] = conv_build(b, "conv1", "bn1", inputs, planes, 3, stride);
        block.convs[1] = conv_build(b, "conv2", "bn2", planes, planes, 3, 1);
    }
    const bool changes = stride != 1 || inputs != block.outputs;
    block.has_downsample = changes && !sizes->padded_shortcut;
    if (block.has_downsample) {
        mmf_builder_enter(b, "downsample");
        block.downsample = conv_build(b, "0", "1", inputs, block.outputs, 1, stride);
        mmf_builder_leave(b);
    } else if (changes) {
        block.padding = new_padding(b, inputs, block.outputs);
    }
    return block;
}

/* ---- The same network as a program ------------------------------------------------------- */

static const mmf_window stem_pooling = {{3, 3}, {2, 2}, {1, 1}};

typedef struct writer {
    mmf_builder *b;
    mmf_conv_step *next;
} writer;

static mmf_conv_step *write_conv(writer *w, const mmf_resnet_conv *c, int from, int to)
{
    const mmf_batch_norm_layer *const n = &c->norm;
    *w->next = (mmf_conv_step){
        .weight = c->conv.weight,
        .norm = {n->weight, n->bias, n->running_mean, n->running_var, n->eps},
        .window = c->conv.window,
        .from = from,
        .to = to,
    };
    return w->next++;
}

/* @return the slot of the block's output */
static int write_block(writer *w, const mmf_resnet_block *block, int from, int other)
{
    enum { BETWEEN = 2 };
    int to = from;
    if (block->has_downsample)
        write_conv(w, &block->downsample, from, to = other);
    else if (block->padding)
        *w->next++ = (mmf_conv_step){.weight = block->padding,
                                     .window = every(block->stride),
                                     .from = from,
                                     .to = to = other};
    for (int i = 0; i < block->n_convs; i++) {
        const bool last = i + 1 == block->n_convs;
        mmf_conv_step *const step = write_conv(w, &block->convs[i], i == 0 ? from : BETWEEN + i - 1,
                                               last ? to : BETWEEN + i);
        step->add = last;
        step->relu = true;
    }
    return to;
}

static void write_program(mmf_builder *b, mmf_resnet *net)
{
    const int n_steps = 2 + net->n_blocks * (MMF_RESNET_BLOCK_CONVS + 1);
    mmf_conv_step *const steps = mmf_builder_alloc(b, (size_t)n_steps * sizeof *steps);
    if (!steps)
        return;
    writer w = {b, steps};
    int at = 0;
    write_conv(&w, &net->stem, MMF_CONV_INPUT, at)->relu = true;
    if (!net->sizes.small_stem)
        *w.next++ = (mmf_conv_step){.window = stem_pooling, .from = 0, .to = at = 1};
    for (int i = 0; i < net->n_blocks; i++)
        at = write_block(&w, &net->blocks[i], at, 1 - at);
    net->program = (mmf_conv_program){steps, (int)(w.next - steps)};
}

/* ---- The network ------------------------------------------------------------------------- */

mmf_resnet mmf_resnet_build(mmf_builder *b, const mmf_resnet_sizes *sizes,
                            const mmf_resnet_names *names)
{
    mmf_resnet net = {.sizes = *sizes, .width = mmf_resnet_width(sizes)};
    int64_t n_blocks = 0;
    for (int s = 0; s < sizes->n_stages; s++)
        n_blocks += sizes->layers[s];
    net.n_blocks = (int)n_blocks;
    net.blocks = mmf_builder_alloc(b, (size_t)n_blocks * sizeof *net.blocks);
    if (!net.blocks)
        return net;
    names = names ? names : &torchvision;
    const bool small = sizes->small_stem;
    net.stem = conv_build(b, names->conv, names->norm, sizes->channels, sizes->width, small ? 3 : 7,
                          small ? 1 : 2);
    int64_t inputs = sizes->width;
    mmf_resnet_block *block = net.blocks;
    for (int s = 0; s < sizes->n_stages; s++) {
        const int64_t planes = sizes->width << s;
        mmf_builder_enter(b, names->stages[s]);
        for (int64_t k = 0; k < sizes->layers[s]; k++, block++) {
            mmf_builder_enter(b, mmf_builder_text(b, "%lld", (long long)k));
            *block = mmf_resnet_block_build(b, sizes, inputs, planes, k == 0 && s > 0 ? 2 : 1);
            mmf_builder_leave(b);
            inputs = block->outputs;
        }
        mmf_builder_leave(b);
    }
    write_program(b, &net);
    return net;
}

/* ---- Running ----------------------------------------------------------------------------- */

/* With channels last; `around` is what follows the norm. */
static mmf_tensor *conv_run(mmf_tape *tape, const mmf_resnet *net, const mmf_resnet_conv *c,
                            mmf_tensor *x, const mmf_norm_around *around)
{
    return mmf_batch_norm_last_run(tape, &c->norm, mmf_conv_last_run(tape, &c->conv, x),
                                   net->fixed_statistics, around);
}

static mmf_tensor *block_run(mmf_tape *tape, const mmf_resnet *net, const mmf_resnet_block *block,
                             mmf_tensor *x)
{
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    const mmf_window spread = every(block->stride);
    mmf_norm_around around = {.residual = x};
    if (block->has_downsample)
        around.residual = conv_run(tape, net, &block->downsample, x, &(mmf_norm_around){0});
    else if (block->padding)
        around.residual = mmf_conv_last(tape, x, block->padding, NULL, &spread);
    if (!around.residual)
        return NULL;
    around.relu = true;
    for (int i = 0; i + 1 < block->n_convs; i++)
        x = conv_run(tape, net, &block->convs[i], x, &(mmf_norm_around){.relu = true});
    x = conv_run(tape, net, &block->convs[block->n_convs - 1], x, &around);
    return mmf_tape_leave(tape, mark, x);
}

mmf_tensor *mmf_resnet_block_run(mmf_tape *tape, const mmf_resnet *net,
                                 const mmf_resnet_block *block, mmf_tensor *x)
{
    return mmf_channels_first(tape, block_run(tape, net, block, mmf_channels_last(tape, x)));
}

/* No gradient passes through, and norms use their running statistics. */
static bool is_constant(const mmf_tape *tape, const mmf_resnet *net, const mmf_tensor *x)
{
    const mmf_pass *const pass = mmf_tape_pass(tape);
    if (pass->training && !net->fixed_statistics)
        return false;
    bool wanted = x && x->wants_grad;
    for (int i = 0; i < net->program.n_steps && !wanted; i++) {
        const mmf_conv_step *const step = &net->program.steps[i];
        wanted =
            step->weight &&
            (step->weight->wants_grad ||
             (step->norm.weight && (step->norm.weight->wants_grad || step->norm.bias->wants_grad)));
    }
    return !pass->record || !wanted;
}

mmf_tensor *mmf_resnet_run(mmf_tape *tape, const mmf_resnet *net, mmf_tensor *x)
{
    if (is_constant(tape, net, x)) {
        mmf_tensor *const map = mmf_conv_program_run(tape, &net->program, x);
        if (map)
            return map;
    }
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    const mmf_norm_around around = {.pool = net->sizes.small_stem ? NULL : &stem_pooling,
                                    .relu = true};
    x = conv_run(tape, net, &net->stem, mmf_channels_last(tape, x), &around);
    x = mmf_tape_leave(tape, mark, x);
    for (int i = 0; i < net->n_blocks; i++)
        x = mmf_tape_leave(tape, mark, block_run(tape, net, &net->blocks[i], x));
    return mmf_tape_leave(tape, mark, mmf_channels_first(tape, x));
}

mmf_tensor *mmf_resnet_pool(mmf_tape *tape, mmf_tensor *map)
{
    if (!map)
        return NULL;
    return mmf_mean(tape, mmf_reshape(tape, map, 3, (int64_t[]){map->shape[0], map->shape[1], -1}),
                    -1);
}
