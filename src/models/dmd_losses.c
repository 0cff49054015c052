/* dmd_losses.c: the losses of decoupled multimodal distilling; see dmd.c. */
#include <math.h>
#include <string.h>

#include "nn/disentangle.h"
#include "models/dmd.h"

#define COSINE_EPS 1e-8
#define NORM_EPS 1e-12
/* Margin and orthogonality weigh a tenth of reconstruction and cycle. */
#define SMALLER 0.1
/* What the paper expects of the edges, (l from v), (l from a), (v from l), ...: their scores. */
static const double low_scores[] = {0, 0, 1, 0, 1, 0}, high_scores[] = {0, 0, 1, 0, 1, 1};
#define TEMPERATURE 0.25

/* ---- Building ---------------------------------------------------------------------------- */

/* softmax(scores / temperature) for the paper's modalities; NULL: all alike. */
static const double *prior_of(mmf_builder *b, const mmf_config *config, const mmf_dmd *model,
                              const double *scores)
{
    const size_t edges = model->count * (model->count - 1), n = mmf_config_count(config, "prior");
    double *const prior = mmf_builder_alloc(b, (edges + 1) * sizeof *prior);
    double sum = 0;
    if (!prior || (n == 0 && !model->trio))
        return NULL;
    if (n > 0 && n != edges) {
        mmf_builder_fail(b, MMF_ARG, "dmd: prior has %zu values for %zu edges", n, edges);
        return NULL;
    }
    for (size_t e = 0; e < edges; e++) {
        prior[e] = n > 0 ? mmf_config_number_at(config, "prior", e) : exp(scores[e] / TEMPERATURE);
        sum += prior[e];
    }
    for (size_t e = 0; n == 0 && e < edges; e++)
        prior[e] /= sum;
    return prior;
}

static mmf_distillation distillation(mmf_builder *b, const mmf_config *config, const mmf_dmd *model,
                                     const char *name, int64_t width, bool high)
{
    const mmf_distillation_options options = {
        .count = model->count,
        .classes = model->outputs,
        .width = width,
        .size = (int64_t)mmf_config_number_at(config, "gd_size", high ? 1 : 0),
        .alpha = mmf_config_real(config, "alpha"),
        .regulariser = mmf_config_real(config, "gd_reg"),
        .logit_weight = mmf_config_number_at(config, "w_losses", 0),
        .repr_weight = mmf_config_number_at(config, "w_losses", 1),
        .by_square = strcmp(mmf_config_text(config, "metric"), "l2") == 0,
        .prior = prior_of(b, config, model, high ? high_scores : low_scores)};
    return mmf_distillation_build(b, name, &options);
}

void mmf_dmd_build_losses(mmf_builder *b, const mmf_config *config, mmf_dmd *model)
{
    const size_t n = model->count;
    model->margin = mmf_config_real(config, "margin");
    model->decoupling_weight = mmf_config_real(config, "decoupling_weight");
    model->distillation_weight = mmf_config_real(config, "distillation_weight");
    model->distils = strcmp(mmf_config_text(config, "loss"), "full") == 0;
    model->z = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    model->h = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    model->present = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return;
    if (model->kernel_alone) {
        model->low = distillation(b, config, model, "", model->width, model->hetero);
    } else if (model->distils) {
        mmf_builder_for_losses(b, true);
        model->low = distillation(b, config, model, "distill_homo", model->width, false);
        model->high =
            distillation(b, config, model, "distill_hetero", (int64_t)(n - 1) * model->width, true);
        mmf_builder_for_losses(b, false);
    }
}

/* ---- Terms ------------------------------------------------------------------------------- */

/* Heads of an absent modality are held at zero: their losses have no gradient. */
static mmf_tensor *head_loss(mmf_tape *tape, const mmf_dmd *model, mmf_tensor *y,
                             mmf_tensor *present, mmf_tensor *label)
{
    return mmf_result_loss(tape, model->kind, present ? mmf_mul(tape, y, present) : y, label);
}

