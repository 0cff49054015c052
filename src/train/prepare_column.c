/*
 * prepare_column.c: one raw column into the cache: what is stored, under which name, row by row
 * through the decoder and the preparation, and at the end as an npz.
 *
 * The name of a file in the cache is a hash of the preparation with every option settled and of the
 * files: path, size, time of change. Where the data decide options ("size", "steps"), a small file
 * under the hash of what was asked for says what they decided. POSIX (the state of files).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "train/prepare_features.h"
#include "train/preparation.h"
#include "train/timing.h"

/* Changes whenever the same options would give other arrays. */
#define LAYOUT 1
#define MAX_SETTLING 64    /* items that options are settled by */
#define EVENT_INTERVAL 0.1 /* seconds */
#define MOST_WARNINGS 10   /* rows that are named; the others are counted */

typedef struct column_job {
    mmf_ctx *ctx;
    const mmf_manifest *manifest;
    mmf_raw_column *column;
    const mmf_prepare_options *options;
    char **paths; /* of the stored rows; NULL for texts */
    uint64_t files;
    mmf_preparer preparer;
    mmf_features features; /* of a frozen encoder */
    mmf_journal journal;
    double started, last_event;
    int64_t first_done; /* rows that an earlier run had done */
} column_job;

static bool is_text(const column_job *job)
{
    return job->column->kind->reads == MMF_RAW_TEXT;
}

/* ---- Names in the cache ------------------------------------------------------------------ */

static uint64_t hash_file(uint64_t hash, const char *path, bool *there)
{
    struct stat info = {0};
    *there = stat(path, &info) == 0;
    hash = mmf_hash_text(hash, path);
    hash = mmf_hash_number(hash, *there ? (int64_t)info.st_size : -1);
    hash = mmf_hash_number(hash, (int64_t)info.st_mtim.tv_sec);
    return mmf_hash_number(hash, (int64_t)info.st_mtim.tv_nsec);
}

static mmf_status hash_media(column_job *job, int64_t stored)
{
    bool there = false;
    const int64_t row = job->column->first[stored];
    MMF_TRY(mmf_manifest_path(job->manifest, row, job->column->column, &job->paths[stored]));
    job->files = hash_file(job->files, job->paths[stored], &there);
    if (!there && !job->options->skip_bad)
        return mmf_manifest_fail(job->manifest, MMF_IO, row, job->column->column,
                                 "there is no file \"%s\"; names are relative to the manifest's "
                                 "folder, an empty cell means absent, and --on-error skip goes on "
                                 "without it",
                                 job->paths[stored]);
    return MMF_OK;
}

static mmf_status hash_inputs(column_job *job)
{
    mmf_raw_column *const column = job->column;
    if (column->encoder && column->weights == 0)
        MMF_TRY(mmf_frozen_hash(job->ctx, column->source, &column->weights));
    bool there = false;
    job->files = mmf_hash_number(LAYOUT, column->n_stored);
    if (column->kind->source) {
        const char *const source = mmf_config_text(column->config, column->kind->source);
        job->files = *source ? hash_file(job->files, source, &there) : job->files;
    }
    if (!is_text(job)) {
        job->paths = mmf_alloc_zero(job->ctx, (size_t)column->n_stored + 1, sizeof *job->paths);
        if (!job->paths)
            return MMF_NOMEM;
    }
    for (int64_t i = 0; i < column->n_stored; i++) {
        if (job->paths) {
            MMF_TRY(hash_media(job, i));
            continue;
        }
        const mmf_manifest_cell cell =
            mmf_manifest_at(job->manifest, column->first[i], column->column);
        job->files = mmf_hash_number(job->files, (int64_t)cell.n_bytes);
        job->files = mmf_hash(job->files, cell.text, cell.n_bytes);
    }
    return MMF_OK;
}

/* "CACHE/NAME-HASH.EXTENSION" */
static mmf_status cache_path(const column_job *job, const mmf_config *config, bool skips,
                             const char *extension, char **out)
{
    char *const settings = mmf_preparation_settings(job->ctx, config);
    if (!settings)
        return MMF_NOMEM;
    uint64_t hash = mmf_hash_text(job->files, job->column->kind->def.name);
    hash = mmf_hash_text(hash, settings);
    hash = mmf_hash_number(hash, skips);
    if (job->column->encoder) {
        hash = mmf_hash_text(hash, job->column->encoder);
        hash = mmf_hash_number(hash, (int64_t)job->column->weights);
        if (job->options->int8)
            hash = mmf_hash_text(hash, "int8");
    }
    mmf_free(job->ctx, settings);
    const size_t n = strlen(job->options->cache) + strlen(job->column->kind->def.name) + 64;
    *out = mmf_alloc(job->ctx, n);
    if (!*out)
        return MMF_NOMEM;
    snprintf(*out, n, "%s/%s-%016llx.%s", job->options->cache, job->column->kind->def.name,
             (unsigned long long)hash, extension);
    return MMF_OK;
}

