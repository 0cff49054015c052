/*
 * dynmm.c: the two published networks of dynamic multimodal fusion as a registered layer, and the
 * gate that they and the model `dynmm` share.
 *
 * Xue, Marculescu, Dynamic multimodal fusion, CVPR 2023 workshops, eq. (1) to (4): `part` modality
 * is the network for MM-IMDb, which chooses between the text and text with the image; global-gate
 * is the gate of the fusion-level network. Names of the authors' code, which has no Gumbel noise.
 * Here both experts always run; the model `dynmm` leaves out what is not chosen.
 */
#include <string.h>

#include "nn/gate.h"

#define KERNEL 5
#define STRIDE 2
#define MAXOUT_PIECES 2

mmf_tensor *mmf_gate(mmf_tape *tape, mmf_tensor *logits, double tau, mmf_gate_kind kind,
                     mmf_tensor **soft)
{
    mmf_tensor *const s =
        mmf_softmax(tape, mmf_affine(tape, logits, 1 / tau, 0), NULL, MMF_EMPTY_ZERO);
    if (soft)
        *soft = s;
    if (!s || kind == MMF_GATE_SOFT)
        return s;
    mmf_tensor *const one = mmf_one_hot(tape, mmf_argmax(tape, s), s->shape[1]);
    if (kind == MMF_GATE_HARD)
        return one;
    return mmf_add(tape, mmf_sub(tape, one, mmf_detach(tape, s)), s);
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"part", NULL, MMF_OPTION_TEXT, 0, 0, "modality|global-gate", "modality",
     "the network for MM-IMDb, or the gate of the fusion-level network over two images"},
    {"experts", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "text,text+vision",
     "modality: what the experts see, the single modality first"},
    {"classes", "n_classes", MMF_OPTION_INT, 1, 1000000, NULL, "1", "modality: outputs"},
    {"hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "512", "width of the encodings; channels"},
    {"image_hidden", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "modality: first layer of the second encoder; 0: two more than `hidden`"},
    {"gate_hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128",
     "modality: hidden layer of the gate"},
    {"branches", "branch_num", MMF_OPTION_INT, 1, 1024, NULL, "5",
     "global-gate: what it chooses from"},
    {"hard", "hard_gate", MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "choose one, with the gradient of the softmax"},
    {"tau", "temp", MMF_OPTION_REAL, 1e-6, 1e6, NULL, "1", "temperature of the softmax"},
    {"bn_eps", NULL, MMF_OPTION_REAL, 1e-12, 1, NULL, "1e-5", "batch norm's eps"},
    {"first_bn_eps", NULL, MMF_OPTION_REAL, 1e-12, 1, NULL, "1e-4",
     "modality: eps of the batch norm over an encoder's input"},
    {0},
};

/* fc, ReLU, fc2 */
typedef struct mlp {
    mmf_linear_layer fc, fc2;
} mlp;

typedef struct maxout_encoder {
    mmf_batch_norm_layer op0, op2, op4;
    mmf_linear_layer op1, op3;
} maxout_encoder;

typedef struct dynmm_layer {
    const char *first, *second; /* inputs */
    bool global;
    mmf_gate_kind kind;
    double tau;
    mlp encoder, head, gate;
    maxout_encoder towers[2];
    mmf_linear_layer fusion;
    mmf_conv_layer conv0, conv3;
    mmf_batch_norm_layer conv1, conv4;
    mmf_tensor *fc; /* (E, C, 1, 1) */
} dynmm_layer;

static mlp build_mlp(mmf_builder *b, const char *name, int64_t inputs, int64_t hidden,
                     int64_t outputs)
{
    mlp m = {0};
    mmf_builder_enter(b, name);
    m.fc = mmf_linear_build(b, "fc", inputs, hidden, true);
    m.fc2 = mmf_linear_build(b, "fc2", hidden, outputs, true);
    mmf_builder_leave(b);
    return m;
}

static mmf_batch_norm_layer norm(mmf_builder *b, const char *name, int64_t width, double eps)
{
    mmf_batch_norm_layer layer = mmf_batch_norm_build(b, name, width, 1);
    layer.eps = eps;
    return layer;
}

