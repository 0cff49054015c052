/*
 * bench_models.c: training steps and one-sample latency of our models, on command.
 *
 * The driver (compare.py) keeps this process and the peer's beside each other and asks them in
 * turn. A request is one line on standard input, an answer one line on standard output:
 *
 *     train MODEL STEPS       microseconds a training step (forward, backward, Adam), and of
 *                             processor time
 *     latency MODEL RUNS      the same for a prediction of one sample
 *     latency-int8 MODEL RUNS the same with linear layers in eight bits
 *     likeness MODEL 1        cosine of a sample's outputs in eight bits with single precision's
 *     allocations MODEL STEPS allocations of our own in that many steps
 *     nodes MODEL 1           operations recorded in a step
 *     parameters MODEL 0      trained elements: the peer's must be as many
 *     peak - 0                largest resident memory so far, in bytes
 *     system - 0              processor level, back end, threads
 *
 * Data are drawn once and stay in memory. Everything is made at the first request that names it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/model.h"
#include "tensor/tape.h"
#include "timer.h"

#define BATCH 32
/* 0.5 Tflop a step of 32: a quarter of it is enough to fill the products. */
#define MCAN_BATCH 8
#define MAX_INPUTS 3
#define MAX_MODULES MAX_INPUTS
/* Batches that steps cycle through: more than the second cache level, less than memory. */
#define POOLED_BATCHES 16
#define SEQUENCE_BATCHES 4
#define STEPS_OF_SEQUENCES 50

typedef struct input {
    const char *name; /* NULL ends a list */
    mmf_modality_kind kind;
    int64_t shape[2];
    int64_t vocab; /* of tokens */
} input;

static const input pooled[] = {{"text", MMF_VECTOR, {768}, 0},
                               {"audio", MMF_VECTOR, {74}, 0},
                               {"vision", MMF_VECTOR, {35}, 0},
                               {0}};
static const input sequences[] = {{"text", MMF_SEQUENCE, {STEPS_OF_SEQUENCES, 768}, 0},
                                  {"audio", MMF_SEQUENCE, {STEPS_OF_SEQUENCES, 5}, 0},
                                  {"vision", MMF_SEQUENCE, {STEPS_OF_SEQUENCES, 20}, 0},
                                  {0}};
static const input film_poster[] = {
    {"vision", MMF_VECTOR, {4096}, 0}, {"text", MMF_VECTOR, {300}, 0}, {0}};
static const input pooled_question[] = {
    {"image", MMF_VECTOR, {2048}, 0}, {"question", MMF_VECTOR, {1024}, 0}, {0}};
static const input regions_and_words[] = {
    {"image", MMF_SEQUENCE, {100, 2048}, 0}, {"question", MMF_TOKENS, {14}, 20000}, {0}};

typedef enum loss_kind {
    L1, /* of one number; the others: of `n_classes` */
    MSE,
    CROSS_ENTROPY,
    BINARY /* every class by itself */
} loss_kind;

/* One line of the table of performance.md; the peer has the same list. */
typedef struct work {
    const char *name;
    const char *model; /* late-mean trains one unimodal model after the other */
    const input *inputs;
    const char *options; /* JSON */
    loss_kind loss;
    int64_t n_classes;
    int64_t batch; /* 0: BATCH */
} work;

