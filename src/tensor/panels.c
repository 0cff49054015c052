/* panels.c: see panels.h. */
#include "tensor/panels.h"

#include <string.h>

#include "tensor/kernels/panel_kernel.h"

/* A tile of C: its rows and columns stay in the second cache level. */
#define TILE_ROWS 128
#define TILE_COLUMNS (2 * MMF_PANEL)
/* Columns of a tile where there are few, so that two threads have some each. */
#define SMALL_TILE_COLUMNS MMF_PANEL
#define FEW_COLUMNS (4 * TILE_COLUMNS)

struct mmf_panels_cached {
    struct mmf_panels_cached *next;
    mmf_panel_shape shape;
    mmf_panel_kernel *kernel; /* NULL: the back end has none, and is not asked again */
};

typedef struct panels_job {
    const mmf_tape *tape;
    const mmf_tensor *x, *b;
    mmf_activation activation;
    mmf_real *panels, *y;
    int64_t rows, inputs, outputs;
    int64_t tile_rows, tile_columns, n_column_tiles;
    const mmf_panel_kernel *kernels[2][2]; /* of whole tiles and of the last: rows, columns */
    bool *failed;                          /* by the back end */
} panels_job;

void mmf_panels_free(mmf_ctx *ctx, struct mmf_panels_cached *first)
{
    while (first) {
        struct mmf_panels_cached *const next = first->next;
        mmf_blas_panel_free(ctx, first->kernel);
        mmf_free(ctx, first);
        first = next;
    }
}

static bool is_same(const mmf_panel_shape *a, const mmf_panel_shape *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->has_bias == b->has_bias &&
           a->relu == b->relu;
}

static const mmf_panel_kernel *kernel_of(mmf_tape *tape, const mmf_panel_shape *shape)
{
    for (const struct mmf_panels_cached *c = tape->panel_kernels; c; c = c->next) {
        if (is_same(&c->shape, shape))
            return c->kernel;
    }
    struct mmf_panels_cached *const c = mmf_alloc(tape->ctx, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct mmf_panels_cached){tape->panel_kernels, *shape,
                                    mmf_blas_panel_make(tape->ctx, shape)};
    tape->panel_kernels = c;
    return c->kernel;
}

/* ---- The weight -------------------------------------------------------------------------- */

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

static int64_t panel_size(int64_t inputs)
{
    return round_up(inputs, MMF_PANEL_INPUTS) * MMF_PANEL;
}

typedef struct pack_job {
    const mmf_tensor *w;
    mmf_real *panels;
} pack_job;

static void pack_range(void *argument, int64_t begin, int64_t end)
{
    const pack_job *const j = argument;
    const int64_t outputs = j->w->shape[0], inputs = j->w->shape[1], size = panel_size(inputs);
    for (int64_t p = begin; p < end; p++) {
        mmf_real *const panel = j->panels + p * size;
        const int64_t first = p * MMF_PANEL;
        const int64_t n = outputs - first < MMF_PANEL ? outputs - first : MMF_PANEL;
        if (n < MMF_PANEL || size > inputs * MMF_PANEL)
            memset(panel, 0, (size_t)size * sizeof *panel);
        for (int64_t o = 0; o < n; o++) {
            const mmf_real *const row = j->w->data + (first + o) * inputs;
            for (int64_t i = 0; i < inputs; i++)
                panel[i * MMF_PANEL + o] = row[i];
        }
    }
}

/* The weight in panels, made by the first pass that asks. */
static mmf_real *panels_of(mmf_tape *tape, const mmf_tensor *w)
{
    const int64_t n_panels = (w->shape[0] + MMF_PANEL - 1) / MMF_PANEL;
    const int64_t size = panel_size(w->shape[1]);
    bool is_new = false;
    mmf_real *const panels =
        mmf_tape__keep(tape, w, "panels", (size_t)(n_panels * size) * sizeof *panels, &is_new);
    if (panels && is_new) {
        pack_job job = {w, panels};
        mmf_tape__parallel(tape, n_panels, mmf_grain(4 * size), pack_range, &job);
        mmf_tape__give_back(w);
    }
    return panels;
}

/* ---- One row ----------------------------------------------------------------------------- */

static void row_range(void *argument, int64_t begin, int64_t end)
{
    const panels_job *const j = argument;
    const int64_t size = panel_size(j->inputs);
    for (int64_t p = begin; p < end; p++) {
        mmf_real sums[MMF_PANEL];
        const int64_t first = p * MMF_PANEL;
        const int64_t n = j->outputs - first < MMF_PANEL ? j->outputs - first : MMF_PANEL;
        j->tape->k->sum_rows(j->inputs, MMF_PANEL, j->x->data, j->panels + p * size, MMF_PANEL,
                             sums);
        memcpy(j->y + first, sums, (size_t)n * sizeof *sums);
        j->tape->k->bias_act(1, n, j->b ? j->b->data + first : NULL, j->activation, j->y + first);
    }
}

