/* int8.c: see int8.h. */
#include "tensor/int8.h"

#include <string.h>

#include "tensor/kernels/byte_kernel.h"

/* Below these a layer's bytes save less than finding them costs. */
#define MIN_INPUTS 128
#define MIN_OUTPUTS 64
/* Columns of one product: its sums stay in the second cache level. */
#define TILE_COLUMNS 256
#define TILE_ROWS MMF_BYTE_ROWS
/* So few rows wait for the weight's bytes: a tile of a back end would work for all of its rows. */
#define FEW_ROWS 6

struct mmf_byte_cached {
    struct mmf_byte_cached *next;
    int64_t n, k;
    mmf_byte_kernel *kernel; /* NULL: the back end has none, and is not asked again */
};

void mmf_int8_free(mmf_ctx *ctx, struct mmf_byte_cached *first)
{
    while (first) {
        struct mmf_byte_cached *const next = first->next;
        mmf_blas_bytes_free(ctx, first->kernel);
        mmf_free(ctx, first);
        first = next;
    }
}

#ifdef MMF_DOUBLE

bool mmf_int8_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, const mmf_tensor *b,
                     mmf_activation activation, mmf_tensor *y)
{
    (void)tape, (void)x, (void)w, (void)b, (void)activation, (void)y;
    return false; /* the double build is there to be exact */
}

bool mmf_int8_product(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, mmf_tensor *y)
{
    (void)tape, (void)x, (void)w, (void)y;
    return false;
}

#else

/* A weight in bytes: tiles of rows (outputs, inputs) one behind the other. */
typedef struct packed_weight {
    int64_t outputs, inputs, n_tiles;
    bool by_input;                       /* the weight is (inputs, outputs) */
    bool is_plain;                       /* rows as they are */
    const mmf_byte_kernel *whole, *rest; /* of full tiles, and of the last one; NULL: none */
    size_t tile_bytes, rest_bytes;
    int8_t *bytes;
    float *scale;  /* of a row */
    int32_t *sums; /* of a row's bytes: what a zero of x contributes to its product */
} packed_weight;

typedef struct int8_job {
    const mmf_tape *tape;
    const mmf_tensor *x, *b;
    mmf_activation activation;
    mmf_tensor *y;
    packed_weight weight;
    int64_t rows;
    mmf_byte_rows in; /* x */
    bool failed;      /* by the back end */
} int8_job;

static int64_t at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

static const mmf_byte_kernel *kernel_of(mmf_tape *tape, int64_t n, int64_t k)
{
    for (const struct mmf_byte_cached *c = tape->byte_kernels; c; c = c->next) {
        if (c->n == n && c->k == k)
            return c->kernel;
    }
    struct mmf_byte_cached *const c = mmf_alloc(tape->ctx, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct mmf_byte_cached){tape->byte_kernels, n, k, mmf_blas_bytes_make(tape->ctx, n, k)};
    tape->byte_kernels = c;
    return c->kernel;
}

static size_t bytes_of(const mmf_byte_kernel *kernel, int64_t n, int64_t k)
{
    const size_t bytes = kernel ? mmf_blas_bytes_size(kernel) : (size_t)(n * k);
    return (bytes + 63) & ~(size_t)63;
}

static packed_weight plan(mmf_tape *tape, const mmf_tensor *w, bool by_input, bool is_plain)
{
    packed_weight p = {.outputs = w->shape[by_input],
                       .inputs = w->shape[!by_input],
                       .by_input = by_input,
                       .is_plain = is_plain};
    p.n_tiles = (p.outputs + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int64_t rest = p.outputs - (p.n_tiles - 1) * TILE_COLUMNS;
    p.whole = p.n_tiles > 1 && !is_plain ? kernel_of(tape, TILE_COLUMNS, p.inputs) : NULL;
    p.rest = is_plain ? NULL : kernel_of(tape, rest, p.inputs);
    p.tile_bytes = bytes_of(p.whole, TILE_COLUMNS, p.inputs);
    p.rest_bytes = bytes_of(p.rest, rest, p.inputs);
    return p;
}

static size_t weight_bytes(const packed_weight *p)
{
    return (size_t)(p->n_tiles - 1) * p->tile_bytes + p->rest_bytes;
}

static void quantise_weight_row(const float *row, int64_t n, int8_t *bytes, float *scale,
                                int32_t *sum)
{
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const float size = row[i] < 0 ? -row[i] : row[i];
        largest = size > largest ? size : largest;
    }
    const float inverse = largest > 0 ? 127 / largest : 0;
    *scale = largest / 127;
    *sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const float step = row[i] * inverse;
        bytes[i] = (int8_t)(step + (step < 0 ? -.5F : .5F));
        *sum += bytes[i];
    }
}

