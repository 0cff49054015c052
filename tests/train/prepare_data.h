/* prepare_data.h: a folder of pictures and tones, and tables that name them. */
#ifndef MMFUSE_TESTS_PREPARE_DATA_H
#define MMFUSE_TESTS_PREPARE_DATA_H

#include "train/raw_files.h"

enum { SIZE = 8, RATE = 8000, N_FILES = 6 };

/* Pictures and tones of which only the number differs. */
static inline void write_files(void)
{
    char name[32];
    for (int i = 0; i < N_FILES; i++) {
        unsigned char pixels[SIZE * SIZE];
        for (int p = 0; p < SIZE * SIZE; p++)
            pixels[p] = (unsigned char)(40 * i + p / 4);
        snprintf(name, sizeof name, "p%d.png", i);
        write_png(test_path(name), SIZE, SIZE, 1, pixels);
        snprintf(name, sizeof name, "s%d.wav", i);
        write_wav(test_path(name), RATE, (uint32_t)(1600 + 400 * i), 300 + 200 * i);
    }
}

static inline const char *write_table(const char *name, const char *text)
{
    const char *const path = test_path(name);
    write_bytes(path, text, strlen(text));
    return path;
}

static inline void write_many(char *text, size_t size, int n)
{
    size_t at = (size_t)snprintf(text, size, "split,label,picture,sound\n");
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, size - at, "%s,%s,p%d.png,s%d.wav\n",
                               i % 4 == 3 ? "valid" : "train", i / 2 % 2 ? "odd" : "even",
                               i % 2 ? 1 + i % 4 : 0, i % N_FILES);
}

#endif
