/* train_options.c: options of training, a model's configuration, and progress while it trains. */
#include "train_options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONFIG_BYTES ((size_t)1 << 20)

const opt_row cli_train_rows[] = {
    {"seed", 0, OPT_INT, offsetof(cli_train, seed), "N", 0, 9e15, NULL,
     "of initial weights, order of rows and dropout (default: 0)"},
    {"epochs", 0, OPT_INT, offsetof(cli_train, epochs), "N", 1, 1e6, NULL,
     "passes over the training rows, at most (default: 100)"},
    {"batch", 0, OPT_INT, offsetof(cli_train, batch), "N", 1, 1e6, NULL,
     "rows in one step (default: what the model needs, mostly 32)"},
    {"patience", 0, OPT_INT, offsetof(cli_train, patience), "N", 1, 1e6, NULL,
     "stop after so many epochs without a lower validation loss (default: 15)"},
    {"lr", 0, OPT_REAL, offsetof(cli_train, lr), "X", 1e-12, 100, NULL,
     "learning rate (default: the model's own, mostly 0.001)"},
    {"optimizer", 0, OPT_CHOICE, offsetof(cli_train, optimizer), NULL, 0, 0,
     "adam|adamw|sgd|bert-adam",
     "default: adam; bert-adam is adamw without bias correction, with --clip-norm for each "
     "parameter by itself"},
    {"momentum", 0, OPT_REAL, offsetof(cli_train, momentum), "X", 0, 0.9999, NULL,
     "of sgd (default: 0)"},
    {"weight-decay", 0, OPT_REAL, offsetof(cli_train, weight_decay), "X", 0, 100, NULL,
     "L2 penalty; decoupled for adamw (default: 0)"},
    {"clip-norm", 0, OPT_REAL, offsetof(cli_train, clip_norm), "X", 0, 1e9, NULL,
     "scale gradients with a larger norm down to it, those of a loss's or an aid's own network by "
     "themselves (default: 0, never)"},
    {"clip-value", 0, OPT_REAL, offsetof(cli_train, clip_value), "X", 0, 1e9, NULL,
     "cut each gradient to this magnitude (default: 0, never)"},
    {"schedule", 0, OPT_CHOICE, offsetof(cli_train, schedule), NULL, 0, 0,
     "constant|step|plateau|cosine|linear", "of the learning rate (default: constant)"},
    {"warmup", 0, OPT_REAL, offsetof(cli_train, warmup), "F", 0, 0.9, NULL,
     "share of all steps in which the learning rate rises from 0 (default: 0)"},
    {"factor", 0, OPT_REAL, offsetof(cli_train, factor), "F", 1e-6, 1, NULL,
     "schedules step and plateau multiply by this (default: 0.5)"},
    {"period", 0, OPT_INT, offsetof(cli_train, period), "N", 1, 1e6, NULL,
     "epochs between the changes of step, or without improvement for plateau (default: 10)"},
    {"loss", 0, OPT_TEXTS, offsetof(cli_train, loss), "NAME:WEIGHT", 0, 0, NULL,
     "of regression: l1 (default), mse or smooth-l1, without a weight; beside the task's loss, one "
     "over the features of modalities, as in clip-loss:0.1 (`mmfuse list` names them; weight 1 if "
     "none is given); may be repeated"},
    {"aid", 0, OPT_TEXTS, offsetof(cli_train, aid), "NAME:VALUE", 0, 0, NULL,
     "training aid of any model with a feature a modality: ogm-ge, gradient-blend or "
     "unimodal-heads, with a value of its first option or OPTION=VALUE, as in ogm-ge:0.3 "
     "(`mmfuse info ogm-ge` lists them); may be repeated"},
    {"augment", 0, OPT_TEXTS, offsetof(cli_train, augment), "MODALITY=NAME:VALUE", 0, 0, NULL,
     "random changes of pictures in training: crop:PIXELS moves them by up to so many (4 if none "
     "are given), flip:P mirrors them with this probability (0.5), as in image=crop:4; may be "
     "repeated"},
    {"smoothing", 0, OPT_REAL, offsetof(cli_train, smoothing), "F", 0, 0.9, NULL,
     "label smoothing of classes (default: 0)"},
    {"balance", 0, OPT_FLAG, offsetof(cli_train, balance), NULL, 0, 0, NULL,
     "weigh classes inversely to their number of training rows"},
    {"refit", 0, OPT_FLAG, offsetof(cli_train, refit), NULL, 0, 0, NULL,
     "then train again on train and valid for the chosen number of epochs"},
    {"no-normalise", 0, OPT_FLAG, offsetof(cli_train, no_normalise), NULL, 0, 0, NULL,
     "feed features as they are"},
    {"modality-dropout", 0, OPT_REAL, offsetof(cli_train, modality_dropout), "P", 0, 0.99, NULL,
     "leave each modality out of a training sample with this probability; one always stays, so "
     "single modalities and late models do without (default: 0)"},
    {"modality-dropout-rise", 0, OPT_INT, offsetof(cli_train, modality_dropout_rise), "N", 0, 1e6,
     NULL, "epochs over which that probability rises from 0 (default: 0)"},
    {0},
};

