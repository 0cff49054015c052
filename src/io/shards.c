/* shards.c: see shards.h. */
#include "io/shards.h"

#include <string.h>

#include "base/file.h"
#include "io/archive.h"
#include "io/json_file.h"

#define MAX_INDEX_BYTES ((size_t)64 << 20)
#define MAX_INDEX_VALUES ((size_t)4 << 20)
#define INDEX_NAME "model.safetensors.index.json"

struct mmf_shards {
    mmf_ctx *ctx;
    char *path;
    mmf_archive **files;
    size_t n_files;
    size_t *first; /* number of each file's first tensor, and of the end */
};

/* ---- The index --------------------------------------------------------------------------- */

static bool is_plain_name(const char *name)
{
    return *name && name[0] != '.' && !strchr(name, '/') && strlen(name) <= MMF_IO_MAX_NAME_BYTES;
}

static mmf_status remember_file(mmf_shard_index *index, const char *file)
{
    for (size_t i = 0; i < index->n_files; i++) {
        if (strcmp(index->files[i], file) == 0)
            return MMF_OK;
    }
    if (index->n_files == MMF_MAX_SHARDS)
        return mmf_fail(index->ctx, MMF_LIMIT, "the index names over %d files", MMF_MAX_SHARDS);
    index->files[index->n_files++] = file;
    return MMF_OK;
}

mmf_status mmf_shard_index_parse(mmf_ctx *ctx, mmf_shard_index *out, const char *json,
                                 size_t n_bytes)
{
    *out = (mmf_shard_index){.ctx = ctx};
    json_t *root = NULL;
    MMF_TRY(mmf_json_parse(ctx, &root, json, n_bytes, MAX_INDEX_VALUES));
    out->json = root;
    json_t *const map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return mmf_fail(ctx, MMF_FORMAT, "weight_map is not an object of tensors and files");
    out->files = mmf_alloc_zero(ctx, MMF_MAX_SHARDS, sizeof *out->files);
    if (!out->files)
        return MMF_NOMEM;
    const char *tensor = NULL;
    json_t *value = NULL;
    json_object_foreach(map, tensor, value)
    {
        const char *const file = json_string_value(value);
        if (!file || !is_plain_name(file))
            return mmf_fail(ctx, MMF_FORMAT,
                            "weight_map: \"%.64s\" is not in a file with a plain name", tensor);
        MMF_TRY(remember_file(out, file));
    }
    return MMF_OK;
}

const char *mmf_shard_index_find(const mmf_shard_index *index, const char *tensor)
{
    return json_string_value(json_object_get(json_object_get(index->json, "weight_map"), tensor));
}

mmf_status mmf_shard_index_each(const mmf_shard_index *index,
                                mmf_status (*see)(void *user, const char *tensor, const char *file),
                                void *user)
{
    const char *tensor = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(index->json, "weight_map"), tensor, value)
        MMF_TRY(see(user, tensor, json_string_value(value)));
    return MMF_OK;
}

void mmf_shard_index_clear(mmf_shard_index *index)
{
    if (index->ctx)
        mmf_free(index->ctx, (void *)(uintptr_t)index->files);
    json_decref(index->json);
    *index = (mmf_shard_index){0};
}

/* ---- Opening ----------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static mmf_status refuse_pickle(mmf_ctx *ctx, const char *path)
{
    return mmf_fail(ctx, MMF_UNSUPPORTED,
                    "%s is in PyTorch's own format, which only Python can read; convert it once: "
                    "scripts/convert_checkpoint.py %s -o model.safetensors",
                    path, path);
}

/* Whatever its name ends with: model files are safetensors too. */
static mmf_status add_file(mmf_shards *s, const char *path)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt"};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        if (ends_with(path, pickles[i]))
            return refuse_pickle(s->ctx, path);
    }
    mmf_archive *archive = NULL;
    MMF_TRY(mmf_archive__open_as(s->ctx, &archive, path, "safetensors"));
    s->files[s->n_files++] = archive;
    s->first[s->n_files] = s->first[s->n_files - 1] + mmf_archive_count(archive);
    return MMF_OK;
}

/* What a shard is checked with: its place among the files of the index. */
typedef struct agreement {
    const mmf_shards *shards;
    const mmf_shard_index *index;
} agreement;

static mmf_status holds_tensor(void *user, const char *tensor, const char *file)
{
    const agreement *const a = user;
    for (size_t i = 0; i < a->index->n_files; i++) {
        if (strcmp(a->index->files[i], file) == 0 &&
            mmf_archive_find(a->shards->files[i], tensor) >= 0)
            return MMF_OK;
    }
    return mmf_fail(a->shards->ctx, MMF_FORMAT,
                    "%s: the index says that %s is in %s, which does not have it", a->shards->path,
                    tensor, file);
}

