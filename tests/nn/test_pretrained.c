/*
 * test_pretrained.c: weights of others by name: one file and shards, lower precision, prefixes and
 * old names, and everything that does not match.
 */
#include "nn/pretrained.h"

#include "base/file.h"
#include "mmfuse/io.h"
#include "support.h"

static mmf_status build_net(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    (void)config, (void)inputs, (void)self;
    mmf_builder_enter(b, "text");
    mmf_linear_layer one = mmf_linear_build(b, "one", 2, 3, true);
    mmf_linear_alias(b, "tied", &one);
    mmf_layer_norm_build(b, "LayerNorm", 3, 1e-5);
    mmf_builder_leave(b);
    mmf_linear_build(b, "head", 3, 1, false);
    return mmf_builder_status(b);
}

static const mmf_def net = {.name = "net", .kind = MMF_KIND_LAYER, .build = build_net};

static mmf_module *make(mmf_ctx *ctx)
{
    mmf_module *module = NULL;
    const mmf_schema none = {0};
    test_ok(ctx, mmf_module_create(ctx, &module, &net, NULL, &none, 1));
    return module;
}

static double value(const mmf_module *module, const char *name, int64_t i)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    assert_non_null(p);
    return (double)p->tensor->data[i];
}

static const float weights[6] = {1, 2, 3, 4, 5, 6};
static const float norms[3] = {7, 8, 9};
static const uint16_t halves[3] = {0x3c00, 0xc000, 0x3800}; /* 1, -2, .5 in 16 bits */
static const uint16_t brains[3] = {0x3f80, 0xc000, 0x3f00}; /* the same with 8 of exponent */
static const double wide[3] = {1, -2, 0.5};
static const int64_t places[2] = {0, 1};

#define WEIGHT                                                                                     \
    {                                                                                              \
        MMF_F32, 2, {3, 2}, 4, weights                                                             \
    }
#define NORM                                                                                       \
    {                                                                                              \
        MMF_F32, 1, {3}, 4, norms                                                                  \
    }
static const mmf_named_array whole[] = {
    {"bert.one.weight", WEIGHT},
    {"bert.one.bias", {MMF_F16, 1, {3}, 2, halves}},
    {"bert.LayerNorm.gamma", {MMF_BF16, 1, {3}, 2, brains}},
    {"bert.LayerNorm.beta", {MMF_F64, 1, {3}, 8, wide}},
    {"bert.embeddings.position_ids", {MMF_I64, 1, {2}, 8, places}},
    {"cls.predictions.bias", NORM},
};
enum { N_WHOLE = sizeof whole / sizeof *whole };

static const char *save(mmf_ctx *ctx, const char *name, const mmf_named_array *arrays, size_t n)
{
    const char *const path = test_path(name);
    test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, n, NULL, 0));
    return path;
}

static void load(mmf_ctx *ctx, mmf_module *module, const char *path, mmf_pretrained_report *report)
{
    test_ok(ctx, mmf_pretrained_load(ctx, mmf_module_params(module), "text", path,
                                     &mmf_pretrained_bert, report));
}