static mmf_tensor *task(mmf_tape *tape, const mmf_dmd *model, mmf_tensor *label)
{
    mmf_tensor *sum = mmf_add(tape, head_loss(tape, model, model->output, NULL, label),
                              head_loss(tape, model, model->logits_c, NULL, label));
    for (size_t i = 0; i < model->count; i++) {
        const mmf_dmd_part *const m = &model->m[i];
        sum = mmf_add(tape, sum, head_loss(tape, model, m->logits_low, m->present, label));
        sum = mmf_add(tape, sum, head_loss(tape, model, m->logits_high, m->present, label));
    }
    return sum;
}

/* mean max(0, cos(s, c)) over samples and steps */
static mmf_tensor *overlap(mmf_tape *tape, const mmf_dmd_part *m)
{
    mmf_tensor *const cosine = mmf_cosine(tape, mmf_transpose(tape, m->s, 1, 2),
                                          mmf_transpose(tape, m->c, 1, 2), COSINE_EPS);
    return mmf_mean(tape, mmf_relu(tape, cosine), MMF_ALL_AXES);
}

typedef struct decoupling {
    mmf_tensor *reconstruction, *cycle, *orthogonality;
} decoupling;

/* Sums over modalities; what is absent or padding is zero on both sides. */
static decoupling decoupled(mmf_tape *tape, const mmf_dmd *model)
{
    decoupling sum = {0};
    for (size_t i = 0; i < model->count; i++) {
        const mmf_dmd_part *const m = &model->m[i];
        const decoupling own = {mmf_row_error(tape, m->rebuilt, m->x, NULL),
                                mmf_row_error(tape, m->s_again, m->s, NULL), overlap(tape, m)};
        sum.reconstruction =
            i > 0 ? mmf_add(tape, sum.reconstruction, own.reconstruction) : own.reconstruction;
        sum.cycle = i > 0 ? mmf_add(tape, sum.cycle, own.cycle) : own.cycle;
        sum.orthogonality =
            i > 0 ? mmf_add(tape, sum.orthogonality, own.orthogonality) : own.orthogonality;
    }
    return sum;
}

/* A product of every row with every row of x (N, D): (N, N). */
static mmf_tensor *pairs(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_matmul(tape, x, x, false, true);
}

/* (M B, ...): x for each modality, behind each other. */
static mmf_tensor *repeated(mmf_tape *tape, const mmf_dmd *model, mmf_tensor *x)
{
    for (size_t i = 0; i < model->count; i++)
        model->list[i] = x;
    return mmf_concat(tape, model->list, (int)model->count, 0);
}

/* How far targets are apart: |y_i - y_j| of values, 1 of anything else that differs. */
static mmf_tensor *apart(mmf_tape *tape, const mmf_dmd *model, mmf_tensor *y, mmf_tensor *same)
{
    if (model->kind != MMF_RESULT_VALUE)
        return mmf_affine(tape, same, -1, 1);
    mmf_tensor *const column = mmf_reshape(tape, y, 2, (int64_t[]){-1, 1});
    return mmf_abs(tape, mmf_sub(tape, column, mmf_transpose(tape, column, 0, 1)));
}

/* Triplets of shared vectors of all modalities: alike are those of equal targets. */
static mmf_tensor *margins(mmf_tape *tape, const mmf_dmd *model, mmf_tensor *label)
{
    bool any = false;
    mmf_tensor *const target = label->is_int ? mmf_one_hot(tape, label, model->outputs) : label;
    mmf_tensor *const y = repeated(tape, model, target);
    for (size_t i = 0; i < model->count; i++)
        model->list[i] = model->m[i].likeness;
    mmf_tensor *const x = mmf_concat(tape, model->list, (int)model->count, 0);
    mmf_tensor *const same = mmf_same_rows(tape, y);
    if (!same || !x)
        return NULL;
    mmf_tensor *positive = mmf_sub(tape, same, mmf_identity(tape, same->shape[0]));
    mmf_tensor *negative = mmf_affine(tape, same, -1, 1);
    for (size_t i = 0; i < model->count; i++) {
        mmf_tensor *const present = model->m[i].present;
        any = any || present;
        model->list[i] = present ? present : mmf_full(tape, 2, (int64_t[]){label->shape[0], 1}, 1);
    }
    if (any) {
        mmf_tensor *const there = pairs(tape, mmf_concat(tape, model->list, (int)model->count, 0));
        positive = mmf_mul(tape, positive, there);
        negative = mmf_mul(tape, negative, there);
    }
    mmf_tensor *const cosine = pairs(tape, mmf_l2_normalise(tape, x, NORM_EPS));
    mmf_tensor *const margin = mmf_affine(tape, apart(tape, model, y, same), model->margin, 0);
    return mmf_triplet_loss(tape, cosine, positive, negative, margin);
}

