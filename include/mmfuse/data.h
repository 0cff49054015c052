/*
 * data.h: data sets: modalities, targets, splits, normalisation and batches.
 *
 * The keys and rules are the data contract of docs/data.md. This floor yields arrays; it never sees
 * a tensor.
 */
#ifndef MMFUSE_DATA_H
#define MMFUSE_DATA_H

#include "mmfuse/io.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mmf_modality_kind {
    MMF_VECTOR,   /**< [N, d] */
    MMF_SEQUENCE, /**< [N, T, d] */
    MMF_IMAGE,    /**< [N, C, H, W] */
    MMF_TOKENS,   /**< [N, T] integers */
    MMF_VIDEO     /**< [N, T, C, H, W]: T frames */
} mmf_modality_kind;

/** What a cell of a manifest names: a text itself, or a file. */
typedef enum mmf_raw_kind {
    MMF_RAW_NONE,
    MMF_RAW_TEXT,
    MMF_RAW_IMAGE,
    MMF_RAW_AUDIO,
    MMF_RAW_VIDEO
} mmf_raw_kind;

/** "text", "image", "audio", "video"; "" for MMF_RAW_NONE. */
MMF_API const char *mmf_raw_kind_name(mmf_raw_kind kind);
/** What a file of this name holds, by its ending; MMF_RAW_NONE if that says nothing. */
MMF_API mmf_raw_kind mmf_raw_kind_of(const char *name, size_t n_bytes);

/** "vector", "sequence", "image", "tokens", "video". */
MMF_API const char *mmf_modality_kind_name(mmf_modality_kind kind);
/** True for kinds whose first dimension is steps, of which samples may have fewer. */
MMF_API bool mmf_modality_has_steps(mmf_modality_kind kind);
/** True for kinds whose features are channels, in front of height and width. */
MMF_API bool mmf_modality_has_channels(mmf_modality_kind kind);

/** Numbers that belong to the steps of a sequence or of tokens: the key `<modality>.<name>`. */
typedef enum mmf_companion {
    MMF_COMPANION_BOX, /**< [N, T, k]: where a step is, as corners and what follows from them */
    MMF_COMPANION_SEGMENTS, /**< [N, T] whole numbers: which part of a text a token is in */
    MMF_COMPANION_TARGET,   /**< [N, T, C]: a distribution over what a step may be, for pre-training
                             */
    MMF_N_COMPANIONS
} mmf_companion;

/** "box", "segments", "target". */
MMF_API const char *mmf_companion_name(mmf_companion companion);
/** True for whole numbers, one a step. */
MMF_API bool mmf_companion_is_whole(mmf_companion companion);

/** One modality of a data set; all pointers are borrowed from the data set. */
typedef struct mmf_modality {
    const char *name;
    mmf_modality_kind kind;
    int n_dims; /**< dimensions of one sample: 1 vector, 2 sequence, 3 image, 1 tokens, 4 video */
    int64_t
        shape[MMF_MAX_DIMS - 1]; /**< of one sample: {d}, {T, d}, {C, H, W}, {T}, {T, C, H, W} */
    int64_t n_rows;              /**< stored rows; differs from N where rows are shared */
    mmf_dtype dtype;             /**< on disk */
    bool has_length;             /**< <name>.length exists */
    bool has_present;            /**< <name>.present exists, or some length is 0 */
    bool has_index;
    int64_t vocab_size; /**< tokens: largest id + 1, at least the size of .vocab; else 0 */
    int64_t companions[MMF_N_COMPANIONS]; /**< numbers a step of each; 0: not in the file */
    int64_t n_absent;                     /**< samples without this modality */
    int64_t n_nonfinite; /**< non-finite values where present and within length; -1: not counted */
    mmf_array names;     /**< n_dims 0: none */
    mmf_array vocab;     /**< n_dims 0: none */
} mmf_modality;

typedef enum mmf_target_kind {
    MMF_TARGET_NONE,
    MMF_TARGET_REAL,       /**< [N] numbers */
    MMF_TARGET_CLASS,      /**< [N] class numbers */
    MMF_TARGET_MULTILABEL, /**< [N, C] 0/1 */
    MMF_TARGET_SOFT,       /**< [N, C] rows that sum to 1 */
    MMF_TARGET_RETRIEVAL,  /**< modalities find each other; [N] class numbers, or nothing */
    MMF_TARGET_PRETRAINING /**< a model finds out what it hides from itself; no target is read */
} mmf_target_kind;

typedef enum mmf_nonfinite {
    MMF_NONFINITE_FAIL,  /**< train stops with file, key and row */
    MMF_NONFINITE_ZERO,  /**< the value becomes 0 */
    MMF_NONFINITE_ABSENT /**< the modality counts as absent for that sample */
} mmf_nonfinite;

