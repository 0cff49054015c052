/*
 * child.h: a helper program as a process of its own, with limits on memory, time and output.
 *
 * POSIX, with Linux's close_range and death signal where they exist.
 */
#ifndef MMFUSE_IO_CHILD_H
#define MMFUSE_IO_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MMF_CHILD_PREFIX "mmfuse-read-"
#define MMF_CHILD_PATH_BYTES 4096
#define MMF_CHILD_TAIL_BYTES 512 /* of its messages, the last of which tells why it failed */
#define MMF_CHILD_MEMORY ((size_t)8 << 30)

typedef struct mmf_child_limits {
    size_t memory;    /**< bytes of addresses */
    uint64_t output;  /**< bytes of a file that it writes */
    uint64_t seconds; /**< of processor time; 0: no limit */
} mmf_child_limits;

typedef struct mmf_child {
    char program[MMF_CHILD_PATH_BYTES]; /**< a path, or a bare name to look for on the PATH */
    pid_t pid;                          /**< 0: none is running */
    int messages;                       /**< our end of its standard error; -1: closed */
    char tail[MMF_CHILD_TAIL_BYTES];
    size_t n_tail;
} mmf_child;

/** Sets `program` to mmfuse-read-FORMAT in `folder` (NULL: none), beside this program, or PATH. */
void mmf_child_find(mmf_child *child, const char *format, const char *folder);
/**
 * Starts the program in a process group of its own. `arguments` begin behind the program's name and
 * end with NULL; `input` -1 is an empty one.
 *
 * @return  0, or the errno of what failed; ENOENT: there is no such program
 */
int mmf_child_start(mmf_child *child, char *const *arguments, int input, int output,
                    const mmf_child_limits *limits);
/** Waits up to `wait_ms` for messages and keeps the last bytes; closes the pipe at its end. */
void mmf_child_read_messages(mmf_child *child, int wait_ms);
/** The last line of its messages that is not blank, made fit for a message of ours. */
void mmf_child_last_line(const mmf_child *child, char out[MMF_CHILD_TAIL_BYTES + 1]);
/** Waits up to `seconds` for its end, which `end` then describes; it is not reaped yet. */
bool mmf_child_wait(const mmf_child *child, double seconds, siginfo_t *end);
/** Ends the whole group, reaps it and reads what it still said. Harmless if none is running. */
void mmf_child_stop(mmf_child *child);
void mmf_child_close(mmf_child *child);
/** Seconds of a clock that only goes forward. */
double mmf_seconds_now(void);

#endif
