/*
 * nn.h: parameters, options, the one contract of everything registered, layers and optimizers.
 *
 * A definition (mmf_def) describes a layer, encoder, operator, model, loss, rule or metric: its
 * options, `build`, which declares parameters, and `run`, which computes named outputs from named
 * inputs. A module (mmf_module) is a definition built for one configuration and one set of inputs.
 */
#ifndef MMFUSE_NN_H
#define MMFUSE_NN_H

#include "mmfuse/data.h"
#include "mmfuse/named.h"
#include "mmfuse/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Options and configurations ---------------------------------------------------------- */

typedef enum mmf_option_type {
    MMF_OPTION_INT,
    MMF_OPTION_REAL,
    MMF_OPTION_BOOL,
    MMF_OPTION_TEXT, /**< one of `choices`, or free when that is NULL */
    MMF_OPTION_INTS, /**< a list; one value stands for all */
    MMF_OPTION_REALS,
    MMF_OPTION_TEXTS
} mmf_option_type;

/** One row of a definition's option table; the table ends with a row whose name is NULL. */
typedef struct mmf_option {
    const char *name;
    const char *alias; /**< the reference implementation's name, NULL if equal or none */
    mmf_option_type type;
    double low, high; /**< inclusive bounds of numbers */
    /** "a|b|c" for MMF_OPTION_TEXT; NULL: any. Of numbers: "low|high", where a search draws, where
     * that is not around the default; "-": it leaves the option alone */
    const char *choices;
    const char *standard; /**< default as text; "" means chosen from the data's shape */
    const char *help;
} mmf_option;

/** Values of a definition's options. Owned by the caller of mmf_config_create. */
typedef struct mmf_config mmf_config;
typedef struct mmf_def mmf_def;

/** All options at their defaults. @param out freed with mmf_config_free */
MMF_API mmf_status mmf_config_create(mmf_ctx *ctx, mmf_config **out, const mmf_def *def);
MMF_API mmf_status mmf_config_copy(mmf_ctx *ctx, mmf_config **out, const mmf_config *config);
MMF_API void mmf_config_free(mmf_config *config);
/** The definition whose options these are. */
MMF_API const mmf_def *mmf_config_def(const mmf_config *config);
/**
 * Sets one option from text ("128", "true", "0.1,0.2", "[8, 6]").
 * @errors ARG: unknown name (with the nearest one), not a number, out of bounds
 */
MMF_API mmf_status mmf_config_set(mmf_config *config, const char *name, const char *value);
/** Sets options from a JSON object under our names or the reference's. */
MMF_API mmf_status mmf_config_set_json(mmf_config *config, const char *json);
/** Sets the options that two definitions share, by our names, to the values they have in `from`. */
MMF_API mmf_status mmf_config_share(mmf_config *config, const mmf_config *from);
/** All options as a JSON object in table order; the caller frees it with mmf_free. */
MMF_API char *mmf_config_json(const mmf_config *config);
/** True when the value was set and is not the default. */
MMF_API bool mmf_config_is_set(const mmf_config *config, const char *name);
MMF_API int64_t mmf_config_int(const mmf_config *config, const char *name);
MMF_API double mmf_config_real(const mmf_config *config, const char *name);
MMF_API bool mmf_config_bool(const mmf_config *config, const char *name);
/** "" if unset. Borrowed. */
MMF_API const char *mmf_config_text(const mmf_config *config, const char *name);
/** Length of a list option; 0 if unset. */
MMF_API size_t mmf_config_count(const mmf_config *config, const char *name);
/** Element `i` of a list; a list of one value has that value everywhere. */
MMF_API double mmf_config_number_at(const mmf_config *config, const char *name, size_t i);
MMF_API const char *mmf_config_text_at(const mmf_config *config, const char *name, size_t i);

/**
 * The options of a definition one after another: its own, those of the operator it fuses with,
 * those that every definition has (train_mode, num_classes, mode).
 * @param row  NULL: the first   @return NULL after the last
 */
