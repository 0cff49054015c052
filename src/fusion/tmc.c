/*
 * tmc.c: trusted classification: each modality's opinion is a Dirichlet distribution, and opinions
 * are combined by the rule of Dempster and Shafer.
 *
 * Han, Zhang, Fu, Zhou, Trusted multi-view classification, ICLR 2021, eq. (4) to (9), and its
 * enhanced variant with one more opinion from all modalities together (TPAMI 2022), `variant` etmc.
 * Names of the code released with QMF. The divergence from the flat distribution is weighed in over
 * `annealing` epochs.
 */
#include <math.h>
#include <string.h>

#include "fusion/opinions.h"

static const mmf_option options[] = {
    MMF_OPINION_OPTIONS,
    {"variant", NULL, MMF_OPTION_TEXT, 0, 0, "tmc|etmc", "tmc",
     "etmc adds the opinion of a classifier over all modalities together"},
    {"annealing", NULL, MMF_OPTION_REAL, 1e-6, 1e6, NULL, "10",
     "epochs until the divergence from the flat distribution counts in full"},
    {"epoch", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "epochs that annealing is ahead of training: 0 starts it with the first epoch"},
    {0},
};

typedef struct tmc_operator {
    mmf_opinions opinions;
    mmf_classifier pseudo;
    bool enhanced;
    double annealing;
    int64_t epoch;
    mmf_tensor **features;
} tmc_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    tmc_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    op->annealing = mmf_config_real(config, "annealing");
    op->epoch = mmf_config_int(config, "epoch");
    op->enhanced = strcmp(mmf_config_text(config, "variant"), "etmc") == 0;
    op->features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    MMF_TRY(mmf_opinions_build(b, config, inputs, &op->opinions));
    int64_t width = 0;
    for (size_t m = 0; m < inputs->count; m++)
        width += inputs->inputs[m].shape[0];
    if (op->enhanced)
        op->pseudo = mmf_classifier_build(b, config, "clf", width, op->opinions.classes);
    mmf_builder_set_width(b, op->opinions.classes);
    *self = op;
    return mmf_builder_status(b);
}

static mmf_tensor *row_sum(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_reshape(tape, mmf_sum(tape, x, -1), 2, (int64_t[]){-1, 1});
}

/* ---- Opinions ---------------------------------------------------------------------------- */

/* Beliefs (B, C) and uncertainty (B, 1), which sum to 1. */
typedef struct opinion {
    mmf_tensor *belief, *uncertainty;
} opinion;

/* b = e / S, u = C / S with S = sum e + C, eq. (4): of alpha = e + 1 little evidence could not be
 * got back. */
static opinion opinion_of(mmf_tape *tape, mmf_tensor *evidence, int64_t classes)
{
    mmf_tensor *const strength = mmf_affine(tape, row_sum(tape, evidence), 1, (double)classes);
    return (opinion){mmf_div(tape, evidence, strength),
                     mmf_affine(tape, mmf_pow(tape, strength, -1), (double)classes, 0)};
}

/* Definition 4: agreeing and undecided beliefs, over 1 - conflict, which is b_x b_y + u_x (1 - u_y)
 * + u_y: opinions that are sure of different classes leave little of a difference from 1. */
static opinion combine(mmf_tape *tape, const opinion *x, const opinion *y)
{
    mmf_tensor *const both = mmf_mul(tape, x->belief, y->belief);
    mmf_tensor *const one_sure =
        mmf_mul(tape, x->uncertainty, mmf_affine(tape, y->uncertainty, -1, 1));
    mmf_tensor *const scale =
        mmf_add(tape, row_sum(tape, both), mmf_add(tape, one_sure, y->uncertainty));
    mmf_tensor *const xu = mmf_mul(tape, x->belief, y->uncertainty);
    mmf_tensor *const yu = mmf_mul(tape, y->belief, x->uncertainty);
    return (opinion){mmf_div(tape, mmf_add(tape, both, mmf_add(tape, xu, yu)), scale),
                     mmf_div(tape, mmf_mul(tape, x->uncertainty, y->uncertainty), scale)};
}

/* alpha = b S + 1, S = C / u. */
static mmf_tensor *dirichlet_of(mmf_tape *tape, const opinion *o, int64_t classes)
{
    mmf_tensor *const strength =
        mmf_affine(tape, mmf_pow(tape, o->uncertainty, -1), (double)classes, 0);
    return mmf_affine(tape, mmf_mul(tape, o->belief, strength), 1, 1);
}

/* ---- Loss -------------------------------------------------------------------------------- */

/* KL(Dir(a) || Dir(1)) a row, with a = y + (1 - y) alpha: evidence for wrong classes only. */
static mmf_tensor *divergence(mmf_tape *tape, mmf_tensor *alpha, mmf_tensor *y, int64_t classes)
{
    mmf_tensor *const a = mmf_add(tape, y, mmf_mul(tape, mmf_affine(tape, y, -1, 1), alpha));
    mmf_tensor *const s = row_sum(tape, a);
    mmf_tensor *const gammas =
        mmf_sub(tape, mmf_log_gamma(tape, s), row_sum(tape, mmf_log_gamma(tape, a)));
    mmf_tensor *const slopes = mmf_sub(tape, mmf_digamma(tape, a), mmf_digamma(tape, s));
    mmf_tensor *const spread = row_sum(tape, mmf_mul(tape, mmf_affine(tape, a, 1, -1), slopes));
    return mmf_affine(tape, mmf_add(tape, gammas, spread), 1, -lgamma((double)classes));
}