/* Takes over what an earlier run settled. */
static mmf_status read_settled(column_job *job, bool skips)
{
    char *path = NULL;
    mmf_mapping mapping = {0};
    MMF_TRY(cache_path(job, job->column->config, skips, "json", &path));
    mmf_status status = MMF_OK;
    if (access(path, R_OK) == 0) {
        status = mmf_map_open(job->ctx, &mapping, path);
        char *const text =
            status == MMF_OK ? mmf_alloc_zero(job->ctx, mapping.n_bytes + 1, 1) : NULL;
        if (status == MMF_OK && !text)
            status = MMF_NOMEM;
        if (status == MMF_OK) {
            memcpy(text, mapping.bytes, mapping.n_bytes);
            status = mmf_config_set_json(job->column->config, text);
            if (status != MMF_OK)
                mmf_fail_within(job->ctx, status, "%s: ", path);
        }
        mmf_free(job->ctx, text);
        mmf_map_close(&mapping);
    }
    mmf_free(job->ctx, path);
    return status;
}

/* Opens the cache's file if it is there. */
static mmf_status open_cached(column_job *job, bool skips)
{
    char *path = NULL;
    mmf_config *asked = NULL;
    mmf_raw_column *const column = job->column;
    MMF_TRY(mmf_config_copy(job->ctx, &asked, column->config));
    mmf_status status = read_settled(job, skips);
    if (status == MMF_OK)
        status = cache_path(job, column->config, skips, "npz", &path);
    if (status == MMF_OK && access(path, R_OK) == 0)
        status = mmf_archive_open(job->ctx, &column->cache, path, NULL);
    mmf_free(job->ctx, path);
    if (status == MMF_OK && column->cache) {
        mmf_config_free(asked);
        return MMF_OK;
    }
    mmf_config_free(column->config);
    column->config = asked;
    return status;
}

/* What was made without a failure serves those who would skip failures as well. */
static mmf_status find_cached(column_job *job)
{
    MMF_TRY(open_cached(job, false));
    if (!job->column->cache && job->options->skip_bad)
        return open_cached(job, true);
    return MMF_OK;
}

/* ---- Items ------------------------------------------------------------------------------- */

/* Decoding of the stored rows from `first` on, as they are or as the preparation asks. */
static mmf_status open_stream(const column_job *job, mmf_media_stream **out, int64_t first,
                              int64_t n, bool as_is)
{
    static const mmf_media_kind kinds[] = {[MMF_RAW_IMAGE] = MMF_MEDIA_IMAGE,
                                           [MMF_RAW_AUDIO] = MMF_MEDIA_AUDIO,
                                           [MMF_RAW_VIDEO] = MMF_MEDIA_VIDEO};
    const mmf_preparation_kind *const kind = job->column->kind;
    mmf_media_options options = MMF_MEDIA_OPTIONS_INIT;
    options.kind = kinds[kind->reads];
    options.n_workers = job->options->n_workers;
    options.helper_dir = job->options->io ? job->options->io->helper_dir : NULL;
    if (!as_is && kind->decode)
        kind->decode(job->column->config, &options);
    return mmf_media_open(job->ctx, out, &options, (const char *const *)job->paths + first, n);
}

/* Failures that no row is guilty of. */
static mmf_status of_column(const column_job *job, mmf_status status)
{
    return status == MMF_OK
               ? MMF_OK
               : mmf_fail_within(job->ctx, status, "%s: column \"%s\": ", job->manifest->path,
                                 job->column->name);
}