MMF_API const mmf_option *mmf_option_next(const mmf_def *def, const mmf_option *row);
/** True for the options that every definition has. */
MMF_API bool mmf_option_is_common(const mmf_option *row);
/** The row of this name, else of this alias, NULL if there is none. */
MMF_API const mmf_option *mmf_option_find(const mmf_def *def, const char *name);

/* ---- Schemas ----------------------------------------------------------------------------- */

/** Shape of one named input without the batch. */
typedef struct mmf_input_schema {
    const char *name;
    mmf_modality_kind kind;
    int n_dims;
    int64_t shape[MMF_MAX_DIMS - 1];
    int64_t vocab_size; /**< tokens only */
    bool has_length, has_present;
    /** Numbers a step of `<name>.box` and its like that the definition reads; 0: none. */
    int64_t companions[MMF_N_COMPANIONS];
} mmf_input_schema;

typedef struct mmf_schema {
    size_t count;
    mmf_input_schema *inputs;
} mmf_schema;

/** Channels of images and video, else features of a vector or step; 0 of tokens. */
MMF_API int64_t mmf_input_features(const mmf_input_schema *input);
/** Pixels of a channel; 1 where there are none. */
MMF_API int64_t mmf_input_pixels(const mmf_input_schema *input);
/** The flag MMF_TAKES_... of a kind. */
MMF_API unsigned mmf_takes_kind(mmf_modality_kind kind);
/** The input of this name or NULL. */
MMF_API const mmf_input_schema *mmf_schema_find(const mmf_schema *schema, const char *name);

/* ---- Parameters -------------------------------------------------------------------------- */

typedef enum mmf_param_role {
    MMF_PARAM_TRAINED,
    MMF_PARAM_FIXED, /**< a stored constant */
    MMF_PARAM_BUFFER /**< changed by running in training, such as running statistics */
} mmf_param_role;

typedef enum mmf_init_kind {
    MMF_INIT_CONSTANT,
    MMF_INIT_UNIFORM, /**< U(-a, a) */
    MMF_INIT_NORMAL,  /**< N(0, a^2) */
    MMF_INIT_BELOW,   /**< whole numbers in [0, a), all as likely */
    MMF_INIT_SIGNS    /**< a or -a, both as likely */
} mmf_init_kind;

/** How a parameter starts; row `zero_row` (if not negative) is zeroed (padding of embeddings). */
typedef struct mmf_init {
    mmf_init_kind kind;
    double a;
    int64_t zero_row;
} mmf_init;

MMF_API mmf_init mmf_init_constant(double value);
MMF_API mmf_init mmf_init_uniform(double bound);
MMF_API mmf_init mmf_init_normal(double deviation);
MMF_API mmf_init mmf_init_below(int64_t limit);
MMF_API mmf_init mmf_init_signs(double size);
/** U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default of linear and convolution layers. */
MMF_API mmf_init mmf_init_fan_in(int64_t fan_in);
/** Glorot and Bengio 2010; fans as PyTorch counts them for a shape of any rank. */
MMF_API mmf_init mmf_init_xavier_uniform(int n_dims, const int64_t *shape);
MMF_API mmf_init mmf_init_xavier_normal(int n_dims, const int64_t *shape);
/** He et al. 2015, fan-out, for ReLU. */
MMF_API mmf_init mmf_init_kaiming_normal(int n_dims, const int64_t *shape);

typedef struct mmf_param {
    const char *name; /**< state_dict name, "audio_subnet.linear_1.weight" */
    mmf_param_role role;
    int group; /**< optimizer group, 0 unless the model says otherwise */
    mmf_init init;
    mmf_tensor *tensor;
    bool is_alias;    /**< a second name of a parameter further up: the same tensor */
    bool for_losses;  /**< serves losses of training alone: files of weights may lack it */
    bool reordered;   /**< inference reads another layout of it, see src/nn/builder.h */
    double lr_scale;  /**< times the learning rate; 1 unless mmf_params_set_lr_scale changed it */
    double low, high; /**< an optimizer's step ends within; equal: no bounds */
} mmf_param;

