/*
 * model_case.h: small inputs of every kind, and a small module of every model for them; shared by
 * the checks in single and in double precision. What fits is asked of the catalogue, so a new model
 * or encoder is covered by its row.
 */
#ifndef MMFUSE_TESTS_MODEL_CASE_H
#define MMFUSE_TESTS_MODEL_CASE_H

#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { CASE_INPUTS = 6, CASE_ROWS = 4, CASE_CLASSES = 3 };

typedef struct case_input {
    const char *name;
    mmf_modality_kind kind;
    int64_t shape[4];
    int64_t vocab;
} case_input;

/** One set of inputs. */
typedef struct model_case {
    const char *name;
    size_t count;
    case_input inputs[CASE_INPUTS];
    bool has_length, has_present;
} model_case;

#define CASE_VECTORS                                                                               \
    {                                                                                              \
        {"a", MMF_VECTOR, {4}, 0},                                                                 \
        {                                                                                          \
            "b", MMF_VECTOR, {3}, 0                                                                \
        }                                                                                          \
    }
#define CASE_SEQUENCES                                                                             \
    {                                                                                              \
        {"s", MMF_SEQUENCE, {17, 2}, 0},                                                           \
        {                                                                                          \
            "u", MMF_SEQUENCE, {5, 3}, 0                                                           \
        }                                                                                          \
    }
#define CASE_TRIO                                                                                  \
    {                                                                                              \
        {"text", MMF_SEQUENCE, {5, 4}, 0}, {"audio", MMF_SEQUENCE, {6, 3}, 0},                     \
        {                                                                                          \
            "vision", MMF_SEQUENCE, {5, 2}, 0                                                      \
        }                                                                                          \
    }
#define CASE_MIXED                                                                                 \
    {                                                                                              \
        {"pixels", MMF_IMAGE, {1, 4, 5}, 0}, {"words", MMF_TOKENS, {5}, 7},                        \
        {                                                                                          \
            "row", MMF_VECTOR, {3}, 0                                                              \
        }                                                                                          \
    }
#define CASE_CLIP                                                                                  \
    {                                                                                              \
        {"clip", MMF_VIDEO, {3, 1, 4, 4}, 0},                                                      \
        {                                                                                          \
            "row", MMF_VECTOR, {3}, 0                                                              \
        }                                                                                          \
    }
#define CASE_CAPTION                                                                               \
    {                                                                                              \
        {"row", MMF_VECTOR, {3}, 0},                                                               \
        {                                                                                          \
            "words", MMF_TOKENS, {5}, 7                                                            \
        }                                                                                          \
    }
#define CASE_PICTURE                                                                               \
    {                                                                                              \
        {"pixels", MMF_IMAGE, {2, 9, 6}, 0},                                                       \
        {                                                                                          \
            "words", MMF_TOKENS, {5}, 7                                                            \
        }                                                                                          \
    }
#define CASE_PAIR                                                                                  \
    {                                                                                              \
        {"view_a", MMF_SEQUENCE, {5, 3}, 0}, {"view_b", MMF_SEQUENCE, {5, 3}, 0},                  \
        {                                                                                          \
            "coordinates", MMF_SEQUENCE, {5, 2}, 0                                                 \
        }                                                                                          \
    }
#define CASE_SCENE                                                                                 \
    {                                                                                              \
        {"question", MMF_VECTOR, {4}, 0}, {"token", MMF_SEQUENCE, {2, 3}, 0},                      \
            {"token_box", MMF_SEQUENCE, {2, 4}, 0}, {"vision", MMF_SEQUENCE, {3, 3}, 0},           \
            {"vision_box", MMF_SEQUENCE, {3, 4}, 0},                                               \
        {                                                                                          \
            "number", MMF_SEQUENCE, {2, 2}, 0                                                      \
        }                                                                                          \
    }
#define CASE_ALIGNED                                                                               \
    {                                                                                              \
        {"text", MMF_TOKENS, {5}, 7}, {"audio", MMF_SEQUENCE, {5, 3}, 0},                          \
        {                                                                                          \
            "vision", MMF_SEQUENCE, {5, 2}, 0                                                      \
        }                                                                                          \
    }
#define CASE_REGIONS                                                                               \
    {                                                                                              \
        {"words", MMF_TOKENS, {5}, 7},                                                             \
        {                                                                                          \
            "regions", MMF_SEQUENCE, {4, 3}, 0                                                     \
        }                                                                                          \
    }
