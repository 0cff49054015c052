/* blas_onednn_panels.c: products with a weight in panels by oneDNN. */
#include "tensor/kernels/panel_kernel.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include "tensor/kernels/onednn.h"

/* Scratch of a product that its caller's stack holds. */
#define MAX_SCRATCH 16384

struct mmf_panel_kernel {
    onednn_unit unit;
    dnnl_memory_desc_t a, b, bias, c, scratch;
};

static bool end_with_relu(dnnl_primitive_attr_t attributes)
{
    dnnl_post_ops_t ends = NULL;
    if (dnnl_post_ops_create(&ends) != dnnl_success)
        return false;
    const bool fine =
        dnnl_post_ops_append_eltwise(ends, 1, dnnl_eltwise_relu, 0, 0) == dnnl_success &&
        dnnl_primitive_attr_set_post_ops(attributes, ends) == dnnl_success;
    dnnl_post_ops_destroy(ends);
    return fine;
}

/* The primitive's descriptor; NULL unless it is made of tiles, which read panels as they are. */
static dnnl_primitive_desc_t describe(mmf_panel_kernel *kernel, dnnl_primitive_attr_t attributes,
                                      const mmf_panel_shape *shape)
{
    const dnnl_dims_t a = {shape->m, shape->k}, b = {shape->k, shape->n}, c = {shape->m, shape->n};
    const dnnl_dims_t bias = {1, shape->n};
    dnnl_matmul_desc_t product;
    if (dnnl_memory_desc_init_by_tag(&kernel->a, 2, a, dnnl_f32, dnnl_ab) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->b, 2, b, dnnl_f32, dnnl_BA16a64b) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->bias, 2, bias, dnnl_f32, dnnl_ab) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->c, 2, c, dnnl_f32, dnnl_ab) != dnnl_success ||
        dnnl_matmul_desc_init(&product, &kernel->a, &kernel->b,
                              shape->has_bias ? &kernel->bias : NULL, &kernel->c) != dnnl_success)
        return NULL;
    return onednn_tiles(&kernel->unit, &product, attributes, MAX_SCRATCH, &kernel->scratch);
}

static bool make(mmf_panel_kernel *kernel, const mmf_panel_shape *shape)
{
    dnnl_primitive_attr_t attributes = onednn_attributes();
    if (!attributes)
        return false;
    const bool fine = onednn_open(&kernel->unit) && (!shape->relu || end_with_relu(attributes));
    dnnl_primitive_desc_t descriptor = fine ? describe(kernel, attributes, shape) : NULL;
    dnnl_primitive_attr_destroy(attributes);
    return onednn_make(&kernel->unit, descriptor);
}

mmf_panel_kernel *mmf_blas_panel_make(mmf_ctx *ctx, const mmf_panel_shape *shape)
{
    mmf_panel_kernel *const kernel = mmf_alloc_zero(ctx, 1, sizeof *kernel);
    if (kernel && make(kernel, shape))
        return kernel;
    mmf_blas_panel_free(ctx, kernel);
    return NULL;
}

void mmf_blas_panel_free(mmf_ctx *ctx, mmf_panel_kernel *kernel)
{
    if (!kernel)
        return;
    onednn_close(&kernel->unit);
    mmf_free(ctx, kernel);
}

bool mmf_blas_panel_run(const mmf_panel_kernel *kernel, const mmf_real *a, const mmf_real *panels,
                        const mmf_real *bias, mmf_real *c)
{
    _Alignas(64) unsigned char scratch[MAX_SCRATCH];
    const onednn_lent lent[] = {{DNNL_ARG_SRC, &kernel->a, a},
                                {DNNL_ARG_WEIGHTS, &kernel->b, panels},
                                {DNNL_ARG_DST, &kernel->c, c},
                                {DNNL_ARG_SCRATCHPAD, &kernel->scratch, scratch},
                                {DNNL_ARG_BIAS, &kernel->bias, bias}};
    return onednn_run(&kernel->unit, kernel->unit.primitive, lent, bias ? 5 : 4);
}

#endif
