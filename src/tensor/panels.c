/* panels.c: see panels.h. */
#include "tensor/panels.h"

#include <string.h>

/* Most rows of a tile, which another thread may take. */
#define TILE_ROWS 128
/* Of packing an element: it comes from the cache of the thread that wrote it. */
#define PACK_COST 8

typedef struct panels_job {
    const mmf_tape *tape;
    const mmf_tensor *x;
    mmf_real *packed; /* x */
    mmf_panels_product product;
    int64_t n_panels, n_blocks, n_row_tiles; /* blocks of rows, and tiles of blocks */
} panels_job;

/* ---- The weight -------------------------------------------------------------------------- */

typedef struct pack_job {
    const mmf_real *w;
    int64_t outputs, inputs, output_step, input_step; /* of w */
    int64_t columns;
    mmf_real *panels;
} pack_job;

static void pack_range(void *argument, int64_t begin, int64_t end)
{
    const pack_job *const j = argument;
    const int64_t columns = j->columns, size = j->inputs * columns;
    for (int64_t p = begin; p < end; p++) {
        mmf_real *const panel = j->panels + p * size;
        const int64_t n = mmf_least(columns, j->outputs - p * columns);
        if (n < columns)
            memset(panel, 0, (size_t)size * sizeof *panel);
        for (int64_t o = 0; o < n; o++) {
            const mmf_real *const from = j->w + (p * columns + o) * j->output_step;
            for (int64_t i = 0; i < j->inputs; i++)
                panel[i * columns + o] = from[i * j->input_step];
        }
    }
}

int64_t mmf_panels_size(const mmf_tape *tape, int64_t outputs, int64_t inputs)
{
    const int64_t columns = tape->k->panel_columns;
    return (outputs + columns - 1) / columns * columns * inputs;
}

const mmf_real *mmf_panels_of(mmf_tape *tape, const mmf_tensor *w, bool of_transpose)
{
    const int64_t rows = w->shape[0], width = w->shape[1], columns = tape->k->panel_columns;
    pack_job job = {w->data, rows, width, width, 1, columns, NULL};
    if (of_transpose)
        job = (pack_job){w->data, width, rows, 1, width, columns, NULL};
    const int64_t size = mmf_panels_size(tape, job.outputs, job.inputs);
    bool is_new = false;
    job.panels = mmf_tape__keep(tape, w, of_transpose ? "panels of the transpose" : "panels",
                                (size_t)size * sizeof *job.panels, &is_new);
    if (job.panels && is_new) {
        mmf_tape__parallel(tape, (job.outputs + columns - 1) / columns,
                           mmf_grain(4 * job.inputs * columns), pack_range, &job);
        mmf_tape__give_back(w);
    }
    return job.panels;
}

/* ---- Rows -------------------------------------------------------------------------------- */

/* Where part i of n begins: parts are as even as can be, since one row alone waits for its sums. */
static int64_t part(int64_t count, int64_t n, int64_t i)
{
    return i * count / n;
}

static int64_t blocks_of(const mmf_tape *tape, int64_t rows)
{
    return (rows + tape->k->panel_rows - 1) / tape->k->panel_rows;
}

static void pack_block(const mmf_tape *tape, int64_t m, int64_t k, const mmf_real *a,
                       int64_t a_step, mmf_real *packed, int64_t block)
{
    const int64_t n_blocks = blocks_of(tape, m), row = part(m, n_blocks, block);
    tape->k->pack_rows((int)(part(m, n_blocks, block + 1) - row), k, a + row * a_step, a_step,
                       packed + row * k);
}

void mmf_panels_pack(const mmf_tape *tape, int64_t m, int64_t k, const mmf_real *a, int64_t a_step,
                     mmf_real *packed)
{
    for (int64_t i = 0; i < blocks_of(tape, m); i++)
        pack_block(tape, m, k, a, a_step, packed, i);
}

static void pack_blocks(void *argument, int64_t begin, int64_t end)
{
    const panels_job *const j = argument;
    const int64_t k = j->product.k;
    for (int64_t i = begin; i < end; i++)
        pack_block(j->tape, j->product.m, k, j->x->data, k, j->packed, i);
}

/* ---- Products ---------------------------------------------------------------------------- */

