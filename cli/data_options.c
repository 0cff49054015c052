/* data_options.c: options of data and splits, and the command line as recorded in model files. */
#include "data_options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

const opt_row cli_data_rows[] = {
    {"modalities", 0, OPT_TEXT, offsetof(cli_data, modalities), "a,b", 0, 0, NULL,
     "use these modalities only, in this order"},
    {"target", 0, OPT_TEXT, offsetof(cli_data, target), "NAME", 0, 0, NULL,
     "array to predict (default: label)"},
    {"task", 0, OPT_CHOICE, offsetof(cli_data, task), NULL, 0, 0,
     "regression|classification|multilabel|soft|retrieval|pretraining",
     "what the target means (default: by its values); retrieval and pretraining need none"},
    {"kind", 0, OPT_TEXTS, offsetof(cli_data, kinds), "NAME=KIND", 0, 0, NULL,
     "read a modality as tokens, features or sequence; may be repeated"},
    {"non-finite", 0, OPT_CHOICE, offsetof(cli_data, non_finite), NULL, 0, 0, "zero|absent",
     "NaN and infinite features become 0, or make the modality absent in that sample"},
    {"metrics", 0, OPT_CHOICE, offsetof(cli_data, metrics), NULL, 0, 0, "mosi|sims",
     "also score regression by the rules of this sentiment benchmark"},
    {0},
};

const opt_row cli_split_rows[] = {
    {"split", 0, OPT_REALS, offsetof(cli_split, split), "a,b,c", 0, 1, NULL,
     "shares of train, valid and test, such as 0.7,0.1,0.2 (default: the file's split)"},
    {"valid", 0, OPT_REAL, offsetof(cli_split, valid), "F", 0.001, 0.9, NULL,
     "cut this share of train for validation (default: 0.15 where the file has none)"},
    {"folds", 0, OPT_INT, offsetof(cli_split, folds), "K", 2, 1000, NULL,
     "divide train and valid into K folds, one of which is valid"},
    {"fold", 0, OPT_INT, offsetof(cli_split, fold), "I", 0, 999, NULL,
     "the fold that is valid, from 0 (default: 0)"},
    {"train-per-class", 0, OPT_INT, offsetof(cli_split, train_per_class), "N", 1, 1e12, NULL,
     "train on the first N rows of each class only"},
    {"split-seed", 0, OPT_INT, offsetof(cli_split, seed), "N", 0, 9e15, NULL,
     "seed of the division into parts (default: 0)"},
    {0},
};

int cli_dataset_options_make(cli_dataset_options *out, const cli_session *session,
                             const cli_data *data)
{
    memset(out, 0, sizeof *out);
    out->options = (mmf_dataset_options)MMF_DATASET_OPTIONS_INIT;
    if (!opt_join(out->kinds, sizeof out->kinds, &data->kinds, ','))
        return cli_error("too many --kind options");
    out->options.modalities = data->modalities;
    out->options.kinds = *out->kinds ? out->kinds : NULL;
    out->options.target = data->target;
    out->options.task = data->task;
    out->options.check_finite = true;
    out->options.io = &session->io;
    const int code = cli_prepare_make(&out->prepare, session, &data->prepare);
    if (code != OPT_GO_ON)
        return code;
    out->prepare.options.target = data->target;
    out->options.prepare = &out->prepare.options;
    if (data->non_finite)
        out->options.nonfinite =
            strcmp(data->non_finite, "zero") == 0 ? MMF_NONFINITE_ZERO : MMF_NONFINITE_ABSENT;
    return OPT_GO_ON;
}

/* Plain data files do without. */
static int open_prepared(const cli_session *session, mmf_archive **out, const char *path,
                         cli_dataset_options *made, const cli_data *data)
{
    *out = NULL;
    const size_t n = strlen(path);
    const bool is_table =
        n > 4 && (strcmp(path + n - 4, ".csv") == 0 || strcmp(path + n - 4, ".tsv") == 0);
    if (!is_table && cli_prepare_is_given(&data->prepare))
        return cli_error("%s: only the columns of a table (.csv, .tsv) can be prepared", path);
    if (!mmf_is_manifest(session->ctx, path, &made->prepare.options))
        return OPT_GO_ON;
    cli_catch_interrupt(session);
    const mmf_status status = mmf_prepare(session->ctx, out, path, &made->prepare.options);
    out_progress_clear(&made->prepare.progress);
    return status == MMF_OK ? OPT_GO_ON : cli_refused(session, status);
}