const opt_row cli_model_rows[] = {
    {"encoder", 0, OPT_TEXTS, offsetof(cli_train, encoders),
     "MODALITY=NAME[:WIDTH][:OPTION=VALUE]...[=SOURCE]", 0, 0, NULL,
     "encoder of a modality (default: by its shape) with its width and options (`mmfuse info NAME` "
     "lists them), as in audio=lstm:128 or audio=transformer:64:layers=3; with a SOURCE it begins "
     "with the weights of a checkpoint: text=bert=FOLDER, image=resnet18=FILE, "
     "clip=video:frame=resnet18=FILE; may be repeated"},
    {"set", 0, OPT_TEXTS, offsetof(cli_train, set), "NAME=VALUE", 0, 0, NULL,
     "an option of the model (`mmfuse info MODEL` lists them); may be repeated"},
    {0},
};

const opt_row cli_tuning_rows[] = {
    {"weights", 0, OPT_TEXTS, offsetof(cli_tuning, weights), "SCOPE=FILE", 0, 0, NULL,
     "begin with the tensors of a safetensors file, or a folder with one, under a scope of the "
     "model's names; FILE alone: by their whole names, as of a model file after --task "
     "pretraining, which also gives the options that --set does not; may be repeated"},
    {"freeze", 0, OPT_TEXTS, offsetof(cli_tuning, freeze), "MODALITY:LAYERS", 0, 0, NULL,
     "leave an encoder as it is, or its embeddings and lowest layers, as in text:6; may be "
     "repeated"},
    {"rate", 0, OPT_TEXTS, offsetof(cli_tuning, rates), "MODALITY=LR:DECAY", 0, 0, NULL,
     "learning rate of an encoder, and the factor from each of its layers to the one below, as in "
     "text=2e-5:0.9; may be repeated"},
    {"decay-matrices", 0, OPT_FLAG, offsetof(cli_tuning, decay_matrices), NULL, 0, 0, NULL,
     "--weight-decay leaves biases and norms alone"},
    {0},
};

int cli_tuning_options(cli_tuning *tuning, mmf_train_options *out)
{
    if (!opt_join(tuning->all_weights, sizeof tuning->all_weights, &tuning->weights, ','))
        return cli_error("--weights: the paths are too long together");
    if (!opt_join(tuning->frozen, sizeof tuning->frozen, &tuning->freeze, ','))
        return cli_error("--freeze: the names are too long together");
    if (!opt_join(tuning->all_rates, sizeof tuning->all_rates, &tuning->rates, ','))
        return cli_error("--rate: the names are too long together");
    out->weights = *tuning->all_weights ? tuning->all_weights : NULL;
    out->freeze = *tuning->frozen ? tuning->frozen : NULL;
    out->rates = *tuning->all_rates ? tuning->all_rates : NULL;
    out->optimizer.decay_matrices = tuning->decay_matrices;
    return OPT_GO_ON;
}

static size_t place_of(const char *choice, const char *const *names, size_t n)
{
    for (size_t i = 0; choice && i < n; i++) {
        if (strcmp(choice, names[i]) == 0)
            return i;
    }
    return 0;
}

int cli_join_beside(cli_train *train)
{
    if (!opt_join(train->losses, sizeof train->losses, &train->loss, ','))
        return cli_error("--loss: the names are too long together");
    if (!opt_join(train->aids, sizeof train->aids, &train->aid, ','))
        return cli_error("--aid: the names are too long together");
    return opt_join(train->changes, sizeof train->changes, &train->augment, ',')
               ? OPT_GO_ON
               : cli_error("--augment: the names are too long together");
}

int cli_check_training(const char *verb, const cli_train *train)
{
    const bool is_sgd = train->optimizer && strcmp(train->optimizer, "sgd") == 0;
    if (train->momentum > 0 && !is_sgd)
        return opt_misuse(verb, "--momentum is of --optimizer sgd; %s has a momentum of its own",
                          train->optimizer ? train->optimizer : "adam");
    const bool has_steps = train->schedule && (strcmp(train->schedule, "step") == 0 ||
                                               strcmp(train->schedule, "plateau") == 0);
    if ((train->factor > 0 || train->period > 0) && !has_steps)
        return opt_misuse(verb, "--%s is of --schedule step or plateau; the schedule is %s",
                          train->factor > 0 ? "factor" : "period",
                          train->schedule ? train->schedule : "constant");
    if (train->modality_dropout_rise > 0 && !(train->modality_dropout > 0))
        return opt_misuse(verb, "--modality-dropout-rise needs --modality-dropout");
    return OPT_GO_ON;
}

