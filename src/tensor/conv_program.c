/* conv_program.c: see conv_program.h. */
#include "tensor/conv_program.h"

#include <math.h>
#include <string.h>

#include "tensor/conv_cache.h"
#include "tensor/kernels/conv_kernel.h"
#include "tensor/tape.h"

/* Images go to this many ranges at most; each has its own scratch. */
#define MAX_RANGES 16
/* With fewer images than this their channels are divided as well, into halves or quarters of at
 * least so many channels. */
#define FEW_IMAGES 4
#define LEAST_CHANNELS 32
#define MAX_GROUPS 4
/* Winograd's algorithm is fastest where the weights of a group are few. */
#define WINOGRAD_CHANNELS 128
/* Pixels below which its weights, 1.8 times as large, are not worth the time that it saves: 2 % of
 * ResNet-50 for a tenth of its memory. */
#define WINOGRAD_PIXELS 64

typedef struct planned {
    mmf_conv_shape shape; /* of a group of outputs */
    const mmf_conv_kernel *kernel;
    int64_t outputs, groups;
    int64_t group_size; /* of the weights, elements */
    int64_t size;       /* of biases and weights */
    bool is_kept;       /* the weights stand ready */
    mmf_real *bias, *weight;
} planned;

typedef struct image_slot {
    int64_t channels, height, width; /* of what stands there now */
    int64_t size;                    /* elements of an image at most */
    mmf_real *data;                  /* of the images of every lane */
} image_slot;

typedef struct program_run {
    mmf_tape *tape;
    const mmf_tensor *x;
    planned *plan;
    image_slot slots[MMF_CONV_SLOTS], result;
    int64_t block, n_images;
    mmf_lanes lanes;
    int64_t lane_images;  /* a slot holds so many for each lane */
    size_t scratch_bytes; /* of one range, or lane */
    unsigned char *scratch;
    mmf_real *packed; /* of one step, where none is kept */
    mmf_real *folded; /* of one step, as the network has them */
    const mmf_conv_step *steps;
    const mmf_conv_step *step; /* the step at hand */
    planned *p;
    int n_steps;
    int64_t grain;
    mmf_real *y; /* the result, row by row */
    bool failed;
} program_run;

static int64_t round_up(int64_t n, int64_t block)
{
    return (n + block - 1) / block * block;
}

/* ---- Planning ---------------------------------------------------------------------------- */

/* Depends on sizes alone, so results do not depend on the number of threads. */
static int64_t groups_of(const program_run *r, int64_t outputs)
{
    int64_t groups = 1;
    while (r->n_images * groups < FEW_IMAGES && groups < MAX_GROUPS &&
           outputs % (2 * groups * r->block) == 0 && outputs / (2 * groups) >= LEAST_CHANNELS)
        groups *= 2;
    return groups;
}

/* Sizes of a step; false where it does not fit what stands in its slot. */
static bool measure(const program_run *r, const mmf_conv_step *step, planned *p)
{
    const bool plain = step->from == MMF_CONV_INPUT;
    const image_slot input = {r->x->shape[1], r->x->shape[2], r->x->shape[3], 0, NULL};
    const image_slot *const from = plain ? &input : &r->slots[step->from];
    const mmf_tensor *const w = step->weight;
    mmf_conv_shape *const s = &p->shape;
    if (w && w->shape[1] != from->channels)
        return false;
    p->outputs = w ? w->shape[0] : from->channels;
    s->inputs = from->channels;
    s->height = from->height;
    s->width = from->width;
    s->plain_input = plain;
    s->add = step->add;
    s->relu = step->relu;
    s->is_pool = !w;
    for (int d = 0; d < 2; d++) {
        s->kernel[d] = w ? w->shape[2 + d] : step->window.kernel[d];
        s->stride[d] = step->window.stride[d] ? step->window.stride[d] : 1;
        s->padding[d] = step->window.padding[d];
    }
    const int64_t room[] = {s->height + 2 * s->padding[0] - s->kernel[0],
                            s->width + 2 * s->padding[1] - s->kernel[1]};
    if (room[0] < 0 || room[1] < 0)
        return false;
    s->out_height = room[0] / s->stride[0] + 1;
    s->out_width = room[1] / s->stride[1] + 1;
    return true;
}

