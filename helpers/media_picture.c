/* media_picture.c: see media_picture.h. */
#include "media_picture.h"

#include <math.h>
#include <string.h>

#define ROWS_AT_ONCE 4
#define WEIGHT_BITS 22 /* sums of 8-bit values times weights fit 31 bits with a bit to spare */

mmf_status picture_make(mmf_ctx *ctx, picture *p, int channels, int64_t height, int64_t width)
{
    size_t n = (size_t)channels;
    if (!mmf_mul_ok(n, (size_t)height, &n) || !mmf_mul_ok(n, (size_t)width, &n))
        return mmf_fail(ctx, MMF_LIMIT, "a picture of %lld x %lld", (long long)width,
                        (long long)height);
    *p = (picture){channels, height, width, mmf_alloc(ctx, n)};
    return p->pixels ? MMF_OK : MMF_NOMEM;
}

void picture_free(mmf_ctx *ctx, picture *p)
{
    mmf_free(ctx, p->pixels);
    *p = (picture){0};
}

/* ---- Orientation -------------------------------------------------------------------------- */

/* Where the pixel at row `y`, column `x` of the upright picture stands in the stored one. */
typedef struct walk {
    int64_t origin, step_x, step_y;
} walk;

static walk walk_of(int orientation, int64_t h, int64_t w)
{
    switch (orientation) {
    case 2: /* mirrored */
        return (walk){w - 1, -1, w};
    case 3: /* upside down */
        return (walk){h * w - 1, -1, -w};
    case 4: /* mirrored upside down */
        return (walk){(h - 1) * w, 1, -w};
    case 5: /* transposed */
        return (walk){0, w, 1};
    case 6: /* to be turned right */
        return (walk){(h - 1) * w, -w, 1};
    case 7: /* transposed along the other diagonal */
        return (walk){h * w - 1, -w, -1};
    case 8: /* to be turned left */
        return (walk){w - 1, w, -1};
    default:
        return (walk){0, 1, w};
    }
}

mmf_status picture_orient(mmf_ctx *ctx, picture *p, int orientation)
{
    if (orientation <= 1)
        return MMF_OK;
    const int64_t h = p->height, w = p->width;
    const bool turned = orientation >= 5;
    const walk from = walk_of(orientation, h, w);
    picture upright;
    MMF_TRY(picture_make(ctx, &upright, p->channels, turned ? w : h, turned ? h : w));
    unsigned char *to = upright.pixels;
    for (int c = 0; c < p->channels; c++) {
        const unsigned char *const plane = p->pixels + c * h * w;
        for (int64_t y = 0; y < upright.height; y++) {
            int64_t at = from.origin + y * from.step_y;
            for (int64_t x = 0; x < upright.width; x++, at += from.step_x)
                *to++ = plane[at];
        }
    }
    picture_free(ctx, p);
    *p = upright;
    return MMF_OK;
}

/* ---- Scaling ------------------------------------------------------------------------------ */

/* Output i is the sum of weights[i * n_taps + k] * input[first[i] + k] over k < count[i]. */
typedef struct taps {
    int64_t n_taps;
    int32_t *weights;
    int64_t *first, *count;
} taps;

static void free_taps(mmf_ctx *ctx, taps *t)
{
    mmf_free(ctx, t->weights);
    mmf_free(ctx, t->first);
    mmf_free(ctx, t->count);
}

static mmf_status make_taps(mmf_ctx *ctx, taps *t, int64_t n_in, int64_t n_out)
{
    const double scale = (double)n_in / (double)n_out, widening = scale > 1 ? scale : 1;
    *t = (taps){.n_taps = 2 * (int64_t)ceil(widening) + 1};
    t->weights = mmf_alloc_zero(ctx, (size_t)(n_out * t->n_taps), sizeof *t->weights);
    t->first = mmf_alloc_zero(ctx, (size_t)n_out, sizeof *t->first);
    t->count = mmf_alloc_zero(ctx, (size_t)n_out, sizeof *t->count);
    double *const exact = mmf_alloc_zero(ctx, (size_t)t->n_taps, sizeof *exact);
    if (!t->weights || !t->first || !t->count || !exact) {
        mmf_free(ctx, exact);
        return MMF_NOMEM;
    }
    for (int64_t i = 0; i < n_out; i++) {
        const double centre = ((double)i + 0.5) * scale;
        const double low = centre - widening + 0.5, high = centre + widening + 0.5;
        const int64_t begin = low > 0 ? (int64_t)low : 0;
        const int64_t end = (int64_t)high < n_in ? (int64_t)high : n_in;
        double sum = 0;
        for (int64_t k = 0; k < end - begin; k++) {
            const double distance = fabs(((double)(k + begin) - centre + 0.5) / widening);
            exact[k] = distance < 1 ? 1 - distance : 0;
            sum += exact[k];
        }
        t->first[i] = begin;
        t->count[i] = end - begin;
        for (int64_t k = 0; k < end - begin; k++)
            t->weights[i * t->n_taps + k] =
                (int32_t)(0.5 + (sum > 0 ? exact[k] / sum : 0) * (1 << WEIGHT_BITS));
    }
    mmf_free(ctx, exact);
    return MMF_OK;
}