static maxout_encoder build_tower(mmf_builder *b, const mmf_config *config, const char *name,
                                  int64_t inputs, int64_t first)
{
    const int64_t hidden = mmf_config_int(config, "hidden");
    const double eps = mmf_config_real(config, "bn_eps");
    maxout_encoder e = {0};
    mmf_builder_enter(b, name);
    e.op0 = norm(b, "op0", inputs, mmf_config_real(config, "first_bn_eps"));
    e.op1 = mmf_linear_build(b, "op1.lin", inputs, MAXOUT_PIECES * first, true);
    e.op2 = norm(b, "op2.0", first, eps);
    e.op3 = mmf_linear_build(b, "op3.lin", first, MAXOUT_PIECES * hidden, true);
    e.op4 = norm(b, "op4.0", hidden, eps);
    mmf_builder_leave(b);
    return e;
}

static void build_modality(mmf_builder *b, const mmf_config *config, dynmm_layer *net,
                           const mmf_input_schema *first, const mmf_input_schema *second)
{
    const int64_t hidden = mmf_config_int(config, "hidden");
    const int64_t classes = mmf_config_int(config, "classes");
    const int64_t wide = mmf_config_int(config, "image_hidden");
    const int64_t d1 = first->shape[0], d2 = second->shape[0];
    net->encoder = build_mlp(b, "text_encoder", d1, hidden, hidden);
    net->head = build_mlp(b, "text_head", hidden, hidden, classes);
    net->gate = build_mlp(b, "gate", d1 + d2, mmf_config_int(config, "gate_hidden"), 2);
    mmf_builder_enter(b, "branch3");
    net->towers[0] = build_tower(b, config, "encoders.0", d1, hidden);
    net->towers[1] = build_tower(b, config, "encoders.1", d2, wide > 0 ? wide : hidden + 2);
    net->fusion = mmf_linear_build(b, "head.fc", 2 * hidden, classes, true);
    mmf_builder_leave(b);
}

static void build_global(mmf_builder *b, const mmf_config *config, dynmm_layer *net,
                         int64_t channels)
{
    const int64_t c = mmf_config_int(config, "hidden"), e = mmf_config_int(config, "branches");
    const mmf_window window = {.kernel = {KERNEL, KERNEL}, .stride = {STRIDE, STRIDE}};
    net->conv0 = mmf_conv_build(b, "conv.0", 2, channels, c, &window, true);
    net->conv1 = norm(b, "conv.1", c, mmf_config_real(config, "bn_eps"));
    net->conv3 = mmf_conv_build(b, "conv.3", 2, c, c, &window, true);
    net->conv4 = norm(b, "conv.4", c, mmf_config_real(config, "bn_eps"));
    net->fc = mmf_builder_param(b, "fc.weight", MMF_PARAM_TRAINED, mmf_init_fan_in(c), 4,
                                (int64_t[]){e, c, 1, 1});
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    dynmm_layer *const net = mmf_builder_alloc(b, sizeof *net);
    if (!net)
        return mmf_builder_status(b);
    net->global = strcmp(mmf_config_text(config, "part"), "global-gate") == 0;
    net->tau = mmf_config_real(config, "tau");
    net->kind = mmf_config_bool(config, "hard") ? MMF_GATE_STRAIGHT : MMF_GATE_SOFT;
    const char *const lead = net->global ? "vision" : mmf_config_text_at(config, "experts", 0);
    const mmf_input_schema *const first = mmf_schema_find(inputs, lead);
    const int n_dims = net->global ? 3 : 1;
    if (inputs->count != 2 || !first || inputs->inputs[0].n_dims != n_dims ||
        inputs->inputs[1].n_dims != n_dims)
        return mmf_builder_fail(b, MMF_SHAPE, "dynmm takes two %s, one of which is %s",
                                net->global ? "images" : "vectors", lead);
    const mmf_input_schema *const second = &inputs->inputs[first == &inputs->inputs[0]];
    net->first = mmf_builder_text(b, "%s", first->name);
    net->second = mmf_builder_text(b, "%s", second->name);
    if (net->global)
        build_global(b, config, net, first->shape[0] + second->shape[0]);
    else
        build_modality(b, config, net, first, second);
    *self = net;
    return mmf_builder_status(b);
}

static mmf_tensor *run_mlp(mmf_tape *tape, const mlp *m, mmf_tensor *x)
{
    return mmf_linear_run(tape, &m->fc2, mmf_linear_run(tape, &m->fc, x, MMF_ACT_RELU),
                          MMF_ACT_NONE);
}

