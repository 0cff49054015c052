/*
 * aid_unimodal_heads.c: auxiliary heads on the feature of each modality, with the task's label or
 * with labels of their own.
 *
 * Yu, Xu, Yuan, Wu, Learning modality-specific representations with self-supervised multi-task
 * learning for multimodal sentiment analysis (Self-MM), AAAI 2021, section 3.2 to 3.4, formulas of
 * the authors' code. Deviations: class centres are renewed after an epoch (the code: after a batch)
 * and labels stay as they are while a class has no centre (the code: NaN); the fused feature is the
 * model's `feature_fusion` where that is a vector of moderate width, else the heads' hidden
 * features side by side.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/aid.h"

#define MAX_FEATURES 64
/* Of a fused feature that is kept for every training row. */
#define MAX_FUSED_WIDTH 1024
#define DISTANCE_EPS 1e-8 /* the authors' */

static const mmf_option options[] = {
    {"weight", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "1", "of the heads' losses"},
    {"labels", NULL, MMF_OPTION_TEXT, 0, 0, "task|generated", "task",
     "what the heads learn: the task's label, or Self-MM's label for each modality (regression)"},
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32", "width of the heads' hidden layers"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "before the heads"},
    {0},
};

typedef struct heads_aid {
    double weight, limit;
    bool generates;
    int64_t widths[MAX_FEATURES + 1];   /* of what is kept; the fused feature comes first */
    int64_t total;                      /* sum of widths */
    int64_t *place;                     /* of every row of the data set among the training rows */
    mmf_real *label, *factor;           /* max_rows a feature: lent to a pass */
    mmf_tensor *seen[MAX_FEATURES + 1]; /* features of the last training pass, fused first */
} heads_aid;

/* ---- State: labels, features, centres ---------------------------------------------------- */

/* Label of modality m of training row i. */
static mmf_real *label_of(const mmf_aid *aid, int64_t i, size_t m)
{
    return aid->state + i * (int64_t)aid->features->count + (int64_t)m;
}

static mmf_real *kept_features(const mmf_aid *aid, int64_t i)
{
    const heads_aid *const own = aid->own;
    return aid->state + aid->fit->n_train * (int64_t)aid->features->count + i * own->total;
}

/* The centre of positive (0) or negative (1) labels, features side by side; behind the two, for
 * each class and feature, whether there is one. */
static mmf_real *centre(const mmf_aid *aid, int which)
{
    const heads_aid *const own = aid->own;
    return kept_features(aid, aid->fit->n_train) + which * own->total;
}

static mmf_real *has_centre(const mmf_aid *aid, int which)
{
    return centre(aid, 2) + (size_t)which * (aid->features->count + 1);
}

static double fused_label(const mmf_aid *aid, int64_t i)
{
    double y = 0;
    mmf_dataset_target(aid->fit->dataset, aid->fit->train_rows[i], &y);
    return (y - aid->fit->target_shift) / aid->fit->target_scale;
}

static bool is_fused_vector(const mmf_tensor *fused, int64_t n_rows)
{
    return fused && fused->n_dims == 2 && fused->shape[0] == n_rows &&
           fused->shape[1] <= MAX_FUSED_WIDTH;
}

static mmf_status make_state(mmf_aid *aid, const mmf_aid_pass *pass, int64_t hidden)
{
    heads_aid *const own = aid->own;
    const size_t n_features = aid->features->count;
    const mmf_tensor *const fused = mmf_named_get(pass->out, "feature_fusion");
    own->widths[0] =
        is_fused_vector(fused, pass->n_rows) ? fused->shape[1] : (int64_t)n_features * hidden;
    for (size_t m = 0; m < n_features; m++)
        own->widths[m + 1] = hidden;
    for (size_t k = 0; k <= n_features; k++)
        own->total += own->widths[k];
    const int64_t n = aid->fit->n_train;
    aid->n_state =
        n * ((int64_t)n_features + own->total) + 2 * own->total + 2 * ((int64_t)n_features + 1);
    aid->state = mmf_alloc_zero(aid->ctx, (size_t)aid->n_state, sizeof *aid->state);
    if (!aid->state)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        const double y = fused_label(aid, i);
        own->place[aid->fit->train_rows[i]] = i;
        own->limit = fmax(own->limit, fabs(y));
        for (size_t m = 0; m < n_features; m++)
            *label_of(aid, i, m) = (mmf_real)y;
    }
    return MMF_OK;
}

