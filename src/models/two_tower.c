/*
 * two_tower.c: one encoder a modality, trained so that the embeddings of one sample find each
 * other among those of the batch.
 *
 * Structure of CLIP (Radford et al., ICML 2021, figure 3): projection, length one, the symmetric
 * contrastive loss with a learned temperature, which is the registered loss `clip-loss`.
 */
#include "base/context.h"
#include "mmfuse/model.h"
#include "models/towers.h"

static const mmf_option options[] = {
    {"width", "embed_dim", MMF_OPTION_INT, 1, 8192, NULL, "128", "of the common space"},
    {"logit_scale_init", NULL, MMF_OPTION_REAL, -10, 10, NULL, "2.6592600369",
     "start of the learned log(1 / temperature), which training keeps in [0, log 100]"},
    MMF_LOSS_WEIGHT_OPTION,
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct two_tower {
    mmf_towers towers;
    mmf_tower_top top;
    const mmf_schema *inputs;
    const mmf_def *loss; /* clip-loss */
    void *contrast;      /* its inside */
} two_tower;

/* The loss sees one vector a modality. */
static void build_contrast(mmf_builder *b, two_tower *model, const mmf_config *config,
                           int64_t width)
{
    mmf_config *own = NULL;
    const size_t n = model->inputs->count;
    mmf_schema *const vectors = mmf_builder_alloc(b, sizeof *vectors);
    mmf_input_schema *const rows = mmf_builder_alloc(b, n * sizeof *rows);
    if (!vectors || !rows)
        return;
    for (size_t m = 0; m < n; m++)
        rows[m] = (mmf_input_schema){.name = model->inputs->inputs[m].name,
                                     .kind = MMF_VECTOR,
                                     .n_dims = 1,
                                     .shape = {width},
                                     .has_present = model->inputs->inputs[m].has_present};
    *vectors = (mmf_schema){n, rows};
    model->loss = mmf_definition_find("clip-loss");
    mmf_status status = mmf_config_create(mmf_builder_ctx(b), &own, model->loss);
    if (status == MMF_OK)
        status = mmf_config_share(own, config);
    if (status == MMF_OK)
        status = model->loss->build(b, own, vectors, &model->contrast);
    if (status != MMF_OK && mmf_builder_status(b) == MMF_OK)
        mmf_builder_fail(b, status, "clip-loss: %s", mmf_ctx_error(mmf_builder_ctx(b)));
    mmf_config_free(own);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    two_tower *const model = mmf_builder_alloc(b, sizeof *model);
    const int64_t width = mmf_config_int(config, "width");
    if (!model)
        return mmf_builder_status(b);
    model->inputs = inputs;
    model->towers = mmf_towers_build(b, config, inputs, width);
    if (mmf_builder_status(b) == MMF_OK)
        build_contrast(b, model, config, width);
    model->top = mmf_tower_top_build(b, config, inputs->count, width);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const two_tower *const model = self;
    mmf_towers_run(tape, &model->towers, in, step);
    if (step->training) {
        mmf_named features = {0}, result = {0};
        for (size_t m = 0; m < model->inputs->count; m++) {
            const char *const name = model->inputs->inputs[m].name;
            mmf_tensor *const present = mmf_named_part(in, name, "present");
            mmf_named_put(tape, &features, name, model->towers.x[m]);
            if (present)
                mmf_named_putf(tape, &features, present, "%s.present", name);
        }
        model->loss->run(tape, model->contrast, &features, step, &result);
        mmf_named_put(tape, out, "loss.contrast",
                      mmf_affine(tape, mmf_named_get(&result, "loss"), model->top.weight, 0));
    }
    mmf_tower_top_run(tape, &model->top, model->inputs, model->towers.x, in, out);
}

const mmf_def mmf_model_two_tower = {
    .name = "two-tower",
    .title = "Dual encoder with a contrastive loss",
    .paper = "Radford et al., Learning transferable visual models from natural language "
             "supervision, ICML 2021, arXiv:2103.00020; van den Oord et al., Representation "
             "learning with contrastive predictive coding, 2018, arXiv:1807.03748",
    .equations = "e_m = P_m f_m(x_m), S = e^s e_a e_b' / (|e_a| |e_b|), loss (CE(S, i) + CE(S', "
                 "i)) / 2, mean over pairs of modalities; deviation: encoders by shape; for other "
                 "tasks than retrieval a head over all e_m, and the loss weighted",
    .missing = "its embedding is zeros, and it is neither anchor nor candidate in the loss",
    .timing = "late",
    .structure = "contrastive",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK | MMF_RETRIEVES,
    .options = options,
    .batch = 128,
    .build = build,
    .run = run,
};
