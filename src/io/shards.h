/*
 * shards.h: the tensors of a checkpoint under one list of names, from one safetensors file or from
 * several that a model.safetensors.index.json names.
 */
#ifndef MMFUSE_IO_SHARDS_H
#define MMFUSE_IO_SHARDS_H

#include "mmfuse/io.h"

#define MMF_MAX_SHARDS 1024

typedef struct mmf_shards mmf_shards;

/**
 * @param path  a .safetensors file, an index (.json), or a folder that holds model.safetensors or
 *              model.safetensors.index.json
 * @param out   freed with mmf_shards_close
 * @errors      IO, LIMIT, UNSUPPORTED (a folder of PyTorch's own format), FORMAT: also where the
 *              index and the files do not agree
 */
mmf_status mmf_shards_open(mmf_ctx *ctx, mmf_shards **out, const char *path);
/** Accepts NULL. */
void mmf_shards_close(mmf_shards *shards);

size_t mmf_shards_count(const mmf_shards *shards);
/** Borrowed. */
const char *mmf_shards_name(const mmf_shards *shards, size_t i);
const mmf_array *mmf_shards_header(const mmf_shards *shards, size_t i);
/** Makes the data of a tensor readable; `out` borrows from the shards. */
mmf_status mmf_shards_load(mmf_shards *shards, size_t i, mmf_array *out);
/** The path that was opened, for messages. */
const char *mmf_shards_path(const mmf_shards *shards);

/** Names of the files in an index, each once. */
typedef struct mmf_shard_index {
    mmf_ctx *ctx;
    void *json;         /* owns the names */
    const char **files; /* in the order of first mention */
    size_t n_files;
} mmf_shard_index;

/**
 * Reads an index. A file's name is a plain one: it cannot lead out of the folder.
 *
 * @param out  ended by mmf_shard_index_clear, also after an error
 * @errors     FORMAT, LIMIT; the message does not name the file
 */
mmf_status mmf_shard_index_parse(mmf_ctx *ctx, mmf_shard_index *out, const char *json,
                                 size_t n_bytes);
/** The file that holds a tensor, NULL if the index does not have it. */
const char *mmf_shard_index_find(const mmf_shard_index *index, const char *tensor);
/** Calls `see` for every tensor until it fails. */
mmf_status mmf_shard_index_each(const mmf_shard_index *index,
                                mmf_status (*see)(void *user, const char *tensor, const char *file),
                                void *user);
void mmf_shard_index_clear(mmf_shard_index *index);

#endif
