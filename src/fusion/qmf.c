/*
 * qmf.c: quality-aware fusion: the energy of each modality's logits is its weight for this sample.
 *
 * Zhang, Wu, Zhang, Hu, Fu, Zhou, Peng, Provable dynamic fusion for low-quality multimodal data,
 * ICML 2023. Training adds each modality's cross-entropy and a ranking of confidences by the
 * history of losses, eq. (11): a sample with the higher loss must get the lower confidence, by a
 * margin. The released code flips the target's sign but not the margin's, which makes the margin a
 * tolerance; `rank` released gives that form. Names of the authors' code.
 *
 * Deviations: the history is a sample's loss summed over all epochs so far where a caller gives it
 * as `history.<m>`; mmf_train does not keep it, and then the sample's present loss takes its place.
 * A history in which all are equal gives margin 0 instead of 0/0.
 */
#include <math.h>
#include <string.h>

#include "fusion/opinions.h"

/* Differences of losses below this are none. */
#define MIN_RANGE 1e-12

static const mmf_option options[] = {
    MMF_OPINION_OPTIONS,
    {"energy_scale", NULL, MMF_OPTION_REAL, 1e-3, 1e6, NULL, "10",
     "confidence is log sum exp of the logits over this"},
    {"rank_weight", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.1", "of the ranking loss"},
    {"rank", NULL, MMF_OPTION_TEXT, 0, 0, "intended|released", "intended",
     "the ranking loss with a margin as published, or with a tolerance as in the released code"},
    {0},
};

typedef struct qmf_operator {
    mmf_opinions opinions;
    double energy_scale, rank_weight;
    bool released;
} qmf_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    qmf_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    op->energy_scale = mmf_config_real(config, "energy_scale");
    op->rank_weight = mmf_config_real(config, "rank_weight");
    op->released = strcmp(mmf_config_text(config, "rank"), "released") == 0;
    MMF_TRY(mmf_opinions_build(b, config, inputs, &op->opinions));
    mmf_builder_set_width(b, op->opinions.classes);
    *self = op;
    return mmf_builder_status(b);
}

/* Cross-entropy of each row, (B). */
static mmf_tensor *row_losses(mmf_tape *tape, mmf_tensor *z, mmf_tensor *target)
{
    mmf_tensor *const log_p = mmf_log_softmax(tape, z, NULL, MMF_EMPTY_ZERO);
    return mmf_affine(tape, mmf_sum(tape, mmf_mul(tape, target, log_p), -1), -1, 0);
}

/* The row below in the batch, the first one for the last: the neighbour j of i. */
static mmf_tensor *neighbour(mmf_tape *tape, mmf_tensor *x)
{
    const int64_t n = x ? x->shape[0] : 1;
    mmf_tensor *const parts[] = {mmf_slice(tape, x, 0, 1, n - 1), mmf_slice(tape, x, 0, 0, 1)};
    return n > 1 ? mmf_concat(tape, parts, 2, 0) : x;
}

/* max(0, sign(k_i - k_j) (w_i - w_j) +- |k_i - k_j|) a row, eq. (11). @param w, k (B) */
static mmf_tensor *ranking(mmf_tape *tape, mmf_tensor *w, mmf_tensor *k, bool released)
{
    mmf_tensor *const low = mmf_min(tape, k, MMF_ALL_AXES);
    mmf_tensor *const range = mmf_sub(tape, mmf_max(tape, k, MMF_ALL_AXES), low);
    k = mmf_div(tape, mmf_sub(tape, k, low), mmf_clamp(tape, range, MIN_RANGE, INFINITY));
    mmf_tensor *const gap = mmf_sub(tape, k, neighbour(tape, k));
    mmf_tensor *const rise =
        mmf_mul(tape, mmf_sign(tape, gap), mmf_sub(tape, w, neighbour(tape, w)));
    mmf_tensor *const margin = mmf_affine(tape, mmf_abs(tape, gap), released ? -1 : 1, 0);
    return mmf_relu(tape, mmf_add(tape, rise, margin));
}

