/*
 * checkpoint.c: the state of a fit on disk, so that an interrupted run goes on with the same bits.
 *
 * A safetensors file: the flat blocks of parameters, moments, buffers and the best weights; the
 * position in the run as metadata, numbers with all their digits.
 */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/trainer.h"

/* Of the model; of every loss over features and every aid: values and two moments; of every aid:
 * what it remembers. */
#define N_MODEL_BLOCKS 7
#define N_BLOCKS (N_MODEL_BLOCKS + 3 * MMF_MAX_AUXILIARY + 4 * MMF_MAX_AIDS)

typedef struct block {
    char name[40];
    mmf_real *data;
    int64_t count;
} block;

/* Values and moments of what stands beside the model and learns. */
static size_t list_learner(const char *kind, size_t i, mmf_module *module,
                           const mmf_optimizer *optimizer, block *out)
{
    size_t n = 0;
    if (!optimizer)
        return 0;
    mmf_params *const params = mmf_module_params(module);
    mmf_real *const data[] = {mmf_params_values(params), mmf_optimizer_moment(optimizer, 0),
                              mmf_optimizer_moment(optimizer, 1)};
    for (int k = 0; k < 3; k++) {
        if (!data[k])
            continue;
        out[n] = (block){.data = data[k], .count = mmf_params_size(params)};
        snprintf(out[n++].name, sizeof out->name, "%s.%zu.%d", kind, i, k);
    }
    return n;
}

static size_t list_beside(const mmf_fit_state *s, block *out)
{
    size_t n = 0;
    for (size_t i = 0; s->auxiliary && i < s->auxiliary->count; i++)
        n +=
            list_learner("loss", i, s->auxiliary->modules[i], s->auxiliary->optimizers[i], out + n);
    for (size_t i = 0; s->aids && i < s->aids->count; i++) {
        const mmf_aid *const aid = &s->aids->aids[i];
        n += list_learner("aid", i, aid->heads, aid->optimizer, out + n);
        if (aid->n_state == 0)
            continue;
        out[n] = (block){.data = aid->state, .count = aid->n_state};
        snprintf(out[n++].name, sizeof out->name, "aid.%zu.state", i);
    }
    return n;
}

static size_t list_blocks(const mmf_fit_state *s, block *out)
{
    const int64_t size = mmf_params_size(s->params), state = mmf_params_state_size(s->params);
    const block all[N_MODEL_BLOCKS] = {
        {"values", mmf_params_values(s->params), size},
        {"state", mmf_params_state(s->params), state},
        {"moment.0", mmf_optimizer_moment(s->optimizer, 0), size},
        {"moment.1", mmf_optimizer_moment(s->optimizer, 1), size},
        {"best.values", s->best_values, size},
        {"best.state", s->best_state, state},
        {"curve", s->curve, 3 * s->most_epochs},
    };
    size_t n = 0;
    for (size_t i = 0; i < N_MODEL_BLOCKS; i++) {
        if (all[i].data && all[i].count > 0)
            out[n++] = all[i];
    }
    return n + list_beside(s, out + n);
}

/* Integers and exact doubles ("%a") in a fixed order. */
static void write_progress(const mmf_fit_state *s, char *out, size_t size)
{
    const mmf_fit_progress *const p = &s->progress;
    snprintf(
        out, size, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %a %a %a %a %a %a",
        mmf_optimizer_steps(s->optimizer), p->epoch, p->step, p->best_epoch, p->plateau_bad,
        p->loss_sum, p->best_loss, p->last_loss, p->plateau_scale, p->plateau_best, p->seconds);
}

static bool read_progress(mmf_fit_state *s, const char *text)
{
    int64_t whole[5] = {0};
    double real[6] = {0};
    char *end = NULL;
    for (int i = 0; i < 5; i++, text = end) {
        whole[i] = strtoll(text, &end, 10);
        if (end == text || whole[i] < 0)
            return false;
    }
    for (int i = 0; i < 6; i++, text = end) {
        real[i] = strtod(text, &end);
        if (end == text)
            return false;
    }
    mmf_optimizer_set_steps(s->optimizer, whole[0]);
    for (size_t i = 0; s->auxiliary && i < s->auxiliary->count; i++) {
        if (s->auxiliary->optimizers[i])
            mmf_optimizer_set_steps(s->auxiliary->optimizers[i], whole[0]);
    }
    for (size_t i = 0; s->aids && i < s->aids->count; i++) {
        if (s->aids->aids[i].optimizer)
            mmf_optimizer_set_steps(s->aids->aids[i].optimizer, whole[0]);
    }
    s->progress = (mmf_fit_progress){.epoch = whole[1],
                                     .step = whole[2],
                                     .best_epoch = whole[3],
                                     .plateau_bad = whole[4],
                                     .loss_sum = real[0],
                                     .best_loss = real[1],
                                     .last_loss = real[2],
                                     .plateau_scale = real[3],
                                     .plateau_best = real[4],
                                     .seconds = real[5]};
    return true;
}

void mmf_checkpoint_path(const mmf_fit *fit, char *out, size_t size)
{
    const char *const path = fit->options->checkpoint;
    snprintf(out, size, "%s%s%s", path ? path : "", path && *fit->stage ? "." : "",
             path ? fit->stage : "");
}

/* "refit" or "only-<modality>..." behind "<name>.": the stages that fits give themselves. */
static bool is_stage_of(const char *entry, const char *name)
{
    const size_t n = strlen(name);
    if (strncmp(entry, name, n) != 0 || entry[n] != '.')
        return false;
    return strcmp(entry + n + 1, "refit") == 0 || strncmp(entry + n + 1, "only-", 5) == 0;
}