static bool try_groups(program_run *r, planned *p, int64_t groups, bool winograd)
{
    p->groups = groups;
    p->shape.outputs = p->outputs / groups;
    p->shape.winograd = winograd;
    p->kernel = mmf_conv_cache_get(r->tape, &p->shape);
    return p->kernel != NULL;
}

/* 3x3 in 16 products for four results instead of 36. */
static bool plan_winograd(program_run *r, planned *p)
{
    const mmf_conv_shape *const s = &p->shape;
    for (int d = 0; d < 2; d++) {
        if (s->kernel[d] != 3 || s->stride[d] != 1 || s->padding[d] != 1)
            return false;
    }
    if (s->out_height * s->out_width < WINOGRAD_PIXELS || s->plain_input || s->is_pool ||
        p->outputs % r->block != 0 || s->inputs % r->block != 0)
        return false;
    for (int64_t groups = groups_of(r, p->outputs);
         groups <= MAX_GROUPS && p->outputs % (groups * r->block) == 0; groups *= 2) {
        const bool many = p->outputs / groups > WINOGRAD_CHANNELS && groups < MAX_GROUPS;
        if (!many && try_groups(r, p, groups, true))
            return true;
    }
    return false;
}

static bool plan_step(program_run *r, const mmf_conv_step *step, planned *p)
{
    if (!measure(r, step, p))
        return false;
    const mmf_conv_shape *const s = &p->shape;
    const int64_t b = r->block, area = s->kernel[0] * s->kernel[1];
    if (!plan_winograd(r, p) &&
        !try_groups(r, p, step->weight ? groups_of(r, p->outputs) : 1, false))
        return false;
    image_slot *const to = &r->slots[step->to];
    const int64_t size = round_up(p->outputs, b) * s->out_height * s->out_width;
    *to = (image_slot){p->outputs, s->out_height, s->out_width, size > to->size ? size : to->size,
                       NULL};
    if (!step->weight)
        return true;
    const int64_t inputs = s->plain_input ? s->inputs : round_up(s->inputs, b);
    p->group_size = round_up(s->outputs, b) * inputs * area;
    if (s->winograd)
        p->group_size =
            round_up((int64_t)(mmf_blas_conv_weight_bytes(p->kernel) / sizeof(mmf_real)), b);
    p->size = round_up(p->outputs, b) + p->groups * p->group_size;
    return true;
}

typedef struct largest {
    int64_t packed, folded;
} largest;

static bool plan(program_run *r, const mmf_conv_program *program, largest *most)
{
    for (int i = 0; i < program->n_steps; i++) {
        planned *const p = &r->plan[i];
        memset(p, 0, sizeof *p); /* the shape is compared as bytes */
        if (!plan_step(r, &program->steps[i], p))
            return false;
        const size_t scratch = (mmf_blas_conv_scratch(p->kernel) + 63) & ~(size_t)63;
        const int64_t folded = p->shape.winograd ? program->steps[i].weight->count : 0;
        r->scratch_bytes = scratch > r->scratch_bytes ? scratch : r->scratch_bytes;
        most->packed = p->size > most->packed ? p->size : most->packed;
        most->folded = folded > most->folded ? folded : most->folded;
    }
    r->result = r->slots[program->steps[program->n_steps - 1].to];
    return true;
}

/* ---- Weights ----------------------------------------------------------------------------- */

/* With s = g / sqrt(v + eps) the norm of W x is (s W) x + (b - s m). */
static void fold_output(const program_run *r, int64_t o, mmf_real *scale, mmf_real *shift)
{
    const mmf_conv_norm *const norm = &r->step->norm;
    double factor = 1, offset = 0;
    if (norm->var) {
        factor = (double)norm->weight->data[o] / sqrt((double)norm->var->data[o] + norm->eps);
        offset = (double)norm->bias->data[o] - factor * (double)norm->mean->data[o];
    }
    *scale = (mmf_real)factor;
    *shift = (mmf_real)offset;
}

