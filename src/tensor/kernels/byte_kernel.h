/*
 * byte_kernel.h: products of bytes with a packed factor, as back ends offer them.
 */
#ifndef MMFUSE_TENSOR_KERNELS_BYTE_KERNEL_H
#define MMFUSE_TENSOR_KERNELS_BYTE_KERNEL_H

#include "mmfuse/base.h"

/** Rows of every product. */
#define MMF_BYTE_ROWS 64

/** C = A B' in whole numbers for A (MMF_BYTE_ROWS, k) and B (n, k), on the calling thread; several
 * threads may use one kernel. */
typedef struct mmf_byte_kernel mmf_byte_kernel;

/** NULL where the back end has none that is faster than mmf_blas_gemm_bytes. */
mmf_byte_kernel *mmf_blas_bytes_make(mmf_ctx *ctx, int64_t n, int64_t k);
void mmf_blas_bytes_free(mmf_ctx *ctx, mmf_byte_kernel *kernel);
/** Bytes of a packed B. */
size_t mmf_blas_bytes_size(const mmf_byte_kernel *kernel);
bool mmf_blas_bytes_pack(const mmf_byte_kernel *kernel, const int8_t *b, int8_t *packed);
bool mmf_blas_bytes_run(const mmf_byte_kernel *kernel, const uint8_t *a, const int8_t *packed,
                        int32_t *c);

/** C = A B' for any sizes. @param a (m, k) up to mmf_blas_byte_levels  @param b (n, k)  @param c
 * (m, n)  @param k at most MMF_BLAS_MAX_BYTE_TERMS */
void mmf_blas_gemm_bytes(int64_t m, int64_t n, int64_t k, const uint8_t *a, const int8_t *b,
                         int32_t *c);
/** 255; 127 where the processor adds pairs of products in sixteen bits, which 255 would overflow.
 */
int mmf_blas_byte_levels(void);
/** Terms of a product whose sum, and what is taken from it, fits into 32 bits. */
#define MMF_BLAS_MAX_BYTE_TERMS 32768

#endif
