/* blas_onednn.c: matrix products and convolutions by oneDNN. */
#include "tensor/kernels/conv_kernel.h"
#include "tensor/tape.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include <string.h>

#include "tensor/kernels/onednn.h"

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
    /* oneDNN asks OpenMP how many threads to use. Our own regions name their number, so this only
     * keeps single products on the calling thread, where results do not depend on the thread count.
     */
    onednn_stay_on_this_thread();
}

/* ---- Convolution ------------------------------------------------------------------------- */

struct mmf_conv_kernel {
    onednn_unit unit;
    dnnl_memory_desc_t x, weight, bias, y, scratch;
    dnnl_memory_desc_t given_weight; /* [O][C][kh][kw] */
    dnnl_primitive_t convert;        /* between both, where oneDNN chose the form */
    int64_t kind;
    bool is_pool, has_bias;
};

int64_t mmf_blas_block(void)
{
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
        return 16;
    return (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 ? 8 : 0;
}

/* [B][H][W][C]; the form of the weights is oneDNN's choice. */
static bool describe_last(mmf_conv_kernel *k, const mmf_conv_shape *s)
{
    const dnnl_dims_t x = {s->images, s->inputs, s->height, s->width};
    const dnnl_dims_t y = {s->images, s->outputs, s->out_height, s->out_width};
    const dnnl_dims_t weight = {s->outputs, s->inputs, s->kernel[0], s->kernel[1]};
    const dnnl_dims_t bias = {s->outputs};
    const dnnl_data_type_t type = dnnl_f32;
    return dnnl_memory_desc_init_by_tag(&k->x, 4, x, type, dnnl_nhwc) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->y, 4, y, type, dnnl_nhwc) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->weight, 4, weight, type, dnnl_format_tag_any) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->given_weight, 4, weight, type, dnnl_oihw) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&k->bias, 1, bias, type, dnnl_a) == dnnl_success;
}

static bool describe(mmf_conv_kernel *k, const mmf_conv_shape *s)
{
    if (s->kind != MMF_CONV_BLOCKS)
        return describe_last(k, s);
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

/* Kernels of small products are a little faster than direct ones, but their form of the weights
 * takes three times as long to make: with so many terms a pixel that counts. */
#define MANY_TERMS 4

static bool makes_weights_dear(const char *name, const mmf_conv_shape *s)
{
    return s->kind == MMF_CONV_FORWARD && strncmp(name, "brg", 3) == 0 &&
           s->inputs * s->kernel[0] * s->kernel[1] >
               MANY_TERMS * s->images * s->out_height * s->out_width;
}

/* oneDNN 2.6's gradients of strided 1 x 1 weights write behind their scratch, and come out wrong,
 * where the last block of input channels is not full (uxlfoundation/oneDNN#6035). */
static bool writes_too_far(const char *name, const mmf_conv_shape *s)
{
    const int64_t block = mmf_blas_block();
    return s->kind == MMF_CONV_WEIGHTS && strncmp(name, "jit_1x1", 7) == 0 &&
           (s->stride[0] > 1 || s->stride[1] > 1) && (block == 0 || s->inputs % block != 0);
}

/* Reference code, and products behind a copy of the image, are no faster than our own. The larger
 * tiles of Winograd's algorithm lose digits. */
static bool is_wanted(const_dnnl_primitive_desc_t descriptor, const mmf_conv_shape *s)
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name) != dnnl_success ||
        !name || makes_weights_dear(name, s) || writes_too_far(name, s))
        return false;
    return s->winograd ? strstr(name, "wino_2x3") != NULL
                       : strncmp(name, "jit", 3) == 0 || strncmp(name, "brg", 3) == 0;
}