/* Outputs in blocks [begin, end) in blocks of channels; those behind the last one are zeros. */
static void fold_range(void *argument, int64_t begin, int64_t end)
{
    const program_run *const r = argument;
    const mmf_tensor *const w = r->step->weight;
    const int64_t b = r->block, area = w->shape[2] * w->shape[3], inputs = w->shape[1];
    const bool plain = r->p->shape.plain_input;
    const int64_t in_blocks = (inputs + b - 1) / b, n_inputs = plain ? inputs : in_blocks * b;
    for (int64_t o = begin * b; o < end * b; o++) {
        const bool real = o < w->shape[0];
        mmf_real scale = 0;
        r->p->bias[o] = 0;
        if (real)
            fold_output(r, o, &scale, &r->p->bias[o]);
        const mmf_real *const from = w->data + (real ? o : 0) * inputs * area;
        for (int64_t c = 0; c < n_inputs; c++) {
            for (int64_t k = 0; k < area; k++) {
                const int64_t row = plain ? (o / b * area + k) * inputs + c
                                          : ((o / b * in_blocks + c / b) * area + k) * b + c % b;
                r->p->weight[row * b + o % b] = c < inputs && real ? scale * from[c * area + k] : 0;
            }
        }
    }
}

static bool fold_winograd(const program_run *r)
{
    const mmf_tensor *const w = r->step->weight;
    const int64_t each = w->count / w->shape[0], group = w->count / r->p->groups;
    for (int64_t o = 0; o < w->shape[0]; o++) {
        mmf_real scale = 0;
        fold_output(r, o, &scale, &r->p->bias[o]);
        r->tape->k->axpby(each, scale, w->data + o * each, 0, r->folded + o * each);
    }
    for (int64_t g = 0; g < r->p->groups; g++) {
        if (!mmf_blas_conv_pack(r->p->kernel, r->folded + g * group,
                                r->p->weight + g * r->p->group_size))
            return false;
    }
    return true;
}

/* Fills the weights at `piece`. */
static bool fold(program_run *r, mmf_real *piece)
{
    planned *const p = r->p;
    const int64_t outputs = round_up(p->outputs, r->block);
    p->bias = piece; /* a multiple of the block, so the weights are aligned as well */
    p->weight = piece + outputs;
    bool done = true;
    if (p->shape.winograd)
        done = fold_winograd(r);
    else
        mmf_tape__parallel(r->tape, outputs / r->block, mmf_grain(4 * p->size / outputs * r->block),
                           fold_range, r);
    mmf_tape__give_back(r->step->weight);
    return done;
}

static void rewind_to(mmf_tape *tape, mmf_tape_mark mark)
{
#ifndef MMF_ARENA_DEBUG
    mmf_arena_rewind(&tape->arena, (mmf_arena_mark){mark.chunk, mark.used, mark.total});
#else
    (void)tape, (void)mark;
#endif
}

static const char *form_of(const planned *p)
{
    static const char blocks[] = "blocks of channels, norm folded";
    static const char *const winograd[] = {"", "Winograd", "Winograd, halves", "",
                                           "Winograd, quarters"};
    return p->shape.winograd ? winograd[p->groups] : blocks;
}

/* Room for all weights that this pass will keep: chunk by chunk some would stay unused. */
static void reserve(const program_run *r)
{
    const size_t line = 64;
    size_t bytes = 0;
    for (int i = 0; i < r->n_steps; i++) {
        const planned *const p = &r->plan[i];
        const mmf_tensor *const w = r->steps[i].weight;
        if (w && w->wants_grad && !mmf_tape__kept(r->tape, w, form_of(p)))
            bytes += ((size_t)p->size * sizeof(mmf_real) + line - 1) / line * line +
                     (sizeof(mmf_kept) + line - 1) / line * line;
    }
    if (bytes > 0 && r->tape->pass.fixed && !r->tape->pass.record)
        mmf_arena_reserve(&r->tape->kept_arena, bytes);
}

