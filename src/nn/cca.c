/*
 * cca.c: canonical correlation analysis and the loss of its deep form as registered layers over the
 * rows of one batch.
 *
 * Hotelling, Biometrika 1936; Andrew et al., ICML 2013, with the closed form of the gradient. The
 * networks are those of Michaelvll/DeepCCA. Its option for all singular values takes an
 * element-wise root and returns something else than their sum; here the definition counts.
 */
#include <string.h>

#include "mmfuse/nn.h"

/* ---- CCA --------------------------------------------------------------------------------- */

static const mmf_option cca_options[] = {
    {"components", NULL, MMF_OPTION_INT, 1, 1e6, NULL, "",
     "canonical pairs; default: as many as the narrower view has columns"},
    {"regularization", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1e-4",
     "added to the diagonals of both covariances"},
    {0},
};

/* The two views; `text` comes first where there is one. */
typedef struct views {
    const mmf_input_schema *x, *y;
} views;

static bool find_views(mmf_builder *b, const char *name, const mmf_schema *inputs, views *out)
{
    if (inputs->count != 2 || inputs->inputs[0].n_dims != 1 || inputs->inputs[1].n_dims != 1 ||
        inputs->inputs[0].kind == MMF_TOKENS || inputs->inputs[1].kind == MMF_TOKENS) {
        mmf_builder_fail(b, MMF_SHAPE, "%s takes two vectors", name);
        return false;
    }
    const bool swap = strcmp(inputs->inputs[1].name, "text") == 0;
    *out = (views){&inputs->inputs[swap ? 1 : 0], &inputs->inputs[swap ? 0 : 1]};
    return true;
}

static int64_t narrower(int64_t p, int64_t q)
{
    return p < q ? p : q;
}

typedef struct cca_layer {
    views views;
    int64_t k;
    double r;
} cca_layer;

static mmf_status cca_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    cca_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer || !find_views(b, "cca", inputs, &layer->views))
        return mmf_builder_status(b);
    const int64_t most = narrower(layer->views.x->shape[0], layer->views.y->shape[0]);
    layer->k =
        mmf_config_is_set(config, "components") ? mmf_config_int(config, "components") : most;
    layer->r = mmf_config_real(config, "regularization");
    if (layer->k > most)
        return mmf_builder_fail(b, MMF_ARG,
                                "cca: %lld components, the narrower view has %lld "
                                "columns",
                                (long long)layer->k, (long long)most);
    *self = layer;
    return mmf_builder_status(b);
}

static void cca_run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                    mmf_named *out)
{
    (void)step;
    const cca_layer *const l = self;
    const char *const x = l->views.x->name, *const y = l->views.y->name;
    const mmf_correlation c = mmf_canonical_correlation(tape, mmf_named_get(in, x),
                                                        mmf_named_get(in, y), NULL, l->k, l->r);
    mmf_named_put(tape, out, "correlation", c.correlation);
    mmf_named_putf(tape, out, c.x_projection, "projection.%s", x);
    mmf_named_putf(tape, out, c.y_projection, "projection.%s", y);
}

const mmf_def mmf_layer_cca = {
    .name = "cca",
    .title = "Canonical correlation analysis of a batch",
    .paper = "Hotelling, Relations between two sets of variates, Biometrika 1936",
    .equations = "S_xx^{-1/2} S_xy S_yy^{-1/2} = U D V', A = S_xx^{-1/2} U, B = S_yy^{-1/2} V",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY,
    .options = cca_options,
    .build = cca_build,
    .run = cca_run,
};

/* ---- DCCA -------------------------------------------------------------------------------- */

static const mmf_option dcca_options[] = {
    {"components", "outdim_size", MMF_OPTION_INT, 1, 1e6, NULL, "",
     "correlations that the loss sums; default: all"},
    {"all", "use_all_singular_values", MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "sum all of them, whatever `components` says"},
    {"regularization", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1e-3",
     "added to the diagonals of both covariances"},
    {"layers_text", "layer_sizes1", MMF_OPTION_INTS, 1, 65536, NULL, "",
     "widths of the first view's network; default: none, the view itself"},
    {"layers_vision", "layer_sizes2", MMF_OPTION_INTS, 1, 65536, NULL, "",
     "widths of the second view's network"},
    {"bn_eps", NULL, MMF_OPTION_REAL, 1e-12, 1, NULL, "1e-5", "batch norm's eps"},
    {0},
};

/* Linear, sigmoid, batch norm; last batch norm, linear. The norms have no gain. */
typedef struct deep_layer {
    mmf_linear_layer linear;
    mmf_batch_norm_layer norm;
} deep_layer;

typedef struct deep_net {
    size_t count; /* 0: the view itself */
    deep_layer *layers;
    int64_t width;
} deep_net;

typedef struct dcca_layer {
    views views;
    deep_net x_net, y_net;
    int64_t k;
    double r;
} dcca_layer;

