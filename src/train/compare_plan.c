/* compare_plan.c: which models with which options, seeds and rows a comparison runs. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "encoders/encoder.h"
#include "train/compare.h"
#include "train/trainer.h"
#include "train/feed.h"
#include "train/jobs.h"

#define DEFAULT_SEEDS 3
#define NAME_BYTES 640 /* "only-" and the longest key of a file */

const mmf_candidate *mmf_plan__candidate(const mmf_plan *plan, size_t trial)
{
    return &plan->candidates[trial / plan->n_seeds];
}

const mmf_split *mmf_plan__split(const mmf_plan *plan, size_t trial)
{
    return &plan->splits[plan->n_splits == 1 ? 0 : trial % plan->n_seeds];
}

/* ---- Models ------------------------------------------------------------------------------ */

/* Elements that a step touches, weighted by what encoders do with them. */
static double input_work(const mmf_input_schema *input)
{
    static const double weights[] = {[MMF_VECTOR] = 1,
                                     [MMF_SEQUENCE] = 8,
                                     [MMF_IMAGE] = 16,
                                     [MMF_TOKENS] = 256,
                                     [MMF_VIDEO] = 16};
    double n = weights[input->kind];
    for (int d = 0; d < input->n_dims; d++)
        n *= (double)input->shape[d];
    return n;
}

/* NULL, or a sentence that may stand in `room`. */
static const char *refusal_of(const mmf_plan *plan, const mmf_def *def, const char *modality,
                              mmf_refusal *room)
{
    const mmf_input_schema *const input =
        modality ? mmf_schema_find(&plan->schema, modality) : NULL;
    mmf_input_schema copy = input ? *input : (mmf_input_schema){0};
    const mmf_schema one = {1, &copy};
    return mmf_training_refusal(def, input ? &one : &plan->schema, plan->out->task.kind,
                                plan->contrasts, room);
}

static double model_work(const mmf_plan *plan, const char *modality)
{
    double work = 0;
    for (size_t m = 0; m < plan->schema.count; m++) {
        const mmf_input_schema *const input = &plan->schema.inputs[m];
        if (!modality || strcmp(modality, input->name) == 0)
            work += input_work(input);
    }
    return work;
}

static bool has_candidate(const mmf_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_candidates; i++) {
        if (strcmp(plan->candidates[i].name, name) == 0)
            return true;
    }
    return false;
}

static mmf_status add_candidate(mmf_plan *plan, const mmf_def *def, const char *name,
                                bool was_asked_for)
{
    if (has_candidate(plan, name))
        return MMF_OK;
    const char *const modality = mmf_model_only_modality(name);
    mmf_refusal room;
    const char *const refusal = refusal_of(plan, def, modality, &room);
    if (refusal && !was_asked_for)
        return MMF_OK; /* log_refusals tells */
    if (plan->n_candidates == plan->capacity)
        return mmf_fail(plan->ctx, MMF_LIMIT, "more than %zu models", plan->capacity);
    char *const copy = mmf_strdup(plan->ctx, name);
    if (!copy)
        return MMF_NOMEM;
    plan->out->names[plan->n_candidates] = copy;
    mmf_candidate *const c = &plan->candidates[plan->n_candidates++];
    *c = (mmf_candidate){.name = copy,
                         .def = def,
                         .modality = mmf_model_only_modality(copy),
                         .is_late = (def->takes & MMF_LATE) != 0,
                         .is_refused = refusal != NULL,
                         .work = model_work(plan, modality)};
    if (refusal)
        snprintf(c->refusal, sizeof c->refusal, "%s", refusal);
    return MMF_OK;
}

/* `only` stands for every modality alone. */
static mmf_status add_definition(mmf_plan *plan, const mmf_def *def, bool was_asked_for)
{
    char name[NAME_BYTES];
    if (!(def->takes & MMF_ONE_ONLY))
        return add_candidate(plan, def, def->name, was_asked_for);
    for (size_t m = 0; m < plan->schema.count; m++) {
        snprintf(name, sizeof name, "%s-%s", def->name, plan->schema.inputs[m].name);
        MMF_TRY(add_candidate(plan, def, name, was_asked_for));
    }
    return MMF_OK;
}