/** All parameters of a module in the order of declaration: values, gradients and state in flat
 * blocks. */
typedef struct mmf_params mmf_params;

MMF_API size_t mmf_params_count(const mmf_params *params);
MMF_API const mmf_param *mmf_params_at(const mmf_params *params, size_t i);
MMF_API const mmf_param *mmf_params_find(const mmf_params *params, const char *name);
/** Number of trained elements, their flat values and gradients (NULL in a loaded model). */
MMF_API int64_t mmf_params_size(const mmf_params *params);
MMF_API mmf_real *mmf_params_values(const mmf_params *params);
MMF_API mmf_real *mmf_params_gradients(const mmf_params *params);
/** Elements of fixed parameters and buffers, and their flat values. */
MMF_API int64_t mmf_params_state_size(const mmf_params *params);
MMF_API mmf_real *mmf_params_state(const mmf_params *params);
/** Before an optimizer is made of them: parameter `i` learns `scale` times as fast. */
MMF_API void mmf_params_set_lr_scale(mmf_params *params, size_t i, double scale);
/** Under which scope the encoder of an input was built ("text"); NULL: it has none. */
MMF_API const char *mmf_params_place(const mmf_params *params, const char *input);
/** Draws every parameter anew. */
MMF_API void mmf_params_init(mmf_params *params, uint64_t seed);
/** After a backward pass: zeroes the gradients of parameters that the loss did not reach. */
MMF_API void mmf_params_finish_gradients(mmf_params *params, const mmf_tape *tape);

/* ---- Building ---------------------------------------------------------------------------- */

/**
 * What `build` declares parameters with. Errors stick: the first one is kept, later calls return
 * NULL; `build` returns mmf_builder_status at its end.
 */
typedef struct mmf_builder mmf_builder;

MMF_API mmf_ctx *mmf_builder_ctx(mmf_builder *builder);
MMF_API mmf_status mmf_builder_status(const mmf_builder *builder);
/** Sets the sticky error; returns its status. */
MMF_API mmf_status mmf_builder_fail(mmf_builder *builder, mmf_status status, const char *format,
                                    ...) MMF_PRINTF(3, 4);
/** Zeroed memory that lives as long as the module. */
MMF_API void *mmf_builder_alloc(mmf_builder *builder, size_t bytes);
/** A formatted string that lives as long as the module. */
MMF_API const char *mmf_builder_text(mmf_builder *builder, const char *format, ...)
    MMF_PRINTF(2, 3);
/** Parameters declared inside are called "<name>.<...>"; scopes nest. "" changes nothing. */
MMF_API void mmf_builder_enter(mmf_builder *builder, const char *name);
MMF_API void mmf_builder_leave(mmf_builder *builder);
/** Notes that the scope entered last is the encoder of an input; see mmf_params_place. */
MMF_API void mmf_builder_place(mmf_builder *builder, const char *input);
/** Optimizer group of the parameters declared from here on. */
MMF_API void mmf_builder_group(mmf_builder *builder, int group);
/** Whether the parameters declared from here on serve losses of training alone. */
MMF_API void mmf_builder_for_losses(mmf_builder *builder, bool for_losses);
/** Declares a parameter; the tensor's values are there once the module was created. */
MMF_API mmf_tensor *mmf_builder_param(mmf_builder *builder, const char *name, mmf_param_role role,
                                      mmf_init init, int n_dims, const int64_t *shape);
/**
 * Gives a parameter that was declared before a second name: one tensor under both, which is what
 * tied weights are in a state_dict. Files hold both names; both read the same gradient.
 */
