/* blas_onednn.c: matrix products by oneDNN. The only file that knows oneDNN. */
#include "tensor/tape.h"

#if defined(MMF_WITH_ONEDNN) && !defined(MMF_DOUBLE)

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
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

#endif
