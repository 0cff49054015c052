/*
 * mcb.c: multimodal compact bilinear pooling: the outer product of two vectors, sketched.
 *
 * Fukui, Park, Yang, Rohrbach, Darrell, Rohrbach, Multimodal compact bilinear pooling for visual
 * question answering and visual grounding, EMNLP 2016, algorithm 1; count sketch by Charikar, Chen,
 * Farach-Colton 2002, sketch of an outer product as a circular convolution by Pham and Pagh 2013:
 * psi(x)_j = sum_(h(i) = j) s(i) x_i, pooled = psi_1(x) * psi_2(y). Then signed square root, length
 * one and linear_out. Hashes and signs are drawn once and stored; names as in
 * block.bootstrap.pytorch, which leaves the normalisation out and adds a ReLU at the end: not so in
 * the paper, nor here.
 */
#include "fusion/bilinear.h"

static const mmf_option options[] = {
    {"mm_dim", NULL, MMF_OPTION_INT, 1, 65536, NULL, "1024",
     "width of the sketch; 16000 in the paper"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_ACTIV_OUTPUT_OPTION("none"),
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct mcb_operator {
    mmf_bilinear common;
    mmf_tensor *h[2], *s[2]; /* (D_m): whole numbers below mm_dim, and signs */
} mcb_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const char *const scopes[] = {"mcb.sketch1", "mcb.sketch2"};
    mcb_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    for (int m = 0; m < 2; m++) {
        const int64_t *const width = &common->widths[m];
        mmf_builder_enter(b, scopes[m]);
        op->h[m] =
            mmf_builder_param(b, "h", MMF_PARAM_FIXED, mmf_init_below(common->mm_dim), 1, width);
        op->s[m] = mmf_builder_param(b, "s", MMF_PARAM_FIXED, mmf_init_signs(1), 1, width);
        mmf_builder_leave(b);
    }
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

/* psi(x): (B, mm_dim) */
static mmf_tensor *sketch(mmf_tape *tape, const mcb_operator *op, const mmf_named *in, int m)
{
    mmf_tensor *const x = mmf_named_get(in, op->common.names[m]);
    mmf_tensor *const columns = mmf_transpose(tape, mmf_mul(tape, x, op->s[m]), 0, 1);
    mmf_tensor *const h = mmf_whole_numbers(tape, op->h[m]);
    return mmf_transpose(tape, mmf_scatter_add(tape, columns, h, op->common.mm_dim), 0, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mcb_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *psi[2];
    for (int m = 0; m < 2; m++) {
        psi[m] = mmf_dropout(tape, sketch(tape, own, in, m), op->dropout_input);
        mmf_named_putf(tape, out, psi[m], "sketch.%s", op->names[m]);
    }
    mmf_tensor *const pooled = mmf_circular_convolution(tape, psi[0], psi[1]);
    mmf_tensor *const z = mmf_bilinear_power(tape, pooled);
    mmf_named_put(tape, out, "pooled", pooled);
    mmf_named_put(tape, out, "normalized", z);
    mmf_tensor *const fused =
        mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
    mmf_named_put(tape, out, "logits", fused); /* the reference's name */
}

const mmf_def mmf_fusion_mcb = {
    .name = "mcb",
    .title = "Multimodal compact bilinear pooling",
    .paper =
        "Fukui, Park, Yang, Rohrbach, Darrell, Rohrbach, Multimodal compact bilinear pooling for "
        "visual question answering and visual grounding, EMNLP 2016, arXiv:1606.01847",
    .equations =
        "z = l2(ssqrt(psi_1(x) * psi_2(y))), count sketches psi, circular convolution *; f = L z; "
        "algorithm 1",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
