/* test_dataset.c: what the arrays of a file become: modalities, targets, notes. */
#include "data_builder.h"

enum { N = 6 };

static const float vec[N * 2] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const float seq[N * 3 * 2] = {1};
static const float img[N * 1 * 2 * 2] = {1};
static const int32_t tok[N * 4] = {3, 1, 0, 0, 2};
static const int32_t label[N] = {0, 1, 2, 0, 1, 2};
static const char names3[3][8] = {"red", "green", "blue"};
static const char words[5][8] = {"a", "b", "c", "d", "e"};
static const char ids[N][8] = {"first", "second", "third", "f\xc3\xbcnf", "e", "f"};

static builder base_file(void)
{
    builder b = {.n = 0};
    put(&b, "vec", floats(vec, N, 2, 0, 0));
    put(&b, "seq", floats(seq, N, 3, 2, 0));
    put(&b, "img", floats(img, N, 1, 2, 2));
    put(&b, "tok", ints(tok, N, 4));
    put(&b, "label", ints(label, N, 0));
    return b;
}

static void test_kinds_follow_shapes(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    assert_int_equal(mmf_dataset_count(ds), N);
    assert_int_equal(mmf_dataset_n_modalities(ds), 4);
    const struct {
        const char *name;
        mmf_modality_kind kind;
        int n_dims;
        int64_t shape[3];
    } wanted[] = {{"vec", MMF_VECTOR, 1, {2}},
                  {"seq", MMF_SEQUENCE, 2, {3, 2}},
                  {"img", MMF_IMAGE, 3, {1, 2, 2}},
                  {"tok", MMF_VECTOR, 1, {4}}};
    for (size_t i = 0; i < 4; i++) {
        const mmf_modality *const m = mmf_dataset_modality(ds, i);
        assert_string_equal(m->name, wanted[i].name);
        assert_int_equal(m->kind, wanted[i].kind);
        assert_int_equal(m->n_dims, wanted[i].n_dims);
        for (int d = 0; d < m->n_dims; d++)
            assert_int_equal(m->shape[d], wanted[i].shape[d]);
        assert_int_equal(m->n_rows, N);
        assert_false(m->has_length || m->has_present || m->has_index);
        assert_int_equal(m->names.n_dims, 0);
        assert_int_equal(m->vocab.n_dims, 0);
        assert_int_equal(mmf_dataset_find(ds, wanted[i].name), (int64_t)i);
    }
    assert_int_equal(mmf_dataset_modality(ds, 0)->dtype, MMF_F32);
    assert_int_equal(mmf_dataset_modality(ds, 3)->dtype, MMF_I32);
    assert_null(mmf_dataset_modality(ds, 4));
    assert_int_equal(mmf_dataset_find(ds, "label"), -1);
    assert_false(mmf_dataset_has_split(ds));
    assert_false(mmf_dataset_has_group(ds));
    assert_string_equal(mmf_modality_kind_name(MMF_TOKENS), "tokens");
    mmf_dataset_close(ds);
    mmf_dataset_close(NULL);
    mmf_ctx_free(ctx);
}