static void names_and_types_are_translated(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    const double head = value(module, "head.weight", 0);
    mmf_pretrained_report report;
    load(ctx, module, save(ctx, "whole.safetensors", whole, N_WHOLE), &report);
    test_ok(ctx, mmf_pretrained_require(&report, "whole"));
    assert_int_equal(report.n_loaded, 4);
    assert_int_equal(report.ignored.count, 2);
    assert_int_equal(report.missing.count + report.unexpected.count + report.misshapen.count, 0);
    assert_true(value(module, "text.one.weight", 5) == 6);
    assert_true(value(module, "text.tied.weight", 5) == 6);
    static const char *const names[] = {"text.one.bias", "text.LayerNorm.weight",
                                        "text.LayerNorm.bias"};
    for (size_t i = 0; i < 3; i++) {
        for (int64_t k = 0; k < 3; k++)
            assert_true(value(module, names[i], k) == wide[k]);
    }
    assert_true(value(module, "head.weight", 0) == head);
    char *const text = mmf_pretrained_text(&report);
    assert_non_null(strstr(text, "4 tensors loaded"));
    assert_non_null(strstr(text, "bert.embeddings.position_ids, cls.predictions.bias"));
    mmf_free(ctx, text);
    mmf_pretrained_report_clear(&report);
    mmf_module_free(module);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void what_does_not_match_is_listed(void **state)
{
    (void)state;
    const mmf_named_array other[] = {
        {"tied.weight", WEIGHT},
        {"one.bias", {MMF_F32, 1, {2}, 4, norms}},
        {"LayerNorm.weight", {MMF_I64, 1, {2}, 8, places}},
        {"two.weight", WEIGHT},
    };
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_pretrained_report report;
    load(ctx, module, save(ctx, "other.safetensors", other, 4), &report);
    assert_int_equal(report.n_loaded, 1);
    assert_true(value(module, "text.one.weight", 5) == 6);
    assert_int_equal(report.missing.count, 1);
    assert_string_equal(report.missing.names[0], "LayerNorm.bias");
    assert_string_equal(report.unexpected.names[0], "two.weight");
    assert_int_equal(report.misshapen.count, 2);
    test_fails(ctx, mmf_pretrained_require(&report, "FILE"), MMF_FORMAT,
               "FILE: these are not the weights of this model: it lacks LayerNorm.bias; of another "
               "shape are ");
    test_fails(ctx, mmf_pretrained_require(&report, "FILE"), MMF_FORMAT,
               "one.bias: float32 (2) in the file, (3) here");
    test_fails(ctx, mmf_pretrained_require(&report, "FILE"), MMF_FORMAT, "two.weight");
    mmf_pretrained_report_clear(&report);
    static const char *const optional[] = {"LayerNorm.", "one.bias", NULL};
    const mmf_pretrained_rules lenient = {.optional = optional};
    test_ok(ctx, mmf_pretrained_load(ctx, mmf_module_params(module), "text",
                                     save(ctx, "tied.safetensors", other, 1), &lenient, &report));
    test_ok(ctx, mmf_pretrained_require(&report, "FILE"));
    assert_int_equal(report.kept.count, 3);
    mmf_pretrained_report_clear(&report);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void one_name_twice_is_refused(void **state)
{
    (void)state;
    const mmf_named_array twice[] = {{"LayerNorm.gamma", NORM}, {"bert.LayerNorm.weight", NORM}};
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_pretrained_report report;
    test_fails(ctx,
               mmf_pretrained_load(ctx, mmf_module_params(module), "text",
                                   save(ctx, "twice.safetensors", twice, 2), &mmf_pretrained_bert,
                                   &report),
               MMF_FORMAT, "are both LayerNorm.weight here");
    mmf_pretrained_report_clear(&report);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Shards ------------------------------------------------------------------------------ */

static const char *make_folder(mmf_ctx *ctx, const char *index)
{
    const char *const folder = test_path("shards");
    char path[512];
    test_ok(ctx, mmf_make_folder(ctx, folder));
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/part-%zu.safetensors", folder, i);
        test_ok(ctx, mmf_safetensors_save(ctx, path, whole + 2 * i, 2, NULL, 0));
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    test_ok(ctx, mmf_write_text(ctx, path, index, strlen(index)));
    return folder;
}

#define INDEX(first, third, more)                                                                  \
    "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"bert.one.weight\":\"" first                \
    "\",\"bert.one.bias\":\"part-0.safetensors\",\"bert.LayerNorm.gamma\":\"" third                \
    "\",\"bert.LayerNorm.beta\":\"part-1.safetensors\"" more "}}"

static void shards_are_one_checkpoint(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    mmf_pretrained_report report;
    const char *const folder =
        make_folder(ctx, INDEX("part-0.safetensors", "part-1.safetensors", ""));
    load(ctx, module, folder, &report);
    test_ok(ctx, mmf_pretrained_require(&report, folder));
    assert_int_equal(report.n_loaded, 4);
    assert_true(value(module, "text.LayerNorm.bias", 1) == -2);
    mmf_pretrained_report_clear(&report);
    mmf_module_free(module);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void an_index_that_lies_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        mmf_status status;
        const char *message;
    } bad[] = {
        {"{}", MMF_FORMAT, "weight_map"},
        {"{\"weight_map\":{\"a\":3}}", MMF_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\":\"../b.safetensors\"}}", MMF_FORMAT, "plain name"},
        {"{\"weight_map\":{\"a\":\"absent.safetensors\"}}", MMF_IO, "absent.safetensors"},
        {INDEX("part-1.safetensors", "part-1.safetensors", ""), MMF_FORMAT,
         "bert.one.weight is in part-1.safetensors, which does not have it"},
        {INDEX("part-0.safetensors", "part-1.safetensors", ",\"x\":\"part-1.safetensors\""),
         MMF_FORMAT, "does not have it"},
        {"{\"weight_map\":{\"bert.one.bias\":\"part-0.safetensors\"}}", MMF_FORMAT,
         "bert.one.weight, which the index does not list"},
    };
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mmf_pretrained_report report;
        test_fails(ctx,
                   mmf_pretrained_load(ctx, mmf_module_params(module), "text",
                                       make_folder(ctx, bad[i].index), &mmf_pretrained_bert,
                                       &report),
                   bad[i].status, bad[i].message);
        mmf_pretrained_report_clear(&report);
    }
    mmf_module_free(module);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void a_folder_without_weights_says_what_to_do(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx);
    const char *const folder = test_path("pickled");
    char path[512];
    mmf_pretrained_report report;
    test_ok(ctx, mmf_make_folder(ctx, folder));
    mmf_params *const params = mmf_module_params(module);
    test_fails(ctx, mmf_pretrained_load(ctx, params, "", folder, &mmf_pretrained_bert, &report),
               MMF_IO, "neither model.safetensors nor");
    snprintf(path, sizeof path, "%s/pytorch_model.bin", folder);
    test_ok(ctx, mmf_write_text(ctx, path, "PK", 2));
    test_fails(ctx, mmf_pretrained_load(ctx, params, "", folder, &mmf_pretrained_bert, &report),
               MMF_UNSUPPORTED, "scripts/convert_checkpoint.py");
    snprintf(path, sizeof path, "%s/model.pt", folder);
    test_fails(ctx, mmf_pretrained_load(ctx, params, "", path, &mmf_pretrained_bert, &report),
               MMF_UNSUPPORTED, "scripts/convert_checkpoint.py");
    snprintf(path, sizeof path, "%s/absent", folder);
    test_fails(ctx, mmf_pretrained_load(ctx, params, "", path, &mmf_pretrained_bert, &report),
               MMF_IO, "absent: cannot open");
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_types_are_translated),
        cmocka_unit_test(what_does_not_match_is_listed),
        cmocka_unit_test(one_name_twice_is_refused),
        cmocka_unit_test(shards_are_one_checkpoint),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(a_folder_without_weights_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
