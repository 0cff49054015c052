/* cmd_bench.c: training steps and latency of models, and single operations, on random data. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalogue_text.h"
#include "data_options.h"
#include "output.h"

typedef struct bench_values {
    bool ops;
    const char *data;
    int64_t batch, scale;
    double seconds;
} bench_values;

static const opt_row bench_rows[] = {
    {"ops", 0, OPT_FLAG, offsetof(bench_values, ops), NULL, 0, 0, NULL,
     "measure operations instead of models"},
    {"data", 0, OPT_TEXT, offsetof(bench_values, data), "FILE", 0, 0, NULL,
     "take the shapes and the task of this file (default: the schemas pooled and sequence)"},
    {"batch", 0, OPT_INT, offsetof(bench_values, batch), "N", 1, 1e6, NULL,
     "rows in one step (default: 32)"},
    {"scale", 0, OPT_INT, offsetof(bench_values, scale), "N", 1, 4096, NULL,
     "size of the operands of operations (default: 64)"},
    {"seconds", 0, OPT_REAL, offsetof(bench_values, seconds), "X", 0.001, 3600, NULL,
     "how long to measure each (default: 0.5)"},
    {0},
};

/* Shapes to measure on. */
typedef struct bench_schema {
    const char *name;
    mmf_schema schema;
    mmf_task task;
    bool for_the_rest; /* models that take a schema before it are not measured on it */
} bench_schema;

typedef struct bench_run {
    bench_values values;
    cli_data data;
    cli_common common;
    cli_session session;
    out_progress progress;
    json_t *models, *operations;
    out_table table;
} bench_run;

static json_t *timing_json(const mmf_timing *timing)
{
    json_t *const object = json_object();
    json_object_set_new(object, "best", out_json_number(timing->best));
    json_object_set_new(object, "median", out_json_number(timing->median));
    json_object_set_new(object, "n", json_integer(timing->n_runs));
    return object;
}

static void timing_cells(out_table *table, const mmf_timing *timing)
{
    char text[32];
    out_cell(table, "%s", out_duration_text(text, sizeof text, timing->best));
    out_cell(table, "%s", out_duration_text(text, sizeof text, timing->median));
}

/* ---- Models ------------------------------------------------------------------------------ */

/* Models of one or two modalities take the first. */
static bench_schema sized_for(const bench_schema *schema, const mmf_def *def)
{
    bench_schema on = *schema;
    const size_t most = def->takes & MMF_ONE_ONLY   ? 1
                        : def->takes & MMF_TWO_ONLY ? 2
                                                    : on.schema.count;
    on.schema.count = most < on.schema.count ? most : on.schema.count;
    return on;
}

static mmf_status bench_one(bench_run *run, const mmf_def *def, const bench_schema *on)
{
    mmf_model_cost cost = {0};
    json_t *const row = json_object();
    out_progress_show(&run->progress, -1, "%s on %s", def->name, on->name);
    const mmf_status status = mmf_bench_model(run->session.ctx, def, NULL, &on->schema, &on->task,
                                              run->values.batch, run->values.seconds, &cost);
    json_object_set_new(row, "model", out_json_text(def->name));
    json_object_set_new(row, "schema", out_json_text(on->name));
    json_object_set_new(row, "batch", json_integer(run->values.batch));
    if (status == MMF_OK) {
        json_object_set_new(row, "step", timing_json(&cost.step));
        json_object_set_new(row, "latency", timing_json(&cost.latency));
        json_object_set_new(row, "parameters", json_integer(cost.n_parameters));
        json_object_set_new(row, "flops", out_json_number(cost.flops));
        out_cell(&run->table, "%s", def->name);
        out_cell(&run->table, "%s", on->name);
        timing_cells(&run->table, &cost.step);
        timing_cells(&run->table, &cost.latency);
        out_cell(&run->table, "%lld", (long long)cost.n_parameters);
        out_cell(&run->table, "%.3f", cost.flops * 1e-6);
    } else {
        json_object_set_new(row, "error", out_json_text(mmf_ctx_error(run->session.ctx)));
    }
    json_array_append_new(run->models, row);
    return status;
}

/* Does a model take one of the first `n` schemas that are for all? */
static bool takes_one_of(const mmf_def *def, const bench_schema *schemas, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bench_schema on = sized_for(&schemas[i], def);
        mmf_refusal room;
        if (!on.for_the_rest && (!mmf_model_refusal(def, &on.schema, on.task.kind, &room) ||
                                 !mmf_model_refusal(def, &on.schema, MMF_TARGET_CLASS, &room)))
            return true;
    }
    return false;
}

