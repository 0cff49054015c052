/* cmd_list.c: the catalogue: models by timing and structure, operators, encoders. */
#include <stdio.h>
#include <string.h>

#include "catalogue_text.h"
#include "cli.h"
#include "output.h"

/* By when they fuse; what has its own idea of the training is listed by that idea. */
static const struct section {
    const char *timing; /* NULL: the advanced structures of any timing */
    const char *text;
} sections[] = {
    {"none", "One modality alone: the baseline of every fusion"},
    {"early", "Early fusion: raw inputs are joined"},
    {"intermediate", "Intermediate fusion: encodings are joined"},
    {"late", "Late fusion: predictions are joined"},
    {NULL, "Advanced: features taken apart, computed by the sample, or aligned by contrast"},
};

static bool is_advanced(const mmf_def *def)
{
    return strcmp(def->structure, "disentangled") == 0 || strcmp(def->structure, "dynamic") == 0 ||
           strcmp(def->structure, "contrastive") == 0;
}

static bool belongs(const mmf_def *def, const struct section *section)
{
    if (!section->timing)
        return is_advanced(def);
    return !is_advanced(def) && strcmp(def->timing, section->timing) == 0;
}

static void model_cells(out_table *table, const mmf_def *def, bool is_first)
{
    out_cell(table, "%s", is_first ? def->structure : "");
    out_cell(table, "%s", cli_model_label(def));
    out_cell(table, "%s", cli_described(def)->title);
    out_cell(table, "%s", cli_limits_label(def));
}

static void print_models(const mmf_def *const *models, size_t n)
{
    for (size_t s = 0; s < sizeof sections / sizeof *sections; s++) {
        out_table table = out_table_make(4, "l");
        for (size_t i = 0; i < n; i++) {
            if (!belongs(models[i], &sections[s]))
                continue;
            /* Structures in the order of their first model, each once. */
            bool is_new = true;
            for (size_t j = 0; j < i; j++)
                is_new = is_new && !(belongs(models[j], &sections[s]) &&
                                     strcmp(models[j]->structure, models[i]->structure) == 0);
            for (size_t j = i; is_new && j < n; j++) {
                if (belongs(models[j], &sections[s]) &&
                    strcmp(models[j]->structure, models[i]->structure) == 0)
                    model_cells(&table, models[j], j == i);
            }
        }
        if (table.n_cells == 0)
            continue;
        printf("%s%s\n", s ? "\n" : "", sections[s].text);
        out_table_print(&table, stdout, 2);
    }
}

static const mmf_def *const *pieces(mmf_kind kind, size_t *n)
{
    return kind == MMF_KIND_AID           ? mmf_aids(n)
           : kind == MMF_KIND_PREPARATION ? mmf_preparations(n)
                                          : mmf_catalogue(kind, n);
}

static void print_pieces(const char *title, mmf_kind kind)
{
    size_t n = 0;
    const mmf_def *const *const defs = pieces(kind, &n);
    out_table table = out_table_make(2, "l");
    for (size_t i = 0; i < n; i++) {
        out_cell(&table, "%s", defs[i]->name);
        out_cell(&table, "%s", defs[i]->title);
    }
    printf("\n%s\n", title);
    out_table_print(&table, stdout, 2);
}

static json_t *pieces_json(mmf_kind kind)
{
    size_t n = 0;
    const mmf_def *const *const defs = pieces(kind, &n);
    json_t *const list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, cli_def_json(defs[i], kind == MMF_KIND_MODEL));
    return list;
}

int cmd_list(int argc, char **argv)
{
    cli_common common = {0};
    const opt_group groups[] = {{"General", cli_json_rows, &common}};
    const opt_command command = {
        .verb = "list",
        .synopsis = "[--json]",
        .about = "Lists what can be trained: models by when and how they fuse, and the operators "
                 "and encoders they are made of. `mmfuse info NAME` says more of each.",
        .example = "  mmfuse list --json",
        .groups = groups,
        .n_groups = 1,
    };
    opt_args args = {0};
    const int code = opt_parse(&command, argc, argv, &args);
    if (code != OPT_GO_ON)
        return code;
    if (common.json) {
        json_t *const object = json_object();
        json_object_set_new(object, "models", pieces_json(MMF_KIND_MODEL));
        json_object_set_new(object, "operators", pieces_json(MMF_KIND_OPERATOR));
        json_object_set_new(object, "encoders", pieces_json(MMF_KIND_ENCODER));
        json_object_set_new(object, "losses", pieces_json(MMF_KIND_LOSS));
        json_object_set_new(object, "aids", pieces_json(MMF_KIND_AID));
        json_object_set_new(object, "preparations", pieces_json(MMF_KIND_PREPARATION));
        out_json_print(object);
        return CLI_OK;
    }
    size_t n = 0;
    const mmf_def *const *const models = mmf_catalogue(MMF_KIND_MODEL, &n);
    print_models(models, n);
    print_pieces("Operators: what intermediate and late models fuse with", MMF_KIND_OPERATOR);
    print_pieces("Encoders: --encoder MODALITY=NAME[:WIDTH][:OPTION=VALUE] chooses one",
                 MMF_KIND_ENCODER);
    print_pieces("Losses beside any model: --loss NAME:WEIGHT", MMF_KIND_LOSS);
    print_pieces("Training aids: --aid NAME:VALUE trains with one", MMF_KIND_AID);
    print_pieces("Preparations of raw files: --image NAME, --audio NAME ... chooses one",
                 MMF_KIND_PREPARATION);
    return CLI_OK;
}
