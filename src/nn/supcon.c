/*
 * supcon.c: the supervised contrastive loss: features of the same class, or of the same sample,
 * attract each other; all others are pushed away.
 *
 * Khosla et al., NeurIPS 2020, eq. (2) ("out"), as HobbitLong/SupContrast computes it: with its
 * factor T / T_base, and anchors without a positive as zeros in the mean. Views are the modalities;
 * or one input (N, V, D) holds all views. Without labels the positives are the other views of the
 * same sample (SimCLR). Several-label and real targets count as equal where all values are.
 */
#include <math.h>
#include <string.h>

#include "nn/views.h"

static const mmf_option options[] = {
    {"temperature", NULL, MMF_OPTION_REAL, 1e-4, 1e4, NULL, "0.07", "T"},
    {"base_temperature", NULL, MMF_OPTION_REAL, 1e-4, 1e4, NULL, "0.07",
     "T_base: the loss is scaled by T / T_base"},
    {"contrast_mode", NULL, MMF_OPTION_TEXT, 0, 0, "all|one", "all",
     "anchors: every view, or the first one"},
    MMF_VIEW_WIDTH_OPTION,
    {0},
};

typedef struct supcon_loss {
    mmf_views views;
    const char *stacked; /* one input (N, V, D); NULL: one input a view */
    double temperature, base;
    bool first_only;
} supcon_loss;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    supcon_loss *const loss = mmf_builder_alloc(b, sizeof *loss);
    if (!loss)
        return mmf_builder_status(b);
    loss->temperature = mmf_config_real(config, "temperature");
    loss->base = mmf_config_real(config, "base_temperature");
    loss->first_only = strcmp(mmf_config_text(config, "contrast_mode"), "one") == 0;
    if (inputs->count == 1 && inputs->inputs[0].n_dims == 2)
        loss->stacked = inputs->inputs[0].name;
    else
        loss->views = mmf_views_build(b, config, inputs);
    *self = loss;
    return mmf_builder_status(b);
}

/* All views below each other, the first view of every sample first, and (V N, 1) which of them are
 * there (NULL: all). */
static mmf_tensor *contrast(mmf_tape *tape, const supcon_loss *l, const mmf_named *in,
                            int64_t *n_views, mmf_tensor **present)
{
    const mmf_views *const v = &l->views;
    *present = NULL;
    if (l->stacked) {
        mmf_tensor *const x = mmf_transpose(tape, mmf_named_get(in, l->stacked), 0, 1);
        *n_views = x ? x->shape[0] : 1;
        return x ? mmf_l2_normalise(tape, mmf_reshape(tape, x, 2, (int64_t[]){-1, x->shape[2]}),
                                    1e-12)
                 : NULL;
    }
    const int n = (int)v->inputs->count;
    *n_views = n;
    mmf_views_run(tape, v, in);
    bool any = false;
    for (int m = 0; m < n; m++)
        any = any || v->present[m];
    for (int m = 0; any && m < n; m++) {
        if (!v->present[m] && v->x[m])
            v->present[m] = mmf_full(tape, 2, (int64_t[]){v->x[m]->shape[0], 1}, 1);
    }
    *present = any ? mmf_concat(tape, v->present, n, 0) : NULL;
    return mmf_concat(tape, v->x, n, 0);
}

/* (V N, V N): 1 between views of one class, or of one sample without labels; 0 on the diagonal. */
static mmf_tensor *positives(mmf_tape *tape, const mmf_named *in, int64_t n_views, int64_t n,
                             mmf_tensor *not_self)
{
    const mmf_tensor *const label = mmf_named_get(in, "label");
    mmf_tensor *const same = label ? mmf_same_rows(tape, label) : mmf_identity(tape, n);
    mmf_tensor *const wide = mmf_expand(tape, mmf_reshape(tape, same, 4, (int64_t[]){1, n, 1, n}),
                                        4, (int64_t[]){n_views, n, n_views, n});
    const int64_t all = n_views * n;
    return mmf_mul(tape, mmf_reshape(tape, wide, 2, (int64_t[]){all, all}), not_self);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const supcon_loss *const l = self;
    int64_t n_views = 1;
    mmf_tensor *present = NULL;
    mmf_tensor *const z = contrast(tape, l, in, &n_views, &present);
    const int64_t all = z ? z->shape[0] : 0, n = all / n_views;
    mmf_tensor *const ones = mmf_full(tape, 2, (int64_t[]){all, all}, 1);
    mmf_tensor *mask = mmf_sub(tape, ones, mmf_identity(tape, all));
    mmf_tensor *positive = positives(tape, in, n_views, n, mask);
    if (present) {
        mmf_tensor *const row = mmf_reshape(tape, present, 2, (int64_t[]){1, all});
        mask = mmf_mul(tape, mask, row);
        positive = mmf_mul(tape, positive, row);
    }
    mmf_tensor *anchors = z;
    if (l->first_only) {
        anchors = mmf_slice(tape, z, 0, 0, n);
        mask = mmf_slice(tape, mask, 0, 0, n);
        positive = mmf_slice(tape, positive, 0, 0, n);
        present = present ? mmf_slice(tape, present, 0, 0, n) : NULL;
    }
    mmf_tensor *const logits =
        mmf_affine(tape, mmf_matmul(tape, anchors, z, false, true), 1 / l->temperature, 0);
    mmf_tensor *const log_p = mmf_log_softmax(tape, logits, mask, MMF_EMPTY_ZERO);
    /* Counts are whole: at least one, or the sum above them is zero. */
    mmf_tensor *const count = mmf_clamp(tape, mmf_sum(tape, positive, 1), 1, INFINITY);
    mmf_tensor *const mean = mmf_div(tape, mmf_sum(tape, mmf_mul(tape, positive, log_p), 1), count);
    mmf_tensor *loss = mmf_mean(tape, mean, MMF_ALL_AXES);
    if (present) {
        mmf_tensor *const flat = mmf_reshape(tape, present, 1, (int64_t[]){-1});
        mmf_tensor *const there = mmf_clamp(tape, mmf_sum(tape, flat, MMF_ALL_AXES), 1, INFINITY);
        loss = mmf_div(tape, mmf_sum(tape, mmf_mul(tape, mean, flat), MMF_ALL_AXES), there);
    }
    mmf_named_put(tape, out, "loss", mmf_affine(tape, loss, -l->temperature / l->base, 0));
}

const mmf_def mmf_loss_supcon = {
    .name = "supcon",
    .title = "Supervised contrastive loss",
    .paper = "Khosla et al., Supervised contrastive learning, NeurIPS 2020, arXiv:2004.11362",
    .equations =
        "-T/T_base mean_i mean_{p in P(i)} log(e^{z_i.z_p/T} / sum_{a != i} e^{z_i.z_a/T}), "
        "eq. (2); views are modalities",
    .missing = "absent views are neither anchors nor candidates",
    .structure = "contrastive",
    .kind = MMF_KIND_LOSS,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