/* Row `o` of the weight, copied together where it is a column. */
static const float *weight_row(const mmf_tensor *w, const packed_weight *p, int64_t o, float *room)
{
    if (!p->by_input)
        return w->data + o * p->inputs;
    for (int64_t i = 0; i < p->inputs; i++)
        room[i] = w->data[i * p->outputs + o];
    return room;
}

/* @param plain  room for a tile
 * @param row    room for a row */
static bool pack(const mmf_tensor *w, const packed_weight *p, int8_t *plain, float *row)
{
    bool fine = true;
    for (int64_t t = 0; t < p->n_tiles; t++) {
        const int64_t first = t * TILE_COLUMNS, n = at_most(p->outputs - first, TILE_COLUMNS);
        const mmf_byte_kernel *const kernel = t + 1 < p->n_tiles ? p->whole : p->rest;
        int8_t *const to = p->bytes + (size_t)t * p->tile_bytes;
        for (int64_t o = 0; o < n; o++)
            quantise_weight_row(weight_row(w, p, first + o, row), p->inputs, plain + o * p->inputs,
                                &p->scale[first + o], &p->sums[first + o]);
        if (kernel)
            fine = fine && mmf_blas_bytes_pack(kernel, plain, to);
        else
            memcpy(to, plain, (size_t)(n * p->inputs));
    }
    return fine;
}

static void quantise_range(void *argument, int64_t begin, int64_t end)
{
    const int8_job *const j = argument;
    const int64_t inputs = j->weight.inputs;
    const int levels = mmf_blas_byte_levels();
    for (int64_t r = begin; r < end; r++)
        j->tape->k->quantise_row(inputs, j->x->data + r * inputs, levels, j->in.bytes + r * inputs,
                                 &j->in.scale[r], &j->in.zero[r]);
}

static void finish_tile(const int8_job *j, int64_t row, int64_t m, int64_t column, int64_t n,
                        const int32_t *sums)
{
    const packed_weight *const p = &j->weight;
    for (int64_t i = 0; i < m; i++) {
        float *const y = j->y->data + (row + i) * p->outputs + column;
        j->tape->k->dequantise(n, sums + i * n, j->in.scale[row + i], j->in.zero[row + i],
                               p->scale + column, p->sums + column,
                               j->b ? j->b->data + column : NULL, y);
        j->tape->k->bias_act(1, n, NULL, j->activation, y);
    }
}

/* Outputs of few rows. */
static void few_rows_range(void *argument, int64_t begin, int64_t end)
{
    const int8_job *const j = argument;
    const packed_weight *const p = &j->weight;
    int32_t sums[FEW_ROWS * TILE_COLUMNS];
    for (int64_t column = begin; column < end; column += TILE_COLUMNS) {
        const int64_t n = at_most(end - column, TILE_COLUMNS);
        for (int64_t r = 0; r < j->rows; r++)
            j->tape->k->dot_bytes(n, p->inputs, j->in.bytes + r * p->inputs,
                                  p->bytes + column * p->inputs, sums + r * n);
        finish_tile(j, 0, j->rows, column, n, sums);
    }
}

/* Tile t: rows t / n_tiles, columns t % n_tiles. */
static void tile_range(void *argument, int64_t begin, int64_t end)
{
    int8_job *const j = argument;
    const packed_weight *const p = &j->weight;
    int32_t sums[TILE_ROWS * TILE_COLUMNS];
    for (int64_t t = begin; t < end; t++) {
        const int64_t row = t / p->n_tiles * TILE_ROWS, tile = t % p->n_tiles;
        const int64_t column = tile * TILE_COLUMNS;
        const int64_t m = at_most(j->rows - row, TILE_ROWS);
        const int64_t n = at_most(p->outputs - column, TILE_COLUMNS);
        const mmf_byte_kernel *const kernel = tile + 1 < p->n_tiles ? p->whole : p->rest;
        const uint8_t *const a = j->in.bytes + row * p->inputs;
        const int8_t *const b = p->bytes + (size_t)tile * p->tile_bytes;
        if (!kernel)
            mmf_blas_gemm_bytes(m, n, p->inputs, a, b, sums);
        else if (!mmf_blas_bytes_run(kernel, a, b, sums))
            __atomic_store_n(&j->failed, true, __ATOMIC_RELAXED);
        finish_tile(j, row, m, column, n, sums);
    }
}

