/*
 * test_bert_encoder.c: the encoder bert: pooling, padding, checkpoints of activations, and the
 * sentence embeddings of all-MiniLM-L6-v2 against those of the reference.
 */
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "data/unicode.h"
#include "data/wordpiece.h"
#include "encoders/bert_source.h"
#include "mmfuse/model.h"
#include "support.h"
#include "train/frozen.h"

enum { ROWS = 3, STEPS = 6, WIDTH = 8, VOCAB = 12, MOST_TOKENS = 256 };

typedef struct bert_test {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_module *module;
    int64_t tokens[ROWS * STEPS], length[ROWS];
} bert_test;

static const mmf_def *bert_encoder(void)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_ENCODER, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, "bert") == 0)
            return table[i];
    }
    fail_msg("there is no encoder bert");
    return NULL;
}

/* `settings` is "NAME=VALUE:NAME=VALUE", as in a specification. */
static mmf_module *make(mmf_ctx *ctx, const char *settings, int64_t n_steps, int64_t vocab)
{
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    char text[2048];
    snprintf(text, sizeof text, "%s", settings);
    test_ok(ctx, mmf_config_create(ctx, &config, bert_encoder()));
    for (char *at = strtok(text, ":"); at; at = strtok(NULL, ":")) {
        char *const equals = strchr(at, '=');
        assert_non_null(equals);
        *equals = '\0';
        test_ok(ctx, mmf_config_set(config, at, equals + 1));
    }
    mmf_input_schema input = {.name = "text",
                              .kind = MMF_TOKENS,
                              .n_dims = 1,
                              .shape = {n_steps},
                              .vocab_size = vocab,
                              .has_length = true};
    const mmf_schema schema = {1, &input};
    test_ok(ctx, mmf_module_create(ctx, &module, bert_encoder(), config, &schema, 5));
    mmf_config_free(config);
    return module;
}

#define TINY "hidden_size=8:num_hidden_layers=2:num_attention_heads=2:intermediate_size=16"

static bert_test *open_test(const char *settings)
{
    bert_test *const t = test_calloc(1, sizeof *t);
    t->ctx = test_ctx();
    test_ok(t->ctx, mmf_tape_create(t->ctx, &t->tape));
    t->module = make(t->ctx, settings, STEPS, VOCAB);
    for (int64_t i = 0; i < ROWS * STEPS; i++)
        t->tokens[i] = 1 + i * 7 % (VOCAB - 1);
    for (int64_t b = 0; b < ROWS; b++)
        t->length[b] = STEPS - 2 * b;
    return t;
}

static void close_test(bert_test *t)
{
    mmf_ctx *const ctx = t->ctx;
    mmf_module_free(t->module);
    mmf_tape_free(t->tape);
    test_free(t);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static mmf_tensor *feature(bert_test *t, const mmf_pass *pass)
{
    mmf_named in = {0}, out = {0};
    const mmf_step step = {.training = pass->training};
    mmf_tape_begin(t->tape, pass);
    mmf_named_put(t->tape, &in, "text",
                  mmf_input_ints(t->tape, t->tokens, 2, (int64_t[]){ROWS, STEPS}));
    mmf_named_put(t->tape, &in, "text.length",
                  mmf_input_ints(t->tape, t->length, 1, (int64_t[]){ROWS}));
    mmf_module_run(t->module, t->tape, &in, &step, &out);
    test_ok(t->ctx, mmf_tape_status(t->tape));
    return mmf_named_get(&out, "feature");
}

/* ---- Pooling ----------------------------------------------------------------------------- */

static void copy_weights(const bert_test *from, bert_test *to)
{
    const mmf_params *const params = mmf_module_params(to->module);
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const mmf_param *const other = mmf_params_find(mmf_module_params(from->module), p->name);
        if (other)
            memcpy(p->tensor->data, other->tensor->data,
                   (size_t)p->tensor->count * sizeof *p->tensor->data);
    }
}

