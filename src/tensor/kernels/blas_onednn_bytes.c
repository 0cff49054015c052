/* blas_onednn_bytes.c: products of bytes by oneDNN. */
#include "mmfuse/tensor.h"
#include "tensor/kernels/byte_kernel.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include "tensor/kernels/onednn.h"

/* Scratch of a product that its caller's stack holds: AMX asks for some 5,000 bytes. */
#define MAX_SCRATCH 16384

struct mmf_byte_kernel {
    onednn_unit unit;
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
    if (dnnl_memory_desc_init_by_tag(&kernel->a, 2, a, dnnl_u8, dnnl_ab) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->given_b, 2, b, dnnl_s8, dnnl_ba) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&any, 2, b, dnnl_s8, dnnl_format_tag_any) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&kernel->c, 2, c, dnnl_s32, dnnl_ab) != dnnl_success ||
        dnnl_matmul_desc_init(&product, &kernel->a, &any, NULL, &kernel->c) != dnnl_success)
        return NULL;
    dnnl_primitive_desc_t found =
        onednn_tiles(&kernel->unit, &product, attributes, MAX_SCRATCH, &kernel->scratch);
    if (found)
        kernel->b = *dnnl_primitive_desc_query_md(found, dnnl_query_weights_md, 0);
    return found;
}

static bool make(mmf_byte_kernel *kernel, int64_t n, int64_t k)
{
    dnnl_primitive_attr_t attributes = onednn_attributes();
    if (!attributes)
        return false;
    dnnl_primitive_desc_t descriptor =
        onednn_open(&kernel->unit) ? describe(kernel, attributes, n, k) : NULL;
    dnnl_primitive_attr_destroy(attributes);
    return onednn_make(&kernel->unit, descriptor);
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
    onednn_close(&kernel->unit);
    mmf_free(ctx, kernel);
}

size_t mmf_blas_bytes_size(const mmf_byte_kernel *kernel)
{
    return dnnl_memory_desc_get_size(&kernel->b);
}

bool mmf_blas_bytes_pack(const mmf_byte_kernel *kernel, const int8_t *b, int8_t *packed)
{
    const onednn_lent lent[] = {{DNNL_ARG_FROM, &kernel->given_b, b},
                                {DNNL_ARG_TO, &kernel->b, packed}};
    dnnl_primitive_t reorder = NULL;
    const bool fine = onednn_make_reorder(&kernel->unit, &kernel->given_b, &kernel->b, &reorder) &&
                      onednn_run(&kernel->unit, reorder, lent, 2);
    if (reorder)
        dnnl_primitive_destroy(reorder);
    return fine;
}

bool mmf_blas_bytes_run(const mmf_byte_kernel *kernel, const uint8_t *a, const int8_t *packed,
                        int32_t *c)
{
    _Alignas(64) unsigned char scratch[MAX_SCRATCH];
    const onednn_lent lent[] = {{DNNL_ARG_SRC, &kernel->a, a},
                                {DNNL_ARG_WEIGHTS, &kernel->b, packed},
                                {DNNL_ARG_DST, &kernel->c, c},
                                {DNNL_ARG_SCRATCHPAD, &kernel->scratch, scratch}};
    return onednn_run(&kernel->unit, kernel->unit.primitive, lent, 4);
}

#endif
