/*
 * preparation.h: how one raw column becomes an array: what a row of preparations.def is, and the
 * preparation of one column into the cache.
 */
#ifndef MMFUSE_TRAIN_PREPARATION_H
#define MMFUSE_TRAIN_PREPARATION_H

#include "data/manifest.h"
#include "mmfuse/media.h"
#include "mmfuse/prepare.h"

/** One raw input: a text, or a decoded file. */
typedef struct mmf_raw_item {
    const char *text; /**< of MMF_RAW_TEXT, not terminated */
    size_t n_bytes;
    mmf_array array;     /**< as mmf_media_item has it */
    int64_t sample_rate; /**< Hz, of sound */
} mmf_raw_item;

/** What an item became. */
typedef struct mmf_prepared {
    const void *data; /**< n_steps * step elements, or a row; borrowed until the next call */
    int64_t n_steps;  /**< 0: there is nothing in it, the modality is absent */
} mmf_prepared;

/** What the first files of a column have in common; zero-initialised. */
typedef struct mmf_preparation_facts {
    int64_t n_items;
    int64_t height, width; /**< of pictures, of the first one */
    bool sizes_differ, has_colour;
    int64_t sample_rate; /**< of sound, of the first one */
} mmf_preparation_facts;

typedef struct mmf_preparation_kind mmf_preparation_kind;

/** A preparation in use. */
typedef struct mmf_preparer {
    mmf_ctx *ctx;
    const mmf_preparation_kind *kind;
    mmf_config *config;
    /** Set by `open`: elements and shape of a row, or of a step of a sequence (n_dims may be 0). */
    mmf_dtype dtype;
    int n_dims;
    int64_t shape[MMF_MAX_DIMS - 2];
    bool is_timed;
    int64_t most_steps; /**< of a timed one; 0: nothing is known */
    void *own;          /**< freed by `close` */
} mmf_preparer;

/** One row of preparations.def. Functions may be NULL, but for `open` and `run`. */
struct mmf_preparation_kind {
    /** Name, title, equations, options. Options that the data decide are 0 or "" until then; one
     * that makes sequences has "steps", the length of all rows, 0 until the longest is known. */
    mmf_def def;
    mmf_raw_kind reads;
    /** The option that a specification's SOURCE sets; NULL: it takes none. */
    const char *source;
    /** What the decoder is asked for, besides its kind; media only. */
    void (*decode)(const mmf_config *config, mmf_media_options *options);
    /** True while some option waits for the data: `look` then sees the first items, decoded as they
     * are (`look` NULL: none), and `settle` sets these options. */
    bool (*waits)(const mmf_config *config);
    void (*look)(mmf_preparation_facts *facts, const mmf_raw_item *item);
    mmf_status (*settle)(mmf_ctx *ctx, mmf_config *config, const mmf_preparation_facts *facts);
    mmf_status (*open)(mmf_preparer *p);
    /** @errors FORMAT and others: of this item; the message names no file. NOMEM: of all */
    mmf_status (*run)(mmf_preparer *p, const mmf_raw_item *item, mmf_prepared *out);
    /** Arrays that belong to the modality: vocab, names. `out->data` NULL: none. Borrowed. */
    mmf_status (*vocab)(mmf_preparer *p, mmf_array *out);
    void (*close)(mmf_preparer *p);
};

/** All preparations in the order of the table. */
const mmf_preparation_kind *const *mmf_preparation_table(size_t *count);
const mmf_preparation_kind *mmf_preparation_find(const char *name);
/** The one that a kind of files is prepared by when nothing else is said; NULL: none. */
const mmf_preparation_kind *mmf_preparation_default(mmf_raw_kind kind);

/**
 * Makes a preparation ready.
 * @param config  with every option settled; lent
 * @param out     ended by mmf_preparer_close, also after a failure
 */
mmf_status mmf_preparer_open(mmf_ctx *ctx, mmf_preparer *out, const mmf_preparation_kind *kind,
                             mmf_config *config);
void mmf_preparer_close(mmf_preparer *p);
/** Elements of a row, or of a step. */
int64_t mmf_preparer_step(const mmf_preparer *p);

/** Sets an option that is 0, which the data were to decide. */
mmf_status mmf_preparation_settle(mmf_config *config, const char *name, int64_t value);
/** The own options of a configuration as a JSON object; the caller frees it with mmf_free. */
char *mmf_preparation_settings(mmf_ctx *ctx, const mmf_config *config);
/* ---- One column -------------------------------------------------------------------------- */

/** A raw column with its preparation, and what became of it. */
typedef struct mmf_raw_column {
    const char *name; /**< the modality, which is the column's name */
    size_t column;
    const mmf_preparation_kind *kind;
    mmf_config *config; /**< settled once the column is prepared */
    /** A frozen encoder behind the preparation: its specification, where its weights are, and a
     * hash of them (0: not looked at yet). NULL: none. Owned. */
    char *encoder, *source;
    uint64_t weights;
    int64_t *stored; /**< (n_rows): the stored row of each row, -1 where the cell is empty */
    int64_t *first;  /**< (n_stored): the first row that names it */
    int64_t n_stored;
    mmf_archive *cache; /**< "values", "length", "present", "vocab" of the stored rows */
} mmf_raw_column;

/**
 * Reads NAME[:OPTION=VALUE...][=SOURCE], where NAME is a preparation or a frozen encoder, into
 * `kind`, `config`, `encoder` and `source`, which mmf_raw_column_clear frees.
 * @errors  ARG; of encoders, those of reading the source
 */
mmf_status mmf_preparation_parse(mmf_ctx *ctx, const char *spec, mmf_raw_column *out);
/** Decides what is stored: every text, every file once. */
mmf_status mmf_raw_column_plan(const mmf_manifest *manifest, mmf_raw_column *column);
/** Opens the column's arrays in the cache, made before if they are not there. */
mmf_status mmf_raw_column_prepare(const mmf_manifest *manifest, mmf_raw_column *column,
                                  const mmf_prepare_options *options);
void mmf_raw_column_clear(mmf_ctx *ctx, mmf_raw_column *column);

#endif