static mmf_status add_named(mmf_plan *plan, const char *name)
{
    const mmf_def *const def = mmf_model_find(name);
    if (!def) {
        const char *const nearest = mmf_model_nearest(name);
        return mmf_fail(plan->ctx, MMF_ARG, "model \"%s\" is unknown; %s%s%s", name,
                        nearest ? "did you mean \"" : "`mmfuse list` names them",
                        nearest ? nearest : "", nearest ? "\"?" : "");
    }
    const char *const modality = mmf_model_only_modality(name);
    MMF_TRY(mmf_train__check_only(plan->ctx, &plan->schema, mmf_dataset_path(plan->dataset), name));
    return modality ? add_candidate(plan, def, name, true) : add_definition(plan, def, true);
}

static mmf_status add_list(mmf_plan *plan, const char *list)
{
    char name[NAME_BYTES];
    for (const char *at = list; *at;) {
        const size_t n = strcspn(at, ",");
        const size_t lead = strspn(at, " ");
        size_t end = n;
        while (end > lead && at[end - 1] == ' ')
            end--;
        if (end > lead) {
            snprintf(name, sizeof name, "%.*s", (int)(end - lead), at + lead);
            MMF_TRY(add_named(plan, name));
        }
        at += n + (at[n] == ',');
    }
    return MMF_OK;
}

static size_t count_places(const mmf_plan *plan, size_t n_models)
{
    size_t n = n_models + plan->schema.count;
    for (const char *c = plan->options->models; c && *c; c++)
        n += *c == ',' ? plan->schema.count + 1 : 0;
    return n;
}

/* NULL for models that fit, and for `only`, which fits modality by modality. */
static const char *reason_against(const mmf_plan *plan, const mmf_def *def, mmf_refusal *room)
{
    return def->takes & MMF_ONE_ONLY ? NULL : refusal_of(plan, def, NULL, room);
}

