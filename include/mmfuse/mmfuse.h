/*
 * mmfuse.h: every public header of the library at once.
 *
 * Read them in this order: base (status, context, arrays), io (files of named arrays), media
 * (images, sound and video in files), data (data sets and batches), tensor (operations with
 * gradients), nn (parameters, layers, optimizers), metrics (named scores), model (the catalogue,
 * trained models), train (training, comparing), prepare (data sets of raw files).
 */
#ifndef MMFUSE_MMFUSE_H
#define MMFUSE_MMFUSE_H

#include "mmfuse/base.h"
#include "mmfuse/io.h"
#include "mmfuse/media.h"
#include "mmfuse/data.h"
#include "mmfuse/tensor.h"
#include "mmfuse/nn.h"
#include "mmfuse/metrics.h"
#include "mmfuse/model.h"
#include "mmfuse/train.h"
#include "mmfuse/prepare.h"

#endif
