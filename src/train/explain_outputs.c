/*
 * explain_outputs.c: means over samples of what a model puts out beside its prediction: attention,
 * gates, weights of modalities.
 *
 * Those that are to be looked at say what their dimensions are (mmf_named_axes). An output whose
 * first dimension is the batch counts once a sample, any other once a batch.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/explain.h"

#define MAX_OUTPUTS 32
#define MAX_ELEMENTS (INT64_C(1) << 20)
/* A longer axis is told by its length, smallest and largest mean only. */
#define MAX_AXIS 64
#define NAME_BYTES 64

typedef struct output_sums {
    char name[NAME_BYTES];
    int n_dims;
    int64_t shape[MMF_MAX_DIMS]; /* without the batch, and without dimensions of 1 */
    char axes[MMF_MAX_DIMS];     /* the letter of each */
    int64_t count;               /* elements */
    double *sum, *squares;       /* (count) */
    double n, low, high;
    double means, mean_squares; /* of each sample's mean over the elements */
} output_sums;

struct mmf_output_watch {
    mmf_ctx *ctx;
    output_sums outputs[MAX_OUTPUTS];
    size_t count;
    mmf_status status;
};

mmf_status mmf_output_watch_create(mmf_ctx *ctx, mmf_output_watch **out)
{
    *out = mmf_alloc_zero(ctx, 1, sizeof **out);
    if (!*out)
        return MMF_NOMEM;
    (*out)->ctx = ctx;
    return MMF_OK;
}

void mmf_output_watch_free(mmf_output_watch *watch)
{
    if (!watch)
        return;
    for (size_t i = 0; i < watch->count; i++) {
        mmf_free(watch->ctx, watch->outputs[i].sum);
        mmf_free(watch->ctx, watch->outputs[i].squares);
    }
    mmf_free(watch->ctx, watch);
}

/* ---- Looking ----------------------------------------------------------------------------- */

static output_sums *find(mmf_output_watch *w, const mmf_named_tensor *item, bool batched)
{
    const char *const name = item->name;
    const mmf_tensor *const t = item->tensor;
    const int skip = batched ? 1 : 0;
    for (size_t i = 0; i < w->count; i++) {
        if (strcmp(w->outputs[i].name, name) == 0)
            return &w->outputs[i];
    }
    if (w->count == MAX_OUTPUTS || strlen(name) >= NAME_BYTES)
        return NULL;
    output_sums *const o = &w->outputs[w->count];
    *o = (output_sums){.count = 1, .low = INFINITY, .high = -INFINITY};
    snprintf(o->name, sizeof o->name, "%s", name);
    for (int d = skip; d < t->n_dims; d++) {
        o->count *= t->shape[d];
        if (t->shape[d] == 1)
            continue;
        o->axes[o->n_dims] = item->axes[d];
        o->shape[o->n_dims++] = t->shape[d];
    }
    if (o->count > MAX_ELEMENTS)
        return NULL;
    o->sum = mmf_alloc_zero(w->ctx, (size_t)o->count, sizeof *o->sum);
    o->squares = mmf_alloc_zero(w->ctx, (size_t)o->count, sizeof *o->squares);
    w->count++;
    if (!o->sum || !o->squares)
        w->status = MMF_NOMEM;
    return w->status == MMF_OK ? o : NULL;
}

static void count_sample(output_sums *o, const mmf_real *values)
{
    double mean = 0;
    for (int64_t k = 0; k < o->count; k++) {
        const double x = (double)values[k];
        o->sum[k] += x;
        o->squares[k] += x * x;
        o->low = fmin(o->low, x);
        o->high = fmax(o->high, x);
        mean += x / (double)o->count;
    }
    o->n++;
    o->means += mean;
    o->mean_squares += mean * mean;
}

void mmf_output_watch_look(void *user, const mmf_named *outputs, int64_t n_rows)
{
    mmf_output_watch *const w = user;
    for (size_t i = 0; w->status == MMF_OK && i < outputs->count; i++) {
        const mmf_named_tensor *const item = &outputs->items[i];
        const mmf_tensor *const t = item->tensor;
        if (!t || !item->axes || t->is_int || t->count == 0)
            continue;
        const bool batched = item->axes[0] == 'B';
        output_sums *const o = find(w, item, batched);
        const int64_t n = batched ? n_rows : 1;
        if (!o || t->count != n * o->count)
            continue;
        for (int64_t s = 0; s < n; s++)
            count_sample(o, t->data + s * o->count);
    }
}

/* ---- JSON -------------------------------------------------------------------------------- */

