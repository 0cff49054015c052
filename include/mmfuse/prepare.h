/*
 * prepare.h: from a table of texts and file names to a data set.
 *
 * A manifest is a CSV or TSV with a header line. Columns `id`, `split`, `group` and `label` mean
 * what they mean in any data file (labels may be class names); columns "NAME.PART" are numbers;
 * every other column may be raw: texts, or names of images, recordings or videos. A preparation
 * turns a raw column into an array. Arrays are kept in a cache folder, by a fingerprint of the
 * preparation and of the files, and data sets map them from there.
 */
#ifndef MMFUSE_PREPARE_H
#define MMFUSE_PREPARE_H

#include "mmfuse/data.h"
#include "mmfuse/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Definitions of the preparations: name, title, equations, options. They have no build and no run.
 */
MMF_API const mmf_def *const *mmf_preparations(size_t *count);
/** What a preparation of this name reads; MMF_RAW_NONE if there is none. */
MMF_API mmf_raw_kind mmf_preparation_reads(const char *name);

/** Told at most ten times a second, and at the end of a modality. */
typedef struct mmf_prepare_event {
    const char *modality;
    int64_t n_done, n_rows, n_skipped;
    double rate;         /**< rows a second; NaN while unknown */
    double seconds_left; /**< of this modality; NaN while unknown */
} mmf_prepare_event;

typedef void mmf_prepare_watch(void *user, const mmf_prepare_event *event);

typedef struct mmf_prepare_options {
    size_t size;
    /**
     * Preparations of columns, "COLUMN=SPEC", or of all columns of a kind, "@image=SPEC", where
     * SPEC is NAME[:OPTION=VALUE...][=SOURCE]: "logmel:n_mels=40", "wordpiece=vocab.txt". Columns
     * that are not named are prepared by the endings of their files.
     */
    const char *const *specs;
    size_t n_specs;
    /** Preparations that mmf_dataset_preparations or a model gave; `specs` are then not looked at.
     */
    const char *settled;
    const char
        *may_lack;      /**< "a,b": columns of `settled` that the table need not have; NULL: none */
    const char *target; /**< column whose texts are classes; NULL: "label" */
    /** Classes of a model, in its order; NULL: those of the column, in alphabetic order. */
    const char *const *class_names;
    int64_t n_classes;
    bool target_optional; /**< a target that cannot be read is left out */
    const char *cache;    /**< folder, made if missing; needed */
    bool skip_bad; /**< a file that cannot be read makes the modality absent; else it is an error */
    int n_workers; /**< decoding programs side by side; 0: as many as the context has threads */
    const mmf_io_options *io; /**< NULL: defaults */
    mmf_prepare_watch *watch; /**< NULL: nobody */
    void *watch_user;
    bool int8; /**< frozen encoders with large linear layers in eight bits; the cache keeps what was
                  made so apart */
} mmf_prepare_options;

#define MMF_PREPARE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(mmf_prepare_options)                                                        \
    }

/**
 * True for a table with a column of file names, with texts and no vectors, with any column when
 * specs are given, or, with options, with a target of texts. A file that cannot be read is none.
 */
MMF_API bool mmf_is_manifest(mmf_ctx *ctx, const char *path, const mmf_prepare_options *options);

/**
 * Prepares what the cache does not hold yet and opens the arrays under the names of the data
 * contract; mmf_dataset_from_archive makes a data set of them.
 *
 * An interrupted preparation goes on where it was. Several processes may prepare the same.
 *
 * @param out  the caller owns it and frees it with mmf_archive_close
 * @errors     ARG (an unknown column, preparation or option), IO and FORMAT (a file; named with
 *             column and row), LIMIT, CANCELLED (what was done is kept)
 */
MMF_API mmf_status mmf_prepare(mmf_ctx *ctx, mmf_archive **out, const char *path,
                               const mmf_prepare_options *options);

/**
 * What is in a manifest, as a JSON object; nothing is decoded:
 * {"rows", "columns": [{"name", "role", "preparation", "empty", "files", "missing",
 * "first_missing"}]}. Roles are "image", "audio", "video", "text", "numbers", "id", "split",
 * "group", "label", "caption"; counts of files stand beside media only.
 *
 * @param out  freed with mmf_free
 */
MMF_API mmf_status mmf_manifest_describe(mmf_ctx *ctx, char **out, const char *path);

#ifdef __cplusplus
}
#endif
#endif