/* The options that wait for the data, from the first files that can be read. */
static mmf_status settle(column_job *job)
{
    mmf_raw_column *const column = job->column;
    const mmf_preparation_kind *const kind = column->kind;
    if (!kind->waits || !kind->waits(column->config))
        return MMF_OK;
    mmf_preparation_facts facts = {0};
    if (!kind->look)
        return of_column(job, kind->settle(job->ctx, column->config, &facts));
    const int64_t n = column->n_stored < MAX_SETTLING ? column->n_stored : MAX_SETTLING;
    mmf_media_stream *stream = NULL;
    char why[256] = "";
    mmf_status status = n > 0 ? open_stream(job, &stream, 0, n, true) : MMF_OK;
    for (int64_t i = 0; status == MMF_OK && i < n; i++) {
        mmf_media_item item;
        status = mmf_media_next(stream, &item);
        if (status == MMF_OK && !*item.error)
            kind->look(&facts,
                       &(mmf_raw_item){.array = item.array, .sample_rate = item.sample_rate});
        else if (status == MMF_OK && !*why)
            snprintf(why, sizeof why, "; the first, %.120s: %.100s", job->paths[i], item.error);
    }
    mmf_media_close(stream);
    if (status == MMF_OK && facts.n_items == 0)
        status = mmf_fail(job->ctx, MMF_FORMAT,
                          "%s: column \"%s\": none of its first %lld files can be read, so that "
                          "nothing says what to make of them%s",
                          job->manifest->path, column->name, (long long)n, why);
    MMF_TRY(status);
    return of_column(job, kind->settle(job->ctx, column->config, &facts));
}

static void tell(column_job *job, bool last)
{
    const mmf_prepare_options *const o = job->options;
    const double now = mmf_seconds();
    if (!o->watch || (!last && now - job->last_event < EVENT_INTERVAL))
        return;
    job->last_event = now;
    const int64_t n = job->journal.n_rows - job->first_done;
    const double rate = n > 0 && now > job->started ? (double)n / (now - job->started) : NAN;
    const mmf_prepare_event event = {
        .modality = job->column->name,
        .n_done = job->journal.n_rows,
        .n_rows = job->column->n_stored,
        .n_skipped = job->journal.n_skipped,
        .rate = rate,
        .seconds_left = (double)(job->column->n_stored - job->journal.n_rows) / rate};
    o->watch(o->watch_user, &event);
}

static mmf_status add_row(column_job *job, int64_t n_steps, const void *data)
{
    return job->column->encoder ? mmf_features_add(&job->features, &job->journal, n_steps, data)
                                : mmf_journal_add(&job->journal, n_steps, data);
}

/* A row that cannot be had: the end, or one absent modality. */
static mmf_status bad_row(column_job *job, int64_t stored, const char *why)
{
    const int64_t row = job->column->first[stored];
    const char *const path = job->paths ? job->paths[stored] : "the text";
    const mmf_status status = mmf_manifest_fail(
        job->manifest, MMF_FORMAT, row, job->column->column, "%s: %s%s", path, why,
        job->options->skip_bad ? "" : "; --on-error skip goes on without such files");
    if (!job->options->skip_bad)
        return status;
    if (job->journal.n_skipped < MOST_WARNINGS)
        mmf_ctx_log(job->ctx, MMF_LOG_WARNING, "%s; it counts as absent", mmf_ctx_error(job->ctx));
    else if (job->journal.n_skipped == MOST_WARNINGS)
        mmf_ctx_log(job->ctx, MMF_LOG_WARNING, "more files of \"%s\" are left out, without a word",
                    job->column->name);
    return add_row(job, MMF_JOURNAL_SKIPPED, NULL);
}

static mmf_status prepare_item(column_job *job, int64_t stored, const mmf_raw_item *item)
{
    mmf_prepared made = {0};
    const mmf_status status = job->column->kind->run(&job->preparer, item, &made);
    if (status == MMF_NOMEM || status == MMF_CANCELLED)
        return status;
    if (status != MMF_OK) {
        char why[512];
        snprintf(why, sizeof why, "%s", mmf_ctx_error(job->ctx));
        return bad_row(job, stored, why);
    }
    return add_row(job, made.n_steps, made.data);
}

static mmf_status next_item(column_job *job, mmf_media_stream *stream, int64_t stored)
{
    mmf_raw_item item = {0};
    if (!stream) {
        const mmf_manifest_cell cell =
            mmf_manifest_at(job->manifest, job->column->first[stored], job->column->column);
        item.text = cell.text;
        item.n_bytes = cell.n_bytes;
        return prepare_item(job, stored, &item);
    }
    mmf_media_item decoded;
    MMF_TRY(mmf_media_next(stream, &decoded));
    if (*decoded.error)
        return bad_row(job, stored, decoded.error);
    item.array = decoded.array;
    item.sample_rate = decoded.sample_rate;
    return prepare_item(job, stored, &item);
}

static mmf_status interrupted(const column_job *job)
{
    return mmf_fail(job->ctx, MMF_CANCELLED,
                    "%s: interrupted; %lld of %lld rows of \"%s\" are kept in %s, and the same "
                    "command goes on from there",
                    job->manifest->path, (long long)job->journal.n_rows,
                    (long long)job->column->n_stored, job->column->name, job->options->cache);
}

