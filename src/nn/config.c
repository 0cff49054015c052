/*
 * config.c: values of a definition's options: from text, from JSON under our names or the
 * reference's.
 *
 * Every value is kept as JSON, which is also how configurations are stored in model files.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "mmfuse/nn.h"

#define MAX_NAMES 256
#define MAX_LIST 4096
/* Doubles hold every whole number up to this. */
#define MAX_WHOLE 9e15

struct mmf_config {
    mmf_ctx *ctx;
    const mmf_def *def;
    json_t *values;    /* object: only what was set */
    json_t *standards; /* object: parsed defaults; null where "" */
};

static const mmf_option common[] = {
    {"train_mode", NULL, MMF_OPTION_TEXT, 0, 0,
     "regression|classification|multilabel|soft|retrieval|pretraining", "classification",
     "what the head predicts; the task sets it"},
    {"num_classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "1",
     "outputs of the head; the task sets it"},
    {"mode", NULL, MMF_OPTION_TEXT, 0, 0, "eval|train", "eval", "how `verify` runs the file"},
    {0},
};

/* Keys of published configurations from which nothing is computed here, with the value they must
 * have if another would mean another network. ViLBERT reads its `fusion_method`, and never the
 * three behind `use_cache`. */
static const struct silent {
    const char *name, *value;
} silent[] = {{"architectures", NULL},
              {"model_type", NULL},
              {"torch_dtype", NULL},
              {"transformers_version", NULL},
              {"gradient_checkpointing", NULL},
              {"pad_token_id", NULL},
              {"initializer_range", NULL},
              {"v_initializer_range", NULL},
              {"use_cache", NULL},
              {"pooling_method", NULL},
              {"bi_attention_type", NULL},
              {"bi_intermediate_size", NULL},
              {"feature_dims", NULL},
              {"need_normalized", NULL},
              {"position_embedding_type", "absolute"},
              {"with_coattention", "true"},
              {"fast_mode", "false"},
              {"predict_feature", "false"},
              {"in_batch_pairs", "false"},
              {"intra_gate", "false"},
              {"fixed_t_layer", "0"},
              {"fixed_v_layer", "0"},
              {"bias", "true"},
              {"proj_size", "0"},
              {"dropout", "0"},
              {"add_bias_kv", "false"},
              {"add_zero_attn", "false"},
              {"no_imgnorm", "false"}};

/* ---- Rows -------------------------------------------------------------------------------- */

enum { N_TABLES = 3 };

static void tables_of(const mmf_def *def, const mmf_option *tables[N_TABLES])
{
    tables[0] = def->options;
    tables[1] = def->fuses ? def->fuses->options : NULL;
    tables[2] = common;
}

static bool has_row(const mmf_option *table, const char *name)
{
    for (const mmf_option *at = table; at && at->name; at++) {
        if (strcmp(at->name, name) == 0)
            return true;
    }
    return false;
}

/* A definition's own row stands in the place of a common one: a layer that needs no classes, say.
 */
const mmf_option *mmf_option_next(const mmf_def *def, const mmf_option *row)
{
    const mmf_option *tables[N_TABLES];
    tables_of(def, tables);
    bool found = row == NULL;
    for (int t = 0; t < N_TABLES; t++) {
        for (const mmf_option *at = tables[t]; at && at->name; at++) {
            if (found && !(t == N_TABLES - 1 && has_row(def->options, at->name)))
                return at;
            found = found || at == row;
        }
    }
    return NULL;
}

bool mmf_option_is_common(const mmf_option *row)
{
    return row >= common && row < common + sizeof common / sizeof *common;
}

const mmf_option *mmf_option_find(const mmf_def *def, const char *name)
{
    const mmf_option *row = NULL, *by_alias = NULL;
    while ((row = mmf_option_next(def, row))) {
        if (strcmp(row->name, name) == 0)
            return row;
        if (!by_alias && row->alias && strcmp(row->alias, name) == 0)
            by_alias = row;
    }
    return by_alias;
}

/* "a, b, c", as many as there is room for. */
static const char *names_of(const mmf_def *def, char *out, size_t size)
{
    size_t at = 0;
    const mmf_option *row = NULL;
    *out = '\0';
    while ((row = mmf_option_next(def, row))) {
        const size_t n = strlen(row->name);
        if (mmf_option_is_common(row) || at + n + 3 > size)
            continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s", at > 0 ? ", " : "", row->name);
    }
    return out;
}

