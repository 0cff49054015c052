/* cmd_verify.c: compares this library with stored results of reference implementations. */
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "output.h"

typedef struct verify_values {
    bool verbose;
} verify_values;

static const opt_row verify_rows[] = {
    {"verbose", 0, OPT_FLAG, offsetof(verify_values, verbose), NULL, 0, 0, NULL,
     "also print what each file says of itself: model, configuration, source"},
    {0},
};

/* A copy of one compared tensor: the library's strings live during the call only. */
typedef struct tensor_line {
    char *name, *problem;
    double error, relative;
    bool passed;
} tensor_line;

typedef struct file_lines {
    tensor_line *items;
    size_t count, capacity;
} file_lines;

static char *copy_text(const char *text)
{
    if (!text)
        return NULL;
    char *const copy = out_alloc(strlen(text) + 1, 1);
    return memcpy(copy, text, strlen(text) + 1);
}

static void keep_line(void *user, const mmf_verify_line *line)
{
    file_lines *const lines = user;
    if (lines->count == lines->capacity) {
        const size_t capacity = lines->capacity ? 2 * lines->capacity : 64;
        tensor_line *const items = out_alloc(capacity, sizeof *items);
        if (lines->items)
            memcpy(items, lines->items, lines->count * sizeof *items);
        free(lines->items);
        lines->items = items;
        lines->capacity = capacity;
    }
    lines->items[lines->count++] = (tensor_line){copy_text(line->name), copy_text(line->problem),
                                                 line->error, line->relative, line->passed};
}

static void clear_lines(file_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++) {
        free(lines->items[i].name);
        free(lines->items[i].problem);
    }
    free(lines->items);
    *lines = (file_lines){0};
}

static void print_metadata(const cli_session *session, const char *path)
{
    mmf_archive *archive = NULL;
    if (mmf_archive_open(session->ctx, &archive, path, &session->io) != MMF_OK)
        return; /* metrics are plain JSON: they say nothing of themselves */
    const char *key = NULL;
    for (size_t i = 0; (key = mmf_archive_metadata_key(archive, i)) != NULL; i++)
        printf("  %s: %s\n", key, mmf_archive_metadata(archive, key));
    mmf_archive_close(archive);
}

static void print_text(const char *path, const file_lines *lines, bool passed, const char *error)
{
    size_t n_failed = 0;
    out_table table = out_table_make(4, "lrrl");
    for (size_t i = 0; i < lines->count; i++) {
        const tensor_line *const line = &lines->items[i];
        n_failed += !line->passed;
        out_cell(&table, "%s", line->name);
        out_cell(&table, "%.3e", line->error);
        out_cell(&table, "%.3e", line->relative);
        out_cell(&table, "%s%s%s", line->passed ? "ok" : "FAILED", line->problem ? ": " : "",
                 line->problem ? line->problem : "");
    }
    out_table_print(&table, stdout, 2);
    if (error)
        printf("%s: FAILED: %s\n", path, error);
    else if (passed)
        printf("%s: passed, %zu tensors\n", path, lines->count);
    else
        printf("%s: FAILED, %zu of %zu tensors\n", path, n_failed, lines->count);
}

static json_t *file_json(const char *path, const file_lines *lines, bool passed, const char *error)
{
    json_t *const object = json_object();
    json_t *const tensors = json_array();
    for (size_t i = 0; i < lines->count; i++) {
        const tensor_line *const line = &lines->items[i];
        json_t *const row = json_object();
        json_object_set_new(row, "name", out_json_text(line->name));
        json_object_set_new(row, "error", out_json_number(line->error));
        json_object_set_new(row, "relative", out_json_number(line->relative));
        json_object_set_new(row, "passed", json_boolean(line->passed));
        json_object_set_new(row, "problem", out_json_text(line->problem));
        json_array_append_new(tensors, row);
    }
    json_object_set_new(object, "file", out_json_text(path));
    json_object_set_new(object, "passed", json_boolean(passed));
    json_object_set_new(object, "error", out_json_text(error));
    json_object_set_new(object, "tensors", tensors);
    return object;
}

static int verify(const cli_session *session, const opt_args *args, bool verbose, bool as_json)
{
    size_t n_passed = 0;
    json_t *const files = as_json ? json_array() : NULL;
    for (size_t i = 0; i < args->count; i++) {
        const char *const path = args->items[i];
        file_lines lines = {0};
        bool passed = false;
        const mmf_status status = mmf_verify(session->ctx, path, keep_line, &lines, &passed);
        const char *const error = status != MMF_OK ? mmf_ctx_error(session->ctx) : NULL;
        passed = passed && status == MMF_OK;
        n_passed += passed;
        if (as_json) {
            json_array_append_new(files, file_json(path, &lines, passed, error));
        } else {
            print_text(path, &lines, passed, error);
            if (verbose)
                print_metadata(session, path);
        }
        clear_lines(&lines);
    }
    const size_t n_failed = args->count - n_passed;
    if (as_json) {
        json_t *const object = json_object();
        json_object_set_new(object, "files", files);
        json_object_set_new(object, "passed", json_integer((json_int_t)n_passed));
        json_object_set_new(object, "failed", json_integer((json_int_t)n_failed));
        out_json_print(object);
    } else {
        printf("%zu passed, %zu failed\n", n_passed, n_failed);
    }
    return n_failed ? CLI_FAILED : CLI_OK;
}

int cmd_verify(int argc, char **argv)
{
    verify_values values = {0};
    cli_common common = {0};
    const opt_group groups[] = {
        {"Verify", verify_rows, &values},
        {"General", cli_common_rows, &common},
    };
    const opt_command command = {
        .verb = "verify",
        .synopsis = "FILE... [options]",
        .about = "Builds the model that each file names, loads its weights, runs it and compares "
                 "outputs and gradients with the stored ones. A line holds a tensor's name, the "
                 "largest absolute error, and that over the tensor's largest magnitude; the last "
                 "line counts files. The exit code is 1 when one failed.",
        .example = "  mmfuse verify golden/lmf/*.safetensors",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 1,
        .max_args = SIZE_MAX,
    };
    opt_args args = {0};
    cli_session session;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON)
        code = cli_begin(&session, common.threads);
    if (code != OPT_GO_ON)
        return code;
    return cli_end(&session, verify(&session, &args, values.verbose, common.json));
}