#define CASE_FLAT_TRIO                                                                             \
    {                                                                                              \
        {"text", MMF_SEQUENCE, {4, 3}, 0}, {"audio", MMF_VECTOR, {3}, 0},                          \
        {                                                                                          \
            "vision", MMF_VECTOR, {2}, 0                                                           \
        }                                                                                          \
    }

static const model_case model_cases[] = {
    {"vectors", 2, CASE_VECTORS, false, false},
    {"vectors, absent", 2, CASE_VECTORS, false, true},
    {"sequences", 2, CASE_SEQUENCES, false, false},
    {"sequences, lengths, absent", 2, CASE_SEQUENCES, true, true},
    {"vector, tokens, lengths, absent", 2, CASE_CAPTION, true, true},
    {"video, vector", 2, CASE_CLIP, false, false},
    {"video, vector, lengths, absent", 2, CASE_CLIP, true, true},
    {"image, tokens, vector", 3, CASE_MIXED, false, false},
    {"image, tokens, vector, lengths, absent", 3, CASE_MIXED, true, true},
    {"text, audio, vision", 3, CASE_TRIO, false, false},
    {"text, audio, vision, lengths", 3, CASE_TRIO, true, false},
    {"text, audio, vision, lengths, absent", 3, CASE_TRIO, true, true},
    {"text sequence, audio and vision vectors", 3, CASE_FLAT_TRIO, false, true},
    {"tokens with frames beside them", 3, CASE_ALIGNED, false, false},
    {"tokens with frames beside them, lengths, absent", 3, CASE_ALIGNED, true, true},
    {"words and regions", 2, CASE_REGIONS, false, false},
    {"words and regions, lengths, absent", 2, CASE_REGIONS, true, true},
    {"picture and words, lengths, absent", 2, CASE_PICTURE, true, true},
    {"views of a pair", 3, CASE_PAIR, false, false},
    {"question, tokens and regions in places", 6, CASE_SCENE, false, false},
    {"question, tokens and regions in places, lengths", 6, CASE_SCENE, true, false},
};

/* The last ones are for models on inputs of certain names alone. */
enum { N_MODEL_CASES = sizeof model_cases / sizeof *model_cases, N_NAMED_CASES = 8 };

/** Values of a case for some rows. Values behind a length and of absent modalities are not zero. */
typedef struct case_data {
    const char *name;
    int64_t n_rows;
    mmf_schema schema;
    mmf_input_schema inputs[CASE_INPUTS];
    int64_t row_size[CASE_INPUTS];
    mmf_real *values[CASE_INPUTS];
    int64_t *tokens[CASE_INPUTS];
    int64_t length[CASE_INPUTS][CASE_ROWS];
    mmf_real present[CASE_INPUTS][CASE_ROWS];
} case_data;

static inline void case_close(case_data *d)
{
    for (size_t m = 0; m < CASE_INPUTS; m++) {
        free(d->values[m]);
        free(d->tokens[m]);
    }
    *d = (case_data){0};
}

static inline void case_fill(case_data *d, size_t m, mmf_rng *rng)
{
    const mmf_input_schema *const in = &d->inputs[m];
    const int64_t n = d->n_rows * d->row_size[m], steps = in->shape[0];
    for (int64_t i = 0; i < d->n_rows; i++) {
        /* Lengths begin with all steps and one; one modality of each row is always there. */
        d->length[m][i] =
            i < 2 ? (i == 0 ? steps : 1) : 1 + (int64_t)mmf_rng_below(rng, (uint64_t)steps);
        d->present[m][i] = (i + (int64_t)m) % 3 == 1 ? 0 : 1;
    }
    d->values[m] = calloc((size_t)n + 1, sizeof *d->values[m]);
    d->tokens[m] = calloc((size_t)n + 1, sizeof *d->tokens[m]);
    assert_true(d->values[m] && d->tokens[m]);
    for (int64_t i = 0; i < n; i++) {
        d->values[m][i] = (mmf_real)(float)mmf_rng_normal(rng);
        /* Padding, which has no gradient, only at the end. */
        d->tokens[m][i] = i % d->row_size[m] < d->length[m][i / d->row_size[m]] && in->vocab_size
                              ? 1 + (int64_t)mmf_rng_below(rng, (uint64_t)in->vocab_size - 1)
                              : 0;
    }
}

