/* augment.c: see augment.h. He et al., Deep residual learning, CVPR 2016, section 4.2: pictures are
 * padded, cut at a random place and mirrored. */
#include "data/augment.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "data/dataset.h"

#define USUAL_CROP 4
#define USUAL_FLIP 0.5
#define MAX_ENTRY 700

/* ---- The option -------------------------------------------------------------------------- */

static mmf_status find_row(mmf_augment *augment, const mmf_dataset *ds, const char *name,
                           mmf_augmentation **out)
{
    const int64_t place = mmf_dataset_find(ds, name);
    if (place < 0) {
        mmf_text list = {.ctx = augment->ctx};
        for (size_t i = 0; i < ds->n_modalities; i++)
            mmf_text_add(&list, "%s%s", i ? ", " : "", ds->modalities[i].view.name);
        const mmf_status status =
            list.status == MMF_OK
                ? mmf_fail(augment->ctx, MMF_ARG, "augment: no modality \"%s\"; there are: %s",
                           name, list.data)
                : list.status;
        mmf_text_clear(&list);
        return status;
    }
    if (ds->modalities[place].view.kind != MMF_IMAGE)
        return mmf_fail(augment->ctx, MMF_ARG,
                        "augment: \"%s\" is a %s; pictures are moved and mirrored", name,
                        mmf_modality_kind_name(ds->modalities[place].view.kind));
    for (size_t i = 0; i < augment->count; i++) {
        if (augment->rows[i].modality == (size_t)place) {
            *out = &augment->rows[i];
            return MMF_OK;
        }
    }
    *out = &augment->rows[augment->count++];
    **out = (mmf_augmentation){.modality = (size_t)place};
    return MMF_OK;
}

/* "image=crop:4" */
static mmf_status parse_entry(mmf_augment *augment, const mmf_dataset *ds, const char *entry)
{
    char modality[MAX_ENTRY], name[16] = "";
    mmf_augmentation *row = NULL;
    const size_t n_modality = strcspn(entry, "=");
    const char *const what = entry + n_modality + (entry[n_modality] == '=');
    const size_t n_name = strcspn(what, ":");
    snprintf(modality, sizeof modality, "%.*s", (int)n_modality, entry);
    snprintf(name, sizeof name, "%.*s", (int)n_name, what);
    double value = NAN;
    const bool has_value = what[n_name] == ':';
    const bool is_number =
        has_value && mmf_text_number(what + n_name + 1, strlen(what + n_name + 1), &value);
    MMF_TRY(find_row(augment, ds, modality, &row));
    const int64_t *const shape = ds->modalities[row->modality].view.shape;
    const int64_t side = shape[1] < shape[2] ? shape[1] : shape[2];
    if (strcmp(name, "crop") == 0) {
        row->crop = has_value ? (int64_t)value : USUAL_CROP;
        if ((has_value && !is_number) || !(row->crop >= 0 && row->crop < side) ||
            (has_value && value != (double)row->crop))
            return mmf_fail(augment->ctx, MMF_ARG,
                            "augment: \"%s\": crop takes whole pixels from 0 to %lld", entry,
                            (long long)side - 1);
        return MMF_OK;
    }
    if (strcmp(name, "flip") == 0) {
        row->flip = has_value ? value : USUAL_FLIP;
        if ((has_value && !is_number) || !(row->flip >= 0 && row->flip <= 1))
            return mmf_fail(augment->ctx, MMF_ARG,
                            "augment: \"%s\": flip takes a probability from 0 to 1", entry);
        return MMF_OK;
    }
    return mmf_fail(augment->ctx, MMF_ARG,
                    "augment: \"%s\": expected MODALITY=crop:PIXELS or MODALITY=flip:PROBABILITY",
                    entry);
}

