/*
 * mutan.c: Tucker fusion whose core slices have rank R.
 *
 * Ben-younes, Cadene, Cord, Thome, MUTAN: multimodal Tucker fusion for visual question answering,
 * ICCV 2017: z = sum_r (M_r x~) * (N_r y~) of the projections x~, y~. Names and
 * defaults are those of block.bootstrap.pytorch; no activations there, tanh in the paper. The rank
 * is the slowest index of the merge layers, unlike MFB's factor.
 */
#include "fusion/bilinear.h"

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("128"),
    {"rank", NULL, MMF_OPTION_INT, 1, 1024, NULL, "5", "rank of the core's slices"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_NORMALIZE_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct mutan_operator {
    mmf_bilinear common;
    mmf_linear_layer merge[2];
    int64_t rank;
} mutan_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const char *const names[] = {"merge_linear0", "merge_linear1"};
    mutan_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    op->rank = mmf_config_int(config, "rank");
    mmf_bilinear_project_build(b, common, common->mm_dim);
    mmf_bilinear_pair(b, common, names, (int64_t[]){common->mm_dim, common->mm_dim},
                      common->mm_dim * op->rank, op->merge);
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mutan_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    mmf_tensor *const mx = mmf_linear_run(tape, &own->merge[0], x, MMF_ACT_NONE);
    mmf_tensor *const ny = mmf_linear_run(tape, &own->merge[1], y, MMF_ACT_NONE);
    mmf_tensor *z = mmf_bilinear_rank_sum(tape, mx, ny, own->rank, op->mm_dim);
    if (op->normalize)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

const mmf_def mmf_fusion_mutan = {
    .name = "mutan",
    .title = "Tucker fusion with core slices of low rank",
    .paper = "Ben-younes, Cadene, Cord, Thome, MUTAN: multimodal Tucker fusion for visual question "
             "answering, ICCV 2017, arXiv:1705.06676",
    .equations = "z = sum_r (M_r L0 x) * (N_r L1 y), f = L z; no activations, as in the reference",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
