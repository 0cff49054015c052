/*
 * media_picture.h: pictures of 8-bit planes: turned upright, scaled and cropped.
 */
#ifndef MMFUSE_HELPERS_MEDIA_PICTURE_H
#define MMFUSE_HELPERS_MEDIA_PICTURE_H

#include "mmfuse/media.h"

/* Loops that are compiled twice, the second time for AVX2; not where sanitizers look at them. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(MMF_ARENA_DEBUG)
#define PICTURE_LOOP __attribute__((target_clones("avx2", "default")))
#else
#define PICTURE_LOOP
#endif

/** Planes [C, H, W] in one block that mmf_free frees. */
typedef struct picture {
    int channels;
    int64_t height, width;
    unsigned char *pixels;
} picture;

/** Takes memory for the planes. */
mmf_status picture_make(mmf_ctx *ctx, picture *p, int channels, int64_t height, int64_t width);
void picture_free(mmf_ctx *ctx, picture *p);
/** Turns and mirrors as EXIF orientation 1 to 8 says, in place or into a new block. */
mmf_status picture_orient(mmf_ctx *ctx, picture *p, int orientation);
/**
 * Scales to `height` x `width` with a triangle filter, as PIL's resize with BILINEAR: widened when
 * it shrinks, first along rows, then along columns, weights of 22 bits, each pass rounded to 8.
 */
mmf_status picture_resize(mmf_ctx *ctx, picture *p, int64_t height, int64_t width);
/** Cuts around the centre; black where the picture is smaller. Odd margins round to even halves. */
mmf_status picture_crop(mmf_ctx *ctx, picture *p, int64_t height, int64_t width);
/** Scaling of the shorter side and cropping as the options say. */
mmf_status picture_fit(mmf_ctx *ctx, picture *p, const mmf_media_options *options);

#endif
