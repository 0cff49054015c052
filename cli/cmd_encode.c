/* cmd_encode.c: the raw files of a manifest as arrays of the data contract, in one npz. */
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "array_copy.h"
#include "prepare_options.h"

#define EXTENSION ".npz"

typedef struct encode_values {
    const char *out, *target;
    bool deflate, int8;
} encode_values;

static const opt_row encode_rows[] = {
    {"out", 'o', OPT_TEXT, offsetof(encode_values, out), "FILE" EXTENSION, 0, 0, NULL,
     "the data file to write"},
    {"target", 0, OPT_TEXT, offsetof(encode_values, target), "NAME", 0, 0, NULL,
     "column whose texts are names of classes (default: label)"},
    {"deflate", 0, OPT_FLAG, offsetof(encode_values, deflate), NULL, 0, 0, NULL,
     "compress; without it training maps the file instead of reading it"},
    {"int8", 0, OPT_FLAG, offsetof(encode_values, int8), NULL, 0, 0, NULL,
     "large linear layers of frozen encoders, such as BERT's, in eight bits: faster on processors "
     "with VNNI, features nearly the same"},
    {0},
};

typedef struct encode_run {
    encode_values values;
    cli_prepare prepare;
    cli_common common;
    cli_session session;
    cli_prepare_setup setup;
    const char *path;
    mmf_archive *archive;
    json_t *arrays;
} encode_run;

static mmf_status write_all(encode_run *run)
{
    mmf_npz_writer *writer = NULL;
    MMF_TRY(mmf_npz_create(run->session.ctx, &writer, run->values.out, run->values.deflate));
    const size_t n = mmf_archive_count(run->archive);
    mmf_status status = MMF_OK;
    for (size_t i = 0; status == MMF_OK && i < n; i++) {
        mmf_array array = {0};
        const char *const name = mmf_archive_name(run->archive, i);
        status = mmf_archive_load(run->archive, i, &array);
        if (status == MMF_OK)
            status = cli_copy_array(&run->session, writer, name, &array, &run->setup.progress,
                                    (double)i / (double)n);
        if (status == MMF_OK)
            json_array_append_new(run->arrays, cli_array_json(name, &array));
    }
    if (status == MMF_OK)
        return mmf_npz_commit(writer);
    mmf_npz_discard(writer);
    return status;
}

static int report(const encode_run *run, double seconds)
{
    char text[32];
    if (run->common.json) {
        json_t *const object = json_object();
        json_object_set_new(object, "data", out_json_text(run->path));
        json_object_set_new(object, "out", out_json_text(run->values.out));
        json_object_set_new(object, "seconds", out_json_number(seconds));
        json_object_set(object, "arrays", run->arrays);
        out_json_print(object);
    } else {
        cli_print_arrays(run->arrays);
        cli_say("%s: written in %s", run->values.out, out_seconds_text(text, sizeof text, seconds));
    }
    return CLI_OK;
}

static int encode(encode_run *run)
{
    const double start = out_clock();
    int code = cli_prepare_make(&run->setup, &run->session, &run->prepare);
    if (code != OPT_GO_ON)
        return code;
    run->setup.options.target = run->values.target;
    run->setup.options.int8 = run->values.int8;
    run->arrays = json_array();
    cli_catch_interrupt(&run->session);
    mmf_status status =
        mmf_prepare(run->session.ctx, &run->archive, run->path, &run->setup.options);
    if (status == MMF_OK)
        status = write_all(run);
    out_progress_clear(&run->setup.progress);
    code = status == MMF_OK ? report(run, out_clock() - start) : cli_refused(&run->session, status);
    json_decref(run->arrays);
    mmf_archive_close(run->archive);
    return code;
}

static bool ends_in_npz(const char *path)
{
    const size_t n = path ? strlen(path) : 0, n_end = sizeof EXTENSION - 1;
    return n > n_end && strcmp(path + n - n_end, EXTENSION) == 0;
}

int cmd_encode(int argc, char **argv)
{
    encode_run run = {0};
    const opt_group groups[] = {
        {"What is written", encode_rows, &run.values},
        {"Raw files", cli_prepare_rows, &run.prepare},
        {"General", cli_common_rows, &run.common},
    };
    const opt_command command = {
        .verb = "encode",
        .synopsis = "MANIFEST.csv -o OUT" EXTENSION " [options]",
        .about = "Turns a table of texts and file names into arrays: images, sound and video are "
                 "decoded by programs of their own, prepared, and written as one data file. Rows "
                 "are streamed through a cache: an interrupted run goes on where it was, and a "
                 "second run of the same files is only a copy. `train`, `compare`, `eval` and "
                 "`predict` take the table itself.",
        .example = "  mmfuse encode clips.csv --image image:size=64 --audio logmel:n_mels=40 "
                   "-o clips.npz",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 1,
        .max_args = 1,
    };
    opt_args args = {0};
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && !run.values.out)
        code = opt_misuse("encode", "-o OUT" EXTENSION " is missing: where to write the arrays");
    if (code == OPT_GO_ON && !ends_in_npz(run.values.out))
        code = opt_misuse("encode", "the output must end in " EXTENSION "; got \"%s\"",
                          run.values.out);
    if (code == OPT_GO_ON && !out_can_write(run.values.out))
        code = CLI_FAILED;
    if (code == OPT_GO_ON)
        code = cli_begin(&run.session, run.common.threads);
    if (code != OPT_GO_ON)
        return code;
    run.path = args.items[0];
    return cli_end(&run.session, encode(&run));
}
