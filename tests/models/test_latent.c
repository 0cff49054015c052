/*
 * test_latent.c: bounds of mutual information against published numbers and limits, the memory of
 * their entropy, and the losses that take modalities apart and distil between them.
 */
#include <math.h>

#include "models/distillation.h"
#include "nn/infomax.h"
#include "models/model_case.h"

/* ---- Layers of the published numbers ----------------------------------------------------- */

/* The networks of one bound, as a definition of their own. */
typedef struct published {
    bool is_cpc;
    mmf_cpc cpc;
    mmf_mi_bound bound;
} published;

static const mmf_option none[] = {{0}};

static mmf_status build_cpc(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    (void)config;
    published *const p = mmf_builder_alloc(b, sizeof *p);
    p->is_cpc = true;
    p->cpc = mmf_cpc_build(b, "cpc", inputs->inputs[1].shape[0], inputs->inputs[0].shape[0], 1,
                           MMF_ACT_TANH);
    *self = p;
    return mmf_builder_status(b);
}

static mmf_status build_bound(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    (void)config;
    published *const p = mmf_builder_alloc(b, sizeof *p);
    p->bound = mmf_mi_build(b, "mi", inputs->inputs[0].shape[0], inputs->inputs[1].shape[0],
                            MMF_ACT_RELU, true, 8);
    *self = p;
    return mmf_builder_status(b);
}

static void run_published(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                          mmf_named *out)
{
    (void)step;
    const published *const p = self;
    mmf_tensor *const x = mmf_named_get(in, "x"), *const y = mmf_named_get(in, "y");
    mmf_named_put(tape, out, "loss",
                  p->is_cpc ? mmf_cpc_run(tape, &p->cpc, x, y, NULL)
                            : mmf_mi_likelihood(tape, &p->bound, x, y, NULL, INFINITY).likelihood);
}

/* c sin(a (t + 1) + p): the rule that inputs and weights were filled by. */
static void sines(mmf_real *out, int64_t n, double size, double rate, double phase)
{
    for (int64_t t = 0; t < n; t++)
        out[t] = (mmf_real)(size * sin(rate * (double)(t + 1) + phase));
}

/* The loss for x (4, 5) and y (4, width), and the sum of squares of the parameters' gradients of
 * half its square. */