static const work works[] = {
    {"joint-concat", "joint-concat", pooled, "{\"hidden\": 64, \"dropout\": 0.2}", L1, 0, 0},
    {"lmf", "lmf", pooled, "{}", L1, 0, 0},
    {"weighted", "weighted", pooled, "{\"hidden\": 64, \"dropout\": 0.2}", L1, 0, 0},
    {"late-mean", "late-mean", pooled, "{\"hidden\": 64, \"dropout\": 0.2}", L1, 0, 0},
    {"tfn", "tfn", pooled,
     "{\"hidden_dims\": [128, 32, 32], \"text_out\": 64, \"post_fusion_dim\": 64}", L1, 0, 0},
    {"lmf-sequence", "lmf", sequences,
     "{\"hidden_dims\": [128, 16, 128], \"rank\": 3, \"dropouts\": [0.3, 0.3, 0.3, 0.3]}", L1, 0,
     0},
    {"ef-lstm", "ef-lstm", sequences, "{\"hidden_dims\": 128, \"num_layers\": 4, \"dropout\": 0.5}",
     L1, 0, 0},
    {"gatv2", "gatv2", pooled, "{\"hidden\": 64, \"heads\": 4, \"layers\": 2, \"dropout\": 0.2}",
     L1, 0, 0},
    {"gmu", "gmu", film_poster,
     "{\"form\": \"released\", \"hidden\": 512, \"dropout\": 0.5, \"encoder\": "
     "[\"vision=identity\", \"text=identity\"]}",
     BINARY, 23, 0},
    {"misa", "misa", sequences,
     "{\"hidden\": 128, \"dropout\": 0.2, \"sim_weight\": 0.3, \"diff_weight\": 0.1, "
     "\"encoder\": [\"text=identity\"]}",
     MSE, 0, 0},
    {"mult", "mult", sequences,
     "{\"dst_feature_dim_nheads\": [40, 8], \"nlevels\": 4, \"conv1d_kernel_size_a\": 3, "
     "\"conv1d_kernel_size_v\": 3}",
     L1, 0, 0},
    {"mfb", "mfb", pooled_question,
     "{\"mm_dim\": 1000, \"factor\": 5, \"output_dim\": 1000, \"hidden\": 1000, \"normalize\": "
     "true, \"activ_input\": \"none\", \"dropout_pre_lin\": 0.1, \"dropout\": 0.1, \"encoder\": "
     "[\"image=identity\", \"question=identity\"]}",
     CROSS_ENTROPY, 3000, 0},
    {"mcan", "mcan", regions_and_words,
     "{\"hidden_size\": 512, \"multi_head\": 8, \"ff_size\": 2048, \"layer\": 6, "
     "\"flat_mlp_size\": 512, \"flat_out_size\": 1024, \"word_embed_size\": 300}",
     BINARY, 3129, MCAN_BATCH},
};

enum { N_WORKS = sizeof works / sizeof *works };

typedef struct part {
    mmf_module *module;
    mmf_optimizer *optimizer;
} part;

typedef struct bench {
    mmf_ctx *ctx;
    mmf_tape *tape;
    const work *work;
    part parts[MAX_MODULES];
    size_t n_parts;
    mmf_module *whole; /* what predicts: the only part, or the late model */
    mmf_schema schema;
    mmf_input_schema inputs[MAX_INPUTS];
    size_t n_batches;
    int64_t batch;
    mmf_real *data[MAX_INPUTS];  /* (n_batches, batch, ...) of features */
    int64_t *tokens[MAX_INPUTS]; /* the same of tokens */
    mmf_real *target;            /* (n_batches, batch) or (n_batches, batch, n_classes) */
    int64_t *classes;            /* (n_batches, batch) */
    uint64_t step;
    double last_loss;
} bench;

static int stop(mmf_ctx *ctx)
{
    fprintf(stderr, "bench_models: %s\n", mmf_ctx_error(ctx));
    exit(1);
}

/* ---- Making ------------------------------------------------------------------------------ */

static mmf_module *make_module(bench *b, const char *model, const char *options,
                               const mmf_schema *schema)
{
    const mmf_def *const def = mmf_model_find(model);
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    const bool classes = b->work->n_classes > 0;
    char n_classes[32];
    snprintf(n_classes, sizeof n_classes, "%lld", classes ? (long long)b->work->n_classes : 1LL);
    if (!def || mmf_config_create(b->ctx, &config, def) != MMF_OK ||
        mmf_config_set(config, "train_mode", classes ? "classification" : "regression") != MMF_OK ||
        mmf_config_set(config, "num_classes", n_classes) != MMF_OK ||
        mmf_config_set_json(config, options) != MMF_OK ||
        mmf_module_create(b->ctx, &module, def, config, schema, 1) != MMF_OK)
        stop(b->ctx);
    mmf_config_free(config);
    return module;
}

