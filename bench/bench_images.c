/*
 * bench_images.c: residual networks on batches of images, on command; requests as bench_models has
 * them:
 *
 *     infer MODEL RUNS       microseconds a batch, not recorded, and of processor time
 *     train MODEL STEPS      the same for a training step (forward, backward, Adam)
 *     parameters MODEL 0     trained elements: the peer's must be as many
 *     allocations MODEL RUNS allocations of our own in that many batches of inference
 *     peak - 0               largest resident memory so far, in bytes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/model.h"
#include "timer.h"

enum { BATCH = 8, SIDE = 224, CHANNELS = 3, CLASSES = 1000 };

static const struct {
    const char *name, *options; /* JSON */
} works[] = {
    {"resnet18", "{\"layers\": [2, 2, 2, 2]}"},
    {"resnet50", "{\"block\": \"bottleneck\", \"layers\": [3, 4, 6, 3]}"},
};

enum { N_WORKS = sizeof works / sizeof *works };

typedef struct bench {
    mmf_ctx *ctx;
    mmf_module *module;
    mmf_optimizer *optimizer; /* made by the first training step */
    mmf_tape *tape;
    mmf_real *images;
    int64_t classes[BATCH];
    uint64_t step;
} bench;

static void check(mmf_ctx *ctx, mmf_status status)
{
    if (status == MMF_OK)
        return;
    fprintf(stderr, "bench_images: %s\n", mmf_ctx_error(ctx));
    exit(1);
}

static void make(bench *b, mmf_ctx *ctx, const char *options)
{
    mmf_input_schema input = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {CHANNELS, SIDE, SIDE}};
    const mmf_schema schema = {1, &input};
    const mmf_def *const def = mmf_definition_find("resnet");
    const int64_t n = (int64_t)BATCH * CHANNELS * SIDE * SIDE;
    mmf_config *config = NULL;
    mmf_rng rng = mmf_rng_make(1, 1);
    b->ctx = ctx;
    check(ctx, mmf_config_create(ctx, &config, def));
    check(ctx, mmf_config_set_json(config, options));
    check(ctx, mmf_module_create(ctx, &b->module, def, config, &schema, 1));
    check(ctx, mmf_tape_create(ctx, &b->tape));
    mmf_config_free(config);
    b->images = malloc((size_t)n * sizeof *b->images);
    if (!b->images)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        b->images[i] = (mmf_real)mmf_rng_normal(&rng);
    for (int i = 0; i < BATCH; i++)
        b->classes[i] = (int64_t)mmf_rng_below(&rng, CLASSES);
}

static mmf_tensor *run(bench *b, const mmf_pass *pass)
{
    mmf_named in = {0}, out = {0};
    mmf_tape_begin(b->tape, pass);
    mmf_named_put(b->tape, &in, "image",
                  mmf_input(b->tape, b->images, 4, (int64_t[]){BATCH, CHANNELS, SIDE, SIDE}));
    mmf_module_run(b->module, b->tape, &in, &(mmf_step){.training = pass->training}, &out);
    check(b->ctx, mmf_tape_status(b->tape));
    return mmf_named_get(&out, "logits");
}

static void infer(bench *b)
{
    (void)run(b, &(mmf_pass){.fixed = true});
}

static void train(bench *b)
{
    if (!b->optimizer)
        check(b->ctx, mmf_optimizer_create(b->ctx, &b->optimizer, mmf_module_params(b->module),
                                           &(mmf_optimizer_options)MMF_OPTIMIZER_OPTIONS_INIT));
    const mmf_pass pass = {.record = true, .training = true, .seed = 1, .step = b->step++};
    const int64_t n = BATCH;
    mmf_tensor *const logits = run(b, &pass);
    mmf_tensor *const classes = mmf_input_ints(b->tape, b->classes, 1, &n);
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
    } else if (strcmp(verb, "train") == 0) {
        tell_time(b, train, n);
    } else if (strcmp(verb, "parameters") == 0) {
        printf("%lld\n", (long long)trained_elements(mmf_module_params(b->module)));
    } else if (strcmp(verb, "allocations") == 0) {
        const uint64_t before = mmf_ctx_memory(b->ctx).n_allocations;
        for (long i = 0; i < n; i++)
            infer(b);
        printf("%llu\n", (unsigned long long)(mmf_ctx_memory(b->ctx).n_allocations - before));
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
                make(&benches[i], ctx, works[i].options);
            answer(&benches[i], verb, n);
        } else {
            printf("error: expected VERB MODEL COUNT\n");
        }
        fflush(stdout);
    }
    return 0;
}
