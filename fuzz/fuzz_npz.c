/* fuzz_npz.c: the reader of npz on any bytes. */
#include "fuzz_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    return fuzz_archive("npz", bytes, n_bytes);
}
