/*
 * recompute.c: parts of a network whose activations are computed again when their gradients are
 * wanted (Chen, Xu, Zhang, Guestrin, arXiv:1604.06174).
 */
#include <string.h>

#include "tensor/tape.h"

typedef struct segment_node {
    mmf_node base;
    mmf_segment_fn *fn;
    const void *self;
    mmf_tensor *x;
    uint64_t first_site; /* of the random draws */
} segment_node;

/* Walks back what was recorded since tape->last was NULL. */
static void walk(mmf_tape *tape, mmf_tensor *y, mmf_real *grad)
{
    y->grad = grad;
    y->touched = tape->backward_pass;
    for (mmf_node *node = tape->last; node && tape->status == MMF_OK; node = node->previous) {
        if (node->out->touched == tape->backward_pass)
            node->backward(tape, node);
    }
}

static void add_gradient(const mmf_tape *tape, const mmf_tensor *x, mmf_real *to, bool fresh)
{
    const bool reached = mmf_tensor_has_grad(tape, x);
    for (int64_t i = 0; i < x->count; i++)
        to[i] = (fresh ? 0 : to[i]) + (reached ? x->grad[i] : 0);
}

static void segment_backward(mmf_tape *tape, mmf_node *base)
{
    const segment_node *const node = (const segment_node *)(const void *)base;
    bool fresh = false;
    /* What outlives this part is taken before the mark that its memory is given back to. */
    mmf_real *const to = mmf_tape__grad(tape, node->x, &fresh);
    const mmf_arena_mark mark = mmf_arena_here(&tape->arena);
    mmf_node *const last = tape->last;
    const uint64_t n_sites = tape->n_sites;
    const int64_t n_nodes = tape->n_nodes;
    tape->last = NULL;
    tape->n_sites = node->first_site;
    mmf_tensor *const x = to ? mmf_variable(tape, node->x->data, node->x->n_dims, node->x->shape)
                             : mmf_input(tape, node->x->data, node->x->n_dims, node->x->shape);
    mmf_tensor *const y = x ? node->fn(tape, node->self, x) : NULL;
    if (y) {
        walk(tape, y, base->out->grad);
        if (to)
            add_gradient(tape, x, to, fresh);
    }
    tape->last = last;
    tape->n_sites = n_sites;
    tape->n_nodes = n_nodes;
    mmf_arena_rewind(&tape->arena, mark);
}

mmf_tensor *mmf_recompute(mmf_tape *tape, mmf_segment_fn *fn, const void *self, size_t n_self,
                          mmf_tensor *x, bool wants)
{
    static const char op[] = "recompute";
    if (!x)
        return mmf_tape__missing(tape, op);
    if (!tape->pass.record || !wants)
        return fn(tape, self, x);
    void *const copy = mmf_tape__alloc(tape, n_self);
    if (!copy)
        return NULL;
    memcpy(copy, self, n_self);
    const uint64_t first_site = tape->n_sites;
    tape->pass.record = false;
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *const y = mmf_tape_leave(tape, mark, fn(tape, copy, x));
    tape->pass.record = true;
    segment_node *const node = mmf_tape__record(tape, sizeof *node, op, y, true, segment_backward);
    if (node) {
        node->fn = fn;
        node->self = copy;
        node->x = x;
        node->first_site = first_site;
    }
    return y;
}
