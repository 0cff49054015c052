/* utf8.h: checking and repairing UTF-8, and single code points. */
#ifndef MMFUSE_IO_UTF8_H
#define MMFUSE_IO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MMF_UTF8_REPLACEMENT 0xfffdu

/** Bytes of the well-formed sequence at the start of `text`, 0 if there is none. */
size_t mmf_utf8_sequence(const char *text, size_t n_bytes, uint32_t *code);
/** Place of the first byte that belongs to no well-formed sequence; `n_bytes` if all do. */
size_t mmf_utf8_first_broken(const char *text, size_t n_bytes);
bool mmf_utf8_valid(const char *text, size_t n_bytes);
/** Puts '?' in place of every byte that belongs to no well-formed sequence; the length stays. */
void mmf_utf8_repair(char *text, size_t n_bytes);
/** Writes `code` (a surrogate or a value beyond Unicode becomes U+FFFD); returns 1 to 4. */
size_t mmf_utf8_encode(uint32_t code, char out[4]);

#endif