typedef struct mmf_dataset_options {
    size_t size;
    const char *modalities; /**< comma-separated choice and order; NULL: all, in the file's order */
    const char *kinds;      /**< "NAME=tokens,NAME=features,NAME=sequence"; NULL: by shape */
    const char *target;     /**< key of the target; NULL: "label" */
    const char *task;       /**< "regression", "classification", "multilabel", "soft", "retrieval",
                               "pretraining"; NULL: by value */
    bool target_optional;   /**< for predict: a missing target is MMF_TARGET_NONE, not an error */
    mmf_nonfinite nonfinite;
    bool check_finite;        /**< scan values now and fail or count by `nonfinite` */
    const mmf_io_options *io; /**< NULL: defaults */
    /** For mmf_model_open_data: how a manifest is prepared, but for what the model knows itself.
     * NULL: tables are read as tables. */
    const struct mmf_prepare_options *prepare;
} mmf_dataset_options;

#define MMF_DATASET_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = sizeof(mmf_dataset_options)                                                        \
    }

/** An open data set. Immutable after opening apart from its cache; one thread at a time. */
typedef struct mmf_dataset mmf_dataset;

/**
 * Opens and checks a data file.
 *
 * @param out  the caller owns it and frees it with mmf_dataset_close
 * @errors     those of mmf_archive_open; FORMAT with file, key and row for lengths beyond T, labels
 *             outside the classes, arrays whose N differ, indices out of range; ARG for an unknown
 *             modality or target (with the nearest name); NUMERIC for non-finite values
 */
MMF_API mmf_status mmf_dataset_open(mmf_ctx *ctx, mmf_dataset **out, const char *path,
                                    const mmf_dataset_options *options);
/** As mmf_dataset_open over an archive that the data set takes over, also on failure. */
MMF_API mmf_status mmf_dataset_from_archive(mmf_ctx *ctx, mmf_dataset **out, mmf_archive *archive,
                                            const mmf_dataset_options *options);
/** Accepts NULL. */
MMF_API void mmf_dataset_close(mmf_dataset *dataset);

MMF_API const char *mmf_dataset_path(const mmf_dataset *dataset);
MMF_API int64_t mmf_dataset_count(const mmf_dataset *dataset);
MMF_API size_t mmf_dataset_n_modalities(const mmf_dataset *dataset);
MMF_API const mmf_modality *mmf_dataset_modality(const mmf_dataset *dataset, size_t i);
/** Index of a modality by name, or -1. */
MMF_API int64_t mmf_dataset_find(const mmf_dataset *dataset, const char *name);
MMF_API mmf_target_kind mmf_dataset_target_kind(const mmf_dataset *dataset);
MMF_API const char *mmf_dataset_target_name(const mmf_dataset *dataset);
/** Classes or target columns; 1 for regression; 0 for retrieval without classes. */
MMF_API int64_t mmf_dataset_n_classes(const mmf_dataset *dataset);
/** Class names; n_dims 0: none. */
MMF_API mmf_array mmf_dataset_class_names(const mmf_dataset *dataset);
/** Target of a sample: one value (regression), its class, or n_classes values; untouched without
 * one. */
MMF_API void mmf_dataset_target(const mmf_dataset *dataset, int64_t row, double *out);
/** Name of a sample from `id`, else its row number, into `out`. */
MMF_API void mmf_dataset_id(const mmf_dataset *dataset, int64_t row, char *out, size_t size);
/** True when the modality is there for this sample (present, and length above 0). */
MMF_API bool mmf_dataset_present(const mmf_dataset *dataset, size_t modality, int64_t row);
/** The stored row that a sample reads of a modality: its own number unless rows are shared through
 * `<modality>.index`. Meaningless where the modality is absent. */
MMF_API int64_t mmf_dataset_stored_row(const mmf_dataset *dataset, size_t modality, int64_t row);
/** Keys that the contract gives no meaning ("notes"); NULL past the end. */
MMF_API const char *mmf_dataset_note(const mmf_dataset *dataset, size_t i);
MMF_API bool mmf_dataset_has_split(const mmf_dataset *dataset);
MMF_API bool mmf_dataset_has_group(const mmf_dataset *dataset);
/** What made the modalities out of raw files, as JSON (mmf_prepare); NULL: nothing that is known.
 */
MMF_API const char *mmf_dataset_preparations(const mmf_dataset *dataset);
/** A hash of the file's path, size, features and targets: a run resumes only on the same data. The
 * first call reads all of them. */
MMF_API uint64_t mmf_dataset_fingerprint(const mmf_dataset *dataset);

/* ---- Splits ------------------------------------------------------------------------------ */

typedef enum mmf_part { MMF_TRAIN, MMF_VALID, MMF_TEST } mmf_part;

