/*
 * helper.c: runs mmfuse-read-FORMAT and maps the npz it writes to its standard output.
 *
 * The program is a process of its own with limits on memory, time and output, so that a file that
 * kills its reader costs one error message. POSIX, with Linux's O_TMPFILE and close_range where
 * they exist.
 */
#include "io/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/close_range.h>
#include <sys/prctl.h>
#endif

#include "base/context.h"
#include "io/utf8.h"

#define NAME_PREFIX "mmfuse-read-"
#define PATH_BYTES 4096
#define DEFAULT_MEMORY ((size_t)8 << 30)
#define LEAST_MEMORY ((size_t)512 << 20) /* a program and its libraries need some to start */
#define OUTPUT_ARRAYS 16 /* the output may be so many times the limit of one array */
#define TAIL_BYTES 512   /* of the program's messages, the last of which tells why it failed */
#define POLL_MS 50       /* between looks at the clock and at the cancellation flag */
#define EXEC_FAILED 127

typedef struct helper {
    mmf_archive *archive;
    const char *format;
    char program[PATH_BYTES]; /* a path, or a bare name to look for on the PATH */
    char argument[PATH_BYTES];
    int output;   /* the file that becomes the program's standard output */
    int messages; /* our end of its standard error */
    pid_t pid;
    char tail[TAIL_BYTES];
    size_t n_tail;
} helper;

/* ---- Finding the program ------------------------------------------------------------------ */