static int bench_models(bench_run *run, const mmf_def *only, const bench_schema *schemas,
                        size_t n_schemas)
{
    size_t n = 0;
    mmf_refusal room;       /* of the last one asked: of `only`, where it is kept */
    const char *why = NULL; /* the model asked for is not measured */
    const mmf_def *const *const defs = mmf_catalogue(MMF_KIND_MODEL, &n);
    const char *const head[] = {"model",        "schema", "step best",  "median",
                                "latency best", "median", "parameters", "MFLOP"};
    run->table = out_table_make(8, "llr");
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        out_cell(&run->table, "%s", head[i]);
    for (size_t s = 0; s < n_schemas; s++) {
        for (size_t i = 0; i < n; i++) {
            bench_schema on = run->values.data ? schemas[s] : sized_for(&schemas[s], defs[i]);
            if (only && defs[i] != only)
                continue;
            const char *refusal = mmf_model_refusal(defs[i], &on.schema, on.task.kind, &room);
            if (refusal && !run->values.data) { /* some models only choose among classes */
                on.task = (mmf_task){.kind = MMF_TARGET_CLASS, .n_outputs = 4, .target = "label"};
                refusal = mmf_model_refusal(defs[i], &on.schema, on.task.kind, &room);
            }
            if (refusal || (on.for_the_rest && takes_one_of(defs[i], schemas, s))) {
                why = only && refusal ? refusal : why;
                continue;
            }
            const mmf_status status = bench_one(run, defs[i], &on);
            if (status == MMF_CANCELLED)
                return cli_failed(&run->session, status);
            if (status != MMF_OK) {
                out_progress_clear(&run->progress);
                cli_say("mmfuse: %s on %s: %s", defs[i]->name, on.name,
                        mmf_ctx_error(run->session.ctx));
            }
        }
    }
    out_progress_clear(&run->progress);
    if (json_array_size(run->models) == 0)
        return why ? cli_error("%s: %s", only->name, why)
                   : cli_error("no model can be measured on these shapes");
    return OPT_GO_ON;
}

static int bench_data(bench_run *run, const mmf_def *only)
{
    mmf_dataset *dataset = NULL;
    const int code = cli_open_data(&run->session, &dataset, run->values.data, &run->data);
    if (code != OPT_GO_ON)
        return code;
    mmf_task task = {0};
    mmf_status status = mmf_task_of(run->session.ctx, &task, dataset, MMF_MSA_NONE);
    if (status != MMF_OK) {
        mmf_dataset_close(dataset);
        return cli_failed(&run->session, status);
    }
    const size_t n = mmf_dataset_n_modalities(dataset);
    mmf_input_schema *const inputs = out_alloc(n, sizeof *inputs);
    for (size_t m = 0; m < n; m++) {
        const mmf_modality *const from = mmf_dataset_modality(dataset, m);
        inputs[m] = (mmf_input_schema){.name = from->name,
                                       .kind = from->kind,
                                       .n_dims = from->n_dims,
                                       .vocab_size = from->vocab_size,
                                       .has_length = from->has_length,
                                       .has_present = from->has_present};
        memcpy(inputs[m].shape, from->shape, sizeof inputs[m].shape);
    }
    const bench_schema on = {"data", {n, inputs}, task, false};
    const int done = bench_models(run, only, &on, 1);
    free(inputs);
    mmf_free(run->session.ctx, (void *)(uintptr_t)task.class_names);
    mmf_dataset_close(dataset);
    return done;
}

/* The two sets of shapes of docs/performance.md, and some for models that need tokens or inputs of
 * their own: words in a picture, two brains of 84 regions in three views. */
static int bench_standard(bench_run *run, const mmf_def *only)
{
    mmf_input_schema pooled[] = {
        {.name = "text", .kind = MMF_VECTOR, .n_dims = 1, .shape = {768}},
        {.name = "audio", .kind = MMF_VECTOR, .n_dims = 1, .shape = {74}},
        {.name = "vision", .kind = MMF_VECTOR, .n_dims = 1, .shape = {35}},
    };
    mmf_input_schema sequence[] = {
        {.name = "text", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {50, 768}},
        {.name = "audio", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {50, 5}},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {50, 20}},
    };
    const mmf_input_schema text = {
        .name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {50}, .vocab_size = 30522};
    mmf_input_schema tokens[] = {text, sequence[2], sequence[1]};
    mmf_input_schema regions[] = {
        text, {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {36, 2048}}};
    mmf_input_schema picture[] = {
        text, {.name = "vision", .kind = MMF_IMAGE, .n_dims = 3, .shape = {3, 64, 64}}};
    mmf_input_schema scene[] = {
        {.name = "question", .kind = MMF_VECTOR, .n_dims = 1, .shape = {300}},
        {.name = "token", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {20, 300}},
        {.name = "token_box", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {20, 4}},
        {.name = "number", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {20, 2}},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {36, 2048}},
        {.name = "vision_box", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {36, 4}},
    };
    mmf_input_schema views[7] = {
        {.name = "coordinates", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {84, 3}}};
    static const char *const sides[] = {"view1_a", "view1_b", "view2_a",
                                        "view2_b", "view3_a", "view3_b"};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        views[1 + i] = (mmf_input_schema){
            .name = sides[i], .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {84, 84}};
    const mmf_task task = {.kind = MMF_TARGET_REAL, .n_outputs = 1, .target = "label"};
    const mmf_task words = {.kind = MMF_TARGET_CLASS, .n_outputs = 100 + 20, .target = "label"};
    const bench_schema schemas[] = {
        {"pooled", {3, pooled}, task, false},  {"sequence", {3, sequence}, task, false},
        {"tokens", {3, tokens}, task, true},   {"regions", {2, regions}, task, true},
        {"picture", {2, picture}, task, true}, {"scene", {6, scene}, words, true},
        {"views", {7, views}, task, true},
    };
    return bench_models(run, only, schemas, sizeof schemas / sizeof *schemas);
}