static inline void case_open(case_data *d, const model_case *row, uint64_t seed)
{
    *d = (case_data){.name = row->name, .n_rows = CASE_ROWS};
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream(row->name));
    for (size_t m = 0; m < row->count; m++) {
        const case_input *const in = &row->inputs[m];
        static const int dims[] = {1, 2, 3, 1, 4};
        mmf_input_schema *const s = &d->inputs[m];
        *s = (mmf_input_schema){.name = in->name,
                                .kind = in->kind,
                                .n_dims = dims[in->kind],
                                .vocab_size = in->vocab,
                                .has_length = row->has_length && mmf_modality_has_steps(in->kind),
                                .has_present = row->has_present};
        d->row_size[m] = 1;
        for (int i = 0; i < s->n_dims; i++) {
            s->shape[i] = in->shape[i];
            d->row_size[m] *= in->shape[i];
        }
        case_fill(d, m, &rng);
    }
    d->schema = (mmf_schema){row->count, d->inputs};
}

/** A copy of some rows, or of one input alone (`only` not negative); closed like the original. */
static inline void case_select(case_data *out, const case_data *d, const int64_t *rows,
                               int64_t n_rows, int only)
{
    const size_t first = only < 0 ? 0 : (size_t)only, count = only < 0 ? d->schema.count : 1;
    *out = (case_data){.name = d->name, .n_rows = n_rows};
    for (size_t m = 0; m < count; m++) {
        const size_t from = first + m;
        const size_t size = (size_t)d->row_size[from];
        out->inputs[m] = d->inputs[from];
        out->row_size[m] = d->row_size[from];
        out->values[m] = calloc(size * (size_t)n_rows + 1, sizeof *out->values[m]);
        out->tokens[m] = calloc(size * (size_t)n_rows + 1, sizeof *out->tokens[m]);
        assert_true(out->values[m] && out->tokens[m]);
        for (int64_t i = 0; i < n_rows; i++) {
            const int64_t row = rows ? rows[i] : i;
            memcpy(out->values[m] + (size_t)i * size, d->values[from] + (size_t)row * size,
                   size * sizeof(mmf_real));
            memcpy(out->tokens[m] + (size_t)i * size, d->tokens[from] + (size_t)row * size,
                   size * sizeof(int64_t));
            out->length[m][i] = d->length[from][row];
            out->present[m][i] = d->present[from][row];
        }
    }
    out->schema = (mmf_schema){count, out->inputs};
}

/** Puts the inputs on a tape that was begun. @param variable  inputs get gradients */
static inline void case_put(mmf_tape *tape, case_data *d, bool variable, mmf_named *in)
{
    for (size_t m = 0; m < d->schema.count; m++) {
        const mmf_input_schema *const s = &d->inputs[m];
        int64_t shape[MMF_MAX_DIMS] = {d->n_rows};
        memcpy(shape + 1, s->shape, (size_t)s->n_dims * sizeof *shape);
        mmf_tensor *x = NULL;
        if (s->kind == MMF_TOKENS)
            x = mmf_input_ints(tape, d->tokens[m], 1 + s->n_dims, shape);
        else if (variable)
            x = mmf_variable(tape, d->values[m], 1 + s->n_dims, shape);
        else
            x = mmf_input(tape, d->values[m], 1 + s->n_dims, shape);
        mmf_named_put(tape, in, s->name, x);
        if (s->has_length)
            mmf_named_putf(tape, in, mmf_input_ints(tape, d->length[m], 1, &d->n_rows), "%s.length",
                           s->name);
        if (s->has_present)
            mmf_named_putf(tape, in, mmf_input(tape, d->present[m], 1, &d->n_rows), "%s.present",
                           s->name);
    }
}

/* ---- Modules ----------------------------------------------------------------------------- */

/** True for the number of layers on top of each other, and of chunks: one feature a chunk, brought
 * to length one, is only its sign. */
static inline bool case_is_pair(const mmf_option *row)
{
    static const char *const names[] = {"layers", "layer", "nlevels", "depth", "chunks"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(row->name, names[i]) == 0)
            return true;
    }
    return false;
}

/** Defaults made small, without dropout: whole numbers above 8 become 4, chosen widths 4, depths
 * and chunks 2. */
