/*
 * bench_models.c: training steps and one-sample latency of our models, on command.
 *
 * The driver (compare.py) keeps this process and the peer's beside each other and asks them in
 * turn. A request is one line on standard input, an answer one line on standard output:
 *
 *     train MODEL STEPS       microseconds a training step (forward, backward, Adam), and of
 *                             processor time
 *     latency MODEL RUNS      the same for a prediction of one sample
 *     allocations MODEL STEPS allocations of our own in that many steps
 *     nodes MODEL 1           operations recorded in a step
 *     peak - 0                largest resident memory so far, in bytes
 *     system - 0              processor level, back end, threads
 *
 * Data are drawn once and stay in memory. Everything is made at the first request that names it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmfuse/model.h"
#include "tensor/tape.h"
#include "timer.h"

#define BATCH 32
#define N_INPUTS 3
#define MAX_MODULES N_INPUTS
/* Batches that steps cycle through: more than the second cache level, less than memory. */
#define POOLED_BATCHES 16
#define SEQUENCE_BATCHES 4
#define STEPS_OF_SEQUENCES 50

/* One line of the table of performance.md; the peer has the same list. */
typedef struct work {
    const char *name;
    const char *model; /* late-mean trains one unimodal model after the other */
    bool is_sequence;
    const char *options; /* JSON */
} work;

static const work works[] = {
    {"joint-concat", "joint-concat", false, "{\"hidden\": 64, \"dropout\": 0.2}"},
    {"lmf", "lmf", false, "{}"},
    {"weighted", "weighted", false, "{\"hidden\": 64, \"dropout\": 0.2}"},
    {"late-mean", "late-mean", false, "{\"hidden\": 64, \"dropout\": 0.2}"},
    {"tfn", "tfn", false,
     "{\"hidden_dims\": [128, 32, 32], \"text_out\": 64, \"post_fusion_dim\": 64}"},
    {"lmf-sequence", "lmf", true,
     "{\"hidden_dims\": [128, 16, 128], \"rank\": 3, \"dropouts\": [0.3, 0.3, 0.3, 0.3]}"},
    {"ef-lstm", "ef-lstm", true, "{\"hidden_dims\": 128, \"num_layers\": 4, \"dropout\": 0.5}"},
};

enum { N_WORKS = sizeof works / sizeof *works };

static const char *const input_names[N_INPUTS] = {"text", "audio", "vision"};
static const int64_t pooled_widths[N_INPUTS] = {768, 74, 35};
static const int64_t sequence_widths[N_INPUTS] = {768, 5, 20};

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
    mmf_input_schema inputs[N_INPUTS];
    size_t n_batches;
    mmf_real *data[N_INPUTS]; /* (n_batches, BATCH, ...) */
    mmf_real *target;         /* (n_batches, BATCH) */
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
    if (!def || mmf_config_create(b->ctx, &config, def) != MMF_OK ||
        mmf_config_set(config, "train_mode", "regression") != MMF_OK ||
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

static mmf_real *draw(bench *b, mmf_rng *rng, int64_t count)
{
    mmf_real *const out = mmf_alloc(b->ctx, (size_t)count * sizeof *out);
    if (!out)
        stop(b->ctx);
    for (int64_t i = 0; i < count; i++)
        out[i] = (mmf_real)mmf_rng_normal(rng);
    return out;
}

static void make(bench *b, mmf_ctx *ctx, const work *w)
{
    b->ctx = ctx;
    b->work = w;
    b->schema = (mmf_schema){N_INPUTS, b->inputs};
    b->n_batches = w->is_sequence ? SEQUENCE_BATCHES : POOLED_BATCHES;
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("bench"));
    for (size_t m = 0; m < N_INPUTS; m++) {
        mmf_input_schema *const in = &b->inputs[m];
        *in = (mmf_input_schema){.name = input_names[m]};
        in->kind = w->is_sequence ? MMF_SEQUENCE : MMF_VECTOR;
        in->n_dims = w->is_sequence ? 2 : 1;
        in->shape[0] = w->is_sequence ? STEPS_OF_SEQUENCES : pooled_widths[m];
        in->shape[1] = sequence_widths[m];
        b->data[m] = draw(b, &rng, (int64_t)b->n_batches * BATCH * item_size(in));
    }
    b->target = draw(b, &rng, (int64_t)b->n_batches * BATCH);
    if (mmf_tape_create(ctx, &b->tape) != MMF_OK)
        stop(ctx);
    b->whole = make_module(b, w->model, w->options, &b->schema);
    if (strcmp(w->model, "late-mean") != 0) {
        add_part(b, b->whole);
        return;
    }
    for (size_t m = 0; m < N_INPUTS; m++)
        add_part(b, make_module(b, "only", w->options, &(mmf_schema){1, &b->inputs[m]}));
}

/* ---- Running ----------------------------------------------------------------------------- */

static mmf_tensor *run(bench *b, mmf_module *module, int64_t rows, const mmf_pass *pass)
{
    mmf_named in = {0}, out = {0};
    const mmf_schema *const schema = mmf_module_schema(module);
    const size_t batch = b->step % b->n_batches;
    mmf_tape_begin(b->tape, pass);
    for (size_t m = 0; m < N_INPUTS; m++) {
        const mmf_input_schema *const given = &b->inputs[m];
        if (!mmf_schema_find(schema, given->name))
            continue;
        const int64_t shape[] = {rows, given->shape[0], given->shape[1]};
        mmf_real *const values = b->data[m] + (int64_t)batch * BATCH * item_size(given);
        mmf_named_put(b->tape, &in, given->name,
                      mmf_input(b->tape, values, 1 + given->n_dims, shape));
    }
    const mmf_step step = {.training = pass->training, .step = (int64_t)b->step};
    mmf_module_run(module, b->tape, &in, &step, &out);
    return mmf_named_get(&out, "prediction");
}

static void train_part(bench *b, const part *p)
{
    const mmf_pass pass = {.record = true, .training = true, .seed = 1, .step = b->step};
    mmf_tensor *const y = run(b, p->module, BATCH, &pass);
    mmf_real *const wanted = b->target + (int64_t)(b->step % b->n_batches) * BATCH;
    mmf_tensor *const target = mmf_input(b->tape, wanted, 2, (int64_t[]){BATCH, 1});
    mmf_tensor *const loss = mmf_l1_loss(b->tape, y, target);
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

static void predict_one(bench *b)
{
    const mmf_pass pass = {.record = false};
    const mmf_tensor *const y = run(b, b->whole, 1, &pass);
    if (!y)
        stop((mmf_tape_status(b->tape), b->ctx));
    b->last_loss = (double)y->data[0];
    b->step++;
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
    } else if (strcmp(verb, "allocations") == 0) {
        const uint64_t before = mmf_ctx_memory(b->ctx).n_allocations;
        timed(b, train_step, n);
        printf("%llu\n", (unsigned long long)(mmf_ctx_memory(b->ctx).n_allocations - before));
    } else if (strcmp(verb, "nodes") == 0) {
        timed(b, train_step, n);
        printf("%lld\n", (long long)mmf_tape_n_nodes(b->tape));
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
