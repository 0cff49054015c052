/*
 * replay.c: runs a fuzz target once on every file of the folders it is given, so that plain builds without
 * libFuzzer repeat the corpus. Ends with 1 if no file was read: a corpus that vanished must show.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

/* Runs one file; false if it cannot be read. */
static int replay_file(const char *path)
{
    FILE *const file = fopen(path, "rb");
    if (!file)
        return 0;
    uint8_t *bytes = NULL;
    size_t n_bytes = 0, capacity = 0, n_read = 1;
    while (n_read > 0) {
        if (n_bytes == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            uint8_t *const grown = realloc(bytes, capacity);
            if (!grown)
                break;
            bytes = grown;
        }
        n_read = fread(bytes + n_bytes, 1, capacity - n_bytes, file);
        n_bytes += n_read;
    }
    const int complete = n_read == 0 && !ferror(file);
    fclose(file);
    if (complete) {
        /* A block of the exact size, so that the address sanitizer sees a read past the end. */
        uint8_t *const exact = malloc(n_bytes ? n_bytes : 1);
        if (exact) {
            memcpy(exact, bytes, n_bytes);
            LLVMFuzzerTestOneInput(exact, n_bytes);
        }
        free(exact);
    }
    free(bytes);
    return complete;
}

int main(int argc, char **argv)
{
    size_t n_files = 0;
    for (int a = 1; a < argc; a++) {
        DIR *const folder = opendir(argv[a]);
        if (!folder) {
            perror(argv[a]);
            return 1;
        }
        for (const struct dirent *entry; (entry = readdir(folder));) {
            char path[4096];
            const int length = snprintf(path, sizeof path, "%s/%s", argv[a], entry->d_name);
            if (entry->d_name[0] == '.' || length < 0 || (size_t)length >= sizeof path)
                continue;
            if (!replay_file(path)) {
                perror(path);
                closedir(folder);
                return 1;
            }
            n_files++;
        }
        closedir(folder);
    }
    printf("%zu files\n", n_files);
    return n_files > 0 ? 0 : 1;
}
