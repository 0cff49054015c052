/*
 * media_frame.h: frames of the media programs as they come in pieces, and options as arguments of
 * their command line.
 */
#ifndef MMFUSE_IO_MEDIA_FRAME_H
#define MMFUSE_IO_MEDIA_FRAME_H

#include "mmfuse/media.h"

#define MMF_MEDIA_MAX_ARGUMENTS 24
#define MMF_MEDIA_ARGUMENT_BYTES 1024

/** A frame of which some bytes are there. Zero-initialise. */
typedef struct mmf_frame_reader {
    unsigned char header[MMF_MEDIA_HEADER_BYTES];
    size_t n_header, n_payload;
    mmf_media_frame frame;  /**< known once `payload` is there */
    unsigned char *payload; /**< with room for one byte more */
} mmf_frame_reader;

/**
 * Takes bytes up to the end of the frame that it is at.
 *
 * @param used   receives how many were taken; all of them unless a frame ended
 * @param whole  receives whether the frame is there; the caller takes `payload` (sets it NULL) and
 *               calls mmf_frame_reader_next
 * @errors       those of mmf_media_frame_parse, NOMEM; the stream is of no more use
 */
mmf_status mmf_frame_reader_take(mmf_ctx *ctx, mmf_frame_reader *reader, mmf_media_kind kind,
                                 uint64_t max_bytes, const unsigned char *bytes, size_t n,
                                 size_t *used, bool *whole);
/** Where the rest of a payload goes, and how much is missing; NULL while in a header. */
unsigned char *mmf_frame_reader_rest(const mmf_frame_reader *reader, size_t *n_missing);
/** Frees a payload that is still there and begins the next frame. */
void mmf_frame_reader_next(mmf_ctx *ctx, mmf_frame_reader *reader);

/** Writes "KEY=VALUE" strings into `text` and pointers to them, ended by NULL, into `out`. */
void mmf_media_arguments(const mmf_media_options *options, char text[MMF_MEDIA_ARGUMENT_BYTES],
                         char *out[MMF_MEDIA_MAX_ARGUMENTS]);

#endif
