/*
 * media.c: runs several mmfuse-read-media side by side and hands their answers on in order.
 *
 * Each program has a queue of files that it was asked for and answers them in that order over one
 * socket. Answers wait in a ring of slots until it is their turn; past a number of waiting bytes no
 * more files are asked for, and only the program that owes the next item is listened to. All of it
 * happens inside mmf_media_next, in the caller's thread. POSIX.
 */
#include "mmfuse/media.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/child.h"
#include "io/media_frame.h"
#include "io/utf8.h"

#define QUEUE 32                         /* files that one program is asked for at a time */
#define REQUEST_BYTES 4160               /* a row's number and a path */
#define AHEAD_BYTES ((size_t)128 << 20)  /* decoded and waiting for their turn */
#define BUFFER_BYTES ((size_t)256 << 10) /* read from a socket at a time */
#define MAX_WORKERS 256
#define POLL_MS 50      /* between looks at the clock and at the cancellation flag */
#define END_SECONDS 2.0 /* for a program that closed its output to be gone */
#define MAX_BAD_STARTS 3
#define REASON_BYTES (MMF_MEDIA_ERROR_BYTES + MMF_CHILD_TAIL_BYTES)

/* How a program came to its end. */
typedef enum fate { ENDED, LATE, GARBLED } fate;

typedef struct slot {
    bool done;
    mmf_media_frame frame;
    unsigned char *bytes;
    char error[MMF_MEDIA_ERROR_BYTES];
} slot;

typedef struct worker {
    mmf_child child;
    int socket; /* -1: not running */
    int n_bad_starts;
    bool ready;
    int64_t queue[QUEUE]; /* rows that were asked for, oldest first */
    size_t n_queue;
    char requests[QUEUE * REQUEST_BYTES];
    size_t n_requests;
    mmf_frame_reader reader;
    double last_sign; /* of life */
} worker;

struct mmf_media_stream {
    mmf_ctx *ctx;
    mmf_media_options options;
    const char *const *paths;
    int64_t n_paths;
    int64_t next_row;   /* to hand out */
    int64_t next_asked; /* to ask for */
    slot *slots;
    int64_t n_slots;
    size_t waiting_bytes;
    unsigned char *lent; /* bytes of the item that the caller has */
    worker *workers;
    int n_workers;
    unsigned char *buffer;
};

static slot *slot_of(mmf_media_stream *s, int64_t row)
{
    return &s->slots[row % s->n_slots];
}

static void set_error(slot *to, const char *text, size_t n)
{
    n = n < sizeof to->error ? n : sizeof to->error - 1;
    memcpy(to->error, text, n);
    to->error[n] = '\0';
    for (size_t i = 0; i < n; i++)
        to->error[i] = (unsigned char)to->error[i] < ' ' ? ' ' : to->error[i];
    mmf_utf8_repair(to->error, strlen(to->error));
    if (to->error[0] == '\0')
        snprintf(to->error, sizeof to->error, "the program gave no reason");
    to->done = true;
}

/* ---- Starting and ending a program -------------------------------------------------------- */

static mmf_status cannot_start(const mmf_media_stream *s, const worker *w, int reason)
{
    if (reason != ENOENT || strchr(w->child.program, '/'))
        return mmf_fail(s->ctx, MMF_IO, "cannot start %s: %s", w->child.program, strerror(reason));
    const char *const folder = s->options.helper_dir;
    return mmf_fail(s->ctx, MMF_UNSUPPORTED,
                    "images, sound and video are read by the program %s, which is neither %s%s%s"
                    "beside this program nor on the PATH; a build of mmfuse has it if FFmpeg's "
                    "libraries were there (libavformat-dev, libavcodec-dev, libswscale-dev, "
                    "libswresample-dev)",
                    w->child.program, folder ? "in " : "", folder ? folder : "",
                    folder ? " nor " : "");
}

/* Our end and the program's, both clear of the standard streams that it replaces. */
static bool open_socket(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        const int lifted = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(ends[i]);
        ends[i] = lifted;
    }
    const int size = 1 << 20;
    const bool good = ends[0] >= 0 && ends[1] >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
    if (good) { /* a larger buffer lets it go on while the caller is busy; the default serves too */
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        return true;
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            close(ends[i]);
    }
    return false;
}

static void end_worker(mmf_media_stream *s, worker *w)
{
    if (w->socket >= 0)
        close(w->socket);
    w->socket = -1;
    mmf_child_close(&w->child);
    mmf_frame_reader_next(s->ctx, &w->reader);
    w->n_requests = 0;
    w->ready = false;
}