MMF_API void mmf_builder_alias(mmf_builder *builder, const char *name, mmf_tensor *tensor);
/** Width of the feature that `run` puts out: how encoders and operators tell their users. */
MMF_API void mmf_builder_set_width(mmf_builder *builder, int64_t width);
MMF_API int64_t mmf_builder_width(const mmf_builder *builder);

/* ---- Definitions and modules ------------------------------------------------------------- */

typedef enum mmf_kind {
    MMF_KIND_LAYER,
    MMF_KIND_ENCODER,
    MMF_KIND_OPERATOR,
    MMF_KIND_MODEL,
    MMF_KIND_LOSS,
    MMF_KIND_RULE,
    MMF_KIND_METRIC,
    MMF_KIND_AID,        /**< stands beside training; see mmf_aids */
    MMF_KIND_PREPARATION /**< makes arrays of raw files; see mmf_preparations */
} mmf_kind;

/** What a definition takes and can do. */
enum {
    MMF_TAKES_VECTORS = 1 << 0,
    MMF_TAKES_SEQUENCES = 1 << 1,
    MMF_TAKES_IMAGES = 1 << 2,
    MMF_TAKES_TOKENS = 1 << 3,
    MMF_TAKES_VIDEOS = 1 << 18,
    MMF_TAKES_ANY = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_TAKES_IMAGES | MMF_TAKES_TOKENS |
                    MMF_TAKES_VIDEOS,
    MMF_MISSING_OK = 1 << 4, /**< defined for absent modalities; `missing` says how */
    MMF_TWO_ONLY = 1 << 5,   /**< exactly two modalities */
    MMF_ONE_ONLY = 1 << 6,   /**< exactly one modality */
    MMF_LATE = 1 << 7, /**< fitted as separate unimodal models, then a rule; see src/train/late.c */
    MMF_REGRESSION_OK = 1 << 8,
    MMF_CLASSES_OK = 1 << 9,
    MMF_ANY_TASK = MMF_REGRESSION_OK | MMF_CLASSES_OK,
    MMF_STANDS_IN = 1 << 10, /**< operators: encoders learn a vector for an absent modality */
    MMF_ONE_CLASS = 1 << 14, /**< classes of which exactly one is right: not several labels */
    MMF_RETRIEVES = 1 << 15, /**< puts out `feature_<modality>`, all of the width that `build` set,
                                and a loss of its own that brings those of a sample together */
    MMF_COMMON_WIDTH = 1 << 16, /**< puts out such features unless encoders are chosen otherwise,
                                   without such a loss */
    MMF_FITS_FIRST = 1 << 17,   /**< `fit` is called once, before the first step */
    MMF_PRETRAINS = 1 << 19     /**< learns without a target, from what it hides from itself */
};

/** What a step knows beyond its inputs. */
typedef struct mmf_step {
    bool training;
    bool all_features; /**< of every modality, also where the prediction needs fewer */
    bool looks;        /**< somebody looks at attention that the prediction alone need not keep */
    int64_t epoch, step;
} mmf_step;

struct mmf_def {
    const char *name, *title;
    const char *paper;     /**< authors, title, venue, year, DOI or arXiv number */
    const char *equations; /**< the formula in a line, and deviations from the reference */
    const char *missing;   /**< what an absent modality does; NULL if not defined */
    const char *timing;    /**< "early", "intermediate", "late" */
    const char *structure; /**< "concatenation", "weighted", "attention", "tensor", "graph",
                              "gating", "disentangled", "dynamic", "contrastive", "unimodal" */
    mmf_kind kind;
    unsigned takes;
    const mmf_option *options;
    /** Bit 1 << c: reads `<modality>.<companion c>` where the data have it. */
    unsigned companions;
    /** Models of encoders, one operator and a head: the operator. Its options, and what it says of
     * paper, equations and absence, are theirs. */
    const mmf_def *fuses;
    /** Models: the paper's learning rate where the usual 1e-3 does not train it; else 0. */
    double lr;
    /** Models: rows a step where the usual 32 are too few for its loss; else 0. */
    int64_t batch;
    mmf_status (*build)(mmf_builder *, const mmf_config *, const mmf_schema *inputs, void **self);
    void (*run)(mmf_tape *, void *self, const mmf_named *in, const mmf_step *, mmf_named *out);
    /**
     * What is computed from the training rows instead of descended to, or NULL: called batch by
     * batch, each in a pass of its own without recording (`first_row` of the batch, 0 to begin
     * anew), then with `in` NULL, to set fixed parameters. Before every validation, or once.
     */
    void (*fit)(mmf_tape *, void *self, const mmf_named *in, int64_t first_row);
    /** Models on inputs of certain names: what is missing in these, as a sentence; NULL if nothing
     * is. The field itself is NULL where `takes` says it all. */
    const char *(*refuses)(const mmf_schema *inputs);
    /** Encoders: how weights of others get in (src/nn/pretrained.h); NULL: they cannot. */
    const struct mmf_source *source;
};

