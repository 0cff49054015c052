/* fuzz_safetensors.c: the reader of safetensors on any bytes. */
#include "fuzz_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    return fuzz_archive("safetensors", bytes, n_bytes);
}
