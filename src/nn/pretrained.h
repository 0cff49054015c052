/*
 * pretrained.h: weights that others trained, into the parameters of a module, by name.
 *
 * Nothing is skipped in silence: whatever has no counterpart on either side is in the report.
 */
#ifndef MMFUSE_NN_PRETRAINED_H
#define MMFUSE_NN_PRETRAINED_H

#include "base/text.h"
#include "mmfuse/nn.h"

/** One ending of a name in the file and what we call it. */
typedef struct mmf_pretrained_rename {
    const char *from, *to;
} mmf_pretrained_rename;

/**
 * How the names of a file become ours. Patterns: "cls." is a beginning, "*.position_ids" an ending,
 * anything else a whole name; they are compared after prefixes and renames. Lists end with NULL;
 * NULL is an empty one.
 */
typedef struct mmf_pretrained_rules {
    const char *const *prefixes; /**< taken off where a name has one, each once, in this order */
    const mmf_pretrained_rename *renames;
    const char *const *ignored;  /**< tensors of the file that have no use here */
    const char *const *optional; /**< parameters that the file may lack; they keep their values */
    const char *below; /**< only tensors of names below this one, which is taken off; NULL: all */
} mmf_pretrained_rules;

/** BERT and what contains one: `bert.` and wrappers' prefixes, gamma/beta, pre-training heads. */
extern const mmf_pretrained_rules mmf_pretrained_bert;

enum { MMF_IMAGE_COLOURS = 3 };

/** What images of values from 0 to 1 are normalised by, a channel each. */
typedef struct mmf_image_norm {
    float mean[MMF_IMAGE_COLOURS], deviation[MMF_IMAGE_COLOURS];
} mmf_image_norm;

/** How an encoder starts from a SOURCE, the path behind the last "=" of its specification. */
typedef struct mmf_source {
    /** Adds what the files beside the weights say as options of the encoder, ":NAME=VALUE" each. */
    mmf_status (*describe)(mmf_ctx *ctx, const char *path, const mmf_def *def, mmf_text *spec);
    const mmf_pretrained_rules *rules;
    const char *scope; /**< of the weights below the encoder's */
    /** Images: what the weights were trained with, in place of the data's own statistics; of whole
     * numbers from 0 to 255, or of reals from 0 to 1. NULL: the data's */
    const mmf_image_norm *image;
} mmf_source;

typedef struct mmf_name_list {
    char **names;
    size_t count, capacity;
} mmf_name_list;

/** Zero-initialise; ended by mmf_pretrained_report_clear. Names of parameters are without scope. */
typedef struct mmf_pretrained_report {
    mmf_ctx *ctx;
    int64_t n_loaded;         /**< tensors of the file that are in parameters now */
    mmf_name_list missing;    /**< parameters that the file lacks and should have */
    mmf_name_list kept;       /**< optional parameters that it lacks */
    mmf_name_list unexpected; /**< tensors of the file that no rule knows */
    mmf_name_list ignored;    /**< tensors of the file that a rule puts aside */
    mmf_name_list misshapen;  /**< "name: (2, 3) in the file, (2, 4) here" */
} mmf_pretrained_report;

/**
 * Loads tensors, converted to our element type, into the parameters whose names begin with `scope`
 * and a dot.
 *
 * @param scope  "" for all parameters
 * @param path   a safetensors file, an index of shards, or a folder that holds either
 * @errors       those of mmf_shards_open; that names or shapes do not match is none: see the report
 */
mmf_status mmf_pretrained_load(mmf_ctx *ctx, mmf_params *params, const char *scope,
                               const char *path, const mmf_pretrained_rules *rules,
                               mmf_pretrained_report *report);
/**
 * Fails if parameters are missing or misshapen, or nothing was loaded; names the first few.
 * @param path  for the message
 */
mmf_status mmf_pretrained_require(const mmf_pretrained_report *report, const char *path);
/**
 * The scope of parameters below which a tensor of the file has its name: what to load it under.
 * @param out  "" if there is none
 */
mmf_status mmf_pretrained_guess_scope(mmf_ctx *ctx, const mmf_params *params, const char *path,
                                      const mmf_pretrained_rules *rules, char *out, size_t size);
/** The report as lines of text. @return freed with mmf_free; NULL after an error */
char *mmf_pretrained_text(const mmf_pretrained_report *report);
void mmf_pretrained_report_clear(mmf_pretrained_report *report);

#endif
