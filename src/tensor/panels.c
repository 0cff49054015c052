/* panels.c: see panels.h. */
#include "tensor/panels.h"

#include <string.h>

/* Rows of a tile, which another thread may take. */
#define TILE_ROWS 128

typedef struct panels_job {
    const mmf_tape *tape;
    const mmf_tensor *x, *b;
    mmf_activation activation;
    const mmf_real *panels;
    mmf_real *y;
    int64_t rows, inputs, outputs;
    int64_t tile_rows, columns, n_panels; /* columns of a panel */
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

/* ---- Products ---------------------------------------------------------------------------- */

/* Tile t: panel t % n, rows t / n. */
static void tile_range(void *argument, int64_t begin, int64_t end)
{
    const panels_job *const j = argument;
    const mmf_kernels *const k = j->tape->k;
    const bool by_kernel = j->activation == MMF_ACT_NONE || j->activation == MMF_ACT_RELU;
    for (int64_t t = begin; t < end; t++) {
        const int64_t row = t / j->n_panels * j->tile_rows;
        const int64_t column = t % j->n_panels * j->columns;
        const int64_t m = mmf_least(j->tile_rows, j->rows - row);
        const int64_t n = mmf_least(j->columns, j->outputs - column);
        mmf_real *const y = j->y + row * j->outputs + column;
        k->panel(&(mmf_panel_product){m, n, j->inputs, j->x->data + row * j->inputs, j->inputs,
                                      j->panels + column * j->inputs,
                                      j->b ? j->b->data + column : NULL,
                                      j->activation == MMF_ACT_RELU, y, j->outputs});
        for (int64_t i = 0; !by_kernel && i < m; i++)
            k->bias_act(1, n, NULL, j->activation, y + i * j->outputs);
    }
}

bool mmf_panels_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w,
                       const mmf_tensor *b, mmf_activation activation, mmf_tensor *y)
{
    panels_job job = {.tape = tape,
                      .x = x,
                      .b = b,
                      .activation = activation,
                      .y = y->data,
                      .rows = x->count / w->shape[1],
                      .inputs = w->shape[1],
                      .outputs = w->shape[0],
                      .columns = tape->k->panel_columns};
    if (w->count < MMF_PANELS_LEAST || !tape->pass.fixed || tape->pass.record || !w->wants_grad)
        return false;
    /* One row reads a plain weight as fast, and panels would be a second copy. */
    if (job.rows < 1 || (job.rows == 1 && !w->is_mapped))
        return false;
    job.n_panels = (job.outputs + job.columns - 1) / job.columns;
    job.panels = mmf_panels_of(tape, w, false);
    if (!job.panels)
        return false;
    const int64_t n_row_tiles = (job.rows + TILE_ROWS - 1) / TILE_ROWS;
    job.tile_rows = (job.rows + n_row_tiles - 1) / n_row_tiles;
    mmf_tape__count_products(tape, 1, job.rows, job.outputs, job.inputs);
    mmf_tape__parallel(tape, n_row_tiles * job.n_panels,
                       mmf_grain(job.tile_rows * job.columns * job.inputs / 16), tile_range, &job);
    return true;
}
