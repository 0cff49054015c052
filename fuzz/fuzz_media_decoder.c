/*
 * fuzz_media_decoder.c: files of images, sound and video as mmfuse-read-media hands them to FFmpeg.
 * The first byte chooses the kind; a result must be as large as its frame says.
 */
#include <stdlib.h>

#include "../helpers/media_decode.h"
#include "fuzz_archive.h"

static void require(bool promise)
{
    if (!promise)
        abort();
}

static void set_limits(mmf_media_options *o)
{
    o->max_pixels = 1 << 14;
    o->max_seconds = 1;
    o->n_frames = 3;
    o->max_bytes = 1 << 20;
    o->short_side = 24;
    o->crop_h = 16;
    o->crop_w = 32;
    o->sample_rate = 4000;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    decoder d = {.options = MMF_MEDIA_OPTIONS_INIT};
    if (n_bytes < 1 || mmf_ctx_create(&d.ctx, NULL) != MMF_OK)
        return 0;
    av_log_set_level(AV_LOG_QUIET);
    set_limits(&d.options);
    d.options.kind = (mmf_media_kind)(bytes[0] % 3);
    require(mmf_media_options_complete(d.ctx, &d.options) == MMF_OK);
    decoded out = {0};
    const mmf_status status = d.options.kind == MMF_MEDIA_IMAGE
                                  ? decode_image_bytes(&d, &out, bytes + 1, n_bytes - 1)
                                  : decode_stream(&d, &out, NULL, bytes + 1, n_bytes - 1);
    require((status == MMF_OK) == (out.bytes != NULL));
    require(status == MMF_OK || mmf_ctx_error(d.ctx)[0] != '\0');
    if (status == MMF_OK) {
        unsigned char header[MMF_MEDIA_HEADER_BYTES];
        mmf_media_frame frame;
        mmf_media_frame_pack(&out.frame, header);
        require(mmf_media_frame_parse(d.ctx, &frame, header, d.options.kind,
                                      (uint64_t)d.options.max_bytes) == MMF_OK);
        volatile unsigned sum = 0;
        for (size_t i = 0; i < out.frame.n_bytes; i++)
            sum += out.bytes[i];
        (void)sum;
        mmf_free(d.ctx, out.bytes);
    }
    decoder_close(&d);
    require(mmf_ctx_memory(d.ctx).live_bytes == 0);
    mmf_ctx_free(d.ctx);
    return 0;
}