static void test_tokens_need_vocab_or_option(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    mmf_dataset_options o = options_of("tok", "tok=tokens", NULL, NULL);
    mmf_dataset *ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->kind, MMF_TOKENS);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab_size, 4);
    mmf_dataset_close(ds);

    put(&b, "tok.vocab", texts(words, 5));
    o = options_of("tok", NULL, NULL, NULL);
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->kind, MMF_TOKENS);
    assert_int_equal(mmf_dataset_modality(ds, 0)->shape[0], 4);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab_size, 5);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab.shape[0], 5);
    mmf_dataset_close(ds);

    o = options_of("tok", "tok=features", NULL, NULL);
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->kind, MMF_VECTOR);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab_size, 0);
    mmf_dataset_close(ds);

    o = options_of("tok, vec", "tok=sequence,vec=features", NULL, NULL);
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->kind, MMF_SEQUENCE);
    assert_int_equal(mmf_dataset_modality(ds, 0)->shape[0], 4);
    assert_int_equal(mmf_dataset_modality(ds, 0)->shape[1], 1);
    mmf_dataset_close(ds);

    /* Floating-point numbers stay features whatever vocabulary stands beside them. */
    put(&b, "vec.vocab", texts(words, 5));
    o = options_of("vec", NULL, NULL, NULL);
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->kind, MMF_VECTOR);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab.n_dims, 0);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_token_padding_is_not_read(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    static const int32_t padded[N * 4] = {7,  1, -1, -1, 2, -1, -1, -1, 1, 1, 1, 1,
                                          -9, 0, 0,  0,  1, 1,  1,  1,  1, 1, 1, 1};
    static const int32_t length[N] = {2, 1, 4, 0, 4, 4};
    put(&b, "tok", ints(padded, N, 4));
    put(&b, "tok.length", ints(length, N, 0));
    const mmf_dataset_options o = options_of("tok", "tok=tokens", NULL, NULL);
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->vocab_size, 8);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_absent, 1);
    assert_true(mmf_dataset_modality(ds, 0)->has_present);
    assert_false(mmf_dataset_present(ds, 0, 3));
    assert_true(mmf_dataset_present(ds, 0, 2));
    assert_false(mmf_dataset_present(ds, 0, N));
    assert_false(mmf_dataset_present(ds, 1, 0));
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void check_target(mmf_ctx *ctx, const builder *b, const char *target, const char *task,
                         mmf_target_kind kind, int64_t n_classes)
{
    const mmf_dataset_options o = options_of("vec", NULL, target, task);
    mmf_dataset *const ds = open_built(ctx, b, &o);
    assert_int_equal(mmf_dataset_target_kind(ds), kind);
    assert_int_equal(mmf_dataset_n_classes(ds), n_classes);
    assert_string_equal(mmf_dataset_target_name(ds), target ? target : "label");
    mmf_dataset_close(ds);
}

static void test_target_kinds(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    static const float whole[N] = {0, 1, 3, 0, 1, 1}, broken[N] = {0, 1, 2, 0.5f, 1, 1};
    static const float soft[N * 2] = {.5f, .5f, 0, 1, 1, 0, .25f, .75f, .1f, .9f, 1, 0};
    static const float multi[N * 2] = {1, 1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0};
    static const float scores[N * 2] = {.9f, .6f, 0, 1, 1, 0, 0, 0, .3f, 1, 1, 0};
    put(&b, "whole", floats(whole, N, 0, 0, 0));
    put(&b, "broken", floats(broken, N, 0, 0, 0));
    put(&b, "soft", floats(soft, N, 2, 0, 0));
    put(&b, "multi", floats(multi, N, 2, 0, 0));
    put(&b, "scores", floats(scores, N, 2, 0, 0));
    put(&b, "column", floats(whole, N, 1, 0, 0));
    check_target(ctx, &b, NULL, NULL, MMF_TARGET_CLASS, 3);
    check_target(ctx, &b, NULL, "regression", MMF_TARGET_REAL, 1);
    check_target(ctx, &b, "whole", NULL, MMF_TARGET_CLASS, 4);
    check_target(ctx, &b, "column", NULL, MMF_TARGET_CLASS, 4);
    put(&b, "flags", floats(multi, N, 1, 0, 0));
    check_target(ctx, &b, "flags", "multilabel", MMF_TARGET_MULTILABEL, 1);
    check_target(ctx, &b, "broken", NULL, MMF_TARGET_REAL, 1);
    check_target(ctx, &b, "soft", NULL, MMF_TARGET_SOFT, 2);
    check_target(ctx, &b, "scores", "soft", MMF_TARGET_SOFT, 2);
    check_target(ctx, &b, "multi", "multilabel", MMF_TARGET_MULTILABEL, 2);
    mmf_ctx_free(ctx);
}

