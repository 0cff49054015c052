/*
 * prepare_journal.h: what a preparation has done so far: rows one after another in a file that an
 * interrupted run goes on with, and that becomes an npz at the end.
 *
 * POSIX (the lock that keeps two processes from preparing the same).
 */
#ifndef MMFUSE_TRAIN_PREPARE_JOURNAL_H
#define MMFUSE_TRAIN_PREPARE_JOURNAL_H

#include <stdio.h>

#include "mmfuse/base.h"

/** Steps of a row that could not be read. */
#define MMF_JOURNAL_SKIPPED (-1)

typedef struct mmf_journal {
    mmf_ctx *ctx;
    char *path;
    FILE *file;
    char *settings;    /**< JSON; NULL: nothing was begun */
    size_t unit_bytes; /**< of a step */
    int64_t n_rows;    /**< done */
    int64_t n_skipped, longest;
} mmf_journal;

/**
 * Opens or makes the file and waits for its lock. Rows that were written whole are kept.
 * @param out  ended by mmf_journal_close, also after a failure
 */
mmf_status mmf_journal_open(mmf_ctx *ctx, mmf_journal *out, const char *path);
/** Begins anew. */
mmf_status mmf_journal_begin(mmf_journal *journal, const char *settings, size_t unit_bytes);
/** @param n_steps  MMF_JOURNAL_SKIPPED, or how many units `data` has */
mmf_status mmf_journal_add(mmf_journal *journal, int64_t n_steps, const void *data);
mmf_status mmf_journal_rewind(mmf_journal *journal);
/** The next row: its steps, of which at most `room` are stored in `out`. */
mmf_status mmf_journal_read(mmf_journal *journal, int64_t room, void *out, int64_t *n_steps);
/** @param remove  true: the file is not needed any more */
void mmf_journal_close(mmf_journal *journal, bool remove);

#endif
