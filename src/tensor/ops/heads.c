/*
 * heads.c: the two products of attention for every head at once.
 *
 * Heads are columns [h D/H, (h + 1) D/H) of rows that stay where they are: a product reads and
 * writes them with the row's full width as its step, so nothing is brought to (B, H, T, D / H) and
 * back.
 */
#include "tensor/heads.h"

#include <string.h>

#include "tensor/ops.h"
#include "tensor/tape.h"

/* Where the matrix of sample b and head h begins: data + b sample + h head, `step` to its next row.
 */
typedef struct side {
    mmf_real *data;
    int64_t step, sample, head;
    bool transpose;
} side;

typedef struct head_job {
    int64_t n_heads, m, n, k;
    mmf_real alpha, beta;
    side a, b, c;
} head_job;

static mmf_real *matrix_of(const side *s, int64_t sample, int64_t head)
{
    return s->data + sample * s->sample + head * s->head;
}

static void run_heads(void *argument, int64_t begin, int64_t end)
{
    const head_job *const j = argument;
    for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / j->n_heads, h = i % j->n_heads;
        mmf_blas_gemm(&(mmf_gemm){j->a.transpose, j->b.transpose, j->m, j->n, j->k, j->alpha,
                                  matrix_of(&j->a, b, h), j->a.step, matrix_of(&j->b, b, h),
                                  j->b.step, j->beta, matrix_of(&j->c, b, h), j->c.step});
    }
}

/* C = alpha op(A) op(B) + beta C for every sample and head. */
static void multiply(mmf_tape *tape, int64_t n_samples, head_job job)
{
    const int64_t work = job.m * job.n * job.k;
    mmf_tape__count_products(tape, n_samples * job.n_heads, job.m, job.n, job.k);
    mmf_tape__parallel(tape, n_samples * job.n_heads, mmf_grain(work / 16), run_heads, &job);
}

/* Columns of rows (B, T, D). */
static side columns(mmf_real *data, const mmf_tensor *x, int64_t n_heads, bool transpose)
{
    const int64_t width = x->shape[2];
    return (side){data, width, x->shape[1] * width, width / n_heads, transpose};
}

/* Whole matrices of (B, H, Tq, Tk). */
static side matrices(mmf_real *data, const mmf_tensor *x, bool transpose)
{
    const int64_t size = x->shape[2] * x->shape[3];
    return (side){data, x->shape[3], x->shape[1] * size, size, transpose};
}

typedef struct heads_node {
    mmf_node node;
    mmf_tensor *a, *b; /* queries and keys; weights and values */
    int64_t n_heads;
    mmf_real scale;
} heads_node;

static bool fits(const mmf_tensor *x, int64_t n_heads)
{
    return x->n_dims == 3 && !x->is_int && n_heads > 0 && x->shape[2] % n_heads == 0;
}

static mmf_tensor *record(mmf_tape *tape, const char *op, mmf_tensor *y, heads_node fields,
                          mmf_backward_fn *backward)
{
    const bool wants = fields.a->wants_grad || fields.b->wants_grad;
    heads_node *const node = mmf_tape__record(tape, sizeof *node, op, y, wants, backward);
    if (node) {
        fields.node = node->node;
        *node = fields;
    }
    return y;
}

/* ---- Scores ------------------------------------------------------------------------------ */

/* S = scale Q K', G = dS:  dQ = scale G K,  dK = scale G' Q. */
static void scores_backward(mmf_tape *tape, mmf_node *node)
{
    heads_node *const p = (heads_node *)node;
    mmf_tensor *const q = p->a, *const k = p->b, *const y = node->out;
    const int64_t h = p->n_heads, tq = q->shape[1], tk = k->shape[1], width = q->shape[2] / h;
    bool fresh = false;
    mmf_real *const dq = mmf_tape__grad(tape, q, &fresh);
    if (dq)
        multiply(tape, q->shape[0],
                 (head_job){h, tq, width, tk, p->scale, fresh ? 0 : 1, matrices(y->grad, y, false),
                            columns(k->data, k, h, false), columns(dq, q, h, false)});
    mmf_real *const dk = mmf_tape__grad(tape, k, &fresh);
    if (dk)
        multiply(tape, q->shape[0],
                 (head_job){h, tk, width, tq, p->scale, fresh ? 0 : 1, matrices(y->grad, y, true),
                            columns(q->data, q, h, false), columns(dk, k, h, false)});
}

