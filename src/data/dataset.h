/*
 * dataset.h: the inside of a data set, shared by the files of this folder.
 *
 * A data set borrows every array from its archive. What it owns is small: one record a modality, a
 * flag a sample where a modality may be absent, and the list of notes.
 */
#ifndef MMFUSE_DATA_DATASET_H
#define MMFUSE_DATA_DATASET_H

#include "mmfuse/data.h"

/* Embeddings and heads are as wide as the largest token or class says, so one wild value in a file
 * must not decide how much memory a model takes. */
#define MMF_MAX_CLASSES 65536
#define MMF_MAX_TOKEN 16777215

/** One modality; an array whose `data` is NULL is not in the file. */
typedef struct mmf_data_modality {
    mmf_modality view;
    mmf_array values, length, present, index;
    mmf_array companions[MMF_N_COMPANIONS];
    int64_t stored_steps; /* T of kinds with steps, else 1 */
    int64_t n_steps;      /* of a batch: the same, or those of a model */
    int64_t step;         /* elements of a step */
    int64_t row;          /* elements of a batch's row: n_steps * step */
    int64_t n_features;   /* normalised quantities: of a step, or its channels */
    uint8_t *absent;      /* [N] 0/1; NULL where the modality is always there */
    void *ordered_values; /* owned: `values` by the columns of a model; NULL: as in the file */
} mmf_data_modality;

/** Samples that read the same stored row belong together, whichever modalities are chosen. */
typedef struct mmf_data_share {
    const char *name; /* the modality */
    mmf_array index;
    mmf_array present; /* data NULL: always */
} mmf_data_share;

struct mmf_dataset {
    mmf_ctx *ctx;
    mmf_archive *archive;
    const char *path;
    int64_t n_samples;
    const char *count_key; /* the array that n_samples was read from */
    mmf_nonfinite nonfinite;
    mmf_data_modality *modalities;
    size_t n_modalities;
    mmf_array target, class_names, split, group, id;
    double *ordered_target;  /* owned: `target` by the classes of a model; NULL: as in the file */
    char foreign_class[128]; /* the first class that such a model does not know */
    const char *target_name;
    mmf_target_kind target_kind;
    int64_t n_classes;
    mmf_data_share *shares;
    size_t n_shares;
    const char **notes;
    size_t n_notes;
    char *preparations; /* owned; NULL: none */
    uint64_t *contents; /* owned: hash of the modalities' arrays; 0: not asked for yet */
};

/* ---- Messages: "FILE: KEY: ..." and "FILE: KEY, row R: ..."; rows count from 0 ----------------
 */

mmf_status mmf_data_fail(const mmf_dataset *ds, mmf_status status, const char *key,
                         const char *format, ...) MMF_PRINTF(4, 5);
mmf_status mmf_data_fail_row(const mmf_dataset *ds, mmf_status status, const char *key, int64_t row,
                             const char *format, ...) MMF_PRINTF(5, 6);

/* ---- dataset_keys.c: what each key of the file is for -------------------------------------- */

/** Finds the modalities, their companions and the notes; loads what was chosen. */
mmf_status mmf_data_read_keys(mmf_dataset *ds, const mmf_dataset_options *options);
/** Loads entry `name`; `out->data` stays NULL where there is none. */
mmf_status mmf_data_load(mmf_dataset *ds, const char *name, mmf_array *out);
/** As mmf_data_load for the entry "base.suffix". */
mmf_status mmf_data_load_companion(mmf_dataset *ds, const char *base, const char *suffix,
                                   mmf_array *out);

/* ---- dataset_check.c: every value that later code relies on -------------------------------- */

mmf_status mmf_data_check(mmf_dataset *ds, const mmf_dataset_options *options);

/* ---- companions.c: what belongs to the steps of a modality ---------------------------------- */