static mmf_status check_agreement(const mmf_shards *s, const mmf_shard_index *index)
{
    const agreement both = {s, index};
    MMF_TRY(mmf_shard_index_each(index, holds_tensor, (void *)(uintptr_t)&both));
    for (size_t i = 0; i < mmf_shards_count(s); i++) {
        const char *const name = mmf_shards_name(s, i);
        const char *const file = mmf_shard_index_find(index, name);
        size_t f = 0;
        while (s->first[f + 1] <= i)
            f++;
        if (!file || strcmp(file, index->files[f]) != 0)
            return mmf_fail(s->ctx, MMF_FORMAT, "%s: %s has the tensor %s, which the index %s%s",
                            s->path, index->files[f], name, file ? "places in " : "does not list",
                            file ? file : "");
    }
    return MMF_OK;
}

static mmf_status open_listed(mmf_shards *s, const mmf_shard_index *index, const char *index_path)
{
    for (size_t i = 0; i < index->n_files; i++) {
        char path[4096];
        MMF_TRY(mmf_path_beside(s->ctx, path, sizeof path, index_path, index->files[i]));
        MMF_TRY(add_file(s, path));
    }
    return check_agreement(s, index);
}

static mmf_status open_index(mmf_shards *s, const char *path)
{
    mmf_mapping file = {0};
    mmf_shard_index index = {0};
    MMF_TRY(mmf_map_open(s->ctx, &file, path));
    mmf_status status = MMF_OK;
    if (file.n_bytes > MAX_INDEX_BYTES)
        status = mmf_fail(s->ctx, MMF_LIMIT, "%s: an index of %zu bytes; at most %zu are read",
                          path, file.n_bytes, MAX_INDEX_BYTES);
    if (status == MMF_OK) {
        status = mmf_shard_index_parse(s->ctx, &index, file.bytes ? (const char *)file.bytes : "",
                                       file.n_bytes);
        if (status != MMF_OK)
            mmf_fail_within(s->ctx, status, "%s: ", path);
    }
    mmf_map_close(&file);
    if (status == MMF_OK)
        status = open_listed(s, &index, path);
    mmf_shard_index_clear(&index);
    return status;
}

static mmf_status open_folder(mmf_shards *s, const char *folder)
{
    static const char *const names[] = {"model.safetensors", INDEX_NAME};
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                          "model.pt", "model.pth"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        MMF_TRY(mmf_path_join(s->ctx, path, sizeof path, folder, strlen(folder), names[i]));
        if (mmf_path_is_file(path))
            return i == 0 ? add_file(s, path) : open_index(s, path);
    }
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        MMF_TRY(mmf_path_join(s->ctx, path, sizeof path, folder, strlen(folder), pickles[i]));
        if (mmf_path_is_file(path))
            return refuse_pickle(s->ctx, path);
    }
    return mmf_fail(s->ctx, MMF_IO, "%s: the folder has neither %s nor %s", folder, names[0],
                    names[1]);
}

static mmf_status open_path(mmf_shards *s, const char *path)
{
    if (mmf_path_is_folder(path))
        return open_folder(s, path);
    return ends_with(path, ".json") ? open_index(s, path) : add_file(s, path);
}

mmf_status mmf_shards_open(mmf_ctx *ctx, mmf_shards **out, const char *path)
{
    *out = NULL;
    mmf_shards *const s = mmf_alloc_zero(ctx, 1, sizeof *s);
    if (!s)
        return MMF_NOMEM;
    s->ctx = ctx;
    s->path = mmf_strdup(ctx, path);
    s->files = mmf_alloc_zero(ctx, MMF_MAX_SHARDS, sizeof *s->files);
    s->first = mmf_alloc_zero(ctx, MMF_MAX_SHARDS + 1, sizeof *s->first);
    const mmf_status status = s->path && s->files && s->first ? open_path(s, path) : MMF_NOMEM;
    if (status != MMF_OK) {
        mmf_shards_close(s);
        return status;
    }
    *out = s;
    return MMF_OK;
}

void mmf_shards_close(mmf_shards *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->files && i < s->n_files; i++) {
        mmf_archive_close(s->files[i]);
    }
    mmf_free(s->ctx, s->files);
    mmf_free(s->ctx, s->first);
    mmf_free(s->ctx, s->path);
    mmf_free(s->ctx, s);
}

/* ---- Tensors ----------------------------------------------------------------------------- */

size_t mmf_shards_count(const mmf_shards *s)
{
    return s->first[s->n_files];
}

/* The file of tensor `i`, and its place in it. */
static mmf_archive *file_of(const mmf_shards *s, size_t i, size_t *place)
{
    size_t f = 0;
    while (s->first[f + 1] <= i)
        f++;
    *place = i - s->first[f];
    return s->files[f];
}

const char *mmf_shards_name(const mmf_shards *s, size_t i)
{
    size_t place = 0;
    const mmf_archive *const file = file_of(s, i, &place);
    return mmf_archive_name(file, place);
}

const mmf_array *mmf_shards_header(const mmf_shards *s, size_t i)
{
    size_t place = 0;
    const mmf_archive *const file = file_of(s, i, &place);
    return mmf_archive_header(file, place);
}

mmf_status mmf_shards_load(mmf_shards *s, size_t i, mmf_array *out)
{
    size_t place = 0;
    mmf_archive *const file = file_of(s, i, &place);
    return mmf_archive_load(file, place, out);
}

const char *mmf_shards_path(const mmf_shards *s)
{
    return s->path;
}