/* Expected cross-entropy plus the annealed divergence, eq. (9), a mean over rows. */
static mmf_tensor *opinion_loss(mmf_tape *tape, const tmc_operator *op, mmf_tensor *alpha,
                                mmf_tensor *y, mmf_tensor *present, const mmf_step *step)
{
    const double epoch = (double)(op->epoch + step->epoch);
    mmf_tensor *const s = mmf_digamma(tape, row_sum(tape, alpha));
    mmf_tensor *const expected =
        row_sum(tape, mmf_mul(tape, y, mmf_sub(tape, s, mmf_digamma(tape, alpha))));
    mmf_tensor *const kl = divergence(tape, alpha, y, op->opinions.classes);
    mmf_tensor *const rows =
        mmf_add(tape, expected, mmf_affine(tape, kl, fmin(1, epoch / op->annealing), 0));
    return mmf_present_mean(tape, mmf_reshape(tape, rows, 1, (int64_t[]){-1}), present);
}

/* ---- The operator ------------------------------------------------------------------------ */

typedef struct tmc_run {
    opinion fused;
    mmf_tensor *loss;
    bool any;
} tmc_run;

/* One more opinion: evidence softplus(z), none where the modality is absent. */
static void add_opinion(mmf_tape *tape, const tmc_operator *op, tmc_run *r, const char *name,
                        mmf_tensor *z, mmf_tensor *present, mmf_tensor *target,
                        const mmf_step *step, mmf_named *out)
{
    mmf_tensor *evidence = mmf_softplus(tape, z);
    if (present)
        evidence = mmf_mul(tape, evidence, mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}));
    mmf_tensor *const alpha = mmf_affine(tape, evidence, 1, 1);
    const opinion own = opinion_of(tape, evidence, op->opinions.classes);
    mmf_named_putf(tape, out, alpha, "alpha.%s", name);
    mmf_named_putf(tape, out, own.uncertainty, "uncertainty.%s", name);
    mmf_named_axes(out, "B1");
    if (target) {
        mmf_tensor *const loss = opinion_loss(tape, op, alpha, target, present, step);
        mmf_named_putf(tape, out, loss, "loss.%s", name);
        r->loss = r->any ? mmf_add(tape, r->loss, loss) : loss;
    }
    r->fused = r->any ? combine(tape, &r->fused, &own) : own;
    r->any = true;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const tmc_operator *const op = self;
    const mmf_schema *const inputs = op->opinions.inputs;
    mmf_tensor *const target = mmf_opinions_target(tape, &op->opinions, in);
    tmc_run r = {0};
    mmf_opinions_run(tape, &op->opinions, in);
    for (size_t m = 0; m < inputs->count; m++) {
        const char *const name = inputs->inputs[m].name;
        op->features[m] = mmf_named_get(in, name);
        add_opinion(tape, op, &r, name, op->opinions.z[m], mmf_named_part(in, name, "present"),
                    target, step, out);
    }
    if (op->enhanced) {
        mmf_tensor *const all = mmf_concat(tape, op->features, (int)inputs->count, -1);
        add_opinion(tape, op, &r, "pseudo", mmf_classifier_run(tape, &op->pseudo, all), NULL,
                    target, step, out);
    }
    mmf_tensor *const alpha = dirichlet_of(tape, &r.fused, op->opinions.classes);
    if (target) {
        mmf_tensor *const loss = opinion_loss(tape, op, alpha, target, NULL, step);
        mmf_named_put(tape, out, "loss.fused", loss);
        mmf_tensor *const whole = mmf_add(tape, r.loss, loss);
        mmf_named_put(tape, out, "loss", whole);
        mmf_named_put(tape, out, "objective", whole);
    }
    mmf_named_put(tape, out, "alpha", alpha);
    mmf_named_put(tape, out, "belief", r.fused.belief);
    mmf_named_axes(out, "BC");
    mmf_named_put(tape, out, "uncertainty", r.fused.uncertainty);
    mmf_named_axes(out, "B1");
    mmf_named_put(tape, out, "fused", mmf_div(tape, alpha, row_sum(tape, alpha)));
}

const mmf_def mmf_fusion_tmc = {
    .name = "tmc",
    .title = "Trusted multi-view classification",
    .paper = "Han, Zhang, Fu, Zhou, Trusted multi-view classification, ICLR 2021, "
             "arXiv:2102.02051",
    .equations = "alpha_m = softplus(z_m) + 1; b = (b1 b2 + b1 u2 + b2 u1) / (1 - K), u = u1 u2 / "
                 "(1 - K); p = alpha / S",
    .missing = "its opinion is vacuous, which leaves the others as they are; its loss leaves the "
               "sample out",
    .timing = "late",
    .structure = "dynamic",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_CLASSES_OK | MMF_ONE_CLASS,
    .options = options,
    .build = build,
    .run = run,
};
