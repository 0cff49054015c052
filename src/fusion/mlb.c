/*
 * mlb.c: multimodal low-rank bilinear pooling, fused = act(U (act(V x) * act(W y))).
 *
 * Kim, On, Lim, Kim, Ha, Zhang, Hadamard product for low-rank bilinear pooling, ICLR 2017:
 * a bilinear form whose tensor has CP rank mm_dim. Names and defaults are those of
 * block.bootstrap.pytorch: ReLU where the paper has tanh, also after the output layer, and an
 * optional normalisation that the paper does not have.
 */
#include "fusion/bilinear.h"

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("256"),
    MMF_OUTPUT_DIM_OPTION,
    MMF_ACTIV_INPUT_OPTION,
    MMF_ACTIV_OUTPUT_OPTION("relu"),
    MMF_NORMALIZE_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mmf_bilinear *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear_open(b, config, inputs, op);
    mmf_bilinear_project_build(b, op, op->mm_dim);
    mmf_bilinear_out_build(b, config, op, op->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mmf_bilinear *const op = self;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    mmf_tensor *z = mmf_mul(tape, x, y);
    if (op->normalize)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

const mmf_def mmf_fusion_mlb = {
    .name = "mlb",
    .title = "Multimodal low-rank bilinear pooling",
    .paper = "Kim, On, Lim, Kim, Ha, Zhang, Hadamard product for low-rank bilinear pooling, ICLR "
             "2017, arXiv:1610.04325",
    .equations = "f = act(U (act(V x) * act(W y))); the reference's ReLU where the paper has tanh",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
