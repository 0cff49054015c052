/* norm_statistics.c: see norm_statistics.h. */
#include "tensor/norm_statistics.h"

#include <math.h>

void mmf_norm_use_batch(const mmf_batch_norm_state *state, int64_t count, const double *mean,
                        const double *var, const mmf_norm_used *used)
{
    mmf_real *const running_mean = state->running_mean->data;
    mmf_real *const running_var = state->running_var->data;
    const double momentum = state->momentum, n = (double)count;
    for (int64_t c = 0; c < state->running_mean->count; c++) {
        used->mean[c] = (mmf_real)mean[c];
        used->rstd[c] = (mmf_real)(1 / sqrt(var[c] + state->eps));
        const double old_mean = (double)running_mean[c], old_var = (double)running_var[c];
        running_mean[c] = (mmf_real)((1 - momentum) * old_mean + momentum * mean[c]);
        running_var[c] = (mmf_real)((1 - momentum) * old_var + momentum * var[c] * n / (n - 1));
    }
}

void mmf_norm_use_running(const mmf_batch_norm_state *state, const mmf_norm_used *used)
{
    for (int64_t c = 0; c < state->running_mean->count; c++) {
        used->mean[c] = state->running_mean->data[c];
        used->rstd[c] = (mmf_real)(1 / sqrt((double)state->running_var->data[c] + state->eps));
    }
}