mmf_tensor *mmf_head_scores(mmf_tape *tape, mmf_tensor *q, mmf_tensor *k, int64_t n_heads,
                            double scale)
{
    static const char op[] = "head_scores";
    if (!q || !k)
        return mmf_tape__missing(tape, op);
    if (!fits(q, n_heads) || !fits(k, n_heads) || q->shape[0] != k->shape[0] ||
        q->shape[2] != k->shape[2])
        return mmf_tape__unfit(tape, op, q, k,
                               "queries and keys (B, T, D), D a multiple of the heads");
    const int64_t shape[] = {q->shape[0], n_heads, q->shape[1], k->shape[1]};
    mmf_tensor *const y = mmf_tape__tensor(tape, 4, shape);
    if (!y)
        return NULL;
    multiply(tape, shape[0],
             (head_job){n_heads, shape[2], shape[3], q->shape[2] / n_heads, (mmf_real)scale, 0,
                        columns(q->data, q, n_heads, false), columns(k->data, k, n_heads, true),
                        matrices(y->data, y, false)});
    return record(tape, op, y,
                  (heads_node){.a = q, .b = k, .n_heads = n_heads, .scale = (mmf_real)scale},
                  scores_backward);
}

/* ---- Mixtures ---------------------------------------------------------------------------- */

/* Y = A V, G = dY:  dA = G V',  dV = A' G. */
static void mix_backward(mmf_tape *tape, mmf_node *node)
{
    heads_node *const p = (heads_node *)node;
    mmf_tensor *const a = p->a, *const v = p->b, *const y = node->out;
    const int64_t h = p->n_heads, tq = a->shape[2], tk = a->shape[3], width = v->shape[2] / h;
    bool fresh = false;
    mmf_real *const da = mmf_tape__grad(tape, a, &fresh);
    if (da)
        multiply(tape, a->shape[0],
                 (head_job){h, tq, tk, width, 1, fresh ? 0 : 1, columns(y->grad, y, h, false),
                            columns(v->data, v, h, true), matrices(da, a, false)});
    mmf_real *const dv = mmf_tape__grad(tape, v, &fresh);
    if (dv)
        multiply(tape, a->shape[0],
                 (head_job){h, tk, width, tq, 1, fresh ? 0 : 1, matrices(a->data, a, true),
                            columns(y->grad, y, h, false), columns(dv, v, h, false)});
}

mmf_tensor *mmf_head_mix(mmf_tape *tape, mmf_tensor *a, mmf_tensor *v)
{
    static const char op[] = "head_mix";
    if (!a || !v)
        return mmf_tape__missing(tape, op);
    if (a->n_dims != 4 || a->is_int || !fits(v, a->shape[1]) || a->shape[0] != v->shape[0] ||
        a->shape[3] != v->shape[1])
        return mmf_tape__unfit(tape, op, a, v,
                               "weights (B, H, Tq, Tk) and values (B, Tk, E), E a multiple of H");
    const int64_t n_heads = a->shape[1], shape[] = {a->shape[0], a->shape[2], v->shape[2]};
    mmf_tensor *const y = mmf_tape__tensor(tape, 3, shape);
    if (!y)
        return NULL;
    multiply(tape, shape[0],
             (head_job){n_heads, shape[1], shape[2] / n_heads, a->shape[3], 1, 0,
                        matrices(a->data, a, false), columns(v->data, v, n_heads, false),
                        columns(y->data, y, n_heads, false)});
    return record(tape, op, y, (heads_node){.a = a, .b = v, .n_heads = n_heads}, mix_backward);
}

/* ---- Without a record -------------------------------------------------------------------- */

/* Widest head that goes a query a lane: beyond it the products of matrices catch up. */
#define LANE_WIDTH 64
#define QUERIES MMF_ATTEND_QUERIES

typedef struct attend_job {
    const mmf_tape *tape;
    int64_t n_heads, tq, tk, width, value_width;
    mmf_real scale;
    side q, k, v, y;
    const mmf_real **masks; /* one a row of (B, H, Tq); NULL: none */
    mmf_empty_row empty;
    mmf_lanes lanes;
    int64_t room; /* elements of scratch for a lane */
    mmf_real *scratch;
} attend_job;