typedef struct mmf_split_options {
    size_t size;
    double fractions[3]; /**< train, valid, test; all 0: the file's split, or 0.7, 0.1, 0.2 */
    double valid;        /**< share cut from train for validation; 0: 0.15 if valid is empty */
    int64_t n_folds;     /**< 0: none; else fold `fold` of the train and valid rows is valid */
    int64_t fold;
    int64_t train_per_class; /**< 0: all; else the first n train rows of each class in file order */
    uint64_t seed;
} mmf_split_options;

#define MMF_SPLIT_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(mmf_split_options)                                                          \
    }

/** Row numbers of the three parts, ascending. */
typedef struct mmf_split {
    int64_t *rows[3];
    int64_t count[3];
} mmf_split;

/**
 * Divides the rows: stratified by class (quantiles for regression), rows of one group or one shared
 * index row kept together, dependent only on the data and the seed. With n_folds and no `split` in
 * the file and no fractions, test is empty and every row is train or valid.
 *
 * @errors ARG (fractions, more folds than groups), FORMAT (the file's split divides rows that share
 * an index row; where it divides a group, a warning is logged)
 */
MMF_API mmf_status mmf_split_make(mmf_ctx *ctx, mmf_split *out, const mmf_dataset *dataset,
                                  const mmf_split_options *options);
MMF_API void mmf_split_clear(mmf_ctx *ctx, mmf_split *split);
/** Stratified, grouped folds of `rows`: fold_of[i] in [0, n_folds) for each of them. */
MMF_API mmf_status mmf_split_folds(mmf_ctx *ctx, const mmf_dataset *dataset, const int64_t *rows,
                                   int64_t n_rows, int64_t n_folds, uint64_t seed,
                                   int64_t *fold_of);

/* ---- Normalisation ----------------------------------------------------------------------- */

/** x -> (x - mean) / deviation a feature (a channel for images and video); tokens are left alone.
 */
typedef struct mmf_normalisation {
    size_t n_modalities;
    int64_t *n_features;   /**< of each modality; 0: not normalised */
    float **mean, **scale; /**< scale = 1 / deviation, 1 where the deviation is 0 */
} mmf_normalisation;

/** Statistics over the given rows only, present values within length only, accumulated in double.
 */
MMF_API mmf_status mmf_normalisation_fit(mmf_ctx *ctx, mmf_normalisation *out, mmf_dataset *dataset,
                                         const int64_t *rows, int64_t n_rows);
MMF_API void mmf_normalisation_clear(mmf_ctx *ctx, mmf_normalisation *normalisation);

/* ---- Batches ----------------------------------------------------------------------------- */

/** One modality of a batch. */
typedef struct mmf_batch_input {
    float
        *values; /**< [B, ...] normalised; zeros beyond length and where absent; NULL for tokens */
    int64_t *tokens; /**< [B, T] or NULL */
    int64_t *length; /**< [B] in [1, T] (1 where absent); NULL unless the modality has lengths */
    float *present;  /**< [B] 0/1; NULL where the modality is always there */
    float *companions[MMF_N_COMPANIONS]; /**< [B, T, k], zeros as in values; NULL: not wanted */
} mmf_batch_input;

typedef struct mmf_batch {
    mmf_ctx *ctx;
    int64_t n_rows, capacity;
    size_t n_modalities;
    uint64_t
        wanted; /**< bit m: modality m is filled; all after creation, the caller may clear bits */
    mmf_batch_input *inputs;
    float *target_values;    /**< [B] or [B, C]; NULL for classes or without a target */
    int64_t *target_classes; /**< [B]; NULL unless classes */
} mmf_batch;

/** Memory for batches of up to `capacity` rows. `normalisation` in later calls may be NULL. */
MMF_API mmf_status mmf_batch_create(mmf_ctx *ctx, mmf_batch *out, const mmf_dataset *dataset,
                                    int64_t capacity);
MMF_API void mmf_batch_clear(mmf_batch *batch);
/**
 * Has later fills bring those companions of a modality that the data have with these many numbers a
 * step; 0: not wanted.
 */
MMF_API mmf_status mmf_batch_want_companions(mmf_batch *batch, const mmf_dataset *dataset,
                                             size_t modality,
                                             const int64_t widths[MMF_N_COMPANIONS]);
/** Gives every modality its `present`, also those that the data always have. */
MMF_API mmf_status mmf_batch_track_presence(mmf_batch *batch);
/** Makes a modality absent from row `b` of a filled batch, as if the data lacked it there. The
 * batch must track presence. */
MMF_API void mmf_batch_drop(mmf_batch *batch, const mmf_dataset *dataset, size_t modality,
                            int64_t b);
/** Fills the batch with rows; no allocation. `n_rows` <= capacity. */
MMF_API mmf_status mmf_batch_fill(mmf_batch *batch, mmf_dataset *dataset,
                                  const mmf_normalisation *normalisation, const int64_t *rows,
                                  int64_t n_rows);

#ifdef __cplusplus
}
#endif
#endif
