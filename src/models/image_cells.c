/* image_cells.c: see image_cells.h. */
#include "models/image_cells.h"

#include <string.h>

/* Places [begin, end) of `n` under bin `i` of `k`; bins may overlap. */
static void bin(int64_t i, int64_t n, int64_t k, int64_t *begin, int64_t *end)
{
    *begin = i * n / k;
    *end = ((i + 1) * n + k - 1) / k;
}

static void share(mmf_image_cells *c)
{
    const int64_t places = c->map_rows * c->map_columns;
    for (int64_t cell = 0; cell < c->n_cells; cell++) {
        int64_t y0 = 0, y1 = 0, x0 = 0, x1 = 0;
        bin(cell / c->grid.columns, c->map_rows, c->grid.rows, &y0, &y1);
        bin(cell % c->grid.columns, c->map_columns, c->grid.columns, &x0, &x1);
        const mmf_real each = 1 / (mmf_real)((y1 - y0) * (x1 - x0));
        for (int64_t y = y0; y < y1; y++) {
            for (int64_t x = x0; x < x1; x++)
                c->shares[cell * places + y * c->map_columns + x] = each;
        }
    }
}

bool mmf_image_cells_take(const mmf_input_schema *in)
{
    return in->kind == MMF_IMAGE || in->kind == MMF_SEQUENCE || in->kind == MMF_VECTOR;
}

mmf_image_cells mmf_image_cells_build(mmf_builder *b, const mmf_config *config,
                                      const mmf_input_schema *in, const char *scope,
                                      const mmf_resnet_names *names, const mmf_image_grid *grid)
{
    mmf_image_cells c = {.input = in, .grid = *grid, .n_cells = 1};
    c.has_net = in->kind == MMF_IMAGE;
    c.width = in->shape[in->n_dims - 1];
    if (in->kind == MMF_SEQUENCE)
        c.n_cells = in->shape[0];
    if (!c.has_net)
        return c;
    const mmf_resnet_sizes sizes = mmf_resnet_chosen(b, mmf_config_text(config, "image_encoder"),
                                                     config, "image_layers", "image_base", in);
    if (mmf_builder_status(b) != MMF_OK)
        return c;
    mmf_builder_enter(b, scope);
    c.net = mmf_resnet_build(b, &sizes, names);
    mmf_builder_leave(b);
    c.net.fixed_statistics = strcmp(mmf_config_text(config, "image_statistics"), "fixed") == 0;
    mmf_resnet_grid(&sizes, in->shape[1], in->shape[2], &c.map_rows, &c.map_columns);
    if (grid->at_most && c.map_rows < c.grid.rows)
        c.grid.rows = c.map_rows;
    if (grid->at_most && c.map_columns < c.grid.columns)
        c.grid.columns = c.map_columns;
    c.n_cells = c.grid.rows * c.grid.columns;
    c.width = c.net.width;
    c.shares =
        mmf_builder_alloc(b, (size_t)(c.n_cells * c.map_rows * c.map_columns) * sizeof *c.shares);
    if (c.shares)
        share(&c);
    return c;
}

/* (B, C, h, w) -> (B, C, cells) */
static mmf_tensor *means(mmf_tape *tape, const mmf_image_cells *c, mmf_tensor *map)
{
    const int64_t places = c->map_rows * c->map_columns;
    mmf_tensor *const flat =
        mmf_reshape(tape, map, 3, (int64_t[]){map ? map->shape[0] : 0, c->width, places});
    mmf_tensor *const shares = mmf_input(tape, c->shares, 2, (int64_t[]){c->n_cells, places});
    return mmf_matmul(tape, flat, shares, false, true);
}

static mmf_tensor *maxima(mmf_tape *tape, const mmf_image_cells *c, mmf_tensor *map)
{
    enum { MOST = 64 };
    mmf_tensor *cells[MOST];
    for (int64_t cell = 0; cell < c->n_cells && cell < MOST; cell++) {
        int64_t y0 = 0, y1 = 0, x0 = 0, x1 = 0;
        bin(cell / c->grid.columns, c->map_rows, c->grid.rows, &y0, &y1);
        bin(cell % c->grid.columns, c->map_columns, c->grid.columns, &x0, &x1);
        mmf_tensor *x = mmf_slice(tape, mmf_slice(tape, map, 2, y0, y1 - y0), 3, x0, x1 - x0);
        x = mmf_reshape(tape, x, 3, (int64_t[]){-1, c->width, (y1 - y0) * (x1 - x0)});
        cells[cell] = mmf_max(tape, x, 2);
    }
    return mmf_stack(tape, cells, (int)c->n_cells, 2);
}

mmf_tensor *mmf_image_cells_run(mmf_tape *tape, const mmf_image_cells *c, const mmf_named *in)
{
    mmf_tensor *const x = mmf_named_get(in, c->input->name);
    if (!c->has_net)
        return mmf_reshape(tape, x, 3, (int64_t[]){-1, c->n_cells, c->width});
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *const map = mmf_resnet_run(tape, &c->net, x);
    mmf_tensor *const cells = c->grid.by_max ? maxima(tape, c, map) : means(tape, c, map);
    return mmf_tape_leave(tape, mark, mmf_transpose(tape, cells, 1, 2));
}

mmf_tensor *mmf_image_cells_keys(mmf_tape *tape, const mmf_image_cells *c, const mmf_named *in)
{
    const mmf_tensor *const x = mmf_named_get(in, c->input->name);
    mmf_tensor *const given = mmf_key_mask(tape, in, c->input->name, c->n_cells);
    if (given || !x)
        return given;
    return mmf_full(tape, 2, (int64_t[]){x->shape[0], c->n_cells}, 1);
}
