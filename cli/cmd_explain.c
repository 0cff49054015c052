/* cmd_explain.c: what each modality contributes to a trained model, what breaks it, and where it is
 * wrong. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explain_text.h"
#include "model_rows.h"
#include "output.h"
#include "report_file.h"

typedef struct explain_values {
    const char *data, *part, *noise, *against, *report;
    int64_t draws, orders, seed;
} explain_values;

static const opt_row explain_rows[] = {
    {"data", 0, OPT_TEXT, offsetof(explain_values, data), "FILE", 0, 0, NULL,
     "the data, if it is not the second word"},
    {"part", 0, OPT_CHOICE, offsetof(explain_values, part), NULL, 0, 0, "test|valid|train|all",
     "rows to look at (default: test)"},
    {"report", 0, OPT_TEXT, offsetof(explain_values, report), "FILE.html", 0, 0, NULL,
     "also write a report with plots: one HTML file that needs nothing else"},
    {"noise", 0, OPT_TEXT, offsetof(explain_values, noise), "a,b", 0, 0, NULL,
     "of gaussian, entry-drop, step-drop and modality-drop; or none (default: all)"},
    {"draws", 0, OPT_INT, offsetof(explain_values, draws), "N", 1, 1000, NULL,
     "draws of noise at each level (default: 3)"},
    {"against", 0, OPT_TEXT, offsetof(explain_values, against), "LATE.mmf", 0, 0, NULL,
     "a late-fusion model of the same modalities: effective robustness is measured against it"},
    {"orders", 0, OPT_INT, offsetof(explain_values, orders), "N", 2, 1000000, NULL,
     "orders drawn for contributions of more than 6 modalities (default: 64)"},
    {"seed", 0, OPT_INT, offsetof(explain_values, seed), "N", 0, 9e15, NULL,
     "seed of noise and orders (default: 0)"},
    {0},
};

typedef struct explain_run {
    explain_values values;
    cli_data data;
    cli_split split;
    cli_common common;
    cli_session session;
    const char *model_path, *path;
    mmf_model *model, *against;
    mmf_dataset *dataset;
    cli_rows rows, train;
    out_progress progress;
} explain_run;

static void watch(void *user, const char *what, size_t n_done, size_t n_passes)
{
    explain_run *const run = user;
    out_progress_show(&run->progress, (double)n_done / (double)n_passes, "%s: pass %zu of %zu",
                      what, n_done + 1, n_passes);
}

static int print_result(explain_run *run, const char *json)
{
    if (run->common.json) {
        fputs(json, stdout);
        putchar('\n');
    } else {
        json_t *const explanation = json_loads(json, 0, NULL);
        cli_say("%s on %lld %s rows of %s", mmf_model_name(run->model), (long long)run->rows.count,
                run->rows.part, run->path);
        explain_text_print(explanation);
        json_decref(explanation);
    }
    if (!run->values.report)
        return CLI_OK;
    const int code = cli_write_report(&run->session, run->values.report, json);
    if (code == CLI_OK)
        cli_say("the report is %s", run->values.report);
    return code;
}

static int explain(explain_run *run)
{
    mmf_explain_options options = MMF_EXPLAIN_OPTIONS_INIT;
    options.seed = (uint64_t)run->values.seed;
    options.n_draws = run->values.draws;
    options.n_orders = run->values.orders;
    options.noise = run->values.noise;
    options.against = run->against;
    options.rules = cli_msa_rules(&run->data);
    options.watch = watch;
    options.watch_user = run;
    const mmf_explain_rows rows = {.part = run->rows.part,
                                   .rows = run->rows.rows,
                                   .n = run->rows.count,
                                   .train = run->train.rows,
                                   .n_train = run->train.count};
    char *json = NULL;
    run->progress = out_progress_make();
    const mmf_status status =
        mmf_explain(run->session.ctx, &json, run->model, run->dataset, &rows, &options);
    out_progress_clear(&run->progress);
    if (status != MMF_OK)
        return cli_refused(&run->session, status);
    const int code = print_result(run, json);
    mmf_free(run->session.ctx, json);
    return code;
}

static int prepare(explain_run *run)
{
    int code = cli_load_model(&run->session, &run->model, run->model_path);
    if (code == OPT_GO_ON && run->values.against)
        code = cli_load_model(&run->session, &run->against, run->values.against);
    if (code == OPT_GO_ON)
        code = cli_open_for_model(&run->session, &run->dataset, run->model, run->path, &run->data);
    if (code != OPT_GO_ON)
        return code;
    if (mmf_dataset_target_kind(run->dataset) == MMF_TARGET_NONE)
        return cli_error("%s has no target \"%s\" to score against; name it with --target NAME",
                         run->path,
                         run->data.target ? run->data.target : mmf_model_task(run->model)->target);
    if (run->values.report && !out_can_write(run->values.report))
        return CLI_FAILED;
    code = cli_choose_rows(&run->session, "explain", run->model, run->dataset,
                           run->values.part ? run->values.part : "test", &run->split, &run->rows);
    if (code == OPT_GO_ON && strcmp(run->rows.part, "all") != 0)
        code = cli_training_rows(&run->session, "explain", run->model, run->dataset, &run->split,
                                 &run->train);
    return code;
}

static int find_data(explain_run *run, const opt_args *args)
{
    if (args->count == 2 && run->values.data)
        return opt_misuse("explain", "the data stand twice: %s and --data %s", args->items[1],
                          run->values.data);
    if (args->count == 1 && !run->values.data)
        return opt_misuse("explain", "there is no data file behind the model");
    run->model_path = args->items[0];
    run->path = run->values.data ? run->values.data : args->items[1];
    return OPT_GO_ON;
}

int cmd_explain(int argc, char **argv)
{
    explain_run run = {0};
    const opt_group groups[] = {
        {"What to look at", explain_rows, &run.values},   {"Data", cli_data_rows, &run.data},
        {"Raw files", cli_cache_rows, &run.data.prepare}, {"Parts", cli_split_rows, &run.split},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "explain",
        .synopsis = "MODEL.mmf FILE [options]",
        .about =
            "Says how a trained model comes to its predictions: what each modality adds (Shapley "
            "values of the main metric over subsets of modalities), what the model attends to, how "
            "its score falls under rising noise, and which classes it confuses.",
        .example = "  mmfuse explain digits.mmf digits.npz --report digits.html\n"
                   "  mmfuse explain digits.mmf --data digits.npz --noise gaussian --json",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 1,
        .max_args = 2,
    };
    opt_args args = {0};
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON)
        code = find_data(&run, &args);
    if (code == OPT_GO_ON && run.data.modalities)
        code = opt_misuse("explain", "--modalities has no meaning here: every subset is looked at");
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code != OPT_GO_ON)
        return code;
    cli_catch_interrupt(&run.session);
    code = prepare(&run);
    if (code == OPT_GO_ON)
        code = explain(&run);
    cli_rows_clear(&run.session, &run.rows);
    cli_rows_clear(&run.session, &run.train);
    mmf_dataset_close(run.dataset);
    mmf_model_free(run.against);
    mmf_model_free(run.model);
    return cli_end(&run.session, code);
}
