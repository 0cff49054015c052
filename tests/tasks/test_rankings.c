/* test_rankings.c: ranks and average precision against their definition, with ties, for few and
 * many relevant candidates. */
#include <math.h>

#include "support.h"
#include "tasks/metric_functions.h"

enum { N = 60 };

static bool comes_before(const mmf_candidate_item *a, const mmf_candidate_item *b)
{
    return a->similarity > b->similarity || (a->similarity == b->similarity && a->place < b->place);
}

/* Over the relevant candidates j: (relevant ones up to j) / (all up to j). */
static mmf_query_result by_definition(const mmf_candidate_item *items)
{
    mmf_query_result result = {.rank = -1, .precision = 0};
    int64_t n_relevant = 0;
    for (int j = 0; j < N; j++) {
        int64_t all = 1, relevant = 1;
        if (!items[j].is_relevant)
            continue;
        for (int i = 0; i < N; i++) {
            all += comes_before(&items[i], &items[j]);
            relevant += items[i].is_relevant && comes_before(&items[i], &items[j]);
        }
        result.rank = relevant == 1 ? all - 1 : result.rank;
        result.precision += (double)relevant / (double)all;
        n_relevant++;
    }
    result.precision /= (double)n_relevant;
    return result;
}

static void rankings_follow_their_definition(void **state)
{
    (void)state;
    mmf_rng rng = mmf_rng_make(11, 0);
    for (uint64_t share = 1; share <= N; share++) {
        mmf_candidate_item items[N];
        for (int i = 0; i < N; i++)
            items[i] = (mmf_candidate_item){.similarity = (double)mmf_rng_below(&rng, 9),
                                            .place = i,
                                            .is_relevant = mmf_rng_below(&rng, N) < share};
        items[share - 1].is_relevant = true;
        const mmf_query_result wanted = by_definition(items);
        const mmf_query_result found = mmf_rank_candidates(items, N);
        assert_int_equal(found.rank, wanted.rank);
        assert_true(fabs(found.precision - wanted.precision) < 1e-12);
    }
}

static void queries_without_an_answer_are_left_out(void **state)
{
    (void)state;
    mmf_candidate_item items[] = {{1, 0, false}, {2, 1, false}};
    const mmf_query_result none = mmf_rank_candidates(items, 2);
    mmf_query_result queries[] = {
        none, {.rank = 6, .precision = 0.25}, {.rank = 0, .precision = 1}};
    mmf_metrics m = {0};
    assert_true(none.rank == -1 && isnan(none.precision));
    mmf_metrics_retrieval(&m, "a_to_b.", queries, 3);
    assert_true(mmf_metrics_get(&m, "a_to_b.recall@1") == 0.5);
    assert_true(mmf_metrics_get(&m, "a_to_b.recall@10") == 1);
    assert_true(mmf_metrics_get(&m, "a_to_b.median_rank") == 4);
    assert_true(mmf_metrics_get(&m, "a_to_b.mean_rank") == 4);
    assert_true(mmf_metrics_get(&m, "a_to_b.map") == 0.625);
    assert_true(!mmf_metric_higher_is_better("a_to_b.mean_rank"));
    assert_true(mmf_metric_higher_is_better("a_to_b.map"));
    m.count = 0;
    mmf_metrics_retrieval(&m, "", queries, 1); /* only the one without an answer */
    for (size_t i = 0; i < m.count; i++)
        assert_true(isnan(m.items[i].value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rankings_follow_their_definition),
        cmocka_unit_test(queries_without_an_answer_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
