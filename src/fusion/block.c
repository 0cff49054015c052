/*
 * block.c: block-term fusion: the projections cut into chunks, each with a core of low rank.
 *
 * Ben-younes, Cadene, Thome, Cord, BLOCK: bilinear superdiagonal fusion for visual question
 * answering and visual relationship detection, AAAI 2019. Names, chunk sizes and
 * defaults are those of block.bootstrap.pytorch, with smaller widths.
 */
#include "fusion/bilinear.h"

#include <string.h>

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("256"),
    {"chunks", NULL, MMF_OPTION_INT, 1, 4096, NULL, "16",
     "blocks of the core, at most mm_dim; with pos_norm before_cat, a block of one feature is its "
     "sign"},
    {"rank", NULL, MMF_OPTION_INT, 1, 1024, NULL, "5", "rank of each block's slices"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_POS_NORM_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct block_operator {
    mmf_bilinear common;
    bool normalize_chunks; /* else all together */
    int64_t rank, n_chunks;
    mmf_chunk *chunks;
    mmf_linear_layer (*merge)[2];
    mmf_tensor **z;
} block_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    block_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    op->rank = mmf_config_int(config, "rank");
    op->n_chunks = mmf_config_int(config, "chunks");
    op->normalize_chunks = strcmp(mmf_config_text(config, "pos_norm"), "before_cat") == 0;
    op->chunks = mmf_bilinear_chunks(b, common->mm_dim, op->n_chunks);
    op->merge = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof *op->merge);
    op->z = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof(mmf_tensor *));
    mmf_bilinear_project_build(b, common, common->mm_dim);
    for (int64_t c = 0; mmf_builder_status(b) == MMF_OK && c < op->n_chunks; c++) {
        const int64_t width = op->chunks[c].width;
        const char *const names[] = {mmf_builder_text(b, "merge_linears0.%lld", (long long)c),
                                     mmf_builder_text(b, "merge_linears1.%lld", (long long)c)};
        mmf_bilinear_pair(b, common, names, (int64_t[]){width, width}, width * op->rank,
                          op->merge[c]);
    }
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const block_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    for (int64_t c = 0; c < own->n_chunks; c++) {
        const mmf_chunk chunk = own->chunks[c];
        mmf_tensor *const x_c = mmf_slice(tape, x, 1, chunk.first, chunk.width);
        mmf_tensor *const y_c = mmf_slice(tape, y, 1, chunk.first, chunk.width);
        mmf_tensor *const m = mmf_linear_run(tape, &own->merge[c][0], x_c, MMF_ACT_NONE);
        mmf_tensor *const n = mmf_linear_run(tape, &own->merge[c][1], y_c, MMF_ACT_NONE);
        own->z[c] = mmf_bilinear_rank_sum(tape, m, n, own->rank, chunk.width);
        if (own->normalize_chunks)
            own->z[c] = mmf_bilinear_power(tape, own->z[c]);
    }
    mmf_tensor *z = mmf_concat(tape, own->z, (int)own->n_chunks, 1);
    if (!own->normalize_chunks)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

const mmf_def mmf_fusion_block = {
    .name = "block",
    .title = "Bilinear superdiagonal (block-term) fusion",
    .paper = "Ben-younes, Cadene, Thome, Cord, BLOCK: bilinear superdiagonal fusion for visual "
             "question answering and visual relationship detection, AAAI 2019, arXiv:1902.00038",
    .equations =
        "z_c = sum_r (M_cr x_c) * (N_cr y_c) of the chunks of L0 x and L1 y, normalised; f = L "
        "[z_1; ...; z_C]",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