static mmf_status unknown_option(const mmf_config *config, const char *name)
{
    const char *names[MAX_NAMES];
    char list[400];
    size_t n = 0;
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(config->def, row)) && n < MAX_NAMES)
        names[n++] = row->name;
    const char *const nearest = mmf_text_nearest(name, names, n);
    if (nearest)
        return mmf_fail(config->ctx, MMF_ARG, "%s has no option \"%s\"; did you mean \"%s\"?",
                        config->def->name, name, nearest);
    if (config->def->kind == MMF_KIND_MODEL)
        return mmf_fail(config->ctx, MMF_ARG,
                        "%s has no option \"%s\"; `mmfuse info %s` lists them", config->def->name,
                        name, config->def->name);
    return mmf_fail(config->ctx, MMF_ARG, "%s has no option \"%s\"; it has %s", config->def->name,
                    name, names_of(config->def, list, sizeof list));
}

/* ---- Parsing text ------------------------------------------------------------------------ */

static bool has_choice(const char *choices, const char *text, size_t n)
{
    for (const char *c = choices; *c;) {
        const size_t width = strcspn(c, "|");
        if (width == n && strncmp(c, text, n) == 0)
            return true;
        c += width + (c[width] == '|');
    }
    return false;
}

static json_t *parse_scalar(const mmf_option *row, const char *text, size_t n)
{
    double number = 0;
    switch (row->type) {
    case MMF_OPTION_BOOL:
        if ((n == 4 && strncmp(text, "true", 4) == 0) || (n == 1 && *text == '1'))
            return json_true();
        if ((n == 5 && strncmp(text, "false", 5) == 0) || (n == 1 && *text == '0'))
            return json_false();
        return NULL;
    case MMF_OPTION_INT:
    case MMF_OPTION_INTS:
        if (!mmf_text_number(text, n, &number) || number != floor(number) ||
            fabs(number) > MAX_WHOLE)
            return NULL;
        return json_integer((json_int_t)number);
    case MMF_OPTION_REAL:
    case MMF_OPTION_REALS:
        return mmf_text_number(text, n, &number) ? json_real(number) : NULL;
    case MMF_OPTION_TEXT:
    case MMF_OPTION_TEXTS:
        return json_stringn(text, n);
    }
    return NULL;
}

static bool is_list(const mmf_option *row)
{
    return row->type >= MMF_OPTION_INTS;
}

/* "8,6,7", "[8, 6, 7]" or "8"; numbers also as "8/6/7", where commas divide something else. NULL if
 * an element does not parse. */
static json_t *parse_text(const mmf_option *row, const char *text)
{
    if (!is_list(row))
        return parse_scalar(row, text, strlen(text));
    json_t *const list = json_array();
    const char *end = text + strlen(text);
    const char *const between = row->type == MMF_OPTION_TEXTS ? "," : ",/";
    if (*text == '[' && end > text + 1 && end[-1] == ']') {
        text++;
        end--;
    }
    while (text < end) {
        const char *stop = text + strcspn(text, between);
        stop = stop < end ? stop : end;
        const char *first = text, *last = stop;
        while (first < last && *first == ' ')
            first++;
        while (last > first && last[-1] == ' ')
            last--;
        json_t *const value = parse_scalar(row, first, (size_t)(last - first));
        if (!value || json_array_size(list) >= MAX_LIST ||
            json_array_append_new(list, value) != 0) {
            json_decref(list);
            return NULL;
        }
        text = stop + 1;
    }
    return list;
}

/* ---- Checking ---------------------------------------------------------------------------- */

static const char *type_text(const mmf_option *row)
{
    static const char *const names[] = {"a whole number", "a number", "true or false", "a name",
                                        "whole numbers",  "numbers",  "names"};
    return names[row->type];
}

