/*
 * tucker.c: bilinear fusion with a full core between two projections.
 *
 * Tucker decomposition as in Ben-younes, Cadene, Cord, Thome, MUTAN, ICCV 2017: z_o = x~'
 * G_o y~ + b_o. Names and defaults are those of block.bootstrap.pytorch, whose option `shared` a
 * second assignment undoes there; here it does what it says.
 */
#include "fusion/bilinear.h"

static const mmf_option options[] = {
    /* The core has mm_dim^3 weights. */
    {"mm_dim", NULL, MMF_OPTION_INT, 1, 512, NULL, "48", "width of the core in each direction"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_NORMALIZE_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct tucker_operator {
    mmf_bilinear common;
    mmf_linear_layer core;
} tucker_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    tucker_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    mmf_bilinear_project_build(b, common, common->mm_dim);
    op->core = mmf_bilinear_core_build(b, "bilinear", common->mm_dim);
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const tucker_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    mmf_tensor *z = mmf_bilinear_core(tape, x, y, &own->core);
    if (op->normalize)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

const mmf_def mmf_fusion_tucker = {
    .name = "tucker",
    .title = "Tucker fusion with a full core",
    .paper = "Ben-younes, Cadene, Cord, Thome, MUTAN: multimodal Tucker fusion for visual question "
             "answering, ICCV 2017, arXiv:1705.06676",
    .equations = "z_o = (L0 x)' G_o (L1 y) + b_o, f = L z",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
