/* infomax.c: see infomax.h. */
#include "nn/infomax.h"

#include <math.h>
#include <string.h>

#include "nn/disentangle.h"

#define NORM_EPS 1e-12
/* The entropy is taken of a projection to a quarter of the width. */
#define PROJECTION 4
/* Added to variances, as a share of their mean and at least: keeps the determinant of rows that
 * hardly vary finite. */
#define RIDGE 1e-7
#define LEAST_RIDGE 1e-10

/* ---- Contrastive predictive coding ------------------------------------------------------- */

mmf_cpc mmf_cpc_build(mmf_builder *b, const char *name, int64_t fused, int64_t width, int n_layers,
                      mmf_activation activation)
{
    mmf_cpc cpc = {.n_layers = n_layers, .activation = activation};
    cpc.layers = mmf_builder_alloc(b, (size_t)n_layers * sizeof *cpc.layers);
    mmf_builder_enter(b, name);
    for (int l = 0; cpc.layers && l < n_layers; l++)
        cpc.layers[l] =
            mmf_linear_build(b, n_layers > 1 ? mmf_builder_text(b, "net.%d", 2 * l) : "net",
                             l == 0 ? fused : width, width, true);
    mmf_builder_leave(b);
    return cpc;
}

mmf_tensor *mmf_cpc_run(mmf_tape *tape, const mmf_cpc *cpc, mmf_tensor *x, mmf_tensor *z,
                        mmf_tensor *present)
{
    mmf_tensor *h = z;
    for (int l = 0; l < cpc->n_layers; l++)
        h = mmf_linear_run(tape, &cpc->layers[l], h,
                           l + 1 < cpc->n_layers ? cpc->activation : MMF_ACT_NONE);
    mmf_tensor *const s = mmf_matmul(tape, mmf_l2_normalise(tape, x, NORM_EPS),
                                     mmf_l2_normalise(tape, h, NORM_EPS), false, true);
    if (!s)
        return NULL;
    const mmf_tensor *const columns =
        present ? mmf_reshape(tape, present, 2, (int64_t[]){1, present->count}) : NULL;
    mmf_tensor *const log_p = mmf_log_softmax(tape, s, columns, MMF_EMPTY_ZERO);
    mmf_tensor *const own = mmf_mul(tape, log_p, mmf_identity(tape, s->shape[0]));
    mmf_tensor *const rows = mmf_reshape(tape, mmf_sum(tape, own, 1), 2, (int64_t[]){-1, 1});
    return mmf_affine(tape, mmf_row_mean(tape, rows, present), -1, 0);
}

/* ---- Likelihood -------------------------------------------------------------------------- */

mmf_mi_bound mmf_mi_build(mmf_builder *b, const char *name, int64_t x, int64_t y,
                          mmf_activation activation, bool by_sign, int64_t memory)
{
    mmf_mi_bound bound = {.activation = activation, .n_groups = by_sign ? 2 : 1};
    const int64_t width = y / PROJECTION > 0 ? y / PROJECTION : 1;
    const int64_t shape[] = {memory, width}, n = (int64_t)bound.n_groups;
    mmf_builder_enter(b, name);
    bound.mu_0 = mmf_linear_build(b, "mlp_mu.0", x, y, true);
    bound.mu_2 = mmf_linear_build(b, "mlp_mu.2", y, y, true);
    bound.logvar_0 = mmf_linear_build(b, "mlp_logvar.0", x, y, true);
    bound.logvar_2 = mmf_linear_build(b, "mlp_logvar.2", y, y, true);
    bound.entropy = mmf_linear_build(b, "entropy_prj.0", y, width, true);
    mmf_builder_for_losses(b, true);
    for (size_t g = 0; g < bound.n_groups; g++) {
        bound.groups[g] = !by_sign ? "all" : g == 0 ? "pos" : "neg";
        bound.memory[g] = mmf_builder_param(b, mmf_builder_text(b, "memory.%s", bound.groups[g]),
                                            MMF_PARAM_BUFFER, mmf_init_constant(0), 2, shape);
    }
    bound.held = mmf_builder_param(b, "memory.rows", MMF_PARAM_BUFFER, mmf_init_constant(0), 1, &n);
    mmf_builder_for_losses(b, false);
    mmf_builder_leave(b);
    return bound;
}

static mmf_tensor *mean_of_rows(mmf_tape *tape, mmf_tensor *terms, mmf_tensor *present)
{
    mmf_tensor *const rows = mmf_reshape(tape, mmf_sum(tape, terms, 1), 2, (int64_t[]){-1, 1});
    return mmf_row_mean(tape, rows, present);
}