static void pooling_is_what_it_says(void **state)
{
    (void)state;
    bert_test *const cls = open_test(TINY), *const mean = open_test(TINY ":pooling=mean"),
                     *const largest = open_test(TINY ":pooling=max"),
                     *const unit = open_test(TINY ":pooling=mean:normalize=true");
    copy_weights(cls, mean);
    copy_weights(cls, largest);
    copy_weights(cls, unit);
    const mmf_pass pass = {0};
    const mmf_tensor *const c = feature(cls, &pass), *const m = feature(mean, &pass),
                            *const l = feature(largest, &pass), *const u = feature(unit, &pass);
    for (int64_t b = 0; b < ROWS; b++) {
        double square = 0;
        for (int64_t d = 0; d < WIDTH; d++) {
            const int64_t i = b * WIDTH + d;
            square += (double)(m->data[i] * m->data[i]);
            assert_true(l->data[i] >= c->data[i] && l->data[i] >= m->data[i] - 1e-6F);
        }
        for (int64_t d = 0; d < WIDTH; d++)
            assert_true(fabs((double)m->data[b * WIDTH + d] / sqrt(square) -
                             (double)u->data[b * WIDTH + d]) < 1e-6);
    }
    close_test(cls);
    close_test(mean);
    close_test(largest);
    close_test(unit);
}

static void padding_does_not_matter(void **state)
{
    (void)state;
    static const char *const settings[] = {TINY, TINY ":pooling=mean", TINY ":pooling=max",
                                           TINY ":pooling=pooler:width=5"};
    for (size_t s = 0; s < 4; s++) {
        bert_test *const t = open_test(settings[s]);
        const mmf_pass pass = {0};
        mmf_real before[ROWS * WIDTH];
        const mmf_tensor *y = feature(t, &pass);
        const size_t bytes = (size_t)y->count * sizeof *before;
        assert_int_equal(y->shape[1], s == 3 ? 5 : WIDTH);
        memcpy(before, y->data, bytes);
        for (int64_t b = 0; b < ROWS; b++) {
            for (int64_t i = t->length[b]; i < STEPS; i++)
                t->tokens[b * STEPS + i] = 3;
        }
        y = feature(t, &pass);
        assert_memory_equal(before, y->data, bytes);
        close_test(t);
    }
}

/* ---- Activations that are computed again ------------------------------------------------- */

static mmf_real *gradients(bert_test *t, size_t *peak)
{
    const mmf_pass pass = {.record = true, .training = true, .seed = 4, .step = 2};
    mmf_params *const params = mmf_module_params(t->module);
    for (int round = 0; round < 2; round++) { /* the second one has its memory in one piece */
        mmf_tensor *const y = feature(t, &pass);
        mmf_tensor *const loss = mmf_mean(t->tape, mmf_mul(t->tape, y, y), 0);
        test_ok(t->ctx, mmf_tape_backward(t->tape, mmf_mean(t->tape, loss, 0)));
        mmf_params_finish_gradients(params, t->tape);
    }
    *peak = mmf_tape_peak_bytes(t->tape);
    return mmf_params_gradients(params);
}

static void recomputed_activations_give_the_same_gradients(void **state)
{
    (void)state;
#define DEEP "hidden_size=8:num_hidden_layers=8:num_attention_heads=2:intermediate_size=64"
    bert_test *const kept = open_test(DEEP), *const again =
                                                 open_test(DEEP ":gradient_checkpointing=true");
    size_t peak_kept = 0, peak_again = 0;
    const mmf_real *const a = gradients(kept, &peak_kept), *const b = gradients(again, &peak_again);
    const int64_t n = mmf_params_size(mmf_module_params(kept->module));
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)(a[i] - b[i])) <= 1e-6 * (fabs((double)a[i]) + 1e-3)))
            fail_msg("gradient %lld is %g instead of %g", (long long)i, (double)b[i], (double)a[i]);
        any = any || a[i] != 0;
    }
    assert_true(any);
    if (!TEST_ARENAS_ALLOCATE) /* there nothing is given back before the pass ends */
        assert_true(2 * peak_again < peak_kept);
    close_test(kept);
    close_test(again);
}

/* ---- MiniLM ------------------------------------------------------------------------------ */

/* Computed by the Python package transformers 5.24 (BertModel), mean pooling and normalisation as
 * sentence-transformers do: numbers 0 to 3, 191 and 383 of 384. */
static const struct {
    const char *text;
    int64_t n_tokens;
    double wanted[6];
} sentences[] = {
    {"This is an example sentence",
     7,
     {0.0676569, 0.0634959, 0.0487132, 0.0793050, 0.0629927, -0.0422287}},
    {"Each sentence is converted",
     6,
     {0.0864386, 0.1027626, 0.0053945, 0.0020444, -0.0283246, -0.0841775}},
    {"", 2, {-0.1188383, 0.0482987, -0.0025481, -0.0110112, 0.0093503, -0.0157173}},
    {"The caf\xc3\xa9 serves na\xc3\xafve \xe4\xb8\xad\xe6\x96\x87 words, unaffable!",
     14,
     {0.0158142, 0.0392363, 0.0491110, 0.0504661, 0.0625333, 0.0004133}},
    {NULL, 256, {-0.0081237, -0.0955860, -0.0386731, 0.0496620, -0.0117622, 0.0152406}},
};
enum { N_SENTENCES = sizeof sentences / sizeof *sentences };

