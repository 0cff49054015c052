/*
 * product_of_experts.c: every modality is a Gaussian opinion about one latent vector; their product
 * is the fused one, and what is absent is not in the product.
 *
 * Hinton, Neural Computation 2002; as fusion: Wu and Goodman, MVAE, NeurIPS 2018, and Lee et al.,
 * Making sense of vision and touch, T-RO 2020. Form `encoder` is the latter's: a vector [mu; h] a
 * modality, variances by softplus, and the prior N(0, 1) as one more expert. Form `gaussian` takes
 * the means and log-variances of all experts, as PyKale and MVAE do. Training passes draw a sample
 * and are charged its divergence from the prior.
 */
#include <math.h>
#include <string.h>

#include "fusion/fusion.h"

static const mmf_option options[] = {
    MMF_ORDER_OPTION,
    {"form", NULL, MMF_OPTION_TEXT, 0, 0, "encoder|gaussian", "encoder",
     "gaussian: spreads are log-variances; inputs called mean and log_variance hold all experts"},
    {"latent", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32",
     "width of the latent vector; a modality of twice that width is split as it is, others go "
     "through a linear layer"},
    {"experts", NULL, MMF_OPTION_INT, 0, 64, NULL, "0",
     "gaussian form: how many experts mean and log_variance must hold; 0: any number"},
    {"prior", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "N(0, 1) is one of the experts; without it, only where no modality is there"},
    {"variance", NULL, MMF_OPTION_TEXT, 0, 0, "softplus+1e-8|exp+1e-8", "softplus+1e-8",
     "encoder form: of the spread h; exp makes it a log-variance"},
    {"eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-8",
     "gaussian form: added to variances before and after the product"},
    {"kl_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.05",
     "weight of the divergence from the prior (Vision & Touch: 0.05)"},
    {"sample", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "training passes draw from the product; false: its mean, as in evaluation"},
    {0},
};

/* Added to variances of the encoder form: that of the reference. */
#define VARIANCE_EPS 1e-8

typedef struct experts_operator {
    const mmf_schema *inputs;
    mmf_linear_layer *heads; /* weight NULL: the vector is [mu; h] already */
    int64_t latent, experts;
    bool gaussian, stacked, prior, by_exp, sample;
    double eps, kl_weight; /* eps of a variance before the product: PyKale adds its own twice */
} experts_operator;

/* The experts of a reference stand in two inputs, (experts, batch, latent). */
static bool is_stacked(const experts_operator *op, const mmf_schema *inputs)
{
    const mmf_input_schema *const mean = mmf_schema_find(inputs, "mean");
    const mmf_input_schema *const spread = mmf_schema_find(inputs, "log_variance");
    return op->gaussian && inputs->count == 2 && mean && spread && mean->n_dims == 2 &&
           spread->n_dims == 2;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    experts_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    *self = op;
    op->gaussian = strcmp(mmf_config_text(config, "form"), "gaussian") == 0;
    op->prior = mmf_config_bool(config, "prior");
    op->by_exp = op->gaussian || strcmp(mmf_config_text(config, "variance"), "exp+1e-8") == 0;
    op->eps = op->gaussian ? 2 * mmf_config_real(config, "eps") : VARIANCE_EPS;
    op->experts = mmf_config_int(config, "experts");
    op->sample = mmf_config_bool(config, "sample");
    op->kl_weight = mmf_config_real(config, "kl_weight");
    op->latent = mmf_config_int(config, "latent");
    op->stacked = is_stacked(op, inputs);
    if (op->stacked) {
        op->latent = mmf_schema_find(inputs, "mean")->shape[1];
        mmf_builder_set_width(b, op->latent);
        return mmf_builder_status(b);
    }
    op->inputs = mmf_operator_order(b, config, inputs);
    op->heads = mmf_builder_alloc(b, inputs->count * sizeof *op->heads);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &op->inputs->inputs[m];
        if (in->shape[0] != 2 * op->latent)
            op->heads[m] = mmf_linear_build(b, mmf_builder_text(b, "%s_expert", in->name),
                                            in->shape[0], 2 * op->latent, true);
    }
    mmf_builder_set_width(b, op->latent);
    return mmf_builder_status(b);
}

/* ---- The product ------------------------------------------------------------------------- */

/* Sums over experts: of 1 / sigma^2, and of mu / sigma^2. */
typedef struct evidence {
    mmf_tensor *precision, *weighted;
} evidence;

/* Experts are rows of axis 0. */
static evidence given(mmf_tape *tape, const experts_operator *op, const mmf_named *in)
{
    mmf_tensor *mean = mmf_named_get(in, "mean");
    if (op->experts > 0) /* with another number of experts the shapes below differ: an error */
        mean = mmf_reshape(tape, mean, 3, (int64_t[]){op->experts, -1, op->latent});
    mmf_tensor *const variance =
        mmf_affine(tape, mmf_exp(tape, mmf_named_get(in, "log_variance")), 1, op->eps);
    mmf_tensor *const precision = mmf_pow(tape, variance, -1);
    return (evidence){mmf_sum(tape, precision, 0),
                      mmf_sum(tape, mmf_mul(tape, precision, mean), 0)};
}