/* What earlier passes over the same weights have left, or this one leaves. */
static bool keep(program_run *r)
{
    planned *const p = r->p;
    bool is_new = false;
    mmf_real *const piece = mmf_tape__keep(r->tape, r->step->weight, form_of(p),
                                           (size_t)p->size * sizeof *piece, &is_new);
    p->is_kept = piece != NULL;
    if (!piece || is_new)
        return !piece || fold(r, piece);
    p->bias = piece;
    p->weight = piece + round_up(p->outputs, r->block);
    return true;
}

/* ---- Running ----------------------------------------------------------------------------- */

/* Groups of outputs of images: [begin, end) of n_images x groups, in step `n`.
 * @param shift  from the number of an image to its place in the slots */
static void run_items(program_run *r, int n, int64_t begin, int64_t end, int64_t shift,
                      void *scratch)
{
    const planned *const p = &r->plan[n];
    const mmf_conv_step *const step = &r->steps[n];
    const mmf_conv_shape *const s = &p->shape;
    const image_slot *const to = &r->slots[step->to];
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / p->groups, group = i % p->groups;
        mmf_conv_arrays arrays = {.x = step->from == MMF_CONV_INPUT
                                           ? r->x->data + image * (r->x->count / r->n_images)
                                           : r->slots[step->from].data +
                                                 (image + shift) * r->slots[step->from].size,
                                  .y = to->data + (image + shift) * to->size +
                                       group * s->outputs * s->out_height * s->out_width};
        if (!s->is_pool) {
            arrays.weight = p->weight + group * p->group_size;
            arrays.bias = p->bias + group * s->outputs;
        }
        const bool done = mmf_blas_conv_run(p->kernel, &arrays, scratch);
        if (!done)
            __atomic_store_n(&r->failed, true, __ATOMIC_RELAXED);
    }
}

static void step_range(void *argument, int64_t begin, int64_t end)
{
    program_run *const r = argument;
    run_items(r, (int)(r->p - r->plan), begin, end, 0,
              r->scratch + (size_t)(begin / r->grain) * r->scratch_bytes);
}

/* Blocks of channels of images [begin, end) to rows: [C / b][H W][b] -> [C][H W]. */
static void put_rows(const program_run *r, int64_t begin, int64_t end, int64_t shift)
{
    const image_slot *const from = &r->slots[r->steps[r->n_steps - 1].to];
    const int64_t channels = r->result.channels, area = r->result.height * r->result.width;
    for (int64_t image = begin; image < end; image++) {
        const mmf_real *const blocks = from->data + (image + shift) * from->size;
        mmf_real *const to = r->y + image * channels * area;
        for (int64_t c = 0; c < channels; c++) {
            const mmf_real *const lane = blocks + c / r->block * area * r->block + c % r->block;
            for (int64_t i = 0; i < area; i++)
                to[c * area + i] = lane[i * r->block];
        }
    }
}

static void plain_range(void *argument, int64_t begin, int64_t end)
{
    put_rows(argument, begin, end, 0);
}

/* All steps over images [begin, end). */
static void images_range(void *argument, int64_t begin, int64_t end)
{
    program_run *const r = argument;
    const int64_t lane = mmf_lane_take(&r->lanes), shift = lane * r->lane_images - begin;
    for (int n = 0; n < r->n_steps; n++) {
        const int64_t groups = r->plan[n].groups;
        run_items(r, n, begin * groups, end * groups, shift,
                  r->scratch + (size_t)lane * r->scratch_bytes);
    }
    put_rows(r, begin, end, shift);
    mmf_lane_give(&r->lanes, lane);
}

static int64_t range_grain(const program_run *r)
{
    const mmf_conv_shape *const s = &r->p->shape;
    const int64_t n = r->n_images * r->p->groups;
    const int64_t taps = s->is_pool ? 1 : s->inputs * s->kernel[0] * s->kernel[1];
    const int64_t least = mmf_grain(s->outputs * s->out_height * s->out_width * taps / 8);
    const int64_t grain = (n + MAX_RANGES - 1) / MAX_RANGES;
    return grain < least ? least : grain;
}

static void count_products(program_run *r, const planned *p)
{
    const mmf_conv_shape *const s = &p->shape;
    if (!s->is_pool)
        mmf_tape__count_products(r->tape, r->n_images, p->outputs, s->out_height * s->out_width,
                                 s->inputs * s->kernel[0] * s->kernel[1]);
}