typedef struct mmf_module mmf_module;

/**
 * Builds a definition and draws its parameters.
 *
 * @param out     freed with mmf_module_free
 * @param config  copied; NULL: defaults   @param inputs  copied
 * @errors        those of `build`
 */
MMF_API mmf_status mmf_module_create(mmf_ctx *ctx, mmf_module **out, const mmf_def *def,
                                     const mmf_config *config, const mmf_schema *inputs,
                                     uint64_t seed);
MMF_API void mmf_module_free(mmf_module *module);
MMF_API const mmf_def *mmf_module_def(const mmf_module *module);
MMF_API const mmf_config *mmf_module_config(const mmf_module *module);
MMF_API const mmf_schema *mmf_module_schema(const mmf_module *module);
MMF_API mmf_params *mmf_module_params(const mmf_module *module);
/** Width of what an encoder or operator puts out; 0 if it declared none. */
MMF_API int64_t mmf_module_width(const mmf_module *module);
/** The definition's `fit`. */
MMF_API void mmf_module_fit(mmf_module *module, mmf_tape *tape, const mmf_named *in,
                            int64_t first_row);
MMF_API void mmf_module_run(mmf_module *module, mmf_tape *tape, const mmf_named *in,
                            const mmf_step *step, mmf_named *out);

/* ---- Optimizers and schedules ------------------------------------------------------------ */

typedef enum mmf_optimizer_kind {
    MMF_SGD,
    MMF_ADAM,
    MMF_ADAMW,
    MMF_BERT_ADAM /**< AdamW without bias correction; clip_norm is of each parameter by itself */
} mmf_optimizer_kind;

#define MMF_MAX_GROUPS 8

typedef struct mmf_optimizer_options {
    size_t size;
    mmf_optimizer_kind kind;
    double lr;                          /**< per step */
    double group_lr[MMF_MAX_GROUPS];    /**< learning rate of a group; 0: `lr` */
    double beta1, beta2, eps, momentum; /**< Adam's two, its eps; SGD's momentum */
    double weight_decay;                /**< L2 for SGD and Adam, decoupled for AdamW */
    double clip_norm, clip_value;       /**< of the gradient; 0: none */
    bool decay_matrices; /**< weight decay on matrices alone, not on biases and norms */
} mmf_optimizer_options;

#define MMF_OPTIMIZER_OPTIONS_INIT                                                                 \
    {                                                                                              \
        .size = sizeof(mmf_optimizer_options), .kind = MMF_ADAM, .lr = 1e-3, .beta1 = 0.9,         \
        .beta2 = 0.999, .eps = 1e-8                                                                \
    }

typedef struct mmf_optimizer mmf_optimizer;

/** @param params must outlive the optimizer */
MMF_API mmf_status mmf_optimizer_create(mmf_ctx *ctx, mmf_optimizer **out, mmf_params *params,
                                        const mmf_optimizer_options *options);
