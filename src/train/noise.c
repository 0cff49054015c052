/* noise.c: see noise.h. */
#include "train/noise.h"

#include <math.h>

#include "train/trainer.h"

/* ---- Kinds ------------------------------------------------------------------------------- */

const char *mmf_noise_name(mmf_noise_kind kind)
{
    static const char *const names[] = {"gaussian", "entry-drop", "step-drop", "modality-drop"};
    return names[kind];
}

bool mmf_noise_applies(mmf_noise_kind noise, mmf_modality_kind kind)
{
    switch (noise) {
    case MMF_NOISE_GAUSSIAN:
    case MMF_NOISE_ENTRY_DROP:
        return kind != MMF_TOKENS;
    case MMF_NOISE_STEP_DROP:
        return mmf_modality_has_steps(kind);
    case MMF_NOISE_MODALITY_DROP:
        return true;
    case MMF_NOISE_COUNT:
        break;
    }
    return false;
}

/* ---- Layout of a sample ------------------------------------------------------------------ */

/* Value i of a sample belongs to feature i / inner % n_features. */
typedef struct layout {
    int64_t size, step, inner, n_features;
    int64_t n_steps; /* 1 unless the modality has steps */
} layout;

static layout layout_of(const mmf_input_schema *in)
{
    layout l = {.size = 1, .step = 1, .inner = 1, .n_steps = 1};
    for (int d = 0; d < in->n_dims; d++)
        l.size *= in->shape[d];
    if (mmf_modality_has_steps(in->kind))
        l.n_steps = in->shape[0];
    l.inner = mmf_input_pixels(in);
    l.step = l.size / l.n_steps;
    l.n_features = mmf_input_features(in);
    return l;
}

static bool is_there(const mmf_batch_input *in, int64_t b)
{
    return !in->present || in->present[b] != 0;
}

/* Steps of sample `b` that hold something. */
static int64_t steps_of(const layout *l, const mmf_batch_input *in, int64_t b)
{
    return in->length && l->n_steps > 1 ? in->length[b] : l->n_steps;
}

/* ---- Scale ------------------------------------------------------------------------------- */

typedef struct scale_pass {
    mmf_noise_scale *scale;
    const mmf_schema *inputs;
} scale_pass;

/* Welford's update, so that a large mean does not swallow a small deviation. */
static void count_value(mmf_noise_scale *s, size_t m, int64_t f, double n, double x)
{
    const double before = x - s->mean[m][f];
    s->mean[m][f] += before / n;
    s->deviation[m][f] += before * (x - s->mean[m][f]);
}

static void count_sample(mmf_noise_scale *s, size_t m, const layout *l, const float *values,
                         int64_t n_steps)
{
    for (int64_t t = 0; t < n_steps; t++) {
        for (int64_t i = 0; i < l->inner; i++) {
            s->n_values[m]++;
            for (int64_t f = 0; f < l->n_features; f++)
                count_value(s, m, f, s->n_values[m],
                            (double)values[t * l->step + f * l->inner + i]);
        }
    }
}

static void count_batch(void *user, mmf_batch *batch, const size_t *map, const int64_t *rows)
{
    (void)rows;
    const scale_pass *const pass = user;
    for (size_t m = 0; m < pass->inputs->count; m++) {
        const layout l = layout_of(&pass->inputs->inputs[m]);
        const mmf_batch_input *const in = &batch->inputs[map[m]];
        for (int64_t b = 0; l.n_features > 0 && b < batch->n_rows; b++) {
            if (is_there(in, b))
                count_sample(pass->scale, m, &l, in->values + b * l.size, steps_of(&l, in, b));
        }
    }
}

mmf_status mmf_noise_scale_fit(mmf_ctx *ctx, mmf_noise_scale *out, mmf_model *model,
                               mmf_dataset *dataset, const int64_t *rows, int64_t n_rows)
{
    const mmf_schema *const inputs = mmf_model_inputs(model);
    *out = (mmf_noise_scale){.n_modalities = inputs->count};
    out->n_features = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *out->n_features);
    out->mean = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *out->mean);
    out->deviation = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *out->deviation);
    out->n_values = mmf_alloc_zero(ctx, inputs->count + 1, sizeof *out->n_values);
    if (!out->n_features || !out->mean || !out->deviation || !out->n_values)
        return MMF_NOMEM;
    for (size_t m = 0; m < inputs->count; m++) {
        const layout l = layout_of(&inputs->inputs[m]);
        out->n_features[m] = l.n_features;
        out->mean[m] = mmf_alloc_zero(ctx, (size_t)l.n_features + 1, sizeof(double));
        out->deviation[m] = mmf_alloc_zero(ctx, (size_t)l.n_features + 1, sizeof(double));
        if (!out->mean[m] || !out->deviation[m])
            return MMF_NOMEM;
    }
    scale_pass pass = {out, inputs};
    const mmf_inference how = {.use = MMF_ALL_MODALITIES, .change = count_batch, .user = &pass};
    MMF_TRY(mmf_model__predict_rows(model, dataset, rows, n_rows, &how, NULL));
    for (size_t m = 0; m < inputs->count; m++) {
        for (int64_t f = 0; f < out->n_features[m] && out->n_values[m] > 0; f++)
            out->deviation[m][f] = sqrt(out->deviation[m][f] / out->n_values[m]);
    }
    return MMF_OK;
}

