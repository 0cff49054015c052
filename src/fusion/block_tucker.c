/*
 * block_tucker.c: block-term fusion with a full core in every chunk.
 *
 * The block-term decomposition of Ben-younes, Cadene, Thome, Cord, BLOCK, AAAI 2019,
 * without its rank constraint. Names, chunk sizes and defaults are those of
 * block.bootstrap.pytorch, with smaller widths.
 */
#include "fusion/bilinear.h"

#include <string.h>

static const mmf_option options[] = {
    MMF_MM_DIM_OPTION("256"),
    {"chunks", NULL, MMF_OPTION_INT, 1, 4096, NULL, "16",
     "blocks of the core, at most mm_dim; a block has (mm_dim / chunks)^3 weights"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_POS_NORM_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

/* Weights of a block beyond which its outer product and gradient no longer fit beside it. */
#define WIDEST_CHUNK 512

typedef struct block_tucker_operator {
    mmf_bilinear common;
    bool normalize_chunks; /* else all together */
    int64_t n_chunks;
    mmf_chunk *chunks;
    mmf_linear_layer *cores;
    mmf_tensor **z;
} block_tucker_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    block_tucker_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    op->n_chunks = mmf_config_int(config, "chunks");
    op->normalize_chunks = strcmp(mmf_config_text(config, "pos_norm"), "before_cat") == 0;
    op->chunks = mmf_bilinear_chunks(b, common->mm_dim, op->n_chunks);
    op->cores = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof *op->cores);
    op->z = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) == MMF_OK && op->chunks[0].width > WIDEST_CHUNK)
        mmf_builder_fail(b, MMF_LIMIT,
                         "a block would be %lld wide, at most %d; choose more chunks, or block",
                         (long long)op->chunks[0].width, WIDEST_CHUNK);
    mmf_bilinear_project_build(b, common, common->mm_dim);
    for (int64_t c = 0; mmf_builder_status(b) == MMF_OK && c < op->n_chunks; c++)
        op->cores[c] = mmf_bilinear_core_build(
            b, mmf_builder_text(b, "bilinears.%lld", (long long)c), op->chunks[c].width);
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const block_tucker_operator *const own = self;
    const mmf_bilinear *const op = &own->common;
    mmf_tensor *const x = mmf_bilinear_project(tape, op, &op->linear[0], in, 0);
    mmf_tensor *const y = mmf_bilinear_project(tape, op, &op->linear[1], in, 1);
    for (int64_t c = 0; c < own->n_chunks; c++) {
        const mmf_chunk chunk = own->chunks[c];
        mmf_tensor *const x_c = mmf_slice(tape, x, 1, chunk.first, chunk.width);
        mmf_tensor *const y_c = mmf_slice(tape, y, 1, chunk.first, chunk.width);
        own->z[c] = mmf_bilinear_core(tape, x_c, y_c, &own->cores[c]);
        if (own->normalize_chunks)
            own->z[c] = mmf_bilinear_power(tape, own->z[c]);
    }
    mmf_tensor *z = mmf_concat(tape, own->z, (int)own->n_chunks, 1);
    if (!own->normalize_chunks)
        z = mmf_bilinear_power(tape, z);
    mmf_bilinear_out(tape, op, mmf_dropout(tape, z, op->dropout_pre_lin), out);
}

const mmf_def mmf_fusion_block_tucker = {
    .name = "block-tucker",
    .title = "Block-term fusion with full cores",
    .paper = "Ben-younes, Cadene, Thome, Cord, BLOCK: bilinear superdiagonal fusion for visual "
             "question answering and visual relationship detection, AAAI 2019, arXiv:1902.00038",
    .equations =
        "z_c,o = x_c' G_c,o y_c + b_c,o of the chunks of L0 x and L1 y, normalised; f = L [z_1; "
        "...; z_C]",
    .missing = MMF_BILINEAR_ABSENT,
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_BILINEAR_TAKES,
    .options = options,
    .build = build,
    .run = run,
};
