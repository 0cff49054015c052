/* blas_onednn.c: matrix products and convolutions by oneDNN. Beside
 * blas_onednn_bytes.c the only file that knows oneDNN. */
#include "tensor/kernels/conv_kernel.h"
#include "tensor/tape.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>
#ifdef MMF_WITH_OPENMP
#include <omp.h>
#endif

void mmf_blas_gemm(const mmf_gemm *g)
{
    dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha,
               g->a, g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
}

const char *mmf_blas_name(void)
{
    return "oneDNN";
}

void mmf_blas_limit_cpu(mmf_cpu cpu)
{
    static const dnnl_cpu_isa_t limits[] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2,
                                            dnnl_cpu_isa_all};
    /* Refused after the first product; then the limit of the first context stands. */
    (void)dnnl_set_max_cpu_isa(limits[cpu]);
#ifdef MMF_WITH_OPENMP
    /* oneDNN asks OpenMP how many threads to use. Our own regions name their number, so this only
     * keeps single products on the calling thread, where results do not depend on the thread count.
     */
    omp_set_num_threads(1);
#endif
}

/* ---- Convolution of one image in blocks of channels -------------------------------------- */

struct mmf_conv_kernel {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, weight, bias, y, scratch;
    dnnl_memory_desc_t given_weight; /* [O][C][kh][kw] */
    bool is_pool;
};

int64_t mmf_blas_block(void)
{
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
        return 16;
    return (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 ? 8 : 0;
}

static bool describe(mmf_conv_kernel *k, const mmf_conv_shape *s)
{
    const bool wide = mmf_blas_block() == 16;
    const dnnl_format_tag_t images = wide ? dnnl_nChw16c : dnnl_nChw8c;
    const dnnl_format_tag_t plain = wide ? dnnl_Ohwi16o : dnnl_Ohwi8o;
    const dnnl_format_tag_t blocks = s->winograd ? dnnl_format_tag_any
                                     : wide      ? dnnl_OIhw16i16o
                                                 : dnnl_OIhw8i8o;
    const dnnl_dims_t x = {1, s->inputs, s->height, s->width};
    const dnnl_dims_t y = {1, s->outputs, s->out_height, s->out_width};
    const dnnl_dims_t weight = {s->outputs, s->inputs, s->kernel[0], s->kernel[1]};
    const dnnl_dims_t bias = {s->outputs};
    const dnnl_data_type_t type = dnnl_f32;
    return dnnl_memory_desc_init_by_tag(&k->x, 4, x, type, s->plain_input ? dnnl_nchw : images) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->y, 4, y, type, images) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->weight, 4, weight, type,
                                        s->plain_input ? plain : blocks) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->given_weight, 4, weight, type, dnnl_oihw) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->bias, 1, bias, type, dnnl_a) == dnnl_success;
}

static bool add_post_operations(dnnl_primitive_attr_t attributes, const mmf_conv_shape *s)
{
    dnnl_post_ops_t after = NULL;
    bool fine = dnnl_post_ops_create(&after) == dnnl_success;
    if (fine && s->add)
        fine = dnnl_post_ops_append_sum(after, 1) == dnnl_success;
    if (fine && s->relu)
        fine = dnnl_post_ops_append_eltwise(after, 1, dnnl_eltwise_relu, 0, 0) == dnnl_success;
    fine = fine && dnnl_primitive_attr_set_post_ops(attributes, after) == dnnl_success;
    if (after)
        dnnl_post_ops_destroy(after);
    return fine;
}

/* Reference code, and products behind a copy of the image, are no faster than our own. The larger
 * tiles of Winograd's algorithm lose digits. */
static bool is_wanted(const_dnnl_primitive_desc_t descriptor, const mmf_conv_shape *s)
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name) != dnnl_success ||
        !name)
        return false;
    return s->winograd ? strstr(name, "wino_2x3") != NULL
                       : strncmp(name, "jit", 3) == 0 || strncmp(name, "brg", 3) == 0;
}

/* The only part that differs from version 3, which has no descriptors of operations. */
static dnnl_primitive_desc_t make_descriptor(const mmf_conv_kernel *k, const mmf_conv_shape *s,
                                             dnnl_primitive_attr_t attributes)
{
    dnnl_convolution_desc_t conv;
    dnnl_pooling_desc_t pool;
    dnnl_primitive_desc_iterator_t choices = NULL;
    dnnl_primitive_desc_t found = NULL;
    const dnnl_alg_kind_t algorithm =
        s->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    const dnnl_dims_t stride = {s->stride[0], s->stride[1]};
    const dnnl_dims_t kernel = {s->kernel[0], s->kernel[1]};
    const dnnl_dims_t padding = {s->padding[0], s->padding[1]};
    const dnnl_status_t described =
        s->is_pool ? dnnl_pooling_forward_desc_init(&pool, dnnl_forward_inference, dnnl_pooling_max,
                                                    &k->x, &k->y, stride, kernel, padding, padding)
                   : dnnl_convolution_forward_desc_init(&conv, dnnl_forward_inference, algorithm,
                                                        &k->x, &k->weight, &k->bias, &k->y, stride,
                                                        padding, padding);
    const void *const operation = s->is_pool ? (const void *)&pool : (const void *)&conv;
    if (described != dnnl_success ||
        dnnl_primitive_desc_iterator_create(&choices, operation, attributes, k->engine, NULL) !=
            dnnl_success)
        return NULL;
    do {
        found = dnnl_primitive_desc_iterator_fetch(choices);
        if (found && is_wanted(found, s))
            break;
        dnnl_primitive_desc_destroy(found);
        found = NULL;
    } while (dnnl_primitive_desc_iterator_next(choices) == dnnl_success);
    dnnl_primitive_desc_iterator_destroy(choices);
    return found;
}