static mmf_status check_scalar(const mmf_config *config, const mmf_option *row, const json_t *value)
{
    const char *const model = config->def->name;
    switch (row->type) {
    case MMF_OPTION_BOOL:
        if (!json_is_boolean(value))
            break;
        return MMF_OK;
    case MMF_OPTION_TEXT:
    case MMF_OPTION_TEXTS: {
        const char *const text = json_string_value(value);
        if (!text)
            break;
        if (row->choices && !has_choice(row->choices, text, strlen(text)))
            return mmf_fail(config->ctx, MMF_ARG, "%s: option %s is \"%s\", expected one of %s",
                            model, row->name, text, row->choices);
        return MMF_OK;
    }
    case MMF_OPTION_INT:
    case MMF_OPTION_INTS:
    case MMF_OPTION_REAL:
    case MMF_OPTION_REALS: {
        const bool whole = row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS;
        if (!json_is_number(value) || (whole && !json_is_integer(value)))
            break;
        const double number = json_number_value(value);
        if (!(number >= row->low && number <= row->high))
            return mmf_fail(config->ctx, MMF_ARG, "%s: option %s is %g, allowed are %g to %g",
                            model, row->name, number, row->low, row->high);
        return MMF_OK;
    }
    }
    return mmf_fail(config->ctx, MMF_ARG, "%s: option %s takes %s", model, row->name,
                    type_text(row));
}

static mmf_status check(const mmf_config *config, const mmf_option *row, const json_t *value)
{
    if (!is_list(row))
        return check_scalar(config, row, value);
    if (!json_is_array(value))
        return mmf_fail(config->ctx, MMF_ARG, "%s: option %s takes %s", config->def->name,
                        row->name, type_text(row));
    for (size_t i = 0; i < json_array_size(value); i++)
        MMF_TRY(check_scalar(config, row, json_array_get(value, i)));
    return MMF_OK;
}

/* ---- Life -------------------------------------------------------------------------------- */

mmf_status mmf_config_create(mmf_ctx *ctx, mmf_config **out, const mmf_def *def)
{
    *out = NULL;
    mmf_config *config = mmf_alloc_zero(ctx, 1, sizeof *config);
    if (!config)
        return MMF_NOMEM;
    config->ctx = ctx;
    config->def = def;
    config->values = json_object();
    config->standards = json_object();
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(def, row))) {
        json_t *const value = *row->standard ? parse_text(row, row->standard) : json_null();
        if (!value || json_object_set_new(config->standards, row->name, value) != 0) {
            mmf_config_free(config);
            return mmf_fail(ctx, MMF_INTERNAL, "%s: the default of option %s does not parse",
                            def->name, row->name);
        }
    }
    *out = config;
    return MMF_OK;
}

mmf_status mmf_config_copy(mmf_ctx *ctx, mmf_config **out, const mmf_config *config)
{
    MMF_TRY(mmf_config_create(ctx, out, config->def));
    if (json_object_update((*out)->values, config->values) != 0) {
        mmf_config_free(*out);
        *out = NULL;
        return mmf_fail(ctx, MMF_NOMEM, "out of memory while copying a configuration");
    }
    return MMF_OK;
}

void mmf_config_free(mmf_config *config)
{
    if (!config)
        return;
    json_decref(config->values);
    json_decref(config->standards);
    mmf_free(config->ctx, config);
}

const mmf_def *mmf_config_def(const mmf_config *config)
{
    return config->def;
}

mmf_status mmf_config_set(mmf_config *config, const char *name, const char *value)
{
    const mmf_option *const row = mmf_option_find(config->def, name);
    if (!row)
        return unknown_option(config, name);
    json_t *const parsed = parse_text(row, value);
    if (!parsed)
        return mmf_fail(config->ctx, MMF_ARG, "%s: option %s takes %s, got \"%s\"",
                        config->def->name, row->name, type_text(row), value);
    const mmf_status status = check(config, row, parsed);
    if (status != MMF_OK) {
        json_decref(parsed);
        return status;
    }
    return json_object_set_new(config->values, row->name, parsed) == 0 ? MMF_OK : MMF_NOMEM;
}

/* JSON as other programs write it, in an option's own type: 1 for true, 3.0 for 3, 2 for 2.0. Takes
 * `value`; what does not fit stays, and is refused by the check. */
static json_t *in_own_type(const mmf_option *row, json_t *value)
{
    const double number = json_number_value(value);
    json_t *own = NULL;
    if (row->type == MMF_OPTION_BOOL && json_is_integer(value) && (number == 0 || number == 1))
        own = json_boolean(number == 1);
    else if ((row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS) && json_is_real(value) &&
             number == floor(number) && fabs(number) <= MAX_WHOLE)
        own = json_integer((json_int_t)number);
    else if (row->type == MMF_OPTION_REAL && json_is_integer(value))
        own = json_real(number);
    if (!own)
        return value;
    json_decref(value);
    return own;
}

