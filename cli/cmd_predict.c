/* cmd_predict.c: predictions for the rows of a file, or for samples as JSON on standard input. */
#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_rows.h"
#include "output.h"

#define CHUNK_ROWS 1024
#define MAX_ID_BYTES 512
#define MAX_SAMPLE_BYTES ((size_t)1 << 30)
#define LIKELY 0.5
/* Samples without an answer that are named one by one. */
#define MAX_NAMED 5

typedef struct predict_values {
    const char *part, *format, *out;
    bool int8;
} predict_values;

static const opt_row predict_rows[] = {
    {"format", 0, OPT_CHOICE, offsetof(predict_values, format), NULL, 0, 0, "csv|json",
     "of what is written (default: csv)"},
    {"out", 'o', OPT_TEXT, offsetof(predict_values, out), "FILE", 0, 0, NULL,
     "write there instead of to standard output"},
    {"part", 0, OPT_CHOICE, offsetof(predict_values, part), NULL, 0, 0, "test|valid|train|all",
     "rows to predict (default: all)"},
    {"int8", 0, OPT_FLAG, offsetof(predict_values, int8), NULL, 0, 0, NULL,
     "large linear layers, such as BERT's, in eight bits: faster on processors that multiply "
     "bytes, and nearly the same"},
    {0},
};

typedef struct predict_run {
    predict_values values;
    cli_data data;
    cli_split split;
    cli_common common;
    cli_session session;
    const char *path;
    mmf_model *model;
    mmf_dataset *dataset;
    cli_rows rows;
    uint64_t use;
    out_file out;
    int64_t n_written, n_unanswered;
} predict_run;

static bool is_json(const predict_run *run)
{
    return run->common.json || (run->values.format && strcmp(run->values.format, "json") == 0);
}

/* ---- One prediction ---------------------------------------------------------------------- */

/* A CSV cell with quotes where commas, quotes or line ends need them. */
static void write_cell(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static int64_t largest(const double *values, int64_t n)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = values[k] > values[best] ? k : best;
    return best;
}

/* Retrieval: the features of each modality, "<modality>.<number>". */
static void write_feature_head(const predict_run *run)
{
    const mmf_schema *const inputs = mmf_model_inputs(run->model);
    const int64_t width = mmf_model_task(run->model)->n_outputs / (int64_t)inputs->count;
    fputs("id", run->out.file);
    for (size_t m = 0; m < inputs->count; m++) {
        for (int64_t k = 0; k < width; k++) {
            char name[MAX_ID_BYTES];
            snprintf(name, sizeof name, "%s.%lld", inputs->inputs[m].name, (long long)k);
            fputc(',', run->out.file);
            write_cell(run->out.file, name);
        }
    }
    fputc('\n', run->out.file);
}

static json_t *features_json(const predict_run *run, const double *values)
{
    const mmf_schema *const inputs = mmf_model_inputs(run->model);
    const int64_t width = mmf_model_task(run->model)->n_outputs / (int64_t)inputs->count;
    json_t *const object = json_object();
    for (size_t m = 0; m < inputs->count; m++) {
        json_t *const list = json_array();
        for (int64_t k = 0; k < width; k++)
            json_array_append_new(list, out_json_number(values[(int64_t)m * width + k]));
        json_object_set_new(object, inputs->inputs[m].name, list);
    }
    return object;
}

static void write_csv_head(const predict_run *run)
{
    const mmf_task *const task = mmf_model_task(run->model);
    FILE *const file = run->out.file;
    if (task->kind == MMF_TARGET_RETRIEVAL) {
        write_feature_head(run);
        return;
    }
    fputs("id,prediction", file);
    for (int64_t k = 0; task->kind != MMF_TARGET_REAL && k < task->n_outputs; k++) {
        char name[32];
        fputc(',', file);
        write_cell(file, cli_class_name(task, k, name, sizeof name));
    }
    fputc('\n', file);
}

