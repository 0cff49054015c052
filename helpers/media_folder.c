/*
 * media_folder.c: see media_folder.h.
 *
 * Every file is decoded twice: once to see its shape, once to write it, so that no more than one is
 * in memory. Larger work goes through a manifest, which decodes once and side by side.
 */
#include "media_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "npz_output.h"

#define PATH_BYTES 4096
#define MAX_FILES 10000000
#define PAD_BYTES 65536

typedef struct entry {
    char *name; /* below the folder */
    int64_t length, label;
    bool present;
} entry;

typedef struct job {
    decoder *d;
    const char *root;
    bool is_folder, kind_given;
    on_error policy;
    entry *entries;
    int64_t n, capacity;
    char **classes;
    int64_t n_classes;
    bool labelled;
    mmf_array shape;   /* of one item; its first size is the longest where it may vary */
    const char *first; /* whose shape it is */
    int64_t rate;
} job;

/* ---- Finding files ------------------------------------------------------------------------ */

static mmf_status full_path(const job *j, const char *name, char out[PATH_BYTES])
{
    const int n = j->is_folder ? snprintf(out, PATH_BYTES, "%s/%s", j->root, name)
                               : snprintf(out, PATH_BYTES, "%s", j->root);
    return n > 0 && n < PATH_BYTES ? MMF_OK
                                   : mmf_fail(j->d->ctx, MMF_LIMIT, "%s: a path too long", name);
}

