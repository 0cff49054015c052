/* cmd_compare.c: trains many models with several seeds and prints the leaderboard. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report_file.h"
#include "train_options.h"

/* Off a terminal, progress is a line now and then. */
#define SAY_SECONDS 10

typedef struct compare_values {
    const char *models, *folder, *report;
    int64_t seeds, jobs, tune;
    bool resume;
} compare_values;

static const opt_row compare_rows[] = {
    {"models", 0, OPT_TEXT, offsetof(compare_values, models), "a,b", 0, 0, NULL,
     "names with commas between them (default: all that the data allows)"},
    {"seeds", 0, OPT_INT, offsetof(compare_values, seeds), "N", 1, 10000, NULL,
     "train each model with so many seeds, from --seed on (default: 3)"},
    {"jobs", 0, OPT_INT, offsetof(compare_values, jobs), "N", 1, 1024, NULL,
     "trials side by side (default: one a processor)"},
    {"folder", 0, OPT_TEXT, offsetof(compare_values, folder), "DIR", 0, 0, NULL,
     "results and predictions go there (default: runs/ and the data's name)"},
    {"report", 0, OPT_TEXT, offsetof(compare_values, report), "FILE.html", 0, 0, NULL,
     "the report with plots, one HTML file (default: report.html in the folder)"},
    {"tune", 0, OPT_INT, offsetof(compare_values, tune), "N", 1, 1000, NULL,
     "first try N settings of each model's own options and learning rate with the first seed, the "
     "given one among them, and keep the best on validation; late models are left as they are"},
    {"resume", 0, OPT_FLAG, offsetof(compare_values, resume), NULL, 0, 0, NULL,
     "keep the finished trials of the folder"},
    {0},
};

typedef struct compare_run {
    compare_values values;
    cli_train train;
    cli_data data;
    cli_split split;
    cli_common common;
    cli_session session;
    const char *path;
    char *command;
    char folder[CLI_PATH_BYTES], report[CLI_PATH_BYTES + 16], set[4096], encoders[4096];
    out_progress progress;
    double last_said; /* seconds after the start, off a terminal */
} compare_run;

/* "runs/digits" for "data/digits.npz". */
static void default_folder(const char *path, char *out, size_t size)
{
    const char *const slash = strrchr(path, '/');
    const char *const name = slash ? slash + 1 : path;
    const char *const dot = strrchr(name, '.');
    const size_t n = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    snprintf(out, size, "runs/%.*s", (int)(n < 255 ? n : 255), name);
}

static void watch(void *user, const mmf_comparison *so_far, size_t n_done, size_t n_running,
                  double seconds)
{
    compare_run *const run = user;
    const size_t n_all = so_far->n_trials + so_far->n_draws;
    char spent[32], left[32] = "?";
    if (!run->progress.is_terminal && seconds - run->last_said >= SAY_SECONDS) {
        run->last_said = seconds;
        cli_say("%zu of %zu trials done, %s", n_done, n_all,
                out_seconds_text(spent, sizeof spent, seconds));
    }
    if (n_all == 0)
        return;
    if (n_done)
        out_seconds_text(left, sizeof left, seconds / (double)n_done * (double)(n_all - n_done));
    out_progress_show(&run->progress, (double)n_done / (double)n_all,
                      "%zu of %zu trials done, %zu running, %s, about %s left", n_done, n_all,
                      n_running, out_seconds_text(spent, sizeof spent, seconds), left);
}

/* Failed trials on stderr. @return how many */
static size_t say_failures(const mmf_comparison *comparison)
{
    size_t n = 0;
    for (size_t i = 0; i < comparison->n_trials; i++) {
        const mmf_trial *const trial = &comparison->trials[i];
        if (trial->status == MMF_OK)
            continue;
        n++;
        cli_say("mmfuse: warning: %s with seed %llu failed: %s", trial->model,
                (unsigned long long)trial->seed,
                *trial->error ? trial->error : mmf_status_name(trial->status));
    }
    return n;
}

static int write_report(const compare_run *run, const mmf_comparison *comparison)
{
    char *const json = mmf_comparison_json(comparison);
    if (!json)
        return cli_failed(&run->session, MMF_NOMEM);
    const int code = cli_write_report(&run->session, run->values.report, json);
    mmf_free(run->session.ctx, json);
    if (code == CLI_OK)
        cli_say("the report is %s", run->values.report);
    return code;
}

static int print_results(compare_run *run, const mmf_comparison *comparison)
{
    const size_t n_failed = say_failures(comparison);
    char *const text = run->common.json ? mmf_comparison_json(comparison)
                                        : mmf_comparison_table(comparison, out_has_colour(stdout));
    if (!text)
        return cli_failed(&run->session, MMF_NOMEM);
    fputs(text, stdout);
    if (*text && text[strlen(text) - 1] != '\n')
        putchar('\n');
    (void)fflush(stdout);
    mmf_free(run->session.ctx, text);
    cli_say("results, and predictions of every trial, are in %s", run->values.folder);
    const int code = write_report(run, comparison);
    if (code != CLI_OK)
        return code;
    if (comparison->n_trials > 0 && n_failed == comparison->n_trials)
        return cli_error("every trial failed");
    return CLI_OK;
}

