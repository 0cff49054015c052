/* test_data_faults.c: every allocation of opening, splitting, normalising and filling fails once;
 * each time the caller gets MMF_NOMEM and nothing stays behind. */
#include "data_builder.h"

#include <stdlib.h>

enum { N = 12 };

typedef struct faulty {
    int64_t left; /* allocations that still succeed; negative: all */
} faulty;

static void *faulty_alloc(void *user, size_t bytes)
{
    faulty *const f = user;
    if (f->left == 0)
        return NULL;
    f->left -= f->left > 0;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void faulty_release(void *user, void *pointer)
{
    (void)user;
    free(pointer);
}

static mmf_status work(mmf_ctx *ctx, mmf_dataset *ds)
{
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
    mmf_split split;
    MMF_TRY(mmf_split_make(ctx, &split, ds, &o));
    mmf_normalisation norm = {.n_modalities = 0};
    mmf_batch batch = {.ctx = ctx};
    mmf_status status = mmf_normalisation_fit(ctx, &norm, ds, split.rows[0], split.count[0]);
    if (status == MMF_OK)
        status = mmf_batch_create(ctx, &batch, ds, 4);
    if (status == MMF_OK)
        status = mmf_batch_fill(&batch, ds, &norm, split.rows[2], split.count[2] ? 1 : 0);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_split_clear(ctx, &split);
    if (status != MMF_OK)
        return status;
    o.n_folds = 2;
    if (mmf_dataset_target_kind(ds) == MMF_TARGET_CLASS)
        o.train_per_class = 1;
    MMF_TRY(mmf_split_make(ctx, &split, ds, &o));
    mmf_split_clear(ctx, &split);
    return MMF_OK;
}

static mmf_status scenario(mmf_ctx *ctx, const char *path, const mmf_dataset_options *o)
{
    mmf_dataset *ds = NULL;
    const mmf_status opened = mmf_dataset_open(ctx, &ds, path, o);
    if (opened != MMF_OK) {
        assert_null(ds);
        return opened;
    }
    const mmf_status status = work(ctx, ds);
    mmf_dataset_close(ds);
    return status;
}

/* Fails the 1st, 2nd, ... allocation until the scenario runs to its end. */
static void fail_each(const char *path, const mmf_dataset_options *o, mmf_status end)
{
    faulty f = {.left = -1};
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.allocator = (mmf_allocator){faulty_alloc, faulty_release, &f};
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    for (int64_t n = 0; n < 2000; n++) {
        f.left = n;
        const mmf_status status = scenario(ctx, path, o);
        assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
        if (f.left > 0) {
            assert_int_equal(status, end);
            assert_true(n > 10);
            f.left = -1;
            mmf_ctx_free(ctx);
            return;
        }
        if (status != MMF_NOMEM && !(f.left == 0 && status == end))
            fail_msg("allocation %lld: %s (%s)", (long long)n, mmf_status_name(status),
                     mmf_ctx_error(ctx));
    }
    fail_msg("the scenario never ended");
}

static const float x[N * 6] = {1, 2, 3};
static const int32_t length[N] = {1, 2, 3, 0, 1, 2, 3, 1, 1, 2, 3, 1};
static const int32_t index_[N] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5};
static const int32_t group[N] = {0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4};
static const int32_t label[N] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
static const float number[N] = {.5f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const float columns[N * 2] = {1, 0, 1, 1};

static builder full_file(void)
{
    builder b = {.n = 0};
    put(&b, "vec", floats(x, N, 2, 0, 0));
    put(&b, "seq", floats(x, N, 3, 2, 0));
    put(&b, "seq.length", ints(length, N, 0));
    put(&b, "img", floats(x, N / 2, 1, 2, 2));
    put(&b, "img.index", ints(index_, N, 0));
    put(&b, "tok", ints(length, N, 1));
    put(&b, "label", ints(label, N, 0));
    put(&b, "numbers", floats(number, N, 0, 0, 0));
    put(&b, "columns", floats(columns, N, 2, 0, 0));
    return b;
}

static void test_each_allocation_fails(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = full_file();
    mmf_dataset_options o = options_of(NULL, "tok=tokens", NULL, NULL);
    o.check_finite = true;
    fail_each(write_file(ctx, &b), &o, MMF_OK);
    o.target = "columns";
    o.task = "multilabel";
    fail_each(write_file(ctx, &b), &o, MMF_OK);
    o.target = "numbers";
    o.task = NULL;
    put(&b, "group", ints(group, N, 0));
    fail_each(write_file(ctx, &b), &o, MMF_OK);
    mmf_ctx_free(ctx);
}

/* The messages that list or search names take memory as well. */
static void test_allocations_of_messages_fail(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = full_file();
    const char *const path = write_file(ctx, &b);
    mmf_dataset_options o = options_of("vex", NULL, NULL, NULL);
    fail_each(path, &o, MMF_ARG);
    o = options_of("something", NULL, NULL, NULL);
    fail_each(path, &o, MMF_ARG);
    o = options_of(NULL, NULL, "something", NULL);
    fail_each(path, &o, MMF_ARG);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_fails),
        cmocka_unit_test(test_allocations_of_messages_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
