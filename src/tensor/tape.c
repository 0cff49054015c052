/* tape.c: the record of a pass, its memory, its sticky error and the backward walk. */
#include "tensor/tape.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "base/file.h"
#include "tensor/conv_cache.h"
#include "tensor/int8.h"

mmf_status mmf_tape_create(mmf_ctx *ctx, mmf_tape **out)
{
    *out = NULL;
    mmf_tape *tape = mmf_alloc_zero(ctx, 1, sizeof *tape);
    if (!tape)
        return MMF_NOMEM;
    tape->ctx = ctx;
    tape->k = mmf_kernels_for(ctx->cpu);
    mmf_blas_limit_cpu(ctx->cpu);
    mmf_arena_init(&tape->arena, ctx);
    mmf_arena_init(&tape->kept_arena, ctx);
    tape->kept_arena.is_roomy = true;
    tape->threads_sleep = mmf_threads_sleep();
    *out = tape;
    return MMF_OK;
}

static void forget_kept(mmf_tape *tape)
{
    tape->kept = NULL;
    mmf_arena_clear(&tape->kept_arena);
}

void mmf_tape_free(mmf_tape *tape)
{
    if (!tape)
        return;
    forget_kept(tape);
    mmf_conv_cache_free(tape->ctx, tape->conv_kernels);
    mmf_int8_free(tape->ctx, tape->byte_kernels);
    mmf_arena_clear(&tape->arena);
    mmf_free(tape->ctx, tape);
}

void mmf_tape_begin(mmf_tape *tape, const mmf_pass *pass)
{
    mmf_arena_reset(&tape->arena);
    if (tape->kept && !pass->fixed)
        forget_kept(tape);
    tape->pass = *pass;
    tape->arena.is_roomy = !pass->record;
    tape->n_threads = tape->ctx->n_threads;
    tape->last = NULL;
    tape->n_nodes = 0;
    tape->n_sites = 0;
    tape->flops = 0;
    tape->status = MMF_OK;
    tape->message[0] = '\0';
}

const mmf_pass *mmf_tape_pass(const mmf_tape *tape)
{
    return &tape->pass;
}

mmf_ctx *mmf_tape_ctx(const mmf_tape *tape)
{
    return tape->ctx;
}

mmf_status mmf_tape_status(mmf_tape *tape)
{
    if (tape->status != MMF_OK)
        mmf_fail(tape->ctx, tape->status, "%s", tape->message);
    return tape->status;
}

size_t mmf_tape_peak_bytes(const mmf_tape *tape)
{
    return tape->arena.peak;
}

int64_t mmf_tape_n_nodes(const mmf_tape *tape)
{
    return tape->n_nodes;
}

double mmf_tape_flops(const mmf_tape *tape)
{
    return tape->flops;
}

/* ---- Memory ------------------------------------------------------------------------------ */

void *mmf_tape__alloc(mmf_tape *tape, size_t bytes)
{
    void *const piece = mmf_arena_alloc(&tape->arena, bytes);
    if (!piece)
        mmf_tape__fail(tape, MMF_NOMEM, "tape", "%s", tape->ctx->error);
    return piece;
}

mmf_real *mmf_tape__reals(mmf_tape *tape, int64_t count)
{
    return mmf_tape__alloc(tape, (size_t)count * sizeof(mmf_real));
}

void *mmf_tape__kept(const mmf_tape *tape, const mmf_tensor *of, const char *form)
{
    for (const mmf_kept *kept = tape->kept; kept; kept = kept->next) {
        if (kept->of == of->data && strcmp(kept->form, form) == 0)
            return kept->piece;
    }
    return NULL;
}

void *mmf_tape__keep(mmf_tape *tape, const mmf_tensor *of, const char *form, size_t bytes,
                     bool *is_new)
{
    /* Without recording, nothing but parameters and variables wants gradients. */
    if (!tape->pass.fixed || tape->pass.record || !of->wants_grad)
        return NULL;
    void *piece = mmf_tape__kept(tape, of, form);
    *is_new = false;
    if (piece)
        return piece;
    mmf_kept *const kept = mmf_arena_alloc(&tape->kept_arena, sizeof *kept);
    piece = kept ? mmf_arena_alloc(&tape->kept_arena, bytes) : NULL;
    if (!piece)
        return NULL;
    *kept = (mmf_kept){tape->kept, of->data, form, piece};
    tape->kept = kept;
    *is_new = true;
    return piece;
}

void mmf_tape__give_back(const mmf_tensor *of)
{
    if (of->is_mapped)
        mmf_map_give_back(of->data, (size_t)of->count * sizeof *of->data);
}

