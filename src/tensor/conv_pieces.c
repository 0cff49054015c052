/* conv_pieces.c: see conv_pieces.h. */
#include "tensor/conv_pieces.h"

#include <string.h>

#include "tensor/conv_cache.h"
#include "tensor/tape.h"

/* Ranges of pieces at most; each has its own scratch. */
#define MAX_RANGES 8
/* Images of a piece, as a power of two: its maps should stay in the second level of the cache. */
#define LARGEST_PIECE 4
/* Gradients of weights are summed a piece after the other, which costs with large weights. */
#define LARGEST_SUM 6
/* Elements of weights from which reading them for every image takes longer than the image, and a
 * sum of their gradients a range longer than it saves: then ranges are few. */
#define LARGE_WEIGHTS 262144
#define LARGE_WEIGHT_RANGES 4
#define LARGE_WEIGHT_SUMS 2

enum { N_SIZES = LARGEST_SUM + 1 };

typedef struct pieces {
    mmf_tape *tape;
    const mmf_geometry *g;
    int64_t per_piece, n_whole, count; /* images of a whole piece; pieces, with the rest's */
    int64_t grain, n_ranges;           /* pieces of a range */
    const mmf_conv_kernel *kernels[N_SIZES];
    mmf_real *packed[N_SIZES]; /* weights */
    size_t scratch_bytes;      /* of a range */
    unsigned char *scratch;
    int64_t x_size, y_size; /* elements of an image */
    mmf_real *x, *y, *bias;
    mmf_real *part; /* data: of a piece in each range, where it is added; NULL: it is written */
    int64_t bias_size, sum_size; /* elements in a sum of the gradients of bias and weights */
    mmf_real *sums;              /* of each range */
    int64_t sums_a_range;        /* two where it has several pieces: the sum, and the next one's */
    bool failed;
} pieces;

/* Image and size, as a power of two, of a piece. */
typedef struct piece {
    int64_t first;
    int log_size;
} piece;

static int floor_log(int64_t n)
{
    int log = 0;
    while (n >> (log + 1) > 0)
        log++;
    return log;
}

