/*
 * few_keys.c: attention of many queries over few keys, with its projections, in passes over fixed
 * parameters.
 *
 * A score is (W_q x + b_q)'k = x'(W_q'k) + b_q'k, and an output W_o (sum_t a_t v_t) is
 * sum_t a_t (W_o v_t). So two matrices of H Tk columns and rows, made once a sample, stand in for
 * the projections of every query and of every mixture.
 */
#include <string.h>

#include "tensor/heads.h"
#include "tensor/panels.h"

/* Queries of a tile, which another thread may take. */
#define TILE_QUERIES 64
/* What is saved has to be worth the shorter products. */
#define FEWER 2

typedef struct few_job {
    const mmf_tape *tape;
    const mmf_projected *p;
    const mmf_tensor *k, *v;
    int64_t n_heads, n_keys, n_queries; /* keys and queries of a sample */
    int64_t inputs, width, value_width, outputs;
    int64_t pairs; /* of heads and keys */
    mmf_real scale;
    mmf_real *y;
    const mmf_real *query_panels, *out_panels; /* of W_q', of W_o */
    mmf_real *for_scores;          /* (B) panels of `pairs` outputs, `inputs` inputs: scale W_q'k */
    mmf_real *offsets;             /* (B, pairs): scale b_q'k */
    mmf_real *for_mix;             /* (B) panels of `outputs` outputs, `pairs` inputs: W_o v */
    int64_t scores_size, mix_size; /* of a sample */
    const mmf_real **masks;
    mmf_empty_row empty;
    mmf_lanes lanes;
    int64_t room; /* elements of scratch a lane */
    mmf_real *scratch;
} few_job;

/* ---- What stands in for the projections -------------------------------------------------- */

/* W_q'k and b_q'k of a head's keys: a key is a column of panels. */
static void fold_keys(const few_job *j, int64_t sample, int64_t head, mmf_real *room)
{
    const int64_t columns = j->tape->k->panel_columns, width = j->width / j->n_heads;
    const mmf_real *const keys = j->k->data + sample * j->n_keys * j->width + head * width;
    const mmf_real *const bias = j->p->query_bias ? j->p->query_bias->data + head * width : NULL;
    mmf_real *const panels = j->for_scores + sample * j->scores_size;
    const int64_t first = head * j->n_keys;
    mmf_real *const packed = room, *const tile = room + j->n_keys * width;
    mmf_panels_pack(j->tape, j->n_keys, width, keys, j->width, packed);
    for (int64_t t = 0; t < j->n_keys; t++)
        j->offsets[sample * j->pairs + first + t] =
            bias ? j->scale * (mmf_real)j->tape->k->dot(width, keys + t * j->width, bias) : 0;
    for (int64_t i = 0; i < j->inputs; i += columns) {
        const int64_t n = mmf_least(columns, j->inputs - i);
        mmf_panels_multiply(j->tape,
                            &(mmf_panels_product){
                                .m = j->n_keys,
                                .n = n,
                                .k = width,
                                .packed = packed,
                                .panels = j->query_panels + i * j->width + head * width * columns,
                                .c = tile,
                                .c_step = n,
                            });
        for (int64_t t = 0; t < j->n_keys; t++) {
            const int64_t pair = first + t, panel = pair / columns;
            mmf_real *const to = panels + (panel * j->inputs + i) * columns + pair % columns;
            for (int64_t e = 0; e < n; e++)
                to[e * columns] = j->scale * tile[t * n + e];
        }
    }
}

/* W_o v of a head's values: a value is a row of panels. */
static void fold_values(const few_job *j, int64_t sample, int64_t head, mmf_real *packed)
{
    const int64_t columns = j->tape->k->panel_columns, width = j->value_width / j->n_heads;
    const mmf_real *const values = j->v->data + sample * j->n_keys * j->value_width + head * width;
    mmf_real *const panels = j->for_mix + sample * j->mix_size;
    mmf_panels_pack(j->tape, j->n_keys, width, values, j->value_width, packed);
    for (int64_t o = 0; o < j->outputs; o += columns)
        mmf_panels_multiply(
            j->tape, &(mmf_panels_product){
                         .m = j->n_keys,
                         .n = mmf_least(columns, j->outputs - o),
                         .k = width,
                         .packed = packed,
                         .panels = j->out_panels + o * j->value_width + head * width * columns,
                         .c = panels + o * j->pairs + head * j->n_keys * columns,
                         .c_step = columns,
                     });
}