int cli_open_data(const cli_session *session, mmf_dataset **out, const char *path,
                  const cli_data *data)
{
    cli_dataset_options made;
    mmf_archive *prepared = NULL;
    *out = NULL;
    int code = cli_dataset_options_make(&made, session, data);
    if (code == OPT_GO_ON)
        code = open_prepared(session, &prepared, path, &made, data);
    if (code != OPT_GO_ON)
        return code;
    const mmf_status status =
        prepared ? mmf_dataset_from_archive(session->ctx, out, prepared, &made.options)
                 : mmf_dataset_open(session->ctx, out, path, &made.options);
    if (status != MMF_OK)
        return cli_refused(session, status);
    return OPT_GO_ON;
}

int cli_split_options(const char *verb, const cli_split *split, mmf_split_options *out)
{
    *out = (mmf_split_options)MMF_SPLIT_OPTIONS_INIT;
    if (split->split.count) {
        double sum = 0;
        for (size_t i = 0; i < split->split.count; i++)
            sum += split->split.items[i];
        if (split->split.count != 3 || sum < 0.999 || sum > 1.001)
            return opt_misuse(verb, "--split takes three shares that sum to 1, as in 0.7,0.1,0.2");
        memcpy(out->fractions, split->split.items, sizeof out->fractions);
    }
    if (split->fold && split->fold >= split->folds)
        return opt_misuse(verb, "--fold %lld needs --folds of at least %lld",
                          (long long)split->fold, (long long)split->fold + 1);
    out->valid = split->valid;
    out->n_folds = split->folds;
    out->fold = split->fold;
    out->train_per_class = split->train_per_class;
    out->seed = (uint64_t)split->seed;
    return OPT_GO_ON;
}

bool cli_split_is_given(const cli_split *split)
{
    return split->split.count || split->valid > 0 || split->folds || split->fold ||
           split->train_per_class || split->seed;
}

mmf_msa_rules cli_msa_rules(const cli_data *data)
{
    if (!data->metrics)
        return MMF_MSA_NONE;
    return strcmp(data->metrics, "mosi") == 0 ? MMF_MSA_MOSI : MMF_MSA_SIMS;
}

/* ---- The command as text ----------------------------------------------------------------- */

char *cli_quote_command(int argc, char *const *argv)
{
    size_t size = 16;
    for (int i = 0; i < argc; i++)
        size += 4 * strlen(argv[i]) + 3;
    char *const text = out_alloc(size, 1);
    char *at = text + snprintf(text, size, "mmfuse");
    for (int i = 0; i < argc; i++) {
        const char *const word = argv[i];
        const bool is_plain =
            *word && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-_=.,:/+@%") == strlen(word);
        *at++ = ' ';
        if (!is_plain)
            *at++ = '\'';
        for (const char *c = word; *c; c++) {
            if (*c == '\'') {
                memcpy(at, "'\\''", 4);
                at += 4;
            } else {
                *at++ = *c;
            }
        }
        if (!is_plain)
            *at++ = '\'';
    }
    *at = '\0';
    return text;
}

char **cli_split_command(const char *command, size_t *count)
{
    const size_t n = strlen(command);
    char **const words = out_alloc(n / 2 + 2, sizeof *words);
    *count = 0;
    for (const char *c = command; *c;) {
        c += strspn(c, " ");
        if (!*c)
            break;
        char *const word = out_alloc(strlen(c) + 1, 1);
        size_t length = 0;
        bool in_quotes = false;
        for (; *c && (in_quotes || *c != ' '); c++) {
            if (*c == '\'')
                in_quotes = !in_quotes;
            else if (!in_quotes && *c == '\\' && c[1])
                word[length++] = *++c;
            else
                word[length++] = *c;
        }
        words[(*count)++] = word;
    }
    return words;
}

void cli_free_words(char **words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(words[i]);
    free(words);
}

const char *cli_class_name(const mmf_task *task, int64_t i, char *out, size_t size)
{
    if (task->class_names && task->class_names[i])
        return task->class_names[i];
    snprintf(out, size, "%lld", (long long)i);
    return out;
}
