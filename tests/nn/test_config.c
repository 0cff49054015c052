/*
 * test_config.c: options from text and from JSON: values, aliases, bounds, unknown names; and the
 * option tables of everything in the catalogue.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include <jansson.h>

#include "mmfuse/model.h"
#include "support.h"

static const mmf_option rows[] = {
    {"width", "hidden_size", MMF_OPTION_INT, 1, 64, NULL, "16", "units"},
    {"rate", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.25", "share"},
    {"gated", "use_gate", MMF_OPTION_BOOL, 0, 0, NULL, "false", "a switch"},
    {"pooling", NULL, MMF_OPTION_TEXT, 0, 0, "mean|max|last", "mean", "a choice"},
    {"note", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "", "free text"},
    {"sizes", NULL, MMF_OPTION_INTS, 1, 9, NULL, "", "whole numbers"},
    {"rates", "dropouts", MMF_OPTION_REALS, 0, 1, NULL, "0.1,0.2", "numbers"},
    {"encoder", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "", "names"},
    {0},
};

static const mmf_def def = {.name = "example", .kind = MMF_KIND_MODEL, .options = rows};

static mmf_config *make(mmf_ctx *ctx)
{
    mmf_config *config = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, &def));
    return config;
}

static void defaults_stand_until_set(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    assert_ptr_equal(mmf_config_def(c), &def);
    assert_int_equal(mmf_config_int(c, "width"), 16);
    assert_true(mmf_config_real(c, "rate") == 0.25);
    assert_false(mmf_config_bool(c, "gated"));
    assert_string_equal(mmf_config_text(c, "pooling"), "mean");
    assert_string_equal(mmf_config_text(c, "note"), "");
    assert_int_equal(mmf_config_count(c, "sizes"), 0);
    assert_int_equal(mmf_config_count(c, "rates"), 2);
    assert_true(mmf_config_number_at(c, "rates", 1) == 0.2);
    assert_string_equal(mmf_config_text(c, "train_mode"), "classification");
    assert_int_equal(mmf_config_int(c, "num_classes"), 1);
    for (const mmf_option *row = rows; row->name; row++)
        assert_false(mmf_config_is_set(c, row->name));
    test_ok(ctx, mmf_config_set(c, "width", "16"));
    assert_true(mmf_config_is_set(c, "width"));
    mmf_config_free(c);
    mmf_config_free(NULL);
    mmf_ctx_free(ctx);
}

static void text_is_parsed_by_type(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    test_ok(ctx, mmf_config_set(c, "width", "64"));
    test_ok(ctx, mmf_config_set(c, "rate", "1e-3"));
    test_ok(ctx, mmf_config_set(c, "gated", "true"));
    test_ok(ctx, mmf_config_set(c, "pooling", "last"));
    test_ok(ctx, mmf_config_set(c, "note", "any, thing"));
    test_ok(ctx, mmf_config_set(c, "sizes", "[8, 6,7 ]"));
    test_ok(ctx, mmf_config_set(c, "rates", "0.5"));
    test_ok(ctx, mmf_config_set(c, "encoder", "audio=gru:8,text=lstm"));
    assert_int_equal(mmf_config_int(c, "width"), 64);
    assert_true(mmf_config_real(c, "rate") == 1e-3);
    assert_true(mmf_config_bool(c, "gated"));
    assert_string_equal(mmf_config_text(c, "pooling"), "last");
    assert_string_equal(mmf_config_text(c, "note"), "any, thing");
    assert_int_equal(mmf_config_count(c, "sizes"), 3);
    assert_true(mmf_config_number_at(c, "sizes", 2) == 7);
    assert_int_equal(mmf_config_count(c, "rates"), 1);
    assert_true(mmf_config_number_at(c, "rates", 5) == 0.5); /* one value stands for all */
    assert_string_equal(mmf_config_text_at(c, "encoder", 0), "audio=gru:8");
    assert_string_equal(mmf_config_text_at(c, "encoder", 1), "text=lstm");
    assert_string_equal(mmf_config_text_at(c, "encoder", 2), "");
    test_ok(ctx, mmf_config_set(c, "sizes", "")); /* an empty list */
    assert_int_equal(mmf_config_count(c, "sizes"), 0);
    test_ok(ctx, mmf_config_set(c, "gated", "0"));
    assert_false(mmf_config_bool(c, "gated"));
    mmf_config_free(c);
    mmf_ctx_free(ctx);
}