static double published_loss(const mmf_def *def, int64_t width, double *squares)
{
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {{.name = "x", .kind = MMF_VECTOR, .n_dims = 1, .shape = {5}},
                                 {.name = "y", .kind = MMF_VECTOR, .n_dims = 1, .shape = {width}}};
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    mmf_real x[4 * 5], y[4 * 8];
    test_ok(ctx, mmf_module_create(ctx, &module, def, NULL, &(mmf_schema){2, inputs}, 0));
    mmf_params *const params = mmf_module_params(module);
    for (size_t k = 0; k < mmf_params_count(params); k++) {
        const mmf_param *const p = mmf_params_at(params, k);
        if (p->role == MMF_PARAM_TRAINED)
            sines(p->tensor->data, p->tensor->count, 0.3, 0.7, (double)k);
    }
    sines(x, 4 * 5, 1, 0.37, 0);
    sines(y, 4 * width, 1, 0.37, 1);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_named_put(tape, &in, "x", mmf_input(tape, x, 2, (int64_t[]){4, 5}));
    mmf_named_put(tape, &in, "y", mmf_input(tape, y, 2, (int64_t[]){4, width}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    mmf_tensor *const loss = mmf_named_get(&out, "loss");
    test_ok(ctx, mmf_tape_backward(tape, loss));
    mmf_params_finish_gradients(params, tape);
    *squares = 0;
    for (int64_t i = 0; i < mmf_params_size(params); i++)
        *squares += pow((double)mmf_params_gradients(params)[i], 2);
    const double value = (double)loss->data[0];
    *squares *= value * value;
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
    return value;
}

static void the_bounds_give_the_published_numbers(void **state)
{
    (void)state;
    const mmf_def cpc = {.name = "cpc",
                         .kind = MMF_KIND_LOSS,
                         .options = none,
                         .build = build_cpc,
                         .run = run_published};
    mmf_def bound = cpc;
    double squares = 0;
    bound.build = build_bound;
    assert_true(fabs(published_loss(&cpc, 4, &squares) - 1.32355760) < 1e-5);
    assert_true(fabs(squares - 0.98767932) < 1e-5);
    assert_true(fabs(published_loss(&bound, 8, &squares) + 1.95550096) < 1e-5);
}

static mmf_status build_entropy(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                                void **self)
{
    (void)config;
    published *const p = mmf_builder_alloc(b, sizeof *p);
    p->bound = mmf_mi_build(b, "mi", 1, inputs->inputs[0].shape[0], MMF_ACT_RELU, false, 16);
    *self = p;
    return mmf_builder_status(b);
}

static void run_entropy(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                        mmf_named *out)
{
    (void)step;
    published *const p = self;
    mmf_mi_result result = {0};
    mmf_mi_entropy(tape, &p->bound, mmf_named_get(in, "y"), NULL, NULL, NULL, &result);
    mmf_named_put(tape, out, "entropy", result.entropy);
}

/* The entropy of 16 rows of 8 that go to two columns in (-1, 1), by weights of this size. */
static double entropy_of_size(double size)
{
    enum { ROWS = 16, WIDTH = 8 };
    const mmf_def def = {.name = "entropy",
                         .kind = MMF_KIND_LOSS,
                         .options = none,
                         .build = build_entropy,
                         .run = run_entropy};
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema input = {.name = "y", .kind = MMF_VECTOR, .n_dims = 1, .shape = {WIDTH}};
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_real y[ROWS * WIDTH];
    double entropy = NAN;
    test_ok(ctx, mmf_module_create(ctx, &module, &def, NULL, &(mmf_schema){1, &input}, 0));
    mmf_params *const params = mmf_module_params(module);
    mmf_tensor *const weight = mmf_params_find(params, "mi.entropy_prj.0.weight")->tensor;
    mmf_tensor *const bias = mmf_params_find(params, "mi.entropy_prj.0.bias")->tensor;
    sines(weight->data, weight->count, size, 0.7, 0);
    sines(bias->data, bias->count, 0, 1, 0);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int pass = 0; pass < 2; pass++) { /* the first is what the second remembers */
        mmf_named in = {0}, out = {0};
        sines(y, ROWS * WIDTH, 1, 1.3, pass);
        mmf_tape_begin(tape, &(mmf_pass){.training = true});
        mmf_named_put(tape, &in, "y", mmf_input(tape, y, 2, (int64_t[]){ROWS, WIDTH}));
        mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        const mmf_tensor *const found = mmf_named_get(&out, "entropy");
        assert_true((found != NULL) == (pass > 0));
        entropy = found ? (double)found->data[0] : NAN;
    }
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
    return entropy;
}

/* H(c y) = H(y) + n log c: what keeps the determinant from 0 goes with the rows' own variance. */
static void rows_that_vary_little_have_their_entropy(void **state)
{
    (void)state;
    const double large = entropy_of_size(0.01), small = entropy_of_size(0.0003);
    assert_true(isfinite(large));
    assert_true(fabs(large - small - 2 * log(0.01 / 0.0003)) < 0.01);
    assert_true(isfinite(entropy_of_size(0)));
}

/* ---- Training passes of whole models ----------------------------------------------------- */

/* Outputs of a training pass over a case with targets. */
typedef struct trained {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_module *module;
    case_data data;
    mmf_named in, out;
    mmf_real values[CASE_ROWS];
    int64_t classes[CASE_ROWS];
    bool regression;
} trained;

static const model_case full = {"full", 3, CASE_TRIO, false, false};
static const model_case gappy = {"gappy", 3, CASE_TRIO, true, true};
static const model_case vectors = {"vectors", 2, CASE_VECTORS, false, true};

static void open_trained(trained *t, const char *model, const model_case *row, bool regression,
                         const char *option, const char *value)
{
    static const mmf_real targets[CASE_ROWS] = {1, (mmf_real)-0.5, 1, -1};
    *t = (trained){.ctx = test_ctx(), .regression = regression};
    case_open(&t->data, row, 5);
    t->module = case_module(t->ctx, mmf_model_find(model), &t->data.schema,
                            regression ? "regression" : "classification", option, value);
    for (int i = 0; i < CASE_ROWS; i++) {
        t->values[i] = targets[i];
        t->classes[i] = i % 2;
    }
    test_ok(t->ctx, mmf_tape_create(t->ctx, &t->tape));
}

static void close_trained(trained *t)
{
    mmf_tape_free(t->tape);
    mmf_module_free(t->module);
    case_close(&t->data);
    mmf_ctx_free(t->ctx);
}

static void train_pass(trained *t)
{
    const int64_t rows[] = {CASE_ROWS, 1};
    t->in = t->out = (mmf_named){0};
    mmf_tape_begin(t->tape, &(mmf_pass){.record = true, .training = true, .seed = 1});
    case_put(t->tape, &t->data, false, &t->in);
    mmf_named_put(t->tape, &t->in, "label",
                  t->regression ? mmf_input(t->tape, t->values, 2, rows)
                                : mmf_input_ints(t->tape, t->classes, 1, rows));
    mmf_module_run(t->module, t->tape, &t->in, &(mmf_step){.training = true}, &t->out);
    test_ok(t->ctx, mmf_tape_status(t->tape));
}

static double value_of(const trained *t, const char *name)
{
    const mmf_tensor *const x = mmf_named_get(&t->out, name);
    if (!x)
        fail_msg("there is no output %s", name);
    return x ? (double)x->data[0] : NAN;
}

static mmf_tensor *weight(trained *t, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(t->module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* Every modality's values where it is absent, and behind its length. */
static void spoil(case_data *d)
{
    for (size_t m = 0; m < d->schema.count; m++) {
        const mmf_input_schema *const in = &d->inputs[m];
        const int64_t steps = in->n_dims == 2 ? in->shape[0] : 1, size = d->row_size[m];
        for (int64_t e = 0; e < d->n_rows * size; e++) {
            const int64_t row = e / size, step = e % size / (size / steps);
            if (!(d->present[m][row] > 0) || (in->has_length && step >= d->length[m][row]))
                d->values[m][e] = 7;
        }
    }
}

static void losses_do_not_see_what_is_absent(void **state)
{
    (void)state;
    static const char *const models[] = {"dmd", "mmim", "product-of-experts", "kalman"};
    static const model_case *const rows[] = {&gappy, &vectors};
    for (size_t i = 0; i < 8; i++) {
        trained t;
        open_trained(&t, models[i / 2], rows[i % 2], i % 2 == 0, NULL, NULL);
        const char *const loss = i / 2 == 2   ? "loss.kl"
                                 : i / 2 == 3 ? "feature_fusion"
                                              : "objective";
        train_pass(&t); /* twice: then the memory holds this batch */
        train_pass(&t);
        const double before = value_of(&t, loss);
        spoil(&t.data);
        train_pass(&t);
        if (!(fabs(value_of(&t, loss) - before) < 1e-5 * fmax(1, fabs(before))))
            fail_msg("%s: %g became %g", models[i / 2], before, value_of(&t, loss));
        close_trained(&t);
    }
}

/* ---- InfoMax ----------------------------------------------------------------------------- */

/* Cosines are at least e^-2 apart from certainty: no batch is told apart better than that. */
static void a_contrast_without_temperature_has_a_floor(void **state)
{
    (void)state;
    trained t;
    open_trained(&t, "mmim", &full, true, NULL, NULL);
    train_pass(&t);
    const double floor = log(1 + (CASE_ROWS - 1) * exp(-2.0));
    static const char *const names[] = {"nce.t", "nce.v", "nce.a"};
    for (int i = 0; i < 3; i++)
        assert_true(value_of(&t, names[i]) >= floor);
    close_trained(&t);
}

/* No entropy in the first batch; in the second that of both, by hand for one dimension. */
static void the_entropy_remembers_the_batch_before(void **state)
{
    (void)state;
    trained t;
    open_trained(&t, "mmim", &full, true, NULL, NULL);
    train_pass(&t);
    assert_null(mmf_named_get(&t.out, "entropy"));
    double pos[4], neg[4];
    for (int b = 0; b < 2; b++) { /* rows 0 and 2 are positive; the same batch twice */
        pos[b] = pos[b + 2] = (double)mmf_named_get(&t.out, "sample.tv.pos")->data[b];
        neg[b] = neg[b + 2] = (double)mmf_named_get(&t.out, "sample.tv.neg")->data[b];
    }
    const mmf_tensor *const kept = weight(&t, "mi_tv.memory.pos");
    assert_true(fabs((double)kept->data[0] - pos[0]) < 1e-7);
    train_pass(&t);
    double wanted = 0;
    for (int g = 0; g < 2; g++) {
        const double *const x = g ? neg : pos;
        const double gap = (x[0] - x[1]) / 2;
        wanted += 0.25 * log(gap * gap + 1e-7);
    }
    assert_true(fabs(value_of(&t, "entropy.tv") - wanted) < 1e-3 * fabs(wanted));
    const double rest =
        value_of(&t, "loss.task") + 0.1 * value_of(&t, "nce") - 0.1 * value_of(&t, "entropy");
    const double released = rest - 0.1 * value_of(&t, "lld");
    const double trained_on =
        rest - 0.1 * (value_of(&t, "likelihood.tv") + value_of(&t, "likelihood.ta"));
    assert_true(fabs(value_of(&t, "loss") - released) < 1e-4 * fabs(released));
    assert_true(fabs(value_of(&t, "objective") - trained_on) < 1e-4 * fabs(trained_on));
    close_trained(&t);
}

/* Nothing is won by a modality that shrinks: its likelihood is that of standardised values. */
static void a_likelihood_does_not_see_the_scale(void **state)
{
    (void)state;
    static const char *const layers[] = {"visual_enc.linear_1.weight", "visual_enc.linear_1.bias"};
    double of_values[2], unscaled[2];
    trained t;
    open_trained(&t, "mmim", &full, true, NULL, NULL);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 2; i++) {
            mmf_tensor *const w = weight(&t, layers[i]);
            for (int64_t e = 0; e < w->count; e++)
                w->data[e] *= pass == 0 ? 50 : 4;
        }
        train_pass(&t);
        of_values[pass] = value_of(&t, "lld_with_logvar.tv");
        unscaled[pass] = value_of(&t, "likelihood.tv");
    }
    assert_true(fabs(unscaled[1] - unscaled[0]) < 1e-3 * fabs(unscaled[0]));
    assert_true(fabs(of_values[1] - of_values[0]) > fabs(of_values[0]));
    close_trained(&t);
}

static void evaluation_leaves_the_memory_alone(void **state)
{
    (void)state;
    trained t;
    open_trained(&t, "mmim", &full, false, NULL, NULL);
    train_pass(&t);
    const mmf_tensor *const held = weight(&t, "mi_tv.memory.rows");
    assert_true(fabs((double)held->data[0] - CASE_ROWS) < 1e-6); /* classes: all rows as one */
    held->data[0] = 2;
    mmf_named out = {0};
    t.in = (mmf_named){0};
    mmf_tape_begin(t.tape, &(mmf_pass){.record = true});
    case_put(t.tape, &t.data, false, &t.in);
    mmf_module_run(t.module, t.tape, &t.in, &(mmf_step){0}, &out);
    test_ok(t.ctx, mmf_tape_status(t.tape));
    assert_non_null(mmf_named_get(&out, "nce"));
    assert_null(mmf_named_get(&out, "entropy"));
    assert_true(fabs((double)held->data[0] - 2) < 1e-6);
    close_trained(&t);
}

/* ---- Decoupling and distilling ----------------------------------------------------------- */

/* W (O, I) = scale I from column `first` on, 0 elsewhere. */
static void set_identity(mmf_tensor *w, double scale, int64_t first)
{
    const int64_t columns = w->shape[1];
    for (int64_t i = 0; i < w->count; i++)
        w->data[i] = i % columns - first == i / columns ? (mmf_real)scale : 0;
}

/* All of a step is its own: nothing is lost, nothing overlaps. All of it is both: half and half
 * rebuild it, and the parts overlap fully. */
static void identities_lose_nothing(void **state)
{
    (void)state;
    static const char *const keys[] = {"l", "v", "a"};
    trained t;
    open_trained(&t, "dmd", &full, true, NULL, NULL);
    for (int both = 0; both < 2; both++) {
        set_identity(weight(&t, "encoder_c.weight"), both, 0);
        for (int m = 0; m < 3; m++) {
            char name[64];
            snprintf(name, sizeof name, "encoder_s_%s.weight", keys[m]);
            set_identity(weight(&t, name), 1, 0);
            snprintf(name, sizeof name, "decoder_%s.weight", keys[m]);
            mmf_tensor *const decoder = weight(&t, name);
            set_identity(decoder, 1, both ? decoder->shape[1] / 2 : 0); /* of c, or of s */
        }
        train_pass(&t);
        assert_true(value_of(&t, "loss.reconstruction") < 1e-10);
        assert_true(value_of(&t, "loss.cycle") < 1e-10);
        assert_true(fabs(value_of(&t, "loss.orthogonality") - 3 * both) < 1e-5);
    }
    close_trained(&t);
}

/* Triplets one by one. */
static void a_margin_is_the_mean_over_its_triplets(void **state)
{
    (void)state;
    enum { N = 5 };
    static const int class_of[N] = {0, 0, 1, 1, 2}; /* the last one has no positive */
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(3, 0);
    mmf_real x[N * N], positive[N * N], negative[N * N], margin[N * N];
    double wanted = 0;
    for (int e = 0; e < N * N; e++) {
        const bool same = class_of[e / N] == class_of[e % N];
        x[e] = (mmf_real)(2 * mmf_rng_uniform(&rng) - 1);
        margin[e] = (mmf_real)mmf_rng_uniform(&rng);
        positive[e] = same && e / N != e % N;
        negative[e] = !same;
    }
    for (int i = 0; i < 4; i++) {
        double sum = 0;
        int n = 0;
        for (int p = 0; p < N; p++) {
            for (int q = 0; q < N; q++) {
                if (!(positive[i * N + p] > 0) || !(negative[i * N + q] > 0))
                    continue;
                sum += fmax(0, (double)(margin[i * N + q] - x[i * N + p] + x[i * N + q]));
                n++;
            }
        }
        wanted += sum / n / 4;
    }
    const int64_t shape[] = {N, N};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    const mmf_tensor *const loss =
        mmf_triplet_loss(tape, mmf_input(tape, x, 2, shape), mmf_input(tape, positive, 2, shape),
                         mmf_input(tape, negative, 2, shape), mmf_input(tape, margin, 2, shape));
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(fabs((double)loss->data[0] - wanted) < 1e-6);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Modalities that agree have nothing to distil; edges sum to 1 and, where two modalities are left
 * of three, run between these. */
static void agreeing_modalities_have_nothing_to_distil(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    mmf_input_schema inputs[] = {
        {.name = "logits", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {2, 1}},
        {.name = "reprs", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {2, 3}}};
    mmf_real z[] = {1, 2, 1, 2, 1, 2}, h[18];
    for (int e = 0; e < 18; e++)
        h[e] = (mmf_real)(1 + e % 6) * (mmf_real)(1 + e / 6); /* one direction, three lengths */
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("dmd")));
    test_ok(ctx, mmf_config_set(config, "part", "distillation-kernel"));
    test_ok(ctx, mmf_config_set(config, "graph", "hetero"));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_model_find("dmd"), config,
                                   &(mmf_schema){2, inputs}, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named in = {0}, out = {0};
    mmf_named_put(tape, &in, "logits", mmf_input(tape, z, 3, (int64_t[]){3, 2, 1}));
    mmf_named_put(tape, &in, "reprs", mmf_input(tape, h, 3, (int64_t[]){3, 2, 3}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(fabs((double)mmf_named_get(&out, "loss.logit")->data[0]) < 1e-6);
    assert_true(fabs((double)mmf_named_get(&out, "loss.repr")->data[0]) < 1e-5);
    const mmf_tensor *const edges = mmf_named_get(&out, "edges"); /* (6, 2) */
    for (int b = 0; b < 2; b++) {
        double sum = 0;
        for (int e = 0; e < 6; e++)
            sum += (double)edges->data[e * 2 + b];
        assert_true(fabs(sum - 1) < 1e-6);
    }
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_config_free(config);
    mmf_ctx_free(ctx);
}

/* `loss` = decoupling leaves the two graphs out, in value and in parameters. */
static void distillation_can_be_left_out(void **state)
{
    (void)state;
    for (int without = 0; without < 2; without++) {
        trained t;
        open_trained(&t, "dmd", &gappy, true, "loss", without ? "decoupling" : "full");
        train_pass(&t);
        const double rest =
            value_of(&t, "loss.task") +
            0.1 * (value_of(&t, "loss.cycle") + value_of(&t, "loss.reconstruction") +
                   0.1 * (value_of(&t, "loss.margin") + value_of(&t, "loss.orthogonality")));
        const bool equal = fabs(value_of(&t, "objective") - rest) < 1e-5 * rest;
        assert_int_equal(equal, without);
        assert_int_equal(mmf_named_get(&t.out, "edges_homo") != NULL, !without);
        assert_int_equal(
            mmf_params_find(mmf_module_params(t.module), "distill_homo.W_edge.weight") != NULL,
            !without);
        if (!without) { /* row 1 of modality 0, text, is absent: its edges there are 0 */
            const mmf_tensor *const edges = mmf_named_get(&t.out, "edges_homo");
            assert_true(fabs((double)edges->data[0 * CASE_ROWS + 1]) < 1e-12);
            assert_true((double)edges->data[0 * CASE_ROWS] > 0);
        }
        close_trained(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bounds_give_the_published_numbers),
        cmocka_unit_test(rows_that_vary_little_have_their_entropy),
        cmocka_unit_test(losses_do_not_see_what_is_absent),
        cmocka_unit_test(a_contrast_without_temperature_has_a_floor),
        cmocka_unit_test(the_entropy_remembers_the_batch_before),
        cmocka_unit_test(a_likelihood_does_not_see_the_scale),
        cmocka_unit_test(evaluation_leaves_the_memory_alone),
        cmocka_unit_test(identities_lose_nothing),
        cmocka_unit_test(a_margin_is_the_mean_over_its_triplets),
        cmocka_unit_test(agreeing_modalities_have_nothing_to_distil),
        cmocka_unit_test(distillation_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
