/* auxiliary.c: see auxiliary.h. */
#include "train/auxiliary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tasks/task.h"
#include "train/aid.h"

#define MAX_WEIGHT 1e6

/* ---- The option -------------------------------------------------------------------------- */

static const mmf_def *find_loss(const char *name, size_t n)
{
    size_t count = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_LOSS, &count);
    for (size_t i = 0; i < count; i++) {
        if (strlen(table[i]->name) == n && strncmp(table[i]->name, name, n) == 0)
            return table[i];
    }
    return NULL;
}

static mmf_status unknown(mmf_ctx *ctx, const char *entry, size_t n)
{
    char names[256] = "";
    size_t count = 0, length = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_LOSS, &count);
    for (size_t i = 0; i < count && length < sizeof names; i++)
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "",
                                   table[i]->name);
    return mmf_fail(ctx, MMF_ARG,
                    "loss \"%.*s\" is unknown; regression has l1, mse and smooth-l1; over the "
                    "features of modalities there are %s",
                    (int)n, entry, names);
}

static mmf_status add_entry(mmf_ctx *ctx, mmf_loss_list *out, const char *entry, size_t n)
{
    const size_t n_name = strcspn(entry, ":,");
    const char *const regression = mmf_task_regression_loss(entry, n_name);
    const mmf_def *const def = find_loss(entry, n_name);
    char *end = NULL;
    if (!regression && !def)
        return unknown(ctx, entry, n_name);
    if (regression) {
        if (n_name < n)
            return mmf_fail(ctx, MMF_ARG, "loss %s is the task's own and takes no weight",
                            regression);
        if (out->regression)
            return mmf_fail(ctx, MMF_ARG, "two losses of regression: %s and %s", out->regression,
                            regression);
        out->regression = regression;
        return MMF_OK;
    }
    const double weight = n_name < n ? strtod(entry + n_name + 1, &end) : 1;
    if (n_name < n &&
        (end != entry + n || n_name + 1 == n || !(weight > 0 && weight <= MAX_WEIGHT)))
        return mmf_fail(ctx, MMF_ARG, "loss \"%.*s\": expected NAME:WEIGHT, a weight in (0, %g]",
                        (int)n, entry, MAX_WEIGHT);
    for (size_t i = 0; i < out->count; i++) {
        if (out->defs[i] == def)
            return mmf_fail(ctx, MMF_ARG, "loss %s is given twice", def->name);
    }
    if (out->count == MMF_MAX_AUXILIARY)
        return mmf_fail(ctx, MMF_LIMIT, "more than %d losses over features", MMF_MAX_AUXILIARY);
    out->defs[out->count] = def;
    out->weights[out->count++] = weight;
    return MMF_OK;
}

mmf_status mmf_loss_list_parse(mmf_ctx *ctx, mmf_loss_list *out, const char *text)
{
    *out = (mmf_loss_list){0};
    for (const char *at = text; at && *at;) {
        const size_t n = strcspn(at, ",");
        MMF_TRY(add_entry(ctx, out, at, n));
        at += n + (at[n] == ',');
    }
    return MMF_OK;
}

mmf_status mmf_loss_list_check_task(mmf_ctx *ctx, const mmf_loss_list *list, const mmf_task *task)
{
    if (!list->regression || task->kind == MMF_TARGET_REAL)
        return MMF_OK;
    return mmf_fail(ctx, MMF_ARG, "loss %s is of numbers, and \"%s\" is for %s; leave it out",
                    list->regression, task->target ? task->target : "the target",
                    mmf_task_name(task->kind));
}

bool mmf_loss_list_contrasts(const mmf_loss_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->defs[i]->structure, "contrastive") == 0)
            return true;
    }
    return false;
}

/* ---- Building ---------------------------------------------------------------------------- */

mmf_status mmf_auxiliary_create(mmf_ctx *ctx, mmf_auxiliary *a, const mmf_loss_list *list,
                                const mmf_schema *inputs, const mmf_named *out, int64_t n_rows,
                                const char *name, const mmf_train_options *options, double lr)
{
    *a = (mmf_auxiliary){.ctx = ctx, .list = list};
    a->features = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *a->features);
    if (!a->features)
        return MMF_NOMEM;
    a->n_features = mmf_list_features(inputs, out, n_rows, a->features);
    if (a->n_features < 2) {
        if (options->loss_where_possible)
            return MMF_OK;
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: loss %s compares the features of modalities, of which this model puts "
                        "out %zu; use a model with one encoder a modality, such as joint-concat",
                        name, list->defs[0]->name, a->n_features);
    }
    const mmf_schema features = {a->n_features, a->features};
    mmf_optimizer_options optimizer = options->optimizer;
    optimizer.lr = lr;
    for (; a->count < list->count; a->count++) {
        const size_t i = a->count;
        MMF_TRY(
            mmf_module_create(ctx, &a->modules[i], list->defs[i], NULL, &features, options->seed));
        mmf_params *const params = mmf_module_params(a->modules[i]);
        if (mmf_params_size(params) > 0)
            MMF_TRY(mmf_optimizer_create(ctx, &a->optimizers[i], params, &optimizer));
    }
    return MMF_OK;
}

void mmf_auxiliary_clear(mmf_auxiliary *a)
{
    for (size_t i = 0; i < MMF_MAX_AUXILIARY; i++) {
        mmf_optimizer_free(a->optimizers[i]);
        mmf_module_free(a->modules[i]);
    }
    if (a->features)
        mmf_free(a->ctx, a->features);
    *a = (mmf_auxiliary){0};
}

/* ---- Steps ------------------------------------------------------------------------------- */

void mmf_auxiliary_run(mmf_auxiliary *a, mmf_tape *tape, const mmf_named *in, const mmf_step *step,
                       mmf_named *out)
{
    mmf_named features = {0};
    for (size_t m = 0; a->count > 0 && m < a->n_features; m++) {
        const char *const name = a->features[m].name;
        mmf_tensor *const found = mmf_feature_of(out, name);
        mmf_named_put(tape, &features, name, found);
        if (a->features[m].has_present)
            mmf_named_putf(tape, &features, mmf_named_part(in, name, "present"), "%s.present",
                           name);
    }
    mmf_named_put(tape, &features, "label", mmf_named_get(in, "label"));
    for (size_t i = 0; i < a->count; i++) {
        mmf_named result = {0};
        mmf_module_run(a->modules[i], tape, &features, step, &result);
        mmf_named_putf(tape, out,
                       mmf_affine(tape, mmf_named_get(&result, "loss"), a->list->weights[i], 0),
                       "auxiliary.%s", a->list->defs[i]->name);
    }
}

void mmf_auxiliary_step(mmf_auxiliary *a, const mmf_tape *tape, double lr_scale)
{
    for (size_t i = 0; i < a->count; i++) {
        if (!a->optimizers[i])
            continue;
        mmf_params_finish_gradients(mmf_module_params(a->modules[i]), tape);
        mmf_optimizer_step(a->optimizers[i], lr_scale);
    }
}