/* ---- Operations -------------------------------------------------------------------------- */

static int bench_operations(bench_run *run)
{
    mmf_bench_op op;
    run->table = out_table_make(4, "lr");
    out_cell(&run->table, "operation");
    out_cell(&run->table, "best");
    out_cell(&run->table, "median");
    out_cell(&run->table, "GFLOP/s forward");
    for (size_t i = 0;
         mmf_bench_operation(run->session.ctx, i, run->values.scale, run->values.seconds, &op);
         i++) {
        if (mmf_ctx_cancelled(run->session.ctx))
            return CLI_INTERRUPTED;
        out_progress_show(&run->progress, -1, "%s", op.name);
        json_t *const row = json_object();
        json_object_set_new(row, "operation", out_json_text(op.name));
        json_object_set_new(row, "scale", json_integer(run->values.scale));
        json_object_set_new(row, "forward_backward", timing_json(&op.forward_backward));
        json_object_set_new(row, "flops", out_json_number(op.flops));
        json_array_append_new(run->operations, row);
        out_cell(&run->table, "%s", op.name);
        timing_cells(&run->table, &op.forward_backward);
        if (op.flops > 0)
            out_cell(&run->table, "%.2f", op.flops / op.forward_backward.best * 1e-9);
        else
            out_cell(&run->table, "%s", "");
    }
    out_progress_clear(&run->progress);
    return OPT_GO_ON;
}

/* ---- The verb ---------------------------------------------------------------------------- */

static int bench(bench_run *run, const mmf_def *only)
{
    run->progress = out_progress_make();
    run->models = json_array();
    run->operations = json_array();
    int code = run->values.ops    ? bench_operations(run)
               : run->values.data ? bench_data(run, only)
                                  : bench_standard(run, only);
    if (code == OPT_GO_ON && run->common.json) {
        json_t *const object = json_object();
        json_object_set(object, "models", run->models);
        json_object_set(object, "operations", run->operations);
        json_object_set_new(object, "threads", json_integer(mmf_ctx_threads(run->session.ctx)));
        out_json_print(object);
        code = CLI_OK;
    } else if (code == OPT_GO_ON) {
        out_table_print(&run->table, stdout, 0);
        code = CLI_OK;
    }
    json_decref(run->models);
    json_decref(run->operations);
    out_table_clear(&run->table);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    bench_run run = {.values = {.batch = 32, .scale = 64, .seconds = 0.5}};
    const opt_group groups[] = {
        {"What to measure", bench_rows, &run.values},
        {"Data, with --data", cli_data_rows, &run.data},
        {"Raw files", cli_prepare_rows, &run.data.prepare},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "bench",
        .synopsis = "[MODEL] [--ops] [options]",
        .about =
            "Times a training step (forward, backward, Adam) and the latency of one sample in "
            "a running process, for one model or all, on random data of two sets of shapes: "
            "pooled (text 768, audio 74, vision 35) and sequence (text 50x768, audio 50x5, "
            "vision 50x20); models of two modalities take the first two. Models that take neither "
            "are timed on a text of 50 tokens beside vision 50x20 and audio 50x5 (tokens), "
            "vision 36x2048 (regions), a picture of 64 x 64, a scene with 20 words and 36 regions, "
            "or three views of pairs of 84 regions. MFLOP counts the "
            "matrix products of one prediction, in millions. With --ops, forward "
            "and backward of every operation.",
        .example = "  mmfuse bench lmf --threads 2\n"
                   "  mmfuse bench --ops --json",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .max_args = 1,
    };
    opt_args args = {0};
    const mmf_def *only = NULL;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && args.count && run.values.ops)
        code = opt_misuse("bench", "--ops takes no model");
    if (code == OPT_GO_ON && args.count && !(only = cli_find_model("bench", args.items[0])))
        code = CLI_USAGE;
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code != OPT_GO_ON)
        return code;
    cli_catch_interrupt(&run.session);
    return cli_end(&run.session, bench(&run, only));
}
