/* cmd_train.c: trains one model on a data file and saves it. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scoring.h"
#include "train_options.h"

#define CHECKPOINT_SUFFIX ".checkpoint"

typedef struct train_values {
    const char *model, *out, *config, *checkpoint;
    bool resume;
} train_values;

static const opt_row train_rows[] = {
    {"model", 'm', OPT_TEXT, offsetof(train_values, model), "NAME", 0, 0, NULL,
     "one of `mmfuse list`, or only-MODALITY"},
    {"out", 'o', OPT_TEXT, offsetof(train_values, out), "FILE", 0, 0, NULL,
     "the model file to write; it replaces an older one when training is done"},
    {"config", 0, OPT_TEXT, offsetof(train_values, config), "FILE", 0, 0, NULL,
     "options of the model as a JSON object, under our names or the paper's code's"},
    {"checkpoint", 0, OPT_TEXT, offsetof(train_values, checkpoint), "FILE", 0, 0, NULL,
     "state for --resume (default: OUT.checkpoint); removed when training is done"},
    {"resume", 0, OPT_FLAG, offsetof(train_values, resume), NULL, 0, 0, NULL,
     "go on from the checkpoint of an interrupted run, to the same result"},
    {0},
};

/* Everything of one run. */
typedef struct train_run {
    train_values values;
    cli_train train;
    cli_tuning tuning;
    cli_data data;
    cli_split split;
    cli_common common;
    cli_session session;
    const char *path;
    char *command;
    char checkpoint[CLI_PATH_BYTES];
    mmf_dataset *dataset;
    mmf_split parts;
    mmf_config *config;
    mmf_model *model;
    double seconds;
} train_run;

static const char *name_checkpoint(train_run *run)
{
    if (run->values.checkpoint)
        return run->values.checkpoint;
    const int n =
        snprintf(run->checkpoint, sizeof run->checkpoint, "%s" CHECKPOINT_SUFFIX, run->values.out);
    return n > 0 && (size_t)n < sizeof run->checkpoint ? run->checkpoint : NULL;
}

/* Opens the data, divides it and sets the model's options. */
static int prepare(train_run *run, const mmf_def *def, const mmf_split_options *split)
{
    int code = cli_model_config(&run->session, &run->config, def, &run->train, run->values.config);
    if (code != OPT_GO_ON)
        return code;
    if (!out_can_write(run->values.out))
        return CLI_FAILED;
    code = cli_open_data(&run->session, &run->dataset, run->path, &run->data);
    if (code != OPT_GO_ON)
        return code;
    const mmf_status status = mmf_split_make(run->session.ctx, &run->parts, run->dataset, split);
    if (status != MMF_OK)
        return cli_refused(&run->session, status);
    cli_say("training %s on %s: %lld train, %lld valid, %lld test rows", run->values.model,
            run->path, (long long)run->parts.count[MMF_TRAIN],
            (long long)run->parts.count[MMF_VALID], (long long)run->parts.count[MMF_TEST]);
    return OPT_GO_ON;
}

static int say_interrupted(const train_run *run)
{
    cli_failed(&run->session, MMF_CANCELLED);
    cli_say("go on with\n  %s%s", run->command, run->values.resume ? "" : " --resume");
    return CLI_INTERRUPTED;
}

static int fit(train_run *run)
{
    const char *const checkpoint = name_checkpoint(run);
    if (!checkpoint)
        return cli_error("%s: the path is too long", run->values.out);
    int code = cli_join_beside(&run->train);
    if (code != OPT_GO_ON)
        return code;
    out_progress progress = out_progress_make();
    mmf_train_options options = cli_train_options(&run->train, &run->data);
    code = cli_tuning_options(&run->tuning, &options);
    if (code != OPT_GO_ON)
        return code;
    options.checkpoint = checkpoint;
    options.resume = run->values.resume;
    options.command = run->command;
    options.watch = cli_watch_epoch;
    options.watch_user = &progress;
    cli_catch_interrupt(&run->session);
    const double start = out_clock();
    mmf_status status = mmf_train(run->session.ctx, &run->model, run->dataset, &run->parts,
                                  run->values.model, run->config, &options);
    run->seconds = out_clock() - start;
    out_progress_clear(&progress);
    if (status == MMF_CANCELLED)
        return say_interrupted(run);
    if (status != MMF_OK)
        return cli_refused(&run->session, status);
    status = mmf_model_save(run->model, run->values.out);
    if (status != MMF_OK) {
        fprintf(stderr, "the trained state is in %s: --resume with another -o saves it\n",
                checkpoint);
        return cli_failed(&run->session, status);
    }
    mmf_train_forget(checkpoint);
    return OPT_GO_ON;
}