static inline unsigned char rounded(int32_t sum)
{
    const int32_t value = (sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
    return (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One row; where four are left, four at once, which read each weight once. */
PICTURE_LOOP static void weigh_rows(const taps *t, const unsigned char *from, int64_t stride,
                                    unsigned char *to, int64_t width, int64_t n_rows)
{
    const unsigned char *const b = from + (n_rows > 1 ? stride : 0);
    const unsigned char *const c = from + (n_rows > 2 ? 2 * stride : 0);
    const unsigned char *const d = from + (n_rows > 3 ? 3 * stride : 0);
    for (int64_t x = 0; x < width; x++) {
        const int32_t *const weights = t->weights + x * t->n_taps;
        const int64_t first = t->first[x], count = t->count[x];
        int32_t sums[ROWS_AT_ONCE] = {0};
        for (int64_t k = 0; k < count; k++) {
            sums[0] += weights[k] * from[first + k];
            sums[1] += weights[k] * b[first + k];
            sums[2] += weights[k] * c[first + k];
            sums[3] += weights[k] * d[first + k];
        }
        for (int64_t r = 0; r < n_rows; r++)
            to[r * width + x] = rounded(sums[r]);
    }
}

static mmf_status resize_rows(mmf_ctx *ctx, picture *p, int64_t width)
{
    taps t;
    picture out = {0};
    const int64_t n_rows = p->channels * p->height;
    mmf_status status = make_taps(ctx, &t, p->width, width);
    if (status == MMF_OK)
        status = picture_make(ctx, &out, p->channels, p->height, width);
    for (int64_t y = 0; status == MMF_OK && y < n_rows; y += ROWS_AT_ONCE)
        weigh_rows(&t, p->pixels + y * p->width, p->width, out.pixels + y * width, width,
                   n_rows - y < ROWS_AT_ONCE ? n_rows - y : ROWS_AT_ONCE);
    free_taps(ctx, &t);
    if (status == MMF_OK) {
        picture_free(ctx, p);
        *p = out;
    }
    return status;
}

PICTURE_LOOP static void add_weighted(int32_t *restrict sums, const unsigned char *from,
                                      int32_t weight, int64_t n)
{
    for (int64_t x = 0; x < n; x++)
        sums[x] += weight * from[x];
}

PICTURE_LOOP static void round_sums(unsigned char *restrict out, const int32_t *sums, int64_t n)
{
    for (int64_t x = 0; x < n; x++)
        out[x] = rounded(sums[x]);
}

static mmf_status resize_columns(mmf_ctx *ctx, picture *p, int64_t height)
{
    taps t;
    picture out = {0};
    const int64_t w = p->width;
    int32_t *sums = mmf_alloc_zero(ctx, (size_t)w, sizeof *sums);
    mmf_status status = make_taps(ctx, &t, p->height, height);
    if (status == MMF_OK)
        status = sums ? picture_make(ctx, &out, p->channels, height, w) : MMF_NOMEM;
    for (int64_t row = 0; status == MMF_OK && row < p->channels * height; row++) {
        const int64_t y = row % height;
        const unsigned char *from = p->pixels + (row / height * p->height + t.first[y]) * w;
        memset(sums, 0, (size_t)w * sizeof *sums);
        for (int64_t k = 0; k < t.count[y]; k++, from += w)
            add_weighted(sums, from, t.weights[y * t.n_taps + k], w);
        round_sums(out.pixels + row * w, sums, w);
    }
    free_taps(ctx, &t);
    mmf_free(ctx, sums);
    if (status == MMF_OK) {
        picture_free(ctx, p);
        *p = out;
    } else {
        picture_free(ctx, &out);
    }
    return status;
}

mmf_status picture_resize(mmf_ctx *ctx, picture *p, int64_t height, int64_t width)
{
    if (width != p->width)
        MMF_TRY(resize_rows(ctx, p, width));
    return height != p->height ? resize_columns(ctx, p, height) : MMF_OK;
}

/* ---- Cropping ----------------------------------------------------------------------------- */

/* Half of a margin; halves go to the even neighbour, as in the usual Python code. */
static int64_t half_margin(int64_t margin)
{
    const int64_t half = margin >= 0 ? margin / 2 : (margin - 1) / 2;
    return margin % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

mmf_status picture_crop(mmf_ctx *ctx, picture *p, int64_t height, int64_t width)
{
    if (height == p->height && width == p->width)
        return MMF_OK;
    picture out;
    MMF_TRY(picture_make(ctx, &out, p->channels, height, width));
    memset(out.pixels, 0, (size_t)(p->channels * height * width));
    const int64_t top =
        p->height >= height ? half_margin(p->height - height) : -((height - p->height) / 2);
    const int64_t left =
        p->width >= width ? half_margin(p->width - width) : -((width - p->width) / 2);
    const int64_t x_first = left < 0 ? -left : 0;
    const int64_t x_end = p->width - left < width ? p->width - left : width;
    for (int64_t row = 0; row < p->channels * height; row++) {
        const int64_t y = row % height + top;
        if (y < 0 || y >= p->height)
            continue;
        const int64_t from = (row / height * p->height + y) * p->width + left;
        memcpy(out.pixels + row * width + x_first, p->pixels + from + x_first,
               (size_t)(x_end - x_first));
    }
    picture_free(ctx, p);
    *p = out;
    return MMF_OK;
}

mmf_status picture_fit(mmf_ctx *ctx, picture *p, const mmf_media_options *o)
{
    if (o->short_side > 0) {
        const bool tall = p->height > p->width;
        const int64_t shorter = tall ? p->width : p->height, longer = tall ? p->height : p->width;
        const int64_t scaled = o->short_side * longer / shorter; /* rounded down, as torchvision */
        if (scaled > o->max_bytes / p->channels / o->short_side)
            return mmf_fail(ctx, MMF_LIMIT,
                            "a picture of %lld x %lld scaled to a shorter side of %lld takes more "
                            "than %lld bytes",
                            (long long)p->width, (long long)p->height, (long long)o->short_side,
                            (long long)o->max_bytes);
        MMF_TRY(
            picture_resize(ctx, p, tall ? scaled : o->short_side, tall ? o->short_side : scaled));
    }
    return o->crop_h > 0 ? picture_crop(ctx, p, o->crop_h, o->crop_w) : MMF_OK;
}
