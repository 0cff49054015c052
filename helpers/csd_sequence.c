/* csd_sequence.c: see csd_sequence.h. */
#include "csd_sequence.h"

#include <string.h>

#define MAX_VIDEOS ((hsize_t)1 << 20)

/* ---- Files -------------------------------------------------------------------------------- */

/* The first group of the root, as the SDK takes it. */
static hid_t open_root(hid_t file)
{
    char name[CSD_NAME_BYTES];
    for (hsize_t i = 0; i < hdf5_count_links(file, MAX_VIDEOS); i++) {
        if (hdf5_link_name(file, i, name, sizeof name) && hdf5_is_member(file, name) &&
            hdf5_object_type(file, name) == H5I_GROUP)
            return H5Gopen2(file, name, H5P_DEFAULT);
    }
    return -1;
}

/* The group of a video; negative if there is none. */
static hid_t open_video(const csd_sequence *s, const char *video)
{
    if (!hdf5_is_member(s->data, video) || hdf5_object_type(s->data, video) != H5I_GROUP)
        return -1;
    return H5Gopen2(s->data, video, H5P_DEFAULT);
}

static mmf_status open_member(mmf_ctx *ctx, const csd_sequence *s, hid_t group, const char *video,
                              const char *member, source *out)
{
    const char *why = "it is not there";
    if (hdf5_is_member(group, member) && source_open(group, member, out, &why))
        return MMF_OK;
    return mmf_fail(ctx, MMF_FORMAT, "%s: %s/%s cannot be read: %s", s->path, video, member, why);
}

static int64_t row_width(const source *s)
{
    return s->dims[0] > 0 ? (int64_t)(source_cells(s) / s->dims[0]) : 0;
}

static mmf_status look_at(mmf_ctx *ctx, csd_sequence *s, const char *video)
{
    const hid_t group = open_video(s, video);
    if (group < 0)
        return MMF_OK;
    source features;
    mmf_status status = open_member(ctx, s, group, video, "features", &features);
    if (status == MMF_OK) {
        s->is_words = features.kind == FIXED_TEXT;
        s->width = s->is_words ? 1 : row_width(&features);
        source_close(&features);
    }
    H5Gclose(group);
    return status;
}

mmf_status csd_open(mmf_ctx *ctx, csd_sequence *s, const char *path)
{
    s->path = path;
    s->data = -1;
    s->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (s->file < 0)
        return mmf_fail(ctx, MMF_FORMAT, "%s: not there, not an HDF5 file, or damaged", path);
    const hid_t root = open_root(s->file);
    if (root >= 0 && hdf5_is_member(root, "data") && hdf5_object_type(root, "data") == H5I_GROUP)
        s->data = H5Gopen2(root, "data", H5P_DEFAULT);
    if (root >= 0)
        H5Gclose(root);
    if (s->data < 0)
        return mmf_fail(ctx, MMF_FORMAT,
                        "%s: no group \"data\" in its first group: it is no computational sequence",
                        path);
    char video[CSD_NAME_BYTES];
    for (hsize_t i = 0; s->width == 0 && i < hdf5_count_links(s->data, MAX_VIDEOS); i++) {
        if (hdf5_link_name(s->data, i, video, sizeof video))
            MMF_TRY(look_at(ctx, s, video));
    }
    return s->width > 0 ? MMF_OK : mmf_fail(ctx, MMF_FORMAT, "%s: it holds no entries", path);
}

void csd_close(csd_sequence *s)
{
    if (s->data > 0)
        H5Gclose(s->data);
    if (s->file > 0)
        H5Fclose(s->file);
    s->data = s->file = -1;
}

mmf_status csd_common_videos(mmf_ctx *ctx, const csd_sequence *s, size_t n_sequences, char ***out,
                             int64_t *n)
{
    const hsize_t n_links = hdf5_count_links(s[0].data, MAX_VIDEOS);
    char name[CSD_NAME_BYTES];
    *n = 0;
    *out = mmf_alloc_zero(ctx, (size_t)n_links, sizeof **out);
    if (!*out)
        return MMF_NOMEM;
    for (hsize_t i = 0; i < n_links; i++) {
        bool everywhere = hdf5_link_name(s[0].data, i, name, sizeof name);
        for (size_t k = 0; everywhere && k < n_sequences; k++)
            everywhere =
                hdf5_is_member(s[k].data, name) && hdf5_object_type(s[k].data, name) == H5I_GROUP;
        if (!everywhere)
            continue;
        (*out)[*n] = mmf_strdup(ctx, name);
        if (!(*out)[*n])
            return MMF_NOMEM;
        ++*n;
    }
    return MMF_OK;
}

