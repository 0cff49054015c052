/*
 * helper.c: runs mmfuse-read-FORMAT and maps the npz it writes to its standard output.
 *
 * The program is a process of its own with limits on memory, time and output, so that a file that
 * kills its reader costs one error message. POSIX, with Linux's O_TMPFILE where it exists.
 */
#include "io/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/context.h"
#include "io/child.h"

#define LEAST_MEMORY ((size_t)512 << 20) /* a program and its libraries need some to start */
#define OUTPUT_ARRAYS 16 /* the output may be so many times the limit of one array */
#define POLL_MS 50       /* between looks at the clock and at the cancellation flag */

typedef struct helper {
    mmf_archive *archive;
    mmf_child child;
    char argument[MMF_CHILD_PATH_BYTES];
    int output; /* the file that becomes the program's standard output */
} helper;

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

static mmf_child_limits limits_of(const mmf_archive *archive)
{
    const mmf_io_options *const o = &archive->options;
    const size_t memory_limit = archive->ctx->memory_limit;
    return (mmf_child_limits){.memory = memory_limit == 0             ? MMF_CHILD_MEMORY
                                        : memory_limit > LEAST_MEMORY ? memory_limit
                                                                      : LEAST_MEMORY,
                              .output = o->max_bytes < INT64_MAX / OUTPUT_ARRAYS
                                            ? OUTPUT_ARRAYS * o->max_bytes
                                            : INT64_MAX,
                              .seconds = o->helper_seconds};
}

static mmf_status start_program(helper *h)
{
    mmf_archive *const archive = h->archive;
    char *const arguments[] = {h->argument, NULL};
    const mmf_child_limits limits = limits_of(archive);
    const int reason = mmf_child_start(&h->child, arguments, -1, h->output, &limits);
    if (reason == 0)
        return MMF_OK;
    if (reason != ENOENT || strchr(h->child.program, '/'))
        return mmf_fail(archive->ctx, MMF_IO, "%s: cannot start %s: %s", archive->path,
                        h->child.program, strerror(reason));
    const char *const folder = archive->options.helper_dir;
    return mmf_fail(archive->ctx, MMF_UNSUPPORTED,
                    "%s: no reader for this format: the program %s is neither %s%s%sbeside this "
                    "program nor on the PATH",
                    archive->path, h->child.program, folder ? "in " : "", folder ? folder : "",
                    folder ? " nor " : "");
}

/* ---- Waiting for it ----------------------------------------------------------------------- */

static mmf_status judge(const helper *h, const siginfo_t *end, bool late)
{
    mmf_archive *const archive = h->archive;
    mmf_ctx *const ctx = archive->ctx;
    char line[MMF_CHILD_TAIL_BYTES + 1];
    mmf_child_last_line(&h->child, line);
    const char *const colon = line[0] ? ": " : "";
    const bool out_of_time = late || (end->si_code != CLD_EXITED && end->si_status == SIGXCPU);
    if (mmf_ctx_cancelled(ctx))
        return mmf_fail(ctx, MMF_CANCELLED, "%s: reading was interrupted", archive->path);
    if (out_of_time)
        return mmf_fail(ctx, MMF_IO, "%s: %s did not finish within %u seconds and was stopped%s%s",
                        archive->path, h->child.program, archive->options.helper_seconds, colon,
                        line);
    if (end->si_code != CLD_EXITED) {
        const char *const name = sigdescr_np(end->si_status);
        return mmf_fail(
            ctx, MMF_IO, "%s: %s was killed by signal %d (%s); the file may be damaged%s%s",
            archive->path, h->child.program, end->si_status, name ? name : "unknown", colon, line);
    }
    if (end->si_status != 0)
        return mmf_fail(ctx, MMF_IO, "%s: %s failed with exit code %d%s%s", archive->path,
                        h->child.program, end->si_status, colon, line);
    if (line[0])
        mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s: %s: %s", archive->path, h->child.program, line);
    return MMF_OK;
}

static mmf_status await_program(helper *h)
{
    mmf_ctx *const ctx = h->archive->ctx;
    const double deadline = mmf_seconds_now() + h->archive->options.helper_seconds;
    siginfo_t end = {0};
    bool late = false;
    for (;;) {
        /* WNOWAIT: until it is reaped, its group's number cannot be given to strangers. */
        if (waitid(P_PID, (id_t)h->child.pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 &&
            errno != EINTR) {
            const int reason = errno;
            kill(-h->child.pid, SIGKILL);
            return mmf_fail(ctx, MMF_IO, "%s: lost %s: %s", h->archive->path, h->child.program,
                            strerror(reason));
        }
        if (end.si_pid == h->child.pid)
            break;
        late = late || mmf_seconds_now() > deadline;
        if (late || mmf_ctx_cancelled(ctx))
            kill(-h->child.pid, SIGKILL);
        mmf_child_read_messages(&h->child, h->child.messages >= 0 ? POLL_MS : 1);
    }
    mmf_child_stop(&h->child); /* what it may have left running could still change the output */
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
    h->child.messages = -1;
    h->output = -1;
    mmf_child_find(&h->child, format, archive->options.helper_dir);
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
    mmf_child_close(&h->child);
    mmf_free(ctx, h);
    return status;
}