mmf_status mmf_augment_parse(mmf_ctx *ctx, mmf_augment *out, const mmf_dataset *dataset,
                             const char *text)
{
    *out = (mmf_augment){.ctx = ctx};
    if (!text || !*text)
        return MMF_OK;
    out->rows = mmf_alloc_zero(ctx, dataset->n_modalities + 1, sizeof *out->rows);
    if (!out->rows)
        return MMF_NOMEM;
    for (const char *at = text; *at;) {
        char entry[MAX_ENTRY];
        const size_t n = strcspn(at, ",");
        if (n == 0 || n >= sizeof entry)
            return mmf_fail(ctx, MMF_ARG, "augment: \"%.80s\": expected MODALITY=crop:PIXELS", at);
        snprintf(entry, sizeof entry, "%.*s", (int)n, at);
        MMF_TRY(parse_entry(out, dataset, entry));
        at += n + (at[n] == ',');
    }
    return MMF_OK;
}

void mmf_augment_clear(mmf_augment *augment)
{
    if (!augment->ctx)
        return;
    mmf_free(augment->ctx, augment->rows);
    *augment = (mmf_augment){.ctx = augment->ctx};
}

/* ---- Pictures ---------------------------------------------------------------------------- */

/* Moves a row of the plane to another place in it, or to its own. */
static void move_row(const float *from, float *to, int64_t width, int64_t right)
{
    const int64_t n = width - (right > 0 ? right : -right);
    memmove(to + (right > 0 ? right : 0), from + (right < 0 ? -right : 0), (size_t)n * sizeof *to);
    memset(right > 0 ? to : to + n, 0, (size_t)(width - n) * sizeof *to);
}

/* Moves a plane in its place; what comes in from outside is 0, the mean of normalised pictures.
 * Rows are taken in the order in which none is written before it was read. */
static void move_plane(float *plane, int64_t height, int64_t width, int64_t down, int64_t right)
{
    for (int64_t i = 0; i < height; i++) {
        const int64_t y = down > 0 ? height - 1 - i : i;
        if (y - down >= 0 && y - down < height)
            move_row(plane + (y - down) * width, plane + y * width, width, right);
        else
            memset(plane + y * width, 0, (size_t)width * sizeof *plane);
    }
}

static void mirror_rows(float *values, int64_t n_rows, int64_t width)
{
    for (int64_t y = 0; y < n_rows; y++) {
        float *const row = values + y * width;
        for (int64_t a = 0, b = width - 1; a < b; a++, b--) {
            const float kept = row[a];
            row[a] = row[b];
            row[b] = kept;
        }
    }
}

static void change_picture(const mmf_augmentation *row, const int64_t *shape, float *values,
                           mmf_rng *rng)
{
    const int64_t plane = shape[1] * shape[2];
    /* All draws are made, so that one option does not change what another one does. */
    const uint64_t choices = 2 * (uint64_t)row->crop + 1;
    const int64_t down = (int64_t)mmf_rng_below(rng, choices) - row->crop;
    const int64_t right = (int64_t)mmf_rng_below(rng, choices) - row->crop;
    const bool flips = mmf_rng_uniform(rng) < row->flip;
    for (int64_t c = 0; c < shape[0] && (down != 0 || right != 0); c++)
        move_plane(values + c * plane, shape[1], shape[2], down, right);
    if (flips)
        mirror_rows(values, shape[0] * shape[1], shape[2]);
}

void mmf_augment_batch(const mmf_augment *augment, mmf_batch *batch, const mmf_dataset *dataset,
                       uint64_t seed, uint64_t step)
{
    for (size_t i = 0; i < augment->count; i++) {
        const mmf_augmentation *const row = &augment->rows[i];
        const mmf_data_modality *const m = &dataset->modalities[row->modality];
        float *const values = batch->inputs[row->modality].values;
        if (!values || !(batch->wanted >> row->modality & 1))
            continue;
        for (int64_t b = 0; b < batch->n_rows; b++) {
            mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream("augment") + step);
            rng.counter = ((uint64_t)row->modality << 40 | (uint64_t)b) << 4;
            change_picture(row, m->view.shape, values + b * m->row, &rng);
        }
    }
}
