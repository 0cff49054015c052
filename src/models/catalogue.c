/* catalogue.c: the tables of models, rules, layers and losses behind one look-up. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "encoders/encoder.h"
#include "fusion/fusion.h"
#include "mmfuse/model.h"

#define MMF_MODEL(file, name) extern const mmf_def mmf_model_##name;
#include "models/models.def"
#undef MMF_MODEL

#define MMF_LAYER(file, name) extern const mmf_def mmf_layer_##name;
#include "nn/layers.def"
#undef MMF_LAYER

#define MMF_LOSS(file, name) extern const mmf_def mmf_loss_##name;
#include "nn/losses.def"
#undef MMF_LOSS

static const mmf_def *const models[] = {
#define MMF_MODEL(file, name) &mmf_model_##name,
#include "models/models.def"
#undef MMF_MODEL
};

static const mmf_def *const layers[] = {
#define MMF_LAYER(file, name) &mmf_layer_##name,
#include "nn/layers.def"
#undef MMF_LAYER
};

static const mmf_def *const losses[] = {
#define MMF_LOSS(file, name) &mmf_loss_##name,
#include "nn/losses.def"
#undef MMF_LOSS
};

enum {
    N_MODELS = sizeof models / sizeof *models,
    N_LAYERS = sizeof layers / sizeof *layers,
    N_LOSSES = sizeof losses / sizeof *losses
};

static const char only_prefix[] = "only-";

const mmf_def *const *mmf_catalogue(mmf_kind kind, size_t *count)
{
    switch (kind) {
    case MMF_KIND_MODEL:
        *count = N_MODELS;
        return models;
    case MMF_KIND_LAYER:
        *count = N_LAYERS;
        return layers;
    case MMF_KIND_ENCODER:
        return mmf_encoder_table(count);
    case MMF_KIND_OPERATOR:
    case MMF_KIND_RULE:
        return mmf_fusion_table(count);
    case MMF_KIND_LOSS:
        *count = N_LOSSES;
        return losses;
    case MMF_KIND_METRIC:
    case MMF_KIND_AID: /* of the training floor: mmf_aids, mmf_preparations */
    case MMF_KIND_PREPARATION:
        break;
    }
    *count = 0;
    return NULL;
}

const char *mmf_model_only_modality(const char *name)
{
    const size_t n = sizeof only_prefix - 1;
    return strncmp(name, only_prefix, n) == 0 && name[n] ? name + n : NULL;
}

static const mmf_def *find_in(const mmf_def *const *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    }
    return NULL;
}

const mmf_def *mmf_model_find(const char *name)
{
    return find_in(models, N_MODELS, mmf_model_only_modality(name) ? "only" : name);
}

const mmf_def *mmf_definition_find(const char *name)
{
    static const mmf_kind order[] = {MMF_KIND_LAYER, MMF_KIND_LOSS, MMF_KIND_OPERATOR,
                                     MMF_KIND_ENCODER, MMF_KIND_MODEL};
    const mmf_def *found = NULL;
    for (size_t i = 0; !found && i < sizeof order / sizeof *order; i++) {
        size_t n = 0;
        const mmf_def *const *const table = mmf_catalogue(order[i], &n);
        found = find_in(table, n, name);
    }
    return found;
}

const char *mmf_model_nearest(const char *name)
{
    const char *names[N_MODELS];
    for (size_t i = 0; i < N_MODELS; i++)
        names[i] = models[i]->name;
    return mmf_text_nearest(name, names, N_MODELS);
}

/* NULL if there is none. */
static const mmf_input_schema *first_of_other_kind(const mmf_def *def, const mmf_schema *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        if (!(def->takes & mmf_takes_kind(inputs->inputs[i].kind)))
            return &inputs->inputs[i];
    }
    return NULL;
}