/* To a multiple of a line of the cache. */
static size_t round_bytes(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static int64_t round_up(int64_t elements)
{
    return (elements + 15) & ~(int64_t)15;
}

/* Whole pieces, then the rest by its binary digits. */
static piece piece_at(const pieces *p, int64_t index)
{
    const int whole = floor_log(p->per_piece);
    if (index < p->n_whole)
        return (piece){index * p->per_piece, whole};
    int64_t first = p->n_whole * p->per_piece, rest = p->g->batch - first;
    for (int64_t i = p->n_whole; i < index; i++) {
        first += (int64_t)1 << floor_log(rest);
        rest = p->g->batch - first;
    }
    return (piece){first, floor_log(rest)};
}

static void divide(pieces *p, int64_t max_ranges, int largest)
{
    const mmf_geometry *const g = p->g;
    const int64_t work =
        g->outputs * g->out_height * g->out_width * g->channels * g->kernel[0] * g->kernel[1];
    const int64_t least = mmf_grain(work / 8), share = (g->batch + max_ranges - 1) / max_ranges;
    const int log = floor_log(share > least ? share : least);
    p->per_piece = (int64_t)1 << (log < largest ? log : largest);
    p->n_whole = g->batch / p->per_piece;
    p->count = p->n_whole;
    for (int64_t rest = g->batch % p->per_piece; rest > 0; rest &= rest - 1)
        p->count++;
    p->grain = (p->count + max_ranges - 1) / max_ranges;
    if (p->grain * p->per_piece < least)
        p->grain = (least + p->per_piece - 1) / p->per_piece;
    p->n_ranges = p->grain > 0 ? (p->count + p->grain - 1) / p->grain : 0;
    p->x_size = g->channels * g->height * g->width;
    p->y_size = g->outputs * g->out_height * g->out_width;
}

/* A kernel for each size among the pieces. */
static bool find_kernels(pieces *p, int64_t kind, bool has_bias)
{
    const mmf_geometry *const g = p->g;
    mmf_conv_shape shape;
    memset(&shape, 0, sizeof shape); /* compared as bytes */
    shape.kind = kind;
    shape.has_bias = has_bias;
    shape.inputs = g->channels;
    shape.outputs = g->outputs;
    shape.height = g->height;
    shape.width = g->width;
    shape.out_height = g->out_height;
    shape.out_width = g->out_width;
    for (int d = 0; d < 2; d++) {
        shape.kernel[d] = g->kernel[d];
        shape.stride[d] = g->stride[d];
        shape.padding[d] = g->padding[d];
    }
    for (int64_t i = p->n_whole > 0 ? p->n_whole - 1 : 0; i < p->count; i++) {
        const int log = piece_at(p, i).log_size;
        shape.images = (int64_t)1 << log;
        p->kernels[log] = mmf_conv_cache_get(p->tape, &shape);
        if (!p->kernels[log])
            return false;
        const size_t bytes = round_bytes(mmf_blas_conv_scratch(p->kernels[log]));
        p->scratch_bytes = bytes > p->scratch_bytes ? bytes : p->scratch_bytes;
    }
    return true;
}

static bool make_pieces(pieces *p, int64_t kind, bool has_bias)
{
    const bool sums = kind == MMF_CONV_WEIGHTS;
    const mmf_geometry *const g = p->g;
    const int64_t weights = g->outputs * g->channels * g->kernel[0] * g->kernel[1];
    const int64_t few = sums ? LARGE_WEIGHT_SUMS : LARGE_WEIGHT_RANGES;
    divide(p, weights > LARGE_WEIGHTS ? few : MAX_RANGES, sums ? LARGEST_SUM : LARGEST_PIECE);
    if (g->batch == 0 || !find_kernels(p, kind, has_bias))
        return false;
    p->scratch = mmf_tape__alloc(p->tape, (size_t)p->n_ranges * p->scratch_bytes + 1);
    return p->scratch != NULL;
}

/* The weights in the form of each kernel; most share one. */
static bool pack(pieces *p, const mmf_tensor *w, const char *const *forms)
{
    for (int i = 0; i < N_SIZES; i++) {
        for (int other = 0; p->kernels[i] && other < i && !p->packed[i]; other++) {
            if (p->packed[other] && mmf_blas_conv_same_weights(p->kernels[i], p->kernels[other]))
                p->packed[i] = p->packed[other];
        }
        if (!p->kernels[i] || p->packed[i])
            continue;
        const size_t bytes = mmf_blas_conv_weight_bytes(p->kernels[i]);
        bool is_new = true;
        p->packed[i] = mmf_tape__keep(p->tape, w, forms[i], bytes, &is_new);
        if (!p->packed[i])
            p->packed[i] = mmf_tape__alloc(p->tape, bytes);
        if (!p->packed[i] || (is_new && !mmf_blas_conv_pack(p->kernels[i], w->data, p->packed[i])))
            return false;
    }
    return true;
}

static void *scratch_of(const pieces *p, int64_t range)
{
    return p->scratch + (size_t)range * p->scratch_bytes;
}

static void run_piece(pieces *p, const piece *at, const mmf_conv_arrays *arrays, int64_t range)
{
    if (!mmf_blas_conv_run(p->kernels[at->log_size], arrays, scratch_of(p, range)))
        __atomic_store_n(&p->failed, true, __ATOMIC_RELAXED);
}

static void pieces_range(void *argument, int64_t begin, int64_t end)
{
    pieces *const p = argument;
    const int64_t range = begin / p->grain;
    for (int64_t i = begin; i < end; i++) {
        const piece at = piece_at(p, i);
        mmf_real *const x = p->x + at.first * p->x_size;
        mmf_real *const part = p->part ? p->part + range * p->per_piece * p->x_size : NULL;
        run_piece(p, &at,
                  &(mmf_conv_arrays){.x = part ? part : x,
                                     .weight = p->packed[at.log_size],
                                     .bias = p->bias,
                                     .y = p->y + at.first * p->y_size},
                  range);
        if (part)
            p->tape->k->axpby(p->x_size << at.log_size, 1, part, 1, x);
    }
}

static void sums_range(void *argument, int64_t begin, int64_t end)
{
    pieces *const p = argument;
    const int64_t range = begin / p->grain;
    mmf_real *const sum = p->sums + p->sums_a_range * range * p->sum_size;
    mmf_real *const next = sum + p->sum_size; /* not there where it is not needed */
    for (int64_t i = begin; i < end; i++) {
        const piece at = piece_at(p, i);
        mmf_real *const to = i == begin ? sum : next;
        run_piece(p, &at,
                  &(mmf_conv_arrays){.x = p->x + at.first * p->x_size,
                                     .weight = to + p->bias_size,
                                     .bias = to,
                                     .y = p->y + at.first * p->y_size},
                  range);
        if (i > begin)
            p->tape->k->axpby(p->sum_size, 1, next, 1, sum);
    }
}

/* Scratch is given back at once: a step of training holds that of one operation only. */
static bool finish(pieces *p, mmf_arena_mark mark, bool done)
{
    mmf_arena_rewind(&p->tape->arena, mark);
    return done && !p->failed && p->tape->status == MMF_OK;
}

static const char *const forward_forms[N_SIZES] = {"channels last, 1", "channels last, 2",
                                                   "channels last, 4", "channels last, 8",
                                                   "channels last, 16"};
static const char *const no_forms[N_SIZES] = {"", "", "", "", ""};

bool mmf_conv_pieces_forward(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *x,
                             const mmf_tensor *w, const mmf_tensor *b, mmf_real *y)
{
    pieces p = {.tape = tape, .g = g, .x = x->data, .y = y, .bias = b ? b->data : NULL};
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    const bool ready = make_pieces(&p, MMF_CONV_FORWARD, b != NULL) && pack(&p, w, forward_forms);
    if (ready)
        mmf_tape__parallel(tape, p.count, p.grain, pieces_range, &p);
    return finish(&p, mark, ready);
}

bool mmf_conv_pieces_data(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *w, mmf_real *dy,
                          bool fresh, mmf_real *dx)
{
    pieces p = {.tape = tape, .g = g, .x = dx, .y = dy};
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    bool ready = make_pieces(&p, MMF_CONV_DATA, false) && pack(&p, w, no_forms);
    if (ready && !fresh)
        p.part = mmf_tape__reals(tape, p.n_ranges * p.per_piece * p.x_size);
    ready = ready && (fresh || p.part);
    if (ready)
        mmf_tape__parallel(tape, p.count, p.grain, pieces_range, &p);
    return finish(&p, mark, ready);
}

/* Sums of pieces need one form of the weights. */
static bool have_same_weights(const pieces *p, const mmf_conv_kernel **first)
{
    *first = NULL;
    for (int i = 0; i < N_SIZES; i++) {
        if (*first && p->kernels[i] && !mmf_blas_conv_same_weights(*first, p->kernels[i]))
            return false;
        *first = *first ? *first : p->kernels[i];
    }
    return true;
}

/* The ranges' sums in order into the first, then into the gradients. */
static bool add_sums(pieces *p, const mmf_conv_kernel *kernel, const mmf_conv_gradients *to)
{
    const mmf_kernels *const k = p->tape->k;
    const int64_t count = p->g->outputs * p->g->channels * p->g->kernel[0] * p->g->kernel[1];
    mmf_real *const total = p->sums, *const weight = total + p->bias_size;
    for (int64_t r = 1; r < p->n_ranges; r++)
        k->axpby(p->sum_size, 1, p->sums + p->sums_a_range * r * p->sum_size, 1, total);
    if (to->bias)
        k->axpby(p->g->outputs, 1, total, to->fresh_bias ? 0 : 1, to->bias);
    if (to->fresh_weight)
        return mmf_blas_conv_unpack(kernel, weight, to->weight);
    mmf_real *const given = mmf_tape__reals(p->tape, count);
    if (!given || !mmf_blas_conv_unpack(kernel, weight, given))
        return false;
    k->axpby(count, 1, given, 1, to->weight);
    return true;
}

bool mmf_conv_pieces_weights(mmf_tape *tape, const mmf_geometry *g, const mmf_tensor *x,
                             mmf_real *dy, const mmf_conv_gradients *to)
{
    pieces p = {.tape = tape, .g = g, .x = x->data, .y = dy};
    const mmf_conv_kernel *kernel = NULL;
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    if (!make_pieces(&p, MMF_CONV_WEIGHTS, to->bias != NULL) || !have_same_weights(&p, &kernel))
        return finish(&p, mark, false);
    const int64_t weights = (int64_t)(mmf_blas_conv_weight_bytes(kernel) / sizeof(mmf_real));
    p.bias_size = to->bias ? round_up(g->outputs) : 0;
    p.sum_size = p.bias_size + round_up(weights);
    p.sums_a_range = p.grain > 1 ? 2 : 1;
    p.sums = mmf_tape__reals(tape, p.sums_a_range * p.n_ranges * p.sum_size);
    if (!p.sums)
        return finish(&p, mark, false);
    mmf_tape__parallel(tape, p.count, p.grain, sums_range, &p);
    return finish(&p, mark, !p.failed && add_sums(&p, kernel, to));
}