static const char *minilm_folder(void)
{
    const char *const given = getenv("MMFUSE_MINILM");
    const char *const folder = given ? given : MMF_SOURCE_DIR "/build/minilm";
    if (mmf_path_is_folder(folder) && mmf_unicode_is_whole())
        return folder;
    fprintf(stderr, "LEFT OUT: sentence embeddings of MiniLM: %s\n",
            mmf_unicode_is_whole() ? "no weights in build/minilm or $MMFUSE_MINILM; "
                                     "scripts/fetch_minilm.sh brings them"
                                   : "this build tokenizes no text");
    return NULL;
}

static mmf_module *load_minilm(mmf_ctx *ctx, const char *folder)
{
    mmf_text spec = {.ctx = ctx};
    test_ok(ctx, mmf_bert_describe(ctx, folder, bert_encoder(), &spec));
    mmf_module *const module = make(ctx, spec.data + 1, MOST_TOKENS, 30522);
    mmf_text_clear(&spec);
    mmf_pretrained_report report;
    test_ok(ctx, mmf_pretrained_load(ctx, mmf_module_params(module), "bert", folder,
                                     &mmf_pretrained_bert, &report));
    test_ok(ctx, mmf_pretrained_require(&report, folder));
    assert_int_equal(report.n_loaded, 101);
    assert_int_equal(report.unexpected.count, 0);
    mmf_pretrained_report_clear(&report);
    return module;
}

static void encode_sentences(mmf_ctx *ctx, const char *folder, int64_t *tokens, int64_t *length)
{
    mmf_wordpiece *w = NULL;
    char words[1600];
    test_ok(ctx, mmf_wordpiece_load(ctx, &w, folder));
    for (int i = 0; i < 300; i++)
        memcpy(words + 5 * i, "word ", 6);
    for (int64_t b = 0; b < N_SENTENCES; b++) {
        const char *const text = sentences[b].text ? sentences[b].text : words;
        test_ok(ctx, mmf_wordpiece_encode(ctx, w, text, NULL, MOST_TOKENS, tokens + b * MOST_TOKENS,
                                          NULL, &length[b]));
        assert_int_equal(length[b], sentences[b].n_tokens);
    }
    mmf_wordpiece_free(w);
}

static void minilm_embeds_as_the_reference(void **state)
{
    (void)state;
    static const int64_t places[] = {0, 1, 2, 3, 191, 383};
    const char *const folder = minilm_folder();
    if (!folder)
        return;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    int64_t *const tokens = test_calloc(N_SENTENCES * MOST_TOKENS, sizeof *tokens);
    int64_t length[N_SENTENCES];
    mmf_module *const module = load_minilm(ctx, folder);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    encode_sentences(ctx, folder, tokens, length);
    mmf_named in = {0}, out = {0};
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "text",
                  mmf_input_ints(tape, tokens, 2, (int64_t[]){N_SENTENCES, MOST_TOKENS}));
    mmf_named_put(tape, &in, "text.length",
                  mmf_input_ints(tape, length, 1, (int64_t[]){N_SENTENCES}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, "feature");
    assert_int_equal(y->shape[1], 384);
    for (int64_t b = 0; b < N_SENTENCES; b++) {
        for (size_t i = 0; i < 6; i++) {
            const double found = (double)y->data[b * 384 + places[i]];
            if (!(fabs(found - sentences[b].wanted[i]) < 1e-4))
                fail_msg("sentence %lld, number %lld: %.7f instead of %.7f", (long long)b,
                         (long long)places[i], found, sentences[b].wanted[i]);
        }
    }
    mmf_tape_free(tape);
    mmf_module_free(module);
    test_free(tokens);
    mmf_ctx_free(ctx);
}

