/* info_data.c: `info` of a data file: modalities, target, parts, notes, and a first command. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "info.h"
#include "output.h"
#include "scoring.h"

#define BAR_CELLS 24
#define N_BINS 10
#define MAX_SHOWN 60
#define MAX_COMMAND 1024

/* What was found out about the lengths of one modality. */
typedef struct length_facts {
    bool known;
    int64_t shortest, median, longest;
} length_facts;

/* One class, or one bin of a regression target, in the three parts. */
typedef struct target_row {
    char name[96];
    int64_t count[3];
} target_row;

typedef struct data_facts {
    const char *path;
    mmf_archive *archive; /* owned by the data set */
    mmf_dataset *dataset;
    mmf_split parts;
    length_facts *lengths; /* one a modality */
    target_row *rows;
    int64_t n_rows;
    double mean, deviation, least, most; /* of a regression target */
    int64_t n_groups;                    /* -1: none */
    char command[MAX_COMMAND];
} data_facts;

/* ---- Finding out ------------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The numbers of an array of one column, sorted; NULL when it is not there or holds text. */
static double *sorted_column(const data_facts *facts, const char *key, int64_t *n)
{
    mmf_array array = {0};
    const int64_t i = mmf_archive_find(facts->archive, key);
    if (i < 0 || mmf_archive_load(facts->archive, (size_t)i, &array) != MMF_OK ||
        array.dtype == MMF_STR || array.n_dims != 1 || array.shape[0] < 1)
        return NULL;
    *n = array.shape[0];
    double *const values = out_alloc((size_t)*n, sizeof *values);
    mmf_array_doubles(&array, 0, *n, values);
    qsort(values, (size_t)*n, sizeof *values, compare_numbers);
    return values;
}

static void find_lengths(data_facts *facts)
{
    const size_t n_modalities = mmf_dataset_n_modalities(facts->dataset);
    facts->lengths = out_alloc(n_modalities, sizeof *facts->lengths);
    for (size_t m = 0; m < n_modalities; m++) {
        const mmf_modality *const modality = mmf_dataset_modality(facts->dataset, m);
        char key[600];
        int64_t n = 0;
        snprintf(key, sizeof key, "%s.length", modality->name);
        double *const values = modality->has_length ? sorted_column(facts, key, &n) : NULL;
        if (values)
            facts->lengths[m] = (length_facts){true, (int64_t)values[0], (int64_t)values[n / 2],
                                               (int64_t)values[n - 1]};
        free(values);
    }
}

static int compare_cells(const void *a, const void *b, void *width)
{
    return memcmp(a, b, *(const size_t *)width);
}

/* Different values of `group`, whatever its type: equal bytes are the same group. */
static void count_groups(data_facts *facts)
{
    mmf_array array = {0};
    facts->n_groups = -1;
    const int64_t i = mmf_archive_find(facts->archive, "group");
    if (i < 0 || !mmf_dataset_has_group(facts->dataset) ||
        mmf_archive_load(facts->archive, (size_t)i, &array) != MMF_OK || array.n_dims != 1)
        return;
    const size_t n = (size_t)array.shape[0];
    size_t width = array.item_bytes;
    char *const cells = out_alloc(n, width);
    memcpy(cells, array.data, n * width);
    qsort_r(cells, n, width, compare_cells, &width);
    facts->n_groups = n > 0;
    for (size_t k = 1; k < n; k++)
        facts->n_groups += memcmp(cells + k * width, cells + (k - 1) * width, width) != 0;
    free(cells);
}

static void name_class(const data_facts *facts, int64_t k, char *out, size_t size)
{
    const mmf_array names = mmf_dataset_class_names(facts->dataset);
    if (names.n_dims == 0) {
        snprintf(out, size, "%lld", (long long)k);
        return;
    }
    size_t n = 0;
    const char *const text = mmf_array_string(&names, k, &n);
    snprintf(out, size, "%.*s", (int)(n < size - 1 ? n : size - 1), text);
}

