/* step_fit.c: see step_fit.h. */
#include "data/step_fit.h"

#include "data/dataset.h"

/* Steps of a sample without its padding. */
static int64_t true_steps(const mmf_data_modality *m, int64_t sample)
{
    int64_t n = mmf_data_steps(m, sample);
    if (m->view.kind != MMF_TOKENS || m->length.data || n == 0)
        return n;
    const int64_t first = mmf_data_place(m, mmf_data_stored_row(m, sample), 1);
    while (n > 0 && mmf_array_integer(&m->values, first + n - 1) == 0)
        n--;
    return n;
}

static mmf_status check_longest(const mmf_dataset *ds, const mmf_data_modality *m, int64_t n_steps)
{
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const int64_t n = true_steps(m, i);
        if (n > n_steps)
            return mmf_data_fail_row(ds, MMF_ARG, m->view.name, i,
                                     "%lld steps, but the model was trained on at most %lld",
                                     (long long)n, (long long)n_steps);
    }
    return MMF_OK;
}

mmf_status mmf_dataset_fit_steps(mmf_dataset *ds, size_t modality, int64_t n_steps)
{
    mmf_data_modality *const m = &ds->modalities[modality];
    if (n_steps < m->n_steps)
        MMF_TRY(check_longest(ds, m, n_steps));
    /* Of tokens the zeros say it. */
    else if (n_steps > m->n_steps && m->view.kind != MMF_TOKENS)
        m->view.has_length = true;
    m->n_steps = n_steps;
    m->row = n_steps * m->step;
    m->view.shape[0] = n_steps;
    return MMF_OK;
}