typedef struct refusal {
    const char *name, *value, *piece;
} refusal;

static const refusal refused_text[] = {
    {"width", "0", "1 to 64"},
    {"width", "65", "1 to 64"},
    {"width", "3.5", "a whole number"},
    {"width", "1e30", "a whole number"},
    {"width", "twelve", "\"twelve\""},
    {"width", "12 ", "a whole number"},
    {"width", "", "a whole number"},
    {"hidden_size", "65", "option width is 65"},
    {"rate", "0.96", "0 to 0.95"},
    {"rate", "-0.01", "0 to 0.95"},
    {"rate", "nan", "a number"},
    {"rate", "inf", "a number"},
    {"gated", "yes", "true or false"},
    {"pooling", "lst", "mean|max|last"},
    {"pooling", "mean|max", "mean|max|last"},
    {"pooling", "", "mean|max|last"},
    {"sizes", "1,10", "1 to 9"},
    {"sizes", "1,,2", "whole numbers"},
    {"sizes", "[1,2", "whole numbers"},
    {"rates", "0.5,x", "numbers"},
    {"widht", "3", "did you mean \"width\""},
    {"gatd", "true", "did you mean \"gated\""},
    {"num_class", "3", "did you mean \"num_classes\""},
    {"qqqqqqqq", "3", "`mmfuse info example` lists them"},
    {"num_classes", "0", "1 to 1e+06"},
    {"train_mode", "guess", "regression|classification"},
};

static void bad_text_changes_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    test_ok(ctx, mmf_config_set(c, "width", "7"));
    char *const before = mmf_config_json(c);
    for (size_t i = 0; i < sizeof refused_text / sizeof *refused_text; i++) {
        const refusal *const r = &refused_text[i];
        test_fails(ctx, mmf_config_set(c, r->name, r->value), MMF_ARG, r->piece);
        char *const after = mmf_config_json(c);
        assert_string_equal(after, before);
        mmf_free(ctx, after);
    }
    mmf_free(ctx, before);
    mmf_config_free(c);
    mmf_ctx_free(ctx);
}

/* Python's None is a choice where there is one of that name. */
static void null_is_none_where_that_is_a_choice(void **state)
{
    (void)state;
    static const mmf_option choices[] = {
        {"activation", NULL, MMF_OPTION_TEXT, 0, 0, "none|relu", "relu", "a name"},
        {"norm", NULL, MMF_OPTION_TEXT, 0, 0, "nonesuch|batch", "batch", "a name"},
        {0},
    };
    static const mmf_def chooser = {.name = "chooser", .kind = MMF_KIND_MODEL, .options = choices};
    mmf_ctx *const ctx = test_ctx();
    mmf_config *config = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, &chooser));
    test_ok(ctx, mmf_config_set_json(config, "{\"activation\": null, \"norm\": null}"));
    assert_string_equal(mmf_config_text(config, "activation"), "none");
    assert_true(mmf_config_is_set(config, "activation"));
    assert_string_equal(mmf_config_text(config, "norm"), "batch");
    mmf_config_free(config);
    mmf_ctx_free(ctx);
}

static void json_takes_our_names_and_the_references(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    test_ok(ctx, mmf_config_set_json(c, "{\"hidden_size\": 32, \"use_gate\": true, \"rate\": 0, "
                                        "\"dropouts\": 0.3, \"sizes\": [2, 3], \"note\": \"\xc3"
                                        "\xa4\", \"pooling\": null, \"mode\": \"train\"}"));
    assert_int_equal(mmf_config_int(c, "width"), 32);
    assert_true(mmf_config_bool(c, "gated"));
    assert_true(mmf_config_is_set(c, "rate") && mmf_config_real(c, "rate") == 0);
    assert_int_equal(mmf_config_count(c, "rates"), 1);
    assert_true(mmf_config_number_at(c, "rates", 3) == 0.3);
    assert_true(mmf_config_number_at(c, "sizes", 1) == 3);
    assert_string_equal(mmf_config_text(c, "note"), "\xc3\xa4");
    assert_string_equal(mmf_config_text(c, "pooling"), "mean"); /* null: the default stays */
    assert_string_equal(mmf_config_text(c, "mode"), "train");
    mmf_config_free(c);
    mmf_ctx_free(ctx);
}