/* One value stands for all of a list. Takes `value`. */
static json_t *in_own_form(const mmf_option *row, json_t *value)
{
    if (!is_list(row))
        return in_own_type(row, value);
    json_t *const list = json_array();
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        json_t *const one = json_is_array(value) ? json_array_get(value, i) : value;
        json_array_append_new(list, in_own_type(row, json_incref(one)));
    }
    json_decref(value);
    return list;
}

static bool is_value(const json_t *value, const char *text)
{
    if (json_is_boolean(value))
        return strcmp(json_is_true(value) ? "true" : "false", text) == 0;
    if (json_is_number(value))
        return json_number_value(value) == strtod(text, NULL);
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static bool is_silent(const char *name, const json_t *value)
{
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        if (strcmp(silent[i].name, name) == 0)
            return !silent[i].value || is_value(value, silent[i].value);
    }
    return false;
}

static mmf_status set_value(mmf_config *config, const char *name, json_t *value)
{
    const mmf_option *const row = mmf_option_find(config->def, name);
    if (!row)
        return is_silent(name, value) ? MMF_OK : unknown_option(config, name);
    const bool none = json_is_null(value);
    /* Python's None: "no such thing" where the option can say so, otherwise "not given". */
    if (none && !(row->choices && has_choice(row->choices, "none", strlen("none"))))
        return MMF_OK;
    json_t *const stored = in_own_form(row, none ? json_string("none") : json_incref(value));
    const mmf_status status = check(config, row, stored);
    if (status != MMF_OK) {
        json_decref(stored);
        return status;
    }
    return json_object_set_new(config->values, row->name, stored) == 0 ? MMF_OK : MMF_NOMEM;
}

mmf_status mmf_config_set_json(mmf_config *config, const char *json)
{
    json_error_t error;
    json_t *const object = json_loads(json, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        json_decref(object);
        return mmf_fail(config->ctx, MMF_FORMAT, "configuration: line %d: %s", error.line,
                        object ? "not an object" : error.text);
    }
    mmf_status status = MMF_OK;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(object, name, value)
    {
        if (status == MMF_OK)
            status = set_value(config, name, value);
    }
    json_decref(object);
    return status;
}

static const json_t *value_of(const mmf_config *config, const char *name)
{
    const json_t *const set = json_object_get(config->values, name);
    return set ? set : json_object_get(config->standards, name);
}

mmf_status mmf_config_share(mmf_config *config, const mmf_config *from)
{
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(config->def, row))) {
        json_t *const set = json_object_get(from->values, row->name);
        if (set && json_object_set(config->values, row->name, set) != 0)
            return mmf_fail(config->ctx, MMF_NOMEM, "out of memory while copying a configuration");
    }
    return MMF_OK;
}

char *mmf_config_json(const mmf_config *config)
{
    json_t *const object = json_object();
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(config->def, row))) {
        const json_t *const value = value_of(config, row->name);
        if (!json_is_null(value))
            json_object_set_new(object, row->name, json_deep_copy(value));
    }
    char *const dumped = json_dumps(object, JSON_REAL_PRECISION(12));
    json_decref(object);
    char *const copy = dumped ? mmf_strdup(config->ctx, dumped) : NULL;
    free(dumped);
    return copy;
}

/* ---- Reading ----------------------------------------------------------------------------- */

bool mmf_config_is_set(const mmf_config *config, const char *name)
{
    return json_object_get(config->values, name) != NULL;
}

int64_t mmf_config_int(const mmf_config *config, const char *name)
{
    return (int64_t)json_integer_value(value_of(config, name));
}

double mmf_config_real(const mmf_config *config, const char *name)
{
    return json_number_value(value_of(config, name));
}

bool mmf_config_bool(const mmf_config *config, const char *name)
{
    return json_is_true(value_of(config, name));
}

const char *mmf_config_text(const mmf_config *config, const char *name)
{
    const char *const text = json_string_value(value_of(config, name));
    return text ? text : "";
}

size_t mmf_config_count(const mmf_config *config, const char *name)
{
    return json_array_size(value_of(config, name));
}

static const json_t *element(const mmf_config *config, const char *name, size_t i)
{
    const json_t *const list = value_of(config, name);
    const size_t n = json_array_size(list);
    return json_array_get(list, n == 1 ? 0 : i);
}

double mmf_config_number_at(const mmf_config *config, const char *name, size_t i)
{
    return json_number_value(element(config, name, i));
}

const char *mmf_config_text_at(const mmf_config *config, const char *name, size_t i)
{
    const char *const text = json_string_value(element(config, name, i));
    return text ? text : "";
}