static mmf_batch_norm_layer plain_norm(mmf_builder *b, const char *name, int64_t width, double eps)
{
    mmf_batch_norm_layer norm = {.axis = 1, .eps = eps};
    mmf_builder_enter(b, name);
    norm.running_mean =
        mmf_builder_param(b, "running_mean", MMF_PARAM_BUFFER, mmf_init_constant(0), 1, &width);
    norm.running_var =
        mmf_builder_param(b, "running_var", MMF_PARAM_BUFFER, mmf_init_constant(1), 1, &width);
    mmf_builder_leave(b);
    return norm;
}

static deep_net build_net(mmf_builder *b, const mmf_config *config, const char *name,
                          const char *option, int64_t inputs)
{
    deep_net net = {.count = mmf_config_count(config, option), .width = inputs};
    const double eps = mmf_config_real(config, "bn_eps");
    net.layers = mmf_builder_alloc(b, (net.count + 1) * sizeof *net.layers);
    mmf_builder_enter(b, name);
    for (size_t i = 0; net.layers && i < net.count; i++) {
        const int64_t width = (int64_t)mmf_config_number_at(config, option, i);
        const bool is_last = i + 1 == net.count;
        mmf_builder_enter(b, mmf_builder_text(b, "layers.%zu", i));
        net.layers[i].linear = mmf_linear_build(b, is_last ? "1" : "0", net.width, width, true);
        net.layers[i].norm = plain_norm(b, is_last ? "0" : "2", is_last ? net.width : width, eps);
        mmf_builder_leave(b);
        net.width = width;
    }
    mmf_builder_leave(b);
    return net;
}

static mmf_tensor *run_net(mmf_tape *tape, const deep_net *net, mmf_tensor *x)
{
    for (size_t i = 0; i < net->count; i++) {
        const deep_layer *const layer = &net->layers[i];
        if (i + 1 == net->count)
            return mmf_linear_run(tape, &layer->linear, mmf_batch_norm_run(tape, &layer->norm, x),
                                  MMF_ACT_NONE);
        x = mmf_linear_run(tape, &layer->linear, x, MMF_ACT_SIGMOID);
        x = mmf_batch_norm_run(tape, &layer->norm, x);
    }
    return x;
}

static mmf_status dcca_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    dcca_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer || !find_views(b, "dcca", inputs, &layer->views))
        return mmf_builder_status(b);
    layer->r = mmf_config_real(config, "regularization");
    layer->x_net = build_net(b, config, "model1", "layers_text", layer->views.x->shape[0]);
    layer->y_net = build_net(b, config, "model2", "layers_vision", layer->views.y->shape[0]);
    const int64_t most = narrower(layer->x_net.width, layer->y_net.width);
    const bool chosen = mmf_config_is_set(config, "components") && !mmf_config_bool(config, "all");
    layer->k = chosen ? narrower(mmf_config_int(config, "components"), most) : most;
    *self = layer;
    return mmf_builder_status(b);
}

static void dcca_run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                     mmf_named *out)
{
    (void)step;
    const dcca_layer *const l = self;
    const char *const x_name = l->views.x->name, *const y_name = l->views.y->name;
    mmf_tensor *const x = run_net(tape, &l->x_net, mmf_named_get(in, x_name));
    mmf_tensor *const y = run_net(tape, &l->y_net, mmf_named_get(in, y_name));
    const int64_t all = narrower(l->x_net.width, l->y_net.width);
    mmf_tensor *const d = mmf_canonical_correlation(tape, x, y, NULL, all, l->r).correlation;
    mmf_tensor *const top = mmf_slice(tape, d, 0, 0, l->k);
    mmf_tensor *const raised = mmf_affine(tape, mmf_mul(tape, top, top), 1, l->r);
    mmf_named_put(tape, out, "loss", mmf_affine(tape, mmf_sum(tape, top, MMF_ALL_AXES), -1, 0));
    mmf_named_put(tape, out, "loss.released",
                  mmf_affine(tape, mmf_sum(tape, mmf_sqrt(tape, raised), MMF_ALL_AXES), -1, 0));
    mmf_named_put(tape, out, "correlation", d);
    if (l->x_net.count > 0)
        mmf_named_putf(tape, out, x, "hidden.%s", x_name);
    if (l->y_net.count > 0)
        mmf_named_putf(tape, out, y, "hidden.%s", y_name);
}

const mmf_def mmf_layer_dcca = {
    .name = "dcca",
    .title = "Deep canonical correlation analysis of a batch",
    .paper = "Andrew et al., Deep canonical correlation analysis, ICML 2013",
    .equations = "loss = -sum_{i <= k} D_i, S_xx^{-1/2} S_xy S_yy^{-1/2} = U D V' of the networks' "
                 "outputs; deviation: the released code adds r to D_i^2 (loss.released)",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY,
    .options = dcca_options,
    .build = dcca_build,
    .run = dcca_run,
};
