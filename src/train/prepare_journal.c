/* prepare_journal.c: see prepare_journal.h. */
#include "train/prepare_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

#define BUFFER_BYTES ((size_t)1 << 20)
#define LOCK_PAUSE_NS 50000000
#define MAX_SETTINGS ((uint64_t)64 << 20) /* a vocabulary is among them */

static const char magic[16] = "mmfuse-prepared1";

typedef struct journal_head {
    char magic[16];
    uint64_t n_settings, unit_bytes;
} journal_head;

typedef struct journal_record {
    int64_t n_steps;
    uint64_t hash; /* of the payload and of n_steps */
} journal_record;

static mmf_status fail(const mmf_journal *journal, const char *what)
{
    return mmf_fail(journal->ctx, MMF_IO, "%s: cannot %s: %s", journal->path, what,
                    errno ? strerror(errno) : "unexpected end");
}

static size_t payload_bytes(const mmf_journal *journal, int64_t n_steps)
{
    return n_steps > 0 ? (size_t)n_steps * journal->unit_bytes : 0;
}

/* Steps over the payload of a record; false if the file ends in it or it is not what was written.
 */
static bool check_payload(const mmf_journal *journal, const journal_record *record, off_t left)
{
    char piece[65536];
    size_t n = 0;
    if (record->n_steps < MMF_JOURNAL_SKIPPED ||
        (record->n_steps > 0 &&
         (!mmf_mul_ok((size_t)record->n_steps, journal->unit_bytes, &n) || n > (size_t)left)))
        return false;
    uint64_t hash = mmf_hash_number(0, record->n_steps);
    for (size_t at = 0; at < n; at += sizeof piece) {
        const size_t wanted = n - at < sizeof piece ? n - at : sizeof piece;
        if (fread(piece, 1, wanted, journal->file) != wanted)
            return false;
        hash = mmf_hash(hash, piece, wanted);
    }
    return hash == record->hash;
}

/* Counts what an earlier run left, and cuts off what it did not finish. */
static mmf_status recover(mmf_journal *journal, off_t n_bytes)
{
    journal_record record;
    off_t end = ftello(journal->file);
    while (fread(&record, sizeof record, 1, journal->file) == 1 &&
           check_payload(journal, &record, n_bytes - end - (off_t)sizeof record)) {
        journal->n_rows++;
        journal->n_skipped += record.n_steps == MMF_JOURNAL_SKIPPED;
        journal->longest = record.n_steps > journal->longest ? record.n_steps : journal->longest;
        end = ftello(journal->file);
    }
    clearerr(journal->file);
    errno = 0;
    if (fseeko(journal->file, end, SEEK_SET) != 0 || ftruncate(fileno(journal->file), end) != 0)
        return fail(journal, "cut");
    return MMF_OK;
}

/* What was begun, if anything was. */
static mmf_status read_head(mmf_journal *journal)
{
    journal_head head;
    struct stat info;
    if (fstat(fileno(journal->file), &info) != 0)
        return fail(journal, "look at the file");
    if (fread(&head, sizeof head, 1, journal->file) != 1 ||
        memcmp(head.magic, magic, sizeof magic) != 0 || head.n_settings > MAX_SETTINGS ||
        head.unit_bytes == 0 || head.unit_bytes > INT32_MAX)
        return MMF_OK;
    char *const settings = mmf_alloc_zero(journal->ctx, head.n_settings + 1, 1);
    if (!settings)
        return MMF_NOMEM;
    if (fread(settings, 1, head.n_settings, journal->file) != head.n_settings) {
        mmf_free(journal->ctx, settings);
        return MMF_OK;
    }
    journal->settings = settings;
    journal->unit_bytes = head.unit_bytes;
    return recover(journal, info.st_size);
}