/* L = CE(z) + sum_m CE(z_m) + lambda sum_m R_m. @param w  confidences (B, 1) */
static mmf_tensor *unimodal_losses(mmf_tape *tape, const qmf_operator *op, size_t m, mmf_tensor *w,
                                   mmf_tensor *target, const mmf_named *in, mmf_named *out)
{
    const char *const name = op->opinions.inputs->inputs[m].name;
    const int64_t flat[] = {-1};
    mmf_tensor *const present = mmf_named_part(in, name, "present");
    mmf_tensor *const ce = row_losses(tape, op->opinions.z[m], target);
    mmf_tensor *history = mmf_named_part(in, "history", name);
    history = mmf_detach(tape, history ? history : ce);
    w = mmf_reshape(tape, w, 1, flat);
    /* A pair counts if the modality is there in both rows. */
    mmf_tensor *const pair = present ? mmf_mul(tape, present, neighbour(tape, present)) : NULL;
    mmf_tensor *const intended = mmf_present_mean(tape, ranking(tape, w, history, false), pair);
    mmf_tensor *const released = mmf_present_mean(tape, ranking(tape, w, history, true), pair);
    mmf_tensor *const mean = mmf_present_mean(tape, ce, present);
    mmf_named_putf(tape, out, intended, "loss.rank.%s", name);
    mmf_named_putf(tape, out, released, "loss.rank_released.%s", name);
    mmf_named_putf(tape, out, mean, "loss.ce.%s", name);
    return mmf_add(tape, mean,
                   mmf_affine(tape, op->released ? released : intended, op->rank_weight, 0));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const qmf_operator *const op = self;
    const mmf_schema *const inputs = op->opinions.inputs;
    mmf_opinions_run(tape, &op->opinions, in);
    mmf_tensor *const target = mmf_opinions_target(tape, &op->opinions, in);
    mmf_tensor *fused = NULL, *loss = NULL;
    for (size_t m = 0; m < inputs->count; m++) {
        const char *const name = inputs->inputs[m].name;
        mmf_tensor *const z = op->opinions.z[m];
        const int64_t column[] = {-1, 1};
        mmf_tensor *const energy = mmf_reshape(tape, mmf_logsumexp(tape, z, -1), 2, column);
        mmf_tensor *w = mmf_affine(tape, energy, 1 / op->energy_scale, 0);
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        if (present)
            w = mmf_mul(tape, w, mmf_reshape(tape, present, 2, column));
        mmf_tensor *const part = mmf_mul(tape, w, z);
        fused = m == 0 ? part : mmf_add(tape, fused, part);
        mmf_named_putf(tape, out, z, "logit.%s", name);
        mmf_named_putf(tape, out, w, "confidence.%s", name);
        mmf_named_axes(out, "B1");
        if (!target)
            continue;
        mmf_tensor *const own = unimodal_losses(tape, op, m, w, target, in, out);
        loss = m == 0 ? own : mmf_add(tape, loss, own);
    }
    if (target) {
        mmf_tensor *const ce = mmf_mean(tape, row_losses(tape, fused, target), MMF_ALL_AXES);
        mmf_named_put(tape, out, "loss.ce", ce);
        mmf_tensor *const whole = mmf_add(tape, ce, loss);
        mmf_named_put(tape, out, "loss", whole);
        mmf_named_put(tape, out, "objective", whole);
    }
    mmf_named_put(tape, out, "logit", fused);
    mmf_named_put(tape, out, "fused", fused);
}

const mmf_def mmf_fusion_qmf = {
    .name = "qmf",
    .title = "Quality-aware multimodal fusion",
    .paper = "Zhang, Wu, Zhang, Hu, Fu, Zhou, Peng, Provable dynamic fusion for low-quality "
             "multimodal data, ICML 2023, arXiv:2306.02050",
    .equations =
        "z = sum_m w_m z_m, w_m = logsumexp(z_m) / 10; loss CE(z) + sum_m CE(z_m) + lambda "
        "sum_m R_m",
    .missing = "its confidence is 0, and its losses leave the sample out",
    .timing = "late",
    .structure = "dynamic",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_CLASSES_OK | MMF_ONE_CLASS,
    .options = options,
    .build = build,
    .run = run,
};