static mmf_status start(mmf_aid *aid, const mmf_aid_pass *pass)
{
    const mmf_aid_fit *const fit = aid->fit;
    const int64_t hidden = mmf_config_int(aid->config, "hidden");
    const size_t n_rows = (size_t)mmf_dataset_count(fit->dataset);
    const size_t n_lent = aid->features->count * (size_t)fit->max_rows;
    const bool generates = strcmp(mmf_config_text(aid->config, "labels"), "generated") == 0;
    if (aid->features->count > MAX_FEATURES)
        return mmf_fail(aid->ctx, MMF_LIMIT, "training aid unimodal-heads: more than %d modalities",
                        MAX_FEATURES);
    if (generates && fit->task->kind != MMF_TARGET_REAL)
        return mmf_fail(aid->ctx, MMF_UNSUPPORTED,
                        "training aid unimodal-heads: generated labels are numbers above and below "
                        "zero, and the task is %s; use labels=task",
                        mmf_task_name(fit->task->kind));
    heads_aid *const own = mmf_alloc_zero(
        aid->ctx, 1, sizeof *own + n_rows * sizeof(int64_t) + 2 * n_lent * sizeof(mmf_real));
    if (!own)
        return MMF_NOMEM;
    aid->own = own;
    own->place = (int64_t *)(own + 1);
    own->label = (mmf_real *)(own->place + n_rows);
    own->factor = own->label + n_lent;
    own->weight = mmf_config_real(aid->config, "weight");
    own->generates = generates;
    MMF_TRY(mmf_aid_heads_create(aid, hidden, mmf_config_real(aid->config, "dropout")));
    return generates ? make_state(aid, pass, hidden) : MMF_OK;
}

/* ---- Loss -------------------------------------------------------------------------------- */

/* mean(tanh |y_s - y_f| |prediction - y_s|), zero where the modality is absent. */
static mmf_tensor *generated_loss(const mmf_aid *aid, const mmf_aid_pass *pass,
                                  const mmf_named *out, size_t m)
{
    const heads_aid *const own = aid->own;
    const mmf_tensor *const present =
        mmf_named_part(pass->in, aid->features->inputs[m].name, "present");
    mmf_real *const label = own->label + (int64_t)m * aid->fit->max_rows;
    mmf_real *const factor = own->factor + (int64_t)m * aid->fit->max_rows;
    for (int64_t i = 0; i < pass->n_rows; i++) {
        label[i] = *label_of(aid, own->place[pass->rows[i]], m);
        factor[i] = (mmf_real)tanh(fabs((double)label[i] - (double)pass->target->data[i]));
        if (present && !(present->data[i] > 0))
            factor[i] = 0;
    }
    const int64_t shape[] = {pass->n_rows, 1};
    mmf_tensor *const error = mmf_abs(pass->tape, mmf_sub(pass->tape, mmf_aid_head(aid, out, m),
                                                          mmf_input(pass->tape, label, 2, shape)));
    return mmf_mean(pass->tape,
                    mmf_reshape(pass->tape,
                                mmf_mul(pass->tape, error, mmf_input(pass->tape, factor, 2, shape)),
                                1, (int64_t[]){-1}),
                    MMF_ALL_AXES);
}

static void remember(mmf_aid *aid, const mmf_aid_pass *pass, const mmf_named *out)
{
    heads_aid *const own = aid->own;
    for (size_t m = 0; m < aid->features->count; m++) {
        char key[300];
        snprintf(key, sizeof key, "hidden_%s", aid->features->inputs[m].name);
        own->seen[m + 1] = mmf_named_get(out, key);
    }
    mmf_tensor *const fused = mmf_named_get(pass->out, "feature_fusion");
    own->seen[0] = is_fused_vector(fused, pass->n_rows)
                       ? fused
                       : mmf_concat(pass->tape, own->seen + 1, (int)aid->features->count, 1);
}

static mmf_tensor *loss(mmf_aid *aid, const mmf_aid_pass *pass, mmf_tensor *total)
{
    const heads_aid *const own = aid->own;
    mmf_named out = {0};
    mmf_aid_heads_run(aid, pass, false, &out);
    for (size_t m = 0; pass->target && m < aid->features->count; m++) {
        mmf_tensor *const one = own->generates ? generated_loss(aid, pass, &out, m)
                                               : mmf_aid_head_loss(aid, pass, &out, m);
        if (one)
            total = mmf_add(pass->tape, total, mmf_affine(pass->tape, one, own->weight, 0));
    }
    if (own->generates)
        remember(aid, pass, &out);
    return total;
}

/* ---- Labels ------------------------------------------------------------------------------ */

double mmf_self_mm_label(double y, double delta, double delta_fusion, double limit)
{
    const double alpha = delta / (delta_fusion + DISTANCE_EPS);
    const double label = 0.5 * alpha * y + 0.5 * (y + delta - delta_fusion);
    return fmax(-limit, fmin(limit, label));
}