/* What an axis is called; NULL where its places have nothing to say, one by one. */
static const char *title_of(char axis)
{
    static const char letters[] = "MCEHGTN";
    static const char *const titles[] = {"modality", "class", "expert", "head",
                                         "glimpse",  "step",  "node"};
    const char *const at = strchr(letters, axis);
    return at ? titles[at - letters] : NULL;
}

static json_t *labels_json(const mmf_output_names *names, int64_t n, char axis)
{
    const bool is_modalities = axis == 'M' && (size_t)n == names->inputs->count;
    const bool is_classes = axis == 'C' && n == names->task->n_outputs && names->task->class_names;
    json_t *const list = json_array();
    for (int64_t i = 0; i < n; i++) {
        char number[24];
        snprintf(number, sizeof number, "%lld", (long long)i + 1);
        json_array_append_new(list, mmf_json_text(is_modalities ? names->inputs->inputs[i].name
                                                  : is_classes  ? names->task->class_names[i]
                                                                : number));
    }
    return list;
}

static json_t *axis_json(const output_sums *o, int d, const mmf_output_names *names)
{
    double mean[MAX_AXIS] = {0}, deviation[MAX_AXIS] = {0};
    const int64_t n = o->shape[d];
    const char *const title = title_of(o->axes[d]);
    int64_t inner = 1;
    for (int k = d + 1; k < o->n_dims; k++)
        inner *= o->shape[k];
    json_t *const object = json_object();
    json_object_set_new(object, "title", mmf_json_text(title));
    json_object_set_new(object, "length", json_integer((json_int_t)n));
    if (!title || n > MAX_AXIS)
        return object;
    const double share = o->n * (double)o->count / (double)n;
    for (int64_t i = 0; i < o->count; i++) {
        mean[i / inner % n] += o->sum[i] / share;
        deviation[i / inner % n] += o->squares[i] / share;
    }
    for (int64_t i = 0; i < n; i++)
        deviation[i] = sqrt(fmax(deviation[i] - mean[i] * mean[i], 0));
    json_object_set_new(object, "labels", labels_json(names, n, o->axes[d]));
    json_object_set_new(object, "mean", mmf_json_numbers(mean, n));
    json_object_set_new(object, "deviation", mmf_json_numbers(deviation, n));
    return object;
}

/* The modality behind "gate.<modality>" or "attention_<modality>"; NULL for other names. */
static const char *modality_of(const char *name, const mmf_schema *inputs)
{
    const size_t n = strlen(name);
    for (size_t m = 0; m < inputs->count; m++) {
        const char *const modality = inputs->inputs[m].name;
        const size_t width = strlen(modality);
        if (n > width + 1 && strcmp(name + n - width, modality) == 0 &&
            (name[n - width - 1] == '.' || name[n - width - 1] == '_'))
            return modality;
    }
    return NULL;
}

static json_t *output_json(const output_sums *o, const mmf_output_names *names)
{
    json_t *const object = json_object();
    json_t *const axes = json_array();
    const double mean = o->means / o->n;
    const char *const modality = modality_of(o->name, names->inputs);
    const size_t n_group = modality ? strlen(o->name) - strlen(modality) - 1 : 0;
    for (int d = 0; d < o->n_dims; d++)
        json_array_append_new(axes, axis_json(o, d, names));
    const bool is_weight = o->low >= 0 && o->high <= 1;
    json_object_set_new(object, "name", mmf_json_text(o->name));
    json_object_set_new(object, "group", modality ? json_stringn(o->name, n_group) : json_null());
    json_object_set_new(object, "modality", mmf_json_text(modality));
    json_object_set_new(object, "kind", json_string(is_weight ? "weight" : "value"));
    json_object_set_new(object, "samples", json_real(o->n));
    json_object_set_new(object, "mean", mmf_json_number(mean));
    json_object_set_new(object, "deviation",
                        mmf_json_number(sqrt(fmax(o->mean_squares / o->n - mean * mean, 0))));
    json_object_set_new(object, "low", mmf_json_number(o->low));
    json_object_set_new(object, "high", mmf_json_number(o->high));
    json_object_set_new(object, "axes", axes);
    return object;
}

json_t *mmf_output_watch_json(const mmf_output_watch *watch, const mmf_output_names *names)
{
    json_t *const list = watch->status == MMF_OK ? json_array() : NULL;
    for (size_t i = 0; list && i < watch->count; i++) {
        if (watch->outputs[i].n > 0)
            json_array_append_new(list, output_json(&watch->outputs[i], names));
    }
    return list;
}
