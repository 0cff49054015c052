/*
 * mfb.c: multimodal factorized bilinear pooling: products summed in groups of `factor`.
 *
 * Yu, Yu, Fan, Tao, Multi-modal factorized bilinear pooling with co-attention learning for visual
 * question answering, ICCV 2017: z_i = 1' (U_i' x * V_i' y), each output with a low-rank
 * form of its own; then signed square root and length one (option normalize, off in
 * block.bootstrap.pytorch, whose names, defaults and activations these are). Within a group the
 * factor is the fastest index.
 */
#include "fusion/bilinear.h"

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("256"),
    {"factor", NULL, MMF_OPTION_INT, 1, 1024, NULL, "5", "products summed for a feature"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_ACTIV_INPUT_OPTION,
    MMF_ACTIV_OUTPUT_OPTION("relu"),
    MMF_NORMALIZE_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct mfb_operator {
    mmf_bilinear common;
    int64_t factor;
} mfb_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mfb_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear_open(b, config, inputs, &op->common);
    op->factor = mmf_config_int(config, "factor");
    mmf_bilinear_project_build(b, &op->common, op->common.mm_dim * op->factor);
    mmf_bilinear_out_build(b, config, &op->common, op->common.mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mfb_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    mmf_tensor *const p = mmf_dropout(tape, mmf_mul(tape, x, y), op->dropout_pre_lin);
    mmf_bilinear_out(tape, op, mmf_bilinear_factor_sum(tape, op, p, own->factor), out);
}

const mmf_def mmf_fusion_mfb = {
    .name = "mfb",
    .title = "Multimodal factorized bilinear pooling",
    .paper = "Yu, Yu, Fan, Tao, Multi-modal factorized bilinear pooling with co-attention learning "
             "for visual question answering, ICCV 2017, arXiv:1708.01471",
    .equations = "z = sum-pool_k(act(U x) * act(V y)); l2(ssqrt(z)) with normalize; f = act(L z)",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