static void test_fifty_values_are_classes(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static float x[102];
    static double value[102];
    for (int i = 0; i < 102; i++)
        value[i] = i * 37 % 51; /* 51 different values in mixed order */
    builder b = {.n = 0};
    put(&b, "vec", floats(x, 102, 1, 0, 0));
    put(&b, "label", numbers(MMF_F64, value, 102, 0, 0, 0));
    check_target(ctx, &b, NULL, NULL, MMF_TARGET_REAL, 1);
    check_target(ctx, &b, NULL, "classification", MMF_TARGET_CLASS, 51);
    for (int i = 0; i < 102; i++)
        value[i] = value[i] == 50 ? 0 : value[i];
    check_target(ctx, &b, NULL, NULL, MMF_TARGET_CLASS, 50);
    mmf_ctx_free(ctx);
}

static void test_class_names_widen_and_follow_the_target(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    static const int32_t two[N] = {0, 1, 0, 1, 0, 1};
    put(&b, "two", ints(two, N, 0));
    put(&b, "two.names", texts(names3, 3));
    const mmf_dataset_options o = options_of("vec", NULL, "two", NULL);
    mmf_dataset *ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_n_classes(ds), 3);
    const mmf_array names = mmf_dataset_class_names(ds);
    size_t n = 0;
    assert_int_equal(names.n_dims, 1);
    assert_memory_equal(mmf_array_string(&names, 2, &n), "blue", 4);
    assert_int_equal(n, 4);
    double value = -1;
    mmf_dataset_target(ds, 3, &value);
    assert_true(value == 1);
    /* The other label is no modality and no secret: it is a note. */
    assert_string_equal(mmf_dataset_note(ds, 0), "label");
    assert_null(mmf_dataset_note(ds, 1));
    mmf_dataset_close(ds);
    ds = open_built(ctx, &b, NULL);
    assert_string_equal(mmf_dataset_note(ds, 0), "two");
    assert_string_equal(mmf_dataset_note(ds, 1), "two.names");
    assert_null(mmf_dataset_note(ds, 2));
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_notes(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    put(&b, "caption", texts(ids, N));
    put(&b, "vec.extra", floats(vec, 3, 0, 0, 0));
    put(&b, "gone.length", ints(label, N, 0));
    put(&b, "vec.length", ints(label, N, 0));
    put(&b, "seq.length", ints(label, N, 0));
    put(&b, "age", floats(vec, 7, 0, 0, 0));
    put(&b, "id", texts(ids, N));
    put(&b, "vec.names", texts(ids, 2));
    const mmf_dataset_options o = options_of("vec,img", NULL, NULL, NULL);
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    static const char *const wanted[] = {"caption", "vec.extra", "gone.length", "vec.length",
                                         "age"};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(mmf_dataset_note(ds, i), wanted[i]);
    assert_null(mmf_dataset_note(ds, 5));
    assert_int_equal(mmf_dataset_modality(ds, 0)->names.shape[0], 2);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_ids(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    char id[16];
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    mmf_dataset_id(ds, 4, id, sizeof id);
    assert_string_equal(id, "4");
    mmf_dataset_id(ds, -1, id, sizeof id);
    assert_string_equal(id, "");
    mmf_dataset_close(ds);
    put(&b, "id", texts(ids, N));
    ds = open_built(ctx, &b, NULL);
    mmf_dataset_id(ds, 1, id, sizeof id);
    assert_string_equal(id, "second");
    mmf_dataset_id(ds, 1, id, 4);
    assert_string_equal(id, "sec");
    mmf_dataset_id(ds, 3, id, 3); /* would end inside the two bytes of a letter */
    assert_string_equal(id, "f");
    mmf_dataset_close(ds);
    static const int64_t number[N] = {100, 101, 102, 103, 104, 105};
    put(&b, "id", numbers(MMF_I64, number, N, 0, 0, 0));
    ds = open_built(ctx, &b, NULL);
    mmf_dataset_id(ds, 2, id, sizeof id);
    assert_string_equal(id, "102");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_absent_and_shared_rows(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    static const uint8_t present[N] = {1, 0, 1, 1, 0, 1};
    static const int32_t length[N] = {3, 3, 0, 1, 0, 2};
    static const int32_t index[N] = {0, -1, 1, 1, 77, 0};
    put(&b, "seq", floats(seq, 2, 3, 2, 0));
    put(&b, "seq.present", numbers(MMF_BOOL, present, N, 0, 0, 0));
    put(&b, "seq.length", ints(length, N, 0));
    put(&b, "seq.index", ints(index, N, 0));
    const mmf_dataset_options o = options_of("seq", NULL, NULL, NULL);
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    const mmf_modality *const m = mmf_dataset_modality(ds, 0);
    assert_int_equal(m->n_rows, 2);
    assert_int_equal(m->n_absent, 3);
    assert_true(m->has_length && m->has_present && m->has_index);
    for (int64_t i = 0; i < N; i++)
        assert_int_equal(mmf_dataset_present(ds, 0, i), i == 0 || i == 3 || i == 5);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_nonfinite(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = {.n = 0};
    static float x[N * 3 * 2];
    static const int32_t length[N] = {3, 1, 3, 3, 0, 3};
    x[1 * 6 + 2] = (float)(0.0 / 0.0); /* beyond the length of row 1 */
    x[4 * 6] = (float)(1.0 / 0.0);     /* in row 4, which is absent */
    put(&b, "seq", floats(x, N, 3, 2, 0));
    put(&b, "seq.length", ints(length, N, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset_options o = MMF_DATASET_OPTIONS_INIT;
    mmf_dataset *ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_nonfinite, -1);
    mmf_dataset_close(ds);
    o.check_finite = true;
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_nonfinite, 0);
    mmf_dataset_close(ds);

    x[3 * 6 + 5] = (float)(-1.0 / 0.0);
    x[5 * 6] = x[5 * 6 + 1] = (float)(0.0 / 0.0);
    must_fail(ctx, &b, &o, MMF_NUMERIC, "\"seq\"", "row 3", "-inf");
    o.nonfinite = MMF_NONFINITE_ZERO;
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_nonfinite, 3);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_absent, 1);
    mmf_dataset_close(ds);
    o.nonfinite = MMF_NONFINITE_ABSENT;
    o.check_finite = false; /* presence must be known all the same */
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_nonfinite, 3);
    assert_int_equal(mmf_dataset_modality(ds, 0)->n_absent, 3);
    assert_false(mmf_dataset_present(ds, 0, 3));
    assert_false(mmf_dataset_present(ds, 0, 5));
    assert_true(mmf_dataset_present(ds, 0, 1));
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_target_optional(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = {.n = 0};
    put(&b, "vec", floats(vec, N, 2, 0, 0));
    mmf_dataset_options o = MMF_DATASET_OPTIONS_INIT;
    o.target_optional = true;
    mmf_dataset *ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_NONE);
    assert_int_equal(mmf_dataset_count(ds), N);
    assert_int_equal(mmf_dataset_n_classes(ds), 0);
    double untouched = 42;
    mmf_dataset_target(ds, 0, &untouched);
    assert_true(untouched == 42);
    mmf_dataset_close(ds);
    put(&b, "label", texts(ids, N));
    ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_NONE);
    assert_string_equal(mmf_dataset_note(ds, 0), "label");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

