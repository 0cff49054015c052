/*
 * bench_memory.c: peak memory of inference beside what it cannot do without.
 *
 *     bench_memory [minilm=FOLDER] [rounds=N]
 *
 * For every work a fresh process opens an encoder from files, as `mmfuse encode` does, and runs
 * batches. Its peak resident memory without that of `mmfuse --version` is compared with the bytes
 * of the weights plus input and output of the widest layer. ResNet-50 and BERT base have drawn
 * weights, written to a folder that is removed; MiniLM's are those of FOLDER.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mmfuse/model.h"
#include "timer.h"
#include "train/frozen.h"

enum { SIDE = 224, CHANNELS = 3, STEPS = 128, VOCABULARY = 30522, PATH_BYTES = 4096 };

#define BERT_BASE                                                                                  \
    "{\"hidden_size\": 768, \"num_hidden_layers\": 12, "                                           \
    "\"num_attention_heads\": 12, \"intermediate_size\": 3072, \"vocab_size\": 30522, "            \
    "\"max_position_embeddings\": 512}"

/* The widest layer of BERT is the first of the inner two, that of ResNet-50 the shortcut of its
 * second stage: (256, 56, 56) to (512, 28, 28). */
static const struct work {
    const char *name, *encoder;
    const char *config; /* of drawn weights */
    int64_t batch;
    int64_t widest; /* elements of a sample */
} works[] = {
    {"resnet50", "resnet50", "{}", 8, 256 * 56 * 56 + 512 * 28 * 28},
    {"bert-base", "bert", BERT_BASE, 8, STEPS *(768 + 3072)},
    {"minilm", "bert", NULL, 16, STEPS *(384 + 1536)},
};

enum { N_WORKS = sizeof works / sizeof *works };

static void check(mmf_ctx *ctx, mmf_status status)
{
    if (status == MMF_OK)
        return;
    fprintf(stderr, "bench_memory: %s\n", mmf_ctx_error(ctx));
    exit(1);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static const struct work *work_of(const char *name)
{
    for (size_t i = 0; i < N_WORKS; i++) {
        if (strcmp(works[i].name, name) == 0)
            return &works[i];
    }
    fprintf(stderr, "bench_memory: there is no work %s\n", name);
    exit(1);
}

static mmf_input_schema input_of(const struct work *work)
{
    const mmf_input_schema image = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {CHANNELS, SIDE, SIDE}};
    const mmf_input_schema text = {.name = "text",
                                   .kind = MMF_TOKENS,
                                   .n_dims = 1,
                                   .shape = {STEPS},
                                   .vocab_size = VOCABULARY,
                                   .has_length = true};
    return strcmp(work->encoder, "bert") == 0 ? text : image;
}

static mmf_ctx *make_ctx(void)
{
    mmf_ctx *ctx = NULL;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = 2;
    if (mmf_ctx_create(&ctx, &options) != MMF_OK)
        exit(1);
    return ctx;
}

/* ---- In processes of their own ----------------------------------------------------------- */

/* As their authors publish them: config.json beside model.safetensors. */
static void write_weights(const struct work *work, const char *folder)
{
    char path[PATH_BYTES];
    mmf_ctx *const ctx = make_ctx();
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    const mmf_def *def = NULL;
    mmf_input_schema input = input_of(work);
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_ENCODER, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, work->encoder) == 0)
            def = table[i];
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *const file = fopen(path, "w");
    if (!def || !file || fputs(work->config, file) == EOF || fclose(file) != 0)
        fail(path);
    check(ctx, mmf_config_create(ctx, &config, def));
    check(ctx, mmf_config_set_json(config, work->config));
    check(ctx, mmf_module_create(ctx, &module, def, config, &(mmf_schema){1, &input}, 1));
    const mmf_params *const params = mmf_module_params(module);
    mmf_named_array *const arrays = calloc(mmf_params_count(params), sizeof *arrays);
    if (!arrays)
        fail("memory");
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        arrays[i] = (mmf_named_array){p->name,
                                      {.dtype = MMF_F32,
                                       .n_dims = p->tensor->n_dims,
                                       .item_bytes = 4,
                                       .data = p->tensor->data}};
        memcpy(arrays[i].array.shape, p->tensor->shape, sizeof arrays[i].array.shape);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    check(ctx, mmf_safetensors_save(ctx, path, arrays, mmf_params_count(params), NULL, 0));
    free(arrays);
}