/* 2.0 for 2 and 1 for true are what other programs write. */
static void json_is_brought_to_an_options_type(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    test_ok(ctx, mmf_config_set_json(
                     c, "{\"width\": 2.0, \"gated\": 1, \"rate\": 0, \"sizes\": [3.0, 4]}"));
    assert_int_equal(mmf_config_int(c, "width"), 2);
    assert_true(mmf_config_bool(c, "gated"));
    assert_true(mmf_config_real(c, "rate") == 0);
    assert_true(mmf_config_number_at(c, "sizes", 0) == 3);
    mmf_config_free(c);
    mmf_ctx_free(ctx);
}

/* What a published configuration says beside what is computed passes; what would be another network
 * does not. */
static void keys_that_change_nothing_are_silent(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    test_ok(ctx, mmf_config_set_json(
                     c, "{\"model_type\": \"bert\", \"initializer_range\": 0.02, \"width\": 3, "
                        "\"position_embedding_type\": \"absolute\", \"bias\": true, "
                        "\"fixed_t_layer\": 0}"));
    assert_int_equal(mmf_config_int(c, "width"), 3);
    static const char *const others[] = {"{\"position_embedding_type\": \"relative_key\"}",
                                         "{\"bias\": false}", "{\"fixed_t_layer\": 4}"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        test_fails(ctx, mmf_config_set_json(c, others[i]), MMF_ARG, "has no option");
    mmf_config_free(c);
    mmf_ctx_free(ctx);
}

typedef struct json_refusal {
    const char *json;
    mmf_status status;
    const char *piece;
} json_refusal;

static const json_refusal refused_json[] = {
    {"", MMF_FORMAT, "configuration"},
    {"{", MMF_FORMAT, "line 1"},
    {"[1]", MMF_FORMAT, "not an object"},
    {"{\"width\": 1} x", MMF_FORMAT, "line 1"},
    {"{\"width\": 1, \"width\": 2}", MMF_FORMAT, "width"},
    {"{\"width\": 2.5}", MMF_ARG, "a whole number"},
    {"{\"width\": \"2\"}", MMF_ARG, "a whole number"},
    {"{\"width\": 0}", MMF_ARG, "1 to 64"},
    {"{\"hidden_size\": 100}", MMF_ARG, "option width is 100"},
    {"{\"width\": 9223372036854775807}", MMF_ARG, "1 to 64"},
    {"{\"gated\": 2}", MMF_ARG, "true or false"},
    {"{\"note\": 3}", MMF_ARG, "a name"},
    {"{\"sizes\": [1, [2]]}", MMF_ARG, "whole numbers"},
    {"{\"sizes\": {\"a\": 1}}", MMF_ARG, "whole numbers"},
    {"{\"sizes\": [1, 10]}", MMF_ARG, "1 to 9"},
    {"{\"pooling\": \"min\"}", MMF_ARG, "mean|max|last"},
    {"{\"widht\": 1}", MMF_ARG, "did you mean \"width\""},
    {"{\"rate\": 1e400}", MMF_FORMAT, "line 1"},
};

static void bad_json_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof refused_json / sizeof *refused_json; i++) {
        mmf_config *const c = make(ctx);
        const json_refusal *const r = &refused_json[i];
        test_fails(ctx, mmf_config_set_json(c, r->json), r->status, r->piece);
        for (const mmf_option *row = rows; row->name; row++)
            assert_false(mmf_config_is_set(c, row->name));
        mmf_config_free(c);
    }
    mmf_ctx_free(ctx);
}

static void copies_are_independent(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_config *const c = make(ctx);
    mmf_config *copy = NULL;
    test_ok(ctx, mmf_config_set(c, "width", "5"));
    test_ok(ctx, mmf_config_copy(ctx, &copy, c));
    test_ok(ctx, mmf_config_set(c, "width", "6"));
    test_ok(ctx, mmf_config_set(copy, "rate", "0.5"));
    assert_int_equal(mmf_config_int(copy, "width"), 5);
    assert_int_equal(mmf_config_int(c, "width"), 6);
    assert_true(mmf_config_real(c, "rate") == 0.25);
    mmf_config_free(c);
    assert_true(mmf_config_real(copy, "rate") == 0.5);
    mmf_config_free(copy);
    mmf_ctx_free(ctx);
}

