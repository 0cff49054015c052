/* ops.c: the table of operations and the inputs of their example calls. */
#include "tensor/ops.h"

#include <string.h>

#include "tensor/tape.h"

#define MMF_OP(file, name) extern const mmf_op mmf_op_##name;
#include "tensor/ops/ops.def"
#undef MMF_OP

static const mmf_op *const ops[] = {
#define MMF_OP(file, name) &mmf_op_##name,
#include "tensor/ops/ops.def"
#undef MMF_OP
};

const mmf_op *const *mmf_ops(size_t *count)
{
    *count = sizeof ops / sizeof *ops;
    return ops;
}

static void draw(mmf_op_case *c, double low, double high, mmf_tensor *out)
{
    for (int64_t i = 0; i < out->count; i++) {
        double value = low + (high - low) * mmf_rng_uniform(&c->rng);
        if (value >= 0 && value < c->gap)
            value += c->gap;
        else if (value < 0 && value > -c->gap)
            value -= c->gap;
        out->data[i] = (mmf_real)value;
    }
}

/* The next stored piece, or NULL where it is still to be drawn (or there is no store). */
static void *take_stored(mmf_op_case *c)
{
    return c->store && c->n_stored < c->store->count ? c->store->data[c->n_stored++] : NULL;
}

static void keep_stored(mmf_op_case *c, const void *data, size_t n_bytes)
{
    mmf_op_store *const store = c->store;
    if (!store || store->count == MMF_CASE_STORED)
        return;
    void *const copy = mmf_alloc(store->ctx, n_bytes);
    if (!copy)
        return;
    memcpy(copy, data, n_bytes);
    store->data[store->count++] = copy;
    c->n_stored = store->count;
}

void mmf_op_store_clear(mmf_op_store *store)
{
    for (int i = 0; i < store->count; i++)
        mmf_free(store->ctx, store->data[i]);
    store->count = 0;
}

mmf_tensor *mmf_case_constant(mmf_op_case *c, double low, double high, int n_dims,
                              const int64_t *shape)
{
    void *const stored = take_stored(c);
    if (stored)
        return mmf_input(c->tape, stored, n_dims, shape);
    mmf_tensor *out = mmf_tape__tensor(c->tape, n_dims, shape);
    if (out) {
        draw(c, low, high, out);
        keep_stored(c, out->data, (size_t)out->count * sizeof *out->data);
    }
    return out;
}

mmf_tensor *mmf_case_input(mmf_op_case *c, double low, double high, int n_dims,
                           const int64_t *shape)
{
    mmf_tensor *out = mmf_case_constant(c, low, high, n_dims, shape);
    if (!out || c->n_inputs == MMF_CASE_INPUTS)
        return NULL;
    if (c->replay) {
        for (int64_t i = 0; i < out->count; i++)
            out->data[i] = c->replay[c->n_inputs][i];
    }
    out->wants_grad = !(c->frozen >> c->n_inputs & 1);
    c->inputs[c->n_inputs++] = out;
    return out;
}

mmf_tensor *mmf_case_ints(mmf_op_case *c, int64_t low, int64_t high, int n_dims,
                          const int64_t *shape)
{
    void *const stored = take_stored(c);
    if (stored)
        return mmf_input_ints(c->tape, stored, n_dims, shape);
    int64_t count = 1;
    for (int d = 0; d < n_dims; d++)
        count *= shape[d];
    int64_t *values = mmf_tape__alloc(c->tape, (size_t)count * sizeof *values);
    if (!values)
        return NULL;
    for (int64_t i = 0; i < count; i++)
        values[i] = low + (int64_t)mmf_rng_below(&c->rng, (uint64_t)(high - low));
    keep_stored(c, values, (size_t)count * sizeof *values);
    return mmf_input_ints(c->tape, values, n_dims, shape);
}

double mmf_flops_elementwise(const mmf_op_case *c, const mmf_tensor *out)
{
    (void)c;
    return (double)out->count;
}
