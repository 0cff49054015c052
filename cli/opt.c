/* opt.c: parses options from tables, suggests names and prints help. */
#include "opt.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define MAX_NAMES 128
#define MAX_NAME 63
#define HELP_COLUMN 30
#define HELP_WIDTH 100

/* ---- Nearest names ----------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edit distance where swapped neighbours count once; names beyond MAX_NAME are never near. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][MAX_NAME + 1] = {0}; /* of the table: two above, above, this */
    const size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a > MAX_NAME || n_b > MAX_NAME)
        return MAX_NAME;
    for (size_t j = 0; j <= n_b; j++)
        rows[2][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        memcpy(rows[0], rows[1], sizeof rows[0]);
        memcpy(rows[1], rows[2], sizeof rows[0]);
        rows[2][0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            size_t best = smaller(rows[1][j], rows[2][j - 1]) + 1;
            best = smaller(best, rows[1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = smaller(best, rows[0][j - 2] + 1);
            rows[2][j] = best;
        }
    }
    return rows[2][n_b];
}

const char *opt_nearest(const char *name, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t least = strlen(name) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        const size_t d = distance(name, candidates[i]);
        const bool completes = strlen(name) >= 3 && strncmp(name, candidates[i], strlen(name)) == 0;
        if (d < least || (d == least && !best) || (completes && !best)) {
            best = candidates[i];
            least = smaller(d, least);
        }
    }
    return best;
}

int opt_misuse(const char *verb, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "mmfuse %s: ", verb);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n`mmfuse %s --help` shows how it is used\n", verb);
    va_end(list);
    return CLI_USAGE;
}

/* ---- Values ------------------------------------------------------------------------------ */

static bool parse_real(const char *text, double *out)
{
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out);
}

static bool parse_int(const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    *out = value;
    return end != text && *end == '\0' && errno == 0;
}

static bool is_choice(const char *choices, const char *text)
{
    const size_t n = strlen(text);
    for (const char *c = choices; *c;) {
        const size_t width = strcspn(c, "|");
        if (width == n && strncmp(c, text, n) == 0)
            return true;
        c += width + (c[width] == '|');
    }
    return false;
}

/* A reason in `problem` when the text is no value of the row. */
static bool parse_reals(const opt_row *row, const char *text, opt_reals *out)
{
    out->count = 0;
    for (const char *at = text;; at++) {
        char item[64];
        const size_t width = strcspn(at, ",");
        if (width == 0 || width >= sizeof item || out->count >= OPT_MAX_REALS)
            return false;
        memcpy(item, at, width);
        item[width] = '\0';
        double value = 0;
        if (!parse_real(item, &value) || value < row->low || value > row->high)
            return false;
        out->items[out->count++] = value;
        at += width;
        if (*at == '\0')
            return true;
    }
}

static bool store(const opt_row *row, void *values, const char *text)
{
    char *const at = (char *)values + row->offset;
    switch (row->type) {
    case OPT_FLAG:
        *(bool *)(void *)at = true;
        return true;
    case OPT_TEXT:
        *(const char **)(void *)at = text;
        return *text != '\0';
    case OPT_CHOICE:
        *(const char **)(void *)at = text;
        return is_choice(row->choices, text);
    case OPT_INT: {
        int64_t value = 0;
        if (!parse_int(text, &value) || (double)value < row->low || (double)value > row->high)
            return false;
        *(int64_t *)(void *)at = value;
        return true;
    }
    case OPT_REAL: {
        double value = 0;
        if (!parse_real(text, &value) || value < row->low || value > row->high)
            return false;
        *(double *)(void *)at = value;
        return true;
    }
    case OPT_REALS:
        return parse_reals(row, text, (opt_reals *)(void *)at);
    case OPT_TEXTS: {
        opt_texts *const texts = (opt_texts *)(void *)at;
        if (*text == '\0' || texts->count >= OPT_MAX_TEXTS)
            return false;
        texts->items[texts->count++] = text;
        return true;
    }
    }
    return false;
}

/* What the row would have taken, as "a whole number from 1 to 100". */
static void wanted(const opt_row *row, char *out, size_t size)
{
    const char *const kind = row->type == OPT_INT    ? "a whole number"
                             : row->type == OPT_REAL ? "a number"
                                                     : "numbers with commas between them,";
    switch (row->type) {
    case OPT_INT:
    case OPT_REAL:
    case OPT_REALS:
        if (row->high < 1e15)
            snprintf(out, size, "%s from %.10g to %.10g", kind, row->low, row->high);
        else
            snprintf(out, size, "%s of at least %.10g", kind, row->low);
        return;
    case OPT_CHOICE:
        snprintf(out, size, "one of %s", row->choices);
        return;
    case OPT_TEXTS:
        snprintf(out, size, "%s, at most %d times", row->value, OPT_MAX_TEXTS);
        return;
    case OPT_TEXT:
    case OPT_FLAG:
        snprintf(out, size, "%s, not nothing", row->value ? row->value : "a value");
        return;
    }
}

/* ---- Words ------------------------------------------------------------------------------- */

static const opt_row *find_row(const opt_command *command, const char *name, size_t n, char letter,
                               void **values)
{
    for (size_t g = 0; g < command->n_groups; g++) {
        for (const opt_row *row = command->groups[g].rows; row->name; row++) {
            const bool same = letter ? row->letter == letter
                                     : strlen(row->name) == n && strncmp(row->name, name, n) == 0;
            if (same) {
                *values = command->groups[g].values;
                return row;
            }
        }
    }
    return NULL;
}