/** Loads `<modality>.box` and its like; checks their shapes. */
mmf_status mmf_data_read_step_companions(mmf_dataset *ds, mmf_data_modality *m);
/** True for the suffix of one that the modality has; `m` NULL: of any. */
bool mmf_data_is_step_companion(const mmf_data_modality *m, const char *suffix);
/** Checks whole numbers. @param steps  of each stored row that some sample reads */
mmf_status mmf_data_check_step_companions(const mmf_dataset *ds, const mmf_data_modality *m,
                                          const int64_t *steps);
mmf_status mmf_data_fill_companions(mmf_batch_input *in, const mmf_dataset *ds, size_t modality,
                                    const int64_t *rows, int64_t n_rows);
/** Zeros for row `b` of a batch. */
void mmf_data_drop_companions(mmf_batch_input *in, const mmf_data_modality *m, int64_t b);

/* ---- batch.c ------------------------------------------------------------------------------- */

/** Zeroed memory for all rows of a batch. NULL with a message: none left */
void *mmf_batch__take(mmf_batch *batch, int64_t per_row, size_t size);

/* ---- target.c ------------------------------------------------------------------------------ */

/** Finds the target's array; `name` is NULL for the default. */
mmf_status mmf_data_find_target(mmf_dataset *ds, const char *name, bool optional);
/** False for a task that does without. */
bool mmf_data_needs_target(const char *task);
/** Decides the target's kind by `task` (NULL: by value) and checks every value.
 * @param was_named  the target was asked for by name */
mmf_status mmf_data_check_target(mmf_dataset *ds, const char *task, bool was_named);

/* ---- divide.c: stratified division of rows that keeps related rows together ---------------- */

/**
 * Gives each of `rows` one of `n_parts` parts with the wanted shares.
 *
 * @param shares   n_parts numbers >= 0 that sum to 1
 * @param part_of  receives n_rows parts
 * @errors         NOMEM; ARG where a part with a share above 0 can get no unit of rows
 */
mmf_status mmf_data_divide(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows, int64_t n_rows,
                           const double *shares, int64_t n_parts, mmf_rng rng, int64_t *part_of);
/** FORMAT where the file's own split, `part_of` [N], divides rows that share an index row; a
 * warning in the log where it divides a group. */
mmf_status mmf_data_check_torn(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *part_of);

/** Says where two samples have one id. @errors NOMEM */
mmf_status mmf_data_warn_of_twins(const mmf_dataset *ds);

/* ---- Small accessors ----------------------------------------------------------------------- */

/** True when every sample is of one class. */
static inline bool mmf_data_has_classes(const mmf_dataset *ds)
{
    return ds->target_kind == MMF_TARGET_CLASS ||
           (ds->target_kind == MMF_TARGET_RETRIEVAL && ds->n_classes > 0);
}

/** Stored row that a sample reads; meaningless where the modality is absent. */
static inline int64_t mmf_data_stored_row(const mmf_data_modality *m, int64_t sample)
{
    return m->index.data ? mmf_array_integer(&m->index, sample) : sample;
}

static inline bool mmf_data_absent(const mmf_data_modality *m, int64_t sample)
{
    return m->absent && m->absent[sample];
}

/** Valid steps of a sample: 0 where absent. */
static inline int64_t mmf_data_steps(const mmf_data_modality *m, int64_t sample)
{
    if (mmf_data_absent(m, sample))
        return 0;
    if (m->length.data)
        return mmf_array_integer(&m->length, sample);
    return m->stored_steps < m->n_steps ? m->stored_steps : m->n_steps;
}

/** Place of stored row `r` in an array with so many elements a step: the values, or what belongs to
 * their steps. */
static inline int64_t mmf_data_place(const mmf_data_modality *m, int64_t r, int64_t step)
{
    return r * m->stored_steps * step;
}

/** Position of the first value that is not finite, or `n`. */
int64_t mmf_data_first_nonfinite(const float *values, int64_t n);

#endif