static void add_part(bench *b, mmf_module *module)
{
    part *const p = &b->parts[b->n_parts++];
    const mmf_optimizer_options adam = MMF_OPTIMIZER_OPTIONS_INIT;
    p->module = module;
    if (mmf_optimizer_create(b->ctx, &p->optimizer, mmf_module_params(module), &adam) != MMF_OK)
        stop(b->ctx);
}

static int64_t item_size(const mmf_input_schema *in)
{
    return in->n_dims == 2 ? in->shape[0] * in->shape[1] : in->shape[0];
}

static void *pool(bench *b, int64_t count, size_t size)
{
    void *const out = mmf_alloc(b->ctx, (size_t)count * b->n_batches * (size_t)b->batch * size);
    if (!out)
        stop(b->ctx);
    return out;
}

static mmf_real *draw(bench *b, mmf_rng *rng, int64_t item)
{
    mmf_real *const out = pool(b, item, sizeof *out);
    for (int64_t i = 0; i < (int64_t)b->n_batches * b->batch * item; i++)
        out[i] = (mmf_real)mmf_rng_normal(rng);
    return out;
}

/* In [first, limit): token 0 would be padding. */
static int64_t *draw_ints(bench *b, mmf_rng *rng, int64_t item, int64_t first, int64_t limit)
{
    int64_t *const out = pool(b, item, sizeof *out);
    for (int64_t i = 0; i < (int64_t)b->n_batches * b->batch * item; i++)
        out[i] = first + (int64_t)(mmf_rng_uniform(rng) * (double)(limit - first));
    return out;
}

static void make_input(bench *b, mmf_rng *rng, const input *given)
{
    const size_t m = b->schema.count++;
    mmf_input_schema *const in = &b->inputs[m];
    *in = (mmf_input_schema){.name = given->name, .kind = given->kind, .vocab_size = given->vocab};
    in->n_dims = given->kind == MMF_SEQUENCE ? 2 : 1;
    in->shape[0] = given->shape[0];
    in->shape[1] = given->shape[1];
    if (given->kind == MMF_TOKENS)
        b->tokens[m] = draw_ints(b, rng, item_size(in), 1, given->vocab);
    else
        b->data[m] = draw(b, rng, item_size(in));
}

static void make_target(bench *b, mmf_rng *rng)
{
    const work *const w = b->work;
    if (w->loss == CROSS_ENTROPY) {
        b->classes = draw_ints(b, rng, 1, 0, w->n_classes);
        return;
    }
    const int64_t item = w->loss == BINARY ? w->n_classes : 1;
    b->target = draw(b, rng, item);
    for (int64_t i = 0; w->loss == BINARY && i < (int64_t)b->n_batches * b->batch * item; i++)
        b->target[i] = b->target[i] > (mmf_real)1 ? 1 : 0;
}

static void make(bench *b, mmf_ctx *ctx, const work *w)
{
    b->ctx = ctx;
    b->work = w;
    b->schema = (mmf_schema){0, b->inputs};
    b->n_batches = w->inputs[0].kind == MMF_SEQUENCE ? SEQUENCE_BATCHES : POOLED_BATCHES;
    b->batch = w->batch ? w->batch : BATCH;
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("bench"));
    for (const input *in = w->inputs; in->name; in++)
        make_input(b, &rng, in);
    make_target(b, &rng);
    if (mmf_tape_create(ctx, &b->tape) != MMF_OK)
        stop(ctx);
    b->whole = make_module(b, w->model, w->options, &b->schema);
    if (strcmp(w->model, "late-mean") != 0) {
        add_part(b, b->whole);
        return;
    }
    for (size_t m = 0; m < b->schema.count; m++)
        add_part(b, make_module(b, "only", w->options, &(mmf_schema){1, &b->inputs[m]}));
}

/* ---- Running ----------------------------------------------------------------------------- */