MMF_API void mmf_optimizer_free(mmf_optimizer *optimizer);
/** One update from the gradients; `lr_scale` is the schedule's factor. */
MMF_API void mmf_optimizer_step(mmf_optimizer *optimizer, double lr_scale);
/** State for checkpoints: number of steps, and flat blocks of mmf_params_size elements (NULL if
 * unused). */
MMF_API int64_t mmf_optimizer_steps(const mmf_optimizer *optimizer);
MMF_API void mmf_optimizer_set_steps(mmf_optimizer *optimizer, int64_t steps);
MMF_API mmf_real *mmf_optimizer_moment(const mmf_optimizer *optimizer, int which);
/** Euclidean norm of the last gradient before clipping; NaN when clip_norm is 0. */
MMF_API double mmf_optimizer_grad_norm(const mmf_optimizer *optimizer);

typedef enum mmf_schedule_kind {
    MMF_SCHEDULE_CONSTANT,
    MMF_SCHEDULE_STEP,    /**< times `factor` every `period` epochs */
    MMF_SCHEDULE_PLATEAU, /**< times `factor` after `period` epochs without improvement */
    MMF_SCHEDULE_COSINE,  /**< to 0 over the whole run */
    MMF_SCHEDULE_LINEAR   /**< to 0 over the whole run */
} mmf_schedule_kind;

/** An open value; the plateau's memory is part of it. */
typedef struct mmf_schedule {
    mmf_schedule_kind kind;
    double warmup;  /**< share of all steps with a linear rise from 0 */
    double factor;  /**< STEP and PLATEAU; in (0, 1] */
    int64_t period; /**< epochs */
    int64_t total_steps;
    int64_t steps_per_epoch;
    double scale; /**< PLATEAU: current factor; starts at 1 */
    double best;  /**< PLATEAU: lowest validation loss so far */
    int64_t bad_epochs;
} mmf_schedule;

/** Factor of the learning rate at a step (0-based). */
MMF_API double mmf_schedule_at(const mmf_schedule *schedule, int64_t step);
/** Tells the plateau schedule an epoch's validation loss. */
MMF_API void mmf_schedule_epoch(mmf_schedule *schedule, double valid_loss);

/* ---- Layers: what models are made of ----------------------------------------------------- */

typedef struct mmf_linear_layer {
    mmf_tensor *weight, *bias;
} mmf_linear_layer;
MMF_API mmf_linear_layer mmf_linear_build(mmf_builder *builder, const char *name, int64_t inputs,
                                          int64_t outputs, bool with_bias);
/** The same layer under a second name. */
MMF_API mmf_linear_layer mmf_linear_alias(mmf_builder *builder, const char *name,
                                          const mmf_linear_layer *layer);
MMF_API mmf_tensor *mmf_linear_run(mmf_tape *tape, const mmf_linear_layer *layer, mmf_tensor *x,
                                   mmf_activation activation);

typedef struct mmf_batch_norm_layer {
    mmf_tensor *weight, *bias, *running_mean, *running_var;
    int axis;
    double eps; /* 1e-5 unless the caller changes it */
} mmf_batch_norm_layer;
/** Momentum 0.1, eps 1e-5, as PyTorch's. @param axis the axis that keeps its own statistics */
MMF_API mmf_batch_norm_layer mmf_batch_norm_build(mmf_builder *builder, const char *name,
                                                  int64_t channels, int axis);
MMF_API mmf_tensor *mmf_batch_norm_run(mmf_tape *tape, const mmf_batch_norm_layer *layer,
                                       mmf_tensor *x);
/** With the running statistics, in training too: for networks that are fine-tuned in part. */
MMF_API mmf_tensor *mmf_batch_norm_fixed_run(mmf_tape *tape, const mmf_batch_norm_layer *layer,
                                             mmf_tensor *x);

typedef struct mmf_layer_norm_layer {
    mmf_tensor *weight, *bias;
    double eps;
} mmf_layer_norm_layer;
MMF_API mmf_layer_norm_layer mmf_layer_norm_build(mmf_builder *builder, const char *name,
                                                  int64_t width, double eps);
