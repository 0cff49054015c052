/* media_frame.h: options of the media programs as arguments of their command line. */
#ifndef MMFUSE_IO_MEDIA_FRAME_H
#define MMFUSE_IO_MEDIA_FRAME_H

#include "mmfuse/media.h"

#define MMF_MEDIA_MAX_ARGUMENTS 24
#define MMF_MEDIA_ARGUMENT_BYTES 1024

/** Writes "KEY=VALUE" strings into `text` and pointers to them, ended by NULL, into `out`. */
void mmf_media_arguments(const mmf_media_options *options, char text[MMF_MEDIA_ARGUMENT_BYTES],
                         char *out[MMF_MEDIA_MAX_ARGUMENTS]);

#endif
