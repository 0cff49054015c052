/*
 * test_numbers.c: which token holds the largest number? Only `number` says values, so that mm-gnn
 * finds out with its graph of numbers and not without.
 *
 * The first question of scripts/make_scene_text.py, smaller.
 */
#include "train/training_data.h"

enum {
    ROWS = 1500,
    TRAIN = 1000,
    VALID = 200,
    SLOTS = 3,
    WORDS = 2,
    WORD = 3,
    BOX = 4,
    EPOCHS = 25
};

typedef struct lists {
    float question[ROWS * 3], token[ROWS * SLOTS * WORD], token_box[ROWS * SLOTS * BOX];
    float vision[ROWS * SLOTS * WORD], vision_box[ROWS * SLOTS * BOX], number[ROWS * SLOTS * 2];
    int32_t label[ROWS];
} lists;

static void draw_boxes(mmf_rng *rng, float *out)
{
    for (int c = 0; c < 2; c++) {
        out[c] = (float)mmf_rng_uniform(rng);
        out[2 + c] = out[c] + (float)(0.1 + 0.3 * mmf_rng_uniform(rng));
    }
}

/* One row in four asks for a word of the vocabulary that the question says itself, so that words
 * are answers too. */
static void draw_lists(lists *t)
{
    mmf_rng rng = mmf_rng_make(8, 0);
    for (int64_t i = 0; i < ROWS; i++) {
        const int word = i % 4 == 3 ? (int)(i / 4 % WORDS) : -1;
        int64_t best = 0;
        for (int k = 0; k < 3; k++)
            t->question[3 * i + k] = k == word + 1;
        for (int64_t s = i * SLOTS; s < (i + 1) * SLOTS; s++) {
            for (int d = 0; d < WORD; d++) {
                t->token[s * WORD + d] = (float)mmf_rng_normal(&rng);
                t->vision[s * WORD + d] = (float)mmf_rng_normal(&rng);
            }
            draw_boxes(&rng, t->token_box + s * BOX);
            draw_boxes(&rng, t->vision_box + s * BOX);
            t->number[2 * s] = (float)(2 * mmf_rng_normal(&rng));
            t->number[2 * s + 1] = 1;
            best = t->number[2 * s] > t->number[2 * (i * SLOTS + best)] ? s - i * SLOTS : best;
        }
        t->label[i] = word >= 0 ? word : WORDS + (int32_t)best;
    }
}

static const char *write_lists(mmf_ctx *ctx, const lists *t)
{
    builder b = {0};
    put(&b, "question", floats(t->question, ROWS, 3, 0, 0));
    put(&b, "token", floats(t->token, ROWS, SLOTS, WORD, 0));
    put(&b, "token_box", floats(t->token_box, ROWS, SLOTS, BOX, 0));
    put(&b, "vision", floats(t->vision, ROWS, SLOTS, WORD, 0));
    put(&b, "vision_box", floats(t->vision_box, ROWS, SLOTS, BOX, 0));
    put(&b, "number", floats(t->number, ROWS, SLOTS, 2, 0));
    put(&b, "label", ints(t->label, ROWS, 0));
    return write_file(ctx, &b);
}

/* On the questions for numbers that training did not see. */
static double accuracy_with(const lists *t, const char *numeric)
{
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *dataset = NULL;
    mmf_model *model = NULL;
    int64_t rows[ROWS], n_right = 0, n_asked = 0;
    double *const p = calloc(ROWS * (WORDS + SLOTS), sizeof *p);
    mmf_config *const config = quick_config(ctx, "mm-gnn", 32, "0");
    mmf_train_options options = quick_options(TEST_SAMPLE ? 1 : EPOCHS, 40);
    assert_non_null(p);
    for (int64_t i = 0; i < ROWS; i++)
        rows[i] = i;
    const mmf_split split = {.rows = {rows, rows + TRAIN, rows + TRAIN + VALID},
                             .count = {TRAIN, VALID, ROWS - TRAIN - VALID}};
    options.no_normalise = true;
    options.optimizer.lr = 3e-3;
    test_ok(ctx, mmf_config_set(config, "numeric", numeric));
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, write_lists(ctx, t), NULL));
    test_ok(ctx, mmf_train(ctx, &model, dataset, &split, "mm-gnn", config, &options));
    assert_int_equal(mmf_model_task(model)->n_outputs, WORDS + SLOTS);
    test_ok(ctx, mmf_model_predict_rows(model, dataset, rows, ROWS, MMF_ALL_MODALITIES, p));
    for (int64_t i = TRAIN + VALID; i < ROWS; i++) {
        const double *const row = p + i * (WORDS + SLOTS);
        int64_t best = 0;
        for (int64_t c = 1; c < WORDS + SLOTS; c++)
            best = row[c] > row[best] ? c : best;
        n_asked += t->label[i] >= WORDS;
        n_right += t->label[i] >= WORDS && best == t->label[i];
    }
    free(p);
    mmf_config_free(config);
    mmf_model_free(model);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
    return (double)n_right / (double)n_asked;
}

static void numbers_are_compared_by_their_graph(void **state)
{
    (void)state;
    lists *const t = calloc(1, sizeof *t);
    assert_non_null(t);
    draw_lists(t);
    const double with = accuracy_with(t, "true"), without = accuracy_with(t, "false");
    printf("  largest number: with the graph %.3f, without %.3f\n", with, without);
    if (!TEST_SAMPLE)
        assert_true(with > 0.9 && without < 0.5);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(numbers_are_compared_by_their_graph)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
