/* catalogue_text.c: see catalogue_text.h. */
#include "catalogue_text.h"

#include <stdio.h>
#include <string.h>

#include "output.h"

static const struct {
    unsigned bit;
    const char *name;
} kinds[] = {
    {MMF_TAKES_VECTORS, "vectors"}, {MMF_TAKES_SEQUENCES, "sequences"},
    {MMF_TAKES_IMAGES, "images"},   {MMF_TAKES_TOKENS, "tokens"},
    {MMF_TAKES_VIDEOS, "videos"},
};

#define N_KINDS (sizeof kinds / sizeof *kinds)

const mmf_def *cli_described(const mmf_def *def)
{
    return def->fuses && !def->paper ? def->fuses : def;
}

const char *cli_model_label(const mmf_def *def)
{
    return def->takes & MMF_ONE_ONLY ? "only-MODALITY" : def->name;
}

const char *cli_tasks_label(const mmf_def *def)
{
    switch (def->takes & MMF_ANY_TASK) {
    case MMF_REGRESSION_OK:
        return "regression only";
    case MMF_CLASSES_OK:
        return "classes only";
    default:
        return "";
    }
}

const char *cli_limits_label(const mmf_def *def)
{
    return def->takes & MMF_TWO_ONLY ? "two modalities" : cli_tasks_label(def);
}

const char *cli_family(const mmf_def *def)
{
    if (def->takes & MMF_ONE_ONLY)
        return "unimodal";
    return def->takes & MMF_LATE ? "late" : def->structure;
}

json_t *cli_takes_json(unsigned takes)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < N_KINDS; i++) {
        if (takes & kinds[i].bit)
            json_array_append_new(list, json_string(kinds[i].name));
    }
    return list;
}

char *cli_takes_text(unsigned takes, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < N_KINDS; i++) {
        if (!(takes & kinds[i].bit))
            continue;
        const int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", kinds[i].name);
        used += n > 0 && (size_t)n < size - used ? (size_t)n : 0;
    }
    return out;
}

static const char *modalities_text(unsigned takes)
{
    if (takes & MMF_ONE_ONLY)
        return "1";
    return takes & MMF_TWO_ONLY ? "2" : "any";
}

json_t *cli_def_json(const mmf_def *def, bool is_model)
{
    json_t *const object = json_object();
    json_object_set_new(object, "name", out_json_text(def->name));
    json_object_set_new(object, "title", out_json_text(cli_described(def)->title));
    if (is_model) {
        json_object_set_new(object, "family", out_json_text(cli_family(def)));
        json_object_set_new(object, "timing", out_json_text(def->timing));
    }
    if (def->structure)
        json_object_set_new(object, "structure", out_json_text(def->structure));
    json_object_set_new(object, "paper", out_json_text(cli_described(def)->paper));
    json_object_set_new(object, "equations", out_json_text(cli_described(def)->equations));
    json_object_set_new(object, "takes", cli_takes_json(def->takes));
    if (is_model)
        json_object_set_new(object, "modalities", out_json_text(modalities_text(def->takes)));
    json_object_set_new(object, "missing", out_json_text(cli_described(def)->missing));
    if (def->lr > 0)
        json_object_set_new(object, "lr", out_json_number(def->lr));
    if (is_model) {
        json_t *const tasks = json_array();
        if (def->takes & MMF_REGRESSION_OK)
            json_array_append_new(tasks, json_string("regression"));
        if (def->takes & MMF_CLASSES_OK)
            json_array_append_new(tasks, json_string("classification"));
        json_object_set_new(object, "tasks", tasks);
    }
    return object;
}

/* ---- Options ----------------------------------------------------------------------------- */

static const char *type_name(mmf_option_type type)
{
    static const char *const names[] = {
        [MMF_OPTION_INT] = "integer",   [MMF_OPTION_REAL] = "number",
        [MMF_OPTION_BOOL] = "boolean",  [MMF_OPTION_TEXT] = "text",
        [MMF_OPTION_INTS] = "integers", [MMF_OPTION_REALS] = "numbers",
        [MMF_OPTION_TEXTS] = "texts",
    };
    return names[type];
}

static bool has_bounds(const mmf_option *row)
{
    return row->type == MMF_OPTION_INT || row->type == MMF_OPTION_REAL ||
           row->type == MMF_OPTION_INTS || row->type == MMF_OPTION_REALS;
}

json_t *cli_options_json(const mmf_def *def)
{
    json_t *const list = json_array();
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(def, row))) {
        if (mmf_option_is_common(row))
            continue;
        json_t *const object = json_object();
        json_object_set_new(object, "name", out_json_text(row->name));
        json_object_set_new(object, "alias", out_json_text(row->alias));
        json_object_set_new(object, "type", out_json_text(type_name(row->type)));
        json_object_set_new(object, "low",
                            has_bounds(row) ? out_json_number(row->low) : json_null());
        json_object_set_new(object, "high",
                            has_bounds(row) ? out_json_number(row->high) : json_null());
        json_object_set_new(object, "choices",
                            has_bounds(row) ? json_null() : out_json_text(row->choices));
        json_object_set_new(object, "tune",
                            has_bounds(row) ? out_json_text(row->choices) : json_null());
        json_object_set_new(object, "default", out_json_text(row->standard));
        json_object_set_new(object, "help", out_json_text(row->help));
        json_array_append_new(list, object);
    }
    return list;
}

void cli_print_options(const mmf_def *def)
{
    out_table table = out_table_make(5, "l");
    for (const char *const *head =
             (const char *const[]){"name", "default", "values", "also", "", NULL};
         *head; head++)
        out_cell(&table, "%s", *head);
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(def, row))) {
        if (mmf_option_is_common(row))
            continue;
        out_cell(&table, "%s", row->name);
        out_cell(&table, "%s", row->standard && *row->standard ? row->standard : "by the data");
        if (has_bounds(row))
            out_cell(&table, "%s %.6g to %.6g", type_name(row->type), row->low, row->high);
        else
            out_cell(&table, "%s", row->choices ? row->choices : type_name(row->type));
        out_cell(&table, "%s", row->alias ? row->alias : "");
        out_cell(&table, "%s", row->help ? row->help : "");
    }
    out_table_print(&table, stdout, 2);
}
