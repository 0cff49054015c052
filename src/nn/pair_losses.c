/*
 * pair_losses.c: losses over pairs of modalities beside any model: what makes their features alike
 * (cmd, adversarial), keeps them apart (difference), or lets each find the other (vse-pp).
 *
 * All see features that are brought to one width and to length one.
 */
#include "nn/disentangle.h"
#include "nn/hinge.h"
#include "nn/views.h"

static const mmf_option cmd_options[] = {
    {"moments", NULL, MMF_OPTION_INT, 1, 16, NULL, "5", "central moments that are compared"},
    MMF_VIEW_WIDTH_OPTION,
    {0},
};

static const mmf_option difference_options[] = {MMF_VIEW_WIDTH_OPTION, {0}};

static const mmf_option adversarial_options[] = {
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "width of the discriminator"},
    {"reverse_grad_weight", NULL, MMF_OPTION_REAL, -1e4, 1e4, NULL, "1",
     "of the reversed gradient that reaches the features; below 0 it is not reversed"},
    MMF_VIEW_WIDTH_OPTION,
    {0},
};

static const mmf_option vse_pp_options[] = {
    {"margin", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.2", "of the hinge"},
    MMF_VIEW_WIDTH_OPTION,
    {0},
};

typedef struct pair_loss {
    mmf_views views;
    int moments;
    double reversal, margin;
    mmf_linear_layer hidden, out; /* adversarial: which modality is it? */
} pair_loss;

static pair_loss *build_views(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    pair_loss *const loss = mmf_builder_alloc(b, sizeof *loss);
    if (loss)
        loss->views = mmf_views_build(b, config, inputs);
    *self = loss;
    return mmf_builder_status(b) == MMF_OK ? loss : NULL;
}

static mmf_status build_cmd(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    pair_loss *const loss = build_views(b, config, inputs, self);
    if (loss)
        loss->moments = (int)mmf_config_int(config, "moments");
    return mmf_builder_status(b);
}

static mmf_status build_difference(mmf_builder *b, const mmf_config *config,
                                   const mmf_schema *inputs, void **self)
{
    build_views(b, config, inputs, self);
    return mmf_builder_status(b);
}

static mmf_status build_adversarial(mmf_builder *b, const mmf_config *config,
                                    const mmf_schema *inputs, void **self)
{
    pair_loss *const loss = build_views(b, config, inputs, self);
    if (!loss)
        return mmf_builder_status(b);
    const mmf_views *const v = &loss->views;
    const int64_t width =
        v->projections[0].weight ? mmf_config_int(config, "width") : inputs->inputs[0].shape[0];
    const int64_t hidden = mmf_config_int(config, "hidden");
    loss->reversal = mmf_config_real(config, "reverse_grad_weight");
    loss->hidden = mmf_linear_build(b, "hidden", width, hidden, true);
    loss->out = mmf_linear_build(b, "out", hidden, (int64_t)inputs->count, true);
    return mmf_builder_status(b);
}

static mmf_status build_vse_pp(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                               void **self)
{
    pair_loss *const loss = build_views(b, config, inputs, self);
    if (loss)
        loss->margin = mmf_config_real(config, "margin");
    return mmf_builder_status(b);
}

/* Mean of a distance over all pairs of modalities. */
static mmf_tensor *mean_of_pairs(mmf_tape *tape, const pair_loss *l, const mmf_named *in,
                                 mmf_tensor *(*distance)(mmf_tape *, const pair_loss *, size_t,
                                                         size_t))
{
    const size_t n = l->views.inputs->count;
    mmf_tensor *sum = NULL;
    mmf_views_run(tape, &l->views, in);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            mmf_tensor *const one = distance(tape, l, i, j);
            sum = sum ? mmf_add(tape, sum, one) : one;
        }
    }
    return mmf_affine(tape, sum, 2 / (double)(n * (n - 1)), 0);
}

/* Values of -1 to 1 are moved to 0 to 1, for which the distance is defined. */
static mmf_tensor *discrepancy(mmf_tape *tape, const pair_loss *l, size_t i, size_t j)
{
    const mmf_views *const v = &l->views;
    return mmf_moment_discrepancy(tape, mmf_affine(tape, v->x[i], 0.5, 0.5),
                                  mmf_affine(tape, v->x[j], 0.5, 0.5), v->present[i], v->present[j],
                                  l->moments);
}

/* Covariance of the features of two modalities, over the rows that have both. */
static mmf_tensor *difference(mmf_tape *tape, const pair_loss *l, size_t i, size_t j)
{
    const mmf_views *const v = &l->views;
    mmf_tensor *const both = mmf_both_present(tape, v->present[i], v->present[j]);
    mmf_tensor *const a = mmf_centred_rows(tape, v->x[i], both);
    mmf_tensor *const b = mmf_centred_rows(tape, v->x[j], both);
    mmf_tensor *const sum = mmf_matmul(tape, a, b, true, false);
    mmf_tensor *const covariance = both ? mmf_div(tape, sum, mmf_row_count(tape, both))
                                        : mmf_affine(tape, sum, a ? 1 / (double)a->shape[0] : 1, 0);
    return mmf_sum(tape, mmf_mul(tape, covariance, covariance), MMF_ALL_AXES);
}

