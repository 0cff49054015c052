/* info_model.c: `info` of a model file and of a definition. */
#include <math.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "catalogue_text.h"
#include "info.h"
#include "output.h"

/* ---- A definition ------------------------------------------------------------------------ */

static void print_line(const char *name, const char *text)
{
    if (text && *text)
        printf("%-10s %s\n", name, text);
}

int cli_info_definition(const mmf_def *def, bool as_json)
{
    const bool is_model = def->kind == MMF_KIND_MODEL;
    if (as_json) {
        json_t *const object = cli_def_json(def, is_model);
        json_object_set_new(object, "options", cli_options_json(def));
        out_json_print(object);
        return CLI_OK;
    }
    char takes[64];
    const mmf_def *const described = cli_described(def);
    printf("%s: %s\n", is_model ? cli_model_label(def) : def->name, described->title);
    print_line("paper", described->paper);
    print_line("equations", described->equations);
    if (is_model) {
        print_line("timing", def->timing);
        print_line("structure", def->structure);
        print_line("tasks", (def->takes & MMF_ANY_TASK) == MMF_ANY_TASK
                                ? "regression, classification"
                                : cli_tasks_label(def));
    }
    print_line("takes", cli_takes_text(def->takes, takes, sizeof takes));
    if (def->takes & MMF_TWO_ONLY)
        print_line("", "exactly two modalities");
    print_line("missing",
               described->missing ? described->missing : "not defined for absent modalities");
    if (def->lr > 0)
        printf("%-10s %g unless --lr says otherwise\n", "lr", def->lr);
    if (!mmf_option_is_common(mmf_option_next(def, NULL))) {
        puts(is_model ? "options (--set NAME=VALUE)"
             : def->kind == MMF_KIND_AID
                 ? "options (--aid NAME:OPTION=VALUE, the first without its name)"
             : def->kind == MMF_KIND_PREPARATION ? "options (--prepare COLUMN=NAME:OPTION=VALUE)"
                                                 : "options");
        cli_print_options(def);
    }
    return CLI_OK;
}

/* ---- A model file ------------------------------------------------------------------------ */

static json_t *parse_or_text(const char *text)
{
    json_t *const value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return value ? value : out_json_text(text);
}

static const char *role_name(mmf_param_role role)
{
    static const char *const names[] = {"trained", "fixed", "buffer"};
    return names[role];
}

static json_t *shape_json(const int64_t *shape, int n_dims)
{
    json_t *const list = json_array();
    for (int d = 0; d < n_dims; d++)
        json_array_append_new(list, json_integer(shape[d]));
    return list;
}

static json_t *inputs_json(const mmf_schema *schema)
{
    json_t *const list = json_array();
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        json_t *const row = json_object();
        json_object_set_new(row, "name", out_json_text(in->name));
        json_object_set_new(row, "kind", out_json_text(mmf_modality_kind_name(in->kind)));
        json_object_set_new(row, "shape", shape_json(in->shape, in->n_dims));
        if (in->kind == MMF_TOKENS)
            json_object_set_new(row, "vocab", json_integer(in->vocab_size));
        json_object_set_new(row, "lengths", json_boolean(in->has_length));
        json_object_set_new(row, "may_be_absent", json_boolean(in->has_present));
        json_array_append_new(list, row);
    }
    return list;
}

static bool predicts_classes(const mmf_task *task)
{
    return task->kind == MMF_TARGET_CLASS || task->kind == MMF_TARGET_MULTILABEL ||
           task->kind == MMF_TARGET_SOFT;
}

static json_t *model_json(const char *path, const mmf_model *model)
{
    const mmf_task *const task = mmf_model_task(model);
    const mmf_params *const params = mmf_module_params(mmf_model_module(model));
    json_t *const object = json_object();
    json_t *const classes = json_array();
    json_t *const tensors = json_array();
    json_object_set_new(object, "file", out_json_text(path));
    json_object_set_new(object, "model", out_json_text(mmf_model_name(model)));
    json_object_set_new(object, "task", out_json_text(mmf_task_name(task->kind)));
    json_object_set_new(object, "target", out_json_text(task->target));
    const bool has_classes = predicts_classes(task);
    for (int64_t k = 0; has_classes && k < task->n_outputs; k++) {
        char name[32];
        json_array_append_new(classes, out_json_text(cli_class_name(task, k, name, sizeof name)));
    }
    json_object_set_new(object, "classes", classes);
    json_object_set_new(object, "inputs", inputs_json(mmf_model_inputs(model)));
    json_object_set_new(object, "parameters", json_integer(mmf_model_n_parameters(model)));
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        json_t *const row = json_object();
        json_object_set_new(row, "name", out_json_text(p->name));
        json_object_set_new(row, "shape", shape_json(p->tensor->shape, p->tensor->n_dims));
        json_object_set_new(row, "role", out_json_text(role_name(p->role)));
        json_array_append_new(tensors, row);
    }
    json_object_set_new(object, "tensors", tensors);
    json_object_set_new(object, "record", parse_or_text(mmf_model_record(model)));
    return object;
}