/* Labels joined by "|". The caller frees it. */
static char *labels_text(const mmf_task *task, const double *values)
{
    char *const text = out_alloc((size_t)task->n_outputs, MAX_ID_BYTES);
    char name[32];
    for (int64_t k = 0; k < task->n_outputs; k++) {
        if (values[k] < LIKELY)
            continue;
        const size_t used = strlen(text);
        snprintf(text + used, (size_t)task->n_outputs * MAX_ID_BYTES - used, "%s%s",
                 used ? "|" : "", cli_class_name(task, k, name, sizeof name));
    }
    return text;
}

/* The cell after the id, of classes and labels. */
static void write_choice(FILE *file, const mmf_task *task, const double *values)
{
    char name[32];
    fputc(',', file);
    if (mmf_task_first_unanswered(task, values, 1) == 0)
        return;
    if (task->kind == MMF_TARGET_MULTILABEL) {
        char *const text = labels_text(task, values);
        write_cell(file, text);
        free(text);
    } else {
        write_cell(file, cli_class_name(task, largest(values, task->n_outputs), name, sizeof name));
    }
}

/* What is not a number is an empty cell. */
static void write_csv(const predict_run *run, const char *id, const double *values)
{
    const mmf_task *const task = mmf_model_task(run->model);
    FILE *const file = run->out.file;
    write_cell(file, id);
    if (task->kind != MMF_TARGET_REAL && task->kind != MMF_TARGET_RETRIEVAL)
        write_choice(file, task, values);
    for (int64_t k = 0; k < (task->kind == MMF_TARGET_REAL ? 1 : task->n_outputs); k++) {
        fputc(',', file);
        if (isfinite(values[k]))
            fprintf(file, "%.9g", values[k]);
    }
    fputc('\n', file);
}

/* Class names as they are; numbers of classes without names stay numbers. */
static json_t *class_json(const mmf_task *task, int64_t k)
{
    return task->class_names ? out_json_text(task->class_names[k]) : json_integer(k);
}

/* The class, the labels, or null where there is no answer. */
static json_t *choice_json(const mmf_task *task, const double *values)
{
    if (mmf_task_first_unanswered(task, values, 1) == 0)
        return json_null();
    if (task->kind != MMF_TARGET_MULTILABEL)
        return class_json(task, largest(values, task->n_outputs));
    json_t *const labels = json_array();
    for (int64_t k = 0; k < task->n_outputs; k++) {
        if (values[k] >= LIKELY)
            json_array_append_new(labels, class_json(task, k));
    }
    return labels;
}

