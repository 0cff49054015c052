/* child.c: see child.h. */
#include "io/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/close_range.h>
#include <sys/prctl.h>
#endif

#include "io/utf8.h"

#define EXEC_FAILED 127
#define LAST_READS 64 /* pieces of messages that are still read after its end */
#define MAX_ARGUMENTS 32

/* ---- Finding the program ------------------------------------------------------------------ */

static bool runnable(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

static bool try_folder(mmf_child *child, const char *format, const char *folder, size_t n_folder)
{
    const int n = snprintf(child->program, sizeof child->program, "%.*s/" MMF_CHILD_PREFIX "%s",
                           (int)n_folder, folder, format);
    return n > 0 && (size_t)n < sizeof child->program && runnable(child->program);
}

void mmf_child_find(mmf_child *child, const char *format, const char *folder)
{
    if (folder && try_folder(child, format, folder, strlen(folder)))
        return;
    char self[MMF_CHILD_PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        const char *const slash = strrchr(self, '/');
        if (slash && try_folder(child, format, self, (size_t)(slash - self)))
            return;
    }
    snprintf(child->program, sizeof child->program, MMF_CHILD_PREFIX "%s", format);
}

/* ---- Starting it -------------------------------------------------------------------------- */

/* Limits are only ever lowered: the one there is may be stricter. */
static const struct rlimit *lowered(struct rlimit *limit, uint64_t value)
{
    if (limit->rlim_max == RLIM_INFINITY || value < limit->rlim_max)
        limit->rlim_max = (rlim_t)value;
    limit->rlim_cur = limit->rlim_max;
    return limit;
}

/* At the soft limit the kernel sends SIGXCPU, at the hard one SIGKILL: only the first tells why. */
static void limit_processor_time(rlim_t seconds)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CPU, &limit) != 0)
        return;
    if (limit.rlim_max == RLIM_INFINITY || seconds < limit.rlim_max) {
        limit.rlim_max = seconds + 1;
        limit.rlim_cur = seconds;
    }
    setrlimit(RLIMIT_CPU, &limit);
}

static void set_limits(const mmf_child_limits *limits)
{
    struct rlimit limit;
    if (limits->seconds > 0)
        limit_processor_time((rlim_t)limits->seconds);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
        setrlimit(RLIMIT_FSIZE, lowered(&limit, limits->output));
    if (getrlimit(RLIMIT_CORE, &limit) == 0)
        setrlimit(RLIMIT_CORE, lowered(&limit, 0));
#ifndef MMF_ARENA_DEBUG /* sanitizers reserve terabytes of addresses: their programs would not     \
                           start */
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        setrlimit(RLIMIT_AS, lowered(&limit, limits->memory));
#endif
}

/* What the child needs between fork and exec, where only simple calls are safe. */
typedef struct plan {
    const char *program;
    char *const *arguments; /* with the program's name in front */
    int input, output, messages, exec_errno;
    const mmf_child_limits *limits;
} plan;

static void become_program(const plan *p)
{
    setpgid(0, 0);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    const int input = p->input >= 0 ? p->input : open("/dev/null", O_RDONLY);
    if (input >= 0 && dup2(input, STDIN_FILENO) >= 0 && dup2(p->output, STDOUT_FILENO) >= 0 &&
        dup2(p->messages, STDERR_FILENO) >= 0) {
        signal(SIGPIPE, SIG_DFL);
        set_limits(p->limits);
#ifdef CLOSE_RANGE_CLOEXEC
        close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
#endif
        execvp(p->program, p->arguments);
    }
    const int reason = errno;
    if (write(p->exec_errno, &reason, sizeof reason) < 0)
        _exit(EXEC_FAILED + 1);
    _exit(EXEC_FAILED);
}

/* A pipe whose ends stay clear of the standard streams, which the child replaces. */
static bool open_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        const int lifted = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(ends[i]);
        ends[i] = lifted;
    }
    if (ends[0] >= 0 && ends[1] >= 0)
        return true;
    close(ends[0]);
    close(ends[1]);
    return false;
}