/* ---- Videos ------------------------------------------------------------------------------- */

static mmf_status load_features(mmf_ctx *ctx, const csd_sequence *s, csd_video *v,
                                const char *video, source *features)
{
    const bool is_words = features->kind == FIXED_TEXT;
    if ((int64_t)features->dims[0] != v->n || is_words != s->is_words ||
        (v->n > 0 && row_width(features) != s->width))
        return mmf_fail(ctx, MMF_FORMAT,
                        "%s: %s has %lld intervals and features of %lld rows of %lld; rows of %lld "
                        "are expected",
                        s->path, video, (long long)v->n, (long long)features->dims[0],
                        (long long)row_width(features), (long long)s->width);
    const size_t n_cells = source_cells(features);
    v->word_bytes = is_words ? features->width : 0;
    void *const cells = mmf_alloc_zero(ctx, n_cells, is_words ? v->word_bytes : sizeof(double));
    if (!cells)
        return MMF_NOMEM;
    if (is_words)
        v->words = cells;
    else
        v->features = cells;
    return source_read(ctx, features, cells, n_cells);
}

static mmf_status load_intervals(mmf_ctx *ctx, const csd_sequence *s, csd_video *v,
                                 const char *video, source *intervals)
{
    if (intervals->n_dims != 2 || intervals->dims[1] != 2 || intervals->kind != NUMBER)
        return mmf_fail(ctx, MMF_FORMAT, "%s: the intervals of %s are not pairs of numbers",
                        s->path, video);
    v->n = (int64_t)intervals->dims[0];
    v->intervals = mmf_alloc_zero(ctx, (size_t)v->n, 2 * sizeof(double));
    if (!v->intervals)
        return MMF_NOMEM;
    MMF_TRY(source_read(ctx, intervals, v->intervals, 2 * (size_t)v->n));
    v->sorted = true;
    for (int64_t i = 1; v->sorted && i < v->n; i++)
        v->sorted = v->intervals[2 * i] >= v->intervals[2 * i - 2] &&
                    v->intervals[2 * i + 1] >= v->intervals[2 * i - 1];
    return MMF_OK;
}

mmf_status csd_load(mmf_ctx *ctx, const csd_sequence *s, csd_video *v, const char *video)
{
    *v = (csd_video){0};
    const hid_t group = open_video(s, video);
    if (group < 0)
        return mmf_fail(ctx, MMF_FORMAT, "%s: %s cannot be read", s->path, video);
    source intervals = {0}, features = {0};
    mmf_status status = open_member(ctx, s, group, video, "intervals", &intervals);
    if (status == MMF_OK)
        status = open_member(ctx, s, group, video, "features", &features);
    if (status == MMF_OK)
        status = load_intervals(ctx, s, v, video, &intervals);
    if (status == MMF_OK)
        status = load_features(ctx, s, v, video, &features);
    source_close(&intervals);
    source_close(&features);
    H5Gclose(group);
    if (status != MMF_OK)
        csd_unload(ctx, v);
    return status;
}

void csd_unload(mmf_ctx *ctx, csd_video *v)
{
    mmf_free(ctx, v->intervals);
    mmf_free(ctx, v->features);
    mmf_free(ctx, v->words);
    *v = (csd_video){0};
}

/* ---- Times -------------------------------------------------------------------------------- */

bool csd_overlaps(const csd_video *v, int64_t i, double from, double to)
{
    const double start = v->intervals[2 * i], end = v->intervals[2 * i + 1];
    const double low = start > from ? start : from, high = end < to ? end : to;
    return to - start > -CSD_LEAST && end - from > -CSD_LEAST && high - low > CSD_LEAST;
}

/* The first entry whose start (`which` 0) or end (1) is at least `time`; all must be sorted. */
static int64_t first_at(const csd_video *v, int which, double time)
{
    int64_t low = 0, high = v->n;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (v->intervals[2 * middle + which] < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void csd_range(const csd_video *v, double from, double to, int64_t *first, int64_t *end)
{
    *first = v->sorted ? first_at(v, 1, from) : 0;
    *end = v->sorted ? first_at(v, 0, to) : v->n;
}