/** The same layer under a second name. */
MMF_API void mmf_layer_norm_alias(mmf_builder *builder, const char *name,
                                  const mmf_layer_norm_layer *layer);
MMF_API mmf_tensor *mmf_layer_norm_run(mmf_tape *tape, const mmf_layer_norm_layer *layer,
                                       mmf_tensor *x);

typedef struct mmf_embedding_layer {
    mmf_tensor *weight;
    int64_t padding;
} mmf_embedding_layer;
MMF_API mmf_embedding_layer mmf_embedding_build(mmf_builder *builder, const char *name,
                                                int64_t vocab, int64_t width, int64_t padding);
MMF_API mmf_tensor *mmf_embedding_run(mmf_tape *tape, const mmf_embedding_layer *layer,
                                      const mmf_tensor *tokens);

typedef struct mmf_conv_layer {
    mmf_tensor *weight, *bias;
    mmf_window window;
    int n_spatial; /* 1 or 2 */
} mmf_conv_layer;
MMF_API mmf_conv_layer mmf_conv_build(mmf_builder *builder, const char *name, int n_spatial,
                                      int64_t inputs, int64_t outputs, const mmf_window *window,
                                      bool with_bias);
MMF_API mmf_tensor *mmf_conv_run(mmf_tape *tape, const mmf_conv_layer *layer, mmf_tensor *x);

/** LSTM or GRU of several layers, one or two directions, PyTorch's parameter names. */
typedef struct mmf_rnn_layer {
    mmf_rnn_weights *weights; /* n_layers * n_directions, layer-major */
    int64_t hidden;
    int n_layers, n_directions;
    bool is_gru;
    double dropout; /* on the outputs between layers */
} mmf_rnn_layer;

typedef struct mmf_rnn_options {
    int64_t inputs, hidden;
    int n_layers;
    bool bidirectional, is_gru;
    double dropout;
} mmf_rnn_options;
MMF_API mmf_rnn_layer mmf_rnn_build(mmf_builder *builder, const char *name,
                                    const mmf_rnn_options *options);
/** Results of all layers: `sequence` of the last one, (B, T, dirs H); states (layers dirs, B, H).
 */
typedef struct mmf_rnn_result {
    mmf_tensor *sequence, *h_n, *c_n;
    mmf_tensor *last; /**< (B, dirs H): final states of the last layer, directions side by side */
} mmf_rnn_result;
/** @param all_states also stack h_n and c_n */
MMF_API mmf_rnn_result mmf_rnn_run(mmf_tape *tape, const mmf_rnn_layer *layer, mmf_tensor *x,
                                   const mmf_tensor *length, bool all_states);

/* ---- Attention --------------------------------------------------------------------------- */

/** How projected queries meet projected keys. */
typedef struct mmf_heads {
    int64_t count; /**< the width is split into so many heads, outermost first */
    const mmf_tensor
        *mask;           /**< reals, 1 keep, 0 drop, as mmf_attention_mask makes; NULL: keep all */
    mmf_empty_row empty; /**< what a query without a key gets */
    double dropout;      /**< on the weights */
} mmf_heads;
/**
 * softmax(q k' / sqrt(D / H)) v, head by head.
 *
 * @param q (B, Tq, D)  @param k (B, Tk, D)  @param v (B, Tk, E)
 * @param weights  NULL or where to put the weights (B, H, Tq, Tk) before dropout
 * @return (B, Tq, E)
 * @paper Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762
 */
MMF_API mmf_tensor *mmf_attend(mmf_tape *tape, mmf_tensor *q, mmf_tensor *k, mmf_tensor *v,
                               const mmf_heads *heads, mmf_tensor **weights);
/**
 * What scores (B, H, Tq, Tk) are masked with.
 * @param keys (B, Tk) or NULL  @param between (Tq, Tk) as mmf_causal_mask makes, or NULL
 */