/* Calls for each row of each part with its target values. */
static void count_classes(data_facts *facts)
{
    const mmf_target_kind kind = mmf_dataset_target_kind(facts->dataset);
    facts->n_rows = mmf_dataset_n_classes(facts->dataset);
    if (facts->n_rows == 0)
        return;
    facts->rows = out_alloc((size_t)facts->n_rows, sizeof *facts->rows);
    double *const values = out_alloc((size_t)facts->n_rows, sizeof *values);
    for (int64_t k = 0; k < facts->n_rows; k++)
        name_class(facts, k, facts->rows[k].name, sizeof facts->rows[k].name);
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++) {
        for (int64_t i = 0; i < facts->parts.count[p]; i++) {
            mmf_dataset_target(facts->dataset, facts->parts.rows[p][i], values);
            if (kind == MMF_TARGET_CLASS || kind == MMF_TARGET_RETRIEVAL) {
                facts->rows[(int64_t)values[0]].count[p]++;
                continue;
            }
            for (int64_t k = 0; k < facts->n_rows; k++)
                facts->rows[k].count[p] += values[k] >= 0.5;
        }
    }
    free(values);
}

static void count_bins(data_facts *facts)
{
    const int64_t n = mmf_dataset_count(facts->dataset);
    double sum = 0, squares = 0;
    facts->least = HUGE_VAL;
    facts->most = -HUGE_VAL;
    for (int64_t i = 0; i < n; i++) {
        double y = 0;
        mmf_dataset_target(facts->dataset, i, &y);
        sum += y;
        facts->least = y < facts->least ? y : facts->least;
        facts->most = y > facts->most ? y : facts->most;
    }
    facts->mean = sum / (double)n;
    const double width = (facts->most - facts->least) / N_BINS;
    facts->n_rows = width > 0 ? N_BINS : 1;
    facts->rows = out_alloc((size_t)facts->n_rows, sizeof *facts->rows);
    for (int64_t b = 0; b < facts->n_rows; b++)
        snprintf(facts->rows[b].name, sizeof facts->rows[b].name, "%.3g to %.3g",
                 facts->least + width * (double)b, facts->least + width * (double)(b + 1));
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++) {
        for (int64_t i = 0; i < facts->parts.count[p]; i++) {
            double y = 0;
            mmf_dataset_target(facts->dataset, facts->parts.rows[p][i], &y);
            int64_t b = width > 0 ? (int64_t)((y - facts->least) / width) : 0;
            b = b >= facts->n_rows ? facts->n_rows - 1 : b;
            facts->rows[b].count[p]++;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        double y = 0;
        mmf_dataset_target(facts->dataset, i, &y);
        squares += (y - facts->mean) * (y - facts->mean);
    }
    facts->deviation = sqrt(squares / (double)n);
}

static int64_t n_nonfinite(const data_facts *facts)
{
    int64_t n = 0;
    for (size_t m = 0; m < mmf_dataset_n_modalities(facts->dataset); m++) {
        const int64_t found = mmf_dataset_modality(facts->dataset, m)->n_nonfinite;
        n += found > 0 ? found : 0;
    }
    return n;
}

/* A command that works on this file as it is. */
static void first_command(data_facts *facts, const cli_data *data)
{
    char *words[16];
    char compare[] = "compare", train[] = "train", model[] = "--model", out[] = "-o",
         file[] = "model.mmf", zero[] = "zero", nonfinite[] = "--non-finite", seeds[] = "--seeds",
         three[] = "3", only[512], target[512], task[64], modalities[1024], folds[] = "--folds",
         five[] = "5";
    char *path = strdup(facts->path);
    int n = 0;
    const bool single = mmf_dataset_n_modalities(facts->dataset) == 1;
    words[n++] = single ? train : compare;
    words[n++] = path;
    if (single) {
        snprintf(only, sizeof only, "only-%s", mmf_dataset_modality(facts->dataset, 0)->name);
        words[n++] = model;
        words[n++] = only;
        words[n++] = out;
        words[n++] = file;
    } else {
        words[n++] = seeds;
        words[n++] = three;
    }
    if (data->modalities) {
        snprintf(modalities, sizeof modalities, "--modalities=%s", data->modalities);
        words[n++] = modalities;
    }
    if (data->target) {
        snprintf(target, sizeof target, "--target=%s", data->target);
        words[n++] = target;
    }
    const bool finds = !single && mmf_dataset_target_kind(facts->dataset) == MMF_TARGET_NONE;
    if (data->task || finds) {
        snprintf(task, sizeof task, "--task=%s", data->task ? data->task : "retrieval");
        words[n++] = task;
    }
    if (n_nonfinite(facts) > 0) {
        words[n++] = nonfinite;
        words[n++] = zero;
    }
    /* Too few rows to hold some back: every row is valid once, or train. */
    if (!mmf_dataset_has_split(facts->dataset) && mmf_dataset_count(facts->dataset) < 300) {
        words[n++] = folds;
        words[n++] = five;
    }
    char *const text = path ? cli_quote_command(n, words) : NULL;
    snprintf(facts->command, sizeof facts->command, "%s", text ? text : "");
    free(text);
    free(path);
}