static void run(bench *b, mmf_module *module, int64_t rows, const mmf_pass *pass, mmf_named *out)
{
    mmf_named in = {0};
    const mmf_schema *const schema = mmf_module_schema(module);
    const int64_t first = (int64_t)(b->step % b->n_batches) * b->batch;
    mmf_tape_begin(b->tape, pass);
    for (size_t m = 0; m < b->schema.count; m++) {
        const mmf_input_schema *const given = &b->inputs[m];
        if (!mmf_schema_find(schema, given->name))
            continue;
        const int64_t shape[] = {rows, given->shape[0], given->shape[1]};
        const int64_t at = first * item_size(given);
        mmf_named_put(b->tape, &in, given->name,
                      b->tokens[m]
                          ? mmf_input_ints(b->tape, b->tokens[m] + at, 1 + given->n_dims, shape)
                          : mmf_input(b->tape, b->data[m] + at, 1 + given->n_dims, shape));
    }
    const mmf_step step = {.training = pass->training, .step = (int64_t)b->step};
    mmf_module_run(module, b->tape, &in, &step, out);
}

static mmf_tensor *result(const bench *b, const mmf_named *out)
{
    return mmf_named_get(out, b->work->n_classes > 0 ? "logits" : "prediction");
}

/* The task's loss and what the model adds to it. */
static mmf_tensor *loss_of(bench *b, const mmf_named *out)
{
    const int64_t first = (int64_t)(b->step % b->n_batches) * b->batch;
    const int64_t shape[] = {b->batch, b->work->n_classes > 0 ? b->work->n_classes : 1};
    mmf_tensor *const y = result(b, out), *loss = NULL;
    if (b->work->loss == CROSS_ENTROPY) {
        mmf_tensor *const classes = mmf_input_ints(b->tape, b->classes + first, 1, shape);
        loss = mmf_cross_entropy(b->tape, y, classes, NULL, 0);
    } else {
        mmf_tensor *const target = mmf_input(b->tape, b->target + first * shape[1], 2, shape);
        loss = b->work->loss == BINARY ? mmf_bce_logits(b->tape, y, target, NULL)
               : b->work->loss == MSE  ? mmf_mse_loss(b->tape, y, target)
                                       : mmf_l1_loss(b->tape, y, target);
    }
    for (size_t i = 0; i < out->count; i++) {
        if (strncmp(out->items[i].name, "loss.", 5) == 0)
            loss = mmf_add(b->tape, loss, out->items[i].tensor);
    }
    return loss;
}

static void train_part(bench *b, const part *p)
{
    const mmf_pass pass = {.record = true, .training = true, .seed = 1, .step = b->step};
    mmf_named out = {0};
    run(b, p->module, b->batch, &pass, &out);
    mmf_tensor *const loss = loss_of(b, &out);
    if (mmf_tape_backward(b->tape, loss) != MMF_OK)
        stop(b->ctx);
    mmf_params_finish_gradients(mmf_module_params(p->module), b->tape);
    mmf_optimizer_step(p->optimizer, 1);
    b->last_loss = (double)loss->data[0];
}

static void train_step(bench *b)
{
    for (size_t i = 0; i < b->n_parts; i++)
        train_part(b, &b->parts[i]);
    b->step++;
}

static const mmf_tensor *predict(bench *b, bool int8)
{
    const mmf_pass pass = {.fixed = true, .int8 = int8};
    mmf_named out = {0};
    run(b, b->whole, 1, &pass, &out);
    const mmf_tensor *const y = result(b, &out);
    if (!y)
        stop((mmf_tape_status(b->tape), b->ctx));
    b->last_loss = (double)y->data[0];
    return y;
}

static void predict_one(bench *b)
{
    (void)predict(b, false);
    b->step++;
}

static void predict_one_int8(bench *b)
{
    (void)predict(b, true);
    b->step++;
}

