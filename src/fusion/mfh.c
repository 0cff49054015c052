/*
 * mfh.c: multimodal factorized high-order pooling: two factorized bilinear blocks, chained.
 *
 * Yu, Yu, Xiang, Fan, Tao, Beyond bilinear: generalized multimodal factorized high-order pooling
 * for visual question answering, TNNLS 2018, with p = 2: the product of the second block is
 * multiplied by that of the first, before its sum and its normalisation; both results side by side.
 * Names, defaults and activations are those of block.bootstrap.pytorch.
 */
#include "fusion/bilinear.h"

#define N_BLOCKS 2

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("128"),
    {"factor", NULL, MMF_OPTION_INT, 1, 1024, NULL, "5", "products summed for a feature"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_ACTIV_INPUT_OPTION,
    MMF_ACTIV_OUTPUT_OPTION("relu"),
    MMF_NORMALIZE_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct mfh_operator {
    mmf_bilinear common;
    mmf_linear_layer blocks[N_BLOCKS][2];
    int64_t factor;
} mfh_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const char *const names[N_BLOCKS][2] = {{"linear0_0", "linear1_0"},
                                                   {"linear0_1", "linear1_1"}};
    mfh_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    op->factor = mmf_config_int(config, "factor");
    for (int i = 0; i < N_BLOCKS; i++)
        mmf_bilinear_pair(b, common, names[i], common->widths, common->mm_dim * op->factor,
                          op->blocks[i]);
    mmf_bilinear_out_build(b, config, common, N_BLOCKS * common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mfh_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *z[N_BLOCKS], *product = NULL;
    for (int i = 0; i < N_BLOCKS; i++) {
        mmf_tensor *const x = mmf_bilinear_project(tape, op, &own->blocks[i][0], in, 0);
        mmf_tensor *const y = mmf_bilinear_project(tape, op, &own->blocks[i][1], in, 1);
        mmf_tensor *const p = mmf_mul(tape, x, y);
        product = mmf_dropout(tape, i > 0 ? mmf_mul(tape, p, product) : p, op->dropout_pre_lin);
        z[i] = mmf_bilinear_factor_sum(tape, op, product, own->factor);
    }
    mmf_bilinear_out(tape, op, mmf_concat(tape, z, N_BLOCKS, 1), out);
}

const mmf_def mmf_fusion_mfh = {
    .name = "mfh",
    .title = "Multimodal factorized high-order pooling",
    .paper =
        "Yu, Yu, Xiang, Fan, Tao, Beyond bilinear: generalized multimodal factorized high-order "
        "pooling for visual question answering, TNNLS 2018, arXiv:1708.03619",
    .equations =
        "p_1 = U_1 x * V_1 y, p_2 = p_1 * (U_2 x * V_2 y), z_i = sum-pool_k(p_i), f = act(L "
        "[z_1; z_2])",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
