/* fuzz_csv.c: the reader of csv on any bytes. */
#include "fuzz_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    return fuzz_archive("csv", bytes, n_bytes);
}