/* Forks; returns what went wrong until the program has replaced the child, or 0. */
static int run_plan(mmf_child *child, const plan *p, int exec_errno)
{
    child->pid = fork();
    if (child->pid == 0)
        become_program(p);
    const int fork_errno = errno;
    close(p->messages);
    close(p->exec_errno);
    if (child->pid < 0) {
        child->pid = 0;
        return fork_errno;
    }
    setpgid(child->pid, child->pid); /* the child does it too: whoever comes first */
    int reason = 0;
    ssize_t n = 0;
    do
        n = read(exec_errno, &reason, sizeof reason);
    while (n < 0 && errno == EINTR);
    if (n != sizeof reason)
        return 0; /* the pipe closed when the program replaced the child */
    waitpid(child->pid, NULL, 0);
    child->pid = 0;
    return reason;
}

int mmf_child_start(mmf_child *child, char *const *arguments, int input, int output,
                    const mmf_child_limits *limits)
{
    int messages[2], start[2];
    child->n_tail = 0;
    child->messages = -1;
    char *all[MAX_ARGUMENTS + 2] = {child->program};
    for (size_t i = 0; arguments[i]; i++) {
        if (i == MAX_ARGUMENTS)
            return E2BIG;
        all[1 + i] = arguments[i];
    }
    if (!open_pipe(messages))
        return errno;
    if (!open_pipe(start)) {
        const int reason = errno;
        close(messages[0]);
        close(messages[1]);
        return reason;
    }
    const plan p = {child->program, all, input, output, messages[1], start[1], limits};
    child->messages = messages[0];
    const int reason = run_plan(child, &p, start[0]);
    close(start[0]);
    return reason;
}

/* ---- Waiting for it ----------------------------------------------------------------------- */

double mmf_seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void mmf_child_read_messages(mmf_child *child, int wait_ms)
{
    struct pollfd poller = {.fd = child->messages, .events = POLLIN};
    if (poll(&poller, child->messages >= 0 ? 1 : 0, wait_ms) <= 0 || child->messages < 0)
        return;
    char text[MMF_CHILD_TAIL_BYTES / 2];
    const ssize_t n = read(child->messages, text, sizeof text);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        close(child->messages);
        child->messages = -1;
        return;
    }
    if (child->n_tail + (size_t)n > sizeof child->tail) {
        const size_t n_lost = child->n_tail + (size_t)n - sizeof child->tail;
        memmove(child->tail, child->tail + n_lost, child->n_tail - n_lost);
        child->n_tail -= n_lost;
    }
    memcpy(child->tail + child->n_tail, text, (size_t)n);
    child->n_tail += (size_t)n;
}

void mmf_child_last_line(const mmf_child *child, char out[MMF_CHILD_TAIL_BYTES + 1])
{
    size_t end = child->n_tail;
    while (end > 0 && (unsigned char)child->tail[end - 1] <= ' ')
        end--;
    size_t start = end;
    while (start > 0 && child->tail[start - 1] != '\n')
        start--;
    const size_t n = end - start;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)child->tail[start + i];
        out[i] = c < ' ' || c == 127 ? ' ' : (char)c;
    }
    out[n] = '\0';
    mmf_utf8_repair(out, n);
}

bool mmf_child_wait(const mmf_child *child, double seconds, siginfo_t *end)
{
    const double deadline = mmf_seconds_now() + seconds;
    for (;;) {
        *end = (siginfo_t){0};
        /* WNOWAIT: until it is reaped, its group's number cannot be given to strangers. */
        if (waitid(P_PID, (id_t)child->pid, end, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            end->si_pid == child->pid)
            return true;
        if (mmf_seconds_now() >= deadline)
            return false;
        const struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
}

void mmf_child_stop(mmf_child *child)
{
    if (child->pid <= 0)
        return;
    kill(-child->pid, SIGKILL); /* also what it may have left running */
    waitpid(child->pid, NULL, 0);
    child->pid = 0;
    for (int i = 0; i < LAST_READS && child->messages >= 0; i++)
        mmf_child_read_messages(child, 0);
}

void mmf_child_close(mmf_child *child)
{
    mmf_child_stop(child);
    if (child->messages >= 0)
        close(child->messages);
    child->messages = -1;
}
