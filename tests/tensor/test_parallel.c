/* test_parallel.c: loops in ranges: every item once, in ranges that sizes alone decide, and threads
 * that help each other. */
#include <stdlib.h>
#include <time.h>

#include "support.h"
#include "tensor/tape.h"

enum { MOST = 400, WAIT_SECONDS = 20 };

static void make(int n_threads, mmf_ctx **ctx, mmf_tape **tape)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = n_threads;
    assert_int_equal(mmf_ctx_create(ctx, &options), MMF_OK);
    test_ok(*ctx, mmf_tape_create(*ctx, tape));
    mmf_tape_begin(*tape, &(mmf_pass){0});
}

/* ---- Ranges ------------------------------------------------------------------------------ */

typedef struct visits {
    int64_t n, grain;
    int times[MOST];
    int n_odd; /* ranges that are not those of n and grain */
} visits;

static void visit(void *argument, int64_t begin, int64_t end)
{
    visits *const v = argument;
    const int64_t whole = begin + v->grain;
    if (begin % v->grain != 0 || end != (whole < v->n ? whole : v->n))
        __atomic_fetch_add(&v->n_odd, 1, __ATOMIC_RELAXED);
    for (int64_t i = begin; i < end; i++)
        __atomic_fetch_add(&v->times[i], 1, __ATOMIC_RELAXED);
}

/* Also with more threads than ranges, and more than have a share of their own. */
static void test_every_item_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5, 70};
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        mmf_ctx *ctx = NULL;
        mmf_tape *tape = NULL;
        make(threads[t], &ctx, &tape);
        for (int64_t n = 0; n <= MOST; n += n < 8 ? 1 : 49) {
            for (int64_t grain = 1; grain <= 64; grain = 2 * grain + 1) {
                visits v = {.n = n, .grain = grain};
                mmf_tape__parallel(tape, n, grain, visit, &v);
                assert_int_equal(v.n_odd, 0);
                for (int64_t i = 0; i < MOST; i++) {
                    if (v.times[i] != (i < n))
                        fail_msg("%d threads, n %lld, grain %lld: item %lld %d times", threads[t],
                                 (long long)n, (long long)grain, (long long)i, v.times[i]);
                }
            }
        }
        mmf_tape_free(tape);
        mmf_ctx_free(ctx);
    }
}

/* ---- Help -------------------------------------------------------------------------------- */

typedef struct held {
    int64_t n, n_done;
    bool was_helped;
} held;

/* The first range ends when all others have, or gives up. */
static void hold(void *argument, int64_t begin, int64_t end)
{
    held *const h = argument;
    (void)end;
    const time_t start = time(NULL);
    while (begin == 0 && !h->was_helped && time(NULL) - start < WAIT_SECONDS)
        h->was_helped = __atomic_load_n(&h->n_done, __ATOMIC_ACQUIRE) == h->n - 1;
    __atomic_fetch_add(&h->n_done, 1, __ATOMIC_RELEASE);
}

static void test_threads_help_one_that_is_held(void **state)
{
    (void)state;
#ifndef _OPENMP
    skip(); /* one thread */
#endif
    mmf_ctx *ctx = NULL;
    mmf_tape *tape = NULL;
    make(2, &ctx, &tape);
    held h = {.n = 9};
    mmf_tape__parallel(tape, h.n, 1, hold, &h);
    assert_true(h.was_helped);
    assert_int_equal(h.n_done, h.n);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_threads_help_one_that_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