static void multiply_block(const mmf_tape *tape, const mmf_panels_product *p, int64_t block,
                           int64_t column)
{
    const mmf_kernels *const kernels = tape->k;
    const int64_t n_blocks = blocks_of(tape, p->m), row = part(p->m, n_blocks, block);
    const int64_t n = mmf_least(kernels->panel_columns, p->n - column);
    const int64_t size = kernels->panel_columns * p->k, next = part(size, n_blocks, block);
    const bool is_last = column + kernels->panel_columns >= p->n;
    const mmf_real *const panel = p->panels + column * p->k;
    mmf_panel_product product = {
        .rows = (int)(part(p->m, n_blocks, block + 1) - row),
        .n = n,
        .k = p->k,
        .packed = p->packed + row * p->k,
        .panel = panel,
        .bias = p->bias ? p->bias + column : NULL,
        .relu = p->activation == MMF_ACT_RELU,
        .c = p->c + row * p->c_step + column,
        .c_step = p->c_step,
        .next = is_last ? NULL : panel + size + next,
        .n_next = is_last ? 0 : part(size, n_blocks, block + 1) - next,
    };
    kernels->panel(&product);
    if (p->activation == MMF_ACT_NONE || p->activation == MMF_ACT_RELU)
        return;
    for (int64_t i = 0; i < product.rows; i++)
        kernels->bias_act(1, n, NULL, p->activation, product.c + i * p->c_step);
}

void mmf_panels_multiply(const mmf_tape *tape, const mmf_panels_product *p)
{
    for (int64_t column = 0; column < p->n; column += tape->k->panel_columns) {
        for (int64_t i = 0; i < blocks_of(tape, p->m); i++)
            multiply_block(tape, p, i, column);
    }
}

/* Tile t: panel t % n, a part of the blocks t / n. */
static void tile_range(void *argument, int64_t begin, int64_t end)
{
    const panels_job *const j = argument;
    for (int64_t t = begin; t < end; t++) {
        const int64_t tile = t / j->n_panels, column = t % j->n_panels * j->tape->k->panel_columns;
        const int64_t last = part(j->n_blocks, j->n_row_tiles, tile + 1);
        for (int64_t i = part(j->n_blocks, j->n_row_tiles, tile); i < last; i++)
            multiply_block(j->tape, &j->product, i, column);
    }
}

bool mmf_panels_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w,
                       const mmf_tensor *b, mmf_activation activation, mmf_tensor *y)
{
    const int64_t outputs = w->shape[0], inputs = w->shape[1];
    if (w->count < MMF_PANELS_LEAST || !tape->pass.fixed || tape->pass.record || !w->wants_grad)
        return false;
    const int64_t rows = x->count / inputs, columns = tape->k->panel_columns;
    /* One row reads a plain weight as fast, and panels would be a second copy. */
    if (rows < 1 || (rows == 1 && !w->is_mapped))
        return false;
    const mmf_real *const panels = mmf_panels_of(tape, w, false);
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    mmf_real *const packed = panels ? mmf_tape__reals(tape, x->count) : NULL;
    if (!packed)
        return false;
    panels_job job = {.tape = tape,
                      .x = x,
                      .packed = packed,
                      .product = {.m = rows,
                                  .n = outputs,
                                  .k = inputs,
                                  .packed = packed,
                                  .panels = panels,
                                  .bias = b ? b->data : NULL,
                                  .activation = activation,
                                  .c = y->data,
                                  .c_step = outputs},
                      .n_panels = (outputs + columns - 1) / columns,
                      .n_blocks = blocks_of(tape, rows),
                      .n_row_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS};
    const int64_t tile_rows = rows / job.n_row_tiles, block_rows = rows / job.n_blocks;
    mmf_tape__count_products(tape, 1, rows, outputs, inputs);
    mmf_tape__parallel(tape, job.n_blocks, mmf_grain(PACK_COST * block_rows * inputs), pack_blocks,
                       &job);
    mmf_tape__parallel(tape, job.n_row_tiles * job.n_panels,
                       mmf_grain(tile_rows * columns * inputs / 16), tile_range, &job);
    mmf_arena_rewind(&tape->arena, mark);
    return true;
}