static int compare(compare_run *run, const mmf_split_options *split)
{
    mmf_dataset *dataset = NULL;
    int code = cli_open_data(&run->session, &dataset, run->path, &run->data);
    if (code != OPT_GO_ON)
        return code;
    mmf_compare_options options = MMF_COMPARE_OPTIONS_INIT;
    options.models = run->values.models;
    options.n_seeds = run->values.seeds;
    options.n_jobs = (int)run->values.jobs;
    options.n_tune = run->values.tune;
    options.folder = run->values.folder;
    options.resume = run->values.resume;
    options.set = *run->set ? run->set : NULL;
    options.encoders = *run->encoders ? run->encoders : NULL;
    options.split = *split;
    options.train = cli_train_options(&run->train, &run->data);
    options.train.command = run->command;
    options.watch = watch;
    options.watch_user = run;
    run->progress = out_progress_make();
    cli_catch_interrupt(&run->session);
    mmf_comparison comparison = {0};
    const mmf_status status = mmf_compare(run->session.ctx, &comparison, dataset, &options);
    out_progress_clear(&run->progress);
    if (status == MMF_OK) {
        code = print_results(run, &comparison);
    } else if (status == MMF_CANCELLED) {
        cli_say("mmfuse: interrupted; finished trials are in %s; go on with\n  %s%s",
                run->values.folder, run->command, run->values.resume ? "" : " --resume");
        /* Not that of an earlier comparison beside the results of this one. */
        code = write_report(run, &comparison);
        code = code == CLI_OK ? CLI_INTERRUPTED : code;
    } else {
        code = cli_refused(&run->session, status);
    }
    mmf_comparison_clear(&comparison);
    mmf_dataset_close(dataset);
    return code;
}

/* Every name must be known before hours of training begin. */
static int check_models(const char *list)
{
    for (const char *at = list; at && *at;) {
        char name[256];
        const size_t width = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(width < 255 ? width : 255), at);
        if (!cli_find_model("compare", name))
            return CLI_USAGE;
        at += width + (at[width] == ',');
    }
    return OPT_GO_ON;
}

static int check_values(compare_run *run)
{
    for (size_t i = 0; i < run->train.set.count; i++) {
        if (!strchr(run->train.set.items[i], '='))
            return opt_misuse("compare", "--set takes NAME=VALUE; got \"%s\"",
                              run->train.set.items[i]);
    }
    if (!opt_join(run->set, sizeof run->set, &run->train.set, ';') ||
        !opt_join(run->encoders, sizeof run->encoders, &run->train.encoders, ','))
        return opt_misuse("compare", "too many --set or --encoder options");
    int code = cli_check_training("compare", &run->train);
    if (code == OPT_GO_ON)
        code = cli_join_beside(&run->train);
    if (code != OPT_GO_ON)
        return code;
    return check_models(run->values.models);
}

int cmd_compare(int argc, char **argv)
{
    compare_run run = {.train = CLI_TRAIN_INIT, .values.seeds = 3};
    const opt_group groups[] = {
        {"What to compare", compare_rows, &run.values},
        {"Structure, for the models that have the option", cli_model_rows, &run.train},
        {"Training", cli_train_rows, &run.train},
        {"Data", cli_data_rows, &run.data},
        {"Raw files", cli_prepare_rows, &run.data.prepare},
        {"Parts", cli_split_rows, &run.split},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "compare",
        .synopsis = "FILE [--models a,b] [--seeds N] [options]",
        .about = "Trains models with several seeds, side by side, and ranks them by their score on "
                 "the validation rows; test scores are shown beside it, with the gain of the best "
                 "fusion over the best single modality. A trial that fails costs only itself.",
        .example = "  mmfuse compare digits.npz --seeds 5 --train-per-class 10\n"
                   "  mmfuse compare digits.npz --models joint-concat,tfn,lmf,late-mean "
                   "--epochs 30 --json",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 1,
        .max_args = 1,
    };
    run.command = cli_quote_command(argc, argv);
    opt_args args = {0};
    mmf_split_options split;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON)
        code = check_values(&run);
    if (code == OPT_GO_ON)
        code = cli_split_options("compare", &run.split, &split);
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code == OPT_GO_ON) {
        run.path = args.items[0];
        if (!run.values.folder) {
            default_folder(run.path, run.folder, sizeof run.folder);
            run.values.folder = run.folder;
        }
        if (!run.values.report) {
            snprintf(run.report, sizeof run.report, "%s/report.html", run.values.folder);
            run.values.report = run.report;
        } else if (!out_can_write(run.values.report)) {
            free(run.command);
            return cli_end(&run.session, CLI_FAILED);
        }
        code = cli_end(&run.session, compare(&run, &split));
    }
    free(run.command);
    return code;
}
