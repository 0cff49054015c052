/* aid_heads.c: predictions from the feature of each modality alone, for training aids. */
#include <stdio.h>
#include <string.h>

#include "models/parts.h"
#include "train/aid.h"

static const mmf_option options[] = {
    {"hidden", NULL, MMF_OPTION_INT, 0, 8192, NULL, "0", "width of the hidden layers; 0: none"},
    MMF_DROPOUT_OPTION,
    {0},
};

typedef struct head {
    const char *name;                    /* of the modality */
    mmf_linear_layer first, second, out; /* first and second unused without a hidden layer */
} head;

typedef struct all_heads {
    head *heads;
    size_t count;
    bool has_hidden, is_regression;
    double dropout;
} all_heads;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const int64_t hidden = mmf_config_int(config, "hidden"), outputs = mmf_n_outputs(config);
    all_heads *const all = mmf_builder_alloc(b, sizeof *all);
    if (!all)
        return mmf_builder_status(b);
    *all = (all_heads){.heads = mmf_builder_alloc(b, inputs->count * sizeof *all->heads),
                       .count = inputs->count,
                       .has_hidden = hidden > 0,
                       .is_regression = mmf_is_regression(config),
                       .dropout = mmf_config_real(config, "dropout")};
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const char *const name = inputs->inputs[m].name;
        const int64_t width = inputs->inputs[m].shape[0];
        head *const h = &all->heads[m];
        h->name = name;
        if (hidden > 0) {
            h->first = mmf_linear_build(b, mmf_builder_text(b, "post_%s_layer_1", name), width,
                                        hidden, true);
            h->second = mmf_linear_build(b, mmf_builder_text(b, "post_%s_layer_2", name), hidden,
                                         hidden, true);
            h->out = mmf_linear_build(b, mmf_builder_text(b, "post_%s_layer_3", name), hidden,
                                      outputs, true);
        } else {
            h->out =
                mmf_linear_build(b, mmf_builder_text(b, "%s_head", name), width, outputs, true);
        }
    }
    *self = all;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const all_heads *const all = self;
    for (size_t m = 0; m < all->count; m++) {
        const head *const h = &all->heads[m];
        mmf_tensor *x = mmf_named_get(in, h->name);
        if (all->has_hidden) {
            x = mmf_dropout(tape, x, all->dropout);
            x = mmf_linear_run(tape, &h->first, x, MMF_ACT_RELU);
            mmf_named_putf(tape, out, x, "hidden_%s", h->name);
            x = mmf_linear_run(tape, &h->second, x, MMF_ACT_RELU);
        }
        mmf_named_putf(tape, out, mmf_linear_run(tape, &h->out, x, MMF_ACT_NONE), "%s_%s",
                       all->is_regression ? "prediction" : "logits", h->name);
    }
}

static const mmf_def heads_definition = {
    .name = "unimodal heads",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};

static mmf_status configure(mmf_aid *aid, mmf_config *config, int64_t hidden, double dropout)
{
    char text[64];
    snprintf(text, sizeof text, "%lld", (long long)hidden);
    MMF_TRY(mmf_config_set(config, "hidden", text));
    snprintf(text, sizeof text, "%.17g", dropout);
    MMF_TRY(mmf_config_set(config, "dropout", text));
    snprintf(text, sizeof text, "%lld", (long long)aid->fit->task->n_outputs);
    MMF_TRY(mmf_config_set(config, "num_classes", text));
    return mmf_config_set(config, "train_mode", mmf_task_name(aid->fit->task->kind));
}

mmf_status mmf_aid_heads_create(mmf_aid *aid, int64_t hidden, double dropout)
{
    mmf_config *config = NULL;
    MMF_TRY(mmf_config_create(aid->ctx, &config, &heads_definition));
    mmf_status status = configure(aid, config, hidden, dropout);
    if (status == MMF_OK)
        status = mmf_module_create(aid->ctx, &aid->heads, &heads_definition, config, aid->features,
                                   aid->fit->options->seed);
    mmf_config_free(config);
    MMF_TRY(status);
    mmf_optimizer_options optimizer = aid->fit->options->optimizer;
    optimizer.lr = aid->fit->lr;
    MMF_TRY(
        mmf_optimizer_create(aid->ctx, &aid->optimizer, mmf_module_params(aid->heads), &optimizer));
    aid->indices = mmf_alloc_zero(aid->ctx, 2 * aid->features->count * (size_t)aid->fit->max_rows,
                                  sizeof *aid->indices);
    return aid->indices ? MMF_OK : MMF_NOMEM;
}

void mmf_aid_heads_run(const mmf_aid *aid, const mmf_aid_pass *pass, bool detached, mmf_named *out)
{
    mmf_named features = {0};
    for (size_t m = 0; m < aid->features->count; m++) {
        const char *const name = aid->features->inputs[m].name;
        mmf_tensor *const x = mmf_feature_of(pass->out, name);
        mmf_named_put(pass->tape, &features, name, detached ? mmf_detach(pass->tape, x) : x);
    }
    mmf_module_run(aid->heads, pass->tape, &features, pass->step, out);
}

mmf_tensor *mmf_aid_head(const mmf_aid *aid, const mmf_named *out, size_t m)
{
    char key[300];
    snprintf(key, sizeof key, "%s_%s",
             aid->fit->task->kind == MMF_TARGET_REAL ? "prediction" : "logits",
             aid->features->inputs[m].name);
    return mmf_named_get(out, key);
}

/* Rows of the pass that have modality m, into the aid's memory. */
static mmf_tensor *rows_with(const mmf_aid *aid, const mmf_aid_pass *pass, size_t m)
{
    const mmf_tensor *const present =
        mmf_named_part(pass->in, aid->features->inputs[m].name, "present");
    int64_t *const index = aid->indices + 2 * (int64_t)m * aid->fit->max_rows;
    int64_t n = 0;
    for (int64_t i = 0; i < pass->n_rows; i++) {
        if (!present || present->data[i] > 0)
            index[n++] = i;
    }
    return mmf_input_ints(pass->tape, index, 1, &n);
}

static mmf_tensor *targets_of(const mmf_aid *aid, const mmf_aid_pass *pass, size_t m,
                              const mmf_tensor *index)
{
    if (!pass->target->is_int)
        return mmf_index_select(pass->tape, pass->target, index);
    int64_t *const classes = aid->indices + (2 * (int64_t)m + 1) * aid->fit->max_rows;
    for (int64_t i = 0; i < index->count; i++)
        classes[i] = pass->target->ints[index->ints[i]];
    return mmf_input_ints(pass->tape, classes, 1, index->shape);
}

mmf_tensor *mmf_aid_head_loss(const mmf_aid *aid, const mmf_aid_pass *pass, const mmf_named *out,
                              size_t m)
{
    mmf_tensor *y = mmf_aid_head(aid, out, m), *target = pass->target;
    mmf_tensor *const index = pass->target ? rows_with(aid, pass, m) : NULL;
    if (!index || index->count == 0)
        return NULL;
    if (index->count < pass->n_rows) {
        y = mmf_index_select(pass->tape, y, index);
        target = targets_of(aid, pass, m, index);
    }
    mmf_named result = {0};
    mmf_named_put(pass->tape, &result,
                  aid->fit->task->kind == MMF_TARGET_REAL ? "prediction" : "logits", y);
    return mmf_task_loss(pass->tape, aid->fit->task, aid->fit->loss, &result, target);
}
