/*
 * film.c: feature-wise linear modulation: one modality scales and shifts the channels of another.
 *
 * Perez, Strub, de Vries, Dumoulin, Courville, FiLM: visual reasoning with a general conditioning
 * layer, AAAI 2018, eq. (1) and (2). The modulated modality may be a vector, a sequence of channels
 * or an image (C, H, W). `block` residual is the released block around it (figure 3): coordinates,
 * 1x1 convolution, and a convolution whose batch norm has no parameters of its own, since gamma and
 * beta stand in for them. As released, gamma = 1 + what the layer puts out.
 */
#include <string.h>

#include "fusion/fusion.h"

static const mmf_option options[] = {
    {"by", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "the modality that conditions the other; default: text, else the first, but never an image"},
    {"block", NULL, MMF_OPTION_TEXT, 0, 0, "layer|residual", "layer",
     "the modulation alone, or the residual block around it; a vector is an image of one pixel"},
    {"condition_method", NULL, MMF_OPTION_TEXT, 0, 0, "bn-film|conv-film|relu-film", "bn-film",
     "residual block: modulate after batch norm, before it, or after the ReLU"},
    {"coordinates", NULL, MMF_OPTION_INT, 0, 2, NULL, "2",
     "residual block: channels of pixel positions appended to the image, 0 or 2"},
    {"kernel", NULL, MMF_OPTION_INT, 0, 63, NULL, "3",
     "residual block: size of its convolution, odd; the layer has none"},
    {"bn_eps", NULL, MMF_OPTION_REAL, 1e-12, 1, NULL, "1e-5", "residual block: batch norm's eps"},
    {"channels", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "channels that the modulated modality must have; 0: as many as it has"},
    {"condition", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "width that the conditioning modality must have; 0: any"},
    {0},
};

typedef enum method { BN_FILM, CONV_FILM, RELU_FILM } method;

typedef struct film_operator {
    const mmf_input_schema *condition, *content;
    int64_t channels;
    mmf_linear_layer decoder_linear; /* to [gamma - 1; beta] */
    bool residual, coordinates;
    method method;
    mmf_conv_layer input_proj, conv1;
    mmf_batch_norm_layer bn1; /* without weight and bias */
} film_operator;

static void build_block(mmf_builder *b, const mmf_config *config, film_operator *op)
{
    const char *const order = mmf_config_text(config, "condition_method");
    const bool is_vector = op->content->n_dims == 1; /* an image of one pixel */
    const int64_t kernel = is_vector ? 1 : mmf_config_int(config, "kernel"), c = op->channels;
    const int64_t coordinates = is_vector ? 0 : mmf_config_int(config, "coordinates");
    if (op->content->n_dims == 2 || kernel % 2 == 0 || coordinates == 1) {
        mmf_builder_fail(b, MMF_ARG,
                         "film: the residual block takes vectors and images (%s has %d "
                         "dimensions), an odd kernel (%lld) and 0 or 2 coordinates (%lld)",
                         op->content->name, op->content->n_dims, (long long)kernel,
                         (long long)coordinates);
        return;
    }
    op->coordinates = coordinates == 2;
    op->method = strcmp(order, "bn-film") == 0     ? BN_FILM
                 : strcmp(order, "conv-film") == 0 ? CONV_FILM
                                                   : RELU_FILM;
    const mmf_window one = {.kernel = {1, 1}};
    const mmf_window wide = {.kernel = {kernel, kernel}, .padding = {kernel / 2, kernel / 2}};
    mmf_builder_enter(b, "block");
    op->input_proj = mmf_conv_build(b, "input_proj", 2, c + coordinates, c, &one, true);
    op->conv1 = mmf_conv_build(b, "conv1", 2, c, c, &wide, true);
    mmf_builder_enter(b, "bn1");
    op->bn1 = (mmf_batch_norm_layer){.axis = 1, .eps = mmf_config_real(config, "bn_eps")};
    op->bn1.running_mean =
        mmf_builder_param(b, "running_mean", MMF_PARAM_BUFFER, mmf_init_constant(0), 1, &c);
    op->bn1.running_var =
        mmf_builder_param(b, "running_var", MMF_PARAM_BUFFER, mmf_init_constant(1), 1, &c);
    mmf_builder_leave(b);
    mmf_builder_leave(b);
}

static void choose(mmf_builder *b, const mmf_config *config, const mmf_schema *schema,
                   film_operator *op)
{
    const char *const by = mmf_config_text(config, "by");
    const int64_t channels = mmf_config_int(config, "channels");
    const int64_t condition = mmf_config_int(config, "condition");
    const mmf_input_schema *const text = mmf_schema_find(schema, "text");
    const bool image_first = schema->inputs[0].n_dims != 1 && schema->inputs[1].n_dims == 1;
    op->condition = *by ? mmf_schema_find(schema, by) : text ? text : &schema->inputs[image_first];
    if (!op->condition) {
        mmf_builder_fail(b, MMF_ARG, "film: there is no modality \"%s\" to condition the other",
                         by);
        return;
    }
    op->content = &schema->inputs[op->condition == &schema->inputs[0]];
    op->channels = op->content->shape[0];
    if (op->condition->n_dims != 1)
        mmf_builder_fail(b, MMF_SHAPE, "film: %s must be a vector to condition %s",
                         op->condition->name, op->content->name);
    else if (channels > 0 && channels != op->channels)
        mmf_builder_fail(b, MMF_ARG, "film: %s has %lld channels, option channels is %lld",
                         op->content->name, (long long)op->channels, (long long)channels);
    else if (condition > 0 && condition != op->condition->shape[0])
        mmf_builder_fail(b, MMF_ARG, "film: %s is %lld wide, option condition is %lld",
                         op->condition->name, (long long)op->condition->shape[0],
                         (long long)condition);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    film_operator *const op = mmf_builder_alloc(b, sizeof *op);
    const mmf_schema *const schema = op ? mmf_operator_order(b, NULL, inputs) : NULL;
    if (!schema)
        return mmf_builder_status(b);
    if (inputs->count != 2)
        return mmf_builder_fail(b, MMF_SHAPE, "film takes two modalities, got %zu", inputs->count);
    choose(b, config, schema, op);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    op->decoder_linear =
        mmf_linear_build(b, "decoder_linear", op->condition->shape[0], 2 * op->channels, true);
    op->residual = strcmp(mmf_config_text(config, "block"), "residual") == 0;
    if (op->residual)
        build_block(b, config, op);
    int64_t width = 1;
    for (int d = 0; d < op->content->n_dims; d++)
        width *= op->content->shape[d];
    mmf_builder_set_width(b, width);
    *self = op;
    return mmf_builder_status(b);
}

