/*
 * media.h: images, sound and video in files, decoded by programs mmfuse-read-media beside this one.
 *
 * Decoders are large and meet bytes from anywhere, so they run as processes of their own, several
 * side by side, ahead of the caller. A file that is damaged, hostile or too large costs one item
 * with an error; a program that dies or hangs costs the one file it was at and is started again.
 *
 *   mmf_media_stream *stream;
 *   mmf_media_open(ctx, &stream, &options, paths, n);
 *   for (i = 0; i < n; i++) { mmf_media_next(stream, &item); ... }
 *   mmf_media_close(stream);
 */
#ifndef MMFUSE_MEDIA_H
#define MMFUSE_MEDIA_H

#include "mmfuse/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mmf_media_kind { MMF_MEDIA_IMAGE, MMF_MEDIA_AUDIO, MMF_MEDIA_VIDEO } mmf_media_kind;

/**
 * What to make of the files. 0 keeps the default.
 *
 * Pictures are turned upright (EXIF orientation, rotation of a video), then scaled so that the
 * shorter side is `short_side` (triangle filter, widened when it shrinks, as PIL's and
 * torchvision's antialiased bilinear), then cut around the centre, with black where the crop is
 * larger. Alpha is dropped, deeper channels become 8 bits.
 */
typedef struct mmf_media_options {
    size_t size;
    mmf_media_kind kind;
    int n_workers;          /**< programs side by side; default: the context's threads */
    int channels;           /**< of a picture: 3 (red, green, blue; the default) or 1 (grey) */
    int64_t short_side;     /**< pixels; default: the size there is */
    int64_t crop_h, crop_w; /**< pixels, both or none; default: no cropping */
    int64_t sample_rate;    /**< Hz; default: that of each file */
    int64_t max_seconds;    /**< of sound that are kept from the start; default 3,600 */
    int64_t n_frames;       /**< of a video; default 16 */
    int64_t every;          /**< k: frames 0, k, 2k ..., at most n_frames; default: evenly spread */
    int64_t max_pixels;     /**< of a picture as stored; default 100,000,000 */
    int64_t max_bytes;      /**< of one item; default 1 GiB */
    int64_t max_file_bytes; /**< of an image file; default 256 MiB */
    int64_t helper_memory;  /**< bytes of addresses of one program; default 4 GiB, at least 1 GiB */
    unsigned helper_seconds; /**< for one file; default 60 */
    const char *helper_dir;  /**< searched first for mmfuse-read-media; NULL: beside, then PATH */
} mmf_media_options;

#define MMF_MEDIA_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(mmf_media_options)                                                          \
    }

#define MMF_MEDIA_ERROR_BYTES 256

/** One decoded file, or why it is none. */
typedef struct mmf_media_item {
    int64_t row;      /**< which of the paths */
    const char *path; /**< borrowed from the caller's paths */
    mmf_array array;  /**< image: u8 [C, H, W]; sound: f32 [T], mono, nominally in [-1, 1] (T is 0
                         where there is none); video: u8 [T, C, H, W]. data NULL: see `error` */
    int64_t sample_rate;               /**< Hz; sound only */
    bool cut;                          /**< there was more than max_seconds */
    char error[MMF_MEDIA_ERROR_BYTES]; /**< "" if it was decoded */
} mmf_media_item;

typedef struct mmf_media_stream mmf_media_stream;

/** The kind that a file name's ending tells (.jpg, .wav, .mp4 ...); false: none of them. */
MMF_API bool mmf_media_kind_of(const char *path, mmf_media_kind *out);

/**
 * Starts the programs and decodes ahead, within a bounded number of bytes.
 *
 * @param out      the caller ends it with mmf_media_close
 * @param options  NULL: images as they are
 * @param paths    lent until mmf_media_close
 * @threads        one at a time; the programs end with the thread that opened the stream
 * @errors         ARG, NOMEM, UNSUPPORTED (no program mmfuse-read-media), IO (it does not start)
 */
MMF_API mmf_status mmf_media_open(mmf_ctx *ctx, mmf_media_stream **out,
                                  const mmf_media_options *options, const char *const *paths,
                                  int64_t n_paths);
/**
 * The next item, in the order of the paths. A file that cannot be decoded is an item with an error,
 * not a failure of this call.
 *
 * @param item  borrows from the stream until the next call
 * @errors      NOMEM, IO (the programs do not start any more), CANCELLED, STATE (past the last
 * path)
 */
MMF_API mmf_status mmf_media_next(mmf_media_stream *stream, mmf_media_item *item);
/** Ends the programs. Accepts NULL. */
MMF_API void mmf_media_close(mmf_media_stream *stream);

/* ---- Between this library and the program ------------------------------------------------- */

/*
 * `mmfuse-read-media --serve KEY=VALUE...` writes a frame of row -1, which says that it is ready,
 * then answers each line "ROW PATH" of its standard input with one frame: a header of
 * MMF_MEDIA_HEADER_BYTES and its payload, the array's bytes or a message.
 */
#define MMF_MEDIA_HEADER_BYTES 80
#define MMF_MEDIA_DIMS 4

typedef struct mmf_media_frame {
    int64_t row;
    bool failed; /**< the payload is a message */
    bool cut;
    mmf_array array; /**< type and shape; data NULL */
    int64_t sample_rate;
    uint64_t n_bytes; /**< of the payload */
} mmf_media_frame;

MMF_API void mmf_media_frame_pack(const mmf_media_frame *frame,
                                  unsigned char out[MMF_MEDIA_HEADER_BYTES]);
/**
 * Reads a header and checks it: type and shape are those of `kind`, and the payload's size follows
 * from them and is at most `max_bytes`.
 *
 * @errors  FORMAT, LIMIT
 */
MMF_API mmf_status mmf_media_frame_parse(mmf_ctx *ctx, mmf_media_frame *out,
                                         const unsigned char bytes[MMF_MEDIA_HEADER_BYTES],
                                         mmf_media_kind kind, uint64_t max_bytes);

/** Replaces zeros by the defaults. @errors ARG (out of bounds; the message says which) */
MMF_API mmf_status mmf_media_options_complete(mmf_ctx *ctx, mmf_media_options *options);
/** Sets an option from "KEY=VALUE", as they stand on the program's command line. @errors ARG */
MMF_API mmf_status mmf_media_options_set(mmf_ctx *ctx, mmf_media_options *options,
                                         const char *assignment);

#ifdef __cplusplus
}
#endif
#endif
