/*
 * low_rank.c: y = sum_r w_r prod_m ([1; z_m] W_m^r) + beta: the tensor product's linear map in CP
 * form.
 *
 * Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency, Efficient low-rank multimodal fusion with
 * modality-specific factors, ACL 2018. Eq. (6) exchanges sum and product by mistake; eq. (8) is
 * meant.
 */
#include "fusion/fusion.h"

static const mmf_option options[] = {
    {"rank", NULL, MMF_OPTION_INT, 1, 1024, NULL, "4", "rank of the factors"},
    {"output", NULL, MMF_OPTION_INT, 1, 65536, NULL, "1", "width of the result"},
    {"factor_names", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "", "parameter names of the factors"},
    {0},
};

/* Optimizer group of the factors, which the paper trains with a learning rate of their own. */
#define FACTOR_GROUP 1

typedef struct low_rank_operator {
    const mmf_schema *inputs;
    int64_t rank, output;
    mmf_tensor **factors; /* (R, d_m + 1, K) */
    mmf_tensor *weights, *bias;
} low_rank_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    low_rank_operator *const op = mmf_builder_alloc(b, sizeof *op);
    mmf_schema *const schema = mmf_builder_alloc(b, sizeof *schema);
    if (!op || !schema)
        return mmf_builder_status(b);
    *schema = *inputs;
    op->inputs = schema;
    op->rank = mmf_config_int(config, "rank");
    op->output = mmf_config_int(config, "output");
    op->factors = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    mmf_builder_group(b, FACTOR_GROUP);
    for (size_t m = 0; op->factors && m < inputs->count; m++) {
        const int64_t shape[] = {op->rank, inputs->inputs[m].shape[0] + 1, op->output};
        const char *const given = mmf_config_count(config, "factor_names") > m
                                      ? mmf_config_text_at(config, "factor_names", m)
                                      : NULL;
        const char *const name =
            given ? given : mmf_builder_text(b, "%s_factor", inputs->inputs[m].name);
        op->factors[m] = mmf_builder_param(b, name, MMF_PARAM_TRAINED,
                                           mmf_init_xavier_normal(3, shape), 3, shape);
    }
    mmf_builder_group(b, 0);
    const int64_t weight_shape[] = {1, op->rank}, bias_shape[] = {1, op->output};
    op->weights = mmf_builder_param(b, "fusion_weights", MMF_PARAM_TRAINED,
                                    mmf_init_xavier_normal(2, weight_shape), 2, weight_shape);
    op->bias =
        mmf_builder_param(b, "fusion_bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 2, bias_shape);
    mmf_builder_set_width(b, op->output);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const low_rank_operator *const op = self;
    mmf_tensor *product = NULL; /* (R, B, K) */
    for (size_t m = 0; m < op->inputs->count; m++) {
        const char *const name = op->inputs->inputs[m].name;
        mmf_tensor *z = mmf_named_get(in, name);
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        if (present)
            z = mmf_mul(tape, z, mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}));
        mmf_tensor *const f =
            mmf_matmul(tape, mmf_pad(tape, z, 1, 1, 0, 1), op->factors[m], false, false);
        product = m == 0 ? f : mmf_mul(tape, product, f);
    }
    mmf_tensor *const flat = mmf_reshape(tape, product, 2, (int64_t[]){op->rank, -1});
    mmf_tensor *const sum = mmf_matmul(tape, op->weights, flat, false, false);
    mmf_tensor *const y = mmf_reshape(tape, sum, 2, (int64_t[]){-1, op->output});
    /* (B, R, K), or (B, R) for a single output, as the reference squeezes it. */
    mmf_tensor *feature = mmf_permute(tape, product, (int[]){1, 0, 2});
    if (feature && op->output == 1)
        feature = mmf_reshape(tape, feature, 2, (int64_t[]){-1, op->rank});
    mmf_named_put(tape, out, "feature_fusion", feature);
    mmf_named_put(tape, out, "fused", mmf_add(tape, y, op->bias));
}

const mmf_def mmf_fusion_low_rank = {
    .name = "low-rank",
    .title = "Low-rank tensor fusion",
    .paper = "Liu et al., Efficient low-rank multimodal fusion with modality-specific factors, ACL "
             "2018, P18-1209",
    .equations = "y = sum_r w_r prod_m ([1; z_m] W_m^r) + beta, eq. (8); any number of modalities",
    .missing = "z_m = 0: its factor contributes only its first row",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