/* The hardest negative of every row and column, over the rows that have both. */
static mmf_tensor *hardest(mmf_tape *tape, const pair_loss *l, size_t i, size_t j)
{
    const mmf_views *const v = &l->views;
    mmf_tensor *const both = mmf_both_present(tape, v->present[i], v->present[j]);
    mmf_tensor *const s = mmf_matmul(tape, v->x[i], v->x[j], false, true);
    mmf_tensor *const sum = mmf_hinge_losses(tape, s, both, l->margin).max;
    return both ? mmf_div(tape, sum, mmf_row_count(tape, both))
                : mmf_affine(tape, sum, s ? 1 / (double)s->shape[0] : 1, 0);
}

static void run_cmd(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                    mmf_named *out)
{
    (void)step;
    mmf_named_put(tape, out, "loss", mean_of_pairs(tape, self, in, discrepancy));
}

static void run_difference(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                           mmf_named *out)
{
    (void)step;
    mmf_named_put(tape, out, "loss", mean_of_pairs(tape, self, in, difference));
}

static void run_vse_pp(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                       mmf_named *out)
{
    (void)step;
    mmf_named_put(tape, out, "loss", mean_of_pairs(tape, self, in, hardest));
}

/* -log p(m | z_m), meaned over rows and modalities; features get its gradient reversed. */
static void run_adversarial(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                            mmf_named *out)
{
    (void)step;
    const pair_loss *const l = self;
    const mmf_views *const v = &l->views;
    const size_t n = v->inputs->count;
    mmf_tensor *sum = NULL;
    mmf_views_run(tape, v, in);
    for (size_t m = 0; m < n; m++) {
        mmf_tensor *const z = mmf_gradient_reversal(tape, v->x[m], l->reversal);
        mmf_tensor *const h = mmf_linear_run(tape, &l->hidden, z, MMF_ACT_RELU);
        mmf_tensor *const log_p = mmf_log_softmax(
            tape, mmf_linear_run(tape, &l->out, h, MMF_ACT_NONE), NULL, MMF_EMPTY_ZERO);
        mmf_tensor *const own = mmf_slice(tape, log_p, 1, (int64_t)m, 1);
        mmf_tensor *const mean = mmf_row_mean(tape, own, v->present[m]);
        sum = sum ? mmf_add(tape, sum, mean) : mean;
    }
    mmf_named_put(tape, out, "loss", mmf_affine(tape, sum, -1 / (double)n, 0));
}

#define PAIR_LOSS(id, text, about, source, formula, absent, family)                                \
    const mmf_def mmf_loss_##id = {                                                                \
        .name = text,                                                                              \
        .title = about,                                                                            \
        .paper = source,                                                                           \
        .equations = formula,                                                                      \
        .missing = absent,                                                                         \
        .structure = family,                                                                       \
        .kind = MMF_KIND_LOSS,                                                                     \
        .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,                                \
        .options = id##_options,                                                                   \
        .build = build_##id,                                                                       \
        .run = run_##id,                                                                           \
    }

PAIR_LOSS(cmd, "cmd", "Central moment discrepancy between modalities",
          "Zellinger et al., Central moment discrepancy for domain-invariant representation "
          "learning, ICLR 2017, arXiv:1702.08811",
          "z_m = (f_m / |f_m| + 1) / 2; |E z_a - E z_b| + sum_k |c_k(z_a) - c_k(z_b)|, mean over "
          "pairs of modalities",
          "rows without it are left out of its moments", "disentangled");
PAIR_LOSS(difference, "difference", "Difference loss between modalities",
          "Bousmalis et al., Domain separation networks, NeurIPS 2016, arXiv:1608.06019",
          "|Cov(z_a, z_b)|_F^2 of features of length one, mean over pairs of modalities; the paper "
          "has |Z_a' Z_b|_F^2, which grows with the batch",
          "rows that lack one of two modalities are left out", "disentangled");
PAIR_LOSS(adversarial, "adversarial", "Adversarial loss: tell the modality from its feature",
          "Ganin, Lempitsky, Unsupervised domain adaptation by backpropagation, ICML 2015, "
          "arXiv:1409.7495",
          "-mean_m log p(m | z_m), p = softmax(W2 relu(W1 z)); the features' gradient is reversed",
          "rows without it are left out", "disentangled");
PAIR_LOSS(
    vse_pp, "vse-pp", "Hinge over the hardest negatives",
    "Faghri et al., VSE++: improving visual-semantic embeddings with hard negatives, BMVC "
    "2018, arXiv:1707.05612",
    "mean_i max_j [a + S_ij - S_ii]+ + mean_j max_i [a + S_ij - S_jj]+, j != i, S = z_a z_b'; "
    "mean over pairs of modalities; the paper has sums over the batch",
    "rows that lack one of two modalities are neither asked nor negatives", "contrastive");