/* The first wanted implementation of a described operation. */
static dnnl_primitive_desc_t choose(const mmf_conv_kernel *k, const mmf_conv_shape *s,
                                    const void *operation, dnnl_primitive_attr_t attributes,
                                    dnnl_primitive_desc_t forward)
{
    dnnl_primitive_desc_iterator_t choices = NULL;
    dnnl_primitive_desc_t found = NULL;
    if (dnnl_primitive_desc_iterator_create(&choices, operation, attributes, k->unit.engine,
                                            forward) != dnnl_success)
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

/* Sizes of a window as oneDNN takes them. */
typedef struct window_sizes {
    dnnl_dims_t kernel, stride, padding;
} window_sizes;

/* This and the next are the only parts that differ from version 3, which has no descriptors of
 * operations. */
static dnnl_primitive_desc_t make_forward(const mmf_conv_kernel *k, const mmf_conv_shape *s,
                                          const window_sizes *w, dnnl_primitive_attr_t attributes)
{
    dnnl_convolution_desc_t conv;
    dnnl_pooling_desc_t pool;
    const dnnl_alg_kind_t algorithm =
        s->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    const dnnl_prop_kind_t use =
        s->kind == MMF_CONV_BLOCKS ? dnnl_forward_inference : dnnl_forward_training;
    const dnnl_status_t described =
        s->is_pool ? dnnl_pooling_forward_desc_init(&pool, use, dnnl_pooling_max, &k->x, &k->y,
                                                    w->stride, w->kernel, w->padding, w->padding)
                   : dnnl_convolution_forward_desc_init(&conv, use, algorithm, &k->x, &k->weight,
                                                        k->has_bias ? &k->bias : NULL, &k->y,
                                                        w->stride, w->padding, w->padding);
    const void *const operation = s->is_pool ? (const void *)&pool : (const void *)&conv;
    return described == dnnl_success ? choose(k, s, operation, attributes, NULL) : NULL;
}

static dnnl_primitive_desc_t make_backward(const mmf_conv_kernel *k, const mmf_conv_shape *s,
                                           const window_sizes *w, dnnl_primitive_attr_t attributes)
{
    dnnl_convolution_desc_t conv;
    const dnnl_status_t described =
        s->kind == MMF_CONV_DATA
            ? dnnl_convolution_backward_data_desc_init(&conv, dnnl_convolution_direct, &k->x,
                                                       &k->weight, &k->y, w->stride, w->padding,
                                                       w->padding)
            : dnnl_convolution_backward_weights_desc_init(&conv, dnnl_convolution_direct, &k->x,
                                                          &k->weight, k->has_bias ? &k->bias : NULL,
                                                          &k->y, w->stride, w->padding, w->padding);
    dnnl_primitive_desc_t forward = make_forward(k, s, w, attributes), found = NULL;
    if (described == dnnl_success && forward)
        found = choose(k, s, &conv, attributes, forward);
    if (forward)
        dnnl_primitive_desc_destroy(forward);
    return found;
}

static dnnl_primitive_desc_t make_descriptor(const mmf_conv_kernel *k, const mmf_conv_shape *s,
                                             dnnl_primitive_attr_t attributes)
{
    const window_sizes w = {
        {s->kernel[0], s->kernel[1]}, {s->stride[0], s->stride[1]}, {s->padding[0], s->padding[1]}};
    return s->kind == MMF_CONV_DATA || s->kind == MMF_CONV_WEIGHTS
               ? make_backward(k, s, &w, attributes)
               : make_forward(k, s, &w, attributes);
}

/* Between the form that oneDNN has chosen and the given one. */
static bool make_convert(mmf_conv_kernel *k)
{
    return k->kind == MMF_CONV_WEIGHTS
               ? onednn_make_reorder(&k->unit, &k->weight, &k->given_weight, &k->convert)
               : onednn_make_reorder(&k->unit, &k->given_weight, &k->weight, &k->convert);
}

static bool make(mmf_conv_kernel *k, const mmf_conv_shape *s)
{
    dnnl_primitive_attr_t attributes = onednn_attributes();
    if (!attributes)
        return false;
    dnnl_primitive_desc_t descriptor = NULL;
    if (describe(k, s) && onednn_open(&k->unit) && add_post_operations(attributes, s))
        descriptor = make_descriptor(k, s, attributes);
    dnnl_primitive_attr_destroy(attributes);
    bool fine = descriptor != NULL;
    if (fine) {
        const bool chosen = s->winograd || s->kind != MMF_CONV_BLOCKS;
        const dnnl_query_t weight =
            s->kind == MMF_CONV_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
        k->scratch = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
        if (chosen)
            k->weight = *dnnl_primitive_desc_query_md(descriptor, weight, 0);
        fine = dnnl_primitive_create(&k->unit.primitive, descriptor) == dnnl_success &&
               (!chosen || make_convert(k));
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
    k->has_bias = shape->kind == MMF_CONV_BLOCKS || shape->has_bias;
    k->kind = shape->kind;
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
    if (k->convert)
        dnnl_primitive_destroy(k->convert);
    onednn_close(&k->unit);
    mmf_free(ctx, k);
}

size_t mmf_blas_conv_scratch(const mmf_conv_kernel *k)
{
    return dnnl_memory_desc_get_size(&k->scratch);
}

size_t mmf_blas_conv_weight_bytes(const mmf_conv_kernel *k)
{
    return dnnl_memory_desc_get_size(&k->weight);
}

bool mmf_blas_conv_same_weights(const mmf_conv_kernel *a, const mmf_conv_kernel *b)
{
    return dnnl_memory_desc_equal(&a->weight, &b->weight) != 0;
}

static bool convert(const mmf_conv_kernel *k, const dnnl_memory_desc_t *from, const void *source,
                    const dnnl_memory_desc_t *to, void *target)
{
    const onednn_lent lent[] = {{DNNL_ARG_FROM, from, source}, {DNNL_ARG_TO, to, target}};
    return onednn_run(&k->unit, k->convert, lent, 2);
}

bool mmf_blas_conv_pack(const mmf_conv_kernel *k, const mmf_real *weight, void *packed)
{
    return convert(k, &k->given_weight, weight, &k->weight, packed);
}

bool mmf_blas_conv_unpack(const mmf_conv_kernel *k, void *packed, mmf_real *weight)
{
    return convert(k, &k->weight, packed, &k->given_weight, weight);
}

/* oneDNN's names of the arrays of a kind. */
typedef struct array_names {
    int x, weight, bias, y;
} array_names;

static const array_names names_of_kinds[] = {
    [MMF_CONV_BLOCKS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
    [MMF_CONV_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
    [MMF_CONV_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, 0, DNNL_ARG_DIFF_DST},
    [MMF_CONV_WEIGHTS] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS,
                          DNNL_ARG_DIFF_DST},
};

bool mmf_blas_conv_run(const mmf_conv_kernel *k, const mmf_conv_arrays *arrays, void *scratch)
{
    const array_names *const names = &names_of_kinds[k->kind];
    onednn_lent lent[ONEDNN_MAX_LENT] = {{names->x, &k->x, arrays->x},
                                         {names->y, &k->y, arrays->y},
                                         {DNNL_ARG_SCRATCHPAD, &k->scratch, scratch}};
    int n = 3;
    if (!k->is_pool)
        lent[n++] = (onednn_lent){names->weight, &k->weight, arrays->weight};
    if (!k->is_pool && k->has_bias && names->bias)
        lent[n++] = (onednn_lent){names->bias, &k->bias, arrays->bias};
    return onednn_run(&k->unit, k->unit.primitive, lent, n);
}

#endif
