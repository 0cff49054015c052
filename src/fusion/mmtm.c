/*
 * mmtm.c: multimodal transfer module: squeeze and excitation across modalities of any rank.
 *
 * Vaezi Joze, Shaban, Iuzzolino, Koishida, MMTM: multimodal transfer module for CNN fusion, CVPR
 * 2020, eq. (1) to (5), for any number of modalities. The paper's gate is 2 sigmoid, which is the
 * identity at zero weights; the released code's is sigmoid, which halves every stream at the start.
 */
#include <string.h>

#include "fusion/fusion.h"

static const mmf_option options[] = {
    MMF_ORDER_OPTION,
    {"gate", NULL, MMF_OPTION_TEXT, 0, 0, "2sigmoid|sigmoid", "2sigmoid",
     "the paper's gate, or that of the released code"},
    {"ratio", NULL, MMF_OPTION_INT, 1, 64, NULL, "4",
     "the joint representation is 2/ratio of all channels together"},
    {0},
};

typedef struct mmtm_operator {
    const mmf_schema *inputs;
    mmf_linear_layer fc_squeeze, *excite;
    bool twice; /* 2 sigmoid */
    mmf_tensor **parts;
} mmtm_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mmtm_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    op->inputs = mmf_operator_order(b, config, inputs);
    op->excite = mmf_builder_alloc(b, inputs->count * sizeof *op->excite);
    op->parts = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    op->twice = strcmp(mmf_config_text(config, "gate"), "2sigmoid") == 0;
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    int64_t channels = 0, width = 0;
    for (size_t m = 0; m < inputs->count; m++) {
        int64_t size = 1;
        for (int d = 0; d < inputs->inputs[m].n_dims; d++)
            size *= inputs->inputs[m].shape[d];
        channels += inputs->inputs[m].shape[0];
        width += size;
    }
    const int64_t joint = 2 * channels / mmf_config_int(config, "ratio");
    if (joint < 1)
        return mmf_builder_fail(b, MMF_ARG, "mmtm: option ratio leaves nothing of %lld channels",
                                (long long)channels);
    op->fc_squeeze = mmf_linear_build(b, "fc_squeeze", channels, joint, true);
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &op->inputs->inputs[m];
        const char *const name =
            strcmp(in->name, "vision") == 0 ? "fc_visual" : mmf_builder_text(b, "fc_%s", in->name);
        op->excite[m] = mmf_linear_build(b, name, joint, in->shape[0], true);
    }
    mmf_builder_set_width(b, width);
    *self = op;
    return mmf_builder_status(b);
}

/* Mean over everything but batch and channels, eq. (1). */
static mmf_tensor *squeeze(mmf_tape *tape, mmf_tensor *x)
{
    if (!x || x->n_dims == 2)
        return x;
    return mmf_mean(tape, mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], x->shape[1], -1}), -1);
}

/* x times a gate a channel, eq. (4) and (5). */
static mmf_tensor *excite(mmf_tape *tape, const mmtm_operator *op, size_t m, mmf_tensor *x,
                          mmf_tensor *z, mmf_named *out)
{
    mmf_tensor *e = mmf_linear_run(tape, &op->excite[m], z, MMF_ACT_SIGMOID);
    if (op->twice)
        e = mmf_affine(tape, e, 2, 0);
    mmf_named_putf(tape, out, e, "gate.%s", op->inputs->inputs[m].name);
    mmf_named_axes(out, "BD");
    const int64_t shape[MMF_MAX_DIMS] = {-1, op->inputs->inputs[m].shape[0], 1, 1, 1, 1};
    return mmf_mul(tape, x, mmf_reshape(tape, e, 1 + op->inputs->inputs[m].n_dims, shape));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mmtm_operator *const op = self;
    const int n = (int)op->inputs->count;
    for (int m = 0; m < n; m++)
        op->parts[m] = squeeze(tape, mmf_named_get(in, op->inputs->inputs[m].name));
    mmf_tensor *const z =
        mmf_linear_run(tape, &op->fc_squeeze, mmf_concat(tape, op->parts, n, -1), MMF_ACT_RELU);
    for (int m = 0; m < n; m++) {
        const char *const name = op->inputs->inputs[m].name;
        mmf_tensor *const y = excite(tape, op, (size_t)m, mmf_named_get(in, name), z, out);
        mmf_named_put(tape, out, name, y);
        op->parts[m] = mmf_reshape(tape, y, 2, (int64_t[]){y ? y->shape[0] : 1, -1});
    }
    mmf_tensor *const concat = mmf_concat(tape, op->parts, n, -1);
    mmf_named_put(tape, out, "concat", concat);
    mmf_named_put(tape, out, "fused", concat);
}

const mmf_def mmf_fusion_mmtm = {
    .name = "mmtm",
    .title = "Multimodal transfer module",
    .paper = "Vaezi Joze, Shaban, Iuzzolino, Koishida, MMTM: multimodal transfer module for CNN "
             "fusion, CVPR 2020, arXiv:1911.08670",
    .equations = "z = relu(W [mean x_1; ...; mean x_M] + b), f = [x_m * 2 sigmoid(W_m z + b_m)]",
    .missing = "a learned vector a modality stands in",
    .timing = "intermediate",
    .structure = "gating",
    .kind = MMF_KIND_OPERATOR,
    .takes =
        MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_TAKES_IMAGES | MMF_MISSING_OK | MMF_STANDS_IN,
    .options = options,
    .build = build,
    .run = run,
};
