/*
 * bench_encoders.c: networks for images on batches of them, and BERT on batches of texts, on
 * command; requests as bench_models has them:
 *
 *     infer MODEL RUNS       microseconds a batch, not recorded, and of processor time
 *     int8 MODEL RUNS        the same with linear layers in eight bits
 *     likeness MODEL 1       of a BERT: least cosine of a token's last state in eight bits with
 *                            that in single precision
 *     train MODEL STEPS      as infer, for a training step (forward, backward, Adam)
 *     parameters MODEL 0     trained elements: the peer's must be as many
 *     allocations MODEL RUNS allocations of our own in that many batches of inference
 *     activations MODEL RUNS bytes of activations and scratch at the peak so far
 *     peak - 0               largest resident memory so far, in bytes
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/model.h"
#include "timer.h"

enum { MAX_BATCH = 128, SIDE = 224, CHANNELS = 3, STEPS = 128, VOCABULARY = 30522 };

#define BERT(width, layers)                                                                        \
    "{\"hidden_size\": " #width ", \"num_hidden_layers\": " #layers                                \
    ", \"num_attention_heads\": 12, \"max_position_embeddings\": 512}"

/* BERT's pooled output stands in the place of logits: a head's cost would be nothing beside it. */
static const struct work {
    const char *name, *layer, *options, *output; /* options in JSON */
    int64_t batch, side;                         /* side: of images, 0: SIDE */
} works[] = {
    {"resnet18", "resnet", "{\"layers\": [2, 2, 2, 2]}", "logits", 8, 0},
    {"resnet50", "resnet", "{\"block\": \"bottleneck\", \"layers\": [3, 4, 6, 3]}", "logits", 8, 0},
    {"resnet20", "resnet",
     "{\"layers\": [3, 3, 3], \"width\": 16, \"stem\": \"cifar\", \"shortcut\": \"A\"}", "logits",
     128, 32},
    {"cnn2d", "cnn2d", "{}", "feature", 128, 28},
    {"bert-base", "bert", BERT(768, 12), "pooler_output", 8, 0},
    {"minilm-l6", "bert", BERT(384, 6), "pooler_output", 16, 0},
};

enum { N_WORKS = sizeof works / sizeof *works };

static const mmf_input_schema image = {
    .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {CHANNELS, SIDE, SIDE}};
static const mmf_input_schema text = {
    .name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {STEPS}, .vocab_size = VOCABULARY};

typedef struct bench {
    const struct work *work;
    mmf_ctx *ctx;
    mmf_module *module;
    mmf_optimizer *optimizer; /* made by the first training step */
    mmf_tape *tape;
    mmf_input_schema input;
    mmf_real *pixels; /* of images */
    int64_t *words;   /* of texts */
    int64_t classes[MAX_BATCH];
    uint64_t step;
} bench;

static void check(mmf_ctx *ctx, mmf_status status)
{
    if (status == MMF_OK)
        return;
    fprintf(stderr, "bench_encoders: %s\n", mmf_ctx_error(ctx));
    exit(1);
}

static void fill_input(bench *b, mmf_rng *rng)
{
    size_t n = (size_t)b->work->batch;
    for (int d = 0; d < b->input.n_dims; d++)
        n *= (size_t)b->input.shape[d];
    b->pixels = b->input.kind == MMF_IMAGE ? malloc(n * sizeof *b->pixels) : NULL;
    b->words = b->input.kind == MMF_TOKENS ? malloc(n * sizeof *b->words) : NULL;
    if (!b->pixels && !b->words)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        if (b->pixels)
            b->pixels[i] = (mmf_real)mmf_rng_normal(rng);
        else
            b->words[i] = 1 + (int64_t)mmf_rng_below(rng, VOCABULARY - 1);
    }
}

/* Runs and gives an output of the layer. */
static mmf_tensor *run(bench *b, const mmf_pass *pass, const char *output)
{
    mmf_named in = {0}, out = {0};
    int64_t shape[MMF_MAX_DIMS] = {b->work->batch};
    memcpy(shape + 1, b->input.shape, (size_t)b->input.n_dims * sizeof *shape);
    const int n_dims = b->input.n_dims + 1;
    mmf_tape_begin(b->tape, pass);
    mmf_named_put(b->tape, &in, b->input.name,
                  b->pixels ? mmf_input(b->tape, b->pixels, n_dims, shape)
                            : mmf_input_ints(b->tape, b->words, n_dims, shape));
    mmf_module_run(b->module, b->tape, &in, &(mmf_step){.training = pass->training}, &out);
    check(b->ctx, mmf_tape_status(b->tape));
    return mmf_named_get(&out, output);
}

static void infer(bench *b)
{
    (void)run(b, &(mmf_pass){.fixed = true}, b->work->output);
}

