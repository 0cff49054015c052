/* regions.c: see regions.h. */
#include "models/regions.h"

#include <math.h>

#include "nn/bert.h"

enum { CORNERS = 4, WITH_SIZES = 6, WITH_AREA = 7 };

const mmf_input_schema *mmf_regions_input(const mmf_schema *inputs)
{
    const mmf_input_schema *const named = mmf_schema_find(inputs, "vision");
    const mmf_input_schema *found = NULL;
    if (!mmf_bert_text(inputs))
        return NULL;
    if (named && named->kind != MMF_TOKENS)
        return named;
    for (size_t m = 0; m < inputs->count; m++) {
        if (inputs->inputs[m].kind == MMF_TOKENS)
            continue;
        if (found)
            return NULL;
        found = &inputs->inputs[m];
    }
    return found;
}

const char *mmf_regions_refusal(const mmf_schema *inputs)
{
    return mmf_regions_input(inputs) ? NULL
                                     : "it takes one modality of tokens (--kind NAME=tokens) and "
                                       "one of regions, an image "
                                       "or a vector; choose with --modalities, or use mcan";
}

mmf_regions mmf_regions_build(mmf_builder *b, const mmf_config *config,
                              const mmf_input_schema *input, int64_t cell_width, int64_t box_width,
                              bool adds_global)
{
    const bool image = input->kind == MMF_IMAGE;
    const int64_t given = input->companions[MMF_COMPANION_BOX];
    mmf_regions r = {.input = input,
                     .n = 1,
                     .width = image ? cell_width : input->shape[input->n_dims - 1],
                     .box_width = box_width,
                     .adds_global = adds_global};
    if (image) {
        r.cells = mmf_steps_build(b, config, input->name, input, cell_width, 0);
        r.n = r.cells.n_steps;
    } else if (input->kind == MMF_SEQUENCE) {
        r.n = input->shape[0];
    }
    if (given != 0 && given != box_width && given != CORNERS &&
        !(given == WITH_SIZES && box_width == WITH_AREA))
        mmf_builder_fail(b, MMF_SHAPE,
                         "%s.box has %lld numbers a region; expected %lld, or the corners alone: "
                         "x1, y1, x2, y2",
                         input->name, (long long)given, (long long)box_width);
    r.n += r.adds_global;
    return r;
}

/* ---- Boxes ------------------------------------------------------------------------------- */

static mmf_tensor *column(mmf_tape *tape, mmf_tensor *box, int64_t i)
{
    return mmf_slice(tape, box, 2, i, 1);
}

/* Corners and what follows from them. */
static mmf_tensor *completed(mmf_tape *tape, mmf_tensor *box, int64_t wanted)
{
    const int64_t given = box ? box->shape[2] : 0;
    if (!box || given == wanted)
        return box;
    mmf_tensor *const w = mmf_sub(tape, column(tape, box, 2), column(tape, box, 0));
    mmf_tensor *const h = mmf_sub(tape, column(tape, box, 3), column(tape, box, 1));
    mmf_tensor *const area = mmf_mul(tape, w, h);
    if (given == WITH_SIZES || wanted == CORNERS + 1)
        return mmf_concat(tape, (mmf_tensor *[]){box, area}, 2, 2);
    return mmf_concat(tape, (mmf_tensor *[]){box, w, h, area}, 4, 2);
}

/* The cells of a grid, row by row: (1, H W, 4). */
static mmf_tensor *grid(mmf_tape *tape, int64_t rows, int64_t columns)
{
    const double w = 1 / (double)columns, h = 1 / (double)rows;
    const int64_t wide[] = {1, columns, 1}, tall[] = {rows, 1, 1}, all[] = {rows, columns, 1};
    mmf_tensor *corners[CORNERS];
    corners[0] = mmf_reshape(tape, mmf_linspace(tape, columns, 0, 1 - w), 3, wide);
    corners[1] = mmf_reshape(tape, mmf_linspace(tape, rows, 0, 1 - h), 3, tall);
    corners[2] = mmf_affine(tape, corners[0], 1, w);
    corners[3] = mmf_affine(tape, corners[1], 1, h);
    for (int i = 0; i < CORNERS; i++)
        corners[i] = mmf_expand(tape, corners[i], 3, all);
    return mmf_reshape(tape, mmf_concat(tape, corners, CORNERS, 2), 3,
                       (int64_t[]){1, rows * columns, CORNERS});
}

static mmf_tensor *boxes_of(mmf_tape *tape, const mmf_regions *r, const mmf_named *in)
{
    const int64_t n = r->n - r->adds_global;
    mmf_tensor *box = mmf_named_part(in, r->input->name, "box");
    if (r->input->kind == MMF_IMAGE)
        box = grid(tape, r->cells.rows, r->cells.columns);
    if (!box)
        return mmf_full(tape, 3, (int64_t[]){1, n, r->box_width}, 0);
    return completed(tape, box, r->box_width);
}

/* ---- The whole image --------------------------------------------------------------------- */

static mmf_tensor *global_box(mmf_tape *tape, int64_t rows, int64_t width)
{
    mmf_tensor *const zeros = mmf_full(tape, 3, (int64_t[]){rows, 1, 2}, 0);
    mmf_tensor *const ones = mmf_full(tape, 3, (int64_t[]){rows, 1, width - 2}, 1);
    return mmf_concat(tape, (mmf_tensor *[]){zeros, ones}, 2, 2);
}

void mmf_regions_add_global(mmf_tape *tape, const mmf_regions *r, mmf_region_set *s)
{
    if (!s->x || !r->adds_global)
        return;
    const int64_t rows = s->x->shape[0];
    const mmf_steps steps = {s->x, s->mask};
    mmf_tensor *const mean =
        mmf_reshape(tape, mmf_steps_mean(tape, &steps), 3, (int64_t[]){rows, 1, r->width});
    s->x = mmf_concat(tape, (mmf_tensor *[]){mean, s->x}, 2, 1);
    if (s->box)
        s->box = mmf_concat(
            tape, (mmf_tensor *[]){global_box(tape, s->box->shape[0], r->box_width), s->box}, 2, 1);
    if (s->mask)
        s->mask = mmf_pad(tape, s->mask, 1, 1, 0, 1);
}

mmf_region_set mmf_regions_run(mmf_tape *tape, const mmf_regions *r, const mmf_named *in)
{
    const int64_t n = r->n - r->adds_global;
    const char *const name = r->input->name;
    mmf_region_set s = {.box = boxes_of(tape, r, in), .target = mmf_named_part(in, name, "target")};
    if (r->input->kind == MMF_IMAGE) {
        const mmf_steps cells = mmf_steps_run(tape, &r->cells, in);
        s.x = cells.x;
        s.mask = cells.mask;
    } else {
        mmf_tensor *const x = mmf_named_get(in, name);
        s.mask = mmf_key_mask(tape, in, name, n);
        const mmf_steps steps = {
            x ? mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], n, r->width}) : NULL, s.mask};
        s.x = mmf_steps_masked(tape, &steps);
    }
    return s;
}

mmf_region_set mmf_regions_of_rows(mmf_tape *tape, const mmf_region_set *s, const mmf_tensor *rows)
{
    mmf_region_set t = {.x = mmf_index_select(tape, s->x, rows), .box = s->box};
    if (s->box && s->x && s->box->shape[0] == s->x->shape[0])
        t.box = mmf_index_select(tape, s->box, rows);
    if (s->mask)
        t.mask = mmf_index_select(tape, s->mask, rows);
    if (s->target)
        t.target = mmf_index_select(tape, s->target, rows);
    return t;
}
