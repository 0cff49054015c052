/*
 * output.h: what the command prints: JSON, aligned tables, one moving line of progress, and result
 * files that are written whole or not at all.
 */
#ifndef MMFUSE_CLI_OUTPUT_H
#define MMFUSE_CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "mmfuse/metrics.h"

/** Memory of the command's own; ends the process with a message when there is none. */
void *out_alloc(size_t count, size_t size);

/* ---- Terminals --------------------------------------------------------------------------- */

bool out_is_terminal(FILE *file);
/** True on a terminal unless NO_COLOR is set or TERM is "dumb". */
bool out_has_colour(FILE *file);

/* ---- Numbers and JSON -------------------------------------------------------------------- */

/** Six significant digits at most; "-" for NaN. Returns `out`. */
char *out_number_text(char *out, size_t size, double value);
/** Three decimals, or three digits and a power where those would say nothing; "-" for NaN. */
char *out_short_text(char *out, size_t size, double value);
/** "1.2 s", "3 min", "2.1 h"; "?" for NaN. */
char *out_seconds_text(char *out, size_t size, double seconds);
/** "850 us", "1.20 ms": for measurements. */
char *out_duration_text(char *out, size_t size, double seconds);
/** "2.1 MB". */
char *out_bytes_text(char *out, size_t size, double bytes);

/** null for NaN and infinities, which JSON does not have. */
json_t *out_json_number(double value);
/** null for NULL; bytes that are not UTF-8 become "?". */
json_t *out_json_text(const char *text);
json_t *out_json_metrics(const mmf_metrics *metrics);
/** Prints one object on stdout and releases it. */
void out_json_print(json_t *object);

/* ---- Tables ------------------------------------------------------------------------------ */

/** Rows of cells; numbers to the right. Zero-initialised by out_table_make. */
typedef struct out_table {
    const char *align; /**< a letter a column: 'l' or 'r'; the last one stands for the rest */
    size_t n_columns;
    char **cells;
    size_t n_cells, capacity;
} out_table;

out_table out_table_make(size_t n_columns, const char *align);
/** Adds the next cell; the first n_columns are the head. */
void out_cell(out_table *table, const char *format, ...) MMF_PRINTF(2, 3);
/** Prints and releases. @param indent spaces before each row */
void out_table_print(out_table *table, FILE *file, int indent);
/** Releases a table that was not printed. */
void out_table_clear(out_table *table);
/** A two-column table of metrics, or one column more for each further set with a title. */
void out_metrics_print(const mmf_metrics *const *sets, const char *const *titles, size_t n_sets);

/* ---- Progress ---------------------------------------------------------------------------- */

/** One line on stderr that is overwritten at most ten times a second; nothing off a terminal. */
typedef struct out_progress {
    bool is_terminal, is_shown;
    double last; /* seconds of the monotonic clock */
} out_progress;

out_progress out_progress_make(void);
double out_clock(void);
/** @param share  of the work done, drawn as a bar; negative: no bar */
void out_progress_show(out_progress *progress, double share, const char *format, ...)
    MMF_PRINTF(3, 4);
/** Wipes the line, before anything else is printed. */
void out_progress_clear(out_progress *progress);

/* ---- Result files ------------------------------------------------------------------------ */

/** True when a file can be made at `path`; else says why not on stderr. Nothing is changed. */
bool out_can_write(const char *path);

/** A result file under a temporary name, or stdout. */
typedef struct out_file {
    FILE *file;
    const char *path; /* NULL: stdout */
    char *temporary;
} out_file;

/** @param path NULL: stdout. @return false after a message on stderr */
bool out_file_open(out_file *out, const char *path);
/** Syncs and renames when `keep`, else removes. @return false after a message on stderr */
bool out_file_close(out_file *out, bool keep);

#endif
