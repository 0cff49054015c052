/*
 * csd_sequence.h: computational sequences of the CMU-MultimodalSDK: for each video entries with a
 * time interval and features, in an HDF5 file.
 */
#ifndef MMFUSE_HELPERS_CSD_SEQUENCE_H
#define MMFUSE_HELPERS_CSD_SEQUENCE_H

#include "hdf5_source.h"

#define CSD_NAME_BYTES 256

typedef struct csd_sequence {
    char name[CSD_NAME_BYTES]; /* of the array it becomes */
    const char *path;
    hid_t file, data; /* the group that holds a group a video */
    bool is_words;
    int64_t width; /* numbers of an entry; 1 for words */
} csd_sequence;

/** The entries of one video. */
typedef struct csd_video {
    int64_t n;
    double *intervals; /* start and end in seconds, entry by entry */
    bool sorted;       /* neither starts nor ends go back */
    double *features;  /* `width` numbers an entry; NULL for words */
    char *words;       /* cells of `word_bytes` */
    size_t word_bytes;
} csd_video;

/**
 * Opens `path` and looks at its first video.
 *
 * @errors  FORMAT (not of this layout), LIMIT; the message names the file
 */
mmf_status csd_open(mmf_ctx *ctx, csd_sequence *s, const char *path);
void csd_close(csd_sequence *s);
/** Reads a video. @errors FORMAT, LIMIT; the message names file and video */
mmf_status csd_load(mmf_ctx *ctx, const csd_sequence *s, csd_video *v, const char *video);
void csd_unload(mmf_ctx *ctx, csd_video *v);
/** Names of the videos that are in all of the sequences, sorted; freed with mmf_free each and all.
 */
mmf_status csd_common_videos(mmf_ctx *ctx, const csd_sequence *s, size_t n_sequences, char ***out,
                             int64_t *n);

/** Shortest interval that counts, in seconds, as in the SDK. */
#define CSD_LEAST 1e-5

/** Whether a piece of more than CSD_LEAST of entry `i` lies in [from, to]. */
bool csd_overlaps(const csd_video *v, int64_t i, double from, double to);
/** The range of entries outside of which none overlaps [from, to]. */
void csd_range(const csd_video *v, double from, double to, int64_t *first, int64_t *end);

#endif
