/* jobs.c: see jobs.h. POSIX; on Linux children also end when their parent does. */
#include "train/jobs.h"

#include "base/context.h"
#include "train/trainer.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#define POLL_NANOSECONDS 5000000 /* small beside any training, long beside a system call */
#define TICK_SECONDS 0.1

/* What a child leaves its parent, in memory that both see: it works with a full disk too. */
typedef struct job_note {
    mmf_status status;
    char message[MMF_JOB_MESSAGE_BYTES];
} job_note;

typedef struct job_pool {
    mmf_ctx *ctx;
    const mmf_jobs *jobs;
    job_note *notes; /* one a job */
    pid_t *children; /* one a job; 0: not running */
    size_t n_running;
    double last_tick;
} job_pool;

int mmf_jobs_threads(const mmf_ctx *ctx, size_t n_side_by_side)
{
    const int share = (int)((size_t)mmf_ctx_threads(ctx) / (n_side_by_side ? n_side_by_side : 1));
    if (share < 2)
        return 1;
    DIR *const folder = opendir("/proc/self/task");
    if (!folder)
        return 1;
    int n_threads = 0;
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        n_threads += entry->d_name[0] != '.';
    closedir(folder);
    return n_threads == 1 ? share : 1;
}

/* Never returns: the child must not run what its parent has registered for the end of a program. */
static void run_child(const job_pool *pool, size_t job)
{
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    job_note *const note = &pool->notes[job];
    pool->ctx->log = NULL; /* lines of children side by side say nothing to anybody */
    const mmf_status status = pool->jobs->work(pool->jobs->user, job);
    if (status != MMF_OK)
        snprintf(note->message, sizeof note->message, "%s", mmf_ctx_error(pool->ctx));
    note->status = status;
    _exit(status == MMF_OK ? EXIT_SUCCESS : EXIT_FAILURE);
}

static mmf_status end_job(job_pool *pool, size_t job, mmf_status status, const char *message)
{
    pool->jobs->states[job] = MMF_JOB_ENDED;
    return pool->jobs->ended(pool->jobs->user, job, status, message);
}

static mmf_status start_job(job_pool *pool, size_t job)
{
    pool->notes[job] = (job_note){.status = MMF_INTERNAL};
    const pid_t child = fork();
    if (child == 0)
        run_child(pool, job);
    if (child < 0) {
        char message[MMF_JOB_MESSAGE_BYTES];
        snprintf(message, sizeof message, "cannot start a process: %s", strerror(errno));
        return end_job(pool, job, MMF_IO, message);
    }
    pool->children[job] = child;
    pool->jobs->states[job] = MMF_JOB_RUNNING;
    pool->n_running++;
    return MMF_OK;
}

static mmf_status start_ready_jobs(job_pool *pool)
{
    const mmf_jobs *const jobs = pool->jobs;
    for (size_t i = 0; i < jobs->count && pool->n_running < jobs->n_side_by_side; i++) {
        const size_t job = jobs->order[i];
        if (jobs->states[job] == MMF_JOB_WAITING &&
            (!jobs->is_ready || jobs->is_ready(jobs->user, job)))
            MMF_TRY(start_job(pool, job));
    }
    return MMF_OK;
}

static mmf_status report_end(job_pool *pool, size_t job, int how)
{
    const job_note *const note = &pool->notes[job];
    char message[MMF_JOB_MESSAGE_BYTES];
    if (WIFSIGNALED(how)) {
        snprintf(message, sizeof message, "killed by signal %d%s", WTERMSIG(how),
                 WTERMSIG(how) == SIGKILL ? "; was the system out of memory?" : "");
        return end_job(pool, job, MMF_INTERNAL, message);
    }
    if (WEXITSTATUS(how) == EXIT_SUCCESS && note->status == MMF_OK)
        return end_job(pool, job, MMF_OK, "");
    if (note->message[0] && note->status != MMF_OK) {
        memcpy(message, note->message, sizeof message);
        message[sizeof message - 1] = '\0';
        return end_job(pool, job, note->status, message);
    }
    snprintf(message, sizeof message, "ended early, with exit code %d", WEXITSTATUS(how));
    return end_job(pool, job, MMF_INTERNAL, message);
}