static mmf_status start_worker(mmf_media_stream *s, worker *w)
{
    int ends[2];
    if (!open_socket(ends))
        return mmf_fail(s->ctx, MMF_IO, "cannot make a socket: %s", strerror(errno));
    char text[MMF_MEDIA_ARGUMENT_BYTES];
    char serve[] = "--serve";
    char *arguments[1 + MMF_MEDIA_MAX_ARGUMENTS] = {serve};
    mmf_media_arguments(&s->options, text, arguments + 1);
    const mmf_child_limits limits = {.memory = (size_t)s->options.helper_memory};
    const int reason = mmf_child_start(&w->child, arguments, ends[1], ends[1], &limits);
    close(ends[1]);
    w->socket = ends[0];
    w->last_sign = mmf_seconds_now();
    if (reason == 0)
        return MMF_OK;
    const mmf_status status = cannot_start(s, w, reason);
    end_worker(s, w);
    return status;
}

/* ---- Asking ------------------------------------------------------------------------------- */

static void send_requests(worker *w)
{
    while (w->n_requests > 0) {
        const ssize_t n = send(w->socket, w->requests, w->n_requests, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) /* full: later. Its end shows when we read. */
            return;
        w->n_requests -= (size_t)n;
        memmove(w->requests, w->requests + n, w->n_requests);
    }
}

static void add_request(const mmf_media_stream *s, worker *w, int64_t row)
{
    const int n = snprintf(w->requests + w->n_requests, sizeof w->requests - w->n_requests,
                           "%lld %s\n", (long long)row, s->paths[row]);
    w->n_requests += (size_t)n;
}

/* A path that cannot be asked for is an item with an error at once. */
static bool askable(mmf_media_stream *s, int64_t row)
{
    slot *const to = slot_of(s, row);
    const char *const path = s->paths[row];
    static const char broken[] = "a name with a line break in it cannot be read",
                      long_name[] = "the path is too long";
    if (strlen(path) >= MMF_CHILD_PATH_BYTES)
        set_error(to, long_name, sizeof long_name - 1);
    else if (strchr(path, '\n'))
        set_error(to, broken, sizeof broken - 1);
    return !to->done;
}

static worker *shortest_queue(mmf_media_stream *s)
{
    worker *best = NULL;
    for (int i = 0; i < s->n_workers; i++) {
        worker *const w = &s->workers[i];
        if (w->n_queue < QUEUE && (!best || w->n_queue < best->n_queue))
            best = w;
    }
    return best;
}

static void ask(mmf_media_stream *s)
{
    /* Asking for many at once costs fewer switches between the processes. */
    worker *w = shortest_queue(s);
    if (w && w->n_queue > QUEUE / 2)
        return;
    while (w && s->next_asked < s->n_paths && s->next_asked < s->next_row + s->n_slots &&
           (s->waiting_bytes < AHEAD_BYTES || s->next_asked == s->next_row)) {
        const int64_t row = s->next_asked++;
        *slot_of(s, row) = (slot){0};
        if (askable(s, row)) {
            if (w->n_queue == 0)
                w->last_sign = mmf_seconds_now();
            w->queue[w->n_queue++] = row;
            add_request(s, w, row);
        }
        w = shortest_queue(s);
    }
    for (int i = 0; i < s->n_workers; i++)
        send_requests(&s->workers[i]);
}

/* ---- A program's end ---------------------------------------------------------------------- */

static void describe_end(const mmf_media_stream *s, const worker *w, const siginfo_t *end, fate how,
                         char out[REASON_BYTES])
{
    char line[MMF_CHILD_TAIL_BYTES + 1];
    mmf_child_last_line(&w->child, line);
    const char *const colon = line[0] ? ": " : "";
    if (how == LATE)
        snprintf(out, REASON_BYTES,
                 "mmfuse-read-media did not finish within %u seconds and was stopped",
                 s->options.helper_seconds);
    else if (how == GARBLED || end->si_pid == 0)
        snprintf(out, REASON_BYTES,
                 "mmfuse-read-media answered what is no frame and was stopped%s%s", colon, line);
    else if (end->si_code != CLD_EXITED)
        snprintf(out, REASON_BYTES,
                 "mmfuse-read-media was killed by signal %d (%s); the file may be damaged%s%s",
                 end->si_status, sigdescr_np(end->si_status) ? sigdescr_np(end->si_status) : "?",
                 colon, line);
    else
        snprintf(out, REASON_BYTES, "mmfuse-read-media ended with exit code %d%s%s", end->si_status,
                 colon, line);
}