static void attend_by_products(void *argument, int64_t begin, int64_t end)
{
    const attend_job *const j = argument;
    const int64_t lane = mmf_lane_take(&j->lanes);
    mmf_real *const scores = j->scratch + lane * j->room, *const weights = scores + j->tq * j->tk;
    for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / j->n_heads, h = i % j->n_heads;
        mmf_blas_gemm(&(mmf_gemm){false, true, j->tq, j->tk, j->width, j->scale,
                                  matrix_of(&j->q, b, h), j->q.step, matrix_of(&j->k, b, h),
                                  j->k.step, 0, scores, j->tk});
        for (int64_t r = 0; r < j->tq; r++)
            mmf_softmax__row(j->tape, j->tk, scores + r * j->tk,
                             j->masks ? j->masks[i * j->tq + r] : NULL, j->empty,
                             weights + r * j->tk);
        mmf_blas_gemm(&(mmf_gemm){false, false, j->tq, j->value_width, j->tk, 1, weights, j->tk,
                                  matrix_of(&j->v, b, h), j->v.step, 0, matrix_of(&j->y, b, h),
                                  j->y.step});
    }
    mmf_lane_give(&j->lanes, lane);
}

/* Queries [first, first + count) of a sample, a column each. */
typedef struct query_tile {
    int64_t sample, first, count;
    const mmf_real *const *masks; /* that `mask` was made of */
    mmf_real *q, *mask, *y, *scores;
    bool uniform[QUERIES]; /* no key is kept, and all shall count alike */
} query_tile;

/* Rows of the mask become columns; heads mostly have the same ones, and then nothing is done. */
static const mmf_real *mask_columns(const attend_job *j, int64_t row, query_tile *tile)
{
    if (!j->masks)
        return NULL;
    const mmf_real *const *const masks = j->masks + row;
    if (tile->masks && memcmp(masks, tile->masks, (size_t)tile->count * sizeof *masks) == 0)
        return tile->mask;
    tile->masks = masks;
    for (int64_t r = 0; r < QUERIES; r++) {
        bool any = r >= tile->count;
        for (int64_t key = 0; key < j->tk; key++) {
            const mmf_real keep = r < tile->count ? masks[r][key] : (mmf_real)0;
            tile->mask[key * QUERIES + r] = keep;
            any |= keep != (mmf_real)0;
        }
        tile->uniform[r] = !any && j->empty == MMF_EMPTY_UNIFORM;
        for (int64_t key = 0; !any && j->empty != MMF_EMPTY_ZERO && key < j->tk; key++)
            tile->mask[key * QUERIES + r] = 1;
    }
    return tile->mask;
}

static void attend_head(const attend_job *j, int64_t head, query_tile *tile)
{
    const int64_t row = (tile->sample * j->n_heads + head) * j->tq + tile->first;
    const mmf_real *const mask = mask_columns(j, row, tile);
    const mmf_real *const q = matrix_of(&j->q, tile->sample, head) + tile->first * j->q.step;
    mmf_real *const y = matrix_of(&j->y, tile->sample, head) + tile->first * j->y.step;
    for (int64_t r = 0; r < QUERIES; r++) {
        const bool zero = r >= tile->count || (mask && tile->uniform[r]);
        for (int64_t w = 0; w < j->width; w++)
            tile->q[w * QUERIES + r] = zero ? (mmf_real)0 : j->scale * q[r * j->q.step + w];
    }
    j->tape->k->attend(&(mmf_attend_tile){j->tk, j->width, j->value_width, tile->q,
                                          matrix_of(&j->k, tile->sample, head), j->k.step,
                                          matrix_of(&j->v, tile->sample, head), j->v.step, mask,
                                          tile->y},
                       tile->scores);
    for (int64_t r = 0; r < tile->count; r++) {
        for (int64_t c = 0; c < j->value_width; c++)
            y[r * j->y.step + c] = tile->y[c * QUERIES + r];
    }
}

static int64_t query_tiles(const attend_job *j)
{
    return (j->tq + QUERIES - 1) / QUERIES;
}

static void attend_by_lanes(void *argument, int64_t begin, int64_t end)
{
    const attend_job *const j = argument;
    const int64_t lane = mmf_lane_take(&j->lanes), n_tiles = query_tiles(j);
    query_tile tile = {.q = j->scratch + lane * j->room};
    tile.y = tile.q + j->width * QUERIES;
    tile.scores = tile.y + j->value_width * QUERIES;
    tile.mask = tile.scores + j->tk * QUERIES;
    for (int64_t i = begin; i < end; i++) {
        tile.sample = i / n_tiles;
        tile.first = i % n_tiles * QUERIES;
        tile.count = j->tq - tile.first < QUERIES ? j->tq - tile.first : QUERIES;
        tile.masks = NULL;
        for (int64_t h = 0; h < j->n_heads; h++)
            attend_head(j, h, &tile);
    }
    mmf_lane_give(&j->lanes, lane);
}

