/* channels_last.h: layers over maps with channels last, (B, H, W, C). */
#ifndef MMFUSE_NN_CHANNELS_LAST_H
#define MMFUSE_NN_CHANNELS_LAST_H

#include "mmfuse/nn.h"

/** Over the last axis, whatever the layer's is, and what follows it. @param fixed as in
 * mmf_batch_norm_fixed_run */
mmf_tensor *mmf_batch_norm_last_run(mmf_tape *tape, const mmf_batch_norm_layer *layer,
                                    mmf_tensor *x, bool fixed, const mmf_norm_around *around);
/** With channels last, of two spatial axes. @param x (B, H, W, C) */
mmf_tensor *mmf_conv_last_run(mmf_tape *tape, const mmf_conv_layer *layer, mmf_tensor *x);

#endif
