/*
 * clip_loss.c: the symmetric contrastive loss of CLIP over the features of two or more modalities.
 *
 * Radford et al., ICML 2021, figure 3; structure of mlfoundations/open_clip's ClipLoss, where the
 * logarithm of the scale is learned. With more than two modalities it is the mean over all pairs.
 * The loss itself does not clamp the scale; a step of training keeps its logarithm in [0, log 100],
 * as theirs does.
 */
#include <math.h>

#include "nn/builder.h"
#include "nn/views.h"

/* log(1 / 0.07), the paper's start. */
#define LOG_SCALE "2.6592600369"

/* log(100) */
#define MAX_LOG_SCALE 4.605170185988092

static const mmf_option options[] = {
    {"logit_scale_init", NULL, MMF_OPTION_REAL, -10, 10, NULL, LOG_SCALE,
     "start of the learned log(1 / temperature)"},
    MMF_VIEW_WIDTH_OPTION,
    {0},
};

typedef struct clip_loss {
    mmf_views views;
    mmf_tensor *logit_scale; /* (1) */
} clip_loss;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    clip_loss *const loss = mmf_builder_alloc(b, sizeof *loss);
    if (!loss)
        return mmf_builder_status(b);
    if (inputs->count < 2)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "clip-loss compares the features of at least two modalities");
    loss->views = mmf_views_build(b, config, inputs);
    loss->logit_scale = mmf_builder_param(
        b, "logit_scale", MMF_PARAM_TRAINED,
        mmf_init_constant(mmf_config_real(config, "logit_scale_init")), 1, (int64_t[]){1});
    mmf_builder_bound(b, 0, MAX_LOG_SCALE);
    *self = loss;
    return mmf_builder_status(b);
}

/* Mean over the anchors that are there of -log softmax(logits)_ii over the others that are.
 * @param both (B, 1) or NULL */
static mmf_tensor *one_way(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *both)
{
    const int64_t n = logits ? logits->shape[0] : 0;
    mmf_tensor *const others = both ? mmf_reshape(tape, both, 2, (int64_t[]){1, n}) : NULL;
    mmf_tensor *const log_p = mmf_log_softmax(tape, logits, others, MMF_EMPTY_ZERO);
    mmf_tensor *const own = mmf_mul(tape, log_p, mmf_identity(tape, n));
    mmf_tensor *const sum = mmf_affine(tape, mmf_sum(tape, own, MMF_ALL_AXES), -1, 0);
    if (!both)
        return mmf_affine(tape, sum, 1 / (double)n, 0);
    return mmf_div(tape, sum, mmf_clamp(tape, mmf_sum(tape, both, MMF_ALL_AXES), 1, INFINITY));
}

static mmf_tensor *pair_loss(mmf_tape *tape, const clip_loss *l, size_t i, size_t j, mmf_named *out)
{
    const mmf_views *const v = &l->views;
    const mmf_input_schema *const inputs = v->inputs->inputs;
    mmf_tensor *const scale = mmf_exp(tape, l->logit_scale);
    mmf_tensor *const p = v->present[i], *const q = v->present[j];
    mmf_tensor *const both = p && q ? mmf_mul(tape, p, q) : (p ? p : q);
    mmf_tensor *const logits =
        mmf_mul(tape, mmf_matmul(tape, v->x[i], v->x[j], false, true), scale);
    mmf_tensor *const turned = mmf_transpose(tape, logits, 0, 1);
    if (v->inputs->count == 2) {
        mmf_named_putf(tape, out, logits, "logits.%s", inputs[i].name);
        mmf_named_putf(tape, out, turned, "logits.%s", inputs[j].name);
    }
    mmf_tensor *const sum = mmf_add(tape, one_way(tape, logits, both), one_way(tape, turned, both));
    return mmf_affine(tape, sum, 0.5, 0);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const clip_loss *const l = self;
    const size_t n = l->views.inputs->count;
    mmf_tensor *sum = NULL;
    mmf_views_run(tape, &l->views, in);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            mmf_tensor *const pair = pair_loss(tape, l, i, j, out);
            sum = sum ? mmf_add(tape, sum, pair) : pair;
        }
    }
    mmf_named_put(tape, out, "loss", mmf_affine(tape, sum, 2 / (double)(n * (n - 1)), 0));
}

const mmf_def mmf_loss_clip_loss = {
    .name = "clip-loss",
    .title = "Symmetric contrastive loss between modalities",
    .paper = "Radford et al., Learning transferable visual models from natural language "
             "supervision, ICML 2021, arXiv:2103.00020",
    .equations = "z_m = f_m / |f_m|, S = e^s z_a z_b'; (CE(S, i) + CE(S', i)) / 2, mean over pairs "
                 "of modalities",
    .missing = "rows that lack one of two modalities are neither anchors nor candidates",
    .structure = "contrastive",
    .kind = MMF_KIND_LOSS,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
