/* blas_portable.c: matrix products in plain C: the oracle of the tests and the back end elsewhere.
 */
#include "tensor/kernels/conv_kernel.h"
#include "tensor/kernels/byte_kernel.h"
#include "tensor/tape.h"

#if !defined(MMF_WITH_ONEDNN) || defined(MMF_DOUBLE)

#define ROWS 4    /* rows of C held in registers at once */
#define DEPTH 256 /* steps of the inner dimension whose slice of B stays in cache */
#define COLUMNS 64

static mmf_real at(const mmf_real *x, int64_t ld, bool transposed, int64_t row, int64_t col)
{
    return transposed ? x[col * ld + row] : x[row * ld + col];
}

static void scale_rows(const mmf_gemm *g)
{
    for (int64_t i = 0; i < g->m; i++) {
        mmf_real *const row = g->c + i * g->ldc;
        for (int64_t j = 0; j < g->n; j++)
            row[j] = g->beta == (mmf_real)0 ? (mmf_real)0 : row[j] * g->beta;
    }
}

/* Copies a slice of op(B) so that the inner loop reads it in order. */
static void pack(const mmf_gemm *g, int64_t p0, int64_t depth, int64_t j0, int64_t width,
                 mmf_real *out)
{
    for (int64_t p = 0; p < depth; p++) {
        for (int64_t j = 0; j < COLUMNS; j++)
            out[p * COLUMNS + j] =
                j < width ? at(g->b, g->ldb, g->transpose_b, p0 + p, j0 + j) : (mmf_real)0;
    }
}

static void block(const mmf_gemm *g, const mmf_real *packed, int64_t i0, int64_t p0, int64_t depth,
                  int64_t j0, int64_t width)
{
    mmf_real sums[ROWS][COLUMNS] = {{0}};
    const int64_t rows = g->m - i0 < ROWS ? g->m - i0 : ROWS;
    for (int64_t p = 0; p < depth; p++) {
        const mmf_real *const b = packed + p * COLUMNS;
        for (int64_t i = 0; i < rows; i++) {
            const mmf_real a = g->alpha * at(g->a, g->lda, g->transpose_a, i0 + i, p0 + p);
            for (int64_t j = 0; j < COLUMNS; j++)
                sums[i][j] += a * b[j];
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        mmf_real *const row = g->c + (i0 + i) * g->ldc + j0;
        for (int64_t j = 0; j < width; j++)
            row[j] += sums[i][j];
    }
}

void mmf_blas_gemm(const mmf_gemm *g)
{
    mmf_real packed[DEPTH * COLUMNS];
    if (g->beta != (mmf_real)1)
        scale_rows(g);
    for (int64_t j0 = 0; j0 < g->n; j0 += COLUMNS) {
        const int64_t width = g->n - j0 < COLUMNS ? g->n - j0 : COLUMNS;
        for (int64_t p0 = 0; p0 < g->k; p0 += DEPTH) {
            const int64_t depth = g->k - p0 < DEPTH ? g->k - p0 : DEPTH;
            pack(g, p0, depth, j0, width, packed);
            for (int64_t i0 = 0; i0 < g->m; i0 += ROWS)
                block(g, packed, i0, p0, depth, j0, width);
        }
    }
}

void mmf_blas_gemm_bytes(int64_t m, int64_t n, int64_t k, const uint8_t *a, const int8_t *b,
                         int32_t *c)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            int32_t sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += (int32_t)a[i * k + p] * (int32_t)b[j * k + p];
            c[i * n + j] = sum;
        }
    }
}

int mmf_blas_byte_levels(void)
{
    return 255;
}

mmf_byte_kernel *mmf_blas_bytes_make(mmf_ctx *ctx, int64_t n, int64_t k)
{
    (void)ctx, (void)n, (void)k;
    return NULL;
}

void mmf_blas_bytes_free(mmf_ctx *ctx, mmf_byte_kernel *kernel)
{
    (void)ctx, (void)kernel;
}

size_t mmf_blas_bytes_size(const mmf_byte_kernel *kernel)
{
    (void)kernel;
    return 0;
}

bool mmf_blas_bytes_pack(const mmf_byte_kernel *kernel, const int8_t *b, int8_t *packed)
{
    (void)kernel, (void)b, (void)packed;
    return false;
}

bool mmf_blas_bytes_run(const mmf_byte_kernel *kernel, const uint8_t *a, const int8_t *packed,
                        int32_t *c)
{
    (void)kernel, (void)a, (void)packed, (void)c;
    return false;
}

const char *mmf_blas_name(void)
{
    return "portable";
}

void mmf_blas_limit_cpu(mmf_cpu cpu)
{
    (void)cpu; /* compiled for the baseline */
}

/* ---- No convolution in blocks of channels ------------------------------------------------ */

int64_t mmf_blas_block(void)
{
    return 0;
}

mmf_conv_kernel *mmf_blas_conv_make(mmf_ctx *ctx, const mmf_conv_shape *shape)
{
    (void)ctx, (void)shape;
    return NULL;
}

void mmf_blas_conv_free(mmf_ctx *ctx, mmf_conv_kernel *kernel)
{
    (void)ctx, (void)kernel;
}

size_t mmf_blas_conv_scratch(const mmf_conv_kernel *kernel)
{
    (void)kernel;
    return 0;
}

size_t mmf_blas_conv_weight_bytes(const mmf_conv_kernel *kernel)
{
    (void)kernel;
    return 0;
}

bool mmf_blas_conv_pack(const mmf_conv_kernel *kernel, const mmf_real *weight, void *packed)
{
    (void)kernel, (void)weight, (void)packed;
    return false;
}

bool mmf_blas_conv_unpack(const mmf_conv_kernel *kernel, void *packed, mmf_real *weight)
{
    (void)kernel, (void)packed, (void)weight;
    return false;
}

bool mmf_blas_conv_same_weights(const mmf_conv_kernel *a, const mmf_conv_kernel *b)
{
    (void)a, (void)b;
    return false;
}

bool mmf_blas_conv_run(const mmf_conv_kernel *kernel, const mmf_conv_arrays *arrays, void *scratch)
{
    (void)kernel, (void)arrays, (void)scratch;
    return false;
}

#endif