typedef struct modulation {
    mmf_tensor *gamma, *beta; /* (B, C, 1, ...) */
} modulation;

/* gamma * x + beta, eq. (2). */
static mmf_tensor *modulate(mmf_tape *tape, const modulation *m, mmf_tensor *x)
{
    return mmf_add(tape, mmf_mul(tape, m->gamma, x), m->beta);
}

/* Columns from -1 to 1, then rows: two more channels. */
static mmf_tensor *with_coordinates(mmf_tape *tape, mmf_tensor *x)
{
    if (!x)
        return NULL;
    const int64_t h = x->shape[2], w = x->shape[3], plane[] = {x->shape[0], 1, h, w};
    mmf_tensor *const column =
        mmf_reshape(tape, mmf_linspace(tape, w, -1, 1), 4, (int64_t[]){1, 1, 1, w});
    mmf_tensor *const row =
        mmf_reshape(tape, mmf_linspace(tape, h, -1, 1), 4, (int64_t[]){1, 1, h, 1});
    mmf_tensor *const parts[] = {x, mmf_expand(tape, column, 4, plane),
                                 mmf_expand(tape, row, 4, plane)};
    return mmf_concat(tape, parts, 3, 1);
}

static mmf_tensor *run_block(mmf_tape *tape, const film_operator *op, const modulation *m,
                             mmf_tensor *x)
{
    if (op->coordinates)
        x = with_coordinates(tape, x);
    mmf_tensor *const a = mmf_relu(tape, mmf_conv_run(tape, &op->input_proj, x));
    mmf_tensor *y = mmf_conv_run(tape, &op->conv1, a);
    if (op->method == CONV_FILM)
        y = modulate(tape, m, y);
    y = mmf_batch_norm_run(tape, &op->bn1, y);
    if (op->method == BN_FILM)
        y = modulate(tape, m, y);
    y = mmf_relu(tape, y);
    if (op->method == RELU_FILM)
        y = modulate(tape, m, y);
    return mmf_add(tape, a, y);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const film_operator *const op = self;
    mmf_tensor *x = mmf_named_get(in, op->content->name);
    mmf_tensor *const c = mmf_named_get(in, op->condition->name);
    mmf_tensor *const both = mmf_linear_run(tape, &op->decoder_linear, c, MMF_ACT_NONE);
    mmf_tensor *const gamma = mmf_affine(tape, mmf_slice(tape, both, 1, 0, op->channels), 1, 1);
    mmf_tensor *const beta = mmf_slice(tape, both, 1, op->channels, op->channels);
    const int64_t shape[MMF_MAX_DIMS] = {-1, op->channels, 1, 1, 1, 1};
    const bool as_image = op->residual && op->content->n_dims == 1;
    const int n_dims = as_image ? 4 : 1 + op->content->n_dims;
    const modulation m = {mmf_reshape(tape, gamma, n_dims, shape),
                          mmf_reshape(tape, beta, n_dims, shape)};
    if (as_image)
        x = mmf_reshape(tape, x, n_dims, shape);
    mmf_tensor *const y = op->residual ? run_block(tape, op, &m, x) : modulate(tape, &m, x);
    mmf_named_put(tape, out, "gamma", gamma);
    mmf_named_axes(out, "BD");
    mmf_named_put(tape, out, "beta", beta);
    mmf_named_axes(out, "BD");
    mmf_named_put(tape, out, "output", y);
    if (op->residual && step->training) { /* after the step, as a reference's buffers are read */
        mmf_named_put(tape, out, "running_mean", op->bn1.running_mean);
        mmf_named_put(tape, out, "running_var", op->bn1.running_var);
    }
    mmf_named_put(tape, out, "fused",
                  mmf_reshape(tape, y, 2, (int64_t[]){c ? c->shape[0] : 1, -1}));
}

const mmf_def mmf_fusion_film = {
    .name = "film",
    .title = "Feature-wise linear modulation",
    .paper = "Perez, Strub, de Vries, Dumoulin, Courville, FiLM: visual reasoning with a general "
             "conditioning layer, AAAI 2018, arXiv:1709.07871",
    .equations = "f = gamma(c) * x + beta(c), [gamma - 1; beta] = W c + b, eq. (1), (2)",
    .missing = "a learned vector stands in; as the condition it gives one scale and shift of its "
               "own",
    .timing = "intermediate",
    .structure = "gating",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_IMAGES | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_STANDS_IN,
    .options = options,
    .build = build,
    .run = run,
};