static double likeness(bench *b)
{
    double ac = 0, aa = 0, cc = 0;
    const mmf_tensor *const exact = predict(b, false);
    const int64_t n = exact->count;
    mmf_real *const a = mmf_alloc(b->ctx, (size_t)n * sizeof *a);
    if (!a)
        stop(b->ctx);
    memcpy(a, exact->data, (size_t)n * sizeof *a);
    const mmf_real *const c = predict(b, true)->data;
    for (int64_t i = 0; i < n; i++) {
        ac += (double)a[i] * (double)c[i];
        aa += (double)a[i] * (double)a[i];
        cc += (double)c[i] * (double)c[i];
    }
    mmf_free(b->ctx, a);
    b->step++;
    return ac / sqrt(aa * cc);
}

typedef struct cost {
    double wall, cpu; /* microseconds a call; processor time of all threads */
} cost;

static cost timed(bench *b, void (*once)(bench *), long n)
{
    const double start = bench_seconds(), start_cpu = bench_cpu_seconds();
    for (long i = 0; i < n; i++)
        once(b);
    const double scale = 1e6 / (double)(n > 0 ? n : 1);
    return (cost){(bench_seconds() - start) * scale, (bench_cpu_seconds() - start_cpu) * scale};
}

/* The flat block is longer: parameters in it are aligned. */
static int64_t trained_elements(const mmf_params *params)
{
    int64_t total = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        total += p->role == MMF_PARAM_TRAINED && !p->is_alias ? p->tensor->count : 0;
    }
    return total;
}

static void tell(cost spent)
{
    printf("%.4f %.4f\n", spent.wall, spent.cpu);
}

/* ---- Requests ---------------------------------------------------------------------------- */

static void answer(bench *b, const char *verb, long n)
{
    if (strcmp(verb, "train") == 0) {
        tell(timed(b, train_step, n));
    } else if (strcmp(verb, "latency") == 0) {
        tell(timed(b, predict_one, n));
    } else if (strcmp(verb, "latency-int8") == 0) {
        tell(timed(b, predict_one_int8, n));
    } else if (strcmp(verb, "likeness") == 0) {
        printf("%.6f\n", likeness(b));
    } else if (strcmp(verb, "allocations") == 0) {
        const uint64_t before = mmf_ctx_memory(b->ctx).n_allocations;
        timed(b, train_step, n);
        printf("%llu\n", (unsigned long long)(mmf_ctx_memory(b->ctx).n_allocations - before));
    } else if (strcmp(verb, "nodes") == 0) {
        timed(b, train_step, n);
        printf("%lld\n", (long long)mmf_tape_n_nodes(b->tape));
    } else if (strcmp(verb, "parameters") == 0) {
        int64_t total = 0;
        for (size_t i = 0; i < b->n_parts; i++)
            total += trained_elements(mmf_module_params(b->parts[i].module));
        printf("%lld\n", (long long)total);
    } else {
        printf("error: unknown request %s\n", verb);
    }
}

int main(int argc, char **argv)
{
    static bench benches[N_WORKS];
    char line[256], verb[64], name[64];
    long n = 0;
    mmf_ctx *ctx = NULL;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = argc > 1 ? atoi(argv[1]) : 2;
    if (mmf_ctx_create(&ctx, &options) != MMF_OK)
        return 1;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%63s %63s %ld", verb, name, &n) != 3) {
            printf("error: expected VERB MODEL COUNT\n");
        } else if (strcmp(verb, "peak") == 0) {
            printf("%zu\n", bench_peak_resident());
        } else if (strcmp(verb, "system") == 0) {
            printf("kernels %s, products %s, %d threads\n", mmf_cpu_name(mmf_ctx_cpu(ctx)),
                   mmf_blas_name(), mmf_ctx_threads(ctx));
        } else {
            size_t i = 0;
            while (i < N_WORKS && strcmp(works[i].name, name) != 0)
                i++;
            if (i < N_WORKS && !benches[i].ctx)
                make(&benches[i], ctx, &works[i]);
            if (i < N_WORKS)
                answer(&benches[i], verb, n);
            else
                printf("error: unknown model %s\n", name);
        }
        fflush(stdout);
    }
    return 0; /* the system takes the memory back: there is nothing to measure in freeing it */
}