static bool same_reason(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* One line a reason: in a large catalogue many models share one. */
static mmf_status log_refusals(mmf_plan *plan, const mmf_def *const *models, size_t n_models)
{
    mmf_refusal own, other;
    for (size_t i = 0; i < n_models; i++) {
        const char *const reason = reason_against(plan, models[i], &own);
        bool told = reason == NULL;
        for (size_t j = 0; j < i && !told; j++)
            told = same_reason(reason, reason_against(plan, models[j], &other));
        if (told)
            continue;
        mmf_text names = {.ctx = plan->ctx};
        for (size_t j = i; j < n_models; j++) {
            if (same_reason(reason, reason_against(plan, models[j], &other)))
                mmf_text_add(&names, "%s%s", names.length ? ", " : "", models[j]->name);
        }
        const mmf_status status = names.status;
        if (status == MMF_OK)
            mmf_ctx_log(plan->ctx, MMF_LOG_INFO, "left out: %s: %s", names.data, reason);
        mmf_text_clear(&names);
        MMF_TRY(status);
    }
    return MMF_OK;
}

static mmf_status choose_models(mmf_plan *plan)
{
    size_t n_models = 0;
    const mmf_def *const *const models = mmf_catalogue(MMF_KIND_MODEL, &n_models);
    plan->capacity = count_places(plan, n_models);
    plan->candidates = mmf_alloc_zero(plan->ctx, plan->capacity + 1, sizeof *plan->candidates);
    plan->out->names = mmf_alloc_zero(
        plan->ctx, plan->capacity + (size_t)plan->out->task.n_outputs + 2, sizeof(char *));
    if (!plan->candidates || !plan->out->names)
        return MMF_NOMEM;
    const char *const list = plan->options->models;
    if (list && *list) {
        MMF_TRY(add_list(plan, list));
    } else {
        MMF_TRY(log_refusals(plan, models, n_models));
        for (size_t i = 0; i < n_models; i++)
            MMF_TRY(add_definition(plan, models[i], false));
    }
    if (plan->n_candidates == 0)
        return mmf_fail(plan->ctx, MMF_ARG, "%s: no model fits this data",
                        mmf_dataset_path(plan->dataset));
    return MMF_OK;
}

/* ---- Options ----------------------------------------------------------------------------- */

/* The entries of one modality in "audio=lstm:128,image=cnn2d": a unimodal model is configured as
 * the late models configure their parts, so that they can share it. */
static mmf_status set_own_encoder(mmf_plan *plan, const mmf_candidate *c, const char *list)
{
    const size_t n = strlen(c->modality);
    mmf_text own = {.ctx = plan->ctx};
    for (const char *at = list; *at;) {
        const size_t width = strcspn(at, ",");
        if (width > n && strncmp(at, c->modality, n) == 0 && at[n] == '=')
            mmf_text_add(&own, "%s%.*s", own.length ? "," : "", (int)width, at);
        at += width + (at[width] == ',');
    }
    mmf_status status = own.status;
    if (status == MMF_OK && own.length > 0)
        status = mmf_config_set(c->config, "encoder", own.data);
    mmf_text_clear(&own);
    return status;
}

static mmf_status set_everywhere(mmf_plan *plan, const char *name, const char *value)
{
    bool found = false;
    for (size_t i = 0; i < plan->n_candidates; i++) {
        const mmf_candidate *const c = &plan->candidates[i];
        if (!mmf_option_find(c->def, name))
            continue;
        found = true;
        MMF_TRY(c->modality && strcmp(name, "encoder") == 0
                    ? set_own_encoder(plan, c, value)
                    : mmf_config_set(c->config, name, value));
    }
    if (!found)
        return mmf_fail(plan->ctx, MMF_ARG,
                        "none of the models has an option \"%s\"; `mmfuse info MODEL` lists those "
                        "of a model",
                        name);
    return MMF_OK;
}

/* "name=value;name=value" */
static mmf_status set_options(mmf_plan *plan, const char *text)
{
    char *const copy = mmf_strdup(plan->ctx, text);
    if (!copy)
        return MMF_NOMEM;
    mmf_status status = MMF_OK;
    for (char *at = copy; status == MMF_OK && at && *at;) {
        char *const stop = strchr(at, ';');
        if (stop)
            *stop = '\0';
        char *const equals = strchr(at, '=');
        if (equals) {
            *equals = '\0';
            status = set_everywhere(plan, at, equals + 1);
        } else if (*at) {
            status = mmf_fail(plan->ctx, MMF_ARG, "option \"%s\": expected NAME=VALUE", at);
        }
        at = stop ? stop + 1 : NULL;
    }
    mmf_free(plan->ctx, copy);
    return status;
}

static mmf_status configure(mmf_plan *plan)
{
    for (size_t i = 0; i < plan->n_candidates; i++)
        MMF_TRY(mmf_config_create(plan->ctx, &plan->candidates[i].config, plan->candidates[i].def));
    if (plan->options->set)
        MMF_TRY(set_options(plan, plan->options->set));
    const char *const encoders = plan->options->encoders;
    if (!encoders || !*encoders)
        return MMF_OK;
    MMF_TRY(mmf_encoder_check_list(plan->ctx, encoders, &plan->schema,
                                   mmf_dataset_path(plan->dataset)));
    return set_everywhere(plan, "encoder", encoders);
}

/* ---- Splits ------------------------------------------------------------------------------ */

/* The rows of `from` that are not in `without`; both ascending. */
static int64_t subtract(int64_t *out, const int64_t *from, int64_t n_from, const int64_t *without,
                        int64_t n_without)
{
    int64_t n = 0, j = 0;
    for (int64_t i = 0; i < n_from; i++) {
        while (j < n_without && without[j] < from[i])
            j++;
        if (j == n_without || without[j] != from[i])
            out[n++] = from[i];
    }
    return n;
}

/* Without test rows a fold is the test part, the next one validation, the others train: each row
 * is tested once by models that never saw it. */
static mmf_status nest_folds(mmf_plan *plan, mmf_split *split, mmf_split_options *options)
{
    if (options->n_folds < 3)
        return mmf_fail(plan->ctx, MMF_ARG,
                        "%s has no test rows: %lld folds leave nothing to train on beside a test "
                        "and a validation fold; use 3 or more",
                        mmf_dataset_path(plan->dataset), (long long)options->n_folds);
    mmf_split next = {0};
    options->fold = (options->fold + 1) % options->n_folds;
    MMF_TRY(mmf_split_make(plan->ctx, &next, plan->dataset, options));
    split->count[MMF_TRAIN] =
        subtract(split->rows[MMF_TRAIN], split->rows[MMF_TRAIN], split->count[MMF_TRAIN],
                 next.rows[MMF_VALID], next.count[MMF_VALID]);
    mmf_free(plan->ctx, split->rows[MMF_TEST]);
    split->rows[MMF_TEST] = split->rows[MMF_VALID];
    split->count[MMF_TEST] = split->count[MMF_VALID];
    split->rows[MMF_VALID] = next.rows[MMF_VALID];
    split->count[MMF_VALID] = next.count[MMF_VALID];
    next.rows[MMF_VALID] = NULL;
    mmf_split_clear(plan->ctx, &next);
    return MMF_OK;
}

static mmf_status make_splits(mmf_plan *plan)
{
    mmf_split_options options = plan->options->split;
    const int64_t n_folds = options.n_folds, first = options.fold;
    plan->n_splits = n_folds > 0 ? plan->n_seeds : 1;
    plan->splits = mmf_alloc_zero(plan->ctx, plan->n_splits, sizeof *plan->splits);
    if (!plan->splits)
        return MMF_NOMEM;
    for (size_t i = 0; i < plan->n_splits; i++) {
        mmf_split *const split = &plan->splits[i];
        options.fold = n_folds > 0 ? (first + (int64_t)i) % n_folds : first;
        MMF_TRY(mmf_split_make(plan->ctx, split, plan->dataset, &options));
        if (n_folds > 0 && split->count[MMF_TEST] == 0)
            MMF_TRY(nest_folds(plan, split, &options));
    }
    return MMF_OK;
}

/* ---- Fingerprints ------------------------------------------------------------------------ */

static void add_rows(mmf_text *text, const mmf_split *split)
{
    for (int part = 0; part < 3; part++) {
        mmf_text_add(text, "|%lld:", (long long)split->count[part]);
        mmf_text_add_bytes(text, (const char *)split->rows[part],
                           (size_t)split->count[part] * sizeof *split->rows[part]);
    }
}

static void add_training(mmf_text *text, const mmf_train_options *o)
{
    mmf_text_add(text, "|%lld %lld %lld %d %.17g %.17g %lld %s %.17g %d %d %d %d",
                 (long long)o->epochs, (long long)o->batch, (long long)o->patience,
                 (int)o->schedule, o->warmup, o->factor, (long long)o->period,
                 o->loss ? o->loss : "", o->smoothing, o->balance, o->refit, o->no_normalise,
                 (int)o->rules);
    mmf_text_add(text, "|%.17g %lld", o->modality_dropout, (long long)o->modality_dropout_rise);
    if (o->augment)
        mmf_text_add(text, "|%s", o->augment);
    if (o->aid)
        mmf_text_add(text, "|%s", o->aid);
    const mmf_optimizer_options *const p = &o->optimizer;
    mmf_text_add(text, "|%d %.17g %.17g %.17g %.17g %.17g %.17g %.17g %.17g", (int)p->kind, p->lr,
                 p->beta1, p->beta2, p->eps, p->momentum, p->weight_decay, p->clip_norm,
                 p->clip_value);
    for (int g = 0; g < MMF_MAX_GROUPS; g++)
        mmf_text_add(text, " %.17g", p->group_lr[g]);
}

static void add_inputs(mmf_text *text, const mmf_schema *schema)
{
    for (size_t m = 0; m < schema->count; m++)
        mmf_text_add(text, "|%s %d", schema->inputs[m].name, (int)schema->inputs[m].kind);
}

/* Everything that decides a trial's scores: a finished trial is kept only under the same. */
mmf_status mmf_plan__fingerprint(mmf_plan *plan, size_t trial)
{
    const mmf_candidate *const c = mmf_plan__candidate(plan, trial);
    const uint64_t common = plan->common[plan->n_splits == 1 ? 0 : trial % plan->n_seeds];
    char *const config = mmf_config_json(c->config);
    mmf_text text = {.ctx = plan->ctx};
    mmf_text_add(&text, "%s %s %llu %llu %s", mmf_version(), c->name,
                 (unsigned long long)plan->out->trials[trial].seed, (unsigned long long)common,
                 config ? config : "");
    if (c->lr > 0)
        mmf_text_add(&text, " %.17g", c->lr);
    plan->fingerprints[trial] = text.data ? mmf_rng_stream(text.data) : 0;
    const bool ok = config && text.status == MMF_OK;
    mmf_text_clear(&text);
    mmf_free(plan->ctx, config);
    return ok ? MMF_OK : MMF_NOMEM;
}

/* FNV-1a. */
static uint64_t hash(const char *bytes, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

static mmf_status make_fingerprints(mmf_plan *plan)
{
    plan->fingerprints = mmf_alloc_zero(plan->ctx, plan->out->n_trials, sizeof *plan->fingerprints);
    plan->common = mmf_alloc_zero(plan->ctx, plan->n_splits, sizeof *plan->common);
    mmf_status status = plan->fingerprints && plan->common ? MMF_OK : MMF_NOMEM;
    for (size_t i = 0; status == MMF_OK && i < plan->n_splits; i++) {
        mmf_text text = {.ctx = plan->ctx};
        mmf_text_add(&text, "%016llx", (unsigned long long)mmf_dataset_fingerprint(plan->dataset));
        add_inputs(&text, &plan->schema);
        add_training(&text, &plan->options->train);
        add_rows(&text, &plan->splits[i]);
        plan->common[i] = hash(text.data, text.length);
        status = text.status;
        mmf_text_clear(&text);
    }
    for (size_t t = 0; status == MMF_OK && t < plan->out->n_trials; t++)
        status = mmf_plan__fingerprint(plan, t);
    return status;
}

/* ---- The plan ---------------------------------------------------------------------------- */

static mmf_status check_options(mmf_plan *plan)
{
    const mmf_compare_options *const o = plan->options;
    if (!o->folder || !*o->folder)
        return mmf_fail(plan->ctx, MMF_ARG, "a comparison needs a folder for its results");
    if (o->n_seeds < 0 || o->n_seeds > MMF_COMPARE_MAX_SEEDS)
        return mmf_fail(plan->ctx, MMF_ARG, "%lld seeds, expected 1 to %d", (long long)o->n_seeds,
                        MMF_COMPARE_MAX_SEEDS);
    if (o->n_tune < 0 || o->n_tune > MMF_COMPARE_MAX_DRAWS)
        return mmf_fail(plan->ctx, MMF_ARG, "%lld settings to try, expected 1 to %d, or 0",
                        (long long)o->n_tune, MMF_COMPARE_MAX_DRAWS);
    if (o->n_jobs < 0)
        return mmf_fail(plan->ctx, MMF_ARG, "%d trials side by side, expected 1 or more",
                        o->n_jobs);
    if (o->split.n_folds < 0 || o->split.n_folds > MMF_COMPARE_MAX_SEEDS)
        return mmf_fail(plan->ctx, MMF_ARG, "%lld folds, expected 2 to %d",
                        (long long)o->split.n_folds, MMF_COMPARE_MAX_SEEDS);
    if (plan->out->task.kind == MMF_TARGET_NONE)
        return mmf_fail(plan->ctx, MMF_ARG, "%s has no target to learn; name one with --target",
                        mmf_dataset_path(plan->dataset));
    if (plan->out->task.kind == MMF_TARGET_PRETRAINING)
        return mmf_fail(plan->ctx, MMF_UNSUPPORTED,
                        "losses of pre-training are not comparable between models; pre-train with "
                        "`mmfuse train`, and compare on a target");
    plan->n_seeds = o->n_seeds > 0     ? (size_t)o->n_seeds
                    : o->split.n_folds ? (size_t)o->split.n_folds
                                       : DEFAULT_SEEDS;
    return MMF_OK;
}

/* The task's strings are the data set's, which need not outlive the comparison. */
static mmf_status own_task(mmf_plan *plan)
{
    mmf_task *const task = &plan->out->task;
    char **const spare = plan->out->names + plan->n_candidates;
    spare[0] = mmf_strdup(plan->ctx, task->target ? task->target : "label");
    if (!spare[0])
        return MMF_NOMEM;
    task->target = spare[0];
    if (!task->class_names)
        return MMF_OK;
    const char **const names =
        mmf_alloc_zero(plan->ctx, (size_t)task->n_outputs + 1, sizeof *names);
    if (!names)
        return MMF_NOMEM;
    for (int64_t k = 0; k < task->n_outputs; k++) {
        spare[1 + k] = mmf_strdup(plan->ctx, task->class_names[k]);
        if (!spare[1 + k]) {
            mmf_free(plan->ctx, names);
            return MMF_NOMEM;
        }
        names[k] = spare[1 + k];
    }
    mmf_free(plan->ctx, (void *)(uintptr_t)task->class_names);
    task->class_names = names;
    return MMF_OK;
}

static mmf_status make_rows(mmf_plan *plan)
{
    mmf_comparison *const out = plan->out;
    out->n_trials = plan->n_candidates * plan->n_seeds;
    out->trials = mmf_alloc_zero(plan->ctx, out->n_trials, sizeof *out->trials);
    out->leaders = mmf_alloc_zero(plan->ctx, plan->n_candidates, sizeof *out->leaders);
    if (!out->trials || !out->leaders) {
        out->n_trials = 0;
        return MMF_NOMEM;
    }
    for (size_t t = 0; t < out->n_trials; t++) {
        const mmf_candidate *const c = mmf_plan__candidate(plan, t);
        mmf_trial *const trial = &out->trials[t];
        trial->model = c->name;
        trial->seed = plan->options->train.seed + t % plan->n_seeds;
        trial->status = c->is_refused ? MMF_UNSUPPORTED : MMF_STATE;
        memcpy(trial->error, c->refusal, sizeof trial->error);
    }
    return MMF_OK;
}

static mmf_status make_folders(mmf_plan *plan)
{
    static const char *const names[] = {"trials", "predictions", "unimodal", "tune"};
    const size_t n = sizeof names / sizeof *names - (plan->out->n_draws == 0);
    for (size_t i = 0; i < n; i++) {
        mmf_text path = {.ctx = plan->ctx};
        mmf_text_add(&path, "%s/%s", plan->options->folder, names[i]);
        const mmf_status status = path.data ? mmf_make_folder(plan->ctx, path.data) : path.status;
        if (i == 2 && status == MMF_OK)
            plan->unimodal = path.data; /* the plan's from here on */
        else
            mmf_text_clear(&path);
        MMF_TRY(status);
    }
    return MMF_OK;
}

mmf_status mmf_plan__make(mmf_plan *plan)
{
    mmf_comparison *const out = plan->out;
    out->data = mmf_strdup(plan->ctx, mmf_dataset_path(plan->dataset));
    if (!out->data)
        return MMF_NOMEM;
    MMF_TRY(mmf_task_of(plan->ctx, &out->task, plan->dataset, plan->options->train.rules));
    MMF_TRY(check_options(plan));
    mmf_loss_list losses = {0};
    MMF_TRY(mmf_loss_list_parse(plan->ctx, &losses, plan->options->train.loss));
    MMF_TRY(mmf_loss_list_check_task(plan->ctx, &losses, &out->task));
    plan->contrasts = mmf_loss_list_contrasts(&losses);
    MMF_TRY(mmf_schema_of(plan->ctx, &plan->schema, plan->dataset, NULL));
    mmf_schema_may_drop(&plan->schema, &plan->options->train);
    MMF_TRY(mmf_train__warn_of_gaps(plan->ctx, plan->dataset));
    MMF_TRY(choose_models(plan));
    MMF_TRY(own_task(plan));
    MMF_TRY(configure(plan));
    MMF_TRY(make_rows(plan));
    MMF_TRY(make_splits(plan));
    MMF_TRY(make_fingerprints(plan));
    MMF_TRY(mmf_plan__make_draws(plan));
    MMF_TRY(make_folders(plan));
    MMF_TRY(mmf_lock_folder(plan->ctx, plan->options->folder, &plan->lock));
    const int n_jobs = plan->options->n_jobs ? plan->options->n_jobs : mmf_ctx_threads(plan->ctx);
    const size_t n_all = out->n_trials + out->n_draws;
    plan->n_side_by_side = (size_t)n_jobs < n_all ? (size_t)n_jobs : n_all;
    plan->n_threads = mmf_jobs_threads(plan->ctx, plan->n_side_by_side);
    return MMF_OK;
}

void mmf_plan__clear(mmf_plan *plan)
{
    for (size_t i = 0; i < plan->n_candidates; i++)
        mmf_config_free(plan->candidates[i].config);
    for (size_t i = 0; plan->splits && i < plan->n_splits; i++)
        mmf_split_clear(plan->ctx, &plan->splits[i]);
    mmf_free(plan->ctx, plan->candidates);
    mmf_free(plan->ctx, plan->splits);
    mmf_free(plan->ctx, plan->fingerprints);
    mmf_free(plan->ctx, plan->common);
    for (size_t i = 0; plan->tunings && i < plan->out->n_draws; i++)
        mmf_config_free(plan->tunings[i].config);
    mmf_free(plan->ctx, plan->tunings);
    mmf_free(plan->ctx, plan->unimodal);
    mmf_free(plan->ctx, plan->schema.inputs);
    mmf_unlock_folder(plan->lock);
}
