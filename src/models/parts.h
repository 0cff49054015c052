/*
 * parts.h: what several models are made of: one encoder a modality, a head, and the sub-networks of
 * the sentiment papers.
 */
#ifndef MMFUSE_MODELS_PARTS_H
#define MMFUSE_MODELS_PARTS_H

#include "encoders/encoder.h"
#include "encoders/steps.h"
#include "fusion/fusion.h"

/** Rows of the option table that every model with one encoder a modality has. */
#define MMF_ENCODER_OPTION                                                                         \
    {                                                                                              \
        "encoder", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",                                         \
            "MODALITY=NAME[:WIDTH][:OPTION=VALUE]...[=SOURCE]; others by the data's shape"         \
    }
#define MMF_HIDDEN_OPTION                                                                          \
    {                                                                                              \
        "hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of encodings and of the head" \
    }
#define MMF_DROPOUT_OPTION                                                                         \
    {                                                                                              \
        "dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.3", "in encoders and head"             \
    }

/** True when the features of modalities are the result and there is no head. */
bool mmf_is_retrieval(const mmf_config *config);
/** True when the head predicts numbers instead of classes. */
bool mmf_is_regression(const mmf_config *config);
/** As mmf_is_regression, and for one class, which is how references configure regression. */
bool mmf_is_value(const mmf_config *config);
/** Outputs of the head: 1 for regression, else the classes. */
int64_t mmf_n_outputs(const mmf_config *config);
/** As mmf_n_outputs, or what the option under a reference's own name says; the builder fails where
 * a task has decided otherwise. */
int64_t mmf_n_answers(mmf_builder *builder, const mmf_config *config, const char *option);
/** Puts `y` under the name that its task gives it: `prediction` (B, 1) or `logits` (B, K). */
void mmf_put_result(mmf_tape *tape, mmf_named *out, bool is_regression, mmf_tensor *y);

/** What a task wants of the head: for models that have losses on heads of their own. */
typedef enum mmf_result_kind {
    MMF_RESULT_VALUE,  /**< L1 against the target */
    MMF_RESULT_CLASS,  /**< cross entropy of the class */
    MMF_RESULT_LABELS, /**< cross entropy of each label */
    MMF_RESULT_SHARES  /**< cross entropy of the soft target */
} mmf_result_kind;
mmf_result_kind mmf_result_kind_of(const mmf_config *config);
/** The task's own loss on the output `y` (B, K) of a head. @param label as training passes put it
 */
mmf_tensor *mmf_result_loss(mmf_tape *tape, mmf_result_kind kind, mmf_tensor *y, mmf_tensor *label);

/** One encoder a modality in the order of the schema; features (B, D_m) of the last run. */
typedef struct mmf_encoders {
    const mmf_schema *inputs;
    mmf_encoder *encoders;
    int64_t *widths;
    mmf_tensor **features;
} mmf_encoders;

/** Scopes are `<modality>`; reads the options `encoder`, `hidden` and `dropout`. */
mmf_encoders mmf_encoders_build(mmf_builder *builder, const mmf_config *config,
                                const mmf_schema *inputs, bool stand_in);
/** The same, `width` wide instead of `hidden`. */
mmf_encoders mmf_encoders_build_wide(mmf_builder *builder, const mmf_config *config,
                                     const mmf_schema *inputs, int64_t width, bool stand_in);
/** Sets the builder's width to that of all features, 0 where they differ. */
void mmf_encoders_set_width(mmf_builder *builder, const mmf_encoders *encoders);
/** Fills `features` and puts each out as `feature_<modality>`. */
void mmf_encoders_run(mmf_tape *tape, const mmf_encoders *encoders, const mmf_named *in,
                      const mmf_step *step, mmf_named *out);

/** Steps (B, T_m, D) of every modality in the order of the schema; those of the last run. */
typedef struct mmf_all_steps {
    const mmf_schema *inputs;
    mmf_steps_encoder *encoders;
    mmf_steps *steps;
    int64_t width;
} mmf_all_steps;

/** Scopes are `<modality>`; reads the option `encoder` where there is one. */
mmf_all_steps mmf_all_steps_build(mmf_builder *builder, const mmf_config *config,
                                  const mmf_schema *inputs, int64_t width, double dropout);
/** Fills `steps`. */
void mmf_all_steps_run(mmf_tape *tape, const mmf_all_steps *all, const mmf_named *in);
/** Steps of length one from a feature (B, D), masked where the modality is absent. */
mmf_steps mmf_single_step(mmf_tape *tape, const mmf_named *in, const char *modality,
                          mmf_tensor *feature);
/** All steps behind each other: x (B, sum T_m, D), with a mask where one of them has one. */
mmf_steps mmf_steps_join(mmf_tape *tape, const mmf_steps *steps, size_t count);

/** Of two modalities the one that asks (tokens, else called text, else the first) and the other. */
void mmf_stream_order(const mmf_schema *inputs, const mmf_input_schema **text,
                      const mmf_input_schema **image);
/** 0 where a region, a row of x (B, R, D), is all zeros, else 1. @return (B, R) */
mmf_tensor *mmf_region_mask(mmf_tape *tape, mmf_tensor *x);

/** dropout, linear, ReLU, dropout, linear: in the scope `head`. */
typedef struct mmf_head {
    mmf_linear_layer hidden, out;
    double dropout;
    bool is_regression;
} mmf_head;

/** Reads the options `hidden` and `dropout`. */
mmf_head mmf_head_build(mmf_builder *builder, const mmf_config *config, int64_t inputs);
/** Puts out `feature_fusion` and the task's result. */
void mmf_head_run(mmf_tape *tape, const mmf_head *head, mmf_tensor *fused, mmf_named *out);

/* ---- Sub-networks of TFN, LMF and LF-DNN ------------------------------------------------- */

typedef enum mmf_subnet_kind {
    MMF_SUBNET_VECTOR,
    MMF_SUBNET_TEXT,
    MMF_SUBNET_ENCODER
} mmf_subnet_kind;

/**
 * The papers' sub-network of one modality. `audio` and `vision`: batch norm, dropout, three linear
 * layers with ReLU over the input or its mean in time. `text`: LSTM, dropout, linear. Anything
 * else, or an encoder asked for by option: the encoder of its shape.
 */
typedef struct mmf_subnet {
    const mmf_input_schema *input;
    mmf_subnet_kind kind;
    mmf_batch_norm_layer norm;
    mmf_linear_layer linear_1, linear_2, linear_3;
    mmf_rnn_layer rnn;
    mmf_encoder encoder;
    mmf_tensor *absent; /* learned stand-in; NULL if zeros stand in or it is never absent */
    double dropout;
    int64_t width;
} mmf_subnet;

typedef struct mmf_subnets {
    mmf_schema inputs; /* in the papers' order: audio, vision, text; else as given */
    mmf_subnet *nets;
    int64_t *widths;
    mmf_tensor **features;
} mmf_subnets;

/** How wide the sub-networks are, unless `hidden_dims` and `text_out` say. */
typedef struct mmf_subnet_widths {
    int64_t hidden[3]; /* text, audio, vision */
    int64_t text_out;
    int64_t other; /* modalities of other names */
} mmf_subnet_widths;

/**
 * Orders the inputs and builds `<modality>_subnet` for each (`video_subnet` for vision beside text
 * and audio). Reads the options `hidden_dims` (text, audio, vision; else the data's order),
 * `text_out`, `dropouts` (audio, vision, text, fusion) and `encoder`.
 */
mmf_subnets mmf_subnets_build(mmf_builder *builder, const mmf_config *config,
                              const mmf_schema *inputs, const mmf_subnet_widths *widths,
                              bool stand_in);
/** True when the modalities are exactly text, audio and vision. */
bool mmf_is_sentiment_trio(const mmf_schema *inputs);
/** Fills `features` and puts each out as `feature_<modality>`. */
void mmf_subnets_run(mmf_tape *tape, const mmf_subnets *subnets, const mmf_named *in,
                     const mmf_step *step, mmf_named *out);

/** Rows shared by the models that use sub-networks. */
#define MMF_SUBNET_OPTIONS                                                                         \
    {"hidden_dims",                                                                                \
     NULL,                                                                                         \
     MMF_OPTION_INTS,                                                                              \
     1,                                                                                            \
     8192,                                                                                         \
     NULL,                                                                                         \
     "",                                                                                           \
     "widths of the sub-networks: text, audio, vision, or one a modality in the data's order"},    \
        {"text_out",                                                                               \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         8192,                                                                                     \
         NULL,                                                                                     \
         "",                                                                                       \
         "width of the text feature; default: by the paper"},                                      \
        {"dropouts",                                                                               \
         NULL,                                                                                     \
         MMF_OPTION_REALS,                                                                         \
         0,                                                                                        \
         0.95,                                                                                     \
         NULL,                                                                                     \
         "0.3,0.3,0.3,0.5",                                                                        \
         "audio, vision, text, after fusion; other modalities use the first"},                     \
        MMF_ENCODER_OPTION

#endif