/* Whether a run left anything at `checkpoint`; `removes` takes it away. */
static bool look_for_stages(const char *checkpoint, bool removes)
{
    char folder[1024], path[2048];
    const char *const slash = strrchr(checkpoint, '/');
    const char *const name = slash ? slash + 1 : checkpoint;
    const int n = snprintf(folder, sizeof folder, "%.*s", (int)(name - checkpoint), checkpoint);
    if (n < 0 || (size_t)n >= sizeof folder)
        return false;
    bool found = access(checkpoint, F_OK) == 0;
    if (removes)
        unlink(checkpoint);
    DIR *const listing = opendir(*folder ? folder : ".");
    for (const struct dirent *e = listing ? readdir(listing) : NULL; e; e = readdir(listing)) {
        if (!is_stage_of(e->d_name, name))
            continue;
        found = true;
        if (!removes)
            break;
        snprintf(path, sizeof path, "%s%s", folder, e->d_name);
        unlink(path);
    }
    if (listing)
        closedir(listing);
    return found;
}

void mmf_train_forget(const char *checkpoint)
{
    (void)look_for_stages(checkpoint, true);
}

bool mmf_checkpoint_exists(const char *checkpoint)
{
    return look_for_stages(checkpoint, false);
}

mmf_status mmf_checkpoint_save(mmf_ctx *ctx, const mmf_fit_state *state, const char *path)
{
    block blocks[N_BLOCKS];
    mmf_named_array arrays[N_BLOCKS];
    char progress[512];
    const size_t n = list_blocks(state, blocks);
    for (size_t i = 0; i < n; i++)
        arrays[i] = (mmf_named_array){blocks[i].name,
                                      {.dtype = MMF_F32,
                                       .n_dims = 1,
                                       .shape = {blocks[i].count},
                                       .item_bytes = sizeof(mmf_real),
                                       .data = blocks[i].data}};
    write_progress(state, progress, sizeof progress);
    const mmf_metadata metadata[] = {{"fingerprint", state->fingerprint}, {"progress", progress}};
    return mmf_safetensors_save(ctx, path, arrays, n, metadata, 2);
}

static mmf_status load_blocks(mmf_ctx *ctx, mmf_archive *archive, const mmf_fit_state *state)
{
    block blocks[N_BLOCKS];
    const size_t n = list_blocks(state, blocks);
    for (size_t i = 0; i < n; i++) {
        const int64_t place = mmf_archive_find(archive, blocks[i].name);
        mmf_array array = {0};
        if (place >= 0)
            MMF_TRY(mmf_archive_load(archive, (size_t)place, &array));
        if (place < 0 || array.dtype != MMF_F32 || mmf_array_count(&array) != blocks[i].count)
            return mmf_fail(ctx, MMF_FORMAT, "%s: %s is missing or has another size",
                            mmf_archive_path(archive), blocks[i].name);
        memcpy(blocks[i].data, array.data, (size_t)blocks[i].count * sizeof(mmf_real));
    }
    return MMF_OK;
}

/* The word of a fingerprint that is of the data: a seed and the hash of options follow. */
static const char *data_word(const char *fingerprint)
{
    const char *at = fingerprint + strlen(fingerprint);
    for (int n_spaces = 0; at > fingerprint; at--) {
        n_spaces += at[-1] == ' ';
        if (n_spaces == 3)
            break;
    }
    return at;
}

static mmf_status fail_other_run(mmf_ctx *ctx, const char *path, const char *found,
                                 const char *wanted)
{
    const char *const a = data_word(found), *const b = data_word(wanted);
    const size_t n = strcspn(a, " ");
    if (n != strcspn(b, " ") || strncmp(a, b, n) != 0)
        return mmf_fail(ctx, MMF_STATE,
                        "%s: belongs to a run on other data: another file or version of it, or "
                        "what is read of it differs; remove it, or give the data of that run",
                        path);
    return mmf_fail(ctx, MMF_STATE,
                    "%s: belongs to a run with another model, other rows or options; remove it, or "
                    "give the options of that run",
                    path);
}

static mmf_status read_state(mmf_ctx *ctx, mmf_archive *archive, mmf_fit_state *state)
{
    const char *const fingerprint = mmf_archive_metadata(archive, "fingerprint");
    const char *const progress = mmf_archive_metadata(archive, "progress");
    if (!fingerprint || !progress)
        return mmf_fail(ctx, MMF_FORMAT, "%s: not a checkpoint", mmf_archive_path(archive));
    if (strcmp(fingerprint, state->fingerprint) != 0)
        return fail_other_run(ctx, mmf_archive_path(archive), fingerprint, state->fingerprint);
    MMF_TRY(load_blocks(ctx, archive, state));
    if (!read_progress(state, progress))
        return mmf_fail(ctx, MMF_FORMAT, "%s: the position in the run is damaged",
                        mmf_archive_path(archive));
    return MMF_OK;
}

mmf_status mmf_checkpoint_load(mmf_ctx *ctx, mmf_fit_state *state, const char *path, bool *found)
{
    *found = access(path, F_OK) == 0;
    if (!*found)
        return MMF_OK;
    mmf_mapping mapping = {0};
    mmf_archive *archive = NULL;
    MMF_TRY(mmf_map_open(ctx, &mapping, path));
    mmf_status status = mmf_archive_open_memory(ctx, &archive, path, "safetensors", mapping.bytes,
                                                mapping.n_bytes, NULL);
    if (status == MMF_OK)
        status = read_state(ctx, archive, state);
    mmf_archive_close(archive);
    mmf_map_close(&mapping);
    return status;
}
