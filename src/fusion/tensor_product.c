/*
 * tensor_product.c: fused = [1; z_1] x ... x [1; z_M], flattened, first modality slowest.
 *
 * Zadeh, Chen, Poria, Cambria, Morency, Tensor fusion network for multimodal sentiment analysis,
 * EMNLP 2017, eq. (2), for any number of modalities.
 */
#include "fusion/fusion.h"

/* Elements of the product beyond which a sample no longer fits next to its gradient. */
#define MAX_WIDTH (1 << 24)

typedef struct product_operator {
    const mmf_schema *inputs;
} product_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    (void)config;
    product_operator *const op = mmf_builder_alloc(b, sizeof *op);
    mmf_schema *const schema = mmf_builder_alloc(b, sizeof *schema);
    if (!op || !schema)
        return mmf_builder_status(b);
    *schema = *inputs;
    op->inputs = schema;
    double width = 1;
    for (size_t m = 0; m < inputs->count; m++)
        width *= (double)(inputs->inputs[m].shape[0] + 1);
    if (width > MAX_WIDTH)
        return mmf_builder_fail(b, MMF_LIMIT,
                                "the outer product of %zu modalities would be %.0f wide, at most "
                                "%d; choose smaller hidden_dims, or lmf, which never forms it",
                                inputs->count, width, MAX_WIDTH);
    mmf_builder_set_width(b, (int64_t)width);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const product_operator *const op = self;
    /* From the last modality to the first: the product is associative, and so its long side is the
     * inner one of every step. */
    mmf_tensor *product = NULL;
    for (size_t m = op->inputs->count; m-- > 0;) {
        const char *const name = op->inputs->inputs[m].name;
        mmf_tensor *z = mmf_named_get(in, name);
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        if (present) /* an absent modality leaves only its 1: the product over the others */
            z = mmf_mul(tape, z, mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}));
        z = mmf_pad(tape, z, 1, 1, 0, 1);
        product = product ? mmf_outer(tape, z, product) : z;
    }
    mmf_named_put(tape, out, "fused", product);
}

const mmf_def mmf_fusion_tensor_product = {
    .name = "tensor",
    .title = "Tensor (outer) product with prepended ones",
    .paper = "Zadeh et al., Tensor fusion network for multimodal sentiment analysis, EMNLP 2017, "
             "D17-1115",
    .equations = "vec([1; z_1] x ... x [1; z_M]), eq. (2); any number of modalities",
    .missing = "z_m = 0: only the prepended 1 remains, so the product runs over the others",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK,
    .build = build,
    .run = run,
};