/* ---- Text -------------------------------------------------------------------------------- */

/* "box 4  segments": what stands beside the steps. */
static const char *companions_text(const mmf_modality *modality, const char *before, char *out,
                                   size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (int c = 0; c < MMF_N_COMPANIONS && n < size; c++) {
        const char *const name = mmf_companion_name((mmf_companion)c);
        const long long width = (long long)modality->companions[c];
        if (width == 0)
            continue;
        const int wrote =
            mmf_companion_is_whole((mmf_companion)c)
                ? snprintf(out + n, size - n, "%s%s  ", n ? "" : before, name)
                : snprintf(out + n, size - n, "%s%s %lld  ", n ? "" : before, name, width);
        n += wrote > 0 ? (size_t)wrote : 0;
    }
    return out;
}

static void print_modalities(const data_facts *facts)
{
    out_table table = out_table_make(7, "llllrrl");
    for (const char *const *head = (const char *const[]){"modality", "kind", "shape", "on disk",
                                                         "absent", "non-finite", "", NULL};
         *head; head++)
        out_cell(&table, "%s", *head);
    for (size_t m = 0; m < mmf_dataset_n_modalities(facts->dataset); m++) {
        const mmf_modality *const modality = mmf_dataset_modality(facts->dataset, m);
        const length_facts *const lengths = &facts->lengths[m];
        char shape[96], rows[64] = "", steps[96] = "", words[64] = "";
        if (modality->has_index)
            snprintf(rows, sizeof rows, "%lld shared rows  ", (long long)modality->n_rows);
        if (lengths->known)
            snprintf(steps, sizeof steps, "length %lld to %lld, median %lld  ",
                     (long long)lengths->shortest, (long long)lengths->longest,
                     (long long)lengths->median);
        if (modality->kind == MMF_TOKENS)
            snprintf(words, sizeof words, "vocabulary of %lld", (long long)modality->vocab_size);
        out_cell(&table, "%s", modality->name);
        out_cell(&table, "%s", mmf_modality_kind_name(modality->kind));
        out_cell(&table, "%s",
                 mmf_shape_text(shape, sizeof shape, modality->shape, modality->n_dims));
        out_cell(&table, "%s", mmf_dtype_name(modality->dtype));
        out_cell(&table, "%lld", (long long)modality->n_absent);
        out_cell(&table, "%lld",
                 (long long)(modality->n_nonfinite < 0 ? 0 : modality->n_nonfinite));
        char beside[96];
        out_cell(&table, "%s%s%s%s", rows, steps, words,
                 companions_text(modality, *words ? "  " : "", beside, sizeof beside));
    }
    out_table_print(&table, stdout, 0);
}

static void print_target(const data_facts *facts)
{
    const mmf_target_kind kind = mmf_dataset_target_kind(facts->dataset);
    if (kind == MMF_TARGET_NONE) {
        puts("\ntarget    none; --target NAME chooses an array");
        return;
    }
    if (kind == MMF_TARGET_RETRIEVAL && facts->n_rows == 0) {
        puts("\ntarget    none: retrieval of what stands in the same row");
        return;
    }
    printf("\ntarget    %s: %s", mmf_dataset_target_name(facts->dataset), mmf_task_name(kind));
    if (kind == MMF_TARGET_REAL)
        printf(", %.4g to %.4g, mean %.4g, deviation %.4g\n", facts->least, facts->most,
               facts->mean, facts->deviation);
    else
        printf(", %lld classes\n", (long long)mmf_dataset_n_classes(facts->dataset));
    int64_t most = 1;
    for (int64_t k = 0; k < facts->n_rows; k++) {
        const int64_t *const n = facts->rows[k].count;
        most = n[0] + n[1] + n[2] > most ? n[0] + n[1] + n[2] : most;
    }
    const bool bars = out_is_terminal(stdout);
    out_table table = out_table_make(bars ? 5 : 4, "lrrrl");
    out_cell(&table, kind == MMF_TARGET_REAL ? "value" : "class");
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++)
        out_cell(&table, "%s", cli_part_name((mmf_part)p));
    if (bars)
        out_cell(&table, "%s", "");
    const int64_t n_shown = facts->n_rows < MAX_SHOWN ? facts->n_rows : MAX_SHOWN;
    for (int64_t k = 0; k < n_shown; k++) {
        const int64_t *const n = facts->rows[k].count;
        out_cell(&table, "%s", facts->rows[k].name);
        for (int p = MMF_TRAIN; p <= MMF_TEST; p++)
            out_cell(&table, "%lld", (long long)n[p]);
        if (bars)
            out_cell(&table, "%.*s", (int)(BAR_CELLS * (n[0] + n[1] + n[2]) / most),
                     "########################");
    }
    out_table_print(&table, stdout, 2);
    if (n_shown < facts->n_rows)
        printf("  and %lld more\n", (long long)(facts->n_rows - n_shown));
}