static mmf_tensor *new_tensor(mmf_tape *tape, int n_dims, const int64_t *shape, bool with_data)
{
    if (tape->status != MMF_OK)
        return NULL;
    if (n_dims < 0 || n_dims > MMF_MAX_DIMS)
        return mmf_tape__fail(tape, MMF_LIMIT, "tensor", "%d dimensions, at most %d", n_dims,
                              MMF_MAX_DIMS);
    size_t count = 1;
    for (int d = 0; d < n_dims; d++) {
        if (shape[d] < 0 || !mmf_mul_ok(count, (size_t)shape[d], &count))
            return mmf_tape__fail(tape, MMF_SHAPE, "tensor", "dimension %d is %lld", d,
                                  (long long)shape[d]);
    }
    size_t bytes = 0;
    const size_t header_bytes = (sizeof(mmf_tensor) + 63) & ~(size_t)63;
    if (!mmf_mul_ok(count, with_data ? sizeof(mmf_real) : 0, &bytes) ||
        __builtin_add_overflow(bytes, header_bytes, &bytes))
        return mmf_tape__fail(tape, MMF_NOMEM, "tensor", "%zu elements", count);
    mmf_tensor *tensor = mmf_tape__alloc(tape, bytes);
    if (!tensor)
        return NULL;
    tensor->data = with_data ? (mmf_real *)(void *)((unsigned char *)tensor + header_bytes) : NULL;
    tensor->grad = NULL;
    tensor->count = (int64_t)count;
    tensor->n_dims = n_dims;
    tensor->is_int = tensor->wants_grad = tensor->is_mapped = false;
    tensor->touched = 0;
    for (int d = 0; d < n_dims; d++)
        tensor->shape[d] = shape[d];
    return tensor;
}

mmf_tensor *mmf_tape__tensor(mmf_tape *tape, int n_dims, const int64_t *shape)
{
    return new_tensor(tape, n_dims, shape, true);
}

void *mmf_tape__record(mmf_tape *tape, size_t bytes, const char *op, mmf_tensor *out, bool wants,
                       mmf_backward_fn *backward)
{
    if (!wants || !tape->pass.record || !out)
        return NULL;
    mmf_node *node = mmf_tape__alloc(tape, bytes);
    if (!node)
        return NULL;
    *node = (mmf_node){tape->last, op, backward, out};
    tape->last = node;
    tape->n_nodes++;
    out->wants_grad = true;
    return node;
}

mmf_tape_mark mmf_tape_enter(mmf_tape *tape)
{
    const mmf_arena_mark here = mmf_arena_here(&tape->arena);
    return (mmf_tape_mark){here.chunk, here.used, here.total};
}

mmf_tensor *mmf_tape_leave(mmf_tape *tape, mmf_tape_mark mark, mmf_tensor *keep)
{
    if (tape->pass.record || !keep || tape->status != MMF_OK)
        return keep;
#ifdef MMF_ARENA_DEBUG
    (void)mark; /* every piece is a block of its own there, and the kept one cannot move down */
    return keep;
#else
    if (keep->is_int)
        return keep;
    const mmf_tensor kept = *keep;
    const size_t header_bytes = (sizeof(mmf_tensor) + 63) & ~(size_t)63;
    mmf_tensor *const moved =
        mmf_arena_rewind_but(&tape->arena, (mmf_arena_mark){mark.chunk, mark.used, mark.total},
                             header_bytes, kept.data, (size_t)kept.count * sizeof(mmf_real));
    if (!moved)
        return mmf_tape__fail(tape, MMF_NOMEM, "tape", "%s", tape->ctx->error);
    *moved = kept;
    moved->data = (mmf_real *)(void *)((unsigned char *)moved + header_bytes);
    return moved;
#endif
}

/* ---- Leaves ------------------------------------------------------------------------------ */

mmf_tensor *mmf_input(mmf_tape *tape, mmf_real *data, int n_dims, const int64_t *shape)
{
    mmf_tensor *tensor = new_tensor(tape, n_dims, shape, false);
    if (tensor)
        tensor->data = data;
    return tensor;
}

mmf_tensor *mmf_variable(mmf_tape *tape, mmf_real *data, int n_dims, const int64_t *shape)
{
    mmf_tensor *tensor = mmf_input(tape, data, n_dims, shape);
    if (tensor)
        tensor->wants_grad = true;
    return tensor;
}

mmf_tensor *mmf_input_ints(mmf_tape *tape, int64_t *data, int n_dims, const int64_t *shape)
{
    mmf_tensor *tensor = new_tensor(tape, n_dims, shape, false);
    if (tensor) {
        tensor->ints = data;
        tensor->is_int = true;
    }
    return tensor;
}

mmf_tensor *mmf_full(mmf_tape *tape, int n_dims, const int64_t *shape, double value)
{
    mmf_tensor *tensor = mmf_tape__tensor(tape, n_dims, shape);
    if (tensor)
        tape->k->fill(tensor->count, (mmf_real)value, tensor->data);
    return tensor;
}

mmf_tensor *mmf_linspace(mmf_tape *tape, int64_t n, double low, double high)
{
    mmf_tensor *const tensor = mmf_tape__tensor(tape, 1, &n);
    const double step = n > 1 ? (high - low) / (double)(n - 1) : 0;
    for (int64_t i = 0; tensor && i < n; i++)
        tensor->data[i] = (mmf_real)(low + step * (double)i);
    return tensor;
}

/* ---- Errors ------------------------------------------------------------------------------ */