/* ---- The catalogue ----------------------------------------------------------------------- */

static void one_alias_per_name(const mmf_def *d)
{
    for (const mmf_option *a = mmf_option_next(d, NULL); a; a = mmf_option_next(d, a)) {
        assert_non_null(a->standard);
        assert_true(a->help && *a->help);
        assert_ptr_equal(mmf_option_find(d, a->name), a);
        for (const mmf_option *b = mmf_option_next(d, a); b; b = mmf_option_next(d, b)) {
            assert_string_not_equal(a->name, b->name);
            /* An operator's alias may be a name of the model around it: names go first. */
            assert_false(!d->fuses && a->alias && strcmp(a->alias, b->name) == 0);
            assert_false(!d->fuses && b->alias && strcmp(b->alias, a->name) == 0);
        }
    }
}

static bool is_number(const mmf_option *row)
{
    return row->type == MMF_OPTION_INT || row->type == MMF_OPTION_REAL ||
           row->type == MMF_OPTION_INTS || row->type == MMF_OPTION_REALS;
}

static void check_bounds(mmf_ctx *ctx, const mmf_def *d, const mmf_option *row)
{
    const bool whole = row->type == MMF_OPTION_INT || row->type == MMF_OPTION_INTS;
    const double step = whole ? 1 : fmax(fabs(row->high), 1) * 1e-3;
    const double inside[] = {row->low, row->high};
    const double outside[] = {row->low - step, row->high + step};
    mmf_config *c = NULL;
    char text[64];
    test_ok(ctx, mmf_config_create(ctx, &c, d));
    assert_true(row->low <= row->high);
    for (int side = 0; side < 2; side++) {
        snprintf(text, sizeof text, "%.17g", inside[side]);
        test_ok(ctx, mmf_config_set(c, row->name, text));
        snprintf(text, sizeof text, "%.17g", outside[side]);
        test_fails(ctx, mmf_config_set(c, row->name, text), MMF_ARG, row->name);
    }
    mmf_config_free(c);
}

/* A configuration written as JSON and read again is the same text. */
static void check_round_trip(mmf_ctx *ctx, const mmf_def *d)
{
    mmf_config *a = NULL, *b = NULL;
    test_ok(ctx, mmf_config_create(ctx, &a, d));
    test_ok(ctx, mmf_config_create(ctx, &b, d));
    test_ok(ctx, mmf_config_set(a, "num_classes", "3"));
    char *const first = mmf_config_json(a);
    test_ok(ctx, mmf_config_set_json(b, first));
    char *const second = mmf_config_json(b);
    assert_string_equal(first, second);
    json_t *const object = json_loads(first, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_object(object));
    for (const mmf_option *row = d->options; row && row->name; row++)
        assert_true(!*row->standard || json_object_get(object, row->name));
    json_decref(object);
    mmf_free(ctx, first);
    mmf_free(ctx, second);
    mmf_config_free(a);
    mmf_config_free(b);
}

static void every_option_table_is_sound(void **state)
{
    (void)state;
    static const mmf_kind kinds[] = {MMF_KIND_LAYER, MMF_KIND_ENCODER, MMF_KIND_OPERATOR,
                                     MMF_KIND_MODEL, MMF_KIND_LOSS};
    mmf_ctx *const ctx = test_ctx();
    size_t n_rows = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t n = 0;
        const mmf_def *const *const table = mmf_catalogue(kinds[k], &n);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++) {
            one_alias_per_name(table[i]);
            check_round_trip(ctx, table[i]);
            for (const mmf_option *row = table[i]->options; row && row->name; row++, n_rows++) {
                if (is_number(row))
                    check_bounds(ctx, table[i], row);
            }
        }
    }
    assert_true(n_rows > 0);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_until_set),
        cmocka_unit_test(text_is_parsed_by_type),
        cmocka_unit_test(bad_text_changes_nothing),
        cmocka_unit_test(json_takes_our_names_and_the_references),
        cmocka_unit_test(null_is_none_where_that_is_a_choice),
        cmocka_unit_test(json_is_brought_to_an_options_type),
        cmocka_unit_test(keys_that_change_nothing_are_silent),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(copies_are_independent),
        cmocka_unit_test(every_option_table_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
