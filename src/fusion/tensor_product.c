/*
 * tensor_product.c: fused = [1; z_1] x ... x [1; z_M], flattened, first modality slowest.
 *
 * Zadeh, Chen, Poria, Cambria, Morency, Tensor fusion network for multimodal sentiment analysis,
 * EMNLP 2017, eq. (2), for any number of modalities; of sequences, the product at every step.
 */
#include "fusion/fusion.h"

/* Elements of the product beyond which a sample no longer fits next to its gradient. */
#define MAX_WIDTH (1 << 24)

static const mmf_option order_options[] = {MMF_ORDER_OPTION, {0}};

typedef struct product_operator {
    const mmf_schema *inputs;
    int64_t n_steps; /* of sequences; 0: vectors */
    int64_t width;
} product_operator;

/* All vectors, or all sequences of as many steps. */
static void check_steps(mmf_builder *b, const mmf_schema *inputs, product_operator *op)
{
    op->n_steps = inputs->inputs[0].n_dims == 2 ? inputs->inputs[0].shape[0] : 0;
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in->n_dims == 1 ? op->n_steps != 0 : in->n_dims != 2 || in->shape[0] != op->n_steps)
            mmf_builder_fail(b, MMF_SHAPE,
                             "the outer product takes vectors, or sequences of one number of "
                             "steps; %s and %s differ",
                             inputs->inputs[0].name, in->name);
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    product_operator *const op = mmf_builder_alloc(b, sizeof *op);
    const mmf_schema *const order = mmf_operator_order(b, config, inputs);
    if (!op || !order)
        return mmf_builder_status(b);
    op->inputs = order;
    check_steps(b, order, op);
    double width = 1;
    for (size_t m = 0; m < order->count; m++)
        width *= (double)(order->inputs[m].shape[op->n_steps ? 1 : 0] + 1);
    if (width > MAX_WIDTH)
        return mmf_builder_fail(b, MMF_LIMIT,
                                "the outer product of %zu modalities would be %.0f wide, at most "
                                "%d; choose smaller hidden_dims, or lmf, which never forms it",
                                order->count, width, MAX_WIDTH);
    op->width = (int64_t)width;
    mmf_builder_set_width(b, op->width);
    *self = op;
    return mmf_builder_status(b);
}

/* [1; z] of every vector or step: (B, D + 1) or (B T, D + 1). */
static mmf_tensor *with_one(mmf_tape *tape, const product_operator *op, const mmf_named *in,
                            const mmf_input_schema *input)
{
    mmf_tensor *z = mmf_named_get(in, input->name);
    mmf_tensor *const present = mmf_named_part(in, input->name, "present");
    if (present) /* an absent modality leaves only its 1: the product over the others */
        z = mmf_mul(tape, z,
                    mmf_reshape(tape, present, op->n_steps ? 3 : 2, (int64_t[]){-1, 1, 1}));
    if (op->n_steps)
        z = mmf_reshape(tape, z, 2, (int64_t[]){-1, input->shape[1]});
    return mmf_pad(tape, z, 1, 1, 0, 1);
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
        mmf_tensor *const z = with_one(tape, op, in, &op->inputs->inputs[m]);
        product = product ? mmf_outer(tape, z, product) : z;
    }
    if (op->n_steps)
        product = mmf_reshape(tape, product, 3, (int64_t[]){-1, op->n_steps, op->width});
    mmf_named_put(tape, out, "fused", product);
}

static void run_n(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                  mmf_named *out)
{
    run(tape, self, in, step, out);
    mmf_named_put(tape, out, "output", mmf_named_get(out, "fused"));
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

/* The same under the name and with the order of MultiBench's TensorFusion. */
const mmf_def mmf_fusion_tensor_fusion_n = {
    .name = "tensor-fusion-n",
    .title = "Tensor product of any number of vectors, or of sequences step by step",
    .paper = "Zadeh et al., Tensor fusion network for multimodal sentiment analysis, EMNLP 2017, "
             "D17-1115; Liang et al., MultiBench, NeurIPS Datasets and Benchmarks 2021",
    .equations = "vec([1; z_1] x ... x [1; z_M]), first modality slowest; axes of batch and time "
                 "are kept",
    .missing = "z_m = 0: only the prepended 1 remains, so the product runs over the others",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_MISSING_OK,
    .options = order_options,
    .build = build,
    .run = run_n,
};