/* Every element type of the contract gives the same data set. */
static void test_types_on_disk(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const uint16_t half[N * 2] = {0x3c00, 0x4000, 0xc000}; /* 1, 2, -2 */
    static const double f64[N * 2] = {1, 2, -2};
    static const int8_t i8[N * 2] = {1, 2, -2};
    static const uint64_t u64[N * 2] = {1, 2, 2};
    static const uint8_t truth[N * 2] = {1, 0, 1};
    const mmf_array arrays[] = {
        numbers(MMF_F16, half, N, 2, 0, 0),   numbers(MMF_F64, f64, N, 2, 0, 0),
        numbers(MMF_I8, i8, N, 2, 0, 0),      numbers(MMF_U64, u64, N, 2, 0, 0),
        numbers(MMF_BOOL, truth, N, 2, 0, 0),
    };
    static const float second[] = {-2, -2, -2, 2, 1};
    for (size_t i = 0; i < 5; i++) {
        builder b = {.n = 0};
        put(&b, "m", arrays[i]);
        put(&b, "label", ints(label, N, 0));
        mmf_dataset *const ds = open_built(ctx, &b, NULL);
        assert_int_equal(mmf_dataset_modality(ds, 0)->dtype, arrays[i].dtype);
        mmf_batch batch;
        test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 2));
        test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, (int64_t[]){0, 1}, 2));
        assert_true(batch.inputs[0].values[0] == 1);
        assert_true(batch.inputs[0].values[2] == second[i]);
        mmf_batch_clear(&batch);
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

