/*
 * aid_ogm_ge.c: on-the-fly gradient modulation with generalisation enhancement: the encoder of the
 * modality that is ahead is slowed down, and noise keeps its generalisation.
 *
 * Peng, Wei, Deng, Wang, Hu, CVPR 2022, section 3.3 and 3.4. Deviations, so that any model with one
 * feature a modality can be trained this way: the logits of a modality come from a linear probe on
 * its feature, which learns beside the model and sends nothing back (the paper takes the head
 * apart, which needs a linear head over a sum or a concatenation); an encoder is what leads to its
 * feature and to no other; all of its parameters are modulated, and its weights get noise (the
 * code: parameters of four dimensions). With more than two modalities the others count by their
 * mean.
 */
#include <math.h>

#include "nn/ogm_ge.h"
#include "train/aid.h"

#define MAX_MODALITIES 64

static const mmf_option options[] = {
    {"alpha", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.3",
     "strength of the modulation; the paper's are 0.1 to 0.8"},
    {"first", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "1", "first epoch with modulation"},
    {"last", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "50", "last epoch with modulation"},
    {"noise", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "add noise with the deviation of the gradient as it was before (generalisation enhancement)"},
    {0},
};

typedef struct ogm_aid {
    int *owner; /* of every parameter: the modality that it leads to alone, or -1 */
    mmf_ogm balance;
    double alpha;
    int64_t first, last;
    bool has_noise;
} ogm_aid;

/* Parameters that a feature depends on are those that its gradient reaches. */
static mmf_status find_owners(mmf_aid *aid, const mmf_aid_pass *pass, ogm_aid *own)
{
    const mmf_params *const params = aid->fit->params;
    const size_t n = mmf_params_count(params);
    for (size_t i = 0; i < n; i++)
        own->owner[i] = -1;
    for (size_t m = 0; m < aid->features->count; m++) {
        mmf_tensor *const f = mmf_feature_of(pass->out, aid->features->inputs[m].name);
        mmf_tensor *const sum =
            mmf_sum(pass->tape, mmf_reshape(pass->tape, f, 1, (int64_t[]){-1}), MMF_ALL_AXES);
        MMF_TRY(mmf_tape_backward(pass->tape, sum));
        for (size_t i = 0; i < n; i++) {
            const mmf_param *const p = mmf_params_at(params, i);
            if (p->role == MMF_PARAM_TRAINED && !p->is_alias &&
                mmf_tensor_has_grad(pass->tape, p->tensor))
                own->owner[i] = own->owner[i] == -1 ? (int)m : MAX_MODALITIES; /* shared */
        }
    }
    size_t n_owned[MAX_MODALITIES + 1] = {0};
    for (size_t i = 0; i < n; i++) {
        if (own->owner[i] >= 0)
            n_owned[own->owner[i]]++;
        if (own->owner[i] == MAX_MODALITIES)
            own->owner[i] = -1;
    }
    for (size_t m = 0; m < aid->features->count; m++) {
        if (n_owned[m] == 0)
            return mmf_fail(aid->ctx, MMF_UNSUPPORTED,
                            "%s: training aid ogm-ge modulates the encoder of each modality, and "
                            "no parameter leads to the feature of %s alone; use a model whose "
                            "encoders are apart, such as joint-concat",
                            aid->fit->name, aid->features->inputs[m].name);
    }
    return MMF_OK;
}

static mmf_status start(mmf_aid *aid, const mmf_aid_pass *pass)
{
    if (aid->features->count > MAX_MODALITIES)
        return mmf_fail(aid->ctx, MMF_LIMIT, "training aid ogm-ge: more than %d modalities",
                        MAX_MODALITIES);
    const size_t n = mmf_params_count(aid->fit->params);
    ogm_aid *const own = mmf_alloc_zero(aid->ctx, 1, sizeof *own + (n + 1) * sizeof(int));
    if (!own)
        return MMF_NOMEM;
    aid->own = own;
    own->owner = (int *)(own + 1);
    own->alpha = mmf_config_real(aid->config, "alpha");
    own->first = mmf_config_int(aid->config, "first");
    own->last = mmf_config_int(aid->config, "last");
    own->has_noise = mmf_config_bool(aid->config, "noise");
    MMF_TRY(find_owners(aid, pass, own));
    return mmf_aid_heads_create(aid, 0, 0);
}

static mmf_tensor *loss(mmf_aid *aid, const mmf_aid_pass *pass, mmf_tensor *total)
{
    ogm_aid *const own = aid->own;
    mmf_named out = {0};
    mmf_tensor *logits[MAX_MODALITIES];
    mmf_aid_heads_run(aid, pass, true, &out);
    for (size_t m = 0; m < aid->features->count; m++) {
        logits[m] = mmf_aid_head(aid, &out, m);
        mmf_tensor *const one = mmf_aid_head_loss(aid, pass, &out, m);
        total = one ? mmf_add(pass->tape, total, one) : total;
    }
    own->balance =
        mmf_ogm_balance(pass->tape, logits, aid->features->count, pass->target, own->alpha);
    return total;
}

/* Population deviation of a gradient, as the noise is drawn with. */
static double deviation_of(const mmf_real *g, int64_t n)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i];
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += ((double)g[i] - mean) * ((double)g[i] - mean);
    return n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
}

static void gradients(mmf_aid *aid, const mmf_aid_pass *pass)
{
    const ogm_aid *const own = aid->own;
    const int64_t epoch = pass->step->epoch + 1;
    const mmf_tensor *const k = own->balance.coefficient;
    if (!k || epoch < own->first || epoch > own->last)
        return;
    mmf_rng rng = mmf_rng_make(pass->seed, mmf_rng_stream("ogm-ge") + (uint64_t)pass->step->step);
    for (size_t i = 0; i < mmf_params_count(aid->fit->params); i++) {
        const mmf_tensor *const p = mmf_params_at(aid->fit->params, i)->tensor;
        if (own->owner[i] < 0)
            continue;
        const mmf_real scale = k->data[own->owner[i]];
        const bool noisy = own->has_noise && p->n_dims > 1;
        const double deviation = noisy ? deviation_of(p->grad, p->count) : 0;
        for (int64_t j = 0; j < p->count; j++)
            p->grad[j] *= scale;
        for (int64_t j = 0; noisy && j < p->count; j++)
            p->grad[j] += (mmf_real)(deviation * mmf_rng_normal(&rng));
    }
}

const mmf_aid_kind mmf_aid_ogm_ge = {
    .def = {.name = "ogm-ge",
            .title = "On-the-fly gradient modulation with generalisation enhancement",
            .paper = "Peng, Wei, Deng, Wang, Hu, Balanced multimodal learning via on-the-fly "
                     "gradient modulation, CVPR 2022, arXiv:2203.15332",
            .equations = "grad theta_m <- k_m grad theta_m + N(0, var(grad theta_m)), k_m = 1 - "
                         "tanh(alpha rho_m) where rho_m > 1, else 1; rho_m: the score of the right "
                         "class over that of the others; scores by linear probes. Adam takes most "
                         "of the scaling back, SGD as in the paper does not",
            .missing = "rows that lack a modality count with what stands in for it",
            .kind = MMF_KIND_AID,
            .takes = MMF_TAKES_ANY | MMF_CLASSES_OK | MMF_ONE_CLASS,
            .options = options},
    .start = start,
    .loss = loss,
    .gradients = gradients,
};
