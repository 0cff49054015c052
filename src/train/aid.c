/* aid.c: see aid.h. */
#include "train/aid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define NAME_BYTES 64
#define VALUE_BYTES 128

#define MMF_AID(file, name) extern const mmf_aid_kind mmf_aid_##name;
#include "train/aids.def"
#undef MMF_AID

static const mmf_aid_kind *const kinds[] = {
#define MMF_AID(file, name) &mmf_aid_##name,
#include "train/aids.def"
#undef MMF_AID
};

static const mmf_def *const definitions[] = {
#define MMF_AID(file, name) &mmf_aid_##name.def,
#include "train/aids.def"
#undef MMF_AID
};

enum { N_KINDS = sizeof kinds / sizeof *kinds };

const mmf_def *const *mmf_aids(size_t *count)
{
    *count = N_KINDS;
    return definitions;
}

/* ---- The option -------------------------------------------------------------------------- */

static mmf_status unknown(mmf_ctx *ctx, const char *name)
{
    const char *names[N_KINDS];
    char all[256] = "";
    size_t length = 0;
    for (size_t i = 0; i < N_KINDS; i++) {
        names[i] = definitions[i]->name;
        if (length < sizeof all)
            length += (size_t)snprintf(all + length, sizeof all - length, "%s%s", i ? ", " : "",
                                       names[i]);
    }
    const char *const nearest = mmf_text_nearest(name, names, N_KINDS);
    return mmf_fail(ctx, MMF_ARG, "training aid \"%s\" is unknown; %s%s%sthere are %s", name,
                    nearest ? "did you mean \"" : "", nearest ? nearest : "", nearest ? "\"? " : "",
                    all);
}

/* "0.3" is the aid's first option, "alpha=0.3" the one of this name. */
static mmf_status set_value(mmf_ctx *ctx, mmf_config *config, const char *part, size_t n)
{
    char name[NAME_BYTES], value[VALUE_BYTES];
    const mmf_def *const def = mmf_config_def(config);
    const char *const equals = memchr(part, '=', n);
    const size_t n_name = equals ? (size_t)(equals - part) : 0;
    const char *const first = equals ? equals + 1 : part;
    const size_t n_value = n - (equals ? n_name + 1 : 0);
    if (n_name >= sizeof name || n_value >= sizeof value || n_value == 0 || (equals && n_name == 0))
        return mmf_fail(ctx, MMF_ARG,
                        "training aid %s: \"%.*s\": expected a value of %s, or OPTION=VALUE; "
                        "`mmfuse info %s` lists the options",
                        def->name, (int)(n < 80 ? n : 80), part, def->options[0].name, def->name);
    snprintf(name, sizeof name, "%.*s", (int)n_name, part);
    snprintf(value, sizeof value, "%.*s", (int)n_value, first);
    const mmf_status status = mmf_config_set(config, equals ? name : def->options[0].name, value);
    return status == MMF_OK ? status : mmf_fail_within(ctx, status, "training aid %s: ", def->name);
}

static mmf_status add_entry(mmf_ctx *ctx, mmf_aid_list *out, const char *entry, size_t n)
{
    char name[NAME_BYTES];
    const size_t n_name = strcspn(entry, ":,");
    const mmf_aid_kind *kind = NULL;
    snprintf(name, sizeof name, "%.*s", (int)(n_name < sizeof name ? n_name : sizeof name), entry);
    for (size_t i = 0; i < N_KINDS; i++)
        kind = strcmp(kinds[i]->def.name, name) == 0 ? kinds[i] : kind;
    if (!kind)
        return unknown(ctx, name);
    for (size_t i = 0; i < out->count; i++) {
        if (out->kinds[i] == kind)
            return mmf_fail(ctx, MMF_ARG, "training aid %s is given twice", name);
    }
    if (out->count == MMF_MAX_AIDS)
        return mmf_fail(ctx, MMF_LIMIT, "more than %d training aids", MMF_MAX_AIDS);
    mmf_config **const config = &out->configs[out->count];
    MMF_TRY(mmf_config_create(ctx, config, &kind->def));
    out->kinds[out->count++] = kind;
    for (size_t at = n_name; at < n;) { /* at a colon */
        const size_t width = strcspn(entry + at + 1, ":,");
        MMF_TRY(set_value(ctx, *config, entry + at + 1, width));
        at += 1 + width;
    }
    return MMF_OK;
}

mmf_status mmf_aid_list_parse(mmf_ctx *ctx, mmf_aid_list *out, const char *text)
{
    *out = (mmf_aid_list){0};
    for (const char *at = text; at && *at;) {
        const size_t n = strcspn(at, ",");
        MMF_TRY(add_entry(ctx, out, at, n));
        at += n + (at[n] == ',');
    }
    return MMF_OK;
}

void mmf_aid_list_clear(mmf_aid_list *list)
{
    for (size_t i = 0; i < MMF_MAX_AIDS; i++)
        mmf_config_free(list->configs[i]);
    *list = (mmf_aid_list){0};
}

/* ---- Features ---------------------------------------------------------------------------- */

mmf_tensor *mmf_feature_of(const mmf_named *out, const char *modality)
{
    char key[300];
    snprintf(key, sizeof key, "feature_%s", modality);
    return mmf_named_get(out, key);
}

