/*
 * mmfuse.h: every public header of the library at once.
 *
 * Read them in this order: base (status, context, arrays), io (files of named arrays), data (data
 * sets and batches), tensor (operations with gradients), nn (parameters, layers, optimizers).
 */
#ifndef MMFUSE_MMFUSE_H
#define MMFUSE_MMFUSE_H

#include "mmfuse/base.h"
#include "mmfuse/io.h"
#include "mmfuse/data.h"
#include "mmfuse/tensor.h"
#include "mmfuse/nn.h"

#endif
