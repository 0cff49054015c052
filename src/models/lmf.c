/*
 * lmf.c: low-rank multimodal fusion.
 *
 * Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency, ACL 2018: eq. (8) straight to the
 * prediction, without a head. Names of the authors' code. Deviations: the weights over the rank are
 * trained (MMSA's optimizer skips them by mistake), and there is no post-fusion dropout, which the
 * reference declares and never applies.
 */
#include "models/parts.h"

#include <stdio.h>

static const mmf_option options[] = {
    MMF_SUBNET_OPTIONS,
    {"rank", NULL, MMF_OPTION_INT, 1, 1024, NULL, "4", "rank of the factors"},
    {0},
};

static const mmf_subnet_widths standard = {{128, 16, 128}, 0, 64};

typedef struct lmf_model {
    mmf_subnets subnets;
    mmf_operator fusion;
    bool is_regression;
} lmf_model;

static void set_int(mmf_config *config, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    mmf_config_set(config, name, text);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    lmf_model *const model = mmf_builder_alloc(b, sizeof *model);
    mmf_config *low_rank = NULL;
    if (!model || mmf_config_create(mmf_builder_ctx(b), &low_rank, &mmf_fusion_low_rank) != MMF_OK)
        return MMF_NOMEM;
    model->is_regression = mmf_is_regression(config);
    set_int(low_rank, "rank", mmf_config_int(config, "rank"));
    set_int(low_rank, "output", mmf_n_outputs(config));
    if (mmf_is_sentiment_trio(inputs))
        mmf_config_set(low_rank, "factor_names", "audio_factor,video_factor,text_factor");
    model->subnets = mmf_subnets_build(b, config, inputs, &standard, false);
    if (mmf_builder_status(b) == MMF_OK)
        model->fusion = mmf_operator_build(b, "", &mmf_fusion_low_rank, low_rank,
                                           &model->subnets.inputs, model->subnets.widths);
    mmf_config_free(low_rank);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const lmf_model *const model = self;
    mmf_subnets_run(tape, &model->subnets, in, step, out);
    mmf_tensor *const y = mmf_operator_run(tape, &model->fusion, &model->subnets.inputs,
                                           model->subnets.features, in, step, out);
    mmf_put_result(tape, out, model->is_regression, y);
}

const mmf_def mmf_model_lmf = {
    .name = "lmf",
    .title = "Low-rank multimodal fusion",
    .paper = "Liu et al., Efficient low-rank multimodal fusion with modality-specific factors, "
             "ACL 2018, arXiv:1806.00064",
    .equations = "y = sum_r w_r prod_m ([1; z_m] W_m^r) + beta, eq. (8)",
    .missing = "z_m = 0: its factor contributes only the row of the prepended 1",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