/* The weight in bytes, made by the first pass that asks; false where there is no memory for it. */
static bool packed(mmf_tape *tape, const mmf_tensor *w, bool by_input, bool is_plain,
                   packed_weight *p)
{
    bool is_new = false;
    *p = plan(tape, w, by_input, is_plain);
    const size_t rows = (size_t)p->outputs;
    unsigned char *const kept = mmf_tape__keep(tape, w, is_plain ? "int8, plain" : "int8",
                                               weight_bytes(p) + rows * 8, &is_new);
    if (!kept)
        return false;
    p->bytes = (int8_t *)kept;
    p->scale = (float *)(void *)(kept + weight_bytes(p));
    p->sums = (int32_t *)(void *)(kept + weight_bytes(p) + rows * sizeof(float));
    if (!is_new)
        return true;
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    int8_t *const plain = mmf_tape__alloc(tape, (size_t)(TILE_COLUMNS * p->inputs));
    float *const row = mmf_tape__reals(tape, p->inputs);
    const bool fine = plain && row && pack(w, p, plain, row);
    if (!fine)
        mmf_tape__fail(tape, MMF_NOMEM, "linear", "the weight could not be brought to bytes");
    mmf_arena_rewind(&tape->arena, mark);
    mmf_tape__give_back(w);
    return fine;
}

/* x in bytes: those of the layer before where it read the same, as queries, keys and values do.
 * Rows in tiles are filled up with zeros. */
static bool quantised(mmf_tape *tape, int8_job *job, int64_t inputs, bool in_tiles)
{
    mmf_byte_rows *const last = &tape->byte_rows;
    const mmf_tensor *const x = job->x;
    if (last->of == x->data && last->count == x->count && last->inputs == inputs &&
        last->generation == tape->arena.generation) {
        job->in = *last;
        return true;
    }
    const int64_t padded = (job->rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    const size_t n_bytes = (size_t)((in_tiles ? padded : job->rows) * inputs);
    job->in = (mmf_byte_rows){.of = x->data, .count = x->count, .inputs = inputs};
    job->in.bytes = mmf_tape__alloc(tape, n_bytes + 1);
    job->in.scale = mmf_tape__alloc(tape, (size_t)job->rows * sizeof *job->in.scale + 1);
    job->in.zero = mmf_tape__alloc(tape, (size_t)job->rows * sizeof *job->in.zero + 1);
    if (!job->in.bytes || !job->in.scale || !job->in.zero)
        return false;
    memset(job->in.bytes + x->count, 0, n_bytes - (size_t)x->count);
    mmf_tape__parallel(tape, job->rows, mmf_grain(inputs), quantise_range, job);
    job->in.generation = tape->arena.generation;
    *last = job->in;
    return true;
}

static bool multiply(mmf_tape *tape, int8_job *job, const mmf_tensor *w, bool by_input)
{
    const int64_t inputs = w->shape[!by_input], outputs = w->shape[by_input];
    if (!tape->pass.int8 || inputs < MIN_INPUTS || outputs < MIN_OUTPUTS ||
        inputs > MMF_BLAS_MAX_BYTE_TERMS)
        return false;
    job->rows = job->x->count / inputs;
    const bool has_few = job->rows <= FEW_ROWS;
    if (!packed(tape, w, by_input, has_few, &job->weight) ||
        !quantised(tape, job, inputs, !has_few))
        return false;
    const int64_t n_tiles = job->weight.n_tiles * ((job->rows + TILE_ROWS - 1) / TILE_ROWS);
    const int64_t cost = TILE_COLUMNS * inputs * TILE_ROWS / 64;
    if (has_few)
        mmf_tape__parallel_reads(tape, outputs, inputs, few_rows_range, job);
    else
        mmf_tape__parallel(tape, n_tiles, mmf_grain(cost), tile_range, job);
    mmf_tape__count_products(tape, 1, job->rows, outputs, inputs);
    if (job->failed)
        mmf_tape__fail(tape, MMF_INTERNAL, "linear", "%s refused a product of bytes",
                       mmf_blas_name());
    return true;
}

bool mmf_int8_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, const mmf_tensor *b,
                     mmf_activation activation, mmf_tensor *y)
{
    int8_job job = {.tape = tape, .x = x, .b = b, .activation = activation, .y = y};
    return multiply(tape, &job, w, false);
}

bool mmf_int8_product(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w, mmf_tensor *y)
{
    int8_job job = {.tape = tape, .x = x, .activation = MMF_ACT_NONE, .y = y};
    return multiply(tape, &job, w, true);
}

#endif
