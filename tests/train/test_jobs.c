/* test_jobs.c: child processes: order, readiness, crashes, messages, cancelling. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support.h"
#include "train/jobs.h"

enum { N_JOBS = 6 };

typedef struct record {
    mmf_ctx *ctx;
    mmf_job_state states[N_JOBS];
    mmf_status status[N_JOBS];
    char message[N_JOBS][MMF_JOB_MESSAGE_BYTES];
    size_t ended[N_JOBS], n_ended;
    size_t n_ticks, most_running;
    size_t cancel_after; /* ends; 0: never */
} record;

static mmf_status work(void *user, size_t job)
{
    record *const r = user;
    switch (job) {
    case 1:
        raise(SIGKILL);
        break;
    case 2:
        _exit(7);
    case 3:
        return mmf_fail(r->ctx, MMF_NUMERIC, "the loss of job %zu is not finite", job);
    default:
        break;
    }
    return MMF_OK;
}

static mmf_status ended(void *user, size_t job, mmf_status status, const char *message)
{
    record *const r = user;
    r->status[job] = status;
    snprintf(r->message[job], sizeof r->message[job], "%s", message);
    r->ended[r->n_ended++] = job;
    if (r->n_ended == r->cancel_after)
        mmf_ctx_cancel(r->ctx);
    return MMF_OK;
}

static void tick(void *user, size_t n_running)
{
    record *const r = user;
    r->n_ticks++;
    r->most_running = n_running > r->most_running ? n_running : r->most_running;
}

static const size_t order[N_JOBS] = {5, 4, 3, 2, 1, 0};

static mmf_jobs jobs_of(record *r, size_t n_side_by_side)
{
    return (mmf_jobs){.count = N_JOBS,
                      .n_side_by_side = n_side_by_side,
                      .order = order,
                      .states = r->states,
                      .user = r,
                      .work = work,
                      .ended = ended,
                      .tick = tick};
}

static void a_crash_costs_one_job(void **state)
{
    (void)state;
    record r = {.ctx = test_ctx()};
    const mmf_jobs jobs = jobs_of(&r, 2);
    test_ok(r.ctx, mmf_jobs_run(r.ctx, &jobs));
    assert_int_equal(r.n_ended, N_JOBS);
    assert_int_equal(r.status[0], MMF_OK);
    assert_int_equal(r.status[4], MMF_OK);
    assert_int_equal(r.status[5], MMF_OK);
    assert_int_equal(r.status[1], MMF_INTERNAL);
    assert_non_null(strstr(r.message[1], "killed by signal 9"));
    assert_int_equal(r.status[2], MMF_INTERNAL);
    assert_non_null(strstr(r.message[2], "exit code 7"));
    assert_int_equal(r.status[3], MMF_NUMERIC);
    assert_string_equal(r.message[3], "the loss of job 3 is not finite");
    assert_true(r.n_ticks > 0 && r.most_running <= 2);
    for (size_t job = 0; job < N_JOBS; job++)
        assert_int_equal(r.states[job], MMF_JOB_ENDED);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    mmf_ctx_free(r.ctx);
}

static void the_order_is_kept_and_ended_jobs_are_not_run(void **state)
{
    (void)state;
    record r = {.ctx = test_ctx(), .states = {[4] = MMF_JOB_ENDED}};
    const mmf_jobs jobs = jobs_of(&r, 1);
    test_ok(r.ctx, mmf_jobs_run(r.ctx, &jobs));
    static const size_t wanted[] = {5, 3, 2, 1, 0};
    assert_int_equal(r.n_ended, 5);
    assert_memory_equal(r.ended, wanted, sizeof wanted);
    mmf_ctx_free(r.ctx);
}

/* Only job 0 may start at once; each other one waits for the number below it. */
static bool one_below_has_ended(void *user, size_t job)
{
    const record *const r = user;
    return job == 0 || r->states[job - 1] == MMF_JOB_ENDED;
}

static bool never(void *user, size_t job)
{
    (void)user;
    (void)job;
    return false;
}

static void jobs_wait_until_they_are_ready(void **state)
{
    (void)state;
    record r = {.ctx = test_ctx()};
    mmf_jobs jobs = jobs_of(&r, 3);
    jobs.is_ready = one_below_has_ended;
    test_ok(r.ctx, mmf_jobs_run(r.ctx, &jobs));
    for (size_t i = 0; i < N_JOBS; i++)
        assert_int_equal(r.ended[i], i);
    record stuck = {.ctx = r.ctx};
    jobs = jobs_of(&stuck, 3);
    jobs.is_ready = never;
    test_fails(r.ctx, mmf_jobs_run(r.ctx, &jobs), MMF_INTERNAL, "wait for one another");
    mmf_ctx_free(r.ctx);
}

static mmf_status sleep_long(void *user, size_t job)
{
    (void)user;
    if (job != 5)
        nanosleep(&(struct timespec){.tv_sec = 60}, NULL);
    return MMF_OK;
}

static void cancelling_kills_what_runs(void **state)
{
    (void)state;
    record r = {.ctx = test_ctx(), .cancel_after = 1};
    mmf_jobs jobs = jobs_of(&r, 2);
    jobs.work = sleep_long;
    const time_t begin = time(NULL);
    test_fails(r.ctx, mmf_jobs_run(r.ctx, &jobs), MMF_CANCELLED, "interrupted");
    assert_true(time(NULL) - begin < 30);
    assert_int_equal(r.n_ended, 1);
    assert_int_equal(r.states[5], MMF_JOB_ENDED);
    assert_int_equal(r.states[4], MMF_JOB_WAITING);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    mmf_ctx_free(r.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_costs_one_job),
        cmocka_unit_test(the_order_is_kept_and_ended_jobs_are_not_run),
        cmocka_unit_test(jobs_wait_until_they_are_ready),
        cmocka_unit_test(cancelling_kills_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