/* Takes leave of the children that have ended; says in `any` whether there were some. */
static mmf_status reap(job_pool *pool, bool *any)
{
    *any = false;
    for (size_t job = 0; job < pool->jobs->count; job++) {
        int how = 0;
        if (pool->children[job] == 0)
            continue;
        const pid_t gone = waitpid(pool->children[job], &how, WNOHANG);
        if (gone == 0 || (gone < 0 && errno == EINTR))
            continue;
        pool->children[job] = 0;
        pool->n_running--;
        *any = true;
        /* Where the program around us ignores SIGCHLD nobody learns how; the note still tells. */
        if (gone < 0)
            how = 0;
        if (mmf_ctx_cancelled(pool->ctx) && pool->notes[job].status != MMF_OK)
            pool->jobs->states[job] = MMF_JOB_WAITING;
        else
            MMF_TRY(report_end(pool, job, how));
    }
    return MMF_OK;
}

static void kill_all(job_pool *pool)
{
    for (size_t job = 0; job < pool->jobs->count; job++) {
        if (pool->children[job] == 0)
            continue;
        kill(pool->children[job], SIGKILL);
        while (waitpid(pool->children[job], NULL, 0) < 0 && errno == EINTR) {
        }
        pool->children[job] = 0;
        pool->jobs->states[job] = MMF_JOB_WAITING;
    }
    pool->n_running = 0;
}

static void tick(job_pool *pool, bool at_once)
{
    if (!pool->jobs->tick)
        return;
    const double t = mmf_seconds();
    if (at_once || t - pool->last_tick >= TICK_SECONDS) {
        pool->last_tick = t;
        pool->jobs->tick(pool->jobs->user, pool->n_running);
    }
}

static size_t count_waiting(const mmf_jobs *jobs)
{
    size_t n = 0;
    for (size_t job = 0; job < jobs->count; job++)
        n += jobs->states[job] == MMF_JOB_WAITING;
    return n;
}

static mmf_status run_all(job_pool *pool)
{
    for (;;) {
        bool any = false;
        if (mmf_ctx_cancelled(pool->ctx))
            return mmf_fail(pool->ctx, MMF_CANCELLED, "interrupted; finished trials are kept");
        const size_t before = count_waiting(pool->jobs);
        MMF_TRY(start_ready_jobs(pool));
        const size_t after = count_waiting(pool->jobs);
        if (pool->n_running == 0 && after == 0)
            break;
        if (pool->n_running == 0 && after == before)
            return mmf_fail(pool->ctx, MMF_INTERNAL, "%zu trials wait for one another", after);
        tick(pool, false);
        MMF_TRY(reap(pool, &any));
        if (!any && pool->n_running > 0)
            nanosleep(&(struct timespec){.tv_nsec = POLL_NANOSECONDS}, NULL);
    }
    tick(pool, true);
    return MMF_OK;
}

mmf_status mmf_jobs_run(mmf_ctx *ctx, const mmf_jobs *jobs)
{
    job_pool pool = {.ctx = ctx, .jobs = jobs};
    size_t n_bytes = 0;
    if (!mmf_mul_ok(jobs->count + 1, sizeof *pool.notes, &n_bytes))
        return mmf_fail(ctx, MMF_LIMIT, "%zu trials are too many", jobs->count);
    pool.children = mmf_alloc_zero(ctx, jobs->count + 1, sizeof *pool.children);
    if (!pool.children)
        return MMF_NOMEM;
    void *const shared =
        mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        mmf_free(ctx, pool.children);
        return mmf_fail(ctx, MMF_NOMEM, "cannot share %zu bytes with child processes", n_bytes);
    }
    pool.notes = shared;
    const mmf_status status = run_all(&pool);
    kill_all(&pool);
    munmap(shared, n_bytes);
    mmf_free(ctx, pool.children);
    return status;
}
