/* preparation_image.c: pictures as bytes, C x H x W, all of one size. */
#include <string.h>

#include "train/preparation.h"

/* Where sizes differ and nothing was asked for: enough for small networks. */
#define USUAL_SIZE "64"

static const mmf_option options[] = {
    {"size", NULL, MMF_OPTION_INT, 0, 4096, "-", "0",
     "height and width: the shorter side is scaled to it, the longer one cut around the middle; 0: "
     "that of the files where the first 64 are equal, else " USUAL_SIZE},
    {"height", NULL, MMF_OPTION_INT, 0, 4096, "-", "0", "of the cut, where it is not `size`"},
    {"width", NULL, MMF_OPTION_INT, 0, 4096, "-", "0", "of the cut, where it is not `size`"},
    {"short_side", NULL, MMF_OPTION_INT, 0, 8192, "-", "0",
     "pixels that the shorter side is scaled to before the cut (256 before 224 for networks of "
     "ImageNet); 0: as large as the cut needs"},
    {"channels", NULL, MMF_OPTION_INT, 0, 3, "-", "0",
     "3: colour, 1: grey; 0: grey if the first 64 files have no colour"},
    {0},
};

static void decode(const mmf_config *config, mmf_media_options *media)
{
    media->channels = (int)mmf_config_int(config, "channels");
    media->crop_h = mmf_config_int(config, "height");
    media->crop_w = mmf_config_int(config, "width");
    media->short_side = mmf_config_int(config, "short_side");
}

static bool waits(const mmf_config *config)
{
    return mmf_config_int(config, "channels") == 0 || mmf_config_int(config, "height") == 0 ||
           mmf_config_int(config, "width") == 0 || mmf_config_int(config, "short_side") == 0;
}

static bool has_colour(const mmf_array *array)
{
    const size_t plane = (size_t)(array->shape[1] * array->shape[2]);
    const unsigned char *const red = array->data;
    return array->shape[0] == 3 &&
           (memcmp(red, red + plane, plane) != 0 || memcmp(red, red + 2 * plane, plane) != 0);
}

static void look(mmf_preparation_facts *facts, const mmf_raw_item *item)
{
    const int64_t height = item->array.shape[1], width = item->array.shape[2];
    if (facts->n_items++ == 0) {
        facts->height = height;
        facts->width = width;
    }
    facts->sizes_differ = facts->sizes_differ || height != facts->height || width != facts->width;
    facts->has_colour = facts->has_colour || has_colour(&item->array);
}

static mmf_status settle(mmf_ctx *ctx, mmf_config *config, const mmf_preparation_facts *facts)
{
    (void)ctx;
    MMF_TRY(mmf_preparation_settle(config, "channels", facts->has_colour ? 3 : 1));
    const bool one_size = !facts->sizes_differ && facts->height <= 4096 && facts->width <= 4096;
    const bool is_free =
        mmf_config_int(config, "height") == 0 && mmf_config_int(config, "width") == 0;
    if (mmf_config_int(config, "size") == 0 && is_free && one_size) {
        MMF_TRY(mmf_preparation_settle(config, "height", facts->height));
        MMF_TRY(mmf_preparation_settle(config, "width", facts->width));
        /* Scaled to the size that they have: those that come later may be larger. */
        return mmf_preparation_settle(config, "short_side",
                                      facts->height < facts->width ? facts->height : facts->width);
    }
    if (mmf_config_int(config, "size") == 0)
        MMF_TRY(mmf_config_set(config, "size", USUAL_SIZE));
    const int64_t size = mmf_config_int(config, "size");
    MMF_TRY(mmf_preparation_settle(config, "height", size));
    MMF_TRY(mmf_preparation_settle(config, "width", size));
    const int64_t height = mmf_config_int(config, "height"),
                  width = mmf_config_int(config, "width");
    return mmf_preparation_settle(config, "short_side", height > width ? height : width);
}

static mmf_status open_image(mmf_preparer *p)
{
    p->dtype = MMF_U8;
    p->n_dims = 3;
    p->shape[0] = mmf_config_int(p->config, "channels");
    p->shape[1] = mmf_config_int(p->config, "height");
    p->shape[2] = mmf_config_int(p->config, "width");
    if (p->shape[0] == 2)
        return mmf_fail(p->ctx, MMF_ARG, "channels is 2; expected 1 or 3");
    return MMF_OK;
}

static mmf_status run(mmf_preparer *p, const mmf_raw_item *item, mmf_prepared *out)
{
    const mmf_array *const a = &item->array;
    if (a->n_dims != 3 || memcmp(a->shape, p->shape, 3 * sizeof *a->shape) != 0) {
        char found[96], wanted[96];
        return mmf_fail(p->ctx, MMF_INTERNAL, "decoded as %s where %s was asked for",
                        mmf_shape_text(found, sizeof found, a->shape, a->n_dims),
                        mmf_shape_text(wanted, sizeof wanted, p->shape, 3));
    }
    *out = (mmf_prepared){a->data, 1};
    return MMF_OK;
}

const mmf_preparation_kind mmf_preparation_image = {
    .def = {.name = "image",
            .title = "Pictures of one size",
            .equations =
                "bytes (C, H, W) of the shorter side scaled (antialiased, triangle filter) "
                "and a cut around the centre; upright by EXIF",
            .kind = MMF_KIND_PREPARATION,
            .options = options},
    .reads = MMF_RAW_IMAGE,
    .decode = decode,
    .waits = waits,
    .look = look,
    .settle = settle,
    .open = open_image,
    .run = run,
};