uint64_t mmf_tape__stream(mmf_tape *tape)
{
    const uint64_t site = tape->n_sites++;
    return tape->pass.step << 16 | (site & 0xffff);
}

mmf_tensor *mmf_tape__fail(mmf_tape *tape, mmf_status status, const char *op, const char *format,
                           ...)
{
    if (tape->status == MMF_OK) {
        tape->status = status;
        char detail[400];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        snprintf(tape->message, sizeof tape->message, "%s: %s", op, detail);
    }
    return NULL;
}

mmf_tensor *mmf_tape__missing(mmf_tape *tape, const char *op)
{
    return mmf_tape__fail(tape, MMF_ARG, op, "an input is missing");
}

mmf_tensor *mmf_tape__unfit(mmf_tape *tape, const char *op, const mmf_tensor *a,
                            const mmf_tensor *b, const char *hint)
{
    char shape_a[96], shape_b[96];
    return mmf_tape__fail(tape, MMF_SHAPE, op, "%s and %s do not fit: %s",
                          mmf_shape_text(shape_a, sizeof shape_a, a->shape, a->n_dims),
                          mmf_shape_text(shape_b, sizeof shape_b, b->shape, b->n_dims), hint);
}

/* ---- Shapes ------------------------------------------------------------------------------ */

int mmf_tape__axis(const mmf_tensor *x, int axis)
{
    const int resolved = axis < 0 ? axis + x->n_dims : axis;
    return resolved >= 0 && resolved < x->n_dims ? resolved : -1;
}

bool mmf_tensor__same_shape(const mmf_tensor *a, const mmf_tensor *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (int d = 0; d < a->n_dims; d++) {
        if (a->shape[d] != b->shape[d])
            return false;
    }
    return true;
}

int64_t mmf_tensor__outer(const mmf_tensor *x, int axis)
{
    int64_t n = 1;
    for (int d = 0; d < axis; d++)
        n *= x->shape[d];
    return n;
}

int64_t mmf_tensor__inner(const mmf_tensor *x, int axis)
{
    int64_t n = 1;
    for (int d = axis + 1; d < x->n_dims; d++)
        n *= x->shape[d];
    return n;
}

/* ---- Backward ---------------------------------------------------------------------------- */

mmf_real *mmf_tape__grad(mmf_tape *tape, mmf_tensor *tensor, bool *fresh)
{
    if (!tensor || !tensor->wants_grad)
        return NULL;
    *fresh = tensor->touched != tape->backward_pass;
    if (*fresh) {
        if (!tensor->grad)
            tensor->grad = mmf_tape__reals(tape, tensor->count);
        tensor->touched = tape->backward_pass;
    }
    return tensor->grad;
}

mmf_real *mmf_tape__grad_zeroed(mmf_tape *tape, mmf_tensor *tensor)
{
    bool fresh = false;
    mmf_real *const grad = mmf_tape__grad(tape, tensor, &fresh);
    if (grad && fresh)
        memset(grad, 0, (size_t)tensor->count * sizeof *grad);
    return grad;
}

bool mmf_tensor_has_grad(const mmf_tape *tape, const mmf_tensor *tensor)
{
    return tensor->grad && tensor->touched == tape->backward_pass && tape->backward_pass > 0;
}

const mmf_real *mmf_tape__output_grad(const mmf_tape *tape, const mmf_tensor *out)
{
    return out && mmf_tensor_has_grad(tape, out) ? out->grad : NULL;
}

mmf_status mmf_tape_backward_from(mmf_tape *tape, mmf_tensor *out, const mmf_real *cotangent)
{
    if (tape->status == MMF_OK && !out)
        mmf_tape__missing(tape, "backward");
    if (tape->status == MMF_OK && !tape->pass.record)
        mmf_tape__fail(tape, MMF_STATE, "backward", "the pass was not recorded");
    if (tape->status != MMF_OK)
        return mmf_tape_status(tape);
    tape->backward_pass++;
    bool fresh = false;
    mmf_real *const seed = mmf_tape__grad(tape, out, &fresh);
    if (seed)
        memcpy(seed, cotangent, (size_t)out->count * sizeof *seed);
    for (mmf_node *node = tape->last; node && tape->status == MMF_OK; node = node->previous) {
        if (node->out->touched == tape->backward_pass)
            node->backward(tape, node);
    }
    return mmf_tape_status(tape);
}

mmf_status mmf_tape_backward(mmf_tape *tape, mmf_tensor *loss)
{
    const mmf_real one = 1;
    if (loss && loss->count != 1)
        mmf_tape__fail(tape, MMF_SHAPE, "backward", "the loss has %lld elements, expected 1",
                       (long long)loss->count);
    return mmf_tape_backward_from(tape, loss, &one);
}

const char *mmf_tape_first_nonfinite(const mmf_tape *tape)
{
    const char *first = NULL;
    for (const mmf_node *node = tape->last; node; node = node->previous) {
        for (int64_t i = 0; i < node->out->count; i++) {
            if (!isfinite(node->out->data[i])) {
                first =
                    node->op; /* the walk goes back in time: the last hit is the first in time */
                break;
            }
        }
    }
    return first;
}