mmf_mi_result mmf_mi_likelihood(mmf_tape *tape, const mmf_mi_bound *bound, mmf_tensor *x,
                                mmf_tensor *y, mmf_tensor *present, double most_logvar)
{
    mmf_tensor *const mu = mmf_linear_run(
        tape, &bound->mu_2, mmf_linear_run(tape, &bound->mu_0, x, bound->activation), MMF_ACT_NONE);
    mmf_tensor *l =
        mmf_linear_run(tape, &bound->logvar_2,
                       mmf_linear_run(tape, &bound->logvar_0, x, bound->activation), MMF_ACT_NONE);
    if (isfinite(most_logvar))
        l = mmf_clamp(tape, l, -most_logvar, most_logvar);
    mmf_tensor *const d = mmf_sub(tape, mu, y);
    mmf_tensor *const precision = mmf_exp(tape, mmf_affine(tape, l, -1, 0));
    mmf_tensor *const terms =
        mmf_affine(tape, mmf_mul(tape, mmf_mul(tape, d, d), precision), -0.5, 0);
    mmf_tensor *const in_full = mmf_sub(tape, terms, mmf_affine(tape, l, 0.5, 0));
    return (mmf_mi_result){.likelihood = mean_of_rows(tape, terms, present),
                           .likelihood_in_full = mean_of_rows(tape, in_full, present)};
}

/* ---- Entropy ----------------------------------------------------------------------------- */

/* Rows of a group: above 0, below 0, or all; of those that are present. */
static mmf_tensor *rows_of(mmf_tape *tape, const mmf_mi_bound *bound, size_t g, int64_t n,
                           mmf_tensor *sign, mmf_tensor *present)
{
    mmf_tensor *flags = NULL;
    if (bound->n_groups == 1)
        flags = mmf_full(tape, 1, &n, 1);
    else
        flags = mmf_affine(tape, mmf_reshape(tape, sign, 1, &n), g == 0 ? 1 : -1, 0);
    if (present)
        flags = mmf_mul(tape, flags, mmf_reshape(tape, present, 1, &n));
    return mmf_rows_where(tape, flags);
}

static mmf_tensor *remembered(mmf_tape *tape, const mmf_mi_bound *bound, size_t g,
                              mmf_tensor *const *given)
{
    if (given && given[g])
        return mmf_detach(tape, given[g]);
    const int64_t held = (int64_t)bound->held->data[g];
    return held > 0 ? mmf_slice(tape, bound->memory[g], 0, 0, held) : NULL;
}

/* Keeps the last rows of a batch; those of an earlier one stay where it has none. */
static void remember(const mmf_mi_bound *bound, size_t g, const mmf_tensor *samples)
{
    const int64_t room = bound->memory[g]->shape[0], width = bound->memory[g]->shape[1];
    const int64_t n = samples->shape[0] < room ? samples->shape[0] : room;
    const mmf_real *const from = samples->data + (samples->shape[0] - n) * width;
    memcpy(bound->memory[g]->data, from, (size_t)(n * width) * sizeof *from);
    bound->held->data[g] = (mmf_real)n;
}

/* log |S| of the rows, S about their mean with divisor n. */
static mmf_tensor *log_spread(mmf_tape *tape, mmf_tensor *rows)
{
    mmf_tensor *const d = mmf_sub(tape, rows, mmf_mean(tape, rows, 0));
    if (!d)
        return NULL;
    mmf_tensor *const s =
        mmf_affine(tape, mmf_matmul(tape, d, d, true, false), 1 / (double)rows->shape[0], 0);
    mmf_tensor *const variance = mmf_mean(tape, mmf_mul(tape, d, d), MMF_ALL_AXES);
    mmf_tensor *const size = mmf_affine(tape, mmf_detach(tape, variance), RIDGE, LEAST_RIDGE);
    mmf_tensor *const ridge = mmf_mul(tape, mmf_identity(tape, rows->shape[1]), size);
    return mmf_log_determinant(tape, mmf_add(tape, s, ridge));
}

void mmf_mi_entropy(mmf_tape *tape, mmf_mi_bound *bound, mmf_tensor *y, mmf_tensor *sign,
                    mmf_tensor *present, mmf_tensor *const *given, mmf_mi_result *result)
{
    mmf_tensor *const projected = mmf_linear_run(tape, &bound->entropy, y, MMF_ACT_TANH);
    size_t known = 0;
    if (!projected)
        return;
    for (size_t g = 0; g < bound->n_groups; g++) {
        const mmf_tensor *const which = rows_of(tape, bound, g, projected->shape[0], sign, present);
        mmf_tensor *const now = which ? mmf_index_select(tape, projected, which) : NULL;
        mmf_tensor *const before = remembered(tape, bound, g, given);
        result->samples[g] = now;
        mmf_tensor *const both =
            before && now ? mmf_concat(tape, (mmf_tensor *[]){before, now}, 2, 0) : before;
        if (both && both->shape[0] > both->shape[1]) {
            mmf_tensor *const spread = log_spread(tape, both);
            result->entropy = known++ > 0 ? mmf_add(tape, result->entropy, spread) : spread;
        }
        if (now)
            remember(bound, g, now);
    }
    result->entropy = known == bound->n_groups
                          ? mmf_affine(tape, result->entropy, 0.5 / (double)bound->n_groups, 0)
                          : NULL;
}