void mmf_noise_scale_clear(mmf_ctx *ctx, mmf_noise_scale *scale)
{
    for (size_t m = 0; m < scale->n_modalities; m++) {
        if (scale->mean)
            mmf_free(ctx, scale->mean[m]);
        if (scale->deviation)
            mmf_free(ctx, scale->deviation[m]);
    }
    mmf_free(ctx, scale->n_features);
    mmf_free(ctx, scale->mean);
    mmf_free(ctx, scale->deviation);
    mmf_free(ctx, scale->n_values);
    *scale = (mmf_noise_scale){0};
}

/* ---- Damage ------------------------------------------------------------------------------ */

static void add_gaussian(const mmf_noise *noise, size_t m, const layout *l, float *values,
                         int64_t n_steps, mmf_rng *rng)
{
    for (int64_t i = 0; i < n_steps * l->step; i++) {
        const int64_t f = i / l->inner % l->n_features;
        values[i] += (float)(noise->level * noise->scale->deviation[m][f] * mmf_rng_normal(rng));
    }
}

static void drop_entries(const mmf_noise *noise, size_t m, const layout *l, float *values,
                         int64_t n_steps, mmf_rng *rng)
{
    for (int64_t i = 0; i < n_steps * l->step; i++) {
        if (mmf_rng_uniform(rng) < noise->level)
            values[i] = (float)noise->scale->mean[m][i / l->inner % l->n_features];
    }
}

static void drop_steps(const mmf_noise *noise, size_t m, const layout *l, mmf_batch_input *in,
                       int64_t b, mmf_rng *rng)
{
    const int64_t n_steps = steps_of(l, in, b);
    for (int64_t t = 0; t < n_steps; t++) {
        if (mmf_rng_uniform(rng) >= noise->level)
            continue;
        if (in->tokens)
            in->tokens[b * l->size + t] = 0;
        for (int64_t i = 0; !in->tokens && i < l->step; i++)
            in->values[b * l->size + t * l->step + i] =
                (float)noise->scale->mean[m][i / l->inner % l->n_features];
    }
}

static void damage(const mmf_noise *noise, mmf_batch *batch, size_t m, size_t place, int64_t b,
                   mmf_rng *rng)
{
    const layout l = layout_of(&noise->inputs->inputs[m]);
    mmf_batch_input *const in = &batch->inputs[place];
    const int64_t n_steps = steps_of(&l, in, b);
    switch (noise->kind) {
    case MMF_NOISE_GAUSSIAN:
        add_gaussian(noise, m, &l, in->values + b * l.size, n_steps, rng);
        break;
    case MMF_NOISE_ENTRY_DROP:
        drop_entries(noise, m, &l, in->values + b * l.size, n_steps, rng);
        break;
    case MMF_NOISE_STEP_DROP:
        drop_steps(noise, m, &l, in, b, rng);
        break;
    case MMF_NOISE_MODALITY_DROP:
        if (mmf_rng_uniform(rng) < noise->level)
            mmf_batch_drop(batch, noise->dataset, place, b);
        break;
    case MMF_NOISE_COUNT:
        break;
    }
}

static mmf_rng rng_of(const mmf_noise *noise, const char *modality, int64_t row)
{
    return mmf_rng_make(noise->seed * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)row,
                        mmf_rng_stream(modality) ^ mmf_rng_stream(mmf_noise_name(noise->kind)));
}

/* The modality with the largest draw stays: where any draw is above the level, so is that one, and
 * of a row that would lose everything something is left, whatever the order of the inputs. */
static void drop_modalities(const mmf_noise *noise, mmf_batch *batch, const size_t *map,
                            int64_t row, int64_t b)
{
    const size_t n = noise->inputs->count;
    double largest = -1;
    size_t stays = n;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t m = 0; m < n; m++) {
            mmf_rng rng = rng_of(noise, noise->inputs->inputs[m].name, row);
            const double draw = mmf_rng_uniform(&rng);
            if (!is_there(&batch->inputs[map[m]], b))
                continue;
            if (pass == 0 && draw > largest) {
                largest = draw;
                stays = m;
            } else if (pass == 1 && m != stays && draw < noise->level) {
                mmf_batch_drop(batch, noise->dataset, map[m], b);
            }
        }
    }
}

void mmf_noise_apply(void *user, mmf_batch *batch, const size_t *map, const int64_t *rows)
{
    const mmf_noise *const noise = user;
    const size_t n = noise->inputs->count;
    const bool all = noise->on == (UINT64_C(1) << n) - 1;
    if (noise->kind == MMF_NOISE_MODALITY_DROP && all) {
        for (int64_t b = 0; b < batch->n_rows; b++)
            drop_modalities(noise, batch, map, rows[b], b);
        return;
    }
    for (size_t m = 0; m < n; m++) {
        const mmf_input_schema *const in = &noise->inputs->inputs[m];
        if (!(noise->on >> m & 1) || !mmf_noise_applies(noise->kind, in->kind))
            continue;
        /* A stream a modality and kind, a seed a row: the draws do not depend on the other inputs,
         * on the order of rows, or on the level, so curves of one seed rise on the same noise. */
        for (int64_t b = 0; b < batch->n_rows; b++) {
            mmf_rng rng = rng_of(noise, in->name, rows[b]);
            if (is_there(&batch->inputs[map[m]], b))
                damage(noise, batch, m, map[m], b, &rng);
        }
    }
}
