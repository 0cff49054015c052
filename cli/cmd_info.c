/* cmd_info.c: what is in a data file, a model file, a definition of the catalogue, or the machine.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "info.h"
#include "model_rows.h"

#define MAX_NAMES 256

typedef struct info_values {
    bool system;
} info_values;

static const opt_row info_rows[] = {
    {"system", 0, OPT_FLAG, offsetof(info_values, system), NULL, 0, 0, NULL,
     "describe this machine: processor, kernels, libraries"},
    {0},
};

static const mmf_def *find_in(const mmf_def *const *defs, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(defs[i]->name, name) == 0)
            return defs[i];
    }
    return NULL;
}

/* An aid before a layer of its name. */
static const mmf_def *find_definition(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const aids = mmf_aids(&n);
    const mmf_def *def = mmf_model_find(name);
    def = def ? def : find_in(aids, n, name);
    def = def ? def : mmf_definition_find(name);
    const mmf_def *const *const preparations = mmf_preparations(&n);
    return def ? def : find_in(preparations, n, name);
}

static int unknown_name(const char *name)
{
    static const mmf_kind kinds[] = {MMF_KIND_MODEL, MMF_KIND_OPERATOR, MMF_KIND_ENCODER};
    const char *names[MAX_NAMES];
    size_t count = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t n = 0;
        const mmf_def *const *const defs = mmf_catalogue(kinds[k], &n);
        for (size_t i = 0; i < n && count < MAX_NAMES; i++)
            names[count++] = defs[i]->name;
    }
    size_t n_aids = 0, n_preparations = 0;
    const mmf_def *const *const aids = mmf_aids(&n_aids);
    const mmf_def *const *const preparations = mmf_preparations(&n_preparations);
    for (size_t i = 0; i < n_aids && count < MAX_NAMES; i++)
        names[count++] = aids[i]->name;
    for (size_t i = 0; i < n_preparations && count < MAX_NAMES; i++)
        names[count++] = preparations[i]->name;
    const char *const nearest = opt_nearest(name, names, count);
    return opt_misuse("info", "\"%s\" is neither a file nor a model; %s%s%s", name,
                      nearest ? "did you mean " : "`mmfuse list` shows the models",
                      nearest ? nearest : "", nearest ? "?" : "");
}

static int describe(const cli_session *session, const char *name, const cli_data *data,
                    const cli_split *split, bool as_json)
{
    const mmf_def *const def = find_definition(name); /* a file of that name is ./name */
    if (def)
        return cli_info_definition(def, as_json);
    if (access(name, F_OK) != 0 && !strpbrk(name, "./"))
        return unknown_name(name);
    const size_t n = strlen(name);
    if (cli_is_model_file(name) || (n > 4 && strcmp(name + n - 4, ".mmf") == 0))
        return cli_info_model_file(session, name, as_json);
    if (mmf_is_manifest(session->ctx, name, NULL))
        return cli_info_manifest(session, name, as_json);
    return cli_info_data(session, name, data, split, as_json);
}

int cmd_info(int argc, char **argv)
{
    info_values values = {0};
    cli_common common = {0};
    cli_data data = {0};
    cli_split split = {0};
    const opt_group groups[] = {
        {"Instead of a file", info_rows, &values},
        {"Data", cli_data_rows, &data},
        {"Parts", cli_split_rows, &split},
        {"General", cli_common_rows, &common},
    };
    const opt_command command = {
        .verb = "info",
        .synopsis = "FILE|MODEL|--system [options]",
        .about = "Describes a data file (modalities, target, balance of classes, parts, what is "
                 "missing, and a first command), a table of raw files (its columns, and files "
                 "that are not there), a model file (everything in it), a model of the catalogue "
                 "(paper, equations, options), or this machine.",
        .example = "  mmfuse info digits.npz\n"
                   "  mmfuse info lmf\n"
                   "  mmfuse info --system",
        .groups = groups,
        .n_groups = sizeof groups / sizeof *groups,
        .max_args = 1,
    };
    opt_args args = {0};
    cli_session session;
    int code = opt_parse(&command, argc, argv, &args);
    if (code == OPT_GO_ON && (args.count == 1) == values.system)
        code = opt_misuse("info", values.system ? "--system takes no file"
                                                : "FILE, MODEL or --system is missing");
    if (code == OPT_GO_ON)
        code = cli_begin(&session, common.threads);
    if (code != OPT_GO_ON)
        return code;
    code = values.system ? cli_info_system(&session, common.json)
                         : describe(&session, args.items[0], &data, &split, common.json);
    return cli_end(&session, code);
}
