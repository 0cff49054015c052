/* fuzz_npy.c: the reader of npy on any bytes. */
#include "fuzz_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    return fuzz_archive("npy", bytes, n_bytes);
}
