/*
 * cpc.c: contrastive predictive coding between modalities: the features of each are told from other
 * samples' by what the others' features say.
 *
 * Oord, Li, Vinyals, arXiv:1807.03748, as Han, Chen, Poria, EMNLP 2021, score: by the cosine of the
 * feature and its prediction, without a temperature. They predict from the fused vector; here,
 * where any model may stand beside the loss, from all other modalities side by side.
 */
#include "nn/infomax.h"

static const mmf_option options[] = {
    {"layers", NULL, MMF_OPTION_INT, 1, 16, NULL, "1", "linear layers of a prediction"},
    {0},
};

typedef struct cpc_loss {
    const mmf_schema *inputs;
    mmf_cpc *cpc; /* one a modality, which predicts it */
    mmf_tensor **others;
} cpc_loss;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    cpc_loss *const loss = mmf_builder_alloc(b, sizeof *loss);
    if (!loss)
        return mmf_builder_status(b);
    if (inputs->count < 2)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "cpc predicts the features of a modality from those of another");
    loss->inputs = inputs;
    loss->cpc = mmf_builder_alloc(b, inputs->count * sizeof *loss->cpc);
    loss->others = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    int64_t all = 0;
    for (size_t m = 0; m < inputs->count; m++)
        all += inputs->inputs[m].shape[0];
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        loss->cpc[m] =
            mmf_cpc_build(b, mmf_builder_text(b, "predict_%s", in->name), all - in->shape[0],
                          in->shape[0], (int)mmf_config_int(config, "layers"), MMF_ACT_TANH);
    }
    *self = loss;
    return mmf_builder_status(b);
}

/* The features of all but modality m side by side, zeros for those that are absent; `some` (B, 1)
 * counts them where any may be, else it is NULL. */
static mmf_tensor *others_of(mmf_tape *tape, const cpc_loss *l, const mmf_named *in, size_t m,
                             mmf_tensor **some)
{
    int n = 0;
    bool always = false;
    mmf_tensor *count = NULL;
    for (size_t i = 0; i < l->inputs->count; i++) {
        const char *const name = l->inputs->inputs[i].name;
        if (i == m)
            continue;
        mmf_tensor *const x = mmf_named_get(in, name);
        mmf_tensor *const present = mmf_named_part(in, name, "present");
        mmf_tensor *const p = present ? mmf_reshape(tape, present, 2, (int64_t[]){-1, 1}) : NULL;
        always = always || !p;
        count = p && count ? mmf_add(tape, count, p) : p ? p : count;
        l->others[n++] = p ? mmf_mul(tape, x, p) : x;
    }
    *some = always ? NULL : mmf_clamp(tape, count, 0, 1);
    return n == 1 ? l->others[0] : mmf_concat(tape, l->others, n, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const cpc_loss *const l = self;
    mmf_tensor *sum = NULL;
    for (size_t m = 0; m < l->inputs->count; m++) {
        const char *const name = l->inputs->inputs[m].name;
        mmf_tensor *some = NULL;
        mmf_tensor *const z = others_of(tape, l, in, m, &some);
        mmf_tensor *present = mmf_named_part(in, name, "present");
        if (present)
            present = mmf_reshape(tape, present, 2, (int64_t[]){-1, 1});
        if (some)
            present = present ? mmf_mul(tape, present, some) : some;
        mmf_tensor *const one = mmf_cpc_run(tape, &l->cpc[m], mmf_named_get(in, name), z, present);
        sum = sum ? mmf_add(tape, sum, one) : one;
    }
    mmf_named_put(tape, out, "loss", mmf_affine(tape, sum, 1 / (double)l->inputs->count, 0));
}

const mmf_def mmf_loss_cpc = {
    .name = "cpc",
    .title = "Contrastive predictive coding between modalities",
    .paper = "Oord, Li, Vinyals, Representation learning with contrastive predictive coding, "
             "arXiv:1807.03748; scored as in Han, Chen, Poria, MMIM, EMNLP 2021",
    .equations = "s_ij = cos(x_i, G(z_j)), z: the other modalities' features; "
                 "-mean_i (s_ii - log sum_j e^s_ij), mean over modalities",
    .missing =
        "rows that lack the modality, or all others, are left out; absent features are zeros",
    .structure = "contrastive",
    .kind = MMF_KIND_LOSS,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
