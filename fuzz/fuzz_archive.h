/* fuzz_archive.h: what the targets of the file readers share. */
#ifndef MMFUSE_FUZZ_ARCHIVE_H
#define MMFUSE_FUZZ_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

/** The entry point that libFuzzer and replay.c call. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

/** Opens the bytes as `format` with small limits and reads every element of every array. */
int fuzz_archive(const char *format, const uint8_t *bytes, size_t n_bytes);

#endif