static void make(bench *b, mmf_ctx *ctx, const struct work *work)
{
    const mmf_def *const def = mmf_definition_find(work->layer);
    mmf_config *config = NULL;
    mmf_rng rng = mmf_rng_make(1, 1);
    b->work = work;
    b->ctx = ctx;
    b->input = strcmp(work->layer, "bert") == 0 ? text : image;
    if (work->side > 0)
        b->input.shape[1] = b->input.shape[2] = work->side;
    const mmf_schema schema = {1, &b->input};
    check(ctx, mmf_config_create(ctx, &config, def));
    check(ctx, mmf_config_set_json(config, work->options));
    check(ctx, mmf_module_create(ctx, &b->module, def, config, &schema, 1));
    check(ctx, mmf_tape_create(ctx, &b->tape));
    mmf_config_free(config);
    fill_input(b, &rng);
    const mmf_tensor *const y = run(b, &(mmf_pass){0}, work->output);
    for (int64_t i = 0; i < work->batch; i++)
        b->classes[i] = (int64_t)mmf_rng_below(&rng, (uint64_t)y->shape[1]);
}

static void infer_int8(bench *b)
{
    (void)run(b, &(mmf_pass){.fixed = true, .int8 = true}, b->work->output);
}

static double least_cosine(const mmf_real *a, const mmf_real *c, int64_t n_rows, int64_t width)
{
    double least = 1;
    for (int64_t r = 0; r < n_rows; r++) {
        double ac = 0, aa = 0, cc = 0;
        for (int64_t i = r * width; i < (r + 1) * width; i++) {
            ac += (double)a[i] * (double)c[i];
            aa += (double)a[i] * (double)a[i];
            cc += (double)c[i] * (double)c[i];
        }
        least = fmin(least, ac / sqrt(aa * cc));
    }
    return least;
}

static void tell_likeness(bench *b)
{
    static const char states[] = "last_hidden_state";
    const mmf_tensor *x = run(b, &(mmf_pass){.fixed = true}, states);
    mmf_real *const exact = x ? malloc((size_t)x->count * sizeof *exact) : NULL;
    if (!exact) {
        printf("error: %s has no states\n", b->work->name);
        return;
    }
    const int64_t n_rows = x->shape[0] * x->shape[1], width = x->shape[2];
    memcpy(exact, x->data, (size_t)x->count * sizeof *exact);
    x = run(b, &(mmf_pass){.fixed = true, .int8 = true}, states);
    printf("%.6f\n", least_cosine(exact, x->data, n_rows, width));
    free(exact);
}

static void train(bench *b)
{
    if (!b->optimizer)
        check(b->ctx, mmf_optimizer_create(b->ctx, &b->optimizer, mmf_module_params(b->module),
                                           &(mmf_optimizer_options)MMF_OPTIMIZER_OPTIONS_INIT));
    const mmf_pass pass = {.record = true, .training = true, .seed = 1, .step = b->step++};
    mmf_tensor *const logits = run(b, &pass, b->work->output);
    mmf_tensor *const classes = mmf_input_ints(b->tape, b->classes, 1, &b->work->batch);
    check(b->ctx, mmf_tape_backward(b->tape, mmf_cross_entropy(b->tape, logits, classes, NULL, 0)));
    mmf_params_finish_gradients(mmf_module_params(b->module), b->tape);
    mmf_optimizer_step(b->optimizer, 1);
}

static void tell_time(bench *b, void (*once)(bench *), long n)
{
    const double start = bench_seconds(), start_cpu = bench_cpu_seconds();
    for (long i = 0; i < n; i++)
        once(b);
    const double scale = 1e6 / (double)(n > 0 ? n : 1);
    printf("%.4f %.4f\n", (bench_seconds() - start) * scale,
           (bench_cpu_seconds() - start_cpu) * scale);
}

static int64_t trained_elements(const mmf_params *params)
{
    int64_t total = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        total += p->role == MMF_PARAM_TRAINED ? p->tensor->count : 0;
    }
    return total;
}

static void answer(bench *b, const char *verb, long n)
{
    if (strcmp(verb, "infer") == 0) {
        tell_time(b, infer, n);
    } else if (strcmp(verb, "int8") == 0) {
        tell_time(b, infer_int8, n);
    } else if (strcmp(verb, "likeness") == 0) {
        tell_likeness(b);
    } else if (strcmp(verb, "train") == 0) {
        tell_time(b, train, n);
    } else if (strcmp(verb, "parameters") == 0) {
        printf("%lld\n", (long long)trained_elements(mmf_module_params(b->module)));
    } else if (strcmp(verb, "allocations") == 0) {
        const uint64_t before = mmf_ctx_memory(b->ctx).n_allocations;
        for (long i = 0; i < n; i++)
            infer(b);
        printf("%llu\n", (unsigned long long)(mmf_ctx_memory(b->ctx).n_allocations - before));
    } else if (strcmp(verb, "activations") == 0) {
        for (long i = 0; i < n; i++)
            infer(b);
        printf("%zu\n", mmf_tape_peak_bytes(b->tape));
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
        size_t i = 0;
        if (sscanf(line, "%63s %63s %ld", verb, name, &n) != 3)
            *verb = '\0';
        while (i < N_WORKS && strcmp(works[i].name, name) != 0)
            i++;
        if (strcmp(verb, "peak") == 0) {
            printf("%zu\n", bench_peak_resident());
        } else if (i < N_WORKS) {
            if (!benches[i].ctx)
                make(&benches[i], ctx, &works[i]);
            answer(&benches[i], verb, n);
        } else {
            printf("error: expected VERB MODEL COUNT\n");
        }
        fflush(stdout);
    }
    return 0;
}