static void print_rest(const data_facts *facts)
{
    const bool has_split = mmf_dataset_has_split(facts->dataset);
    if (mmf_dataset_target_kind(facts->dataset) != MMF_TARGET_NONE || has_split)
        printf("parts     %lld train, %lld valid, %lld test%s\n",
               (long long)facts->parts.count[MMF_TRAIN], (long long)facts->parts.count[MMF_VALID],
               (long long)facts->parts.count[MMF_TEST],
               has_split ? "" : " (the file has no split: divided by default)");
    if (facts->n_groups >= 0)
        printf("groups    %lld\n", (long long)facts->n_groups);
    const char *note = NULL;
    for (size_t i = 0; (note = mmf_dataset_note(facts->dataset, i)) != NULL; i++)
        printf("%s%s", i ? ", " : "notes     ", note);
    if (mmf_dataset_note(facts->dataset, 0))
        puts(" (not used)");
    printf("\nTry: %s\n", facts->command);
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *modality_json(const data_facts *facts, size_t m)
{
    const mmf_modality *const modality = mmf_dataset_modality(facts->dataset, m);
    const length_facts *const lengths = &facts->lengths[m];
    json_t *const object = json_object();
    json_t *const shape = json_array();
    for (int d = 0; d < modality->n_dims; d++)
        json_array_append_new(shape, json_integer(modality->shape[d]));
    json_object_set_new(object, "name", out_json_text(modality->name));
    json_object_set_new(object, "kind", out_json_text(mmf_modality_kind_name(modality->kind)));
    json_object_set_new(object, "shape", shape);
    json_object_set_new(object, "dtype", out_json_text(mmf_dtype_name(modality->dtype)));
    json_object_set_new(object, "rows", json_integer(modality->n_rows));
    json_object_set_new(object, "shared", json_boolean(modality->has_index));
    for (int c = 0; c < MMF_N_COMPANIONS; c++) {
        if (modality->companions[c] > 0)
            json_object_set_new(object, mmf_companion_name((mmf_companion)c),
                                json_integer((json_int_t)modality->companions[c]));
    }
    if (lengths->known) {
        json_t *const length = json_object();
        json_object_set_new(length, "min", json_integer(lengths->shortest));
        json_object_set_new(length, "median", json_integer(lengths->median));
        json_object_set_new(length, "max", json_integer(lengths->longest));
        json_object_set_new(object, "length", length);
    }
    if (modality->kind == MMF_TOKENS)
        json_object_set_new(object, "vocab", json_integer(modality->vocab_size));
    json_object_set_new(object, "absent", json_integer(modality->n_absent));
    json_object_set_new(object, "non_finite",
                        json_integer(modality->n_nonfinite < 0 ? 0 : modality->n_nonfinite));
    return object;
}

static json_t *target_json(const data_facts *facts)
{
    const mmf_target_kind kind = mmf_dataset_target_kind(facts->dataset);
    json_t *const object = json_object();
    if (kind == MMF_TARGET_NONE || (kind == MMF_TARGET_RETRIEVAL && facts->n_rows == 0)) {
        json_decref(object);
        return json_null();
    }
    json_object_set_new(object, "name", out_json_text(mmf_dataset_target_name(facts->dataset)));
    json_object_set_new(object, "task", out_json_text(mmf_task_name(kind)));
    if (kind == MMF_TARGET_REAL) {
        json_object_set_new(object, "mean", out_json_number(facts->mean));
        json_object_set_new(object, "std", out_json_number(facts->deviation));
        json_object_set_new(object, "min", out_json_number(facts->least));
        json_object_set_new(object, "max", out_json_number(facts->most));
    }
    json_t *const list = json_array();
    for (int64_t k = 0; k < facts->n_rows; k++) {
        json_t *const row = json_object();
        json_object_set_new(row, "name", out_json_text(facts->rows[k].name));
        for (int p = MMF_TRAIN; p <= MMF_TEST; p++)
            json_object_set_new(row, cli_part_name((mmf_part)p),
                                json_integer(facts->rows[k].count[p]));
        json_array_append_new(list, row);
    }
    json_object_set_new(object, kind == MMF_TARGET_REAL ? "bins" : "classes", list);
    return object;
}

static void print_json(const data_facts *facts)
{
    json_t *const object = json_object();
    json_t *const modalities = json_array();
    json_t *const parts = json_object();
    json_t *const notes = json_array();
    for (size_t m = 0; m < mmf_dataset_n_modalities(facts->dataset); m++)
        json_array_append_new(modalities, modality_json(facts, m));
    for (int p = MMF_TRAIN; p <= MMF_TEST; p++)
        json_object_set_new(parts, cli_part_name((mmf_part)p), json_integer(facts->parts.count[p]));
    const char *note = NULL;
    for (size_t i = 0; (note = mmf_dataset_note(facts->dataset, i)) != NULL; i++)
        json_array_append_new(notes, out_json_text(note));
    json_object_set_new(object, "data", out_json_text(facts->path));
    json_object_set_new(object, "n", json_integer(mmf_dataset_count(facts->dataset)));
    json_object_set_new(object, "modalities", modalities);
    json_object_set_new(object, "target", target_json(facts));
    json_object_set_new(object, "split_in_file",
                        json_boolean(mmf_dataset_has_split(facts->dataset)));
    json_object_set_new(object, "split", parts);
    json_object_set_new(object, "groups",
                        facts->n_groups >= 0 ? json_integer(facts->n_groups) : json_null());
    json_object_set_new(object, "notes", notes);
    json_object_set_new(object, "command", out_json_text(facts->command));
    out_json_print(object);
}

/* ---- The verb ---------------------------------------------------------------------------- */

static int find_out(const cli_session *session, data_facts *facts, const cli_data *data,
                    const mmf_split_options *split)
{
    const mmf_target_kind kind = mmf_dataset_target_kind(facts->dataset);
    if (kind != MMF_TARGET_NONE || mmf_dataset_has_split(facts->dataset)) {
        const mmf_status status =
            mmf_split_make(session->ctx, &facts->parts, facts->dataset, split);
        /* What is in the file is worth seeing even when it cannot be divided as asked. */
        if (status != MMF_OK)
            cli_say("mmfuse: warning: %s", mmf_ctx_error(session->ctx));
    }
    find_lengths(facts);
    count_groups(facts);
    if (kind == MMF_TARGET_REAL)
        count_bins(facts);
    else if (kind != MMF_TARGET_NONE)
        count_classes(facts);
    first_command(facts, data);
    return OPT_GO_ON;
}

int cli_info_data(const cli_session *session, const char *path, const cli_data *data,
                  const cli_split *split, bool as_json)
{
    data_facts facts = {.path = path};
    cli_dataset_options made;
    mmf_split_options split_options;
    int code = cli_split_options("info", split, &split_options);
    if (code == OPT_GO_ON)
        code = cli_dataset_options_make(&made, session, data);
    if (code != OPT_GO_ON)
        return code;
    made.options.target_optional = true;
    /* Non-finite values are counted here; it is training that refuses them. */
    if (made.options.nonfinite == MMF_NONFINITE_FAIL)
        made.options.nonfinite = MMF_NONFINITE_ZERO;
    made.prepare.options.target_optional = true;
    mmf_status status = mmf_is_manifest(session->ctx, path, &made.prepare.options)
                            ? mmf_prepare(session->ctx, &facts.archive, path, &made.prepare.options)
                            : mmf_archive_open(session->ctx, &facts.archive, path, &session->io);
    if (status == MMF_OK)
        status =
            mmf_dataset_from_archive(session->ctx, &facts.dataset, facts.archive, &made.options);
    if (status != MMF_OK)
        return cli_refused(session, status);
    code = find_out(session, &facts, data, &split_options);
    if (code == OPT_GO_ON && as_json) {
        print_json(&facts);
        code = CLI_OK;
    } else if (code == OPT_GO_ON) {
        printf("%s: %lld samples\n\n", path, (long long)mmf_dataset_count(facts.dataset));
        print_modalities(&facts);
        print_target(&facts);
        print_rest(&facts);
        code = CLI_OK;
    }
    free(facts.rows);
    free(facts.lengths);
    mmf_split_clear(session->ctx, &facts.parts);
    mmf_dataset_close(facts.dataset);
    return code;
}
