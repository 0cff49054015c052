/*
 * block.c: block-term fusion: the projections cut into chunks, each pair of chunks with a core of
 * its own, of low rank (`block`) or full (`block-tucker`).
 *
 * Ben-younes, Cadene, Thome, Cord, BLOCK: bilinear superdiagonal fusion for visual question
 * answering and visual relationship detection, AAAI 2019. Names, chunk sizes and defaults are those
 * of block.bootstrap.pytorch, with smaller widths.
 */
#include "fusion/bilinear.h"

#include <string.h>

/* A full core that is wider no longer fits beside its outer product and gradient. */
#define WIDEST_CORE 512

#define CHUNKS_OPTION(help)                                                                        \
    {                                                                                              \
        "chunks", NULL, MMF_OPTION_INT, 1, 4096, NULL, "16", help                                  \
    }

static const mmf_option block_options[] = {
    MMF_MM_DIM_OPTION("256"),
    CHUNKS_OPTION("blocks of the core, at most mm_dim; with pos_norm before_cat, a block of one "
                  "feature is its sign"),
    {"rank", NULL, MMF_OPTION_INT, 1, 1024, NULL, "5", "rank of each block's slices"},
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_POS_NORM_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

static const mmf_option block_tucker_options[] = {
    MMF_MM_DIM_OPTION("256"),
    CHUNKS_OPTION("blocks of the core, at most mm_dim; a block has (mm_dim / chunks)^3 weights"),
    MMF_OUTPUT_DIM_OPTION,
    MMF_SHARED_OPTION,
    MMF_POS_NORM_OPTION,
    MMF_BILINEAR_DROPOUTS,
    {0},
};

typedef struct block_core {
    mmf_linear_layer merge[2]; /* low rank */
    mmf_linear_layer full;
} block_core;

typedef struct block_operator {
    mmf_bilinear common;
    bool normalize_chunks; /* else all together */
    int64_t rank;          /* 0: full cores */
    int64_t n_chunks;
    mmf_chunk *chunks;
    block_core *cores;
    mmf_tensor **z;
} block_operator;

static block_core build_core(mmf_builder *b, const block_operator *op, int64_t c)
{
    const int64_t width = op->chunks[c].width;
    block_core core = {0};
    if (op->rank == 0) {
        core.full =
            mmf_bilinear_core_build(b, mmf_builder_text(b, "bilinears.%lld", (long long)c), width);
        return core;
    }
    const char *const names[] = {mmf_builder_text(b, "merge_linears0.%lld", (long long)c),
                                 mmf_builder_text(b, "merge_linears1.%lld", (long long)c)};
    mmf_bilinear_pair(b, &op->common, names, (int64_t[]){width, width}, width * op->rank,
                      core.merge);
    return core;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    block_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    mmf_bilinear *const common = &op->common;
    mmf_bilinear_open(b, config, inputs, common);
    op->rank = mmf_config_int(config, "rank"); /* block-tucker has no such option */
    op->n_chunks = mmf_config_int(config, "chunks");
    op->normalize_chunks = strcmp(mmf_config_text(config, "pos_norm"), "before_cat") == 0;
    common->normalize = !op->normalize_chunks;
    op->chunks = mmf_bilinear_chunks(b, common->mm_dim, op->n_chunks);
    op->cores = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof *op->cores);
    op->z = mmf_builder_alloc(b, (size_t)op->n_chunks * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) == MMF_OK && op->rank == 0 && op->chunks[0].width > WIDEST_CORE)
        mmf_builder_fail(b, MMF_LIMIT,
                         "a block would be %lld wide, at most %d; choose more chunks, or block",
                         (long long)op->chunks[0].width, WIDEST_CORE);
    mmf_bilinear_project_build(b, common, common->mm_dim);
    for (int64_t c = 0; mmf_builder_status(b) == MMF_OK && c < op->n_chunks; c++)
        op->cores[c] = build_core(b, op, c);
    mmf_bilinear_out_build(b, config, common, common->mm_dim);
    *self = op;
    return mmf_builder_status(b);
}

static mmf_tensor *run_core(mmf_tape *tape, const block_operator *op, int64_t c, mmf_tensor *x,
                            mmf_tensor *y)
{
    const block_core *const core = &op->cores[c];
    if (op->rank == 0)
        return mmf_bilinear_core(tape, x, y, &core->full);
    x = mmf_linear_run(tape, &core->merge[0], x, MMF_ACT_NONE);
    y = mmf_linear_run(tape, &core->merge[1], y, MMF_ACT_NONE);
    return mmf_bilinear_rank_sum(tape, x, y, op->rank, op->chunks[c].width);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const block_operator *const op = self;
    mmf_tensor *v[2];
    mmf_bilinear_project(tape, &op->common, op->common.linear, in, v);
    for (int64_t c = 0; c < op->n_chunks; c++) {
        const mmf_chunk chunk = op->chunks[c];
        op->z[c] = run_core(tape, op, c, mmf_slice(tape, v[0], 1, chunk.first, chunk.width),
                            mmf_slice(tape, v[1], 1, chunk.first, chunk.width));
        if (op->normalize_chunks)
            op->z[c] = mmf_bilinear_power(tape, op->z[c]);
    }
    mmf_bilinear_finish(tape, &op->common, mmf_concat(tape, op->z, (int)op->n_chunks, 1), out);
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
    .options = block_options,
    .build = build,
    .run = run,
};

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
    .options = block_tucker_options,
    .build = build,
    .run = run,
};