static void print_json(const train_run *run, const mmf_metrics scores[3])
{
    json_t *const object = json_object();
    json_t *const counts = json_object();
    const mmf_task *const task = mmf_model_task(run->model);
    json_error_t error;
    json_t *const record = json_loads(mmf_model_record(run->model), 0, &error);
    json_object_set_new(object, "data", out_json_text(run->path));
    json_object_set_new(object, "model", out_json_text(mmf_model_name(run->model)));
    json_object_set_new(object, "out", out_json_text(run->values.out));
    json_object_set_new(object, "task", out_json_text(mmf_task_name(task->kind)));
    json_object_set_new(object, "seed", json_integer(run->train.seed));
    json_object_set_new(object, "parameters", json_integer(mmf_model_n_parameters(run->model)));
    json_object_set_new(object, "seconds", out_json_number(run->seconds));
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++)
        json_object_set_new(counts, cli_part_name((mmf_part)p), json_integer(run->parts.count[p]));
    json_object_set_new(object, "n", counts);
    json_t *const metrics = json_object();
    for (int p = MMF_VALID; p <= MMF_TEST; p++) {
        if (scores[p].count)
            json_object_set_new(metrics, cli_part_name((mmf_part)p), out_json_metrics(&scores[p]));
    }
    json_object_set_new(object, "metrics", metrics);
    json_object_set_new(object, "record", record ? record : json_null());
    out_json_print(object);
}

static void print_text(const train_run *run, const mmf_metrics scores[3])
{
    const mmf_metrics *sets[2];
    const char *titles[2];
    size_t n = 0;
    for (int p = MMF_VALID; p <= MMF_TEST; p++) {
        if (scores[p].count) {
            sets[n] = &scores[p];
            titles[n++] = cli_part_name((mmf_part)p);
        }
    }
    if (n)
        out_metrics_print(sets, titles, n);
    char seconds[32];
    cli_say("%s: %lld parameters, trained in %s", run->values.out,
            (long long)mmf_model_n_parameters(run->model),
            out_seconds_text(seconds, sizeof seconds, run->seconds));
}

static int report(train_run *run)
{
    mmf_metrics scores[3] = {0};
    const mmf_task *const task = mmf_model_task(run->model);
    for (int p = MMF_VALID; p <= MMF_TEST; p++) {
        /* After a refit the model has seen the validation rows: their score would say nothing. */
        if (run->parts.count[p] == 0 || (p == MMF_VALID && run->train.refit))
            continue;
        const mmf_status status =
            cli_score(run->session.ctx, &scores[p], run->model, task, run->dataset,
                      run->parts.rows[p], run->parts.count[p], MMF_ALL_MODALITIES);
        if (status != MMF_OK)
            return cli_failed(&run->session, status);
    }
    if (run->train.refit)
        cli_say("refitted on train and valid: only test rows are still unseen");
    if (run->common.json)
        print_json(run, scores);
    else
        print_text(run, scores);
    return CLI_OK;
}

static int train(train_run *run, const mmf_def *def, const mmf_split_options *split)
{
    int code = prepare(run, def, split);
    if (code == OPT_GO_ON)
        code = fit(run);
    if (code == OPT_GO_ON)
        code = report(run);
    mmf_model_free(run->model);
    mmf_split_clear(run->session.ctx, &run->parts);
    mmf_dataset_close(run->dataset);
    mmf_config_free(run->config);
    return code;
}

int cmd_train(int argc, char **argv)
{
    train_run run = {.train = CLI_TRAIN_INIT};
    const opt_group groups[] = {
        {"Model", train_rows, &run.values},
        {"Its structure", cli_model_rows, &run.train},
        {"Training", cli_train_rows, &run.train},
        {"Weights of others", cli_tuning_rows, &run.tuning},
        {"Data", cli_data_rows, &run.data},
        {"Raw files", cli_prepare_rows, &run.data.prepare},
        {"Parts", cli_split_rows, &run.split},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "train",
        .synopsis = "FILE --model NAME -o OUT.mmf [options]",
        .about = "Trains one model and writes it with everything that predicting needs: weights, "
                 "normalisation, class names. Epochs are chosen by the loss on the validation "
                 "rows; test rows are scored once, at the end. Ctrl-C saves a checkpoint.",
        .example = "  mmfuse train digits.npz --model lmf --set rank=8 --epochs 40 -o digits.mmf\n"
                   "  mmfuse train clips.npz --model joint-concat --encoder audio=lstm:128 "
                   "-o clips.mmf",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 1,
        .max_args = 1,
    };
    run.command = cli_quote_command(argc, argv);
    opt_args args = {0};
    mmf_split_options split;
    const mmf_def *def = NULL;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && !run.values.model)
        code = opt_misuse("train", "--model NAME is missing; `mmfuse list` shows the names");
    if (code == OPT_GO_ON && !run.values.out)
        code = opt_misuse("train", "-o OUT.mmf is missing: where to write the model");
    if (code == OPT_GO_ON)
        code = cli_split_options("train", &run.split, &split);
    if (code == OPT_GO_ON)
        code = cli_check_training("train", &run.train);
    if (code == OPT_GO_ON && !(def = cli_find_model("train", run.values.model)))
        code = CLI_USAGE;
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code == OPT_GO_ON) {
        run.path = args.items[0];
        code = cli_end(&run.session, train(&run, def, &split));
    }
    free(run.command);
    return code;
}