static mmf_status run_rows(column_job *job)
{
    const int64_t n = job->column->n_stored, first = job->journal.n_rows;
    mmf_media_stream *stream = NULL;
    job->first_done = first;
    job->started = mmf_seconds();
    if (first < n && job->paths)
        MMF_TRY(open_stream(job, &stream, first, n - first, false));
    mmf_status status = MMF_OK;
    for (int64_t i = first; status == MMF_OK && i < n; i++) {
        status = mmf_ctx_cancelled(job->ctx) ? MMF_CANCELLED : next_item(job, stream, i);
        tell(job, false);
    }
    mmf_media_close(stream);
    if (status == MMF_OK && job->column->encoder)
        status = mmf_features_flush(&job->features, &job->journal);
    if (status == MMF_CANCELLED)
        return interrupted(job);
    if (status == MMF_OK)
        tell(job, true);
    return status;
}

/* ---- The npz ----------------------------------------------------------------------------- */

static bool makes_steps(const column_job *job)
{
    return job->preparer.is_timed && !job->column->encoder;
}

static mmf_array header_of(const column_job *job, int64_t n_rows, int64_t n_steps)
{
    const mmf_preparer *const p = &job->preparer;
    if (job->column->encoder)
        return (mmf_array){MMF_F32, 2, {n_rows, mmf_frozen_width(job->features.frozen)}, 4, NULL};
    mmf_array header = {.dtype = p->dtype,
                        .n_dims = 1 + p->is_timed + p->n_dims,
                        .shape = {n_rows, n_steps},
                        .item_bytes = mmf_dtype_bytes(p->dtype)};
    for (int d = 0; d < p->n_dims; d++)
        header.shape[1 + p->is_timed + d] = p->shape[d];
    return header;
}

static mmf_status write_values(const column_job *job, mmf_npz_writer *writer, int64_t n_rows,
                               int64_t n_steps, int64_t *length)
{
    const mmf_array header = header_of(job, n_rows, n_steps);
    const size_t row_bytes = (size_t)n_steps * job->journal.unit_bytes;
    char *const row = mmf_alloc(job->ctx, row_bytes);
    if (!row)
        return MMF_NOMEM;
    mmf_journal journal = job->journal;
    mmf_status status = mmf_npz_begin(writer, "values", &header);
    if (status == MMF_OK)
        status = mmf_journal_rewind(&journal);
    for (int64_t i = 0; status == MMF_OK && i < n_rows; i++) {
        int64_t found = 0;
        if (i < job->column->n_stored)
            status = mmf_journal_read(&journal, n_steps, row, &found);
        const int64_t kept = found > 0 ? found : 0;
        length[i] = kept;
        memset(row + (size_t)kept * journal.unit_bytes, 0,
               row_bytes - (size_t)kept * journal.unit_bytes);
        if (status == MMF_OK)
            status = mmf_npz_append(writer, row, row_bytes);
    }
    mmf_free(job->ctx, row);
    return status == MMF_OK ? mmf_npz_end(writer) : status;
}

static mmf_status write_npz(column_job *job, const char *path)
{
    const int64_t n_rows = job->column->n_stored > 0 ? job->column->n_stored : 1;
    const int64_t n_steps = makes_steps(job) ? mmf_config_int(job->column->config, "steps") : 1;
    mmf_npz_writer *writer = NULL;
    mmf_array vocab = {.data = NULL};
    int64_t *const length = mmf_alloc_zero(job->ctx, (size_t)n_rows, sizeof *length);
    mmf_status status = length ? mmf_npz_create(job->ctx, &writer, path, false) : MMF_NOMEM;
    if (status == MMF_OK)
        status = write_values(job, writer, n_rows, n_steps, length);
    const mmf_array lengths = {MMF_I64, 1, {n_rows}, sizeof *length, length};
    if (status == MMF_OK)
        status = mmf_npz_add(writer, "length", &lengths);
    if (status == MMF_OK && job->column->kind->vocab && !job->column->encoder)
        status = job->column->kind->vocab(&job->preparer, &vocab);
    if (status == MMF_OK && vocab.data)
        status = mmf_npz_add(writer, "vocab", &vocab);
    if (status == MMF_OK)
        status = mmf_npz_commit(writer);
    else
        mmf_npz_discard(writer);
    mmf_free(job->ctx, length);
    return status;
}