static void fold_range(void *argument, int64_t begin, int64_t end)
{
    const few_job *const j = argument;
    const int64_t lane = mmf_lane_take(&j->lanes);
    for (int64_t i = begin; i < end; i++) {
        const int64_t sample = i / 2 / j->n_heads, head = i / 2 % j->n_heads;
        if (i % 2 == 0)
            fold_keys(j, sample, head, j->scratch + lane * j->room);
        else
            fold_values(j, sample, head, j->scratch + lane * j->room);
    }
    mmf_lane_give(&j->lanes, lane);
}

/* ---- Queries ----------------------------------------------------------------------------- */

/* C (m, n) = A (m, k) by panels, + bias. */
static void multiply(const few_job *j, int64_t m, int64_t n, int64_t k, const mmf_real *a,
                     const mmf_real *panels, const mmf_real *bias, mmf_real *packed, mmf_real *c)
{
    mmf_panels_pack(j->tape, m, k, a, k, packed);
    mmf_panels_multiply(j->tape, &(mmf_panels_product){
                                     .m = m,
                                     .n = n,
                                     .k = k,
                                     .packed = packed,
                                     .panels = panels,
                                     .bias = bias,
                                     .c = c,
                                     .c_step = n,
                                 });
}

static void weigh(const few_job *j, int64_t sample, int64_t query, const mmf_real *scores,
                  mmf_real *weights)
{
    for (int64_t h = 0; h < j->n_heads; h++) {
        const int64_t row = (sample * j->n_heads + h) * j->n_queries + query;
        mmf_softmax__row(j->tape, j->n_keys, scores + h * j->n_keys,
                         j->masks ? j->masks[row] : NULL, j->empty, weights + h * j->n_keys);
    }
}

static int64_t tiles_of(int64_t n_queries)
{
    return (n_queries + TILE_QUERIES - 1) / TILE_QUERIES;
}

static void query_range(void *argument, int64_t begin, int64_t end)
{
    const few_job *const j = argument;
    const int64_t n_tiles = tiles_of(j->n_queries), size = (j->n_queries + n_tiles - 1) / n_tiles;
    const int64_t lane = mmf_lane_take(&j->lanes);
    mmf_real *const scores = j->scratch + lane * j->room;
    mmf_real *const weights = scores + TILE_QUERIES * j->pairs;
    mmf_real *const packed = weights + TILE_QUERIES * j->pairs;
    for (int64_t i = begin; i < end; i++) {
        const int64_t sample = i / n_tiles, first = i % n_tiles * size;
        const int64_t n = mmf_least(size, j->n_queries - first),
                      row = sample * j->n_queries + first;
        multiply(j, n, j->pairs, j->inputs, j->p->x->data + row * j->inputs,
                 j->for_scores + sample * j->scores_size, j->offsets + sample * j->pairs, packed,
                 scores);
        for (int64_t q = 0; q < n; q++)
            weigh(j, sample, first + q, scores + q * j->pairs, weights + q * j->pairs);
        multiply(j, n, j->outputs, j->pairs, weights, j->for_mix + sample * j->mix_size,
                 j->p->out_bias ? j->p->out_bias->data : NULL, packed, j->y + row * j->outputs);
    }
    mmf_lane_give(&j->lanes, lane);
}

/* ---- All of it --------------------------------------------------------------------------- */

/* @return false after setting the error */
static bool reserve(mmf_tape *tape, few_job *j, int64_t n_samples, int64_t most_ranges)
{
    const int64_t wider = j->width > j->value_width ? j->width : j->value_width;
    const int64_t longer = j->inputs > j->pairs ? j->inputs : j->pairs;
    const int64_t to_fold = j->n_keys * (wider / j->n_heads + tape->k->panel_columns);
    const int64_t to_weigh = TILE_QUERIES * (2 * j->pairs + longer);
    j->room = to_fold > to_weigh ? to_fold : to_weigh;
    j->scores_size = mmf_panels_size(tape, j->pairs, j->inputs);
    j->mix_size = mmf_panels_size(tape, j->outputs, j->pairs);
    if (!mmf_tape__lanes(tape, most_ranges, 1, &j->lanes))
        return false;
    j->for_scores = mmf_tape__reals(tape, n_samples * j->scores_size);
    j->offsets = mmf_tape__reals(tape, n_samples * j->pairs);
    j->for_mix = mmf_tape__reals(tape, n_samples * j->mix_size);
    j->scratch = mmf_tape__reals(tape, j->lanes.count * j->room);
    if (!j->for_scores || !j->offsets || !j->for_mix || !j->scratch)
        return false;
    /* Columns that fill the last panel up. */
    if (j->pairs % tape->k->panel_columns != 0)
        memset(j->for_scores, 0, (size_t)(n_samples * j->scores_size) * sizeof *j->for_scores);
    if (j->outputs % tape->k->panel_columns != 0)
        memset(j->for_mix, 0, (size_t)(n_samples * j->mix_size) * sizeof *j->for_mix);
    return true;
}

