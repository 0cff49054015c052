/* cmd_eval.c: scores a trained model, also for every subset of its modalities. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_rows.h"
#include "output.h"
#include "scoring.h"

#define MAX_COLUMNS 8

typedef struct eval_values {
    const char *part;
    bool subsets, int8;
} eval_values;

static const opt_row eval_rows[] = {
    {"part", 0, OPT_CHOICE, offsetof(eval_values, part), NULL, 0, 0, "test|valid|train|all",
     "rows to score (default: test)"},
    {"subsets", 0, OPT_FLAG, offsetof(eval_values, subsets), NULL, 0, 0, NULL,
     "also score every subset of the modalities, the others taken as absent"},
    {"int8", 0, OPT_FLAG, offsetof(eval_values, int8), NULL, 0, 0, NULL,
     "large linear layers, such as BERT's, in eight bits: faster on processors that multiply "
     "bytes, and nearly the same"},
    {0},
};

typedef struct eval_run {
    eval_values values;
    cli_data data;
    cli_split split;
    cli_common common;
    cli_session session;
    const char *model_path, *path;
    mmf_model *model;
    mmf_dataset *dataset;
    cli_rows rows;
    mmf_task task;
    uint64_t use;
} eval_run;

/* One subset of the modalities and its scores. */
typedef struct subset {
    uint64_t use;
    mmf_metrics metrics;
} subset;

static void subset_text(const mmf_schema *schema, uint64_t use, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t m = 0; m < schema->count; m++) {
        if (!(use >> m & 1))
            continue;
        const int n =
            snprintf(out + used, size - used, "%s%s", used ? " + " : "", schema->inputs[m].name);
        used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
    }
}

static mmf_status score_subsets(eval_run *run, subset *subsets, size_t n)
{
    out_progress progress = out_progress_make();
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < n; i++) {
        out_progress_show(&progress, (double)i / (double)n, "subset %zu of %zu", i + 1, n);
        status = cli_score(run->session.ctx, &subsets[i].metrics, run->model, &run->task,
                           run->dataset, run->rows.rows, run->rows.count, subsets[i].use);
    }
    out_progress_clear(&progress);
    return status;
}

static void print_json(const eval_run *run, const mmf_metrics *metrics, const subset *subsets,
                       size_t n_subsets)
{
    const mmf_schema *const schema = mmf_model_inputs(run->model);
    json_t *const object = json_object();
    json_object_set_new(object, "data", out_json_text(run->path));
    json_object_set_new(object, "model", out_json_text(mmf_model_name(run->model)));
    json_object_set_new(object, "split", out_json_text(run->rows.part));
    json_object_set_new(object, "task", out_json_text(mmf_task_name(run->task.kind)));
    json_object_set_new(object, "n", json_integer(run->rows.count));
    json_object_set_new(object, "metrics", out_json_metrics(metrics));
    if (n_subsets) {
        json_t *const list = json_array();
        for (size_t i = 0; i < n_subsets; i++) {
            json_t *const names = json_array();
            for (size_t m = 0; m < schema->count; m++) {
                if (subsets[i].use >> m & 1)
                    json_array_append_new(names, out_json_text(schema->inputs[m].name));
            }
            json_t *const row = json_object();
            json_object_set_new(row, "modalities", names);
            json_object_set_new(row, "metrics", out_json_metrics(&subsets[i].metrics));
            json_array_append_new(list, row);
        }
        json_object_set_new(object, "subsets", list);
    }
    out_json_print(object);
}

static void print_subsets(const eval_run *run, const subset *subsets, size_t n)
{
    const mmf_metrics *const first = &subsets[0].metrics;
    const size_t n_columns = first->count < MAX_COLUMNS ? first->count : MAX_COLUMNS;
    out_table table = out_table_make(1 + n_columns, "lr");
    out_cell(&table, "modalities");
    for (size_t c = 0; c < n_columns; c++)
        out_cell(&table, "%s", first->items[c].name);
    for (size_t i = 0; i < n; i++) {
        char text[512];
        subset_text(mmf_model_inputs(run->model), subsets[i].use, text, sizeof text);
        out_cell(&table, "%s", text);
        for (size_t c = 0; c < n_columns; c++) {
            const double value = mmf_metrics_get(&subsets[i].metrics, first->items[c].name);
            out_cell(&table, "%s", out_number_text(text, sizeof text, value));
        }
    }
    putchar('\n');
    out_table_print(&table, stdout, 0);
}