/* [mu; h] of each modality; the term of an absent one is zero, whatever its vector holds. */
static evidence encoded(mmf_tape *tape, const experts_operator *op, const mmf_named *in,
                        mmf_named *out)
{
    evidence sum = {0};
    for (size_t m = 0; m < op->inputs->count; m++) {
        const char *const name = op->inputs->inputs[m].name;
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        mmf_tensor *x = mmf_named_get(in, name);
        if (op->heads[m].weight)
            x = mmf_linear_run(tape, &op->heads[m], x, MMF_ACT_NONE);
        mmf_tensor *const mean = mmf_slice(tape, x, 1, 0, op->latent);
        mmf_tensor *const h = mmf_slice(tape, x, 1, op->latent, op->latent);
        mmf_tensor *const spread = op->by_exp ? mmf_exp(tape, h) : mmf_softplus(tape, h);
        mmf_tensor *precision = mmf_pow(tape, mmf_affine(tape, spread, 1, op->eps), -1);
        if (present)
            precision = mmf_mul(tape, precision,
                                mmf_reshape(tape, present, 2, (int64_t[]){present->count, 1}));
        mmf_tensor *const weighted = mmf_mul(tape, precision, mean);
        sum.precision = m > 0 ? mmf_add(tape, sum.precision, precision) : precision;
        sum.weighted = m > 0 ? mmf_add(tape, sum.weighted, weighted) : weighted;
        mmf_named_putf(tape, out, mean, "mean_%s", name);
        mmf_named_putf(tape, out, precision, "precision_%s", name);
        mmf_named_axes(out, "BD");
    }
    return sum;
}

/* 1 for rows in which no modality is there (B, 1); NULL if there is always one. */
static mmf_tensor *empty_rows(mmf_tape *tape, const experts_operator *op, const mmf_named *in)
{
    mmf_tensor *const present = op->stacked ? NULL : mmf_presence(tape, op->inputs, in);
    if (!present)
        return NULL;
    mmf_tensor *const any = mmf_affine(tape, mmf_max(tape, present, 1), -1, 1);
    return mmf_reshape(tape, any, 2, (int64_t[]){-1, 1});
}

/* KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1 - log s^2) / 2, summed over the latent. */
static mmf_tensor *divergence(mmf_tape *tape, mmf_tensor *mean, mmf_tensor *variance)
{
    mmf_tensor *const second = mmf_add(tape, mmf_mul(tape, mean, mean), variance);
    mmf_tensor *const terms =
        mmf_sub(tape, mmf_affine(tape, second, 1, -1), mmf_log(tape, variance));
    return mmf_affine(tape, mmf_mean(tape, mmf_sum(tape, terms, 1), MMF_ALL_AXES), 0.5, 0);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const experts_operator *const op = self;
    const evidence sum = op->stacked ? given(tape, op, in) : encoded(tape, op, in, out);
    mmf_tensor *precision = sum.precision;
    mmf_tensor *const empty = op->prior ? NULL : empty_rows(tape, op, in);
    if (op->prior)
        precision = mmf_affine(tape, precision, 1, 1);
    else if (empty)
        precision = mmf_add(tape, precision, empty);
    mmf_tensor *const variance = mmf_pow(tape, precision, -1);
    mmf_tensor *const mean = mmf_mul(tape, variance, sum.weighted);
    mmf_tensor *spread = variance;
    if (op->gaussian) {
        spread = mmf_log(tape, mmf_affine(tape, variance, 1, 0.5 * op->eps));
        mmf_named_put(tape, out, "log_variance", spread);
    }
    mmf_named_put(tape, out, "mean", mean);
    mmf_named_put(tape, out, "variance", variance);
    mmf_named_put(tape, out, "concat", mmf_concat(tape, (mmf_tensor *[]){mean, spread}, 2, 1));
    mmf_tensor *z = mean;
    if (step->training) {
        mmf_tensor *const kl = divergence(tape, mean, variance);
        mmf_named_put(tape, out, "kl", kl);
        mmf_named_put(tape, out, "loss.kl", mmf_affine(tape, kl, op->kl_weight, 0));
    }
    if (step->training && op->sample && mean) {
        mmf_tensor *const noise = mmf_normal_noise(tape, mean->n_dims, mean->shape);
        z = mmf_add(tape, mean, mmf_mul(tape, mmf_sqrt(tape, variance), noise));
    }
    mmf_named_put(tape, out, "fused", z);
}

const mmf_def mmf_fusion_product_of_experts = {
    .name = "product-of-experts",
    .title = "Product of Gaussian experts",
    .paper = "Wu, Goodman, Multimodal generative models for scalable weakly-supervised learning, "
             "NeurIPS 2018, arXiv:1802.05335; Lee et al., Making sense of vision and touch, T-RO "
             "2020, arXiv:1907.13098",
    .equations = "1/s^2 = 1 + sum_m 1/s_m^2, mu = s^2 sum_m mu_m/s_m^2; z = mu + s e with e ~ "
                 "N(0, 1) in training, mu else; loss + b KL(N(mu, s^2) || N(0, 1)); unlike MVAE no "
                 "decoder and no training on subsets of the modalities",
    .missing = "its term is left out of the product; with none there the prior remains",
    .timing = "intermediate",
    .structure = "weighted",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