static mmf_status add_entry(job *j, const char *folder, const char *name, int64_t label)
{
    mmf_ctx *const ctx = j->d->ctx;
    if (j->n == j->capacity) {
        const int64_t capacity = j->capacity ? 2 * j->capacity : 64;
        entry *const grown = mmf_realloc(ctx, j->entries, (size_t)capacity * sizeof *grown);
        if (!grown)
            return MMF_NOMEM;
        j->entries = grown;
        j->capacity = capacity;
    }
    if (j->n >= MAX_FILES)
        return mmf_fail(ctx, MMF_LIMIT, "more than %d files", MAX_FILES);
    char path[PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s%s%s", folder, folder[0] ? "/" : "", name);
    if (n < 0 || n >= PATH_BYTES)
        return mmf_fail(ctx, MMF_LIMIT, "%s: a path too long", name);
    char *const copy = mmf_strdup(ctx, path);
    if (!copy)
        return MMF_NOMEM;
    j->entries[j->n++] = (entry){.name = copy, .label = label};
    return MMF_OK;
}

static int no_dots(const struct dirent *found)
{
    return found->d_name[0] != '.';
}

static mmf_status add_class(job *j, const char *name)
{
    char **const grown =
        mmf_realloc(j->d->ctx, j->classes, (size_t)(j->n_classes + 1) * sizeof *j->classes);
    if (!grown)
        return MMF_NOMEM;
    j->classes = grown;
    char *const copy = mmf_strdup(j->d->ctx, name);
    if (!copy)
        return MMF_NOMEM;
    j->classes[j->n_classes++] = copy;
    return MMF_OK;
}

/* Files of one kind; the first that tells one decides where it was not given. */
static bool wanted(job *j, const char *name)
{
    mmf_media_kind kind;
    if (!mmf_media_kind_of(name, &kind))
        return false;
    if (!j->kind_given)
        j->d->options.kind = kind;
    j->kind_given = true;
    return kind == j->d->options.kind;
}

/* `sub` is "" or the name of a folder in the root, whose files are of one class then. */
static mmf_status list_folder(job *j, const char *sub)
{
    char path[PATH_BYTES];
    MMF_TRY(full_path(j, sub, path));
    struct dirent **found = NULL;
    const int n = scandir(path, &found, no_dots, alphasort);
    if (n < 0)
        return mmf_fail(j->d->ctx, MMF_IO, "%s: cannot list: %s", path, strerror(errno));
    const int64_t before = j->n;
    mmf_status status = MMF_OK;
    for (int i = 0; status == MMF_OK && i < n; i++) {
        const char *const name = found[i]->d_name;
        char inside[2 * PATH_BYTES];
        struct stat info;
        snprintf(inside, sizeof inside, "%s/%s", path, name);
        if (stat(inside, &info) == 0 && S_ISREG(info.st_mode) && wanted(j, name))
            status = add_entry(j, sub, name, sub[0] ? j->n_classes : -1);
        else if (stat(inside, &info) == 0 && S_ISDIR(info.st_mode) && !sub[0])
            status = list_folder(j, name);
    }
    if (status == MMF_OK && sub[0] && j->n > before)
        status = add_class(j, sub);
    for (int i = 0; i < n; i++)
        free(found[i]);
    free(found);
    return status;
}

static mmf_status list_files(job *j)
{
    mmf_ctx *const ctx = j->d->ctx;
    struct stat info;
    if (stat(j->root, &info) != 0)
        return mmf_fail(ctx, MMF_IO, "cannot open: %s", strerror(errno));
    j->is_folder = S_ISDIR(info.st_mode);
    if (!j->is_folder) {
        const char *const slash = strrchr(j->root, '/');
        if (!wanted(j, j->root) && !j->kind_given)
            return mmf_fail(ctx, MMF_UNSUPPORTED,
                            "the ending tells no kind of file: give kind=image, audio or video");
        return add_entry(j, "", slash ? slash + 1 : j->root, -1);
    }
    MMF_TRY(list_folder(j, ""));
    if (j->n == 0)
        return mmf_fail(ctx, MMF_FORMAT,
                        "no image, sound or video in the folder or the folders in it");
    j->labelled = j->n_classes > 0;
    for (int64_t i = 0; i < j->n; i++)
        j->labelled = j->labelled && j->entries[i].label >= 0;
    return MMF_OK;
}

/* ---- Shapes ------------------------------------------------------------------------------- */

static bool varies(const job *j)
{
    return j->d->options.kind != MMF_MEDIA_IMAGE;
}

static mmf_status join_shape(job *j, const entry *e, const mmf_media_frame *frame)
{
    mmf_ctx *const ctx = j->d->ctx;
    const mmf_array *const a = &frame->array;
    if (!j->first) {
        j->first = e->name;
        j->shape = *a;
        j->rate = frame->sample_rate;
    }
    bool same = true;
    for (int k = varies(j) ? 1 : 0; k < a->n_dims; k++)
        same = same && a->shape[k] == j->shape.shape[k];
    if (!same) {
        char here[96], there[96];
        return mmf_fail(ctx, MMF_SHAPE,
                        "%s is %s where %s is %s: give short_side=S crop_h=H crop_w=W", e->name,
                        mmf_shape_text(here, sizeof here, a->shape, a->n_dims), j->first,
                        mmf_shape_text(there, sizeof there, j->shape.shape, a->n_dims));
    }
    if (frame->sample_rate != j->rate)
        return mmf_fail(ctx, MMF_SHAPE, "%s has %lld Hz where %s has %lld: give sample_rate=HZ",
                        e->name, (long long)frame->sample_rate, j->first, (long long)j->rate);
    if (varies(j) && a->shape[0] > j->shape.shape[0])
        j->shape.shape[0] = a->shape[0];
    return MMF_OK;
}

static mmf_status measure_files(job *j)
{
    mmf_ctx *const ctx = j->d->ctx;
    char path[PATH_BYTES];
    for (int64_t i = 0; i < j->n; i++) {
        entry *const e = &j->entries[i];
        decoded out = {0};
        MMF_TRY(full_path(j, e->name, path));
        mmf_status status = decode_file(j->d, &out, path);
        if (status == MMF_OK) {
            e->present = true;
            e->length = out.frame.array.shape[0];
            status = join_shape(j, e, &out.frame);
            mmf_free(ctx, out.bytes);
            MMF_TRY(status);
        } else if (j->policy == SKIP_ON_ERROR) {
            fprintf(stderr, "%s: %s\n", e->name, mmf_ctx_error(ctx));
        } else {
            return mmf_fail_within(ctx, status, "%s: ", e->name);
        }
    }
    return j->first ? MMF_OK : mmf_fail(ctx, MMF_FORMAT, "none of the files can be decoded");
}

/* ---- Writing ------------------------------------------------------------------------------ */

static mmf_status pad(mmf_npz_writer *writer, uint64_t n_bytes)
{
    static const unsigned char zeros[PAD_BYTES];
    for (; n_bytes > 0; n_bytes -= n_bytes < PAD_BYTES ? n_bytes : PAD_BYTES)
        MMF_TRY(mmf_npz_append(writer, zeros, n_bytes < PAD_BYTES ? (size_t)n_bytes : PAD_BYTES));
    return MMF_OK;
}

static mmf_status write_items(job *j, mmf_npz_writer *writer, const char *name)
{
    mmf_ctx *const ctx = j->d->ctx;
    mmf_array header = j->shape;
    header.shape[0] = j->n;
    memcpy(header.shape + 1, j->shape.shape, (size_t)j->shape.n_dims * sizeof *header.shape);
    header.n_dims++;
    if (j->d->options.kind == MMF_MEDIA_AUDIO)
        header.shape[header.n_dims++] = 1;
    const uint64_t n_item = (uint64_t)mmf_array_count(&j->shape) * j->shape.item_bytes;
    MMF_TRY(mmf_npz_begin(writer, name, &header));
    char path[PATH_BYTES];
    for (int64_t i = 0; i < j->n; i++) {
        const entry *const e = &j->entries[i];
        decoded out = {0};
        MMF_TRY(full_path(j, e->name, path));
        if (e->present)
            MMF_TRY(decode_file(j->d, &out, path));
        mmf_status status = MMF_OK;
        if (out.frame.n_bytes > n_item)
            status = mmf_fail(ctx, MMF_IO, "%s changed while it was read", e->name);
        if (status == MMF_OK && out.frame.n_bytes > 0)
            status = mmf_npz_append(writer, out.bytes, (size_t)out.frame.n_bytes);
        mmf_free(ctx, out.bytes);
        MMF_TRY(status);
        MMF_TRY(pad(writer, n_item - out.frame.n_bytes));
    }
    return mmf_npz_end(writer);
}

typedef enum column { LENGTH, PRESENT, LABEL } column;

static mmf_status write_column(job *j, mmf_npz_writer *writer, const char *name, column which)
{
    int64_t *const values = mmf_alloc_zero(j->d->ctx, (size_t)j->n, sizeof *values);
    if (!values)
        return MMF_NOMEM;
    for (int64_t i = 0; i < j->n; i++)
        values[i] = which == LENGTH    ? j->entries[i].length
                    : which == PRESENT ? j->entries[i].present
                                       : j->entries[i].label;
    const mmf_array array = {
        .dtype = MMF_I64, .n_dims = 1, .shape = {j->n}, .item_bytes = 8, .data = values};
    const mmf_status status = mmf_npz_add(writer, name, &array);
    mmf_free(j->d->ctx, values);
    return status;
}

static mmf_status write_names(job *j, mmf_npz_writer *writer)
{
    const char **const names = mmf_alloc_zero(j->d->ctx, (size_t)j->n, sizeof *names);
    if (!names)
        return MMF_NOMEM;
    for (int64_t i = 0; i < j->n; i++)
        names[i] = j->entries[i].name;
    const mmf_status status = npz_add_strings(j->d->ctx, writer, "id", names, j->n);
    mmf_free(j->d->ctx, names);
    return status;
}

static mmf_status write_all(void *user, mmf_npz_writer *writer)
{
    job *const j = user;
    static const char *const keys[][3] = {{"image", "image.length", "image.present"},
                                          {"audio", "audio.length", "audio.present"},
                                          {"video", "video.length", "video.present"}};
    const char *const *const key = keys[j->d->options.kind];
    MMF_TRY(write_items(j, writer, key[0]));
    if (varies(j))
        MMF_TRY(write_column(j, writer, key[1], LENGTH));
    if (j->policy == SKIP_ON_ERROR)
        MMF_TRY(write_column(j, writer, key[2], PRESENT));
    MMF_TRY(write_names(j, writer));
    if (!j->labelled)
        return MMF_OK;
    MMF_TRY(write_column(j, writer, "label", LABEL));
    return npz_add_strings(j->d->ctx, writer, "label.names", (const char *const *)j->classes,
                           j->n_classes);
}

mmf_status convert_folder(decoder *d, const char *path, bool kind_given, on_error policy)
{
    job j = {.d = d, .root = path, .kind_given = kind_given, .policy = policy};
    mmf_status status = list_files(&j);
    if (status == MMF_OK)
        status = measure_files(&j);
    if (status == MMF_OK)
        status = npz_output(d->ctx, write_all, &j);
    for (int64_t i = 0; i < j.n; i++)
        mmf_free(d->ctx, j.entries[i].name);
    for (int64_t i = 0; i < j.n_classes; i++)
        mmf_free(d->ctx, j.classes[i]);
    mmf_free(d->ctx, j.entries);
    mmf_free(d->ctx, j.classes);
    return status;
}
