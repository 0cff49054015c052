/* dispatch.c: chooses the kernel table of a processor level. */
#include "tensor/kernels/kernels.h"

const mmf_kernels *mmf_kernels_for(mmf_cpu cpu)
{
#ifdef MMF_HAVE_X86_KERNELS
    if (cpu == MMF_CPU_AVX512)
        return &mmf_kernels_avx512;
    if (cpu == MMF_CPU_AVX2)
        return &mmf_kernels_avx2;
#endif
    (void)cpu;
    return &mmf_kernels_portable;
}