static bool runnable(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

static bool try_folder(helper *h, const char *folder, size_t n_folder)
{
    const int n = snprintf(h->program, sizeof h->program, "%.*s/" NAME_PREFIX "%s", (int)n_folder,
                           folder, h->format);
    return n > 0 && (size_t)n < sizeof h->program && runnable(h->program);
}

static void find_program(helper *h)
{
    const char *const folder = h->archive->options.helper_dir;
    if (folder && try_folder(h, folder, strlen(folder)))
        return;
    char self[PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        const char *const slash = strrchr(self, '/');
        if (slash && try_folder(h, self, (size_t)(slash - self)))
            return;
    }
    snprintf(h->program, sizeof h->program, NAME_PREFIX "%s", h->format);
}

/* ---- Starting it -------------------------------------------------------------------------- */

/* A file without a name, on a disk if possible: data sets may be larger than memory. */
static int open_output(void)
{
#ifdef O_TMPFILE
    static const char *const folders[] = {"/var/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const int file = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (file >= 0)
            return file;
    }
#endif
    return memfd_create("mmfuse-read", MFD_CLOEXEC);
}

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

static void set_limits(const helper *h)
{
    const mmf_io_options *const o = &h->archive->options;
    const size_t memory_limit = h->archive->ctx->memory_limit;
    const size_t memory = memory_limit == 0             ? DEFAULT_MEMORY
                          : memory_limit > LEAST_MEMORY ? memory_limit
                                                        : LEAST_MEMORY;
    const size_t output =
        o->max_bytes < INT64_MAX / OUTPUT_ARRAYS ? OUTPUT_ARRAYS * o->max_bytes : INT64_MAX;
    struct rlimit limit;
    limit_processor_time(o->helper_seconds);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
        setrlimit(RLIMIT_FSIZE, lowered(&limit, output));
    if (getrlimit(RLIMIT_CORE, &limit) == 0)
        setrlimit(RLIMIT_CORE, lowered(&limit, 0));
#ifndef MMF_ARENA_DEBUG /* sanitizers reserve terabytes of addresses: their programs would not     \
                           start */
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        setrlimit(RLIMIT_AS, lowered(&limit, memory));
#else
    (void)memory;
#endif
}

/* In the child: only calls that are safe between fork and exec. */
static void become_program(helper *h, int messages, int exec_errno)
{
    setpgid(0, 0);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(h->output, STDOUT_FILENO) >= 0 &&
        dup2(messages, STDERR_FILENO) >= 0) {
        signal(SIGPIPE, SIG_DFL);
        set_limits(h);
#ifdef CLOSE_RANGE_CLOEXEC
        close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
#endif
        char *const arguments[] = {h->program, h->argument, NULL};
        execvp(h->program, arguments);
    }
    const int reason = errno;
    if (write(exec_errno, &reason, sizeof reason) < 0)
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

static mmf_status cannot_start(const helper *h, int reason)
{
    mmf_archive *const archive = h->archive;
    if (reason != ENOENT || strchr(h->program, '/'))
        return mmf_fail(archive->ctx, MMF_IO, "%s: cannot start %s: %s", archive->path, h->program,
                        strerror(reason));
    const char *const folder = archive->options.helper_dir;
    return mmf_fail(archive->ctx, MMF_UNSUPPORTED,
                    "%s: no reader for this format: the program %s is neither %s%s%sbeside this "
                    "program nor on the PATH",
                    archive->path, h->program, folder ? "in " : "", folder ? folder : "",
                    folder ? " nor " : "");
}

static mmf_status start_program(helper *h)
{
    mmf_ctx *const ctx = h->archive->ctx;
    int messages[2], start[2];
    if (!open_pipe(messages))
        return mmf_fail(ctx, MMF_IO, "%s: cannot make a pipe: %s", h->archive->path,
                        strerror(errno));
    if (!open_pipe(start)) {
        close(messages[0]);
        close(messages[1]);
        return mmf_fail(ctx, MMF_IO, "%s: cannot make a pipe: %s", h->archive->path,
                        strerror(errno));
    }
    h->pid = fork();
    if (h->pid == 0)
        become_program(h, messages[1], start[1]);
    const int fork_errno = errno;
    close(messages[1]);
    close(start[1]);
    h->messages = messages[0];
    int reason = 0;
    ssize_t n = 0;
    if (h->pid > 0) {
        setpgid(h->pid, h->pid); /* the child does it too: whoever comes first */
        do
            n = read(start[0], &reason, sizeof reason);
        while (n < 0 && errno == EINTR);
    }
    close(start[0]);
    if (h->pid < 0)
        return mmf_fail(ctx, MMF_IO, "%s: cannot make a process: %s", h->archive->path,
                        strerror(fork_errno));
    if (n != sizeof reason)
        return MMF_OK; /* the pipe closed when the program replaced the child */
    waitpid(h->pid, NULL, 0);
    h->pid = 0;
    return cannot_start(h, reason);
}

/* ---- Waiting for it ----------------------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Keeps the last bytes of what the program says; closes the pipe at its end. */
static void read_messages(helper *h, int wait_ms)
{
    struct pollfd poller = {.fd = h->messages, .events = POLLIN};
    if (poll(&poller, h->messages >= 0 ? 1 : 0, wait_ms) <= 0 || h->messages < 0)
        return;
    char text[TAIL_BYTES / 2];
    const ssize_t n = read(h->messages, text, sizeof text);
    if (n < 0 && errno == EINTR)
        return;
    if (n <= 0) {
        close(h->messages);
        h->messages = -1;
        return;
    }
    if (h->n_tail + (size_t)n > sizeof h->tail) {
        const size_t n_lost = h->n_tail + (size_t)n - sizeof h->tail;
        memmove(h->tail, h->tail + n_lost, h->n_tail - n_lost);
        h->n_tail -= n_lost;
    }
    memcpy(h->tail + h->n_tail, text, (size_t)n);
    h->n_tail += (size_t)n;
}

/* The last line that is not blank, made fit for a message, into `out`. */
static void last_line(const helper *h, char out[TAIL_BYTES + 1])
{
    size_t end = h->n_tail;
    while (end > 0 && (unsigned char)h->tail[end - 1] <= ' ')
        end--;
    size_t start = end;
    while (start > 0 && h->tail[start - 1] != '\n')
        start--;
    const size_t n = end - start;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)h->tail[start + i];
        out[i] = c < ' ' || c == 127 ? ' ' : (char)c;
    }
    out[n] = '\0';
    mmf_utf8_repair(out, n);
}