static mmf_tensor *maxout(mmf_tape *tape, const mmf_linear_layer *lin, mmf_tensor *x)
{
    mmf_tensor *const y = mmf_linear_run(tape, lin, x, MMF_ACT_NONE);
    const int64_t width = y ? y->shape[1] / MAXOUT_PIECES : 1;
    return mmf_max(tape, mmf_reshape(tape, y, 3, (int64_t[]){-1, width, MAXOUT_PIECES}), -1);
}

static mmf_tensor *run_tower(mmf_tape *tape, const maxout_encoder *e, mmf_tensor *x)
{
    x = maxout(tape, &e->op1, mmf_batch_norm_run(tape, &e->op0, x));
    x = maxout(tape, &e->op3, mmf_batch_norm_run(tape, &e->op2, x));
    return mmf_batch_norm_run(tape, &e->op4, x);
}

static void run_modality(mmf_tape *tape, const dynmm_layer *net, mmf_tensor *x, mmf_tensor *y,
                         mmf_named *out)
{
    mmf_tensor *const both = mmf_concat(tape, (mmf_tensor *[]){x, y}, 2, -1);
    mmf_tensor *const logits = run_mlp(tape, &net->gate, both);
    mmf_tensor *const g = mmf_gate(tape, logits, net->tau, net->kind, NULL);
    mmf_tensor *const g0 = mmf_slice(tape, g, 1, 0, 1), *const g1 = mmf_slice(tape, g, 1, 1, 1);
    mmf_tensor *const single = run_mlp(tape, &net->head, run_mlp(tape, &net->encoder, x));
    mmf_tensor *const towers[] = {run_tower(tape, &net->towers[0], x),
                                  run_tower(tape, &net->towers[1], y)};
    mmf_tensor *const joint =
        mmf_linear_run(tape, &net->fusion, mmf_concat(tape, towers, 2, -1), MMF_ACT_NONE);
    mmf_named_put(tape, out, "gate_logit", logits);
    mmf_named_put(tape, out, "gate", g);
    mmf_named_put(tape, out, "cost", mmf_mean(tape, g1, MMF_ALL_AXES));
    mmf_named_put(tape, out, "expert.0", single);
    mmf_named_put(tape, out, "expert.1", joint);
    mmf_named_put(tape, out, "logit",
                  mmf_add(tape, mmf_mul(tape, g0, single), mmf_mul(tape, g1, joint)));
}

static void run_global(mmf_tape *tape, const dynmm_layer *net, mmf_tensor *x, mmf_tensor *y,
                       mmf_named *out)
{
    mmf_tensor *h = mmf_concat(tape, (mmf_tensor *[]){x, y}, 2, 1), *soft = NULL;
    h = mmf_tanh(tape, mmf_batch_norm_run(tape, &net->conv1, mmf_conv_run(tape, &net->conv0, h)));
    h = mmf_tanh(tape, mmf_batch_norm_run(tape, &net->conv4, mmf_conv_run(tape, &net->conv3, h)));
    const int64_t c = net->fc->shape[1], e = net->fc->shape[0], n = x ? x->shape[0] : 1;
    h = mmf_mean(tape, mmf_reshape(tape, h, 3, (int64_t[]){n, c, -1}), -1);
    mmf_tensor *const w = mmf_reshape(tape, net->fc, 2, (int64_t[]){e, c});
    mmf_tensor *const logits = mmf_linear(tape, h, w, NULL, MMF_ACT_NONE);
    mmf_named_put(tape, out, "gate", mmf_gate(tape, logits, net->tau, net->kind, &soft));
    mmf_named_put(tape, out, "gate_soft", soft);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const dynmm_layer *const net = self;
    mmf_tensor *const x = mmf_named_get(in, net->first), *const y = mmf_named_get(in, net->second);
    if (net->global)
        run_global(tape, net, x, y, out);
    else
        run_modality(tape, net, x, y, out);
}

const mmf_def mmf_layer_dynmm = {
    .name = "dynmm",
    .title = "Networks of dynamic multimodal fusion",
    .paper = "Xue, Marculescu, Dynamic multimodal fusion, CVPR 2023 workshops, arXiv:2204.00102",
    .equations = "y = sum_e g_e y_e, g = softmax(G(x) / tau), or one-hot with that gradient",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_IMAGES | MMF_TWO_ONLY,
    .options = options,
    .build = build,
    .run = run,
};
