/* contribution.c: see contribution.h. */
#include "train/contribution.h"

#include <math.h>

#define MAX_PLAYERS 63

void mmf_shapley_exact(size_t n, const double *values, double *out)
{
    /* weight[s] = s! (n - s - 1)! / n!, from weight[0] = 1/n by the ratio of neighbours. */
    double weight[MMF_SHAPLEY_EXACT_MAX] = {1.0 / (double)n};
    for (size_t s = 1; s < n; s++)
        weight[s] = weight[s - 1] * (double)s / (double)(n - s);
    for (size_t m = 0; m < n; m++) {
        const uint64_t bit = UINT64_C(1) << m;
        out[m] = 0;
        for (uint64_t use = 0; use < UINT64_C(1) << n; use++) {
            if (!(use & bit))
                out[m] += weight[__builtin_popcountll(use)] * (values[use | bit] - values[use]);
        }
    }
}

/* ---- Sampling ---------------------------------------------------------------------------- */

typedef struct known_value {
    uint64_t use;
    double value;
} known_value;

typedef struct sampler {
    mmf_ctx *ctx;
    mmf_subset_value *value;
    void *user;
    known_value *known; /* grows; searched from the end, as the first subsets come again least */
    size_t n_known, capacity;
} sampler;

static mmf_status value_of(sampler *s, uint64_t use, double *out)
{
    for (size_t i = s->n_known; i-- > 0;) {
        if (s->known[i].use == use) {
            *out = s->known[i].value;
            return MMF_OK;
        }
    }
    MMF_TRY(s->value(s->user, use, out));
    if (s->n_known == s->capacity) {
        const size_t more = s->capacity ? 2 * s->capacity : 64;
        known_value *const grown = mmf_realloc(s->ctx, s->known, more * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        s->known = grown;
        s->capacity = more;
    }
    s->known[s->n_known++] = (known_value){use, *out};
    return MMF_OK;
}

static mmf_status add_order(sampler *s, size_t n, mmf_rng *rng, double *sum, double *squares)
{
    int64_t order[MAX_PLAYERS];
    double before = 0, with = 0;
    uint64_t use = 0;
    for (size_t m = 0; m < n; m++)
        order[m] = (int64_t)m;
    mmf_rng_shuffle(rng, order, (int64_t)n);
    MMF_TRY(value_of(s, 0, &before));
    for (size_t i = 0; i < n; i++) {
        use |= UINT64_C(1) << order[i];
        MMF_TRY(value_of(s, use, &with));
        sum[order[i]] += with - before;
        squares[order[i]] += (with - before) * (with - before);
        before = with;
    }
    return MMF_OK;
}

mmf_status mmf_shapley_sampled(mmf_ctx *ctx, size_t n, int64_t n_orders, uint64_t seed,
                               mmf_subset_value *value, void *user, double *out, double *error)
{
    if (n < 1 || n > MAX_PLAYERS || n_orders < 2)
        return mmf_fail(ctx, MMF_ARG,
                        "Shapley values: %zu modalities (1 to %d) and %lld orders (2 or more)", n,
                        MAX_PLAYERS, (long long)n_orders);
    sampler s = {.ctx = ctx, .value = value, .user = user};
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream("order of modalities"));
    mmf_status status = MMF_OK;
    for (size_t m = 0; m < n; m++)
        out[m] = error[m] = 0;
    for (int64_t i = 0; status == MMF_OK && i < n_orders; i++)
        status = add_order(&s, n, &rng, out, error);
    mmf_free(ctx, s.known);
    const double count = (double)n_orders;
    for (size_t m = 0; m < n; m++) {
        out[m] /= count;
        const double variance = fmax(error[m] / count - out[m] * out[m], 0) * count / (count - 1);
        error[m] = sqrt(variance / count);
    }
    return status;
}