/* The file that the program was at is lost; the others are asked for again. */
static mmf_status replace_worker(mmf_media_stream *s, worker *w, fate how)
{
    char reason[REASON_BYTES];
    siginfo_t end = {0};
    const bool was_ready = w->ready;
    if (how == ENDED)
        mmf_child_wait(&w->child, END_SECONDS, &end);
    mmf_child_stop(&w->child);
    describe_end(s, w, &end, how, reason);
    end_worker(s, w);
    if (was_ready && w->n_queue > 0) {
        set_error(slot_of(s, w->queue[0]), reason, strlen(reason));
        w->n_queue--;
        memmove(w->queue, w->queue + 1, w->n_queue * sizeof w->queue[0]);
    } else if (++w->n_bad_starts >= MAX_BAD_STARTS) {
        return mmf_fail(s->ctx, MMF_IO, "%s does not start: %s", w->child.program, reason);
    }
    MMF_TRY(start_worker(s, w));
    for (size_t i = 0; i < w->n_queue; i++)
        add_request(s, w, w->queue[i]);
    send_requests(w);
    return MMF_OK;
}

/* ---- Answers ------------------------------------------------------------------------------ */

/* FORMAT: what came is no answer to what was asked; the program is of no more use. */
static mmf_status finish_frame(mmf_media_stream *s, worker *w)
{
    mmf_frame_reader *const r = &w->reader;
    const int64_t row = r->frame.row;
    const bool greeting = row < 0;
    if (greeting == w->ready || (!greeting && (w->n_queue == 0 || row != w->queue[0])))
        return mmf_fail(s->ctx, MMF_FORMAT, "an answer to row %lld, which was not asked for",
                        (long long)row);
    if (greeting) {
        w->ready = true;
    } else {
        slot *const to = slot_of(s, row);
        to->frame = r->frame;
        if (r->frame.failed) {
            set_error(to, (const char *)r->payload, (size_t)r->frame.n_bytes);
        } else {
            to->bytes = r->payload;
            r->payload = NULL;
            s->waiting_bytes += (size_t)r->frame.n_bytes;
            to->done = true;
        }
        w->n_queue--;
        memmove(w->queue, w->queue + 1, w->n_queue * sizeof w->queue[0]);
        w->n_bad_starts = 0;
    }
    mmf_frame_reader_next(s->ctx, r);
    return MMF_OK;
}

static mmf_status take_bytes(mmf_media_stream *s, worker *w, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        size_t used = 0;
        bool whole = false;
        MMF_TRY(mmf_frame_reader_take(s->ctx, &w->reader, s->options.kind,
                                      (uint64_t)s->options.max_bytes, bytes, n, &used, &whole));
        if (whole)
            MMF_TRY(finish_frame(s, w));
        bytes += used;
        n -= used;
    }
    return MMF_OK;
}