/* ---- Distillation ------------------------------------------------------------------------ */

static mmf_tensor *distil(mmf_tape *tape, const mmf_dmd *model, mmf_named *out)
{
    for (size_t i = 0; i < model->count; i++) {
        model->z[i] = model->m[i].logits_low;
        model->h[i] = model->m[i].repr_low;
        model->present[i] = model->m[i].present;
    }
    const mmf_distillation_result low =
        mmf_distillation_run(tape, &model->low, model->z, model->h, model->present);
    for (size_t i = 0; i < model->count; i++) {
        model->z[i] = model->m[i].logits_high;
        model->h[i] = model->m[i].repr_high;
    }
    const mmf_distillation_result high =
        mmf_distillation_run(tape, &model->high, model->z, model->h, model->present);
    mmf_named_put(tape, out, "edges_homo", low.edges);
    mmf_named_put(tape, out, "edges_hetero", high.edges);
    mmf_tensor *const own = mmf_add(tape, mmf_add(tape, high.logit, high.repr), high.regulariser);
    return mmf_add(tape, mmf_add(tape, low.logit, low.regulariser), own);
}

void mmf_dmd_run_kernel(mmf_tape *tape, mmf_dmd *model, const mmf_named *in, mmf_named *out)
{
    mmf_tensor *const z = mmf_named_get(in, "logits"), *const h = mmf_named_get(in, "reprs");
    for (size_t i = 0; i < model->count; i++) {
        const int64_t at = (int64_t)i;
        model->z[i] =
            mmf_reshape(tape, mmf_slice(tape, z, 0, at, 1), 2, (int64_t[]){-1, model->outputs});
        model->h[i] =
            mmf_reshape(tape, mmf_slice(tape, h, 0, at, 1), 2, (int64_t[]){-1, model->width});
        model->present[i] = NULL;
    }
    const mmf_distillation_result r =
        mmf_distillation_run(tape, &model->low, model->z, model->h, model->present);
    mmf_tensor *const loss = mmf_add(tape, r.logit, r.regulariser);
    mmf_named_put(tape, out, "loss.logit", r.logit);
    mmf_named_put(tape, out, "loss.reg", r.regulariser);
    mmf_named_put(tape, out, "loss.repr", r.repr);
    mmf_named_put(tape, out, "loss", model->hetero ? mmf_add(tape, loss, r.repr) : loss);
    mmf_named_put(tape, out, "edges", r.edges);
    mmf_named_put(tape, out, "edges_origin", r.raw);
}

/* ---- The whole --------------------------------------------------------------------------- */

void mmf_dmd_put_losses(mmf_tape *tape, mmf_dmd *model, mmf_tensor *label, const mmf_step *step,
                        mmf_named *out)
{
    mmf_tensor *const heads = task(tape, model, label);
    const decoupling d = decoupled(tape, model);
    mmf_tensor *const margin = margins(tape, model, label);
    mmf_named_put(tape, out, "loss.task", heads);
    mmf_named_put(tape, out, "loss.reconstruction", d.reconstruction);
    mmf_named_put(tape, out, "loss.cycle", d.cycle);
    mmf_named_put(tape, out, "loss.orthogonality", d.orthogonality);
    mmf_named_put(tape, out, "loss.margin", margin);
    mmf_tensor *const smaller =
        mmf_affine(tape, mmf_add(tape, margin, d.orthogonality), SMALLER, 0);
    mmf_tensor *const parts = mmf_add(tape, mmf_add(tape, d.cycle, d.reconstruction), smaller);
    mmf_tensor *loss = mmf_add(tape, heads, mmf_affine(tape, parts, model->decoupling_weight, 0));
    if (step->training && model->distils)
        loss = mmf_add(tape, loss,
                       mmf_affine(tape, distil(tape, model, out), model->distillation_weight, 0));
    mmf_named_put(tape, out, "loss", loss);
    if (step->training)
        mmf_named_put(tape, out, "objective", loss);
}