MMF_API mmf_tensor *mmf_attention_mask(mmf_tape *tape, mmf_tensor *keys, mmf_tensor *between);
/** `<name>.mask`, `<name>.length` and `<name>.present` as one (B, n_steps); NULL: all valid. */
MMF_API mmf_tensor *mmf_key_mask(mmf_tape *tape, const mmf_named *in, const char *name,
                                 int64_t n_steps);

/** Multi-head attention with torch.nn.MultiheadAttention's names, unless others are given. */
typedef struct mmf_attention_options {
    int64_t width, n_heads;
    int64_t key_width, value_width; /**< 0: width; another one: three projections instead of one */
    double dropout;
    const char *in_weight, *in_bias, *out; /**< NULL: in_proj_weight, in_proj_bias, out_proj */
} mmf_attention_options;
typedef struct mmf_attention_layer {
    mmf_tensor *in_weight;                      /**< (3 D, D), rows q, k, v; or NULL and */
    mmf_tensor *q_weight, *k_weight, *v_weight; /**< (D, D), (D, key_width), (D, value_width) */
    mmf_tensor *in_bias;                        /**< (3 D) */
    mmf_linear_layer out;
    int64_t width, n_heads;
    double dropout;
} mmf_attention_layer;
MMF_API mmf_attention_layer mmf_attention_build(mmf_builder *builder, const char *name,
                                                const mmf_attention_options *options);
/**
 * A query whose keys are all masked attends to nothing: only the bias of the last projection is
 * left (PyTorch has NaN there).
 * @param mask, weights  as for mmf_attend
 */
MMF_API mmf_tensor *mmf_attention_run(mmf_tape *tape, const mmf_attention_layer *layer,
                                      mmf_tensor *query, mmf_tensor *key, mmf_tensor *value,
                                      const mmf_tensor *mask, mmf_tensor **weights);

/** Names of a transformer layer's parts. */
typedef struct mmf_transformer_names {
    const char *attention, *in_weight, *in_bias, *out, *norm1, *norm2, *linear1, *linear2;
} mmf_transformer_names;
typedef struct mmf_transformer_options {
    int64_t width, n_heads, inner; /**< inner 0: 4 width */
    bool norm_first, gelu_tanh;
    mmf_activation activation;
    double eps; /**< of the layer norms */
    double dropout, attention_dropout, inner_dropout;
    const mmf_transformer_names *names; /**< NULL: those of torch.nn.TransformerEncoderLayer */
} mmf_transformer_options;
typedef struct mmf_transformer_layer {
    mmf_attention_layer attention;
    mmf_linear_layer linear1, linear2;
    mmf_layer_norm_layer norm1, norm2;
    mmf_transformer_options options;
} mmf_transformer_layer;
MMF_API mmf_transformer_layer mmf_transformer_build(mmf_builder *builder, const char *name,
                                                    const mmf_transformer_options *options);
/** The same layer under a second name. */
MMF_API void mmf_transformer_alias(mmf_builder *builder, const char *name,
                                   const mmf_transformer_layer *layer);
/**
 * Attention, then two linear layers, each with a residual and a layer norm before or after.
 *
 * @param x (B, Tq, D)  @param source (B, Tk, D) keys and values, NULL: x; with the norm before, the
 * same norm is applied to it  @param mask  as for mmf_attend  @return (B, Tq, D)
 */
MMF_API mmf_tensor *mmf_transformer_run(mmf_tape *tape, const mmf_transformer_layer *layer,
                                        mmf_tensor *x, mmf_tensor *source, const mmf_tensor *mask);
/** The same. @param weights  as for mmf_attend */
MMF_API mmf_tensor *mmf_transformer_attend(mmf_tape *tape, const mmf_transformer_layer *layer,
                                           mmf_tensor *x, mmf_tensor *source,
                                           const mmf_tensor *mask, mmf_tensor **weights);

#ifdef __cplusplus
}
#endif
#endif