size_t mmf_list_features(const mmf_schema *inputs, const mmf_named *out, int64_t n_rows,
                         mmf_input_schema *features)
{
    size_t n = 0;
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        const mmf_tensor *const f = mmf_feature_of(out, in->name);
        if (f && !f->is_int && f->n_dims == 2 && f->shape[0] == n_rows)
            features[n++] = (mmf_input_schema){.name = in->name,
                                               .kind = MMF_VECTOR,
                                               .n_dims = 1,
                                               .shape = {f->shape[1]},
                                               .has_present = in->has_present};
    }
    return n;
}

/* ---- A fit ------------------------------------------------------------------------------- */

static mmf_status check_task(mmf_ctx *ctx, const mmf_aid_list *list, const mmf_aid_fit *fit)
{
    for (size_t i = 0; i < list->count; i++) {
        const mmf_def *const def = &list->kinds[i]->def;
        const unsigned needed =
            fit->task->kind == MMF_TARGET_REAL ? MMF_REGRESSION_OK : MMF_CLASSES_OK;
        const bool one_class = (def->takes & MMF_ONE_CLASS) && fit->task->kind != MMF_TARGET_CLASS;
        if (!(def->takes & needed) || one_class)
            return mmf_fail(ctx, MMF_UNSUPPORTED,
                            "training aid %s is defined on classes of which one is right, and the "
                            "task is %s; use gradient-blend or unimodal-heads",
                            def->name, mmf_task_name(fit->task->kind));
    }
    return MMF_OK;
}

void mmf_aids_clear(mmf_aids_run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        mmf_aid *const aid = &run->aids[i];
        mmf_optimizer_free(aid->optimizer);
        mmf_module_free(aid->heads);
        mmf_free(run->ctx, aid->state);
        mmf_free(run->ctx, aid->indices);
        mmf_free(run->ctx, aid->own);
    }
    if (run->ctx)
        mmf_free(run->ctx, run->features.inputs);
    *run = (mmf_aids_run){0};
}

mmf_status mmf_aids_create(mmf_ctx *ctx, mmf_aids_run *run, const mmf_aid_list *list,
                           const mmf_schema *inputs, const mmf_aid_fit *fit,
                           const mmf_aid_pass *pass)
{
    *run = (mmf_aids_run){.ctx = ctx, .fit = *fit};
    MMF_TRY(check_task(ctx, list, fit));
    run->features.inputs = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *run->features.inputs);
    if (!run->features.inputs)
        return MMF_NOMEM;
    run->features.count = mmf_list_features(inputs, pass->out, pass->n_rows, run->features.inputs);
    if (run->features.count < 2) {
        if (fit->options->loss_where_possible)
            return MMF_OK;
        return mmf_fail(ctx, MMF_UNSUPPORTED,
                        "%s: training aid %s works on one feature a modality, of which this model "
                        "puts out %zu: it joins the modalities before it encodes them, or encodes "
                        "them step by step; use a model with one encoder a modality, such as "
                        "joint-concat",
                        fit->name, list->kinds[0]->def.name, run->features.count);
    }
    for (; run->count < list->count; run->count++) {
        mmf_aid *const aid = &run->aids[run->count];
        *aid = (mmf_aid){.ctx = ctx,
                         .kind = list->kinds[run->count],
                         .config = list->configs[run->count],
                         .fit = &run->fit,
                         .features = &run->features};
        const mmf_status status = aid->kind->start(aid, pass);
        if (status == MMF_OK)
            continue;
        run->count++; /* what it has already is freed */
        if (status != MMF_UNSUPPORTED || !fit->options->loss_where_possible)
            return status;
        mmf_aids_clear(run);
        return MMF_OK;
    }
    return MMF_OK;
}

mmf_status mmf_aids_begin(mmf_aids_run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->aids[i].kind->begin)
            MMF_TRY(run->aids[i].kind->begin(&run->aids[i]));
    }
    return MMF_OK;
}

mmf_tensor *mmf_aids_loss(mmf_aids_run *run, const mmf_aid_pass *pass, mmf_tensor *loss)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->aids[i].kind->loss)
            loss = run->aids[i].kind->loss(&run->aids[i], pass, loss);
    }
    return loss;
}

void mmf_aids_gradients(mmf_aids_run *run, const mmf_aid_pass *pass)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->aids[i].kind->gradients)
            run->aids[i].kind->gradients(&run->aids[i], pass);
    }
}

void mmf_aids_step(mmf_aids_run *run, const mmf_tape *tape, double lr_scale)
{
    for (size_t i = 0; i < run->count; i++) {
        mmf_aid *const aid = &run->aids[i];
        if (!aid->optimizer)
            continue;
        mmf_params_finish_gradients(mmf_module_params(aid->heads), tape);
        mmf_optimizer_step(aid->optimizer, lr_scale);
    }
}

mmf_status mmf_aids_epoch(mmf_aids_run *run, int64_t epoch)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->aids[i].kind->epoch)
            MMF_TRY(run->aids[i].kind->epoch(&run->aids[i], epoch));
    }
    return MMF_OK;
}