/* Cosines of what layers in eight bits make of real sentences with what single precision makes. */
static void minilm_in_eight_bits_is_nearly_the_same(void **state)
{
    (void)state;
    enum { WORDS = 64, BATCH = 32, N_BATCHES = 10, DIMS = 384 };
    const char *const folder = minilm_folder();
    const char *const csv = test_shared("data/meld/test_sent_emo.csv");
    if (!folder || !csv)
        return;
    mmf_ctx *const ctx = test_ctx();
    mmf_wordpiece *wordpiece = NULL;
    mmf_archive *archive = NULL;
    mmf_array texts = {0};
    mmf_tape *tape = NULL;
    static mmf_real exact[BATCH * DIMS];
    double least = 1, sum = 0;
    test_ok(ctx, mmf_wordpiece_load(ctx, &wordpiece, folder));
    test_ok(ctx, mmf_archive_open(ctx, &archive, csv, NULL));
    const int64_t column = mmf_archive_find(archive, "Utterance");
    assert_true(column >= 0);
    test_ok(ctx, mmf_archive_load(archive, (size_t)column, &texts));
    assert_true(texts.shape[0] >= BATCH * N_BATCHES);
    mmf_module *const module = load_minilm(ctx, folder);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int64_t batch = 0; batch < N_BATCHES; batch++) {
        int64_t tokens[BATCH * WORDS] = {0}, length[BATCH];
        for (int64_t b = 0; b < BATCH; b++) {
            char text[2048];
            size_t n = 0;
            const char *const cell = mmf_array_string(&texts, batch * BATCH + b, &n);
            snprintf(text, sizeof text, "%.*s", (int)n, cell);
            test_ok(ctx, mmf_wordpiece_encode(ctx, wordpiece, text, NULL, WORDS, tokens + b * WORDS,
                                              NULL, &length[b]));
        }
        for (int int8 = 0; int8 < 2; int8++) {
            mmf_named in = {0}, out = {0};
            mmf_tape_begin(tape, &(mmf_pass){.fixed = true, .int8 = int8});
            mmf_named_put(tape, &in, "text",
                          mmf_input_ints(tape, tokens, 2, (int64_t[]){BATCH, WORDS}));
            mmf_named_put(tape, &in, "text.length",
                          mmf_input_ints(tape, length, 1, (int64_t[]){BATCH}));
            mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
            test_ok(ctx, mmf_tape_status(tape));
            const mmf_tensor *const y = mmf_named_get(&out, "feature");
            assert_int_equal(y->count, BATCH * DIMS);
            for (int64_t b = 0; int8 && b < BATCH; b++) {
                double dot = 0; /* both have length 1 */
                for (int64_t i = b * DIMS; i < (b + 1) * DIMS; i++)
                    dot += (double)exact[i] * (double)y->data[i];
                least = dot < least ? dot : least;
                sum += dot;
            }
            memcpy(exact, y->data, sizeof exact);
        }
    }
    const double mean = sum / (BATCH * N_BATCHES);
    printf("cosine of embeddings in eight bits with single precision: mean %.5f, least %.5f over "
           "%d sentences\n",
           mean, least, BATCH * N_BATCHES);
    if (!(least > .99) || mean == 1)
        fail_msg("mean %.5f, least %.5f", mean, least);
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_archive_close(archive);
    mmf_wordpiece_free(wordpiece);
    mmf_ctx_free(ctx);
}

/* Weights of others as a frozen encoder, as they are and in eight bits. */
static void frozen_weights_run_in_eight_bits(void **state)
{
    (void)state;
    enum { WIDE = 128 };
    bert_test *const t = open_test("hidden_size=128:num_hidden_layers=1:num_attention_heads=2:"
                                   "intermediate_size=256:max_position_embeddings=6");
    const char *const folder = test_path("wide-bert");
    const mmf_params *const params = mmf_module_params(t->module);
    mmf_named_array arrays[64];
    mmf_frozen *frozen = NULL;
    char path[700];
    const mmf_tensor *const wanted = feature(t, &(mmf_pass){0});
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        assert_true(i < 64);
        arrays[i] =
            (mmf_named_array){p->name, {MMF_F32, p->tensor->n_dims, {0}, 4, p->tensor->data}};
        memcpy(arrays[i].array.shape, p->tensor->shape, sizeof p->tensor->shape);
    }
    test_write(t->ctx, folder, "config.json",
               "{\"hidden_size\": 128, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
               "\"intermediate_size\": 256, \"max_position_embeddings\": 6}");
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    test_ok(t->ctx, mmf_safetensors_save(t->ctx, path, arrays, mmf_params_count(params), NULL, 0));
    const mmf_batch_input in = {.tokens = t->tokens, .length = t->length};
    test_ok(t->ctx, mmf_frozen_open(t->ctx, &frozen, "bert", folder,
                                    &mmf_module_schema(t->module)->inputs[0]));
    for (int int8 = 0; int8 < 2; int8++) {
        const float *found = NULL;
        double dot = 0, a = 0, b = 0, off = 0;
        mmf_frozen_set_int8(frozen, int8 == 1);
        test_ok(t->ctx, mmf_frozen_run(frozen, &in, ROWS, STEPS, &found));
        assert_int_equal(mmf_frozen_width(frozen), WIDE);
        for (int64_t i = 0; i < (int64_t)ROWS * WIDE; i++) {
            dot += (double)found[i] * (double)wanted->data[i];
            a += (double)found[i] * (double)found[i];
            b += (double)wanted->data[i] * (double)wanted->data[i];
            off = fmax(off, fabs((double)found[i] - (double)wanted->data[i]));
        }
        assert_true(dot / sqrt(a * b) > .99);
        assert_true(int8 ? off > 1e-5 : off < 1e-5);
    }
    mmf_frozen_free(frozen);
    close_test(t);
}