/* "  name  value" lines of an object, nested ones as compact JSON. */
static void print_object(const char *title, json_t *object)
{
    const char *key = NULL;
    json_t *value = NULL;
    out_table table = out_table_make(2, "l");
    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "curve") == 0) /* for programs, and for reports */
            continue;
        char *const text =
            json_is_string(value)
                ? NULL
                : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        out_cell(&table, "%s", key);
        out_cell(&table, "%s", text ? text : json_string_value(value));
        free(text);
    }
    puts(title);
    out_table_print(&table, stdout, 2);
}

static void print_inputs(const mmf_schema *schema)
{
    out_table table = out_table_make(4, "l");
    for (size_t m = 0; m < schema->count; m++) {
        const mmf_input_schema *const in = &schema->inputs[m];
        char shape[96];
        out_cell(&table, "%s", in->name);
        out_cell(&table, "%s", mmf_modality_kind_name(in->kind));
        out_cell(&table, "%s", mmf_shape_text(shape, sizeof shape, in->shape, in->n_dims));
        out_cell(&table, "%s%s", in->has_length ? "with lengths" : "",
                 in->has_present ? (in->has_length ? ", may be absent" : "may be absent") : "");
    }
    puts("inputs of one sample");
    out_table_print(&table, stdout, 2);
}

static void print_tensors(const mmf_params *params)
{
    out_table table = out_table_make(3, "l");
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        char shape[96];
        out_cell(&table, "%s", p->name);
        out_cell(&table, "%s",
                 mmf_shape_text(shape, sizeof shape, p->tensor->shape, p->tensor->n_dims));
        if (p->is_alias)
            out_cell(&table, "second name");
        else
            out_cell(&table, "%s", p->role == MMF_PARAM_TRAINED ? "" : role_name(p->role));
    }
    puts("tensors");
    out_table_print(&table, stdout, 2);
}

static void print_model(const char *path, const mmf_model *model, json_t *config)
{
    const mmf_task *const task = mmf_model_task(model);
    printf("%s: model %s, %s of \"%s\", %lld parameters\n", path, mmf_model_name(model),
           mmf_task_name(task->kind), task->target, (long long)mmf_model_n_parameters(model));
    if (task->kind == MMF_TARGET_RETRIEVAL)
        printf("features   %lld a modality\n",
               (long long)task->n_outputs / (long long)mmf_model_inputs(model)->count);
    else if (predicts_classes(task)) {
        printf("classes   ");
        for (int64_t k = 0; k < task->n_outputs; k++) {
            char name[32];
            printf(" %s", cli_class_name(task, k, name, sizeof name));
        }
        putchar('\n');
    }
    print_inputs(mmf_model_inputs(model));
    print_object("options", config);
    json_t *const record = parse_or_text(mmf_model_record(model));
    if (json_is_object(record))
        print_object("training", record);
    json_decref(record);
    print_tensors(mmf_module_params(mmf_model_module(model)));
}

int cli_info_model_file(const cli_session *session, const char *path, bool as_json)
{
    mmf_model *model = NULL;
    const mmf_status status = mmf_model_load(session->ctx, &model, path);
    if (status != MMF_OK)
        return cli_failed(session, status);
    char *const text = mmf_config_json(mmf_module_config(mmf_model_module(model)));
    json_t *const config = parse_or_text(text);
    mmf_free(session->ctx, text);
    if (as_json) {
        json_t *const object = model_json(path, model);
        json_object_set(object, "config", config);
        out_json_print(object);
    } else {
        print_model(path, model, config);
    }
    json_decref(config);
    mmf_model_free(model);
    return CLI_OK;
}
