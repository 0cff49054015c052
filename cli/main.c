/* main.c: the table of verbs, and what happens before and after one runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const cli_verb verbs[] = {
    {"list", "models, operators and encoders", cmd_list, false},
    {"info", "what is in a data file, a model file, a model, or this machine", cmd_info, false},
    {"convert", "any readable data file to npz", cmd_convert, false},
    {"encode", "a table of texts, images, recordings and videos to npz", cmd_encode, true},
    {"train", "train one model and save it", cmd_train, true},
    {"eval", "score a trained model, also with modalities missing", cmd_eval, true},
    {"predict", "predictions of a trained model for a file or for samples as JSON", cmd_predict,
     false},
    {"compare", "train many models with several seeds and rank them", cmd_compare, false},
    {"explain", "what each modality contributes, what breaks a model, where it is wrong",
     cmd_explain, true},
    {"verify", "compare with stored results of reference implementations", cmd_verify, false},
    {"bench", "measure training steps, latency and operations", cmd_bench, false},
};

#define N_VERBS (sizeof verbs / sizeof *verbs)

static void print_help(FILE *out)
{
    fputs("usage: mmfuse VERB [options]\n\n"
          "Fuses several modalities of the same samples, by any strategy of its catalogue.\n\n",
          out);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\n`mmfuse VERB --help` explains a verb; `mmfuse --version` prints the version.\n"
          "Results go to standard output, messages to standard error. Exit codes: 0 done,\n"
          "1 failed, 2 wrong usage, 130 interrupted after saving.\n\n"
          "Example:\n"
          "  mmfuse info digits.npz\n"
          "  mmfuse compare digits.npz --seeds 5\n"
          "  mmfuse train digits.npz --model lmf -o digits.mmf\n"
          "  mmfuse predict digits.mmf new.npz\n",
          out);
}

static const cli_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static int unknown_verb(const char *name)
{
    const char *names[N_VERBS];
    for (size_t i = 0; i < N_VERBS; i++)
        names[i] = verbs[i].name;
    const char *const nearest = opt_nearest(name, names, N_VERBS);
    if (nearest)
        fprintf(stderr, "mmfuse: unknown verb \"%s\"; did you mean %s?\n", name, nearest);
    else
        fprintf(stderr, "mmfuse: unknown verb \"%s\"\n", name);
    fputs("`mmfuse --help` lists the verbs\n", stderr);
    return CLI_USAGE;
}

/*
 * Threads that wait for work by spinning hold the processors that other programs need: under load a
 * training took up to eight times as long as one whose threads sleep. The OpenMP runtime reads its
 * environment before main, so the command starts itself again; a policy that the user set stays.
 */
static void wait_asleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 0) != 0)
        return;
    execv("/proc/self/exe", argv); /* if it fails, this process does the work */
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *const name = argv[1];
    if (strcmp(name, "--version") == 0) {
        printf("mmfuse %s\n", mmf_version());
        return CLI_OK;
    }
    const bool asks_help =
        strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (asks_help && argc < 3) {
        print_help(stdout);
        return CLI_OK;
    }
    const cli_verb *const verb = find_verb(asks_help ? argv[2] : name);
    if (!verb)
        return unknown_verb(asks_help ? argv[2] : name);
    if (!asks_help && verb->computes_long)
        wait_asleep(argv);
    if (!asks_help)
        return verb->run(argc - 1, argv + 1);
    char word[] = "--help";
    char *words[] = {argv[2], word, NULL};
    return verb->run(2, words);
}

int main(int argc, char **argv)
{
    const int code = run(argc, argv);
    errno = 0;
    const bool had_error = ferror(stdout) != 0;
    if ((fflush(stdout) != 0 || had_error) && code != CLI_USAGE) {
        fprintf(stderr, "mmfuse: cannot write to standard output: %s\n",
                strerror(errno ? errno : EIO));
        return CLI_FAILED;
    }
    return code;
}
