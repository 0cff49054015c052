/*
 * vse_model.c: VSE++: embeddings of the modalities of one sample must be closer to each other, by a
 * margin, than the hardest negatives of the batch.
 *
 * Faghri et al., BMVC 2018. A vector beside tokens has the paper's networks and their names; other
 * modalities have encoders by shape, and more than two the mean over pairs.
 */
#include "models/towers.h"
#include "nn/hinge.h"
#include "nn/vse_pp.h"

#define NORM_EPS 1e-12

static const mmf_option options[] = {
    MMF_VSE_OPTIONS,
    {"warm_up", NULL, MMF_OPTION_INT, 0, 1e6, NULL, "0",
     "epochs in which all negatives count, before the hardest one does: against collapse"},
    MMF_LOSS_WEIGHT_OPTION,
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct vse_model {
    const mmf_schema *inputs;
    bool as_published;
    mmf_vse_net net;
    mmf_towers towers;
    mmf_tower_top top;
    mmf_tensor **x; /* embeddings of the last run, in the order of the inputs */
    double margin;
    bool max_violation;
    int64_t warm_up;
} vse_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    vse_model *const model = mmf_builder_alloc(b, sizeof *model);
    const int64_t width = mmf_config_int(config, "embed_size");
    if (!model)
        return mmf_builder_status(b);
    model->inputs = inputs;
    model->margin = mmf_config_real(config, "margin");
    model->max_violation = mmf_config_bool(config, "max_violation");
    model->warm_up = mmf_config_int(config, "warm_up");
    const mmf_input_schema *const tokens =
        &inputs->inputs[inputs->inputs[0].kind == MMF_TOKENS ? 0 : 1];
    model->as_published = mmf_vse_fits(inputs) && mmf_config_count(config, "encoder") == 0;
    if (model->as_published)
        model->net = mmf_vse_build(b, config, inputs, tokens->vocab_size);
    else
        model->towers = mmf_towers_build(b, config, inputs, width);
    model->x = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    model->top = mmf_tower_top_build(b, config, inputs->count, width);
    *self = model;
    return mmf_builder_status(b);
}

static void embed(mmf_tape *tape, const vse_model *model, const mmf_named *in, const mmf_step *step)
{
    if (model->as_published) {
        const bool text_first = model->inputs->inputs[0].kind == MMF_TOKENS;
        mmf_vse_run(tape, &model->net, in, &model->x[text_first ? 1 : 0],
                    &model->x[text_first ? 0 : 1]);
    } else {
        mmf_towers_run(tape, &model->towers, in, step);
    }
    for (size_t m = 0; m < model->inputs->count; m++)
        model->x[m] = mmf_l2_normalise(tape, model->as_published ? model->x[m] : model->towers.x[m],
                                       NORM_EPS);
}

/* Mean over pairs of modalities of the sum over the batch, or, beside a task's mean, of the mean.
 */
static mmf_tensor *loss_of(mmf_tape *tape, const vse_model *model, const mmf_named *in,
                           const mmf_step *step)
{
    const mmf_input_schema *const names = model->inputs->inputs;
    const size_t n = model->inputs->count;
    const bool hardest = model->max_violation && step->epoch >= model->warm_up;
    mmf_tensor *sum = NULL;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            mmf_tensor *const both = mmf_pair_present(tape, in, names[i].name, names[j].name);
            mmf_tensor *const s = mmf_matmul(tape, model->x[i], model->x[j], false, true);
            const mmf_hinge hinge = mmf_hinge_losses(tape, s, both, model->margin);
            mmf_tensor *const pair = hardest ? hinge.max : hinge.sum;
            sum = sum ? mmf_add(tape, sum, pair) : pair;
        }
    }
    const double rows = model->top.has_head && model->x[0] ? (double)model->x[0]->shape[0] : 1;
    return mmf_affine(tape, sum, model->top.weight * 2 / ((double)(n * (n - 1)) * rows), 0);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const vse_model *const model = self;
    embed(tape, model, in, step);
    if (step->training)
        mmf_named_put(tape, out, "loss.hinge", loss_of(tape, model, in, step));
    mmf_tower_top_run(tape, &model->top, model->inputs, model->x, in, out);
}

const mmf_def mmf_model_vse_pp = {
    .name = "vse-pp",
    .title = "Dual encoder with the hardest negatives",
    .paper = "Faghri et al., VSE++: improving visual-semantic embeddings with hard negatives, BMVC "
             "2018, arXiv:1707.05612",
    .equations = "S = e_a e_b' of unit vectors, sum_i max_j [a + S_ij - S_ii]+ + sum_j max_i [a + "
                 "S_ij - S_jj]+, j != i, mean over pairs of modalities; deviations: other "
                 "modalities than a vector and tokens have encoders by shape; for other tasks than "
                 "retrieval a head over all e_m, and the loss per row, weighted",
    .missing = "its embedding is zeros, and it is neither asked nor a negative in the loss",
    .timing = "late",
    .structure = "contrastive",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK | MMF_RETRIEVES,
    .options = options,
    .batch = 128,
    .build = build,
    .run = run,
};
