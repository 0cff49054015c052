/*
 * test_contribution.c: Shapley values: the four axioms, a game worked out by hand, and that drawn
 * orders come near the exact values.
 */
#include <math.h>

#include "support.h"
#include "train/contribution.h"

enum { N = 4, N_SUBSETS = 1 << N, TINY = 3 };

static void near(double found, double wanted, double width)
{
    if (!(fabs(found - wanted) <= width))
        fail_msg("%.12g, expected %.12g within %g", found, wanted, width);
}

static void random_game(double values[N_SUBSETS], uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream("game"));
    for (int use = 0; use < N_SUBSETS; use++)
        values[use] = mmf_rng_normal(&rng);
}

/* Three players; a pair of 0 and 1 is worth 90, and 2 adds 30 to whatever it joins. By hand over
 * the six orders: 0 and 1 get 90 / 2 each, 2 gets 30. */
static void a_game_by_hand(void **state)
{
    (void)state;
    const double values[1 << TINY] = {0, 0, 0, 90, 30, 30, 30, 120};
    double phi[TINY];
    mmf_shapley_exact(TINY, values, phi);
    near(phi[0], 45, 1e-12);
    near(phi[1], 45, 1e-12);
    near(phi[2], 30, 1e-12);
    /* Without the sum being a sum: v = 1, 2, 4, pairs 5, 6, 9, all 10. phi_0 =
     * (2 (1 - 0) + (5 - 2) + (6 - 4) + 2 (10 - 9)) / 6 = 9 / 6. */
    const double other[1 << TINY] = {0, 1, 2, 5, 4, 6, 9, 10};
    mmf_shapley_exact(TINY, other, phi);
    near(phi[0], 9.0 / 6, 1e-12);
    near(phi[1], (2 * 2.0 + (5 - 1) + (9 - 4) + 2 * (10 - 6.0)) / 6, 1e-12);
    near(phi[2], (2 * 4.0 + (6 - 1) + (9 - 2) + 2 * (10 - 5.0)) / 6, 1e-12);
}

static void values_sum_to_full_minus_empty(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        double values[N_SUBSETS], phi[N], sum = 0;
        random_game(values, seed);
        mmf_shapley_exact(N, values, phi);
        for (int m = 0; m < N; m++)
            sum += phi[m];
        near(sum, values[N_SUBSETS - 1] - values[0], 1e-12);
    }
}

static int swap_bits(int use, int a, int b)
{
    const int x = use >> a & 1, y = use >> b & 1;
    return (use & ~(1 << a | 1 << b)) | x << b | y << a;
}

static void players_that_add_the_same_get_the_same(void **state)
{
    (void)state;
    double values[N_SUBSETS], even[N_SUBSETS], phi[N];
    random_game(values, 3);
    for (int use = 0; use < N_SUBSETS; use++)
        even[use] = (values[use] + values[swap_bits(use, 1, 3)]) / 2;
    mmf_shapley_exact(N, even, phi);
    near(phi[1], phi[3], 1e-12);
}

static void a_player_that_adds_nothing_gets_nothing(void **state)
{
    (void)state;
    double values[N_SUBSETS], idle[N_SUBSETS], phi[N];
    random_game(values, 4);
    for (int use = 0; use < N_SUBSETS; use++)
        idle[use] = values[use & ~4];
    mmf_shapley_exact(N, idle, phi);
    near(phi[2], 0, 1e-12);
}

static void contributions_add_with_games(void **state)
{
    (void)state;
    double a[N_SUBSETS], b[N_SUBSETS], both[N_SUBSETS], phi_a[N], phi_b[N], phi[N];
    random_game(a, 5);
    random_game(b, 6);
    for (int use = 0; use < N_SUBSETS; use++)
        both[use] = 2 * a[use] + b[use];
    mmf_shapley_exact(N, a, phi_a);
    mmf_shapley_exact(N, b, phi_b);
    mmf_shapley_exact(N, both, phi);
    for (int m = 0; m < N; m++)
        near(phi[m], 2 * phi_a[m] + phi_b[m], 1e-12);
}

/* ---- Drawn orders ------------------------------------------------------------------------ */

typedef struct counted_game {
    const double *values;
    int64_t n_asked;
    mmf_status answer;
} counted_game;

static mmf_status ask(void *user, uint64_t use, double *out)
{
    counted_game *const game = user;
    game->n_asked++;
    *out = game->values[use];
    return game->answer;
}

static void drawn_orders_come_near_and_sum_up(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    double values[N_SUBSETS], exact[N], drawn[N], error[N], sum = 0;
    random_game(values, 8);
    mmf_shapley_exact(N, values, exact);
    counted_game game = {.values = values};
    test_ok(ctx, mmf_shapley_sampled(ctx, N, 4000, 1, ask, &game, drawn, error));
    for (int m = 0; m < N; m++) {
        assert_true(error[m] > 0 && error[m] < 0.05);
        near(drawn[m], exact[m], 5 * error[m]);
        sum += drawn[m];
    }
    near(sum, values[N_SUBSETS - 1] - values[0], 1e-9);
    assert_int_equal(game.n_asked, N_SUBSETS); /* each subset once */
    double again[N], same[N];
    test_ok(ctx, mmf_shapley_sampled(ctx, N, 4000, 1, ask, &game, again, same));
    assert_memory_equal(again, drawn, sizeof drawn);
    mmf_ctx_free(ctx);
}

/* The standard error is that of the mean over orders: over many seeds it is the spread of means. */
static void the_error_is_the_spread_over_seeds(void **state)
{
    (void)state;
    enum { N_SEEDS = 300, N_ORDERS = 40 };
    mmf_ctx *const ctx = test_ctx();
    double values[N_SUBSETS], drawn[N], error[N], sum = 0, squares = 0, said = 0;
    random_game(values, 9);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        counted_game game = {.values = values};
        test_ok(ctx, mmf_shapley_sampled(ctx, N, N_ORDERS, seed, ask, &game, drawn, error));
        sum += drawn[0] / N_SEEDS;
        squares += drawn[0] * drawn[0] / N_SEEDS;
        said += error[0] / N_SEEDS;
    }
    near(said / sqrt(squares - sum * sum), 1, 0.15);
    mmf_ctx_free(ctx);
}

static void failures_and_wrong_numbers_are_handed_on(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    double values[N_SUBSETS] = {0}, drawn[N], error[N];
    counted_game game = {.values = values, .answer = MMF_CANCELLED};
    assert_int_equal(mmf_shapley_sampled(ctx, N, 9, 0, ask, &game, drawn, error), MMF_CANCELLED);
    test_fails(ctx, mmf_shapley_sampled(ctx, N, 1, 0, ask, &game, drawn, error), MMF_ARG,
               "1 orders");
    test_fails(ctx, mmf_shapley_sampled(ctx, 64, 9, 0, ask, &game, drawn, error), MMF_ARG,
               "64 modalities");
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_game_by_hand),
        cmocka_unit_test(values_sum_to_full_minus_empty),
        cmocka_unit_test(players_that_add_the_same_get_the_same),
        cmocka_unit_test(a_player_that_adds_nothing_gets_nothing),
        cmocka_unit_test(contributions_add_with_games),
        cmocka_unit_test(drawn_orders_come_near_and_sum_up),
        cmocka_unit_test(the_error_is_the_spread_over_seeds),
        cmocka_unit_test(failures_and_wrong_numbers_are_handed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