/* Reads what is there. Large payloads go to their place without a stop in the buffer. */
static mmf_status read_answers(mmf_media_stream *s, worker *w)
{
    size_t n_missing = 0;
    unsigned char *const rest = mmf_frame_reader_rest(&w->reader, &n_missing);
    const bool direct = n_missing > BUFFER_BYTES;
    const ssize_t n =
        read(w->socket, direct ? rest : s->buffer, direct ? n_missing - 1 : BUFFER_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return MMF_OK;
    if (n <= 0)
        return replace_worker(s, w, ENDED);
    w->last_sign = mmf_seconds_now();
    if (direct) { /* its last byte comes through the buffer, where frames are finished */
        w->reader.n_payload += (size_t)n;
        return MMF_OK;
    }
    const mmf_status status = take_bytes(s, w, s->buffer, (size_t)n);
    return status == MMF_FORMAT || status == MMF_LIMIT ? replace_worker(s, w, GARBLED) : status;
}

static mmf_status hear(mmf_media_stream *s, int wait_ms)
{
    struct pollfd pollers[MAX_WORKERS];
    const bool full = s->waiting_bytes >= AHEAD_BYTES;
    for (int i = 0; i < s->n_workers; i++) {
        const worker *const w = &s->workers[i];
        const bool wanted = !full || (w->n_queue > 0 && w->queue[0] == s->next_row);
        pollers[i] = (struct pollfd){
            .fd = w->socket,
            .events = (short)((wanted ? POLLIN : 0) | (w->n_requests > 0 ? POLLOUT : 0))};
    }
    if (poll(pollers, (nfds_t)s->n_workers, wait_ms) <= 0)
        return MMF_OK;
    for (int i = 0; i < s->n_workers; i++) {
        worker *const w = &s->workers[i];
        if (pollers[i].revents & POLLOUT)
            send_requests(w);
        if (pollers[i].revents & (POLLIN | POLLHUP | POLLERR))
            MMF_TRY(read_answers(s, w));
    }
    return MMF_OK;
}

/* Only the program that owes the next item is judged: the others may rightly wait for us. */
static mmf_status stop_if_late(mmf_media_stream *s, double wait_start)
{
    for (int i = 0; i < s->n_workers; i++) {
        worker *const w = &s->workers[i];
        if (w->n_queue == 0 || w->queue[0] != s->next_row)
            continue;
        const double since = w->last_sign > wait_start ? w->last_sign : wait_start;
        if (mmf_seconds_now() - since > s->options.helper_seconds)
            return replace_worker(s, w, LATE);
    }
    return MMF_OK;
}

/* ---- Public ------------------------------------------------------------------------------- */

static mmf_status prepare(mmf_media_stream *s, const mmf_media_options *options)
{
    mmf_ctx *const ctx = s->ctx;
    mmf_media_options *const o = &s->options;
    if (options)
        memcpy(o, options, options->size < sizeof *o ? options->size : sizeof *o);
    MMF_TRY(mmf_media_options_complete(ctx, o));
    int64_t n = o->n_workers > 0 ? o->n_workers : mmf_ctx_threads(ctx);
    n = n < s->n_paths ? n : s->n_paths;
    n = n < 1 ? 1 : n < MAX_WORKERS ? n : MAX_WORKERS;
    s->n_slots = 2 * n * QUEUE;
    s->slots = mmf_alloc_zero(ctx, (size_t)s->n_slots, sizeof *s->slots);
    s->workers = mmf_alloc_zero(ctx, (size_t)n, sizeof *s->workers);
    s->buffer = mmf_alloc(ctx, BUFFER_BYTES);
    if (!s->slots || !s->workers || !s->buffer)
        return MMF_NOMEM;
    s->n_workers = (int)n;
    for (int i = 0; i < s->n_workers; i++) {
        s->workers[i].socket = -1;
        s->workers[i].child.messages = -1;
    }
    for (int i = 0; i < s->n_workers; i++) {
        mmf_child_find(&s->workers[i].child, "media", o->helper_dir);
        MMF_TRY(start_worker(s, &s->workers[i]));
    }
    return MMF_OK;
}

mmf_status mmf_media_open(mmf_ctx *ctx, mmf_media_stream **out, const mmf_media_options *options,
                          const char *const *paths, int64_t n_paths)
{
    *out = NULL;
    mmf_media_stream *s = mmf_alloc_zero(ctx, 1, sizeof *s);
    if (!s)
        return MMF_NOMEM;
    s->ctx = ctx;
    s->paths = paths;
    s->n_paths = n_paths;
    const mmf_status status = prepare(s, options);
    if (status != MMF_OK) {
        mmf_media_close(s);
        return status;
    }
    ask(s);
    *out = s;
    return MMF_OK;
}

mmf_status mmf_media_next(mmf_media_stream *s, mmf_media_item *item)
{
    *item = (mmf_media_item){.row = s->next_row};
    if (s->next_row >= s->n_paths)
        return mmf_fail(s->ctx, MMF_STATE, "all %lld files were handed out already",
                        (long long)s->n_paths);
    mmf_free(s->ctx, s->lent);
    s->lent = NULL;
    const double start = mmf_seconds_now();
    ask(s);
    MMF_TRY(hear(s, 0));
    slot *const from = slot_of(s, s->next_row);
    while (!from->done) {
        if (mmf_ctx_cancelled(s->ctx))
            return mmf_fail(s->ctx, MMF_CANCELLED, "decoding was interrupted");
        MMF_TRY(hear(s, POLL_MS));
        MMF_TRY(stop_if_late(s, start));
        ask(s);
    }
    item->path = s->paths[s->next_row];
    item->array = from->frame.array;
    item->array.data = from->bytes;
    item->sample_rate = from->frame.sample_rate;
    item->cut = from->frame.cut;
    memcpy(item->error, from->error, sizeof item->error);
    if (from->bytes)
        s->waiting_bytes -= (size_t)from->frame.n_bytes;
    s->lent = from->bytes;
    *from = (slot){0};
    s->next_row++;
    return MMF_OK;
}

void mmf_media_close(mmf_media_stream *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_workers; i++)
        end_worker(s, &s->workers[i]);
    for (int64_t i = 0; s->slots && i < s->n_slots; i++)
        mmf_free(s->ctx, s->slots[i].bytes);
    mmf_free(s->ctx, s->lent);
    mmf_free(s->ctx, s->slots);
    mmf_free(s->ctx, s->workers);
    mmf_free(s->ctx, s->buffer);
    mmf_free(s->ctx, s);
}