static void print_scores(const eval_run *run, const mmf_metrics *metrics, const subset *subsets,
                         size_t n_subsets)
{
    if (run->common.json) {
        print_json(run, metrics, subsets, n_subsets);
        return;
    }
    cli_say("%s on %lld %s rows of %s", mmf_model_name(run->model), (long long)run->rows.count,
            run->rows.part, run->path);
    out_metrics_print(&metrics, &run->rows.part, 1);
    if (n_subsets)
        print_subsets(run, subsets, n_subsets);
}

static int score(eval_run *run)
{
    mmf_metrics metrics;
    uint64_t bits[MMF_SUBSETS_MAX];
    subset *const subsets = out_alloc(MMF_SUBSETS_MAX, sizeof *subsets);
    const size_t n_modalities = mmf_model_inputs(run->model)->count;
    size_t n = 0;
    mmf_status status = cli_score(run->session.ctx, &metrics, run->model, &run->task, run->dataset,
                                  run->rows.rows, run->rows.count, run->use);
    if (status == MMF_OK && run->values.subsets) {
        n = mmf_subsets(n_modalities, bits);
        for (size_t i = 0; i < n; i++)
            subsets[i].use = bits[i];
        status = score_subsets(run, subsets, n);
    }
    if (status == MMF_OK)
        print_scores(run, &metrics, subsets, n);
    free(subsets);
    return status == MMF_OK ? CLI_OK : cli_failed(&run->session, status);
}

static int prepare(eval_run *run)
{
    int code = cli_load_model(&run->session, &run->model, run->model_path);
    if (code == OPT_GO_ON)
        mmf_model_set_int8(run->model, run->values.int8);
    if (code == OPT_GO_ON)
        code = cli_use_bits("eval", run->model, run->data.modalities, &run->use);
    if (code == OPT_GO_ON)
        code = cli_open_for_model(&run->session, &run->dataset, run->model, run->path, &run->data);
    if (code != OPT_GO_ON)
        return code;
    run->task = *mmf_model_task(run->model);
    if (mmf_dataset_target_kind(run->dataset) == MMF_TARGET_NONE)
        return cli_error("%s has no target \"%s\" to score against; use predict, or --target NAME",
                         run->path, run->data.target ? run->data.target : run->task.target);
    if (run->data.metrics)
        run->task.rules = cli_msa_rules(&run->data);
    const uint64_t all = (UINT64_C(1) << mmf_model_inputs(run->model)->count) - 1;
    if (run->task.kind == MMF_TARGET_RETRIEVAL && (run->values.subsets || (run->use & all) != all))
        return cli_error("retrieval ranks one modality by another and needs all that the model "
                         "was trained on; leave --subsets and --modalities out");
    if (run->values.subsets && mmf_model_inputs(run->model)->count > 63)
        return cli_error("--subsets takes at most 63 modalities");
    return cli_choose_rows(&run->session, "eval", run->model, run->dataset,
                           run->values.part ? run->values.part : "test", &run->split, &run->rows);
}

int cmd_eval(int argc, char **argv)
{
    eval_run run = {0};
    const opt_group groups[] = {
        {"What to score", eval_rows, &run.values},        {"Data", cli_data_rows, &run.data},
        {"Raw files", cli_cache_rows, &run.data.prepare}, {"Parts", cli_split_rows, &run.split},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "eval",
        .synopsis = "MODEL.mmf FILE [options]",
        .about = "Scores a trained model on rows of a data file. Where the file has no split, it "
                 "is divided again as when the model was trained. --modalities takes the others "
                 "as absent.",
        .example = "  mmfuse eval digits.mmf digits.npz --subsets",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 2,
        .max_args = 2,
    };
    opt_args args = {0};
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code != OPT_GO_ON)
        return code;
    run.model_path = args.items[0];
    run.path = args.items[1];
    cli_catch_interrupt(&run.session);
    code = prepare(&run);
    if (code == OPT_GO_ON)
        code = score(&run);
    cli_rows_clear(&run.session, &run.rows);
    mmf_dataset_close(run.dataset);
    mmf_model_free(run.model);
    return cli_end(&run.session, code);
}