/* (D- - D+) / (D+ + eps) of feature k of a row of the pass; its place in a row of the state. */
static double delta_of(const mmf_aid *aid, const mmf_real *x, int64_t place, int64_t width)
{
    const mmf_real *const positive = centre(aid, 0) + place, *const negative =
                                                                 centre(aid, 1) + place;
    double above = 0, below = 0;
    for (int64_t j = 0; j < width; j++) {
        above += pow((double)x[j] - (double)positive[j], 2);
        below += pow((double)x[j] - (double)negative[j], 2);
    }
    return (sqrt(below) - sqrt(above)) / (sqrt(above) + DISTANCE_EPS);
}

/* y <- (n - 1)/(n + 1) y + 2/(n + 1) y' in epoch n. */
static void renew_labels(mmf_aid *aid, const mmf_aid_pass *pass, int64_t i)
{
    const heads_aid *const own = aid->own;
    const int64_t row = own->place[pass->rows[i]];
    const double n = (double)(pass->step->epoch + 1), y = (double)pass->target->data[i];
    double fusion = 0;
    int64_t place = 0;
    for (size_t k = 0; k <= aid->features->count; place += own->widths[k++]) {
        if (has_centre(aid, 0)[k] == 0 || has_centre(aid, 1)[k] == 0) {
            if (k == 0)
                return; /* there is nothing to compare with */
            continue;
        }
        const mmf_real *const x = own->seen[k]->data + i * own->widths[k];
        const double delta = delta_of(aid, x, place, own->widths[k]);
        if (k == 0) {
            fusion = delta;
            continue;
        }
        mmf_real *const label = label_of(aid, row, k - 1);
        const double made = mmf_self_mm_label(y, delta, fusion, own->limit);
        *label = (mmf_real)((n - 1) / (n + 1) * (double)*label + 2 / (n + 1) * made);
    }
}

static void gradients(mmf_aid *aid, const mmf_aid_pass *pass)
{
    const heads_aid *const own = aid->own;
    if (!own->generates)
        return;
    for (int64_t i = 0; i < pass->n_rows; i++) {
        if (pass->step->epoch > 0) /* the heads know nothing in the first epoch */
            renew_labels(aid, pass, i);
        mmf_real *kept = kept_features(aid, own->place[pass->rows[i]]);
        for (size_t k = 0; k <= aid->features->count; kept += own->widths[k++])
            memcpy(kept, own->seen[k]->data + i * own->widths[k],
                   (size_t)own->widths[k] * sizeof *kept);
    }
}

/* Mean of the kept features of rows with a positive, or a negative, label of feature k. */
static void renew_centre(mmf_aid *aid, int which, size_t k, int64_t place)
{
    const heads_aid *const own = aid->own;
    mmf_real *const out = centre(aid, which) + place;
    int64_t n = 0;
    for (int64_t i = 0; i < aid->fit->n_train; i++) {
        const double y = k == 0 ? fused_label(aid, i) : (double)*label_of(aid, i, k - 1);
        if (which == 0 ? !(y > 0) : !(y < 0))
            continue;
        const mmf_real *const x = kept_features(aid, i) + place;
        n++;
        for (int64_t j = 0; j < own->widths[k]; j++) /* running mean */
            out[j] += (x[j] - out[j]) / (mmf_real)n;
    }
    has_centre(aid, which)[k] = n > 0;
}

static mmf_status epoch(mmf_aid *aid, int64_t done)
{
    (void)done;
    const heads_aid *const own = aid->own;
    if (!own->generates)
        return MMF_OK;
    memset(centre(aid, 0), 0, (size_t)(2 * own->total) * sizeof(mmf_real));
    for (int which = 0; which < 2; which++) {
        int64_t place = 0;
        for (size_t k = 0; k <= aid->features->count; place += own->widths[k++])
            renew_centre(aid, which, k, place);
    }
    return MMF_OK;
}

const mmf_aid_kind mmf_aid_unimodal_heads = {
    .def = {.name = "unimodal-heads",
            .title = "Auxiliary heads on the feature of each modality",
            .paper = "Yu, Xu, Yuan, Wu, Learning modality-specific representations with "
                     "self-supervised multi-task learning for multimodal sentiment analysis, AAAI "
                     "2021, arXiv:2102.04830",
            .equations =
                "L + weight sum_s L_s with the task's label; or weight sum_s mean(tanh|y_s "
                "- y| |^y_s - y_s|), y_s <- (n-1)/(n+1) y_s + 2/(n+1) clip((d_s/d_f y + y "
                "+ d_s - d_f)/2), d = (D- - D+)/D+ by distances to class centres, renewed "
                "after each epoch",
            .missing = "rows that lack a modality do not count for its head",
            .kind = MMF_KIND_AID,
            .takes = MMF_TAKES_ANY | MMF_ANY_TASK,
            .options = options},
    .start = start,
    .loss = loss,
    .gradients = gradients,
    .epoch = epoch,
};
