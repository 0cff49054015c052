/* preparation_frames.c: videos as frames, T x C x H x W bytes. */
#include <string.h>

#include "train/preparation.h"

static const mmf_option options[] = {
    {"size", NULL, MMF_OPTION_INT, 4, 1024, "-", "64",
     "height and width: the shorter side is scaled to it, the longer one cut around the middle"},
    {"short_side", NULL, MMF_OPTION_INT, 0, 2048, "-", "0",
     "pixels that the shorter side is scaled to before the cut; 0: `size`"},
    {"channels", NULL, MMF_OPTION_INT, 1, 3, "-", "3", "3: colour, 1: grey"},
    {"frames", NULL, MMF_OPTION_INT, 1, 4096, "-", "16", "of a video, at most"},
    {"every", NULL, MMF_OPTION_INT, 0, 10000, "-", "0",
     "take every so many frames from the start; 0: evenly spread over the video"},
    {"steps", NULL, MMF_OPTION_INT, 0, 4096, "-", "0", "length of all rows; 0: of the longest"},
    {0},
};

static void decode(const mmf_config *config, mmf_media_options *media)
{
    const int64_t size = mmf_config_int(config, "size"),
                  side = mmf_config_int(config, "short_side");
    media->channels = (int)mmf_config_int(config, "channels");
    media->crop_h = media->crop_w = size;
    media->short_side = side ? side : size;
    media->n_frames = mmf_config_int(config, "frames");
    media->every = mmf_config_int(config, "every");
}

static mmf_status open_frames(mmf_preparer *p)
{
    p->dtype = MMF_U8;
    p->n_dims = 3;
    p->is_timed = true;
    p->shape[0] = mmf_config_int(p->config, "channels");
    p->shape[1] = p->shape[2] = mmf_config_int(p->config, "size");
    p->most_steps = mmf_config_int(p->config, "frames");
    if (p->shape[0] == 2)
        return mmf_fail(p->ctx, MMF_ARG, "channels is 2; expected 1 or 3");
    return MMF_OK;
}

static mmf_status run(mmf_preparer *p, const mmf_raw_item *item, mmf_prepared *out)
{
    const mmf_array *const a = &item->array;
    if (a->n_dims != 4 || memcmp(a->shape + 1, p->shape, 3 * sizeof *a->shape) != 0)
        return mmf_fail(p->ctx, MMF_INTERNAL, "decoded to frames of another size");
    *out = (mmf_prepared){a->data, a->shape[0]};
    return MMF_OK;
}

const mmf_preparation_kind mmf_preparation_frames = {
    .def = {.name = "frames",
            .title = "Frames of videos",
            .equations = "bytes (T, C, H, W), scaled and cut as pictures are",
            .kind = MMF_KIND_PREPARATION,
            .options = options},
    .reads = MMF_RAW_VIDEO,
    .decode = decode,
    .open = open_frames,
    .run = run,
};