/* @return false after setting the error */
static bool attend(mmf_tape *tape, attend_job *j, int64_t n_samples)
{
    const bool by_lanes = j->width <= LANE_WIDTH && j->value_width <= LANE_WIDTH;
    const int64_t widths = j->width + j->value_width;
    const int64_t n = n_samples * (by_lanes ? query_tiles(j) : j->n_heads);
    const int64_t tile = j->tk * (widths + QUERIES) + QUERIES * widths;
    const int64_t grain =
        mmf_grain(by_lanes ? j->n_heads * tile : j->tq * j->tk * widths / 16 + 4 * j->tq * j->tk);
    j->room = by_lanes ? (widths + 2 * j->tk) * QUERIES : 2 * j->tq * j->tk;
    if (!mmf_tape__lanes(tape, n, grain, &j->lanes) ||
        !(j->scratch = mmf_tape__reals(tape, j->lanes.count * j->room)))
        return false;
    mmf_tape__parallel(tape, n, grain, by_lanes ? attend_by_lanes : attend_by_products, j);
    mmf_tape__count_products(tape, n_samples * j->n_heads, j->tq, j->tk, widths);
    return true;
}

mmf_tensor *mmf_heads_attend(mmf_tape *tape, mmf_tensor *q, mmf_tensor *k, mmf_tensor *v,
                             int64_t n_heads, double scale, const mmf_tensor *mask,
                             mmf_empty_row empty)
{
    static const char op[] = "attend";
    if (!q || !k || !v)
        return mmf_tape__missing(tape, op);
    if (!fits(q, n_heads) || !fits(k, n_heads) || !fits(v, n_heads) || q->shape[0] != k->shape[0] ||
        q->shape[2] != k->shape[2] || k->shape[0] != v->shape[0] || k->shape[1] != v->shape[1])
        return mmf_tape__unfit(tape, op, q, k,
                               "queries, keys and values (B, T, D), D a multiple of the heads");
    const int64_t n_samples = q->shape[0], tq = q->shape[1], tk = k->shape[1];
    const mmf_tensor scores = {
        .count = n_samples * n_heads * tq * tk, .shape = {n_samples, n_heads, tq, tk}, .n_dims = 4};
    if (tk < 1)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "there are no keys");
    mmf_tensor *const y = mmf_tape__tensor(tape, 3, (int64_t[]){n_samples, tq, v->shape[2]});
    if (!y)
        return NULL;
    attend_job job = {.tape = tape,
                      .n_heads = n_heads,
                      .tq = tq,
                      .tk = tk,
                      .width = q->shape[2] / n_heads,
                      .value_width = v->shape[2] / n_heads,
                      .scale = (mmf_real)scale,
                      .q = columns(q->data, q, n_heads, false),
                      .k = columns(k->data, k, n_heads, true),
                      .v = columns(v->data, v, n_heads, false),
                      .y = columns(y->data, y, n_heads, false),
                      .empty = empty};
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    if (mask && !(job.masks = mmf_softmax__masks(tape, op, &scores, mask)))
        return NULL;
    const bool fine = attend(tape, &job, n_samples);
    mmf_arena_rewind(&tape->arena, mark);
    return fine ? y : NULL;
}

/* ---- Examples ---------------------------------------------------------------------------- */

static mmf_tensor *head_scores_example(mmf_op_case *c)
{
    const int64_t heads = c->index + 1, width = 3 * heads * c->scale;
    mmf_tensor *const q = mmf_case_input(c, -1, 1, 3, (int64_t[]){2, 4, width});
    mmf_tensor *const k =
        c->index == 2 ? q : mmf_case_input(c, -1, 1, 3, (int64_t[]){2, 5 * c->scale, width});
    return mmf_head_scores(c->tape, q, k, heads, 0.7);
}

static mmf_tensor *head_mix_example(mmf_op_case *c)
{
    const int64_t heads = c->index + 1, steps = 5 * c->scale;
    mmf_tensor *const a = mmf_case_input(c, -1, 1, 4, (int64_t[]){2, heads, 4, steps});
    mmf_tensor *const v = mmf_case_input(c, -1, 1, 3, (int64_t[]){2, steps, 3 * heads});
    return mmf_head_mix(c->tape, a, v);
}

static double head_scores_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    const int64_t width = c->inputs[0]->shape[2] / out->shape[1];
    return 2.0 * (double)out->count * (double)width;
}

static double head_mix_flops(const mmf_op_case *c, const mmf_tensor *out)
{
    return 2.0 * (double)out->count * (double)c->inputs[0]->shape[3];
}

const mmf_op mmf_op_head_scores = {"head_scores", 3, head_scores_example, head_scores_flops, true};
const mmf_op mmf_op_head_mix = {"head_mix", 2, head_mix_example, head_mix_flops, true};