static inline mmf_config *case_config(mmf_ctx *ctx, const mmf_def *def, const char *train_mode)
{
    mmf_config *config = NULL;
    char classes[24];
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    for (const mmf_option *row = mmf_option_next(def, NULL); row && !mmf_option_is_common(row);
         row = mmf_option_next(def, row)) {
        const bool whole = row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS;
        if (strstr(row->name, "dropout"))
            test_ok(ctx, mmf_config_set(config, row->name, "0"));
        else if (strcmp(row->name, "reverse_grad_weight") == 0 && row->low < 0)
            test_ok(ctx, mmf_config_set(config, row->name, "-1")); /* the true gradient */
        else if (case_is_pair(row))
            test_ok(ctx, mmf_config_set(config, row->name, "2"));
        else if (whole && row->low <= 4 && (!*row->standard || atoi(row->standard) > 8))
            test_ok(ctx, mmf_config_set(config, row->name, "4"));
    }
    snprintf(classes, sizeof classes, "%d", CASE_CLASSES);
    test_ok(ctx, mmf_config_set(config, "train_mode", train_mode));
    test_ok(ctx, mmf_config_set(config, "num_classes", classes));
    return config;
}

/** Draws everything that starts as a constant too, so that nothing lies on a kink by design. */
static inline void case_draw(mmf_params *params, uint64_t seed)
{
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream(p->name));
        const bool variance = strstr(p->name, "running_var") != NULL;
        for (int64_t e = 0; e < p->tensor->count; e++) {
            const mmf_real noise = (mmf_real)(float)(0.4 * mmf_rng_normal(&rng));
            if (p->role == MMF_PARAM_BUFFER)
                p->tensor->data[e] = variance ? (mmf_real)0.7 + noise * noise : noise;
            else if (p->role == MMF_PARAM_TRAINED && p->init.kind == MMF_INIT_CONSTANT)
                p->tensor->data[e] += noise;
        }
    }
}

/** @param option, value  set in the small configuration unless NULL */
static inline mmf_module *case_module(mmf_ctx *ctx, const mmf_def *def, const mmf_schema *schema,
                                      const char *train_mode, const char *option, const char *value)
{
    mmf_config *const config = case_config(ctx, def, train_mode);
    mmf_module *module = NULL;
    if (option)
        test_ok(ctx, mmf_config_set(config, option, value));
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, schema, 1));
    mmf_config_free(config);
    case_draw(mmf_module_params(module), 3);
    return module;
}

/** A parameter, which must be there. */
static inline mmf_tensor *case_tensor(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/** What a model predicts, or an encoder's feature, an operator's result, or a loss. */
static inline mmf_tensor *case_result(const mmf_named *out)
{
    static const char *const names[] = {"prediction", "logits", "probability",
                                        "feature",    "fused",  "loss"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (mmf_named_get(out, names[i]))
            return mmf_named_get(out, names[i]);
    }
    return NULL;
}

/* ---- Everything that fits ---------------------------------------------------------------- */

/** One model with inputs that it takes. */
typedef void case_fn(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user);

static inline bool case_takes(const mmf_def *def, const case_data *d)
{
    if (def->kind == MMF_KIND_ENCODER)
        return d->schema.count == 1 && (def->takes & mmf_takes_kind(d->inputs[0].kind));
    return mmf_model_refusal(def, &d->schema, MMF_TARGET_CLASS, &(mmf_refusal){0}) == NULL;
}

/** Calls `fn` for every definition of a kind and every case that it takes, one input at a time
 * where it takes one. Each must find one. */
static inline void case_each(mmf_ctx *ctx, mmf_kind kind, uint64_t seed, case_fn *fn, void *user)
{
    size_t n_defs = 0;
    const mmf_def *const *const defs = mmf_catalogue(kind, &n_defs);
    assert_true(n_defs > 0);
    for (size_t i = 0; i < n_defs; i++) {
        size_t n_fits = 0;
        const bool alone = (defs[i]->takes & MMF_ONE_ONLY) || kind == MMF_KIND_ENCODER;
        for (size_t c = 0; c < N_MODEL_CASES; c++) {
            case_data whole;
            if (c >= N_MODEL_CASES - N_NAMED_CASES && !defs[i]->refuses)
                continue;
            case_open(&whole, &model_cases[c], seed);
            for (size_t m = 0; m < (alone ? whole.schema.count : 1); m++) {
                case_data part;
                case_select(&part, &whole, NULL, CASE_ROWS, alone ? (int)m : -1);
                if (case_takes(defs[i], &part)) {
                    fn(ctx, defs[i], &part, user);
                    n_fits++;
                }
                case_close(&part);
            }
            case_close(&whole);
        }
        if (n_fits == 0)
            fail_msg("no case fits %s: add one to model_cases", defs[i]->name);
    }
}

#endif
