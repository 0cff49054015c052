/* output.c: JSON, tables, progress and result files of the command. POSIX. */
#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mmfuse/tool.h"

#define UPDATE_SECONDS 0.1
#define BAR_CELLS 20
#define JSON_FLAGS (JSON_INDENT(2) | JSON_REAL_PRECISION(10))

void *out_alloc(size_t count, size_t size)
{
    void *const pointer = calloc(count ? count : 1, size ? size : 1);
    if (!pointer) {
        fputs("mmfuse: out of memory\n", stderr);
        exit(1);
    }
    return pointer;
}

/* ---- Terminals --------------------------------------------------------------------------- */

bool out_is_terminal(FILE *file)
{
    return isatty(fileno(file)) == 1;
}

bool out_has_colour(FILE *file)
{
    const char *const off = getenv("NO_COLOR");
    const char *const term = getenv("TERM");
    return out_is_terminal(file) && !(off && *off) && term && strcmp(term, "dumb") != 0;
}

/* ---- Numbers and JSON -------------------------------------------------------------------- */

char *out_number_text(char *out, size_t size, double value)
{
    if (isnan(value))
        snprintf(out, size, "-");
    else if (value != 0 && (fabs(value) < 1e-3 || fabs(value) >= 1e6))
        snprintf(out, size, "%.3e", value);
    else
        snprintf(out, size, "%.4f", value);
    return out;
}

char *out_short_text(char *out, size_t size, double value)
{
    const double magnitude = fabs(value);
    if (isnan(value))
        snprintf(out, size, "-");
    else if (magnitude >= 1e5 || (magnitude > 0 && magnitude < 5e-4))
        snprintf(out, size, "%.2e", value);
    else
        snprintf(out, size, "%.3f", value);
    return out;
}

char *out_seconds_text(char *out, size_t size, double seconds)
{
    if (!isfinite(seconds))
        snprintf(out, size, "?");
    else if (seconds < 100)
        snprintf(out, size, "%.1f s", seconds);
    else if (seconds < 6000)
        snprintf(out, size, "%.1f min", seconds / 60);
    else
        snprintf(out, size, "%.1f h", seconds / 3600);
    return out;
}

char *out_duration_text(char *out, size_t size, double seconds)
{
    if (!isfinite(seconds))
        snprintf(out, size, "-");
    else if (seconds < 1e-6)
        snprintf(out, size, "%.1f ns", seconds * 1e9);
    else if (seconds < 1e-3)
        snprintf(out, size, "%.1f us", seconds * 1e6);
    else if (seconds < 1)
        snprintf(out, size, "%.2f ms", seconds * 1e3);
    else
        snprintf(out, size, "%.2f s", seconds);
    return out;
}

char *out_bytes_text(char *out, size_t size, double bytes)
{
    const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}

json_t *out_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *out_json_text(const char *text)
{
    if (!text)
        return json_null();
    json_t *const value = json_string(text);
    if (value)
        return value;
    char *const copy = out_alloc(strlen(text) + 1, 1);
    for (size_t i = 0; text[i]; i++)
        copy[i] = (char)((unsigned char)text[i] < 0x80 ? text[i] : '?');
    json_t *const ascii = json_string(copy);
    free(copy);
    return ascii;
}

json_t *out_json_metrics(const mmf_metrics *metrics)
{
    json_t *const object = json_object();
    for (size_t i = 0; i < metrics->count; i++)
        json_object_set_new(object, metrics->items[i].name,
                            out_json_number(metrics->items[i].value));
    return object;
}

void out_json_print(json_t *object)
{
    json_dumpf(object, stdout, JSON_FLAGS);
    putchar('\n');
    json_decref(object);
}

/* ---- Tables ------------------------------------------------------------------------------ */

out_table out_table_make(size_t n_columns, const char *align)
{
    return (out_table){.align = align, .n_columns = n_columns};
}

void out_cell(out_table *table, const char *format, ...)
{
    if (table->n_cells == table->capacity) {
        const size_t capacity = table->capacity ? 2 * table->capacity : 64;
        char **const cells = out_alloc(capacity, sizeof *cells);
        if (table->cells)
            memcpy(cells, table->cells, table->n_cells * sizeof *cells);
        free(table->cells);
        table->cells = cells;
        table->capacity = capacity;
    }
    va_list list;
    va_start(list, format);
    char *text = NULL;
    if (vasprintf(&text, format, list) < 0)
        text = out_alloc(1, 1);
    va_end(list);
    table->cells[table->n_cells++] = text;
}

static char column_align(const out_table *table, size_t column)
{
    const size_t n = strlen(table->align);
    return table->align[column < n ? column : n - 1];
}

void out_table_clear(out_table *table)
{
    for (size_t i = 0; i < table->n_cells; i++)
        free(table->cells[i]);
    free(table->cells);
    *table = (out_table){0};
}