mmf_train_options cli_train_options(const cli_train *train, const cli_data *data)
{
    const char *const optimizers[] = {"adam", "adamw", "sgd", "bert-adam"};
    const mmf_optimizer_kind optimizer_kinds[] = {MMF_ADAM, MMF_ADAMW, MMF_SGD, MMF_BERT_ADAM};
    const char *const schedules[] = {"constant", "step", "plateau", "cosine", "linear"};
    const mmf_schedule_kind schedule_kinds[] = {MMF_SCHEDULE_CONSTANT, MMF_SCHEDULE_STEP,
                                                MMF_SCHEDULE_PLATEAU, MMF_SCHEDULE_COSINE,
                                                MMF_SCHEDULE_LINEAR};
    mmf_train_options out = MMF_TRAIN_OPTIONS_INIT;
    out.seed = (uint64_t)train->seed;
    out.epochs = train->epochs;
    out.batch = train->batch;
    out.patience = train->patience;
    out.optimizer.kind = optimizer_kinds[place_of(train->optimizer, optimizers, 4)];
    out.optimizer.lr = train->lr;
    out.optimizer.momentum = train->momentum;
    out.optimizer.weight_decay = train->weight_decay;
    out.optimizer.clip_norm = train->clip_norm;
    out.optimizer.clip_value = train->clip_value;
    out.schedule = schedule_kinds[place_of(train->schedule, schedules, 5)];
    out.warmup = train->warmup;
    out.factor = train->factor;
    out.period = train->period;
    out.loss = *train->losses ? train->losses : NULL;
    out.aid = *train->aids ? train->aids : NULL;
    out.augment = *train->changes ? train->changes : NULL;
    out.smoothing = train->smoothing;
    out.balance = train->balance;
    out.refit = train->refit;
    out.no_normalise = train->no_normalise;
    out.modality_dropout = train->modality_dropout;
    out.modality_dropout_rise = train->modality_dropout_rise;
    out.rules = cli_msa_rules(data);
    return out;
}

/* ---- Configuration ----------------------------------------------------------------------- */

static int config_from_file(const cli_session *session, mmf_config *config, const char *path)
{
    FILE *const file = fopen(path, "rbe");
    if (!file)
        return cli_error("%s: cannot read the configuration: %s", path, strerror(errno));
    char *const text = out_alloc(MAX_CONFIG_BYTES + 1, 1);
    const size_t n = fread(text, 1, MAX_CONFIG_BYTES + 1, file);
    const bool failed = ferror(file) != 0;
    fclose(file);
    int code = OPT_GO_ON;
    if (failed || n > MAX_CONFIG_BYTES) {
        code = cli_error("%s: %s", path, failed ? "cannot read" : "larger than 1 MB");
    } else {
        text[n] = '\0';
        mmf_status status = mmf_config_set_json(config, text);
        if (status != MMF_OK) {
            status = mmf_fail_within(session->ctx, status, "%s: ", path);
            code = cli_refused(session, status);
        }
    }
    free(text);
    return code;
}

static int config_from_options(const cli_session *session, mmf_config *config,
                               const cli_train *train)
{
    char encoders[4096];
    if (!opt_join(encoders, sizeof encoders, &train->encoders, ','))
        return cli_error("too many --encoder options");
    if (*encoders) {
        const mmf_status status = mmf_config_set(config, "encoder", encoders);
        if (status != MMF_OK)
            return cli_refused(session, status);
    }
    for (size_t i = 0; i < train->set.count; i++) {
        char name[128];
        const char *const equals = strchr(train->set.items[i], '=');
        const size_t n = equals ? (size_t)(equals - train->set.items[i]) : 0;
        if (n == 0 || n >= sizeof name) {
            cli_error("--set takes NAME=VALUE; got \"%s\"", train->set.items[i]);
            return CLI_USAGE;
        }
        memcpy(name, train->set.items[i], n);
        name[n] = '\0';
        const mmf_status status = mmf_config_set(config, name, equals + 1);
        if (status != MMF_OK)
            return cli_refused(session, status);
    }
    return OPT_GO_ON;
}

int cli_model_config(const cli_session *session, mmf_config **out, const mmf_def *def,
                     const cli_train *train, const char *config_file)
{
    const mmf_status status = mmf_config_create(session->ctx, out, def);
    if (status != MMF_OK)
        return cli_failed(session, status);
    int code = config_file ? config_from_file(session, *out, config_file) : OPT_GO_ON;
    if (code == OPT_GO_ON)
        code = config_from_options(session, *out, train);
    if (code != OPT_GO_ON) {
        mmf_config_free(*out);
        *out = NULL;
    }
    return code;
}

/* ---- Progress ---------------------------------------------------------------------------- */

void cli_watch_epoch(void *user, const mmf_train_event *event)
{
    out_progress *const progress = user;
    char left[32], score[32], loss[32];
    const double share = event->n_steps > 0 ? (double)event->step / (double)event->n_steps : 0;
    out_number_text(loss, sizeof loss, event->train_loss);
    out_seconds_text(left, sizeof left, event->seconds_left);
    if (event->epoch_ended)
        out_progress_show(progress, 1, "%s  epoch %lld/%lld  loss %s  valid %s%s  %s left",
                          event->stage, (long long)event->epoch, (long long)event->n_epochs, loss,
                          out_number_text(score, sizeof score, event->score),
                          event->is_best ? " best" : "", left);
    else
        out_progress_show(progress, share, "%s  epoch %lld/%lld  loss %s  %s left", event->stage,
                          (long long)event->epoch, (long long)event->n_epochs, loss, left);
}