/* ---- Files beside the weights ------------------------------------------------------------ */

static void descriptions_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *config, *modules, *pooling;
        const char *found; /* the description, or a piece of the message */
        mmf_status status;
    } cases[] = {
        {"{\"hidden_size\": 8, \"hidden_act\": \"relu\", \"layer_norm_eps\": 1e-12, \"other\": 1}",
         NULL, NULL, ":hidden_size=8:hidden_act=relu:layer_norm_eps=1e-12", MMF_OK},
        {"{}",
         "[{\"type\": \"a.Transformer\", \"path\": \"\"}, {\"type\": \"Pooling\", \"path\": \"p\"}"
         ", {\"type\": \"Normalize\", \"path\": \"n\"}]",
         "{\"pooling_mode_max_tokens\": true, \"pooling_mode_cls_token\": false}",
         ":pooling=max:normalize=true", MMF_OK},
        {"{}", "[{\"type\": \"Pooling\", \"path\": \"p\"}]", "{\"pooling_mode\": \"mean\"}",
         ":pooling=mean", MMF_OK},
        {"{\"model_type\": \"roberta\"}", NULL, NULL, "\"roberta\"", MMF_UNSUPPORTED},
        {"{\"position_embedding_type\": \"relative_key\"}", NULL, NULL, "relative_key",
         MMF_UNSUPPORTED},
        {"{\"hidden_act\": \"a:b\"}", NULL, NULL, "a:b", MMF_FORMAT},
        {"[]", NULL, NULL, "config.json: JSON, but not an object", MMF_FORMAT},
        {"{}", "{}", NULL, "not a JSON list", MMF_FORMAT},
        {"{}", "[{\"type\": \"x.Dense\", \"path\": \"2\"}]", NULL, "x.Dense", MMF_UNSUPPORTED},
        {"{}", "[{\"type\": \"Pooling\", \"path\": \"../p\"}]", NULL, "../p", MMF_UNSUPPORTED},
        {"{}", "[{\"type\": \"Pooling\", \"path\": \"p\"}]",
         "{\"pooling_mode_max_tokens\": true, \"pooling_mode_cls_token\": true}", "pooling",
         MMF_UNSUPPORTED},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[40];
        snprintf(name, sizeof name, "described-%zu", i);
        const char *const folder = test_path(name);
        mmf_text spec = {.ctx = ctx};
        test_write(ctx, folder, "config.json", cases[i].config);
        if (cases[i].modules)
            test_write(ctx, folder, "modules.json", cases[i].modules);
        if (cases[i].pooling)
            test_write(ctx, folder, "p/config.json", cases[i].pooling);
        const mmf_status status = mmf_bert_describe(ctx, folder, bert_encoder(), &spec);
        if (cases[i].status == MMF_OK) {
            test_ok(ctx, status);
            assert_string_equal(spec.data, cases[i].found);
        } else {
            test_fails(ctx, status, cases[i].status, cases[i].found);
        }
        mmf_text_clear(&spec);
    }
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooling_is_what_it_says),
        cmocka_unit_test(padding_does_not_matter),
        cmocka_unit_test(recomputed_activations_give_the_same_gradients),
        cmocka_unit_test(minilm_embeds_as_the_reference),
        cmocka_unit_test(minilm_in_eight_bits_is_nearly_the_same),
        cmocka_unit_test(frozen_weights_run_in_eight_bits),
        cmocka_unit_test(descriptions_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