void out_table_print(out_table *table, FILE *file, int indent)
{
    size_t *const widths = out_alloc(table->n_columns, sizeof *widths);
    for (size_t i = 0; i < table->n_cells; i++) {
        const size_t n = mmf_text_columns(table->cells[i]);
        size_t *const width = &widths[i % table->n_columns];
        *width = n > *width ? n : *width;
    }
    const bool colour = out_has_colour(file);
    for (size_t i = 0; i < table->n_cells; i += table->n_columns) {
        size_t blanks = (size_t)indent; /* written only before something: no blanks at line ends */
        fputs(colour && i == 0 ? "\033[1m" : "", file);
        for (size_t c = 0; c < table->n_columns; c++) {
            const char *const cell = table->cells[i + c];
            const size_t pad = widths[c] - mmf_text_columns(cell);
            const bool is_right = column_align(table, c) == 'r';
            blanks += is_right ? pad : 0;
            if (*cell) {
                fprintf(file, "%*s%s", (int)blanks, "", cell);
                blanks = 0;
            }
            blanks += 2 + (is_right ? 0 : pad);
        }
        fprintf(file, "%s\n", colour && i == 0 ? "\033[0m" : "");
    }
    free(widths);
    out_table_clear(table);
}

void out_metrics_print(const mmf_metrics *const *sets, const char *const *titles, size_t n_sets)
{
    out_table table = out_table_make(1 + n_sets, "lr");
    out_cell(&table, "metric");
    for (size_t s = 0; s < n_sets; s++)
        out_cell(&table, "%s", titles[s]);
    const mmf_metrics *longest = sets[0];
    for (size_t s = 1; s < n_sets; s++)
        longest = sets[s]->count > longest->count ? sets[s] : longest;
    for (size_t i = 0; i < longest->count; i++) {
        out_cell(&table, "%s", longest->items[i].name);
        for (size_t s = 0; s < n_sets; s++) {
            char text[32];
            const double value = mmf_metrics_get(sets[s], longest->items[i].name);
            out_cell(&table, "%s", out_number_text(text, sizeof text, value));
        }
    }
    out_table_print(&table, stdout, 0);
}

/* ---- Progress ---------------------------------------------------------------------------- */

double out_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

out_progress out_progress_make(void)
{
    return (out_progress){.is_terminal = out_is_terminal(stderr), .last = -1};
}

static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 10)
        return size.ws_col;
    return 80;
}

void out_progress_show(out_progress *progress, double share, const char *format, ...)
{
    const double now = out_clock();
    if (!progress->is_terminal || (progress->last >= 0 && now - progress->last < UPDATE_SECONDS))
        return;
    progress->last = now;
    char line[512];
    size_t n = 0;
    if (share >= 0) {
        const int done = (int)(BAR_CELLS * (share > 1 ? 1 : share));
        line[n++] = '[';
        for (int i = 0; i < BAR_CELLS; i++)
            line[n++] = i < done ? '#' : '.';
        line[n++] = ']';
        line[n++] = ' ';
    }
    va_list list;
    va_start(list, format);
    vsnprintf(line + n, sizeof line - n, format, list);
    va_end(list);
    fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
    fflush(stderr);
    progress->is_shown = true;
}

void out_progress_clear(out_progress *progress)
{
    if (progress->is_shown)
        fputs("\r\033[K", stderr);
    progress->is_shown = false;
    progress->last = -1;
}

/* ---- Result files ------------------------------------------------------------------------ */

static char *temporary_name(const char *path)
{
    const size_t size = strlen(path) + 40;
    char *const name = out_alloc(size, 1);
    snprintf(name, size, "%s.%ld.part", path, (long)getpid());
    return name;
}

/* A rename would replace a device or a pipe by a file, so only files are written over. */
static bool is_replaceable(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode))
        return true;
    fprintf(stderr, "mmfuse: %s: cannot write: %s\n", path,
            S_ISDIR(info.st_mode) ? "it is a folder" : "it is not a regular file");
    return false;
}

bool out_can_write(const char *path)
{
    if (!is_replaceable(path))
        return false;
    char *const name = temporary_name(path);
    FILE *const file = fopen(name, "wbe");
    const int error = errno;
    if (file) {
        fclose(file);
        unlink(name);
    } else {
        fprintf(stderr, "mmfuse: %s: cannot write: %s\n", path, strerror(error));
    }
    free(name);
    return file != NULL;
}

bool out_file_open(out_file *out, const char *path)
{
    *out = (out_file){.file = stdout, .path = path};
    if (!path)
        return true;
    if (!is_replaceable(path))
        return false;
    out->temporary = temporary_name(path);
    out->file = fopen(out->temporary, "wbe");
    if (out->file)
        return true;
    fprintf(stderr, "mmfuse: %s: cannot write: %s\n", path, strerror(errno));
    free(out->temporary);
    return false;
}

bool out_file_close(out_file *out, bool keep)
{
    if (!out->path)
        return true; /* main checks stdout */
    bool fine = ferror(out->file) == 0;
    /* The reason of an earlier write that failed still stands in errno: what follows may work. */
    errno = fine ? 0 : errno;
    fine = fflush(out->file) == 0 && fsync(fileno(out->file)) == 0 && fine;
    fine = fclose(out->file) == 0 && fine;
    if (keep && fine)
        fine = rename(out->temporary, out->path) == 0;
    if (keep && !fine)
        fprintf(stderr, "mmfuse: %s: cannot write: %s\n", out->path, strerror(errno ? errno : EIO));
    if (!keep || !fine)
        unlink(out->temporary);
    free(out->temporary);
    return fine;
}