/* Prints peak memory and the bytes of the weights. */
static void infer(const struct work *work, const char *folder, long n_batches)
{
    char path[PATH_BYTES];
    mmf_ctx *const ctx = make_ctx();
    mmf_frozen *frozen = NULL;
    mmf_archive *archive = NULL;
    const float *features = NULL;
    mmf_input_schema input = input_of(work);
    size_t n = (size_t)work->batch, weights = 0;
    for (int d = 0; d < input.n_dims; d++)
        n *= (size_t)input.shape[d];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    check(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    for (size_t i = 0; i < mmf_archive_count(archive); i++) {
        const mmf_array *const array = mmf_archive_header(archive, i);
        weights += (size_t)mmf_array_count(array) * array->item_bytes;
    }
    mmf_archive_close(archive);
    check(ctx, mmf_frozen_open(ctx, &frozen, work->encoder, input.kind == MMF_IMAGE ? path : folder,
                               &input));
    float *const pixels = input.kind == MMF_IMAGE ? malloc(n * sizeof *pixels) : NULL;
    int64_t *const words = input.kind == MMF_TOKENS ? malloc(n * sizeof *words) : NULL;
    int64_t length[16];
    for (long round = 0; round < n_batches; round++) {
        mmf_rng rng = mmf_rng_make(1, (uint64_t)round);
        for (size_t i = 0; i < n; i++) {
            if (pixels)
                pixels[i] = (float)mmf_rng_below(&rng, 256);
            else if (words)
                words[i] = 1 + (int64_t)mmf_rng_below(&rng, VOCABULARY - 1);
        }
        for (int64_t b = 0; b < work->batch; b++)
            length[b] = STEPS;
        const mmf_batch_input in = {
            .values = pixels, .tokens = words, .length = words ? length : NULL};
        check(ctx, mmf_frozen_run(frozen, &in, work->batch, input.shape[0], &features));
    }
    printf("%zu %zu\n", bench_peak_resident(), weights);
    mmf_frozen_free(frozen);
    free(pixels);
    free(words);
    mmf_ctx_free(ctx);
}

/* ---- Asking them ------------------------------------------------------------------------- */

static size_t run_process(char *const *arguments, const char *redirected)
{
    struct rusage usage = {0};
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen(redirected, "w", stdout))
            _exit(1);
        execv(arguments[0], arguments);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child || status != 0)
        fail(arguments[0]);
    return (size_t)usage.ru_maxrss * 1024;
}

static void measure(const struct work *work, char *self, const char *minilm, size_t empty,
                    const char *n_batches)
{
    char folder[] = "/tmp/bench_memory.XXXXXX", name[64], from[PATH_BYTES], answer[PATH_BYTES];
    char write[] = "--write", run[] = "--infer", rounds[32];
    size_t peak = 0, weights = 0;
    if (!mkdtemp(folder))
        fail(folder);
    snprintf(name, sizeof name, "%s", work->name);
    snprintf(from, sizeof from, "%s", work->config ? folder : minilm);
    snprintf(answer, sizeof answer, "%s/answer", folder);
    snprintf(rounds, sizeof rounds, "%s", n_batches);
    if (work->config)
        run_process((char *[]){self, write, name, from, NULL}, "/dev/null");
    run_process((char *[]){self, run, name, from, rounds, NULL}, answer);
    FILE *const file = fopen(answer, "r");
    if (!file || fscanf(file, "%zu %zu", &peak, &weights) != 2)
        fail(answer);
    fclose(file);
    static const char *const made[] = {"answer", "config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        snprintf(answer, sizeof answer, "%s/%s", folder, made[i]);
        (void)unlink(answer);
    }
    (void)rmdir(folder);
    const double mb = 1e6, widest = (double)(work->batch * work->widest) * sizeof(float);
    const double needed = (double)weights + widest, taken = (double)peak - (double)empty;
    printf("| %s | %.1f MB | %.1f MB | %.1f MB | %.1f MB | %.2f |\n", work->name, taken / mb,
           (double)empty / mb, (double)weights / mb, widest / mb, taken / needed);
}

int main(int argc, char **argv)
{
    char self[PATH_BYTES], command[PATH_BYTES], version[] = "--version";
    const char *minilm = NULL, *rounds = "3";
    if (argc == 4 && strcmp(argv[1], "--write") == 0) {
        write_weights(work_of(argv[2]), argv[3]);
        return 0;
    }
    if (argc == 5 && strcmp(argv[1], "--infer") == 0) {
        infer(work_of(argv[2]), argv[3], strtol(argv[4], NULL, 10));
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "minilm=", 7) == 0)
            minilm = argv[i] + 7;
        else if (strncmp(argv[i], "rounds=", 7) == 0)
            rounds = argv[i] + 7;
    }
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        fail("/proc/self/exe");
    self[n] = '\0';
    char *const slash = strrchr(self, '/');
    snprintf(command, sizeof command, "%.*s/mmfuse", (int)(slash - self), self);
    const size_t empty = run_process((char *[]){command, version, NULL}, "/dev/null");
    puts("| work | peak | empty process | weights | widest layer | peak / (weights + layer) |\n"
         "| --- | --- | --- | --- | --- | --- |");
    for (size_t i = 0; i < N_WORKS; i++) {
        if (works[i].config || minilm)
            measure(&works[i], self, minilm, empty, rounds);
    }
    return 0;
}
