/* session.c: the context of a verb, its messages, and Ctrl-C. POSIX. */
#include "cli.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_MODELS 256
/* Signal frames hold the vector registers: 3 KB with AVX-512, more with what follows. */
#define HANDLER_STACK_BYTES 65536

/* A signal handler is given nothing but the signal's number, so the context it cancels and the time
 * of the first request have to be found in file-scope variables: the only ones of the command. */
static mmf_ctx *volatile interrupted_ctx;
static volatile time_t interrupted_at;

/*
 * The first signal asks for an orderly end, a later one ends the process at once. Those that come
 * together count as one: `timeout` and terminals may signal both the process and its group.
 */
static void on_interrupt(int number)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (interrupted_at && now.tv_sec - interrupted_at > 1) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (!interrupted_at)
        interrupted_at = now.tv_sec;
    if (interrupted_ctx)
        mmf_ctx_cancel(interrupted_ctx);
}

/*
 * oneDNN's generated kernels keep values below the stack pointer, further down than the 128 bytes
 * that signals leave alone: a handler on the same stack overwrites them, and the kernel then writes
 * anywhere. So the handler gets a stack of its own.
 */
static void use_own_stack(void)
{
    static char memory[HANDLER_STACK_BYTES];
    const stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    sigaltstack(&stack, NULL);
}

void cli_catch_interrupt(const cli_session *session)
{
    interrupted_ctx = session->ctx;
    interrupted_at = 0;
    use_own_stack();
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    action.sa_flags = (int)(SA_RESTART | SA_ONSTACK);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void log_line(void *user, mmf_log_level level, const char *text)
{
    (void)user;
    fprintf(stderr, "mmfuse: %s%s\n", level == MMF_LOG_WARNING ? "warning: " : "", text);
}

/* The folder of the running program: helper programs lie beside it. */
static void find_helpers(cli_session *session)
{
    session->io = (mmf_io_options)MMF_IO_OPTIONS_INIT;
    const ssize_t n =
        readlink("/proc/self/exe", session->helper_dir, sizeof session->helper_dir - 1);
    if (n <= 0)
        return;
    session->helper_dir[n] = '\0';
    char *const slash = strrchr(session->helper_dir, '/');
    if (slash && slash > session->helper_dir) {
        *slash = '\0';
        session->io.helper_dir = session->helper_dir;
    }
}

int cli_begin(cli_session *session, int64_t n_threads)
{
    *session = (cli_session){0};
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = (int)n_threads;
    options.log = log_line;
    const mmf_status status = mmf_ctx_create(&session->ctx, &options);
    if (status == MMF_ARG)
        return cli_error("the environment variable MMFUSE_CPU must be portable, avx2 or avx512");
    if (status != MMF_OK)
        return cli_error("cannot start: %s", mmf_status_name(status));
    find_helpers(session);
    return OPT_GO_ON;
}

int cli_end(cli_session *session, int code)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    interrupted_ctx = NULL;
    mmf_ctx_free(session->ctx);
    session->ctx = NULL;
    return code;
}

int cli_failed(const cli_session *session, mmf_status status)
{
    const char *const text = mmf_ctx_error(session->ctx);
    fprintf(stderr, "mmfuse: %s\n", *text ? text : mmf_status_name(status));
    return status == MMF_CANCELLED ? CLI_INTERRUPTED : CLI_FAILED;
}

int cli_refused(const cli_session *session, mmf_status status)
{
    const int code = cli_failed(session, status);
    return status == MMF_ARG ? CLI_USAGE : code;
}

int cli_error(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("mmfuse: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return CLI_FAILED;
}

void cli_say(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

const opt_row cli_json_rows[] = {
    {"json", 0, OPT_FLAG, offsetof(cli_common, json), NULL, 0, 0, NULL,
     "print one JSON object instead of text"},
    {0},
};

const opt_row cli_common_rows[] = {
    {"json", 0, OPT_FLAG, offsetof(cli_common, json), NULL, 0, 0, NULL,
     "print one JSON object instead of text"},
    {"threads", 0, OPT_INT, offsetof(cli_common, threads), "N", 1, 1024, NULL,
     "threads of one process (default: all processors); results do not depend on it"},
    {0},
};

const mmf_def *cli_find_model(const char *verb, const char *name)
{
    const mmf_def *const def = mmf_model_find(name);
    if (def)
        return def;
    const char *names[MAX_MODELS];
    size_t n = 0;
    const mmf_def *const *const models = mmf_catalogue(MMF_KIND_MODEL, &n);
    n = n < MAX_MODELS ? n : MAX_MODELS;
    for (size_t i = 0; i < n; i++)
        names[i] = models[i]->name;
    const char *const nearest = opt_nearest(name, names, n);
    if (nearest)
        opt_misuse(verb, "there is no model \"%s\"; did you mean %s?", name, nearest);
    else
        opt_misuse(verb, "there is no model \"%s\"; `mmfuse list` shows all", name);
    return NULL;
}
