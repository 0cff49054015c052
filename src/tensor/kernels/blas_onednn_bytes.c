/* blas_onednn_bytes.c: products of bytes by oneDNN; with blas_onednn.c the only files that know it.
 */
#include "mmfuse/tensor.h"
#include "tensor/kernels/byte_kernel.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include <oneapi/dnnl/dnnl.h>
#include <string.h>

/* Scratch of a product that its caller's stack holds. */
#define MAX_SCRATCH 4096

struct mmf_byte_kernel {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t a, given_b, b, c, scratch;
};

void mmf_blas_gemm_bytes(int64_t m, int64_t n, int64_t k, const uint8_t *a, const int8_t *b,
                         int32_t *c)
{
    const int32_t offset = 0;
    dnnl_gemm_u8s8s32('N', 'T', 'F', m, n, k, 1, a, k, 0, b, k, 0, 0, c, n, &offset);
}

int mmf_blas_byte_levels(void)
{
    const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    const bool has_vnni = (isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni ||
                          (isa & dnnl_cpu_isa_avx2_vnni) == dnnl_cpu_isa_avx2_vnni;
    return has_vnni ? 255 : 127;
}

/* The primitive's descriptor; NULL unless it is made of tiles, which take factors as they are. */
static dnnl_primitive_desc_t describe(mmf_byte_kernel *kernel, dnnl_primitive_attr_t attributes,
                                      int64_t n, int64_t k)
{
    const dnnl_dims_t a = {MMF_BYTE_ROWS, k}, b = {k, n}, c = {MMF_BYTE_ROWS, n};
    dnnl_memory_desc_t any;
    dnnl_matmul_desc_t product;
    dnnl_primitive_desc_t found = NULL;
    const char *name = NULL;
    if (dnnl_memory_desc_init_by_tag(&kernel->a, 2, a, dnnl_u8, dnnl_ab) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->given_b, 2, b, dnnl_s8, dnnl_ba) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&any, 2, b, dnnl_s8, dnnl_format_tag_any) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->c, 2, c, dnnl_s32, dnnl_ab) != dnnl_success ||
        dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) !=
            dnnl_success ||
        dnnl_matmul_desc_init(&product, &kernel->a, &any, NULL, &kernel->c) != dnnl_success ||
        dnnl_primitive_desc_create(&found, &product, attributes, kernel->engine, NULL) !=
            dnnl_success)
        return NULL;
    kernel->b = *dnnl_primitive_desc_query_md(found, dnnl_query_weights_md, 0);
    kernel->scratch = *dnnl_primitive_desc_query_md(found, dnnl_query_scratchpad_md, 0);
    if (dnnl_primitive_desc_query(found, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
        name && strncmp(name, "brg", 3) == 0 &&
        dnnl_memory_desc_get_size(&kernel->scratch) <= MAX_SCRATCH)
        return found;
    dnnl_primitive_desc_destroy(found);
    return NULL;
}

static bool make(mmf_byte_kernel *kernel, int64_t n, int64_t k)
{
    dnnl_primitive_attr_t attributes = NULL;
    if (dnnl_engine_create(&kernel->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&kernel->stream, kernel->engine, dnnl_stream_default_flags) !=
            dnnl_success ||
        dnnl_primitive_attr_create(&attributes) != dnnl_success)
        return false;
    dnnl_primitive_desc_t descriptor = describe(kernel, attributes, n, k);
    dnnl_primitive_attr_destroy(attributes);
    if (!descriptor)
        return false;
    const bool fine = dnnl_primitive_create(&kernel->primitive, descriptor) == dnnl_success;
    dnnl_primitive_desc_destroy(descriptor);
    return fine;
}

mmf_byte_kernel *mmf_blas_bytes_make(mmf_ctx *ctx, int64_t n, int64_t k)
{
    mmf_byte_kernel *const kernel = mmf_alloc_zero(ctx, 1, sizeof *kernel);
    if (kernel && make(kernel, n, k))
        return kernel;
    mmf_blas_bytes_free(ctx, kernel);
    return NULL;
}

void mmf_blas_bytes_free(mmf_ctx *ctx, mmf_byte_kernel *kernel)
{
    if (!kernel)
        return;
    if (kernel->primitive)
        dnnl_primitive_destroy(kernel->primitive);
    if (kernel->stream)
        dnnl_stream_destroy(kernel->stream);
    if (kernel->engine)
        dnnl_engine_destroy(kernel->engine);
    mmf_free(ctx, kernel);
}

size_t mmf_blas_bytes_size(const mmf_byte_kernel *kernel)
{
    return dnnl_memory_desc_get_size(&kernel->b);
}

/* Runs a primitive over lent memory. */
static bool execute(const mmf_byte_kernel *kernel, const_dnnl_primitive_t primitive, int n,
                    const int *names, const dnnl_memory_desc_t *const *descriptions,
                    void *const *data)
{
    dnnl_exec_arg_t arguments[4] = {{0, NULL}};
    bool fine = true;
    for (int i = 0; i < n; i++) {
        arguments[i].arg = names[i];
        fine = fine && dnnl_memory_create(&arguments[i].memory, descriptions[i], kernel->engine,
                                          data[i]) == dnnl_success;
    }
    fine = fine &&
           dnnl_primitive_execute(primitive, kernel->stream, n, arguments) == dnnl_success &&
           dnnl_stream_wait(kernel->stream) == dnnl_success;
    for (int i = 0; i < n; i++) {
        if (arguments[i].memory)
            dnnl_memory_destroy(arguments[i].memory);
    }
    return fine;
}

static void *lent(const void *data)
{
    return (void *)(uintptr_t)data;
}

bool mmf_blas_bytes_pack(const mmf_byte_kernel *kernel, const int8_t *b, int8_t *packed)
{
    static const int names[] = {DNNL_ARG_FROM, DNNL_ARG_TO};
    const dnnl_memory_desc_t *const descriptions[] = {&kernel->given_b, &kernel->b};
    void *const data[] = {lent(b), packed};
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    const bool fine =
        dnnl_reorder_primitive_desc_create(&descriptor, &kernel->given_b, kernel->engine,
                                           &kernel->b, kernel->engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&reorder, descriptor) == dnnl_success &&
        execute(kernel, reorder, 2, names, descriptions, data);
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (descriptor)
        dnnl_primitive_desc_destroy(descriptor);
    return fine;
}

bool mmf_blas_bytes_run(const mmf_byte_kernel *kernel, const uint8_t *a, const int8_t *packed,
                        int32_t *c)
{
    static const int names[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    const dnnl_memory_desc_t *const descriptions[] = {&kernel->a, &kernel->b, &kernel->c,
                                                      &kernel->scratch};
    _Alignas(64) unsigned char scratch[MAX_SCRATCH];
    void *const data[] = {lent(a), lent(packed), c, scratch};
    return execute(kernel, kernel->primitive, 4, names, descriptions, data);
}

#endif