/* @return whether all weights stand ready */
static bool prepare(program_run *r, const largest *most)
{
    bool all = true;
    const mmf_tape_mark mark = mmf_tape_enter(r->tape);
    r->folded = mmf_tape__reals(r->tape, most->folded + 1);
    reserve(r);
    for (int i = 0; i < r->n_steps; i++) {
        r->step = &r->steps[i];
        r->p = &r->plan[i];
        count_products(r, r->p);
        if (!r->folded || (r->step->weight && !keep(r)))
            r->failed = true;
        all = all && (!r->step->weight || r->p->is_kept);
    }
    rewind_to(r->tape, mark);
    return all;
}

static bool allocate(program_run *r, int64_t n_scratch)
{
    for (int i = 0; i < MMF_CONV_SLOTS; i++) {
        if (r->slots[i].size == 0)
            continue;
        r->slots[i].data =
            mmf_tape__reals(r->tape, r->lanes.count * r->lane_images * r->slots[i].size);
        if (!r->slots[i].data)
            return false;
    }
    r->scratch = mmf_tape__alloc(r->tape, (size_t)n_scratch * r->scratch_bytes + 1);
    return r->scratch != NULL;
}

/* A thread takes its images through all steps: nobody waits in between, and no more images are in
 * memory than are under way. */
static bool run_images(program_run *r)
{
    r->grain = (r->n_images + MAX_RANGES - 1) / MAX_RANGES;
    r->lane_images = r->grain;
    if (!mmf_tape__lanes(r->tape, r->n_images, r->grain, &r->lanes) || !allocate(r, r->lanes.count))
        return false;
    mmf_tape__parallel(r->tape, r->n_images, r->grain, images_range, r);
    return !r->failed;
}

/* Step by step, where weights are not kept with those of one at a time. */
static bool run_steps(program_run *r, const largest *most)
{
    r->lanes.count = 1;
    r->lane_images = r->n_images;
    r->packed = mmf_tape__reals(r->tape, most->packed + 1);
    r->folded = mmf_tape__reals(r->tape, most->folded + 1);
    if (!r->packed || !r->folded || !allocate(r, MAX_RANGES))
        return false;
    for (int i = 0; i < r->n_steps && !r->failed; i++) {
        r->step = &r->steps[i];
        r->p = &r->plan[i];
        if (r->step->weight && !r->p->is_kept && !fold(r, r->packed))
            return false;
        r->grain = range_grain(r);
        mmf_tape__parallel(r->tape, r->n_images * r->p->groups, r->grain, step_range, r);
    }
    mmf_tape__parallel(r->tape, r->n_images, 1, plain_range, r);
    return !r->failed;
}

mmf_tensor *mmf_conv_program_run(mmf_tape *tape, const mmf_conv_program *program, mmf_tensor *x)
{
    if (!x || x->n_dims != 4 || x->is_int || x->count == 0)
        return NULL;
    program_run r = {.tape = tape,
                     .x = x,
                     .block = mmf_blas_block(),
                     .n_images = x->shape[0],
                     .steps = program->steps,
                     .n_steps = program->n_steps};
    const size_t n_steps = (size_t)program->n_steps;
    largest most = {0, 0};
    if (r.block == 0)
        return NULL;
    r.plan = mmf_tape__alloc(tape, n_steps * sizeof *r.plan);
    if (!r.plan || !plan(&r, program, &most))
        return NULL;
    mmf_tensor *const y = mmf_tape__tensor(
        tape, 4, (int64_t[]){r.n_images, r.result.channels, r.result.height, r.result.width});
    if (!y)
        return NULL;
    r.y = y->data;
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    const bool all_kept = prepare(&r, &most);
    const bool done =
        !r.failed && (all_kept && r.n_images >= FEW_IMAGES ? run_images(&r) : run_steps(&r, &most));
    if (!done)
        return mmf_tape__fail(tape, MMF_NOMEM, "conv_program", "%s could not run the network",
                              mmf_blas_name());
    rewind_to(tape, mark);
    return y;
}