static mmf_status judge(const helper *h, const siginfo_t *end, bool late)
{
    mmf_archive *const archive = h->archive;
    mmf_ctx *const ctx = archive->ctx;
    char line[TAIL_BYTES + 1];
    last_line(h, line);
    const char *const colon = line[0] ? ": " : "";
    const bool out_of_time = late || (end->si_code != CLD_EXITED && end->si_status == SIGXCPU);
    if (mmf_ctx_cancelled(ctx))
        return mmf_fail(ctx, MMF_CANCELLED, "%s: reading was interrupted", archive->path);
    if (out_of_time)
        return mmf_fail(ctx, MMF_IO, "%s: %s did not finish within %u seconds and was stopped%s%s",
                        archive->path, h->program, archive->options.helper_seconds, colon, line);
    if (end->si_code != CLD_EXITED) {
        const char *const name = sigdescr_np(end->si_status);
        return mmf_fail(
            ctx, MMF_IO, "%s: %s was killed by signal %d (%s); the file may be damaged%s%s",
            archive->path, h->program, end->si_status, name ? name : "unknown", colon, line);
    }
    if (end->si_status != 0)
        return mmf_fail(ctx, MMF_IO, "%s: %s failed with exit code %d%s%s", archive->path,
                        h->program, end->si_status, colon, line);
    if (line[0])
        mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s: %s: %s", archive->path, h->program, line);
    return MMF_OK;
}

static mmf_status await_program(helper *h)
{
    mmf_ctx *const ctx = h->archive->ctx;
    const double deadline = seconds_now() + h->archive->options.helper_seconds;
    siginfo_t end = {0};
    bool late = false;
    for (;;) {
        /* WNOWAIT: until it is reaped, its group's number cannot be given to strangers. */
        if (waitid(P_PID, (id_t)h->pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 && errno != EINTR) {
            const int reason = errno;
            kill(-h->pid, SIGKILL);
            return mmf_fail(ctx, MMF_IO, "%s: lost %s: %s", h->archive->path, h->program,
                            strerror(reason));
        }
        if (end.si_pid == h->pid)
            break;
        late = late || seconds_now() > deadline;
        if (late || mmf_ctx_cancelled(ctx))
            kill(-h->pid, SIGKILL);
        read_messages(h, h->messages >= 0 ? POLL_MS : 1);
    }
    kill(-h->pid, SIGKILL); /* what it may have left running could still change the output */
    waitpid(h->pid, NULL, 0);
    for (int i = 0; i < 64 && h->messages >= 0; i++)
        read_messages(h, 0);
    return judge(h, &end, late);
}

mmf_status mmf_helper_run(mmf_archive *archive, const char *format)
{
    mmf_ctx *const ctx = archive->ctx;
    const int input = open(archive->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (input < 0)
        return mmf_fail(ctx, MMF_IO, "%s: cannot open: %s", archive->path, strerror(errno));
    close(input);
    helper *h = mmf_alloc_zero(ctx, 1, sizeof *h);
    if (!h)
        return MMF_NOMEM;
    h->archive = archive;
    h->format = format;
    h->messages = -1;
    h->output = -1;
    find_program(h);
    /* A name that begins with "-" would be taken for an option. */
    const int n = snprintf(h->argument, sizeof h->argument, "%s%s",
                           archive->path[0] == '-' ? "./" : "", archive->path);
    mmf_status status = MMF_OK;
    if (n < 0 || (size_t)n >= sizeof h->argument)
        status = mmf_fail(ctx, MMF_LIMIT, "%s: the path is too long", archive->path);
    if (status == MMF_OK && (h->output = open_output()) < 0)
        status = mmf_fail(ctx, MMF_IO, "%s: cannot make a temporary file: %s", archive->path,
                          strerror(errno));
    if (status == MMF_OK)
        status = start_program(h);
    if (status == MMF_OK)
        status = await_program(h);
    if (status == MMF_OK)
        status = mmf_map_descriptor(ctx, &archive->mapping, h->output, archive->path);
    if (h->output >= 0)
        close(h->output);
    if (h->messages >= 0)
        close(h->messages);
    mmf_free(ctx, h);
    return status;
}
