/*
 * opt.h: options of the command line, read and explained from one table.
 *
 * A verb has groups of rows; a row names an option and where its value goes in the group's struct.
 * The same rows parse the words, find the nearest name to a misspelt one and print the help.
 */
#ifndef MMFUSE_CLI_OPT_H
#define MMFUSE_CLI_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPT_MAX_TEXTS 64
#define OPT_MAX_REALS 8

/** What a row stores, and the C type at its offset. */
typedef enum opt_type {
    OPT_FLAG,   /**< bool */
    OPT_TEXT,   /**< const char * */
    OPT_CHOICE, /**< const char *: one of `choices` */
    OPT_INT,    /**< int64_t */
    OPT_REAL,   /**< double */
    OPT_REALS,  /**< opt_reals: numbers with commas between them */
    OPT_TEXTS   /**< opt_texts: the option may be repeated */
} opt_type;

typedef struct opt_texts {
    const char *items[OPT_MAX_TEXTS];
    size_t count;
} opt_texts;

typedef struct opt_reals {
    double items[OPT_MAX_REALS];
    size_t count;
} opt_reals;

typedef struct opt_row {
    const char *name; /**< without dashes; NULL ends the table */
    char letter;      /**< 'o' for -o; 0: none */
    opt_type type;
    size_t offset;       /**< of the value in the group's struct */
    const char *value;   /**< what the help calls the value; NULL for flags and choices */
    double low, high;    /**< inclusive bounds of numbers */
    const char *choices; /**< "a|b|c" */
    const char *help;
} opt_row;

typedef struct opt_group {
    const char *title;
    const opt_row *rows;
    void *values; /**< the struct that the offsets refer to, holding the defaults */
} opt_group;

/** Everything the parser and the help need to know of a verb. */
typedef struct opt_command {
    const char *verb;
    const char *synopsis; /**< behind "mmfuse VERB " */
    const char *about;    /**< one paragraph */
    const char *example;  /**< whole lines, indented by two */
    const opt_group *groups;
    size_t n_groups;
    size_t min_args, max_args; /**< words that are not options */
} opt_command;

/** The words that are not options, borrowed from argv. */
typedef struct opt_args {
    char **items;
    size_t count;
} opt_args;

/** opt_parse: nothing was printed, go on. */
#define OPT_GO_ON (-1)

/**
 * Reads the words behind the verb (argv[0]) and reorders argv.
 * @return OPT_GO_ON, or the exit code after `--help` was answered or a usage error was explained
 */
int opt_parse(const opt_command *command, int argc, char **argv, opt_args *args);

/** Picks the options of one table out of words that may hold anything else. */
bool opt_scan(const opt_row *rows, void *values, size_t n_words, char *const *words);

/** The candidate nearest to a misspelt name, NULL if none is near. */
const char *opt_nearest(const char *name, const char *const *candidates, size_t n);

/** Prints "mmfuse VERB: ..." and where to read more; returns the exit code of wrong usage. */
int opt_misuse(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Items joined by `separator` into `out`; false if they do not fit. */
bool opt_join(char *out, size_t size, const opt_texts *texts, char separator);

#endif