/* How long sequences are is known now. */
static mmf_status settle_steps(column_job *job)
{
    const int64_t longest = job->journal.longest > 0 ? job->journal.longest : 1;
    return makes_steps(job) ? mmf_preparation_settle(job->column->config, "steps", longest)
                            : MMF_OK;
}

static mmf_status write_settled(const column_job *job, const char *path)
{
    char *const settings = mmf_preparation_settings(job->ctx, job->column->config);
    if (!settings)
        return MMF_NOMEM;
    const mmf_status status = mmf_write_text(job->ctx, path, settings, strlen(settings));
    mmf_free(job->ctx, settings);
    return status;
}

/* ---- All of it --------------------------------------------------------------------------- */

static mmf_status begin(column_job *job)
{
    mmf_raw_column *const column = job->column;
    const bool resumes = job->journal.settings != NULL;
    if (resumes)
        MMF_TRY(mmf_config_set_json(column->config, job->journal.settings));
    else
        MMF_TRY(settle(job));
    MMF_TRY(
        of_column(job, mmf_preparer_open(job->ctx, &job->preparer, column->kind, column->config)));
    size_t unit = (size_t)mmf_preparer_step(&job->preparer) * mmf_dtype_bytes(job->preparer.dtype);
    if (column->encoder) {
        MMF_TRY(of_column(job, mmf_features_open(job->ctx, &job->features, &job->preparer,
                                                 column->name, column->encoder, column->source)));
        mmf_frozen_set_int8(job->features.frozen, job->options->int8);
        unit = (size_t)mmf_frozen_width(job->features.frozen) * sizeof(float);
    }
    if (resumes && job->journal.unit_bytes == unit)
        return MMF_OK;
    char *const settings = mmf_preparation_settings(job->ctx, column->config);
    if (!settings)
        return MMF_NOMEM;
    const mmf_status status = mmf_journal_begin(&job->journal, settings, unit);
    mmf_free(job->ctx, settings);
    return status;
}

/* @param asked  the configuration before anything was settled */
static mmf_status make(column_job *job, const mmf_config *asked)
{
    char *path = NULL, *alias = NULL;
    MMF_TRY(begin(job));
    MMF_TRY(run_rows(job));
    MMF_TRY(settle_steps(job));
    /* Without a failure the result is the same as if failures had not been allowed. */
    const bool skips = job->journal.n_skipped > 0;
    mmf_status status = cache_path(job, job->column->config, skips, "npz", &path);
    if (status == MMF_OK)
        status = cache_path(job, asked, skips, "json", &alias);
    if (status == MMF_OK)
        status = write_npz(job, path);
    if (status == MMF_OK)
        status = write_settled(job, alias);
    if (status == MMF_OK)
        status = mmf_archive_open(job->ctx, &job->column->cache, path, NULL);
    mmf_free(job->ctx, path);
    mmf_free(job->ctx, alias);
    return status;
}

static mmf_status make_locked(column_job *job)
{
    char *path = NULL;
    mmf_config *asked = NULL;
    MMF_TRY(mmf_make_folder(job->ctx, job->options->cache));
    MMF_TRY(cache_path(job, job->column->config, job->options->skip_bad, "part", &path));
    mmf_status status = mmf_journal_open(job->ctx, &job->journal, path);
    if (status == MMF_OK)
        status = find_cached(job); /* by the process that held the lock */
    if (status == MMF_OK && !job->column->cache)
        status = mmf_config_copy(job->ctx, &asked, job->column->config);
    if (status == MMF_OK && asked)
        status = make(job, asked);
    /* What stands empty would only puzzle whoever looks into the folder. */
    mmf_journal_close(&job->journal, status == MMF_OK || job->journal.n_rows == 0);
    mmf_config_free(asked);
    mmf_free(job->ctx, path);
    return status;
}

static mmf_status prepare(column_job *job)
{
    MMF_TRY(hash_inputs(job));
    MMF_TRY(find_cached(job));
    return job->column->cache ? MMF_OK : make_locked(job);
}

mmf_status mmf_raw_column_prepare(const mmf_manifest *manifest, mmf_raw_column *column,
                                  const mmf_prepare_options *options)
{
    column_job job = {
        .ctx = manifest->ctx, .manifest = manifest, .column = column, .options = options};
    const mmf_status status = prepare(&job);
    mmf_features_close(&job.features);
    mmf_preparer_close(&job.preparer);
    for (int64_t i = 0; job.paths && i < column->n_stored; i++)
        mmf_free(job.ctx, job.paths[i]);
    mmf_free(job.ctx, job.paths);
    return status;
}