/* @return false after setting the error */
static bool attend(mmf_tape *tape, few_job *j, int64_t n_samples)
{
    const int64_t both = j->inputs + j->outputs, widths = j->width + j->value_width;
    const int64_t n_folds = 2 * n_samples * j->n_heads;
    const int64_t n_tiles = n_samples * tiles_of(j->n_queries);
    if (!reserve(tape, j, n_samples, n_folds > n_tiles ? n_folds : n_tiles))
        return false;
    mmf_tape__parallel(tape, n_folds, mmf_grain(j->n_keys * widths / j->n_heads * both / 4 / 16),
                       fold_range, j);
    mmf_tape__parallel(tape, n_tiles, mmf_grain(TILE_QUERIES * j->pairs * both / 16), query_range,
                       j);
    mmf_tape__count_products(tape, n_samples, j->n_keys, j->width, j->inputs);
    mmf_tape__count_products(tape, n_samples, j->n_keys, j->value_width, j->outputs);
    mmf_tape__count_products(tape, n_samples, j->n_queries, j->pairs, both);
    return true;
}

/* Whether shapes fit together; where they do not, the operations one by one say so. */
static bool fits(const mmf_projected *p, const mmf_tensor *k, const mmf_tensor *v, int64_t n_heads)
{
    const mmf_tensor *const x = p->x, *const wq = p->query_weight, *const wo = p->out_weight;
    return x->n_dims == 3 && k->n_dims == 3 && v->n_dims == 3 && !x->is_int && k->shape[1] > 0 &&
           x->count > 0 && x->shape[0] == k->shape[0] && x->shape[0] == v->shape[0] &&
           k->shape[1] == v->shape[1] && x->shape[2] == wq->shape[1] &&
           k->shape[2] == wq->shape[0] && v->shape[2] == wo->shape[1] && n_heads > 0 &&
           k->shape[2] % n_heads == 0 && v->shape[2] % n_heads == 0;
}

static bool is_fewer(const mmf_projected *p, const mmf_tensor *k, int64_t n_heads)
{
    const mmf_tensor *const w = p->query_weight, *const out = p->out_weight;
    const int64_t tq = p->x->shape[1], tk = k->shape[1], projections = w->count + out->count;
    const int64_t plain = tq * projections + tq * tk * (w->shape[0] + out->shape[1]);
    const int64_t few = tk * projections + tq * n_heads * tk * (w->shape[1] + out->shape[0]);
    return FEWER * few <= plain;
}

mmf_tensor *mmf_heads_attend_few(mmf_tape *tape, const mmf_projected *p, const mmf_tensor *k,
                                 const mmf_tensor *v, int64_t n_heads, double scale,
                                 const mmf_tensor *mask, mmf_empty_row empty)
{
    const mmf_tensor *const wq = p->query_weight, *const wo = p->out_weight;
    if (!tape->pass.fixed || tape->pass.record || tape->pass.int8 || !p->x || !k || !v || !wq ||
        !wo || wq->count < MMF_PANELS_LEAST || wo->count < MMF_PANELS_LEAST ||
        !fits(p, k, v, n_heads) || !is_fewer(p, k, n_heads))
        return NULL;
    const int64_t n_samples = k->shape[0], tq = p->x->shape[1], tk = k->shape[1];
    const mmf_tensor scores = {
        .count = n_samples * n_heads * tq * tk, .shape = {n_samples, n_heads, tq, tk}, .n_dims = 4};
    few_job job = {.tape = tape,
                   .p = p,
                   .k = k,
                   .v = v,
                   .n_heads = n_heads,
                   .n_keys = tk,
                   .n_queries = tq,
                   .inputs = wq->shape[1],
                   .width = wq->shape[0],
                   .value_width = wo->shape[1],
                   .outputs = wo->shape[0],
                   .pairs = n_heads * tk,
                   .scale = (mmf_real)scale,
                   .query_panels = mmf_panels_of(tape, wq, true),
                   .out_panels = mmf_panels_of(tape, wo, false),
                   .empty = empty};
    if (!job.query_panels || !job.out_panels)
        return NULL;
    mmf_tensor *const y = mmf_tape__tensor(tape, 3, (int64_t[]){n_samples, tq, job.outputs});
    if (!y)
        return NULL;
    job.y = y->data;
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    if (mask && !(job.masks = mmf_softmax__masks(tape, "attend", &scores, mask)))
        return NULL;
    const bool fine = attend(tape, &job, n_samples);
    mmf_arena_rewind(&tape->arena, mark);
    return fine ? y : NULL;
}
