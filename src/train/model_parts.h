/* model_parts.h: the inside of mmf_model, for the floor `train`. */
#ifndef MMFUSE_TRAIN_MODEL_PARTS_H
#define MMFUSE_TRAIN_MODEL_PARTS_H

#include "train/feed.h"

/** What training said after every epoch, oldest first. */
typedef struct mmf_learning_curve {
    mmf_real *values; /* (epochs, 3): train loss, validation loss, main score on validation */
    int64_t n_epochs;
} mmf_learning_curve;

struct mmf_model {
    mmf_ctx *ctx;
    mmf_module *module;
    char *name;
    mmf_task task;
    char **class_names;                /* owned, behind task.class_names; NULL: numbers */
    char *target;                      /* owned, behind task.target */
    mmf_normalisation normalisation;   /* of the model's inputs, in their order */
    double target_shift, target_scale; /* target = shift + scale * what the module predicts */
    char *record;                      /* JSON */
    char *preparations;                /* of raw files, JSON as data sets have it; NULL: none */
    mmf_feed feed;
    mmf_tape *tape;
    bool int8;                /* large linear layers in eight bits */
    mmf_batch_input *sample;  /* memory of one sample, for mmf_model_predict */
    mmf_learning_curve curve; /* of the fit that made it; empty when loaded */
};

/** Whether fewer steps than the model's can be told from zeros: it was trained with lengths, or on
 * tokens, of which 0 is padding. */
static inline bool mmf_input_knows_padding(const mmf_input_schema *in)
{
    return mmf_modality_has_steps(in->kind) && (in->has_length || in->kind == MMF_TOKENS);
}

/** Takes over `module`, also on failure; copies everything else. `record` may be NULL. */
mmf_status mmf_model__create(mmf_ctx *ctx, mmf_model **out, mmf_module *module, const char *name,
                             const mmf_task *task, const char *record);
/** Statistics of the model's inputs out of those of a data set, in the model's order. */
mmf_status mmf_model__set_normalisation(mmf_model *model, const mmf_dataset *dataset,
                                        const mmf_normalisation *of_dataset);
/** Statistics of input `m` from those of a model of that input alone. */
mmf_status mmf_model__take_normalisation(mmf_model *model, size_t m,
                                         const mmf_normalisation *of_one);
mmf_status mmf_model__set_record(mmf_model *model, const char *record);
/** @param preparations  NULL: none */
mmf_status mmf_model__set_preparations(mmf_model *model, const char *preparations);
/** Place of each input in the data set. @param map  count of inputs  @errors ARG: one is absent */
mmf_status mmf_model__map(const mmf_model *model, const mmf_dataset *dataset, size_t *map);

/** Sets the options that a file of the same model was made with and that are not set; nothing for
 * other files of safetensors. */
mmf_status mmf_model__take_options(mmf_ctx *ctx, mmf_config *config, const char *path);

/** How rows are predicted: what may be used, and who looks at the way. */
typedef struct mmf_inference {
    uint64_t use;         /* bit m: modality m may be used */
    bool tracks_presence; /* batches take mmf_batch_drop */
    /** Changes a filled batch before the model sees it. @param rows  of the data set; NULL: nobody
     */
    void (*change)(void *user, mmf_batch *batch, const size_t *map, const int64_t *rows);
    /** Sees what the model puts out for a batch. NULL: nobody */
    void (*look)(void *user, const mmf_named *outputs, int64_t n_rows);
    void *user;
} mmf_inference;

/**
 * Lists "a,b" the modalities that a file need not have: of which training had samples without, or
 * which `used` ("a,b"; NULL: all are) leaves out. False if `out` is too small.
 */
bool mmf_model__may_lack(const mmf_schema *inputs, const char *used, char *out, size_t size);
/** Those of them that a file does not have become modalities that every sample lacks. */
mmf_status mmf_model__add_lacking(mmf_archive *archive, const mmf_schema *inputs,
                                  const char *may_lack);

/** As mmf_model_predict_rows. @param out  NULL: batches are filled and changed, not predicted */
mmf_status mmf_model__predict_rows(mmf_model *model, mmf_dataset *dataset, const int64_t *rows,
                                   int64_t n_rows, const mmf_inference *how, double *out);

#endif