/* ---- Several rows ------------------------------------------------------------------------ */

/* Whether the back end has all the products that tiles need. */
static bool plan(mmf_tape *tape, panels_job *j)
{
    const int64_t n_row_tiles = (j->rows + TILE_ROWS - 1) / TILE_ROWS;
    j->tile_rows = (j->rows + n_row_tiles - 1) / n_row_tiles;
    j->tile_columns = j->outputs < FEW_COLUMNS ? SMALL_TILE_COLUMNS : TILE_COLUMNS;
    j->n_column_tiles = (j->outputs + j->tile_columns - 1) / j->tile_columns;
    const int64_t rows[] = {j->tile_rows, j->rows - (n_row_tiles - 1) * j->tile_rows};
    const int64_t columns[] = {j->tile_columns,
                               j->outputs - (j->n_column_tiles - 1) * j->tile_columns};
    for (int r = 0; r < 2; r++) {
        for (int c = 0; c < 2; c++) {
            const bool is_used = (r == 1 || n_row_tiles > 1) && (c == 1 || j->n_column_tiles > 1);
            const mmf_panel_shape shape = {rows[r], columns[c], j->inputs, j->b != NULL,
                                           j->activation == MMF_ACT_RELU};
            j->kernels[r][c] = is_used ? kernel_of(tape, &shape) : NULL;
            if (is_used && !j->kernels[r][c])
                return false;
        }
    }
    return true;
}

/* Tile t: columns t % n, rows t / n. */
static void tile_range(void *argument, int64_t begin, int64_t end)
{
    const panels_job *const j = argument;
    const bool by_kernel = j->activation == MMF_ACT_NONE || j->activation == MMF_ACT_RELU;
    _Alignas(64) mmf_real sums[TILE_ROWS * TILE_COLUMNS];
    for (int64_t t = begin; t < end; t++) {
        const int64_t row = t / j->n_column_tiles * j->tile_rows;
        const int64_t column = t % j->n_column_tiles * j->tile_columns;
        const bool last_rows = j->rows - row <= j->tile_rows;
        const bool last_columns = j->outputs - column <= j->tile_columns;
        const int64_t m = last_rows ? j->rows - row : j->tile_rows;
        const int64_t n = last_columns ? j->outputs - column : j->tile_columns;
        if (!mmf_blas_panel_run(j->kernels[last_rows][last_columns], j->x->data + row * j->inputs,
                                j->panels + column / MMF_PANEL * panel_size(j->inputs),
                                j->b ? j->b->data + column : NULL, sums))
            __atomic_store_n(j->failed, true, __ATOMIC_RELAXED);
        for (int64_t i = 0; i < m; i++) {
            mmf_real *const y = j->y + (row + i) * j->outputs + column;
            memcpy(y, sums + i * n, (size_t)n * sizeof *y);
            if (!by_kernel)
                j->tape->k->bias_act(1, n, NULL, j->activation, y);
        }
    }
}

bool mmf_panels_linear(mmf_tape *tape, const mmf_tensor *x, const mmf_tensor *w,
                       const mmf_tensor *b, mmf_activation activation, mmf_tensor *y)
{
    bool failed = false;
    panels_job job = {.tape = tape,
                      .x = x,
                      .b = b,
                      .activation = activation,
                      .y = y->data,
                      .rows = x->count / w->shape[1],
                      .inputs = w->shape[1],
                      .outputs = w->shape[0],
                      .failed = &failed};
    if (w->count < MMF_PANELS_LEAST || !tape->pass.fixed || tape->pass.record || !w->wants_grad)
        return false;
    /* One row reads a plain weight as fast, and panels would be a second copy. */
    const bool is_row = job.rows == 1;
    if (is_row ? !w->is_mapped : !plan(tape, &job))
        return false;
    job.panels = panels_of(tape, w);
    if (!job.panels)
        return false;
    mmf_tape__count_products(tape, 1, job.rows, job.outputs, job.inputs);
    if (is_row) {
        const int64_t n_panels = (job.outputs + MMF_PANEL - 1) / MMF_PANEL;
        mmf_tape__parallel(tape, n_panels, mmf_grain(MMF_PANEL * job.inputs), row_range, &job);
        return true;
    }
    const int64_t n_tiles = (job.rows + job.tile_rows - 1) / job.tile_rows * job.n_column_tiles;
    mmf_tape__parallel(tape, n_tiles, mmf_grain(job.tile_rows * job.tile_columns * job.inputs / 16),
                       tile_range, &job);
    if (failed)
        mmf_tape__fail(tape, MMF_INTERNAL, "linear", "%s refused a product of panels",
                       mmf_blas_name());
    return true;
}