static void write_json(const predict_run *run, const char *id, const double *values)
{
    const mmf_task *const task = mmf_model_task(run->model);
    json_t *const object = json_object();
    json_object_set_new(object, "id", out_json_text(id));
    if (task->kind == MMF_TARGET_REAL) {
        json_object_set_new(object, "prediction", out_json_number(values[0]));
    } else if (task->kind == MMF_TARGET_RETRIEVAL) {
        json_object_set_new(object, "features", features_json(run, values));
    } else {
        json_t *const probabilities = json_object();
        char name[32];
        for (int64_t k = 0; k < task->n_outputs; k++)
            json_object_set_new(probabilities, cli_class_name(task, k, name, sizeof name),
                                out_json_number(values[k]));
        json_object_set_new(object, "prediction", choice_json(task, values));
        json_object_set_new(object, "probabilities", probabilities);
    }
    json_dumpf(object, run->out.file, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
}

static void write_answer(predict_run *run, const char *id, const double *values)
{
    if (mmf_task_first_unanswered(mmf_model_task(run->model), values, 1) == 0 &&
        run->n_unanswered++ < MAX_NAMED)
        cli_say("sample %lld (id %s) has no answer: the model's outputs are not numbers; its "
                "features may be far outside those of training",
                (long long)run->n_written, id);
    (is_json(run) ? write_json : write_csv)(run, id, values);
    run->n_written++;
}

/* ---- A file ------------------------------------------------------------------------------ */

static mmf_status predict_chunks(predict_run *run, double *values)
{
    const int64_t n_outputs = mmf_model_task(run->model)->n_outputs;
    for (int64_t first = 0; first < run->rows.count; first += CHUNK_ROWS) {
        const int64_t left = run->rows.count - first;
        const int64_t n = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        MMF_TRY(mmf_model_predict_rows(run->model, run->dataset, run->rows.rows + first, n,
                                       run->use, values));
        for (int64_t i = 0; i < n; i++) {
            char id[MAX_ID_BYTES];
            mmf_dataset_id(run->dataset, run->rows.rows[first + i], id, sizeof id);
            if (is_json(run))
                fputs(run->n_written ? ",\n" : "\n", run->out.file);
            write_answer(run, id, values + i * n_outputs);
        }
    }
    return MMF_OK;
}

static int predict_file(predict_run *run)
{
    int code = cli_open_for_model(&run->session, &run->dataset, run->model, run->path, &run->data);
    if (code == OPT_GO_ON)
        code =
            cli_choose_rows(&run->session, "predict", run->model, run->dataset,
                            run->values.part ? run->values.part : "all", &run->split, &run->rows);
    if (code != OPT_GO_ON)
        return code;
    double *const values =
        mmf_alloc_zero(run->session.ctx, (size_t)mmf_model_task(run->model)->n_outputs,
                       CHUNK_ROWS * sizeof *values);
    if (!values)
        return cli_failed(&run->session, MMF_NOMEM);
    if (is_json(run))
        fputs("{\"predictions\": [", run->out.file);
    else
        write_csv_head(run);
    const mmf_status status = predict_chunks(run, values);
    if (status == MMF_OK && is_json(run))
        fputs("\n]}\n", run->out.file);
    mmf_free(run->session.ctx, values);
    return status == MMF_OK ? CLI_OK : cli_failed(&run->session, status);
}

/* ---- Standard input ---------------------------------------------------------------------- */

typedef struct sample_reader {
    char *text;
    size_t length, capacity;
    int64_t line, first_line; /* of the object being read */
} sample_reader;

static void keep_byte(sample_reader *reader, int c)
{
    if (reader->length + 1 >= reader->capacity) {
        const size_t capacity = reader->capacity ? 2 * reader->capacity : 4096;
        char *const text = out_alloc(capacity, 1);
        if (reader->text)
            memcpy(text, reader->text, reader->length);
        free(reader->text);
        reader->text = text;
        reader->capacity = capacity;
    }
    reader->text[reader->length++] = (char)c;
}

/*
 * Reads one JSON object, on one line or several, by counting brackets outside strings; whether it
 * is JSON is for the parser to say. @return 1 an object, 0 the end, -1 after a message
 */
static int read_object(sample_reader *reader, FILE *file)
{
    int64_t depth = 0;
    bool in_string = false, escaped = false;
    reader->length = 0;
    for (int c = getc(file); c != EOF; c = getc(file)) {
        reader->line += c == '\n';
        if (reader->length == 0) {
            if (isspace(c))
                continue;
            reader->first_line = reader->line + 1;
            if (c != '{') {
                cli_error("standard input, line %lld: expected a JSON object, found '%c'",
                          (long long)reader->first_line, isprint(c) ? c : '?');
                return -1;
            }
        }
        if (reader->length >= MAX_SAMPLE_BYTES) {
            cli_error("standard input, line %lld: a sample larger than 1 GiB",
                      (long long)reader->first_line);
            return -1;
        }
        keep_byte(reader, c);
        if (in_string) {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth <= 0) {
            return 1;
        }
    }
    if (reader->length == 0)
        return 0;
    cli_error("standard input, line %lld: the JSON object does not end",
              (long long)reader->first_line);
    return -1;
}

static int predict_samples(predict_run *run)
{
    sample_reader reader = {0};
    double *const values = out_alloc((size_t)mmf_model_task(run->model)->n_outputs, sizeof *values);
    int code = CLI_OK;
    int found = 0;
    if (!is_json(run))
        write_csv_head(run);
    while (code == CLI_OK && (found = read_object(&reader, stdin)) > 0) {
        char id[MAX_ID_BYTES] = "";
        mmf_status status =
            mmf_model_predict_json(run->model, reader.text, reader.length, values, id, sizeof id);
        if (status != MMF_OK) {
            status = mmf_fail_within(run->session.ctx, status,
                                     "standard input, line %lld: ", (long long)reader.first_line);
            code = cli_failed(&run->session, status);
            break;
        }
        if (!*id)
            snprintf(id, sizeof id, "%lld", (long long)run->n_written);
        write_answer(run, id, values);
        if (is_json(run))
            fputc('\n', run->out.file);
        fflush(run->out.file); /* whoever feeds us samples waits for each answer */
    }
    if (code == CLI_OK && found < 0)
        code = CLI_FAILED;
    if (code == CLI_OK && ferror(stdin))
        code = cli_error("standard input: cannot read");
    if (code == CLI_OK && run->n_written == 0)
        code = cli_error("standard input: there is no sample");
    free(values);
    free(reader.text);
    return code;
}

/* ---- The verb ---------------------------------------------------------------------------- */

static int predict(predict_run *run, const char *model_path)
{
    int code = cli_load_model(&run->session, &run->model, model_path);
    if (code == OPT_GO_ON)
        mmf_model_set_int8(run->model, run->values.int8);
    if (code == OPT_GO_ON)
        code = cli_use_bits("predict", run->model, run->data.modalities, &run->use);
    if (code != OPT_GO_ON)
        return code;
    if (mmf_model_task(run->model)->kind == MMF_TARGET_PRETRAINING)
        return cli_error("%s is pre-trained and predicts nothing yet: train it on a target with "
                         "--weights %s",
                         model_path, model_path);
    if (!out_file_open(&run->out, run->values.out))
        return CLI_FAILED;
    code = strcmp(run->path, "-") == 0 ? predict_samples(run) : predict_file(run);
    if (run->n_unanswered > MAX_NAMED)
        cli_say("%lld of %lld samples have no answer", (long long)run->n_unanswered,
                (long long)run->n_written);
    if (!out_file_close(&run->out, code == CLI_OK) && code == CLI_OK)
        code = CLI_FAILED;
    return code;
}

int cmd_predict(int argc, char **argv)
{
    predict_run run = {0};
    const opt_group groups[] = {
        {"What to write", predict_rows, &run.values},     {"Data", cli_data_rows, &run.data},
        {"Raw files", cli_cache_rows, &run.data.prepare}, {"Parts", cli_split_rows, &run.split},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "predict",
        .synopsis = "MODEL.mmf FILE|- [options]",
        .about = "Predicts the rows of a data file, or samples given as JSON objects on standard "
                 "input (FILE is -): {\"audio\": [[...], ...], \"text\": null, \"id\": \"a\"}, "
                 "one answer a sample. The target is not needed. A model for retrieval gives the "
                 "features of each modality.",
        .example = "  mmfuse predict digits.mmf new.npz -o new.csv\n"
                   "  mmfuse predict mood.mmf - --format json < sample.json",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 2,
        .max_args = 2,
    };
    opt_args args = {0};
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && strcmp(args.items[1], "-") == 0 &&
        (run.data.modalities || run.values.part))
        code = opt_misuse("predict", "--modalities and --part choose from a file; in a JSON "
                                     "sample leave modalities out, or make them null");
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code != OPT_GO_ON)
        return code;
    run.path = args.items[1];
    cli_catch_interrupt(&run.session);
    code = predict(&run, args.items[0]);
    cli_rows_clear(&run.session, &run.rows);
    mmf_dataset_close(run.dataset);
    mmf_model_free(run.model);
    return cli_end(&run.session, code);
}