static int unknown_option(const opt_command *command, const char *word)
{
    const char *names[MAX_NAMES];
    char name[MAX_NAME + 1];
    size_t n = 0;
    for (size_t g = 0; g < command->n_groups; g++) {
        for (const opt_row *row = command->groups[g].rows; row->name && n < MAX_NAMES; row++)
            names[n++] = row->name;
    }
    const size_t dashes = strspn(word, "-");
    snprintf(name, sizeof name, "%.*s", (int)smaller(strcspn(word + dashes, "="), MAX_NAME),
             word + dashes);
    const char *const nearest = opt_nearest(name, names, n);
    if (nearest)
        return opt_misuse(command->verb, "unknown option %s%s; did you mean --%s?",
                          dashes == 1 ? "-" : "--", name, nearest);
    return opt_misuse(command->verb, "unknown option %s%s", dashes == 1 ? "-" : "--", name);
}

/* Reads the option at argv[*i], and its value from the same or the next word. */
static int read_option(const opt_command *command, int argc, char **argv, int *i)
{
    char *const word = argv[*i];
    const bool is_long = word[1] == '-';
    const char *const equals = is_long ? strchr(word, '=') : NULL;
    const char *const name = word + 2;
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    void *values = NULL;
    const opt_row *const row = find_row(command, name, n, is_long ? '\0' : word[1], &values);
    if (!row || (!is_long && row->type == OPT_FLAG && word[2]))
        return unknown_option(command, word);
    const char *text = equals ? equals + 1 : !is_long && word[2] ? word + 2 : NULL;
    if (row->type == OPT_FLAG) {
        if (text)
            return opt_misuse(command->verb, "--%s takes no value", row->name);
        store(row, values, "");
        return OPT_GO_ON;
    }
    char expected[256];
    wanted(row, expected, sizeof expected);
    if (!text) {
        if (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)
            return opt_misuse(command->verb, "--%s needs a value: %s", row->name, expected);
        text = argv[++*i];
    }
    if (!store(row, values, text))
        return opt_misuse(command->verb, "--%s takes %s; got \"%s\"", row->name, expected, text);
    return OPT_GO_ON;
}

/* ---- Help -------------------------------------------------------------------------------- */

/* Prints words from column `column` on, wrapped at HELP_WIDTH with lines indented by `indent`. */
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    while (*text) {
        const size_t width = strcspn(text, " ");
        if (column > indent && column + 1 + width > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)width, text);
        column += width;
        text += width + strspn(text + width, " ");
    }
    putchar('\n');
}

static void print_row(const opt_row *row)
{
    char left[96];
    const char *const value = row->type == OPT_FLAG     ? ""
                              : row->type == OPT_CHOICE ? row->choices
                                                        : row->value;
    int width = 0;
    if (row->letter)
        width = snprintf(left, sizeof left, "  -%c, --%s%s%s", row->letter, row->name,
                         *value ? " " : "", value);
    else
        width = snprintf(left, sizeof left, "  --%s%s%s", row->name, *value ? " " : "", value);
    fputs(left, stdout);
    if (width >= HELP_COLUMN - 1)
        printf("\n%*s", HELP_COLUMN, "");
    else
        printf("%*s", HELP_COLUMN - width, "");
    print_wrapped(row->help, HELP_COLUMN, HELP_COLUMN);
}

static void print_help(const opt_command *command)
{
    printf("usage: mmfuse %s %s\n\n", command->verb, command->synopsis);
    print_wrapped(command->about, 0, 0);
    for (size_t g = 0; g < command->n_groups; g++) {
        printf("\n%s:\n", command->groups[g].title);
        for (const opt_row *row = command->groups[g].rows; row->name; row++)
            print_row(row);
    }
    printf("\nExample:\n%s\n", command->example);
}

/* ---- Public ------------------------------------------------------------------------------ */

int opt_parse(const opt_command *command, int argc, char **argv, opt_args *args)
{
    size_t n_args = 0;
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        char *const word = argv[i];
        if (!only_args && strcmp(word, "--") == 0) {
            only_args = true;
        } else if (!only_args && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(command);
            return CLI_OK;
        } else if (!only_args && word[0] == '-' && word[1]) {
            const int code = read_option(command, argc, argv, &i);
            if (code != OPT_GO_ON)
                return code;
        } else {
            argv[1 + n_args++] = word;
        }
    }
    *args = (opt_args){argv + 1, n_args};
    if (n_args < command->min_args)
        return opt_misuse(command->verb, "too few arguments; usage: mmfuse %s %s", command->verb,
                          command->synopsis);
    if (n_args > command->max_args)
        return opt_misuse(command->verb, "unexpected argument \"%s\"; usage: mmfuse %s %s",
                          args->items[command->max_args], command->verb, command->synopsis);
    return OPT_GO_ON;
}

bool opt_scan(const opt_row *rows, void *values, size_t n_words, char *const *words)
{
    for (size_t i = 0; i < n_words; i++) {
        if (strncmp(words[i], "--", 2) != 0)
            continue;
        const char *const name = words[i] + 2;
        const size_t n = strcspn(name, "=");
        for (const opt_row *row = rows; row->name; row++) {
            if (strlen(row->name) != n || strncmp(row->name, name, n) != 0)
                continue;
            const bool follows = row->type != OPT_FLAG && i + 1 < n_words;
            const char *const text = name[n] == '=' ? name + n + 1 : follows ? words[i + 1] : "";
            if (!store(row, values, text))
                return false;
        }
    }
    return true;
}

bool opt_join(char *out, size_t size, const opt_texts *texts, char separator)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < texts->count; i++) {
        const int n = snprintf(out + used, size - used, "%s%s", i ? (char[]){separator, '\0'} : "",
                               texts->items[i]);
        if (n < 0 || (size_t)n >= size - used)
            return false;
        used += (size_t)n;
    }
    return true;
}