static bool make(mmf_conv_kernel *k, const mmf_conv_shape *s)
{
    dnnl_primitive_attr_t attributes = NULL;
    if (!describe(k, s) || dnnl_engine_create(&k->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&k->stream, k->engine, dnnl_stream_default_flags) != dnnl_success ||
        dnnl_primitive_attr_create(&attributes) != dnnl_success)
        return false;
    dnnl_primitive_desc_t descriptor = NULL;
    /* Scratch that the caller gives lets one primitive run on several threads. */
    if (dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) ==
            dnnl_success &&
        add_post_operations(attributes, s))
        descriptor = make_descriptor(k, s, attributes);
    dnnl_primitive_attr_destroy(attributes);
    bool fine = descriptor != NULL;
    if (fine) {
        k->scratch = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
        if (s->winograd)
            k->weight = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 0);
        fine = dnnl_primitive_create(&k->primitive, descriptor) == dnnl_success;
    }
    if (descriptor)
        dnnl_primitive_desc_destroy(descriptor);
    return fine;
}

mmf_conv_kernel *mmf_blas_conv_make(mmf_ctx *ctx, const mmf_conv_shape *shape)
{
    mmf_conv_kernel *const k = mmf_alloc_zero(ctx, 1, sizeof *k);
    if (!k)
        return NULL;
    k->is_pool = shape->is_pool != 0;
    if (!make(k, shape)) {
        mmf_blas_conv_free(ctx, k);
        return NULL;
    }
    return k;
}

void mmf_blas_conv_free(mmf_ctx *ctx, mmf_conv_kernel *k)
{
    if (!k)
        return;
    if (k->primitive)
        dnnl_primitive_destroy(k->primitive);
    if (k->stream)
        dnnl_stream_destroy(k->stream);
    if (k->engine)
        dnnl_engine_destroy(k->engine);
    mmf_free(ctx, k);
}

size_t mmf_blas_conv_scratch(const mmf_conv_kernel *k)
{
    return dnnl_memory_desc_get_size(&k->scratch);
}

enum { MAX_ARGUMENTS = 5 };

static bool lend(const mmf_conv_kernel *k, dnnl_exec_arg_t *argument, int name,
                 const dnnl_memory_desc_t *description, const void *data)
{
    argument->arg = name;
    return dnnl_memory_create(&argument->memory, description, k->engine, (void *)(uintptr_t)data) ==
           dnnl_success;
}

size_t mmf_blas_conv_weight_bytes(const mmf_conv_kernel *k)
{
    return dnnl_memory_desc_get_size(&k->weight);
}

bool mmf_blas_conv_pack(const mmf_conv_kernel *k, const mmf_real *weight, void *packed)
{
    dnnl_exec_arg_t arguments[2] = {{0, NULL}};
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    const bool fine =
        lend(k, &arguments[0], DNNL_ARG_FROM, &k->given_weight, weight) &&
        lend(k, &arguments[1], DNNL_ARG_TO, &k->weight, packed) &&
        dnnl_reorder_primitive_desc_create(&descriptor, &k->given_weight, k->engine, &k->weight,
                                           k->engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&reorder, descriptor) == dnnl_success &&
        dnnl_primitive_execute(reorder, k->stream, 2, arguments) == dnnl_success &&
        dnnl_stream_wait(k->stream) == dnnl_success;
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (descriptor)
        dnnl_primitive_desc_destroy(descriptor);
    for (int i = 0; i < 2; i++) {
        if (arguments[i].memory)
            dnnl_memory_destroy(arguments[i].memory);
    }
    return fine;
}

bool mmf_blas_conv_run(const mmf_conv_kernel *k, const mmf_real *x, const mmf_real *weight,
                       const mmf_real *bias, mmf_real *y, void *scratch)
{
    dnnl_exec_arg_t arguments[MAX_ARGUMENTS] = {{0, NULL}};
    int n = 0;
    bool fine = lend(k, &arguments[n++], DNNL_ARG_SRC, &k->x, x) &&
                lend(k, &arguments[n++], DNNL_ARG_DST, &k->y, y) &&
                lend(k, &arguments[n++], DNNL_ARG_SCRATCHPAD, &k->scratch, scratch);
    if (fine && !k->is_pool)
        fine = lend(k, &arguments[n++], DNNL_ARG_WEIGHTS, &k->weight, weight) &&
               lend(k, &arguments[n++], DNNL_ARG_BIAS, &k->bias, bias);
    fine = fine && dnnl_primitive_execute(k->primitive, k->stream, n, arguments) == dnnl_success &&
           dnnl_stream_wait(k->stream) == dnnl_success;
    for (int i = 0; i < n; i++) {
        if (arguments[i].memory)
            dnnl_memory_destroy(arguments[i].memory);
    }
    return fine;
}

#endif