/* "it takes sequences, and "sound" is of kind vector ..." */
static const char *kind_refusal(const mmf_def *def, const mmf_input_schema *other,
                                mmf_refusal *room)
{
    static const char *const plurals[] = {
        [MMF_VECTOR] = "vectors", [MMF_SEQUENCE] = "sequences", [MMF_IMAGE] = "images",
        [MMF_TOKENS] = "tokens",  [MMF_VIDEO] = "videos",
    };
    size_t used = 0;
    for (size_t k = 0; k < sizeof plurals / sizeof *plurals; k++) {
        if (def->takes & mmf_takes_kind((mmf_modality_kind)k))
            used += (size_t)snprintf(room->text + used, sizeof room->text - used, "%s%s",
                                     used ? ", " : "it takes ", plurals[k]);
    }
    snprintf(room->text + used, sizeof room->text - used,
             "%s\"%.128s\" is of kind %s; choose with --modalities, or use joint-concat",
             used ? ", and " : "", other->name, mmf_modality_kind_name(other->kind));
    return room->text;
}

static bool may_be_absent(const mmf_schema *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        if (inputs->inputs[i].has_present)
            return true;
    }
    return false;
}

static const char *retrieval_refusal(const mmf_def *def, bool contrasts)
{
    if (def->takes & MMF_RETRIEVES)
        return NULL;
    if (!(def->takes & MMF_COMMON_WIDTH))
        return "it puts out no features of modalities that could find each other; for retrieval "
               "use two-tower, vse-pp, cca or dcca";
    return contrasts
               ? NULL
               : "it has no loss that brings the features of modalities together; for retrieval "
                 "use two-tower, vse-pp, cca or dcca, or add --loss clip-loss";
}

const char *mmf_training_refusal(const mmf_def *def, const mmf_schema *inputs,
                                 mmf_target_kind target, bool contrasts, mmf_refusal *room)
{
    const char *const why =
        target == MMF_TARGET_RETRIEVAL ? retrieval_refusal(def, contrasts) : NULL;
    return why ? why : mmf_model_refusal(def, inputs, target, room);
}

const char *mmf_model_refusal(const mmf_def *def, const mmf_schema *inputs, mmf_target_kind target,
                              mmf_refusal *room)
{
    const mmf_input_schema *const other = first_of_other_kind(def, inputs);
    if (target == MMF_TARGET_PRETRAINING && !(def->takes & MMF_PRETRAINS))
        return "it learns from a target only; vilbert and uniter can be pre-trained without one";
    const bool late_vote = (def->takes & MMF_LATE) && !(def->takes & MMF_REGRESSION_OK);
    if (def->takes & MMF_ONE_ONLY) {
        if (inputs->count != 1)
            return "it takes one modality; name it, as in only-audio";
    } else if (inputs->count < 2) {
        return "there is nothing to fuse with one modality; use only-<modality>";
    }
    if ((def->takes & MMF_TWO_ONLY) && inputs->count != 2)
        return target == MMF_TARGET_RETRIEVAL
                   ? "it is defined on two modalities; choose them with --modalities a,b, or use "
                     "two-tower"
                   : "it is defined on two modalities; choose them with --modalities a,b, or use "
                     "joint-concat or tfn";
    if (other)
        return kind_refusal(def, other, room);
    if (target == MMF_TARGET_RETRIEVAL && retrieval_refusal(def, true))
        return retrieval_refusal(def, true);
    if (def->refuses && def->refuses(inputs))
        return def->refuses(inputs);
    if (target == MMF_TARGET_REAL && !(def->takes & MMF_REGRESSION_OK))
        return "it picks a class; for regression use late-mean or late-learned";
    if (target != MMF_TARGET_REAL && !(def->takes & MMF_CLASSES_OK))
        return "it predicts numbers, not classes";
    if (target == MMF_TARGET_MULTILABEL && late_vote)
        return "it picks one class of several; for several labels use late-mean or late-learned";
    if (target == MMF_TARGET_MULTILABEL && (def->takes & MMF_ONE_CLASS))
        return "it is defined on classes of which one is right, not on several labels; use "
               "joint-concat";
    if (may_be_absent(inputs) && !(def->takes & MMF_MISSING_OK))
        return "it is not defined for samples that lack a modality; use joint-concat or weighted";
    return NULL;
}
