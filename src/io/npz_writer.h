/* npz_writer.h: what tests need to reach of the npz writer. */
#ifndef MMFUSE_IO_NPZ_WRITER_H
#define MMFUSE_IO_NPZ_WRITER_H

#include "mmfuse/io.h"

/** From this many bytes on, sizes and positions take the 64-bit form; 4 GiB - 1 unless a test sets
 * it. */
void mmf_npz__set_zip64_from(mmf_npz_writer *writer, uint64_t n_bytes);

#endif
