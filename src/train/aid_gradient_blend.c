/*
 * aid_gradient_blend.c: a head beside each modality and one loss over all heads, weighed by how
 * well each generalises.
 *
 * Wang, Tran, Feiszli, What makes training multi-modal classification networks hard?, CVPR 2020,
 * eq. (5) and (6), re-estimated at super-epochs (its online form): between two checkpoints a head
 * gains G in validation loss and O in the gap between validation and training loss, and weighs as
 * G / O^2. Deviations: the losses are measured on the run itself, where the paper trains a copy for
 * the estimate; O is floored, a head that gained nothing counts with G = 0, and a small share of
 * the weight is dealt out equally.
 */
#include <math.h>

#include "train/aid.h"

#define MAX_HEADS 65

static const mmf_option options[] = {
    {"period", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "5",
     "epochs of a super-epoch: weights are estimated anew after each"},
    {"floor", NULL, MMF_OPTION_REAL, 1e-12, 1e3, NULL, "0.01",
     "least overfitting that counts, lest one head take all"},
    {"least", NULL, MMF_OPTION_REAL, 0, 0.5, NULL, "0.05",
     "share of all weight that is dealt out equally: a head that weighed nothing could never gain"},
    {0},
};

/* Rows of the state, one value a head each; the model's head comes first. */
enum { WEIGHT, TRAIN_LOSS, VALID_LOSS, N_STATE_ROWS };

static size_t n_heads(const mmf_aid *aid)
{
    return aid->features->count + 1;
}

static mmf_real *row(const mmf_aid *aid, int which)
{
    return aid->state + (size_t)which * n_heads(aid);
}

static mmf_status start(mmf_aid *aid, const mmf_aid_pass *pass)
{
    (void)pass;
    if (aid->fit->n_valid == 0 || aid->fit->options->refit)
        return mmf_fail(aid->ctx, MMF_UNSUPPORTED,
                        "training aid gradient-blend weighs its losses by validation rows, and "
                        "%s; %s",
                        aid->fit->n_valid == 0 ? "there are none" : "a refit has none",
                        aid->fit->options->refit ? "do without --refit" : "give --valid");
    if (n_heads(aid) > MAX_HEADS)
        return mmf_fail(aid->ctx, MMF_LIMIT, "training aid gradient-blend: more than %d heads",
                        MAX_HEADS);
    aid->n_state = (int64_t)(N_STATE_ROWS * n_heads(aid));
    aid->state = mmf_alloc_zero(aid->ctx, (size_t)aid->n_state, sizeof *aid->state);
    if (!aid->state)
        return MMF_NOMEM;
    for (size_t i = 0; i < n_heads(aid); i++)
        row(aid, WEIGHT)[i] = (mmf_real)1 / (mmf_real)n_heads(aid);
    return mmf_aid_heads_create(aid, 0, 0);
}

static mmf_status measure(mmf_aid *aid, double *train, double *valid)
{
    const mmf_aid_fit *const fit = aid->fit;
    MMF_TRY(fit->measure(fit->trainer, aid, fit->train_rows, fit->n_train, train));
    return fit->measure(fit->trainer, aid, fit->valid_rows, fit->n_valid, valid);
}

static void keep(mmf_aid *aid, const double *train, const double *valid)
{
    for (size_t i = 0; i < n_heads(aid); i++) {
        row(aid, TRAIN_LOSS)[i] = (mmf_real)train[i];
        row(aid, VALID_LOSS)[i] = (mmf_real)valid[i];
    }
}

static mmf_status begin(mmf_aid *aid)
{
    double train[MAX_HEADS], valid[MAX_HEADS];
    MMF_TRY(measure(aid, train, valid));
    keep(aid, train, valid);
    return MMF_OK;
}

void mmf_gradient_blend_weights(size_t n, const double *gain, const double *overfit, double least_o,
                                double *weights)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double o = overfit[i] > least_o ? overfit[i] : least_o;
        weights[i] = gain[i] > 0 ? gain[i] / (o * o) : 0;
        sum += weights[i];
    }
    for (size_t i = 0; i < n; i++)
        weights[i] = sum > 0 && isfinite(sum) ? weights[i] / sum : 1 / (double)n;
}

static mmf_status epoch(mmf_aid *aid, int64_t done)
{
    if (done % mmf_config_int(aid->config, "period") != 0)
        return MMF_OK;
    double train[MAX_HEADS], valid[MAX_HEADS], gain[MAX_HEADS], overfit[MAX_HEADS];
    double weights[MAX_HEADS];
    MMF_TRY(measure(aid, train, valid));
    for (size_t i = 0; i < n_heads(aid); i++) {
        const double train_before = (double)row(aid, TRAIN_LOSS)[i];
        const double valid_before = (double)row(aid, VALID_LOSS)[i];
        gain[i] = valid_before - valid[i];
        overfit[i] = (valid[i] - train[i]) - (valid_before - train_before);
    }
    mmf_gradient_blend_weights(n_heads(aid), gain, overfit, mmf_config_real(aid->config, "floor"),
                               weights);
    const double least = mmf_config_real(aid->config, "least");
    for (size_t i = 0; i < n_heads(aid); i++)
        row(aid, WEIGHT)[i] = (mmf_real)(least / (double)n_heads(aid) + (1 - least) * weights[i]);
    keep(aid, train, valid);
    return MMF_OK;
}

static mmf_tensor *loss(mmf_aid *aid, const mmf_aid_pass *pass, mmf_tensor *model_loss)
{
    mmf_named out = {0};
    mmf_aid_heads_run(aid, pass, false, &out);
    mmf_tensor *total = mmf_affine(pass->tape, model_loss, (double)row(aid, WEIGHT)[0], 0);
    for (size_t m = 0; m < aid->features->count; m++) {
        mmf_tensor *const one = mmf_aid_head_loss(aid, pass, &out, m);
        if (one)
            total = mmf_add(pass->tape, total,
                            mmf_affine(pass->tape, one, (double)row(aid, WEIGHT)[m + 1], 0));
    }
    return total;
}

const mmf_aid_kind mmf_aid_gradient_blend = {
    .def = {.name = "gradient-blend",
            .title = "Losses weighed by how well each head generalises",
            .paper = "Wang, Tran, Feiszli, What makes training multi-modal classification networks "
                     "hard?, CVPR 2020, arXiv:1905.12681",
            .equations = "L = sum_k w_k L_k over the model and a linear head a modality; w_k ~ G_k "
                         "/ O_k^2, G_k = L_V^n - L_V^{n+N}, O_k = max(floor, (L_V - L_T)^{n+N} - "
                         "(L_V - L_T)^n), measured every N epochs; weights start equal",
            .missing = "rows that lack a modality do not count for its head",
            .kind = MMF_KIND_AID,
            .takes = MMF_TAKES_ANY | MMF_ANY_TASK,
            .options = options},
    .start = start,
    .begin = begin,
    .loss = loss,
    .epoch = epoch,
};