static uint64_t fingerprint_of(mmf_ctx *ctx, const builder *b, const mmf_dataset_options *o)
{
    mmf_dataset *const ds = open_built(ctx, b, o);
    const uint64_t hash = mmf_dataset_fingerprint(ds);
    mmf_dataset_close(ds);
    return hash;
}

static void test_fingerprint(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = base_file();
    const uint64_t first = fingerprint_of(ctx, &b, NULL);
    assert_true(first == fingerprint_of(ctx, &b, NULL));
    const mmf_dataset_options o = options_of("vec", NULL, NULL, NULL);
    assert_true(first != fingerprint_of(ctx, &b, &o));
    /* One feature differs: the shapes, the size and the targets do not. */
    float changed[2 * N];
    memcpy(changed, vec, sizeof changed);
    changed[2 * N - 1] += 1;
    put(&b, "vec", floats(changed, N, 2, 0, 0));
    assert_true(first != fingerprint_of(ctx, &b, NULL));
    put(&b, "vec", floats(vec, N, 2, 0, 0));
    assert_true(first == fingerprint_of(ctx, &b, NULL));
    static const int32_t other[N] = {0, 1, 2, 0, 1, 1};
    put(&b, "label", ints(other, N, 0));
    assert_true(first != fingerprint_of(ctx, &b, NULL));
    mmf_ctx_free(ctx);
}

static void test_archive_in_memory(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char table[] = "vec.0,vec.1,label\n1,2,0\n3,4,1\n5,6,0\n";
    mmf_archive *archive = NULL;
    test_ok(ctx,
            mmf_archive_open_memory(ctx, &archive, "table", "csv", table, sizeof table - 1, NULL));
    mmf_dataset *ds = NULL;
    test_ok(ctx, mmf_dataset_from_archive(ctx, &ds, archive, NULL));
    assert_string_equal(mmf_dataset_path(ds), "table");
    assert_int_equal(mmf_dataset_count(ds), 3);
    assert_int_equal(mmf_dataset_n_classes(ds), 2);
    assert_int_equal(mmf_dataset_modality(ds, 0)->shape[0], 2);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_follow_shapes),
        cmocka_unit_test(test_tokens_need_vocab_or_option),
        cmocka_unit_test(test_token_padding_is_not_read),
        cmocka_unit_test(test_target_kinds),
        cmocka_unit_test(test_fifty_values_are_classes),
        cmocka_unit_test(test_class_names_widen_and_follow_the_target),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_absent_and_shared_rows),
        cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_target_optional),
        cmocka_unit_test(test_types_on_disk),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_archive_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