/* Waiting without a word would look like hanging. */
static mmf_status lock(mmf_journal *journal)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    for (bool said = false; flock(fileno(journal->file), LOCK_EX | LOCK_NB) != 0; said = true) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail(journal, "lock");
        if (mmf_ctx_cancelled(journal->ctx))
            return mmf_fail(journal->ctx, MMF_CANCELLED, "interrupted");
        if (!said)
            mmf_ctx_log(journal->ctx, MMF_LOG_INFO,
                        "%s: another process prepares this; waiting for it", journal->path);
        nanosleep(&pause, NULL);
    }
    return MMF_OK;
}

mmf_status mmf_journal_open(mmf_ctx *ctx, mmf_journal *out, const char *path)
{
    *out = (mmf_journal){.ctx = ctx, .path = mmf_strdup(ctx, path)};
    if (!out->path)
        return MMF_NOMEM;
    const int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    out->file = descriptor >= 0 ? fdopen(descriptor, "r+b") : NULL;
    if (!out->file) {
        const mmf_status status = fail(out, "make the file");
        if (descriptor >= 0)
            close(descriptor);
        return status;
    }
    setvbuf(out->file, NULL, _IOFBF, BUFFER_BYTES);
    MMF_TRY(lock(out));
    return read_head(out);
}

mmf_status mmf_journal_begin(mmf_journal *journal, const char *settings, size_t unit_bytes)
{
    journal_head head = {.n_settings = strlen(settings), .unit_bytes = unit_bytes};
    memcpy(head.magic, magic, sizeof magic);
    mmf_free(journal->ctx, journal->settings);
    journal->settings = mmf_strdup(journal->ctx, settings);
    if (!journal->settings)
        return MMF_NOMEM;
    journal->unit_bytes = unit_bytes;
    journal->n_rows = journal->n_skipped = journal->longest = 0;
    errno = 0;
    rewind(journal->file);
    if (ftruncate(fileno(journal->file), 0) != 0 ||
        fwrite(&head, sizeof head, 1, journal->file) != 1 ||
        fwrite(settings, 1, head.n_settings, journal->file) != head.n_settings)
        return fail(journal, "write");
    return MMF_OK;
}

mmf_status mmf_journal_add(mmf_journal *journal, int64_t n_steps, const void *data)
{
    const size_t n = payload_bytes(journal, n_steps);
    const journal_record record = {.n_steps = n_steps,
                                   .hash = mmf_hash(mmf_hash_number(0, n_steps), data, n)};
    errno = 0;
    if (fwrite(&record, sizeof record, 1, journal->file) != 1 ||
        (n > 0 && fwrite(data, 1, n, journal->file) != n))
        return fail(journal, "write");
    journal->n_rows++;
    journal->n_skipped += n_steps == MMF_JOURNAL_SKIPPED;
    journal->longest = n_steps > journal->longest ? n_steps : journal->longest;
    return MMF_OK;
}

mmf_status mmf_journal_rewind(mmf_journal *journal)
{
    errno = 0;
    if (fflush(journal->file) != 0)
        return fail(journal, "write");
    const off_t first = (off_t)(sizeof(journal_head) + strlen(journal->settings));
    return fseeko(journal->file, first, SEEK_SET) == 0 ? MMF_OK : fail(journal, "read");
}

mmf_status mmf_journal_read(mmf_journal *journal, int64_t room, void *out, int64_t *n_steps)
{
    journal_record record;
    errno = 0;
    if (fread(&record, sizeof record, 1, journal->file) != 1)
        return fail(journal, "read");
    const int64_t kept = record.n_steps < room ? record.n_steps : room;
    const size_t n = payload_bytes(journal, kept);
    const size_t left = payload_bytes(journal, record.n_steps) - n;
    if (fread(out, 1, n, journal->file) != n || fseeko(journal->file, (off_t)left, SEEK_CUR) != 0)
        return fail(journal, "read");
    *n_steps = kept;
    return MMF_OK;
}

void mmf_journal_close(mmf_journal *journal, bool remove)
{
    if (journal->file && remove)
        unlink(journal->path);
    if (journal->file)
        fclose(journal->file);
    mmf_free(journal->ctx, journal->settings);
    mmf_free(journal->ctx, journal->path);
    *journal = (mmf_journal){0};
}
