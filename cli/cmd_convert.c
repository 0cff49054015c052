/* cmd_convert.c: any readable data file to npz, array by array. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "array_copy.h"

/* Inflated arrays stay in memory until the archive is closed: reopen it after so many bytes. */
#define REOPEN_BYTES ((size_t)256 << 20)

typedef struct convert_values {
    bool deflate;
} convert_values;

static const opt_row convert_rows[] = {
    {"deflate", 0, OPT_FLAG, offsetof(convert_values, deflate), NULL, 0, 0, NULL,
     "compress; without it training maps the file instead of reading it"},
    {0},
};

typedef struct conversion {
    const cli_session *session;
    const char *from;
    mmf_archive *archive;
    mmf_npz_writer *writer;
    out_progress progress;
    size_t n_loaded; /* bytes since the archive was opened */
    uint64_t n_bytes;
    json_t *arrays;
} conversion;

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static mmf_status reopen_if_heavy(conversion *c)
{
    if (c->n_loaded < REOPEN_BYTES || !ends_with(c->from, ".npz"))
        return MMF_OK;
    mmf_archive_close(c->archive);
    c->archive = NULL;
    c->n_loaded = 0;
    return mmf_archive_open(c->session->ctx, &c->archive, c->from, &c->session->io);
}

static mmf_status copy_array(conversion *c, size_t i, size_t n_arrays)
{
    mmf_array array = {0};
    MMF_TRY(reopen_if_heavy(c));
    if (i >= mmf_archive_count(c->archive))
        return mmf_fail(c->session->ctx, MMF_FORMAT, "%s: the file changed while it was read",
                        c->from);
    const char *const name = mmf_archive_name(c->archive, i);
    MMF_TRY(mmf_archive_load(c->archive, i, &array));
    MMF_TRY(cli_copy_array(c->session, c->writer, name, &array, &c->progress,
                           (double)i / (double)n_arrays));
    const size_t n_bytes = (size_t)mmf_array_count(&array) * array.item_bytes;
    c->n_loaded += n_bytes;
    c->n_bytes += n_bytes;
    json_array_append_new(c->arrays, cli_array_json(name, &array));
    return MMF_OK;
}

static mmf_status convert(conversion *c, const char *to, bool deflate)
{
    mmf_ctx *const ctx = c->session->ctx;
    MMF_TRY(mmf_archive_open(ctx, &c->archive, c->from, &c->session->io));
    MMF_TRY(mmf_npz_create(ctx, &c->writer, to, deflate));
    const size_t n = mmf_archive_count(c->archive);
    if (mmf_archive_metadata_key(c->archive, 0))
        cli_say("mmfuse: warning: npz has no place for the metadata of %s", c->from);
    for (size_t i = 0; i < n; i++)
        MMF_TRY(copy_array(c, i, n));
    mmf_npz_writer *const writer = c->writer;
    c->writer = NULL;
    return mmf_npz_commit(writer);
}

static int report(const conversion *c, const char *to, bool as_json)
{
    if (as_json) {
        json_t *const object = json_object();
        json_object_set_new(object, "data", out_json_text(c->from));
        json_object_set_new(object, "out", out_json_text(to));
        json_object_set_new(object, "bytes", json_integer((json_int_t)c->n_bytes));
        json_object_set(object, "arrays", c->arrays);
        out_json_print(object);
        return CLI_OK;
    }
    cli_print_arrays(c->arrays);
    return CLI_OK;
}

int cmd_convert(int argc, char **argv)
{
    convert_values values = {0};
    cli_common common = {0};
    const opt_group groups[] = {
        {"Convert", convert_rows, &values},
        {"General", cli_json_rows, &common},
    };
    const opt_command command = {
        .verb = "convert",
        .synopsis = "IN OUT.npz [--deflate]",
        .about = "Writes the arrays of any readable file (csv, tsv, npy, npz, safetensors, and "
                 "foreign formats through their helper programs) into one npz. Data larger than "
                 "memory are converted once and then mapped by training.",
        .example = "  mmfuse convert features.h5 features.npz",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .min_args = 2,
        .max_args = 2,
    };
    opt_args args = {0};
    cli_session session;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && !ends_with(args.items[1], ".npz"))
        code = opt_misuse("convert", "the output must end in .npz; got \"%s\"", args.items[1]);
    if (code == OPT_GO_ON && !out_can_write(args.items[1]))
        code = CLI_FAILED;
    if (code == OPT_GO_ON)
        code = cli_begin(&session, 0);
    if (code != OPT_GO_ON)
        return code;
    cli_catch_interrupt(&session);
    conversion c = {.session = &session,
                    .from = args.items[0],
                    .progress = out_progress_make(),
                    .arrays = json_array()};
    const mmf_status status = convert(&c, args.items[1], values.deflate);
    out_progress_clear(&c.progress);
    code = status == MMF_OK ? report(&c, args.items[1], common.json) : cli_failed(&session, status);
    json_decref(c.arrays);
    mmf_npz_discard(c.writer);
    mmf_archive_close(c.archive);
    return cli_end(&session, code);
}
